"""The two seccomp programs of the box: what they answer, asked of the kernel and, as that may have a
reason of its own to refuse, of the programs themselves, run here."""
import errno
import os
import platform
import random
import shutil
import struct
import subprocess
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
X86 = platform.machine() == "x86_64"
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}.get(platform.machine())
M32 = 0xFFFFFFFF
HIGH = 0x100000000  # what a program may leave above an argument of 32 bits
ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

EPERM = """mount umount2 pivot_root chroot setns unshare ptrace process_vm_readv process_vm_writev
    process_madvise pidfd_getfd kcmp keyctl add_key request_key bpf perf_event_open userfaultfd
    open_by_handle_at name_to_handle_at fanotify_init fanotify_mark syslog reboot kexec_load
    kexec_file_load init_module finit_module delete_module swapon swapoff acct quotactl quotactl_fd
    sethostname setdomainname settimeofday clock_settime mbind set_mempolicy get_mempolicy
    set_mempolicy_home_node move_pages migrate_pages vhangup lookup_dcookie nfsservctl""".split()
EPERM_X86 = "iopl ioperm modify_ldt create_module query_module".split()
ENOSYS = """clone3 fsopen fsconfig fsmount fspick open_tree move_mount mount_setattr io_uring_setup
    io_uring_enter io_uring_register memfd_secret remap_file_pages vmsplice adjtimex clock_adjtime
    process_mrelease""".split()
ENOSYS_X86 = "uselib _sysctl ustat sysfs".split()
FUTURE = "340 423 457 458 459 467 468 469 500 600 1023".split()  # statmount and on, and what is not there yet

C, SIG = "clone", 17
FIFO, CHR, DIR, BLK, REG, LNK, SOCK = (k << 12 for k in (1, 2, 4, 6, 8, 10, 12))
UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
NODES = [(REG, "OK"), (FIFO, "OK"), (SOCK, "OK"), (0, "OK"), (FIFO | 0x10000, "OK"),
         (CHR, "EPERM"), (BLK, "EPERM"), (DIR, "EPERM"), (LNK, "EPERM"), (CHR | HIGH, "EPERM")]

# (call, arguments, what comes of it)
ROWS = [(n, (), "EPERM") for n in EPERM + (EPERM_X86 if X86 else [])]
ROWS += [(n, (), "ENOSYS") for n in ENOSYS + (ENOSYS_X86 if X86 else []) + FUTURE]
ROWS += [
    (C, (SIG,), "OK"), (C, (0,), "OK"), (C, (SIG | 0x8000,), "OK"), (C, (SIG | 0x80,), "OK"),
    (C, (SIG | HIGH,), "OK"),
    (C, (SIG | 0x00020000,), "EPERM"), (C, (SIG | 0x02000000,), "EPERM"),
    (C, (SIG | 0x04000000,), "EPERM"), (C, (SIG | 0x08000000,), "EPERM"),
    (C, (SIG | 0x10000000,), "EPERM"), (C, (SIG | 0x20000000,), "EPERM"),
    (C, (SIG | 0x40000000,), "EPERM"), (C, (SIG | 0x7E020000,), "EPERM"),
    (C, (SIG | 0x10000000 | HIGH,), "EPERM"), (C, (0x00010000,), "EINVAL"),  # a thread without memory
]
ROWS += [("mknodat", (-100, "@node%d" % i, m | 0o600, 0), r) for i, (m, r) in enumerate(NODES)]
if X86:
    ROWS += [("mknod", ("@node_%d" % i, m | 0o600, 0), r) for i, (m, r) in enumerate(NODES)]
ROWS += [("personality", (p,), "OK") for p in (0, 8, 0x20000, 0x20008, M32, M32 | M32 << 32, HIGH)]
ROWS += [("personality", (p,), "EPERM") for p in (0x40000, 0x400000, 0x800000, 1, 9, 0x20009, M32 - 1,
                                                  0x7FFFFFFF, 0x40000 | HIGH)]
ROWS += [("socket", a, "OK") for a in [(UNIX, 1), (UNIX, 2), (INET, 1), (INET, 2), (INET6, 1),
                                       (INET | HIGH, 1), (NETLINK, 3, 0), (NETLINK, 3, HIGH)]]
ROWS += [("socket", (f, 3), "EAFNOSUPPORT") for f in
         (0, 3, 4, 9, 15, 17, 29, 31, 33, 36, 38, 40, 41, 42, 43, 44, 45, 46, 99, M32, 40 | HIGH)]
ROWS += [("socket", (NETLINK, 3, p), "EAFNOSUPPORT") for p in (1, 2, 4, 5, 6, 9, 12, 15, 16, 21, M32,
                                                               9 | HIGH)]
