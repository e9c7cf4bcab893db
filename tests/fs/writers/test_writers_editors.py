"""Editors on a terminal: one run a save, and a running cell that is edited goes on."""

import os

import pytest
from mount import HOLD, Terminal, done, hold, let_go, read, run, runs, status

VIM = ["vim", "-N", "-u", "NONE", "-i", "NONE"]
SETTINGS = {
    "default": "",
    "auto": "backupcopy=auto",
    "no": "backupcopy=no",
    "yes": "backupcopy=yes",
    "breaksymlink": "backupcopy=auto,breaksymlink",
    "breakhardlink": "backupcopy=auto,breakhardlink",
    "backup-auto": "backup backupcopy=auto",
    "backup-no": "backup backupcopy=no",
    "backup-yes": "backup backupcopy=yes",
    "nowritebackup": "nowritebackup nobackup",
    "undofile": "undofile backupcopy=auto",
    "no-swap": "noswapfile",
}


def vim(cell, setting):
    """A vim that has opened CELL and shows it."""
    arguments = ["-c", "set " + SETTINGS[setting]] if SETTINGS[setting] else []
    return Terminal([*VIM, *arguments, str(cell)], env={"HOME": "/nonexistent"})


@pytest.mark.parametrize("setting", SETTINGS)
def test_vim_new_cell(ctx, setting):
    with vim(ctx / "cells" / "f.sh", setting) as v:
        v.expect(r"f\.sh.*New")
        v.send("iecho one\recho two\x1b")
        v.send(":w\r")
        v.expect("written")
        assert runs(ctx) == [1]
        v.send(":q\r")
        assert v.wait() == 0
    assert done(ctx / "results" / "f.sh") == "ok"
    assert read(ctx / "history/1/code") == "echo one\necho two\n"
    assert runs(ctx) == [1]


@pytest.mark.parametrize("setting", SETTINGS)
def test_vim_one_run_a_save(ctx, setting):
    done(run(ctx, "f.sh", "echo one\n"))
    with vim(ctx / "cells" / "f.sh", setting) as v:
        v.expect(r"f\.sh")
        for n in 2, 3, 4:
            v.send(f"Goecho {n}\x1b:w\r")
            v.expect("written")
            assert runs(ctx) == list(range(1, n + 1))
            assert done(ctx / "results" / "f.sh") == "ok"
            assert read(ctx / f"history/{n}/code") == "".join(f"echo {i}\n" for i in ["one", 2, 3, 4][:n])
        v.send(":q\r")
        assert v.wait() == 0
    assert runs(ctx) == [1, 2, 3, 4]
    assert read(ctx / "results/f.sh/stdout") == "one\n2\n3\n4\n"


@pytest.mark.parametrize("setting", SETTINGS)
def test_vim_saves_a_cell_while_it_runs(ctx, setting):
    """The run goes on, and its results stay."""
    results = hold(ctx, "f.sh", HOLD)
    with vim(ctx / "cells" / "f.sh", setting) as v:
        v.expect(r"f\.sh")
        v.send(":%d\riecho new\x1b:w\r")
        v.expect("written")
        assert runs(ctx) == [1, 2]
        assert status(ctx / "history/1") == "running"
        assert status(results) == "queued"
        let_go(ctx)
        assert done(ctx / "history/1") == "ok"
        assert done(results) == "ok"
        v.send(":q!\r")
        assert v.wait() == 0
    assert read(ctx / "history/1/stdout") == "begun\nended\n"
    assert read(ctx / "history/1/code") == HOLD
    assert read(results / "stdout") == "new\n"
    assert runs(ctx) == [1, 2]


def test_vim_wq_again_does_not_say_that_the_file_has_changed(ctx):
    done(run(ctx, "f.sh", "echo one\n"))
    with vim(ctx / "cells" / "f.sh", "default") as v:
        v.expect(r"f\.sh")
        v.send("Goecho two\x1b:w\r")
        v.expect("written")
        assert done(ctx / "results" / "f.sh") == "ok"
        v.send("Goecho three\x1b:checktime\r:wq\r")
        assert v.wait() == 0
        assert b"changed" not in v.seen
    assert runs(ctx) == [1, 2, 3]
    assert read(ctx / "history/3/code") == "echo one\necho two\necho three\n"


def test_vim_quit_without_saving_runs_nothing(ctx):
    done(run(ctx, "f.sh", "echo one\n"))
    with vim(ctx / "cells" / "f.sh", "default") as v:
        v.expect(r"f\.sh")
        v.send("Goecho two\x1b:q!\r")
        assert v.wait() == 0
    assert runs(ctx) == [1]
    assert sorted(os.listdir(ctx / "cells")) == ["f.sh"]


@pytest.mark.parametrize("options", [[], ["-B"], ["-G"]], ids=["plain", "backup", "locking"])
def test_nano(ctx, options):
    cell = ctx / "cells" / "f.sh"
    for n, key in (1, "one"), (2, "two"):
        with Terminal(["nano", "--ignorercfiles", *options, cell]) as nano:
            nano.expect("GNU nano")
            nano.expect("Exit")
            nano.send(f"echo {key}\r")
            nano.send("\x0f")
            nano.expect("Name to Write|Write to File")  # until 7, since 8
            nano.send("\r")
            nano.expect("Wrote")
            assert runs(ctx) == list(range(1, n + 1))
            nano.send("\x18")
            assert nano.wait() == 0
        assert done(ctx / "results" / "f.sh") == "ok"
    assert runs(ctx) == [1, 2]
    assert read(ctx / "history/2/code") == "echo two\necho one\n\n"


def test_emacs_on_a_terminal(ctx):
    done(run(ctx, "f.sh", "echo one\n"))
    with Terminal(["emacs", "-nw", "-Q", ctx / "cells" / "f.sh"], env={"HOME": "/nonexistent"}) as emacs:
        emacs.expect(r"f\.sh.*Shell|Shell-script")
        emacs.send("\x1b>echo two\r\x18\x13")
        emacs.expect("Wrote")
        assert runs(ctx) == [1, 2]
        emacs.send("\x18\x03")
        assert emacs.wait() == 0
    assert done(ctx / "results" / "f.sh") == "ok"
    assert runs(ctx) == [1, 2]
    assert read(ctx / "history/2/code") == "echo one\necho two\n"
