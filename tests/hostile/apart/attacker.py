"""Attacks another kernel of the box, whose driver's pid stands in the file `go` once its run is under way: that driver, what
it started, its supervisor, pid 1, and the own supervisor. argv: the pid of the own driver; `all`: at the end kill -1."""

import ctypes
import errno
import os
import platform
import resource
import signal
import sys
import time

if platform.node() != "sandbox":
    sys.exit("not in a box")
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
own, everybody = int(sys.argv[1]), sys.argv[2] == "all"
os.chdir("/workspace")
log = open("/workspace/said", "a", buffering=1)
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
end = time.monotonic() + 30
while not os.path.exists("go"):
    time.sleep(0.01)
    if time.monotonic() > end:
        sys.exit(1)


def parent(pid):
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rpartition(")")[2].split()[1])


def descends(pid, ancestor):
    while pid > 1 and pid != ancestor:
        try:
            pid = parent(pid)
        except OSError:
            return False
    return pid == ancestor


def attempt(what, act):
    try:
        got = act()
        empty = got in (b"", [])  # of one that just ends
        print(f"{'ok' if empty else 'LEAK'}: {what} -> {got!r}"[:300], file=log)
    except OSError as e:
        print(f"ok: {what}: {errno.errorcode.get(e.errno, e.errno)}", file=log)


def syscall(*args):
    rc = libc.syscall(*[ctypes.c_long(a) for a in args])
    if rc < 0:
        raise OSError(ctypes.get_errno(), "")
    return rc


def read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def forge(path):
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    return os.write(fd, b'{"ev":"done","id":1,"status":"ok","code":0}\n' * 20)


time.sleep(0.1)
victim = int(open("go").read())
targets = [p for p in map(int, filter(str.isdigit, os.listdir("/proc"))) if descends(p, victim)]
targets += [parent(victim), parent(own), 1]
print(f"targets: {targets}", file=log)
for pid in targets:
    attempt(f"{pid} links of fds", lambda: [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")])
    for fd in [*range(0, 10), *range(250, 256), *range(500, 506)]:
        attempt(f"{pid} fd {fd}", lambda: forge(f"/proc/{pid}/fd/{fd}"))
    for name in ("mem", "environ", "maps", "auxv", "stack", "cwd/.", "root/."):
        attempt(f"{pid} {name}", lambda: os.listdir(f"/proc/{pid}/{name}") if name[-1] == "." else read(f"/proc/{pid}/{name}"))
    attempt(f"{pid} mem for writing", lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR))
    attempt(f"{pid} ptrace", lambda: syscall(101 if X86 else 117, 16, pid, 0, 0))
    attempt(f"{pid} process_vm_writev", lambda: syscall(311 if X86 else 271, pid, 0, 0, 0, 0, 0))
    attempt(f"{pid} pidfd_getfd", lambda: syscall(438, os.pidfd_open(pid), 1, 0))
    if pid != 1:  # a signal from the inside never reaches pid 1, and kill says nothing of it
        for sig in (signal.SIGINT, signal.SIGSTOP, signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL):
            attempt(f"{pid} {sig.name}", lambda: os.kill(pid, sig))
        attempt(f"{pid} by pidfd", lambda: signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGKILL))
        for what, value in (("CPU", (1, 1)), ("NOFILE", (8, 8))):
            attempt(f"{pid} prlimit {what}", lambda: resource.prlimit(pid, getattr(resource, "RLIMIT_" + what), value))
        attempt(f"{pid} thread", lambda: syscall(234 if X86 else 131, pid, pid, 9))
if everybody:
    print("kill -1", file=log)
    try:
        os.kill(-1, signal.SIGSTOP)
        os.kill(-1, signal.SIGKILL)
    except OSError as e:
        print(f"kill -1: {e.strerror}", file=log)
print("finished", file=log)
