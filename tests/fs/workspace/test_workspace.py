"""workspace/: the kernels' cwd through the mount. Random operations, coherence with the box, locks, limits."""

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import signal
import sqlite3
import struct
import sys
import threading
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from mount import Mount, PATIENCE, done, fails, hold, is_parked, let_go, ok, on_a_disk, parked, read, run, sh, spawn, end, until, within, write  # noqa: E402
from programs import program  # noqa: E402

MIB = 1 << 20
FSX = int(os.environ.get("CELLFS_FSX", "100000"))  # operations
STRESS = int(os.environ.get("CELLFS_STRESS", "4000"))  # of each process
SQLITE = int(os.environ.get("CELLFS_SQLITE", "300"))  # transactions on each side; 10000 is the aim
SEED = os.environ.get("CELLFS_SEED", "1")


@pytest.fixture(scope="module", params=["on", "off"])
def m(request):
    """With passthrough, where the kernel has it and we are root, and without."""
    made = Mount("passthrough=" + request.param)
    made.passes = request.param == "on" and os.geteuid() == 0 and kernel() >= (6, 9)
    yield made
    made.close()


def kernel():
    return tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2])


def below(m, ctx):
    """The real directory."""
    return m.state / "contexts" / json.loads(read(ctx / "context.json"))["uuid"] / "workspace"


def out(ctx, code, cell="a.sh"):
    r = run(ctx, cell, code)
    assert done(r) == "ok", read(r / "report.md")
    return read(r / "stdout")


# ---- random operations -----------------------------------------------------------------------------


