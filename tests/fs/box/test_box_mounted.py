"""The box of a context: what it has, what is said of it, its limits, and how it ends, seen through the mount and from
the host. What code in it cannot do is the subject of tests/hostile; how one is made, of tests/box."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import time

import pytest

from control.steps import about, ending, events, kernel, peek, reason, record, says
from mount import box_pids, done, host_pid, ok, read, run, until, write

KEYS = {
    "timeout_s", "wait_s", "idle_timeout_s", "output_bytes", "queue", "memory_bytes", "disk_bytes", "processes", "cpus", "network",
    "keep", "cwd",
}  # fmt: skip
MIB = 1 << 20


def out(ctx, code, cell="a.sh"):
    """What a cell prints; it has to end well."""
    r = run(ctx, cell, code)
    assert done(r) == "ok", read(r / "report.md")
    return read(r / "stdout")


def ctl(ctx, text):
    write(ctx / "ctl", text + "\n")


def lines(m):
    """The root's status, as a dict."""
    return dict(line.split(": ", 1) for line in read(m.path / "status").splitlines())


def parent(pid):
    return int(re.search(r"^PPid:\s*(\d+)", read(f"/proc/{pid}/status"), re.M)[1])


def leave_a_mark(ctx):
    """Something in /tmp, by which a box is known again."""
    out(ctx, "echo here > /tmp/mark\n", "mark.sh")


def has_the_mark(ctx, cell="look.sh"):
    return out(ctx, "cat /tmp/mark 2>&- || :\n", cell) == "here\n"


@pytest.fixture
def other(m, ctx):
    """One more context."""
    made = m.context(ctx.name + "-other")
    yield made
    ctl(made, "remove")


# ---- what is said of it --------------------------------------------------------------------------


def test_the_status_of_the_root_says_how_kernels_are_isolated(fresh):
    said = lines(fresh)
    assert said["isolation"].startswith("full: ") and "seccomp" in said["isolation"]
    assert said["limits"].startswith(("cgroup v1", "cgroup v2", "each process"))
    assert said["network"] in ("pasta", "slirp4netns") or said["network"].startswith("off only")
    assert said["boxes"] == "0"
    a, b = fresh.context("a"), fresh.context("b")
    for ctx in (a, b):
        out(ctx, "true\n")
        assert done(run(ctx, "b.py", "1\n")) == "ok"
    assert lines(fresh)["boxes"] == "2" and lines(fresh)["kernels_running"] == "4"
    ctl(a, "remove")
    until(lambda: lines(fresh)["boxes"] == "1", why="the box is still counted")
    ctl(b, "stop")
    until(lambda: lines(fresh)["boxes"] == "0", why="the box is still counted")


def test_context_json_has_isolation_and_limits(ctx):
    facts = about(ctx)
    assert facts["isolation"].startswith("full: ") and facts["needs_restart"] == []
    limits = facts["limits"]
    assert set(limits) == KEYS
    assert (limits["memory_bytes"], limits["disk_bytes"]) == (2 << 30, 2 << 30)
    assert (limits["processes"], limits["cpus"], limits["network"]) == (128, 0, "off")


CHANGES = {"memory": ("300M", "memory_bytes", 300 * MIB), "processes": ("50", "processes", 50), "network": ("host", "network", "host")}


@pytest.mark.parametrize("key", CHANGES)
def test_a_value_of_the_box_needs_a_restart(ctx, key):
    text, name, value = CHANGES[key]
    before = about(ctx)["limits"][name]
    write(ctx / "config" / key, text)
    assert about(ctx)["needs_restart"] == [] and about(ctx)["limits"][name] == value  # there is no box yet
    os.unlink(ctx / "config" / key)
    leave_a_mark(ctx)
    write(ctx / "config" / key, text)
    assert about(ctx)["needs_restart"] == [key] and about(ctx)["limits"][name] == before
    assert has_the_mark(ctx)
    ctl(ctx, "restart")
    assert not has_the_mark(ctx)
    assert about(ctx)["needs_restart"] == [] and about(ctx)["limits"][name] == value


