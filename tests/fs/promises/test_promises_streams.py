"""Logs, `.follow` streams, and poll, select and epoll on them and on `status`."""

import errno
import json
import os
import select
import subprocess
import time

import pytest
from mount import (
    HOLD,
    done,
    events,
    fails,
    fd_of,
    hold,
    let_go,
    parked,
    read,
    read_bytes,
    read_until,
    readable,
    run,
    running,
    spawn,
    until,
    within,
    write,
)

FOLLOW = ["stdout.follow", "stderr.follow", "events.follow"]


def drain(fd):
    """Reads to the end of file."""
    got = b""
    while part := os.read(fd, 65536):
        got += part
    return got


# ---- .follow of a run


def test_follow_shows_output_as_it_comes_and_ends_with_the_run(ctx):
    results = hold(ctx)
    with fd_of(results / "stdout.follow") as fd:
        assert read_until(fd, b"begun\n") == b"begun\n"
        let_go(ctx)
        assert drain(fd) == b"ended\n"
    assert done(results) == "ok"
    assert read(results / "stdout") == "begun\nended\n"


@pytest.mark.parametrize("name", FOLLOW)
def test_follow_is_never_listed_but_there(ctx, name):
    results = hold(ctx)
    for where in results, ctx / "history/1", ctx:
        assert name not in os.listdir(where)
        os.close(os.open(where / name, os.O_RDONLY))
    let_go(ctx)
    assert done(results) == "ok"
    assert name not in os.listdir(results)


@pytest.mark.parametrize("name", FOLLOW)
def test_follow_of_an_ended_run_is_all_of_it(ctx, name):
    results = run(ctx, "a.sh", "echo one; echo two >&2; echo three\n")
    assert done(results) == "ok"
    whole = name.replace("events.follow", "events.jsonl").replace(".follow", "")
    assert read_bytes(results / name) == read_bytes(results / whole) != b""


def test_follow_begins_with_the_first_byte(ctx):
    results = hold(ctx)
    for _ in range(3):
        with fd_of(results / "stdout.follow") as fd:
            assert read_until(fd, b"begun\n") == b"begun\n"
    let_go(ctx)


def test_follow_of_a_queued_run_waits_for_its_first_byte(ctx):
    hold(ctx)
    results = run(ctx, "x.sh", "echo one\n")
    p = spawn(["cat", results / "stdout.follow"], stdout=subprocess.PIPE)
    parked(p)
    let_go(ctx)
    assert p.communicate(timeout=20)[0] == b"one\n"


def test_follow_with_o_nonblock_is_eagain_and_then_the_end(ctx):
    results = hold(ctx)
    with fd_of(results / "stdout.follow", os.O_RDONLY | os.O_NONBLOCK) as fd:
        assert read_until(fd, b"begun\n") == b"begun\n"
        with fails(errno.EAGAIN):
            os.read(fd, 100)
        let_go(ctx)
        assert done(results) == "ok"
        assert os.read(fd, 100) == b"ended\n"
        assert os.read(fd, 100) == b""


def test_events_follow_of_a_run_ends_with_finished(ctx):
    results = hold(ctx)
    p = spawn(["cat", results / "events.follow"], stdout=subprocess.PIPE)
    parked(p)
    let_go(ctx)
    lines = [json.loads(line) for line in p.communicate(timeout=20)[0].splitlines()]
    assert [lines[0]["type"], lines[1]["type"], lines[-1]["type"]] == ["queued", "started", "finished"]
    assert lines == events(results)


def test_follow_of_the_stderr(ctx):
    results = run(ctx, "a.sh", HOLD.replace("echo begun", "echo begun >&2"))
    with fd_of(results / "stderr.follow") as fd:
        assert read_until(fd, b"begun\n") == b"begun\n"
        let_go(ctx)
        assert drain(fd) == b""


# ---- .follow of a context


def test_a_contexts_follow_begins_with_what_is_still_to_come(ctx):
    done(run(ctx, "a.sh", "echo old\n"))
    with fd_of(ctx / "stdout.follow") as fd:
        assert not readable(fd, 0)
        done(run(ctx, "b.sh", "echo new\n"))
        assert read_until(fd, b"new\n") == b"new\n"
        done(run(ctx, "c.sh", "echo newer\n"))
        assert read_until(fd, b"newer\n") == b"newer\n"


