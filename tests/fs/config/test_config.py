"""interface.md, Control and time: config/, one value a file."""

import errno
import os
import re
import subprocess

import pytest

from control.steps import about, events, kernel, reason, record, says
from mount import PATIENCE, done, fails, ok, read, read_bytes, read_until, fd_of, run, runs, spawn, status, within, write

OPTIONS = "wait=3"

GOOD = {
    "timeout": ["5", "0", "90s", "5m", "1h", "1d", "365d", "1.5"],
    "wait": ["5", "0", "90s", "5m", "1h"],
    "idle_timeout": ["5", "0", "90s", "5m", "1h"],
    "output": ["0", "1000", "64K", "512M", "1G", "1T"],
    "keep": ["1", "1000", "1000 runs", "30d", "12h", "2G", "64K", "all"],
    "cwd": ["sub", "a/b/../c", "./x", "/tmp", "/", "a b", "é"],
    "memory": ["512M", "32M", "67108864", "0.5G"],
    "disk": ["1M", "1G", "1.5g", "1048576"],
    "processes": ["8", "64", "1000"],
    "cpus": ["0", "0.5", "1", "0.01"],
    "network": ["off", "on", "host"],
}
BAD = {
    "timeout": ["-1", "soon", "5x", "5 5", "s", "366d", "1e3", "0x10", "nan", "inf", "5\n6", "5\0", "9" * 30, "1..5"],
    "wait": ["-1", "ever", "400d", "5\n6"],
    "idle_timeout": ["-1", "never", "5\n6"],
    "output": ["-1", "x", "5x", "2T", "1M1", "1 M M", "512MBB"],
    "keep": ["none", "-5", "5x", "30 days", "some"],
    "cwd": ["..", "../x", "a/../../b", "x" * 5000, "a\nb", "a\0b"],
    "memory": ["0", "-1", "31M", "900T", "lots", "5s"],
    "disk": ["0", "1K", "-1", "5000000T", "all", "1M1"],
    "processes": ["0", "7", "8.5", "-1", "99999999", "64K", "none"],
    "cpus": ["-1", "0.001", "100000", "50%", "all"],
    "network": ["yes", "ON", "1", "none", "on\noff"],
}
RANGE = {  # what the log says of the form; the upper ends are facts of the host
    "timeout": r"90s .*365d", "wait": r"90s .*365d", "idle_timeout": r"90s .*365d", "output": "64K .*1T", "keep": "30d",
    "cwd": "workspace", "memory": r"from 32M to \d", "disk": r"from 1M to \d", "processes": r"from 8 to \d",
    "cpus": r"from 0\.01 to \d", "network": "off, on or host",
}
PAIRS = lambda table: [(k, v) for k in table for v in table[k]]  # noqa: E731


def ident(v):
    return v[:12].encode("unicode_escape").decode() if isinstance(v, str) else str(v)


@pytest.mark.parametrize("key,value", PAIRS(GOOD), ids=ident)
def test_a_value_gives_back_what_was_written(ctx, key, value):
    path = ctx / "config" / key
    default = read(path)
    for text in (value, value + "\n"):
        write(path, text)
        assert read(path).rstrip("\n") == value
    write(path, "")
    assert read(path) == default  # empty means the default
    write(path, value)
    os.unlink(path)
    assert read(path) == default and key in os.listdir(ctx / "config")  # removed too


@pytest.mark.parametrize("key,value", PAIRS(BAD), ids=ident)
def test_a_bad_value_is_einval_with_the_range_in_the_log(ctx, key, value):
    path = ctx / "config" / key
    good = GOOD[key][0]
    write(path, good)
    before = len(read(ctx / "log"))
    with fails(errno.EINVAL):
        write(path, value)
    assert read(path).rstrip("\n") == good  # nothing of it is done
    said = read(ctx / "log")[before:]
    assert key in said and re.search(RANGE[key], said), said
    write(ctx / "config" / "draft", value)
    with fails(errno.EINVAL):
        os.rename(ctx / "config" / "draft", path)
    assert read(path).rstrip("\n") == good and (ctx / "config" / "draft").exists()


