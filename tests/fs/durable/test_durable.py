"""interface.md: what lasts over an unmount, a crash, a copy, damage, and a full disk."""

import errno
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from control.steps import about, ending, events, kernel, peek, reason, record, says
from mount import (
    BUILD, ENDED, PATIENCE, Mount, done, fails, host_pid, ok, on_a_disk, read, read_bytes, run, runs, sh, spawn, status, until, write,
)

LIVING = {"status", "context.json", "events.jsonl", "log"}  # of a context: they change when its kernels end


def digest(path):
    return hashlib.sha256(read_bytes(path)).hexdigest()


def picture(top, skip=()):
    """Everything below TOP that a user can see: kinds, modes, sizes, times, attributes, contents."""
    found = {}
    for d, dirs, files in os.walk(top):
        for name in dirs + files:
            path = pathlib.Path(d) / name
            key = str(path.relative_to(top))
            if key in skip:
                continue
            st = os.lstat(path)
            row = [oct(st.st_mode), st.st_uid]
            if os.path.islink(path):
                row += [os.readlink(path)]
            elif name in files:
                row += [st.st_size, st.st_mtime_ns, digest(path)]
                row += [{a: os.getxattr(path, a) for a in os.listxattr(path) if a.startswith("user.")}]
            found[key] = row
    return found


def check_picture(before, after):
    assert sorted(before) == sorted(after)
    changed = {k: (before[k], after[k]) for k in before if before[k] != after[k]}
    assert not changed, changed


def furnish(ctx):
    """Runs of all kinds, files of all kinds: 12 runs, of which one is forgotten."""
    r = run(ctx, "c.sh", "echo go; sleep 1000\n")
    says(r, "go")
    write(ctx / "ctl", "interrupt\n")
    assert done(r) == "interrupted"
    for cell, code, want in (
        ("a.py", "print('out')\nfrom IPython.display import display, HTML\ndisplay(HTML('<b>x</b>'))\n{'a': 1}\n", "ok"),
        ("a.py", "1/0\n", "error"),
        ("b.sh", "echo b; echo e >&2; exit 3\n", "error"),
        ("d.sh", "#| eval: false\ntrue\n", "cancelled"),
        ("e.py", "import os\nos.kill(os.getpid(), 9)\n", "killed"),
        ("f.sh", "echo moved\n", "ok"),
        ("g.sh", "echo removed\n", "ok"),
        ("h.sh", "echo forgotten\n", "ok"),
        ("i.sh", "head -c 300000 /dev/urandom\n", "ok"),
        ("j.py", "'text'\n", "ok"),
    ):
        assert done(run(ctx, cell, code)) == want, cell
    os.rename(ctx / "cells" / "f.sh", ctx / "cells" / "f2.sh")
    os.unlink(ctx / "cells" / "g.sh")
    os.rmdir(ctx / "history" / read(ctx / "results" / "h.sh" / "run").strip())
    os.utime(ctx / "cells" / "a.py", ns=(1, 123456789_123456789))
    os.chmod(ctx / "cells" / "b.sh", 0o755)
    write(ctx / "cells" / "draft.txt", "draft\n")
    write(ctx / "notes", "notes\n")
    write(ctx / "config" / "timeout", "77\n")
    write(ctx / "config" / "env" / "FOO", "bar\n")
    write(ctx / "config" / "draft", "x")
    os.makedirs(ctx / "workspace" / "d")
    write(ctx / "workspace" / "d" / "f", "data")
    os.symlink("d/f", ctx / "workspace" / "link")


def test_everything_lasts_over_an_unmount(fresh):
    ctx = fresh.context("a")
    furnish(ctx)
    fresh.context("empty")
    facts, journal, log = about(ctx), read(ctx / "events.jsonl"), read(ctx / "log")
    before = picture(ctx, LIVING)
    fresh.remount()
    check_picture(before, picture(ctx, LIVING))
    assert sorted(os.listdir(fresh.contexts)) == ["a", "empty", "main"]
    assert read(ctx / "events.jsonl").startswith(journal) and read(ctx / "log").startswith(log)
    assert about(ctx)["uuid"] == facts["uuid"] and read(ctx / "status") == "stopped\n"
    r = run(ctx, "z.sh", "echo $FOO\n")
    assert read(r / "stdout") == "bar\n" and read(r / "stderr").startswith("cellfs: ")  # the state is lost
    assert int(read(r / "run")) == max(runs(ctx)) == 12
    assert [e["seq"] for e in events(ctx)] == sorted({e["seq"] for e in events(ctx)})
    again = picture(ctx, LIVING)
    fresh.remount()
    check_picture(again, picture(ctx, LIVING))


