"""box without a box: the supervisor of a kernel (fsd/box/end.c), as the daemon runs it with sandbox=none and, with
Landlock, the seccomp programs and limits, with sandbox=weak. A wait is a read that ends."""
import contextlib
import ctypes
import fcntl
import glob
import json
import os
import pathlib
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import textwrap
import time

import pytest

import boxes

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BOX = os.path.join(os.environ.get("CELLFS_BUILD", os.path.join(ROOT, "build")), "box")
PYTHON = "/usr/bin/python3"
LIMIT = int(os.environ.get("CELLFS_PATIENCE", "20"))  # seconds until a wait is a failure
PR_SET_CHILD_SUBREAPER = 36


def high(fd):
    new = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(fd)
    return new


def read_all(fd, limit=LIMIT):
    """Until the end of file: every process that had the other end is gone."""
    data, end = b"", time.monotonic() + limit
    while True:
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            raise AssertionError("no end of file; so far: %r" % data[-500:])
        part = os.read(fd, 65536)
        if not part:
            return data
        data += part


class Box:
    """One box with all its pipes. `self.r` has our ends of what it writes, `self.w` the others."""

    def __init__(self, *argv, binary=None, env=None, cwd=None, strangers=0, prepare=None, options=()):
        self.r, self.w, child = {}, {}, {}
        for fd in (1, 2, 4, "report"):
            self.r[fd], child[fd] = map(high, os.pipe())
        for fd in (3, 5, 6, "lifeline"):
            child[fd], self.w[fd] = map(high, os.pipe())
        child[0] = high(os.open("/dev/null", os.O_RDONLY))
        args = [binary or BOX, "--lifeline=%d" % child["lifeline"],
                "--report=%d" % child["report"], *options]
        args += (["--cwd=" + cwd] if cwd else []) + ["--", *argv]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for fd in range(7):
                    os.dup2(child[fd], fd)
                for k in ("report", "lifeline"):
                    os.set_inheritable(child[k], True)
                for i in range(strangers):
                    os.dup2(0, 200 + 3 * i)
                if prepare:
                    prepare()
                os.execve(args[0], args, {"PATH": "/usr/bin:/bin"} if env is None else env)
            finally:
                os._exit(99)
        for fd in child.values():
            os.close(fd)
        self.pidfd = os.pidfd_open(self.pid)
        self.status = None

    def kill(self, sig):
        signal.pidfd_send_signal(self.pidfd, sig)

    def drop_lifeline(self):
        os.close(self.w.pop("lifeline"))

    def line(self, fd, limit=LIMIT):
        out = b""
        while not out.endswith(b"\n"):
            assert select.select([self.r[fd]], [], [], limit)[0], "nothing to read: %r" % out
            c = os.read(self.r[fd], 1)
            assert c, "ended after %r" % out
            out += c
        return out.decode().rstrip("\n")

    def wait(self, limit=LIMIT):
        """Box's own exit status, when everything is gone."""
        if self.status is None:
            assert select.select([self.pidfd], [], [], limit)[0], "box does not end"
            self.status = os.waitpid(self.pid, 0)[1]
        return os.waitstatus_to_exitcode(self.status)

    def report(self):
        assert self.wait() == 0
        lines = read_all(self.r["report"]).decode().splitlines()
        assert lines[0].startswith("started "), lines
        return lines[1:]

    def close(self):
        if self.status is None:
            if "lifeline" in self.w:
                self.drop_lifeline()
            if not select.select([self.pidfd], [], [], 5)[0]:
                self.kill(signal.SIGKILL)
            os.waitpid(self.pid, 0)
        for fd in [*self.r.values(), *self.w.values(), self.pidfd]:
            os.close(fd)


@pytest.fixture(scope="session")
def binaries(tmp_path_factory):
    """The box, and one that has to find descendants without CONFIG_PROC_CHILDREN."""
    scan = str(tmp_path_factory.mktemp("box") / "box-scan")
    subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-static", "-O2", '-DPROC_CHILDREN="/nowhere"', "-o", scan,
                    *sorted(glob.glob(os.path.join(ROOT, "fsd", "box", "*.c"))), "-lseccomp"], check=True)
    return {"lists": BOX, "scan": scan}