WRITERS = {
    "echo": "echo 7s > timeout",
    "printf without newline": "printf 7s > timeout",
    "sed -i": "echo 5s > timeout; sed -i s/5/7/ timeout",
    "perl -i": "echo 5s > timeout; perl -i -pe s/5/7/ timeout",
    "tee": "echo 7s | tee timeout",
    "cp": "echo 7s > /tmp/cellfs-v.$$; cp /tmp/cellfs-v.$$ timeout; rm /tmp/cellfs-v.$$",
    "draft and mv": "echo 7s > timeout.tmp.12.ab; mv timeout.tmp.12.ab timeout",
    "dd": "echo 7s | dd of=timeout status=none",
    "byte by byte": "echo 7s | dd of=timeout bs=1 status=none",
    "two children": "(/bin/echo -n 7; /bin/echo s) > timeout",
    "vim": "echo 5s > timeout; vim -Nu NONE -es -c s/5/7/ -c wq timeout",
    "vim backupcopy=yes": "echo 5s > timeout; vim -Nu NONE -es -c 'set bkc=yes bk' -c s/5/7/ -c wq timeout; rm -f timeout~",
    "vim backupcopy=no": "echo 5s > timeout; vim -Nu NONE -es -c 'set bkc=no bk' -c s/5/7/ -c wq timeout; rm -f timeout~",
    "python": "/usr/bin/python3 -c 'import os; open(\"t\", \"w\").write(\"7s\\n\"); os.replace(\"t\", \"timeout\")'",
    "node": "node -e 'fs.writeFileSync(\"timeout\", \"7s\\n\")'",
    "rsync": "echo 7s > /tmp/cellfs-v.$$; rsync -aI /tmp/cellfs-v.$$ timeout; rm /tmp/cellfs-v.$$",
}


@pytest.mark.parametrize("tool", WRITERS)
def test_every_editor_can_write_a_value(ctx, tool):
    ok(WRITERS[tool], cwd=ctx / "config")
    assert read(ctx / "config" / "timeout").rstrip("\n") == "7s"
    assert oct(os.stat(ctx / "config" / "timeout").st_mode) == "0o100644"
    assert set(os.listdir(ctx / "config")) == {*GOOD, "env", "kernel"}
    r = run(ctx, "a.sh", "true\n")
    assert done(r) == "ok"
    assert about(ctx)["limits"]["timeout_s"] == 7  # the value in force


@pytest.mark.parametrize("key", ["memory", "processes", "cpus"])
def test_the_range_in_the_log_is_the_hosts(ctx, key):
    most = {
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "processes": min(int(read(f"/proc/sys/kernel/{name}")) for name in ("threads-max", "pid_max")),
        "cpus": os.cpu_count(),
    }[key]
    path = ctx / "config" / key
    write(path, str(most))
    with fails(errno.EINVAL):
        write(path, str(most + 1))
    assert read(path) == str(most)
    if key != "memory":
        assert f" to {most}" in read(ctx / "log")


def test_a_value_takes_effect_for_the_next_run(ctx):
    write(ctx / "config" / "timeout", "1")
    assert done(run(ctx, "a.sh", "sleep 1000\n")) == "timeout"
    os.unlink(ctx / "config" / "timeout")
    assert done(run(ctx, "a.sh", "sleep 1.3\n")) == "ok"


def test_a_change_is_an_event(ctx):
    write(ctx / "config" / "timeout", "9")
    write(ctx / "config" / "env" / "A", "1")
    keys = [e["key"] for e in events(ctx) if e["type"] == "config"]
    assert keys[0] == "timeout" and len(keys) == 2 and "A" in keys[1]


def test_drafts_in_config_are_ordinary_files(ctx):
    for d in (ctx / "config", ctx / "config" / "env", ctx / "config" / "kernel"):
        write(d / ".timeout.swp", b"\0\1")
        write(d / "x.tmp", "hello")
        os.chmod(d / "x.tmp", 0o600)
        os.rename(d / "x.tmp", d / "y.tmp")
        assert read(d / "y.tmp") == "hello" and {"y.tmp", ".timeout.swp"} <= set(os.listdir(d))
        os.unlink(d / "y.tmp")
        os.unlink(d / ".timeout.swp")
    assert os.listdir(ctx / "config" / "env") == []


# ---- env -----------------------------------------------------------------------------------------


