"""The shelf /artifacts/: an ordinary directory that outlives contexts, read-only in every box; what was promoted never
changes with its origin."""

import errno
import json
import os
import sys

import pytest

from mount import Mount, done, fails, fd_of, ok, on_a_disk, read, read_until, run, sh, until, write

MIB = 1 << 20
BIG = int(os.environ.get("CELLFS_BIG", "64")) * MIB  # of what is promoted; 1024 is the aim
USERS = (65533, 65534)


def out(ctx, code, cell="a.sh"):
    r = run(ctx, cell, code)
    assert done(r) == "ok", read(r / "report.md")
    return read(r / "stdout")


def shelf(m):
    return m.path / "artifacts"


def uuid(ctx):
    return json.loads(read(ctx / "context.json"))["uuid"]


def test_it_is_an_ordinary_directory(m):
    s = shelf(m)
    (s / "d").mkdir()
    write(s / "d" / "f", "text")
    os.rename(s / "d" / "f", s / "g")
    os.link(s / "g", s / "d" / "h")
    os.symlink("g", s / "l")
    os.chmod(s / "g", 0o640)
    os.setxattr(s / "g", "user.a", b"b")
    assert read(s / "l") == read(s / "d" / "h") == "text" and os.stat(s / "g").st_nlink == 2
    assert sorted(os.listdir(s)) == ["d", "g", "l"]
    ok(f"rm -r {s}/d {s}/g {s}/l")
    assert os.listdir(s) == [] == os.listdir(m.state / "artifacts")


def test_it_outlives_contexts_and_mounts(m):
    ctx = m.context("short")
    out(ctx, "echo kept > f\n")
    ok(["mv", ctx / "workspace" / "f", shelf(m) / "f"])
    write(ctx / "ctl", "remove\n")
    until(lambda: "short" not in os.listdir(m.contexts))
    m.remount()
    assert read(shelf(m) / "f") == "kept\n"
    os.unlink(shelf(m) / "f")


def test_every_box_reads_it_and_none_writes_it(m, ctx):
    write(shelf(m) / "f", "for all")
    assert out(ctx, "cat /artifacts/f\n") == "for all"
    assert out(m.main, "cat /artifacts/f\n") == "for all"
    for attempt in ("echo x > /artifacts/new", "echo x >> /artifacts/f", "rm /artifacts/f", "chmod 600 /artifacts/f", "mv /artifacts/f ."):
        assert done(run(ctx, "w.sh", attempt + "\n")) == "error", attempt
    assert read(shelf(m) / "f") == "for all"
    if os.geteuid() == 0:
        os.chmod(shelf(m) / "f", 0o600)
        assert done(run(ctx, "w.sh", "cat /artifacts/f\n")) == "error"  # the file's mode decides
    os.unlink(shelf(m) / "f")


# ---- promotion ---------------------------------------------------------------------------------------

HELD = """import os, time
f = open('big', 'r+b')
print('held', flush=True)
while not os.path.exists('go'): time.sleep(0.01)
os.unlink('go')
os.pwrite(f.fileno(), b'CHANGED', 0)
os.ftruncate(f.fileno(), {size})
os.fsync(f.fileno())
"""


