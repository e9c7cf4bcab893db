"""Whole trees are read while a cell runs: nothing waits for the run, and nothing has a side effect."""

import os
import subprocess

import pytest
from mount import HOLD, Mount, Terminal, done, events, hold, let_go, ok, read, run, runs, sh, spawn, status, until

# name: (command over $M, exit statuses that are right). Each is started beside one running and one queued cell.
WALKS = {
    "find-exec-cat": ("find $M -type f -exec cat {} +", [0]),
    "find-md5sum": ("find $M -type f -print0 | xargs -0 md5sum", [0]),
    "find-ls": ("find $M -ls", [0]),
    "find-newer": ("find $M -newer $M/README.md -size +1k", [0]),
    "rg": ("rg begun $M", [0, 1]),
    "rg-files": ("rg --files --hidden --no-ignore $M", [0]),
    "grep-r": ("grep -r nothing-has-this $M", [1]),
    "grep-R": ("grep -R -c . $M", [0]),
    "cp-r": ("cp -r $M $D/copy", [0]),
    "cp-a": ("cp -a $M $D/copy", [0]),
    "ls-lR": ("ls -lR $M", [0]),
    "ls-laR-colour": ("ls -laR --color=always $M", [0]),
    "du": ("du -ab $M", [0]),
    "tree-by-bash": ("shopt -s globstar dotglob; for f in $M/**; do [ -e $f ] || [ -L $f ] || exit 1; done", [0]),
    "python-walk": (
        "/usr/bin/python3 -c 'import os, sys\nfor d, _, f in os.walk(sys.argv[1]): [os.stat(os.path.join(d, n)) for n in f]' $M",
        [0],
    ),
    "python-rglob-read": (
        "/usr/bin/python3 -c 'import pathlib, sys\nfor p in pathlib.Path(sys.argv[1]).rglob(\"*\"): p.is_file() and p.read_bytes()' $M",
        [0],
    ),
    "node-walk": (
        "node -e 'for (const n of fs.readdirSync(process.argv[1], {recursive: true})) fs.statSync(process.argv[1] + \"/\" + n)' $M",
        [0],
    ),
    "updatedb": ("updatedb -U $M -o $D/db -l 0 --prunefs '' --prunepaths '' --prunenames '' --prune-bind-mounts 0", [0]),
    "tar": ("tar -cf $D/t -C $M .", [0, 1]),  # 1: a log grew while it was read
    "rsync": ("rsync -a $M/ $D/copy/", [0]),
    "zip": ("cd $M && zip -qr $D/z .", [0, 18]),
    "git-add": ("git init -q $D/g && git --git-dir=$D/g/.git --work-tree=$M/contexts add -A", [0]),
    "wc-glob": ("cat $M/contexts/*/results/*/* >/dev/null", [1]),  # artifacts/ is a directory
    "file": ("find $M -type f -exec file {} +", [0]),
    "less": ("less $M/contexts/a/stdout $M/contexts/a/status", [0]),
    "getfattr": ("getfattr -R -d -m - $M", [0]),
    "stat-names-of-editors": ("stat $M/contexts/a/results/hold.sh/.stdout.swp", [1]),
}


@pytest.fixture(scope="module")
def busy():
    """A mount of its own with a context that has finished runs, one that runs and one that waits."""
    made = Mount()
    ctx = made.context("a")
    done(run(ctx, "old.sh", "echo old; echo err >&2\n"))
    done(run(ctx, "bad.sh", "exit 3\n"))
    done(run(ctx, "value.py", "40+2\n"))
    hold(ctx)
    run(ctx, "queued.sh", "echo queued\n")
    made.busy = ctx
    yield made
    let_go(ctx)
    assert done(ctx / "results/queued.sh") == "ok"
    made.close()


