#: must: no process can be traced or read, not even a child; there are few to be seen
#: must not: reach pid 1 or the supervisor
from attack import *

child = os.fork()
if not child:
    import time
    time.sleep(5)
    os._exit(0)
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
for pid in (child, 1, os.getppid()):
    refused(f"ptrace attach {pid}", syscall, 101 if X86 else 117, PTRACE_ATTACH, pid, 0, 0, errors=(errno.EPERM, errno.ENOSYS))
    refused(f"ptrace seize {pid}", syscall, 101 if X86 else 117, PTRACE_SEIZE, pid, 0, 0, errors=(errno.EPERM, errno.ENOSYS))
refused("traceme", syscall, 101 if X86 else 117, 0, 0, 0, 0, errors=(errno.EPERM, errno.ENOSYS))
for pid in (1, os.getppid()):
    for name in ("mem", "environ", "maps", "stack", "fd/0"):
        refused(f"/proc/{pid}/{name}", os.open, f"/proc/{pid}/{name}", os.O_RDONLY)
    refused(f"write /proc/{pid}/mem", os.open, f"/proc/{pid}/mem", os.O_RDWR)
    refused(f"list /proc/{pid}/fd", os.listdir, f"/proc/{pid}/fd")
    refused(f"/proc/{pid}/root", os.listdir, f"/proc/{pid}/root/")
    refused(f"pidfd_getfd {pid}", lambda: syscall(438, os.pidfd_open(pid), 0, 0))
check(len(pids()) <= 8, f"{len(pids())} processes are seen")
os.kill(child, 9)
os.waitpid(child, 0)
