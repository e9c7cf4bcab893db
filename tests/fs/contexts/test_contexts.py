"""interface.md, Contexts, and the part of the tree that is not of one run."""

import contextlib
import errno
import os
import shutil
import subprocess
import threading

import pytest

from control.steps import about, ending, events, kernel, says, until_status
from mount import PATIENCE, done, fails, fd_of, host_pid, ok, parked, read, run, runs, spawn, within, write

LISTED = {
    "cells", "results", "history", "stdout", "stderr", "events.jsonl", "config", "workspace", "ctl", "status", "log",
    "context.json",
}
LATER = {"artifacts", "packages"}
NEVER_LISTED = ["stdout.follow", "stderr.follow", "events.follow"]
REFUSED = (errno.EROFS, errno.EPERM)


def test_mkdir_makes_a_context_at_once(m):
    with within(1):
        os.mkdir(m.contexts / "at-once")
        assert "at-once" in os.listdir(m.contexts)
        assert set(os.listdir(m.contexts / "at-once")) >= LISTED
    assert done(run(m.contexts / "at-once", "a.sh", "true\n")) == "ok"


def test_nothing_runs_until_its_first_cell(ctx):
    assert read(ctx / "status") == "stopped\n"
    assert about(ctx)["kernels"] == {}
    assert os.listdir(ctx / "history") == []


@pytest.mark.parametrize("name", ["-a", ".a", "...", "a b", "é", "a:b", "*", "a+b", "a\n", "a\\", "a" * 65, "@"])
def test_an_illegal_name_is_einval(m, name):
    with fails(errno.EINVAL):
        os.mkdir(m.contexts / name)
    assert name not in os.listdir(m.contexts)


@pytest.mark.parametrize("name", ["a", "_", "0", "A.b-c_d", "x.", "9-", "a" * 64])
def test_a_legal_name(m, name):
    os.mkdir(m.contexts / name)
    assert name in os.listdir(m.contexts)
    os.rmdir(m.contexts / name)
    assert name not in os.listdir(m.contexts)


def test_a_duplicate_is_eexist(ctx):
    with fails(errno.EEXIST):
        os.mkdir(ctx)


@pytest.mark.parametrize("where", ["", "contexts"])
@pytest.mark.parametrize(
    "make",
    [lambda p: os.close(os.open(p, os.O_CREAT | os.O_WRONLY)), lambda p: os.symlink("x", p), os.mkfifo],
    ids=["create", "symlink", "fifo"],
)
def test_nothing_else_can_be_made_at_the_root_or_beside_contexts(m, where, make):
    with fails(*REFUSED, errno.EACCES):
        make(m.path / where / "x")
    assert not os.path.lexists(m.path / where / "x")


def test_mkdir_at_the_root_is_refused(m):
    with fails(*REFUSED, errno.EACCES):
        os.mkdir(m.path / "x")


# ---- removal -------------------------------------------------------------------------------------


def lively(ctx):
    """A context with everything: runs, drafts, values, a kernel with a process of its own, a running cell.
    Returns the processes."""
    for i in range(3):
        assert done(run(ctx, f"c{i}.sh", f"echo {i}; echo $((i + {i})) > file{i}\n")) == "ok"
    write(ctx / "cells" / "draft.txt", "x")
    write(ctx / "notes", "x")
    write(ctx / "config" / "timeout", "100")
    write(ctx / "config" / "env" / "A", "1")
    write(ctx / "config" / "env" / "not a name", "1")
    os.makedirs(ctx / "workspace" / "d" / "e")
    write(ctx / "workspace" / "d" / "e" / "f", "x")
    r = run(ctx, "long.py", "import subprocess, time\np = subprocess.Popen(['setsid', 'sleep', '1000'])\n"
            "print(p.pid, 'go', flush=True)\ntime.sleep(1000)\n")
    says(r, "go")
    with fd_of(r / "stdout.follow") as fd:
        child = host_pid(ctx, int(os.read(fd, 100).split()[0]))
    run(ctx, "queued.sh", "true\n")
    return [kernel(ctx)["pid"], kernel(ctx, "bash")["pid"], child]


