"""Races: symbolic links and renames against the gate, in a program of its own and through a mount; what is removed, or
written, while a kernel works on it."""

import os
import re
import subprocess
import threading
import time

import pytest

from host import GUARD, HERE, SOON, gone, read, run, write
from mount import BUILD, ROOT, WORK

ROUNDS = int(os.environ.get("CELLFS_RACE", "100000"))
PARTS = 4  # each of which has the time of a test
MANY = int(os.environ.get("CELLFS_MANY", "300"))
LIBS = [HERE / "cells" / "attack.py", HERE / "cells" / "attack.sh"]


@pytest.fixture(scope="module")
def gate_race():
    program = BUILD / "tests" / "gate_race"
    program.parent.mkdir(parents=True, exist_ok=True)
    sources = [str(HERE / "gate_race.c"), str(ROOT / "fsd" / "gate.c"), str(ROOT / "fsd" / "util.c")]
    subprocess.run(
        ["gcc", "-std=gnu11", "-O2", "-g", "-Wall", "-D_GNU_SOURCE", "-D_FILE_OFFSET_BITS=64", "-iquote", str(ROOT / "fsd"), "-o", str(program),
         *sources, "-lpthread"], check=True)
    return program


@pytest.fixture
def ground(request):
    import shutil
    import tempfile

    WORK.mkdir(parents=True, exist_ok=True)
    d = tempfile.mkdtemp(dir=WORK, prefix="race-")
    yield d
    shutil.rmtree(d, ignore_errors=True)


def race(program, ground, *args):
    out = subprocess.run([str(program), ground, *map(str, args)], capture_output=True, text=True)
    assert not out.stderr, out
    print(out.stdout)
    return map(int, re.fullmatch(r"(\d+) rounds, (\d+) opened, (\d+) leaks\n", out.stdout).groups())


def test_the_race_is_one(gate_race, ground):
    """With open(2) and all the care that it allows, the secret is had."""
    rounds, opened, leaks = race(gate_race, ground, 20000, "plain")
    assert leaks > 0


