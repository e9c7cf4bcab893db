"""Results are promises: what waits, what never does, and what ends a wait."""

import errno
import json
import os
import signal
import subprocess
import threading
import time

import pytest
from mount import (
    HOLD_PY,
    Terminal,
    done,
    fails,
    fd_of,
    hold,
    is_parked,
    let_go,
    ok,
    parked,
    read,
    readable,
    run,
    running,
    runs,
    sh,
    spawn,
    status,
    until,
    within,
    write,
)

OPS = {"open": "cat {}", "stat": "stat -Lc %s {}", "access": "test -r {}"}
# name: does it exist when a Bash cell has ended well
NAMES = {
    "done": True,
    "stdout": True,
    "stderr": True,
    "exit_code": True,
    "execution.json": True,
    "events.jsonl": True,
    "report.md": True,
    "result.txt": False,
    "result.repr.txt": False,
    "result.html": False,
    "result.png": False,
    "result.data.json": False,
    "result.chart.json": False,
    "display-1.png": False,
    "display-999.txt": False,
    "error.txt": False,
    "error.json": False,
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("state", ["running", "queued"])
def test_open_stat_and_access_wait_for_the_end(ctx, op, state):
    results = hold(ctx)
    if state == "queued":
        results = run(ctx, "x.sh", "echo begun; echo ended\n")
        assert status(results) == "queued"
    waiting = {
        name: spawn(OPS[op].format(results / name), stdout=subprocess.PIPE, stderr=subprocess.PIPE) for name in NAMES
    }
    parked(*waiting.values())
    for name, p in waiting.items():
        assert p.poll() is None, f"{op} of {name} did not wait"
    assert status(ctx / "results/hold.sh") == "running"
    let_go(ctx)
    for name, p in waiting.items():
        out, err = p.communicate(timeout=20)
        assert (p.returncode == 0) == NAMES[name], (name, err)
        if name == "stdout":
            assert out == {"open": b"begun\nended\n", "stat": b"12\n", "access": b""}[op]


AT_ONCE = ["status", "run", "code"]


@pytest.mark.parametrize("state", ["running", "queued"])
def test_status_run_and_code_are_read_at_once(ctx, state):
    results = hold(ctx)
    if state == "queued":
        results = run(ctx, "x.sh", "echo x\n")
    with within(2):
        assert status(results) == state
        assert read(results / "run").strip() == ("1" if state == "running" else "2")
        assert os.stat(results / "code").st_size == len(read(results / "code")) > 0
        for name in AT_ONCE:
            assert os.access(results / name, os.R_OK)
    let_go(ctx)


def test_lookup_and_readdir_never_wait(ctx):
    results = hold(ctx)
    with within(2):
        assert sorted(set(os.listdir(results)) - {"artifacts"}) == sorted(AT_ONCE)
        for name in NAMES:  # O_PATH: a lookup and nothing else
            os.close(os.open(results / name, os.O_PATH))
        for where in ctx, ctx / "results", ctx / "history", ctx / "history/1", ctx / "cells":
            os.listdir(where)
            os.stat(where)
    assert status(results) == "running"
    let_go(ctx)


def test_a_parked_lookup_wedges_nobody(ctx):
    """While results are waited for, the directory is as quick as ever, and files are made in others."""
    results = hold(ctx)
    waiting = [spawn(["cat", results / name]) for name in ("stdout", "done", "result.txt", "error.json")]
    parked(*waiting)
    with within(2):
        os.listdir(results)
        write(ctx / "cells/draft", "x")
        os.rename(ctx / "cells/draft", ctx / "cells/draft2")
        os.unlink(ctx / "cells/draft2")
        read(ctx / "status")
    let_go(ctx)
    assert [p.wait(20) for p in waiting] == [0, 0, 1, 1]


NEVER = [
    "result.txt.swp", "foo", "stdout.bak", ".stdout", "stdout~", "result", "result.exe", "result.txt.txt", "display-0.png",
    "display-1000.png", "display-01.png", "display-.png", "display-1", "error.html", "error", "Done", "report.txt", "4913",
    ".git", "AGENTS.md", "result.data.txt", "stdout.follow.x", "display--1.png",
]  # fmt: skip


@pytest.mark.parametrize("name", NEVER)
def test_a_name_that_no_run_makes_is_enoent_at_once(ctx, name):
    results = hold(ctx)
    with within(2):
        with fails(errno.ENOENT):
            os.stat(results / name)
        with fails(errno.ENOENT):
            os.open(results / name, os.O_RDONLY)
    assert status(results) == "running"
    let_go(ctx)


def test_after_done_every_question_is_answered_at_once(ctx):
    results = run(ctx, "x.sh", "echo one\n")
    assert done(results) == "ok"
    with within(2):
        for name, there in NAMES.items():
            assert os.path.exists(results / name) == there, name
            with fd_of(results, os.O_DIRECTORY):
                pass
        assert sorted(set(os.listdir(results)) - {"artifacts"}) == sorted(
            AT_ONCE + [n for n, there in NAMES.items() if there]
        )


@pytest.mark.parametrize("name", ["stdout", "done", "result.txt", "error.json", "execution.json"])
def test_o_nonblock_is_eagain(ctx, name):
    results = hold(ctx)
    with within(2), fails(errno.EAGAIN):
        os.open(results / name, os.O_RDONLY | os.O_NONBLOCK)
    with fd_of(results / "status", os.O_RDONLY | os.O_NONBLOCK) as fd:
        assert os.read(fd, 100).startswith(b"running")
    let_go(ctx)
    done(results)
    if name != "result.txt" and name != "error.json":
        with fd_of(results / name, os.O_RDONLY | os.O_NONBLOCK) as fd:
            assert os.read(fd, 100)


# ---- what ends a wait

WAITS = {
    "open": "exec cat {}/stdout",
    "open-done": "exec cat {}/done",
    "stat": "exec stat {}/stdout",
    "access": "exec /usr/bin/python3 -c 'import os, sys; os.access(sys.argv[1] + \"/stdout\", os.R_OK)' {}",
    "unknown": "exec cat {}/result.html",
    "follow": "exec cat {}/stdout.follow",
    "node": "exec node -e 'fs.readFileSync(process.argv[1] + \"/stdout\")' {}",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
@pytest.mark.parametrize("wait", WAITS)
def test_a_signal_ends_a_wait(ctx, wait, number):
    results = hold(ctx)
    p = spawn(WAITS[wait].format(results), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parked(p)
    with within(2):
        os.kill(p.pid, number)
        p.wait(10)
    assert status(results) == "running"
    let_go(ctx)
    assert done(results) == "ok"


def test_ctrl_c_on_a_terminal_ends_a_wait(ctx):
    results = hold(ctx)
    with Terminal(["bash", "--norc", "-i"], env={"PS1": "ready> "}) as t:
        t.expect("ready> ")
        t.send(f"cat {results}/done\r")
        until(lambda: is_parked(t.proc))
        with within(2):
            t.send("\x03")
            t.expect("ready> ")
        t.send("exit 0\r")
        t.wait()
    assert status(results) == "running"
    let_go(ctx)


def test_a_reader_that_retries_after_a_signal_gets_all(ctx):
    """Python retries what EINTR ended: 20 alarms a second, and the text is complete."""
    results = hold(ctx)
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGALRM, lambda *a: os.write(2, b'.'))\n"
        "signal.setitimer(signal.ITIMER_REAL, .05, .05)\nf = open(sys.argv[1])\nsys.stdout.write(f.read())"
    )
    p = spawn(["/usr/bin/python3", "-c", code, results / "stdout"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert p.stderr.read(8) == b"........"
    assert p.poll() is None
    let_go(ctx)
    out, err = p.communicate(timeout=20)
    assert out == b"begun\nended\n", err


def test_config_wait_ends_a_wait_with_etimedout(ctx):
    write(ctx / "config/wait", "1\n")
    results = hold(ctx)
    waiting = spawn(["cat", results / "done"], stdout=subprocess.PIPE)
    parked(waiting)
    errors, times = {}, {}

    def try_it(op, name):
        start = time.monotonic()
        try:
            op(results / name)
            errors[op.__name__, name] = 0
        except OSError as e:
            errors[op.__name__, name] = e.errno
        times[op.__name__, name] = time.monotonic() - start

    threads = [
        threading.Thread(target=try_it, args=(op, name))
        for op in (read, os.stat)
        for name in ("stdout", "result.txt", "execution.json", "error.json")
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join(20)
    assert set(errors.values()) == {errno.ETIMEDOUT}, errors
    assert all(0.8 < t < 3 for t in times.values()), times
    assert waiting.poll() is None and is_parked(waiting)
    assert status(results) == "running"
    let_go(ctx)
    assert waiting.communicate(timeout=20)[0] == b"ok\n"


def test_report_md_gives_what_there_is_when_wait_is_over(ctx):
    write(ctx / "config/wait", "1")
    results = hold(ctx)
    text = read(results / "report.md")
    assert "running" in text and "begun\n" in text and "\nended" not in text
    let_go(ctx)
    assert done(results) == "ok"
    text = read(results / "report.md")
    assert "running" not in text and "begun\nended\n" in text


def test_removal_of_the_context_ends_every_wait(ctx):
    """With ESTALE; the kernel then looks the name up again, and that is gone."""
    results = hold(ctx)
    names = "stdout", "done", "result.html", "stdout.follow"
    waiting = {n: spawn(f"cat {results}/{n}", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for n in names}
    parked(*waiting.values())
    write(ctx / "ctl", "remove\n")
    for name, p in waiting.items():
        _, err = p.communicate(timeout=20)
        if name != "stdout.follow":  # which ends with the run
            assert p.returncode and ("Stale file handle" in err or "No such file" in err), (name, err)
    assert not ctx.exists()


@pytest.mark.parametrize(
    "name", ["status", "cells/f.sh", "results/f.sh/stdout", "results/f.sh/status", "stdout", "events.jsonl", "context.json", "ctl"]
)
def test_an_open_file_of_a_removed_context_gives_estale(ctx, name):
    assert done(run(ctx, "f.sh", "echo one\n")) == "ok"
    with fd_of(ctx / name) as fd:
        write(ctx / "ctl", "remove\n")
        with fails(errno.ESTALE):
            os.pread(fd, 100, 0)
            os.fstat(fd)


def test_rm_r_of_a_busy_context_answers_its_readers(ctx):
    """It removes the cell first: who waits for its run gets that run's end."""
    results = hold(ctx)
    waiting = [spawn(["cat", results / n], stderr=subprocess.PIPE) for n in ("done", "stdout", "result.txt")]
    parked(*waiting)
    with within(5):
        ok(["rm", "-r", ctx])
    for p in waiting:
        p.communicate(timeout=20)
    assert not ctx.exists()


ENDS = {errno.ECONNABORTED, errno.ENOTCONN, errno.ESTALE}
READER = """
import os, sys
try:
    if sys.argv[2] == "stat": os.stat(sys.argv[1])
    else:
        f = os.open(sys.argv[1], os.O_RDONLY)
        while os.read(f, 4096): pass
    print(0)
except OSError as e: print(e.errno)
"""


@pytest.mark.parametrize("how", ["lazy", "SIGTERM", "SIGINT", "umount-l"])
def test_the_end_of_the_mount_answers_every_reader(fresh, how):
    results = hold(fresh.main)
    run(fresh.main, "x.sh", "echo x\n")
    waiting = {
        (name, op): spawn(["/usr/bin/python3", "-c", READER, path, op], stdout=subprocess.PIPE)
        for name, path, op in [
            ("stdout", results / "stdout", "open"),
            ("done", results / "done", "open"),
            ("queued", fresh.main / "results/x.sh/stdout", "open"),
            ("stat", results / "result.html", "stat"),
            ("follow", results / "stdout.follow", "open"),
            ("context", fresh.main / "stdout.follow", "open"),
            ("events", fresh.main / "events.follow", "open"),
        ]
    }
    parked(*waiting.values())
    if how == "lazy":
        ok(["fusermount3", "-uz", fresh.path])
    elif how == "umount-l":
        ok(["umount", "-l", fresh.path])
    else:
        fresh.signal(getattr(signal, how))
    answers = {key: int(p.communicate(timeout=20)[0]) for key, p in waiting.items()}
    fresh.wait_end()
    fresh.start()
    assert read(fresh.main / "history/1/status").startswith("killed: daemon stopped")
    assert read(fresh.main / "history/2/status").startswith("cancelled")
    for key, code in answers.items():  # a stream ends with the run
        assert code in ENDS or (code == 0 and key[0] in ("follow", "context", "events")), answers


def test_fusermount_u_says_busy_while_a_file_is_open(fresh):
    results = hold(fresh.main)
    p = spawn(["cat", results / "stdout"], stderr=subprocess.PIPE)
    parked(p)
    refused = sh(["fusermount3", "-u", fresh.path])
    assert refused.returncode and "busy" in refused.stderr
    assert status(results) == "running"
    let_go(fresh.main)
    assert p.wait(20) == 0


# ---- many at once


def test_forty_parked_opens_at_once(ctx):
    results = hold(ctx)
    waiting = [spawn(["cat", results / "stdout"], stdout=subprocess.PIPE) for _ in range(40)]
    parked(*waiting)
    with within(5):  # the mount is as good as ever
        write(ctx / "cells/draft", "x")
        assert run(ctx, "x.sh", "echo x\n")
        assert runs(ctx) == [1, 2]
        assert sorted(set(os.listdir(results)) - {"artifacts"}) == sorted(AT_ONCE)
    let_go(ctx)
    for p in waiting:
        assert p.communicate(timeout=20)[0] == b"begun\nended\n"


def test_a_hundred_parked_stats_and_opens_of_one_name(ctx):
    """In one process, by threads."""
    results = hold(ctx)
    got = []
    threads = [threading.Thread(target=lambda: got.append(read(results / "stdout"))) for _ in range(50)]
    threads += [threading.Thread(target=lambda: got.append(os.stat(results / "stdout").st_size)) for _ in range(50)]
    for t in threads:
        t.start()
    let_go(ctx)
    for t in threads:
        t.join(20)
    assert sorted(map(str, got)) == sorted(["begun\nended\n"] * 50 + ["12"] * 50)


def test_four_parked_reads_of_node_and_a_write_to_ctl(ctx):
    """Four stop a whole Node process; another process interrupts, and all four are answered."""
    results = hold(ctx)
    code = (
        "const d = process.argv[1]; Promise.all(['stdout', 'error.json', 'exit_code', 'done'].map(n => "
        "fs.promises.readFile(d + '/' + n, 'utf8'))).then(a => console.log(JSON.stringify(a)))"
    )
    p = spawn(["node", "-e", code, results], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    parked(p, threads=4)
    assert p.poll() is None
    ok(f"echo interrupt >{ctx}/ctl")
    out, err = p.communicate(timeout=20)
    assert p.returncode == 0, err
    stdout, error, code, word = json.loads(out)
    assert stdout == "begun\n" and code == "130\n" and word == "interrupted\n"
    assert json.loads(error)["name"] == "interrupted"


def test_a_reader_in_one_context_does_not_delay_another(m, ctx):
    results = hold(ctx)
    p = spawn(["cat", results / "done"])
    parked(p)
    other = m.context(ctx.name + "b")
    assert done(run(other, "x.sh", "echo x\n")) == "ok"  # the run that is waited for ends later than that
    assert p.poll() is None
    let_go(ctx)
    assert p.wait(20) == 0
    write(other / "ctl", "remove\n")


def test_a_result_needs_no_sleep_and_has_no_race(ctx):
    """echo '40+2' > cells/a.py; cat results/a.py/result.txt prints 42."""
    for n in range(20):
        got = ok(f"cd {ctx}; echo '40+{n}' >cells/a.py; cat results/a.py/result.txt")
        assert got == f"{40 + n}\n"


def test_a_display_that_is_there_is_read_before_the_end(ctx):
    results = run(ctx, "x.py", "display('a thing')\n" + HOLD_PY)
    with within(20):
        assert read(results / "display-1.txt").strip("'\n") == "a thing"
    running(results)
    assert "display-1.txt" in os.listdir(results)
    waiting = spawn(["cat", results / "display-2.txt"], stderr=subprocess.DEVNULL)
    parked(waiting)
    with within(2), fails(errno.ENOENT):
        os.stat(results / "display-0.txt")
    let_go(ctx)
    assert waiting.wait(20) == 1
    assert done(results) == "ok"


def test_a_display_wakes_who_waits_for_it(ctx):
    results = run(ctx, "x.py", HOLD_PY + "display('a thing')\n" + HOLD_PY)
    running(results)
    waiting = spawn(["cat", results / "display-1.txt"], stdout=subprocess.PIPE)
    parked(waiting)
    let_go(ctx)
    assert b"a thing" in waiting.communicate(timeout=20)[0]
    assert status(results) == "running"
    let_go(ctx)
    assert done(results) == "ok"


def test_writing_a_cell_again_while_it_is_waited_for(ctx):
    """Who waits for a run gets that run, not the next."""
    results = hold(ctx, "x.sh")
    p = spawn(["cat", results / "stdout"], stdout=subprocess.PIPE)
    parked(p)
    run(ctx, "x.sh", "echo second\n")
    let_go(ctx)
    assert p.communicate(timeout=20)[0] == b"begun\nended\n"
    assert read(results / "stdout") == "second\n"


def test_rm_of_a_running_cell_gives_its_readers_the_final_files(ctx):
    results = hold(ctx, "x.sh")
    readers = {n: spawn(["cat", results / n], stdout=subprocess.PIPE) for n in ("stdout", "done")}
    parked(*readers.values())
    with within(2):
        os.unlink(ctx / "cells/x.sh")
    assert readers["done"].communicate(timeout=20)[0] == b"interrupted\n"
    assert readers["stdout"].communicate(timeout=20)[0] == b"begun\n"
    with fails(errno.ENOENT):
        os.stat(results)
    assert read(ctx / "history/1/stdout") == "begun\n"


def test_rm_of_a_queued_cell_cancels_it(ctx):
    hold(ctx)
    results = run(ctx, "x.sh", "echo x\n")
    p = spawn(["cat", results / "done"], stdout=subprocess.PIPE)
    parked(p)
    os.unlink(ctx / "cells/x.sh")
    assert p.communicate(timeout=20)[0] == b"cancelled\n"
    assert done(ctx / "history/2") == "cancelled"
    with fails(errno.ENOENT):
        read(ctx / "history/2/exit_code")
    let_go(ctx)


def test_a_poll_of_a_promise_is_answered_at_once(ctx):
    results = hold(ctx)
    with fd_of(results / "status") as fd:
        with within(2):
            assert readable(fd, 1)  # nothing of it was read yet
    let_go(ctx)


def test_interrupts_in_quick_succession_keep_the_state(ctx):
    assert done(run(ctx, "x.sh", "state=kept\n")) == "ok"
    for _ in range(60):  # most of them come while the shell writes its state down
        results = run(ctx, "x.sh", "exit 3\n")
        until(lambda: status(results) != "queued")
        for _ in range(6):
            try:
                write(ctx / "ctl", "interrupt\n")
            except ProcessLookupError:  # it has ended
                break
            time.sleep(0.001)
        assert done(results) in ("error", "interrupted")
        assert json.loads(read(results / "execution.json"))["state_preserved"] is True
    assert read(run(ctx, "y.sh", "echo $state\n") / "stdout") == "kept\n"
