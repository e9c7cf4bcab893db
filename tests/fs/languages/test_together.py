"""Several languages in one context, on the same files; the same ones in contexts side by side; kernels of the user's own."""

import glob
import json
import os
import subprocess

import pytest

from control.steps import about, record, says
from languages.snippets import JAVASCRIPT, LANGUAGES
from mount import ROOT, done, ok, read, read_bytes, run, status, within, write

EXTENSIONS = {
    "python": ["py"],
    "bash": ["sh", "bash"],
    "javascript": ["js", "mjs", "cjs", "ts"],
    "r": ["r", "R"],
    "java": ["java", "jsh"],
}
KERNELS = {say["kernel"]: say for say in reversed(LANGUAGES.values())}  # of the kernel javascript the cell is JavaScript


def fine(ctx, cell, code):
    r = run(ctx, cell, code)
    assert done(r) == "ok", read(r / "report.md")
    return r


def value(r):
    return read(r / "result.txt").strip()


def test_six_languages_work_on_the_same_files(ctx):
    write(ctx / "workspace" / "people.txt", "Ann 31\nBen 25\nB\u00e9a 44\n")
    fine(ctx, "1 prepare.py", "import csv\nrows = [line.split() for line in open('people.txt', encoding='utf-8')]\n"
         "with open('people.csv', 'w', encoding='utf-8', newline='') as f: csv.writer(f).writerows([['name', 'age'], *rows])\n")
    r = fine(ctx, "2 plot.r", "people <- read.csv('people.csv', encoding = 'UTF-8')\npng('ages.png', 320, 240)\nbarplot(people$age)\n"
             "invisible(dev.off())\nplot(people$age)\nmean(people$age)\n")
    assert "33.33" in value(r) and read_bytes(r / "display-1.png").startswith(b"\x89PNG")
    r = fine(ctx, "3 count.java", "import java.nio.file.*;\nlong lines = Files.lines(Path.of(\"people.csv\")).count() - 1;\n"
             "Files.writeString(Path.of(\"count.txt\"), lines + \"\\n\");\nlines\n")
    assert value(r) == "3"
    fine(ctx, "4 convert.js", "const fs = require('fs');\nconst [head, ...rows] = fs.readFileSync('people.csv', 'utf8').trim().split('\\r\\n');\n"
         "const people = rows.map(row => ({ name: row.split(',')[0], age: Number(row.split(',')[1]) }));\n"
         "fs.writeFileSync('people.json', JSON.stringify(people))\n")
    r = fine(ctx, "5 typed.ts", "import { readFileSync } from 'fs';\ninterface Person { name: string; age: number }\n"
             "const read: Person[] = JSON.parse(readFileSync('people.json', 'utf8'));\n"
             "read.filter((p: Person): boolean => p.age > 30).map(p => p.name).join(' ') + ' of ' + people.length\n")
    assert value(r) == "Ann B\u00e9a of 3"  # `people` is the JavaScript cell's
    r = fine(ctx, "6 list.sh", "ls; cat count.txt; file -b ages.png 2>/dev/null || head -c 4 ages.png | tail -c 3; echo\n")
    said = read(r / "stdout")
    assert said.split()[:6] == ["ages.png", "count.txt", "people.csv", "people.json", "people.txt", "3"] and "PNG" in said
    assert json.loads(read(ctx / "workspace" / "people.json"))[2] == {"name": "B\u00e9a", "age": 44}
    counts = {name: k["execution_count"] for name, k in about(ctx)["kernels"].items()}
    assert counts == {"python": 1, "r": 1, "java": 1, "javascript": 2, "bash": 1}


def test_a_queue_of_all_languages_runs_in_its_order(ctx):
    names = list(LANGUAGES) * 3
    for i, name in enumerate(names):
        say = LANGUAGES[name]
        last = run(ctx, f"{i}{say['cell'][1:]}", say["append"].format(f"{i}-{name}"))
    assert done(last) == "ok", read(last / "report.md")
    assert read(ctx / "workspace" / "order").split() == [f"{i}-{name}" for i, name in enumerate(names)]


@pytest.mark.parametrize("name", EXTENSIONS)
def test_the_extensions_of_a_language_share_one_kernel(ctx, name):
    say = KERNELS[name]
    for n, ext in enumerate(EXTENSIONS[name], 1):
        fine(ctx, f"set.{ext}", say["set"].format(n))
        for other in EXTENSIONS[name]:
            assert read(fine(ctx, f"show.{other}", say["show"]) / "stdout") == f"{n}\n", (ext, other)
    assert list(about(ctx)["kernels"]) == [name]


def test_a_kernel_that_is_killed_leaves_the_others_alone(ctx):
    for say in KERNELS.values():
        fine(ctx, "set" + say["cell"][1:], say["set"].format(7))
    assert done(run(ctx, "a.js", JAVASCRIPT["kill"])) == "killed"
    for name in KERNELS.keys() - {"javascript"}:
        r = fine(ctx, "show" + KERNELS[name]["cell"][1:], KERNELS[name]["show"])
        assert (read(r / "stdout"), read(r / "stderr")) == ("7\n", ""), name