def seen(ctx, name):
    """The variable as both kernels have it; None is absent."""
    p = run(ctx, "p.py", f"import os, subprocess\nprint(repr(os.environ.get({name!r})))\n")
    s = run(ctx, "s.sh", f"[ -v {name} ] && printf %s \"${name}\" || printf '\\0'; "
            f"/usr/bin/python3 -c 'import os; print(repr(os.environ.get(\"{name}\")))' >&2\n")
    assert done(p) == done(s) == "ok"
    in_python = eval(read(p / "stdout"))  # noqa: S307
    assert eval(read(s / "stderr").splitlines()[-1]) == in_python  # noqa: S307
    in_bash = read_bytes(s / "stdout").decode()
    assert in_bash == ("\0" if in_python is None else in_python)
    return in_python


def test_env_is_for_the_next_run_of_every_kernel_and_removed_ones_are_removed(ctx):
    env = ctx / "config" / "env"
    assert seen(ctx, "FOO") is None
    for text, value in (("bar\n", "bar"), ("bar", "bar"), ("two\nlines\n", "two\nlines"), ("é $x 'q' \"d\" \\n\n", "é $x 'q' \"d\" \\n"),
                        ("a=b\n", "a=b"), ("x" * 5000, "x" * 5000)):
        write(env / "FOO", text)
        assert seen(ctx, "FOO") == value and read(env / "FOO") == text
    assert os.listdir(env) == ["FOO"]
    os.unlink(env / "FOO")
    assert seen(ctx, "FOO") is None and os.listdir(env) == []
    assert kernel(ctx)["generation"] == 1  # none of it needed a restart


def test_env_of_the_daemon_is_overridden_and_given_back(ctx):
    home = seen(ctx, "PATH")
    write(ctx / "config" / "env" / "PATH", "/usr/bin:/bin:/nowhere")
    assert seen(ctx, "PATH") == "/usr/bin:/bin:/nowhere"
    write(ctx / "config" / "env" / "_A1", "1")
    write(ctx / "config" / "env" / "a", "2")
    assert (seen(ctx, "_A1"), seen(ctx, "a")) == ("1", "2")
    os.unlink(ctx / "config" / "env" / "PATH")
    assert seen(ctx, "PATH") in (home, None)


@pytest.mark.parametrize("name", ["1A", "A-B", "A.tmp", "A B", ".A", "é", "A~"])
def test_other_names_in_env_are_drafts(ctx, name):
    write(ctx / "config" / "env" / name, "x")
    r = run(ctx, "a.py", "import os\nprint([k for k in os.environ if os.environ[k] == 'x'])\n")
    assert read(r / "stdout") == "[]\n" and os.listdir(ctx / "config" / "env") == [name]


def test_env_by_sed_and_rename_and_bad_ones(ctx):
    env = ctx / "config" / "env"
    write(env / "FOO", "one\n")
    ok("sed -i s/one/two/ FOO", cwd=env)
    assert seen(ctx, "FOO") == "two" and os.listdir(env) == ["FOO"]
    write(env / "FOO.tmp", "three\n")
    os.rename(env / "FOO.tmp", env / "FOO")
    assert seen(ctx, "FOO") == "three"
    with fails(errno.EINVAL):
        write(env / "FOO", b"a\0b")
    assert seen(ctx, "FOO") == "three"


# ---- kernel --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def venv(m):
    path = m.dir / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", path], check=True)
    return path


def test_kernel_by_the_path_of_an_interpreter(ctx, venv):
    override = ctx / "config" / "kernel" / "py"
    assert done(run(ctx, "x.py", "x = 1\n")) == "ok"
    write(override, f"{venv}/bin/python\n")
    assert read(override) == f"{venv}/bin/python\n"
    r = run(ctx, "early.py", "1\n")  # the box in use has not got that directory
    assert done(r) == "killed" and "echo restart > ctl" in reason(r) and str(venv) in reason(r)
    write(ctx / "ctl", "restart\n")
    assert done(run(ctx, "new.py", "1\n")) == "ok"
    os.unlink(override)
    assert done(run(ctx, "x.py", "x = 5\n")) == "ok"
    write(override, f"{venv}/bin/python\n")
    r = run(ctx, "a.py", "import sys\nprint(sys.prefix)\n'x' in globals()\n")
    assert done(r) == "ok", read(r / "report.md")
    assert read(r / "stdout") == f"{venv}\n" and read(r / "result.txt") == "False\n"
    mine = kernel(ctx, "py")  # named after the extension
    assert mine["pid"] != kernel(ctx)["pid"]
    r = run(ctx, "b.py", "1/0\n")  # the bare driver, without IPython, has the same protocol
    assert done(r) == "error" and record(r)["error"]["name"] == "ZeroDivisionError" and record(r)["error"]["line"] == 1
    write(ctx / "ctl", "restart py\n")
    assert read(run(ctx, "c.py", "import sys\nsys.prefix\n") / "result.txt") == f"{venv}\n"
    assert kernel(ctx, "py")["generation"] == mine["generation"] + 1
    os.unlink(override)
    r = run(ctx, "d.py", "import sys\nprint(sys.prefix)\nx\n")
    assert read(r / "stdout") == "/usr\n" and read(r / "result.txt") == "5\n"  # the other one was there all the time


