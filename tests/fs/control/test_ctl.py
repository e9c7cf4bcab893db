"""interface.md, Control and time: the verbs of ctl."""

import errno
import os
import subprocess

import pytest

from control.steps import ending, events, kernel, peek, reason, record, says, until_status
from mount import PATIENCE, done, fails, host_pid, ok, parked, read, run, runs, spawn, status, within, write

VERBS = ["interrupt", "run", "cancel", "restart", "stop", "clear", "remove"]
LONG = "echo go; sleep 1000\n"


def ctl(ctx, text):
    write(ctx / "ctl", text + "\n")


def long_run(ctx, cell="long.sh"):
    code = LONG if cell.endswith(".sh") else "import time\nprint('go', flush=True)\ntime.sleep(1000)\n"
    r = run(ctx, cell, code)
    says(r, "go")
    return r


def test_reading_ctl_lists_the_verbs(ctx):
    text = read(ctx / "ctl")
    for verb in VERBS:
        assert any(line.split()[0] == verb for line in text.splitlines()), verb


# ---- what is refused -----------------------------------------------------------------------------

UNKNOWN = ["frobnicate", "Interrupt", "stop now", "clear all", "cancel", "run", "restart python bash",
           "remove x", "interrupt\0", "-", "stop;clear"]


@pytest.mark.parametrize("verb", UNKNOWN)
def test_an_unknown_verb_is_einval_and_none_of_the_lines_is_done(ctx, verb):
    assert done(run(ctx, "a.sh", "n=1\n")) == "ok"
    for text in (verb, f"clear\n{verb}", f"{verb}\nclear", f"stop\nremove\n{verb}\nclear"):
        with fails(errno.EINVAL, errno.ESRCH):
            ctl(ctx, text)
    with fails(errno.EINVAL):
        ctl(ctx, f"clear\n{verb}\nfrobnicate")
    assert runs(ctx) == [1]
    assert read(ctx / "status") == "idle\n"


NOT_APPLICABLE = ["interrupt", "interrupt a.sh", "interrupt 1", "interrupt 99", "interrupt none.sh", "cancel a.sh",
                  "cancel 1", "cancel 99", "interrupt a b", "run none.sh", "restart python"]


@pytest.mark.parametrize("verb", NOT_APPLICABLE)
def test_a_verb_that_does_not_apply_is_esrch_and_nothing_is_done(ctx, verb):
    assert done(run(ctx, "a.sh", "n=1\n")) == "ok"
    for text in (verb, "clear\n" + verb):
        with fails(errno.ESRCH):
            ctl(ctx, text)
    assert runs(ctx) == [1]


def test_restart_of_a_language_that_is_none_is_an_error(ctx):
    with fails(errno.EINVAL, errno.ESRCH):
        ctl(ctx, "restart cobol")


@pytest.mark.parametrize("text", ["clear", "clear\n", "\nclear\n\n", "clear\nclear\n"])
def test_lines_may_lack_the_newline_or_be_empty(ctx, text):
    assert done(run(ctx, "a.sh", "n=1\n")) == "ok"
    write(ctx / "ctl", text)
    assert runs(ctx) == []


def test_ctl_is_written_by_shells_and_appended_to(ctx):
    for command in ("echo clear > ctl", "echo clear >> ctl", "echo clear | tee ctl", "echo clear | dd of=ctl status=none"):
        assert done(run(ctx, "a.sh", "n=1\n")) == "ok"
        ok(command, cwd=ctx)
        assert runs(ctx) == []


def test_a_draft_renamed_over_ctl_counts_as_one_write(ctx):
    assert done(run(ctx, "a.sh", "n=1\n")) == "ok"
    verbs = read(ctx / "ctl")
    write(ctx / "ctl.tmp.123.ab", "clear\nfrobnicate\n")
    with fails(errno.EINVAL):
        os.rename(ctx / "ctl.tmp.123.ab", ctx / "ctl")
    assert runs(ctx) == [1] and read(ctx / "ctl.tmp.123.ab") == "clear\nfrobnicate\n"
    write(ctx / "ctl.tmp.123.ab", "clear\n")
    os.rename(ctx / "ctl.tmp.123.ab", ctx / "ctl")
    assert runs(ctx) == []
    assert read(ctx / "ctl") == verbs  # the node stays
    assert "ctl.tmp.123.ab" not in os.listdir(ctx)


# ---- interrupt -----------------------------------------------------------------------------------

