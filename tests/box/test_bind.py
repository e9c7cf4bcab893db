"""`box bind` (fsd/box/bind.c): directories of the host in a box that is up, with a driver that waits in it."""
import contextlib
import errno
import json
import os
import tempfile

import pytest

from boxes import HELPERS, NAMESPACES, NS, python, wait

WAITING = HELPERS + """
print('waits', flush=True)
os.read(3, 1)
print(no(os.stat, 'x'))  # it still is where it was
os.chdir('/workspace')
print(json.dumps({'seen': sorted(os.listdir('.')), 'write': no(open, 'made', 'w'), 'ro': no(open, '/spool/code/x', 'w'),
    'code': os.listdir('/spool/code'),
    'attrs': [m.split()[5] for m in open('/proc/self/mountinfo') if m.split()[4] == '/workspace']}), flush=True)
"""


@pytest.fixture
def maker(makers):
    yield makers
    makers.stack.close()
    makers.stack = contextlib.ExitStack()


@pytest.fixture
def code(makers):
    with tempfile.TemporaryDirectory(dir=makers.directory) as d:
        os.chmod(d, 0o755)
        open(d + "/cell", "w").close()
        yield d


def bind(box, *options):
    """The errno of `box bind`; 0 when it is done."""
    have = {NAMESPACES + i: fd for i, fd in enumerate(box.fds[:NS])}
    return wait(box.maker.spawn(["bind", *options], have))


def test_a_driver_that_waits_finds_them_by_name(maker, code):
    box = maker.up("--dir=/workspace", "--dir=/spool/code", workspace=False)
    k = box.join(*python(WAITING))
    assert k.line() == "waits"
    open(maker.workspace + "/x", "w").close()
    assert bind(box, f"--rw={maker.workspace}:/workspace", f"--ro={code}:/spool/code") == 0
    os.write(k.put, b"g")
    assert k.line() == "ENOENT"
    got = json.loads(k.line())
    assert got["seen"] == ["x"] and got["write"] == "OK" and got["code"] == ["cell"]
    assert got["ro"] == "EROFS" and {"nosuid", "nodev"} <= set(got["attrs"][0].split(","))
    assert k.result() == "exited 0"
    assert os.stat(maker.workspace + "/made").st_uid == maker.owner


def test_what_was_bound_goes_with_the_box(maker):
    box = maker.up("--dir=/workspace", workspace=False)
    assert bind(box, f"--rw={maker.workspace}:/workspace") == 0
    assert box.run("open('/workspace/y', 'w').close(); print('1')") == 1
    box.end()
    os.rmdir(tempfile.mkdtemp(dir=maker.workspace))
    assert os.listdir(maker.workspace) and maker.workspace not in open("/proc/self/mountinfo").read()


@pytest.mark.parametrize("options, code_of", [
    (["--rw=/nowhere-at-all:/workspace"], errno.ENOENT), (["--rw=relative:/workspace"], errno.EINVAL),
    (["--rw=/usr"], errno.EINVAL), (["--up=/usr:/workspace"], errno.EINVAL), (["stray"], errno.EINVAL),
    (["--ro=/usr:/absent"], errno.EROFS), (["--ro=/usr:/proc/self/absent"], errno.ENOENT),
])  # fmt: skip
def test_what_cannot_be_bound_is_said(maker, options, code_of):
    box = maker.up("--dir=/workspace", workspace=False)
    assert bind(box, *options) == code_of
    assert box.run("print(json.dumps(os.listdir('/workspace')))") == []


def test_without_a_box_there_is_nothing_to_bind_into(maker):
    pid = maker.spawn(["bind", f"--rw={maker.workspace}:/workspace"], {})
    assert wait(pid) == errno.EINVAL
