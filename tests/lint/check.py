#!/usr/bin/python3
"""Rules of this repository that no compiler knows. Prints FILE:LINE: TEXT, exits 1 if there is any.

- Layers: a file of fsd/ includes only headers of its own layer or a lower one. The table is the one
  in HACKING.md; a file that is not in it is an error.
- One external library, one file: OWNERS.
- Functions that are not used here, and what to use instead: BANNED.
- No trailing blanks, no carriage returns, a newline at the end of every text file.
"""

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# header: the modules (NAME.c and NAME.h) that may include it
OWNERS = {
    r"fuse_lowlevel\.h|fuse\.h|fuse_common\.h": {"fs", "shape", "mirror", "pass"},
    r"fuse_opt\.h": {"main", "fs"},
    r"jansson\.h": {"json"},
    r"magic\.h": {"mime"},
    r"seccomp\.h": {"box/filter", "box/load"},
}

BANNED = {
    "strcpy": "memcpy with a known length, or a struct buf",
    "stpcpy": "memcpy with a known length, or a struct buf",
    "strcat": "struct buf",
    "strncat": "struct buf",
    "sprintf": "snprintf or buf_printf",
    "vsprintf": "vsnprintf or buf_vprintf",
    "gets": "read",
    "system": "spawn",
    "popen": "spawn",
    "signal": "sigaction or signalfd",
    "tmpnam": "O_TMPFILE or mkstemp",
    "tempnam": "O_TMPFILE or mkstemp",
    "mktemp": "mkstemp",
    "strtok": "strchr or strsep",
    "asctime": "buf_time",
    "ctime": "buf_time",
    "gmtime": "gmtime_r",
    "localtime": "localtime_r",
    "alloca": "an array with a limit, or malloc",
}

# Nothing blocks in the loop; nothing sleeps. The supervisor is a program of its own.
BANNED_IN_DAEMON = {
    "sleep": "a timer of the loop",
    "usleep": "a timer of the loop",
    "nanosleep": "a timer of the loop",
}

TEXT = re.compile(r"\.(c|h|py|sh|md|1|5|json|txt|csv|service|yml)$|(^|/)(Makefile|LICENSE|\.[a-z-]+)$|^\.ci/")

errors = 0


def error(where, line, text):
    global errors
    errors += 1
    print(f"{where}:{line}: {text}")


def layers():
    """{module: (rank, layer)} from the table of HACKING.md; rank 0 is the top."""
    path = os.path.join(ROOT, "HACKING.md")
    table = {}
    rank = 0
    inside = False
    for line in open(path, encoding="utf-8"):
        cells = [c.strip() for c in line.strip().strip("|").split("|")]
        if cells[:2] == ["layer", "files"]:
            inside = True
        elif inside and not line.startswith("|"):
            break
        elif inside and not cells[0].startswith("-"):
            for module in re.split(r"[,\s]+", cells[1]):
                table[module] = (rank, cells[0])
            rank += 1
    if not table:
        sys.exit("lint: HACKING.md has no table that begins with | layer | files |")
    return table


def code_only(text):
    """The text of a C file without its comments and the insides of its strings, line for line."""
    token = re.compile(
        r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL
    )

    def blank(m):
        s = m.group()
        if s[0] in "\"'":
            return s[0] + s[0]
        return " " + "\n" * s.count("\n")

    return token.sub(blank, text)


def check_c(path, table):
    module = os.path.splitext(path)[0].removeprefix("fsd/")
    folder = os.path.dirname(module)
    text = open(os.path.join(ROOT, path), encoding="utf-8").read()
    if (folder + "/" if folder else module) not in table:
        error(path, 1, f"not in the table of layers in HACKING.md: {module}")
    else:
        rank, layer = table[folder + "/" if folder else module]
        for n, line in enumerate(text.split("\n"), 1):
            m = re.match(r'\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', line)
            if m and m.group(1):
                other = os.path.splitext(m.group(1))[0]
                if layer == "beside":
                    if not os.path.exists(os.path.join(ROOT, "fsd", folder, m.group(1))):
                        error(path, n, f"{module} stands beside the layers: it includes nothing of the daemon")
                elif other == "box/fds":
                    pass
                elif other not in table:
                    error(path, n, f"includes {m.group(1)}, which is in no layer")
                elif table[other][0] < rank or table[other][1] == "beside":
                    error(path, n, f"layer {layer} must not include {m.group(1)} ({table[other][1]})")
            elif m:
                for header, owners in OWNERS.items():
                    if re.fullmatch(f"(?:.*/)?(?:{header})", m.group(2)) and module not in owners:
                        error(path, n, f"<{m.group(2)}> belongs to {', '.join(sorted(owners))}")
    banned = dict(BANNED)
    if not folder:
        banned.update(BANNED_IN_DAEMON)
    # signal(SIGX, SIG_IGN) and SIG_DFL install no handler and are fine.
    call = re.compile(r"(?<![\w.>])(%s)\s*\((?!\w+, SIG_(?:IGN|DFL)\))" % "|".join(banned))
    for n, line in enumerate(code_only(text).split("\n"), 1):
        for m in call.finditer(line):
            error(path, n, f"{m.group(1)}() is not used here: {banned[m.group(1)]}")


def check_text(path):
    data = open(os.path.join(ROOT, path), "rb").read()
    if b"\0" in data:
        return
    if data and not data.endswith(b"\n"):
        error(path, data.count(b"\n") + 1, "no newline at the end")
    for n, line in enumerate(data.split(b"\n"), 1):
        if line.endswith(b"\r"):
            error(path, n, "carriage return")
        elif line.endswith((b" ", b"\t")):
            error(path, n, "trailing blank")


def files():
    out = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, stdout=subprocess.PIPE,
    )
    if out.returncode == 0:
        names = [os.fsdecode(f) for f in out.stdout.split(b"\0") if f]
    else:  # an unpacked archive, or no git
        names = [
            os.path.relpath(os.path.join(d, f), ROOT)
            for d, _, fs in os.walk(ROOT) for f in fs
        ]
        names = [f for f in names if not f.startswith(("build/", ".git/"))]
    return sorted(f for f in names if os.path.isfile(os.path.join(ROOT, f)))


def main():
    table = layers()
    for path in files():
        if re.search(r"^fsd/(box/)?[^/]*\.[ch]$", path):
            check_c(path, table)
        if TEXT.search(path):
            check_text(path)
    if errors:
        sys.exit(1)
    print("lint: layers, banned functions and text files are in order")


main()