@pytest.fixture(scope="module")
def outcomes(busy, tmp_path_factory):
    """All of them at once, and what had changed when they had ended."""
    tmp = tmp_path_factory.mktemp("walks")
    before = picture(busy)
    started = {}
    for name, (command, _) in WALKS.items():
        (tmp / name).mkdir()
        env = {**os.environ, "M": str(busy.path), "D": str(tmp / name), "HOME": str(tmp)}
        started[name] = spawn("set -o pipefail; " + command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    out = {}
    for name, p in started.items():
        try:
            stderr = p.communicate(timeout=30)[1]
            out[name] = p.returncode, stderr
        except subprocess.TimeoutExpired:
            out[name] = ("no end", "")
    assert status(busy.busy / "results/hold.sh") == "running"
    return out, before, picture(busy), tmp


def picture(m):
    """Everything that a walk might change."""
    ctx = m.busy
    return (
        sorted(os.listdir(m.contexts)),
        runs(ctx),
        read(ctx / "events.jsonl"),
        sorted(os.listdir(ctx / "cells")),
        sorted(os.listdir(ctx / "results")),
        read(ctx / "status"),
        read(m.main / "status"),
        runs(m.main),
    )


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_does_not_wait_for_the_run(outcomes, name):
    rc, stderr = outcomes[0][name]
    assert rc in WALKS[name][1], stderr


def test_no_walk_changes_anything(outcomes):
    _, before, after, _ = outcomes
    assert before == after


def test_a_copy_made_meanwhile_has_a_status_that_says_running(outcomes):
    copy = outcomes[3] / "cp-r/copy/contexts/a"
    assert (copy / "results/hold.sh/status").read_text().startswith("running")
    assert (copy / "results/queued.sh/status").read_text().startswith("queued")
    assert sorted(set(os.listdir(copy / "results/hold.sh")) - {"artifacts"}) == ["code", "run", "status"]
    assert (copy / "results/hold.sh/code").read_text() == HOLD
    assert (copy / "results/old.sh/stdout").read_text() == "old\n"
    assert (copy / "results/value.py/result.txt").read_text() == "42\n"
    assert (copy / "stdout").read_text() == "old\nbegun\n"


def test_readdir_lists_only_what_can_be_read_at_once(busy):
    for where in "results/hold.sh", "results/queued.sh", "history/4", "history/5":
        assert sorted(set(os.listdir(busy.busy / where)) - {"artifacts"}) == ["code", "run", "status"], where


def test_tail_f_of_the_contexts_stdout_follows_a_second_cell(ctx):
    done(run(ctx, "a.sh", "echo one\n"))
    t = spawn(["tail", "-s", "0.05", "-n", "+1", "-f", ctx / "stdout"], stdout=subprocess.PIPE)
    assert t.stdout.readline() == b"one\n"
    run(ctx, "b.sh", "echo two\n")
    assert t.stdout.readline() == b"two\n"
    hold(ctx)
    assert t.stdout.readline() == b"begun\n"
    let_go(ctx)
    assert t.stdout.readline() == b"ended\n"


def test_tail_f_by_name_and_plain(ctx):
    """-F, and the default interval of a second."""
    run(ctx, "a.sh", "echo one\n")
    t = spawn(["tail", "-n", "+1", "-F", ctx / "stdout"], stdout=subprocess.PIPE)
    assert t.stdout.readline() == b"one\n"
    run(ctx, "b.sh", "echo two\n")
    assert t.stdout.readline() == b"two\n"


def test_less_on_a_terminal_shows_a_result(ctx):
    done(run(ctx, "a.sh", "echo first-line; seq 200; echo last-line\n"))
    with Terminal(["less", ctx / "results/a.sh/stdout"], rows=20) as less:
        less.expect("first-line")
        less.send("G")
        less.expect("last-line")
        less.send("q")
        assert less.wait() == 0


def test_grep_r_of_a_busy_context_ends_within_the_patience_of_its_logs(ctx):
    hold(ctx)
    assert "begun" in ok(["grep", "-rh", "begun", ctx / "stdout", ctx / "results"])
    let_go(ctx)


def test_a_walk_starts_no_kernel(ctx):
    sh(["find", ctx, "-type", "f", "-exec", "cat", "{}", "+"])
    assert read(ctx / "status").startswith("stopped")
    assert events(ctx) == []


def test_a_reader_that_goes_away_changes_nothing(ctx):
    results = run(ctx, "a.sh", "for i in $(seq 1000); do echo line $i of a thousand; done\n")
    sh(f"head -n1 {results}/stdout.follow; head -c1 {results}/stdout")
    assert done(results) == "ok"
    assert len(read(results / "stdout").splitlines()) == 1000
    until(lambda: read(ctx / "status").startswith("idle"))
