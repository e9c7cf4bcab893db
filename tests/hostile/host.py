"""What the hostile suite stands on: a daemon of root or of an ordinary user, the canaries, the look at the host.

A daemon of an ordinary user lives in a mount namespace of its own (where /dev/fuse is as it is everywhere else), and
nobody but that user can look into its mount, not even root. So whatever touches a mount is done by a thread that has
joined that namespace and become that user: `host.do(function, ...)`. For a daemon of root it is the same, without.
"""

import collections
import contextlib
import ctypes
import errno
import json
import os
import pathlib
import queue
import re
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "fs"))

import mount  # noqa: E402
from mount import PATIENCE, done, read, run, until, write  # noqa: E402,F401

USER = 65534  # an ordinary user without rights, groups or files
CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
SYS_setresuid, SYS_setresgid, SYS_setgroups = 117, 119, 116  # x86-64; the C library's act on all threads
if os.uname().machine == "aarch64":
    SYS_setresuid, SYS_setresgid, SYS_setgroups = 147, 149, 159
SLOW = float(os.environ.get("CELLFS_SLOW", "1"))  # how much slower than a machine this one is
SOON = 5.0 * SLOW  # "a cell in another context answers at once": 1 s is the aim, machines are shared

libc = ctypes.CDLL(None, use_errno=True)
_manifests = [json.loads(read(path)) for path in mount.ROOT.glob("kernels/*/manifest.json")]
SPARED = {ext: m["name"] for m in _manifests if m.get("spare") for ext in m["extensions"]}  # those that have spares


def check(rc):
    if rc < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return rc


# ---- the thread that sees the mount --------------------------------------------------------------


class Eye(threading.Thread):
    """Does what it is given, in the mount namespace of PID and as USER (or just here, as root)."""

    def __init__(self, pid=None):
        super().__init__(daemon=True)
        self.jobs = queue.SimpleQueue()
        self.pid = pid
        self.start()

    def become(self):
        fd = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        check(libc.unshare(CLONE_FS))
        check(libc.setns(fd, CLONE_NEWNS))
        os.close(fd)
        check(libc.syscall(SYS_setgroups, 0, 0))
        check(libc.syscall(SYS_setresgid, USER, USER, USER))
        check(libc.syscall(SYS_setresuid, USER, USER, USER))

    def run(self):
        failed = None
        try:
            if self.pid:
                self.become()
        except OSError as e:
            failed = e
        while job := self.jobs.get():
            call, answer = job
            try:
                if failed:
                    raise failed
                answer.put((call(), None))
            except BaseException as e:  # noqa: B902
                answer.put((None, e))

    def do(self, call, seconds):
        answer = queue.SimpleQueue()
        self.jobs.put((call, answer))
        try:
            got, error = answer.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"no answer of the mount within {seconds} s") from None
        if error:
            raise error
        return got


# ---- a daemon ------------------------------------------------------------------------------------


