"""interface.md, Control and time: the timeout, its ladder, and what the record says of it."""

import errno
import os
import signal
import subprocess
import time

import pytest

from control.steps import ending, kernel, peek, record, says, until_status
from mount import PATIENCE, done, fails, ok, parked, read, run, runs, spawn, status, within, write

# What ends at the first SIGINT, at the second, and what only SIGKILL ends: cell, its code behind
# the option line, the rung that ends it, the seconds at which that and the next one come.
LADDER = {
    "sleep": ("a.py", "import time\ntime.sleep(1000)\n", "SIGINT", 1, 2),
    "loop": ("a.py", "while True: pass\n", "SIGINT", 1, 2),
    "bash": ("a.sh", "sleep 1000\n", "SIGINT", 1, 2),
    "twice": ("a.py", "import time\ntry: time.sleep(1000)\nexcept KeyboardInterrupt: time.sleep(1000)\n", "a second SIGINT", 2, 4),
}
DEAF = {
    "ignored": ("a.py", "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass\n"),
    "caught": ("a.py", "import time\nwhile True:\n try: time.sleep(1000)\n except KeyboardInterrupt: pass\n"),
    "stopped": ("a.sh", "kill -STOP $$\n"),
    "trapped": ("a.sh", "trap '' INT; while :; do sleep 1; done\n"),
}


@pytest.mark.parametrize("what", LADDER)
def test_a_timeout_that_sigint_enforces_keeps_the_state(ctx, what):
    cell, code, rung, least, most = LADDER[what]
    ext = cell[1:]
    assert done(run(ctx, "x" + ext, "x=5\n")) == "ok"
    r = run(ctx, cell, "#| timeout: 1\n" + code)
    assert done(r) == "timeout"
    assert read(r / "exit_code") == "124\n"
    rec = record(r)
    assert rec["reason"] == f"limit 1 s, ended by {rung}" and least * 1000 <= rec["duration_ms"] < most * 1000, rec
    assert rec["status"] == "timeout" and rec["exit_code"] == 124 and rec["state_preserved"] is True
    assert rec["error"]["name"] and read(r / "error.txt").strip()
    again = run(ctx, "y" + ext, "print(x)\n" if ext == ".py" else "echo $x\n")
    assert read(again / "stdout") == "5\n" and read(again / "stderr") == ""
    assert record(again)["generation"] == rec["generation"]


def test_what_ignores_sigint_is_killed_after_5_s_and_its_state_is_lost(m):
    started = {}
    for what, (cell, code) in DEAF.items():  # all at once: each takes 6 s
        ctx = m.context("deaf-" + what)
        assert done(run(ctx, "x" + cell[1:], "x=5\n")) == "ok"
        started[what] = ctx, run(ctx, cell, "#| timeout: 1\n" + code)
    for what, (ctx, r) in started.items():
        name = "python" if r.name.endswith("py") else "bash"
        assert done(r) == "timeout", what
        rec = record(r)
        assert 5900 <= rec["duration_ms"] < 8000, (what, rec)
        assert rec["exit_code"] == 124 and rec["state_preserved"] is False, what
        assert "SIGKILL" in rec["reason"] or "killed" in rec["reason"], rec["reason"]  # the rung
        again = run(ctx, "y" + r.name[1:], "'x' in globals()\n" if name == "python" else "echo ${x-gone}\n")
        assert done(again) == "ok"
        assert read(again / ("result.txt" if name == "python" else "stdout")) in ("False\n", "gone\n"), what
        assert record(again)["generation"] == rec["generation"] + 1 == kernel(ctx, name)["generation"], what
        notice = read(again / "stderr").splitlines()
        assert len(notice) == 1 and notice[0].startswith("cellfs: "), notice
        third = run(ctx, "z" + r.name[1:], "\n")
        assert done(third) == "ok" and read(third / "stderr") == ""  # only the first carries it
        assert record(third)["state_preserved"] is True