def test_kernel_by_a_name_from_languages(ctx):
    write(ctx / "config" / "kernel" / "py", "bash\n")
    r = run(ctx, "a.py", "echo $BASH_VERSION\n")
    assert done(r) == "ok" and read(r / "stdout").startswith("5.") and "py" in about(ctx)["kernels"]
    write(ctx / "config" / "kernel" / "py", "")
    assert read(run(ctx, "b.py", "40 + 2\n") / "result.txt") == "42\n"


@pytest.mark.parametrize("value", ["/nosuch/python", "/etc/passwd", "/tmp", "bin/python", "cobol", "/usr/bin/python3\nx", "."])
def test_kernel_that_is_no_executable_is_einval(ctx, value):
    with fails(errno.EINVAL):
        write(ctx / "config" / "kernel" / "py", value)
    assert value.split("\n")[0] in read(ctx / "log")
    assert read(run(ctx, "b.py", "40 + 2\n") / "result.txt") == "42\n"


# ---- wait, keep, cwd -----------------------------------------------------------------------------


def test_wait_is_the_limit_of_all_but_done(ctx):
    write(ctx / "config" / "wait", "1")
    r = run(ctx, "a.sh", "echo go; until [ -e stop ]; do sleep .01; done\n")
    says(r, "go")
    waiter = spawn(["cat", str(r / "done")], stdout=subprocess.PIPE, text=True)
    with within(2.9), fails(errno.ETIMEDOUT):  # and not the mount's 3 s
        read(r / "stdout")
    with within(2.9), fails(errno.ETIMEDOUT):
        os.stat(r / "error.json")
    with within(2.9):
        assert "running" in read(r / "report.md")
    assert waiter.poll() is None
    write(ctx / "workspace" / "stop", "")
    assert waiter.communicate(timeout=PATIENCE)[0] == "ok\n"


def test_wait_of_zero_is_for_ever(ctx):
    write(ctx / "config" / "wait", "0")
    r = run(ctx, "a.sh", "echo go; sleep 3.4\n")  # past the mount's default of 3 s
    says(r, "go")
    assert read(r / "stdout") == "go\n" and status(r) == "ok"


def test_keep_of_a_number_forgets_the_oldest_and_never_the_newest_of_a_cell(ctx):
    write(ctx / "config" / "keep", "5")
    with fd_of(ctx / "events.follow") as fd:
        assert done(run(ctx, "b.sh", "echo the only one\n")) == "ok"
        for i in range(10):
            r = run(ctx, "a.sh", f"echo number {i}\n")
            assert done(r) == "ok"
        read_until(fd, b'"type":"removed"')
        write(ctx / "config" / "env" / "END", "1")
        text = read_until(fd, b"END")
    assert b'"type":"removed"' in text or runs(ctx) == [1, 8, 9, 10, 11]
    assert runs(ctx) == [1, 8, 9, 10, 11]
    assert read(ctx / "results" / "b.sh" / "stdout") == "the only one\n"
    assert read(r / "stdout") == "number 9\n"
    text = read_bytes(ctx / "stdout")
    assert b"number 0" not in text and b"number 5" not in text and b"number 6" in text
    assert len(text) == len("the only one\n") + 10 * len("number 0\n")  # the bytes read as NUL
    with fails(errno.ENOENT):
        os.stat(ctx / "history" / "2")