class Host(mount.Mount):
    """A daemon of KIND root or user, with secrets around it that no cell may see."""

    def __init__(self, kind, opts="", canaries=None, **kw):
        self.kind = kind
        self.canaries = canaries
        self.eyes = []
        self.used = set()  # languages that have spares
        super().__init__(opts, start=False, **kw)
        os.chmod(self.dir, 0o755)
        self.start()

    # ---- up and down

    def argv(self, opts=None):
        plain = super().argv(opts)
        if self.kind == "root":
            return plain
        script = ""
        for real in ("/dev/fuse", "/dev/net/tun"):  # 0666 everywhere but here
            if not os.path.exists(real):
                continue
            device = self.dir / real.rpartition("/")[2]
            with contextlib.suppress(FileExistsError):
                os.mknod(device, 0o020666, os.stat(real).st_rdev)
            os.chmod(device, 0o666)
            script += f"mount --bind {device} {real}\n"
        script += 'exec "$@"'
        return [
            "unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh",
            "setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--inh-caps=-all", "--", *plain,
        ]

    def start(self, opts=None):
        assert os.path.exists("/dev/fuse"), "there is no /dev/fuse: these tests need a mount"
        for d in (self.path, self.state):
            d.mkdir(parents=True, exist_ok=True)
            if self.kind == "user":
                os.chown(d, USER, USER)
        env = dict(os.environ, SECRET_TOKEN=self.canaries.token if self.canaries else "none", **self.env)
        if self.kind == "user":
            env["HOME"] = str(self.dir)
        with tempfile.TemporaryDirectory() as tmp, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            os.chmod(tmp, 0o711)
            ready.bind(tmp + "/notify")
            os.chmod(tmp + "/notify", 0o777)
            leaked = self.canaries.leaked_fds() if self.canaries else []
            with open(self.log_file, "ab") as log:
                self.proc = subprocess.Popen(
                    self.argv(opts), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    env=dict(env, NOTIFY_SOCKET=tmp + "/notify"), pass_fds=leaked,
                )
            for fd in leaked:
                os.close(fd)
            mount._mounts.append(self)
            pidfd = os.pidfd_open(self.proc.pid)
            try:
                got = select.select([ready, pidfd], [], [], PATIENCE)[0]
                if ready not in got:
                    rc = self.proc.poll()
                    self.kill()
                    raise AssertionError(f"the daemon of {self.kind} is not ready (exit status {rc})\n{self.tail()}")
                assert b"READY=1" in ready.recv(4096)
            finally:
                os.close(pidfd)
        self.used = set()
        self.eyes = [Eye(self.pid if self.kind == "user" else None) for _ in range(2)]
        return self

    def unmount(self):
        assert self.alive, f"the daemon has ended by itself ({self.proc and self.proc.returncode})\n{self.tail()}"
        self.signal(signal.SIGTERM)
        self.wait_end()

    def _forget(self):
        super()._forget()
        for eye in self.eyes:
            eye.jobs.put(None)
        self.eyes = []

    # ---- through the mount

    def do(self, call, *args, seconds=55, eye=0, **kw):
        return self.eyes[eye].do(lambda: call(*args, **kw), seconds * SLOW)

    def read(self, path):
        return self.do(read, self.path / path)

    def write(self, path, text):
        return self.do(write, self.path / path, text)

    def make(self, name, config="", files=()):
        """A new context; CONFIG is "memory=256M timeout=2"; FILES of the host go into its workspace."""
        told = json.dumps(self.canaries.public(self)) if self.canaries else "{}"

        def make():
            ctx = self.contexts / name
            ctx.mkdir()
            for item in config.split():
                key, _, value = item.partition("=")
                if key == "timeout" and int(value) >= 10:  # one that is not meant to end it
                    value = str(int(int(value) * SLOW))
                write(ctx / "config" / key, value + "\n")
            for f in files:
                write(ctx / "workspace" / f.name, f.read_bytes())
            write(ctx / "workspace" / "canary.json", told)
            return ctx

        return self.do(make)

    def remove(self, name, by="ctl", seconds=50 * SLOW):
        """The context is gone: from the tree, from the state, and its processes too. How long rm took, in seconds."""
        start = time.monotonic()
        if by == "ctl":
            self.do(write, self.contexts / name / "ctl", "remove\n")
        else:
            got = self.do(mount.sh, ["rm", "-r", "--", str(self.contexts / name)], seconds, seconds=seconds + 5)
            if got.returncode:
                self.do(write, self.contexts / name / "ctl", "remove\n")
            assert got.returncode == 0 and not got.stderr, got.stderr[:2000]
        took = time.monotonic() - start
        assert name not in self.do(os.listdir, self.contexts)
        return took

    def cell(self, ctx, name, code, within=30.0, other=None, eye=0):
        """Runs a cell to its end. OTHER is a context that is asked meanwhile."""
        self.used |= {SPARED.get(name.rpartition(".")[2])} - {None}
        return self.do(lambda: follow(self, ctx, name, code, within * SLOW, other), seconds=within + 30, eye=eye)

    def alive_cell(self, ctx="victim"):
        """How long a trivial cell takes there."""
        return self.do(lambda: answer_time(self.contexts / ctx), eye=1)

    def spares(self, extension=None):
        """Returns when a spare waits for each language that was used, that of EXTENSION among them."""
        if SPARED.get(extension, "") not in {"", *self.used}:
            assert self.cell("victim", "used." + extension, KEEP[extension][1]).status == "ok"
        until(lambda: self.used <= self.waiting(), 20 * SLOW, f"no spare of each of {self.used}")

    def waiting(self):
        """The languages of the spares that wait."""
        return set(re.search(r"^spares: (.*)$", self.read("status"), re.M)[1].split()) - {"none"}

    # ---- what of it is on the host

    def boxes(self):
        """The boxes of this daemon's contexts: of each the pid namespace and when its pid 1 was started (the numbers are
        used again). A spare's, which is empty yet, has no workspace."""
        own = os.readlink("/proc/self/ns/pid")
        found = set()
        for pid in children(self.pid):
            with contextlib.suppress(OSError):
                ns = os.readlink(f"/proc/{pid}/ns/pid")
                first = re.search(r"^NSpid:.*\t1$", read(f"/proc/{pid}/status"), re.M)
                if ns != own and first and " /workspace " in read(f"/proc/{pid}/mountinfo"):
                    found.add((ns, read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19]))
        return found

    def open_files(self):
        """What the daemon has open: how many of each."""
        found = collections.Counter()
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(OSError):
                name = os.readlink(f"/proc/{self.pid}/fd/{fd}")
                found[re.sub(r"\d{3,}|[-0-9a-f]{30,}|(?<=spare-)\d+", "N", name)] += 1
        return found

    def opened(self, before, slack):
        """No more than SLACK files are open that were not before, or soon are not any more. A spare has some, too."""
        files = collections.Counter()

        def few():  # one that is being started has them already: it waits in a moment
            most = slack + 36 * len(self.waiting())
            files.clear()
            files.update(self.open_files() - before)
            return files.total() <= most

        with contextlib.suppress(AssertionError):
            until(few, 20 * SLOW)
            return
        raise AssertionError(f"the daemon has opened {dict(files)}")

    def rss(self):
        """Resident bytes of the daemon."""
        return int(re.search(r"^VmRSS:\s*(\d+)", read(f"/proc/{self.pid}/status"), re.M)[1]) * 1024

    def isolation(self):
        return re.search(r"^isolation:\s*(.*)$", self.read("status"), re.M)[1]