def test_a_contexts_follow_waits_for_more_and_ends_with_the_context(ctx):
    p = spawn(["cat", ctx / "stdout.follow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    parked(p)
    run(ctx, "a.sh", "echo one\n")
    assert p.stdout.readline() == b"one\n"
    run(ctx, "b.py", "print('two')\n")
    assert p.stdout.readline() == b"two\n"
    done(ctx / "results/b.py")
    parked(p)
    write(ctx / "ctl", "remove\n")
    assert p.communicate(timeout=20)[0] == b""


def test_a_contexts_events_follow(ctx):
    with fd_of(ctx / "events.follow") as fd:
        done(run(ctx, "a.sh", "echo one\n"))
        got = read_until(fd, b'"finished"')
    assert [json.loads(line)["type"] for line in got.splitlines()].count("started") == 1


# ---- a context's logs


def test_a_contexts_log_is_at_once_at_its_end_when_it_is_idle(ctx):
    assert read(ctx / "stdout") == ""
    done(run(ctx, "a.sh", "echo one\n"))
    until(lambda: read(ctx / "status").startswith("idle"))
    for _ in range(5):
        for name, text in ("stdout", "one\n"), ("stderr", ""):
            with within(2):  # a read that waits takes 2 s
                assert read(ctx / name) == text


def test_cat_of_a_contexts_log_shows_what_a_cell_prints(ctx):
    """cat stdout after an echo shows that cell's output."""
    done(run(ctx, "warm.sh", ":\n"))
    run(ctx, "a.sh", "sleep 0.2; echo one\n")
    assert read(ctx / "stdout") == "one\n"


def test_reads_of_a_contexts_log_wait_two_seconds_in_all(ctx):
    hold(ctx)
    start = time.monotonic()
    assert read(ctx / "stdout") == "begun\n"
    assert 1.5 < time.monotonic() - start < 4  # two waits would be 4
    with within(2), fd_of(ctx / "stdout", os.O_RDONLY | os.O_NONBLOCK) as fd:
        assert drain(fd) == b"begun\n"
    with fd_of(ctx / "stdout") as fd:
        drain(fd)
        with within(1.5):  # the 2 s of this handle are spent
            assert os.read(fd, 100) == b""
    let_go(ctx)


def test_a_read_before_the_end_of_a_contexts_log_never_waits(ctx):
    hold(ctx)
    with within(2), fd_of(ctx / "stdout") as fd:  # a read that waits takes 2 s
        assert os.read(fd, 6) == b"begun\n"
        assert os.pread(fd, 3, 0) == b"beg"
        assert os.fstat(fd).st_size == 6
    let_go(ctx)


def test_st_size_of_a_contexts_log_is_what_is_there(ctx):
    for n in 1, 2, 3:
        done(run(ctx, "a.sh", "echo 12345\n"))
        assert os.stat(ctx / "stdout").st_size == 6 * n
    assert os.stat(ctx / "events.jsonl").st_size == len(read_bytes(ctx / "events.jsonl"))


def test_a_contexts_logs_have_all_output_in_order(ctx):
    for n in range(5):
        run(ctx, f"{n}.sh", f"echo out {n}; echo err {n} >&2\n")
    done(ctx / "results/4.sh")
    assert read(ctx / "stdout") == "".join(f"out {n}\n" for n in range(5))
    assert read(ctx / "stderr") == "".join(f"err {n}\n" for n in range(5))


@pytest.mark.parametrize("command", ["write", "truncate", "append"])
def test_a_contexts_log_cannot_be_written(ctx, command):
    done(run(ctx, "a.sh", "echo one\n"))
    flags = {"write": os.O_WRONLY, "truncate": os.O_WRONLY | os.O_TRUNC, "append": os.O_WRONLY | os.O_APPEND}[command]
    for name in "stdout", "stderr", "events.jsonl", "status", "log", "context.json":
        with fails(errno.EPERM, errno.EROFS, errno.EACCES):
            os.close(os.open(ctx / name, flags))
    assert read(ctx / "stdout") == "one\n"


# ---- poll, select, epoll


def poll(fd, seconds):
    return readable(fd, seconds)


def select_(fd, seconds):
    return bool(select.select([fd], [], [], seconds)[0])


def epoll(fd, seconds):
    with select.epoll() as e:
        e.register(fd, select.EPOLLIN)
        return bool(e.poll(seconds))


def epoll_edge(fd, seconds):
    with select.epoll() as e:
        e.register(fd, select.EPOLLIN | select.EPOLLET)
        return bool(e.poll(seconds))


WAYS = [poll, select_, epoll, epoll_edge]


@pytest.mark.parametrize("way", WAYS)
def test_poll_of_status(ctx, way):
    """Readable when its text differs from what this handle read; a read at offset 0 prints anew."""
    results = hold(ctx)
    with fd_of(results / "status") as fd:
        assert os.pread(fd, 100, 0).startswith(b"running")
        with within(2):
            assert not way(fd, 0.1)
        let_go(ctx)
        assert way(fd, 20)
        assert os.pread(fd, 100, 0).startswith(b"ok")
        assert not way(fd, 0)


@pytest.mark.parametrize("way", WAYS)
def test_poll_of_the_contexts_status(ctx, way):
    with fd_of(ctx / "status") as fd:
        assert os.pread(fd, 100, 0).startswith(b"stopped")
        assert not way(fd, 0)
        hold(ctx)
        seen = b""
        while not seen.startswith(b"busy"):
            assert way(fd, 20)
            seen = os.pread(fd, 100, 0)
        assert seen.rstrip() == b"busy hold.sh"
        assert not way(fd, 0.1)
        let_go(ctx)
        while not seen.startswith(b"idle"):
            assert way(fd, 20)
            seen = os.pread(fd, 100, 0)
        assert not way(fd, 0)


@pytest.mark.parametrize("way", WAYS)
def test_poll_of_a_contexts_log(ctx, way):
    """Readable when there is more than this handle has read."""
    done(run(ctx, "a.sh", "echo one\n"))
    with fd_of(ctx / "stdout") as fd:
        assert way(fd, 0)
        assert os.read(fd, 100) == b"one\n"
        assert not way(fd, 0)
        run(ctx, "b.sh", "echo two\n")
        assert way(fd, 20)
        assert os.read(fd, 100) == b"two\n"


def test_poll_of_a_contexts_log_from_a_saved_offset_loses_nothing(ctx):
    """lseek to a saved offset, read, poll."""
    with fd_of(ctx / "stdout") as fd:
        offset, got = 0, b""
        for n in range(5):
            run(ctx, "a.sh", f"echo {n}\n")
            with fd_of(ctx / "stdout") as fd:
                os.lseek(fd, offset, os.SEEK_SET)
                while len(got) < 2 * (n + 1):
                    assert readable(fd)
                    got += os.read(fd, 100)
                offset = os.lseek(fd, 0, os.SEEK_CUR)
    assert got == b"0\n1\n2\n3\n4\n"


@pytest.mark.parametrize("way", WAYS)
def test_poll_of_follow(ctx, way):
    results = hold(ctx)
    with fd_of(results / "stdout.follow") as fd:
        assert way(fd, 20)
        assert os.read(fd, 100) == b"begun\n"
        assert not way(fd, 0.1)
        let_go(ctx)
        assert way(fd, 20)
        assert drain(fd) == b"ended\n"
        assert way(fd, 0)  # the end of file can be read


@pytest.mark.parametrize("way", WAYS)
def test_poll_of_a_contexts_follow(ctx, way):
    with fd_of(ctx / "events.follow") as fd:
        assert not way(fd, 0.1)
        run(ctx, "a.sh", "echo one\n")
        assert way(fd, 20)
        assert os.read(fd, 100000)


def test_a_poll_with_a_limit_keeps_its_limit(ctx):
    hold(ctx)
    with fd_of(ctx / "stdout.follow") as fd, within(5):
        assert not readable(fd, 0.2)
    let_go(ctx)


def test_many_pollers_of_one_file_are_all_woken(ctx):
    results = hold(ctx)
    fds = [os.open(results / "status", os.O_RDONLY) for _ in range(50)]
    with select.epoll() as e:
        for fd in fds:
            os.pread(fd, 100, 0)
            e.register(fd, select.EPOLLIN | select.EPOLLET | select.EPOLLONESHOT)
        assert e.poll(0) == []
        let_go(ctx)
        woken = set()
        while len(woken) < len(fds):
            got = e.poll(20)
            assert got
            woken.update(fd for fd, _ in got)
    for fd in fds:
        assert os.pread(fd, 100, 0).startswith(b"ok")
        os.close(fd)


def test_output_in_small_pieces_is_all_there_for_every_kind_of_reader(ctx):
    running_now = run(ctx, "a.py", "import sys\nfor n in range(2000):\n    print(n, flush=True)\n")
    p = spawn(["cat", running_now / "stdout.follow"], stdout=subprocess.PIPE)
    running_text = p.communicate(timeout=20)[0]
    whole = "".join(f"{n}\n" for n in range(2000)).encode()
    assert running_text == whole
    assert read_bytes(running_now / "stdout") == whole == read_bytes(ctx / "stdout")


def test_a_big_output_is_complete_everywhere(ctx):
    results = run(ctx, "a.sh", "head -c 20000000 /dev/zero | tr '\\0' x\n")
    p = spawn(f"cat {results}/stdout.follow | wc -c", stdout=subprocess.PIPE)
    assert p.communicate(timeout=30)[0] == b"20000000\n"
    assert os.stat(results / "stdout").st_size == 20_000_000 == len(read_bytes(results / "stdout"))
    assert os.stat(ctx / "stdout").st_size == 20_000_000


def test_a_log_that_is_followed_by_name_after_a_run_that_prints_nothing(ctx):
    results = run(ctx, "a.sh", ":\n")
    assert read(results / "stdout.follow") == ""
    assert done(results) == "ok"
    running_later = hold(ctx)
    running(running_later)
    let_go(ctx)
    assert read(running_later / "stdout.follow") == "begun\nended\n"


@pytest.mark.parametrize("name", ["results/hold.sh/status", "status", "stdout.follow", "results/hold.sh/stdout.follow", "stdout"])
def test_removal_of_the_context_wakes_who_polls(ctx, name):
    """And the read says ESTALE, or the end of file for a stream."""
    hold(ctx)
    with fd_of(ctx / name) as fd:
        if name == "stdout.follow":
            assert not readable(fd, 0)
        else:
            os.read(fd, 100)
        write(ctx / "ctl", "remove\n")
        assert readable(fd)
        try:
            text = os.read(fd, 100) if "status" not in name else os.pread(fd, 100, 0)
            assert text == b"" or text.startswith(b"killed")
        except OSError as e:
            assert e.errno == errno.ESTALE
