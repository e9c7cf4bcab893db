"""Names in cells/: what is a cell, what is a draft, and what a rename does."""

import ctypes
import errno
import json
import os
import shutil

import pytest
from mount import ROOT, Mount, done, fails, fd_of, hold, let_go, ok, read, run, runs, sh, status, write

DRAFTS = [
    ".x.py", "x.rb", "x.py~", "4913", "x.py.swp", ".x.py.swp", "x", "x.PY", "x.pyc", ".py", "x.py.tmp.123.abc",
    "x.py.0a1b.tmp", "#x.py#", ".#x.py", "sedAbC123", "XXabcdef", ".x.py.Ab12cD", "x.py.orAb123", "x.py ", "x.",
    "..py", "x.py.", "Makefile", "x.ipynb",
]  # fmt: skip
CELLS = ["x.sh", "x.y.sh", "x y.sh", "#x.sh", "-x.sh", "ü.sh", "x.bash", "~.sh", "x" * 252 + ".sh", "4913.sh", "x.py.sh"]


@pytest.mark.parametrize("name", DRAFTS)
def test_a_draft_never_runs(ctx, name):
    draft = ctx / "cells" / name
    write(draft, "print(1)\n")
    assert read(draft) == "print(1)\n"
    assert name in os.listdir(ctx / "cells")
    assert runs(ctx) == []
    assert os.listdir(ctx / "results") == []


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_runs(ctx, name):
    assert done(run(ctx, name, "echo one\n")) == "ok"
    assert runs(ctx) == [1]
    assert name in os.listdir(ctx / "results")


@pytest.mark.parametrize("name", ["x.rb", ".x.py", "x.py~", "4913", "x.py.swp"])
def test_a_draft_is_an_ordinary_file(ctx, name):
    draft = ctx / "cells" / name
    with fd_of(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600) as fd:
        assert os.write(fd, b"0123456789") == 10
        os.fsync(fd)
        os.ftruncate(fd, 5)
        assert os.pread(fd, 100, 2) == b"234"
        os.fchmod(fd, 0o640)
        os.utime(fd, (1_500_000_000, 1_500_000_001))
    st = os.stat(draft)
    assert (st.st_size, st.st_mode & 0o777, st.st_mtime) == (5, 0o640, 1_500_000_001)
    os.chmod(draft, 0o755)
    other = draft.with_name(name + ".more")
    os.rename(draft, other)
    with fails(errno.ENOENT):
        os.stat(draft)
    with fd_of(other, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"x")
    assert read(other) == "01234x"
    os.rename(other, draft)
    os.unlink(draft)
    assert os.listdir(ctx / "cells") == []
    assert runs(ctx) == []


def test_an_open_draft_that_is_removed_stays_readable(ctx):
    with fd_of(ctx / "cells/x.tmp", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"abc")
        os.unlink(ctx / "cells/x.tmp")
        os.write(fd, b"def")
        assert os.pread(fd, 10, 0) == b"abcdef"


def test_a_symbolic_link_in_cells_runs_nothing(ctx):
    """Emacs locks with one; whether it can is not promised."""
    try:
        os.symlink("user@host.1:2", ctx / "cells/.#x.sh")
    except OSError as e:
        assert e.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
    assert runs(ctx) == []


@pytest.mark.parametrize("name", ["x.rb", ".x.py", "4913", "x.py~"])
def test_the_status_of_a_draft_says_so(ctx, name):
    write(ctx / "cells" / name, "puts 1\n")
    text = read(ctx / "results" / name / "status")
    assert text.startswith("draft: "), text
    if name == "x.rb":
        assert "no language has the extension .rb (have " in text and ".py" in text and ".sh" in text
    assert name not in os.listdir(ctx / "results")
    with fails(errno.ENOENT):
        read(ctx / "results" / name / "done")


def test_results_of_what_does_not_exist(ctx):
    for name in "x.rb", "x.sh", ".x":
        with fails(errno.ENOENT):
            read(ctx / "results" / name / "status")


def test_renaming_a_draft_to_a_cell_runs_it(ctx):
    write(ctx / "cells/x.tmp", "echo one\n")
    os.rename(ctx / "cells/x.tmp", ctx / "cells/f.sh")
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"
    assert os.listdir(ctx / "cells") == ["f.sh"]


