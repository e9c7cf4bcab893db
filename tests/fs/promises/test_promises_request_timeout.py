"""Where fs.fuse.default_request_timeout is set, every wait ends before it, or the kernel would end the mount."""

import contextlib
import errno
import os
import pathlib

import pytest
from mount import Mount, done, fails, hold, let_go, read, status, within

SYSCTL = pathlib.Path("/proc/sys/fs/fuse/default_request_timeout")
LIMIT = 4


@pytest.fixture(scope="module")
def impatient():
    """A mount that was made while the limit was set, or None where that cannot be."""
    made = Mount(start=False)
    try:
        old = SYSCTL.read_text()
        SYSCTL.write_text(f"{LIMIT}\n")
    except OSError:  # an older kernel, or one that is not ours
        yield None
        return
    try:
        made.start()
    finally:
        with contextlib.suppress(OSError):
            SYSCTL.write_text(old)
    yield made
    made.close()


def test_the_status_of_the_mount_says_so(impatient):
    if impatient:
        assert "default_request_timeout" in read(impatient.path / "status")


@pytest.mark.parametrize("name", ["stdout", "done", "result.html"])
def test_a_wait_ends_before_it(impatient, name):
    if not impatient:
        return
    results = hold(impatient.main)
    try:
        for op in read, os.stat:
            with within(LIMIT), fails(errno.ETIMEDOUT):
                op(results / name)
        assert status(results) == "running"
    finally:
        let_go(impatient.main)
    assert done(results) == "ok"


def test_a_stream_waits_longer_and_the_mount_lives(impatient):
    """Longer than the 15 s after which the kernel looks again, and the limit."""
    if not impatient:
        return
    results = hold(impatient.main, code="echo begun; sleep 20; echo ended\n")
    with contextlib.suppress(TimeoutError), open(results / "stdout.follow") as f:
        assert f.read() == "begun\nended\n"
    with contextlib.suppress(TimeoutError):
        done(results)
    while True:
        with contextlib.suppress(TimeoutError):
            assert done(results) == "ok"
            break
    assert read(results / "stdout") == "begun\nended\n"