@pytest.fixture(params=["lists", "scan"])
def binary(request, binaries):
    return binaries[request.param]


@pytest.fixture
def box():
    with contextlib.ExitStack() as stack:
        def make(*argv, **kw):
            b = Box(*argv, **kw)
            stack.callback(b.close)
            return b
        yield make


def python(code):
    return PYTHON, "-I", "-S", "-c", textwrap.dedent(code)


def alive(pid):
    try:
        with open("/proc/%s/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- start and end ---

@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code_is_reported(box, code):
    assert box("sh", "-c", "exit %d" % code).report() == ["exited %d" % code]


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGINT])
def test_signal_is_reported(box, sig):
    assert box("sh", "-c", "kill -%d $$" % sig).report() == ["signaled %d" % sig]


def test_started_line_has_the_pid_of_the_program(box):
    b = box("sh", "-c", "echo $$; read x <&3")
    assert b.line("report") == "started " + b.line(1)


def test_a_program_that_is_missing_fails_with_the_reason(box):
    assert box("no-such-program").report() == [
        "failed cannot run no-such-program: No such file or directory"]


def test_a_program_that_is_no_executable_fails_with_the_reason(box):
    assert box("/etc/passwd").report() == ["failed cannot run /etc/passwd: Permission denied"]


def test_a_directory_that_is_missing_fails_with_the_reason(box):
    assert box("true", cwd="/no/where").report() == [
        "failed cannot enter /no/where: No such file or directory"]


def test_a_report_is_one_line_whatever_the_name(box):
    assert box("a\nb").report() == ["failed cannot run a?b: No such file or directory"]
    (line,) = box("x" * 5000).report()
    assert line.startswith("failed cannot run xxx") and len(line) < 512


def test_cwd_is_the_one_given(box, tmp_path):
    b = box("pwd", "-P", cwd=str(tmp_path))
    assert read_all(b.r[1]).decode() == "%s\n" % tmp_path.resolve()


def test_cwd_is_inherited_when_none_is_given(box):
    assert read_all(box("pwd", "-P").r[1]).decode() == os.getcwd() + "\n"


def test_arguments_reach_the_program_unchanged(box):
    b = box(PYTHON, "-I", "-c", "import sys; print(sys.argv[1:])", "--lifeline=3", "", "a b", "--")
    assert read_all(b.r[1]).decode() == "['--lifeline=3', '', 'a b', '--']\n"


@pytest.mark.parametrize("args", [
    [], ["--lifeline=7"], ["--lifeline=7", "--report=8"], ["--lifeline=7", "--report=8", "--"],
    ["--lifeline=7", "--report=7", "--", "true"], ["--lifeline=3", "--report=8", "--", "true"],
    ["--lifeline=7", "--report=99", "--", "true"], ["--lifeline=7x", "--report=8", "--", "true"],
    ["--lifeline=7", "--report=8", "--what", "--", "true"], ["--lifeline", "--report=8", "true"],
    ["--lifeline=7", "--report=8", "--cwd"],
])
def test_bad_usage_is_exit_2_and_a_usage_line(args):
    sh = 'exec 3<&0 4<&0 5<&0 6<&0 7<&0 8<&0; exec "$@"'
    r = subprocess.run(["bash", "-c", sh, "-", BOX, *args], stdin=subprocess.DEVNULL,
                       capture_output=True, text=True)
    assert r.returncode == 2 and r.stderr.startswith("usage: box filters"), r
    assert r.stdout == ""


def test_a_gap_below_7_is_bad_usage():
    r = subprocess.run(["bash", "-c", 'exec 3<&0 4<&0 5<&0 7<&0 8<&0; exec "$@"', "-", BOX,
                        "--lifeline=7", "--report=8", "--", "true"], stdin=subprocess.DEVNULL)
    assert r.returncode == 2


# --- what the program is given ---

