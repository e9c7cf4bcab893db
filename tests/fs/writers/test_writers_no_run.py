"""What is not a write of a cell runs nothing, and what is not complete neither."""

import errno
import fcntl
import os
import signal
import subprocess

import pytest
from mount import (
    Terminal,
    done,
    end,
    events,
    fails,
    fd_of,
    ok,
    read,
    read_bytes,
    run,
    runs,
    sh,
    spawn,
    status,
    until,
    write,
)

# $F: a cell that has run; $N: a name that no cell has; $X: the context; $D: a scratch directory
NOTHING = {
    "touch": "touch $F",
    "touch-new": "touch $N",
    "touch-d": "touch -d 2020-01-01 $F",
    "chmod": "chmod 755 $F; chmod 644 $F",
    "chown": "chown $(id -u):$(id -g) $F",
    "truncate": "truncate -s 0 $F",
    "truncate-longer": "truncate -s 100 $F",
    "truncate-new": "truncate -s 10 $N",
    "empty-redirection": ": >$F",
    "empty-redirection-new": ": >$N",
    "append-nothing": ": >>$F",
    "open-for-writing": "exec 3<>$F; exec 3>&-",
    "fsync": "sync $F",
    "sync-f": "sync -f $F",
    "fsync-of-a-writer": "dd if=/dev/null of=$F conv=notrunc,fsync status=none",
    "cat": "cat $F",
    "cp-from": "cp -a $F $D/",
    "cp-a-from-the-context": "cp -a $X $D/",
    "tar-from": "tar -cf $D/t -C $X .",
    "rsync-from": "rsync -a $X/ $D/",
    "find-md5sum": "find $X -type f | xargs md5sum",
    "grep-r": "grep -r one $X",
    "ls-lR": "ls -lR $X",
    "stat": "stat $F; stat -f $F; test -w $F",
    "getfattr": "getfattr -d $F",
    "flock": "flock $F true",
    "diff": "diff $F $F",
    "git-hash-object": "git hash-object $F",
    "vim-reads": "vim -N -u NONE -i NONE -es -c q $F",
    "cp-onto-itself": "cp $F $F || :",
    "mv-onto-itself": "mv $F $F || :",
    "rsync-same": "cp -p $F $D/same; rsync -a $D/same $F",
    "directory": "mkdir $N || :",
}


@pytest.mark.parametrize("what", NOTHING)
def test_runs_nothing(ctx, tmp_path, what):
    done(run(ctx, "f.sh", "echo one\n"))
    until(lambda: read(ctx / "status").startswith("idle"))  # tar says so if a file changes while it is read
    env = {"F": ctx / "cells/f.sh", "N": ctx / "cells/new.sh", "X": ctx, "D": tmp_path}
    ok(NOTHING[what], env={**os.environ, **{k: str(v) for k, v in env.items()}})
    assert runs(ctx) == [1]
    assert [e["type"] for e in events(ctx) if "run" in e and e["type"] == "queued"] == ["queued"]
    assert done(ctx / "results/f.sh") == "ok"
    assert read(ctx / "results/f.sh/code") == "echo one\n"


def test_a_touched_cell_is_there_and_empty_and_has_no_results(ctx):
    """Closed with nothing written, its names are ENOENT."""
    ok(["touch", ctx / "cells/f.sh"])
    assert read(ctx / "cells/f.sh") == ""
    for name in "status", "run", "code", "done", "stdout", "result.txt":
        with fails(errno.ENOENT):
            read(ctx / "results/f.sh" / name)
    assert runs(ctx) == []


def test_written_after_touch_it_runs(ctx):
    ok(["touch", ctx / "cells/f.sh"])
    assert done(run(ctx, "f.sh", "echo one\n")) == "ok"
    assert runs(ctx) == [1]


def test_the_same_text_written_again_runs_again(ctx):
    for n in 1, 2, 3:
        assert done(run(ctx, "f.sh", "echo one\n")) == "ok"
        assert runs(ctx) == list(range(1, n + 1))