def test_an_interrupt_climbs_the_same_ladder(ctx):
    r = run(ctx, "a.sh", "trap '' INT; echo go; while :; do sleep 1; done\n")
    says(r, "go")
    start = time.monotonic()
    write(ctx / "ctl", "interrupt\n")
    assert time.monotonic() - start < 1  # the write does not wait for it
    assert done(r) == "interrupted"
    assert 4.9 < time.monotonic() - start < 7
    rec = record(r)
    assert rec["state_preserved"] is False and rec["exit_code"] == 130


def test_a_timeout_counts_running_time(ctx):
    first = run(ctx, "a.sh", "echo go; sleep 3.2\n")
    second = run(ctx, "b.sh", "#| timeout: 3\ntrue\n")
    assert done(first) == done(second) == "ok"
    rec = record(second)
    assert rec["duration_ms"] < 3000


def test_a_timeout_of_zero_is_none(ctx):
    write(ctx / "config" / "timeout", "1")
    r = run(ctx, "a.sh", "#| timeout: 0\nsleep 1.5\n")
    assert done(r) == "ok"


def test_output_before_a_timeout_is_kept(ctx):
    assert done(run(ctx, "warm.py", "import time\n")) == "ok"
    r = run(ctx, "a.py", "#| timeout: 3\nprint('before')\ntime.sleep(1000)\n")
    assert done(r) == "timeout" and read(r / "stdout") == "before\n"
    report = read(r / "report.md")
    assert "timeout" in report and "before" in report


def test_a_timeout_is_not_the_readers(ctx):
    r = run(ctx, "a.sh", "#| timeout: 4\necho go; sleep 1000\n")
    says(r, "go")
    for name in ("done", "stdout"):
        reader = spawn(["cat", str(r / name)], stdout=subprocess.PIPE)
        parked(reader)
        reader.send_signal(signal.SIGINT)
        assert reader.wait(PATIENCE) == -signal.SIGINT
    assert status(r) == "running"  # the readers went away, the run goes on
    assert done(r) == "timeout"


# ---- rm ------------------------------------------------------------------------------------------


def test_rm_of_a_queued_cell_cancels_its_run(ctx):
    r = run(ctx, "a.sh", "echo go; until [ -e stop ]; do sleep .01; done\n")
    says(r, "go")
    q = run(ctx, "q.sh", "touch ran\n")
    reader = spawn(["cat", str(q / "done"), str(q / "status")], stdout=subprocess.PIPE, text=True)
    parked(reader)
    with within(1):
        os.unlink(ctx / "cells" / "q.sh")
    assert reader.communicate(timeout=PATIENCE)[0].startswith("cancelled\n")
    assert not q.exists()
    assert status(ctx / "history" / "2") == "cancelled"
    write(ctx / "workspace" / "stop", "")
    assert done(r) == "ok" and not (ctx / "workspace" / "ran").exists()


def test_rm_of_a_running_cell_interrupts_it(ctx):
    assert done(run(ctx, "x.py", "x = 5\n")) == "ok"
    r = run(ctx, "a.py", "import time\nprint('go', flush=True)\ntime.sleep(1000)\n")
    says(r, "go")
    readers = [spawn(["cat", str(r / n)], stdout=subprocess.PIPE, text=True) for n in ("done", "stdout", "execution.json")]
    for p in readers:
        parked(p)
    with within(1):
        os.unlink(ctx / "cells" / "a.py")
    texts = [p.communicate(timeout=PATIENCE)[0] for p in readers]
    assert texts[:2] == ["interrupted\n", "go\n"] and '"interrupted"' in texts[2]
    assert not r.exists()
    assert done(ctx / "history" / "2") == "interrupted"
    again = run(ctx, "y.py", "x\n")
    assert read(again / "result.txt") == "5\n"