STUCK = {
    "python sleep": ("a.py", "import time\nx = 1\nprint('go', flush=True)\ntime.sleep(1000)\n"),
    "python loop": ("a.py", "x = 1\nprint('go', flush=True)\nwhile True: pass\n"),
    "python except Exception": (
        "a.py", "import time\nx = 1\nprint('go', flush=True)\nwhile True:\n try: time.sleep(9)\n except Exception: pass\n"),
    "python await": ("a.py", "import asyncio\nx = 1\nprint('go', flush=True)\nawait asyncio.sleep(1000)\n"),
    "python subprocess": ("a.py", "import subprocess\nx = 1\nprint('go', flush=True)\nsubprocess.run(['sleep', '1000'])\n"),
    "bash sleep": ("a.sh", "x=1; echo go; sleep 1000\n"),
    "bash loop": ("a.sh", "x=1; echo go; while :; do :; done\n"),
    "bash function": ("a.sh", "x=1; f() { while :; do sleep 9; done; }; echo go; f; f\n"),
}


@pytest.mark.parametrize("what", STUCK)
def test_interrupt_stops_the_cell_and_keeps_the_state(ctx, what):
    cell, code = STUCK[what]
    r = run(ctx, cell, code)
    says(r, "go")
    with within(2):
        ctl(ctx, "interrupt")
        assert done(r) == "interrupted"
    assert read(r / "exit_code") == "130\n"
    rec = record(r)
    assert rec["status"] == "interrupted" and rec["exit_code"] == 130 and rec["state_preserved"] is True
    assert (r / "error.json").exists() and (r / "error.txt").exists()
    again = run(ctx, "b" + cell[1:], "x\n" if cell == "a.py" else "echo $x\n")
    assert done(again) == "ok" and read(again / ("result.txt" if cell == "a.py" else "stdout")) == "1\n"
    assert record(again)["generation"] == rec["generation"] and read(again / "stderr") == ""


@pytest.mark.parametrize("whom", ["interrupt", "interrupt long.sh", "interrupt 2"])
def test_interrupt_by_cell_and_by_number(ctx, whom):
    assert done(run(ctx, "a.sh", "true\n")) == "ok"
    r = long_run(ctx)
    with fails(errno.ESRCH):
        ctl(ctx, "interrupt 1")
    with fails(errno.ESRCH):
        ctl(ctx, "interrupt a.sh")
    ctl(ctx, whom)
    assert done(r) == "interrupted"


def test_interrupt_of_a_queued_run_is_esrch(ctx):
    r = long_run(ctx)
    q = run(ctx, "q.sh", "true\n")
    with fails(errno.ESRCH):
        ctl(ctx, "interrupt q.sh")
    assert status(r) == "running" and status(q) == "queued"
    ctl(ctx, "interrupt")
    assert done(q) == "ok"  # those behind go on


# ---- run -----------------------------------------------------------------------------------------


def cells_of(ctx, first=1):
    return [record(ctx / "history" / str(n))["cell"] for n in runs(ctx) if n >= first]


def test_run_runs_again_in_the_order_given(ctx):
    for cell in ("a.py", "b.sh", "c.py"):
        assert done(run(ctx, cell, "1\n" if cell.endswith("py") else "true\n")) == "ok"
    ctl(ctx, "run c.py a.py b.sh")
    assert done(ctx / "results" / "b.sh") == "ok"
    assert cells_of(ctx, 4) == ["c.py", "a.py", "b.sh"]


def test_run_all_runs_in_the_order_of_first_runs(ctx):
    for cell in ("c.sh", "a.sh", "b.sh", "c.sh"):  # c.sh is the first, though written again
        assert done(run(ctx, cell, "true\n")) == "ok"
    os.unlink(ctx / "cells" / "a.sh")
    write(ctx / "cells" / "draft.txt", "x")
    assert done(run(ctx, "d.sh", "true\n")) == "ok"
    ctl(ctx, "run all")
    assert done(ctx / "results" / "d.sh") == "ok"
    assert cells_of(ctx, 6) == ["c.sh", "b.sh", "d.sh"]


def test_run_all_cancels_the_rest_at_the_first_failure(ctx):
    for cell in ("a.sh", "b.sh", "c.sh", "d.sh"):
        assert done(run(ctx, cell, "[ ! -e bad ]\n" if cell == "b.sh" else "true\n")) == "ok"
    write(ctx / "workspace" / "bad", "")
    ctl(ctx, "run all")
    assert [done(ctx / "results" / c) for c in ("a.sh", "b.sh", "c.sh", "d.sh")] == ["ok", "error", "cancelled", "cancelled"]
    assert reason(ctx / "results" / "d.sh")
    assert done(run(ctx, "e.sh", "true\n")) == "ok"


def test_an_edited_cell_is_run_by_run_as_it_is_now(ctx):
    assert done(run(ctx, "a.sh", "echo 1\n")) == "ok"
    assert done(run(ctx, "a.sh", "echo 2\n")) == "ok"
    ctl(ctx, "run a.sh")
    assert read(ctx / "results" / "a.sh" / "stdout") == "2\n" and runs(ctx) == [1, 2, 3]


# ---- cancel --------------------------------------------------------------------------------------


