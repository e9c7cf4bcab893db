"""JavaScript and TypeScript through the mount: what a cell shows, returns and raises, in its box."""

import json
import os

import pytest

from control.steps import kernel, record, says
from mount import done, read, read_bytes, run, status, within, write

PNG = b"\x89PNG\r\n\x1a\n"


def of(r, *names):
    """The files of a run by name; None for what is not there."""
    done(r)
    return [read(r / n) if (r / n).exists() else None for n in names]


VALUES = {
    "40 + 2": ("42\n", None),
    "'text'": ("text\n", "'text'\n"),
    "const x = [1, 'a']; x": ("[ 1, 'a' ]\n", None),
    "let y = 1": (None, None),
    "Promise.resolve('awaited')": ("awaited\n", "'awaited'\n"),
    "await 7": ("7\n", None),
    "new Map([[1, 2]])": ("Map(1) { 1 => 2 }\n", None),
}


@pytest.mark.parametrize("code", VALUES)
def test_the_value_of_the_last_expression(ctx, code):
    r = run(ctx, "a.js", code)
    assert done(r) == "ok", read(r / "report.md")
    assert tuple(of(r, "result.txt", "result.repr.txt")) == VALUES[code]


def test_one_kernel_for_all_four_extensions(ctx):
    assert done(run(ctx, "a.js", "const a = 1; class P {}\n")) == "ok"
    assert done(run(ctx, "b.mjs", "import { join } from 'path'\nlet b = join('x', 'y')\n")) == "ok"
    assert done(run(ctx, "c.cjs", "const c = require('os').EOL.length\n")) == "ok"
    r = run(ctx, "d.ts", "interface I { v: number }\nenum E { A = 4 }\nconst i: I = { v: a + c + E.A };\n`${i.v} ${b}`\n")
    assert done(r) == "ok", read(r / "report.md")
    assert read(r / "result.txt") == "6 x/y\n"
    assert set(json.loads(read(ctx / "context.json"))["kernels"]) == {"javascript"}
    assert kernel(ctx, "javascript")["execution_count"] == 4


def test_rich_results_have_a_file_for_each_mime_type(ctx):
    r = run(ctx, "a.js", "display.html('<b>1</b>'); display.markdown('*2*'); display.png(Buffer.from('%s', 'hex'));\n"
            "[{ a: 1, b: 'x' }, { a: 2, b: 'y' }]\n" % (PNG + bytes(40000)).hex())
    assert done(r) == "ok", read(r / "report.md")
    assert of(r, "display-1.html", "display-2.md") == ["<b>1</b>\n", "*2*\n"]
    assert read_bytes(r / "display-3.png") == PNG + bytes(40000)
    assert json.loads(read(r / "result.json")) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert json.loads(read(r / "result.data.json")) == {"a": [1, 2], "b": ["x", "y"]}
    assert "<td>y</td>" in read(r / "result.html")
    r = run(ctx, "b.js", "const h = display('old', { id: 'h' }); display('kept'); h.update('new'); ({ $schema: "
            "'https://vega.github.io/schema/vega-lite/v5.json', mark: 'bar' })\n")
    assert done(r) == "ok" and of(r, "display-1.txt", "display-2.txt") == ["new\n", "kept\n"]
    assert any("vegalite" in name for name in os.listdir(r)), os.listdir(r)


@pytest.mark.parametrize("name,code,error,line,column", [
    ("a.js", "let a = 1\nnull.x\n", "TypeError", 2, 6), ("a.js", "let a = 1\nlet b = ;\n", "SyntaxError", 2, 9),
    ("a.ts", "type T = {\n  a: string }\nconst t: T = nope(1 as any)\n", "ReferenceError", 3, 14),
    ("a.ts", "let a = 1\nnamespace N { export const x = 1 }\n", "SyntaxError", 2, 1),
    ("a.js", "//| timeout: 30\n\nthrow 'text'\n", "Uncaught", 3, 1), ("a.js", "await Promise.reject(new RangeError('r'))\n", "RangeError", 1, 22)])
def test_errors_have_their_place(ctx, name, code, error, line, column):
    r = run(ctx, name, code)
    assert done(r) == "error"
    e = json.loads(read(r / "error.json"))
    assert (e["name"], e["line"], e["column"]) == (error, line, column), e
    assert e["traceback"][:2] == [f"{name}:{line}", code.split("\n")[line - 1]]
    assert e["frames"][-1]["file"] == name and e["frames"][-1]["line"] == line
    assert done(run(ctx, "b.js", "1\n")) == "ok"


