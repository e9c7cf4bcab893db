#: must: inotify ends at 32 instances and 16,384 watches
#: must not: take the daemon's or the host's
#: config: timeout=20
#: within: 27
from attack import *

fds = []
try:
    for i in range(200):
        fds.append(call(libc.inotify_init1, 0))
    leak("200 instances")
except OSError as e:
    check(len(fds) <= 64, f"{len(fds)} instances: {e.strerror}")
n = 0
try:
    for root, dirs, files in os.walk("/usr"):
        for name in files:
            call(libc.inotify_add_watch, fds[n % len(fds)], os.path.join(root, name).encode(), 2)
            n += 1
        if n > 20000:
            break
    leak("20,000 watches")
except OSError as e:
    check(n <= 16384, f"{n} watches: {e.strerror}")
for fd in fds:
    os.close(fd)