@pytest.mark.parametrize("part", range(10))  # each has the time of a whole test
def test_random_operations_on_a_file_give_what_they_should(m, ctx, part):
    w = ctx / "workspace"
    print(ok([program("fsx"), w / "f", str(FSX // 10), SEED + "5" + str(part), below(m, ctx) / "f"], timeout=300))


def test_two_processes_do_random_operations_each_on_its_file(m, ctx):
    w = ctx / "workspace"
    both = [spawn([program("fsx"), w / f"f{i}", str(FSX // 20), SEED + str(i), below(m, ctx) / f"f{i}"]) for i in range(2)]
    assert [p.wait(PATIENCE) for p in both] == [0, 0]


def test_many_processes_do_random_things_to_one_tree(m, ctx):
    (ctx / "workspace" / "s").mkdir()
    ok([program("stress"), ctx / "workspace" / "s", "4", str(STRESS), SEED], timeout=300)
    ok(["diff", "-r", "--no-dereference", ctx / "workspace" / "s", below(m, ctx) / "s"])
    ok(["rm", "-r", ctx / "workspace" / "s"])
    assert not (below(m, ctx) / "s").exists()


def test_a_crowd_on_both_sides_of_the_mount_meets_no_other_error(m, ctx):
    (ctx / "workspace" / "s").mkdir()
    both = [spawn([program("stress"), where / "s", "2", str(STRESS), SEED, "stale"]) for where in (ctx / "workspace", below(m, ctx))]
    assert [p.wait(60) for p in both] == [0, 0]
    ok(["diff", "-r", "--no-dereference", ctx / "workspace" / "s", below(m, ctx) / "s"])


# ---- coherence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["cell", "mount"])
def test_a_file_that_is_replaced_all_the_time_is_always_there(m, ctx, by):
    replaces = ("import os\nprint('begun', flush=True)\nwhile not os.path.exists('go'):\n"
                "  for text in ('one', 'two'):\n    with open('t', 'w') as f: f.write(text)\n    os.rename('t', 'f')\n")
    write(ctx / "workspace/f", "one")
    if by == "cell":
        r = hold(ctx, "replaces.py", code=replaces)
    else:
        other = spawn(["/usr/bin/python3", "-c", replaces], cwd=ctx / "workspace")
    got = {read(ctx / "workspace/f") for _ in range(1500)} | {str(os.stat(ctx / "workspace/f").st_size) for _ in range(500)}
    write(ctx / "workspace/go", "")
    assert got == {"one", "two", "3"}
    assert done(r) == "ok" if by == "cell" else other.wait(PATIENCE) == 0


def test_what_a_process_below_writes_is_read_at_once_by_who_has_it_open(m, ctx):
    w, b = ctx / "workspace", below(m, ctx)
    write(b / "f", "0" * 8192)
    here = os.open(w / "f", os.O_RDWR)
    there = os.open(b / "f", os.O_RDWR)
    for i in range(200):
        text = str(i).zfill(8192).encode()
        os.pwrite(there, text, 0)
        assert os.pread(here, 8192, 0) == text
        os.pwrite(here, text[::-1], 0)
        assert os.pread(there, 8192, 0) == text[::-1]
    os.write(there, b"more")
    os.pwrite(there, b"x", 20000)
    assert os.fstat(here).st_size == os.stat(w / "f").st_size == 20001
    os.ftruncate(there, 3)
    assert os.pread(here, 10, 0) == b"mor" and os.fstat(here).st_size == 3
    os.close(here)
    os.close(there)


def test_a_cell_and_the_mount_see_what_the_other_wrote(m, ctx):
    write(ctx / "workspace" / "in", "from the mount")
    assert out(ctx, "cat in; echo from the cell > out; mkdir -p d/e; ln -s ../out d/l; chmod 640 out\n") == "from the mount"
    assert read(ctx / "workspace" / "d" / "l") == "from the cell\n"
    assert os.stat(ctx / "workspace" / "out").st_mode & 0o777 == 0o640


def test_a_map_is_coherent_after_msync_and_reopen(m, ctx):
    w, b = ctx / "workspace", below(m, ctx)
    write(b / "f", bytes(8192))
    with open(w / "f", "r+b") as f, mmap.mmap(f.fileno(), 0) as here:
        here[5000:5004] = b"here"
        here.flush()
        assert (b / "f").read_bytes()[5000:5004] == b"here"
        with open(b / "f", "r+b") as g, mmap.mmap(g.fileno(), 0) as there:
            there[0:5] = b"there"
            there.flush()
            if m.passes:  # at once
                assert here[0:5] == b"there"
                here[8:12] = b"more"
                assert there[8:12] == b"more"
    with open(w / "f", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as here:
        assert here[0:5] == b"there"


def test_appends_from_both_sides_lose_nothing(m, ctx):
    append = "import os, sys\nfd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)\nfor i in range(2000): os.write(fd, b'%s %04d\\n' % (sys.argv[2].encode(), i))\n"
    both = [spawn([sys.executable, "-c", append, where / "log", who]) for where, who in ((ctx / "workspace", "here"), (below(m, ctx), "there"))]
    assert [p.wait(PATIENCE) for p in both] == [0, 0]
    lines = read(ctx / "workspace" / "log").splitlines()
    for who in ("here", "there"):
        assert [line for line in lines if line.startswith(who)] == [f"{who} {i:04d}" for i in range(2000)]


def test_what_was_opened_is_what_is_served(m, ctx):
    """A file that grows, shrinks, is removed or swapped for a link while it is read."""
    w, b = ctx / "workspace", below(m, ctx)
    write(w / "secret", "secret")
    for how in ("rm f", "mv other f", "ln -sf /etc/passwd f", "rm f; mkfifo f", "rm f; mkdir f"):
        write(b / "f", "opened")
        write(b / "other", "another")
        with open(w / "f", "rb", buffering=0) as f:
            assert f.read(2) == b"op"
            ok(how, cwd=b)
            assert f.read() == b"ened", how
        ok("rm -rf f", cwd=b)


def test_a_copy_within_the_mount_is_a_copy(m, ctx):
    w = ctx / "workspace"
    data = os.urandom(20 * MIB)
    write(w / "a", data)
    with open(w / "a", "rb") as a, open(w / "b", "wb") as b:
        done_ = 0
        while done_ < len(data):
            done_ += os.copy_file_range(a.fileno(), b.fileno(), len(data) - done_)
    assert (w / "b").read_bytes() == data
    ok(["cp", w / "a", w / "c"])
    ok(["cmp", w / "a", w / "c"])


# ---- locks -------------------------------------------------------------------------------------------

HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
getattr(fcntl, sys.argv[2])(fd, fcntl.LOCK_EX)
print("has it", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def holder(path, how):
    """A process that has the lock until the body ends."""
    import subprocess

    p = spawn([sys.executable, "-c", HOLDER, path, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield p
    finally:
        end(p)


def granted(p):
    return p.stdout.readline() == "has it\n"


@pytest.mark.parametrize("how", ["lockf", "flock"])
@pytest.mark.parametrize("first", ["here", "there"])
def test_who_waits_for_a_lock_gets_it_when_it_is_free(m, ctx, how, first):
    write(ctx / "workspace" / "f", "x")
    sides = {"here": ctx / "workspace" / "f", "there": below(m, ctx) / "f"}
    for second in ("here", "there"):
        with holder(sides[first], how) as a:
            assert granted(a)
            with holder(sides[second], how) as b:
                if second == "here":
                    parked(b)
                with open(sides[second], "r+") as f, fails(errno.EAGAIN):
                    getattr(fcntl, how)(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                end(a)
                with within(5):
                    assert granted(b)


@pytest.mark.parametrize("how", ["lockf", "flock"])
def test_a_waiting_lock_ends_with_a_signal(m, ctx, how):
    f = ctx / "workspace" / "f"
    write(f, "x")
    with holder(f, how) as a:
        assert granted(a)
        with holder(f, how) as b:
            parked(b)
            until(lambda: is_parked(b), why="it does not stay in its wait for the lock")
            b.send_signal(signal.SIGINT)
            with within(5):
                assert b.wait() != 0
            assert a.poll() is None
    with open(f, "r+") as again:
        getattr(fcntl, how)(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_locks_of_ranges_and_who_has_them(m, ctx):
    path = ctx / "workspace" / "f"
    write(path, "x" * 100)
    a = os.open(path, os.O_RDWR)
    fcntl.lockf(a, fcntl.LOCK_EX, 10, 20)
    asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    pid = os.fork()
    if pid == 0:
        try:
            b = os.open(path, os.O_RDWR)
            kind, _, start, length, who = struct.unpack("hhqqi4x", fcntl.fcntl(b, fcntl.F_GETLK, asked))
            assert (kind, start, length, who) == (fcntl.F_WRLCK, 20, 10, os.getppid())
            fcntl.lockf(b, fcntl.LOCK_EX | fcntl.LOCK_NB, 20, 0)
            fcntl.lockf(b, fcntl.LOCK_EX | fcntl.LOCK_NB, 0, 30)
            with fails(errno.EAGAIN):
                fcntl.lockf(b, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 29)
            os._exit(0)
        except BaseException as e:
            os.write(2, repr(e).encode())
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    with fails(errno.EAGAIN), open(below(m, ctx) / "f", "r+") as there:
        fcntl.lockf(there, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 25)
    os.close(os.open(path, os.O_RDONLY))  # POSIX: any close of the file ends the process's locks
    with open(below(m, ctx) / "f", "r+") as there:
        fcntl.lockf(there, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(a)


def test_a_cell_s_lock_keeps_the_mount_out(m, ctx):
    write(ctx / "workspace" / "f", "")
    r = run(ctx, "a.py", "import fcntl, os, time\nf = open('f', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint('held', flush=True)\n"
            "while not os.path.exists('go'): time.sleep(0.01)\nos.unlink('go')\nf.close()\n")
    with open(r / "stdout.follow") as live:
        assert live.readline() == "held\n"
    with open(ctx / "workspace" / "f", "r+") as f:
        with fails(errno.EAGAIN):
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        let_go(ctx)
        fcntl.lockf(f, fcntl.LOCK_EX)  # waits for the cell
    assert done(r) == "ok"


def test_files_that_the_tree_makes_can_be_locked_too(m, ctx):
    write(ctx / "cells" / "draft", "text")
    for path in (ctx / "cells" / "draft", ctx / "status"):
        with open(path) as a, open(path) as b:
            fcntl.flock(a, fcntl.LOCK_EX)
            with fails(errno.EAGAIN):
                fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(a, fcntl.LOCK_SH)
            a.close()
            fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)


BOOK = """
import sqlite3, sys
db = sqlite3.connect({path!r}, timeout=60, isolation_level=None)
db.execute('pragma synchronous=normal')
for i in range({times}):
    db.execute('begin immediate')
    db.execute('insert into entries values (?, ?)', ({who!r}, i))
    db.execute('update total set n = n + 1')
    db.execute('commit')
db.close()
"""


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite_from_a_cell_and_from_the_mount_at_once(m, ctx, journal):
    if journal == "wal" and not m.passes:
        return  # its index is a shared map, which is coherent with passthrough only; cellfs(5) says so
    signal.alarm(60 + SQLITE // 20)
    path = ctx / "workspace" / "book.db"
    db = sqlite3.connect(path)
    db.executescript(f"pragma journal_mode={journal}; create table entries (who, i); create table total (n); insert into total values (0)")
    db.commit()
    db.close()
    write(ctx / "config" / "timeout", "1h")
    r = run(ctx, "a.py", BOOK.format(path="book.db", times=SQLITE, who="cell"))
    here = spawn([sys.executable, "-c", BOOK.format(path=str(path), times=SQLITE, who="mount")])
    assert here.wait(PATIENCE + SQLITE // 20) == 0
    assert done(r) == "ok", read(r / "report.md")
    for where in (path, below(m, ctx) / "book.db"):
        db = sqlite3.connect(where)
        assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert db.execute("select who, count(*), count(distinct i) from entries group by who order by who").fetchall() == [
            ("cell", SQLITE, SQLITE), ("mount", SQLITE, SQLITE)]
        assert db.execute("select n from total").fetchall() == [(2 * SQLITE,)]
        db.close()


# ---- what is refused ---------------------------------------------------------------------------------


def fill(path, size, piece=MIB, flags=os.O_WRONLY | os.O_CREAT):
    """Writes until it is refused; how much was taken, and with which error it ended."""
    fd = os.open(path, flags, 0o644)
    taken = 0
    try:
        while taken < size:
            taken += os.write(fd, bytes(min(piece, size - taken)))
        return taken, 0
    except OSError as e:
        return taken, e.errno
    finally:
        os.close(fd)


def test_the_disk_limit_ends_a_writer_through_the_mount(m, ctx):
    w = ctx / "workspace"
    write(ctx / "config" / "disk", "8M")
    write(w / "kept", bytes(2 * MIB))
    taken, err = fill(w / "big", 20 * MIB)
    assert err == errno.ENOSPC and 4 * MIB < taken <= 6 * MIB, (taken, err)
    assert "disk limit 8 MiB" in read(ctx / "log")
    with fails(errno.ENOSPC):
        os.posix_fallocate(fd := os.open(w / "kept", os.O_WRONLY), 0, 20 * MIB)
    os.close(fd)
    for name in ("big", "kept"):  # what has its place can be written anew
        fd = os.open(w / name, os.O_WRONLY)
        os.write(fd, b"x" * MIB)
        os.close(fd)
    os.unlink(w / "big")
    assert fill(w / "again", 4 * MIB) == (4 * MIB, 0)
    assert out(ctx, "ls\n").split() == ["again", "kept"]


def test_the_disk_limit_counts_what_cells_have_written(m, ctx):
    write(ctx / "config" / "disk", "8M")
    out(ctx, "head -c 6M /dev/zero > cell; head -c 1M /dev/zero > ~/home\n")
    again = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    until(lambda: fill(ctx / "workspace" / "big", 4 * MIB, flags=again)[1] == errno.ENOSPC, why="the box's files do not count")
    os.unlink(ctx / "workspace" / "cell")
    assert fill(ctx / "workspace" / "big", 4 * MIB) == (4 * MIB, 0)


def test_a_full_disk_below_reaches_the_writer_and_the_log(fresh_on_a_small_disk):
    m = fresh_on_a_small_disk
    w = m.main / "workspace"
    taken, err = fill(w / "big", 64 * MIB)
    assert err == errno.ENOSPC and taken > 0
    os.unlink(w / "big")
    until(lambda: "the disk of the host is full" in read(m.main / "log"))  # which lies on that disk
    assert fill(w / "again", MIB) == (MIB, 0)


@pytest.fixture
def fresh_on_a_small_disk(tmp_path):
    if os.geteuid():
        pytest.skip("a small disk is made by root only")
    with on_a_disk(tmp_path / "disk", "tmpfs", 24 * MIB) as made:
        yield made


def test_links_that_lead_out_are_not_made_and_not_shown(m, ctx):
    w, b = ctx / "workspace", below(m, ctx)
    (w / "d").mkdir()
    for target, name in (("/etc/passwd", "l"), ("../x", "l"), ("../../x", "d/l"), ("d/../../x", "l")):
        with fails(errno.EPERM):
            os.symlink(target, w / name)
        os.symlink(target, b / name)
        with fails(errno.ENOENT):
            os.readlink(w / name)
        with fails(errno.ENOENT):
            open(w / name)
        assert "l" not in os.listdir(w) + os.listdir(w / "d")
        os.unlink(b / name)
    os.symlink("../d/f", w / "d" / "in")
    write(w / "d" / "f", "inside")
    assert read(w / "d" / "in") == "inside"


def test_fifos_sockets_and_devices_are_not_there(m, ctx):
    with fails(errno.EPERM):
        os.mkfifo(ctx / "workspace" / "p")
    os.mkfifo(below(m, ctx) / "p")
    with fails(errno.ENOENT):
        os.stat(ctx / "workspace" / "p")


# ---- the loop does not wait --------------------------------------------------------------------------


def test_others_are_served_while_somebody_syncs_and_writes_much(m, ctx):
    """The daemon's loop does not wait for the disk: a stat elsewhere is answered while fsync is under way."""
    stop, slowest = threading.Event(), [0.0]

    def look():
        while not stop.is_set():
            start = time.monotonic()
            os.stat(m.path / "status")
            read(m.path / "status")
            slowest[0] = max(slowest[0], time.monotonic() - start)
            time.sleep(0.001)

    t = threading.Thread(target=look)
    t.start()
    try:
        for i in range(3):
            with open(ctx / "workspace" / "big", "wb", buffering=0) as f:
                for _ in range(64):
                    f.write(bytes(MIB))
                os.fsync(f.fileno())
    finally:
        stop.set()
        t.join()
    assert slowest[0] < 2 * float(os.environ.get("CELLFS_SLOW", "1")), f"a stat took {slowest[0]:.3f} s"


def test_fsync_of_a_file_and_of_a_directory(m, ctx):
    w = ctx / "workspace"
    write(w / "f", "x")
    for path in (w, w / "f"):
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.fdatasync(fd)
        os.close(fd)


def test_df_tells_of_the_file_system_below(m, ctx):
    here, there = os.statvfs(ctx / "workspace"), os.statvfs(below(m, ctx))
    assert (here.f_bsize, here.f_blocks, here.f_namemax) == (there.f_bsize, there.f_blocks, there.f_namemax)
