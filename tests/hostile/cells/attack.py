"""For the cells: refuses to run outside of a box, and says in one line each what was refused and what leaked."""

import ctypes
import errno
import json
import os
import platform
import sys

if platform.node() != "sandbox" or not os.getcwd().startswith("/workspace"):
    print("not in a box")
    raise SystemExit("not in a box")

canary = json.load(open("/workspace/canary.json"))
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"


def ok(text):
    print("ok:", text, flush=True)


def leak(text):
    print("LEAK:", text, flush=True)


def check(fine, text):
    ok(text) if fine else leak(text)


def refused(what, call, *args, errors=None):
    """CALL must fail; ERRORS: with one of these."""
    try:
        got = call(*args)
    except OSError as e:
        name = errno.errorcode.get(e.errno, str(e))
        check(not errors or e.errno in errors, f"{what}: {name}")
    except MemoryError:
        ok(f"{what}: MemoryError")
    else:
        leak(f"{what} -> {str(got)[:200]}")


def call(fn, *args):
    """A function of the C library that says -1."""
    rc = fn(*args)
    if rc == -1:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))
    return rc


def syscall(number, *args):
    return call(libc.syscall, ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])


def read(path, n=65536):
    with open(path, "rb", buffering=0) as f:
        return f.read(n)


def write(path, data):
    fd = os.open(path, os.O_WRONLY)
    try:
        return os.write(fd, data)
    finally:
        os.close(fd)


def pids():
    return [int(p) for p in os.listdir("/proc") if p.isdigit()]


def parent(pid):
    return int(read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1])


def forbidden(path):
    """Neither its bytes nor its names can be had."""
    if os.path.isdir(path):
        refused(f"list {path}", os.listdir, path)
    else:
        refused(f"read {path}", read, path)


sys.stdout.flush()
