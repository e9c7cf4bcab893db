"""A kernel in a box (fsd/box/join.c, lock.c, check.c): whose child it is, what it is told of, what it may do to the other
kernels of its box, and what ends it."""
import contextlib
import errno
import os
import resource
import select
import signal
import socket
import struct
import time

import pytest

import boxes
from boxes import NS, alive, python

ROOT = os.geteuid() == 0
ABI = boxes.landlock_abi()
needs_scopes = pytest.mark.skipif(ABI < 6, reason="Landlock of this kernel knows no scopes")
needs_landlock = pytest.mark.skipif(ABI < 1, reason="no Landlock in this kernel")
WAITS = ["/bin/sh", "-c", "echo; read x <&3"]


@pytest.fixture
def box(makers):
    """A box of its own for each test: what one leaves is not in the next."""
    yield makers.up()
    makers.stack.close()
    makers.stack = contextlib.ExitStack()


def stat(pid):
    with open("/proc/%d/stat" % pid) as f:
        return f.read().rpartition(")")[2].split()


# ---- whose child, and what is told ----

def test_the_supervisor_is_the_child_of_who_started_the_launcher(box):
    k = box.join(*WAITS)
    k.line()
    assert k.launcher_exit == 0
    assert [m.split()[0] for m in k.said] == ["joined", "started"]
    assert int(stat(k.pid)[1]) == os.getpid() and int(stat(k.driver)[1]) == k.pid
    assert int(stat(k.driver)[3]) == k.driver and int(stat(k.pid)[3]) != k.driver  # sessions
    for name in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
        assert boxes.namespace(k.driver, name) == boxes.namespace(box.pid, name)
    os.write(k.put, b"\n")
    assert k.result() == "exited 0" and k.exit == 0


def test_the_pidfd_is_the_drivers(box):
    k = box.join(*WAITS)
    k.line()
    inside = int(k.said[1].split()[1])
    with open("/proc/%d/status" % k.driver) as f:
        assert next(line.split()[1:] for line in f if line.startswith("NSpid:")) == [str(k.driver), str(inside)]
    signal.pidfd_send_signal(k.pidfd, signal.SIGKILL)
    assert k.result() == "signaled 9"
    assert select.select([k.pidfd], [], [], 0)[0]


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_codes(box, code):
    assert box.join("/bin/sh", "-c", "exit %d" % code).result() == "exited %d" % code


@pytest.mark.parametrize("sig", ["KILL", "TERM", "INT", "SEGV", "HUP"])
def test_signals(box, sig):
    assert box.join("/bin/sh", "-c", "kill -%s $$" % sig).result() == "signaled %d" % getattr(signal, "SIG" + sig)


@pytest.mark.parametrize("argv, cwd, text", [
    (["/bin/true"], "/no/where", "failed cannot enter /no/where: No such file or directory"),
    (["/bin/true"], "/etc/passwd", "failed cannot enter /etc/passwd: Not a directory"),
    (["/no/program"], "/", "failed cannot run /no/program: No such file or directory"),
    (["/etc/passwd"], "/", "failed cannot run /etc/passwd: Permission denied"),
])
def test_what_cannot_be_run_is_told(box, argv, cwd, text):
    k = box.join(*argv, cwd=cwd)
    assert k.result() == text and k.said[0].startswith("joined ") and k.exit == 0


def test_what_is_no_namespace_is_told(box):
    with open("/dev/null") as null:
        k = box.join("/bin/true", namespaces=[null.fileno()] + box.fds[1:NS])
        assert k.result() == "failed enter the user namespace: Invalid argument" and k.launcher_exit == 1
        k = box.join("/bin/true", namespaces=box.fds[:4] + [null.fileno()] + box.fds[5:NS])
        assert k.result() == "failed enter the ipc namespace: Invalid argument"


def test_a_box_that_has_ended_cannot_be_joined(box):
    fds = box.fds[:NS]
    box.end()
    k = box.join("/bin/true", namespaces=fds)
    assert k.result() == "failed start a process in the box: Cannot allocate memory"


