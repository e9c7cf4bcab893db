"""rm -r of a run in history/ (or of results/<cell>) forgets it for good."""

import errno
import json
import os

from mount import done, events, fails, hold, let_go, ok, read, read_bytes, run, runs, status


def three(ctx):
    for n, word in enumerate(("one", "two", "six"), 1):
        assert done(run(ctx, "a.sh" if n != 2 else "b.sh", f"echo {word}; echo {word} >&2\n")) == "ok"


def test_forgotten_it_is_out_of_the_listing(ctx):
    three(ctx)
    ok(["rm", "-r", ctx / "history/2"])
    assert runs(ctx) == [1, 3]
    with fails(errno.ENOENT):
        os.stat(ctx / "history/2")
    with fails(errno.ENOENT):
        read(ctx / "results/b.sh/done")
    assert os.path.exists(ctx / "cells/b.sh")


def test_its_bytes_are_nul_in_the_contexts_streams(ctx):
    three(ctx)
    ok(["rm", "-r", ctx / "history/2"])
    assert read_bytes(ctx / "stdout") == b"one\n\0\0\0\0six\n"
    assert read_bytes(ctx / "stderr") == b"one\n\0\0\0\0six\n"
    assert os.stat(ctx / "stdout").st_size == 12


def test_its_lines_of_the_journal_are_overwritten(ctx):
    three(ctx)
    before = events(ctx)
    size = len(read_bytes(ctx / "events.jsonl"))
    mine = {e["seq"] for e in events(ctx / "history/2")}
    ok(["rm", "-r", ctx / "history/2"])
    text = read(ctx / "events.jsonl")
    after = [json.loads(line) for line in text.splitlines()]
    assert len(text.encode()) >= size and "echo two" not in text and '"two' not in text
    assert [e["seq"] for e in after] == list(range(1, len(after) + 1))
    for old, new in zip(before, after):
        if old["seq"] in mine:
            assert new == {"seq": old["seq"], "type": "removed"}
        else:
            assert new == old
    assert {"type": "removed", "run": 2}.items() <= after[-1].items()


def test_what_is_left_is_untouched(ctx):
    three(ctx)
    before = {n: [read_bytes(ctx / f"history/{n}/{f}") for f in os.listdir(ctx / f"history/{n}") if f != "artifacts"] for n in (1, 3)}
    ok(["rm", "-r", ctx / "history/2"])
    for n, texts in before.items():
        assert texts == [read_bytes(ctx / f"history/{n}/{f}") for f in os.listdir(ctx / f"history/{n}") if f != "artifacts"]


def test_rm_r_of_results_forgets_the_newest_run_and_shows_the_one_before(ctx):
    three(ctx)
    ok(["rm", "-r", ctx / "results/a.sh"])
    assert runs(ctx) == [1, 2]
    assert read(ctx / "results/a.sh/stdout") == "one\n"
    assert os.getxattr(ctx / "cells/a.sh", "user.run") == b"1"
    assert os.path.exists(ctx / "cells/a.sh")


def test_ebusy_before_it_has_ended(ctx):
    results = hold(ctx)
    queued = run(ctx, "q.sh", "echo q\n")
    for path in ctx / "history/1", results, ctx / "history/2", queued:
        with fails(errno.EBUSY):
            os.rmdir(path)
    assert status(results) == "running" and status(queued) == "queued"
    let_go(ctx)
    assert done(queued) == "ok"
    os.rmdir(ctx / "history/1")
    assert runs(ctx) == [2]


def test_unlink_in_a_run_is_accepted_and_does_nothing_before_the_rmdir(ctx):
    three(ctx)
    os.unlink(ctx / "history/2/stdout")
    assert read(ctx / "history/2/stdout") == "two\n"
    assert "stdout" in os.listdir(ctx / "history/2")


def test_a_number_is_not_used_again(ctx):
    three(ctx)
    ok(["rm", "-r", ctx / "history/3"])
    assert done(run(ctx, "a.sh", "echo new\n")) == "ok"
    assert runs(ctx) == [1, 2, 4]


def test_forgotten_for_good_over_a_restart(fresh):
    three(fresh.main)
    ok(["rm", "-r", fresh.main / "history/2"])
    fresh.remount()
    assert runs(fresh.main) == [1, 3]
    assert read_bytes(fresh.main / "stdout") == b"one\n\0\0\0\0six\n"
    assert done(run(fresh.main, "c.sh", "echo c\n")) == "ok"
    assert runs(fresh.main) == [1, 3, 4]
    fresh.unmount()  # so that no file comes or goes meanwhile
    assert b"echo two" not in b"".join(p.read_bytes() for p in fresh.state.rglob("*") if p.is_file() and "cells" not in p.parts)


def test_an_open_file_of_a_forgotten_run(ctx):
    three(ctx)
    with open(ctx / "history/2/stdout", "rb", buffering=0) as f:
        ok(["rm", "-r", ctx / "history/2"])
        try:
            assert f.read(100) in (b"two\n", b"\0\0\0\0", b"")
        except OSError as e:
            assert e.errno in (errno.ESTALE, errno.ENOENT)


def test_clear_forgets_the_ended_runs_but_not_the_variables(ctx):
    assert done(run(ctx, "a.sh", "x=7\n")) == "ok"
    three(ctx)
    with open(ctx / "ctl", "w") as f:
        f.write("clear\n")
    assert runs(ctx) == []
    assert read(run(ctx, "c.sh", "echo $x\n") / "stdout") == "7\n"
