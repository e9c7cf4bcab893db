"""A STATE_DIR with damage: the mount answers, what is whole is there, what is not is an error, and new cells run."""

import os
import pathlib
import random
import shutil

import pytest

from durable.test_durable import furnish
from mount import Mount, done, read_bytes, run

LOGS = ["journal.jsonl", "runs.idx", "results.bin", "stdout.log", "stderr.log", "dirty", "context", "log"]
PARTS = LOGS + ["cells", "config", "config/env", "config/kernel", "drafts", "workspace", "home", "spool"]


@pytest.fixture(scope="module")
def good():
    """A STATE_DIR with everything in it; nobody uses it."""
    m = Mount()
    furnish(m.context("a"))
    m.unmount()
    yield m.state
    m.start()
    m.close()


@pytest.fixture
def copy(good):
    """A mount of a copy of it, not started."""
    m = Mount(start=False)
    shutil.copytree(good, m.state, symlinks=True)
    yield m
    m.close()


def works(m):
    """Every file answers, with bytes or an error; a cell runs; all that over a remount too."""
    ctx = m.contexts / "a"
    for top, _, names in os.walk(m.path):
        for name in names:
            path = pathlib.Path(top) / name
            try:
                os.listxattr(path)
                read_bytes(path)
            except OSError:
                pass
    assert done(m.run("a.sh", "true\n")) == "ok"  # the others are not touched
    try:
        word = done(run(ctx, "new.sh", "echo new\n"))
    except OSError:
        return  # refused is an answer, too
    assert word in ("ok", "error", "killed"), word


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("how", ["missing", "empty", "a directory"])
def test_a_part_that_is_missing_or_of_another_kind(copy, part, how):
    if how == "empty" and part not in LOGS:
        how = "a file"
    path = copy.state / "names" / "a" / part
    shutil.rmtree(path) if path.is_dir() else os.unlink(path)
    if how == "a directory":
        path.mkdir()
    elif how != "missing":
        path.touch()
    copy.start()
    works(copy)
    copy.remount()
    works(copy)


@pytest.mark.parametrize("seed", range(int(os.environ.get("CELLFS_DAMAGES", "10"))))
def test_random_damage(copy, seed):
    rand = random.Random(seed)
    for name in LOGS:
        path = copy.state / "names" / "a" / name
        if rand.random() < 0.7:
            data = bytearray(path.read_bytes())
            for _ in range(rand.choice((0, 1, 3, 10))):
                if not data:
                    continue
                at = rand.randrange(len(data))
                kind = rand.randrange(4)
                if kind == 0:
                    data[at] ^= 1 << rand.randrange(8)
                elif kind == 1:
                    data[at : at + rand.randrange(100)] = bytes(rand.randrange(100))
                elif kind == 2:
                    del data[at : at + rand.randrange(300)]
                else:
                    data[at:at] = rand.choice((b"\n", b"{}\n", b"9" * 20, b"-1", b'"', b"[", b"\xff" * 9))
            path.write_bytes(data)
    copy.start()
    works(copy)
