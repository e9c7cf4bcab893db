"""JavaScript's and TypeScript's cells for test_contract.py."""

JAVASCRIPT = {
    "file": "a.js",
    "comment": "// comment",
    "value": ("40 + 2", "42"),
    "string": ("'a\"b\\n\u00e9'", "a\"b\n\u00e9", "'a\"b\\n\u00e9'"),
    "none": "var x = 1",
    "print": "console.log({!r})",
    "set": "var kept = {}",
    "show": "console.log(kept)",
    "failing": ("console.log('before')\n\nnull.x\nconsole.log('after')\n", "TypeError", 3, 0),
    "syntax": ("x = 1\nif x\n", 2),
    "again": "const a = 1; let b = 2; class C {}\nfunction f() {}\n",
    "env": "console.log(process.env[{!r}] ?? '(absent)')",
    "cwd": "console.log(process.cwd())",
    "chdir": "process.chdir({!r})",
    "prepare": "",
    "ordered": "for (let i = 0; i < 2000; i++) {\n    console.log('line', i)\n    display(i)\n}\n",
    "ordered_count": 2000,
    "binary": ("const all = Buffer.from([...Array(256).keys()])\n"
               "display.png(Buffer.concat(Array(400).fill(all)))\n", "image/png",
               bytes(range(256)) * 400),
    "large_text": ("display('z'.repeat(300000))\n", "text/plain"),
    "unicode": "console.log('\u00e9\u4e16\U0001f600')",
    "exit": "kept = 5\nprocess.exit({})\n",
    "bulk": "for (let i = 0; i < 64; i++) process.stdout.write('y'.repeat(1 << 20))\n",
    "started": "console.log('started');\n",
    "waits": {
        "loop": "while (true);",
        "sleep": "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
        "subprocess": "require('child_process').spawnSync('sleep', ['100']).signal\n"
                      "await new Promise((done) => setTimeout(done, 100000))",
        "shell": "require('child_process').execSync('sleep 100; true')",
        "await": "await new Promise((done) => setTimeout(done, 100000))",
        "loop after nothing": "await null; while (true);",
        "loop in a tick": "process.nextTick(() => { while (true); })",
        "microtasks": "for (;;) await null",
        "caught": "for (;;) { try { for (;;); } catch { } finally { for (;;); } }",
        "native": "/(a*)*b/.test('a'.repeat(40))",
        "value": "new Promise(() => {})",
        "forever": "await new Promise(() => {})",
        "inspect": "({ [Symbol.for('nodejs.util.inspect.custom')]() { while (true); } })",
        "bulk": "for (;;) process.stdout.write('z'.repeat(4096))",
        "displays": "for (;;) display('z'.repeat(4096))",
    },
    "interrupt_name": "Interrupted",
    "needs_a_second": {"subprocess", "shell"},  # a child that has just been forked ignores it
    "deaf": "process.on('SIGINT', () => {}); process.once('SIGINT', () => {})",
    "late": "const { Worker } = require('worker_threads')\n"
            "globalThis.go = new Promise((done) => { globalThis.say = done })\n"
            "go.then(() => setTimeout(() => console.log('late'), 20))\n"
            "var nothing = 1\n",
    "late_go": "say()\n",
    "background": "require('child_process').spawn('until [ -e go ]; do sleep 0.01; done; echo background', "
                  "{shell: true, stdio: 'inherit'})\nvar p = 1\n",
    "nul": b"console.log('a')\n\0\n",
    "crlf": b"var a = 1\r\nvar b = 2\r\nconsole.log(a + b)\r\n",
    "no_newline": b"console.log('end')",
    "at_exit": "process.on('exit', () => console.log('left')); var x = 1",
    "stdin": "console.log(`'${require('fs').readFileSync(0, 'utf8')}'`)",
    "control": "const fs = require('fs')\n"
               "console.log([3, 4, 5, 6].map((fd) => { try { return fs.readlinkSync("
               "`/proc/self/fd/${fd}`) } catch { return '' } }))\n"
               "console.log(require('child_process').spawnSync('ls', ['-l', '/proc/self/fd']).stdout + '')",
}

TYPESCRIPT = {
    **JAVASCRIPT,
    "file": "a.ts",
    "value": ("const answer: number = 40 + 2\nanswer as number", "42"),
    "none": "let x: number = 1; interface A { a: string }",
    "failing": ("type T = {\n  a: string }; console.log('before' as string)\n(null as any).x\n",
                "TypeError", 3, 0),
    "syntax": ("let x: number = 1\nif x\n", 2),
    "again": "enum E { A }\nconst f = <T,>(x: T): T => x\nabstract class C<T> { abstract g(): T }\n",
}

SNIPPETS = {"javascript": JAVASCRIPT, "javascript-ts": TYPESCRIPT}
