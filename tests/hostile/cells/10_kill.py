#: must: the box lives on, whatever is signalled, and the state of this kernel is kept
#: must not: end another kernel, the supervisor or pid 1
#: state: kept
#: old status: (ok|error|killed)\b.*
from attack import *
import signal, time

for sig in (9, 19, 15, 11, 20):
    for pid in (1, os.getppid()):
        try:
            os.kill(pid, sig)
            ok(f"kill {pid} {sig}: no error, and no effect")
        except OSError as e:
            ok(f"kill {pid} {sig}: {e.strerror}")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for sig in (15, 19, 9):
    try:
        os.kill(-1, sig)
    except OSError as e:
        ok(f"kill -1 {sig}: {e.strerror}")
time.sleep(0.3)
check(os.path.exists("/proc/1/stat") and read("/proc/1/stat").rpartition(b")")[2].split()[0] in (b"S", b"I", b"R", b"D"), "pid 1 goes on")
check(read(f"/proc/{os.getppid()}/stat").rpartition(b")")[2].split()[0] in (b"S", b"R", b"D"), "the supervisor goes on")
