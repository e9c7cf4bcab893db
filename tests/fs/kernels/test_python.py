"""Python through the mount: what a cell shows, returns and raises."""

import json
import os

import pytest

from control.steps import about, events, kernel, record, says
from mount import PATIENCE, done, read, read_bytes, run, status, within, write

PNG = b"\x89PNG\r\n\x1a\n"


def of(r, *names):
    """The files of a run by name; None for what is not there."""
    done(r)
    return [read(r / n) if (r / n).exists() else None for n in names]


# code: what result.txt and result.repr.txt say
VALUES = {
    "40 + 2": ("42\n", None),
    "x = 40 + 2\nx": ("42\n", None),
    "'text'": ("text\n", "'text'\n"),
    "'1'": ("1\n", "'1'\n"),
    "'two\\nlines\\n'": ("two\nlines\n", "'two\\nlines\\n'\n"),
    "[1, 'a']": ("[1, 'a']\n", None),
    "None": (None, None),
    "x = 1": (None, None),
    "42;": (None, None),
    "''": ("\n", "''\n"),
    "if True:\n    42\n": (None, None),
    "import asyncio\nawait asyncio.sleep(0, 'awaited')": ("awaited\n", "'awaited'\n"),
    "    1\n    2": ("2\n", None),
    "_ = 5\n'é€'": ("é€\n", "'é€'\n"),
}


@pytest.mark.parametrize("code", VALUES)
def test_the_value_of_the_last_expression(ctx, code):
    r = run(ctx, "a.py", code)
    assert done(r) == "ok", read(r / "report.md")
    text, repr_ = of(r, "result.txt", "result.repr.txt")
    assert text == VALUES[code][0]
    assert repr_ in (VALUES[code][1], text)  # where they are equal one may do


def test_state_is_kept_between_cells_and_underscore_is_the_last_value(ctx):
    assert done(run(ctx, "a.py", "import math\ndef f(x): return x * 2\nf(21)\n")) == "ok"
    assert of(run(ctx, "b.py", "_ + int(math.pi)\n"), "result.txt") == ["45\n"]


def test_rich_results_have_a_file_for_each_mime_type(ctx):
    r = run(ctx, "a.py", """
class Rich:
    def __repr__(self): return 'plain'
    def _repr_html_(self): return '<b>html</b>'
    def _repr_markdown_(self): return '*md*'
    def _repr_latex_(self): return '$x$'
    def _repr_json_(self): return {'a': [1]}
    def _repr_svg_(self): return '<svg/>'
    def _repr_png_(self): return %r
Rich()
""" % (PNG + bytes(100000)))
    assert done(r) == "ok", read(r / "report.md")
    assert of(r, "result.txt", "result.html", "result.md", "result.tex", "result.svg") == [
        "plain\n", "<b>html</b>\n", "*md*\n", "$x$\n", "<svg/>\n"]
    assert read_bytes(r / "result.png") == PNG + bytes(100000) and json.loads(read(r / "result.json")) == {"a": [1]}
    mimes = {n: os.getxattr(r / n, "user.mime_type").decode() for n in os.listdir(r) if n.startswith("result.")}
    assert mimes["result.html"] == "text/html" and mimes["result.png"] == "image/png" and mimes["result.json"] == "application/json"
    (main,) = record(r)["results"]
    assert main["is_main_result"] is True and main["formats"]["text/html"] == "<b>html</b>"
    assert main["formats"]["image/png"] == {"file": "result.png", "size": 100008}


def test_displays_are_numbered_and_come_at_once(ctx):
    r = run(ctx, "a.py", "from IPython.display import *\nimport os, time\ndisplay(HTML('<i>1</i>'))\ndisplay(Markdown('*2*'))\n"
            "print('go', flush=True)\nwhile not os.path.exists('stop'): time.sleep(.01)\n"
            "display({'application/x-own': 'x', 'text/plain': 'own'}, raw=True)\n'main'\n")
    says(r, "go")
    assert status(r) == "running"
    assert {"display-1.html", "display-2.md"} <= set(os.listdir(r)) and read(r / "display-1.html") == "<i>1</i>\n"
    write(ctx / "workspace" / "stop", "")
    assert done(r) == "ok"
    assert of(r, "display-2.md", "display-3.application_x-own", "display-3.txt", "result.txt") == ["*2*\n", "x\n", "own\n", "main\n"]
    assert [e["k"] for e in events(r) if e["type"] == "display"] == [1, 2, 3]


def test_an_update_gives_new_content_and_clear_takes_away(ctx):
    r = run(ctx, "a.py", "from IPython.display import *\nh = display(HTML('old'), display_id=True)\ndisplay(2)\nh.update(HTML('new'))\n")
    assert of(r, "display-1.html", "display-2.txt") == ["new\n", "2\n"]
    r = run(ctx, "b.py", "from IPython.display import *\ndisplay('one')\nclear_output()\ndisplay('two')\n")
    assert done(r) == "ok" and [n for n in sorted(os.listdir(r)) if n.startswith("display")] == ["display-2.txt"]
    assert [e["type"] for e in events(r) if e["type"] in ("display", "clear")] == ["display", "clear", "display"]


