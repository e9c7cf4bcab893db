"""Fixtures of the tests through a real mount: `m`, one mount for a file's tests; `ctx`, a new context in it; `fresh`,
a mount for one test alone. A test that takes more than a minute fails, and the daemon it hangs on is ended."""

import contextlib
import errno
import os
import re
import shutil
import signal
import sys
import threading

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import mount  # noqa: E402

LIMIT = int(os.environ.get("TEST_LIMIT", "60"))  # seconds for one test; as much again for its set-up and its end


class TookTooLong(AssertionError):
    pass


def _alarm(*_):
    raise TookTooLong(f"took more than {LIMIT} s")


def _free_the_stuck():
    """The alarm could not end the test: it hangs in the mount. Without its daemon it gets an error."""
    for m in mount.live_mounts():
        with contextlib.suppress(OSError):
            os.kill(m.pid, signal.SIGKILL)
        mount.abort(m.path)


def _limited():
    signal.signal(signal.SIGALRM, _alarm)
    signal.alarm(LIMIT)
    last = threading.Timer(LIMIT + 5, _free_the_stuck)
    last.daemon = True
    last.start()
    yield
    signal.alarm(0)
    last.cancel()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    item.stash[_log_at] = {}
    for m in mount.live_mounts():
        item.stash[_log_at][m.log_file] = len(m.log_text())
    yield from _limited()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    yield from _limited()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    yield from _limited()


_log_at = pytest.StashKey()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if not report.failed:
        return
    for m in mount.live_mounts():
        new = m.log_text()[item.stash.get(_log_at, {}).get(m.log_file, 0) :]
        lines = "\n".join(new.splitlines()[-60:])
        state = "is up" if m.alive else f"ENDED with {m.proc.returncode}"
        report.sections.append((f"the daemon of {m.path} {state}; its log", lines))


def pytest_sessionfinish(session):
    for m in mount.live_mounts():
        m.kill()
    if mount.WORK.exists() and not any(os.path.ismount(d / "mnt") for d in mount.WORK.iterdir()):
        shutil.rmtree(mount.WORK, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_process_left():
    yield
    mount.end_children()


@pytest.fixture(scope="module")
def m(request):
    """One mount for the tests of a file. OPTIONS in the file gives its mount options."""
    made = mount.Mount(getattr(request.module, "OPTIONS", ""))
    yield made
    made.close()


_names = iter(range(1, 1 << 30))


@pytest.fixture
def ctx(m, request):
    """The directory of a new context. It is removed behind the test."""
    if not m.alive:  # an earlier test broke it, and has failed for that
        m.remount()
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", request.node.name)[:40].strip("-") + f"-{next(_names)}"
    made = m.context(name)
    yield made
    mount.end_children()
    try:
        mount.write(made / "ctl", "remove\n")
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.ESTALE) or not m.alive:
            raise


@pytest.fixture
def fresh(request):
    """A mount and a STATE_DIR for this test alone. Mount options by @pytest.mark.options("wait=1")."""
    mark = request.node.get_closest_marker("options")
    made = mount.Mount(mark.args[0] if mark else "")
    yield made
    mount.end_children()
    made.close()


def pytest_configure(config):
    config.addinivalue_line("markers", "options(text): the mount options of `fresh`")