def test_the_program_has_exactly_fds_0_to_6(box):
    b = box(*python("""
        import os
        print(sorted(int(f) for f in os.listdir('/proc/self/fd'))[:-1])  # the last is listdir's own
        for f in (3, 5, 6): assert os.read(f, 1) == b'%d' % f
        os.write(4, b'events'); os.write(2, b'err')
        assert os.read(0, 1) == b''
    """), strangers=20)
    for fd in (3, 5, 6):
        os.write(b.w[fd], b"%d" % fd)
    assert read_all(b.r[1]) == b"[0, 1, 2, 3, 4, 5, 6]\n"
    assert read_all(b.r[4]) == b"events" and read_all(b.r[2]) == b"err"
    assert b.report() == ["exited 0"]


@pytest.mark.parametrize("env", [{}, {"A": "1", "PATH": "/usr/bin", "B": "x y\nz", "C": ""}])
def test_the_environment_is_exact(box, env):
    b = box("/usr/bin/env", "-0", env=env)
    assert sorted(read_all(b.r[1]).decode().split("\0")) == sorted(
        ["%s=%s" % kv for kv in env.items()] + [""])


def inherit_bad_signals():
    for sig in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))


def status_of(pid):
    with open("/proc/%s/status" % pid) as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def test_the_program_has_default_signals_but_sigxfsz(box):
    b = box("cat", "/proc/self/status", prepare=inherit_bad_signals)
    lines = read_all(b.r[1]).decode().splitlines()
    s = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert int(s["SigBlk"], 16) == 0 and int(s["SigCgt"], 16) == 0
    assert int(s["SigIgn"], 16) == 1 << signal.SIGXFSZ - 1
    assert b.report() == ["exited 0"]


def test_the_program_leads_its_own_session_and_box_another(box):
    b = box("sh", "-c", "echo; read x <&3")
    pid = int(b.line("report").split()[1])
    b.line(1)  # `started` comes from box, perhaps before the new process has done anything
    assert os.getsid(pid) == os.getpgid(pid) == pid
    assert os.getsid(b.pid) == b.pid


def test_no_core_files(box):
    b = box("bash", "-c", "ulimit -Hc; ulimit -Sc")
    assert read_all(b.r[1]) == b"0\n0\n"


def test_the_program_dies_with_box(box):
    b = box("sh", "-c", "trap '' INT TERM HUP; while :; do read x <&3; done")
    b.line("report")
    b.kill(signal.SIGKILL)
    read_all(b.r[1])
    assert b.wait() == -signal.SIGKILL


def test_box_cannot_be_looked_into_by_its_own_user(box):
    """What may not be read, the memory, the environment and the fds, belongs to root in /proc."""
    def become_nobody():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
    with tempfile.TemporaryDirectory() as d:  # pytest's own directories are closed to others
        os.chmod(d, 0o755)
        b = box("sh", "-c", "echo; read x <&3", binary=shutil.copy(BOX, d), prepare=become_nobody)
        b.line(1)
        for name in ("mem", "environ", "fd"):
            assert os.stat("/proc/%d/%s" % (b.pid, name)).st_uid == 0
        assert status_of(b.pid)["Uid"].split()[0] != "0"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user cannot look into box")
def test_box_keeps_no_pipe_and_no_directory(box, tmp_path):
    b = box("sh", "-c", "echo; read x <&3", cwd=str(tmp_path))
    b.line("report"), b.line(1)
    boxes.in_its_loop(b.w["lifeline"])  # it says `started` before it closes the pidfd that goes with it
    fds = {int(f): os.readlink("/proc/%d/fd/%s" % (b.pid, f))
           for f in os.listdir("/proc/%d/fd" % b.pid)}
    assert [fds.get(f) for f in range(7)] == ["/dev/null"] * 3 + [None] * 4
    # lifeline, report, signalfd, and the pipe by which a failed exec would have been told
    assert sorted(v.split(":")[0] for f, v in fds.items() if f > 6) == [
        "anon_inode", "pipe", "pipe", "pipe"]
    assert os.readlink("/proc/%d/cwd" % b.pid) == "/"


