"""A mount for the tests: starts the daemon, waits for it by its own word, takes it down and looks at how it ended.

No test sleeps: what it waits for it reads from a promise (`results/x/done`), and every wait has a limit.
"""

import contextlib
import ctypes
import errno
import fcntl
import itertools
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("CELLFS_BUILD", "build")
WORK = BUILD / "tests" / f"fs.{os.getpid()}"  # not below /tmp: vim makes no backups there
PATIENCE = int(os.environ.get("CELLFS_PATIENCE", "20"))  # seconds until a wait of one call is a failure
ENDED = ("ok", "error", "timeout", "interrupted", "killed", "oom", "cancelled", "aborted", "lost")
SANITIZER = re.compile(r"ERROR: AddressSanitizer|LeakSanitizer|runtime error|ERROR: \w*Sanitizer")

_numbers = itertools.count(1)
_mounts = []  # all that are up
_children = []  # all processes of spawn() that nobody has waited for


class Mount:
    """One daemon with a STATE_DIR and a mountpoint of its own. Up when the constructor returns."""

    def __init__(self, opts="", state=None, start=True, env=None, where=None):
        self.dir = pathlib.Path(where or WORK / str(next(_numbers)))
        self.dir.mkdir(parents=True, exist_ok=True)
        self.state = pathlib.Path(state or self.dir / "state")
        self.path = self.dir / "mnt"
        self.log_file = self.dir / "log"
        self.opts = opts
        self.env = env or {}
        self.proc = None
        if start:
            self.start()

    # ---- up and down

    def argv(self, opts=None):
        opts = self.opts if opts is None else opts
        if "kernelspecs=" not in opts:  # each new STATE_DIR would start every Jupyter kernel once
            opts += ",kernelspecs=off" if opts else "kernelspecs=off"
        return [str(BUILD / "cellfs"), "-f", str(self.state), str(self.path), "-o", opts]

    def start(self, opts=None):
        """Returns when the daemon has said READY=1."""
        assert os.path.exists("/dev/fuse"), "there is no /dev/fuse: these tests need a mount"
        assert self.proc is None
        self.path.mkdir(parents=True, exist_ok=True)
        self.state.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="cellfs-") as tmp, socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM
        ) as ready:
            ready.bind(tmp + "/notify")
            env = dict(os.environ, NOTIFY_SOCKET=tmp + "/notify", **self.env)
            with open(self.log_file, "ab") as log:
                self.proc = subprocess.Popen(
                    self.argv(opts), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
                )
            _mounts.append(self)
            pidfd = os.pidfd_open(self.proc.pid)
            try:
                end = time.monotonic() + PATIENCE
                while True:
                    got = select.select([ready, pidfd], [], [], max(0, end - time.monotonic()))[0]
                    if ready in got:
                        if b"READY=1" in ready.recv(4096):
                            break
                    elif got:
                        rc = self.proc.wait()
                        self._forget()
                        raise AssertionError(f"the daemon ended with {rc} before it was ready\n{self.tail()}")
                    else:
                        self.kill()
                        raise AssertionError(f"no READY=1 in {PATIENCE} s\n{self.tail()}")
            finally:
                os.close(pidfd)
        return self

    @property
    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    @property
    def pid(self):
        return self.proc.pid

    def unmount(self):
        """In order: exit status 0 and nothing from a sanitizer."""
        assert self.alive, f"the daemon has ended by itself ({self.proc and self.proc.returncode})\n{self.tail()}"
        stop = time.monotonic() + PATIENCE
        while True:  # what a test ended may still be closing its files
            done = sh(["fusermount3", "-u", str(self.path)])
            if not done.returncode or "busy" not in done.stderr or time.monotonic() > stop:
                break
            time.sleep(0.1)
        if done.returncode:
            who = users(self.path)
            self.kill()
            raise AssertionError(f"fusermount3 -u: {done.stderr.strip()}; in use by {who or 'nobody'}")
        self.wait_end()

    def wait_end(self, status=0):
        """Waits for the daemon's end, however it was asked to, and checks it."""
        proc = self.proc
        try:
            rc = proc.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the daemon did not end within {PATIENCE} s\n{self.tail()}") from None
        self._forget()
        lazy_unmount(self.path)
        assert rc == status, f"the daemon's exit status is {rc}\n{self.tail()}"
        self.check_log()

    def check_log(self):
        assert not SANITIZER.search(self.log_text()), self.tail(200)

    def signal(self, number):
        self.proc.send_signal(number)

    def kill(self):
        """A crash: SIGKILL, and the dead mount is taken away."""
        if self.proc:
            with contextlib.suppress(ProcessLookupError):
                self.proc.kill()
            try:
                self.proc.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                abort(self.path)
                self.proc.wait(PATIENCE)
            self._forget()
        lazy_unmount(self.path)

    def remount(self, opts=None):
        """Up again on the same STATE_DIR (after an unmount in order, if it is up)."""
        if self.alive:
            self.unmount()
        elif self.proc:
            self.kill()
        return self.start(opts)

    def close(self):
        """For fixtures: an unmount in order if it is still up, and the directory is gone."""
        try:
            if self.proc:
                self.unmount()
        finally:
            self.kill()
            if not os.path.ismount(self.path):
                shutil.rmtree(self.dir, ignore_errors=True)

    def _forget(self):
        self.proc = None
        if self in _mounts:
            _mounts.remove(self)

    # ---- what is in it

    @property
    def contexts(self):
        return self.path / "contexts"

    @property
    def main(self):
        return self.contexts / "main"

    def context(self, name):
        """A new context."""
        (self.contexts / name).mkdir()
        return self.contexts / name

    def run(self, cell, code, ctx="main"):
        """Writes a cell. Returns its directory of results, at once."""
        return run(self.contexts / ctx, cell, code)

    text = staticmethod(lambda path: pathlib.Path(path).read_text())

    # ---- its log

    def log_text(self):
        try:
            return self.log_file.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def tail(self, lines=40):
        return "".join(f"  {line}\n" for line in self.log_text().splitlines()[-lines:])


