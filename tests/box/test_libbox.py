"""libbox.so, by which a fork server enters a box without exec: a Python program that has read what it needs forks, and the
child becomes the driver of a kernel. Through ctypes, as a fork server would."""
import contextlib
import json
import os
import signal
import socket
import subprocess

import pytest

import boxes
from boxes import FILTERS, LIBBOX, NAMESPACES, NS, python

ROOT = os.geteuid() == 0

# Descriptor 5 has the commands "CWD LIMIT-OF-FILES\n", each of which makes a kernel; the server itself stays outside.
SERVER = """
import ctypes, json, os, signal, sys
class Limits(ctypes.Structure):
    _fields_ = [(n, ctypes.c_int64) for n in ('data', 'fsize', 'processes', 'files')]
lib = ctypes.CDLL(sys.argv[1], use_errno=True)
lib.box_join.argtypes = [ctypes.c_char_p, ctypes.POINTER(Limits), ctypes.c_int, ctypes.c_int, ctypes.c_char_p]
warm = 'read before the fork'
def read_line():
    line = b''
    while not line.endswith(b'\\n'):
        c = os.read(5, 1)
        if not c: signal.pause()
        line += c
    return line.decode().split()
while True:
    cwd, files = read_line()
    pid = os.fork()
    if pid == 0:
        why = ctypes.create_string_buffer(512)
        r = lib.box_join(cwd.encode(), Limits(512 << 20, 1 << 30, 128, int(files)), 7, 8, why)
        if r:
            os.write(8, b'failed %s\\n' % why.value)
            os._exit(1)
        break
    os.waitpid(pid, 0)
import errno, resource, socket
def no(fn, *args):
    try: fn(*args)
    except OSError as e: return errno.errorcode[e.errno]
    return 'OK'
"""


@pytest.fixture(scope="module")
def makers(makers):
    makers.lib = os.path.join(makers.directory, "libbox.so")
    with open(LIBBOX, "rb") as f, open(makers.lib, "wb") as g:
        g.write(f.read())
    return makers


@pytest.fixture
def box(makers):
    yield makers.up()
    makers.stack.close()
    makers.stack = contextlib.ExitStack()


class Server(boxes.Kernel):
    """A fork server and the one kernel that it is asked for."""

    def __init__(self, box, code, cwd="/workspace", files=100, namespaces=None):
        self.report, report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        r, self.lifeline = os.pipe()
        self.out, out = os.pipe()
        self.err, err = os.pipe()
        get, self.put = os.pipe()
        commands, command = os.pipe()
        have = {1: out, 2: err, 3: get, 5: commands, 7: r, 8: report.fileno()}
        for i, fd in enumerate(namespaces or box.fds[:NS]):
            have[NAMESPACES + i] = fd
        self.server = box.maker.spawn(python(SERVER + code, box.maker.lib)[1:], have, program=boxes.PYTHON, strangers=10)
        for fd in (r, out, err, get, commands):
            os.close(fd)
        report.close()
        self.said, self.pid, self.started, self.pidfd, self.driver = [], 0, False, -1, 0
        os.write(command, b"%s %d\n" % (cwd.encode(), files))
        os.close(command)
        while not self.started and self.listen():
            if self.said[-1].startswith("failed"):
                break

    def close(self):
        os.kill(self.server, signal.SIGKILL)
        boxes.wait(self.server)
        super().close()


@pytest.fixture
def serve(box):
    with contextlib.ExitStack() as stack:
        # the supervisor is the child of who forked, the server; the end of that makes it ours, to be reaped
        boxes.libc.prctl(36, 1, 0, 0, 0)

        def make(*args, **kw):
            s = Server(box, *args, **kw)
            stack.callback(s.close)
            return s
        yield make
    boxes.libc.prctl(36, 0, 0, 0, 0)


def finish(s):
    """There is no end of the report to wait for: the server has it open too."""
    while s.said[-1].split()[0] in ("joined", "started"):
        assert s.listen()
    return s.said[-1]


