#: must: nothing can be mounted, remounted, unmounted; no other root
#: must not: change what is mounted
from attack import *

os.makedirs("/tmp/m", exist_ok=True)
before = read("/proc/self/mountinfo", 1 << 20)
for kind, source in (("tmpfs", b"x"), ("proc", b"x"), ("sysfs", b"x"), ("devpts", b"x"), ("overlay", b"x"), ("fuse", b"x"), ("mqueue", b"x"), ("ext4", b"/dev/vda"), ("9p", b"x"), ("nfs", b"x")):
    refused("mount " + kind, lambda: call(libc.mount, source, b"/tmp/m", kind.encode(), 0, None))
for text, flags in (("bind", 4096), ("rbind", 4096 | 16384), ("remount rw", 32), ("remount bind rw", 32 | 4096), ("move", 8192), ("shared", 1 << 20)):
    refused("mount " + text, lambda: call(libc.mount, b"/usr", b"/usr", None, flags, None))
for path in (b"/proc", b"/usr", b"/workspace", b"/dev", b"/tmp"):
    refused(f"umount {path.decode()}", lambda: call(libc.umount2, path, 2))
table = {"fsopen": (430, b"tmpfs", 0), "open_tree": (428, -100, b"/usr", 1), "move_mount": (429, -100, b"/usr", -100, b"/tmp/m", 0),
         "fsconfig": (431, 0, 0, 0, 0, 0), "fsmount": (432, 0, 0, 0), "fspick": (433, -100, b"/usr", 0), "mount_setattr": (442, -100, b"/usr", 0, 0, 0)}
for name, args in table.items():
    refused(name, syscall, *args)
refused("pivot_root", syscall, 155 if X86 else 41, b"/tmp", b"/tmp/m")
refused("chroot", os.chroot, "/tmp")
check(read("/proc/self/mountinfo", 1 << 20) == before, "mountinfo is as before")