@contextlib.contextmanager
def on_a_disk(where, kind, size):
    """A mount whose STATE_DIR lies on a disk of its own, which is at WHERE (its `disk`): tmpfs, or a file system that is
    made in an image. None where that cannot be made."""
    image = where.with_suffix(".image")
    where.mkdir()
    device = ["-o", f"size={size}", "cellfs-test"]
    if kind != "tmpfs":
        with open(image, "wb") as f:
            f.truncate(size)
        device = ["-o", "loop", image]
        if not shutil.which("mkfs." + kind) or sh(["mkfs." + kind, "-q", "-f", image]).returncode:
            yield None
            return
    if sh(["mount", "-t", kind, *device, where]).returncode:
        yield None
        return
    m = None
    try:
        m = Mount(state=where / "state")
        m.disk = where
        yield m
    finally:
        try:
            if m:
                m.close()
        finally:
            ok(["umount", where])


def lazy_unmount(path):
    if os.path.ismount(path) or is_dead(path):
        subprocess.run(["fusermount3", "-uz", str(path)], stderr=subprocess.DEVNULL, timeout=PATIENCE)


def abort(path):
    """Gives every request that waits an error, even if the daemon hangs in the kernel (umount -f; root only)."""
    ctypes.CDLL(None).umount2(os.fsencode(path), 1)  # MNT_FORCE


def is_dead(path):
    try:
        os.stat(path)
    except OSError as e:
        return e.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def users(path):
    """Who holds a file below PATH: for messages."""
    found = []
    for fd in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(fd).startswith(str(path)):
                comm = (fd.parents[1] / "comm").read_text().strip()
                found.append(f"{fd.parts[2]} ({comm}) {os.readlink(fd)}")
    return found


def live_mounts():
    return list(_mounts)


# ---- cells and files -----------------------------------------------------------------------------


def run(ctx, cell, code):
    """Writes CODE to the cell, in one write. Returns results/CELL, at once."""
    write(ctx / "cells" / cell, code)
    return ctx / "results" / cell


def write(path, text):
    data = text.encode() if isinstance(text, str) else text
    with open(path, "wb", buffering=0) as f:
        f.write(data)


def read(path):
    with open(path, "rb", buffering=0) as f:
        return f.readall().decode()


def read_bytes(path):
    with open(path, "rb", buffering=0) as f:
        return f.readall()


def done(results):
    """The final status word; waits for it."""
    return read(pathlib.Path(results) / "done").strip()


def status(results):
    """The status word as it is now."""
    return re.match(r"\w+", read(pathlib.Path(results) / "status"))[0]


def runs(ctx):
    """The numbers in history/."""
    return sorted(int(name) for name in os.listdir(ctx / "history"))


