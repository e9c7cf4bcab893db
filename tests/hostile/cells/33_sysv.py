#: must: System V memory that nobody is attached to counts too: the run ends as oom, with the limit's name, or is refused more
#: must not: stay, so that the next run has no memory
#: config: memory=256M timeout=20
#: status: oom: memory limit 256 MiB
#: within: 15
#: other: yes
from attack import *
import time

ok("begun")
libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = [ctypes.c_void_p]
for i in range(8):
    segment = call(libc.shmget, 0, 100 << 20, 0o1600)
    at = libc.shmat(segment, None, 0)
    ctypes.memset(at, 1, 100 << 20)
    libc.shmdt(at)
    time.sleep(0.1)
time.sleep(10)
leak("800 MB of detached segments were had")
