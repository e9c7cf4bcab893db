#: must: no path leads out of the root: /proc/1, .., links, descriptors
#: must not: give a byte of a secret, or show the link in the mount
#: hidden: link linkdir dotdot procroot
from attack import *

secret = canary["files"][2]
for base in ("/proc/1/root", "/proc/1/cwd", "/proc/self/root", "/proc/self/cwd/../../../../..", "/proc/self/root/../../..", "/workspace/../../.."):
    refused(f"{base}{secret}", read, base + secret)
for name in ("environ", "mem", "maps", "auxv", "fd", "ns/mnt", "exe", "stack", "syscall", "io"):
    path = "/proc/1/" + name
    refused(path, (lambda p: os.listdir(p)) if name == "fd" else (lambda p: os.readlink(p)) if name in ("exe", "ns/mnt") else read, path)
os.symlink(secret, "link")
os.symlink(os.path.dirname(secret), "linkdir")
os.symlink("../" * 12 + secret[1:], "dotdot")
os.symlink("/proc/1/root" + secret, "procroot")
for name in ("link", "dotdot", "procroot", "linkdir/of-all"):
    refused(name, read, name)
refused("open_by_handle_at", syscall, 304 if X86 else 265, -100, ctypes.create_string_buffer(64), 0)
fd = os.open("/", os.O_RDONLY)
refused("openat(/, ..)", lambda: read(f"/proc/self/fd/{fd}/../..{secret}"))
refused("fchdir and chroot", lambda: (os.fchdir(fd), os.chroot("/tmp")))
os.chdir("/workspace")
