#: must: a lease or a lock that a kernel holds does not hold up who reads through the mount
#: must not: make the daemon wait
#: after: reads_leased
from attack import *
import fcntl

for name in ("leased", "locked"):
    with open(name, "w") as f:
        f.write("text\n")
a = os.open("leased", os.O_RDWR)
try:
    fcntl.fcntl(a, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    ok("a write lease is held")
except OSError as e:
    ok(f"lease: {e.strerror}")
import signal
signal.signal(signal.SIGIO, signal.SIG_IGN)
b = os.open("locked", os.O_RDWR)
fcntl.flock(b, fcntl.LOCK_EX)
fcntl.lockf(os.dup(b), fcntl.LOCK_EX)
held = (a, b)
