#: must: no hard link to a file outside; a running program cannot be opened for writing
#: must not: reach a file of the host through a link
from attack import *

for source in ("/usr/bin/id", "/bin/bash", "/etc/passwd", "/proc/self/exe", "/proc/1/exe", "/dev/null"):
    refused("link " + source, lambda: os.link(source, "/workspace/linked"))
    refused("linkat AT_SYMLINK_FOLLOW " + source, lambda: os.link(source, "/workspace/linked2", follow_symlinks=True))
refused("open /proc/self/exe for writing", os.open, "/proc/self/exe", os.O_RDWR)
fd = os.open("/usr/bin/id", os.O_RDONLY)
refused("reopen for writing", os.open, f"/proc/self/fd/{fd}", os.O_WRONLY)
refused("link through /proc/self/fd", lambda: os.link(f"/proc/self/fd/{fd}", "/workspace/l3", follow_symlinks=True))
refused("AT_EMPTY_PATH", lambda: call(libc.linkat, fd, b"", -100, b"/workspace/l4", 0x1000))
for pid in pids():
    if pid != os.getpid():
        refused(f"exe of {pid}", os.open, f"/proc/{pid}/exe", os.O_RDWR) if pid in (1, os.getppid()) else None
