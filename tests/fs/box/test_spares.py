"""Spares: a driver that waits in an empty box, which becomes that of the context that needs it. That what is in such a box
is as confined as in any other is seen in tests/hostile, whose contexts come from spares too."""

import contextlib
import os
import re
import signal
import time

import pytest

from control.steps import ending, kernel
from mount import box_pids, done, ok, pid_namespace, read, read_bytes, run, sh, until, write

LOOK = """
import os, json
print(json.dumps({
    "cwd": os.getcwd(), "files": sorted(os.listdir(".")), "spool": sorted(os.listdir("/spool")),
    "env": dict(os.environ), "home": os.listdir(os.path.expanduser("~")), "pid": os.getpid(),
    "mine": os.stat(".").st_uid == os.getuid(),
}))
"""


def root_status(m):
    return dict(line.split(": ", 1) for line in read(m.path / "status").splitlines())


def ready(m, names="python"):
    """Returns when these wait, and can be taken: what has made their boxes, outside of them, has ended."""

    def waits():
        return root_status(m)["spares"] == names and pid_namespace("self") not in map(pid_namespace, spare_boxes(m))

    until(waits, why=f"no spare: {read(m.path / 'status')}")


def spare_boxes(m):
    """The pids, for us, of the daemon's children that are box."""
    return ok(["pgrep", "-P", str(m.pid)]).split()


def look(ctx, cell="look.py"):
    import json

    r = run(ctx, cell, LOOK)
    assert done(r) == "ok", read(r / "report.md")
    return json.loads(read(r / "stdout"))


def is_from_a_spare(ctx):
    """A kernel that was started for its context is told of it by its first environment."""
    return b"CELLFS_CONTEXT=" not in read_bytes(f"/proc/{kernel(ctx)['pid']}/environ")


def test_nothing_is_started_for_a_language_that_nobody_used(fresh):
    assert root_status(fresh)["spares"] == "none" and root_status(fresh)["boxes"] == "0"
    assert done(fresh.run("a.sh", "true\n")) == "ok"
    ready(fresh, "bash")


def test_a_spare_becomes_the_kernel_of_a_new_context(fresh):
    look(fresh.main)
    assert not is_from_a_spare(fresh.main)
    ready(fresh)
    assert root_status(fresh)["kernels_running"] == "1" and root_status(fresh)["boxes"] == "1"
    ctx = fresh.context("b")
    write(ctx / "workspace" / "data.csv", "a,b\n")
    write(ctx / "config" / "env" / "TOKEN", "s e'c\n")
    seen = look(ctx)
    assert is_from_a_spare(ctx)
    assert seen["cwd"] == "/workspace" and seen["files"] == ["data.csv"] and seen["mine"]
    assert seen["env"]["TOKEN"] == "s e'c" and seen["env"]["CELLFS_CONTEXT"] == "b"
    assert seen["env"]["HOME"] == "/home/user" and seen["home"] == []
    assert kernel(ctx)["generation"] == 1 and kernel(ctx)["execution_count"] == 1
    ready(fresh)  # and there is the next one


def test_it_is_like_any_other_kernel(fresh):
    look(fresh.main)
    ready(fresh)
    ctx = fresh.context("b")
    assert done(run(ctx, "a.py", "x = 1\nopen('out.txt', 'w').write('mine')\nopen('/tmp/t', 'w').write('')")) == "ok"
    assert is_from_a_spare(ctx)
    assert read(ctx / "workspace" / "out.txt") == "mine"
    write(ctx / "workspace" / "in.txt", "yours")
    assert read(run(ctx, "b.py", "x, open('in.txt').read()") / "result.txt") == "(1, 'yours')\n"
    assert done(run(ctx, "c.sh", "ls /tmp/t && cat out.txt && pwd")) == "ok"  # another language joins the same box
    r = run(ctx, "d.py", "import os; os.kill(os.getpid(), 9)")
    assert done(r) == "killed"
    assert read(run(ctx, "e.py", "2") / "result.txt") == "2\n" and kernel(ctx)["generation"] == 2
    write(ctx / "ctl", "restart\n")
    assert look(ctx)["files"] == ["in.txt", "out.txt"]
    write(ctx / "ctl", "remove\n")
    until(lambda: not ctx.exists())


def test_cwd_and_options_of_the_first_run(fresh):
    look(fresh.main)
    ready(fresh)
    ctx = fresh.context("b")
    (ctx / "workspace" / "sub").mkdir()
    (ctx / "workspace" / "other").mkdir()
    write(ctx / "config" / "cwd", "sub")
    r = run(ctx, "a.py", "#| env.X: 1\n#| cwd: other\nimport os; os.getcwd(), os.environ['X']")
    assert read(r / "result.txt") == "('/workspace/other', '1')\n" and is_from_a_spare(ctx)
    assert look(ctx)["cwd"] == "/workspace/sub"


@pytest.mark.parametrize("key, value", [("memory", "256M"), ("processes", "64"), ("disk", "1G"), ("env/PYTHONHASHSEED", "0")])
def test_other_limits_get_a_box_of_their_own(fresh, key, value):
    look(fresh.main)
    ready(fresh)
    ctx = fresh.context("b")
    write(ctx / "config" / key, value)
    seen = look(ctx)
    assert not is_from_a_spare(ctx)
    assert key != "env/PYTHONHASHSEED" or seen["env"]["PYTHONHASHSEED"] == "0"
    assert root_status(fresh)["spares"] == "python"