class Ran:
    """How a cell ended."""

    def __init__(self, results, took, other):
        self.results, self.took, self.other = results, took, other
        self.status, _, self.reason = read(results / "status").strip().partition(": ")
        self.out = cut(results / "stdout")
        self.err = cut(results / "stderr")
        self.raw = cut(results / "execution.json")
        try:
            self.record = json.loads(self.raw)
        except RecursionError:  # it may be as deep as the forger wanted it to be
            self.record = {}
        self.text = f"{self.status}: {self.reason}" if self.reason else self.status

    def __str__(self):
        return f"[{self.text}, {self.took:.2f} s]\nstdout: {self.out[-3000:]}\nstderr: {self.err[-3000:]}"


def cut(path, limit=4 << 20):
    with open(path, "rb", buffering=0) as f:
        return f.read(limit).decode(errors="replace")


def answer_time(ctx):
    start = time.monotonic()
    results = run(ctx, "alive.sh", "echo alive\n")
    word = done(results)
    took = time.monotonic() - start
    assert word == "ok" and cut(results / "stdout") == "alive\n", (word, cut(results / "stdout"))
    return took


def follow(host, ctx, name, code, within, other):
    ctx = host.contexts / ctx
    start = time.monotonic()
    results = run(ctx, name, code)
    ended, answers = threading.Event(), []

    def ask():  # beside the look at the run: its end is not to be seen only when the other has answered
        try:
            while not answers or not ended.wait(0.2):
                answers.append(answer_time(host.contexts / other))
        except BaseException as e:  # noqa: B902
            answers.append(e)

    asker = threading.Thread(target=ask, daemon=True)  # it sees what its maker sees: the mount, as that user
    if other:
        asker.start()
    while mount.status(results) not in mount.ENDED and time.monotonic() < start + within:
        time.sleep(0.005 if time.monotonic() < start + 1 else 0.05)
    took = time.monotonic() - start
    ended.set()
    if other:
        asker.join()
        if isinstance(answers[-1], BaseException):
            raise answers[-1]
    slowest = max(answers, default=None)
    status = read(results / "status").strip()
    if status.partition(":")[0] not in mount.ENDED:
        raise AssertionError(f"{name} is still {status} after {within} s")
    return Ran(results, took, slowest)


