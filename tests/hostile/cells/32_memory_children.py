#: must: many children that each stay below the limit are stopped all the same: the box's memory counts
#: must not: have 3 GB between them
#: config: memory=256M timeout=10
#: status: (ok|error|oom: memory limit 256 MiB|killed\b.*)
#: within: 17
#: other: yes
#: next: any
#: after: memory_told
from attack import *
import mmap, time

ok("begun")
pids = []
for i in range(24):
    pid = os.fork()
    if not pid:
        try:
            held = bytearray(os.urandom(1 << 20)) * 128
            time.sleep(2)
        except MemoryError:
            os._exit(3)
        os._exit(0)
    pids.append(pid)
ends = [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids]
check(any(e != 0 for e in ends), f"ends of the children: {ends}")