def test_an_idle_context_is_stable(fresh):
    ctx = fresh.context("a")
    furnish(ctx)
    fresh.remount()
    before = picture(fresh.contexts)
    check_picture(before, picture(fresh.contexts))
    fresh.remount()
    check_picture(before, picture(fresh.contexts))


def test_a_stop_in_order_says_killed_daemon_stopped_and_cancelled(fresh):
    r = fresh.run("a.sh", "echo go; sleep 1000\n")
    says(r, "go")
    fresh.run("b.py", "1\n")
    with ending(kernel(fresh.main, "bash")["pid"], seconds=2):
        fresh.remount()
    assert read(fresh.main / "results" / "a.sh" / "status") == "killed: daemon stopped\n"
    assert read(fresh.main / "results" / "a.sh" / "stdout") == "go\n"
    assert status(fresh.main / "results" / "b.py") == "cancelled"


# ---- kill -9 -------------------------------------------------------------------------------------


def test_kill_9_while_running_is_lost_and_queued_is_cancelled(fresh):
    assert done(fresh.run("x.py", "x = 5\n")) == "ok"
    r = fresh.run("a.py", "import subprocess\np = subprocess.Popen(['setsid', 'sleep', '1000'])\nprint(p.pid, 'go', flush=True)\n"
                  "p.wait()\n")
    says(r, "go")
    fresh.run("b.sh", "touch ran\n")
    fresh.run("c.sh", "touch ran\n")
    child = host_pid(fresh.main, int(peek(fresh.main / "stdout").split()[0]))
    with ending(kernel(fresh.main)["pid"], child, seconds=1):
        fresh.kill()
    fresh.start()
    assert status(r) == "lost" and reason(r) and read(r / "done") == "lost\n"
    assert read(r / "stdout").endswith("go\n")  # as far as it came
    with fails(errno.ENOENT):
        os.stat(r / "exit_code")
    assert record(r)["state_preserved"] is False and read(r / "error.txt").strip()
    for cell in ("b.sh", "c.sh"):
        assert status(fresh.main / "results" / cell) == "cancelled"
    assert events(r)[-1]["type"] == "finished" and events(r)[-1]["status"] == "lost"
    again = fresh.run("y.py", "'x' in globals()\n")
    assert read(again / "result.txt") == "False\n" and read(again / "stderr").startswith("cellfs: ")
    assert not (fresh.main / "workspace" / "ran").exists()
    assert runs(fresh.main) == [1, 2, 3, 4, 5]


def test_moves_removals_and_drafts_are_remembered_after_kill_9(fresh):
    ctx = fresh.context("a")
    furnish(ctx)
    fresh.context("b")
    os.rename(fresh.contexts / "b", fresh.contexts / "c")
    os.rmdir(fresh.main)
    before = picture(ctx, LIVING)
    fresh.kill()
    fresh.start()
    check_picture(before, picture(ctx, LIVING))
    assert sorted(os.listdir(fresh.contexts)) == ["a", "c"]
    assert b"forgotten" not in read_bytes(ctx / "stdout")
    assert not (ctx / "results" / "h.sh").exists()


def test_a_cell_that_is_being_written_at_kill_9_is_aborted_and_nothing_ran(fresh):
    assert done(fresh.run("old.sh", "echo old\n")) == "ok"
    new = os.open(fresh.main / "cells" / "new.sh", os.O_CREAT | os.O_WRONLY)
    old = os.open(fresh.main / "cells" / "old.sh", os.O_WRONLY | os.O_TRUNC)
    draft = os.open(fresh.main / "cells" / "draft", os.O_CREAT | os.O_WRONLY)
    for fd in (new, old, draft):
        os.write(fd, b"touch ran\n")
    untouched = os.open(fresh.main / "cells" / "empty.sh", os.O_CREAT | os.O_WRONLY)
    fresh.kill()
    for fd in (new, old, draft, untouched):
        try:
            os.close(fd)
        except OSError:
            pass
    fresh.start()
    results = fresh.main / "results"
    for cell in ("new.sh", "old.sh"):
        assert status(results / cell) == "aborted" and reason(results / cell), cell
        assert record(results / cell)["started_at"] is None
    assert not (results / "empty.sh").exists() and (fresh.main / "cells" / "empty.sh").exists()
    assert read(fresh.main / "cells" / "draft") == "touch ran\n"
    assert runs(fresh.main) == [1, 2, 3]
    fresh.remount()
    assert runs(fresh.main) == [1, 2, 3]  # once is enough
    assert os.listdir(fresh.main / "workspace") == []


