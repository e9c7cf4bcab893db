#: must: no limit can be raised
#: must not: be changed for pid 1 or the supervisor either
from attack import *
import resource

for name in ("CORE", "NPROC", "NOFILE", "DATA", "MEMLOCK", "MSGQUEUE", "SIGPENDING", "RTPRIO", "NICE"):
    which = getattr(resource, "RLIMIT_" + name, {"SIGPENDING": 11, "RTPRIO": 14, "NICE": 13}.get(name))
    soft, hard = resource.getrlimit(which)
    if hard == resource.RLIM_INFINITY:
        leak(f"{name} has no limit") if name in ("CORE", "NPROC", "NOFILE", "DATA") else print(f"{name} is not limited")
        continue
    for value in (hard + 1, resource.RLIM_INFINITY):
        try:
            resource.setrlimit(which, (soft, value))
            leak(f"{name}: {hard} -> {value}")
        except (ValueError, OSError) as e:
            ok(f"{name} stays {hard}: {e}")
for pid in (1, os.getppid()):
    refused(f"prlimit {pid}", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (10, 10)))
refused("nice -10", os.nice, -10)
refused("real time", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10)))