ROWS += [("socketpair", (UNIX, 1, 0, 0), "EFAULT")]
ROWS += [("socketpair", (f, 1, 0, 0), "EAFNOSUPPORT") for f in (0, INET, INET6, NETLINK, 30, 40, 40 | HIGH)]
ROWS += [("ioctl", (-1 % 2**64, c), "EPERM") for t in (0x5412, 0x541C)
         for c in (t, t | HIGH, t | M32 << 32, t | 0x7A << 56)]
ROWS += [("ioctl", (-1 % 2**64, c), "EBADF") for c in (0x5401, 0x5413, 0x5411, 0x541D, 0x15412, 0x80005412)]
ROWS += [("sync", (), "OK"), ("syncfs", (-1 % 2**64,), "EBADF"), ("fsync", (-1 % 2**64,), "EBADF"),
         ("landlock_create_ruleset", (0, 0, 1), "OK"), ("seccomp", (99,), "EINVAL"),
         ("prctl", (99999,), "EINVAL"), ("timer_settime", (99,), "EINVAL"),
         ("timerfd_settime", (-1 % 2**64, 0, 0), "EFAULT"),
         ("shmget", (0, 0, 0), "EINVAL"), ("keyctl", (17, 0), "EPERM"), ("4294967295", (), "ENOSYS"),
         ("setxattr", (0, 0, 0, 0, 0), "EFAULT"), ("openat2", (0, 0, 0, 0), "EINVAL"),
         ("chown", (0, 0, 0), "EFAULT") if X86 else ("fchownat", (0, 0, 0, 0, 99), "EINVAL")]
# Younger calls: what an older kernel does not know either.
YOUNG = [("451", (-1 % 2**64,), "EBADF", "EFAULT"), ("452", (-100, "@nothing", 0, 0), "ENOENT"),
         ("454", (0, 0, 0, 0xFF), "EINVAL"), ("455", (0, 0, 0, 0xFF), "EINVAL"),
         ("456", (0, 0xFF, 0, 0), "EINVAL"), ("462", (1, 1, 1), "EINVAL"),
         ("futex_waitv", (0, 0, 1), "EINVAL"), ("epoll_pwait2", (-1 % 2**64, 0, 1), "EBADF", "EINVAL"),
         ("faccessat2", (0, 0, 0, 0xFFFF), "EINVAL")]
ROWS += [(n, a, "|".join([*r, "ENOSYS"])) for n, a, *r in YOUNG]
ROWS += [("prlimit64", (0, 7, 0, 0), "OK"), ("prlimit64", (1, 7, 0, 0), "EPERM"), ("prlimit64", (1 << 32 | 1, 7, 0, 0), "EPERM"),
         ("setpriority", (0, 0, 0), "OK"), ("setpriority", (0, 1, 0), "EPERM"), ("ioprio_set", (1, 1, 0), "EPERM")]
if X86:
    ROWS += [("int80", (), "SIGSYS")]
    ROWS += [(str(0x40000000 | n), (), "SIGSYS") for n in (0, 1, 39, 56, 59, 101, 514, 547)]


class Filter:
    """A program, as the kernel would run it."""

    def __init__(self, path):
        data = open(path, "rb").read()
        self.code = list(struct.iter_unpack("=HBBI", data))

    def __call__(self, nr, args=(), arch=ARCH):
        data = struct.pack("=iIQ6Q", struct.unpack("=i", struct.pack("=I", nr & M32))[0], arch, 0,
                           *[a % 2**64 for a in args], *[0] * (6 - len(args)))
        acc, at = 0, 0
        while True:
            op, yes, no, k = self.code[at]
            at += 1
            if op == 0x20:
                acc = struct.unpack_from("=I", data, k)[0]
            elif op == 0x54:
                acc &= k
            elif op == 0x05:
                at += k
            elif op == 0x06:
                return k
            else:
                at += yes if {0x15: acc == k, 0x25: acc > k, 0x35: acc >= k, 0x45: acc & k}[op] else no


@pytest.fixture(scope="module")
def box():
    """A directory that all may write, with the probe and the programs that it made."""
    tmp = tempfile.mkdtemp(prefix="cellfs-filter-")
    os.chmod(tmp, 0o777)
    try:
        subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra",
                        "-O1", "-o", tmp + "/probe", HERE + "/probe.c",
                        os.path.join(ROOT, "fsd/box/filter.c"), os.path.join(ROOT, "fsd/box/load.c"), "-lseccomp", "-lpthread"], check=True)
        subprocess.run([tmp + "/probe", "write", "allow", "ioctl"], cwd=tmp, check=True)
        yield tmp
    finally:
        shutil.rmtree(tmp)