def test_pipes_end_when_the_program_closes_them_while_box_lives(box):
    b = box("bash", "-c", "exec 1>&- 2>&- 4>&-; read x <&3")
    for fd in (1, 2, 4):
        assert read_all(b.r[fd]) == b""
    assert alive(b.pid)


def test_box_is_idle_while_nothing_happens(box):
    b = box("sh", "-c", "echo; read x <&3")
    b.line("report"), b.line(1)
    boxes.in_its_loop(b.w["lifeline"])
    os.write(b.w["lifeline"], b"x" * 100)  # data on the lifeline means nothing, and is taken
    def ticks():
        with open("/proc/%d/stat" % b.pid) as f:
            return sum(map(int, f.read().rpartition(")")[2].split()[11:13]))
    before = ticks()
    assert not select.select([b.pidfd], [], [], 0.5)[0]
    assert ticks() - before <= 2


# --- signals ---

def test_sigint_for_the_drivers_group_leaves_box_alone(box):
    """The daemon signals the group itself: nothing is forwarded, and box is not in it."""
    b = box("sh", "-c", "sleep 1000 & echo; read x <&3")
    pid = int(b.line("report").split()[1])
    b.line(1)
    os.killpg(pid, signal.SIGINT)
    assert b.line("report") == "signaled 2" and b.wait() == 0


def test_other_signals_do_not_harm_box(box):
    b = box("sh", "-c", "echo; read x <&3; exit 5")
    b.line(1)
    for sig in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGPIPE, signal.SIGTSTP,
                signal.SIGALRM, 34, 64):
        b.kill(sig)
    os.write(b.w[3], b"\n")
    assert b.report() == ["exited 5"]


# --- nothing outlives it ---

# Double-forks, leaves session and group, blocks and ignores all there is, loses its PDEATHSIG.
HARD_TO_KILL = """
    import ctypes, os, signal, sys
    def daemon(n):
        if os.fork(): return os.wait()
        os.setsid()
        if os.fork(): os._exit(0)
        ctypes.CDLL(None).prctl(1, 0)
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        print(os.getpid(), flush=True)
        if n: os.kill(os.getpid(), signal.SIGSTOP)
        while True: signal.pause()
    for n in range(2): daemon(n)
"""


def hard_to_kill(box, binary, end):
    b = box(*python(HARD_TO_KILL + textwrap.indent(end, "    ")), binary=binary)
    pids = [int(b.line(1)), int(b.line(1))]
    assert all(map(alive, pids))
    return b, pids


@pytest.mark.parametrize("how", ["lifeline", "SIGTERM"])
def test_everything_dies(box, binary, how):
    b, pids = hard_to_kill(box, binary, "while True: signal.pause()")
    b.drop_lifeline() if how == "lifeline" else b.kill(signal.SIGTERM)
    assert b.report() == ["signaled 9"]
    assert not any(map(alive, pids))
    assert read_all(b.r[1]) == read_all(b.r[4]) == b""


def test_what_the_program_leaves_dies_after_its_end_is_reported(box, binary):
    b, pids = hard_to_kill(box, binary, "os.read(3, 1); sys.exit(3)")
    os.write(b.w[3], b"x")
    assert b.report() == ["exited 3"]
    assert not any(map(alive, pids))
    assert read_all(b.r[1]) == b""


def test_background_jobs_of_a_shell_die_with_it(box):
    b = box("bash", "-c", "set -m; sleep 1000 & nohup sleep 1000 & (setsid sleep 1000 &) ; exit 4")
    assert b.report() == ["exited 4"]
    assert read_all(b.r[1], 2) == b""


def test_a_program_that_is_stopped_dies(box):
    b = box("sh", "-c", "echo; kill -STOP $$")
    b.line(1)
    b.drop_lifeline()
    assert b.report() == ["signaled 9"]


def test_children_of_threads_and_of_other_subreapers_die(box, binary):
    b = box(*python("""
        import ctypes, os, signal, threading
        ctypes.CDLL(None).prctl(%d, 1)
        def work():
            if os.fork() == 0:
                if os.fork(): os._exit(0)
                print(os.getpid(), flush=True)
                while True: signal.pause()
            threading.Event().wait()
        for i in range(3): threading.Thread(target=work).start()
    """ % PR_SET_CHILD_SUBREAPER), binary=binary)
    pids = [int(b.line(1)) for i in range(3)]
    b.kill(signal.SIGTERM)
    assert b.report() == ["signaled 9"]
    assert not any(map(alive, pids))


