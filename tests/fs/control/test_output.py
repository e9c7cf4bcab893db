"""interface.md, Results: what is kept of output, late output, and the end of a run by exit."""

import hashlib
import json
import os
import re
import subprocess

import pytest

from control.steps import events, kernel, record, says
from mount import done, fd_of, read, read_bytes, read_until, run, spawn, within, write

MIB = 1 << 20
PRINT_3M = "import os\ndata = b''.join(b'%07d\\n' % i for i in range(3 << 17))\nos.write({fd}, data) if 0 else " \
           "[os.write({fd}, data[i:i + 65536]) for i in range(0, len(data), 65536)] and None\n"
DATA_3M = b"".join(b"%07d\n" % i for i in range(3 << 17))


@pytest.mark.parametrize("fd,name", [(1, "stdout"), (2, "stderr")])
def test_past_config_output_bytes_are_counted_and_the_last_64_kib_follow(ctx, fd, name):
    write(ctx / "config" / "output", "1M")
    assert done(run(ctx, "warm.py", "1\n")) == "ok"
    r = run(ctx, "a.py", PRINT_3M.format(fd=fd))
    live = spawn(["cat", str(r / (name + ".follow"))], stdout=subprocess.PIPE)
    streamed = live.communicate(timeout=30)[0]
    assert done(r) == "ok"
    kept = read_bytes(r / name)
    assert kept.startswith(DATA_3M[:MIB]) and kept.endswith(DATA_3M[-65536:])
    middle = kept[MIB:-65536]
    assert re.fullmatch(rb"\n?cellfs: [^\n]+\n", middle), middle
    assert str(3 * MIB - MIB - 65536) in middle.decode().replace(",", "")
    assert streamed == kept  # follow shows exactly what stdout holds
    assert read_bytes(r / (name + ".follow")) == kept
    assert record(r)["truncated"] == {name: {"kept": MIB + 65536, "total": 3 * MIB}} or record(r)["truncated"][name]["total"] == 3 * MIB
    last = events(r)[-1]
    assert last["type"] == "finished" and last["truncated"][name]["total"] == 3 * MIB
    assert record(run(ctx, "b.py", "print(1)\n"))["truncated"] in ({}, None)


def test_output_at_the_limit_and_just_past_it(ctx):
    write(ctx / "config" / "output", "64K")
    exact = run(ctx, "a.py", "import os\nos.write(1, b'x' * 65536) and None\n")
    assert done(exact) == "ok" and read_bytes(exact / "stdout") == b"x" * 65536
    past = run(ctx, "b.py", "import os\nos.write(1, b'x' * 65536 + b'y') and None\n")
    assert done(past) == "ok"
    text = read_bytes(past / "stdout")  # nothing is missing, so no line says so
    assert text == b"x" * 65536 + b"y" or re.fullmatch(rb"x{65536}\n?cellfs: [^\n]*\ny", text)


def test_100_mb_of_output_are_kept_exactly(ctx):
    r = run(ctx, "a.py", "import os\nfor i in range(100): os.write(1, bytes([65 + i % 26]) * 1000000)\n")
    assert done(r) == "ok"
    assert os.stat(r / "stdout").st_size == 100_000_000 == os.stat(ctx / "stdout").st_size
    want = hashlib.sha256(b"".join(bytes([65 + i % 26]) * 1000000 for i in range(100))).hexdigest()
    assert hashlib.sha256(read_bytes(r / "stdout")).hexdigest() == want
    rec = record(r)
    assert rec["logs"]["stdout"]["size"] == 100_000_000 and rec["usage"]["bytes_out"] >= 100_000_000
    assert len(read(r / "report.md")) <= 32 << 10


def test_output_of_both_streams_in_order_within_each(ctx):
    r = run(ctx, "a.sh", "for i in {1..500}; do echo o$i; echo e$i >&2; done\n")
    assert done(r) == "ok"
    assert read(r / "stdout").split() == [f"o{i}" for i in range(1, 501)]
    assert read(r / "stderr").split() == [f"e{i}" for i in range(1, 501)]
    assert read(ctx / "stdout") == read(r / "stdout")


def test_bytes_that_are_no_text_are_kept_byte_for_byte(ctx):
    r = run(ctx, "a.py", "import os\nos.write(1, bytes(range(256)) * 3) and None\n")
    assert done(r) == "ok" and read_bytes(r / "stdout") == bytes(range(256)) * 3
    assert all("text" not in e for e in events(r) if e["type"] == "stdout")
    json.loads(read(r / "execution.json"))


# ---- late output ---------------------------------------------------------------------------------

LATE = {
    "python": (
        "a.py",
        "import os, threading, time\ndef late():\n"
        "    while not os.path.exists('go'): time.sleep(.01)\n"
        "    print('LATE', flush=True)\n"
        "threading.Thread(target=late).start()\nprint('own')\n",
        "b.sh", "touch go; until [ -e heard ]; do sleep .01; done; echo hi\n",
    ),
    "bash": (
        "a.sh", "(until [ -e go ]; do sleep .01; done; echo LATE) &\necho own\n",
        "b.py", "import os, time\nopen('go', 'w').close()\nwhile not os.path.exists('heard'): time.sleep(.01)\nprint('hi')\n",
    ),
}


