"""kill -9 of the daemon with many boxed processes alive: none is left a second later, and the next daemon goes on.

CELLFS_KILLS=N for so many rounds, with thousands of processes.
"""

import os

import pytest

from host import HERE, Ran, done, gone, inside, run, until

ROUNDS = int(os.environ.get("CELLFS_KILLS", "3"))
CONTEXTS, EACH = (20, 110) if ROUNDS > 10 else (5, 40)
FILES = [HERE / "apart" / "strays.py"]
STRAYS = f"/usr/bin/python3 -IS strays.py {EACH}\n"
ENDS = {"idle": None, "busy": "while :; do :; done\n", "output": "yes\n"}


def let_out(host, names):
    """Strays in all these contexts, side by side."""

    def go():
        all_ = [run(host.contexts / n, "strays.sh", STRAYS) for n in names]
        for results in all_:
            done(results)
        return [Ran(results, 0, None) for results in all_]

    for ran in host.do(go):
        assert ran.status == "ok" and ran.out == "they are out\n", ran


@pytest.mark.options("processes=256,memory=1G")
def test_kill_9_leaves_nothing(fresh):
    alive, slowest = 0, 0
    names = [f"c{n}" for n in range(CONTEXTS)]
    for n in names:
        fresh.make(n, "", FILES)
    for round_ in range(ROUNDS):
        let_out(fresh, names)
        how = list(ENDS)[round_ % len(ENDS)]
        if ENDS[how]:
            fresh.do(lambda: fresh.run("long.sh", ENDS[how], "c0"))
            until(lambda: fresh.read("contexts/c0/status").startswith("busy"))
        boxes = fresh.boxes()
        now = len(inside(boxes))
        assert len(boxes) >= CONTEXTS and now >= CONTEXTS * EACH, (len(boxes), now)
        alive += now
        fresh.proc.kill()
        fresh.proc.wait()
        slowest = max(slowest, gone(boxes, 1.0))
        fresh.kill()
        fresh.start()
        ran = fresh.cell("c1", "after.py", "print(1)\n", 20)
        assert (ran.status, ran.out) == ("ok", "1\n"), ran
        if ENDS[how]:
            assert fresh.read("contexts/c0/results/long.sh/status").startswith("lost")
    print(f"{ROUNDS} kills with {alive} processes alive: none left after {slowest:.2f} s at most")


@pytest.mark.parametrize("sig", [15, 2])
def test_an_end_in_order_leaves_nothing(fresh, sig):
    fresh.make("c", "", FILES)
    let_out(fresh, ["c"])
    boxes = fresh.boxes()
    assert len(inside(boxes)) > EACH
    fresh.signal(sig)
    fresh.wait_end()
    gone(boxes, 1.0)
    fresh.start()