def test_what_needs_a_restart_is_forgotten_with_the_change(ctx):
    out(ctx, "true\n")
    for key, (text, _, _) in CHANGES.items():
        write(ctx / "config" / key, text)
    assert sorted(about(ctx)["needs_restart"]) == sorted(CHANGES)
    for key in CHANGES:
        os.unlink(ctx / "config" / key)
    assert about(ctx)["needs_restart"] == []


def test_other_values_need_no_restart(ctx):
    out(ctx, "true\n")
    for key, text in (("cpus", "0.5"), ("disk", "100M"), ("timeout", "50"), ("output", "1M")):
        write(ctx / "config" / key, text)
    facts = about(ctx)
    assert facts["needs_restart"] == [] and facts["limits"]["cpus"] == 0.5 and facts["limits"]["disk_bytes"] == 100 * MIB
    out(ctx, "true\n")


# ---- what it has ---------------------------------------------------------------------------------


def test_the_paths_of_a_box(m, ctx):
    write(m.state / "artifacts" / "shelved", "from the shelf\n")
    assert out(ctx, "pwd; echo $HOME; hostname; id -u; cat /artifacts/shelved; ls /kernels\n").splitlines()[:5] == [
        "/workspace", "/home/user", "sandbox", "1000", "from the shelf"]
    assert out(ctx, "import os\nprint(os.getcwd(), os.path.expanduser('~'), os.getuid())\n", "a.py") == "/workspace /home/user 1000\n"
    write(ctx / "workspace" / "mine", "1")
    assert out(ctx, "echo 2 > /workspace/mine; echo 3 > ~/mine; touch /tmp/x /dev/shm/x /spool/out/x\n") == ""
    assert read(ctx / "workspace" / "mine") == "2\n"
    os.unlink(m.state / "artifacts" / "shelved")


@pytest.mark.parametrize("place", ["/artifacts", "/kernels", "/kernels/bash", "/spool/code", "/spool/code/python", "/usr", "/etc", "/"])
def test_a_place_that_is_read_only(ctx, place):
    r = run(ctx, "a.py", f"import os\nos.listdir({place!r})\nopen({place!r} + '/planted', 'w')\n")
    assert done(r) == "error", place
    assert re.search("Read-only file system|Permission denied", record(r)["error"]["message"]), read(r / "report.md")


def test_the_code_of_a_cell_cannot_be_changed_from_inside(ctx):
    r = run(ctx, "a.sh", "echo x > $BASH_SOURCE || rm -f $BASH_SOURCE || echo kept\n")
    assert done(r) == "ok" and read(r / "stdout") == "kept\n" and read(r / "stderr").count("Read-only file system") == 2


def test_a_bind_is_there_read_only(fresh):
    data = fresh.dir / "data"
    data.mkdir()
    write(data / "f", "of the host\n")
    fresh.dir.chmod(0o755)
    fresh.remount(f"bind={data}:/mnt/data,bind={data}/f:/opt/one")
    code = "cat /mnt/data/f /opt/one; for f in /mnt/data/f /mnt/data/new /opt/one; do echo x > $f || echo refused; done\n"
    r = fresh.run("a.sh", code)
    assert read(r / "stdout") == "of the host\n" * 2 + "refused\n" * 3
    assert "Read-only file system" in read(r / "stderr")
    assert read(data / "f") == "of the host\n" and os.listdir(data) == ["f"]


def test_cwd_is_a_path_of_the_box(ctx):
    write(ctx / "config" / "cwd", "/tmp")
    assert out(ctx, "pwd\n") == "/tmp\n" and out(ctx, "import os\nprint(os.getcwd())\n", "a.py") == "/tmp\n"
    write(ctx / "config" / "cwd", "/home/user")
    assert out(ctx, "pwd\n") == "/home/user\n" and out(ctx, "import os\nprint(os.getcwd())\n", "a.py") == "/home/user\n"


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("cwd", ["/nosuch", "nosuch", "/etc/passwd"])
def test_a_cwd_that_is_not_there_fails_the_run_with_the_reason(ctx, cwd, started):
    if started:
        out(ctx, "true\n")
    write(ctx / "config" / "cwd", cwd)
    r = run(ctx, "a.sh", "touch ran\n")
    assert done(r) in ("error", "killed") and cwd in reason(r)
    assert re.search("No such file|Not a directory", reason(r)), reason(r)
    os.unlink(ctx / "config" / "cwd")
    assert out(ctx, "pwd; ls\n") == "/workspace\n"


