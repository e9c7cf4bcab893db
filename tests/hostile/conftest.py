"""Fixtures of the hostile suite: `canaries`, and `host`, a daemon of root and one of an ordinary user in turn."""

import importlib.util
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import host as harness  # noqa: E402
import mount  # noqa: E402

if any(os.environ.get(knob) for knob in ("CELLFS_FORGE", "CELLFS_RACE", "CELLFS_KILLS", "CELLFS_MANY")):
    os.environ.setdefault("TEST_LIMIT", "7200")
_spec = importlib.util.spec_from_file_location("fs_conftest", HERE.parent / "fs" / "conftest.py")
fs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fs)

# A minute for a test, the daemon's log with a failure, nothing left mounted: as in tests/fs.
pytest_runtest_setup = fs.pytest_runtest_setup
pytest_runtest_call = fs.pytest_runtest_call
pytest_runtest_teardown = fs.pytest_runtest_teardown
pytest_runtest_makereport = fs.pytest_runtest_makereport


def pytest_sessionfinish(session):
    if _canaries:
        _canaries.pop().close()
    fs.pytest_sessionfinish(session)


_canaries = []
KINDS = ["root", "user"]


@pytest.fixture(scope="session")
def canaries():
    if not _canaries:
        _canaries.append(harness.Canaries())
    return _canaries[0]


def victimize(h):
    """A context that all others would like to look into, and that answers all the time."""
    h.make("victim")
    h.write("contexts/victim/workspace/victim.txt", h.canaries.token + "\n")
    token = h.canaries.token
    ran = h.cell("victim", "secret.py", f"secret = {token!r}\nopen('/tmp/victim.txt', 'w').write(secret)\n")
    assert ran.status == "ok", ran
    ran = h.cell("victim", "secret.sh", f"secret={token}\n(exec -a {token} sleep 100000) &\n")
    assert ran.status == "ok", ran
    h.alive_cell()
    return h


def boxed(h):
    """Nothing of this suite runs without a box."""
    assert h.isolation().startswith("full"), f"there is no box here ({h.isolation()}): the hostile suite does not run"
    return h


@pytest.fixture(scope="session", params=KINDS)
def shared(request, canaries):
    h = harness.Host(request.param, canaries=canaries)
    try:
        victimize(boxed(h))
        files = h.open_files()
        yield h
        if h.alive:
            mount.until(lambda: not harness.zombies(h.pid), why="the daemon has zombies")
            for name in set(h.do(os.listdir, h.contexts)) - {"main", "victim"}:
                h.remove(name)
            h.opened(files, 6)
    finally:
        h.close()


@pytest.fixture
def host(shared):
    """The daemon that the tests of one kind share."""
    if not shared.alive:  # an earlier test broke it, and has failed for that
        shared.kill()
        shared.start()
    yield shared


@pytest.fixture(params=KINDS)
def fresh(request, canaries):
    """A daemon for this test alone."""
    mark = request.node.get_closest_marker("options")
    h = harness.Host(request.param, mark.args[0] if mark else "", canaries=canaries)
    try:
        yield boxed(h)
    finally:
        mount.end_children()
        h.close()


@pytest.fixture(autouse=True)
def _no_process_left():
    yield
    mount.end_children()


def pytest_configure(config):
    config.addinivalue_line("markers", "options(text): the mount options of `fresh`")
