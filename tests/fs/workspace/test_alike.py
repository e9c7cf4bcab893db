"""workspace/ through the mount gives what the file system below gives: pjdfstest's groups and more, see alike.py. What
differs stands here with its reason."""

import json
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import alike  # noqa: E402
from mount import Mount, ok  # noqa: E402

USER = 65534

# check -> what differs -> why
REASONS = {
    "symlink_targets": {
        "q/../x": "a .. behind a name could lead out through another link: it is neither made nor shown",
    },
}


@pytest.fixture(scope="module", params=["root", "root, passthrough=off", "a user, allow_other"])
def told(request):
    """What the checks say here and below."""
    user = "user" in request.param
    m = Mount("allow_other" if user else "passthrough=off" if "off" in request.param else "")
    try:
        below = m.dir / "below"
        below.mkdir()
        os.chmod(m.dir, 0o755)
        if user:
            os.chown(below, USER, USER)
            ok(["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "mkdir", m.contexts / "a"])
        where = [m.contexts / ("a" if user else "main") / "workspace", below]
        argv = [[sys.executable, alike.__file__, str(w)] + ([str(USER)] if user else []) for w in where]
        yield [json.loads(ok(a, timeout=60)) for a in argv]
    finally:
        m.close()


@pytest.mark.parametrize("check", alike.checks)
def test_as_below(told, check):
    here, below = (t[check] for t in told)
    for part in REASONS.get(check, ()):
        assert here.pop(part) != below.pop(part), f"{part} does not differ any more"
    assert not isinstance(here, str) or here == below, here
    assert here == below
