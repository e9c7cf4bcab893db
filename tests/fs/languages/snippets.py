"""The same cells in every language: what the tests of this directory run.

A language that has no such thing lacks the key. Each prints lines ended by \\n. `{}` is filled in by format().
"""

import base64
import struct
import zlib


def png(width, height):
    """A grey picture."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress((b"\0" + b"\x80" * width) * height)) + chunk(b"IEND", b"")
    )


PICTURE = base64.b64encode(png(40, 30)).decode()
TEXT = "\u00e9\u00df \u4e16\u754c \u65e5\u672c\u8a9e \ud55c\uad6d\uc5b4 \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 \u05e9\u05dc\u05d5\u05dd"

# Of the table that every language makes: what result.data.json must say.
DATA = {
    "name": ["Ann", "B\u00e9a \u4e16", 'c"\\d'],
    "count": [1, 2, 3],
    "share": [0.5, None, -1.25],
    "good": [True, False, True],
    "when": ["2026-01-02T03:04:05", "2026-01-03T00:00:00", None],
}

PYTHON = {
    "cell": "a.py",
    "kernel": "python",
    "option": "#|",
    "value": ("40 + 2\n", "42\n"),
    "string": ("'two ' + 'words'\n", "two words\n"),
    "nothing": "x = 1\n",
    "print": "print('{}')\n",
    "streams": "import sys\nprint('one')\ndisplay(1)\nprint('two', file=sys.stderr)\ndisplay(2)\nprint('three')\n",
    "set": "kept = {}\n",
    "show": "print(kept)\n",
    "gone": ("print('kept' in globals())\n", "False\n"),
    "failing": ("def f(x):\n    return nosuch + x\n\nprint('before')\nf(1)\nprint('after')\n", "NameError", "nosuch", 2),
    "raising": ("\n\nraise ValueError('own words \u00e9')\n", "ValueError", "own words \u00e9", 3),
    "syntax": ("x = 1\ny = (2\nz = = 3\n", "SyntaxError", (2, 3)),
    "env": "import os; print(os.environ.get('{0}', '(absent)'))\n",
    "setenv": "import os; os.environ['{0}'] = 'by the cell'\n",
    "child_env": "import subprocess; print(subprocess.run('echo \"${{{0}-(absent)}}\"', shell=True, capture_output=True, text=True).stdout, end='')\n",
    "cwd": "import os; print(os.getcwd())\n",
    "chdir": "import os; os.chdir('{0}')\n",
    "exit": "kept = 5\nimport sys\nsys.exit({})\n",
    "started": "import os, re, subprocess, sys, time\nprint('started', flush=True)\n",
    "waits": {
        "loop": "while True: pass\n",
        "sleep": "time.sleep(1000)\n",
        "subprocess": "subprocess.run(['sleep', '1000'])\n",
        "native": "re.match('(a*)*b', 'a' * 60)\n",
    },
    "interrupted": "KeyboardInterrupt",
    "picture": ("import PIL.Image\nPIL.Image.new('RGB', (40, 30))\n", "result.png", (40, 30)),
    "table": (
        "import pandas as pd\npd.DataFrame(dict(name=['Ann', 'B\u00e9a \u4e16', 'c\"\\\\d'], count=[1, 2, 3], share=[0.5, float('nan'), -1.25],\n"
        "    good=[True, False, True], when=pd.to_datetime(['2026-01-02T03:04:05', '2026-01-03T00:00:00', None])))\n"),
    "text": "text = '{0}'\nprint(text)\ntext\n",
    "flood": "import sys\nfor i in range(1000): _ = sys.stdout.write('%09d\\n' % i * 1000)\n",
    "kill": "import os\nprint('before', flush=True)\nos.kill(os.getpid(), 9)\n",
    "write": "open('{0}', 'w').write('{1}') and None\n",
    "append": "print('{0}', file=open('order', 'a')) or None\n",
}

BASH = {
    "cell": "a.sh",
    "kernel": "bash",
    "option": "#|",
    "nothing": "x=1\n",
    "print": "echo '{}'\n",
    "streams": "show() { echo $1 | display - text/plain; }\necho one; show 1; echo two >&2; show 2; echo three\n",
    "set": "kept={}\n",
    "show": "echo $kept\n",
    "gone": ("echo ${kept-gone}\n", "gone\n"),
    "failing": ("f() {\n  ls /nosuch 2>&1\n}\necho before\nset -e; ls /nosuch 2>/dev/null\necho after\n", "ExitStatus", "2", 5),
    "syntax": ("x=1\ny=2\nif x; )\n", "SyntaxError", (3,)),
    "env": 'echo "${{{0}-(absent)}}"\n',
    "setenv": "export {0}='by the cell'\n",
    "child_env": "sh -c 'echo \"${{{0}-(absent)}}\"'\n",
    "cwd": "pwd\n",
    "chdir": "cd '{0}'\n",
    "exit": "kept=5\nexit {}\n",
    "started": "echo started\n",
    "waits": {
        "loop": "while :; do :; done\n",
        "sleep": "read -t 1000 <> <(:)\n",
        "subprocess": "sleep 1000\n",
        "native": "while read -r x; do :; done < <(exec yes)\n",
    },
    "interrupted": "interrupted",
    "picture": (f"echo {PICTURE} | base64 -d > p.png\ndisplay p.png\n", "display-1.png", (40, 30)),
    "text": "echo '{0}'\n",
    "flood": "for ((i = 0; i < 1000; i++)); do printf -v line '%09d\\n' $i; printf -v all '%*s' 1000; printf %s \"${all// /$line}\"; done\n",
    "kill": "echo before\nkill -9 $$\n",
    "write": "printf %s '{1}' > '{0}'\n",
    "append": "echo '{0}' >> order\n",
}

JAVASCRIPT = {
    "cell": "a.js",
    "kernel": "javascript",
    "option": "//|",
    "value": ("40 + 2\n", "42\n"),
    "string": ("'two ' + 'words'\n", "two words\n"),
    "nothing": "let x = 1;\n",
    "print": "console.log('{}')\n",
    "streams": "console.log('one'); display(1); console.error('two'); display(2); console.log('three')\n",
    "set": "let kept = {}\n",
    "show": "console.log(kept)\n",
    "gone": ("console.log(typeof kept)\n", "undefined\n"),
    "failing": ("function f(x) {\n  return nosuch + x;\n}\nconsole.log('before');\nf(1);\nconsole.log('after');\n", "ReferenceError", "nosuch", 2),
    "raising": ("\n\nthrow new RangeError('own words \u00e9')\n", "RangeError", "own words \u00e9", 3),
    "syntax": ("let x = 1;\nlet y = 2;\nlet z = = 3;\n", "SyntaxError", (3,)),
    "env": "console.log(process.env['{0}'] ?? '(absent)')\n",
    "setenv": "process.env['{0}'] = 'by the cell'\n",
    "child_env": "console.log(require('child_process').execSync('echo \"${{{0}-(absent)}}\"').toString().trim())\n",
    "cwd": "console.log(process.cwd())\n",
    "chdir": "process.chdir('{0}')\n",
    "exit": "kept = 5\nprocess.exit({})\n",
    "started": "console.log('started');\n",
    "waits": {
        "loop": "while (true);\n",
        "sleep": "await new Promise(done => setTimeout(done, 1e6))\n",
        "subprocess": "require('child_process').execSync('sleep 1000')\n",
        "native": "/^(a+)+$/.test('a'.repeat(60) + 'b')\n",
        "loop after an await": "await null; while (true);\n",
    },
    "interrupted": "Interrupted",
    "picture": (f"Buffer.from('{PICTURE}', 'base64')\n", "result.png", (40, 30)),
    "table": (
        "[{name: 'Ann', count: 1, share: 0.5, good: true, when: new Date('2026-01-02T03:04:05Z')},\n"
        " {name: 'B\u00e9a \u4e16', count: 2, share: NaN, good: false, when: new Date('2026-01-03T00:00:00Z')},\n"
        " {name: 'c\"\\\\d', count: 3, share: -1.25, good: true, when: null}]\n"),
    "text": "var text = '{0}';\nconsole.log(text);\ntext\n",
    "flood": "for (let i = 0; i < 1000; i++) process.stdout.write((String(i).padStart(9, '0') + '\\n').repeat(1000));\n",
    "kill": "console.log('before'); process.kill(process.pid, 'SIGKILL'); while (true);\n",
    "write": "require('fs').writeFileSync('{0}', '{1}')\n",
    "append": "require('fs').appendFileSync('order', '{0}\\n')\n",
}

TYPESCRIPT = dict(
    JAVASCRIPT,
    cell="a.ts",
    value=("const answer: number = 40 + 2;\nanswer\n", "42\n"),
    string=("enum Word { Two = 'two words' }\nWord.Two as string\n", "two words\n"),
    nothing="interface Point { x: number; y?: number }\nconst p: Point = { x: 1 };\n",
    set="let kept: number = {}\n",
    failing=("interface A { a: number }\nfunction f<T>(x: T): number {\n  return nosuch + (x as any);\n}\nconsole.log('before');\nf<number>(1);\n",
             "ReferenceError", "nosuch", 3),
    raising=("type E = Error;\n\nthrow new RangeError('own words \u00e9') as E\n", "RangeError", "own words \u00e9", 3),
    syntax=("let x: number = 1;\nlet y: number = 2;\nlet z: = 3;\n", "SyntaxError", (3,)),
)

R = {
    "cell": "a.r",
    "kernel": "r",
    "option": "#|",
    "value": ("40 + 2\n", "[1] 42\n"),
    "string": ("paste('two', 'words')\n", "two words\n"),
    "nothing": "x <- 1\n",
    "print": "cat('{}\\n')\n",
    "streams": "cat('one\\n'); display(1); message('two'); display(2); cat('three\\n')\n",
    "set": "kept <- {}\n",
    "show": "cat(kept, '\\n', sep = '')\n",
    "gone": ("cat(exists('kept'), '\\n', sep = '')\n", "FALSE\n"),
    "failing": ("f <- function(x) {\n  nosuch + x\n}\ncat('before\\n')\nf(1)\ncat('after\\n')\n", None, "nosuch", 2),
    "raising": ("\n\nstop('own words \u00e9')\n", None, "own words \u00e9", 3),
    "syntax": ("x <- 1\ny <- 2\nz <- = 3\n", "SyntaxError", (3,)),
    "env": "cat(Sys.getenv('{0}', '(absent)'), '\\n', sep = '')\n",
    "setenv": "invisible(Sys.setenv({0} = 'by the cell'))\n",
    "child_env": "invisible(system('echo \"${{{0}-(absent)}}\"'))\n",
    "cwd": "cat(getwd(), '\\n', sep = '')\n",
    "chdir": "invisible(setwd('{0}'))\n",
    "exit": "kept <- 5\nq(status = {})\n",
    "started": "cat('started\\n')\n",
    "waits": {
        "loop": "repeat {}\n",
        "sleep": "Sys.sleep(1000)\n",
        "subprocess": "system('sleep 1000')\n",
        "native": "x <- besselK(runif(3e7), 3)\n",
    },
    "interrupted": "interrupt",
    "picture": ("options(repr.plot.width = 4, repr.plot.height = 3, repr.plot.res = 100)\nplot(c(1, 3, 2))\n", "display-1.png", (400, 300)),
    "table": (
        "data.frame(name = c('Ann', 'B\u00e9a \u4e16', 'c\"\\\\d'), count = 1:3, share = c(0.5, NaN, -1.25), good = c(TRUE, FALSE, TRUE),\n"
        "    when = as.POSIXct(c('2026-01-02 03:04:05', '2026-01-03 00:00:00', NA), tz = 'UTC'))\n"),
    "text": "text <- '{0}'\ncat(text, '\\n', sep = '')\ntext\n",
    "flood": "for (i in 0:999) cat(strrep(sprintf('%09d\\n', i), 1000))\n",
    "kill": "cat('before\\n'); tools::pskill(Sys.getpid(), 9); Sys.sleep(1000)\n",
    "write": "cat('{1}', file = '{0}')\n",
    "append": "cat('{0}\\n', file = 'order', append = TRUE)\n",
}

JAVA = {
    "cell": "a.java",
    "kernel": "java",
    "option": "//|",
    "value": ("40 + 2\n", "42\n"),
    "string": ("\"two \" + \"words\"\n", "two words\n"),
    "nothing": "int x = 1;\n",
    "print": 'System.out.println("{}")\n',
    "streams": 'System.out.println("one"); display(1); System.err.println("two"); display(2); System.out.println("three");\n',
    "set": "int kept = {};\n",
    "show": "System.out.println(kept)\n",
    "gone": ('int kept2 = 0;\nSystem.out.println("gone")\n', "gone\n"),
    "failing": (
        'int f(int x) {\n  return (new int[1])[x];\n}\nSystem.out.println("before");\nf(1);\nSystem.out.println("after");\n',
        "ArrayIndexOutOfBoundsException", "Index 1", 2),
    "raising": ('\n\nthrow new IllegalStateException("own words \u00e9");\n', "IllegalStateException", "own words \u00e9", 3),
    "syntax": ("int x = 1;\nint y = 2;\nint z = = 3;\n", "SyntaxError", (3,)),
    "env": 'System.out.println(System.getenv().getOrDefault("{0}", "(absent)"))\n',
    "child_env": (
        'System.out.print(new String(new ProcessBuilder("sh", "-c", "echo \\"${{{0}-(absent)}}\\"").start().getInputStream().readAllBytes()))\n'),
    "cwd": 'System.out.println(java.nio.file.Path.of("").toAbsolutePath())\n',
    "chdir": 'chdir("{0}");\n',
    "exit": "int kept = 5;\nSystem.exit({});\n",
    "started": '{ System.out.println("started");\n',  # one snippet with what waits, or that were compiled only then
    "waits": {
        "loop": "while (true); }\n",
        "sleep": "Thread.sleep(1000000); }\n",
        "subprocess": 'new ProcessBuilder("sleep", "1000").start().waitFor(); }\n',
        "native": "java.util.concurrent.locks.LockSupport.park(); while (!Thread.interrupted()); }\n",
    },
    "interrupted": "InterruptedException",
    "picture": (
        "var image = new java.awt.image.BufferedImage(40, 30, java.awt.image.BufferedImage.TYPE_INT_RGB);\nimage\n", "result.png", (40, 30)),
    "table": (
        "import java.time.Instant;\nrecord Row(String name, int count, double share, boolean good, Instant when) {}\n"
        'List.of(new Row("Ann", 1, 0.5, true, Instant.parse("2026-01-02T03:04:05Z")),\n'
        '    new Row("B\u00e9a \u4e16", 2, Double.NaN, false, Instant.parse("2026-01-03T00:00:00Z")),\n'
        '    new Row("c\\"\\\\d", 3, -1.25, true, null))\n'),
    "text": 'String text = "{0}";\nSystem.out.println(text);\ntext\n',
    "flood": 'for (int i = 0; i < 1000; i++) System.out.print(String.format("%09d\\n", i).repeat(1000));\n',
    "kill": (
        'System.out.println("before");\nnew ProcessBuilder("kill", "-9", "" + ProcessHandle.current().pid()).start();\nThread.sleep(1000000);\n'),
    "write": 'java.nio.file.Files.writeString(java.nio.file.Path.of("{0}"), "{1}");\n',
    "append": 'java.nio.file.Files.writeString(java.nio.file.Path.of("order"), "{0}\\n", java.nio.file.StandardOpenOption.CREATE, java.nio.file.StandardOpenOption.APPEND);\n',
}

LANGUAGES = {
    "python": PYTHON,
    "javascript": JAVASCRIPT,
    "typescript": TYPESCRIPT,
    "r": R,
    "java": JAVA,
    "bash": BASH,
}
