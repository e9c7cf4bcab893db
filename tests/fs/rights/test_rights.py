"""interface.md, Rights, and sandbox.md 4.1, FUSE options: a mount with allow_other, by root and by a user."""

import contextlib
import errno
import json
import os
import pathlib
import pickle
import shutil
import stat
import tempfile
import threading

import pytest

from mount import BUILD, PATIENCE, Mount, done, fails, fd_of, hold, let_go, ok, parked, read, run, sh, spawn, status, until, within, write

ANN, BOB, COY = 12345, 12346, 12347
NOBODY = 65534  # fusermount3 mounts for users with a name only
CELLFS = str(BUILD / "cellfs")
DENIED = (errno.EACCES, errno.EPERM)


def by(uid, fn, *args, gid=None, groups=()):
    """FN(*ARGS) in a process of that user's; its value, or its OSError."""
    r, w = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups(list(groups))
            os.setresgid(*3 * (gid or uid,))
            os.setresuid(*3 * (uid,))
            os.umask(0o022)
            answer = (True, fn(*args))
        except BaseException as e:
            answer = (False, e if isinstance(e, OSError) else repr(e))
        with contextlib.suppress(BaseException):
            os.write(w, pickle.dumps(answer))
        os._exit(0)
    os.close(w)
    with open(r, "rb") as f:
        text = f.read()
    os.waitpid(pid, 0)
    fine, value = pickle.loads(text)
    if fine:
        return value
    raise value if isinstance(value, OSError) else AssertionError(value)


def argv(uid, *command, more=()):
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", *more, *map(str, command)]


@pytest.fixture(scope="module")
def place():
    """Where all users may look."""
    d = pathlib.Path(tempfile.mkdtemp(prefix="cellfs-rights-"))
    os.chmod(d, 0o755)
    yield d
    shutil.rmtree(d, ignore_errors=True)


@pytest.fixture(scope="module")
def m(place):
    made = Mount("allow_other,wait=5", where=place / "shared")
    yield made
    made.close()


numbers = iter(range(1, 1000))


@pytest.fixture
def ann(m):
    """A context of Ann's, with a run."""
    c = m.contexts / f"ann-{next(numbers)}"
    by(ANN, os.mkdir, c)
    assert by(ANN, lambda: done(run(c, "a.sh", "echo secret; echo mine > made\n"))) == "ok"
    by(ANN, write, c / "workspace" / "upload", "up\n")
    yield c
    with contextlib.suppress(FileNotFoundError):
        write(c / "ctl", "remove\n")


def owner(path):
    st = os.lstat(path)
    return st.st_uid, st.st_gid


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# ---- whose it is ---------------------------------------------------------------------------------


def test_contexts_is_like_tmp(m):
    assert mode(m.contexts) == 0o1777 and owner(m.contexts) == (0, 0)
    assert by(BOB, os.access, m.contexts, os.R_OK | os.W_OK | os.X_OK)


def test_a_context_belongs_to_who_made_it_and_is_0700(m):
    c = m.contexts / "whose"
    by(ANN, os.mkdir, c)
    assert owner(c) == (ANN, ANN) and mode(c) == 0o700
    by(ANN, os.rmdir, c)
    by(ANN, lambda: os.mkdir(c), gid=777)
    assert owner(c) == (ANN, 777)
    by(ANN, os.rmdir, c)


def test_everything_in_it_belongs_to_its_owner(ann):
    seen = 0
    for where, dirs, files in os.walk(ann):
        for name in dirs + files:
            assert owner(os.path.join(where, name)) == (ANN, ANN), os.path.join(where, name)
            seen += 1
    assert seen > 30
    for hidden in ("stdout.follow", "stderr.follow", "events.follow"):
        assert owner(ann / hidden) == (ANN, ANN)
    assert owner(ann / "workspace") == owner(ann / "workspace" / "made") == (ANN, ANN)


