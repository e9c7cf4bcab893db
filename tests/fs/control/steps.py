"""Steps that the tests of control, contexts, durability and kernels share."""

import contextlib
import json
import os
import select
import time

from mount import PATIENCE, fd_of, read, read_until


def says(results, what):
    """Returns when the run has printed WHAT on stdout: it is under way then."""
    what = what.encode() if isinstance(what, str) else what
    with fd_of(results / "stdout.follow") as fd:
        got = read_until(fd, what)
    assert what in got, f"the run ended without {what!r}: {got!r}"


def peek(path):
    """What a log of a context holds now: reading it while a run goes on would wait for more."""
    with fd_of(path, os.O_RDONLY | os.O_NONBLOCK) as fd:
        return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))


def record(results):
    """execution.json of a run; waits for its end."""
    return json.loads(read(results / "execution.json"))


def reason(results):
    """What follows the colon of the status."""
    return read(results / "status").strip().partition(": ")[2]


def about(ctx):
    return json.loads(read(ctx / "context.json"))


def kernel(ctx, name="python"):
    """What context.json says of one kernel."""
    return about(ctx)["kernels"][name]


def events(path):
    """The events of a run or of a context, those removed left out."""
    found = [json.loads(line) for line in read(path / "events.jsonl").splitlines()]
    return [e for e in found if e["type"] != "removed" or "time" in e]


def until_status(ctx, word, seconds=PATIENCE):
    """Returns when the status of a context, or of a run, begins with WORD."""
    end = time.monotonic() + seconds
    path = ctx / "status"
    with fd_of(path) as fd:
        p = select.poll()
        p.register(fd, select.POLLIN)
        while not (text := os.pread(fd, 4096, 0).decode()).startswith(word):
            assert p.poll(max(0, end - time.monotonic()) * 1000), f"{path} stays {text!r}, is not {word!r}"


@contextlib.contextmanager
def ending(*pids, seconds=PATIENCE):
    """All these processes are there before the body, and end within the time behind it."""
    fds = [os.pidfd_open(pid) for pid in pids]
    try:
        yield
        end = time.monotonic() + seconds
        for pid, fd in zip(pids, fds):
            left = max(0, end - time.monotonic())
            assert select.select([fd], [], [], left)[0], f"process {pid} is still there after {seconds} s"
    finally:
        for fd in fds:
            os.close(fd)