@pytest.mark.parametrize("part", range(PARTS))
def test_the_gate_in_a_race(gate_race, ground, part):
    rounds, opened, leaks = race(gate_race, ground, ROUNDS // PARTS)
    assert leaks == 0 and opened > rounds


SWAP = """
from attack import *
import threading, time
secret = canary["files"][2]
os.makedirs("d"); os.makedirs("outside")
open("f", "w").write("harmless"); open("d/f", "w").write("harmless")
os.symlink(secret, "link"); os.symlink(os.path.dirname(secret), "dlink")
open("d/of-all", "w").write("harmless")
ok("begun")
end = time.monotonic() + 2.5
while time.monotonic() < end or not os.path.exists("enough"):
    for _ in range(200):
        libc.renameat2(-100, b"f", -100, b"link", 2)
        libc.renameat2(-100, b"d", -100, b"dlink", 2)
"""


def test_the_workspace_in_a_race(host, canaries):
    """A kernel swaps files and directories for links while the mount reads, lists and writes them."""
    host.make("swap", "timeout=20", LIBS)
    work = host.contexts / "swap" / "workspace"
    try:
        results = host.do(run, host.contexts / "swap", "swap.py", SWAP)
        seen = {"read": 0}

        def look():
            end = time.monotonic() + 20
            while read(results / "status").split()[0] in ("queued", "starting", "running") and time.monotonic() < end:
                for path in ("f", "link", "d/f", "d/of-all", "dlink/of-all", "dlink/../d/f"):
                    try:
                        text = read(work / path)
                        seen["read"] += 1
                        assert canaries.token not in text, path
                    except OSError:
                        pass
                    try:
                        fd = os.open(work / path, os.O_WRONLY | os.O_TRUNC)
                        os.write(fd, b"harmless")
                        os.close(fd)
                    except OSError:
                        pass
                if seen["read"] > 50:
                    write(work / "enough", "")
                for path in ("d", "dlink", "."):
                    try:
                        assert "of-root" not in os.listdir(work / path)
                    except OSError:
                        pass
                for path in ("d/made", "dlink/made"):
                    try:
                        os.close(os.open(work / path, os.O_CREAT | os.O_WRONLY))
                        os.rename(work / path, work / (path + "2"))
                        os.unlink(work / (path + "2"))
                    except OSError:
                        pass

        host.do(look, seconds=30)
        print(f"{seen['read']} reads")
        assert seen["read"] > 50 and GUARD not in host.do(read, results / "stdout")
    finally:
        host.remove("swap")
    canaries.check()


@pytest.mark.parametrize("how", ["ctl", "rm"])
def test_a_context_goes_while_its_kernel_writes(host, how):
    before = host.boxes()
    host.make("going", "timeout=30", LIBS)
    code = "import os\nos.makedirs('d', exist_ok=True)\nprint('begun', flush=True)\ni = 0\nwhile True:\n    i += 1\n    " \
        "try:\n        os.makedirs(f'd/{i % 100}/x', exist_ok=True); open(f'd/{i % 100}/{i % 1000}', 'w').write('x' * 1000)\n    except OSError: pass\n"
    results = host.do(run, host.contexts / "going", "w.py", code)
    host.do(lambda: wait_for(results / "stdout.follow", b"begun"))
    boxes = host.boxes() - before
    assert boxes
    took = host.remove("going", how)
    print(f"removed in {took:.2f} s")
    gone(boxes, 3)
    assert host.alive_cell() < SOON


def wait_for(path, what):
    from mount import fd_of, read_until

    with fd_of(path) as fd:
        read_until(fd, what)


def test_a_kernel_writes_where_it_was_removed(host):
    """Descriptors, working directories and mounts of a removed context lead nowhere."""
    host.make("old")
    host.cell("old", "a.sh", "touch f; (cd /workspace; exec sleep 1000) & echo\n")
    held = host.do(os.open, host.contexts / "old" / "workspace" / "f", os.O_RDONLY)
    host.remove("old")
    host.make("old")
    try:
        assert host.do(os.listdir, host.contexts / "old" / "workspace") == ["canary.json"]
        ran = host.cell("old", "b.sh", "ls; cat /proc/[0-9]*/cmdline | tr '\\0' ' '\n")
        assert ran.status == "ok" and "sleep" not in ran.out, ran
    finally:
        os.close(held)
        host.remove("old")


def test_two_cells_at_once(host):
    """Many writers of the same cells: each run is one complete text. What two write at the same moment is one run."""
    host.make("twice")
    ctx = host.contexts / "twice"
    try:
        def writer(n):
            for i in range(15):
                run(ctx, "a.sh", f"echo {n} {n} {n} {n}\n")
                run(ctx, f"b{n}.sh", f"echo {n}\n")

        threads = [threading.Thread(target=host.do, args=(writer, n), kwargs={"eye": n}) for n in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        def outs():
            got = []
            for n in sorted(map(int, os.listdir(ctx / "history"))):
                r = ctx / "history" / str(n)
                assert read(r / "done") == "ok\n"
                got.append((read(r / "stdout"), read(r / "code")))
            return got

        got = host.do(outs)
        assert 31 <= len(got) <= 60 and len([c for _, c in got if len(c.split()) == 2]) == 30
        for out, code in got:
            assert "echo " + out == code, (out, code)
    finally:
        host.remove("twice")


def test_many_contexts(host):
    """They cost little as long as nothing runs, and go as they came. CELLFS_MANY=N for more."""
    files, rss = host.open_files(), host.rss()
    start = time.monotonic()

    def make():
        for i in range(MANY):
            (host.contexts / f"many{i}").mkdir()

    def remove():
        for i in range(MANY):
            (host.contexts / f"many{i}").rmdir()

    host.do(make, seconds=3600)
    took = time.monotonic() - start
    print(f"{MANY} contexts in {took:.2f} s, {(host.rss() - rss) / MANY / 1024:.1f} KiB each")
    assert host.alive_cell() < SOON
    host.do(remove, seconds=3600)
    host.opened(files, 2)
    assert host.rss() - rss < 64 << 20


SHMS = 3  # contexts that try to meet


def test_contexts_do_not_meet(host):
    """By a key of shared memory, an abstract socket, a port, a queue, a name in /tmp, a lock: every pair of contexts."""
    code = """
from attack import *
import fcntl, socket
me = os.environ["CELLFS_CONTEXT"]
met = []
s = socket.socket(socket.AF_UNIX)
try: s.bind("\\0meet"); s.listen()
except OSError: met.append("abstract")
t = socket.socket()
try: t.bind(("127.0.0.1", 45678)); t.listen()
except OSError: met.append("port")
try: call(libc.shmget, 4711, 4096, 0o3600)
except OSError: met.append("shm")
rt = ctypes.CDLL("librt.so.1", use_errno=True)
try: call(rt.mq_open, b"/meet", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, None)
except OSError as e: met.append("mq") if e.errno == errno.EEXIST else 0
for d in ("/tmp", "/dev/shm", "/home/user", "/workspace"):
    try: os.close(os.open(d + "/meet", os.O_CREAT | os.O_EXCL))
    except OSError: met.append(d)
for f in ("/usr/bin/id", "/etc/passwd", "/kernels"):
    fd = os.open(f, os.O_RDONLY)
    try: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: met.append("lock of " + f)
check(not [m for m in met if "lock" not in m], f"{me} meets {met}")
check(len(pids()) <= 8, f"{len(pids())} processes")
"""
    names = [f"meet{i}" for i in range(SHMS)]
    try:
        for n in names:
            host.make(n, "", LIBS)
        for n in names:
            ran = host.cell(n, "a.py", code)
            assert ran.status == "ok" and "LEAK" not in ran.out and "ok:" in ran.out, ran
    finally:
        for n in names:
            host.remove(n)


