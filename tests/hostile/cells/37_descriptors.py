#: must: descriptors end at 1,024
#: must not: go on
from attack import *

fds = []
try:
    for i in range(5000):
        fds.append(os.open("/dev/null", os.O_RDONLY))
    leak("5,000 descriptors")
except OSError as e:
    check(e.errno == errno.EMFILE and len(fds) <= 1024, f"{len(fds)} descriptors: {e.strerror}")
for fd in fds:
    os.close(fd)