def test_runs_when_its_last_writer_has_closed_it(ctx):
    """Two handles of two processes: nothing runs before both are closed."""
    cell = ctx / "cells/f.sh"
    with fd_of(cell, os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"echo one\n")
        ok(f"echo 'echo two' >>{cell}")
        assert runs(ctx) == []
        assert status(ctx / "results/f.sh") == "writing"
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"
    assert read(ctx / "results/f.sh/stdout") == "one\ntwo\n"


def test_a_close_that_runs_nothing_leaves_a_notice_that_names_the_process(ctx):
    cell = ctx / "cells/f.sh"
    holder = spawn(["/usr/bin/python3", "-c", "import sys; f = open(sys.argv[1], 'a'); print(flush=True); sys.stdin.read()", cell],
                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    ok(f"echo 'echo one' >{cell}")
    assert runs(ctx) == []
    notices = [e["text"] for e in events(ctx) if e["type"] == "notice"]
    assert len(notices) == 1 and str(holder.pid) in notices[0] and "f.sh" in notices[0], notices
    holder.communicate(timeout=20)
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"


def test_a_background_child_holds_the_cell(ctx):
    cell = ctx / "cells/f.sh"
    p = spawn(f"exec 3>{cell}; echo 'echo one' >&3; {{ read x; echo 'echo two' >&3; }} <&0 & exec 3>&- 0</dev/null; "
              "echo closed; wait", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "closed\n"
    assert runs(ctx) == []
    p.communicate("\n", timeout=20)
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"
    assert read(ctx / "results/f.sh/code") == "echo one\necho two\n"


# ---- killed in the middle

MIDDLE = {
    "cat": "exec cat >{}",
    "cat-child": "cat >{}; :",
    "dd": "exec dd of={} bs=9 status=none",
    "tee": "exec tee {}",
    "cp": "exec cp /dev/stdin {}",
    "builtin": "exec >{}; while read -r x; do echo \"$x\"; done",
    "python": "exec /usr/bin/python3 -c 'import sys\nf = open(sys.argv[1], \"wb\", 0)\nwhile 1: f.write(sys.stdin.buffer.readline())' {}",
    "node": "exec node -e 'f = fs.openSync(process.argv[1], \"w\"); process.stdin.on(\"data\", d => fs.writeSync(f, d))' {}",
}


def start_writer(ctx, how):
    cell = ctx / "cells/f.sh"
    p = spawn(MIDDLE[how].format(cell), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
              preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))  # ignored below nohup
    p.stdin.write(b"echo one\n")
    p.stdin.flush()
    until(lambda: cell.exists() and cell.stat().st_size == 9)
    return p


def assert_aborted(ctx, number=1, text="echo one\n"):
    results = ctx / "results/f.sh"
    assert done(results) == "aborted"
    assert runs(ctx) == list(range(1, number + 1))
    assert read(results / "run").strip() == str(number)
    assert read(ctx / "cells/f.sh") == text
    assert read(results / "stdout") == ""
    why = read(results / "status")
    assert why.startswith("aborted: "), why
    with fails(errno.ENOENT):
        read(results / "exit_code")
    record = ctx / f"history/{number}/execution.json"
    assert '"aborted"' in read(record)
    return why


@pytest.mark.parametrize("how", MIDDLE)
def test_a_writer_that_is_killed_runs_nothing(ctx, how):
    p = start_writer(ctx, how)
    assert status(ctx / "results/f.sh") == "writing"
    os.killpg(p.pid, signal.SIGKILL)
    p.wait(20)
    assert_aborted(ctx)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSEGV], ids=lambda n: n.name)
def test_every_deadly_signal_aborts(ctx, number):
    p = start_writer(ctx, "cat")
    os.killpg(p.pid, number)
    p.wait(20)
    assert str(int(number)) in assert_aborted(ctx)


