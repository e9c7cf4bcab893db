"""interface.md, Cells and Control: one queue a context, its order and its limit."""

import errno
import os

from control.steps import events, record, says
from mount import done, fails, read, run, runs, status, write

OPTIONS = "queue=3"
WAIT = "echo go; until [ -e stop ]; do sleep .01; done\n"


def fill(ctx):
    """One run that waits for the file `stop`, and as many behind it as the queue takes."""
    r = run(ctx, "first.sh", WAIT)
    says(r, "go")
    full = 0
    try:
        for full in range(10):
            run(ctx, f"q{full}.sh", "true\n")
    except OSError as e:
        assert e.errno == errno.ENOSPC
    assert full in (2, 3)  # does the one that runs count?
    return r, full


def release(ctx, *results):
    write(ctx / "workspace" / "stop", "")
    for r in results:
        assert done(r) == "ok"


def test_the_queue_has_a_limit_and_the_log_says_which(ctx):
    r, n = fill(ctx)
    with fails(errno.ENOSPC):  # at open: nothing is left behind
        os.close(os.open(ctx / "cells" / "new.sh", os.O_CREAT | os.O_WRONLY, 0o644))
    assert "new.sh" not in os.listdir(ctx / "cells")
    with fails(errno.ENOSPC):
        os.close(os.open(ctx / "cells" / "q0.sh", os.O_WRONLY))
    with fails(errno.ENOSPC):
        write(ctx / "ctl", "run q0.sh\n")
    said = read(ctx / "log").splitlines()
    assert all(any(c in line and "queue" in line and "3" in line for line in said) for c in ("new.sh", "q0.sh", "ctl")), said
    write(ctx / "cells" / "draft.txt", "x")  # drafts are files as any
    release(ctx, r, *(ctx / "results" / f"q{i}.sh" for i in range(n)))
    assert done(run(ctx, "new.sh", "true\n")) == "ok"


def test_a_full_queue_is_enospc_at_the_first_write_and_at_the_rename(ctx):
    early = os.open(ctx / "cells" / "early.sh", os.O_CREAT | os.O_WRONLY, 0o644)  # opened while there was room
    r, n = fill(ctx)
    with fails(errno.ENOSPC):
        os.write(early, b"true\n")
    os.close(early)
    write(ctx / "cells" / "draft.tmp", "true\n")
    with fails(errno.ENOSPC):
        os.rename(ctx / "cells" / "draft.tmp", ctx / "cells" / "new.sh")
    assert read(ctx / "cells" / "draft.tmp") == "true\n" and "new.sh" not in os.listdir(ctx / "cells")
    release(ctx, r)
    assert done(ctx / "results" / f"q{n - 1}.sh") == "ok"
    os.rename(ctx / "cells" / "draft.tmp", ctx / "cells" / "new.sh")
    assert done(ctx / "results" / "new.sh") == "ok"


def test_the_queue_of_another_context_has_room(m, ctx):
    r, _ = fill(ctx)
    other = m.context("room")
    assert done(run(other, "a.sh", "true\n")) == "ok"
    release(ctx, r)


def test_one_run_at_a_time_in_the_order_queued_whatever_the_languages(ctx):
    assert done(run(ctx, "warm.py", "1\n")) == done(run(ctx, "warm.sh", "true\n")) == "ok"
    order = ["a.sh", "b.py", "c.sh", "d.py"]
    results = [run(ctx, c, WAIT if c == "a.sh" else "import time\ntime.sleep(.05)\n" if c[2:] == "py" else "sleep .05\n")
               for c in order]
    says(results[0], "go")
    assert [status(r) for r in results] == ["running", "queued", "queued", "queued"]
    assert read(ctx / "status") == "busy a.sh\n"
    release(ctx, *results)
    records = [record(r) for r in results]
    for one, next_one in zip(records, records[1:]):
        assert one["finished_at"] <= next_one["started_at"], (one["cell"], next_one["cell"])
    kinds = [(e["type"], e["cell"]) for e in events(ctx) if e["type"] in ("started", "finished") and e["run"] > 2]
    assert kinds == [(t, c) for c in order for t in ("started", "finished")]


def test_a_failed_cell_does_not_stop_those_behind_it(ctx):
    r = run(ctx, "a.sh", WAIT)
    says(r, "go")
    bad, good = run(ctx, "bad.py", "1/0\n"), run(ctx, "good.sh", "echo yes\n")
    release(ctx, r)
    assert done(bad) == "error" and done(good) == "ok" and read(good / "stdout") == "yes\n"


def test_a_cell_written_again_while_queued_runs_twice_with_each_text(ctx):
    r = run(ctx, "a.sh", WAIT)
    says(r, "go")
    run(ctx, "q.sh", "echo one\n")
    q = run(ctx, "q.sh", "echo two\n")
    assert read(q / "run") == "3\n"  # results/ shows the newest
    release(ctx, r, q)
    assert [read(ctx / "history" / n / "stdout") for n in "23"] == ["one\n", "two\n"]
    assert [read(ctx / "history" / n / "code") for n in "23"] == ["echo one\n", "echo two\n"]
    assert runs(ctx) == [1, 2, 3]