def test_root_makes_contexts_of_its_own(m):
    c = m.context("roots")
    assert owner(c) == (0, 0)
    with fails(errno.EACCES):
        by(ANN, os.listdir, c)
    os.rmdir(c)


def test_there_is_no_main(m, place):
    assert "main" not in os.listdir(m.contexts)
    by(BOB, os.mkdir, m.contexts / "main")  # a name as any other
    assert owner(m.main) == (BOB, BOB)
    by(BOB, os.rmdir, m.main)


def test_a_user_in_a_namespace_is_who_they_are_outside(m):
    c = m.contexts / "inner"
    ok(argv(ANN, "unshare", "-Ur", "sh", "-c", f"id -u; mkdir {c}; echo 'echo in' > {c}/cells/a.sh; cat {c}/results/a.sh/done"))
    assert owner(c) == (ANN, ANN)
    got = sh(argv(BOB, "unshare", "-Ur", "ls", c))  # root there is nobody here
    assert got.returncode and "ermission denied" in got.stderr
    assert by(ANN, read, c / "stdout") == "in\n"
    write(c / "ctl", "remove\n")


# ---- what the owner can do -----------------------------------------------------------------------


def test_the_owner_works_as_ever(ann):
    def work():
        assert done(run(ann, "b.py", "import os\nopen('n', 'w').write('7')\n6 * 7\n")) == "ok"
        assert read(ann / "results" / "b.py" / "result.txt") == "42\n"
        assert read(ann / "workspace" / "n") == "7"
        assert read(ann / "workspace" / "upload") == "up\n"
        write(ann / "config" / "timeout", "30\n")
        write(ann / "config" / "env" / "X", "y")
        os.mkdir(ann / "workspace" / "d")
        os.symlink("../upload", ann / "workspace" / "d" / "l")
        os.link(ann / "workspace" / "upload", ann / "workspace" / "d" / "h")
        os.chmod(ann / "workspace" / "upload", 0o640)
        os.utime(ann / "workspace" / "upload", (1, 2))
        os.truncate(ann / "workspace" / "upload", 1)
        os.rename(ann / "workspace" / "upload", ann / "workspace" / "d" / "r")
        assert read(ann / "workspace" / "d" / "r") == "u"
        os.setxattr(ann / "workspace" / "d", "user.a", b"b")
        os.chown(ann / "workspace" / "d", ANN, ANN)
        os.rename(ann / "cells" / "b.py", ann / "cells" / "c.py")
        assert os.getxattr(ann / "cells" / "c.py", "user.run") == b"2"
        os.unlink(ann / "cells" / "c.py")
        shutil.rmtree(ann / "history" / "2")
        write(ann / "ctl", "restart\n")
        assert mode(ann / "workspace" / "d" / "r") == 0o640
        return [owner(ann / "workspace" / name) for name in ("d", "d/r", "d/h", "d/l")]

    assert by(ANN, work) == [(ANN, ANN)] * 4


def test_a_cell_can_change_what_was_uploaded(ann):
    by(ANN, os.mkdir, ann / "workspace" / "sub")
    by(ANN, write, ann / "workspace" / "sub" / "x", "1\n")
    assert by(ANN, lambda: done(run(ann, "w.sh", "set -e; echo 2 >> sub/x; echo 3 >> upload; touch sub/y; rm -r sub\n"))) == "ok"


def test_the_owner_removes_it(ann):
    by(ANN, shutil.rmtree, ann)
    assert not ann.exists()


def test_the_owner_cannot_give_it_away(ann):
    for path in (ann, ann / "cells" / "a.sh", ann / "workspace" / "upload"):
        with fails(*DENIED):
            by(ANN, os.chown, path, BOB, BOB)
    with fails(*DENIED):
        by(ANN, os.chmod, ann, 0o777)
    assert mode(ann) == 0o700