def test_cancel_by_cell_by_number_and_all(ctx):
    r = long_run(ctx)
    q = {c: run(ctx, c, "touch ran-$0\n") for c in ("a.sh", "b.sh", "c.py", "d.sh", "e.sh")}
    n = read(q["b.sh"] / "run").strip()
    reader = spawn(["cat", str(q["a.sh"] / "done")], stdout=subprocess.PIPE, text=True)
    parked(reader)
    ctl(ctx, f"cancel a.sh\ncancel {n}")
    assert reader.communicate(timeout=PATIENCE)[0] == "cancelled\n"
    assert [status(q[c]) for c in q] == ["cancelled", "cancelled", "queued", "queued", "queued"]
    ctl(ctx, "cancel all")
    assert all(done(q[c]) == "cancelled" for c in q)
    assert status(r) == "running"
    for c in q:
        rec = record(q[c])
        assert rec["status"] == "cancelled" and rec["exit_code"] is None and rec["started_at"] is None, rec
        with fails(errno.ENOENT):
            read(q[c] / "exit_code")  # it never started
        assert read(q[c] / "error.txt") and (q[c] / "code").exists() and read(q[c] / "stdout") == ""
    ctl(ctx, "interrupt")
    assert done(r) == "interrupted"
    assert os.listdir(ctx / "workspace") == []


# ---- restart -------------------------------------------------------------------------------------


def state(ctx, languages="py sh"):
    """What the two kernels have in the variable x, in their environment and as their directory."""
    found = {}
    for ext in languages.split():
        r = run(ctx, "state." + ext, {
            "py": "import os\nprint(globals().get('x'), os.environ.get('FOO'), os.path.basename(os.getcwd()))\n",
            "sh": "echo ${x-None} ${FOO-None} ${PWD##*/}\n",
        }[ext])
        assert done(r) == "ok", read(r / "report.md")
        found[ext] = read(r / "stdout").split()
        found[ext + " notice"] = "cellfs: " in read(r / "stderr")
    return found


def set_both(ctx):
    os.mkdir(ctx / "workspace" / "sub")
    write(ctx / "config" / "env" / "FOO", "1")
    write(ctx / "config" / "cwd", "sub")
    assert done(run(ctx, "x.py", "x = 5\n")) == done(run(ctx, "x.sh", "x=5\n")) == "ok"
    assert state(ctx) == {"py": ["5", "1", "sub"], "py notice": False, "sh": ["5", "1", "sub"], "sh notice": False}


def test_restart_of_a_language_is_a_new_kernel_with_the_same_cwd_and_env(ctx):
    set_both(ctx)
    before = kernel(ctx), kernel(ctx, "bash")
    with ending(before[0]["pid"]):
        ctl(ctx, "restart python")
        assert state(ctx) == {"py": ["None", "1", "sub"], "py notice": True, "sh": ["5", "1", "sub"], "sh notice": False}
    assert kernel(ctx)["generation"] == before[0]["generation"] + 1
    assert (kernel(ctx, "bash")["pid"], kernel(ctx, "bash")["generation"]) == (before[1]["pid"], before[1]["generation"])
    assert state(ctx)["py notice"] is False  # only the first run carries it


def test_restart_of_all_takes_the_values_now_in_config(ctx):
    set_both(ctx)
    before = kernel(ctx), kernel(ctx, "bash")
    write(ctx / "config" / "env" / "FOO", "2")
    os.unlink(ctx / "config" / "cwd")
    with ending(before[0]["pid"], before[1]["pid"]):
        ctl(ctx, "restart")
        assert state(ctx) == {
            "py": ["None", "2", "workspace"], "py notice": True, "sh": ["None", "2", "workspace"], "sh notice": True}
    for old, name in zip(before, ("python", "bash")):
        assert kernel(ctx, name)["generation"] == old["generation"] + 1


def test_restart_of_a_language_ends_its_runs_and_leaves_the_others(ctx):
    assert done(run(ctx, "x.sh", "x=5\n")) == "ok"
    r = long_run(ctx, "long.py")
    py, sh = run(ctx, "q.py", "1\n"), run(ctx, "q.sh", "echo $x\n")
    ctl(ctx, "restart python")
    assert done(r) == "interrupted" and done(py) == "cancelled"
    assert done(sh) == "ok" and read(sh / "stdout") == "5\n"


def test_restart_while_another_language_runs(ctx):
    assert done(run(ctx, "x.py", "x = 5\n")) == "ok"
    r = run(ctx, "a.sh", "echo go; until [ -e stop ]; do sleep .01; done\n")
    says(r, "go")
    ctl(ctx, "restart python")
    assert status(r) == "running"
    write(ctx / "workspace" / "stop", "")
    assert done(r) == "ok"
    assert state(ctx, "py") == {"py": ["None", "None", "workspace"], "py notice": True}


