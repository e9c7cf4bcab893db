"""Every driver that can run here, one after another, for every test that names it."""

import pytest

import snippets_java
import snippets_jupyter
from conversation import Driver, manifests, probe

TIERS = {
    "python": {"python": [], "python-bare": ["-S"]},  # -S hides dist-packages, and IPython
    "javascript": {"javascript": [], "javascript-ts": []},  # the cell's name says which it is
}


def drivers():
    """{name: argv} of each driver, and of the tiers that a flag of its interpreter chooses."""
    found = {}
    for language, manifest in manifests().items():
        taken = probe(manifest)
        if taken is None or manifest.get("kernelspecs") or manifest.get("installs"):
            continue
        first, *rest = [
            part.replace("{interpreter}", taken[0]).replace("{dir}", manifest["dir"])
            for part in manifest["argv"]
        ]
        for name, flags in TIERS.get(language, {language: []}).items():
            found[name] = [first, *flags, *rest]
    return {**found, **snippets_java.drivers(), **snippets_jupyter.drivers()}


DRIVERS = drivers()


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        only = getattr(metafunc.module, "ONLY", None)
        names = [name for name in DRIVERS if only is None or name in only]
        metafunc.parametrize("name", names, scope="module")


@pytest.fixture(scope="module")
def shared(name):
    """One driver for the tests of a module that leave it as they found it."""
    driver = Driver(DRIVERS[name])
    yield driver
    driver.close()


@pytest.fixture
def driver(shared):
    yield shared
    assert shared.waited is None, "the test has ended the shared driver"


@pytest.fixture
def fresh(name):
    """A driver of the test's own, which may end it."""
    driver = Driver(DRIVERS[name])
    yield driver
    driver.close()


@pytest.fixture
def start(name):
    """Starts drivers with settings of the test's own."""
    started = []

    def starter(**settings):
        started.append(Driver(DRIVERS[name], **settings))
        return started[-1]

    yield starter
    for driver in started:
        driver.close()