def test_what_root_gives_away_stays(ann):
    """chown as root (tar, rsync) is no error and changes nothing."""
    os.chown(ann / "workspace" / "upload", BOB, BOB)
    assert owner(ann / "workspace" / "upload") == (ANN, ANN)
    assert by(ANN, read, ann / "workspace" / "upload") == "up\n"


def test_the_context_of_a_file_keeps_its_group_bits_out(ann):
    by(ANN, os.chmod, ann / "workspace" / "upload", 0o666)
    with fails(errno.EACCES):
        by(BOB, read, ann / "workspace" / "upload")


def test_done_waits_longer_than_wait_and_report_does_not(ann):
    by(ANN, write, ann / "config" / "wait", "1\n")
    r = by(ANN, hold, ann)
    reader = spawn(argv(ANN, "cat", r / "done"), stdout=-1, text=True)
    with fails(errno.ETIMEDOUT):
        by(ANN, read, r / "result.txt")
    with within(3):
        assert "running" in by(ANN, read, r / "report.md")
    assert by(ANN, lambda: status(r)) == "running" and reader.poll() is None
    by(ANN, let_go, ann)
    assert reader.communicate(timeout=PATIENCE)[0] == "ok\n"
    assert "ended" in by(ANN, read, r / "report.md")
    assert by(ANN, lambda: os.path.exists(r / "error.json")) is False


def test_a_promise_is_waited_for_by_stat_and_open(ann):
    r = by(ANN, hold, ann)
    waits = [spawn(argv(ANN, *c), stdout=-1, text=True) for c in (["cat", r / "stdout"], ["stat", "-c", "%s", r / "stdout"])]
    parked(*waits)
    by(ANN, let_go, ann)
    assert [w.communicate(timeout=PATIENCE)[0] for w in waits] == ["begun\nended\n", "12\n"]


# ---- what another cannot -------------------------------------------------------------------------


def touch(p):
    os.close(os.open(p, os.O_CREAT | os.O_WRONLY, 0o600))


