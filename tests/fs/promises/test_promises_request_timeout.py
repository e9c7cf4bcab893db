"""Where fs.fuse.default_request_timeout is set, every wait ends before it, or the kernel would end the mount."""

import contextlib
import errno
import os
import pathlib
import threading
import time

import pytest
from mount import Mount, done, read, run, status

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


def test_every_wait_ends_before_it_and_the_mount_lives(impatient):
    """A run of 20 s: the kernel looks for requests that are too old every 15 s."""
    if not impatient:
        return
    results = run(impatient.main, "x.sh", "echo begun; sleep 20; echo ended\n")
    followed, refused = [], {}

    def follow():
        with contextlib.suppress(TimeoutError), open(results / "stdout.follow") as f:
            followed.append(f.read())

    def wait(op, name):
        start = time.monotonic()
        try:
            op(results / name)
        except OSError as e:
            refused[op.__name__, name] = e.errno, time.monotonic() - start

    threads = [threading.Thread(target=follow)]
    threads += [threading.Thread(target=wait, args=(op, n)) for op in (read, os.stat) for n in ("stdout", "done", "result.html")]
    for t in threads:
        t.start()
    for t in threads[1:]:
        t.join(20)
    assert len(refused) == 6 and all(e == errno.ETIMEDOUT and t < LIMIT for e, t in refused.values()), refused
    assert status(results) == "running"
    while True:
        with contextlib.suppress(TimeoutError):
            assert done(results) == "ok"
            break
    threads[0].join(20)
    assert followed in ([], ["begun\nended\n"])
    assert read(results / "stdout") == "begun\nended\n"