def promote_and_change(m, ctx, way, origin="workspace"):
    """A file is promoted while a cell holds it open; then the cell changes it."""
    w = ctx / "workspace"
    ok(["dd", "if=/dev/urandom", f"of={w}/big", "bs=1M", f"count={BIG // MIB}"])
    os.chmod(w / "big", 0o640)
    os.setxattr(w / "big", "user.mark", b"x")
    os.utime(w / "big", ns=(10**18, 10**18 + 5))
    want = ok(["sha256sum", w / "big"]).split()[0]
    r = run(ctx, "hold.py", HELD.format(size=BIG // 2))
    with fd_of(r / "stdout.follow") as fd:
        read_until(fd, b"held\n")
    to = shelf(m) / "promoted"
    got = sh(way.format(w / "big", to))
    write(w / "go", "")
    assert done(r) == "ok", read(r / "report.md")
    assert got.returncode == 0, got.stderr
    assert ok(["sha256sum", to]).split()[0] == want, "what was promoted has changed with its origin"
    here, there = os.stat(to), os.stat(w / "big") if "mv" not in way else None
    if there:
        assert there.st_size == BIG // 2
        below = os.stat(m.state / "artifacts" / "promoted"), os.stat(m.state / "contexts" / uuid(ctx) / "workspace" / "big")
        assert below[0].st_ino != below[1].st_ino and below[0].st_nlink == 1
    else:
        assert not os.path.exists(w / "big")
        assert here.st_mode & 0o777 == 0o640 and here.st_mtime_ns == 10**18 + 5
    os.unlink(to)


WAYS = ["mv {} {}", "cp {} {}", "cp -p {} {}", "cp --reflink=auto {} {}"]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_promoted_does_not_change_with_its_origin(m, ctx, way):
    promote_and_change(m, ctx, way)


@pytest.fixture(scope="module", params=["btrfs", "xfs"])
def reflinks(request, tmp_path_factory):
    """A mount whose STATE_DIR is on a file system that reflinks."""
    if os.geteuid():
        pytest.skip("a loop mount is made by root only")
    with on_a_disk(tmp_path_factory.mktemp("reflink") / "disk", request.param, max(1024 * MIB, 3 * BIG)) as made:
        if not made and os.environ.get("CELLFS_REFLINK"):
            pytest.fail(f"no loop mount of {request.param} can be made here")
        yield made


def used(m):
    """Bytes of the disk, once it has settled."""
    os.sync()
    st = os.statvfs(m.state)
    return (st.f_blocks - st.f_bfree) * st.f_frsize


@pytest.mark.parametrize("way", WAYS + ["ln {} {}"])
def test_where_the_file_system_reflinks_no_byte_moves(reflinks, way):
    if reflinks is None:
        return  # the test above has shown the way that copies
    m = reflinks
    ctx = m.context("ln" if way.startswith("ln") else "c" + str(WAYS.index(way)))
    w = ctx / "workspace"
    ok(["dd", "if=/dev/urandom", f"of={w}/a", "bs=1M", f"count={BIG // MIB}", "conv=fsync"])
    before = used(m)
    ok(way.format(w / "a", shelf(m) / "a"))
    assert used(m) - before < BIG // 4, "bytes have moved"
    os.unlink(shelf(m) / "a")
    if way.startswith("ln"):
        ok(["ln", w / "a", shelf(m) / "a"])
        with fails(errno.EEXIST):
            os.link(w / "a", shelf(m) / "a")
        ok(["ln", "-f", w / "a", shelf(m) / "a"])
        assert os.stat(shelf(m) / "a").st_nlink == 1
        os.unlink(shelf(m) / "a")
    promote_and_change(m, ctx, way)


def test_a_rename_onto_the_shelf_is_a_reflink_or_exdev(m, ctx, reflinks):
    for mnt in filter(None, (m, reflinks)):
        w = mnt.main / "workspace"
        write(w / "f", "new")
        write(shelf(mnt) / "f", "old")
        try:
            os.rename(w / "f", shelf(mnt) / "f")
            assert mnt is reflinks
            assert read(shelf(mnt) / "f") == "new" and not (w / "f").exists()
        except OSError as e:
            assert e.errno == errno.EXDEV and mnt is m
            assert read(shelf(mnt) / "f") == "old" and read(w / "f") == "new"
        (w / "d").mkdir(exist_ok=True)
        for what in (lambda: os.rename(w / "d", shelf(mnt) / "d"), lambda: os.rename(shelf(mnt) / "f", w / "back"),
                     lambda: os.link(shelf(mnt) / "f", w / "back")):
            with fails(errno.EXDEV):
                what()
        ok(["mv", w / "d", shelf(mnt) / "d"])
        ok(["mv", shelf(mnt) / "f", shelf(mnt) / "d", w])
        assert os.listdir(shelf(mnt)) == []


# ---- rights ------------------------------------------------------------------------------------------


def as_user(uid, command):
    return sh(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "bash", "-c", command])


@pytest.mark.skipif(os.geteuid() != 0, reason="other users' files can be made by root only")
def test_with_allow_other_it_is_as_tmp(request):
    m = Mount("allow_other")
    try:
        os.chmod(m.dir, 0o755)
        s, (a, b) = shelf(m), USERS
        assert os.stat(s).st_mode & 0o7777 == 0o1777
        assert as_user(a, f"umask 022; echo a > {s}/f; mkdir {s}/d; echo in > {s}/d/f; umask 077; echo secret > {s}/p").returncode == 0
        assert (os.stat(s / "f").st_uid, os.stat(s / "f").st_gid, os.stat(s / "d").st_uid) == (a, a, a)
        assert as_user(b, f"cat {s}/f").stdout == "a\n"
        for attempt in (f"cat {s}/p", f"echo x > {s}/f", f"rm -f {s}/f", f"mv {s}/f {s}/g", f"chmod 777 {s}/f", f"echo x > {s}/d/new",
                        f"ln {s}/p {s}/q", f"chown {b} {s}/f", f"truncate -s 0 {s}/f", f"chmod 777 {s}"):
            assert as_user(b, attempt).returncode != 0, attempt
        assert as_user(b, f"mkdir {m.contexts}/b").returncode == 0
        as_user(b, f"printf 'cat /artifacts/f; cat /artifacts/p\n' > {m.contexts}/b/cells/a.sh")
        r = m.contexts / "b" / "results" / "a.sh"
        assert done(r) == "error" and read(r / "stdout") == "a\n"  # modes decide in the box, too
        assert as_user(a, f"chmod 600 {s}/f; mv {s}/f {s}/g; rm -r {s}/d {s}/p {s}/g").returncode == 0
        write(s / "root", "x")
        os.chown(s / "root", b, b)
        assert as_user(b, f"rm {s}/root").returncode == 0
        assert as_user(b, f"echo promoted > {m.contexts}/b/workspace/f; mv {m.contexts}/b/workspace/f {s}/f").returncode == 0
        assert os.stat(s / "f").st_uid == b and read(s / "f") == "promoted\n"
    finally:
        m.close()