def test_a_cwd_on_the_host_is_not_one_in_the_box(m, ctx):
    write(ctx / "config" / "cwd", str(m.dir))
    r = run(ctx, "a.sh", "ls\n")
    assert done(r) in ("error", "killed") and str(m.dir) in reason(r)


# ---- two contexts --------------------------------------------------------------------------------


def test_two_contexts_see_nothing_of_each_other(ctx, other):
    word = f"secret{os.getpid()}"
    out(ctx, f"for d in /tmp ~ /dev/shm /workspace; do echo {word} > $d/{word}; done; (exec -a {word} sleep 1000) &\n")
    serve = "import socket\ns = socket.create_server(('127.0.0.1', 4711)); t = socket.socket(socket.AF_UNIX)\n" \
        f"t.bind('\\0{word}'); t.listen()\n"
    assert done(run(ctx, "serve.py", serve)) == "ok"
    assert word in out(ctx, "ls /tmp ~ /dev/shm /workspace; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; hostname -I\n")
    seen = out(other, "ls -a /tmp ~ /dev/shm /workspace /spool/*; cat /proc/[0-9]*/cmdline | tr '\\0' ' '; cat /proc/net/unix\n"
               f"find / -name '{word}' 2>&-; cat /proc/self/mountinfo\n", "look.sh")
    assert word not in seen and ctx.name not in seen.replace(other.name, "")
    assert out(other, "hostname -I\n").strip() == "" and "sandbox" in out(other, "hostname\n")
    for address in ("socket.AF_INET, ('127.0.0.1', 4711)", f"socket.AF_UNIX, '\\0{word}'"):
        r = run(other, "c.py", f"import socket\nfamily, to = {address}\nsocket.socket(family).connect(to)\n")
        assert done(r) == "error" and record(r)["error"]["name"] in ("ConnectionRefusedError", "PermissionError"), address
    assert done(run(ctx, "c.py", "import socket\nsocket.create_connection(('127.0.0.1', 4711)).close()\n")) == "ok"
    boxes = [box_pids(c) for c in (ctx, other)]
    assert not set(boxes[0].values()) & set(boxes[1].values())
    assert int(out(other, "ls /proc | grep -c '^[0-9]'\n")) <= len(boxes[1]) + 3  # a subshell, ls, grep


def test_the_kernels_of_a_context_share_their_box(ctx):
    leave_a_mark(ctx)
    assert out(ctx, "print(open('/tmp/mark').read(), end='')\n", "a.py") == "here\n"
    there = set(box_pids(ctx).values())
    assert {kernel(ctx)["pid"], kernel(ctx, "bash")["pid"]} <= there


def test_files_on_the_host_belong_to_the_user_of_the_box(m, ctx, other):
    if os.geteuid():
        pytest.skip("a daemon of an ordinary user has no other users")
    owners = set()
    for c in (ctx, other):
        out(c, "mkdir d; echo x > d/f; echo y > ~/f\n")
        assert out(c, "x = open('py', 'w').close()\n", "a.py") == ""
        real = m.state / "names" / c.name
        (owner,) = {(s.st_uid, s.st_gid) for s in (os.lstat(real / f) for f in ("workspace", "workspace/d/f", "workspace/py", "home/f"))}
        assert min(owner) >= 0x70000000
        assert {s.st_uid for s in (os.stat(f"/proc/{pid}") for pid in box_pids(c).values())} <= {owner[0], 0}  # 0: undumpable
        assert all(int(u) == owner[0] for pid in box_pids(c).values() for u in uids(pid))
        owners.add(owner)
    assert len(owners) == 2


