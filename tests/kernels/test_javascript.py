"""What only the JavaScript driver does, TypeScript included."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

ONLY = ("javascript",)
PNG = b"\x89PNG\r\n\x1a\n"
TABLE = "application/vnd.cellfs.data+json"


@pytest.fixture
def run(driver):
    def runner(code, name="a.js", **options):
        return driver.run(code, name, **options)

    return runner


@pytest.fixture
def ts(driver):
    return lambda code, name="a.ts": driver.run(code, name)


def value(done):
    assert done.status == "ok", done.events
    return done.value["text/plain"] if done.value else None


def error_of(done, name, line=None, column=None):
    assert done.status == "error" and done.error["name"] == name, done.events
    if line is not None:
        assert done.error["line"] == line, done.error
    if column is not None:
        assert done.error["column"] == column, done.error
    return done.error


def leave_behind(driver, code):
    """What a cell has left to happen happens after its end."""
    (driver.cwd / "go").unlink(missing_ok=True)
    assert driver.run("var left = setInterval(() => {\nif (!require('fs').existsSync('go')) return\nclearInterval(left)\n"
                      f"{code}\n}}, 1)", "left.js").status == "ok"
    (driver.cwd / "go").touch()


# Values.

@pytest.mark.parametrize("code,text", [
    ("1 + 1", "2"), ("null", "null"), ("NaN", "NaN"), ("-0", "-0"), ("10n ** 20n", "100000000000000000000n"),
    ("true", "true"), ("Symbol('s')", "Symbol(s)"), ("(x) => x", "[Function (anonymous)]"),
    ("class A {}; A", "[class A]"), ("[1, , 3]", "[ 1, <1 empty item>, 3 ]"),
    ("new Map([[1, { a: 2 }]])", "Map(1) { 1 => { a: 2 } }"), ("new Set('ab')", "Set(2) { 'a', 'b' }"),
    ("new Error('no').message", "no"), ("({ a: 1 })", "{ a: 1 }"), ("{ a: 1, b: [2] }", "{ a: 1, b: [ 2 ] }"),
    ("{}", "{}"), ("/x/g", "/x/g"), ("new Uint8Array(3)", "Uint8Array(3) [ 0, 0, 0 ]"),
    ("var a = 5", None), ("let q1 = 5", None), ("undefined", None), ("1; function f() {}", None),
    ("1; let q2 = 2", None), ("for (let i = 0; i < 3; i++) i", None), ("if (true) 5", None), ("5;", "5"),
    ("5 // five", "5"), ("5;;\n\n", "5"), ("await 7", "7"), ("Promise.resolve(8)", "8"),
    ("(async () => 9)()", "9"), ("await Promise.all([1, 2])", "[ 1, 2 ]"), ("#!/usr/bin/env node\n3", "3"),
    ("`a\n${1}`", "a\n1"), ("new Date(0)", "1970-01-01T00:00:00.000Z"), ("'use strict'", "use strict"),
    ("label: for (;;) break label", None), ("export default 6", "6"), ("export const q3 = 1; q3 + 1", "2"),
    ("export default { a: 1 }", "{ a: 1 }"), ("export default class Q4 {}\nnew Q4()", "Q4 {}"),
    ("export default function () { return 1 }", "[Function (anonymous)]"),
])
def test_value(run, code, text):
    assert value(run(code)) == text


def test_string_reads_as_itself(run):
    assert run("'1'").value == {"text/plain": "1", "text/x-repr": "'1'"}
    assert run("1").value == {"text/plain": "1"}


def test_half_a_surrogate_pair_is_replaced(run):
    assert value(run("'a\\ud800b'")) == "a\ufffdb"
    assert run("console.log('\\udc00\\\\ud800')").stdout == "\ufffd\\ud800\n"


def test_plain_data_is_json(run):
    done = run("[1, 'a', null, true, NaN, undefined, new Date(0), { a: { b: [2] }, c: undefined }]")
    assert done.value["application/json"] == {
        "json": [1, "a", None, True, None, None, "1970-01-01T00:00:00.000Z", {"a": {"b": [2]}}]}


@pytest.mark.parametrize("code", [
    "var c = { a: 1 }; c.self = c; c", "({ a: 1n })", "[() => 1]", "({ a: new Map() })", "new (class P { a = 1 })",
    "[Symbol('a')]", "Array(300000).fill(0)", "var d = []; for (let i = 0; i < 1e4; i++) d = [d]; d",
    "({ get a() { throw new Error('no') } })", "new Proxy({}, {})", "require('fs')",
])
def test_what_is_no_plain_data_degrades_to_text(run, code):
    done = run(code)
    assert value(done) and set(done.value) == {"text/plain"} and done.stderr == ""


def test_a_list_of_records_is_a_table(run):
    done = run("[{ a: 1, b: 'x<' }, { a: 2.5, c: new Date(0) }]")
    assert done.value[TABLE] == {"json": {
        "a": [1, 2.5], "b": ["x<", None], "c": [None, "1970-01-01T00:00:00.000Z"]}}
    assert "<td>x&lt;</td>" in done.value["text/html"]
    assert TABLE not in run("[{ a: { b: 1 } }]").value
    done = run("Array.from({ length: 6000 }, (_, i) => ({ i }))")
    assert "5000 are in" in done.value["text/html"].decode() if isinstance(
        done.value["text/html"], bytes) else "5000 are in" in done.value["text/html"]


def test_results_are_bounded_by_what_inspect_shows(run):
    assert len(value(run("'x'.repeat(10) + 'y'"))) == 11
    assert "more items" in value(run("Array(100000).fill(7)"))


# Rich output.

def test_jupyter_display(run):
    code = "({ [Symbol.for('Jupyter.display')]() { return { 'text/html': '<b>', 'text/plain': 'p' } } })"
    assert run(code).value == {"text/html": "<b>", "text/plain": "p"}
    assert run(code.replace("[S", "async [S")).value == {"text/html": "<b>", "text/plain": "p"}


def test_methods_of_ijavascript(run):
    done = run("({ _toHtml: () => '<i>', _toSvg: () => '<svg/>', _toPng: () => 'iVBORw0KGgo=', _toMime: () => "
               "({ 'text/x-own': 'o' }), _toMarkdown: () => { throw new Error('bad') } })")
    assert {mime: done.value[mime] for mime in ("text/html", "image/svg+xml", "image/png", "text/x-own")} == {
        "text/html": "<i>", "image/svg+xml": "<svg/>", "image/png": PNG, "text/x-own": "o"}
    assert "_toMarkdown failed: Error: bad" in done.stderr


@pytest.mark.parametrize("head,mime", [
    ("89504e470d0a1a0a0000", "image/png"), ("ffd8ffe000", "image/jpeg"), ("474946383961", "image/gif"),
    ("255044462d312e34", "application/pdf"), ("524946460000000057454250", "image/webp")])
def test_pictures_are_recognised(run, head, mime):
    assert run(f"Buffer.from('{head}', 'hex')").value[mime] == bytes.fromhex(head)
    assert run(f"new Uint8Array(Buffer.from('{head}', 'hex'))").value[mime] == bytes.fromhex(head)


def test_other_bytes_are_text(run):
    assert set(run("Buffer.from('text')").value) == {"text/plain"}


def test_canvas(run):
    assert run(f"({{ getContext() {{}}, toBuffer: (mime) => Buffer.from('{PNG.hex()}', 'hex') }})"
               ).value["image/png"] == PNG


def test_charts(run):
    spec = "{ $schema: 'https://vega.github.io/schema/vega-lite/v5.json', mark: 'bar', data: { values: [] } }"
    assert run(f"({spec})").value["application/vnd.vegalite.v5+json"]["json"]["mark"] == "bar"
    assert "application/vnd.vega.v5+json" in run(f"({spec.replace('vega-lite', 'vega', 1)})".replace("vega-lite", "vega")).value
    assert run("({ data: [{ x: [1], y: [2] }], layout: {} })").value["application/vnd.plotly.v1+json"] == {
        "json": {"data": [{"x": [1], "y": [2]}], "layout": {}}}
    assert "application/vnd.vegalite.v5+json" in run(f"({{ toSpec: () => ({spec}) }})").value


def test_display(run):
    done = run("display('text'); display({ a: 1 }); display.html('<b>'); display.markdown`# ${1 + 1}`\n"
               "display.json({ a: [1n] }); display.json({ b: 2 }); display.png('iVBORw0KGgo='); display.latex('$x$')\n"
               "display.svg('<svg/>'); display.javascript('j()'); display({ 'text/x-own': 'o' }, { raw: true })\n'last'")
    assert [event["data"] for event in done.displays] == [
        {"text/plain": "text"}, {"application/json": {"json": {"a": 1}}, "text/plain": "{ a: 1 }"},
        {"text/html": "<b>"}, {"text/markdown": "# 2"}, {"text/plain": "{ a: [ 1n ] }"},
        {"application/json": {"json": {"b": 2}}}, {"image/png": PNG},
        {"text/latex": "$x$"}, {"image/svg+xml": "<svg/>"}, {"application/javascript": "j()"}, {"text/x-own": "o"}]
    assert value(done) == "last"


def test_display_update_and_clear(run):
    done = run("const h = display.html('old', { id: 'x' }); h.update(2); display.update('x', 3); display.clear(true)\n"
               "display(1, { id: true, metadata: { m: 1 } })")
    shown = done.displays
    assert [(event["kind"], event.get("display_id")) for event in shown[:3]] == [
        ("display", "x"), ("update", "x"), ("update", "x")]
    assert shown[3]["display_id"] and shown[3]["meta"] == {"m": 1}
    assert done.of("clear") == [{"ev": "clear", "id": done.done["id"], "wait": True}]
    assert done.value is None


def test_an_inspect_that_fails_is_an_error(run):
    error_of(run("({ [Symbol.for('nodejs.util.inspect.custom')]() {\n throw new RangeError('no') } })"), "RangeError", 2)


def test_a_display_outside_a_run_is_logged(driver):
    gate = driver.cwd / f"gate-{time.monotonic_ns()}"
    os.mkfifo(gate)
    assert driver.run(f"require('fs').readFile({json.dumps(str(gate))}, () => display(1)); var a").status == "ok"
    gate.write_text("go")
    assert "outside a run" in driver.event("log")["text"]


# Declarations and state.

KINDS = ["let N = 1", "const N = 2", "var N = 3", "class N {}", "function N() {}", "const { N } = { N: 4 }",
         "let [N] = [5]", "import N from 'fs'", "export const N = 6", "async function N() {}"]


@pytest.mark.parametrize("first", KINDS)
def test_anything_can_be_declared_again_as_anything(run, first):
    for index, second in enumerate(KINDS):
        name = f"k{KINDS.index(first)}x{index}"
        assert run(first.replace("N", name)).status == "ok"
        done = run(f"{second.replace('N', name)};\n{name} !== undefined")
        assert value(done) == "true", (first, second, done.events)
        assert run(f"{name} = 7").status == "ok" or second.startswith("import")


@pytest.mark.parametrize("together,values", [
    ("let A = 3, B = 4, C", "3,4,"), ("var A = 3, B = 4, C = 5", "3,4,5"),
    ("const { A, of: [B, ...C] } = { A: 3, of: [4, 5, 6] }", "3,4,5,6"),
    ("import { sep as A, delimiter as B, sep as C } from 'path'", "/,:,/"),
    ("import A, * as B from 'os'; const C = A === B.default", "[object Object],all,true"),
])
def test_what_is_there_as_this_and_that_can_be_declared_together(run, together, values):
    for first in ("let A = 1; var B = 2", "var A = 1; class B {}", "function A() {}; import B from 'fs'; var C = 3",
                  "var A = 1; let [B, C] = null"):
        names = {letter: f"m{abs(hash((first, together)))}{letter}" for letter in "ABC"}
        before, after, show = (re.sub(r"\b[ABC]\b", lambda found: names[found[0]], code)
                               for code in (first, together, "String([A, B, C].map((one) => one?.default ? 'all' : one))"))
        assert run(before).status == "error" if "null" in first else "ok"
        done = run(f"{after}\n{show}")
        assert value(done) == values, (first, done.events)


def test_twice_in_one_cell_is_an_error(run):
    error_of(run("let t1 = 1\nlet t1 = 2"), "SyntaxError", 2)


def test_a_function_sees_the_newest(run):
    run("const v1 = 1; function see() { return v1 }")
    run("see(); const v1 = 2")
    assert value(run("see()")) == "2"


def test_a_failed_declaration_can_be_repeated(run):
    error_of(run("const w1 = (() => { throw new TypeError('x') })()"), "TypeError", 1)
    assert value(run("const w1 = 3; w1")) == "3"


def test_strict_mode_and_this(run):
    assert value(run("this === globalThis")) == "true"
    assert value(run("globalThis.g1 = 4; g1")) == "4"


# import and require.

def package(driver, name, files):
    folder = driver.cwd / "node_modules" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text)


def test_imports(run):
    done = run("import fs, { readFileSync as read, sep } from 'path'\nimport * as all from 'node:os'\n"
               "import 'url'\nimport def, * as space from 'util'\n"
               "[typeof fs, typeof read, sep, typeof all.cpus, def === space.default]")
    error = error_of(done, "SyntaxError", 1)
    assert error["message"] == "The requested module 'path' does not provide an export named 'readFileSync'"
    done = run("import fs, { readFileSync as read, statSync } from 'fs'\nimport * as all from 'node:os'\n"
               "import 'url'\nimport def, * as space from 'util'\n"
               "[typeof fs, typeof read, typeof statSync, typeof all.cpus, def === space.default]")
    assert done.value["application/json"]["json"] == ["object", "function", "function", "function", True]
    assert value(run("typeof read")) == "function"


def test_dynamic_import(run):
    assert value(run("(await import('path')).sep")) == "/"
    assert value(run("const load = (x) => import(x); (await load('node:os')).EOL.length")) == "1"
    assert value(run("'import(\"x\")' + /import\\(/.source + `${(await import('path')).sep}`")) == \
        "import(\"x\")import\\(/"
    assert value(run("import.meta.filename === require('path').join(process.cwd(), 'a.js')")) == "true"
    assert value(run("import.meta.url.endsWith('/a.js') && import.meta.resolve('./x').endsWith('/x')")) == "true"


def test_imports_keep_lines_and_columns(run):
    code = "import fs from 'fs'\nimport {\n  sep,\n  join\n} from 'path'; null.x\n"
    error_of(run(code), "TypeError", 5, 21)
    error_of(run("await import('fs'); null.x"), "TypeError", 1, 26)
    error_of(run("export const e1 = 1; null.x"), "TypeError", 1, 27)
    error_of(run("const e2 = 1; null.x"), "TypeError", 1, 20)
    error_of(run("({ a: 1,\n  b: null.x })"), "TypeError", 2, 11)
    error_of(run("{ a: null.x }"), "TypeError", 1, 11)


def test_imports_come_first(run):
    assert run("console.log(typeof EOL)\nimport { EOL } from 'os'").stdout == "string\n"


def test_import_that_is_missing(run):
    error = error_of(run("1\n  import x from 'no-such-package'"), "Error", 2)
    assert "no-such-package" in error["message"] and "cellfs" not in "".join(
        line for line in error["traceback"] if "imported from" not in line)
    error_of(run("import { nothing } from 'fs'"), "SyntaxError", 1)
    error_of(run("\nawait import('./no-such-file.mjs')"), "Error", 2)
    error_of(run("\nrequire('no-such-package')"), "Error", 2)


def test_a_package_that_comes_later_is_seen(driver, run):
    (driver.cwd / "node_modules").mkdir()
    for name in ("late-cjs", "late-esm", "@scope/late"):
        assert run(f"require('{name}')").status == "error"
        assert run(f"await import('{name}')").status == "error"
    package(driver, "late-cjs", {"package.json": '{"main": "lib.js"}', "lib.js": "exports.x = 1"})
    package(driver, "late-esm", {"package.json": '{"type": "module", "exports": "./lib.js"}',
                                 "lib.js": "export const x = 2; export default 3"})
    package(driver, "@scope/late", {"package.json": '{"exports": {"import": "./m.mjs", "require": "./c.cjs"}}',
                                    "m.mjs": "export default 'esm'", "c.cjs": "module.exports = 'cjs'"})
    assert value(run("require('late-cjs').x")) == "1"
    assert value(run("import d, { x } from 'late-esm'\nd + x")) == "5"
    assert value(run("import { x as y } from 'late-cjs'\ny")) == "1"
    assert value(run("import s from '@scope/late'\ns + require('@scope/late')")) == "esmcjs"


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not there")
def test_npm_install_in_a_cell(driver, run, tmp_path):
    (tmp_path / "package.json").write_text('{"name": "packed", "version": "1.0.0", "main": "m.js"}')
    (tmp_path / "m.js").write_text("module.exports = 'from npm'")
    assert run("require('packed')").status == "error"
    done = run(f"require('child_process').execSync('npm install --offline --no-audit --no-fund {tmp_path}', "
               "{ stdio: 'pipe', env: { ...process.env, HOME: process.cwd() } }).length > 0")
    assert value(done) == "true"
    assert value(run("require('packed')")) == "from npm"
    assert value(run("import p from 'packed'\np")) == "from npm"


def test_files_of_the_workspace_are_loaded_anew_when_they_change(driver, run):
    for number in (1, 22, 333):
        (driver.cwd / "own.js").write_text(f"module.exports = {number}")
        (driver.cwd / "own.mjs").write_text(f"export const n = {number}")
        assert value(run("require('./own.js')")) == str(number)
        assert value(run("import { n } from './own.mjs'\nn")) == str(number)
        assert value(run("require('./own.js') === require('./own')")) == "true"


def test_require_follows_the_cwd(run, tmp_path):
    (tmp_path / "here.js").write_text("module.exports = __dirname")
    assert value(run("require('./here')", cwd=str(tmp_path))) == str(tmp_path)
    assert value(run("require.resolve('./here')", cwd=str(tmp_path))) == f"{tmp_path}/here.js"
    error_of(run("require('./here')"), "Error", 1)


def test_names_of_a_module(driver, run):
    assert value(run("__dirname === process.cwd() && __filename.endsWith('/a.js')")) == "true"
    assert value(run("module.exports = 1; typeof exports")) == "object"
    assert value(run("typeof fs.readFileSync + typeof path.join + typeof os.cpus")) == "functionfunctionfunction"
    assert value(run("const fs = require('fs'); typeof fs.statSync")) == "function"
    assert value(run("const require2 = require('module').createRequire(process.cwd() + '/'); typeof require2('os').cpus")) == "function"


# Output.

def test_console(run):
    done = run("console.log('a %d %s', 1, 'b', { c: 2 }); console.group('g'); console.info('in'); console.groupEnd()\n"
               "console.table([{ x: 1 }]); console.dir({ d: { e: { f: { g: 1 } } } }, { depth: 0 }); console.count()\n"
               "console.assert(true); console.log()")
    assert done.stdout.startswith("a 1 b { c: 2 }\ng\n  in\n") and "│" in done.stdout
    assert done.stdout.endswith("{ d: [Object] }\ndefault: 1\n\n") and done.stderr == ""
    done = run("console.error('e'); console.warn('w'); console.trace('t'); console.assert(false, 'no')")
    assert done.stdout == "" and done.stderr.startswith("e\nw\nTrace: t\n    at a.js:1:") and "Assertion failed: no" in done.stderr
    assert re.match(r"t: [\d.]+ms\n$", run("console.time('t'); console.timeEnd('t')").stdout)


def test_write(run):
    done = run("process.stdout.write('a'); process.stdout.write(Buffer.from('b')); process.stdout.write('63', 'hex')\n"
               "const called = new Promise((done) => process.stdout.write('d', done)); await called\n"
               "process.stdout.end('e'); process.stdout.write('f\\n'); process.stdout.isTTY")
    assert (done.stdout, done.value) == ("abcdef\n", None)
    error_of(run("process.stdout.write(5)"), "TypeError", 1)
    assert run("const { Readable } = require('stream')\nReadable.from(['x', 'y']).pipe(process.stdout)\n"
               "await new Promise((done) => setTimeout(done, 20))").stdout == "xy"


def test_output_of_all_kinds_keeps_its_order(run):
    done = run("const { execSync, spawnSync } = require('child_process')\nconsole.log('a')\n"
               "execSync('echo b', { stdio: 'inherit' }); process.stdout.write('c\\n')\n"
               "spawnSync('echo', ['d'], { stdio: 'inherit' }); require('fs').writeSync(1, 'e\\n'); console.log('f')")
    assert done.stdout == "a\nb\nc\nd\ne\nf\n"


def test_what_a_child_does_to_its_stdout_is_its_own(run):
    child = "process.stdout.write('child\\\\n'.repeat(1000)); setTimeout(() => {}, 50)"
    done = run(f"const c = require('child_process').spawn(process.execPath, ['-e', \"{child}\"], {{ stdio: 'inherit' }})\n"
               "for (let i = 0; i < 300; i++) console.log('x'.repeat(1000))\n"
               "await new Promise((done) => c.on('exit', done)); for (let i = 0; i < 300; i++) console.log('x'.repeat(1000))")
    assert done.status == "ok" and done.stdout.count("x") == 600000 and done.stdout.count("child") == 1000


def test_output_of_worker_threads(run):
    done = run("const { Worker } = require('worker_threads')\nconst w = new Worker(\"console.log('w'); console.error('e')\", { eval: true })\n"
               "await new Promise((done) => w.on('exit', done))")
    assert (done.status, done.stdout, done.stderr) == ("ok", "w\n", "e\n")


def test_children_have_a_stdout_that_blocks(run):
    done = run("require('child_process').execSync('head -c 3000000 /dev/zero | cat; cat /proc/self/fdinfo/1 >&2', "
               "{ stdio: ['inherit', 'inherit', 'inherit'] }); var x")
    assert len(done.out[1]) == 3000000 and "04000" not in done.stderr.split("flags:")[1].split()[0][-5:]


def test_bulk_speed(driver):
    begin = time.perf_counter()
    assert len(driver.run("const s = 'x'.repeat(1 << 20); for (let i = 0; i < 100; i++) process.stdout.write(s)",
                          "a.js").out[1]) == 100 << 20
    assert time.perf_counter() - begin < 10


def test_control_pipes_are_not_inherited(driver, run):
    ours = {os.readlink(f"/proc/self/fd/{end}") for name, end in driver.fds.items() if name not in (1, 2)}
    seen = run("require('child_process').execSync('ls -l /proc/self/fd', { stdio: ['inherit', 'pipe', 'inherit'] }) + ''")
    assert not any(pipe in value(seen) for pipe in ours)


# Errors.

@pytest.mark.parametrize("code,line,column", [
    ("x = 1\nif x", 2, 4), ("let a = ;", 1, 9), ("\n\n'abc", 3, 1), ("function f( {", 1, 14), ("foo bar", 1, 5),
    ("let a = 1;\nlet b = (2", 2, 11), ("return 5", 1, 1), ("const c1", 1, 7), ("import x from", 1, 14),
    ("import fs from 'fs'\nlet = = 3", 2, 7)])
def test_syntax_errors(run, code, line, column):
    done = run("console.log('never')\n".replace("console.log('never')\n", "") + code)
    error = error_of(done, "SyntaxError", line)
    assert abs(error["column"] - column) <= 1, error
    assert error["traceback"][0] == f"a.js:{line}" and error["traceback"][-1].startswith("SyntaxError: ")
    assert error["traceback"][2].endswith("^") and len(error["traceback"][2]) == error["column"]


def test_a_syntax_error_runs_nothing(run):
    assert run("console.log('ran')\nlet a = ;").stdout == ""


def test_runtime_syntax_errors_have_the_line_of_the_call(run):
    error_of(run("1\nJSON.parse('{')"), "SyntaxError", 2)
    error_of(run("1\n\neval('a b')"), "SyntaxError", 3)
    error_of(run("1\nnew Function('a b')"), "SyntaxError", 2)


def test_traceback_is_as_node_shows_it(run):
    error = error_of(run("function f() {\n\tthrow new RangeError('far')\n}\nf()"), "RangeError", 2, 8)
    assert error["traceback"] == [
        "a.js:2", "\tthrow new RangeError('far')", "\t      ^", "", "RangeError: far", "    at f (a.js:2:8)",
        "    at a.js:4:1"]
    assert error["frames"] == [{"file": "a.js", "line": 4, "func": "<anonymous>"},
                               {"file": "a.js", "line": 2, "func": "f"}]


def test_error_in_another_cell(driver):
    driver.run("function lib() {\n  return null.x\n}", "lib.js")
    error = error_of(driver.run("\n\nlib()", "main file's.js"), "TypeError", 3, 1)
    assert [(frame["file"], frame["line"]) for frame in error["frames"]] == [("main file's.js", 3), ("lib.js", 2)]
    assert "    at main file's.js:3:1" in error["traceback"]


@pytest.mark.parametrize("code,line", [
    ("await null\n\nnull.x", 3), ("async function f() {\n  await 1\n  null.x\n}\nawait f()", 3),
    ("async function f() {\n  await 1\n  null.x\n}\nf()", 3), ("\nawait Promise.reject(new Error('r'))", 2),
    ("\nnew Promise((_, no) => no(new Error('r')))", 2), ("[1].map((x) => {\n  null.x })", 2),
    ("await Promise.all([\n  (async () => null.x)()])", 2)])
def test_lines_of_asynchronous_errors(run, code, line):
    done = run(code)
    assert done.status == "error" and done.error["line"] == line, done.error


@pytest.mark.parametrize("thrown,message", [
    ("'text'", "'text'"), ("5", "5"), ("null", "null"), ("undefined", "undefined"), ("{ code: 3 }", "{ code: 3 }"),
    ("() => 1", "[Function (anonymous)]"), ("`a${1}`", "'a1'"), ("-1", "-1"), ("[1]", "[ 1 ]"),
    ("{ [Symbol.for('nodejs.util.inspect.custom')]() { throw 1 } }", "<without a printable message>")])
def test_thrown_that_is_no_error(run, thrown, message):
    error = error_of(run(f"1\n  throw ({thrown})"), "Uncaught", 2, 3)
    assert error["message"] == message
    assert error["traceback"][-1].startswith("Uncaught ")


@pytest.mark.parametrize("thrown", ["Symbol('s')", "Object.create(null)", "new Proxy({}, { get() { throw 1 } })", "[undefined][0]"])
def test_thrown_that_tells_no_place(run, thrown):
    assert "line" not in error_of(run(f"throw {thrown}"), "Uncaught")
    assert "line" not in error_of(run("Promise.reject('r')"), "Uncaught")


def test_errors_of_all_kinds(run):
    assert error_of(run("class E1 extends Error {}\nthrow new E1('m')"), "E1", 2)["message"] == "m"
    error_of(run("const e = new Error('m'); e.name = 'Own'; throw e"), "Own", 1)
    error_of(run("null.x"), "TypeError", 1, 6)
    error = error_of(run("require('fs').readFileSync('/no/such')"), "Error", 1)
    assert "ENOENT" in error["message"] and any("code: 'ENOENT'" in line for line in error["traceback"])
    assert not any("node:internal" in line for line in error["traceback"])
    error = error_of(run("throw new Error('outer', { cause: new TypeError('inner') })"), "Error", 1)
    assert any("TypeError: inner" in line for line in error["traceback"])
    error = error_of(run("await Promise.any([Promise.reject(new Error('one'))])"), "AggregateError")
    assert any("Error: one" in line for line in error["traceback"])
    error_of(run("const bad = new Error('x'); Object.defineProperty(bad, 'stack', { get() { throw 1 } }); throw bad"), "Error")
    error_of(run("const none = new Error('x'); none.stack = undefined; none.message = { a: 1 }; throw none"), "Error")
    error_of(run("require('vm').runInNewContext('null.x')"), "TypeError", 1)
    error_of(run("function deep(n) { return deep(n + 1) + 1 }\ndeep(0)"), "RangeError", 1)


def test_huge_errors_fit_a_line(run):
    for code in ("throw new Error('\\x01'.repeat(1e6))", "throw 'x'.repeat(1e6)", "throw new Error('\\n'.repeat(1e5) + 'end')",
                 f"const long = '{'a' * 200000}'; null.x", "throw new Error('\u4e16'.repeat(1e5))",
                 "throw Object.assign(new Error('p'), { p: 'y'.repeat(1e6) })"):
        done = run(code)
        assert done.status == "error" and done.error["traceback"], done.events


def test_error_is_cheap(driver):
    times = {"1": [], "function f() { null.x }\nf()": []}
    for _ in range(60):
        for code, taken in times.items():
            begin = time.perf_counter()
            driver.run(code, "a.js")
            taken.append(time.perf_counter() - begin)
    plain, error = (sorted(taken)[30] for taken in times.values())
    assert error < 25 * plain


def test_errors_in_the_background(driver):
    for code, message in (("throw new TypeError('timer')", "timer"), ("Promise.reject(new TypeError('promise'))", "promise"),
                          ("new (require('events'))().emit('error', new TypeError('event'))", "event")):
        leave_behind(driver, code)
        error = driver.event("error")
        assert (error["id"], error["name"], error["message"]) == (None, "TypeError", message)
    while b"event" not in driver.late[2]:
        driver.step()
    assert driver.run("1", "a.js").status == "ok"


def test_a_rejection_that_nobody_waits_for_is_seen_in_the_run(run):
    done = run("async function f() { throw new TypeError('lost') }\nf(); 1")
    assert value(done) == "1" and [error["id"] for error in done.of("error")] == [None]
    assert "TypeError: lost" in done.stderr


def test_handlers_of_the_cells_own(run):
    run("process.on('uncaughtException', (e) => console.log('mine', e.message)); process.on('unhandledRejection', (e) => console.log('also', e.message))")
    done = run("setTimeout(() => { throw new Error('a') }, 0); Promise.reject(new Error('b')); await new Promise((d) => setTimeout(d, 20))")
    assert sorted(done.stdout.splitlines()) == ["also b", "mine a"]
    run("process.removeAllListeners('uncaughtException'); process.removeAllListeners('unhandledRejection'); var x")


def test_invalid_utf8(run):
    error_of(run(b"let a = 1\nlet b = '\xff'"), "SyntaxError", 2, 10)
    assert value(run("'\ufffd'")) == "\ufffd"


def test_byte_order_mark(run):
    assert value(run(b"\xef\xbb\xbf1")) == "1"


# Exits and ends.

@pytest.mark.parametrize("call,code", [
    ("process.exit()", 0), ("process.exit(7)", 7), ("process.exit('8')", 8), ("process.exitCode = 9; process.exit()", 9),
    ("try { process.exit(3) } catch { console.log('caught') } finally { console.log('after') }", 3),
    ("await null; process.exit(4)", 4), ("setTimeout(() => process.exit(5), 1); await new Promise(() => {})", 5),
    ("process.nextTick(() => process.exit(6)); await new Promise(() => {})", 6), ("process.reallyExit(2)", 2),
    ("[1].forEach(() => process.exit(1))", 1), ("process.exit(256 + 3)", 3)])
def test_exits(run, call, code):
    run("var kept = 12")
    done = run(call)
    assert (done.status, done.done["code"], done.stdout, done.stderr) == ("exit", code, "", "")
    assert value(run("kept")) == "12"


def test_an_exit_outside_a_run_is_told(driver):
    leave_behind(driver, "process.exit(3)")
    assert "process.exit(3) outside a run" in driver.event("error")["message"]
    assert driver.run("1", "a.js").status == "ok"
    driver.late[2].clear()


def test_exit_code_of_a_cell_is_not_the_drivers(fresh):
    fresh.run("process.exitCode = 5; process.on('exit', (code) => console.log('code', code)); var x", "a.js")
    os.close(fresh.fds.pop(3))
    assert fresh.wait() == 0


@pytest.mark.parametrize("code,number", [("process.abort()", signal.SIGABRT), ("process.kill(process.pid, 'SIGKILL')", signal.SIGKILL)])
def test_a_kernels_death_is_one(fresh, code, number):
    fresh.start(code, "a.js")
    assert fresh.wait() == -number


def test_the_end_is_quiet_and_quick(fresh):
    fresh.run("setInterval(() => {}, 10); require('http').createServer(() => {}).listen(0); var x", "a.js")
    number = fresh.start("console.log('started'); for (;;);", "a.js")
    fresh.until(lambda out: b"started" in out)
    assert fresh.stop(number)[0].status == "interrupted"
    os.close(fresh.fds.pop(3))
    assert fresh.wait() == 0
    while 2 in fresh.fds:
        fresh.step()
    assert bytes(fresh.late[2]) == b""


# Interrupts.

def begun(driver, code, name="a.js"):
    number = driver.start(code, name)
    driver.until(lambda out: b"begun" in out)
    return number


HOOKS = "require('async_hooks').createHook({ init() {} }).enable(); await 1; console.log('begun'); for (;;);"


@pytest.mark.parametrize("code", [
    "await new Promise((done) => setTimeout(done, 5)); console.log('begun'); while (true);",
    "setTimeout(() => { console.log('begun'); while (true); }, 1); await new Promise(() => {})",
    "setImmediate(() => { console.log('begun'); while (true); }); setImmediate(() => {})",
    "Promise.resolve().then(() => { console.log('begun'); while (true); })",
    "fs.stat('/', () => { console.log('begun'); while (true); }); await new Promise(() => {})",
    "const { port1, port2 } = new MessageChannel(); port1.onmessage = () => { console.log('begun'); for (;;); }\n"
    "port2.postMessage(1); await new Promise(() => {})",
    "new (require('async_hooks').AsyncResource)('x').runInAsyncScope(() => { console.log('begun'); for (;;); })",
    "new (require('async_hooks').AsyncLocalStorage)().run(1, async () => { await 1; console.log('begun'); for (;;); })",
    "process.on('exit', () => {}); console.log('begun'); try { for (;;); } finally { for (;;); }",
    "console.log('begun'); require('vm').runInNewContext('for (;;);')",
    "console.log('begun'); require('vm').runInNewContext('for (;;);', {}, { timeout: 100000 })",
    "console.log('begun'); eval('for (;;);')", "console.log('begun'); [1].sort(() => { for (;;); }); [2, 1].sort(() => { for (;;); })",
    "console.log('begun'); for (;;) try { JSON.parse('{') } catch { }",
    "console.log('begun'); for (const x of (function* () { for (;;) yield 1 })());",
    "console.log('begun'); 'a'.repeat(30).match(/^(a+)+$/.source.repeat(1) && /^(a+)+b$/); for (;;);",
])
def test_interrupts(driver, code):
    driver.run("var kept = 13", "a.js")
    number = begun(driver, code)
    begin = time.perf_counter()
    done, tries = driver.stop(number)
    assert (done.status, tries) == ("interrupted", 1) and time.perf_counter() - begin < 3
    assert done.error["name"] == "Interrupted"
    assert value(driver.run("await null; kept", "a.js")) == "13"
    assert driver.run("setTimeout(() => console.log('timer'), 1); await new Promise((d) => setImmediate(() => setTimeout(d, 10)))",
                      "a.js").stdout == "timer\n"


def test_interrupt_with_hooks(fresh):
    if int(fresh.hello["ver"].split(".")[0]) >= 24:
        pytest.skip("Node 24 ends the process")
    assert fresh.stop(begun(fresh, HOOKS))[0].status == "interrupted"
    assert value(fresh.run("await null; 1", "a.js")) == "1"


def test_an_interrupt_ends_no_other_task(driver):
    driver.run("var ticks = 0; var timer = setInterval(() => ticks++, 1)", "a.js")
    assert driver.stop(begun(driver, "console.log('begun'); for (;;);"))[0].status == "interrupted"
    assert value(driver.run("const before = ticks; await new Promise((d) => setTimeout(d, 30)); ticks > before", "a.js")) == "true"
    driver.run("clearInterval(timer)", "a.js")


def test_a_loop_that_a_cell_has_left_behind_is_stopped_for_the_next(driver):
    leave_behind(driver, "console.log('begun'); for (;;);")
    driver.until(lambda out: b"begun" in out)
    number = driver.start("'next'", "a.js")
    done, _ = driver.stop(number)
    assert done.status in ("ok", "interrupted")
    assert value(driver.run("'then'", "a.js")) == "then"


def test_interrupts_at_any_moment_leave_a_working_driver(driver):
    code = "for (let i = 0; i < 40; i++) { display(i); console.log(i) }"
    for delay in range(40):
        number = driver.start(code, "a.js")
        driver.step(delay / 20000)
        driver.interrupt()
        assert driver.finish(number).status in ("ok", "interrupted")
    driver.pause()
    done = driver.run(code, "a.js")
    assert len(done.displays) == 40
    lines = 0
    for fd, what in done.order:
        lines += 1 if fd == 4 and what["ev"] == "display" else -what.count(b"\n") if fd == 1 else 0
        assert lines in (0, 1)


def test_a_promise_that_never_settles_survives_the_collector(fresh):
    fresh.run("require('v8').setFlagsFromString('--expose-gc'); var gc = require('vm').runInNewContext('gc')", "a.js")
    number = fresh.start("setTimeout(() => { gc(); gc(); console.log('begun') }, 5); await new Promise(() => {})", "a.js")
    fresh.until(lambda out: b"begun" in out)
    assert fresh.stop(number)[0].status == "interrupted"
    assert value(fresh.run("gc(); await new Promise((d) => setTimeout(d, 5)); gc(); 'alive'", "a.js")) == "alive"


# Hostile cells.

@pytest.mark.parametrize("code", [
    "JSON.parse = JSON.stringify = () => { throw 1 }", "globalThis.JSON = globalThis.Promise = globalThis.Map = undefined",
    "for (const k of ['push', 'map', 'slice', 'join', 'filter', Symbol.iterator]) Array.prototype[k] = () => { throw 1 }",
    "for (const k of ['split', 'replace', 'slice', 'indexOf', 'includes']) String.prototype[k] = () => { throw 1 }",
    "Promise.prototype.then = () => { throw 1 }", "Function.prototype.call = Function.prototype.apply = () => { throw 1 }",
    "fs.writeSync = fs.readFileSync = fs.openSync = fs.readSync = () => { throw 1 }",
    "Object.defineProperty(Object.prototype, 'id', { set() { throw 1 }, get() { return 5 }, configurable: true })",
    "Buffer.from = Buffer.byteLength = Buffer.alloc = () => { throw 1 }; Buffer.prototype.toString = () => { throw 1 }",
    "globalThis.process = undefined", "process.env = {}; process.chdir = process.cwd = () => { throw 1 }; process.emit = undefined",
    "globalThis.console = undefined", "delete globalThis.display; delete globalThis.require",
    "Atomics.load = Atomics.store = Atomics.wait = Atomics.compareExchange = () => 0",
    "require('inspector').Session.prototype.post = () => { throw 1 }", "Reflect.apply = Reflect.ownKeys = () => { throw 1 }",
    "Symbol.for = () => { throw 1 }; Error.captureStackTrace = () => { throw 1 }; Error.prepareStackTrace = () => { throw 1 }",
    "Error.stackTraceLimit = 0", "Object.keys = Object.entries = Object.defineProperty = Object.getPrototypeOf = () => { throw 1 }",
    "setTimeout = setImmediate = queueMicrotask = undefined; process.nextTick = () => { throw 1 }",
    "process.removeAllListeners(); process.stdout.write = () => { throw 1 }; process.setUncaughtExceptionCaptureCallback(null)",
    "TextDecoder.prototype.decode = () => { throw 1 }; globalThis.Error = globalThis.TypeError = undefined",
    "for (const k of Object.getOwnPropertyNames(Object.prototype)) try { Object.prototype[k] = () => { throw 1 } } catch { }",
    "Object.freeze(Object.prototype); Object.freeze(Array.prototype); Object.freeze(globalThis)",
])
def test_a_cell_that_breaks_its_own_realm(fresh, code):
    if fresh.hello["ver"].startswith("18.") and "Promise.prototype.then" in code:
        pytest.skip("Node 18 itself is broken by this")
    fresh.run(code, "a.js")
    done = fresh.run("40 + 2", "a.js")
    assert (done.status, done.value) == ("ok", {"text/plain": "42"}), done.events
    assert fresh.run("let z: number = 1\nnull!.x", "a.ts").status == "error"
    number = fresh.start("for (;;);", "a.js")
    fresh.step(0.2)
    assert fresh.stop(number)[0].status == "interrupted"
    assert fresh.run("1 + 1", "a.js", env={"A": "1"}, cwd="/").value == {"text/plain": "2"}
    os.close(fresh.fds.pop(3))
    assert fresh.wait() == 0


# TypeScript.

@pytest.mark.parametrize("code,text", [
    ("interface A { x: number; y?: string }\nconst a: A = { x: 1 }\na.x", "1"),
    ("enum Color { Red, Green = 5, Blue }\n[Color.Blue, Color[5]].join()", "6,Green"),
    ("const enum C2 { A = 'a' }\nC2.A", "a"), ("function id<T extends object>(x: T): T { return x }\nid<any>(7)", "7"),
    ("class P { constructor(private x: number, public readonly y = 2) {} get sum() { return this.x + this.y } }\nnew P(3).sum", "5"),
    ("abstract class S { abstract area(): number; twice() { return 2 * this.area() } }\nclass T1 extends S { area() { return 4 } }\nnew T1().twice()", "8"),
    ("const s = { a: 1 } satisfies Record<string, number>\ns.a as unknown as string", "1"),
    ("let u: string | undefined = 'x'\nu!.length", "1"), ("type F = (a: number) => string\nconst f: F = (a) => `${a}`\nf(3)", "3"),
    ("function over(a: string): string\nfunction over(a: any) { return a }\nover('o')", "o"),
    ("declare const nothing: number\ndeclare module 'x' { }\ndeclare namespace N { const a: number; namespace M { } }\n1", "1"),
    ("const g = async <T,>(x: T): Promise<T> => x\nawait g<number>(4)", "4"), ("let namespace = 3, module1 = 4\nnamespace + module1", "7"),
    ("import path = require('path')\npath.sep", "/"), ("const t = <const T,>(x: T) => x; t(5)", "5"),
    ("class Q { declare a: number; #b = 1; static c?: number; override toString() { return 'q' } accessor = 2 }\n`${new Q()}`", "q"),
    ("({ a: 1 as number })", "{ a: 1 }"), ("export type X = 1; export interface Y {}\nexport const v: X = 1\nv", "1"),
])
def test_typescript(ts, code, text):
    assert value(ts(code)) == text


def test_imports_are_kept_for_the_next_cell(ts):
    assert ts("import { join, type ParsedPath } from 'path'\nimport type { Stats } from 'fs'\nimport * as os from 'os'").status == "ok"
    assert value(ts("const p: string = join('a', 'b')\np + typeof os.cpus")) == "a/bfunction"


def test_an_import_that_is_only_a_type_is_no_error(ts):
    assert value(ts("import { Stats, NoSuchType } from 'fs'\nlet s: NoSuchType | null = null\ns === null")) == "true"


def test_typescript_and_javascript_share_their_variables(run, ts):
    ts("const shared: number = 21\ninterface I { a: number }\nclass K implements I { constructor(public a: number) {} }")
    assert value(run("shared * new K(2).a")) == "42"


@pytest.mark.parametrize("code,line,column", [
    ("const a: number = 1\nconst b: string = nope(a as any)", 2, 19), ("interface X {\n  a: string\n}\n\nlet y: X = null!.a.b", 5, 18),
    ("enum E5 {\n  A,\n  B }\nfunction f(a: number, b?: string): void { throw new ReferenceError('x') }\nf(1)", 4, 49)])
def test_places_in_typescript(ts, code, line, column):
    done = ts(code)
    assert done.status == "error" and (done.error["line"], done.error["column"]) == (line, column), done.error
    assert done.error["traceback"][1] == code.split("\n")[line - 1]


@pytest.mark.parametrize("code,line,word", [
    ("let a = 1\nnamespace N { export const a = 1 }", 2, "namespace"), ("\nmodule M { }", 2, "namespace"),
    ("export namespace A.B { }", 1, "namespace"), ("let x: number = 1\n@dec class D {}", 2, "decorators"),
    ("class D2 {\n  @dec m() {}\n}", 2, "decorators"), ("let x: = 3", 1, "Unexpected token"), ("let y: number = 1\nlet z = (1", 2, ""),
    ("if x {\n}", 1, "")])
def test_refused_typescript(ts, code, line, word):
    error = error_of(ts("console.log('never')\n" + code), "SyntaxError", line + 1)
    assert word in error["message"] and error["column"] >= 1


def test_typescript_files_of_the_workspace(driver, ts):
    (driver.cwd / "lib.ts").write_text("export const twice = (x: number): number => 2 * x\nexport default 'd' as string\n")
    assert value(ts("import d, { twice } from './lib.ts'\nd + twice(4)")) == "d8"
    assert value(ts("require('./lib').twice(3)")) == "6"


# The build.

def test_without_packages_javascript_still_runs(name, tmp_path):
    from conversation import KERNELS, Driver, manifests, probe
    folder = tmp_path / "javascript"
    shutil.copytree(KERNELS / "javascript", folder, ignore=shutil.ignore_patterns("packages.js"))
    manifest = {**manifests()["javascript"], "dir": str(folder)}
    node, note = probe(manifest)
    assert "without TypeScript" in note
    driver = Driver([node, "--no-force-async-hooks-checks", str(folder / "kernel.js")])
    try:
        assert value(driver.run("let a = 40; a + 2", "a.js")) == "42"
        assert "npm" in error_of(driver.run("1", "a.ts"), "SyntaxError", 1)["message"]
    finally:
        driver.close()


def test_make_does_nothing_when_nothing_has_changed():
    from conversation import KERNELS
    done = subprocess.run(["make", "-q", "kernels/javascript/packages.js"], cwd=KERNELS.parent, capture_output=True)
    assert done.returncode == 0, done.stderr