# ---- processes -----------------------------------------------------------------------------------


def children(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(p) for p in task.read_text().split()]
    return found


def zombies(pid):
    """Children of PID that it has not reaped."""
    found = []
    for child in children(pid):
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                found.append(child)
    return found


def inside(boxes):
    """All processes in these boxes (not the dead)."""
    namespaces = {ns for ns, _ in boxes}
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(proc / "ns" / "pid") in namespaces:
                # The dead have no memory; whoever inherited them may take his time to reap them.
                if not (proc / "statm").read_text().startswith("0 "):
                    found.append((int(proc.name), (proc / "comm").read_text().strip()))
    return found


def gone(boxes, seconds=1.0):
    """Waits until nothing is left in these boxes: how long it took."""
    seconds *= SLOW
    start = looked = time.monotonic()
    while left := inside(boxes):
        assert looked < start + seconds, f"left behind after {seconds} s: {len(left)}: {left[:20]}"
        time.sleep(0.01)
        looked = time.monotonic()  # before the look, which takes its time: they were there at this moment at least
    return looked - start


def landlock_abi():
    return max(0, libc.syscall(444, None, 0, 1))


# ---- the host, before and after ------------------------------------------------------------------

SYSCTLS = """
kernel/core_pattern kernel/core_uses_pid kernel/hostname kernel/domainname kernel/modprobe kernel/hotplug kernel/panic
kernel/randomize_va_space kernel/sysrq kernel/printk kernel/dmesg_restrict kernel/kptr_restrict kernel/shmmax
kernel/pid_max kernel/threads-max kernel/perf_event_paranoid kernel/unprivileged_bpf_disabled kernel/sem kernel/msgmax
fs/suid_dumpable fs/protected_symlinks fs/protected_hardlinks fs/protected_fifos fs/protected_regular fs/pipe-max-size
fs/file-max fs/nr_open vm/overcommit_memory vm/swappiness vm/panic_on_oom vm/mmap_min_addr vm/max_map_count
net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start user/max_user_namespaces user/max_inotify_instances
user/max_mnt_namespaces user/max_pid_namespaces
""".split()


SYSTEM = ("", "proc", "sys", "dev", "usr", "etc", "bin", "lib", "home", "root", "run", "var", "boot")  # where mounts are compared


def snapshot():
    """What no cell may change on the host."""
    seen = {"hostname": os.uname().nodename, "clock": time.time() - time.monotonic()}
    for name in SYSCTLS:
        with contextlib.suppress(OSError):
            seen[name] = pathlib.Path("/proc/sys", name).read_text()
    # Other tests mount and unmount below their own directories meanwhile.
    lines = [line.split(" ", 2)[2] for line in read("/proc/self/mountinfo").splitlines() if "fuse.cellfs" not in line]
    seen["mounts"] = sorted(line for line in lines if line.split()[2].split("/")[1] in SYSTEM)
    seen["own mounts"] = sorted(line for line in lines if str(mount.WORK) in line)
    return seen


def same(before, after):
    clock = after["clock"] - before["clock"]
    assert abs(clock) < 30, f"the host's clock was moved by {clock:.0f} s"
    for key in before:
        if key != "clock":
            old, new = before[key], after.get(key)
            if isinstance(old, list):
                old, new = [x for x in old if x not in new], [x for x in new if x not in old]
            assert old == new, f"{key} of the host changed: {old!r} -> {new!r}"