@pytest.mark.parametrize("language", LATE)
def test_late_output_goes_to_the_contexts_stream_and_to_no_run(ctx, language):
    cell, code, other, wait = LATE[language]
    first = run(ctx, cell, code)
    assert done(first) == "ok"
    with fd_of(ctx / "stdout.follow") as fd:
        second = run(ctx, other, wait)
        read_until(fd, b"LATE\n")
    write(ctx / "workspace" / "heard", "")
    assert done(second) == "ok"
    assert read(first / "stdout") == "own\n" and read(second / "stdout") == "hi\n"
    assert sorted(read(ctx / "stdout").split()) == ["LATE", "hi", "own"]
    (late,) = [e for e in events(ctx) if e["type"] == "late"]
    assert (late["language"], late["stream"], late["text"], late["size"]) == (language, "stdout", "LATE\n", 5)
    assert read_bytes(ctx / "stdout")[late["offset"]:][:5] == b"LATE\n"
    assert "run" not in late or late["run"] is None


def test_late_output_while_nothing_runs_is_followed_live(ctx):
    with fd_of(ctx / "stdout.follow") as fd:
        r = run(ctx, "a.sh", "(until [ -e go ]; do sleep .01; done; echo LATE) &\necho own\n")
        assert done(r) == "ok"
        write(ctx / "workspace" / "go", "")
        assert read_until(fd, b"LATE\n") == b"own\nLATE\n"
    assert read(r / "stdout") == "own\n"


def test_a_flood_ends_with_its_timeout_and_others_are_answered(m, ctx):
    write(ctx / "config" / "output", "1M")
    other = m.context("beside-a-flood")
    assert done(run(other, "a.sh", "true\n")) == "ok"
    for cell, code in (("a.py", "while True: print('x' * 1000)\n"), ("b.sh", "yes\n")):
        r = run(ctx, cell, "#| timeout: 1\n" + code)
        says(r, "x" if cell == "a.py" else "y")
        with within(1):
            assert done(run(other, "a.sh", "true\n")) == "ok"
        with within(3):
            assert done(r) == "timeout"
        assert os.stat(r / "stdout").st_size < 1200000 and record(r)["truncated"]["stdout"]["total"] > MIB


def test_a_flood_in_the_background_is_limited_and_others_are_answered(m, ctx):
    write(ctx / "config" / "output", "1M")
    other = m.context("beside-a-background")
    assert done(run(other, "a.sh", "true\n")) == "ok"
    r = run(ctx, "a.sh", "yes & echo $!\n")
    assert done(r) == "ok"
    for _ in range(20):
        with within(1):
            assert done(run(other, "a.sh", "true\n")) == "ok"
    assert done(run(ctx, "b.py", "import time\ntime.sleep(1)\n")) == "ok"
    assert os.stat(ctx / "stdout").st_size < 4 * MIB  # what a kernel prints while it runs nothing has the limit, too
    assert os.stat(ctx / "events.jsonl").st_size < MIB
    write(ctx / "ctl", "stop\n")
    assert done(run(ctx, "c.sh", "true\n")) == "ok"


# ---- exit ----------------------------------------------------------------------------------------

EXITS = [
    ("a.py", "import sys; x = 5; sys.exit(0)\n", "ok", 0),
    ("a.py", "import sys; x = 5; sys.exit()\n", "ok", 0),
    ("a.py", "import sys; x = 5; sys.exit(3)\n", "error", 3),
    ("a.py", "x = 5\nexit(4)\n", "error", 4),
    ("a.py", "x = 5\nraise SystemExit(255)\n", "error", 255),
    ("a.sh", "x=5; exit 0\n", "ok", 0),
    ("a.sh", "x=5; exit 3\n", "error", 3),
    ("a.sh", "x=5; set -e; false; echo no\n", "error", 1),
    ("a.sh", "x=5; (exit 7)\n", "error", 7),
    ("a.sh", "x=5; nosuchcommand\n", "error", 127),
    ("a.py", "x = 5\n1/0\n", "error", 1),
    ("a.py", "x = 5\n", "ok", 0),
]


@pytest.mark.parametrize("cell,code,word,n", EXITS)
def test_exit_ends_the_run_not_the_kernel(ctx, cell, code, word, n):
    r = run(ctx, cell, code)
    assert done(r) == word
    assert read(r / "exit_code") == f"{n}\n" and record(r)["exit_code"] == n
    if word == "error":
        name = json.loads(read(r / "error.json"))["name"]
        assert name == ("ZeroDivisionError" if "1/0" in code else "ExitStatus")
    else:
        assert not (r / "error.json").exists()
    again = run(ctx, "b" + cell[1:], "print(x)\n" if cell == "a.py" else "echo $x\n")
    assert read(again / "stdout") == "5\n" and record(again)["generation"] == 1
    assert kernel(ctx, "python" if cell == "a.py" else "bash")["execution_count"] == 2