# A Bash cell that runs until let_go() is called.
HOLD = "echo begun\nwhile [ ! -e go ]; do sleep 0.02; done\nrm go\necho ended\n"
HOLD_PY = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\nos.unlink('go')\n"


def let_go(ctx):
    """Ends a cell that holds."""
    write(ctx / "workspace" / "go", "")


def hold(ctx, cell="hold.sh", code=HOLD):
    """Starts a cell that runs until let_go(). Returns its results, once it runs, and has said `begun` if that is in it."""
    results = run(ctx, cell, code)
    running(results)
    if "begun" in code:
        with fd_of(results / "stdout.follow") as fd:
            assert b"begun\n" in read_until(fd, b"begun\n")
    return results


def running(results):
    """Returns when the cell runs."""
    until(lambda: status(results) == "running", why=f"{results} does not run")


def events(directory):
    """The events of a run or a context, parsed."""
    return [json.loads(line) for line in read(directory / "events.jsonl").splitlines()]


@contextlib.contextmanager
def fails(*codes):
    """The body fails with one of these errors: fails(errno.EINVAL)."""
    try:
        yield
    except OSError as e:
        assert e.errno in codes, f"{e!r}, expected {[errno.errorcode[c] for c in codes]}"
    else:
        raise AssertionError(f"no error, expected {[errno.errorcode[c] for c in codes]}")


@contextlib.contextmanager
def within(seconds):
    """The body takes less than this."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took < seconds, f"took {took:.2f} s, more than {seconds}"


@contextlib.contextmanager
def fd_of(path, flags=os.O_RDONLY, mode=0o666):
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def readable(fd, seconds=PATIENCE):
    """poll() says that FD can be read within the time."""
    p = select.poll()
    p.register(fd, select.POLLIN)
    return bool(p.poll(seconds * 1000))


def read_until(fd, what, seconds=PATIENCE):
    """Reads (poll, read) until WHAT was in it, or the end of file."""
    got, end = b"", time.monotonic() + seconds
    while what not in got:
        assert readable(fd, max(0, end - time.monotonic())), f"no {what!r} within {seconds} s; so far {got!r}"
        part = os.read(fd, 65536)
        if not part:
            break
        got += part
    return got


# ---- processes -----------------------------------------------------------------------------------


def sh(command, timeout=PATIENCE, **kw):
    """Runs a command (a text: by bash) to its end. Returns the CompletedProcess, output as text."""
    kw.setdefault("text", True)
    kw.setdefault("stdout", subprocess.PIPE)
    kw.setdefault("stderr", subprocess.PIPE)
    p = spawn(command, **kw)
    try:
        out, err = p.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        end(p)
        raise AssertionError(f"still there after {timeout} s: {command}") from None
    _children.remove(p)
    return subprocess.CompletedProcess(command, p.returncode, out, err)


def ok(command, **kw):
    """As sh; the exit status is 0. Returns its output."""
    d = sh(command, **kw)
    assert d.returncode == 0, f"{command}: exit status {d.returncode}\n{d.stdout}{d.stderr}"
    return d.stdout


def spawn(command, **kw):
    """Starts a command in a session of its own. What is left of it ends with the test."""
    argv = ["bash", "-c", command] if isinstance(command, str) else [str(a) for a in command]
    kw.setdefault("stdin", subprocess.DEVNULL)
    kw.setdefault("start_new_session", True)
    p = subprocess.Popen(argv, **kw)
    _children.append(p)
    return p


def end(p):
    """Ends a process of spawn() and all of its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(p.pid, signal.SIGKILL)
    p.wait(PATIENCE)
    for f in (p.stdin, p.stdout, p.stderr):
        if f:
            with contextlib.suppress(OSError):
                f.close()
    if p in _children:
        _children.remove(p)


def end_children():
    for p in list(_children):
        end(p)


def session(sid):
    """The processes of a session."""
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            if stat.read_text().rpartition(")")[2].split()[3] == str(sid):
                yield stat.parent


def pid_namespace(pid):
    link = f"/proc/{pid}/ns/pid"
    try:
        return os.readlink(link)
    except PermissionError:  # a box's own processes are not to be looked at, not even by their user
        if not re.search(r"^NSpid:\t\d+\t", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M):
            return None
        return sh(["sudo", "-n", "readlink", link]).stdout.strip() or None
    except OSError:
        return None