def test_exit_ends_the_run_not_the_kernel(ctx):
    r = run(ctx, "a.js", "const kept = 3; process.exit(5)\n")
    assert done(r) == "error" and read(r / "exit_code") == "5\n"
    assert of(run(ctx, "b.js", "kept\n"), "result.txt") == ["3\n"]


@pytest.mark.parametrize("wait", [
    "for (;;);", "await new Promise(() => {})", "await new Promise((d) => setTimeout(d, 5)); console.log('on'); for (;;);",
    "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)", "require('child_process').execSync('echo on; sleep 1000', { stdio: 'inherit' })",
    "/(a*)*b/.test('a'.repeat(40))"])
def test_interrupt_keeps_the_state(ctx, wait):
    assert done(run(ctx, "a.js", "const kept = 8\n")) == "ok"
    r = run(ctx, "b.js", f"console.log('go');\n{wait}\n")
    says(r, "on" if "'on'" in wait or "echo on" in wait else "go")
    with within(3):
        write(ctx / "ctl", "interrupt\n")
        assert done(r) == "interrupted"
    assert record(r)["state_preserved"] is True
    assert of(run(ctx, "c.js", "kept\n"), "result.txt") == ["8\n"] and kernel(ctx, "javascript")["generation"] == 1


def test_a_timeout_ends_a_loop_and_keeps_the_state(ctx):
    assert done(run(ctx, "a.js", "const kept = 9\n")) == "ok"
    r = run(ctx, "b.ts", "//| timeout: 1\nawait null\nwhile (true);\n")
    assert done(r) == "timeout" and record(r)["state_preserved"] is True
    assert of(run(ctx, "c.js", "kept\n"), "result.txt") == ["9\n"]


def test_env_and_cwd_of_a_run_and_of_the_context(ctx):
    (ctx / "workspace" / "sub").mkdir()
    write(ctx / "config" / "env" / "WHOLE", "w")
    ask = "[process.env.WHOLE, process.env.PART, process.cwd()].join()\n"
    assert of(run(ctx, "a.js", "//| env.PART: p\n//| cwd: sub\n" + ask), "result.txt") == ["w,p,/workspace/sub\n"]
    assert of(run(ctx, "b.js", ask), "result.txt") == ["w,,/workspace\n"]


def test_modules_of_the_workspace_and_packages(ctx):
    work = ctx / "workspace"
    (work / "node_modules" / "own").mkdir(parents=True)
    write(work / "lib.mjs", "export const n = 1\n")
    r = run(ctx, "a.js", "import { n } from './lib.mjs'\nimport own from 'own'\n[n, own]\n")
    assert done(r) == "error" and "own" in read(r / "error.txt")
    write(work / "node_modules" / "own" / "package.json", '{"main": "m.js"}')
    write(work / "node_modules" / "own" / "m.js", "module.exports = 'package'")
    write(work / "lib.mjs", "export const n = 22\n")
    r = run(ctx, "b.js", "import { n } from './lib.mjs'\nimport own from 'own'\n[n, own, require('own')]\n")
    assert done(r) == "ok", read(r / "report.md")
    assert json.loads(read(r / "result.json")) == [22, "package", "package"]


def test_background_errors_do_not_end_the_kernel(ctx):
    r = run(ctx, "a.js", "setTimeout(() => { throw new Error('later') }, 1)\nawait new Promise((d) => setTimeout(d, 50))\n'lives'\n")
    assert done(r) == "ok" and read(r / "result.txt") == "lives\n" and "Error: later" in read(r / "stderr")


def test_a_kernels_death_is_told_and_the_next_cell_has_a_new_one(ctx):
    r = run(ctx, "a.js", "process.kill(process.pid, 'SIGKILL')\nawait new Promise(() => {})\n")
    assert done(r) == "killed"
    assert done(run(ctx, "b.js", "1\n")) == "ok" and kernel(ctx, "javascript")["generation"] == 2


def test_displays_come_at_once(ctx):
    r = run(ctx, "a.js", "display('first'); console.log('go'); while (!fs.existsSync('stop')) await new Promise((d) => setTimeout(d, 10))\n")
    says(r, "go")
    assert status(r) == "running" and read(r / "display-1.txt") == "first\n"
    write(ctx / "workspace" / "stop", "")
    assert done(r) == "ok"