def test_sync_always(fresh):
    fresh.remount("sync=always")
    for i in range(20):
        assert done(fresh.run("a.sh", f"echo {i}\n")) == "ok"
    assert done(fresh.run("big.py", "print('x' * 3000000)\n")) == "ok"
    before = picture(fresh.main, LIVING)
    fresh.kill()
    fresh.start("sync=always")
    check_picture(before, picture(fresh.main, LIVING))


# ---- copies and damage ---------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["-a", "-r"])
def test_a_copy_of_state_dir_taken_while_running_is_a_valid_one(fresh, flags):
    ctx = fresh.context("a")
    for i in range(10):
        assert done(run(ctx, "n.sh", f"echo {i}\n")) == "ok"
    r = run(ctx, "long.py", "import time\nprint('go', flush=True)\ntime.sleep(1000)\n")
    says(r, "go")
    run(ctx, "queued.sh", "true\n")
    other = fresh.context("b")
    load = spawn(f"i=0; while :; do echo echo $((++i)) > {other}/cells/l.sh; cat {other}/results/l.sh/done; done",
                 stdout=subprocess.PIPE, text=True)
    for _ in range(5):
        assert load.stdout.readline() == "ok\n"
    before = {n: picture(ctx / "history" / n) for n in map(str, range(1, 11))}
    finished = runs(other)[:-2]
    for copy in ("one", "two"):
        shutil.rmtree(fresh.dir / copy, ignore_errors=True)
        said = sh(["cp", flags, str(fresh.state), str(fresh.dir / copy)]).stderr.splitlines()
        for line in said:  # gone, or made anew, while cp walked
            assert "/spool/" in line and ("No such file" in line or "it was replaced while being copied" in line), said
        assert load.poll() is None
        m = Mount(state=fresh.dir / copy)
        try:
            for n in before:
                check_picture(before[n], picture(m.contexts / "a" / "history" / n))
            assert status(m.contexts / "a" / "results" / "long.py") == "lost"
            assert status(m.contexts / "a" / "results" / "queued.sh") == "cancelled"
            for n in finished:
                h = m.contexts / "b" / "history" / str(n)
                assert status(h) == "ok" and read(h / "stdout") == f"{n}\n", n
            for n in set(runs(m.contexts / "b")) - set(finished):
                assert status(m.contexts / "b" / "history" / str(n)) in ENDED
            assert [e["seq"] for e in events(m.contexts / "b")] == sorted(e["seq"] for e in events(m.contexts / "b"))
            assert done(m.run("x.sh", "true\n", "b")) == "ok"
        finally:
            m.close()


def files(state, name):
    """STATE_DIR's file NAME of each context."""
    return sorted(pathlib.Path(state).glob(f"contexts/*/{name}"))


