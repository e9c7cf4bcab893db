"""What Jupyter's protocol leaves to the languages: environment and cwd, option lines.

A language is written here as code that says what is there (`read`), code that sets it (`change`), and code that has a
child run a shell's command (`child`). Who is not here keeps the environment that its kernel was started with.
"""

import json
import re

COMMENTS = {
    "#|": "python r julia bash sh ruby perl octave awk sed powershell coffeescript elixir nim stan",
    "//|": "javascript typescript java kotlin scala groovy c c++ cpp csharp c# fsharp f# go rust swift php dart cuda "
           "zig processing sass",
    "--|": "sql mysql postgresql sqlite lua haskell ada",
    "%|": "matlab prolog tex latex erlang",
    ";|": "clojure scheme racket lisp common-lisp hy",
    "!|": "fortran",
}
ANSWER = re.compile(r"cellfs:(\w*)=(-|[0-9a-f]*);")


def comment(language):
    """What an option line begins with: the language's comment and a bar."""
    for sign, names in COMMENTS.items():
        if language.lower() in names.split():
            return sign
    return "#|"


def answer(text):
    """What the code of `read` has printed: ({name: value or None}, cwd)."""
    values = {
        name: None if value == "-" else bytes.fromhex(value).decode("utf-8", "surrogateescape")
        for name, value in ANSWER.findall(text)
    }
    return values, values.pop("", None)


def _escaped(text, quote, control):
    """TEXT between two QUOTEs, with backslashes; CONTROL writes a control character."""
    body = "".join(
        "\\" + char if char in ("\\", quote) else control(ord(char)) if char < " " or char == "\x7f" else char
        for char in text
    )
    return quote + body + quote


def _octal(code):
    return f"\\{code:03o}"


class Language:
    """What holds for most."""

    begin = ""            # run once, before all cells
    shows_values = False  # by display_data, as if they were displayed
    through_pty = False   # so that lines end with \r\n

    @staticmethod
    def prepare(code):
        return code

    @staticmethod
    def error_in(text):
        """The error that a cell ended with which has printed TEXT, of a kernel that calls such a cell ok."""
        return None


class Python(Language):
    READ = (
        "import os, sys\n"
        "def say(name, value):\n"
        "    print('cellfs:%s=%s;' % (name, '-' if value is None else os.fsencode(value).hex()))\n"
        "for name in names:\n"
        "    say(name, os.environ.get(name))\n"
        "say('', os.getcwd())\n"
        "sys.stdout.flush()\n"
    )
    CHANGE = (
        "import os\n"
        "if cwd is not None:\n"
        "    os.chdir(cwd)\n"
        "for name, value in env.items():\n"
        "    if value is None:\n"
        "        os.environ.pop(name, None)\n"
        "    else:\n"
        "        os.environ[name] = value\n"
    )

    # xeus ends at a SIGINT: Python's own handler makes it an exception.
    begin = (
        "exec('import signal\\nif signal.getsignal(signal.SIGINT) is None:\\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)')\n"
    )

    @staticmethod
    def prepare(code):
        """IPython counts lines from the first that is not blank; no comment may stand above a cell magic."""
        rest = code.lstrip(" \t\r\n")
        blank = code[:len(code) - len(rest)]
        if rest.startswith("%%") or not blank.endswith("\n"):
            return code
        return "#\n" * blank.count("\n") + rest

    @staticmethod
    def child(command):
        return f"_ = __import__('os').system({command!r})"

    @classmethod
    def read(cls, names):
        return f"exec({cls.READ!r}, {{'names': {list(names)!r}}})"

    @classmethod
    def change(cls, env, cwd=None):
        return f"exec({cls.CHANGE!r}, {{'env': {env!r}, 'cwd': {cwd!r}}})"


class R(Language):
    # evaluate 1.0, which runs IRkernel's cells, takes the line numbers away (r-lib/evaluate#253).
    begin = (
        "invisible(try(local({ of <- parent.env(asNamespace('evaluate')); "
        "if (exists('removeSource', of, inherits = FALSE)) { unlockBinding('removeSource', of); "
        "assign('removeSource', identity, of); lockBinding('removeSource', of) } }), silent = TRUE))\n"
    )
    shows_values = True

    @classmethod
    def child(cls, command):
        return f"invisible(system({cls.text(command)}))"

    @staticmethod
    def text(value):
        return _escaped(value, '"', _octal)

    @classmethod
    def read(cls, names):
        names = ", ".join(map(cls.text, names))
        return (
            "local({ say <- function(name, value) cat(sprintf('cellfs:%s=%s;\\n', name, if (is.na(value)) '-' else "
            "paste(as.character(charToRaw(value)), collapse = '')))\n"
            f"for (name in c({names})) say(name, Sys.getenv(name, unset = NA)); say('', getwd()) }})"
        )

    @classmethod
    def change(cls, env, cwd=None):
        steps = [] if cwd is None else [f"setwd({cls.text(cwd)})"]
        for name, value in env.items():
            if value is None:
                steps.append(f"Sys.unsetenv({cls.text(name)})")
            else:
                steps.append(f"Sys.setenv({cls.text(name)} = {cls.text(value)})")
        return f"invisible({{ {'; '.join(steps)} }})"


