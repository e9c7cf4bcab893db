"""O_TRUNC of cells and drafts, which the daemon does only when it has to: nobody sees that."""

import errno
import os
import random

import pytest

from mount import done, read, read_bytes, run, runs, write


class Disk:
    """Files below a directory, and what each call on them gives."""

    def __init__(self, path):
        self.path, self.open = path, {}

    def __call__(self, call, *args):
        try:
            return getattr(self, call)(*args)
        except OSError as e:
            return errno.errorcode[e.errno]

    def begin(self, n, name, flags):
        if n in self.open:
            os.close(self.open.pop(n))
        self.open[n] = os.open(self.path / name, flags | os.O_CREAT, 0o644)

    def end(self, n):
        os.close(self.open.pop(n))

    def put(self, n, data, at):
        return os.pwrite(self.open[n], data, at)

    def get(self, n, size, at):
        return os.pread(self.open[n], size, at)

    def cut(self, n, size):
        os.ftruncate(self.open[n], size)

    def size(self, n):
        return os.fstat(self.open[n]).st_size, os.lseek(self.open[n], 0, os.SEEK_END)

    def sync(self, n):
        os.fsync(self.open[n])

    def look(self, name):
        return os.stat(self.path / name).st_size, read_bytes(self.path / name)

    def cut_name(self, name, size):
        os.truncate(self.path / name, size)

    def move(self, name, to):
        os.rename(self.path / name, self.path / to)

    def remove(self, name):
        os.unlink(self.path / name)

    def set_time(self, n):
        os.utime(self.open[n], ns=(10**18, 10**18))
        st = os.fstat(self.open[n])
        return st.st_mtime_ns if st.st_nlink else None


def some_call(dice, opened):
    """A call that fits, most of them around a truncation."""
    name, other = dice.sample(["a.txt", "b.txt", "c.txt"], 2)
    if not opened or dice.random() < 0.3:
        trunc = os.O_TRUNC if dice.random() < 0.7 else 0
        return "begin", dice.randrange(4), name, dice.choice([os.O_RDWR, os.O_WRONLY, os.O_RDWR]) | trunc
    n = dice.choice(sorted(opened))
    data = bytes([dice.randrange(1, 256)]) * dice.choice([1, 7, 300, 5000])
    return dice.choice([
        ("put", n, data, 0), ("put", n, data, 0), ("put", n, data, dice.choice([1, 200, 6000])), ("get", n, 10000, 0),
        ("cut", n, dice.choice([0, 3, 400])), ("size", n), ("sync", n), ("look", name), ("cut_name", name, dice.choice([0, 5])),
        ("move", name, other), ("remove", name), ("set_time", n), ("end", n), ("end", n),
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_files_of_cells_are_like_those_of_any_directory(ctx, tmp_path, seed):
    dice = random.Random(seed)
    ours, theirs = Disk(ctx / "cells"), Disk(tmp_path)
    past = []
    try:
        for _ in range(400):
            past.append(some_call(dice, theirs.open))
            assert ours(*past[-1]) == theirs(*past[-1]), past[-12:]
    finally:
        for disk in (ours, theirs):
            for n in list(disk.open):
                disk.end(n)
    for name in os.listdir(tmp_path):
        assert read_bytes(ctx / "cells" / name) == read_bytes(tmp_path / name), past[-12:]
    assert runs(ctx) == []


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR])
def test_a_truncated_cell_is_empty_until_it_is_written(ctx, flags):
    r = run(ctx, "a.sh", "echo a long first text\n")
    assert done(r) == "ok"
    fd = os.open(ctx / "cells" / "a.sh", flags | os.O_TRUNC)
    assert os.stat(ctx / "cells" / "a.sh").st_size == 0 and read(ctx / "cells" / "a.sh") == ""
    os.close(fd)
    assert read(ctx / "cells" / "a.sh") == "" and len(runs(ctx)) == 1


def test_a_shorter_text_leaves_nothing_of_the_longer_one(ctx):
    for text in ("echo one and more\n", "echo 2\n", "echo 3\n", "echo four\n"):
        r = run(ctx, "a.sh", text)
        assert done(r) == "ok" and read(ctx / "cells" / "a.sh") == read(r / "code") == text


def test_run_by_ctl_of_a_cell_that_is_being_written_is_of_what_is_there(ctx):
    assert done(run(ctx, "a.sh", "echo old\n")) == "ok"
    fd = os.open(ctx / "cells" / "a.sh", os.O_WRONLY | os.O_TRUNC)
    write(ctx / "ctl", "run a.sh\n")
    assert done(ctx / "results" / "a.sh") == "ok" and read(ctx / "results" / "a.sh" / "stdout") == ""
    os.write(fd, b"echo new\n")
    os.close(fd)
    assert done(ctx / "results" / "a.sh") == "ok" and read(ctx / "results" / "a.sh" / "stdout") == "new\n"


def test_a_truncated_draft_renamed_over_a_value_is_an_empty_one(ctx):
    write(ctx / "config" / "timeout", "50")
    write(ctx / "config" / "draft", "60")
    fd = os.open(ctx / "config" / "draft", os.O_WRONLY | os.O_TRUNC)
    try:
        os.rename(ctx / "config" / "draft", ctx / "config" / "timeout")
    finally:
        os.close(fd)
    assert read(ctx / "config" / "timeout").strip() not in ("50", "60")


def test_a_time_that_was_set_stays_when_a_truncated_file_is_closed(ctx):
    write(ctx / "cells" / "draft.txt", "text")
    fd = os.open(ctx / "cells" / "draft.txt", os.O_WRONLY | os.O_TRUNC)
    os.utime(fd, ns=(10**18, 10**18))
    os.close(fd)
    assert os.stat(ctx / "cells" / "draft.txt").st_mtime_ns == 10**18


def test_a_value_renamed_to_a_truncated_draft_is_its_text(ctx):
    write(ctx / "config" / "env" / "A", "value")
    write(ctx / "config" / "env" / "a~", "old")
    fd = os.open(ctx / "config" / "env" / "a~", os.O_WRONLY | os.O_TRUNC)
    try:
        os.rename(ctx / "config" / "env" / "A", ctx / "config" / "env" / "a~")
    finally:
        os.close(fd)
    assert read(ctx / "config" / "env" / "a~").strip() == "value"
