"""artifacts/ of a context and of its runs: which files they show, when, and that what is kept of a run never changes."""

import errno
import json
import os
import pathlib
import shutil
import signal
import threading
import time

import pytest

import mount
from mount import PATIENCE, done, events, fails, fd_of, hold, let_go, ok, read, read_bytes, read_until, run, until, within, write

SLOW = float(os.environ.get("CELLFS_SLOW", "1"))


def made(ctx, code, cell="a.sh"):
    """Runs a cell to its end. Returns its results."""
    r = run(ctx, cell, code)
    assert done(r) == "ok", read(r / "report.md")
    return r


def tree(top):
    """Names of all files below TOP."""
    top = os.fsencode(top)
    found = [os.path.relpath(os.path.join(d, f), top) for d, _, files in os.walk(top) for f in files]
    return sorted(os.fsdecode(f) for f in found)


def record(r):
    return json.loads(read(r / "execution.json"))["artifacts"]


def told(r):
    return [e for e in events(r) if e["type"] == "artifact"]


# ---- which files ---------------------------------------------------------------------------------


def test_files_that_cells_made_or_changed_are_artifacts_and_uploads_are_not(ctx):
    write(ctx / "workspace/up.csv", "a,b\n1,2\n")
    write(ctx / "workspace/changed.txt", "one\n")
    r = made(ctx, "cat up.csv > /dev/null; echo two >> changed.txt; echo new > new.txt\n")
    assert tree(ctx / "artifacts") == tree(r / "artifacts") == ["changed.txt", "new.txt"]
    assert read(ctx / "artifacts/changed.txt") == read(r / "artifacts/changed.txt") == "one\ntwo\n"


def test_a_run_without_changes_has_an_empty_directory(ctx):
    made(ctx, "echo x > x\n")
    r = made(ctx, "cat x\n", "b.sh")
    assert os.listdir(r / "artifacts") == [] and record(r) == [] and told(r) == []
    assert tree(ctx / "artifacts") == ["x"]


def test_opening_a_file_for_writing_and_leaving_it_as_it_is_changes_nothing(ctx):
    write(ctx / "workspace/up", "1")
    r = made(ctx, ": >> up\n")
    assert tree(r / "artifacts") == [] and tree(ctx / "artifacts") == []


def test_caches_and_packages_are_no_artifacts(ctx):
    names = "__pycache__/a.pyc .ipynb_checkpoints/n .git/HEAD node_modules/m/i.js .venv/bin/p .cache/c m.pyc"
    r = made(ctx, f"for f in {names} sub/node_modules/y kept/x; do mkdir -p $(dirname $f); echo 1 > $f; done\n")
    assert tree(r / "artifacts") == tree(ctx / "artifacts") == ["kept/x"]


def test_fifos_sockets_and_devices_are_no_artifacts_and_links_only_if_they_stay(ctx):
    r = made(ctx, "mkfifo p; echo 1 > f; ln -s f in; ln -s /etc/passwd out; ln -s ../.. up; mkdir d; ln -s ../f d/back\n")
    assert tree(r / "artifacts") == tree(ctx / "artifacts") == ["d/back", "f", "in"]
    assert os.readlink(r / "artifacts/d/back") == "../f" and read(r / "artifacts/d/back") == "1\n"


def test_hard_links_are_files_of_their_own_name(ctx):
    r = made(ctx, "echo 1 > a; ln a b\n")
    assert tree(r / "artifacts") == ["a", "b"]
    write(ctx / "workspace/up", "up")
    assert tree(made(ctx, "ln up linked\n", "b.sh") / "artifacts") == ["linked"]


def test_sparse_files_are_kept_with_their_size(ctx):
    r = made(ctx, "truncate -s 3M s; echo end >> s; truncate -s 500M huge\n")
    assert os.stat(r / "artifacts/s").st_size == (3 << 20) + 4
    assert read_bytes(r / "artifacts/s") == bytes(3 << 20) + b"end\n"
    assert {a["path"]: a["size"] for a in record(r)}["huge"] == 500 << 20
    assert os.stat(ctx / "artifacts/huge").st_size == 500 << 20


def test_names_are_bytes(ctx):
    r = made(ctx, "printf 1 > $'a\\xff\\nb'; printf 2 > '-n'; mkdir $'d\\xfe'; printf 3 > $'d\\xfe/x'\n")
    names = [b"-n", b"a\xff\nb", b"d\xfe/x"]
    assert tree(r / "artifacts") == tree(ctx / "artifacts") == sorted(map(os.fsdecode, names))
    assert read_bytes(os.fsencode(r) + b"/artifacts/d\xfe/x") == b"3"
    assert sorted(a["path"] for a in record(r)) == ["-n", "a\ufffd\nb", "d\ufffd/x"]


