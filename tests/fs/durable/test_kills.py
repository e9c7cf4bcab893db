"""kill -9 of the daemon at random points under load: no finished run is lost or torn, no process is left, the mount
works again. CELLFS_KILLS is how often."""

import json
import os
import random
import threading
import time

import pytest

from control.steps import about, ending, says
from mount import ENDED, PATIENCE, box_pids, done, fails, read, run, runs, status, write

KILLS = int(os.environ.get("CELLFS_KILLS", "15"))
KINDS = {  # what a load of each kind writes, prints and gives
    "bash": ("l.sh", "echo out {n}; head -c {size} /dev/zero | tr '\\0' x; echo err {n} >&2\n", None),
    "python": ("l.py", "print('out {n}'); print('x' * {size}, end=''); import sys; print('err {n}', file=sys.stderr)\n{n}\n", "{n}\n"),
    "edits": ("l{k}.sh", "echo out {n}; head -c {size} /dev/zero | tr '\\0' x; echo err {n} >&2\n", None),
}
checked = {}  # context -> the last number that an earlier round looked at
finished = {}  # context -> number -> (code, stdout, stderr, result), of all rounds


class Load(threading.Thread):
    """Writes cell after cell, and remembers each whose `done` it read."""

    def __init__(self, ctx, kind, seed):
        super().__init__(daemon=True)
        self.ctx, self.kind, self.random = ctx, kind, random.Random(seed)
        self.first = threading.Event()
        self.wrong = None

    def run(self):
        cell, code, value = KINDS[self.kind]
        mine = finished.setdefault(self.ctx.name, {})
        try:
            while True:
                n, size = self.random.randrange(1 << 30), self.random.choice((0, 10, 5000, 300000))
                text = code.replace("{n}", str(n)).replace("{size}", str(size))
                name = cell.replace("{k}", str(self.random.randrange(5)))
                r = run(self.ctx, name, text)
                number = int(read(r / "run"))
                word = done(r)
                if word in ("killed", "cancelled", "lost"):
                    return
                if word != "ok":
                    self.wrong = f"{r}: {read(r / 'status')}"
                    return
                self.first.set()
                mine[number] = (text, f"out {n}\n" + "x" * size, f"err {n}\n", value and value.replace("{n}", str(n)))
                if self.kind == "edits":
                    self.edit(name, mine)
        except OSError:
            return  # the daemon is gone
        finally:
            self.first.set()


    def edit(self, name, mine):
        """What else a user does: moves, removals, forgetting, contexts that come and go."""
        what = self.random.random()
        if what < 0.2:
            os.rename(self.ctx / "cells" / name, self.ctx / "cells" / "l9.sh")
        elif what < 0.3:
            os.unlink(self.ctx / "cells" / name)
        elif what < 0.5:
            n = self.random.choice(sorted(mine))
            del mine[n]  # after a crash it is there, or it is not
            os.rmdir(self.ctx / "history" / str(n))
        elif what < 0.7:
            contexts = self.ctx.parent
            os.mkdir(contexts / "comes")
            run(contexts / "comes", "a.sh", "echo here\n")
            os.rename(contexts / "comes", contexts / "goes")
            write(contexts / "goes" / "ctl", "remove\n")


@pytest.mark.parametrize("round_", range(KILLS))
def test_kill_9_at_a_random_point(m, round_):
    if not m.alive:
        m.remount()
    for name in [*KINDS, "long"]:
        (m.contexts / name).mkdir(exist_ok=True)
    write(m.contexts / "long" / "cells" / "notice.sh", "echo new\n")
    assert done(m.contexts / "long" / "results" / "notice.sh") == "ok"
    loads = [Load(m.contexts / kind, kind, f"{round_} {kind} {os.getpid()}") for kind in KINDS]
    long = run(m.contexts / "long", "long.sh", "sleep 1000 & echo $! go; wait\n")
    says(long, "go")
    queued = run(m.contexts / "long", "queued.sh", "touch ran\n")
    numbers = [int(read(r / "run")) for r in (long, queued)]
    for load in loads:
        load.start()
    for load in loads:
        assert load.first.wait(PATIENCE)
    time.sleep(random.random() * 0.6)  # the random point
    pids = [k["pid"] for c in [*KINDS, "long"] for k in about(m.contexts / c)["kernels"].values() if k["pid"]]
    # A box's first process lasts until the host's init has reaped the others: some take their time.
    pids += [host for pid, host in box_pids(m.contexts / "long").items() if pid > 1]
    with ending(*pids, seconds=1):
        m.kill()
    for load in loads:
        load.join(PATIENCE)
        assert not load.is_alive() and not load.wrong, load.wrong
    m.start()
    for kind in KINDS:
        check(m.contexts / kind, finished[kind])
    for name in {"comes", "goes"} & set(os.listdir(m.contexts)):
        assert read(run(m.contexts / name, "b.sh", "echo new\n") / "stdout") == "new\n"
        write(m.contexts / name / "ctl", "remove\n")
    assert set(os.listdir(m.contexts)) == {"main", "long", *KINDS}
    long = m.contexts / "long"
    assert [status(long / "history" / str(n)) for n in numbers] == ["lost", "cancelled"]
    r = run(long, "notice.sh", "echo new\n")
    assert read(r / "stdout") == "new\n" and read(r / "stderr").startswith("cellfs: ")
    assert os.listdir(long / "workspace") == []


def check(ctx, mine):
    there = runs(ctx)
    assert set(mine) <= set(there), f"{ctx.name}: finished and gone: {set(mine) - set(there)}"
    for n in there:
        if n <= checked.get(ctx.name, 0) and n not in mine:
            continue
        h = ctx / "history" / str(n)
        word = status(h)
        if n not in mine:
            assert word in ENDED, (n, word)
            read(h / "execution.json")
            continue
        code, out, err, value = mine[n]
        assert word == "ok" and read(h / "done") == "ok\n", (n, word)
        assert read(h / "code") == code and read(h / "stdout") == out, n
        said = read(h / "stderr")
        assert said == err or (said.startswith("cellfs: ") and said.endswith("\n" + err)), (n, said)
        if value is None:
            with fails(2):
                os.stat(h / "result.txt")
        else:
            assert read(h / "result.txt") == value, n
    checked[ctx.name] = max(there)
    for n in sorted(mine)[:-20]:  # what was checked in some rounds does not change any more
        del mine[n]
    seqs = [json.loads(line)["seq"] for line in read(ctx / "events.jsonl").splitlines()]
    assert seqs == list(range(1, len(seqs) + 1))