@pytest.mark.parametrize("command", ["cat >{}", "cat >{}; :"], ids=["exec", "child"])
def test_ctrl_c_of_cat_runs_nothing(ctx, command):
    cell = ctx / "cells/f.sh"
    with Terminal(["bash", "-c", command.format(cell)]) as t:
        t.send("echo one\r")
        until(lambda: cell.exists() and cell.stat().st_size == 9)
        t.send("\x03")
        t.wait()
    assert_aborted(ctx)


def test_ctrl_d_of_cat_runs_it(ctx):
    cell = ctx / "cells/f.sh"
    with Terminal(["bash", "-c", f"cat >{cell}"]) as t:
        t.send("echo one\recho two\r\x04")
        assert t.wait() == 0
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"
    assert read(ctx / "results/f.sh/stdout") == "one\ntwo\n"


def test_an_aborted_write_over_a_cell_that_ran(ctx):
    done(run(ctx, "f.sh", "echo zero\n"))
    p = start_writer(ctx, "cat")
    os.killpg(p.pid, signal.SIGKILL)
    p.wait(20)
    assert_aborted(ctx, number=2)
    assert done(ctx / "history/1") == "ok"


def test_after_an_abort_a_write_runs(ctx):
    p = start_writer(ctx, "cat")
    os.killpg(p.pid, signal.SIGKILL)
    p.wait(20)
    assert done(ctx / "results/f.sh") == "aborted"
    assert done(run(ctx, "f.sh", "echo two\n")) == "ok"
    assert runs(ctx) == [1, 2]


def test_a_writer_that_fails_by_itself_is_complete(ctx):
    """Only a signal tells that the text is cut: exit status 1 does not."""
    sh(f"(echo 'echo one'; exit 3) >{ctx}/cells/f.sh")
    assert done(ctx / "results/f.sh") == "ok"


def test_a_killed_reader_of_a_cell_changes_nothing(ctx):
    done(run(ctx, "f.sh", "echo one\n"))
    p = spawn(f"exec tail -f {ctx}/cells/f.sh", stdout=subprocess.PIPE)
    assert p.stdout.readline() == b"echo one\n"
    end(p)
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"


# ---- removed, exclusive, limits, bytes


def test_a_cell_unlinked_while_open_for_writing_never_runs(ctx):
    ok(f"cd {ctx}/cells; exec 3>f.sh; echo 'echo one' >&3; rm f.sh; echo 'echo two' >&3; exec 3>&-")
    assert runs(ctx) == []
    assert os.listdir(ctx / "cells") == []
    with fails(errno.ENOENT):
        read(ctx / "results/f.sh/done")


def test_unlinked_while_open_and_made_anew(ctx):
    """The new one runs, the old one never."""
    ok(f"cd {ctx}/cells; exec 3>f.sh; echo 'echo one' >&3; rm f.sh; echo 'echo two' >f.sh; exec 3>&-")
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"
    assert read(ctx / "results/f.sh/stdout") == "two\n"


def test_o_excl_is_an_idempotency_key(ctx):
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with fd_of(ctx / "cells/f.sh", flags) as fd:
        with fails(errno.EEXIST):
            os.open(ctx / "cells/f.sh", flags)
        assert status(ctx / "results/f.sh") == "writing"
        os.write(fd, b"echo one\n")
    with fails(errno.EEXIST):
        os.open(ctx / "cells/f.sh", flags)
    assert done(ctx / "results/f.sh") == "ok"
    assert runs(ctx) == [1]


def test_noclobber(ctx):
    command = f"set -C; echo 'echo one' >{ctx}/cells/f.sh"
    ok(command)
    second = sh(command)
    assert second.returncode != 0 and "cannot overwrite existing file" in second.stderr
    assert runs(ctx) == [1]
    assert done(ctx / "results/f.sh") == "ok"


def test_user_run_is_the_number_of_the_newest_run(ctx):
    cell = ctx / "cells/f.sh"
    for n in 1, 2, 3:
        run(ctx, "f.sh", f"echo {n}\n")
        assert os.getxattr(cell, "user.run") == str(n).encode()
        assert read(ctx / "results/f.sh/run").strip() == str(n)
    assert "user.run" in os.listxattr(cell)
    run(ctx, "g.sh", "echo g\n")
    assert os.getxattr(cell, "user.run") == b"3"
    assert os.getxattr(ctx / "cells/g.sh", "user.run") == b"4"
    with fails(errno.ENODATA):
        os.getxattr(cell, "user.nothing")