def test_directories_that_a_cell_makes_and_fills_at_once_lose_nothing(ctx):
    r = made(ctx, "for i in {1..200}; do mkdir -p d$i/e/f; echo $i > d$i/e/f/x; echo $i > d$i/y; done\n")
    assert tree(r / "artifacts") == tree(ctx / "artifacts")
    assert len(tree(r / "artifacts")) == 400 and read(r / "artifacts/d77/e/f/x") == "77\n"


def test_deep_trees_are_shown(ctx):
    r = made(ctx, "d=.; for i in {1..150}; do d=$d/deep; done; mkdir -p $d; echo 1 > $d/x\n")
    path = "deep/" * 150 + "x"
    assert tree(r / "artifacts") == [path] and read(r / "artifacts" / path) == "1\n"
    assert read(ctx / "artifacts" / path) == "1\n"


def test_a_tree_too_deep_for_a_path_does_no_harm(ctx):
    code = "import os\nopen('x', 'w').close()\nfor i in range(3000):\n os.mkdir('deeper'); os.chdir('deeper')\nopen('y', 'w').close()\nos.chdir('/workspace')\n"
    assert tree(made(ctx, code, "a.py") / "artifacts") == ["x"]
    assert tree(made(ctx, "echo 1 > z\n") / "artifacts") == ["z"]


def test_moves_within_the_workspace(ctx):
    write(ctx / "workspace/up", "up")
    r = made(ctx, "echo 1 > t; mv t f; mkdir a; echo 2 > a/x; mv a b; echo 3 > b/y; mv up moved\n")
    assert tree(r / "artifacts") == tree(ctx / "artifacts") == ["b/x", "b/y", "f", "moved"]
    r = made(ctx, "mv b c; echo 4 > c/z; rm f\n", "b.sh")
    assert tree(ctx / "artifacts") == ["c/x", "c/y", "c/z", "moved"]
    assert tree(r / "artifacts") == ["c/x", "c/y", "c/z"]


def test_what_is_moved_out_of_a_cache_is_an_artifact_and_back_in_it_is_none(ctx):
    made(ctx, "mkdir -p .cache; echo 1 > .cache/a; mv .cache/a a; echo 2 > b; mv b .cache/b\n")
    assert tree(ctx / "artifacts") == ["a"]
    made(ctx, "mkdir .cache/d; echo 1 > .cache/d/x; mv .cache/d d; echo 2 > d/y\n", "b.sh")
    assert tree(ctx / "artifacts") == ["a", "d/x", "d/y"]
    made(ctx, "mv d .cache/d\n", "c.sh")
    assert tree(ctx / "artifacts") == ["a"]


def test_a_file_that_stays_open_is_an_artifact_of_each_run_that_writes_it(ctx):
    first = made(ctx, "f = open('log', 'w', buffering=1)\nf.write('one\\n')\n", "a.py")
    second = made(ctx, "f.write('two\\n')\n", "b.py")
    third = made(ctx, "1\n", "c.py")
    assert [read(r / "artifacts/log") for r in (first, second)] == ["one\n", "one\ntwo\n"]
    assert tree(third / "artifacts") == []


def test_what_is_mapped_into_memory_is_seen_while_the_file_was_made_and_is_open(ctx):
    made(ctx, "import mmap\nf = open('m', 'w+b'); f.truncate(8)\nm = mmap.mmap(f.fileno(), 8)\n", "a.py")
    r = made(ctx, "m[0:2] = b'hi'; m.flush()\n", "b.py")
    assert read_bytes(r / "artifacts/m") == b"hi" + bytes(6)


# ---- uploads --------------------------------------------------------------------------------------


def test_writes_through_the_mount_while_a_run_goes_on_are_uploads(ctx):
    r = hold(ctx)
    write(ctx / "workspace/up", "x" * 300000)
    (ctx / "workspace/dir").mkdir()
    for i in range(50):
        write(ctx / f"workspace/dir/{i}", "x")
    os.rename(ctx / "workspace/dir", ctx / "workspace/dir2")
    os.rename(ctx / "workspace/up", ctx / "workspace/up2")
    os.chmod(ctx / "workspace/up2", 0o600)
    os.utime(ctx / "workspace/up2", (1, 2))
    os.symlink("up2", ctx / "workspace/l")
    shutil.copy2(ctx / "workspace/up2", ctx / "workspace/up3")
    with open(ctx / "workspace/up3", "ab") as f:
        f.write(b"more")
    os.truncate(ctx / "workspace/up3", 5)
    let_go(ctx)
    assert done(r) == "ok"
    assert tree(r / "artifacts") == [] and tree(ctx / "artifacts") == [] and told(r) == []


def test_the_last_to_write_a_file_decides_whose_it_is(ctx):
    r = hold(ctx, code="echo cell > f; echo begun; while [ ! -e go ]; do sleep 0.02; done; rm go; echo cell >> g\n")
    until(lambda: tree(ctx / "artifacts") == ["f"], why="f is no artifact")
    write(ctx / "workspace/f", "mine\n")
    write(ctx / "workspace/g", "mine\n")
    assert tree(ctx / "artifacts") == []
    let_go(ctx)
    assert done(r) == "ok"
    assert tree(ctx / "artifacts") == tree(r / "artifacts") == ["g"]
    made(ctx, "echo cell > f\n", "b.sh")
    write(ctx / "ctl", "stop\n")
    assert tree(ctx / "artifacts") == ["f", "g"]
    write(ctx / "workspace/f", "mine again\n")  # while nothing is watched
    assert tree(ctx / "artifacts") == ["g"]


