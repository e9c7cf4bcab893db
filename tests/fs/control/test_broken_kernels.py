"""A kernel that dies, floods, garbles, closes what it needs or never answers: a final status with the reason, the daemon
unhurt, other contexts answer within a second, and the next cell starts a fresh one."""

import os
import re

import pytest

from control.steps import ending, kernel, reason, record, until_status
from mount import done, read, run, within, write

# The driver's end of its event pipe, found by trying: every pipe above 2 that can be written to.
EVENTS = """
import fcntl, os, stat
def events():
    for fd in map(int, os.listdir('/proc/self/fd')):
        try:
            if fd > 2 and stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_WRONLY:
                yield fd
        except OSError: pass
def send(data):
    for fd in events(): os.write(fd, data)
"""

# code, status words that are right, what the reason says
DEATHS = {
    "SIGKILL": ("a.py", "import os\nos.kill(os.getpid(), 9)\n", "killed", r"signal 9 \(Killed\)"),
    "SIGSEGV": ("a.py", "import os\nos.kill(os.getpid(), 11)\n", "killed", r"signal 11 \(Segmentation fault\)"),
    "segfault": ("a.py", "import ctypes\nctypes.string_at(0)\n", "killed", r"signal 11 \(Segmentation fault\)"),
    "abort": ("a.py", "import os\nos.abort()\n", "killed", r"signal 6 \(Aborted\)"),
    "_exit": ("a.py", "import os\nos._exit(7)\n", "killed", r"7"),
    "_exit 0": ("a.py", "import os\nos._exit(0)\n", "killed", r"."),
    "exec": ("a.py", "import os\nos.execv('/bin/true', ['true'])\n", "killed", r"."),
    "close all": ("a.py", "import os\nos.closerange(0, 65536)\n", "killed", r"."),
    "fork holds pipes": (
        "a.py", "import os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(1000)\nos._exit(1)\n", "killed", r"."),
    "garble": ("a.py", EVENTS + "send(b'this is no JSON\\n')\n", "killed", r"."),
    "no object": ("a.py", EVENTS + "send(b'[1,2]\\n')\n", "killed", r"."),
    "long line": ("a.py", EVENTS + "send(b'{\"ev\":\"log\",\"text\":\"' + b'x' * 200000 + b'\"}\\n')\n", "killed", r"."),
    "endless line": ("a.py", EVENTS + "while True: send(b'x' * 65536)\n", "killed", r"."),
    "bash SIGKILL": ("a.sh", "kill -9 $$\n", "killed", r"signal 9 \(Killed\)"),
    "bash SIGSTKFLT": ("a.sh", "kill -STKFLT $$\n", "killed", r"signal 16"),  # Bash catches most others
    "bash exec": ("a.sh", "exec true\n", "killed", r"."),
    "bash holds pipes": ("a.sh", "setsid sleep 1000 & kill -9 $$\n", "killed", r"signal 9 \(Killed\)"),
    "bash close all": ("a.sh", "for fd in /proc/$$/fd/*; do eval \"exec ${fd##*/}>&-\"; done 2>&-; sleep 1000\n", "killed", r"."),
}


@pytest.mark.parametrize("what", DEATHS)
def test_a_kernel_that_dies_or_breaks_the_protocol_ends_its_run_with_the_reason(m, ctx, what):
    cell, code, word, why = DEATHS[what]
    ext = cell[1:]
    assert done(run(ctx, "x" + ext, "x=5\n")) == "ok"
    other = m.contexts / "other"
    other.mkdir(exist_ok=True)
    assert done(run(other, "warm.sh", "true\n")) == "ok"
    r = run(ctx, cell, code)
    with within(1):
        assert done(run(other, "a.sh", "true\n")) == "ok"
    with within(10):
        assert done(r) == word
    assert re.search(why, reason(r)), read(r / "status")
    rec = record(r)
    assert rec["exit_code"] == 137 and rec["state_preserved"] is False and rec["reason"] == reason(r)
    assert rec["error"]["name"] == "killed" and read(r / "error.txt").strip()
    again = run(ctx, "y" + ext, "'x' in globals()\n" if ext == ".py" else "echo ${x-gone}\n")
    assert done(again) == "ok"
    assert read(again / "result.txt" if ext == ".py" else again / "stdout") in ("False\n", "gone\n")
    assert read(again / "stderr").startswith("cellfs: ") and record(again)["generation"] == rec["generation"] + 1


LIES = {
    "unknown ev": "send(b'{\"ev\":\"frobnicate\"}\\n' * 1000)\n",
    "many logs": "for i in range(2000): send(b'{\"ev\":\"log\",\"text\":\"x\"}\\n')\n",
    "done of another run": "send(b'{\"ev\":\"done\",\"id\":987654,\"status\":\"error\",\"code\":9}\\n')\n",
    "error of another run": "send(b'{\"ev\":\"error\",\"id\":987654,\"name\":\"Lie\",\"message\":\"\"}\\n')\n",
    "display of /etc/passwd": (
        "send(b'{\"ev\":\"display\",\"id\":987654,\"kind\":\"display\",\"data\":{\"text/plain\":{\"file\":\"/etc/passwd\"}}}\\n')\n"),
    "a name with a slash": "send(b'{\"ev\":\"display\",\"id\":987654,\"data\":{\"x/../../y\":\"z\"}}\\n')\n",
}