def test_user_run_of_a_cell_that_has_not_run(ctx):
    ok(["touch", ctx / "cells/f.sh"])
    with fails(errno.ENODATA):
        os.getxattr(ctx / "cells/f.sh", "user.run")


MAX = 16 << 20


def test_a_cell_of_16_mib_runs(ctx):
    head = b"print(6*7)\n#"
    run(ctx, "big.py", head + b"x" * (MAX - len(head)))
    assert done(ctx / "results/big.py") == "ok"
    assert read(ctx / "results/big.py/stdout") == "42\n"
    assert os.stat(ctx / "results/big.py/code").st_size == MAX


@pytest.mark.parametrize("name", ["f.sh", "draft.txt"])
def test_more_than_16_mib_is_efbig(ctx, name):
    with fd_of(ctx / "cells" / name, os.O_WRONLY | os.O_CREAT) as fd:
        with fails(errno.EFBIG):
            os.pwrite(fd, b"x", MAX)
        with fails(errno.EFBIG):
            os.ftruncate(fd, MAX + 1)
        os.ftruncate(fd, MAX)
        os.ftruncate(fd, 0)
    assert runs(ctx) == []


def test_a_file_that_is_too_big_is_not_run_in_part(ctx, tmp_path):
    (tmp_path / "big").write_bytes(b"echo one\n" * (MAX // 9 + 9))
    copied = sh(["cp", tmp_path / "big", ctx / "cells/f.sh"])
    assert copied.returncode != 0 and "File too large" in copied.stderr
    assert [read(ctx / f"history/{n}/done").strip() for n in runs(ctx)] in ([], ["aborted"])


BYTES = {
    "no-newline": ("f.sh", b"echo one", ["ok"], b"one\n"),
    "crlf-python": ("f.py", b"x = 1\r\nif x:\r\n    print('one')\r\n", ["ok"], b"one\n"),
    "crlf-bash": ("f.sh", b"echo one\r\n", ["ok"], b"one\r\n"),
    "bad-utf8-bash": ("f.sh", b"echo 'a\xff\xfeb'\n", ["ok"], b"a\xff\xfeb\n"),
    "bad-utf8-python": ("f.py", b"print('a\xff')\n", ["error"], b""),
    "bad-utf8-comment-python": ("f.py", b"print(1) # \xff\n", ["ok", "error"], None),
    "nul-python": ("f.py", b"print(1)\0\n", ["error"], b""),
    "nul-bash": ("f.sh", b"echo one\0two\n", ["ok", "error"], None),
    "bom-python": ("f.py", b"\xef\xbb\xbfprint(1)\n", ["ok"], b"1\n"),
    "utf8": ("f.sh", "echo grün 漢字 🙂\n".encode(), ["ok"], "grün 漢字 🙂\n".encode()),
    "utf8-python": ("f.py", "print('grün 漢字 🙂')\n".encode(), ["ok"], "grün 漢字 🙂\n".encode()),
    "one-newline": ("f.sh", b"\n", ["ok"], b""),
    "blanks-python": ("f.py", b" \n\t\n", ["ok"], b""),
    "only-a-comment": ("f.py", b"# nothing", ["ok"], b""),
    "one-line-of-a-mebibyte": ("f.sh", b"echo " + b"x" * (1 << 20) + b"\n", ["ok"], b"x" * (1 << 20) + b"\n"),
}


@pytest.mark.parametrize("what", BYTES)
def test_bytes_of_a_cell_are_kept_and_run_as_they_are(ctx, what):
    name, code, words, stdout = BYTES[what]
    results = run(ctx, name, code)
    assert done(results) in words, read(results / "report.md")
    assert read_bytes(results / "code") == code
    assert read_bytes(ctx / "cells" / name) == code
    if stdout is not None:
        assert read_bytes(results / "stdout") == stdout


def test_the_code_is_taken_when_the_run_is_queued(ctx):
    done(run(ctx, "f.sh", "echo one\n"))
    with fd_of(ctx / "cells/f.sh", os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, b"echo two\n")
        assert read(ctx / "results/f.sh/code") == "echo one\n"
    assert read(ctx / "results/f.sh/code") == "echo one\necho two\n"
    done(ctx / "results/f.sh")


def test_mtime_mode_and_times_of_a_cell_are_what_its_writer_set(ctx, tmp_path):
    source = tmp_path / "f.sh"
    source.write_text("echo one\n")
    os.utime(source, (1_500_000_000, 1_500_000_001))
    source.chmod(0o700)
    ok(["cp", "-p", source, ctx / "cells/f.sh"])
    assert done(ctx / "results/f.sh") == "ok"
    st = os.stat(ctx / "cells/f.sh")
    assert (st.st_mtime, st.st_mode & 0o777, st.st_size) == (1_500_000_001, 0o700, 9)


def test_a_lock_runs_nothing(ctx):
    done(run(ctx, "f.sh", "echo one\n"))
    with fd_of(ctx / "cells/f.sh", os.O_RDWR) as fd:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        fcntl.lockf(fd, fcntl.LOCK_UN)
    assert runs(ctx) == [1]


def test_no_hard_links(ctx):
    """EPERM, which git and ln take well."""
    done(run(ctx, "f.sh", "echo one\n"))
    with fails(errno.EPERM):
        os.link(ctx / "cells/f.sh", ctx / "cells/g.sh")


def test_three_hundred_saves_are_three_hundred_runs(ctx):
    """After close() returns the run is in history/, and every later call sees it."""
    for n in range(1, 301):
        write(ctx / "cells/f.sh", f"x={n}\n")
        assert os.getxattr(ctx / "cells/f.sh", "user.run") == str(n).encode()
    assert done(ctx / "results/f.sh") == "ok"
    assert runs(ctx) == list(range(1, 301))
    assert [read(ctx / f"history/{n}/code") for n in (1, 150, 300)] == ["x=1\n", "x=150\n", "x=300\n"]


@pytest.mark.parametrize("name", ["f.sh", "draft.txt"])
@pytest.mark.parametrize("how", ["remove", "rm -r"])
def test_a_context_that_is_removed_while_a_cell_is_written(m, ctx, name, how):
    """The write and the close are refused or vanish; the daemon lives, and other contexts too."""
    done(run(ctx, "old.sh", "echo old\n"))
    fds = [os.open(ctx / "cells" / name, os.O_RDWR | os.O_CREAT) for _ in range(3)]
    fds.append(os.open(ctx / "cells/old.sh", os.O_RDWR))
    fds.append(os.open(ctx / "workspace/w", os.O_RDWR | os.O_CREAT))
    for fd in fds:
        os.write(fd, b"echo one\n")
    if how == "remove":
        write(ctx / "ctl", "remove\n")
    else:
        ok(["rm", "-r", ctx])
    for fd in fds:
        try:
            os.write(fd, b"echo two\n")
            os.fsync(fd)
        except OSError as e:
            assert e.errno in (errno.ESTALE, errno.ENOENT), e
        try:
            os.close(fd)
        except OSError as e:
            assert e.errno in (errno.ESTALE, errno.ENOENT), e
    other = m.context(ctx.name + "b")
    assert done(run(other, "f.sh", "echo other\n")) == "ok"
    write(other / "ctl", "remove\n")


@pytest.mark.parametrize("name", ["f.sh", "f.py"])
def test_a_cell_that_is_written_and_cut_to_nothing_runs(ctx, name):
    with fd_of(ctx / "cells" / name, os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"echo one\n")
        os.ftruncate(fd, 0)
    assert runs(ctx) == [1]
    assert done(ctx / "results" / name) == "ok"
    assert read(ctx / "results" / name / "code") == ""