def last_first(d):
    """The files, then the directories from the last to the first: so does shutil.rmtree since Python 3.13."""
    inside = list(os.scandir(d))
    for e in inside:
        if not e.is_dir(follow_symlinks=False):
            os.unlink(e)
    for e in reversed(inside):
        if e.is_dir(follow_symlinks=False):
            with contextlib.suppress(FileNotFoundError):
                last_first(e)
    os.rmdir(d)


WAYS = {
    "rm -r": lambda d: ok(["rm", "-r", str(d)]),
    "rm -rf": lambda d: ok(["rm", "-rf", str(d)]),
    "rmtree": shutil.rmtree,
    "last first": last_first,
    "find -delete": lambda d: ok(["find", str(d), "-delete"]),
    "remove": lambda d: write(d / "ctl", "remove\n"),
    "perl": lambda d: ok(["perl", "-MFile::Path=remove_tree", "-e", "remove_tree(shift, {error => \\my $e}); exit !!@$e", str(d)]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_context_is_removed_with_its_processes(m, way):
    ctx = m.context("gone-" + "".join(filter(str.isalpha, way)))
    with ending(*lively(ctx), seconds=3):
        WAYS[way](ctx)
        assert ctx.name not in os.listdir(m.contexts)
        with fails(errno.ENOENT):
            os.stat(ctx)
    os.mkdir(ctx)  # the name is free, and nothing of the old one is in it
    assert os.listdir(ctx / "history") == os.listdir(ctx / "cells") == os.listdir(ctx / "workspace") == []
    os.rmdir(ctx)


def test_rm_r_of_a_big_history(ctx):
    write(ctx / "cells" / "n.sh", "echo $((n++))\n")
    for _ in range(150):
        write(ctx / "ctl", "run n.sh\n")
        assert done(ctx / "results" / "n.sh") == "ok"
    assert read(ctx / "results" / "n.sh" / "stdout") == "150\n"
    assert len(runs(ctx)) == 151
    ok(["rm", "-r", str(ctx)])
    assert not ctx.exists()


def test_rmdir_of_an_empty_context(ctx):
    assert done(run(ctx, "a.sh", "true\n")) == "ok"
    with fails(errno.ENOTEMPTY):
        os.rmdir(ctx)
    os.unlink(ctx / "cells" / "a.sh")
    write(ctx / "workspace" / "f", "x")
    with fails(errno.ENOTEMPTY):
        os.rmdir(ctx)
    os.unlink(ctx / "workspace" / "f")
    with ending(kernel(ctx, "bash")["pid"]):
        os.rmdir(ctx)
        assert not ctx.exists()


def test_the_rmdir_of_cells_already_stops_the_kernels(ctx):
    r = run(ctx, "a.sh", "while :; do echo x >> f; echo go; sleep .001; done\n")
    says(r, "go")
    with ending(kernel(ctx, "bash")["pid"]):
        os.unlink(ctx / "cells" / "a.sh")
        os.rmdir(ctx / "cells")
    os.unlink(ctx / "workspace" / "f")
    assert os.listdir(ctx / "workspace") == []  # and nothing makes it anew
    ok(["rm", "-r", str(ctx)])


def test_only_who_has_removed_ctl_stops_the_kernels_with_any_directory(ctx):
    assert done(run(ctx, "a.sh", "echo out\n")) == "ok"
    ok(["rm", str(ctx / "ctl")])
    with fails(errno.EPERM):
        os.rmdir(ctx / "config" / "env")
    os.unlink(ctx / "ctl")
    assert done(run(ctx, "b.sh", "true\n")) == "ok"  # who makes a cell does not remove the context
    with fails(errno.EPERM):
        os.rmdir(ctx / "config" / "env")
    os.rmdir(ctx / "history" / "1")
    assert runs(ctx) == [2]
    os.unlink(ctx / "ctl")
    with ending(kernel(ctx, "bash")["pid"]):
        os.rmdir(ctx / "config" / "env")
    ok(["rm", "-r", str(ctx)])


def test_unlink_of_a_made_node_has_no_effect(ctx):
    assert done(run(ctx, "a.sh", "echo out; false\n")) == "error"
    made = [ctx / n for n in ("status", "stdout", "stderr", "events.jsonl", "ctl", "log", "context.json")]
    made += [ctx / "results" / "latest"]
    made += [ctx / d / n for d in ("results/a.sh", "history/1") for n in os.listdir(ctx / d) if n != "artifacts"]
    before = {p: read(p) for p in made if p.name != "latest"}
    for path in made:
        os.unlink(path)
    assert {p: read(p) for p in before} == before
    assert os.readlink(ctx / "results" / "latest") == "a.sh"
    assert done(run(ctx, "b.sh", "true\n")) == "ok"


GONE = {
    "stat": os.stat, "listdir": os.listdir, "chdir": os.chdir, "rmdir": os.rmdir, "statvfs": os.statvfs,
    "rename": lambda d: os.rename(d, d.with_name(d.name + "-2")),
    "read": lambda d: read(d / "status"), "result": lambda d: read(d / "results" / "a.sh" / "stdout"),
    "write": lambda d: write(d / "cells" / "a.sh", "echo\n"), "new cell": lambda d: write(d / "cells" / "new.sh", "echo\n"),
    "config": lambda d: write(d / "config" / "timeout", "5"), "ctl": lambda d: write(d / "ctl", "stop\n"),
    "unlink": lambda d: os.unlink(d / "cells" / "a.sh"), "mkdir": lambda d: os.mkdir(d / "workspace" / "new"),
    "upload": lambda d: write(d / "workspace" / "f", "x"), "artifacts": lambda d: os.listdir(d / "artifacts"),
    "chmod": lambda d: os.chmod(d / "workspace" / "f", 0o600), "xattr": lambda d: os.setxattr(d / "workspace" / "f", "user.a", b""),
    "symlink": lambda d: os.symlink("f", d / "workspace" / "l"), "truncate": lambda d: os.truncate(d / "workspace" / "f", 0),
    "exec": lambda d: subprocess.run([d / "workspace" / "f"], check=False),
}  # fmt: skip


@pytest.mark.parametrize("how", GONE)
def test_of_a_context_removed_by_ctl_no_name_is_left(ctx, how):
    """The kernel has names of it in its cache, and was not told."""
    assert done(run(ctx, "a.sh", "echo old\n")) == "ok"
    write(ctx / "workspace" / "f", "x")
    here = os.getcwd()
    for name in ("status", "results/a.sh/stdout", "config/timeout", "workspace/f", "artifacts", "cells/a.sh"):
        os.stat(ctx / name)
    write(ctx / "ctl", "remove\n")
    try:
        with fails(errno.ENOENT):
            GONE[how](ctx)
    finally:
        os.chdir(here)
    os.mkdir(ctx)
    assert os.listdir(ctx / "cells") == os.listdir(ctx / "workspace") == []
    r = run(ctx, "a.sh", "echo new\n")
    assert done(r) == "ok" and read(r / "stdout") == "new\n"


def test_an_open_file_of_a_removed_context_is_estale(ctx):
    assert done(run(ctx, "a.sh", "echo out\n")) == "ok"
    names = ["status", "stdout", "events.jsonl", "context.json", "history/1/stdout", "results/a.sh/execution.json"]
    fds = {name: os.open(ctx / name, os.O_RDONLY) for name in names}
    fds["stdout.follow"] = os.open(ctx / "stdout.follow", os.O_RDONLY)
    write(ctx / "ctl", "remove\n")
    try:
        for name, fd in fds.items():
            if name not in ("status", "context.json"):  # short texts are copies, made at open
                with fails(errno.ESTALE):
                    os.read(fd, 10)
    finally:
        for fd in fds.values():
            os.close(fd)


def test_who_waits_in_a_context_that_is_removed_is_told_so(ctx):
    r = run(ctx, "a.sh", "echo go; sleep 1000\n")
    says(r, "go")
    waiting = [spawn(["cat", str(r / name)], stderr=subprocess.PIPE, text=True) for name in ("done", "stdout")]
    for p in waiting:
        parked(p)
    write(ctx / "ctl", "remove\n")
    for p in waiting:
        _, err = p.communicate(timeout=PATIENCE)
        # The kernel looks the path up again behind an ESTALE of open(), and it is not there any more.
        assert p.returncode == 1 and ("Stale file handle" in err or "No such file" in err), err


def answers(ctx):
    """A cell of another context is answered within a second."""
    with within(1):
        assert done(run(ctx, "quick.sh", "true\n")) == "ok"


def test_others_are_answered_while_a_context_of_many_files_is_removed(m, ctx):
    assert done(run(ctx, "quick.sh", "true\n")) == "ok"
    big = m.context("many-files")
    (space,) = [p for p in m.state.glob("contexts/*/workspace") if read(p.parent / "context").count('"many-files"')]
    for i in range(20):
        os.mkdir(space / str(i))
        for k in range(2000):
            os.close(os.open(space / str(i) / str(k), os.O_CREAT | os.O_WRONLY))
    with within(1):
        write(big / "ctl", "remove\n")
    for _ in range(20):
        answers(ctx)


def test_others_are_answered_while_a_cell_writes_to_the_disk(m, ctx):
    assert done(run(ctx, "quick.sh", "true\n")) == "ok"
    busy = m.context("dd")
    r = run(busy, "dd.sh", "echo go; dd if=/dev/zero of=big bs=1M count=300 conv=fsync status=none; rm big\n")
    says(r, "go")
    while not read(r / "status").startswith("ok"):
        answers(ctx)


# ---- names ---------------------------------------------------------------------------------------


def test_rename_keeps_everything_and_the_running_kernel(m, ctx):
    assert done(run(ctx, "a.py", "x = 1\n")) == "ok"
    write(ctx / "config" / "env" / "A", "1")
    r = run(ctx, "b.py", "import os\nprint('go', flush=True)\nwhile not os.path.exists('stop'): pass\nx += 1\n")
    says(r, "go")
    uuid, pid = about(ctx)["uuid"], kernel(ctx)["pid"]
    reader = spawn(["cat", str(r / "done")], stdout=subprocess.PIPE, text=True)
    parked(reader)
    to = m.contexts / "renamed"
    ok(["mv", str(ctx), str(to)])
    assert ctx.name not in os.listdir(m.contexts) and "renamed" in os.listdir(m.contexts)
    write(to / "workspace" / "stop", "")
    assert reader.communicate(timeout=PATIENCE)[0] == "ok\n"
    assert read(to / "results" / "b.py" / "done") == "ok\n"
    assert (about(to)["uuid"], kernel(to)["pid"]) == (uuid, pid)
    r = run(to, "c.py", "import os\nprint(os.environ['A'])\nx\n")
    assert done(r) == "ok" and read(r / "result.txt") == "2\n" and read(r / "stdout") == "1\n"
    assert read(to / "history" / "1" / "code") == "x = 1\n"
    os.mkdir(ctx)  # the old name is free
    assert os.listdir(ctx / "history") == []
    write(to / "ctl", "remove\n")


def test_rename_to_a_name_that_is_taken_or_illegal(m, ctx):
    other = m.context("taken")
    with fails(errno.EEXIST, errno.ENOTEMPTY):
        os.rename(ctx, other)
    for bad in ("-x", ".x", "a" * 65):
        with fails(errno.EINVAL):
            os.rename(ctx, m.contexts / bad)
    with fails(errno.EXDEV, errno.EPERM, errno.EROFS, errno.EINVAL):
        os.rename(ctx, m.path / "moved")
    assert {ctx.name, "taken"} <= set(os.listdir(m.contexts))
    os.rmdir(other)


def test_main_is_made_with_state_dir_and_removed_stays_away(fresh):
    assert os.listdir(fresh.contexts) == ["main"]
    os.rmdir(fresh.main)
    assert os.listdir(fresh.contexts) == []
    fresh.remount()
    assert os.listdir(fresh.contexts) == []
    os.mkdir(fresh.main)
    fresh.remount()
    assert os.listdir(fresh.contexts) == ["main"]


def test_two_contexts_see_nothing_of_each_other(m):
    a, b = m.context("one"), m.context("two")
    write(a / "config" / "env" / "SECRET", "1")
    write(a / "workspace" / "f", "x")
    assert done(run(a, "a.py", "x = 1\n")) == "ok"
    r = run(b, "a.py", "import os\nprint('x' in globals(), os.path.exists('f'), 'SECRET' in os.environ)\n")
    assert done(r) == "ok" and read(r / "stdout") == "False False False\n"
    assert kernel(a)["pid"] != kernel(b)["pid"]
    assert about(a)["uuid"] != about(b)["uuid"]
    assert runs(a) == runs(b) == [1]
    with ending(kernel(a)["pid"]):
        write(a / "ctl", "remove\n")
    assert done(run(b, "b.py", "1\n")) == "ok"


def test_contexts_run_in_parallel(m, ctx):
    r = run(ctx, "a.py", "import os\nprint('go', flush=True)\nwhile not os.path.exists('stop'): pass\n")
    says(r, "go")
    other = m.context("parallel")
    assert done(run(other, "warm.sh", "true\n")) == "ok"
    with within(1):
        assert done(run(other, "a.sh", "true\n")) == "ok"
    assert read(r / "status").startswith("running")
    write(ctx / "workspace" / "stop", "")
    assert done(r) == "ok"


def test_contexts_can_be_made_and_removed_at_once_by_many(m):
    def work(k):
        for i in range(10):
            d = m.contexts / f"crowd-{k}-{i}"
            os.mkdir(d)
            (os.rmdir if i % 2 else shutil.rmtree)(d)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not [n for n in os.listdir(m.contexts) if n.startswith("crowd-")]


# ---- what is listed ------------------------------------------------------------------------------


def test_statfs_and_access(m, ctx):
    st = os.statvfs(m.path)
    assert st.f_namemax == 255 and st.f_blocks > 0 and st.f_bavail > 0
    for path in (m.path, m.contexts, ctx, ctx / "cells", ctx / "ctl", ctx / "config" / "timeout"):
        assert os.access(path, os.R_OK) and os.access(path, os.W_OK) or path == m.path
    assert not os.access(ctx / "nosuch", os.F_OK)


def test_the_root_lists_what_the_contract_shows(m):
    assert set(os.listdir(m.path)) - {"artifacts"} == {
        "README.md", "AGENTS.md", "languages", "status", "log", "contexts",
    }
    assert "main" in os.listdir(m.contexts)


def test_a_context_lists_what_the_contract_shows_and_cells_first(ctx):
    names = os.listdir(ctx)
    assert names[0] == "cells"  # rm empties it first
    assert set(names) - LATER == LISTED
    assert set(os.listdir(ctx / "config")) >= {"timeout", "wait", "output", "cwd", "idle_timeout", "keep", "env", "kernel"}


def test_nothing_hidden_is_listed(m, ctx):
    assert done(run(ctx, "a.py", "print(1)\n1\n")) == "ok"
    for top, dirs, files in os.walk(m.path):
        odd = [n for n in dirs + files if n.startswith(".") or n.endswith(".follow")]
        assert not odd, (top, odd)
    for name in NEVER_LISTED:
        for d in (ctx, ctx / "results" / "a.py", ctx / "history" / "1"):
            assert (d / name).exists()


def test_every_listed_file_has_its_mode_and_kind(m, ctx):
    assert done(run(ctx, "a.py", "print(1)\n1\n")) == "ok"
    for path in [ctx / "ctl", ctx / "config" / "timeout", ctx / "cells" / "a.py"]:
        assert oct(os.stat(path).st_mode) == "0o100644", path
    for path in [ctx / "status", ctx / "stdout", ctx / "history" / "1" / "stdout", m.path / "README.md"]:
        assert oct(os.stat(path).st_mode) == "0o100444", path
    for path in [m.contexts, ctx, ctx / "cells", ctx / "results", ctx / "history" / "1", ctx / "config" / "env"]:
        assert os.stat(path).st_mode & 0o170700 == 0o040700, path


def test_readme_and_agents_have_the_same_text_and_teach_the_wait(m):
    text = read(m.path / "README.md")
    assert text == read(m.path / "AGENTS.md")
    for word in ("cells/", "results/", "done", "report.md", "ctl", "config/"):
        assert word in text, word


def test_languages_names_extension_version_and_interpreter(m):
    lines = {line.split()[0]: line for line in read(m.path / "languages").splitlines()}
    for name, ext, interpreter in (("python", ".py", "/usr/bin/python3"), ("bash", ".sh", "bash")):
        assert ext in lines[name] and interpreter in lines[name], lines[name]
    assert " 3." in lines["python"] and " 5." in lines["bash"]


def test_the_root_status_says_what_is_in_force(m, ctx):
    text = read(m.path / "status").lower()
    for word in ("version", "isolation", "contexts", "kernels"):
        assert word in text, (word, text)
    assert done(run(ctx, "a.sh", "true\n")) == "ok"
    assert read(m.path / "status").lower() != text  # one more kernel runs


def test_the_root_log_is_the_daemons(m):
    assert read(m.path / "log").strip()


def test_the_status_of_a_context_is_stopped_busy_idle(ctx):
    r = run(ctx, "a.sh", "echo go; until [ -e stop ]; do sleep .01; done\n")
    says(r, "go")
    assert read(ctx / "status") == "busy a.sh\n"
    write(ctx / "workspace" / "stop", "")
    assert done(r) == "ok"
    until_status(ctx, "idle")
    write(ctx / "ctl", "stop\n")
    until_status(ctx, "stopped")


def test_the_log_of_a_context_says_why_something_was_refused(ctx):
    with fails(errno.EINVAL):
        write(ctx / "ctl", "frobnicate\n")
    assert "frobnicate" in read(ctx / "log")


def test_the_events_of_a_context_tell_of_its_kernels_and_cells(ctx):
    assert done(run(ctx, "a.sh", "true\n")) == "ok"
    write(ctx / "config" / "timeout", "9")
    os.rename(ctx / "cells" / "a.sh", ctx / "cells" / "b.sh")
    os.unlink(ctx / "cells" / "b.sh")
    found = events(ctx)
    assert [e["seq"] for e in found] == list(range(1, len(found) + 1))
    assert any(e["type"] == "kernel" and e["language"] == "bash" and "state" in e for e in found)
    assert any(e["type"] == "config" and e["key"] == "timeout" for e in found)
    cells = [e for e in found if e["type"] == "cell"]
    assert [(e["op"], e["from"], e.get("to")) for e in cells] == [("moved", "a.sh", "b.sh"), ("removed", "b.sh", None)]


# ---- what cannot be written ----------------------------------------------------------------------


def opened(flags):
    return lambda p: os.close(os.open(p, flags))


WRITES = {
    "write": opened(os.O_WRONLY),
    "append": opened(os.O_WRONLY | os.O_APPEND),
    "truncating": opened(os.O_WRONLY | os.O_TRUNC),
    "truncate": lambda p: os.truncate(p, 0),
    "chmod": lambda p: os.chmod(p, 0o777),
    "rename": lambda p: os.rename(p, p.with_name("other")),
    "link": lambda p: os.link(p, p.with_name("other")),
}
READ_ONLY = [
    "results/a.sh/stdout", "results/a.sh/code", "history/1/execution.json", "history/1/status", "stdout", "stderr",
    "events.jsonl", "log", "context.json", "status",
]


@pytest.mark.parametrize("how", WRITES)
def test_results_history_and_logs_cannot_be_written(ctx, how):
    assert done(run(ctx, "a.sh", "echo out\n")) == "ok"
    texts = {name: read(ctx / name) for name in READ_ONLY}
    for name in READ_ONLY:
        with fails(*REFUSED):
            WRITES[how](ctx / name)
            raise AssertionError(f"{how} of {name} is no error")
    assert {name: read(ctx / name) for name in READ_ONLY} == texts


@pytest.mark.parametrize("where", ["results", "results/a.sh", "history", "history/1", "config", "config/env"])
def test_nothing_can_be_made_in_results_and_history(ctx, where):
    assert done(run(ctx, "a.sh", "echo out\n")) == "ok"
    with fails(*REFUSED):
        os.mkdir(ctx / where / "x")
    if where.startswith("config"):
        return  # other files there are drafts
    with fails(*REFUSED):
        write(ctx / where / "x", "x")
    with fails(*REFUSED):
        os.symlink("x", ctx / where / "x")
    with fails(*REFUSED, errno.EXDEV):
        os.rename(ctx / "cells" / "a.sh", ctx / where / "x")


def test_the_root_files_cannot_be_written(m):
    for name in ("README.md", "AGENTS.md", "languages", "status", "log"):
        with fails(*REFUSED):
            write(m.path / name, "x")


def test_a_context_takes_drafts_and_no_directories(ctx):
    write(ctx / "notes.txt", "hello\n")
    assert read(ctx / "notes.txt") == "hello\n" and "notes.txt" in os.listdir(ctx)
    os.chmod(ctx / "notes.txt", 0o600)
    os.rename(ctx / "notes.txt", ctx / "notes2")
    assert read(ctx / "notes2") == "hello\n" and "notes.txt" not in os.listdir(ctx)
    os.unlink(ctx / "notes2")
    assert set(os.listdir(ctx)) - LATER == LISTED
    with fails(*REFUSED):
        os.mkdir(ctx / "d")
