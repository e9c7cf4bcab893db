"""Running a cell's code; what the tiers with and without IPython have in common."""

import __future__

import ast
import io
import linecache
import re
import sys
import tokenize
import types

FUTURES = 0
for _name in __future__.all_feature_names:
    FUTURES |= getattr(__future__, _name).compiler_flag
KEPT_RESULTS = 16
UNDERSCORES = "_", "__", "___"
CO_COROUTINE = 0x80
BLANK_LINES = re.compile(r"(?:[ \t\f]*\n)+")


class Interpreter:
    """Compiles and runs cells in the module `__main__`, and remembers their values."""

    engine = ""

    def __init__(self, driver):
        self.driver = driver
        self.module = types.ModuleType("__main__")
        sys.modules["__main__"] = self.module
        self.namespace = vars(self.module)
        self.namespace["__builtins__"] = sys.modules["builtins"]
        self.number = 0
        self.results = self.namespace["Out"] = {}
        self._past = [""] * 3
        self._futures = 0

    def transform(self, source):
        """The Python for `source`, which begins with the first line that is not blank."""
        return source

    def rewrite(self, tree):
        """The syntax tree to run for the cell's own."""
        return tree

    def formats(self, value):
        """The MIME bundle and metadata of `value`."""
        raise NotImplementedError

    def run(self, raw, name, number):
        """Run a cell: its bytes, the name in tracebacks, its execution count."""
        self.number = number
        source = decode(raw, name)
        linecache.cache[name] = len(source), None, source.splitlines(True), name
        blank = BLANK_LINES.match(source)
        start = blank.end() if blank else 0
        code = "\n" * source.count("\n", 0, start) + self.transform(source[start:])
        body = compile(code, name, "exec", self._futures | ast.PyCF_ONLY_AST, True)
        self._run_tree(self.rewrite(body), code, name)

    def _run_tree(self, tree, code, name):
        body, parts = tree.body, []
        if body and isinstance(body[-1], ast.Expr) and not silenced(code):
            parts.append((ast.Interactive([body.pop()]), "single"))
        if body:
            parts.insert(0, (tree, "exec"))
        flags = self._futures | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        codes = []
        for part, mode in parts:
            codes.append(compile(part, name, mode, flags, True))
            flags |= codes[-1].co_flags & FUTURES
        self._futures = flags & FUTURES
        if any(code.co_flags & CO_COROUTINE for code in codes):
            self.driver.complete(self._run_async(codes))
        else:
            for code in codes:
                exec(code, self.namespace)

    async def _run_async(self, codes):
        for code in codes:
            made = eval(code, self.namespace)
            if code.co_flags & CO_COROUTINE:
                await made

    def warm(self):
        """Run a cell that leaves nothing behind."""
        self.run(b"if 1:\n    [0][0];", "", 0)
        linecache.cache.pop("")

    def show(self, value):
        """The displayhook."""
        if value is None:
            return
        self.driver.result(value)
        self._remember(value)

    def _remember(self, value):
        space, past = self.namespace, self._past
        if value is self.results:
            return
        if all(space.get(name, then) is then for name, then in zip(UNDERSCORES, past)):
            # else they are the user's own
            past[:] = value, past[0], past[1]
            space.update(zip(UNDERSCORES, past))
        self.results[self.number] = space[f"_{self.number}"] = value
        while len(self.results) > KEPT_RESULTS:
            old = next(iter(self.results))
            del self.results[old]
            space.pop(f"_{old}", None)


def decode(raw, name):
    """A cell's text from its bytes, by Python's own rules for a source file."""
    head = raw[:512]
    try:
        if head.startswith(b"\xef\xbb\xbf") or b"coding" in head:
            encoding = tokenize.detect_encoding(io.BytesIO(raw).readline)[0]
        else:
            encoding = "utf-8"
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"(unicode error) {error}"
        raise SyntaxError(message, (name, line, None, None)) from None
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        message = "source code string cannot contain null bytes"
        raise SyntaxError(message, (name, line, None, None))
    return text


def silenced(code):
    """Whether the last token, comments apart, is a semicolon: then the value is not shown."""
    if ";" not in code[code.rstrip().rfind("\n") + 1:]:
        return False
    last = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE,
                                  tokenize.ENDMARKER, tokenize.DEDENT):
                last = token.string
    except (tokenize.TokenError, SyntaxError):
        pass
    return last == ";"