def test_prints_and_displays_keep_their_order(ctx):
    r = run(ctx, "a.py", "for i in range(300):\n    print(i)\n    display(i)\n")
    assert done(r) == "ok"
    out = read(r / "stdout")
    seen, at = [], 0
    for e in events(r):
        if e["type"] == "stdout":
            seen += [int(x) for x in out[e["offset"] : e["offset"] + e["size"]].split()]
        elif e["type"] == "display":
            assert seen and seen[-1] == at, (at, seen[-3:])
            at += 1
    assert at == 300


def test_a_dataframe_is_html_and_text(ctx):
    r = run(ctx, "a.py", "import pandas\npandas.DataFrame({'a': [1, 2], 'b': ['x', 'y']})\n")
    assert done(r) == "ok", read(r / "report.md")
    text, html = of(r, "result.txt", "result.html")
    assert "a  b" in text and "<table" in html and "<td>y</td>" in html
    assert "a  b" in read(r / "report.md")


def test_matplotlib_at_show_and_at_the_end(ctx):
    r = run(ctx, "a.py", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\nplt.plot([3, 1])\nprint('end')\n")
    assert done(r) == "ok", read(r / "report.md")
    for k in (1, 2):
        picture = read_bytes(r / f"display-{k}.png")
        assert picture.startswith(PNG) and picture.endswith(b"IEND\xaeB`\x82")
        assert os.stat(r / f"display-{k}.png").st_size == len(picture)
    assert read(r / "stdout") == "end\n"


@pytest.mark.parametrize(
    "code,out,err",
    [
        ("!echo from $((1 + 1)); echo e >&2\n", "from 2\n", "e\n"),
        ("x = !printf 'a\\nb\\n'\nprint(len(x), x[1])\n", "2 b\n", ""),
        ("%%bash\necho in bash\n", "in bash\n", ""),
        ("name = 'v'\n!echo $name {name}\n", "v v\n", ""),
        ("%cd /\n!pwd\n", "/\n/\n", ""),
        ("%env FOO=bar\n!echo $FOO\n", None, ""),
        ("import subprocess\nsubprocess.run('echo sub; echo e >&2', shell=True) and None\n", "sub\n", "e\n"),
        ("import os, sys\nprint('a')\nos.write(1, b'b\\n')\nprint('c')\nos.system('echo d')\nsys.stderr.write('e')\nNone\n", None, "e"),
        ("%timeit -n1 -r1 None\n", None, ""),
        ("import warnings, logging\nwarnings.warn('w')\nlogging.warning('l')\n", "", None),
    ],
)
def test_magics_commands_and_streams(ctx, code, out, err):
    r = run(ctx, "a.py", code)
    assert done(r) == "ok", read(r / "report.md")
    assert out is None or read(r / "stdout") == out
    assert err is None or read(r / "stderr") == err


def test_errors_have_name_message_line_column_and_frames(ctx):
    r = run(ctx, "a.py", "def f(x):\n    return 1 / x\n\ny = 1\nf(0)\n")
    assert done(r) == "error" and read(r / "exit_code") == "1\n"
    e = json.loads(read(r / "error.json"))
    assert (e["name"], e["message"]) == ("ZeroDivisionError", "division by zero")
    assert e["line"] == 2 and [(f["file"], f["line"], f["func"]) for f in e["frames"]] == [("a.py", 5, "<module>"), ("a.py", 2, "f")]
    text = read(r / "error.txt")
    assert text.startswith("Traceback") and "return 1 / x" in text and text.endswith("ZeroDivisionError: division by zero\n")
    assert "\x1b" not in text and "IPython" not in text
    assert "".join(line + "\n" for line in e["traceback"]) == text
    assert record(r)["error"] == e and [x["line"] for x in events(r) if x["type"] == "error"] == [2]
    assert "ZeroDivisionError" in read(r / "report.md")


ERRORS = [
    ("x = 1\ny = = 2\n", "SyntaxError", 2),
    ("def f(:\n", "SyntaxError", 1),
    ("x = 1\n  y = 2\n", "IndentationError", 2),
    ("\n\nnosuch\n", "NameError", 3),
    ("import nosuchmodule\n", "ModuleNotFoundError", 1),
    ("class E(Exception): pass\nraise E('é')\n", "E", 2),
    ("1 +\n", "SyntaxError", 1),
    ("x = '\0'\n", "SyntaxError", 1),
    ("raise KeyboardInterrupt\n", "KeyboardInterrupt", 1),
    ("import asyncio\nasync def f():\n    1/0\nawait f()\n", "ZeroDivisionError", 3),
    ("assert 1 == 2, 'why'\n", "AssertionError", 1),
]


@pytest.mark.parametrize("code,name,line", ERRORS)
def test_every_error_has_its_line(ctx, code, name, line):
    r = run(ctx, "a.py", code)
    assert done(r) in ("error", "interrupted")
    e = json.loads(read(r / "error.json"))
    assert (e["name"], e["line"]) == (name, line), e
    assert done(run(ctx, "b.py", "1\n")) == "ok"


def test_invalid_utf_8_is_the_languages_own_error(ctx):
    r = run(ctx, "a.py", b"x = 1\ny = '\xff'\n")
    assert done(r) == "error" and json.loads(read(r / "error.json"))["name"] == "SyntaxError"
    assert read_bytes(r / "code") == b"x = 1\ny = '\xff'\n"
    r = run(ctx, "b.py", b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n")
    assert done(r) == "ok" and read(r / "stdout") == "'\\xe9'\n"


@pytest.mark.parametrize("code", ["input('name? ')", "import getpass\ngetpass.getpass()", "import sys\nassert sys.stdin.read() == ''\ninput()"])
def test_input_is_refused_clearly(ctx, code):
    r = run(ctx, "a.py", code + "\n")
    with within(PATIENCE):
        assert done(r) == "error"
    assert "stdin" in read(r / "error.txt").lower()


def test_execution_count_counts_failed_cells_too(ctx):
    counts = []
    for code in ("1", "1/0", "def f(", "import sys; sys.exit(1)", "1"):
        r = run(ctx, "a.py", code + "\n")
        done(r)
        counts.append(record(r)["execution_count"])
    assert counts == [1, 2, 3, 4, 5] and kernel(ctx)["execution_count"] == 5


def test_fork_guard_threads_and_processes(ctx):
    r = run(ctx, "a.py", "import os\npid = os.fork()\nif pid == 0:\n    print('child')\n    raise SystemExit(3)\n"
            "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n")
    assert done(r) == "ok" and sorted(read(r / "stdout").split()) == ["3", "child"]
    r = run(ctx, "b.py", "from multiprocessing import Pool\nfrom concurrent.futures import ThreadPoolExecutor\n"
            "with Pool(2) as p: print(p.map(abs, [-1, -2]))\n"
            "with ThreadPoolExecutor() as t: print(list(t.map(abs, [-3])))\n")
    assert done(r) == "ok" and read(r / "stdout") == "[1, 2]\n[3]\n", read(r / "report.md")
    assert of(run(ctx, "c.py", "pid > 0\n"), "result.txt") == ["True\n"]


def test_asyncio_tasks_go_on_between_cells(ctx):
    assert done(run(ctx, "a.py", "import asyncio\ndone = []\nasync def f():\n    await asyncio.sleep(.01)\n    done.append(1)\n"
                    "t = asyncio.create_task(f())\n")) == "ok"
    assert of(run(ctx, "b.py", "await t\ndone\n"), "result.txt") == ["[1]\n"]


def test_pil_show_and_the_name_of_the_file(ctx):
    r = run(ctx, "plot it.py", "print(__name__)\ndef f(): raise ValueError\nf()\n")
    assert done(r) == "error" and read(r / "stdout") == "__main__\n" and 'File "plot it.py", line 2' in read(r / "error.txt")


def test_many_displays_stop_at_the_limit_and_say_so(ctx):
    r = run(ctx, "a.py", "for i in range(1005): display(i)\nprint('end')\n")
    word = done(r)
    names = [n for n in os.listdir(r) if n.startswith("display")]
    assert len(names) == 999 and "display-999.txt" in names and "display-1000.txt" not in names
    assert word == "ok" and read(r / "stdout") == "end\n"
    assert any(e["type"] == "notice" for e in events(r))


def test_the_record_has_all_of_it(ctx):
    code = "#| label: x\nprint('out')\nimport sys\nprint('err', file=sys.stderr)\n{'a': 1}\n"
    r = run(ctx, "a.py", code)
    rec = record(r)
    assert set(rec) >= {
        "id", "cell", "context", "language", "code", "options", "status", "reason", "execution_count", "generation", "state_preserved",
        "results", "logs", "error", "exit_code", "queued_at", "started_at", "finished_at", "duration_ms", "usage", "truncated"}
    assert (rec["id"], rec["cell"], rec["language"], rec["code"]) == (1, "a.py", "python", code)
    assert rec["context"] in (ctx.name, about(ctx)["uuid"])
    assert rec["status"] == "ok" and rec["reason"] in (None, "") and rec["error"] is None and rec["exit_code"] == 0
    assert rec["logs"] == {"stdout": "out\n", "stderr": "err\n"} and rec["generation"] == 1 and rec["state_preserved"] is True
    assert rec["results"][0]["formats"]["text/plain"] == "{'a': 1}"
    assert rec["queued_at"] <= rec["started_at"] <= rec["finished_at"] and rec["queued_at"].endswith("Z")
    assert set(rec["usage"]) >= {"cpu_ms", "wall_ms", "max_rss_bytes", "bytes_in", "bytes_out", "disk_bytes"}
    assert rec["usage"]["bytes_in"] == len(code) and rec["usage"]["max_rss_bytes"] > 1 << 20
    text = read(r / "execution.json")
    assert '\n  "status": "ok",\n' in text or '\n\t"status": "ok",\n' in text  # indented, a key a line
    types = [e["type"] for e in events(r)]
    assert types[:2] == ["queued", "started"] and types[-1] == "finished" and types.count("finished") == 1
    assert all(e["run"] == 1 and e["cell"] == "a.py" and e["language"] == "python" for e in events(r))
