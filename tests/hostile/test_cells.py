"""Every cell of cells/, in a box of a daemon of root and of an ordinary user.

A cell says in its head how it must end and what must not leak. Behind each one the canaries, the host's settings and
mounts, the daemon's descriptors and the processes are as before, and another context answers.
"""

import os
import re
import stat
import time

import pytest

import host as harness
from host import GUARD, HERE, KEEP, LEAK, RUNTIME, SLOW, SOON, gone, inside, landlock_abi, missing, read, until

LIBS = [HERE / "cells" / name for name in ("attack.py", "attack.sh", "attack.js", "attack.R", "evil.c")]


@pytest.mark.parametrize("cell", harness.cells(), ids=lambda c: c.name)
def test_cell(host, canaries, cell):
    if lacking := missing(f"{cell.needs} {RUNTIME.get(cell.language, '')}"):
        pytest.skip(f"{lacking} is not installed")
    if host.kind not in cell.kinds:
        pytest.skip("not for this kind of daemon")
    old = cell.old_status and landlock_abi() < 6
    host.spares(cell.language)
    before, files, boxes = harness.snapshot(), host.open_files(), host.boxes()
    name = "c" + cell.name.split("_")[0] + "-" + cell.name[3:].replace("_", "-")
    ctx = None
    try:
        ctx = host.make(name, cell.config, LIBS)
        if cell.state != "any":
            first = host.cell(name, "before" + cell.path.suffix, KEEP[cell.language][0])
            assert first.status == "ok", first
        file = "cell" + cell.path.suffix
        ran = host.cell(name, file, cell.code, float(cell.within) + 3, other="victim" if cell.other else None)
        print(ran)
        new = host.boxes() - boxes
        check_words(cell, ran, canaries, cell.old_status if old else cell.status)
        if ran.other is not None:
            print(f"another context answered within {ran.other:.2f} s")
            assert ran.other < SOON
        for hook in cell.after.split():
            AFTER[hook](host, ctx, ran, new)
        check_next(host, ctx, cell, "any" if old else cell.state)
        check_hidden(host, ctx, cell)
    finally:
        new = host.boxes() - boxes
        took = host.alive and host.remove(name, cell.remove if ctx else "ctl")
    print(f"removed in {took:.2f} s; its processes in {gone(new, 3):.2f} s")
    canaries.check()
    host.spares()
    harness.same(before, harness.snapshot())
    assert host.alive_cell() < SOON
    state_is_clean(host, name)
    host.opened(files, 2)


def check_words(cell, ran, canaries, status):
    """Its end, what it said, and no token in it."""
    everything = ran.out + ran.err + ran.raw
    assert GUARD not in ran.out + ran.err, ran
    assert not LEAK.search(ran.out), "\n".join(LEAK.findall(ran.out))
    assert canaries.token not in everything, "a secret was read"
    assert re.fullmatch(status, ran.text), ran
    assert not cell.says or re.search(cell.says, everything), ran
    if status == "ok":
        assert re.search(r"^ok:", ran.out, re.M), ran
    assert ran.took < float(cell.within) * SLOW, f"took {ran.took:.1f} s, more than {cell.within}\n{ran}"


def check_next(host, ctx, cell, state):
    """The same context goes on, with what it had or without."""
    if cell.next == "any":
        return
    _, code, kept = KEEP[cell.language]
    ran = host.cell(ctx.name, "next" + cell.path.suffix, code, 10)
    assert ran.status == "ok", ran
    if state != "any":
        assert (ran.out.strip() == kept) == (state == "kept"), f"the state was not {state}\n{ran}"


def check_hidden(host, ctx, cell):
    for name in cell.hidden.split():
        where = ctx / "workspace" / name
        assert name.split("/")[-1] not in host.do(os.listdir, where.parent), f"{name} is shown"

        def look(path=where):
            try:
                return os.lstat(path)
            except OSError:
                return None

        assert host.do(look) is None, f"{name} is there"


def state_is_clean(host, name):
    """Nothing of a removed context stays in STATE_DIR."""
    trash = host.state / "trash"
    until(lambda: not trash.exists() or not os.listdir(trash), 40, "the trash is not emptied")


# ---- what else is looked at behind a cell --------------------------------------------------------


def few_processes(host, ctx, ran, boxes):
    left = inside(boxes)
    print(f"{len(left)} processes in the box")
    assert len(left) <= 72, len(left)  # the limit, pid 1 and the supervisors
    host.do(harness.write, ctx / "ctl", "stop\n")
    gone(boxes, 3)


