#: must: 8 GB of private memory is a MemoryError that can be caught; the kernel lives
#: must not: be had
#: config: memory=256M timeout=10
#: within: 17
#: state: kept
#: other: yes
from attack import *

got = []
try:
    got.append(bytearray(8 << 30))
    leak("8 GB at once")
except MemoryError:
    ok("8 GB at once: MemoryError")
try:
    for _ in range(128):
        got.append(b"x" * (64 << 20))
    leak("8 GB in pieces")
except MemoryError:
    ok(f"{len(got)} pieces of 64 MB: MemoryError")
finally:
    got.clear()
