#: must: /tmp and /dev/shm have an end: ENOSPC
#: must not: be bigger than 256 MB and 64 MB
#: config: memory=1G
#: within: 20
from attack import *

piece = bytes(1 << 20)
for d, most in (("/tmp", 256), ("/dev/shm", 64)):
    n = 0
    try:
        with open(d + "/fill", "wb", buffering=0) as f:
            while n < 2000:
                n += f.write(piece) / len(piece)
    except OSError as e:
        ok(f"{d}: {e.strerror} after {n:.0f} MB")
    check(n <= most, f"{d} took {n:.0f} MB")
    os.unlink(d + "/fill")
    n = 0
    try:
        while n < 300000:
            open(f"{d}/i{n}", "w").close()
            n += 1
        print(f"{d}: {n} inodes")
    except OSError as e:
        ok(f"{d}: {e.strerror} after {n} files")
    check(n < 300000, f"{d} has {n} inodes")
    for i in range(n):
        os.unlink(f"{d}/i{i}")