class Canaries:
    """Secrets on the host, each with the same token in it, and traps that count who comes."""

    def __init__(self):
        self.token = "CANARY-" + secrets.token_hex(16)
        self.name = "cellfs-canary-" + secrets.token_hex(4)
        self.visits = []
        mount.WORK.mkdir(parents=True, exist_ok=True)
        self.dir = mount.WORK / "secrets"
        self.dir.mkdir()
        self.dir.chmod(0o755)
        self.files = []
        self.put(self.dir / "of-root", 0o600)
        self.put(self.dir / "of-user", 0o600, USER)
        self.put(self.dir / "of-all", 0o644)
        (self.dir / "locked").mkdir(0o700)
        self.put(self.dir / "locked" / "key", 0o600)
        self.put(pathlib.Path("/var/tmp") / self.name, 0o666)
        self.put(pathlib.Path("/tmp") / self.name, 0o666)
        self.put(pathlib.Path("/dev/shm") / self.name, 0o666)
        self._sockets()
        self._ipc()
        self.before = self.state()

    def put(self, path, mode, owner=0):
        path.write_text(self.token + "\n")
        os.chown(path, owner, owner)
        path.chmod(mode)
        self.files.append(path)

    def _sockets(self):
        self.listeners = {}
        for kind, family, address in (
            ("tcp4", socket.AF_INET, ("127.0.0.1", 0)),
            ("tcp6", socket.AF_INET6, ("::1", 0)),
            ("abstract", socket.AF_UNIX, "\0" + self.name),
            ("path", socket.AF_UNIX, "/tmp/" + self.name + ".sock"),
        ):
            with contextlib.suppress(OSError):  # a host without IPv6
                s = socket.socket(family, socket.SOCK_STREAM)
                s.bind(address)
                s.listen(8)
                self.listeners[kind] = s
                threading.Thread(target=self._greet, args=(kind, s), daemon=True).start()
        os.chmod("/tmp/" + self.name + ".sock", 0o777)

    def _greet(self, kind, listener):
        with contextlib.suppress(OSError):
            while True:
                visitor = listener.accept()[0]
                self.visits.append(kind)
                with visitor:
                    visitor.sendall(self.token.encode())

    def _ipc(self):
        self.key = int.from_bytes(secrets.token_bytes(3), "big") + 0x1000000
        self.shm = check(libc.shmget(self.key, 4096, 0o1666))
        libc.shmat.restype = ctypes.c_void_p
        at = libc.shmat(self.shm, None, 0)
        ctypes.memmove(at, self.token.encode(), len(self.token))
        self.shm_at = at
        self.mq = None
        with contextlib.suppress(OSError):
            rt = ctypes.CDLL("librt.so.1", use_errno=True)
            old = os.umask(0)
            self.mq = check(rt.mq_open(b"/" + self.name.encode(), os.O_RDWR | os.O_CREAT, 0o666, None))
            os.umask(old)
            check(rt.mq_send(self.mq, self.token.encode(), len(self.token), 0))

    def leaked_fds(self):
        """Two descriptors that the daemon's parent forgot: a secret and the root of the host."""
        secret = os.open(self.dir / "of-root", os.O_RDONLY)
        root = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        fds = []
        for i, fd in enumerate((secret, root)):
            os.dup2(fd, 200 + i)
            os.close(fd)
            fds.append(200 + i)
        return fds

    def public(self, host):
        """What a cell is told, so that it knows where to strike: never the token."""
        victim = None
        for d in host.state.glob("contexts/*"):
            if (d / "workspace" / "victim.txt").exists():
                victim = str(d)
        return {
            "files": [str(f) for f in self.files],
            "dirs": [str(self.dir), str(host.state), str(host.path), str(mount.ROOT), "/root", "/home", "/srv", "/var/lib"],
            "tcp4": self.listeners["tcp4"].getsockname()[1],
            "tcp6": self.listeners["tcp6"].getsockname()[1] if "tcp6" in self.listeners else None,
            "addresses": own_addresses(),
            "name": self.name,
            "shm_key": self.key,
            "victim": victim,
            "pids": [os.getpid(), host.pid, os.getppid()],
        }

    def state(self):
        """The canaries themselves: nobody may have touched them."""
        seen = {}
        for f in self.files:
            st = os.lstat(f)
            seen[str(f)] = (f.read_text(), oct(st.st_mode), st.st_uid, st.st_nlink, st.st_mtime_ns)
        seen["dir"] = sorted(os.listdir(self.dir))
        seen["shm"] = ctypes.string_at(self.shm_at, 64)
        return seen

    def check(self):
        now = self.state()
        changed = [k for k in self.before if now.get(k) != self.before[k]]
        assert not changed, f"canaries were changed: {changed}"
        assert not self.visits, f"somebody came to {self.visits}"

    def close(self):
        libc.shmctl(self.shm, 0, None)
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("librt.so.1").mq_unlink(b"/" + self.name.encode())
        for s in self.listeners.values():
            s.close()
        for f in (*self.files, pathlib.Path("/tmp/" + self.name + ".sock")):
            with contextlib.suppress(OSError):
                f.unlink()
        shutil.rmtree(self.dir, ignore_errors=True)


