"""What the files of a run say."""

import errno
import json
import os
import re

import pytest
from mount import (
    HOLD_PY,
    done,
    events,
    fails,
    fd_of,
    hold,
    let_go,
    ok,
    parked,
    read,
    read_bytes,
    run,
    runs,
    spawn,
    status,
    until,
    write,
)

RECORD = [
    "id", "cell", "context", "language", "code", "options", "status", "reason", "execution_count", "generation",
    "state_preserved", "results", "logs", "error", "exit_code", "artifacts", "queued_at", "started_at", "finished_at",
    "duration_ms", "usage", "truncated",
]  # fmt: skip
USAGE = ["cpu_ms", "wall_ms", "max_rss_bytes", "bytes_in", "bytes_out", "disk_bytes"]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def record(results):
    return json.loads(read(results / "execution.json"))


def listed(results):
    return set(os.listdir(results)) - {"artifacts"}


BASE = {"status", "run", "code", "done", "report.md", "stdout", "stderr", "exit_code", "execution.json", "events.jsonl"}

# name: (cell, code, status, exit code, name of the error, files beyond BASE)
ENDS = {
    "bash-ok": ("a.sh", "echo one\n", "ok", 0, None, set()),
    "bash-exit-0": ("a.sh", "exit 0\n", "ok", 0, None, set()),
    "bash-exit-7": ("a.sh", "exit 7\n", "error", 7, "ExitStatus", set()),
    "bash-false": ("a.sh", "false\n", "error", 1, "ExitStatus", set()),
    "bash-not-found": ("a.sh", "no-such-command-at-all\n", "error", 127, "ExitStatus", set()),
    "python-nothing": ("a.py", "x = 1\n", "ok", 0, None, set()),
    "python-none": ("a.py", "None\n", "ok", 0, None, set()),
    "python-int": ("a.py", "6*7\n", "ok", 0, None, {"result.txt"}),
    "python-error": ("a.py", "1/0\n", "error", 1, "ZeroDivisionError", set()),
    "python-syntax": ("a.py", "x = (\n", "error", 1, "SyntaxError", set()),
    "python-exit-0": ("a.py", "import sys; sys.exit(0)\n", "ok", 0, None, set()),
    "python-exit-5": ("a.py", "import sys; sys.exit(5)\n", "error", 5, "ExitStatus", set()),
    "python-html": (
        "a.py",
        "class X:\n    def _repr_html_(self): return '<b>x</b>'\n    def __repr__(self): return 'X!'\nX()\n",
        "ok",
        0,
        None,
        {"result.txt", "result.html"},
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_how_a_run_ends(ctx, how):
    """error.json and error.txt are there exactly when the status is not ok."""
    cell, code, word, exit_code, error, more = ENDS[how]
    results = run(ctx, cell, code)
    assert done(results) == word, read(results / "report.md")
    assert read(results / "done") == word + "\n"
    assert status(results) == word
    assert read(results / "exit_code") == f"{exit_code}\n"
    expected = BASE | more | ({"error.txt", "error.json"} if error else set())
    assert listed(results) - {"result.repr.txt"} == expected
    for name in "error.txt", "error.json":
        if error:
            assert read(results / name).endswith("\n")
        else:
            with fails(errno.ENOENT):
                os.stat(results / name)
    if error:
        e = json.loads(read(results / "error.json"))
        assert e["name"] == error
        assert {"name", "message", "traceback"} <= set(e) and isinstance(e["traceback"], list)
        assert error in read(results / "error.txt") or e["message"] in read(results / "error.txt")
    assert record(results)["exit_code"] == exit_code


def test_error_json_has_the_line(ctx):
    results = run(ctx, "a.py", "def f():\n    1/0\n\nf()\n")
    assert done(results) == "error"
    e = json.loads(read(results / "error.json"))
    assert e["line"] == 2 and e["message"] == "division by zero"
    assert [f["line"] for f in e["frames"]][-2:] == [4, 2]


def test_a_name_of_a_result_that_did_not_come_is_enoent_after_the_end(ctx):
    results = run(ctx, "a.py", "6*7\n")
    with fails(errno.ENOENT):
        read(results / "result.html")
    assert read(results / "result.txt") == "42\n"
    with fails(errno.ENOENT):
        os.stat(results / "display-1.txt")


TEXTS = {"int": ("6*7", "42\n", None), "string": ("'a\"b'", 'a"b\n', "'a\"b'\n"), "newline": ("'a\\n'", "a\n", "'a\\n'\n"),
         "lines": ("'a\\nb'", "a\nb\n", "'a\\nb'\n"), "empty": ("''", "\n", "''\n"), "list": ("[1, 'x']", "[1, 'x']\n", None),
         "unicode": ("'grün 漢'", "grün 漢\n", "'grün 漢'\n")}  # fmt: skip


@pytest.mark.parametrize("what", TEXTS)
def test_result_txt_ends_with_a_newline_and_a_string_has_no_quotes(ctx, what):
    expression, text, representation = TEXTS[what]
    results = run(ctx, "a.py", expression + "\n")
    assert done(results) == "ok"
    assert read(results / "result.txt") == text
    if representation:
        assert read(results / "result.repr.txt") == representation
    (main,) = [r for r in record(results)["results"] if r["is_main_result"]]
    assert main["formats"]["text/plain"] == (text[:-1] if what != "newline" else "a\n")


def test_latest_is_a_link_to_the_cell_submitted_last(ctx):
    latest = ctx / "results/latest"
    assert not os.path.lexists(latest)
    for name in "a.sh", "b.sh", "a.sh":
        run(ctx, name, f"echo {name}\n")
        assert os.readlink(latest) == name
        assert read(latest / "stdout") == f"{name}\n"


# ---- status words


def test_status_writing(ctx):
    """run and code are ENOENT, the other names wait as for a queued run."""
    done(run(ctx, "warm.sh", ":\n"))
    results = ctx / "results/f.sh"
    with fd_of(ctx / "cells/f.sh", os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"echo one\n")
        assert status(results) == "writing"
        for name in "run", "code":
            with fails(errno.ENOENT):
                os.stat(results / name)


        reader = spawn(["cat", results / "stdout"], stdout=-1)
        parked(reader)
        assert reader.poll() is None
    assert reader.communicate(timeout=20)[0] == b"one\n"
    assert runs(ctx) == [1, 2]


def test_status_writing_and_closed_with_nothing_written(ctx):


    results = ctx / "results/f.sh"
    with fd_of(ctx / "cells/f.sh", os.O_WRONLY | os.O_CREAT):
        reader = spawn(["cat", results / "stdout"], stderr=-1)
        parked(reader)
        assert reader.poll() is None
    assert b"No such file" in reader.communicate(timeout=20)[1]
    with fails(errno.ENOENT):
        os.stat(results / "status")


def test_status_words(ctx):
    results = hold(ctx)
    queued = run(ctx, "q.sh", "echo q\n")
    assert read(results / "status") == "running\n"
    assert status(queued) == "queued"
    write(ctx / "ctl", "cancel q.sh\n")
    assert done(queued) == "cancelled" == status(queued)
    write(ctx / "ctl", "interrupt\n")
    assert done(results) == "interrupted" == status(results)
    assert read(results / "exit_code") == "130\n"
    with fails(errno.ENOENT):
        read(queued / "exit_code")
    assert json.loads(read(queued / "error.json"))["name"] == "cancelled"
    assert json.loads(read(results / "error.json"))["name"] == "interrupted"


# ---- the record and the events


def test_execution_json_has_every_key_in_order(ctx):
    results = run(ctx, "a.py", "print('out')\nimport sys; print('err', file=sys.stderr)\n6*7\n")
    assert done(results) == "ok"
    r = record(results)
    assert list(r) == RECORD
    uuid = json.loads(read(ctx / "context.json"))["uuid"]  # a name can change, a record not
    assert (r["id"], r["cell"], r["context"], r["language"]) == (1, "a.py", uuid, "python")
    assert r["code"] == read(ctx / "cells/a.py")
    assert (r["status"], r["execution_count"], r["generation"], r["state_preserved"]) == ("ok", 1, 1, True)
    assert r["logs"] == {"stdout": "out\n", "stderr": "err\n"}
    assert r["error"] is None and r["exit_code"] == 0 and r["artifacts"] == []
    assert set(USAGE) <= set(r["usage"])
    for key in "queued_at", "started_at", "finished_at":
        assert TIME.fullmatch(r[key]), r[key]
    assert r["queued_at"] <= r["started_at"] <= r["finished_at"]
    assert isinstance(r["duration_ms"], (int, float))
    text = read(results / "execution.json")
    assert text.endswith("}\n") and len(text.splitlines()) > len(RECORD)  # indented, a key a line
    assert [x["is_main_result"] for x in r["results"]] == [True]


def test_execution_json_of_a_bash_cell_that_failed(ctx):
    results = run(ctx, "a.sh", "echo out; echo err >&2; exit 3\n")
    assert done(results) == "error"
    r = record(results)
    assert list(r) == RECORD
    assert r["error"]["name"] == "ExitStatus" and r["exit_code"] == 3
    assert r["logs"] == {"stdout": "out\n", "stderr": "err\n"}


def test_options_of_a_cell_are_in_the_record(ctx):
    results = run(ctx, "a.sh", "#| timeout: 30\n#| env.FOO: bar\necho $FOO\n")
    assert done(results) == "ok"
    assert read(results / "stdout") == "bar\n"
    assert record(results)["options"]
    assert read(results / "code").startswith("#| timeout")


def test_big_logs_are_files_in_the_record(ctx):
    results = run(ctx, "a.sh", "head -c 70000 /dev/zero | tr '\\0' x\n")
    assert done(results) == "ok"
    logs = record(results)["logs"]
    assert logs["stdout"]["size"] == 70000 and logs["stderr"] == ""


def test_the_events_of_a_run(ctx):
    results = run(ctx, "a.py", "print('out')\n6*7\n")
    assert done(results) == "ok"
    e = events(results)
    types = [x["type"] for x in e]
    assert types[0] == "queued" and types[1] == "started" and types[-1] == "finished"
    assert types.index("stdout") < types.index("result") < types.index("finished")
    assert types.count("finished") == 1
    for x in e:
        assert (x["run"], x["cell"], x["language"]) == (1, "a.py", "python"), x
        assert TIME.fullmatch(x["time"])
    out = e[types.index("stdout")]
    assert (out["offset"], out["size"], out["text"]) == (0, 4, "out\n")
    assert e[1]["execution_count"] == 1 and e[1]["generation"] == 1
    assert e[types.index("result")]["formats"]["text/plain"] == "42"
    end = e[-1]
    assert end["status"] == "ok" and end["exit_code"] == 0 and end["state_preserved"] is True
    assert "duration_ms" in end and "usage" in end


def test_seq_counts_from_1_in_its_context(ctx):
    for name, code in ("a.sh", "echo 1\n"), ("b.py", "1/0\n"), ("a.sh", "exit 3\n"), ("c.sh", "echo x >&2\n"):
        done(run(ctx, name, code))
    all_events = events(ctx)
    assert [e["seq"] for e in all_events] == list(range(1, len(all_events) + 1))
    of_runs = sorted((e for n in runs(ctx) for e in events(ctx / f"history/{n}")), key=lambda e: e["seq"])
    assert of_runs == [e for e in all_events if "run" in e and e["type"] != "removed"]
    for n in runs(ctx):
        mine = events(ctx / f"history/{n}")
        assert mine[0]["type"] == "queued" and mine[-1]["type"] == "finished"
    assert [e["type"] for e in events(ctx / "history/2") if e["type"] == "error"] == ["error"]


def test_events_of_output_that_is_not_text_or_long(ctx):
    results = run(ctx, "a.sh", "printf '\\377\\376'; sleep 0.05; head -c 5000 /dev/zero | tr '\\0' x\n")
    assert done(results) == "ok"
    out = [e for e in events(results) if e["type"] == "stdout"]
    at = 0
    for e in out:
        assert e["offset"] == at
        at += e["size"]
        assert "text" not in e or len(e["text"]) <= 4096
    assert at == 5002


def test_events_are_in_order_of_time(ctx):
    for n in range(20):
        run(ctx, f"{n % 3}.sh", f"echo {n}\n")
    done(ctx / "history/20")
    times = [e["time"] for e in events(ctx)]
    assert times == sorted(times)


# ---- rich output

PNG = "import base64\nfrom IPython.display import display, Image, HTML, Markdown, JSON, SVG, Latex, Javascript\n"
MIMES = {
    "html": ("HTML('<b>x</b>')", "text/html", b"<b>x</b>\n"),
    "md": ("Markdown('# x')", "text/markdown", b"# x\n"),
    "tex": ("Latex('$x$')", "text/latex", b"$x$\n"),
    "svg": ("SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"></svg>')", "image/svg+xml", None),
    "png": ("Image(data=b'\\x89PNG\\r\\n\\x1a\\n123', format='png')", "image/png", b"\x89PNG\r\n\x1a\n123"),
    "jpg": ("Image(data=b'\\xff\\xd8\\xff123', format='jpeg')", "image/jpeg", b"\xff\xd8\xff123"),
    "js": ("Javascript('1')", "application/javascript", b"1\n"),
    "json": ("JSON({'a': 1})", "application/json", None),
}


@pytest.mark.parametrize("ext", MIMES)
@pytest.mark.parametrize("kind", ["result", "display-1"])
def test_one_file_per_mime_type(ctx, ext, kind):
    expression, mime, data = MIMES[ext]
    results = run(ctx, "a.py", PNG + (f"{expression}\n" if kind == "result" else f"display({expression})\n"))
    assert done(results) == "ok", read(results / "report.md")
    path = results / f"{kind}.{ext}"
    assert os.getxattr(path, "user.mime_type").decode().partition(";")[0] == mime
    if data is not None:
        assert read_bytes(path) == data
    if ext == "json":
        assert json.loads(read(path)) == {"a": 1}
    assert f"{kind}.{ext}" in os.listdir(results)


def test_any_other_type_has_a_name_of_its_own(ctx):
    code = "from IPython.display import display\ndisplay({'application/vnd.x+json': {'a': 1}, 'text/plain': 'x'}, raw=True)\n"
    results = run(ctx, "a.py", code)
    assert done(results) == "ok"
    names = [n for n in os.listdir(results) if n.startswith("display-1.")]
    assert len(names) == 2 and "display-1.txt" in names
    (other,) = set(names) - {"display-1.txt"}
    assert other.startswith("display-1.application_vnd.x"), other
    assert json.loads(read(results / other)) == {"a": 1}


KINDS = {"stdout": "text/plain", "stderr": "text/plain", "report.md": "text/markdown", "execution.json": "application/json",
         "error.json": "application/json", "error.txt": "text/plain", "done": "text/plain", "exit_code": "text/plain",
         "status": "text/plain", "run": "text/plain"}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_user_mime_type_of_every_result_file(ctx, name):
    results = run(ctx, "a.sh", "exit 3\n")
    assert done(results) == "error"
    assert os.getxattr(results / name, "user.mime_type").decode().partition(";")[0] == KINDS[name]


def test_every_file_of_a_run_has_a_mime_type(ctx):
    results = run(ctx, "a.py", "print(1)\n'x'\n")
    assert done(results) == "ok"
    for name in listed(results):
        assert re.fullmatch(r"[a-z]+/[\w.+-]+(;.*)?", os.getxattr(results / name, "user.mime_type").decode()), name
        assert "user.mime_type" in os.listxattr(results / name)


def test_an_update_gives_a_display_its_new_content(ctx):
    code = (
        "from IPython.display import display\nh = display('first', display_id='x')\ndisplay('other')\nh.update('second')\n"
    )
    results = run(ctx, "a.py", code)
    assert done(results) == "ok"
    assert "second" in read(results / "display-1.txt") and "other" in read(results / "display-2.txt")
    assert not os.path.exists(results / "display-3.txt")
    shown = [e for e in events(results) if e["type"] == "display"]
    assert [e["k"] for e in shown] == [1, 2, 1]
    assert shown[0]["display_id"] == "x" and not shown[0].get("update") and shown[2]["update"] is True


def test_clear_takes_the_displays_before_it_out_and_the_events_stay(ctx):
    code = "from IPython.display import display, clear_output\ndisplay('a'); display('b')\nclear_output()\ndisplay('c')\n"
    results = run(ctx, "a.py", code)
    assert done(results) == "ok"
    assert {n for n in listed(results) if n.startswith("display")} == {"display-3.txt"}
    assert "c" in read(results / "display-3.txt")
    with fails(errno.ENOENT):
        os.stat(results / "display-1.txt")
    types = [e["type"] for e in events(results)]
    assert types.count("display") == 3 and types.count("clear") == 1


def test_displays_are_listed_as_they_come(ctx):
    results = run(ctx, "a.py", "display('a')\ndisplay('b')\n" + HOLD_PY)
    until(lambda: {"display-1.txt", "display-2.txt"} <= listed(results))
    assert status(results) == "running"
    let_go(ctx)
    assert done(results) == "ok"


def test_report_md_tells_it_all(ctx):
    results = run(ctx, "a.py", "print('to stdout')\nimport sys; print('to stderr', file=sys.stderr)\n6*7\n")
    assert done(results) == "ok"
    text = read(results / "report.md")
    for part in "ok", "to stdout", "to stderr", "42":
        assert part in text
    results = run(ctx, "b.py", "1/0\n")
    text = read(results / "report.md")
    assert "ZeroDivisionError" in text and "error" in text


def test_report_md_is_at_most_32_kib(ctx):
    results = run(ctx, "a.sh", "seq 100000; seq 100000 >&2\n")
    assert done(results) == "ok"
    assert 1000 < os.stat(results / "report.md").st_size <= 32 << 10


def test_report_md_shows_output_as_a_terminal_would(ctx):
    results = run(ctx, "a.sh", "printf '10%%\\r50%%\\r100%%\\n'; printf '\\033[31mred\\033[0m\\n'\n")
    text = read(results / "report.md")
    assert "100%" in text and "50%" not in text and "red" in text and "\033" not in text
    assert read_bytes(results / "stdout") == b"10%\r50%\r100%\n\033[31mred\033[0m\n"


def test_code_stdout_and_stderr_are_byte_for_byte(ctx):
    code = b"printf 'a\\0b\\r\\n\\377'; printf 'x' >&2"
    results = run(ctx, "a.sh", code)
    assert done(results) == "ok"
    assert (read_bytes(results / "code"), read_bytes(results / "stdout"), read_bytes(results / "stderr")) == (
        code,
        b"a\0b\r\n\xff",
        b"x",
    )


def test_history_and_results_show_the_same(ctx):
    results = run(ctx, "a.sh", "echo one\n")
    assert done(results) == "ok"
    for name in listed(results):
        assert read_bytes(results / name) == read_bytes(ctx / "history/1" / name), name
        assert os.stat(results / name).st_ino == os.stat(ctx / "history/1" / name).st_ino, name
    assert os.stat(results).st_ino != os.stat(ctx / "history/1").st_ino


def test_history_always_the_same_run(ctx):
    for n in range(1, 6):
        done(run(ctx, "a.sh", f"echo {n}\n"))
    assert [read(ctx / f"history/{n}/stdout") for n in range(1, 6)] == [f"{n}\n" for n in range(1, 6)]
    assert read(ctx / "results/a.sh/stdout") == "5\n"
    for wrong in "0", "6", "01", "+1", "x", "1x", "99999999999999999999":
        with fails(errno.ENOENT):
            os.stat(ctx / "history" / wrong)


def test_a_value_is_shared_by_the_cells_of_a_context(ctx):
    run(ctx, "a.py", "x = 40 + 2\n")
    assert read(run(ctx, "b.py", "x\n") / "result.txt") == "42\n"
    run(ctx, "a.sh", "y=7; echo data >file\n")
    assert read(run(ctx, "b.sh", "echo $y\n") / "stdout") == "7\n"
    assert read(run(ctx, "c.py", "open('file').read()\n") / "result.txt") == "data\n"
    assert ok(["cat", ctx / "workspace/file"]) == "data\n"