def uids(pid):
    return re.search(r"^Uid:(.*)$", read(f"/proc/{pid}/status"), re.M)[1].split()


def test_a_state_dir_that_was_copied_by_root_works(fresh):
    if os.geteuid():
        pytest.skip("a daemon of an ordinary user has no other users")
    out(fresh.main, "mkdir -p d/e; echo one > d/e/f; chmod 600 d/e/f; ln -s /etc/shadow link; echo h > ~/h\n")
    ours = os.lstat(fresh.state / "names" / "main" / "workspace").st_uid
    fresh.unmount()
    target = os.lstat("/etc/shadow").st_uid
    copy = fresh.dir / "copy"
    ok(["cp", "-r", fresh.state, copy])
    shutil.rmtree(fresh.state)
    copy.rename(fresh.state)
    workspace = fresh.state / "names" / "main" / "workspace"
    assert os.lstat(workspace / "d" / "e" / "f").st_uid == 0
    fresh.start()
    assert out(fresh.main, "cat d/e/f ~/h; echo two >> d/e/f; echo x > new; rm ~/h; rm link; cat d/e/f\n") == "one\nh\none\ntwo\n"
    assert {os.lstat(workspace / f).st_uid for f in ("d/e/f", "new", "d")} == {ours}
    assert os.lstat("/etc/shadow").st_uid == target  # a symbolic link leads nobody out


# ---- lives and deaths ----------------------------------------------------------------------------


def test_a_kernel_dies_alone(ctx):
    leave_a_mark(ctx)
    assert out(ctx, "x=5\n") == ""
    r = run(ctx, "a.py", "import subprocess, os\np = subprocess.Popen(['setsid', 'sleep', '1000'])\nprint(p.pid, 'go', flush=True)\n"
            "import time\nwhile not os.path.exists('stop'): time.sleep(.01)\nos.kill(os.getpid(), 9)\n")
    says(r, "go")
    child = host_pid(ctx, int(peek(ctx / "stdout").split()[-2]))
    bash = kernel(ctx, "bash")
    with ending(child, kernel(ctx)["pid"]):
        write(ctx / "workspace" / "stop", "")
        assert done(r) == "killed" and "signal 9" in reason(r)
    assert out(ctx, "echo $x; cat /tmp/mark\n") == "5\nhere\n" and kernel(ctx, "bash")["pid"] == bash["pid"]
    assert out(ctx, "print(open('/tmp/mark').read(), end='')\n", "b.py") == "here\n"


def test_restart_of_a_language_keeps_the_box(ctx):
    leave_a_mark(ctx)
    assert done(run(ctx, "a.py", "x = 5\n")) == "ok"
    init = box_pids(ctx)[1]
    with ending(kernel(ctx)["pid"]):
        ctl(ctx, "restart python")
    assert out(ctx, "print('x' in globals(), open('/tmp/mark').read(), end='')\n", "b.py") == "False here\n"
    assert box_pids(ctx)[1] == init and has_the_mark(ctx)
    ctl(ctx, "restart bash")  # the last of them, while it is the only one in use
    assert has_the_mark(ctx) and box_pids(ctx)[1] == init


def test_restart_makes_a_new_box(ctx):
    leave_a_mark(ctx)
    write(ctx / "workspace" / "f", "kept")
    with ending(*box_pids(ctx).values()):
        ctl(ctx, "restart")
        assert not has_the_mark(ctx)
    assert read(ctx / "workspace" / "f") == "kept"


def test_stop_ends_the_box(ctx):
    leave_a_mark(ctx)
    out(ctx, "setsid sleep 1000 >&- 2>&- & disown; sleep .1\n")
    with ending(*box_pids(ctx).values(), seconds=3):
        ctl(ctx, "stop")
    assert not has_the_mark(ctx)


def test_an_idle_timeout_ends_the_box(ctx):
    leave_a_mark(ctx)
    with ending(*box_pids(ctx).values(), seconds=5):
        write(ctx / "config" / "idle_timeout", "1")
    os.unlink(ctx / "config" / "idle_timeout")
    assert not has_the_mark(ctx)