@pytest.mark.parametrize("what", LIES)
def test_the_daemon_believes_no_event(m, ctx, what):
    r = run(ctx, "a.py", EVENTS + LIES[what] + "print('out')\n")
    assert done(r) in ("ok", "killed")  # refused or ignored, but never believed
    rec = record(r)
    assert rec["exit_code"] in (0, 137) and rec["results"] == [] and (rec["error"] or {}).get("name") in (None, "killed")
    assert not [n for n in os.listdir(r) if n.startswith(("display", "result"))]
    assert m.alive and done(run(ctx, "b.py", "1\n")) == "ok"


def test_other_kernels_of_the_context_go_on(ctx):
    assert done(run(ctx, "x.sh", "x=5\n")) == "ok"
    assert done(run(ctx, "a.py", "import os\nos._exit(1)\n")) == "killed"
    r = run(ctx, "y.sh", "echo $x\n")
    assert read(r / "stdout") == "5\n" and read(r / "stderr") == ""


def test_a_kernel_that_dies_while_idle_is_replaced(ctx):
    assert done(run(ctx, "x.sh", "x=5; (until [ -e go ]; do sleep .01; done; kill -9 $$; touch went) &\n")) == "ok"
    with ending(kernel(ctx, "bash")["pid"]):
        write(ctx / "workspace" / "go", "")
        until_status(ctx, "stopped")  # a cell that comes before the daemon knows would end as killed
    r = run(ctx, "y.sh", "echo ${x-gone}\n")
    assert done(r) == "ok" and read(r / "stdout") == "gone\n" and read(r / "stderr").startswith("cellfs: ")


def test_output_before_the_death_is_kept(ctx):
    r = run(ctx, "a.py", "import os\nprint('before', flush=True)\nos.write(2, b'err')\nos.kill(os.getpid(), 9)\n")
    assert done(r) == "killed" and read(r / "stdout") == "before\n" and read(r / "stderr") == "err"


def interpreter(ctx, text):
    path = ctx / "workspace" / "interpreter"
    write(path, "#!/bin/sh\n" + text)
    os.chmod(path, 0o755)
    real = os.path.join(read(run(ctx, "pwd.sh", "pwd\n") / "stdout").strip(), "interpreter")
    write(ctx / "config" / "kernel" / "py", real)


STARTS = {
    "exits": ("exit 3\n", 3),
    "says nothing known": ("echo hello; echo '{}' >&4; sleep 1000\n", 33),
    "garbles": ("echo garbage >&4; sleep 1000\n", 3),
    "is of another version": ("echo '{\"ev\":\"hello\",\"proto\":9,\"min_proto\":8,\"lang\":\"python\"}' >&4; sleep 1000\n", 3),
    "never answers": ("sleep 1000\n", 33),
}


def test_a_kernel_that_does_not_start_ends_its_run_with_the_reason(m):
    started = {}
    for what, (text, _) in STARTS.items():
        ctx = m.context("start-" + what.replace(" ", "-"))
        interpreter(ctx, text)
        started[what] = ctx, run(ctx, "a.py", "1\n"), run(ctx, "b.sh", "echo other\n")
    for what, (ctx, r, other) in started.items():
        with within(STARTS[what][1]):
            assert done(r) in ("killed", "error"), what
        assert read(r / "error.txt").strip() and reason(r), what
        if "version" in what:
            assert "9" in read(r / "error.txt") and "1" in read(r / "error.txt")
        assert done(other) == "ok" and read(other / "stdout") == "other\n", what


def test_a_kernel_that_never_answers_can_be_stopped_and_its_run_cancelled(ctx):
    interpreter(ctx, "sleep 1000\n")
    for way in (lambda: write(ctx / "ctl", "stop\n"), lambda: write(ctx / "ctl", "cancel all\n"),
                lambda: os.unlink(ctx / "cells" / "a.py")):
        r = run(ctx, "a.py", "1\n")
        number = read(r / "run").strip()
        with within(10):  # and not the 30 s that it has for its start
            way()
            assert done(ctx / "history" / number) == "cancelled"
            assert read(run(ctx, "b.sh", "echo other\n") / "stdout") == "other\n"


def test_an_interpreter_that_is_gone_when_the_kernel_starts(ctx):
    interpreter(ctx, "exit 1\n")
    os.unlink(ctx / "workspace" / "interpreter")
    r = run(ctx, "a.py", "1\n")
    assert done(r) in ("killed", "error") and "interpreter" in read(r / "error.txt")
    os.unlink(ctx / "config" / "kernel" / "py")
    assert done(run(ctx, "a.py", "1\n")) == "ok"
