#: must: terminals end at 64
#: must not: take the host's
from attack import *

fds = []
try:
    for i in range(300):
        fds += os.openpty()
    leak("300 terminals")
except OSError as e:
    check(len(fds) <= 128, f"{len(fds) // 2} terminals: {e.strerror}")
for fd in fds:
    os.close(fd)