def test_what_the_mount_moves_stays_what_it_was(ctx):
    write(ctx / "workspace/up", "up")
    made(ctx, "mkdir d; echo 1 > d/x; echo 2 > f\n")
    os.rename(ctx / "workspace/d", ctx / "workspace/e")
    os.rename(ctx / "workspace/f", ctx / "workspace/e/f")
    os.rename(ctx / "workspace/up", ctx / "workspace/e/up")
    assert tree(ctx / "artifacts") == ["e/f", "e/x"]
    r = made(ctx, "echo 3 >> e/x\n", "b.sh")
    assert tree(ctx / "artifacts") == ["e/f", "e/x"] and tree(r / "artifacts") == ["e/x"]
    write(ctx / "ctl", "stop\n")
    os.rename(ctx / "workspace/e", ctx / "workspace/d")
    assert tree(ctx / "artifacts") == ["d/f", "d/x"]


# ---- whose -----------------------------------------------------------------------------------------


def test_changes_between_runs_are_the_contexts_alone(ctx):
    first = made(ctx, "(while [ ! -e go ]; do sleep 0.02; done; echo late > late; ln -s late ended) >/dev/null 2>&1 &\n")
    write(ctx / "workspace/go", "")
    until(lambda: "ended" in tree(ctx / "artifacts"), why="the background made nothing")  # in one step: nothing comes after it
    assert read(ctx / "artifacts/late") == "late\n"
    second = made(ctx, "echo 2 > second\n", "b.sh")
    assert tree(first / "artifacts") == [] and tree(second / "artifacts") == ["second"]
    assert tree(ctx / "artifacts") == ["ended", "late", "second"]


def test_the_next_run_starts_after_the_snapshot(ctx):
    ctx_runs = [run(ctx, f"c{i}.sh", f"head -c 4000000 /dev/zero | tr '\\0' '{i}' > f\n") for i in range(8)]
    for i, r in enumerate(ctx_runs):
        assert done(r) == "ok"
        assert read_bytes(r / "artifacts/f") == str(i).encode() * 4000000


def test_runs_that_fail_are_killed_or_interrupted_have_artifacts_too(ctx):
    r = run(ctx, "a.sh", "echo 1 > f; exit 3\n")
    assert done(r) == "error" and tree(r / "artifacts") == ["f"]
    r = run(ctx, "b.py", "import os\nopen('g', 'w').write('x')\nos.kill(os.getpid(), 9)\n")
    assert done(r) == "killed" and read(r / "artifacts/g") == "x"
    r = run(ctx, "c.sh", "#| timeout: 3\necho 1 > h; sleep 1000\n")
    assert done(r) == "timeout" and tree(r / "artifacts") == ["h"]


# ---- events and documents --------------------------------------------------------------------------