def test_a_context_that_has_a_box_gets_no_other(fresh):
    look(fresh.main)
    ready(fresh)
    ctx = fresh.context("b")
    assert done(run(ctx, "a.sh", "echo > /tmp/here\n")) == "ok"
    assert read(run(ctx, "b.py", "import os; os.path.exists('/tmp/here')") / "result.txt") == "True\n"
    assert not is_from_a_spare(ctx)


@pytest.mark.options("spares=0")
def test_spares_0_starts_none(fresh):
    look(fresh.main)
    ctx = fresh.context("b")
    look(ctx)
    assert not is_from_a_spare(ctx) and root_status(fresh)["spares"] == "none"


@pytest.mark.options("spares=3")
def test_spares_3_starts_three(fresh):
    look(fresh.main)
    ready(fresh, "python python python")
    for name in ("b", "c", "d"):
        ctx = fresh.context(name)
        look(ctx)
        assert is_from_a_spare(ctx)


@pytest.mark.parametrize("sandbox", ["weak", "none"])
def test_without_a_box_there_are_none(fresh, sandbox):
    fresh.remount(f"sandbox={sandbox}")
    assert done(fresh.run("a.py", "1")) == "ok"
    ctx = fresh.context("b")
    assert done(run(ctx, "a.py", "1")) == "ok"
    assert root_status(fresh)["spares"] == "none" and root_status(fresh)["boxes"] == "0"


def test_bad_numbers_of_spares_are_refused(fresh):
    for text in ("-1", "17", "x", ""):
        got = sh([*fresh.argv(f"spares={text}")])
        assert got.returncode and "spares: not a number from 0 to 16" in got.stderr


def test_a_spare_that_dies_is_replaced_when_its_language_is_used_again(fresh):
    look(fresh.main)
    ready(fresh)
    mine = {str(pid) for pid in box_pids(fresh.main).values()}
    for pid in spare_boxes(fresh):
        if pid not in mine:
            with contextlib.suppress(ProcessLookupError):  # the others of a box end with its first process
                os.kill(int(pid), signal.SIGKILL)
    until(lambda: "spare python kernel: it ended" in read(fresh.path / "log"))  # behind the end of its box
    assert root_status(fresh)["spares"] == "none"
    ctx = fresh.context("b")
    look(ctx)
    assert not is_from_a_spare(ctx)
    ready(fresh)
    assert root_status(fresh)["boxes"] == "2"


def first_process(m):
    """The host's number of the first process of the box that waits."""
    mine = box_pids(m.main).values()
    for pid in spare_boxes(m):
        numbers = re.search(r"^NSpid:(.*)$", read(f"/proc/{pid}/status"), re.M)[1].split()
        if numbers[-1] == "1" and int(pid) not in mine:
            return int(pid)
    raise AssertionError("no box waits")


@pytest.mark.parametrize("late", [False, True])
def test_a_cell_waits_for_another_box_if_the_spares_ends_as_it_is_taken(fresh, late):
    look(fresh.main)
    for n in range(12):
        ready(fresh)
        ctx, box = fresh.context(f"c{n}"), first_process(fresh)
        if late:
            write(ctx / "cells" / "a.py", "1\n")
            time.sleep(n / 4000)
        with ending(box):
            os.kill(box, signal.SIGKILL)
            if not late:
                write(ctx / "cells" / "a.py", "1\n")
            assert done(ctx / "results" / "a.py") in ("ok", "killed")  # it may have begun
        assert "cannot be started" not in read(ctx / "results" / "a.py" / "report.md")
        assert read(run(ctx, "b.py", "6 * 7") / "result.txt") == "42\n"
        write(ctx / "ctl", "remove\n")
    until(lambda: root_status(fresh)["boxes"] == "1" and root_status(fresh)["kernels_running"] == "1")


@pytest.mark.parametrize("verb", ["remove", "stop", "interrupt"])
def test_a_context_that_goes_while_it_gets_its_box(fresh, verb):
    """The first verbs come while the box is bound, and before anything was said to the kernel."""
    look(fresh.main)
    for n in range(8):
        ready(fresh)
        ctx = fresh.context(f"c{n}")
        write(ctx / "cells" / "a.py", "1")
        try:
            write(ctx / "ctl", verb + "\n")
        except OSError:
            assert verb == "interrupt"  # it had ended
        if verb != "remove":
            assert done(ctx / "results" / "a.py") in ("ok", "killed", "interrupted", "cancelled")
            assert read(run(ctx, "b.py", "6 * 7") / "result.txt") == "42\n"
            write(ctx / "ctl", "remove\n")
    until(lambda: root_status(fresh)["boxes"] == "1" and root_status(fresh)["kernels_running"] == "1")


def test_many_new_contexts_at_once(fresh):
    look(fresh.main)
    ready(fresh)
    made = [fresh.context(f"c{n}") for n in range(12)]
    for n, ctx in enumerate(made):
        write(ctx / "workspace" / "n", str(n))
        write(ctx / "cells" / "a.py", "import os; open('n').read(), os.environ['CELLFS_CONTEXT']")
    for n, ctx in enumerate(made):
        assert read(ctx / "results" / "a.py" / "result.txt") == f"('{n}', 'c{n}')\n"


def test_no_spare_outlives_the_daemon(fresh):
    look(fresh.main)
    ready(fresh)
    left = [int(pid) for pid in spare_boxes(fresh)]
    assert len(left) >= 4
    fresh.kill()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in left))
