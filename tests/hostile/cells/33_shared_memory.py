#: must: a shared mapping of 3 GB, which no rlimit sees, ends the run as oom, with the limit's name
#: must not: stay
#: config: memory=256M timeout=20
#: status: oom: memory limit 256 MiB
#: within: 15
#: other: yes
#: state: lost
from attack import *
import mmap

ok("begun")
m = mmap.mmap(-1, 3 << 30)
for at in range(0, 3 << 30, 4096):
    m[at] = 1
leak("3 GB of shared memory were had")