def memory_told(host, ctx, ran, boxes):
    """Somebody was killed for memory, or could not have it; if killed, it is said."""
    said = ran.text + ran.err + ran.out + str(host.do(read, ctx / "events.jsonl"))
    assert re.search(r"memory limit 256 MiB|\b3\b", said), ran


def disk_used(host, ctx, ran, boxes):
    used = 0
    for d in host.state.glob("contexts/*/workspace"):
        used = max(used, sum(f.stat().st_blocks * 512 for f in d.iterdir() if f.is_file()))
    print(f"{used >> 20} MiB in the workspace")
    assert used < 3 << 30, used


def listed(host, ctx, ran, boxes):
    """The first directory can be listed, and looked at."""

    def look():
        for root, dirs, files in os.walk(ctx / "workspace"):
            if root.count("/") - str(ctx).count("/") > 30:
                dirs.clear()
            dirs[:] = dirs[:100]
        return len(files)

    host.do(look)


def walked(host, ctx, ran, boxes):
    """find and cp -r of the whole tree, as a user would."""

    def look():
        target = str(ctx / "workspace" / "tree")
        found = harness.mount.sh(["find", target, "-ls"])
        kinds = {stat.S_IFMT(os.lstat(os.path.join(r, n)).st_mode) for r, ds, fs in os.walk(target) for n in ds + fs}
        modes = {os.lstat(os.path.join(r, n)).st_mode & 0o7000 for r, ds, fs in os.walk(target) for n in fs}
        return found.stdout, kinds, modes

    out, kinds, modes = host.do(look)
    assert kinds <= {stat.S_IFREG, stat.S_IFDIR}, kinds
    assert modes == {0}, f"setuid, setgid or sticky is shown: {modes}"


def no_core(host, ctx, ran, boxes):
    for d in host.state.glob("contexts/*"):
        assert not [f for f in os.listdir(d / "workspace") if "core" in f and f != "attack.py"], "a core file"


def output_cut(host, ctx, ran, boxes):
    size = host.do(os.stat, ran.results / "stdout").st_size
    assert size < (1 << 20) + (64 << 10) + 4096, size
    assert ran.record["truncated"]["stdout"]["total"] > size


def nothing_left(host, ctx, ran, boxes):
    assert boxes, "there was no box"
    host.do(harness.write, ctx / "ctl", "stop\n")
    gone(boxes, 1.5)


def only_kernels(host, ctx, ran, boxes):
    """What a dead kernel started is gone, though its box is there."""
    until(lambda: not [p for p in inside(boxes) if p[1] in ("sleep", "stray")], why=f"strays: {inside(boxes)}")


def upload(host, ctx, ran, boxes):
    """Into a workspace whose default ACL gives no right to anyone: refused, or as asked for."""
    try:
        host.do(harness.write, ctx / "workspace" / "uploaded.txt", "text\n")
        assert host.do(read, ctx / "workspace" / "uploaded.txt") == "text\n"
    except PermissionError as e:
        print(e)


def reads_leased(host, ctx, ran, boxes):
    for name in ("leased", "locked"):
        start = time.monotonic()
        try:
            host.do(read, ctx / "workspace" / name)
        except OSError as e:
            print(f"{name}: {e.strerror}")
        assert time.monotonic() - start < SOON  # a lease is broken after 45 s


def planted(host, ctx, ran, boxes):
    """New kernels start as ever, and none of the planted files has run by itself."""
    host.do(harness.write, ctx / "ctl", "restart\n")
    for name, code, says in (("a.py", "import sys\nprint(40 + 2)\n", "42\n"), ("b.sh", "echo $((40 + 2))\n", "42\n")):
        ran = host.cell(ctx.name, name, code, 15)
        assert (ran.status, ran.out) == ("ok", says), ran
    ran = host.cell(ctx.name, "c.py", "raise ValueError('mine')\n", 15)
    assert ran.status == "error" and "mine" in ran.record["error"]["message"], ran
    there = host.do(os.listdir, ctx / "workspace")
    ran = host.do(read, ctx / "workspace" / "PLANTED").splitlines() if "PLANTED" in there else []
    print(f"run at the start of a kernel: {ran}")
    assert all("/.local/lib/" in line for line in ran), ran


AFTER = {f.__name__: f for f in (few_processes, memory_told, disk_used, listed, walked, no_core, output_cut, nothing_left,
                                 only_kernels, upload, reads_leased, planted)}