def test_a_box_that_dies_ends_its_run_and_the_next_cell_has_a_new_one(m, ctx, other):
    leave_a_mark(ctx)
    leave_a_mark(other)
    assert done(run(ctx, "x.py", "x = 5\n")) == "ok"
    r = run(ctx, "long.sh", "echo go; sleep 1000\n")
    queued = run(ctx, "next.py", "'x' in globals()\n")
    says(r, "go")
    box = box_pids(ctx)
    with ending(*box.values(), seconds=5):
        os.kill(box[1], signal.SIGKILL)
        assert done(r) == "killed" and reason(r), read(r / "status")
    assert record(r)["state_preserved"] is False and read(r / "stdout") == "go\n"
    assert done(queued) in ("ok", "cancelled", "killed")
    assert not has_the_mark(ctx) and has_the_mark(other)
    again = run(ctx, "y.py", "'x' in globals()\n")
    assert done(again) == "ok" and read(again / "result.txt") == "False\n"


@pytest.mark.parametrize("cell, code", [("a.sh", "true\n"), ("idle.py", "1\n"), ("new.js", "1\n")])
def test_a_cell_right_after_the_end_of_its_box_is_run_in_the_next(ctx, cell, code):
    """The daemon hears of the cell, of the kernels and of the box in any order."""
    for i in range(15):
        assert done(run(ctx, "idle.py", f"{i}\n")) == "ok"
        r = run(ctx, "busy.sh", f"echo go {i}; sleep 1000\n")
        says(r, f"go {i}")
        os.kill(box_pids(ctx)[1], signal.SIGKILL)
        assert done(r) == "killed"
        again = run(ctx, cell, code)
        assert done(again) == "ok", read(again / "report.md")


def test_a_box_that_dies_while_idle_is_replaced(ctx):
    leave_a_mark(ctx)
    box = box_pids(ctx)
    with ending(*box.values(), seconds=5):
        os.kill(box[1], signal.SIGKILL)
    until(lambda: not about(ctx)["kernels"]["bash"]["pid"], why="the kernel is still in context.json")
    assert not has_the_mark(ctx)


@pytest.mark.parametrize("busy", [True, False])
def test_a_supervisor_that_dies_takes_its_kernel_along_and_no_other(ctx, busy):
    leave_a_mark(ctx)
    assert out(ctx, "x=5; sleep 1000 >&- 2>&- &\n") == ""
    keep = kernel(ctx, "bash")["pid"]
    r = run(ctx, "a.py", "import os, subprocess, time\np = subprocess.Popen(['setsid', 'sleep', '1000'])\n"
            "print(p.pid, 'go', flush=True)\n" + ("while not os.path.exists('stop'): time.sleep(.01)\n" if busy else ""))
    says(r, "go")
    assert busy or done(r) == "ok"
    child = host_pid(ctx, int(peek(ctx / "stdout").split()[-2]))
    driver = kernel(ctx)["pid"]
    with ending(child, driver, parent(driver), seconds=5):
        os.kill(parent(driver), signal.SIGKILL)
        assert done(r) == ("killed" if busy else "ok")
    until(lambda: kernel(ctx)["pid"] != driver, why="the kernel is still in context.json")
    assert out(ctx, "echo $x; cat /tmp/mark; jobs -p | wc -l\n", "look.sh") == "5\nhere\n1\n" and kernel(ctx, "bash")["pid"] == keep
    assert out(ctx, "print(open('/tmp/mark').read(), end='')\n", "b.py") == "here\n"


def test_a_context_that_goes_while_its_box_is_made_leaves_no_zombie(m):
    """Its pid 1 is the daemon's child, even if the daemon has not heard of it yet."""
    for i in range(60):
        ctx = m.context(f"short-{i}")
        write(ctx / "config" / "memory", "300M\n")  # no spare's box will do
        run(ctx, "a.sh", "true\n")
        time.sleep(i % 12 / 2000)
        write(ctx / "ctl", "remove\n")

    def zombies():
        found = 0
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended
                found += read(stat).rpartition(")")[2].split()[:2] == ["Z", str(m.pid)]
        return found

    until(lambda: not zombies(), why="zombies stay")