def test_keep_of_a_size(ctx):
    write(ctx / "config" / "keep", "100K")
    for _ in range(8):
        assert done(run(ctx, "a.sh", "head -c 40000 /dev/zero\n")) == "ok"
    assert done(run(ctx, "b.sh", "true\n")) == "ok"
    assert 9 in runs(ctx) and 8 in runs(ctx) and 1 not in runs(ctx) and 2 <= len(runs(ctx)) <= 5


def test_keep_written_later_applies_to_what_is_there(ctx):
    for _ in range(6):
        assert done(run(ctx, "a.sh", "true\n")) == "ok"
    write(ctx / "config" / "keep", "2 runs")
    assert done(run(ctx, "a.sh", "true\n")) == "ok"
    with fd_of(ctx / "events.jsonl") as fd:
        assert b"removed" in read_until(fd, b"removed")
    assert runs(ctx) == [6, 7]


def test_cwd_of_the_kernels(ctx):
    os.makedirs(ctx / "workspace" / "sub")
    show = {"a.py": "import os\nprint(os.getcwd())\n", "a.sh": "pwd\n"}
    at = {c: read(run(ctx, c, show[c]) / "stdout").strip() for c in show}
    assert at["a.py"] == at["a.sh"] and os.path.basename(at["a.py"]) == "workspace"
    for value, want in (("sub", at["a.py"] + "/sub"), ("/tmp", "/tmp"), ("", at["a.py"])):
        write(ctx / "config" / "cwd", value)
        for c in show:
            assert read(run(ctx, c, show[c]) / "stdout").strip() == want
    write(ctx / "config" / "cwd", "nosuch")
    r = run(ctx, "a.py", show["a.py"])
    assert done(r) == "error" and "nosuch" in read(r / "error.txt")


# ---- mount options -------------------------------------------------------------------------------


@pytest.mark.options("timeout=2,output=64K,wait=2,keep=2,cwd=sub,idle_timeout=5m")
def test_a_mount_option_sets_the_default_of_all_contexts(fresh):
    ctx = fresh.context("a")
    os.mkdir(ctx / "workspace" / "sub")
    assert done(run(ctx, "a.sh", "sleep 1000\n")) == "timeout"
    limits = about(ctx)["limits"]
    got = {k: limits[k] for k in ("timeout_s", "output_bytes", "wait_s", "keep", "idle_timeout_s", "cwd")}
    assert got == {"timeout_s": 2, "output_bytes": 65536, "wait_s": 2, "keep": "2", "idle_timeout_s": 300, "cwd": "sub"}
    r = run(ctx, "b.sh", "pwd; head -c 200000 /dev/zero\n")
    assert done(r) == "ok" and b"/sub\n" in read_bytes(r / "stdout") and os.stat(r / "stdout").st_size < 140000
    write(ctx / "config" / "timeout", "9")  # a value in config/ goes before it
    assert done(run(ctx, "c.sh", "sleep 2.3\n")) == "ok"
    os.unlink(ctx / "config" / "timeout")
    assert done(run(ctx, "d.sh", "sleep 1000\n")) == "timeout"


def test_values_last_over_an_unmount(fresh):
    ctx = fresh.context("a")
    write(ctx / "config" / "timeout", "7s\n")
    write(ctx / "config" / "env" / "FOO", "bar\n")
    write(ctx / "config" / "kernel" / "py", "bash\n")
    write(ctx / "config" / "draft", "x")
    fresh.remount()
    assert read(ctx / "config" / "timeout") == "7s\n" and read(ctx / "config" / "env" / "FOO") == "bar\n"
    assert read(ctx / "config" / "draft") == "x"
    assert read(run(ctx, "a.py", "echo $FOO\n") / "stdout") == "bar\n"


def test_a_restart_when_a_queued_cells_extension_means_nothing_any_more(ctx):
    write(ctx / "config" / "kernel" / "foo", "python\n")
    first = run(ctx, "a.foo", "print('here', flush=True)\nimport time; time.sleep(60)\n")
    with open(first / "stdout.follow") as f:
        assert f.readline() == "here\n"
    second = run(ctx, "b.foo", "1\n")
    (ctx / "config" / "kernel" / "foo").unlink()
    write(ctx / "ctl", "restart foo\n")
    assert done(first) == "interrupted"
    assert done(second) in ("ok", "error", "cancelled")
    assert done(run(ctx, "c.py", "1\n")) == "ok"
