"""interface.md, Cells: options of one run are the first lines of the cell."""

import json
import os

import pytest

from control.steps import record, reason
from mount import done, read, run, write


@pytest.mark.parametrize("cell,code", [("a.py", "#| frobnicate: 1\nprint('ran')\n"), ("a.sh", "#| frobnicate: 1\necho ran\n")])
def test_an_unknown_option_fails_the_run_with_an_error_that_names_it(ctx, cell, code):
    r = run(ctx, cell, code)
    assert done(r) == "error"
    error = json.loads(read(r / "error.json"))
    assert "frobnicate" in error["message"] and "frobnicate" in read(r / "error.txt")
    assert read(r / "stdout") == ""


BAD = ["#| timeout: soon", "#| timeout: -1", "#| timeout: 9999d", "#| cwd: ../..", "#| env.A-B: 1", "#| env.: 1", "#| timeout",
       "#| nonsense", "#| : 1"]


@pytest.mark.parametrize("line", BAD)
def test_a_bad_option_fails_the_run(ctx, line):
    r = run(ctx, "a.sh", line + "\necho ran\n")
    assert done(r) == "error" and read(r / "stdout") == ""
    assert read(r / "error.txt").strip()


@pytest.mark.parametrize("value", ["false", "False"])
def test_eval_false_cancels(ctx, value):
    r = run(ctx, "a.sh", f"#| eval: {value}\necho ran\n")
    assert done(r) == "cancelled" and "eval" in reason(r) and read(r / "stdout") == ""
    assert done(run(ctx, "b.sh", "#| eval: true\ntrue\n")) == "ok"


@pytest.mark.parametrize("ext,show", [("py", "import os\nprint(os.environ.get('FOO'))\n"), ("sh", "echo ${FOO-None}\n")])
def test_env_holds_for_this_run_only(ctx, ext, show):
    values = []
    for option in ("", "#| env.FOO: bar\n", "", "#| env.FOO: 'two  words \"quoted\" é $HOME'\n", "#|env.FOO:x\n", ""):
        values.append(read(run(ctx, "a." + ext, option + show) / "stdout").rstrip("\n"))
    assert values == ["None", "bar", "None", 'two  words "quoted" é $HOME' if ext == "py" else 'two words "quoted" é $HOME',
                      "x", "None"]
    write(ctx / "config" / "env" / "FOO", "config")
    assert read(run(ctx, "b." + ext, "#| env.FOO: mine\n" + show) / "stdout") == "mine\n"
    assert read(run(ctx, "c." + ext, show) / "stdout") == "config\n"


@pytest.mark.parametrize("ext,show", [("py", "import os\nprint(os.getcwd())\n"), ("sh", "pwd\n")])
def test_cwd_holds_for_this_run_only(ctx, ext, show):
    os.makedirs(ctx / "workspace" / "sub" / "deep")
    at = [read(run(ctx, "a." + ext, o + show) / "stdout").strip() for o in ("", "#| cwd: sub/deep\n", "#| cwd: /\n", "")]
    assert at == [at[0], at[0] + "/sub/deep", "/", at[0]]
    r = run(ctx, "b." + ext, "#| cwd: nosuch\n" + show)
    assert done(r) == "error" and "nosuch" in read(r / "error.txt") and read(r / "stdout") == ""
    assert read(run(ctx, "c." + ext, show) / "stdout").strip() == at[0]


def test_quartos_options_are_kept_in_the_record(ctx):
    r = run(ctx, "a.py", "#| label: fig-a\n#| echo: false\n#| fig-cap: \"A: caption\"\n#| tags: [a, b]\n#| warning: true\n1\n")
    assert done(r) == "ok"
    options = record(r)["options"]
    assert set(options) == {"label", "echo", "fig-cap", "tags", "warning"}
    assert options["label"] == "fig-a" and options["fig-cap"] == "A: caption" and options["echo"] in (False, "false")


def test_the_language_sees_option_lines_as_blank_ones(ctx):
    r = run(ctx, "a.py", "#| timeout: 9\n#| label: x\nx = 1\n1/0\n")
    assert done(r) == "error"
    assert json.loads(read(r / "error.json"))["line"] == 4
    assert read(r / "code") == "#| timeout: 9\n#| label: x\nx = 1\n1/0\n"  # byte for byte
    r = run(ctx, "a.sh", "#| timeout: 9\necho $LINENO\nfalse\n")
    assert read(r / "stdout") == "2\n"


@pytest.mark.parametrize(
    "code,out",
    [
        ("#| timeout: 9\n%%bash\necho magic\n", "magic\n"),
        ("#!/usr/bin/env python3\n#| env.A: shebang\nimport os\nprint(os.environ['A'])\n", "shebang\n"),
        ("#| timeout: 9\n    if True:\n        print('indented')\n", "indented\n"),
        ("#| timeout: 9\r\nprint('dos')\r\n", "dos\n"),
        ("print('later')\n#| frobnicate: 1\n", "later\n"),  # options are the first lines
        ("#| env.A: 1\n#| env.A: 2\nimport os\nprint(os.environ['A'])\n", "2\n"),
        ("#| timeout: 9", ""),
    ],
)
def test_options_before_magics_shebangs_and_blocks(ctx, code, out):
    r = run(ctx, "a.py", code)
    assert done(r) == "ok", read(r / "report.md")
    assert read(r / "stdout") == out


def test_a_shebang_in_bash(ctx):
    r = run(ctx, "a.sh", "#!/bin/sh\n#| env.A: 7\necho $A\n")
    assert read(r / "stdout") == "7\n"
