"""For the tests of this directory: boxes (`box up`) and the kernels in them (`box join`), made as the daemon makes
them: by root for an id of its own (--ids), or by an ordinary user, for which a test that is run by root becomes nobody."""
import array
import contextlib
import ctypes
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import termios
import textwrap
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, os.environ.get("CELLFS_BUILD", "build"))
BOX = os.path.join(BUILD, "box")
LIBBOX = os.path.join(BUILD, "libbox.so")
PYTHON = "/usr/bin/python3"
LIMIT = int(os.environ.get("CELLFS_PATIENCE", "20"))  # seconds until a wait is a failure
NOBODY = 65534
IDS = 0x70000001  # as the daemon of root gives them out
OWN, NAMESPACES, NS, FILTERS, FDS = 7, 9, 7, 16, 23  # fsd/box/fds.h
LIMITS = {"data": 512 << 20, "fsize": 1 << 30, "processes": 128, "files": 1024}

HELPERS = """
import ctypes, errno, json, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def no(fn, *args):
    try: fn(*args)
    except OSError as e: return errno.errorcode[e.errno]
    return 'OK'
def call(*args):
    n = libc.syscall(*args)
    return n if n >= 0 else errno.errorcode[ctypes.get_errno()]
def r(path): return open(path, 'rb').read(4096)
def w(path): return open(path, 'r+b')
"""

libc = ctypes.CDLL(None, use_errno=True)


def landlock_abi():
    return libc.syscall(444, None, 0, 1)


def python(code, *args):
    return [PYTHON, "-I", "-S", "-c", textwrap.dedent(code), *args]


def readable(fd, limit):
    p = select.poll()  # select() knows no descriptor above 1023
    p.register(fd, select.POLLIN)
    return p.poll(max(0, limit) * 1000)