def test_a_draft_that_is_renamed_while_open_runs_at_its_last_close(ctx):
    with fd_of(ctx / "cells/x.tmp", os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"echo one\n")
        os.rename(ctx / "cells/x.tmp", ctx / "cells/f.sh")
        assert runs(ctx) == []
        assert status(ctx / "results/f.sh") == "writing"
        os.write(fd, b"echo two\n")
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"
    assert read(ctx / "results/f.sh/stdout") == "one\ntwo\n"


def test_a_draft_over_a_cell_runs_it(ctx):
    done(run(ctx, "f.sh", "echo one\n"))
    write(ctx / "cells/x.tmp", "echo two\n")
    os.rename(ctx / "cells/x.tmp", ctx / "cells/f.sh")
    assert runs(ctx) == [1, 2]
    assert done(ctx / "results/f.sh") == "ok"
    assert read(ctx / "results/f.sh/stdout") == "two\n"


def test_results_follow_a_clean_cell_that_is_renamed(ctx):
    done(run(ctx, "a.sh", "echo one\n"))
    os.rename(ctx / "cells/a.sh", ctx / "cells/b.sh")
    assert runs(ctx) == [1]
    assert os.listdir(ctx / "cells") == ["b.sh"]
    assert sorted(set(os.listdir(ctx / "results")) - {"latest"}) == ["b.sh"]
    assert read(ctx / "results/b.sh/stdout") == "one\n"
    assert read(ctx / "results/b.sh/run").strip() == "1"
    assert os.getxattr(ctx / "cells/b.sh", "user.run") == b"1"
    with fails(errno.ENOENT):
        read(ctx / "results/a.sh/done")
    # the record keeps the name it was queued under
    assert json.loads(read(ctx / "results/b.sh/execution.json"))["cell"] == "a.sh"


def test_results_follow_a_cell_that_is_renamed_while_it_runs(ctx):
    hold(ctx, "a.sh")
    os.rename(ctx / "cells/a.sh", ctx / "cells/b.sh")
    assert status(ctx / "results/b.sh") == "running"
    with fails(errno.ENOENT):
        read(ctx / "results/a.sh/status")
    let_go(ctx)
    assert done(ctx / "results/b.sh") == "ok"
    assert read(ctx / "results/b.sh/stdout") == "begun\nended\n"
    assert runs(ctx) == [1]


def test_a_cell_renamed_over_another_replaces_it(ctx):
    done(run(ctx, "a.sh", "echo a\n"))
    done(run(ctx, "b.sh", "echo b\n"))
    os.rename(ctx / "cells/a.sh", ctx / "cells/b.sh")
    assert runs(ctx) == [1, 2]
    assert read(ctx / "results/b.sh/stdout") == "a\n"
    assert read(ctx / "results/b.sh/run").strip() == "1"
    assert read(ctx / "history/2/stdout") == "b\n"
    assert os.listdir(ctx / "cells") == ["b.sh"]


@pytest.mark.parametrize("to", ["a.bash", "a.py"])
def test_a_rename_to_another_extension(ctx, to):
    """.sh and .bash are one language, so results follow; .py is another, so it runs as a new cell."""
    code = "print = 1\n"  # Python takes it, and Bash says no
    done(run(ctx, "a.sh", code))
    os.rename(ctx / "cells/a.sh", ctx / "cells" / to)
    if to == "a.py":
        assert runs(ctx) == [1, 2]
        assert done(ctx / "results" / to) == "ok"
        assert json.loads(read(ctx / "history/2/execution.json"))["language"] == "python"
    else:
        assert runs(ctx) == [1]
        assert read(ctx / "results" / to / "run").strip() == "1"