def probe(box, mode, *argv, cwd=None, **more):
    return subprocess.run([box + "/probe", mode, box + "/allow", box + "/ioctl", *argv], cwd=cwd or box,
                          stdout=subprocess.PIPE, text=True, timeout=120, **more)


@pytest.fixture(scope="module")
def told(box):
    text = "".join(" ".join(map(str, (n, *a))) + "\n" for n, a, _ in ROWS)
    lines = probe(box, "call", input=text, check=True).stdout.splitlines()
    assert len(lines) == len(ROWS)
    return [tuple(line.split()) for line in lines]


@pytest.fixture(scope="module")
def programs(box):
    if not ARCH:
        pytest.skip("the number of this architecture is not in the test")
    return [Filter(box + "/" + name) for name in ("allow", "ioctl")]


def row_id(i):
    return "%s(%s)" % (ROWS[i][0], ",".join(a if isinstance(a, str) else hex(a) for a in ROWS[i][1]))


def test_table_is_large():
    assert len(ROWS) >= 113


@pytest.mark.parametrize("i", range(len(ROWS)), ids=row_id)
def test_call(told, programs, i):
    name, args, want = ROWS[i]
    nr, got = told[i]
    if got == "unknown":
        pytest.skip("libseccomp does not know %s here" % name)
    assert got in want.split("|")
    if nr == "-2":
        return
    verdict = [p(int(nr), [a if isinstance(a, int) else 1 for a in args]) for p in programs]
    if want in ("EPERM", "ENOSYS", "EAFNOSUPPORT"):
        assert ERRNO | getattr(errno, want) in verdict, "the kernel refused it, not the filter"
        assert all(v in (ALLOW, ERRNO | getattr(errno, want)) for v in verdict)
    elif want == "SIGSYS":
        assert KILL in verdict
    elif name == "sync":
        assert verdict == [ERRNO, ALLOW]
    else:
        assert verdict == [ALLOW, ALLOW]


def test_foreign_architectures_are_killed(programs):
    for arch in (0x40000003, 0xC00000B7, 0xC000003E, 0x40000028, 0, M32):
        if arch != ARCH:
            for nr in range(0, 470, 3):
                assert all(p(nr, (), arch) == KILL for p in programs)


@pytest.mark.skipif(not X86, reason="x32 is of x86")
def test_x32_is_killed(programs):
    for nr in [0x40000000 + k for k in range(600)] + [0x7FFFFFFF, 0x80000000, M32 - 1]:
        assert all(p(nr) == KILL for p in programs)


def test_the_future_is_enosys(programs):
    # (Linux 6.18 lets uretprobe and uprobe, 335 and 336 of x86_64, pass any filter: only its own code may.)
    for nr in [*range(335, 424), *range(457, 462), *range(463, 2000), 1 << 20, 0x3FFFFFFF]:
        assert programs[0](nr) == ERRNO | errno.ENOSYS, nr


def number(told, name):
    return next(int(t[0]) for r, t in zip(ROWS, told) if r[0] == name)


def some_numbers(*near):
    rand = random.Random(4)
    yield from range(300)
    for bit in range(64):
        yield 1 << bit
        for n in near:
            yield n ^ 1 << bit
    for _ in range(5000):
        yield rand.getrandbits(64) & rand.getrandbits(64)


def test_all_arguments(told, programs):
    """What the rows take samples of, by formula."""
    allow, ioctl = programs
    bad = lambda e: ERRNO | e  # noqa: E731
    nr = {n: number(told, n) for n in ("clone", "mknodat", "personality", "socket", "socketpair", "ioctl")}
    for n in some_numbers(SIG, UNIX, INET, INET6, NETLINK, REG, FIFO, SOCK, CHR, 8, 0x20000, 0x20008,
                          M32, 0x5412, 0x541C):
        low = n & M32
        assert allow(nr["clone"], (n,)) == (bad(errno.EPERM) if n & 0x7E020000 else ALLOW), hex(n)
        assert allow(nr["mknodat"], (0, 0, n)) == \
            (ALLOW if n & 0xF000 in (0, REG, FIFO, SOCK) else bad(errno.EPERM)), hex(n)
        assert allow(nr["personality"], (n,)) == \
            (ALLOW if low in (0, 8, 0x20000, 0x20008, M32) else bad(errno.EPERM)), hex(n)
        assert allow(nr["socket"], (n, 3, 0)) == \
            (ALLOW if low in (UNIX, INET, INET6, NETLINK) else bad(errno.EAFNOSUPPORT)), hex(n)
        assert allow(nr["socket"], (NETLINK, 3, n)) == (bad(errno.EAFNOSUPPORT) if low else ALLOW), hex(n)
        assert allow(nr["socket"], (INET, 3, n)) == ALLOW
        assert allow(nr["socketpair"], (n,)) == \
            (ALLOW if low == UNIX else bad(errno.EAFNOSUPPORT)), hex(n)
        assert ioctl(nr["ioctl"], (0, n)) == (bad(errno.EPERM) if low in (0x5412, 0x541C) else ALLOW), hex(n)
        assert allow(nr["ioctl"], (0, n)) == ALLOW


