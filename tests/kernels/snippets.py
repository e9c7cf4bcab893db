"""The same cell in every language: what test_contract.py runs."""

import snippets_java
import snippets_javascript
import snippets_jupyter
import snippets_r

PYTHON = {
    "file": "a.py",
    "value": ("40 + 2", "42"),
    "string": ("'a\"b\\n\u00e9'", "a\"b\n\u00e9", "'a\"b\\n\u00e9'"),
    "none": "x = 1",
    "print": "print({!r})",
    "set": "kept = {}",
    "show": "print(kept)",
    "failing": ("print('before')\n\n1 / 0\nprint('after')\n", "ZeroDivisionError", 3, 0),
    "syntax": ("x = 1\nif x\n", 2),
    "again": "def f(): return 1\nclass C: pass\n",
    "env": "import os; print(os.environ.get({!r}, '(absent)'))",
    "cwd": "import os; print(os.getcwd())",
    "chdir": "import os; os.chdir({!r})",
    "prepare": "",
    "ordered": "for i in range(2000):\n    print('line', i)\n    display(i)\n",
    "ordered_count": 2000,
    "binary": ("class P:\n    def _repr_png_(self): return bytes(range(256)) * 400\n"
               "display(P())\n", "image/png", bytes(range(256)) * 400),
    "large_text": ("display('z' * 300000)\n", "text/plain"),
    "unicode": "print('\u00e9\u4e16\U0001f600')",
    "exit": "import sys\nkept = 5\nsys.exit({})\n",
    "bulk": "import sys\nfor i in range(64): _ = sys.stdout.write('y' * (1 << 20))\n",
    "started": "import sys, time, os, subprocess, asyncio; print('started', flush=True)\n",
    "waits": {
        "loop": "while True: pass",
        "sleep": "time.sleep(100)",
        "subprocess": "subprocess.run(['sleep', '100'])",
        "shell": "os.system('sleep 100')",
        "await": "await asyncio.sleep(100)",
        "native": "import re; re.match('(a*)*b', 'a' * 40)",
        "bulk": "while True: os.write(1, b'z' * 4096)",
    },
    "interrupt_name": "KeyboardInterrupt",
    "needs_a_second": {"shell"},  # system(3) ignores a signal before its child is there
    "deaf": "import signal; _ = signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "late": "import threading, os\nready, go = os.pipe()\n"
            "t = threading.Thread(target=lambda: (os.read(ready, 1), print('late', flush=True)))\n"
            "t.start()\n",
    "late_go": "_ = os.write(go, b'x')\n",
    "background": "import subprocess\np = subprocess.Popen('until [ -e go ]; do sleep 0.01; done; echo background', "
                  "shell=True)\n",
    "nul": b"print('a')\n\0\n",
    "crlf": b"a = 1\r\nb = 2\r\nprint(a + b)\r\n",
    "no_newline": b"print('end')",
    "at_exit": "import atexit; _ = atexit.register(print, 'left', flush=True)",
    "stdin": "import sys; print(repr(sys.stdin.read()))",
    "control": "import os; print([os.readlink(f'/proc/self/fd/{fd}') for fd in (3, 4, 5, 6)"
               " if os.path.exists(f'/proc/self/fd/{fd}')])",
}

BASH = {
    "file": "a.sh",
    "none": "x=1",
    "print": "printf '%s\\n' {!r}",
    "set": "kept={}",
    "show": "echo $kept",
    "failing": ("echo before\n\n(exit 3)\n", "ExitStatus", 3, 3),
    "syntax": ("x=1\nif x; then\nfi\n", 3),
    "again": "f() { echo 1; }; declare -A map=([a]=1)\n",
    "env": "echo \"${{{}-(absent)}}\"",
    "cwd": "pwd",
    "chdir": "cd {!r}",
    "prepare": "echo 1 > small.txt",
    "ordered": "for ((i = 0; i < 300; i++)); do echo line $i; display small.txt; done\n",
    "ordered_count": 300,
    "binary": ("for ((i = 0; i < 400; i++)); do printf '\\x89PNG\\0\\1\\377'; done > b.png\n"
               "display b.png\n", "image/png", b"\x89PNG\0\1\xff" * 400),
    "large_text": ("printf '%0300000d' 0 | display - text/plain\n", "text/plain"),
    "unicode": "echo '\u00e9\u4e16\U0001f600'",
    "exit": "kept=5\nexit {}\n",
    "bulk": "head -c 67108864 /dev/zero\n",
    "started": "echo started\n",
    "waits": {
        "loop": "while :; do :; done",
        "sleep": "sleep 100",
        "subprocess": "(sleep 100; true)",
        "pipeline": "sleep 100 | cat",
        "function": "f() { while true; do sleep 0.01; done; }; f",
        "wait": "sleep 100 & wait",
        "native": "while read -r x; do :; done < <(exec yes)",
    },
    "interrupt_name": "interrupted",
    # A signal just before Bash forks waits for that child's end.
    "needs_a_second": {"sleep", "subprocess", "pipeline", "function", "wait"},
    "deaf": "trap '' INT",
    "late": "mkfifo gate; { read -r x < gate; echo late; } &\n",
    "late_go": "echo > gate\n",
    "background": "{ until [ -e go ]; do sleep 0.01; done; echo background; } &\n",
    "nul": b"echo a\n\0\n",
    "crlf": None,
    "no_newline": b"echo end",
    "at_exit": "trap 'echo left' EXIT",
    "stdin": "read -r x; echo \"'$x'\"",
    "control": "for fd in 3 4 5 6; do [[ ! -e /dev/fd/$fd ]] || readlink /dev/fd/$fd; done",
}

SNIPPETS = {"python": PYTHON, "python-bare": PYTHON, "bash": BASH, **snippets_java.SNIPPETS, **snippets_javascript.SNIPPETS, **snippets_r.SNIPPETS, **snippets_jupyter.snippets(PYTHON)}