def test_a_cell_renamed_to_a_draft_keeps_its_results(ctx):
    """As vim does with a backup."""
    done(run(ctx, "a.sh", "echo one\n"))
    os.rename(ctx / "cells/a.sh", ctx / "cells/a.sh~")
    assert read(ctx / "results/a.sh/stdout") == "one\n"
    assert runs(ctx) == [1]
    os.unlink(ctx / "cells/a.sh~")
    assert read(ctx / "results/a.sh/stdout") == "one\n"
    assert runs(ctx) == [1]
    assert done(run(ctx, "a.sh", "echo two\n")) == "ok"
    assert read(ctx / "results/a.sh/stdout") == "two\n"
    assert runs(ctx) == [1, 2]


def test_a_running_cell_renamed_to_a_draft_goes_on(ctx):
    results = hold(ctx, "a.sh")
    os.rename(ctx / "cells/a.sh", ctx / "cells/a.sh~")
    os.unlink(ctx / "cells/a.sh~")
    assert status(results) == "running"
    let_go(ctx)
    assert done(results) == "ok"


def test_a_temporary_that_is_a_cell_and_is_replaced_into_place_runs_once(ctx):
    """NamedTemporaryFile(suffix=".sh") and os.replace."""
    write(ctx / "cells/tmp8_x1.sh", "echo one\n")
    os.replace(ctx / "cells/tmp8_x1.sh", ctx / "cells/f.sh")
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"
    assert read(ctx / "results/f.sh/stdout") == "one\n"


def test_the_same_over_a_cell_that_ran(ctx):
    done(run(ctx, "f.sh", "echo zero\n"))
    write(ctx / "cells/tmp8_x1.sh", "echo one\n")
    os.replace(ctx / "cells/tmp8_x1.sh", ctx / "cells/f.sh")
    assert runs(ctx) == [1, 2]
    assert done(ctx / "results/f.sh") == "ok"
    assert read(ctx / "results/f.sh/stdout") == "one\n"


# ---- borders


def places(ctx, other):
    return {"workspace": ctx / "workspace/f.sh", "context": ctx / "f.sh", "other": other / "cells/g.sh"}


@pytest.fixture
def other(m, ctx):
    """A second context."""
    made = m.context(ctx.name + "b")
    yield made
    write(made / "ctl", "remove\n")


@pytest.mark.parametrize("where", ["workspace", "context", "other"])
def test_a_rename_out_of_cells_is_exdev(ctx, other, where):
    done(run(ctx, "f.sh", "echo one\n"))
    with fails(errno.EXDEV):
        os.rename(ctx / "cells/f.sh", places(ctx, other)[where])
    assert runs(ctx) == [1]
    assert read(ctx / "results/f.sh/stdout") == "one\n"


@pytest.mark.parametrize("where", ["workspace", "context", "other"])
def test_a_rename_into_cells_is_exdev(ctx, other, where):
    source = places(ctx, other)[where]
    write(source, "echo one\n")
    with fails(errno.EXDEV):
        os.rename(source, ctx / "cells/f.sh")
    assert runs(ctx) == []


def test_mv_into_and_out_of_cells_copies(ctx):
    write(ctx / "workspace/f.sh", "echo one\n")
    ok(["mv", ctx / "workspace/f.sh", ctx / "cells/f.sh"])
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"
    ok(["mv", ctx / "cells/f.sh", ctx / "workspace/g.sh"])
    assert read(ctx / "workspace/g.sh") == "echo one\n"
    assert os.listdir(ctx / "cells") == []
    assert runs(ctx) == [1]
    assert read(ctx / "history/1/stdout") == "one\n"


RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
libc = ctypes.CDLL(None, use_errno=True)


def renameat2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def test_rename_noreplace(ctx):
    cells = ctx / "cells"
    write(cells / "x.tmp", "echo one\n")
    renameat2(cells / "x.tmp", cells / "f.sh", RENAME_NOREPLACE)
    assert runs(ctx) == [1]
    write(cells / "x.tmp", "echo two\n")
    with fails(errno.EEXIST):
        renameat2(cells / "x.tmp", cells / "f.sh", RENAME_NOREPLACE)
    assert runs(ctx) == [1]
    assert read(cells / "f.sh") == "echo one\n"
    assert done(ctx / "results/f.sh") == "ok"


