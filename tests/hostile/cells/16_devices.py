#: must: no device can be made; /dev has null zero full random urandom and what a terminal needs
#: must not: give a device of the host
from attack import *
import stat

for name, kind, major, minor in (("mem", stat.S_IFCHR, 1, 1), ("null", stat.S_IFCHR, 1, 3), ("disk", stat.S_IFBLK, 254, 0), ("fuse", stat.S_IFCHR, 10, 229)):
    for where in ("/workspace/", "/tmp/", "/dev/shm/", "/home/user/"):
        refused(f"mknod {where}{name}", os.mknod, where + name, kind | 0o666, os.makedev(major, minor))
os.mkfifo("/tmp/fifo")
ok("a fifo can be made")
found = sorted(os.listdir("/dev"))
devices = [n for n in found if stat.S_ISCHR(os.lstat("/dev/" + n).st_mode) or stat.S_ISBLK(os.lstat("/dev/" + n).st_mode)]
check(set(devices) <= {"null", "zero", "full", "random", "urandom", "ptmx", "tty"}, f"devices: {devices}")
check(set(found) <= set(devices) | {"pts", "ptmx", "shm", "fd", "stdin", "stdout", "stderr", "mqueue", "core"}, f"/dev: {found}")
check(not any(stat.S_ISBLK(os.lstat("/dev/" + n).st_mode) for n in found), "no block device")
refused("list host ptys", lambda: [n for n in os.listdir("/dev/pts") if n != "ptmx"][0] if len(os.listdir("/dev/pts")) > 1 else read("/none"))