def test_a_write_returns_when_the_verb_is_in_force(ctx):
    for verb in ("restart", "stop", "restart bash"):
        assert done(run(ctx, "x.sh", "x=5\n")) == "ok"
        ctl(ctx, verb)
        r = run(ctx, "y.sh", "echo ${x-gone}\n")
        assert done(r) == "ok" and read(r / "stdout") == "gone\n"


# ---- while the kernel starts -----------------------------------------------------------------------

AT_START = {
    "cancel": lambda ctx: ctl(ctx, "cancel a.py"),
    "stop": lambda ctx: ctl(ctx, "stop"),
    "restart": lambda ctx: ctl(ctx, "restart"),
    "restart python": lambda ctx: ctl(ctx, "restart python"),
    "rm": lambda ctx: os.unlink(ctx / "cells" / "a.py"),
}


@pytest.mark.parametrize("verb", AT_START)
def test_a_run_whose_kernel_is_still_starting_is_cancelled(ctx, verb):
    os.mkdir(ctx / "workspace" / "hold")  # with that variable there is no spare, and what Python reads first holds it
    write(ctx / "workspace" / "hold" / "sitecustomize.py", "import os, time\nwhile not os.path.exists('/workspace/go'): time.sleep(.01)\n")
    write(ctx / "config" / "env" / "PYTHONPATH", "/workspace/hold")
    run(ctx, "a.py", "open('ran', 'w')\n")
    with fails(errno.ESRCH):
        ctl(ctx, "interrupt")  # nothing runs yet
    AT_START[verb](ctx)
    assert done(ctx / "history" / "1") == "cancelled"
    write(ctx / "workspace" / "go", "")
    r = run(ctx, "b.py", "import os\nos.path.exists('ran')\n")
    assert done(r) == "ok" and read(r / "result.txt") == "False\n"
    assert read(r / "stderr") == ""  # no state was lost
    assert read(ctx / "status") == "idle\n"


def test_remove_while_the_kernel_starts(m):
    for i in range(5):
        ctx = m.context(f"starting-{i}")
        run(ctx, "a.py", "1\n")
        ctl(ctx, "remove")
        assert not ctx.exists()
    assert done(m.run("a.sh", "true\n")) == "ok"


# ---- stop, clear ---------------------------------------------------------------------------------


def test_stop_ends_kernels_and_files_stay(ctx):
    assert done(run(ctx, "x.py", "x = 5\n")) == "ok"
    write(ctx / "workspace" / "f", "kept")
    r = run(ctx, "long.sh", "sleep 1000 & echo $! go; wait\n")
    says(r, "go")
    child = host_pid(ctx, int(peek(ctx / "stdout").split()[0]))
    q = [run(ctx, c, "1\n") for c in ("a.py", "b.sh")]
    with ending(kernel(ctx)["pid"], kernel(ctx, "bash")["pid"], child, seconds=3):
        ctl(ctx, "stop")
        assert done(r) == "killed" and reason(r) == "stopped" and read(r / "exit_code") == "137\n"
        assert [done(x) for x in q] == ["cancelled"] * 2
    until_status(ctx, "stopped")
    assert read(ctx / "workspace" / "f") == "kept" and runs(ctx) == [1, 2, 3, 4]
    rec = record(r)
    assert rec["state_preserved"] is False
    again = run(ctx, "y.py", "x\n")
    assert done(again) == "error" and read(again / "stderr").startswith("cellfs: ")
    assert record(again)["generation"] == record(ctx / "history" / "1")["generation"] + 1


def test_stop_of_what_is_stopped_is_no_error(ctx):
    ctl(ctx, "stop")
    ctl(ctx, "stop")
    assert done(run(ctx, "a.sh", "true\n")) == "ok"


def test_clear_forgets_the_ended_runs_not_the_variables(ctx):
    for cell, code in (("x.py", "x = 5\nprint('SECRET')\n"), ("y.sh", "echo SECRET\n")):
        assert done(run(ctx, cell, code)) == "ok"
    r = run(ctx, "long.sh", "echo go; until [ -e stop ]; do sleep .01; done\n")
    says(r, "go")
    ctl(ctx, "clear")
    assert runs(ctx) == [3] and set(os.listdir(ctx / "results")) - {"latest"} == {"long.sh"}
    assert b"SECRET" not in peek(ctx / "stdout") and b"SECRET" not in peek(ctx / "events.jsonl")
    assert sorted(os.listdir(ctx / "cells")) == ["long.sh", "x.py", "y.sh"]
    write(ctx / "workspace" / "stop", "")
    assert done(r) == "ok"
    again = run(ctx, "z.py", "x\n")
    assert read(again / "result.txt") == "5\n" and read(again / "run") == "4\n"
    assert all("type" in e for e in events(ctx))