@pytest.mark.parametrize("how", ["deleted", "empty", "cut", "cut inside", "garbage"])
def test_runs_idx_is_rebuilt(fresh, how):
    ctx = fresh.context("a")
    furnish(ctx)
    before = picture(ctx, LIVING)
    fresh.unmount()
    for path in files(fresh.state, "runs.idx"):
        size = os.path.getsize(path)
        if how == "deleted":
            os.unlink(path)
        elif how == "garbage":
            path.write_bytes(os.urandom(size))
        else:
            os.truncate(path, {"empty": 0, "cut": size * 2 // 3 // 64 * 64, "cut inside": max(0, size - 5)}[how])
    fresh.start()
    check_picture(before, picture(ctx, LIVING))
    assert done(run(ctx, "z.sh", "true\n")) == "ok" and max(runs(ctx)) == 12
    fresh.remount()
    assert max(runs(ctx)) == 12


def test_a_number_is_never_given_twice(fresh):
    for i in range(3):
        assert done(fresh.run("a.sh", f"echo number {i}\n")) == "ok"
    os.rmdir(fresh.main / "history" / "3")
    fresh.remount()
    assert record(fresh.run("a.sh", "true\n"))["id"] == 4
    os.rmdir(fresh.main / "history" / "4")
    fresh.unmount()
    for path in files(fresh.state, "runs.idx"):
        os.unlink(path)
    fresh.start()
    assert record(fresh.run("a.sh", "true\n"))["id"] == 5


TORN = {"a line": b'{"seq":99999,"ty', "NUL": b"\0" * 4096, "seq": b'{"seq":1', "no text": b"\xff\xfe", "brace": b"{"}


@pytest.mark.parametrize("tail", TORN)
def test_a_torn_last_line_of_the_journal_is_cut_off(fresh, tail):
    ctx = fresh.context("a")
    for i in range(3):
        assert done(run(ctx, "a.sh", f"echo {i}\n")) == "ok"
    before = picture(ctx, LIVING)
    fresh.kill()
    for path in files(fresh.state, "journal.jsonl"):
        with open(path, "ab") as f:
            f.write(TORN[tail])
    fresh.start()
    check_picture(before, picture(ctx, LIVING))
    assert done(run(ctx, "b.sh", "true\n")) == "ok"
    found = events(ctx)  # each line is JSON
    assert [e["seq"] for e in found] == list(range(1, len(found) + 1))


def test_a_record_that_reaches_past_the_end_of_a_log_is_lost(fresh):
    ctx = fresh.context("a")
    for i in range(3):
        assert done(run(ctx, "a.sh", f"echo number {i}\n")) == "ok"
    first = picture(ctx / "history" / "1")
    fresh.kill()
    (log,) = [p for p in files(fresh.state, "stdout.log") if os.path.getsize(p)]
    os.truncate(log, os.path.getsize(log) - 3)
    fresh.start()
    check_picture(first, picture(ctx / "history" / "1"))
    assert status(ctx / "history" / "2") == "ok" and read(ctx / "history" / "3" / "done") == "lost\n"
    assert read(ctx / "history" / "3" / "error.txt").strip() and record(ctx / "history" / "3")["status"] == "lost"
    with fails(errno.ENOENT):
        os.stat(ctx / "history" / "3" / "exit_code")
    assert done(run(ctx, "a.sh", "echo new\n")) == "ok" and read(ctx / "history" / "4" / "stdout") == "new\n"


def test_a_journal_that_lost_its_end_gives_a_mount_that_works(fresh):
    ctx = fresh.context("a")
    for i in range(3):
        assert done(run(ctx, "a.sh", f"echo number {i}\n")) == "ok"
    first = picture(ctx / "history" / "1")
    fresh.kill()
    for path in files(fresh.state, "journal.jsonl"):
        os.truncate(path, max(0, os.path.getsize(path) - 10))
    fresh.start()
    check_picture(first, picture(ctx / "history" / "1"))
    assert all(status(ctx / "history" / str(n)) in ENDED for n in runs(ctx))
    assert done(run(ctx, "a.sh", "echo new\n")) == "ok"
    assert read(ctx / "results" / "a.sh" / "stdout") == "new\n"


# ---- who may use it ------------------------------------------------------------------------------


def refused(state, mnt):
    os.makedirs(mnt, exist_ok=True)
    got = sh([BUILD / "cellfs", "-f", state, mnt])
    assert got.returncode == 1 and len(got.stderr.strip().splitlines()) == 1, got.stderr
    assert not os.path.ismount(mnt)
    return got.stderr


@pytest.mark.parametrize("version", ["99\n", "2\n", "x\n"])
def test_a_newer_version_is_refused_by_name(fresh, version):
    fresh.unmount()
    own = read(fresh.state / "version")
    write(fresh.state / "version", version)
    said = refused(fresh.state, fresh.path)
    assert "version" in said and (version == "x\n" or version.strip() in said), said
    assert read(fresh.state / "version") == version
    write(fresh.state / "version", own)
    fresh.start()


def test_a_second_daemon_is_refused_naming_the_first(fresh):
    said = refused(fresh.state, fresh.dir / "mnt2")
    assert str(fresh.pid) in said, said
    assert done(fresh.run("a.sh", "true\n")) == "ok"  # the first is unhurt
    fresh.kill()
    fresh.start()  # and the lock of a dead one holds nobody up


def test_a_state_dir_that_cannot_be_used(fresh):
    for path in ("/proc/nosuch", "/etc/passwd", "/dev/null/x"):
        said = refused(path, fresh.dir / "mnt2")
        assert path.split("/x")[0] in said, said




# ---- a full disk ---------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """A mount whose STATE_DIR is on a disk of 8 MiB."""
    with on_a_disk(tmp_path / "disk", "tmpfs", 8 << 20) as made:
        yield made


def fill(m):
    """Takes all space that is left."""
    with open(m.disk / "filler", "wb", buffering=0) as f:
        for size in (65536, 4096, 1):
            try:
                while True:
                    f.write(b"x" * size)
            except OSError as e:
                assert e.errno == errno.ENOSPC


def accepted(ctx, cell, code):
    try:
        return run(ctx, cell, code)
    except OSError as e:
        assert e.errno == errno.ENOSPC
        return None


def test_a_run_that_fills_the_disk_gets_a_clear_error_and_work_goes_on(small):
    ctx = small.main
    assert done(run(ctx, "a.py", "print('before')\n41 + 1\n")) == "ok"
    old = picture(ctx / "history" / "1")
    r = run(ctx, "b.py", "import os\nfor i in range(20): os.write(1, b'x' * 1000000)\n")
    live = spawn(["cat", str(r / "stdout.follow")], stdout=subprocess.DEVNULL)
    word = done(r)  # no reader is left waiting
    assert live.wait(PATIENCE) is not None
    said = read(r / "status") + read(r / "stderr") + read(r / "stdout")[-200:] + json.dumps(record(r)["truncated"] or "")
    assert word != "ok" or "cellfs: " in read(r / "stdout"), said
    assert "space" in (read(ctx / "log") + read(small.path / "log")).lower()
    check_picture(old, picture(ctx / "history" / "1"))
    os.rmdir(ctx / "history" / "2")  # gives its space back
    again = run(ctx, "c.py", "print('after')\n")
    assert done(again) == "ok" and read(again / "stdout") == "after\n"
    small.remount()
    check_picture(old, picture(ctx / "history" / "1"))
    assert read(ctx / "results" / "c.py" / "stdout") == "after\n"


def test_a_disk_that_others_fill_ends_the_running_and_refuses_the_new(small):
    ctx = small.main
    assert done(run(ctx, "a.sh", "echo before\n")) == "ok"
    r = run(ctx, "b.sh", "echo go; until [ -e stop ]; do sleep .01; done; for i in {1..2000}; do echo $i $PATH; done; echo end\n")
    says(r, "go")
    q = run(ctx, "q.sh", "echo queued\n")
    stop = os.open(small.state / "stop", os.O_CREAT | os.O_WRONLY)  # while there is room
    os.close(stop)
    fill(small)
    (space,) = [p for p in small.state.glob("contexts/*/workspace")]
    os.rename(small.state / "stop", space / "stop")
    word = done(r)
    assert word in ENDED and read(r / "execution.json") and isinstance(read(r / "stdout"), str)
    assert done(q) in ENDED and read(q / "execution.json")
    with fails(errno.ENOSPC):
        for i in range(2000):  # the reserve of 1 MiB takes some
            assert done(run(ctx, f"n{i}.sh", "echo " + "x" * 4000 + "\n")) in ENDED
    assert read(ctx / "history" / "1" / "stdout") == "before\n"
    assert "space" in (read(ctx / "log") + read(small.path / "log")).lower()
    os.unlink(small.disk / "filler")
    again = ctx / "results" / "c.sh"
    until(lambda: accepted(ctx, "c.sh", "echo after\n"), why="the space is back, and runs are refused")
    assert done(again) == "ok" and read(again / "stdout") == "after\n"
    ended = {n: status(ctx / "history" / str(n)) for n in runs(ctx)}
    small.remount()
    assert read(ctx / "history" / "1" / "stdout") == "before\n"
    assert {n: status(ctx / "history" / str(n)) for n in runs(ctx)} == ended
    for e in events(ctx):
        assert e["type"]
    assert done(run(ctx, "d.sh", "true\n")) == "ok"


def test_kill_9_on_a_full_disk(small):
    ctx = small.main
    assert done(run(ctx, "a.sh", "echo before\n")) == "ok"
    r = run(ctx, "b.sh", "echo go; sleep 1000\n")
    says(r, "go")
    fill(small)
    small.kill()
    os.truncate(small.disk / "filler", os.path.getsize(small.disk / "filler") - 65536)
    small.start()
    assert read(ctx / "history" / "1" / "stdout") == "before\n" and status(ctx / "results" / "b.sh") == "lost"
    os.unlink(small.disk / "filler")
    until(lambda: accepted(ctx, "c.sh", "true\n"), why="the space is back, and runs are refused")
    assert done(ctx / "results" / "c.sh") == "ok"