def box_pids(ctx):
    """The processes of a context's box: their numbers there, and the host's. A kernel has to be alive."""
    kernels = json.loads(read(ctx / "context.json"))["kernels"].values()
    box = next(filter(None, (pid_namespace(k["pid"]) for k in kernels if k["pid"])), None)
    assert box, f"no kernel of {ctx} is alive"
    found = {}
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, TypeError):
            if pid_namespace(proc.name) == box:
                numbers = re.search(r"^NSpid:(.*)$", (proc / "status").read_text(), re.M)[1].split()
                found[int(numbers[-1])] = int(proc.name)
    # Not who has ended while /proc was read: so all of these were there at one time, the end of the reading.
    return {pid: host for pid, host in found.items() if pid_namespace(host) == box}


def host_pid(ctx, pid):
    """The host's number of the process that a cell of CTX knows as PID. (Without a box it is PID itself.)"""
    there = box_pids(ctx)
    assert pid in there, f"no process {pid} in the box of {ctx}: {there}"
    return there[pid]


def waiting(p):
    """The threads of P's session that wait in a request to the mount now, and how often each has slept so far."""
    found = {}
    for proc in session(p.pid):
        for task in proc.glob("task/*"):
            with contextlib.suppress(OSError):
                if "request_wait_answer" in (task / "wchan").read_text():
                    found[task.name] = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", (task / "status").read_text(), re.M)[1]
    return found


def answered():
    """Returns when the daemons have taken all requests that were made before: they take one after the other, so whatever
    has no answer then has to wait for more than its turn."""
    for m in live_mounts():
        with contextlib.suppress(OSError):
            os.statvfs(m.path)


def parked(*children, threads=1, seconds=PATIENCE):
    """Returns when each of these processes of spawn() has so many threads in a request that stays without an answer, or
    has ended."""
    stop = time.monotonic() + seconds
    left = list(children)
    before = {}
    while left := [p for p in left if p.poll() is None]:
        now = {p.pid: waiting(p) for p in left}
        for p in list(left):
            if len(now[p.pid].items() & before.get(p.pid, {}).items()) >= threads:
                left.remove(p)
        before = now
        assert time.monotonic() < stop, f"nothing waits in the mount within {seconds} s: {[p.args for p in left]}"
        time.sleep(0.02)
        answered()


def is_parked(p):
    """P waits for an answer of the mount, and goes on doing so."""
    first = waiting(p)
    time.sleep(0.02)
    answered()
    return bool(first.items() & waiting(p).items())


def until(condition, seconds=PATIENCE, why="it did not become true"):
    """For the few things that no file promises: asks again and again."""
    stop = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < stop, f"{why} within {seconds} s"
        time.sleep(0.003)
    return value


class Terminal:
    """A program on a terminal of its own: for editors, Ctrl-C and the like."""

    def __init__(self, argv, rows=50, columns=240, **kw):
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        env = dict(os.environ, TERM="xterm", **kw.pop("env", {}))

        def control():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.proc = spawn(argv, stdin=slave, stdout=slave, stderr=slave, env=env, preexec_fn=control, **kw)
        os.close(slave)
        self.seen = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.proc)
        os.close(self.master)

    def send(self, keys):
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    def expect(self, pattern, seconds=PATIENCE):
        """Reads until PATTERN shows, and forgets what came up to there."""
        pattern = pattern.encode() if isinstance(pattern, str) else pattern
        stop = time.monotonic() + seconds
        while not (hit := re.search(pattern, self.seen)):
            if not select.select([self.master], [], [], max(0, stop - time.monotonic()))[0]:
                raise AssertionError(f"no {pattern!r} on the terminal, but {self.seen[-2000:]!r}")
            try:
                part = os.read(self.master, 65536)
            except OSError:
                part = b""
            if not part:
                raise AssertionError(f"the program ended without {pattern!r}: {self.seen[-2000:]!r}")
            self.seen += part
        self.seen = self.seen[hit.end() :]
        return hit

    def wait(self, seconds=PATIENCE):
        """The exit status; reads on meanwhile, so that the program can end."""
        stop = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            while select.select([self.master], [], [], max(0, stop - time.monotonic()))[0]:
                part = os.read(self.master, 65536)
                if not part:
                    break
                self.seen += part
        try:
            return self.proc.wait(max(1, stop - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the program did not end: {self.seen[-2000:]!r}") from None