def test_second_program_is_for_ioctl_only(told, programs):
    for nr in set(range(600)) - {number(told, "ioctl")}:
        assert programs[1](nr, (0, 0x5412)) == ALLOW


def test_ordinary_things(box):
    got = dict(line.split() for line in probe(box, "ordinary", check=True).stdout.splitlines())
    assert len(got) >= 30
    assert {k: v for k, v in got.items() if v != "OK"} == {}


PYTHON = """
import asyncio, concurrent.futures as c, multiprocessing as m, sqlite3, subprocess, threading, os, pty
assert list(c.ThreadPoolExecutor(4).map(abs, [-1, -2])) == [1, 2]
with m.get_context("fork").Pool(2) as p: assert p.map(abs, [-1]) == [1]
t = threading.Thread(target=print); t.start(); t.join()
assert subprocess.check_output(["echo", "a"]) == b"a\\n"
sqlite3.connect("db").execute("create table t (a)")
asyncio.run(asyncio.sleep(0.01)); pty.openpty()
"""
NODE = """
const {Worker} = require('worker_threads'), cp = require('child_process'), http = require('http');
cp.execSync('echo a'); new Worker('1', {eval: true}); require('fs').watch('.').close();
const s = http.createServer((q, r) => r.end('x')).listen(0, '127.0.0.1', () =>
  http.get({host: '127.0.0.1', port: s.address().port, agent: false}, r => { r.resume(); r.on('end', () => s.close()); }));
"""
PROGRAMS = {
    "python": ["/usr/bin/python3", "-c", PYTHON],
    "node": ["node", "-e", NODE],
    "java": ["java", "-Xmx64m", "-version"],
    "R": ["Rscript", "-e", "stopifnot(parallel::mclapply(1:2, identity)[[2]] == 2)"],
    "bash": ["bash", "-c", "set -e; for i in 1 2 3; do (sleep 0.01; echo $i) & done; wait; "
                           "cat <(echo a) | sort >out; mkfifo ff; echo b >ff & read x <ff; test $x = b"],
    "gcc": ["bash", "-c", "echo 'int main(void){return 0;}' >m.c && gcc -O2 -pipe m.c -o m && ./m"],
    "git": ["bash", "-c", "git init -q r && cd r && echo a >a && git add a && git -c user.name=a "
                          "-c user.email=a@b commit -qm a && git gc -q && git log --oneline | cat"],
    "npm": ["npm", "--version"],
    "pip": ["/usr/bin/python3", "-m", "pip", "--version"],
    "tar": ["bash", "-c", "mkdir -p d/e && touch d/e/f && tar czf d.tgz d && tar xzpf d.tgz && rm -rf d"],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(box, name):
    argv = PROGRAMS[name]
    if not shutil.which("Rscript" if name == "R" else argv[0] if name in ("python", "pip") else name):
        pytest.skip("no %s here" % name)
    if name == "pip" and subprocess.run(argv, capture_output=True).returncode:
        pytest.skip("no pip here")
    cwd = tempfile.mkdtemp(dir=box)
    env = {"PATH": os.environ["PATH"], "HOME": cwd, "LANG": "C.UTF-8"}
    done = probe(box, "run", *argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def test_size_and_cost(box, record_property):
    sizes = [os.path.getsize(box + "/" + name) // 8 for name in ("allow", "ioctl")]
    assert sizes[0] <= 1500 and sizes[1] <= 32
    record_property("instructions", sizes)


@pytest.mark.parametrize("data", [b"", b"1234567", bytes(8 * 4097), bytes(8)],
                         ids=["empty", "part", "long", "nonsense"])
def test_a_broken_program_is_refused(box, data):
    path = box + "/broken"
    open(path, "wb").write(data)
    done = subprocess.run([box + "/probe", "run", path, box + "/ioctl", "true"], stderr=subprocess.PIPE)
    assert done.returncode == 3 and b"Invalid argument" in done.stderr


def test_what_cannot_be_written_is_told(box):
    done = subprocess.run([box + "/probe", "write", "/dev/full", "/dev/null"], stdout=subprocess.PIPE)
    assert done.returncode == 1
    assert b'The seccomp program "allow" cannot be written: No space left on device.' in done.stdout