REACHES = {
    "ls": lambda c: os.listdir(c),
    "ls cells": lambda c: os.listdir(c / "cells"),
    "ls workspace": lambda c: os.listdir(c / "workspace"),
    "ls history": lambda c: os.listdir(c / "history"),
    "stat": lambda c: os.stat(c / "cells"),
    "stat a known path": lambda c: os.stat(c / "workspace" / "made"),
    "chdir": lambda c: os.chdir(c),
    "cat a cell": lambda c: read(c / "cells" / "a.sh"),
    "cat a result": lambda c: read(c / "results" / "a.sh" / "stdout"),
    "cat by number": lambda c: read(c / "history" / "1" / "execution.json"),
    "cat the stream": lambda c: read(c / "stdout"),
    "follow": lambda c: os.open(c / "stdout.follow", os.O_RDONLY | os.O_NONBLOCK),
    "cat the log": lambda c: read(c / "log"),
    "cat context.json": lambda c: read(c / "context.json"),
    "cat the workspace": lambda c: read(c / "workspace" / "made"),
    "overwrite": lambda c: write(c / "cells" / "a.sh", "echo bob\n"),
    "append": lambda c: os.open(c / "cells" / "a.sh", os.O_WRONLY | os.O_APPEND),
    "create a cell": lambda c: touch(c / "cells" / "b.sh"),
    "create a draft": lambda c: touch(c / "cells" / "draft"),
    "create in the workspace": lambda c: touch(c / "workspace" / "b"),
    "mkdir": lambda c: os.mkdir(c / "workspace" / "d"),
    "mkdir in it": lambda c: os.mkdir(c / "d"),
    "symlink": lambda c: os.symlink("made", c / "workspace" / "l"),
    "link": lambda c: os.link(c / "workspace" / "made", c / "workspace" / "l"),
    "ctl": lambda c: write(c / "ctl", "remove\n"),
    "config": lambda c: write(c / "config" / "timeout", "1\n"),
    "env": lambda c: write(c / "config" / "env" / "A", "b"),
    "kernel": lambda c: write(c / "config" / "kernel" / "py", "/bin/true"),
    "rename a cell": lambda c: os.rename(c / "cells" / "a.sh", c / "cells" / "b.sh"),
    "rename in the workspace": lambda c: os.rename(c / "workspace" / "made", c / "workspace" / "m"),
    "rm a cell": lambda c: os.unlink(c / "cells" / "a.sh"),
    "rm in the workspace": lambda c: os.unlink(c / "workspace" / "made"),
    "rmdir cells": lambda c: os.rmdir(c / "cells"),
    "forget": lambda c: os.rmdir(c / "history" / "1"),
    "chmod": lambda c: os.chmod(c, 0o777),
    "chmod a cell": lambda c: os.chmod(c / "cells" / "a.sh", 0o666),
    "chown": lambda c: os.chown(c, BOB, BOB),
    "utime": lambda c: os.utime(c / "workspace" / "made"),
    "truncate": lambda c: os.truncate(c / "workspace" / "made", 0),
    "xattr": lambda c: os.getxattr(c / "cells" / "a.sh", "user.run"),
    "setxattr": lambda c: os.setxattr(c / "workspace" / "made", "user.a", b"b"),
    "rename the context": lambda c: os.rename(c, c.with_name("bobs")),
    "rmdir the context": lambda c: os.rmdir(c),
    "mkdir over it": lambda c: os.mkdir(c / "cells"),
    "readlink": lambda c: os.readlink(c / "results" / "latest"),
    "access": lambda c: os.access(c / "cells", os.F_OK) or (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")),
}


def picture(c):
    """All that Bob could have changed. What Ann's files take of the disk is seen by and by, and then told in context.json."""
    out = {}
    for where, dirs, files in os.walk(c):
        for name in files:
            p = pathlib.Path(where, name)
            out[str(p)] = (mode(p), p.read_bytes())
    told = json.loads(out[str(c / "context.json")][1])
    del told["usage"]["disk_bytes"], told["changed_at"]
    out[str(c / "context.json")] = (mode(c / "context.json"), told)
    return out


def test_names_are_seen(m, ann):
    assert ann.name in by(BOB, os.listdir, m.contexts)
    assert by(BOB, owner, ann) == (ANN, ANN)


def test_another_gets_eacces_for_everything(ann):
    before = picture(ann)
    for what, reach in REACHES.items():
        try:
            by(BOB, reach, ann)
        except OSError as e:
            allowed = DENIED if what in ("chmod", "chown", "rename the context", "rmdir the context") else (errno.EACCES,)
            assert e.errno in allowed, (what, e)
        else:
            raise AssertionError(f"Bob could: {what}")
    assert picture(ann) == before and "bobs" not in os.listdir(ann.parent)


CAPABLE = ["--inh-caps=+dac_override,+dac_read_search,+fowner", "--ambient-caps=+dac_override,+dac_read_search,+fowner"]
SHELL = {
    "ls": "ls {c}",
    "ls the workspace": "ls {c}/workspace",
    "cat": "cat {c}/workspace/made",
    "cat a cell": "cat {c}/cells/a.sh",
    "create": "echo x > {c}/cells/b.sh",
    "create in the workspace": "echo x > {c}/workspace/b",
    "mkdir": "mkdir {c}/workspace/d",
    "ctl": "echo remove > {c}/ctl",
    "rm": "rm -f {c}/workspace/made",
    "rm a cell": "rm -f {c}/cells/a.sh",
    "mv": "mv {c}/cells/a.sh {c}/cells/b.sh",
    "mv the context": "mv -T {c} {c}-bobs",
    "rmdir the context": "rmdir {c}",
    "chmod": "chmod 666 {c}/workspace/made",
    "ln": "ln {c}/workspace/made {c}/workspace/l",
}


def test_the_daemon_checks_too_when_the_kernel_does_not(ann):
    """A user with capabilities passes the kernel; the daemon knows root and the owner."""
    before = picture(ann)
    ok(argv(BOB, "sh", "-c", "test -r /etc/shadow", more=CAPABLE))
    for what, script in SHELL.items():
        got = sh(argv(BOB, "sh", "-c", script.format(c=ann), more=CAPABLE))
        assert got.returncode and ("ermission denied" in got.stderr or "not permitted" in got.stderr), (what, got)
    assert picture(ann) == before


def test_an_open_file_that_is_handed_over_works(ann):
    """As everywhere: rights are looked at when a file is opened."""
    with fd_of(ann / "workspace" / "upload") as fd:
        assert by(BOB, os.read, fd, 10) == b"up\n"
    with fd_of(ann, os.O_RDONLY | os.O_DIRECTORY) as fd:
        with fails(errno.EACCES):
            by(BOB, lambda: os.open("ctl", os.O_RDONLY, dir_fd=fd))


def test_two_users_side_by_side(m):
    def session(uid, name):
        c = m.contexts / name
        os.mkdir(c)
        assert done(run(c, "a.py", f"x = {uid}\n")) == "ok"
        assert done(run(c, "b.py", "x\n")) == "ok"
        return read(c / "results" / "b.py" / "result.txt")

    got = {}
    threads = [threading.Thread(target=lambda u=u: got.update({u: by(u, session, u, f"side-{u}")})) for u in (ANN, BOB, COY)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert got == {u: f"{u}\n" for u in (ANN, BOB, COY)}
    for u in (ANN, BOB, COY):
        by(u, shutil.rmtree, m.contexts / f"side-{u}")


# ---- sticky --------------------------------------------------------------------------------------


def test_only_its_owner_or_root_renames_or_removes_a_context(m):
    c = m.contexts / "sticky"
    by(ANN, os.mkdir, c)
    for move in (lambda: os.rename(c, m.contexts / "stolen"), lambda: os.rmdir(c)):
        with fails(*DENIED):
            by(BOB, move)
    by(ANN, os.rename, c, m.contexts / "renamed")
    os.rename(m.contexts / "renamed", c)
    assert owner(c) == (ANN, ANN)
    os.rmdir(c)
    assert "sticky" not in os.listdir(m.contexts)


def test_a_context_does_not_replace_anothers(m, ann):
    by(BOB, os.mkdir, m.contexts / "bob")
    with fails(errno.EEXIST, *DENIED):
        by(BOB, os.rename, m.contexts / "bob", ann)
    with fails(errno.EEXIST):
        by(BOB, os.mkdir, ann)
    by(BOB, os.rmdir, m.contexts / "bob")


def test_nobody_makes_other_things_in_contexts(m):
    for make in (lambda: touch(m.contexts / "file"), lambda: os.symlink("/", m.contexts / "l"), lambda: os.mkdir(m.path / "x")):
        with fails(*DENIED):
            by(ANN, make)


# ---- root, and the root of the tree --------------------------------------------------------------


def test_root_sees_all(ann):
    assert read(ann / "stdout") == "secret\n"
    assert done(run(ann, "root.sh", "echo hi\n")) == "ok"
    assert owner(ann / "cells" / "root.sh") == (ANN, ANN)
    assert by(ANN, read, ann / "cells" / "root.sh") == "echo hi\n"
    shutil.rmtree(ann)
    assert not ann.exists()


def test_the_root_log_is_the_mounters(m):
    assert mode(m.path / "log") == 0o600 and owner(m.path / "log") == (0, 0)
    with fails(errno.EACCES):
        by(ANN, read, m.path / "log")
    assert sh(argv(BOB, "cat", m.path / "log", more=CAPABLE)).returncode
    assert read(m.path / "log")


@pytest.mark.parametrize("name", ["README.md", "AGENTS.md", "languages", "status"])
def test_the_rest_of_the_root_is_for_all(m, name):
    assert by(ANN, read, m.path / name) == read(m.path / name) != ""


def test_the_readme_begins_with_a_context_of_ones_own(m):
    assert "mkdir contexts/" in by(ANN, read, m.path / "README.md").split("echo '40+2'")[0]


def test_a_refusal_is_in_the_contexts_own_log(ann):
    with fails(errno.EINVAL):
        by(ANN, write, ann / "config" / "timeout", "soon\n")
    assert "config/timeout" in by(ANN, read, ann / "log")


# ---- it lasts ------------------------------------------------------------------------------------


def test_owners_outlive_a_restart_and_a_crash(place):
    two = Mount("allow_other", where=place / "lasting")
    try:
        a, b = two.contexts / "a", two.contexts / "b"
        by(ANN, os.mkdir, a)
        by(BOB, lambda: os.mkdir(b), gid=777)
        assert by(ANN, lambda: done(run(a, "a.sh", "echo 1\n"))) == "ok"
        by(ANN, os.rename, a, two.contexts / "c")
        for end in (two.unmount, two.kill, two.unmount):
            end()
            two.start()
            assert owner(two.contexts / "c") == (ANN, ANN) and owner(b) == (BOB, 777)
            assert by(ANN, read, two.contexts / "c" / "stdout") == "1\n"
            with fails(errno.EACCES):
                by(BOB, os.listdir, two.contexts / "c")
        two.remount("")  # for root alone: all of it is root's
        assert owner(two.contexts / "c") == owner(b) == (0, 0) and mode(b) == 0o755
        with fails(errno.EACCES):
            by(ANN, os.listdir, two.path)
        two.remount("allow_other")
        assert owner(b) == (BOB, 777)
    finally:
        two.close()


def test_contexts_of_before_belong_to_the_mounter(place):
    two = Mount("", where=place / "before")
    try:
        assert done(run(two.main, "a.sh", "echo 1\n")) == "ok"
        two.unmount()
        for facts in two.state.glob("contexts/*/context"):
            text = facts.read_text()
            assert '"owner":0,"group":0,' in text
            facts.write_text(text.replace('"owner":0,"group":0,', ""))
        two.start("allow_other")
        assert owner(two.main) == (0, 0) and mode(two.main) == 0o700
        with fails(errno.EACCES):
            by(ANN, read, two.main / "stdout")
    finally:
        two.close()


# ---- without the option --------------------------------------------------------------------------


def test_without_it_only_the_mounter_sees_the_mount(place):
    two = Mount("", where=place / "alone")
    try:
        for reach in (lambda: os.listdir(two.path), lambda: read(two.path / "status"), lambda: os.mkdir(two.contexts / "x")):
            with fails(errno.EACCES):
                by(ANN, reach)
        assert mode(two.contexts) == mode(two.main) == 0o755 and mode(two.path / "log") == 0o444
        assert done(run(two.main, "a.sh", "echo > made\n")) == "ok"
        assert owner(two.main / "workspace" / "made") == (0, 0)
    finally:
        two.close()


# ---- the path of an interpreter ------------------------------------------------------------------


@pytest.fixture
def paths(place):
    """Interpreters with various rights."""
    d = place / "interpreters"
    d.mkdir(exist_ok=True)
    for sub, uid, gid, bits in (("open", 0, 0, 0o755), ("anns", ANN, ANN, 0o700), ("roots", 0, 0, 0o700), ("group", 0, 555, 0o750)):
        (d / sub).mkdir(exist_ok=True)
        shutil.copy("/usr/bin/env", d / sub / "py")
        os.chmod(d / sub / "py", 0o755)
        os.chown(d / sub, uid, gid)
        os.chmod(d / sub, bits)
    yield d
    shutil.rmtree(d)


def test_an_interpreter_is_looked_at_with_the_users_rights(ann, paths):
    value = ann / "config" / "kernel" / "py"
    for good in ("/usr/bin/python3", paths / "open" / "py", paths / "anns" / "py"):
        by(ANN, write, value, f"{good}\n")
        assert by(ANN, read, value) == f"{good}\n"
    os.symlink(paths / "roots" / "py", paths / "open" / "link")
    roots = spawn(["sleep", "1000"])
    for bad in (paths / "roots" / "py", paths / "open" / "link", paths / "group" / "py", "/root/nosuch", paths / "open",
                "/etc/passwd", f"/proc/{roots.pid}/root/usr/bin/env", f"/proc/{roots.pid}/exe", paths / "open" / "nosuch"):
        with fails(errno.EINVAL):
            by(ANN, write, value, f"{bad}\n")
        assert str(bad) in by(ANN, read, ann / "log")
    by(ANN, lambda: write(value, f"{paths}/group/py\n"), groups=[1, 555])  # a group counts as well
    by(ANN, lambda: write(value, f"{paths}/group/py\n"), gid=555)


def test_a_draft_that_becomes_an_interpreter_is_looked_at_too(ann, paths):
    draft = ann / "config" / "kernel" / "draft~"
    by(ANN, write, draft, f"{paths}/roots/py\n")
    with fails(errno.EINVAL):
        by(ANN, os.rename, draft, ann / "config" / "kernel" / "py")


def test_root_names_an_interpreter_with_the_owners_rights(ann, paths):
    """It is for the owner's code; and a program of root's may be made to write what a user wants."""
    value = ann / "config" / "kernel" / "py"
    with fails(errno.EINVAL):
        write(value, f"{paths}/roots/py\n")
    write(value, f"{paths}/anns/py\n")
    own = ann.parent / "roots-own"
    own.mkdir()
    write(own / "config" / "kernel" / "py", f"{paths}/roots/py\n")
    write(own / "ctl", "remove\n")


def test_the_daemon_is_itself_again(m, ann, paths):
    fields = lambda: [x for x in read(f"/proc/{m.pid}/status").splitlines() if x.split(":")[0] in ("Uid", "Gid", "Groups", "CapEff", "CapPrm")]
    before = fields()
    for path in ("roots", "anns", "nosuch"):
        with contextlib.suppress(OSError):
            by(ANN, write, ann / "config" / "kernel" / "py", f"{paths}/{path}/py\n")
    assert fields() == before
    c = m.context("after")  # and may do all that it may
    assert done(run(c, "a.sh", "true\n")) == "ok"
    write(c / "ctl", "remove\n")


@pytest.mark.parametrize("where", ["", "/contexts", "/contexts/{c}/workspace/py", "/../mnt/contexts/{c}/workspace/py", "-link/contexts"])
def test_a_path_into_the_mount_itself_does_not_hang_it(m, ann, where):
    """The daemon would wait for itself."""
    shutil.copy("/usr/bin/env", ann / "workspace" / "py")
    link = m.path.with_name("mnt-link")
    with contextlib.suppress(FileExistsError):
        os.symlink("mnt", link)
    for uid in (ANN, 0):
        with within(5), fails(errno.EINVAL):
            by(uid, write, ann / "config" / "kernel" / "py", f"{m.path}{where.format(c=ann.name)}\n")


def test_a_path_into_the_mount_does_not_hang_it_without_the_option_either(fresh):
    write(fresh.main / "workspace" / "py", "x")
    with within(5), fails(errno.EINVAL):
        write(fresh.main / "config" / "kernel" / "py", f"{fresh.main}/workspace/py\n")


# ---- a mount by a user ---------------------------------------------------------------------------


@pytest.fixture
def users(place):
    """A script for a mount namespace in which /dev/fuse is everybody's, and directories of nobody's."""
    d = place / f"user-{next(numbers)}"
    d.mkdir()
    for name in ("s", "m"):
        (d / name).mkdir()
        os.chown(d / name, NOBODY, NOBODY)
    os.mknod(d / "fuse", 0o020666, os.makedev(10, 229))
    os.chmod(d / "fuse", 0o666)
    return d


def private(d, conf, *command):
    write(d / "fuse.conf", conf)
    script = f'mount --bind {d}/fuse /dev/fuse; mount --bind {d}/fuse.conf /etc/fuse.conf; exec "$@"'
    return ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", *map(str, command)]


@pytest.mark.parametrize("conf", ["", "#user_allow_other\n", "# no\nmount_max = 9\n", "xuser_allow_other\n"])
def test_a_user_needs_user_allow_other(users, conf):
    got = sh(private(users, conf, *argv(NOBODY, CELLFS, users / "s", users / "m", "-o", "allow_other")))
    assert got.returncode == 1
    assert len(got.stderr.splitlines()) == 1 and got.stderr.startswith("cellfs: "), got.stderr
    for word in ("allow_other", "/etc/fuse.conf", "echo user_allow_other >>"):
        assert word in got.stderr, got.stderr


def test_a_users_mount_for_all(users):
    command = argv(NOBODY, CELLFS, "-f", users / "s", users / "m", "-o", "allow_other,default_permissions")
    p = spawn(private(users, "#\nuser_allow_other\n", *command))

    def there(uid, script):
        return sh(["nsenter", "-t", str(p.pid), "-m", *argv(uid, "bash", "-c", f"cd {users}/m && {script}")])

    until(lambda: there(NOBODY, "test -e status").returncode == 0, why="not mounted")
    use = "mkdir contexts/{0} && echo 'echo hi' > contexts/{0}/cells/a.sh && cat contexts/{0}/results/a.sh/stdout"
    for uid, name in ((NOBODY, "nob"), (BOB, "bob"), (0, "root")):
        got = there(uid, use.format(name))
        assert got.stdout == "hi\n", (uid, got)
    assert there(0, "stat -c '%u %a' contexts contexts/* log").stdout.split() == \
        [str(NOBODY), "1777", str(BOB), "700", str(NOBODY), "700", "0", "700", str(NOBODY), "600"]  # bob, nob, root
    for uid, other in ((NOBODY, "bob"), (NOBODY, "root"), (BOB, "nob"), (BOB, "root")):
        for script in ("ls contexts/{}", "cat contexts/{}/stdout", "echo true > contexts/{}/cells/b.sh"):
            got = there(uid, script.format(other))
            assert got.returncode and "ermission denied" in got.stderr, (uid, script, got)
    assert there(0, "cat contexts/nob/stdout contexts/bob/stdout").stdout == "hi\nhi\n"
    assert there(BOB, "cat log").returncode and there(NOBODY, "cat log").returncode == 0
    # only who mounted can name a path: nobody else's rights can be had by a daemon that is not root's
    assert there(NOBODY, "echo /usr/bin/python3 > contexts/nob/config/kernel/py").returncode == 0
    got = there(BOB, "echo /usr/bin/python3 > contexts/bob/config/kernel/py")
    assert got.returncode and "ermission denied" in got.stderr
    assert "who mounted" in there(BOB, "cat contexts/bob/log").stdout
    assert there(BOB, "echo bash > contexts/bob/config/kernel/sh").returncode == 0
    # contexts/ is the mounter's: as in /tmp they may rename what they cannot look into
    assert there(BOB, "mkdir contexts/e && ! mv -T contexts/nob contexts/x && ! rmdir contexts/nob").returncode == 0
    assert there(NOBODY, "mv -T contexts/bob contexts/bob2 && rmdir contexts/e").returncode == 0
    assert there(BOB, "cat contexts/bob2/stdout").stdout == "hi\n"
    assert there(NOBODY, f"cd / && fusermount3 -u {users}/m").returncode == 0
    assert p.wait(PATIENCE) == 0
