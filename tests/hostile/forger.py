"""Writes forged and garbled messages to fd 254, the event pipe of the Bash driver: argv is the seed and how many. The
number written stands in the file `sent`. Most are such that a daemon only logs or drops them; one in FATAL breaks the protocol."""

import json
import mmap
import os
import platform
import random
import signal
import sys

if platform.node() != "sandbox":
    sys.exit("not in a box")
seed, count, fatal = map(int, sys.argv[1:4])
rnd = random.Random(seed)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
fd = os.open("/workspace/sent", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4096)
sent = mmap.mmap(fd, 4096)

IDS = [0, -1, 1, 2, 1 << 31, 1 << 53, (1 << 63) - 1, -(1 << 63), 1e308, "1", None, True, [], {}]
TEXTS = ["", "x", "\x00", "\x1b[2J", "é" * 100, "x" * 5000, "../../../etc/passwd", "%s%n%d" * 10, "\ud7ff\uffff", "a\nb"]
KEYS = ["a", "b", "text/plain", "é", "x" * 200, "", " "]
MIMES = ["text/plain", "text/html", "image/png", "../x", "/", "text/" + "x" * 300, "", "a/b/c", "text/plain\n"]


def value(depth=0):
    return rnd.choice([lambda: rnd.choice(IDS), lambda: rnd.choice(TEXTS), lambda: rnd.random(),
                       lambda: [value(depth + 1) for _ in range(rnd.randrange(4))] if depth < 4 else 0,
                       lambda: {rnd.choice(KEYS): value(depth + 1) for _ in range(rnd.randrange(4))} if depth < 4 else 0])()


def harmless():
    """Of another run, of none, or of a kind that nobody knows."""
    ev = rnd.choice(["log", "clear", "error", "stream", "unknown", "hello2", "", "Done", "ending2"])
    m = {"ev": ev, "id": rnd.choice(IDS[:8]), "text": rnd.choice(TEXTS), "name": rnd.choice(TEXTS), "message": rnd.choice(TEXTS),
         "line": rnd.choice(IDS), "traceback": value(), "frames": value(), "wait": value(), "meta": value()}
    if ev == "error":
        m["id"] = rnd.choice([None, 0, -5])
    for key in list(m):
        if key != "ev" and rnd.random() < 0.3:
            del m[key]
    return json.dumps(m, ensure_ascii=rnd.random() < 0.5).encode("utf-8", "replace") + b"\n"


def breaking():
    good = json.dumps({"ev": "done", "id": rnd.choice(IDS), "status": rnd.choice(["ok", "exit", "x"]), "code": rnd.choice(IDS)}).encode()
    kind = rnd.randrange(7)
    if kind == 0:
        return good + b"\n"
    if kind == 1:  # some bytes changed
        b = bytearray(harmless())
        for _ in range(rnd.randrange(1, 9)):
            b[rnd.randrange(len(b) - 1)] = rnd.randrange(256)
        return bytes(b)
    if kind == 2:
        return harmless()[: rnd.randrange(1, 30)] + b"\n"
    if kind == 3:
        return rnd.randbytes(rnd.randrange(1, 4000)) + b"\n"
    if kind == 4:
        return b"[" * rnd.randrange(1, 60000) + b"\n"
    if kind == 5:
        return json.dumps({"ev": rnd.choice(["hello", "ready", "display", "ending"]), "id": rnd.choice(IDS), "proto": value(), "kind": value(),
                           "data": {rnd.choice(MIMES): rnd.choice(TEXTS + [{"file": rnd.choice(TEXTS)}])} if rnd.random() < 0.7 else value()}).encode() + b"\n"
    return b"x" * rnd.choice([65535, 65536, 65537, 200000]) + b"\n"


for i in range(count):
    data = breaking() if rnd.randrange(fatal) == 0 else harmless()
    at = 0
    while at < len(data):
        at += os.write(254, data[at:])
    sent[0:8] = (i + 1).to_bytes(8, "little")