def test_contexts_of_all_languages_run_side_by_side(m):
    started = []
    for name, say in LANGUAGES.items():
        ctx = m.context("side-" + name)
        started.append((ctx, run(ctx, say["cell"], say["started"] + say["waits"]["sleep"])))
    for ctx, r in started:
        says(r, "started\n")
    assert {status(r) for _, r in started} == {"running"}
    for ctx, r in started:
        write(ctx / "ctl", "interrupt\n")
    for ctx, r in started:
        assert done(r) == "interrupted", read(r / "report.md")
        write(ctx / "ctl", "remove\n")


# ---- config/kernel -------------------------------------------------------------------------------


def interpreter(ctx, kernel):
    return about(ctx)["kernels"][kernel]["interpreter"]


@pytest.mark.parametrize("name", LANGUAGES)
def test_an_interpreter_of_the_users_own(m, ctx, name):
    """It has a kernel of its own, named after the extension, and no variable of the other."""
    say = LANGUAGES[name]
    ext = say["cell"][2:]
    own = "." + ext if ext in KERNELS else ext  # there is a language called so
    fine(ctx, "set." + ext, say["set"].format(5))
    mine = m.dir / "prefix" / "bin" / ("my-" + name)
    mine.parent.mkdir(parents=True, exist_ok=True)
    write(mine, f"#!/bin/sh\nMINE=yes exec {interpreter(ctx, say['kernel'])} \"$@\"\n")
    mine.chmod(0o755)
    write(ctx / "config" / "kernel" / ext, f"{mine}\n")
    write(ctx / "ctl", "restart\n")  # the box gets its prefix
    fine(ctx, "set." + ext, say["set"].format(6))
    assert read(fine(ctx, "env." + ext, say["env"].format("MINE")) / "stdout") == "yes\n"
    assert interpreter(ctx, own) == str(mine)
    os.unlink(ctx / "config" / "kernel" / ext)
    assert read(fine(ctx, "env." + ext, say["env"].format("MINE")) / "stdout") == "(absent)\n"
    write(ctx / "config" / "kernel" / ext, f"{mine}\n")
    assert read(fine(ctx, "show." + ext, say["show"]) / "stdout") == "6\n"
    write(ctx / "ctl", f"restart {own}\n")
    code, text = say["gone"]
    assert read(fine(ctx, "gone." + ext, code) / "stdout") == text


VERSION = {
    "python": "import sys; print('%d.%d' % sys.version_info[:2])\n",
    "javascript": "console.log(process.version.slice(1))\n",
    "java": "System.out.println(Runtime.version().feature())\n",
}
OTHERS = [(kernel, path) for kernel, patterns in {
    "python": ["/usr/local/bin/python3.*[0-9]", "/opt/*/bin/python3"],
    "javascript": ["/usr/local/bin/node", "/opt/node*/bin/node"],
    "java": ["/usr/lib/jvm/*/bin/java", "/opt/jdk*/bin/java"],
}.items() for pattern in patterns for path in sorted(set(map(os.path.realpath, glob.glob(pattern))))]


def test_other_versions_that_this_host_has(m):
    """What is found is tried; a host with one of each has nothing to try."""
    for n, (kernel, path) in enumerate(OTHERS):
        say, ext = KERNELS[kernel], EXTENSIONS[kernel][0]
        told = subprocess.run([path, "-version" if kernel == "java" else "--version"], capture_output=True, text=True)
        ctx = m.context(f"other-{n}")
        write(ctx / "config" / "kernel" / ext, path)
        with within(30):
            fine(ctx, "set." + ext, say["set"].format(9))
        version = read(fine(ctx, "version." + ext, VERSION[kernel]) / "stdout").strip()
        assert version in told.stdout + told.stderr, (path, version)
        assert read(fine(ctx, "show." + ext, say["show"]) / "stdout") == "9\n"
        for wait in say["waits"]:
            r = run(ctx, "wait." + ext, say["started"] + say["waits"][wait])
            says(r, "started\n")
            write(ctx / "ctl", "interrupt\n")
            assert done(r) == "interrupted" and record(r)["state_preserved"] is True, (path, wait, read(r / "report.md"))
        assert read(fine(ctx, "show." + ext, say["show"]) / "stdout") == "9\n"
        write(ctx / "ctl", "remove\n")


# ---- examples/languages --------------------------------------------------------------------------


def test_the_example(m):
    said = ok([str(ROOT / "examples" / "languages" / "run.sh"), str(m.path)], timeout=50)
    for text in ("ppm a year", "above the mean", "display-1.png", '"co2_ppm"', "summary.txt"):
        assert text in said, said