def recv(s, limit=LIMIT):
    """(text, descriptors); ("", []) at the end."""
    assert readable(s, limit), "no message"
    try:
        data, anc, _, _ = s.recvmsg(600, socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        return "", []
    fds = array.array("i")
    for _, _, d in anc:
        fds.frombytes(d[: len(d) // 4 * 4])
    assert not data or data.endswith(b"\n")
    return data.decode().rstrip("\n"), list(fds)


def read_all(fd, limit=LIMIT):
    data, end = b"", time.monotonic() + limit
    while True:
        assert readable(fd, end - time.monotonic()), "no end: %r" % data[-300:]
        part = os.read(fd, 65536)
        if not part:
            return data
        data += part


def read_line(fd, limit=LIMIT):
    out = b""
    while not out.endswith(b"\n"):
        assert readable(fd, limit), "nothing to read: %r" % out
        c = os.read(fd, 1)
        assert c, "ended after %r" % out
        out += c
    return out.decode().rstrip("\n")


def wait(pid, limit=LIMIT):
    fd = os.pidfd_open(pid)
    try:
        assert readable(fd, limit), "%d does not end" % pid
    finally:
        os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def alive(pid):
    try:
        with open("/proc/%s/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def namespace(pid, name="pid"):
    path = f"/proc/{pid}/ns/{name}"
    try:
        return os.stat(path).st_ino
    except PermissionError:  # a box's own processes are not to be looked at, not even by their user
        with open(f"/proc/{pid}/status") as f:
            if not re.search(r"^NSpid:\t\d+\t", f.read(), re.M):
                raise
        said = subprocess.run(["sudo", "-n", "stat", "-Lc", "%i", path], capture_output=True, text=True, check=False)
        if said.returncode:
            raise
        return int(said.stdout)


def processes(pid):
    """All processes of the pid namespace of PID, numbers outside: mother and those who joined."""
    ns, found = namespace(pid), []
    for p in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if namespace(p) == ns:
                found.append(int(p))
    return found


def until(true, limit=LIMIT):
    """For what nothing tells of."""
    end, looked = time.monotonic() + limit, time.monotonic()
    while not true():
        assert looked < end, "it does not come true"
        time.sleep(0.002)
        looked = time.monotonic()  # before the look: we may be held up behind it


def in_its_loop(lifeline):
    """Returns when the supervisor at the other end has all its set-up behind it: only then does it take what comes there."""
    os.write(lifeline, b"x")
    until(lambda: fcntl.ioctl(lifeline, termios.FIONREAD, bytes(4)) == bytes(4))


def children():
    with open("/proc/thread-self/children") as f:
        return set(map(int, f.read().split()))


def pid_of(pidfd):
    with open("/proc/self/fdinfo/%d" % pidfd) as f:
        return int(next(line.split()[1] for line in f if line.startswith("Pid:")))


class Maker:
    """Who makes boxes: UID None is root."""

    def __init__(self, uid, directory):
        self.uid, self.directory = uid, directory
        self.box = shutil.copy(BOX, directory)
        self.workspace = tempfile.mkdtemp(dir=directory)
        self.owner = IDS if uid is None else uid
        if os.getuid() == 0:
            os.chown(self.workspace, self.owner, self.owner)
        self.stack = contextlib.ExitStack()
        self.filters = [os.memfd_create("allow"), os.memfd_create("ioctl")]
        pid = self.spawn(["filters", str(FILTERS), str(FILTERS + 1)], {})
        assert wait(pid) == 0

    def become(self):
        if self.uid is not None and os.getuid() == 0:
            os.setgroups([])
            os.setresgid(self.uid, self.uid, self.uid)
            os.setresuid(self.uid, self.uid, self.uid)

    def spawn(self, args, fds, env=None, strangers=0, prepare=None, program=None):
        """As spawn() does: 0 to 22 and no other, /dev/null where there is nothing to give."""
        pid = os.fork()
        if pid:
            return pid
        try:
            fds = {FILTERS: self.filters[0], FILTERS + 1: self.filters[1], **fds}
            null = fcntl.fcntl(os.open("/dev/null", os.O_RDWR), fcntl.F_DUPFD, 300)
            have = {to: fcntl.fcntl(fd, fcntl.F_DUPFD, 300) for to, fd in fds.items()}
            for to in range(FDS):
                os.dup2(have.get(to, null), to)
            os.closerange(FDS, 300)
            for i in range(strangers):
                os.dup2(null, 200 + 3 * i)
            os.closerange(300, 1000)
            for sig in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(sig, signal.SIG_DFL)
            if prepare:
                prepare()
            self.become()
            os.execve(program or self.box, ["box", *args], env or {})
        except BaseException as e:
            os.write(2, repr(e).encode())
        finally:
            os._exit(99)

    def up(self, *options, fails=False, **kw):
        b = Up(self, options, **kw)
        self.stack.callback(b.close)
        if not fails:
            assert b.state == "up", b.state
        return b

    def close(self):
        self.stack.close()
        for fd in self.filters:
            os.close(fd)


class Up:
    """A box. `state` is "up" or the line "failed ..."."""

    def __init__(self, maker, options, ids=True, workspace=True, **kw):
        args = ["--ids=%d:%d" % (IDS, IDS)] if ids and maker.uid is None and os.getuid() == 0 else []
        args += ["--rw=%s:/workspace" % maker.workspace] if workspace else []
        self.maker, self.fds, self.pid, self.state, self.kernels = maker, [], 0, "", []
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.launcher = maker.spawn(["up", *args, *options], {OWN: theirs.fileno()}, **kw)
        theirs.close()
        self.said = []
        while self.state != "up" and not self.state.startswith("failed"):
            self.state, self.fds = recv(self.socket)
            self.said.append(self.state)
            if self.state.startswith("pid "):
                self.pid = int(self.state[4:])
            if not self.state:
                break
        self.launcher_exit = wait(self.launcher)

    def join(self, *argv, **kw):
        k = Kernel(self, argv, **kw)
        self.kernels.append(k)
        return k

    def run(self, code, *args, **kw):
        """What a piece of Python prints in the box, as JSON. no(FN, ...) is "OK" or the name of the error."""
        k = self.join(*python(HELPERS + textwrap.dedent(code), *args), **kw)
        assert k.started, k.said
        out = read_all(k.out)
        assert k.result() == "exited 0", (k.said, out, read_all(k.err))
        return json.loads(out)

    def end(self, limit=LIMIT):
        """Closes the socket; seconds until pid 1, and so everything, was gone."""
        start = time.monotonic()
        self.socket.close()
        if self.pid:
            self.exit = wait(self.pid, limit)
            self.pid = 0
        return time.monotonic() - start

    def close(self):
        for k in self.kernels:
            k.close()
        with contextlib.suppress(AssertionError):
            self.end(5)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        for fd in self.fds:
            os.close(fd)


class Kernel:
    """One that joined. `out` and `err` are what it writes, `put` what it reads from 3."""

    def __init__(self, box, argv, cwd="/workspace", check=False, limits=None, fds=None, namespaces=None, **kw):
        self.report, report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        r, self.lifeline = os.pipe()
        self.out, out = os.pipe()
        self.err, err = os.pipe()
        get, self.put = os.pipe()
        have = {1: out, 2: err, 3: get, 7: r, 8: report.fileno()}
        for i, fd in enumerate(namespaces or box.fds[:NS]):
            have[NAMESPACES + i] = fd
        args = ["join", "--lifeline=7", "--report=8"] + (["--cwd=" + cwd] if cwd and not check else [])
        args += ["--%s=%d" % item for item in {**LIMITS, **(limits or {})}.items()]
        self.launcher = box.maker.spawn(args + (["--check"] if check else ["--", *argv]), {**have, **(fds or {})}, **kw)
        for fd in (r, out, err, get):
            os.close(fd)
        report.close()
        self.said, self.pid, self.started, self.pidfd, self.driver = [], 0, False, -1, 0
        self.launcher_exit = wait(self.launcher)
        while not self.started and self.listen():
            pass

    def listen(self):
        """One message, or False: nothing more can come."""
        line, fds = recv(self.report)
        if not line:
            return False
        self.said.append(line)
        word = line.split()[0]
        if word == "joined":
            self.pid = int(line.split()[1])
        elif word == "started":
            self.started = True
            self.pidfd, = fds
            self.driver = pid_of(self.pidfd)
            fds = []
        assert not fds
        return True

    def line(self):
        return read_line(self.out)

    def result(self):
        """The last message, when the supervisor has ended, and with it all that came of the driver."""
        if self.pid:
            self.exit = wait(self.pid)
            self.pid = 0
        while self.listen():
            pass
        return self.said[-1] if self.said else ""

    def drop_lifeline(self):
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1

    def close(self):
        self.drop_lifeline()
        if self.pid:
            try:
                wait(self.pid, 5)
            except AssertionError:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
        for fd in (self.out, self.err, self.put, *([self.pidfd] if self.pidfd >= 0 else [])):
            os.close(fd)
        self.report.close()


MODES = ["root", "user"]


@contextlib.contextmanager
def maker(mode):
    """Its programs and directories are where an ordinary user gets at them, unlike those of pytest."""
    uid = None if mode == "root" else NOBODY if os.getuid() == 0 else os.getuid()
    with tempfile.TemporaryDirectory(prefix="cellfs-box-") as d:
        os.chmod(d, 0o755)
        m = Maker(uid, d)
        try:
            yield m
        finally:
            m.close()