def test_a_deep_chain_of_processes_dies(box, binary):
    b = box(*python("""
        import os, signal
        for depth in range(200):
            if os.fork(): break
        else: print('deep', flush=True)
        while True: signal.pause()
    """), binary=binary)
    assert b.line(1) == "deep"
    b.kill(signal.SIGTERM)
    assert b.report() == ["signaled 9"]
    assert read_all(b.r[1]) == b""


BOMB = r"""
/* Keeps LIMIT processes alive: whoever finds a free place forks, and half of them die at once; the first one stays, it is the
 * test's to kill. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	int limit = argc > 1 ? atoi(argv[1]) : 100;
	atomic_int *n = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int first = getpid();
	time_t end = time(0) + 60; /* for the case that box does not work */
	signal(SIGCHLD, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	*n = 1;
	for (unsigned turn = 0; time(0) < end; turn++) {
		if (atomic_fetch_add(n, 1) >= limit) {
			atomic_fetch_sub(n, 1);
			if (turn % 64 == 63 && getpid() != first && atomic_load(n) > limit / 2) {
				atomic_fetch_sub(n, 1); /* make room: an orphan maker for box */
				_exit(0);
			}
			if (write(1, "f", 1)) {}
			usleep(500);
			continue;
		}
		int pid = fork();
		if (pid < 0)
			atomic_fetch_sub(n, 1);
		if (pid == 0 && turn % 3 == 0)
			setsid();
	}
	return 0;
}
"""


@pytest.fixture(scope="session")
def bomb(tmp_path_factory):
    d = tmp_path_factory.mktemp("bomb")
    (d / "bomb.c").write_text(BOMB)
    subprocess.run(["gcc", "-O2", "-o", str(d / "bomb"), str(d / "bomb.c")], check=True)
    return str(d / "bomb")


@pytest.mark.parametrize("limit", [20, 400])
@pytest.mark.parametrize("how", ["lifeline", "main child"])
def test_a_fork_bomb_converges(box, binary, bomb, limit, how):
    b = box(bomb, str(limit), binary=binary)
    pid = int(b.line("report").split()[1])
    assert os.read(b.r[1], 1) == b"f"  # it has reached its limit once
    os.set_blocking(b.r[1], False)
    start = time.monotonic()
    b.drop_lifeline() if how == "lifeline" else os.kill(pid, signal.SIGKILL)
    os.set_blocking(b.r[1], True)
    read_all(b.r[1])  # the end of file: none is left that could write
    assert b.wait() == 0
    assert time.monotonic() - start < LIMIT


def test_a_hundred_boxes_die_when_their_holder_is_killed(tmp_path):
    """The holder has all lifelines, as the daemon does; it gets a SIGKILL and can do nothing."""
    libc = ctypes.CDLL(None)
    r, w = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096,) * 2)
            inner = "setsid sh -c 'trap \"\" 1 2 15; echo; exec sleep 1000' & echo; sleep 1000"
            boxes = [Box("sh", "-c", inner) for i in range(100)]
            for b in boxes:
                b.line(1), b.line(1)
            os.write(w, b"".join(b"%d " % b.pid for b in boxes))
            os.write(w, b"\n")
            signal.pause()
        finally:
            os._exit(1)
    os.close(w)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # so that their ends can be waited for here
    try:
        pids = b""
        while not pids.endswith(b"\n"):
            part = os.read(r, 65536)
            assert part
            pids += part
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)  # only now are all boxes ours: it closes its fds some time before
        end = time.monotonic() + LIMIT
        for pid in map(int, pids.split()):
            fd = os.pidfd_open(pid)
            assert select.select([fd], [], [], max(0, end - time.monotonic()))[0], "box lives on"
            os.close(fd)
            assert os.waitpid(pid, 0)[1] == 0
        with pytest.raises(ChildProcessError):  # nothing else was left to us
            os.waitpid(-1, 0)
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        os.close(r)