class Octave(Language):
    through_pty = True

    @staticmethod
    def error_in(text):
        found = re.search(r"^(?:(parse) )?error:(?: (.*)|\n(?:\s*\n)*\s*(.*))", text, re.MULTILINE)
        if not found:
            return None
        message = (found[2] or found[3] or "").strip()
        return {
            "ename": "SyntaxError" if found[1] or message == "parse error:" else "error", "evalue": message,
            "traceback": [text[found.start():]],
            "lines": False,  # what it says of lines counts from the statement
        }

    @classmethod
    def child(cls, command):
        return f"system({cls.text(command)});"

    @staticmethod
    def text(value):
        return _escaped(value, '"', _octal)

    @classmethod
    def read(cls, names):
        # Of a variable that is empty and one that is not there only a child can tell.
        parts = [
            f'if (isempty(getenv("{name}")) && system("printenv {name} > /dev/null") != 0) '
            f'printf("cellfs:{name}=-;\\n"); '
            f'else printf("cellfs:{name}=%s;\\n", sprintf("%02x", double(getenv("{name}")))); end'
            for name in names
        ]
        parts.append('printf("cellfs:=%s;\\n", sprintf("%02x", double(pwd())));')
        return "; ".join(parts)

    @classmethod
    def change(cls, env, cwd=None):
        steps = [] if cwd is None else [f"cd({cls.text(cwd)})"]
        for name, value in env.items():
            steps.append(f'unsetenv("{name}")' if value is None else f'setenv("{name}", {cls.text(value)})')
        return "; ".join(steps) + ";"


class Julia(Language):
    @classmethod
    def child(cls, command):
        return f"run(`sh -c {cls.text(command)}`); nothing"

    @staticmethod
    def text(value):
        return _escaped(value, '"', lambda code: f"\\x{code:02x}").replace("$", "\\$")

    @classmethod
    def read(cls, names):
        said = "".join(
            f'say("{name}", get(ENV, "{name}", nothing)); ' for name in names
        )
        return (
            'let say = (name, value) -> println("cellfs:", name, "=", value === nothing ? "-" : '
            'bytes2hex(Vector{UInt8}(value)), ";"); '
            f'{said}say("", pwd()); flush(stdout); nothing end'
        )

    @classmethod
    def change(cls, env, cwd=None):
        steps = [] if cwd is None else [f"cd({cls.text(cwd)})"]
        for name, value in env.items():
            steps.append(f'delete!(ENV, "{name}")' if value is None else f'ENV["{name}"] = {cls.text(value)}')
        return f"begin {'; '.join(steps)}; nothing end"


class JavaScript(Language):
    """Node's, and Deno's."""

    HOST = (
        "const host = typeof process === 'object' ? {get: n => process.env[n], set: (n, v) => { process.env[n] = v; }, "
        "remove: n => { delete process.env[n]; }, cwd: () => process.cwd(), chdir: p => process.chdir(p)} : "
        "{get: n => Deno.env.get(n), set: (n, v) => Deno.env.set(n, v), remove: n => Deno.env.delete(n), "
        "cwd: () => Deno.cwd(), chdir: p => Deno.chdir(p)};"
    )

    @staticmethod
    def child(command):
        return ("if (typeof require === 'function') require('child_process').execSync("
                f"{json.dumps(command)}, {{stdio: 'inherit'}});")

    @classmethod
    def read(cls, names):
        return (
            f"void (() => {{ {cls.HOST} const hex = v => Array.from(new TextEncoder().encode(v), "
            "b => b.toString(16).padStart(2, '0')).join(''); "
            f"for (const n of {json.dumps(list(names))}) "
            "console.log(`cellfs:${n}=${host.get(n) === undefined ? '-' : hex(host.get(n))};`); "
            "console.log(`cellfs:=${hex(host.cwd())};`); })()"
        )

    @classmethod
    def change(cls, env, cwd=None):
        return (
            f"void (() => {{ {cls.HOST} const cwd = {json.dumps(cwd)}; if (cwd !== null) host.chdir(cwd); "
            f"for (const [n, v] of Object.entries({json.dumps(env)})) "
            "{ if (v === null) host.remove(n); else host.set(n, v); } })()"
        )


class Bash(Language):
    @staticmethod
    def child(command):
        return f"sh -c {Bash.text(command)}"

    @staticmethod
    def text(value):
        return "'" + value.replace("'", "'\\''") + "'"

    @classmethod
    def read(cls, names):
        hexed = "$(printf %s \"{}\" | od -An -v -tx1 | tr -d ' \\n')"
        parts = [
            f"if [ \"${{{name}+x}}\" ]; then printf 'cellfs:%s=%s;\\n' {name} \"{hexed.format('$' + name)}\"; "
            f"else printf 'cellfs:%s=-;\\n' {name}; fi"
            for name in names
        ]
        parts.append(f"printf 'cellfs:=%s;\\n' \"{hexed.format('$PWD')}\"")
        return "; ".join(parts)

    @classmethod
    def change(cls, env, cwd=None):
        steps = [] if cwd is None else [f"cd -- {cls.text(cwd)}"]
        for name, value in env.items():
            steps.append(f"unset -v {name}" if value is None else f"export {name}={cls.text(value)}")
        return "; ".join(steps)


KNOWN = {
    "python": Python, "r": R, "octave": Octave, "julia": Julia, "javascript": JavaScript, "typescript": JavaScript,
    "bash": Bash,
}


def known(language):
    """The class of a language, or None."""
    return KNOWN.get(language.lower())
