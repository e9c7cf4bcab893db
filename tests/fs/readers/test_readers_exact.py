"""An idle context: complete, exact and stable for every tool that copies."""

import filecmp
import hashlib
import json
import os
import re
import time

import pytest
from mount import Mount, done, ok, read, read_bytes, run, sh, until

PLOT = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
CELLS = {
    "a.sh": "echo one; echo two >&2\n",
    "b.sh": "exit 3\n",
    "value.py": "40+2\n",
    "text.py": "'a string'\n",
    "bad.py": "def f():\n    1/0\nf()\n",
    "rich.py": "from IPython.display import display, HTML, Image\n"
    f"display(HTML('<b>x</b>')); display(Image(data={PLOT!r}, format='png')); 'end'\n",
    "big.sh": "head -c 3000000 /dev/zero | tr '\\0' x; echo\n",
    "sub.sh": "mkdir -p sub/dir; echo data >sub/dir/file; echo $PWD >/dev/null\n",
    "bytes.sh": "printf '\\000\\377\\n'\n",
    "silent.sh": ":\n",
}


@pytest.fixture(scope="module")
def idle():
    """A mount with an idle context that has a bit of everything. Its directory is `.idle`."""
    made = Mount()
    made.idle = made.context("idle")
    for name, code in CELLS.items():
        done(run(made.idle, name, code))
    done(run(made.idle, "a.sh", CELLS["a.sh"]))
    (made.idle / "cells/draft.txt").write_text("a draft\n")
    (made.idle / "config/timeout").write_text("90s\n")
    (made.idle / "config/env/FOO").write_text("bar\n")
    settled(made, made.idle)
    yield made
    made.close()


def settled(m, ctx):
    """Nothing of the mount changes by itself any more. What the cells made is seen on the disk up to a second later, and
    context.json tells then; a moment after its last cell each language gets its spares, which the root's status lists."""
    until(lambda: read(ctx / "status").startswith("idle"))
    about = json.loads(read(ctx / "context.json"))
    kept = len(read_bytes(ctx / "stdout"))
    made = sum(st.st_blocks * 512 for st in files(m.state / "contexts" / about["uuid"] / "workspace").values())
    until(lambda: json.loads(read(ctx / "context.json"))["usage"]["disk_bytes"] >= kept + made, why="the disk is not seen")
    if about["isolation"].startswith("full"):
        spares = lambda: re.search("^spares: (.*)$", read(m.path / "status"), re.M)[1].split()
        until(lambda: set(about["kernels"]) <= set(spares()), why="there are no spares")


def files(top):
    """{relative name: lstat} of everything below TOP."""
    found = {}
    for where, dirs, names in os.walk(top):
        for name in dirs + names:
            path = os.path.join(where, name)
            found[os.path.relpath(path, top)] = os.lstat(path)
    return found


def regular(top):
    return [n for n, st in files(top).items() if os.path.isfile(os.path.join(top, n)) and not os.path.islink(os.path.join(top, n))]


def assert_same_tree(a, b):
    """Names, kinds, bytes, sizes, mtimes, modes and links."""
    one, two = files(a), files(b)
    assert sorted(one) == sorted(two)
    for name, st in one.items():
        x, y = os.path.join(a, name), os.path.join(b, name)
        assert st.st_mode == two[name].st_mode, name
        if os.path.islink(x):
            assert os.readlink(x) == os.readlink(y), name
        elif os.path.isfile(x):
            assert filecmp.cmp(x, y, shallow=False), name
            assert st.st_size == two[name].st_size, name
            assert abs(st.st_mtime_ns - two[name].st_mtime_ns) < 1_000_000_000, name


def test_st_size_is_what_is_read(idle):
    """Of every listed file of the mount but the daemon's own log."""
    for name in regular(idle.path):
        path = idle.path / name
        assert os.stat(path).st_size == len(read_bytes(path)), name


def test_every_file_reads_the_same_twice(idle):
    for name in regular(idle.idle):
        assert read_bytes(idle.idle / name) == read_bytes(idle.idle / name), name


def test_every_listed_file_can_be_read(idle):
    found = regular(idle.path)
    assert len(found) > 100
    for name in found:
        assert os.access(idle.path / name, os.R_OK), name


def test_cp_a_is_complete_and_exact(idle, tmp_path):
    ok(["cp", "-a", idle.idle, tmp_path / "copy"])
    assert_same_tree(idle.idle, tmp_path / "copy")