# --- the report pipe ---

def test_a_full_report_pipe_blocks_nothing(box):
    b = box("sh", "-c", "read x <&3; exit 1")
    b.line("report")
    fd = os.open("/proc/%d/fd/%d" % (os.getpid(), b.r["report"]), os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x" * 4096)
    os.close(fd)
    os.write(b.w[3], b"\n")
    assert b.wait() == 0


def test_a_report_pipe_without_reader_harms_nothing(box):
    b = box("sh", "-c", "read x <&3; exit 1")
    b.line("report")
    os.close(b.r.pop("report"))
    os.write(b.w[3], b"\n")
    assert b.wait() == 0


def test_the_report_comes_before_the_rest_is_gone(box):
    b = box(*python("""
        import os, signal
        if os.fork() == 0:
            while True: signal.pause()
    """))
    b.line("report")
    assert b.line("report") == "exited 0"
    assert b.wait() == 0


def test_a_report_that_is_a_socket_carries_a_pidfd_of_the_program():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    r, w = os.pipe()
    go, gone = os.pipe()
    with ours:
        pid = os.fork()
        if pid == 0:
            try:
                for fd in range(7):
                    os.dup2(go, fd)
                os.dup2(r, 7)
                os.dup2(theirs.fileno(), 8)
                os.closerange(9, 100)
                os.execve(BOX, ["box", "--lifeline=7", "--report=8", "--", "/bin/sh", "-c", "read x"], {})
            finally:
                os._exit(99)
        theirs.close()
        for fd in (r, go):
            os.close(fd)
        line, (fd,) = boxes.recv(ours)
        assert line == "started %d" % boxes.pid_of(fd)
        os.close(gone)
        assert boxes.recv(ours) == ("exited 1", [])
        assert select.select([fd], [], [], LIMIT)[0]
        assert boxes.recv(ours) == ("", [])
        assert os.waitpid(pid, 0)[1] == 0
        for fd in (fd, w):
            os.close(fd)


# --- weak: no namespaces, but Landlock, seccomp and limits ---

@pytest.fixture
def weak(box, makers):
    """Runs Python that prints JSON, with a directory to write and one to read below `run.place`."""
    place = pathlib.Path(tempfile.mkdtemp(dir=makers.directory))
    for d in (place / "rw", place / "ro", place / "no"):
        d.mkdir()
        (d / "file").write_text(d.name)
    for path in (place, *place.rglob("*")):
        os.chown(path, makers.uid or -1, -1)
    options = ["--weak", "--rw=%s/rw" % place, "--ro=%s/ro" % place, "--rw=/dev/null", "--ro=/no/where"]
    options += ["--ro=" + d for d in ("/usr", "/bin", "/lib", "/lib64", "/etc/ld.so.cache", "/proc")]

    def prepare():
        for i, fd in enumerate(makers.filters):
            os.dup2(fd, boxes.FILTERS + i)
        makers.become()

    def run(code, *more, fails=False):
        helpers = """
            import errno, json, os, resource, socket, sys
            def no(fn, *args):
                try: fn(*args)
                except OSError as e: return errno.errorcode[e.errno]
                return 'OK'
        """
        b = box(*python(textwrap.dedent(helpers) + textwrap.dedent(code)), options=options + list(more), cwd=str(place / "rw"),
                env={"D": str(place)}, binary=makers.box, prepare=prepare)
        out = read_all(b.r[1])
        result = b.report()
        assert result == ["exited 0"], (result, read_all(b.r[2]))
        return json.loads(out)

    run.place = place
    return run


needs_landlock = pytest.mark.skipif(boxes.landlock_abi() < 1, reason="no Landlock in this kernel")


@needs_landlock
def test_weak_keeps_the_files_that_are_not_named(weak):
    got = weak("""
        d = os.environ['D']
        w = lambda p: open(p, 'w')
        print(json.dumps([
            no(open, d + '/no/file'), no(os.listdir, d + '/no'), no(os.listdir, '/'), no(open, '/etc/passwd'),
            no(w, d + '/no/new'), no(w, d + '/new'), no(os.unlink, d + '/no/file'), no(os.listdir, '/root'),
            no(w, d + '/ro/file'), no(w, d + '/ro/new'), no(os.mkdir, d + '/ro/new'), no(os.unlink, d + '/ro/file'),
            no(os.rename, d + '/rw/file', d + '/ro/moved'), no(os.symlink, 'x', d + '/ro/link'),
            no(open, d + '/ro/file'), no(open, '/usr/bin/env'), no(os.listdir, d + '/ro'),
            no(w, d + '/rw/new'), no(os.mkdir, d + '/rw/dir'), no(os.rename, d + '/rw/new', d + '/rw/dir/moved'),
            no(os.unlink, d + '/rw/dir/moved'), no(w, '/dev/null'), no(open, '/dev/zero')]))
    """)
    assert got == ["EACCES"] * 12 + [got[12], "EACCES"] + ["OK"] * 3 + ["OK", "OK", got[19], got[20], "OK", "EACCES"]
    assert got[12] in ("EACCES", "EXDEV")
    assert got[19:21] == (["OK", "OK"] if boxes.landlock_abi() >= 2 else ["EXDEV", "ENOENT"])
    assert (weak.place / "no" / "file").read_text() == "no" and (weak.place / "ro" / "file").read_text() == "ro"


@pytest.mark.skipif(boxes.landlock_abi() < 4, reason="Landlock of this kernel knows no TCP")
def test_weak_has_no_tcp(weak):
    with socket.create_server(("127.0.0.1", 0)) as s:
        assert weak("""
            s = lambda: socket.socket()
            print(json.dumps([no(s().connect, ('127.0.0.1', %d)), no(s().bind, ('127.0.0.1', 0))]))
        """ % s.getsockname()[1]) == ["EACCES", "EACCES"]


@pytest.mark.skipif(boxes.landlock_abi() < 6, reason="Landlock of this kernel knows no scopes")
def test_weak_reaches_no_abstract_socket_and_signals_nobody_else(weak):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("\0cellfs-test-%d" % os.getpid())
        s.listen()
        assert weak("""
            print(json.dumps([no(socket.socket(socket.AF_UNIX).connect, '\\0cellfs-test-%d'), no(os.kill, %d, 0),
                              no(os.kill, os.getppid(), 9), no(os.kill, os.getpid(), 0)]))
        """ % (os.getpid(), os.getpid())) == ["EPERM", "EPERM", "EPERM", "OK"]


@needs_landlock
def test_weak_is_under_the_seccomp_programs(weak):
    assert weak("""
        import ctypes, fcntl
        libc = ctypes.CDLL(None, use_errno=True)
        status = dict(l[:-1].split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)
        def call(*args): return libc.syscall(*args), errno.errorcode.get(ctypes.get_errno())
        print(json.dumps([status['Seccomp'], status['NoNewPrivs'], call(435, 0, 0), call(272, 0x10000000),
                          no(fcntl.ioctl, 0, 0x5412, b'x'), no(socket.socket, 40)]))
    """) == ["2", "1", [-1, "ENOSYS"], [-1, "EPERM"], "EPERM", "EAFNOSUPPORT"]


@needs_landlock
def test_weak_has_limits(weak):
    assert weak("""
        print(json.dumps([resource.getrlimit(r) for r in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE,
            resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE, resource.RLIMIT_NICE)]))
    """, "--data=300000000", "--fsize=1000000", "--files=100", "--processes=500") == [
        [300000000] * 2, [1000000] * 2, [100] * 2, [500] * 2, [0, 0], [0, 0]]


@needs_landlock
def test_weak_without_programs_fails_and_runs_nothing(box, tmp_path):
    b = box("touch", str(tmp_path / "x"), options=["--weak", "--rw=%s" % tmp_path])
    assert b.wait() == 0
    assert read_all(b.r["report"]).startswith(b"failed cannot be confined: ")
    assert not (tmp_path / "x").exists()
