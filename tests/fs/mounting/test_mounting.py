"""interface.md, the program: how it starts, how it ends, and what it refuses."""

import contextlib
import errno
import os
import pathlib
import select
import signal
import socket
import subprocess
import tempfile

import pytest

from control.steps import about, ending, kernel, peek, says
from mount import (
    BUILD, PATIENCE, done, end, fails, host_pid, is_dead, lazy_unmount, ok, parked, read, read_until, run, sh, spawn, status, until,
    within, write,
)

CELLFS = str(BUILD / "cellfs")


@pytest.fixture
def d(fresh):
    """A directory for state and mountpoint; nothing is mounted."""
    fresh.unmount()
    (fresh.dir / "m").mkdir()
    os.chmod(fresh.dir, 0o755)
    yield fresh.dir
    with contextlib.suppress(FileNotFoundError, ValueError):
        os.kill(int(read(fresh.dir / "s" / "lock")), signal.SIGKILL) if os.path.ismount(fresh.dir / "m") else None
    lazy_unmount(fresh.dir / "m")
    fresh.start()


@contextlib.contextmanager
def up(argv, env=None):
    """A daemon in the foreground that said READY=1: (process, its notify socket)."""
    with tempfile.TemporaryDirectory() as tmp, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        os.chmod(tmp, 0o711)
        ready.bind(tmp + "/notify")
        os.chmod(tmp + "/notify", 0o777)
        ready.settimeout(PATIENCE)
        p = spawn(argv, env=dict(os.environ, NOTIFY_SOCKET=tmp + "/notify", **(env or {})), stderr=subprocess.PIPE, text=True)
        fd = os.pidfd_open(p.pid)
        try:
            got = select.select([ready, fd], [], [], PATIENCE)[0]
            assert ready in got, p.stderr.read() if fd in got else "not ready"
            assert "READY=1" in ready.recv(1000).decode().splitlines()
            yield p, ready
        finally:
            os.close(fd)
            with contextlib.suppress(ProcessLookupError):
                os.kill(p.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.wait(5)
            end(p)


def mounted(path):
    """The line of mountinfo: what follows the mountpoint."""
    for line in read("/proc/self/mountinfo").splitlines():
        if line.split()[4] == str(path):
            return line.split()[5:]
    return None


# ---- start ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("relative", [False, True])
def test_it_goes_to_the_background_once_the_mount_answers(d, relative):
    argv = [CELLFS, "s", "m"] if relative else [CELLFS, str(d / "s"), str(d / "m")]
    got = sh(argv, cwd=d)  # both pipes are closed, or this would not return
    assert (got.returncode, got.stdout, got.stderr) == (0, "", "")
    assert done(run(d / "m" / "contexts" / "main", "a.py", "41 + 1\n")) == "ok"
    pid = int(read(d / "s" / "lock"))
    assert os.readlink(f"/proc/{pid}/cwd") == "/" and os.getsid(pid) != os.getsid(0)
    assert read(d / "m" / "log")
    with ending(pid, kernel(d / "m" / "contexts" / "main")["pid"]):
        ok(["fusermount3", "-u", str(d / "m")])
    assert os.listdir(d / "m") == []


def test_foreground_logs_to_stderr_and_notifies(d):
    with up([CELLFS, "-f", d / "s", d / "m"]) as (p, notify):
        assert os.path.ismount(d / "m")
        with fails(errno.EINVAL):
            os.mkdir(d / "m" / "contexts" / "-x")
        assert done(run(d / "m" / "contexts" / "main", "a.sh", "echo ${NOTIFY_SOCKET-none}\n")) == "ok"
        assert read(d / "m" / "contexts" / "main" / "results" / "a.sh" / "stdout") == "none\n"
        ok(["fusermount3", "-u", str(d / "m")])
        assert "STOPPING=1" in notify.recv(1000).decode().splitlines()
        assert p.wait(PATIENCE) == 0
        assert p.stderr.read().strip()


def test_the_mount_has_its_type(m):
    info = mounted(m.path)
    assert info[info.index("-") + 1] == "fuse.cellfs"


def test_help_and_version(tmp_path):
    for flag in ("--help", "-h"):
        got = sh([CELLFS, flag])
        assert got.returncode == 0 and "STATE_DIR" in got.stdout and "MOUNTPOINT" in got.stdout and "-o" in got.stdout
    for flag in ("--version", "-V"):
        got = sh([CELLFS, flag])
        assert got.returncode == 0 and got.stdout.startswith("cellfs ") and len(got.stdout.splitlines()) <= 3


def test_a_stale_mount_is_mended_at_the_next_start(fresh):
    r = fresh.run("a.sh", "echo out\n")
    assert done(r) == "ok"
    fresh.proc.kill()
    fresh.proc.wait()
    fresh._forget()
    assert is_dead(fresh.path)
    ok([CELLFS, str(fresh.state), str(fresh.path)])
    assert read(r / "stdout") == "out\n"
    assert sum(line.split()[4] == str(fresh.path) for line in read("/proc/self/mountinfo").splitlines()) == 1
    with ending(int(read(fresh.state / "lock"))):
        ok(["fusermount3", "-u", str(fresh.path)])


FSTAB = "nofail,user,noauto,x-foo=1,x-systemd.automount,_netdev,dev,suid,rw"
MORE = "defaults,users,owner,group,nouser,auto,comment=x,exec,async,noatime,nosuid,nodev"


@pytest.mark.parametrize("options", [FSTAB, MORE, "rw", "timeout=7,nofail"])
def test_options_of_fstab_are_accepted(fresh, options):
    fresh.remount(options)
    assert done(fresh.run("a.sh", "true\n")) == "ok"
    flags = mounted(fresh.path)[0].split(",")
    assert ("noatime" in flags) == ("noatime" in options) and ("nodev" in flags) >= ("nodev" in options)


def test_options_may_be_given_several_times_and_anywhere(d):
    with up([CELLFS, "-o", "timeout=7", d / "s", "-f", d / "m", "-o", "nofail,wait=9"]):
        main = d / "m" / "contexts" / "main"
        assert done(run(main, "a.sh", "true\n")) == "ok"
        limits = about(main)["limits"]
        assert limits["timeout_s"] == 7 and limits["wait_s"] == 9


def test_mount_8_finds_it(d):
    (d / "bin").mkdir()  # mount.fuse3 looks in a PATH of its own
    os.symlink(CELLFS, d / "bin" / "cellfs")
    command = ["mount", "-t", "fuse.cellfs", d / "s", d / "m", "-o", "nofail,timeout=7"]
    ok(private(d, f"mount --bind {d}/bin /usr/local/sbin", *command))
    pid = int(read(d / "s" / "lock"))
    main = pathlib.Path(f"/proc/{pid}/root{d}/m/contexts/main")
    assert done(run(main, "a.sh", "true\n")) == "ok" and about(main)["limits"]["timeout_s"] == 7
    with ending(pid):
        ok(["nsenter", "-t", str(pid), "-m", "umount", str(d / "m")])


# ---- where STATE_DIR is --------------------------------------------------------------------------


def private(d, script, *argv):
    """A command for a mount namespace of its own: SCRIPT sets it up, ARGV is what runs then."""
    return ["unshare", "-m", "--propagation", "private", "sh", "-ec", f'{script}\nexec "$@"', "sh", *map(str, argv)]


def users_fuse(d):
    """A script: /dev/fuse as it is everywhere but here, for all users."""
    with contextlib.suppress(FileExistsError):
        os.mknod(d / "fuse", 0o020666, os.makedev(10, 229))
    os.chmod(d / "fuse", 0o666)
    return f"mount --bind {d}/fuse /dev/fuse"


NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
NO_XDG = ["env", "-u", "XDG_STATE_HOME"]
PLACES = {  # what stands before cellfs, its first argument, where the state is
    "root": (NO_XDG, [], "var/cellfs"),
    "root none": (NO_XDG, ["none"], "var/cellfs"),
    "root cellfs": (NO_XDG, ["cellfs"], "var/cellfs"),
    "user XDG": (NOBODY + ["env", "XDG_STATE_HOME={d}/xdg", "HOME={d}/home"], [], "xdg/cellfs"),
    "user none": (NOBODY + ["env", "XDG_STATE_HOME={d}/xdg", "HOME={d}/home"], ["none"], "xdg/cellfs"),
    "user HOME": (NOBODY + NO_XDG + ["HOME={d}/home"], [], "home/.local/state/cellfs"),
}


@pytest.mark.parametrize("who", PLACES)
def test_where_state_dir_is_by_default(d, who):
    before, first, where = PLACES[who]
    before = [a.format(d=d) for a in before]
    for name in ("var", "xdg", "home", "m"):
        os.makedirs(d / name, exist_ok=True)
        if who.startswith("user"):
            os.chown(d / name, 65534, 65534)
    script = f"mount --bind {d}/var /var/lib\n" + users_fuse(d)
    with up(private(d, script, *before, CELLFS, *first, "-f", d / "m"), {"HOME": str(d / "home")}) as (p, _):
        main = pathlib.Path(f"/proc/{p.pid}/root{d}/m/contexts/main")
        if who.startswith("root"):  # others cannot look into a user's mount, not even root
            assert done(run(main, "a.sh", "id -u\n")) == "ok"
        else:
            cell = "echo 'id -u > \"$HOME/uid\"; pwd' > cells/a.sh; cat results/a.sh/done results/a.sh/stdout"
            got = ok(["nsenter", "-t", str(p.pid), "-m", *NOBODY, "sh", "-c", f"cd {d}/m/contexts/main; {cell}"])
            assert got.startswith("ok\n"), got
            with fails(errno.EACCES):
                os.listdir(main)
        assert (d / where / "version").exists()
        assert oct(os.stat(d / where).st_mode & 0o777) == "0o700"  # what cells do is nobody else's business
        p.terminate()
        assert p.wait(PATIENCE) == 0


# ---- what is refused -----------------------------------------------------------------------------


def refused(argv, *words, codes=(1, 2), **kw):
    """One line says what, and how to mend it."""
    got = sh([str(a) for a in argv], **kw)
    assert got.returncode in codes, (got.returncode, got.stderr)
    assert len(got.stderr.strip().splitlines()) == 1 and got.stderr.startswith("cellfs: "), got.stderr
    for word in words:
        assert str(word) in got.stderr, (word, got.stderr)
    return got.stderr


BAD_OPTIONS = ["frobnicate", "frobnicate=1", "timeout=soon", "output=x", "keep=some", "queue=x", "queue=-1", "sync=never", "cwd=../..",
               "ro", "idle_timeout=-1", "nofail,frobnicate", "kernels=/nosuch", "box=/nosuch"]


@pytest.mark.parametrize("option", BAD_OPTIONS)
def test_a_bad_option_is_refused_by_name(d, option):
    name = option.split(",")[-1].split("=")[0]
    refused([CELLFS, "-f", d / "s", d / "m", "-o", option], name)
    assert not os.path.ismount(d / "m")


def test_a_bad_command_line_is_refused(d):
    for argv in ([], [d / "s", d / "m", d / "m"], ["-f"], ["-z", d / "s", d / "m"], ["--frobnicate", d / "m"], [d / "s", d / "m", "-o"]):
        got = sh([CELLFS, *argv])
        assert got.returncode == 2 and got.stderr.startswith(("cellfs: ", "usage: ")), (argv, got)
        assert not os.path.ismount(d / "m")


def test_a_mountpoint_that_cannot_be_used(d):
    missing = d / "none" / "m"
    said = refused([CELLFS, d / "s", missing], missing)
    assert "mkdir" in said
    write(d / "file", "x")
    refused([CELLFS, d / "s", d / "file"], d / "file", "directory")
    (d / "full").mkdir()
    write(d / "full" / "x", "x")
    refused([CELLFS, d / "s", d / "full"], d / "full", "not empty")
    assert os.listdir(d / "full") == ["x"]


def test_a_mountpoint_that_is_in_use_is_refused(m, d):
    refused([CELLFS, d / "s", m.path], m.path)
    assert os.listdir(m.contexts)


@pytest.mark.parametrize("state,mnt", [("m/s", "m"), ("m", "m/x"), ("m", "m"), ("m/../m/s", "m"), ("link/s", "m"), ("m", "link/x"), ("m/a/b/c", "m")])
def test_state_dir_and_mountpoint_may_not_contain_one_another(d, state, mnt):
    os.symlink("m", d / "link")
    if mnt.endswith("/x"):
        (d / "m" / "x").mkdir()
    said = refused([CELLFS, d / state, d / mnt])
    assert "inside" in said or "contain" in said or "same" in said or "around" in said, said
    assert not os.path.ismount(d / "m")


def test_no_dev_fuse(d):
    (d / "dev").mkdir()
    write(d / "dev" / "null", "")
    script = f"mount --bind /dev/null {d}/dev/null; mount --rbind {d}/dev /dev"
    said = refused(private(d, script, CELLFS, d / "s", d / "m"), "/dev/fuse")
    assert "modprobe" in said or "--device" in said, said


def test_a_state_dir_that_cannot_be_written(d):
    (d / "s").mkdir()
    script = f"mount --bind {d}/s {d}/s; mount -o remount,ro,bind {d}/s"
    refused(private(d, script, CELLFS, d / "s", d / "m"), d / "s", "ead-only")


def test_a_user_who_may_not_open_dev_fuse(d):
    for name in ("s", "m"):
        os.makedirs(d / name, exist_ok=True)
        os.chown(d / name, 65534, 65534)
    os.mknod(d / "fuse", 0o020600, os.makedev(10, 229))
    refused(private(d, f"mount --bind {d}/fuse /dev/fuse", *NOBODY, CELLFS, d / "s", d / "m"), "/dev/fuse")


def test_no_fusermount3_for_a_user(d):
    for name in ("s", "m"):
        os.makedirs(d / name, exist_ok=True)
        os.chown(d / name, 65534, 65534)
    write(d / "nothing", "")
    script = users_fuse(d) + f"\nmount --bind {d}/nothing /usr/bin/fusermount3"
    said = refused(private(d, script, *NOBODY, CELLFS, d / "s", d / "m"), "fusermount3")
    assert "fuse3" in said


def test_a_users_mount_is_only_theirs(d):
    for name in ("s", "m"):
        os.makedirs(d / name, exist_ok=True)
        os.chown(d / name, 65534, 65534)
    with up(private(d, users_fuse(d), *NOBODY, CELLFS, "-f", d / "s", d / "m")) as (p, _):
        with fails(errno.EACCES):
            os.listdir(f"/proc/{p.pid}/root{d}/m")
        ok(["nsenter", "-t", str(p.pid), "-m", *NOBODY, "fusermount3", "-u", str(d / "m")])
        assert p.wait(PATIENCE) == 0


# ---- the end -------------------------------------------------------------------------------------

GENTLE = {
    "SIGTERM": lambda m: m.signal(signal.SIGTERM),
    "SIGINT": lambda m: m.signal(signal.SIGINT),
    "fusermount3 -u": lambda m: ok(["fusermount3", "-u", str(m.path)]),
    "umount": lambda m: ok(["umount", str(m.path)]),
    "fusermount3 -uz": lambda m: ok(["fusermount3", "-uz", str(m.path)]),
    "umount -l": lambda m: ok(["umount", "-l", str(m.path)]),
    "SIGTERM twice": lambda m: (m.signal(signal.SIGTERM), m.signal(signal.SIGTERM)),
}


@pytest.mark.parametrize("way", GENTLE)
def test_it_ends_in_order_with_exit_status_0(fresh, way):
    r = fresh.run("a.sh", "setsid sleep 1000 & echo $! go; wait\n")
    says(r, "go")
    child = host_pid(fresh.main, int(peek(fresh.main / "stdout").split()[0]))
    with within(5), ending(kernel(fresh.main, "bash")["pid"], child):
        GENTLE[way](fresh)
        fresh.wait_end(0)
    assert not os.path.ismount(fresh.path) and os.listdir(fresh.path) == []
    fresh.start()
    assert read(fresh.main / "results" / "a.sh" / "status") == "killed: daemon stopped\n"


@pytest.mark.parametrize("way", ["SIGTERM", "SIGINT", "fusermount3 -uz", "umount -l"])
def test_it_ends_while_busy_and_who_waits_is_answered(fresh, way):
    r = fresh.run("a.sh", "echo go; sleep 1000\n")
    q = fresh.run("q.sh", "true\n")
    says(r, "go")
    names = [r / "done", r / "stdout", r / "result.html", q / "execution.json"]
    waiting = [spawn(["cat", str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for n in names]
    follow = [spawn(["cat", str(n)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
              for n in (r / "stdout.follow", fresh.main / "events.follow", fresh.main / "stdout.follow")]
    poller = spawn(["/usr/bin/python3", "-c", "import os, select, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\nos.read(fd, 99)\n"
                    "p = select.poll()\np.register(fd, select.POLLIN)\nprint('polls', flush=True)\nprint(p.poll())", str(r / "status")],
                   stdout=subprocess.PIPE)
    read_until(poller.stdout.fileno(), b"polls")
    for p in waiting + follow:
        parked(p)
    held = os.open(fresh.main / "cells" / "a.sh", os.O_RDONLY)
    with within(5), ending(kernel(fresh.main, "bash")["pid"]):
        GENTLE[way](fresh)
        for p in waiting:
            out, err = p.communicate(timeout=5)
            assert p.returncode == 1 and out == "" and ("abort" in err or "not connected" in err), (p.args, err)
        for p in follow:
            p.communicate(timeout=5)
        assert poller.wait(5) == 0
        fresh.wait_end(0)
    with fails(errno.ECONNABORTED, errno.ENOTCONN):
        os.pread(held, 10, 100000)
        os.stat(f"/proc/self/fd/{held}")
    os.close(held)
    fresh.start()
    assert status(r) == "killed" and status(q) == "cancelled"


def test_fusermount3_u_says_busy_while_a_file_is_open(fresh):
    fd = os.open(fresh.main / "status", os.O_RDONLY)
    got = sh(["fusermount3", "-u", str(fresh.path)])
    assert got.returncode and "busy" in got.stderr
    os.close(fd)
    assert done(fresh.run("a.sh", "true\n")) == "ok"


def test_the_end_with_a_kernel_that_ignores_signals(fresh):
    r = fresh.run("a.py", "import signal\nfor s in (2, 15, 1): signal.signal(s, signal.SIG_IGN)\nprint('go', flush=True)\nwhile True: pass\n")
    says(r, "go")
    with within(4), ending(kernel(fresh.main)["pid"]):
        fresh.signal(signal.SIGTERM)
        fresh.wait_end(0)


def test_the_end_while_a_context_is_being_deleted(fresh):
    ctx = fresh.context("big")
    assert done(run(ctx, "a.sh", "mkdir d; cd d; for i in {1..100}; do touch $i-{1..100}; done\n")) == "ok"
    write(ctx / "ctl", "remove\n")
    with within(5):
        fresh.unmount()
    fresh.start()
    assert os.listdir(fresh.contexts) == ["main"]
    until(lambda: os.listdir(fresh.state / "trash") == [], why="the trash is not emptied")


def test_the_end_with_many_contexts_and_kernels(fresh):
    pids = []
    for i in range(8):
        ctx = fresh.context(f"c{i}")
        assert done(run(ctx, "a.sh", "true\n")) == "ok"
        run(ctx, "long.sh", "sleep 1000\n")
        pids.append(kernel(ctx, "bash")["pid"])
    with within(4), ending(*pids):
        fresh.signal(signal.SIGTERM)
        fresh.wait_end(0)