def test_cp_a_of_the_whole_mount(idle, tmp_path):
    ok(["cp", "-a", idle.path, tmp_path / "copy"])
    assert sorted(files(idle.path)) == sorted(files(tmp_path / "copy"))


def test_tar_is_complete_and_exact(idle, tmp_path):
    ok(f"set -o pipefail; tar -C {idle.idle} -cf - . | tar -C {tmp_path} -xpf -")
    assert_same_tree(idle.idle, tmp_path)
    assert sh(["tar", "-C", idle.idle, "-cf", tmp_path / "t", "."]).stderr == ""
    assert ok(["tar", "-C", idle.idle, "-df", tmp_path / "t"]) == ""


def test_rsync_a_twice_transfers_nothing_the_second_time(idle, tmp_path):
    command = ["rsync", "-a", "--itemize-changes", f"{idle.idle}/", f"{tmp_path}/copy/"]
    assert ok(command) != ""
    assert_same_tree(idle.idle, tmp_path / "copy")
    assert ok(command) == ""
    assert ok([*command[:2], "--checksum", *command[2:]]) == ""


def test_md5sum(idle):
    for name in "big.sh", "bytes.sh", "value.py":
        path = idle.idle / "results" / name / "stdout"
        (got,) = ok(["md5sum", path]).split()[:1]
        assert got == hashlib.md5(path.read_bytes()).hexdigest()
    first = ok(f"cd {idle.idle} && find . -type f | sort | xargs md5sum")
    assert first == ok(f"cd {idle.idle} && find . -type f | sort | xargs md5sum")


def test_jq_reads_every_json(idle):
    names = [idle.idle / n for n in regular(idle.idle) if n.endswith((".json", ".jsonl"))]
    assert len(names) > 20
    ok(["jq", "-e", ".", *names])
    assert ok(["jq", "-r", ".status", idle.idle / "results/a.sh/execution.json"]) == "ok\n"
    assert ok(["jq", "-r", ".error.name", idle.idle / "results/bad.py/execution.json"]) == "ZeroDivisionError\n"
    for n in names:
        if n.suffix == ".json":
            json.loads(n.read_bytes())


def test_git_add_is_complete_and_exact(idle, tmp_path):
    git = f"git --git-dir={tmp_path}/g/.git --work-tree={idle.idle} -c core.fileMode=true"
    env = {**os.environ, "HOME": str(tmp_path)}
    ok(f"git init -q {tmp_path}/g", env=env)
    assert sh(f"{git} add -A", env=env).stderr == ""
    listed = ok(f"{git} -c core.quotePath=false ls-files", env=env).splitlines()
    links = [n for n in files(idle.idle) if os.path.islink(idle.idle / n)]
    assert sorted(listed) == sorted(regular(idle.idle) + links)
    assert ok(f"{git} status --porcelain -uall | grep -v '^A  ' || :", env=env) == ""
    ok(f"{git} diff --exit-code", env=env)


def test_zip_is_complete_and_exact(idle, tmp_path):
    ok(f"cd {idle.idle} && zip -qry {tmp_path}/z.zip .")
    ok(f"/usr/bin/python3 -m zipfile -e {tmp_path}/z.zip {tmp_path}/out")
    for name in regular(idle.idle):
        assert filecmp.cmp(idle.idle / name, tmp_path / "out" / name, shallow=False), name


def test_a_finished_result_can_be_mapped_and_sought(idle):
    path = idle.idle / "results/big.sh/stdout"
    code = (
        "import mmap, sys\nf = open(sys.argv[1], 'rb')\nm = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)\n"
        "assert len(m) == 3000001 and m[:1] == b'x' and m[-2:] == b'x\\n'\nf.seek(-1, 2)\nassert f.read() == b'\\n'\n"
        "f.seek(1234567)\nassert f.read(3) == b'xxx'"
    )
    ok(["/usr/bin/python3", "-c", code, path])


def test_listings_are_stable_over_time(idle):
    """No clocks in the files: two listings 1.2 s apart are one."""
    for _ in range(4):  # what the last cells wrote is seen on the disk a second later, and then context.json tells
        first = listing(idle)
        time.sleep(1.2)  # the one sleep of these tests: time itself must not change anything
        second = listing(idle)
        if second == first:
            break
    assert second == first


def listing(m):
    """(mtime, size, bytes) by name."""
    found = {}
    for name, st in files(m.path).items():
        path = m.path / name
        data = hashlib.md5(path.read_bytes()).hexdigest() if path.is_file() and not path.is_symlink() else None
        if path.is_dir():
            data = tuple(sorted(os.listdir(path)))
        found[name] = (st.st_mtime_ns, st.st_size, data)
    return found