def test_it_needs_no_library_but_libc():
    out = subprocess.run(["readelf", "-d", LIBBOX], check=True, capture_output=True, text=True).stdout
    assert [line.split("[")[1].rstrip("]\n") for line in out.splitlines() if "(NEEDED)" in line] == ["libc.so.6"]
    symbols = subprocess.run(["nm", "-D", "--defined-only", LIBBOX], check=True, capture_output=True, text=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["box_join"]


def test_the_driver_is_in_the_box_and_goes_on_in_python(box, serve):
    s = serve("""
status = dict(l[:-1].split(':\\t', 1) for l in open('/proc/self/status') if ':\\t' in l)
print(json.dumps([warm, os.getcwd(), os.getresuid(), socket.gethostname(), os.path.exists('/root'), os.path.exists('/etc/shadow'),
    [status[k] for k in ('CapPrm', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp')], resource.getrlimit(resource.RLIMIT_NOFILE),
    resource.getrlimit(resource.RLIMIT_NPROC), sorted(int(f) for f in os.listdir('/proc/self/fd'))[:-1], os.getsid(0) == os.getpid(),
    status['SigBlk'], no(open, '/x', 'w'), no(socket.socket, 40)]), flush=True)
os.read(3, 1)
os._exit(5)
""")
    assert [m.split()[0] for m in s.said] == ["joined", "started"]
    zero = "0" * 16
    assert json.loads(s.line()) == [
        "read before the fork", "/workspace", [1000] * 3, "sandbox", False, False, [zero, zero, zero, "1", "2"],
        [100] * 2, [128] * 2, [0, 1, 2, 3, 4, 5, 6], True, zero, "EROFS", "EAFNOSUPPORT"]
    assert boxes.namespace(s.driver) == boxes.namespace(box.pid)
    os.write(s.put, b"x")
    assert finish(s) == "exited 5"


def test_the_daemon_sees_its_memory(box, serve):
    s = serve("print(flush=True); os.read(3, 1)")
    s.line()
    pid = os.fork()
    if pid == 0:
        try:
            box.maker.become()
            with open("/proc/%d/smaps_rollup" % s.driver) as f:
                os._exit(0 if "Pss:" in f.read() else 2)
        finally:
            os._exit(1)
    assert boxes.wait(pid) == 0


def test_it_cannot_write_its_own_report_nor_hold_it(serve):
    s = serve("""
print(no(os.write, 8, b'exited 9'), no(os.fstat, 7), flush=True)
if os.fork() == 0:
    os.setsid()
    print('child', flush=True)
    os.read(3, 1)
os.kill(os.getpid(), 9)
""")
    assert s.line() == "EBADF EBADF"
    assert finish(s) == "signaled 9"


@pytest.mark.skipif(boxes.landlock_abi() < 1, reason="no Landlock in this kernel")
def test_another_kernel_cannot_look_into_it(box, serve):
    s = serve("print(flush=True); os.read(3, 1)")
    s.line()
    answers = box.run("""
        got = []
        for p in [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, os.getpid(), os.getppid())]:
            d = '/proc/%d/' % p
            got += [no(r, d + 'mem'), no(r, d + 'environ'), no(r, d + 'fd/3'), no(os.readlink, d + 'exe')]
        print(json.dumps(got))""")
    assert len(answers) == 8 and set(answers) <= {"EACCES", "EPERM"}


def test_the_lifeline_ends_it_and_its_children(box, serve):
    s = serve("""
import ctypes
if os.fork() == 0:
    os.setsid()
    ctypes.CDLL(None).prctl(1, 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    print('child', flush=True)
    while True: signal.pause()
while True: signal.pause()
""")
    assert s.line() == "child"
    s.drop_lifeline()
    assert finish(s) == "signaled 9"
    boxes.until(lambda: len([p for p in boxes.processes(box.pid) if boxes.alive(p)]) == 1)


def test_an_interrupt_reaches_it(serve):
    """Signal handlers are gone, as after an exec: the driver installs its own again."""
    s = serve("""
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print(flush=True)
    os.read(3, 1)
except KeyboardInterrupt: os._exit(3)
""")
    s.line()
    os.killpg(s.driver, signal.SIGINT)
    assert finish(s) == "exited 3"


def test_failures_are_told(box, serve):
    assert finish(serve("print('never')", cwd="/no/where")) == "failed cannot enter /no/where: No such file or directory"
    with open("/dev/null") as null:
        s = serve("print('never')", namespaces=box.fds[:2] + [null.fileno()] + box.fds[3:NS])
    assert s.said == ["failed enter the pid namespace: Invalid argument"]
