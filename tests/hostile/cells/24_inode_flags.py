#: must: a file cannot be made immutable, nor be moved to another quota
#: must not: keep the daemon from deleting anything
from attack import *
import fcntl, struct

open("f", "w").close()
os.mkdir("d")
for path in ("f", "d", "/workspace", "/home/user"):
    fd = os.open(path, os.O_RDONLY)
    for name, flag in (("immutable", 0x10), ("append only", 0x20)):
        refused(f"{path}: {name}", lambda: fcntl.ioctl(fd, 0x40086602, struct.pack("l", flag)))
    def project():
        had = fcntl.ioctl(fd, 0x801C581F, bytes(28))
        x = list(struct.unpack("IIIII8s", had))
        x[3] = 4711
        return fcntl.ioctl(fd, 0x401C5820, struct.pack("IIIII8s", *x))
    refused(f"{path}: project id", project)