def test_without_programs_nothing_runs(box):
    with open("/dev/null") as null:
        k = box.join("/bin/true", fds={16: null.fileno()})
    assert k.result() == "failed seccomp: Invalid argument" and not k.started


def test_it_starts_with_default_signals_and_not_at_its_parents_mercy(box):
    def bad():
        for s in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE, signal.SIGTERM):
            signal.signal(s, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    k = box.join("/bin/cat", "/proc/self/status", prepare=bad)
    s = dict(line.split(":\t", 1) for line in boxes.read_all(k.out).decode().splitlines() if ":\t" in line)
    assert int(s["SigBlk"], 16) == int(s["SigCgt"], 16) == 0 and int(s["SigIgn"], 16) == 1 << signal.SIGXFSZ - 1
    assert k.result() == "exited 0"


def test_the_host_would_rather_kill_a_cell_than_the_daemon(box):
    assert box.run("print(r('/proc/self/oom_score_adj').decode())") == 500


# ---- limits ----

def test_limits_inside(box):
    names = "DATA FSIZE NOFILE NPROC CORE MSGQUEUE SIGPENDING MEMLOCK RTPRIO NICE".split()
    got = box.run("""
        import resource
        print(json.dumps([resource.getrlimit(getattr(resource, 'RLIMIT_' + n, dict(NICE=13).get(n, 0))) for n in %r]))""" % (
        [n for n in names if hasattr(resource, "RLIMIT_" + n)],),
        limits={"data": 400 << 20, "fsize": 1 << 20, "processes": 50, "files": 77})
    want = {"DATA": 400 << 20, "FSIZE": 1 << 20, "NOFILE": 77, "NPROC": 50, "CORE": 0, "MSGQUEUE": 1 << 20, "SIGPENDING": 4096,
            "MEMLOCK": 8 << 20, "RTPRIO": 0, "NICE": 0}
    for n, limits in zip([n for n in names if hasattr(resource, "RLIMIT_" + n)], got):
        assert limits[0] == limits[1] <= want[n] and (n in ("MEMLOCK", "MSGQUEUE", "SIGPENDING") or limits[0] == want[n]), n


def test_limits_bite_and_cannot_be_raised(box):
    assert box.run("""
        import resource
        def raise_it(): resource.setrlimit(resource.RLIMIT_NOFILE, (2000, 2000))
        def memory():
            try: bytearray(600 << 20)
            except MemoryError: raise OSError(errno.ENOMEM, '')
        def big():
            with open('/workspace/big', 'wb', 0) as f:
                for i in range(3): f.write(bytes(1 << 20))
        def files():
            keep = [os.open('/dev/null', 0) for i in range(2000)]
        def raised():
            try: raise_it()
            except ValueError: return 'no'
        print(json.dumps([raised(), no(memory), no(big), os.path.getsize('/workspace/big'), no(files)]))
    """, limits={"fsize": 1 << 20}) == ["no", "ENOMEM", "EFBIG", 1 << 20, "EMFILE"]


FORK = """
    import os, time
    n = 0
    try:
        while n < 200:
            if os.fork() == 0:
                os.read(3, 1)
                os._exit(0)
            n += 1
    except OSError as e: print(n, e.errno, flush=True)
    os.read(3, 1)
"""


def test_processes_are_counted_for_each_box_alone(makers, box):
    """Three boxes of one uid."""
    all_boxes = [box, makers.up(workspace=False), makers.up(workspace=False)]
    kernels = [b.join(*python(FORK), cwd="/", limits={"processes": 30}) for b in all_boxes]
    for k in kernels:
        n, err = map(int, k.line().split())
        assert 25 <= n < 30 and err == errno.EAGAIN


def test_a_full_box_says_that_it_is(box):
    k = box.join(*python(FORK), limits={"processes": 30})
    k.line()
    full = box.join("/bin/true", limits={"processes": 30})
    assert full.result() in ("failed start a process in the box: Resource temporarily unavailable",
                             "failed cannot start a process: Resource temporarily unavailable",
                             "failed cannot run /bin/true: Resource temporarily unavailable")
    assert not full.started or full.said[-1].startswith("failed cannot run")
    k.drop_lifeline()
    assert k.result() == "signaled 9"
    assert box.join("/bin/true", limits={"processes": 30}).result() == "exited 0"


# ---- several kernels of one box ----

# A kernel with a child, each with something to hide; and what another kernel of the box, of the same uid, tries.
VICTIM = """
    import os, signal, sys
    if os.fork() == 0:
        while True: signal.pause()
    secret = os.open('/workspace', os.O_TMPFILE | os.O_RDWR, 0o600)
    os.environ['SECRET'] = 'x'
    print('ready', flush=True)
    os.read(3, 1)
"""
TRY = """
    me = {os.getpid(), os.getppid()}
    others = sorted(int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) not in me | {1})
    got = {}
    for p in others:
        d = '/proc/%d/' % p
        got[p] = {f: no(r, d + f) for f in ('mem', 'environ', 'maps', 'auxv', 'stack', 'syscall')}
        got[p]['mem-w'] = no(w, d + 'mem')
        got[p].update({f: no(os.listdir, d + f) for f in ('map_files', 'cwd/', 'root/')})
        got[p].update({f: no(os.readlink, d + f) for f in ('exe', 'cwd', 'root', 'ns/mnt')})
        try: fds = os.listdir(d + 'fd')  # Linux shows the numbers, nothing behind them
        except OSError: fds = range(9)
        for f in fds:
            got[p]['fd%s' % f] = no(r, d + 'fd/%s' % f)
            got[p]['link%s' % f] = no(os.readlink, d + 'fd/%s' % f)
            got[p]['info%s' % f] = no(r, d + 'fdinfo/%s' % f)
        got[p]['ptrace'] = call(101, 16, p, 0, 0)
        got[p]['vm'] = call(310, p, 0, 0, 0, 0, 0)
        got[p]['pidfd_getfd'] = call(438, os.pidfd_open(p), 0, 0)
    print(json.dumps(got))
"""


@needs_landlock
def test_kernels_of_one_box_cannot_look_into_each_other(box):
    v = box.join(*python(VICTIM))
    assert v.line() == "ready"
    got = box.run(TRY)
    assert len(got) == 3  # supervisor, driver, its child
    for p, answers in got.items():
        assert set(answers.values()) <= {"EACCES", "EPERM"}, (p, answers)
    os.write(v.put, b"x")
    assert v.result() == "exited 0"


@needs_landlock
def test_a_kernel_looks_into_its_own_children(box):
    assert box.run("""
        pid = os.fork()
        if pid == 0: signal.pause()
        d = '/proc/%d/' % pid
        print(json.dumps([no(r, d + 'environ'), no(os.listdir, d + 'fd'), no(os.kill, pid, 9)]))
    """) == ["OK"] * 3


@needs_scopes
def test_kernels_of_one_box_cannot_signal_each_other_nor_a_supervisor(box):
    v = box.join(*python(VICTIM))
    assert v.line() == "ready"
    assert set(box.run("""
        got = []
        for p in [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid())]:
            got += [no(os.kill, p, s) for s in (0, 2, 9, 15, 19)]
            got.append(no(signal.pidfd_send_signal, os.pidfd_open(p), 9))
            got.append(no(os.killpg, p, 9))
        print(json.dumps(got))
    """)) <= {"EPERM", "ESRCH"}
    k = box.join("/bin/sh", "-c", "kill -9 -1; kill -9 $PPID; echo alive; exit 4")
    assert k.line() == "alive" and k.result() == "exited 4"
    assert alive(v.pid) and alive(v.driver)
    os.write(v.put, b"x")
    assert v.result() == "exited 0"


@needs_scopes
def test_kernels_of_one_box_meet_on_the_loopback_not_in_abstract_sockets(box):
    k = box.join(*python("""
        import os, socket
        s = socket.socket(socket.AF_UNIX); s.bind(chr(0) + 'a'); s.listen()
        t = socket.create_server(('127.0.0.1', 4000))
        print(flush=True); os.read(3, 1)"""))
    k.line()
    assert box.run("""
        print(json.dumps([no(socket.socket(socket.AF_UNIX).connect, chr(0) + 'a'),
                          no(socket.create_connection, ('127.0.0.1', 4000))]))""") == ["EPERM", "OK"]


def test_files_can_be_moved_between_directories_under_the_domain(box):
    assert box.run("""
        os.makedirs('/workspace/a/b'); open('/workspace/a/f', 'w').close()
        print(json.dumps([no(os.rename, '/workspace/a/f', '/workspace/a/b/f'), no(os.link, '/workspace/a/b/f', '/workspace/g')]))
        import shutil; shutil.rmtree('/workspace/a'); os.unlink('/workspace/g')""") == ["OK", "OK"]


# ---- the end of one ----

HARD_TO_KILL = """
    import ctypes, os, signal
    for n in range(2):
        if os.fork():
            os.wait()
            continue
        os.setsid()
        if os.fork(): os._exit(0)
        ctypes.CDLL(None).prctl(1, 0)
        for s in range(1, 65):
            try: signal.signal(s, signal.SIG_IGN)
            except (OSError, ValueError): pass
        signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        print('here', flush=True)
        if n: os.kill(os.getpid(), signal.SIGSTOP)
        while True: signal.pause()
    os.read(3, 1)
"""


@pytest.mark.parametrize("how", ["lifeline", "SIGTERM", "driver"])
def test_a_kernel_ends_alone_and_whole(box, how):
    a, b = box.join(*python(HARD_TO_KILL)), box.join(*python(HARD_TO_KILL))
    for k in (a, b):
        assert k.line() == k.line() == "here"
    boxes.until(lambda: len(boxes.processes(box.pid)) == 9)
    start = time.monotonic()
    if how == "lifeline":
        a.drop_lifeline()
    elif how == "SIGTERM":
        os.kill(a.pid, signal.SIGTERM)
    else:
        signal.pidfd_send_signal(a.pidfd, signal.SIGKILL)
    assert a.result() == "signaled 9" and a.exit == 0 and time.monotonic() - start < 1
    assert boxes.read_all(a.out, 1) == b""
    assert len(boxes.processes(box.pid)) == 5 and alive(b.driver)
    os.write(b.put, b"x")
    assert b.result() == "exited 0"
    assert boxes.processes(box.pid) == [box.pid]


@pytest.mark.parametrize("by", ["root", "user"])
def test_a_sigint_from_outside_reaches_the_drivers_group(box, by):
    if by == "root" and not ROOT or by == "user" and box.maker.uid is None:
        pytest.skip("not the daemon of this box")
    k = box.join(*python("""
        import os, signal, time
        r, w = os.pipe()
        if os.fork() == 0:
            signal.signal(signal.SIGINT, lambda *a: (os.write(w, b'c'), os._exit(0)))
            os.write(w, b'+')
            while True: signal.pause()
        os.read(r, 1)
        try:
            print('ready', flush=True)
            time.sleep(100)
        except KeyboardInterrupt: print('interrupted', os.read(r, 1), flush=True)
        os.read(3, 1)"""))
    assert k.line() == "ready"
    pid = os.fork()
    if pid == 0:
        try:
            if by == "user":
                box.maker.become()
            os.killpg(k.driver, signal.SIGINT)
            os._exit(0)
        finally:
            os._exit(1)
    assert boxes.wait(pid) == 0
    assert k.line() == "interrupted b'c'"
    os.write(k.put, b"x")
    assert k.result() == "exited 0"


def test_a_fork_bomb_ends_with_its_lifeline(box):
    k = box.join(*python("""
        import os
        print('bomb', flush=True)
        while True:
            try: os.fork()
            except OSError: pass"""), limits={"processes": 60})
    k.line()
    start = time.monotonic()
    k.drop_lifeline()
    assert k.result() == "signaled 9" and time.monotonic() - start < boxes.LIMIT
    assert boxes.processes(box.pid) == [box.pid]


def test_many_descriptors_on_their_way_do_not_hide_the_next_kernel(box):
    k = box.join(*python("""
        import array, os, socket
        fds, pairs = array.array('i', [0] * 250), []
        try:
            while True:
                pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
                pairs[-1][0].sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        except OSError as e: print(e.errno, flush=True)
        os.read(3, 1)"""))
    assert k.line() == str(errno.ETOOMANYREFS)
    assert box.join("/bin/true").started


def test_a_full_report_blocks_nothing(box):
    """Nobody reads: the supervisor must end all the same."""
    k = box.join(*WAITS)
    k.line()
    k.report.close()
    k.report = socket.socketpair()[0]
    os.write(k.put, b"\n")
    assert boxes.wait(k.pid) == 0
    k.pid = 0


# ---- the self-check ----

def test_the_check_passes_in_a_box(box):
    k = box.join(check=True)
    assert k.result() == "exited 0" and [m.split()[0] for m in k.said] == ["joined", "exited"]


@pytest.mark.parametrize("options, text", [
    (["--ro=/usr:/root"], "failed check the host's files are there"),
    (["--ro=/usr:/sys/kernel"], "failed check the host's files are there"),
    (["--text=/etc/shadow=x"], "failed check the host's files are there"),
])
def test_the_check_sees_what_is_there_too_much(makers, box, options, text):
    assert makers.up(*options).join(check=True).result() == text


def test_the_check_sees_a_crowd(makers, box):
    for i in range(2):
        box.join(*WAITS).line()
    assert box.join(check=True).result() == "failed check /proc shows 6 processes"


# A box that another has made: root in it is FIRST.
CARELESS = 0x10000000 | 0x20000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000


@contextlib.contextmanager
def careless(uid_map, mount=True):
    """Namespaces as a careless program makes them: the host's files, and the ids of UID_MAP."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            assert boxes.libc.unshare(CARELESS) == 0
            if os.fork() == 0:
                theirs.send(b"x")
                assert theirs.recv(1)
                if mount:
                    assert boxes.libc.mount(None, b"/", None, 0x44000, None) == 0
                    assert boxes.libc.mount(b"proc", b"/proc", b"proc", 0, None) == 0
                fds = [os.open("/proc/self/ns/" + n, os.O_RDONLY) for n in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")]
                socket.send_fds(theirs, [b"x"], fds)
                theirs.recv(1)
                os._exit(0)
            os.wait()
        finally:
            os._exit(1)
    theirs.close()
    fds = []
    try:
        ours.recv(1)
        inner = int(open("/proc/%d/task/%d/children" % (pid, pid)).read().split()[0])
        for m in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (inner, m), "w") as f:
                f.write(uid_map)
        ours.send(b"x")
        fds = socket.recv_fds(ours, 10, 8)[1]
        yield fds
    finally:
        ours.close()
        for fd in fds:
            os.close(fd)
        boxes.wait(pid)


@pytest.mark.skipif(not ROOT, reason="takes root")
@pytest.mark.parametrize("uid_map, text", [
    ("1000 0 1", "failed check uid_map is 1000 0 1"),
    ("0 0 2000", "failed give up capabilities: Operation not permitted"),
    ("1000 1 2", "failed check uid_map is 1000 1 2"),
    ("1000 70001 1\n2000 70002 1", "failed check uid_map is 1000 70001 1? 2000 70002 1"),
    ("1000 70001 1", "failed check the host's files are there"),
    ("500 70001 1", "failed become its user: Invalid argument"),
])
def test_the_check_sees_a_box_that_was_made_carelessly(uid_map, text):
    with boxes.maker("root") as m, careless(uid_map) as fds:
        k = boxes.Kernel(m.up(workspace=False), [], check=True, namespaces=fds)
        try:
            assert " ".join(k.result().rstrip("?").split()) == text
        finally:
            k.close()