def own_addresses():
    """The host's addresses that are not its loopback's."""
    got = subprocess.run(["hostname", "-I"], capture_output=True, text=True)
    return got.stdout.split()


# ---- cells as data -------------------------------------------------------------------------------

# By extension: a cell that leaves something in its kernel, one that says whether it is there, what it says then.
KEEP = {
    "py": ("kept = 'as it was'\n", "print(globals().get('kept'))\n", "as it was"),
    "sh": ("kept=1\n", "echo ${kept-gone}\n", "1"),
    "js": ("var kept = 1\n", "console.log(typeof kept)\n", "number"),
    "r": ("kept <- 1\n", "cat(exists('kept'))\n", "TRUE"),
    "java": ('System.setProperty("kept", "1");\n', 'System.out.println(System.getProperty("kept"));\n', "1"),
}
RUNTIME = {"js": "node", "r": "R", "java": "java"}


class Cell:
    """A file of cells/. Its comments `#: key: value` (or `//: key: value`) say what must happen.

    must, must not: in words · status: what the run's status must match, wholly (ok) · config: of its context · within:
    seconds until its end (10) · says: must match in what it printed, or in the reason · next: what the next cell of the
    same context does (ok, or `any`) · state: kept, lost or any · needs: programs · other: yes: another context answers
    meanwhile · hidden: names that the mount does not show · after: names of checks in test_cells · remove: rm or ctl ·
    kinds: root user · old status: what it must match where Landlock does not stop signals (ABI below 6)
    """

    def __init__(self, path):
        self.path = path
        self.name = path.stem
        self.code = path.read_text()
        self.language = path.suffix[1:]
        self.notes = dict(re.findall(r"^(?:#|//): ([a-z ]+): (.*)$", self.code, re.M))
        assert self.notes.get("must"), f"{path.name} does not say what must happen"

    def __getattr__(self, key):
        defaults = {
            "status": "ok", "config": "", "within": "10", "says": "", "next": "ok", "state": "any", "needs": "",
            "other": "", "hidden": "", "after": "", "remove": "ctl", "kinds": "root user", "old_status": "",
        }
        if key not in defaults:
            raise AttributeError(key)
        return self.notes.get(key.replace("_", " "), defaults[key])


def cells(pattern="*"):
    found = []
    for ext in KEEP:
        found += (HERE / "cells").glob(f"{pattern}.{ext}")
    return [Cell(p) for p in sorted(found) if p.stem[0].isdigit()]


def missing(needs):
    """The first of these programs that is not installed."""
    for name in needs.split():
        if not shutil.which(name, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"):
            return name
    return None


LEAK = re.compile(r"^LEAK.*$", re.M)
GUARD = "not in a box"
struct, errno  # used by the tests through this module