@pytest.fixture(scope="module")
def before_and_after():
    """Two listings of a mount, with an unmount between them."""
    m = Mount()
    try:
        a = m.context("a")
        done(run(a, "a.sh", "echo one\n"))
        done(run(a, "b.py", "1+1\n"))
        (a / "workspace/file").write_text("x")
        (a / "config/timeout").write_text("90s\n")
        (a / "cells/draft").write_text("x")
        first = listing(m)
        m.remount()
        yield first, listing(m), m.path
    finally:
        m.close()


@pytest.mark.parametrize("kind", ["files", "directories"])
def test_times_last_over_an_unmount(before_and_after, kind):
    """A text (or a list of names) that is the same has the same mtime, and another one another."""
    first, second, top = before_and_after
    assert sorted(first) == sorted(second)
    assert "contexts/a/history/2/result.txt" in first
    wrong = [
        f"{name}: the {'same' if data == second[name][2] else 'another'} text, mtime {mtime} and {second[name][0]}"
        for name, (mtime, _, data) in first.items()
        if (data == second[name][2]) != (mtime == second[name][0])
        and os.path.isdir(top / name) == (kind == "directories")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_mtime_of_a_directory_changes_with_its_names(ctx):
    done(run(ctx, "a.sh", "echo one\n"))
    for where in "cells", "results", "history":
        before = os.stat(ctx / where).st_mtime_ns
        assert done(run(ctx, f"{where}.sh", "echo two\n")) == "ok"
        assert os.stat(ctx / where).st_mtime_ns > before, where
    before = os.stat(ctx / "cells").st_mtime_ns
    os.unlink(ctx / "cells/a.sh")
    assert os.stat(ctx / "cells").st_mtime_ns > before


def test_a_runs_files_have_the_end_of_the_run(ctx):
    results = run(ctx, "a.sh", "echo one\n")
    assert done(results) == "ok"
    record = json.loads(read(results / "execution.json"))
    end = ok(["date", "-d", record["finished_at"], "+%s%N"]).strip()
    for name in os.listdir(results):
        st = os.stat(results / name)
        if name != "artifacts":
            assert abs(st.st_mtime_ns - int(end)) < 5_000_000, name


def test_the_mtimes_of_two_texts_under_one_name_differ(ctx):
    """By at least 1 ms."""
    seen = {}
    last = {}
    for n in range(1, 30):
        results = run(ctx, "a.sh", f"echo {n}\n")
        assert done(results) == "ok"
        for name in "stdout", "status", "run", "code", "execution.json":
            st = os.stat(results / name)
            text = read(results / name)
            if name in last and last[name][0] != text:
                assert st.st_mtime_ns - last[name][1] >= 1_000_000, (name, n)
            last[name] = text, st.st_mtime_ns
        seen[n] = True
    assert len(seen) == 29


def test_results_are_never_the_previous_runs(ctx):
    for n in range(1, 60):
        results = run(ctx, "a.sh", f"echo {n}\n")
        assert read(results / "stdout") == f"{n}\n"
        ok(["sed", "-i", "s/$/0/", ctx / "cells/a.sh"]) if n % 10 == 0 else None
        if n % 10 == 0:
            assert read(results / "stdout") == f"{n}0\n"


def test_a_file_that_is_open_keeps_what_it_was_opened_on(ctx):
    results = run(ctx, "a.sh", "echo one\n")
    with open(results / "stdout", "rb", buffering=0) as f:
        assert done(run(ctx, "a.sh", "echo 2\n")) == "ok"
        assert f.readall() == b"one\n"
        assert os.fstat(f.fileno()).st_size == 4
        assert read(results / "stdout") == "2\n"


@pytest.mark.parametrize("name", ["stdout", "code", "status", "execution.json"])
def test_results_cannot_be_written(ctx, name):
    results = run(ctx, "a.sh", "echo one\n")
    assert done(results) == "ok"
    for command in f"echo x >{results}/{name}", f"echo x >>{results}/{name}", f"truncate -s 0 {results}/{name}", f"echo x >{results}/new":
        failed = sh(command)
        assert failed.returncode != 0, command
        assert "Read-only" in failed.stderr or "not permitted" in failed.stderr or "Permission denied" in failed.stderr, failed.stderr
    assert read(results / "stdout") == "one\n"