def test_the_end_of_a_context_is_the_end_of_its_box(m):
    ctx = m.context("boxed-and-gone")
    out(ctx, "setsid sleep 1000 >&- 2>&- & sleep .1\n")
    with ending(*box_pids(ctx).values(), seconds=5):
        ctl(ctx, "remove")
        assert not ctx.exists()


# ---- limits --------------------------------------------------------------------------------------

EAT = "import mmap\nm = mmap.mmap(-1, 1 << 30)\nfor i in range(0, 1 << 30, 4096): m[i] = 1\n"


def test_memory_that_is_over_the_limit_is_oom(ctx):
    write(ctx / "config" / "memory", "256M")
    assert out(ctx, "x=5\n") == ""
    r = run(ctx, "a.py", EAT)
    assert done(r) == "oom" and read(r / "status") == "oom: memory limit 256 MiB\n"
    assert read(r / "exit_code") == "137\n" and record(r)["state_preserved"] is False
    again = run(ctx, "b.py", "1\n")
    assert done(again) == "ok" and "memory limit 256 MiB" in read(again / "stderr")
    assert out(ctx, "echo ${x-gone}\n", "b.sh") == "5\n"  # the kernel of Bash was no victim


def test_memory_of_a_process_that_is_over_is_an_error_of_the_language(ctx):
    write(ctx / "config" / "memory", "256M")
    r = run(ctx, "a.py", "x = bytearray(1 << 30)\n")
    assert done(r) == "error" and record(r)["error"]["name"] == "MemoryError"
    assert done(run(ctx, "b.py", "1\n")) == "ok"


def test_a_child_that_is_the_victim_leaves_the_kernel_alone_and_is_told(m, ctx):
    if not lines(m)["limits"].startswith("cgroup"):
        pytest.skip("without a resource group the daemon ends the whole kernel")
    write(ctx / "config" / "memory", "256M")
    write(ctx / "workspace" / "eat.py", EAT)
    r = run(ctx, "a.sh", "x=5; /usr/bin/python3 eat.py; echo ended with $?\n")
    assert done(r) == "ok" and read(r / "stdout") == "ended with 137\n"
    (text,) = [e["text"] for e in events(r) if e["type"] == "notice"]
    assert "memory limit 256 MiB" in text
    assert out(ctx, "echo $x\n", "b.sh") == "5\n"


@pytest.mark.parametrize("cell, code", [
    ("a.py", "with open('big', 'wb') as f:\n    for i in range(100): f.write(bytes(1 << 20))\n"),
    ("a.sh", "head -c 100M /dev/zero > big\n"),
])
def test_a_file_that_is_too_large_is_an_error_of_the_program(ctx, cell, code):
    write(ctx / "config" / "disk", "64M")
    r = run(ctx, cell, code)
    assert done(r) == "error" and "File too large" in read(r / "stderr") + read(r / "error.txt")
    assert os.stat(ctx / "workspace" / "big").st_size <= 64 * MIB
    os.unlink(ctx / "workspace" / "big")
    assert done(run(ctx, "b.sh", "true\n")) == "ok"


def test_a_disk_that_is_over_the_limit_ends_the_run(ctx):
    write(ctx / "config" / "disk", "64M")
    out(ctx, "true\n")  # who is over the limit still a second later is ended, too: tidying up is not to wait for a kernel
    r = run(ctx, "a.py", "import time\nfor i in range(40):\n    open(f'f{i}', 'wb').write(bytes(4 << 20))\ntime.sleep(1000)\n")
    assert done(r) == "killed" and read(r / "status") == "killed: disk limit 64 MiB\n"
    assert "disk limit" in read(ctx / "log")
    assert out(ctx, "rm -f f*; echo tidy\n") == "tidy\n"
    assert out(ctx, "print('on')\n", "b.py") == "on\n"