@pytest.mark.parametrize("flag", [RENAME_EXCHANGE, RENAME_WHITEOUT], ids=["exchange", "whiteout"])
def test_rename_exchange_is_einval(ctx, flag):
    for name in "a.sh", "b.sh":
        done(run(ctx, name, f"echo {name}\n"))
    with fails(errno.EINVAL, errno.EPERM):
        renameat2(ctx / "cells/a.sh", ctx / "cells/b.sh", flag)
    assert read(ctx / "cells/a.sh") == "echo a.sh\n"
    assert runs(ctx) == [1, 2]


def test_mv_n_keeps_the_cell(ctx):
    done(run(ctx, "f.sh", "echo one\n"))
    write(ctx / "cells/x.tmp", "echo two\n")
    sh(["mv", "-n", ctx / "cells/x.tmp", ctx / "cells/f.sh"])
    assert read(ctx / "cells/f.sh") == "echo one\n"
    assert runs(ctx) == [1]


def test_moves_removals_and_drafts_outlive_a_restart(fresh):
    cells = fresh.main / "cells"
    for name in "a.sh", "b.sh", "c.sh", "d.sh":
        done(run(fresh.main, name, f"echo {name}\n"))
    write(cells / "note.txt", "draft\n")
    os.rename(cells / "a.sh", cells / "z.sh")
    os.unlink(cells / "b.sh")
    os.rename(cells / "c.sh", cells / "c.sh~")
    fresh.remount()
    assert sorted(os.listdir(cells)) == ["c.sh~", "d.sh", "note.txt", "z.sh"]
    assert read(cells / "note.txt") == "draft\n"
    results = fresh.main / "results"
    assert sorted(set(os.listdir(results)) - {"latest"}) == ["c.sh", "d.sh", "z.sh"]
    assert read(results / "z.sh/stdout") == "a.sh\n"
    assert read(results / "c.sh/stdout") == "c.sh\n"
    assert os.getxattr(cells / "z.sh", "user.run") == b"1"
    assert runs(fresh.main) == [1, 2, 3, 4]


# ---- a language without its interpreter


@pytest.fixture(scope="module")
def ghost(tmp_path_factory):
    """A mount whose languages are Bash and one that this host does not have."""
    kernels = tmp_path_factory.mktemp("kernels")
    kernels.chmod(0o755)  # a box has a user of its own
    shutil.copytree(ROOT / "kernels/bash", kernels / "bash")
    (kernels / "ghost").mkdir()
    (kernels / "ghost/manifest.json").write_text(json.dumps({
        "name": "ghost", "title": "Ghost", "extensions": ["ghost"], "comment": "#|",
        "interpreters": ["/nonexistent/ghost"], "probe": ["-v"], "argv": ["{interpreter}"], "env": {},
        "guard": False, "exit_status": False, "install": "apt-get install ghost",
    }))  # fmt: skip
    made = Mount(f"kernels={kernels}")
    yield made
    made.close()


def test_missing_interpreter_creating_is_einval(ghost):
    with fails(errno.EINVAL):
        write(ghost.main / "cells/a.ghost", "boo\n")
    assert "a.ghost" not in os.listdir(ghost.main / "cells")
    assert runs(ghost.main) == []


@pytest.mark.parametrize(
    "command", ["echo boo >$F", "echo boo | tee $F", "cp /etc/hostname $F", "dd if=/etc/hostname of=$F", "touch $F"]
)
def test_missing_interpreter_every_writer_fails(ghost, command):
    failed = sh("set -o pipefail; " + command, env={**os.environ, "F": str(ghost.main / "cells/a.ghost")})
    assert failed.returncode != 0 and "Invalid argument" in failed.stderr


def test_missing_interpreter_renaming_is_einval(ghost):
    cells = ghost.main / "cells"
    write(cells / "a.txt", "boo\n")
    with fails(errno.EINVAL):
        os.rename(cells / "a.txt", cells / "a.ghost")
    assert read(cells / "a.txt") == "boo\n"
    os.unlink(cells / "a.txt")


def test_missing_interpreter_languages_says_what_to_install(ghost):
    (line,) = [line for line in read(ghost.path / "languages").splitlines() if "ghost" in line]
    assert "apt-get install ghost" in line
    assert done(run(ghost.main, "a.sh", "echo one\n")) == "ok"