def test_an_artifact_event_comes_within_20_ms_after_the_file_is_closed(ctx):
    made(ctx, "1\n", "warm.py")
    code = "import time\n"
    code += "for i in range(20):\n with open(f'f{i}', 'w') as f: f.write('x' * i)\n t = time.time(); time.sleep(0.1); print(t)\n"
    r = made(ctx, code, "a.py")
    at = {e["path"]: e["time"] for e in told(r)}
    closed = [float(line) for line in read(r / "stdout").split()]
    late = []
    for i, t in enumerate(closed):
        stamp = at[f"f{i}"]
        seconds = time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float("0" + stamp[19:-1])
        late.append((seconds - t) * 1000)
    late.sort()
    print("ms after close:", [round(x, 2) for x in late])
    assert late[len(late) // 2] <= 20 * SLOW, late


def test_an_event_has_path_size_and_mime_and_comes_before_finished(ctx):
    r = made(ctx, "printf 'a,b,c\\n1,2,3\\n4,5,6\\n' > t.csv; echo '{\"a\": 1}' > j.json; mkdir d; printf '\\x89PNG\\r\\n\\x1a\\n\\0\\0\\0\\rIHDR' > d/p.png; : > e\n")
    want = {"t.csv": "text/csv", "j.json": "application/json", "d/p.png": "image/png", "e": "inode/x-empty"}
    got = {e["path"]: e["mime"] for e in told(r)}
    assert got == want
    assert {a["path"]: a["mime"] for a in record(r)} == want
    assert all(a["size"] == os.stat(r / "artifacts" / a["path"]).st_size and "live" not in a for a in record(r))
    assert events(r)[-1]["type"] == "finished"
    assert all(e["run"] == int(read(r / "run")) and e["cell"] == "a.sh" for e in told(r))
    assert os.getxattr(r / "artifacts/d/p.png", "user.mime_type") == b"image/png"
    assert "history/1/artifacts/t.csv` (text/csv, 18 bytes)" in read(r / "report.md")


def test_while_it_runs_a_run_lists_what_is_known(ctx):
    r = hold(ctx, code="echo 1 > f; mkdir d; echo 2 > d/x; echo begun; while [ ! -e go ]; do sleep 0.02; done; rm go\n")
    until(lambda: tree(r / "artifacts") == ["d/x", "f"], why="not known")
    assert tree(ctx / "history/1/artifacts") == ["d/x", "f"]
    assert os.readlink(r / "artifacts/f") == "../../../workspace/f" and read(r / "artifacts/d/x") == "2\n"
    with fails(errno.ENOENT):
        os.stat(r / "artifacts/none")
    let_go(ctx)
    assert done(r) == "ok"
    assert not os.path.islink(r / "artifacts/f") and read(r / "artifacts/d/x") == "2\n"


# ---- what is kept ----------------------------------------------------------------------------------


def test_a_run_that_has_ended_never_changes(ctx):
    r = made(ctx, "echo one > f; exec 7>>f\n", "a.sh")
    n = ctx / "history/1"
    made(ctx, "echo two >&7; echo three > g; mv g f\n", "b.sh")
    assert read(r / "artifacts/f") == read(n / "artifacts/f") == "one\n"
    made(ctx, "rm f\n", "c.sh")
    assert read(n / "artifacts/f") == "one\n" and tree(ctx / "artifacts") == []
    st = os.stat(n / "artifacts/f")
    assert st.st_size == 4 and st.st_mtime_ns == os.stat(n / "stdout").st_mtime_ns


def test_a_cell_that_draws_plot_png_run_nine_times_has_nine_different_ones(ctx):
    code = "import matplotlib; matplotlib.use('Agg')\nimport matplotlib.pyplot as plt\nk = globals().get('k', 0) + 1\nfig = plt.figure()\nplt.plot(range(k * 3)); plt.title(str(k))\nfig.savefig('plot.png'); plt.close(fig)\nimport hashlib; print(hashlib.sha256(open('plot.png', 'rb').read()).hexdigest())\n"
    import hashlib

    seen = set()
    for _ in range(9):
        made(ctx, code, "p.py")
    for n in range(1, 10):
        data = read_bytes(ctx / f"history/{n}/artifacts/plot.png")
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert hashlib.sha256(data).hexdigest() == read(ctx / f"history/{n}/stdout").strip()
        assert [a["mime"] for a in record(ctx / f"history/{n}")] == ["image/png"]
        seen.add(data)
    assert len(seen) == 9


def test_past_64_mib_a_file_is_a_link_into_the_workspace_and_live_in_the_record(ctx):
    r = made(ctx, "head -c 50M /dev/urandom > a; head -c 20M /dev/urandom > b; mkdir d; head -c 30M /dev/zero > d/c; echo 1 > z\n")
    live = {a["path"]: a.get("live", False) for a in record(r)}
    if not any(live.values()):
        pytest.skip("this file system reflinks")
    assert live == {"a": False, "b": True, "d/c": True, "z": False}
    assert os.readlink(r / "artifacts/b") == "../../../workspace/b"
    assert os.readlink(ctx / "history/1/artifacts/d/c") == "../../../../workspace/d/c"
    assert read_bytes(r / "artifacts/a") == read_bytes(ctx / "workspace/a")
    assert os.stat(r / "artifacts/d/c").st_size == 30 << 20


def test_forgetting_a_run_forgets_its_files(m, ctx):
    made(ctx, "head -c 5M /dev/urandom > f; mkdir d; echo 1 > d/x\n")
    kept = next(m.state.glob(f"contexts/{json.loads(read(ctx / 'context.json'))['uuid']}/kept.bin"))
    before = os.stat(kept).st_blocks
    ok(["rm", "-r", ctx / "history/1"])
    assert mount.runs(ctx) == [] and os.stat(kept).st_blocks < before / 10
    assert tree(ctx / "artifacts") == ["d/x", "f"]
    for _ in range(4):
        made(ctx, "echo $RANDOM > g\n", "b.sh")
    write(ctx / "config/keep", "2\n")
    made(ctx, "echo $RANDOM > g\n", "b.sh")
    assert len(mount.runs(ctx)) == 2


def test_writing_into_results_or_history_is_erofs(ctx):
    r = made(ctx, "echo 1 > f; mkdir d; echo 2 > d/x\n")
    for where in (r, ctx / "history/1", r / "artifacts", ctx / "history/1/artifacts/d", ctx / "results", ctx / "history", ctx / "artifacts",
                  ctx / "artifacts/d"):  # fmt: skip
        for call in (
            lambda: write(where / "new", "x"),
            lambda: os.mkdir(where / "newdir"),
            lambda: os.symlink("x", where / "newlink"),
            lambda: os.rename(ctx / "workspace/f", where / "moved") if "artifacts" not in os.fsdecode(where) else write(where / "new", "x"),
        ):
            with fails(errno.EROFS):
                call()
    for f in (r / "artifacts/f", ctx / "history/1/artifacts/d/x", ctx / "artifacts/f", r / "stdout"):
        for call in (
            lambda: write(f, "x"),
            lambda: os.truncate(f, 0),
            lambda: os.chmod(f, 0o600),
            lambda: os.utime(f, (1, 2)),
            lambda: os.link(f, f.parent / "link"),
            lambda: os.rename(f, f.parent / "other"),
        ):
            with fails(errno.EROFS):
                call()
    assert read(r / "artifacts/f") == read(ctx / "artifacts/f") == "1\n"
    assert tree(ctx / "artifacts") == ["d/x", "f"]


def test_rm_and_mv_take_a_file_out_of_the_workspace(m, ctx):
    r = made(ctx, "mkdir -p d/e; for f in a b c d/x d/e/y; do echo $f > $f; done\n")
    write(ctx / "workspace/d/up", "up")
    os.unlink(ctx / "artifacts/a")
    ok(["mv", ctx / "artifacts/b", m.path / "artifacts" / f"b-{ctx.name}"])
    assert read(m.path / "artifacts" / f"b-{ctx.name}") == "b\n"
    ok(["mv", ctx / "artifacts/c", ctx / "workspace/d/c"])
    ok(["rm", "-r", ctx / "artifacts/d"])
    assert tree(ctx / "workspace") == ["d/c", "d/up"] and tree(ctx / "artifacts") == []
    assert tree(r / "artifacts") == ["a", "b", "c", "d/e/y", "d/x"] and read(r / "artifacts/d/x") == "d/x\n"
    os.unlink(m.path / "artifacts" / f"b-{ctx.name}")


def test_copying_an_artifact_onto_itself_does_no_harm(ctx):
    made(ctx, "echo 1 > f\n")
    assert mount.sh(["cp", ctx / "artifacts/f", ctx / "workspace/f"]).returncode != 0
    assert read(ctx / "workspace/f") == "1\n"


def test_rm_r_of_a_context_with_artifacts_meets_no_error(m, ctx):
    made(ctx, "mkdir -p d/e; for i in {1..30}; do echo $i > d/e/$i; done; echo 1 > f\n")
    assert ok(["rm", "-r", ctx]) == ""


# ---- many, often, lost -----------------------------------------------------------------------------


def memory(m):
    """Of the daemon, in bytes: what is its alone."""
    return int(next(line for line in read(f"/proc/{m.pid}/smaps_rollup").splitlines() if "Private_Dirty" in line).split()[1]) << 10


def test_10000_files_made_by_one_cell_are_exact(m, ctx):
    made(ctx, "1\n", "warm.py")
    before = memory(m)
    code = "import os\nfor i in range(100):\n os.mkdir(f'd{i}')\n for k in range(100):\n  with open(f'd{i}/f{k}', 'w') as f: f.write(f'{i} {k}')\n"
    start = time.monotonic()
    r = made(ctx, code, "a.py")
    took = time.monotonic() - start
    want = sorted(f"d{i}/f{k}" for i in range(100) for k in range(100))
    assert tree(r / "artifacts") == want and tree(ctx / "artifacts") == want
    assert sorted(a["path"] for a in record(r)) == want
    assert sorted({e["path"] for e in told(r)}) == want
    assert read(r / "artifacts/d99/f7") == "99 7"
    grown = memory(m) - before
    print(f"10,000 files: {took:.2f} s, {grown >> 10} KiB")
    assert grown < (64 << 20) * SLOW  # a sanitizer keeps what was freed


def test_a_file_rewritten_10000_times_gives_few_events_and_the_last_text(m, ctx):
    before = memory(m)
    start = time.monotonic()
    r = made(ctx, "for i in range(10000):\n with open('f', 'w') as f: f.write(str(i))\n", "a.py")
    assert read(r / "artifacts/f") == "9999" and tree(r / "artifacts") == ["f"]
    assert 1 <= len(told(r)) <= 3 + (time.monotonic() - start), len(told(r))  # one a second
    assert told(r)[-1]["size"] == 4
    start = time.monotonic()
    r = made(ctx, "import os\nfor i in range(10000):\n with open('t', 'w') as f: f.write(str(i))\n os.rename('t', 'f')\n", "b.py")
    assert read(r / "artifacts/f") == "9999" and tree(r / "artifacts") == ["f"]
    assert len(told(r)) <= 3 + 2 * (time.monotonic() - start)
    assert memory(m) - before < 32 << 20


@pytest.fixture
def short_queue():
    """Queues of inotify that are made now hold 16 news."""
    path = pathlib.Path("/proc/sys/fs/inotify/max_queued_events")
    was = read(path)
    try:
        write(path, "16\n")
    except OSError:
        pytest.skip("fs.inotify.max_queued_events cannot be set here")
    yield
    write(path, was)


def test_an_inotify_queue_that_overflows_loses_nothing(short_queue, m, ctx):
    write(ctx / "workspace/up", "up")
    code = "import os\nfor i in range(40):\n os.makedirs(f'd{i}/e')\n for k in range(50):\n  open(f'd{i}/e/f{k}', 'w').close()\n"
    r = made(ctx, code + "open('rm', 'w').close(); os.unlink('rm'); os.rename('d0', 'd')\n", "a.py")
    want = sorted([f"d{i}/e/f{k}" for i in range(1, 40) for k in range(50)] + [f"d/e/f{k}" for k in range(50)])
    assert tree(r / "artifacts") == want and tree(ctx / "artifacts") == want
    second = made(ctx, "for i in range(2000):\n with open('d/e/f3', 'w') as f: f.write(str(i))\n with open('g', 'w') as f: f.write(str(i))\n", "b.py")
    assert tree(second / "artifacts") == ["d/e/f3", "g"] and read(second / "artifacts/g") == "1999"
    assert tree(made(ctx, "cat g\n") / "artifacts") == []


@pytest.mark.parametrize("knob", ["max_user_instances", "max_user_watches"])
def test_without_inotify_a_walk_at_the_end_of_the_run_finds_them_and_the_log_says_so(fresh, knob):
    path = pathlib.Path("/proc/sys/fs/inotify") / knob
    was = read(path)
    try:
        write(path, "1\n" if knob == "max_user_watches" else "0\n")
    except OSError:
        pytest.skip(f"fs.inotify.{knob} cannot be set here")
    try:
        c = fresh.context("a")
        write(c / "workspace/up", "up")
        first = made(c, "mkdir d; echo 1 > d/x; echo 2 > f; rm -f none\n")
        second = made(c, "echo 3 > d/x\n", "b.sh")
        third = made(c, "cat f\n", "c.sh")
        assert [tree(r / "artifacts") for r in (first, second, third)] == [["d/x", "f"], ["d/x"], []]
        assert tree(c / "artifacts") == ["d/x", "f"]
        assert f"fs.inotify.{knob}" in read(c / "log")
        for i in range(40):  # what was put there a moment before the first run is nobody's
            c = fresh.context(f"c{i}")
            write(c / "workspace/up", "up")
            assert tree(made(c, "true\n") / "artifacts") == [], i
    finally:
        write(path, was)


# ---- budgets ---------------------------------------------------------------------------------------


def notices(r):
    return [e["text"] for e in events(r) if e["type"] == "notice"]


NO_MORE = "no more events of artifacts: too many in one run; its record has the files"
DEEP = "import os\nfor i in range(15): os.mkdir({0}); os.chdir({0})\nfor i in range({1}): open(f'f{{i}}', 'w').close()\nos.chdir('/workspace')\n"


def test_past_20000_events_a_run_has_no_more_and_past_16383_files_its_record_has_no_more(ctx):
    r = hold(ctx, "a.py", "for i in range(20500): open(f'f{i:05}', 'w').close()\n" + mount.HOLD_PY)
    with fd_of(r / "events.follow") as fd:
        read_until(fd, NO_MORE.encode())
    let_go(ctx)
    assert done(r) == "ok"
    assert len(told(r)) == 20000
    assert notices(r) == [NO_MORE, "4117 artifacts are left out: more than 16383 in one run"]
    assert len(record(r)) == 16383 and len(tree(ctx / "artifacts")) == 20500
    assert tree(r / "artifacts") == sorted(a["path"] for a in record(r))


def test_past_8_mib_of_events_a_run_has_no_more_and_its_record_is_exact(ctx):
    r = made(ctx, DEEP.format("'\\x01' * 250", 400), "a.py")  # six bytes for each in JSON
    assert notices(r) == [NO_MORE]
    size = sum(len(json.dumps(e["path"])) for e in told(r))
    assert 7 << 20 < size <= 8 << 20 and len(told(r)) < 400
    top = ("\x01" * 250 + "/") * 15
    assert sorted((a["path"], a["size"]) for a in record(r)) == sorted((f"{top}f{i}", 0) for i in range(400))


def test_past_32_mib_of_paths_there_are_no_more_artifacts_and_the_log_says_so(ctx):
    r = made(ctx, DEEP.format("'d' * 255", 9000), "a.py")
    assert read(ctx / "log").count("artifacts/ shows no more than 200000 files, with 32 MiB of paths") == 1
    names = tree(ctx / "artifacts")
    assert 31 << 20 < sum(map(len, names)) < 32 << 20
    assert sorted(a["path"] for a in record(r)) == names
    ok(["rm", "-r", ctx / "workspace" / ("d" * 255)])
    assert tree(made(ctx, "echo 1 > again\n") / "artifacts") == ["again"] == tree(ctx / "artifacts")


def test_past_200000_files_there_are_no_more_artifacts_and_the_log_says_so(fresh):
    c = fresh.context("a")
    made(c, "touch f\n")
    uuid = json.loads(read(c / "context.json"))["uuid"]
    fresh.unmount()
    with open(fresh.state / "contexts" / uuid / "made.log", "ab") as f:
        f.write(b"".join(b"+gone%d\0" % i for i in range(199990)))
    fresh.start()
    r = made(c, "for i in {1..20}; do > new$i; done\n")
    assert "artifacts/ shows no more than 200000 files" in read(c / "log")
    assert len(record(r)) == 9 and tree(c / "artifacts") == sorted(["f", *tree(r / "artifacts")])


# ---- hostile ---------------------------------------------------------------------------------------


def test_a_file_that_grows_shrinks_or_is_swapped_while_it_is_read_is_what_was_opened(ctx):
    secret = "root:"
    code = (
        "import os, threading, time\n"
        "open('a', 'w').write('good' * 1000); os.symlink('/etc/passwd', 'evil'); os.mkdir('d')\n"
        "stop = False\n"
        "def swap():\n"
        " while not stop:\n"
        "  try:\n"
        "   os.symlink('/etc/passwd', 't'); os.rename('t', 'x')\n"
        "   open('t', 'w').write('good' * 1000); os.rename('t', 'x')\n"
        "   os.truncate('a', 7); open('a', 'a').write('good' * 5000)\n"
        "  except OSError: pass\n"
        "threading.Thread(target=swap, daemon=True).start()\n"
    )
    made(ctx, code, "a.py")
    for i in range(30):
        r = made(ctx, "1\n", "b.py")
        for name in tree(r / "artifacts"):
            p = r / "artifacts" / name
            if not os.path.islink(p):
                text = read(p)
                assert secret not in text and len(text) == os.stat(p).st_size
                assert text == read(p)
        assert "evil" not in tree(r / "artifacts")
    for i in range(200):
        for name in ("a", "x"):
            try:
                assert secret not in read(ctx / "artifacts" / name)
            except OSError as e:
                assert e.errno in (errno.ENOENT, errno.ESTALE, errno.ELOOP, errno.EROFS)
    write(ctx / "ctl", "restart\n")


def test_a_file_that_is_closed_to_all_or_leased_ends_no_run(ctx):
    code = "import fcntl, os, signal\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\nopen('z', 'w').write('1'); os.chmod('z', 0)\nf = open('l', 'w+'); f.write('2'); f.flush()\ng = open('m', 'w'); g.write('3'); g.close()\nh = open('m', 'r+'); fcntl.fcntl(h, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n"
    with within(PATIENCE):
        r = made(ctx, code, "a.py")
    assert tree(r / "artifacts") == ["l", "m", "z"]


# ---- over a restart --------------------------------------------------------------------------------


def test_artifacts_outlive_an_unmount(fresh):
    c = fresh.context("a")
    write(c / "workspace/up", "up")
    r = made(c, "mkdir d; echo 1 > d/x; echo 2 > f; ln -s f l\n")
    made(c, "rm f l; echo 3 > g\n", "b.sh")
    before = [tree(c / "artifacts"), tree(r / "artifacts"), record(r), read(c / "history/1/artifacts/f")]
    fresh.remount()
    assert [tree(c / "artifacts"), tree(r / "artifacts"), record(r), read(c / "history/1/artifacts/f")] == before
    assert before[0] == ["d/x", "g"] and before[1] == ["d/x", "f", "l"]


def test_kill_9_leaves_no_torn_snapshot(fresh):
    c = fresh.context("a")
    for i in range(6):
        r = run(c, f"c{i}.sh", f"for k in {{1..40}}; do head -c 500000 /dev/zero | tr '\\0' '{i}' > f$k; done\n")
        if i % 2:
            assert done(r) == "ok"
        else:
            until(lambda: tree(r / "artifacts") or mount.status(r) not in ("queued", "running"), why="nothing is made")
            time.sleep(0.05 * i)
        fresh.kill()
        fresh.start()
        for n in mount.runs(c):
            h = c / f"history/{n}"
            status = read(h / "done").strip()
            assert status in ("ok", "lost", "cancelled")
            if status == "ok":
                digit = json.loads(read(h / "execution.json"))["cell"][1].encode()
                assert len(record(h)) == 40
                for name in tree(h / "artifacts"):
                    assert read_bytes(h / "artifacts" / name) == digit * 500000
            else:
                assert tree(h / "artifacts") == [] and record(h) == []


def test_a_copy_of_state_dir_is_valid_with_its_artifacts(fresh, tmp_path):
    c = fresh.context("a")
    stop = threading.Event()

    def work():
        i = 0
        while not stop.is_set() and i < 200:
            i += 1
            done(run(c, f"c{i % 5}.sh", f"echo {i} > f; echo {i} > g{i}\n"))

    t = threading.Thread(target=work)
    t.start()
    until(lambda: len(mount.runs(c)) > 10, why="nothing runs")
    copies = []
    for k in range(3):
        copies.append(tmp_path / f"copy{k}")
        mount.sh(["cp", "-a", fresh.state, copies[-1]])
    stop.set()
    t.join()
    for k, copy in enumerate(copies):
        other = mount.Mount("", state=copy, where=fresh.dir / f"other{k}")
        try:
            oc = other.contexts / "a"
            assert mount.runs(oc)
            for n in mount.runs(oc):
                h = oc / f"history/{n}"
                if read(h / "done").strip() == "ok":
                    i = read(h / "code").split()[1]
                    assert read(h / "artifacts/f").strip() == i and tree(h / "artifacts") == ["f", f"g{i}"]
        finally:
            other.unmount()


@pytest.mark.options("sync=always")
def test_artifacts_with_sync_always(fresh):
    c = fresh.context("a")
    r = made(c, "echo 1 > f\n")
    assert read(r / "artifacts/f") == "1\n"
    fresh.kill()
    fresh.start()
    assert read(c / "history/1/artifacts/f") == "1\n"


def test_stopping_the_daemon_keeps_what_a_run_made(fresh):
    c = fresh.context("a")
    hold(c, code="echo 1 > f; echo begun; while [ ! -e go ]; do sleep 0.02; done\n")
    fresh.signal(signal.SIGTERM)
    fresh.wait_end()
    fresh.start()
    assert done(c / "history/1") == "killed" and read(c / "history/1/artifacts/f") == "1\n"
    assert tree(c / "artifacts") == ["f"]


@pytest.fixture
def on_xfs(tmp_path):
    """A daemon whose STATE_DIR is on a file system that reflinks."""
    with mount.on_a_disk(tmp_path / "xfs", "xfs", 1 << 30) as made:
        if not made:
            pytest.skip("no XFS can be made and mounted here")
        yield made


def used(where):
    os.sync()
    st = os.statvfs(where)
    return (st.f_blocks - st.f_bfree) * st.f_frsize


def test_where_the_file_system_reflinks_a_run_keeps_files_of_any_size_and_no_bytes_move(on_xfs):
    m, where = on_xfs, on_xfs.disk
    c = m.context("a")
    before = used(where)
    made(c, "head -c 200M /dev/zero | tr '\\0' x > big; echo 1 > odd\n")
    for cell in ("b", "c"):
        made(c, f"printf {cell} | dd of=big bs=1 seek=100000000 conv=notrunc status=none; echo 2 >> odd\n", cell + ".sh")
    m.remount()  # XFS takes more than it needs for files that are open
    assert used(where) - before < 250 << 20
    for n, letter in ((1, b"x"), (2, b"b"), (3, b"c")):
        h = c / f"history/{n}"
        assert [a.get("live", False) for a in record(h)] == [False, False]
        assert os.stat(h / "artifacts/big").st_size == 200 << 20
        with open(h / "artifacts/big", "rb") as f:
            f.seek(100000000)
            assert f.read(2) == letter + b"x"
        assert read(h / "artifacts/odd") == "1\n" + "2\n" * (n - 1)


# ---- cells that would hold up everybody ------------------------------------------------------------


def test_a_run_ends_while_its_files_go_on_changing(m, ctx):
    writers = "".join(f"(while :; do echo x; done > f{n}; true) & (while :; do echo y > g{n}; done) &\n" for n in range(2))
    r = run(ctx, "a.sh", writers + "until [ -s f0 ] && [ -s f1 ] && [ -e g0 ] && [ -e g1 ]; do sleep 0.02; done; sleep 0.3\n")
    assert done(r) == "ok"
    with within(PATIENCE):
        assert {"f0", "f1"} <= set(os.listdir(r / "artifacts"))
        assert read(m.main / "status")  # the daemon answers
        assert done(run(m.main, "b.sh", "true\n")) == "ok"
        write(ctx / "ctl", "stop\n")


def test_directories_that_go_by_the_thousand_take_their_files_along(ctx):
    r = made(ctx, "mkdir big; for i in {1..300}; do mkdir d$i; echo > d$i/f; echo > big/f$i; done\n")
    assert len(tree(ctx / "artifacts")) == 600 and len(record(r)) == 600
    made(ctx, "for i in {1..300}; do mv d$i e$i; rm -r e$i; done; mkdir d1; echo again > d1/f\n", "b.sh")
    assert tree(ctx / "artifacts") == sorted([f"big/f{i}" for i in range(1, 301)] + ["d1/f"])


def test_a_reader_through_the_mount_makes_no_upload_of_a_cells_file(ctx):
    made(ctx, "echo one > log.txt\n")
    with open(ctx / "workspace/log.txt") as f:
        assert f.read() == "one\n"
        r = made(ctx, "echo two >> log.txt\n", "b.sh")
    r = made(ctx, "echo three >> log.txt\n", "c.sh")
    assert tree(ctx / "artifacts") == ["log.txt"] == tree(r / "artifacts")
