#: must: memory in a file of memory ends the run as oom
#: must not: stay
#: config: memory=256M timeout=20
#: status: oom: memory limit 256 MiB
#: within: 15
#: other: yes
from attack import *

ok("begun")
import mmap
held = []
for i in range(12):  # each below what one file may have
    fd = os.memfd_create("x")
    os.ftruncate(fd, 256 << 20)
    held.append(mmap.mmap(fd, 256 << 20))
    for at in range(0, 256 << 20, 4096):
        held[-1][at] = 1
leak("3 GB in memfds were had")