def test_a_disk_that_is_over_already_does_not_end_who_tidies_up(ctx):
    os.mkdir(ctx / "workspace" / "old")
    for i in range(8):
        write(ctx / "workspace" / "old" / str(i), bytes(2 * MIB))
    write(ctx / "config" / "disk", "8M")
    assert out(ctx, "sleep 3; rm -r old; echo tidy\n") == "tidy\n"


BOMBS = {
    "a.sh": "b() { b | b & b; }\nb\n",
    "a.py": "import os, time\nwhile True:\n    if os.fork() == 0: time.sleep(1000)\n",
}


@pytest.mark.parametrize("cell", BOMBS)
def test_a_fork_bomb_ends_with_errors_and_the_next_cell_works(ctx, other, cell):
    write(ctx / "config" / "processes", "32")
    write(ctx / "config" / "timeout", "5")
    r = run(ctx, cell, BOMBS[cell])
    assert done(r) in ("error", "timeout"), read(r / "status")
    assert re.search("Resource temporarily unavailable|BlockingIOError", read(r / "stderr") + read(r / "error.txt"))
    assert len(box_pids(ctx)) <= 32 + 1  # its first process is not counted everywhere
    assert out(ctx, "x=5\n" if cell == "a.sh" else "x = 5\n", cell) == ""  # the kernel lives, and in the same box
    ctl(ctx, "restart")
    assert done(run(ctx, "b.py", "1\n")) == done(run(ctx, "b.sh", "ls | cat\n")) == "ok"
    assert done(run(other, "a.sh", "true\n")) == "ok"


def test_threads_count_as_processes(ctx):
    write(ctx / "config" / "processes", "32")
    r = run(ctx, "a.py", "import threading\nstop = threading.Event()\nts = []\ntry:\n    for i in range(100):\n"
            "        ts.append(threading.Thread(target=stop.wait)); ts[-1].start()\nfinally:\n    stop.set()\n")
    assert done(r) == "error" and "thread" in read(r / "error.txt")
    assert done(run(ctx, "b.sh", "ls | cat\n")) == "ok"


# ---- less of it ----------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["weak", "none"])
def test_without_a_box_it_is_said_and_cells_work(fresh, mode):
    fresh.remount(f"sandbox={mode}")
    assert f"cellfs: isolation: {mode}: " in fresh.log_text()
    assert lines(fresh)["isolation"].startswith(f"{mode}: ") and lines(fresh)["boxes"] == "0"
    assert about(fresh.main)["isolation"] == lines(fresh)["isolation"]
    workspace = os.path.realpath(fresh.state / "names" / "main" / "workspace")
    assert out(fresh.main, "pwd; echo x > f; echo y > ~/f; cat ~/f; ls | cat\n") == f"{workspace}\ny\nf\n"
    r = fresh.run("a.py", "import os\nprint(os.getcwd())\nx = 5\n40 + 2\n")
    assert done(r) == "ok" and read(r / "result.txt") == "42\n" and read(r / "stdout") == workspace + "\n"
    secret = fresh.dir / "secret"
    write(secret, "of the host\n")
    r = fresh.run("b.sh", f"cat {secret}\n")
    if mode == "weak":
        assert done(r) == "error" and "Permission denied" in read(r / "stderr")
    else:
        assert done(r) == "ok" and read(r / "stdout") == "of the host\n"
    assert lines(fresh)["boxes"] == "0" and about(fresh.main)["needs_restart"] == []


@pytest.mark.parametrize("mode", ["weak", "none"])
def test_without_a_box_the_processes_of_a_kernel_end_too(fresh, mode):
    fresh.remount(f"sandbox={mode}")
    r = fresh.run("a.sh", "setsid sleep 1000 & echo $! go; wait\n")
    says(r, "go")
    child = int(peek(fresh.main / "stdout").split()[0])
    with ending(child, kernel(fresh.main, "bash")["pid"], seconds=5):
        ctl(fresh.main, "stop")
    r = fresh.run("a.sh", "setsid sleep 1000 & echo $! go; wait\n")
    says(r, "go")
    child = int(peek(fresh.main / "stdout").split()[2])
    with ending(child, kernel(fresh.main, "bash")["pid"], seconds=5):
        fresh.kill()
    fresh.start()
