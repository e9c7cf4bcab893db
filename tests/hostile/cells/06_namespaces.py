#: must: no new namespace, and none can be joined
#: must not: give a process more rights than it has
from attack import *

FLAGS = {"user": 0x10000000, "mnt": 0x20000, "pid": 0x20000000, "net": 0x40000000, "ipc": 0x8000000, "uts": 0x4000000,
         "cgroup": 0x2000000, "time": 0x80}
unshare = 272 if X86 else 97
clone = 56 if X86 else 220
setns = 308 if X86 else 268


def clones(flags):
    pid = syscall(clone, flags | 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


for name, flag in FLAGS.items():
    refused(f"unshare {name}", syscall, unshare, flag, errors=(errno.EPERM,))
    if name != "time":
        refused(f"clone {name}", clones, flag, errors=(errno.EPERM,))
    refused(f"clone {name} with high bits", clones, flag | 1 << 40) if name == "user" else None
    try:
        fd = os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
    except OSError as e:
        ok(f"/proc/self/ns/{name}: {e}")
        continue
    refused(f"setns {name}", syscall, setns, fd, 0, errors=(errno.EPERM,))
refused("setns of a pidfd", lambda: syscall(setns, os.pidfd_open(os.getpid()), FLAGS["mnt"]), errors=(errno.EPERM,))
refused("clone3", syscall, 435, ctypes.create_string_buffer(88), 88, errors=(errno.ENOSYS,))
