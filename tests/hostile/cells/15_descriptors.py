#: must: a kernel has 0, 1, 2 and its driver's pipes; what it starts has 0, 1, 2
#: must not: hold a descriptor that the daemon's parent or the daemon forgot
from attack import *
import subprocess

seen = {}
for fd in sorted(map(int, os.listdir("/proc/self/fd"))):
    try:
        seen[fd] = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        pass
print(seen)
for fd, name in seen.items():
    # the pipes; what asyncio or IPython opened itself; files of the box
    check(name.startswith(("pipe:", "/dev/null", "anon_inode:", "/proc/", "/usr/", "/home/user/", "/spool/", "socket:")) or "deleted" in name, f"{fd} is {name}")
control = [fd for fd, n in seen.items() if n.startswith("pipe:")]
check(len(control) <= 6, f"{len(control)} pipes: {control}")
sockets = [fd for fd, n in seen.items() if n.startswith("socket:")]
for fd in sockets:
    import socket
    s = socket.socket(fileno=os.dup(fd))
    check(s.family == socket.AF_UNIX and not s.getpeername(), f"socket {fd} is the kernel's own pair")
for how in (True, False):
    out = subprocess.run(["/usr/bin/python3", "-ISc", "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"], close_fds=how, capture_output=True, text=True).stdout
    check(out.strip() == "[0, 1, 2, 3]", f"a child has {out.strip()} (3 is the list itself)")
