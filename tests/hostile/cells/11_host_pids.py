#: must: no process of the host is reached by its number
#: must not: reach the daemon, its parent, or pid 1 of the host
from attack import *

own = set(pids()) | {0}
reached = []
for pid in list(range(2, 20000)) + canary["pids"]:
    if pid in own:
        continue
    try:
        os.kill(pid, 0)
        reached.append(pid)
    except ProcessLookupError:
        pass
    except PermissionError:
        reached.append(pid)
reached = [p for p in reached if p not in pids()]
check(not reached, f"reached: {reached[:10]}")
for pid in canary["pids"]:
    refused(f"pidfd_open {pid}", os.pidfd_open, pid) if pid not in own else None
refused("pidfd_open of all", lambda: [os.pidfd_open(p) for p in range(1000, 1100) if p not in own])