def test_rm_of_an_ended_cell_keeps_its_history(ctx):
    r = run(ctx, "a.sh", "echo out\n")
    assert done(r) == "ok"
    os.unlink(ctx / "cells" / "a.sh")
    assert not r.exists() and os.listdir(ctx / "results") in ([], ["latest"])
    assert read(ctx / "history" / "1" / "stdout") == "out\n" and read(ctx / "history" / "1" / "code") == "echo out\n"
    assert done(run(ctx, "a.sh", "echo new\n")) == "ok" and runs(ctx) == [1, 2]


def test_rm_r_of_a_run_forgets_it_for_good_and_is_ebusy_before_its_end(ctx):
    assert done(run(ctx, "a.sh", "echo SECRET1\n")) == "ok"
    assert done(run(ctx, "a.sh", "echo SECRET2; echo more\n")) == "ok"
    r = run(ctx, "long.sh", "echo go; sleep 1000\n")
    says(r, "go")
    with fails(errno.EBUSY):
        os.rmdir(ctx / "history" / "3")
    with fails(errno.EBUSY):
        os.rmdir(ctx / "results" / "long.sh")
    os.rmdir(ctx / "results" / "a.sh")  # its newest run
    assert read(ctx / "results" / "a.sh" / "stdout") == "SECRET1\n" and runs(ctx) == [1, 3]
    for name in ("stdout", "events.jsonl"):
        assert b"SECRET2" not in peek(ctx / name) and b"SECRET1" in peek(ctx / name)
    lines = peek(ctx / "events.jsonl").splitlines()
    assert any(line.rstrip().endswith(b'"type":"removed"}') for line in lines)
    assert b"\0" * len("SECRET2\nmore\n") in peek(ctx / "stdout")
    write(ctx / "ctl", "interrupt\n")
    assert done(r) == "interrupted"


def test_rm_r_of_history_by_rm(ctx):
    for i in range(4):
        assert done(run(ctx, f"{i % 2}.sh", f"echo {i}\n")) == "ok"
    ok(["rm", "-r", str(ctx / "history" / "2"), str(ctx / "results" / "0.sh")])
    assert runs(ctx) == [1, 4] and read(ctx / "results" / "0.sh" / "stdout") == "0\n"
    ok(f"rm -r {ctx}/history/*")
    assert runs(ctx) == [] and set(os.listdir(ctx / "results")) <= {"latest"}
    assert sorted(os.listdir(ctx / "cells")) == ["0.sh", "1.sh"]
    assert record(run(ctx, "0.sh", "true\n"))["id"] == 5


# ---- idle ----------------------------------------------------------------------------------------


def test_idle_timeout_stops_kernels_and_keeps_every_file(ctx):
    write(ctx / "config" / "idle_timeout", "1")
    r = run(ctx, "x.py", "x = 5\nprint('out', flush=True)\nimport os, time\nwhile not os.path.exists('stop'): time.sleep(.01)\n")
    says(r, "out")
    write(ctx / "workspace" / "f", "kept")
    with ending(kernel(ctx)["pid"]):
        write(ctx / "workspace" / "stop", "")
        assert done(r) == "ok"
        until_status(ctx, "stopped")
    assert read(r / "stdout") == "out\n" and read(ctx / "workspace" / "f") == "kept"
    again = run(ctx, "y.py", "'x' in globals()\n")
    assert read(again / "result.txt") == "False\n" and read(again / "stderr").startswith("cellfs: ")


def test_idle_timeout_does_not_stop_a_run(ctx):
    write(ctx / "config" / "idle_timeout", "1")
    run(ctx, "x.sh", "x=5; until [ -e stop ]; do sleep .01; done\n")
    r = run(ctx, "a.sh", "sleep 1.6; echo $x\n")  # behind it, so that nothing is idle between them
    write(ctx / "workspace" / "stop", "")
    assert done(r) == "ok" and read(r / "stdout") == "5\n"
