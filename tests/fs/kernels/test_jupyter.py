"""Jupyter kernels through the mount: one that nobody prepared for, and Debian's."""

import contextlib
import errno
import json
import os
import pathlib
import shutil

import pytest

from control.steps import record
from mount import ROOT, Mount, done, fails, fd_of, ok, read, read_bytes, read_until, run, until, write

TINY = ROOT / "tests" / "kernels" / "tiny_kernel.py"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
INSTALLED = pathlib.Path("/usr/share/jupyter/kernels")


def install(specs, name, extension=".tiny", **changes):
    """A kernelspec of the tiny kernel, which lies beside it."""
    folder = specs / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(TINY, folder)
    spec = {
        "argv": ["python3", "{resource_dir}/tiny_kernel.py", "{connection_file}"], "display_name": name.title(),
        "language": "tiny", "env": {"TINY_EXTENSION": extension}, **changes,
    }
    write(folder / "kernel.json", json.dumps(spec))
    return folder / "kernel.json"


def line(m, name):
    return next(text for text in read(m.path / "languages").splitlines() if text.split()[0] == name)


def asked(m):
    """Wait until every kernel has answered."""
    until(lambda: "not asked" not in read(m.path / "languages"), why="a kernel is not asked")


@pytest.fixture
def specs(tmp_path_factory):
    return tmp_path_factory.mktemp("specs")


@pytest.fixture
def mounted(specs):
    """mounted(): a mount that finds only those kernelspecs."""
    made = []

    def mount(path=None, **settings):
        made.append(Mount(f"kernelspecs={path or specs}", **settings))
        return made[-1]

    yield mount
    for m in made:
        m.close()


def test_a_kernel_nobody_prepared_for(mounted, specs):
    install(specs, "tiny")
    m = mounted()
    asked(m)
    assert line(m, "tiny").split()[1:4] == [".tiny", "0.1", "tiny"]
    assert ".tiny" in read(m.path / "README.md")
    r = run(m.main, "a.tiny", 'print out\nvalue {"text/plain": "7"}\n')
    assert (done(r), read(r / "stdout"), read(r / "result.txt")) == ("ok", "out\n", "7\n")
    r = run(m.main, "p.tiny", 'show {"data": {"image/png": "%s", "text/plain": "p"}}\n' % PNG)
    assert done(r) == "ok" and read_bytes(r / "display-1.png")[:4] == b"\x89PNG"
    r = run(m.main, "e.tiny", "print x\n\nraise no\n")
    assert done(r) == "error" and record(r)["error"]["line"] == 3
    assert record(r)["error"]["name"] == "ValueError" and "\x1b" not in read(r / "error.txt")


def test_its_interrupt_keeps_the_kernel(mounted, specs):
    install(specs, "tiny")
    m = mounted()
    asked(m)
    r = run(m.main, "w.tiny", "wait\n")
    with fd_of(r / "stdout.follow") as fd:
        read_until(fd, b"waiting\n")
    write(m.main / "ctl", "interrupt\n")
    assert done(r) == "interrupted" and record(r)["state_preserved"]
    assert record(run(m.main, "a.tiny", "print on\n"))["generation"] == 1


def test_the_answer_is_kept_and_asked_again_when_the_spec_changes(mounted, specs):
    install(specs, "tiny")
    m = mounted()
    asked(m)
    before = os.stat(m.path / "languages").st_mtime_ns
    os.rename(specs / "tiny" / "tiny_kernel.py", specs / "tiny" / "gone")  # nobody can ask now
    m.remount()
    assert line(m, "tiny").split()[1] == ".tiny"
    assert os.stat(m.path / "languages").st_mtime_ns == before
    install(specs, "tiny", extension=".other")
    m.remount()
    asked(m)
    assert line(m, "tiny").split()[1] == ".other"
    assert os.stat(m.path / "languages").st_mtime_ns > before
    assert done(run(m.main, "a.other", "print x\n")) == "ok"


def test_a_draft_until_the_kernel_has_answered(mounted, specs):
    gate = specs / "gate"
    install(specs, "tiny", argv=["/bin/sh", "-c", f'while [ ! -e {gate} ]; do sleep 0.02; done; exec python3 "$@"',
                                 "sh", "{resource_dir}/tiny_kernel.py", "{connection_file}"])
    m = mounted()
    assert "not asked" in line(m, "tiny")
    write(m.main / "cells" / "a.tiny", "print x\n")
    assert read(m.main / "results" / "a.tiny" / "status").startswith("draft")
    before = os.stat(m.path / "languages").st_mtime_ns
    write(gate, "")
    asked(m)
    assert os.stat(m.path / "languages").st_mtime_ns > before
    os.unlink(gate)
    assert not (m.main / "results" / "a.tiny").exists()  # nothing runs by itself


def test_a_command_that_fails(mounted, specs):
    install(specs, "broken", argv=["/bin/sh", "-c", "echo first >&2; echo the trouble >&2; exit 3"])
    m = mounted()
    asked(m)
    text = line(m, "broken")
    assert text.split()[1] == "-" and "failed: its command ended with exit code 3: the trouble" in text
    assert str(specs / "broken" / "kernel.json") in read(m.path / "log")
    write(m.main / "config" / "kernel" / "xyz", "broken\n")
    r = run(m.main, "a.xyz", "print x\n")
    assert done(r) == "error"
    error = json.loads(read(r / "error.json"))
    assert error["name"] == "KernelFailed" and "the trouble" in error["message"]
    assert not record(r)["state_preserved"]
    m.remount()  # remembered too
    assert line(m, "broken") == text


def odd_programs(top):
    """Interpreters whose prefix is odd, that a kernelspec may name."""
    real = top / "real"
    (real / "bin").mkdir(parents=True)
    for folder in ("a:b", "a=b", "sp ace", "home", "real/lib/deeper"):
        (top / folder / "bin").mkdir(parents=True)
        shutil.copy("/bin/sh", top / folder / "bin" / "sh")
    (top / "home" / ".bashrc").touch()
    shutil.copy("/bin/sh", real / "bin" / "sh")
    (top / "link").symlink_to("real")
    (top / "to-colon").symlink_to("a:b")
    (top / "loop").symlink_to("loop")
    (top / "file").touch()
    names = ["real", "real/lib/deeper", "a:b", "a=b", "sp ace", "home", "link", "to-colon", "loop", "file", "none"]
    return [f"{top}/{name}/bin/sh" for name in names] + [f"{top}/real/../real//bin/./sh", str(top), "relative/bin/sh", ""]


def test_a_program_in_an_odd_place_takes_no_other_kernel_along(mounted, specs, tmp_path):
    programs = odd_programs(tmp_path)
    for i, program in enumerate(programs):
        install(specs, f"odd{i}", argv=[program, "-c", "echo the trouble >&2; exit 3"])
    install(specs, "tiny")
    m = mounted()
    asked(m)
    r = run(m.main, "a.sh", "echo a box\n")
    assert done(r) == "ok" and read(r / "stdout") == "a box\n", read(m.main / "log")
    assert read(run(m.main, "a.tiny", "print x\n") / "stdout") == "x\n"
    said = ["the trouble" if "the trouble" in line(m, f"odd{i}") else line(m, f"odd{i}") for i in range(len(programs))]
    assert all(text == "the trouble" for text in said[:8]) and all("missing" in text for text in said[-5:] if text != "the trouble"), said


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about root's daemon")


@as_root
def test_roots_daemon_asks_only_what_is_roots_alone(mounted, specs):
    for name in ("tiny", "writable", "anothers", "program"):
        install(specs, name, extension="." + name)
    os.chmod(specs / "writable" / "kernel.json", 0o666)
    os.chown(specs / "anothers" / "kernel.json", 65533, 65533)
    shutil.copy("/bin/sh", specs / "program" / "sh")
    install(specs, "program", argv=[str(specs / "program" / "sh"), "-c", "touch /tmp/never"])
    os.chmod(specs / "program" / "sh", 0o775)
    m = mounted()
    asked(m)
    names = [text.split()[0] for text in read(m.path / "languages").splitlines()]
    assert "tiny" in names and not {"writable", "anothers", "program"} & set(names)
    log = read(m.path / "log")
    for name, what in (("writable", "it"), ("anothers", "it"), ("program", "its program")):
        assert f"{specs}/{name}/kernel.json: {what} is not root's alone, and this daemon is root's" in log
    assert read(run(m.main, "a.tiny", "print x\n") / "stdout") == "x\n"


@as_root
def test_where_nothing_can_be_asked_each_is_told_and_the_next_start_asks_again(mounted, specs, tmp_path):
    for name in ("one", "two"):
        install(specs, name, extension="." + name)
    place = tmp_path / "state" / "ask"  # where kernels are asked
    place.mkdir(parents=True)
    ok(["mount", "-t", "tmpfs", "none", place])
    try:
        m = mounted(state=tmp_path / "state")
        asked(m)
        for name in ("one", "two"):
            assert "failed" in line(m, name) and f"language {name}: its kernel cannot be asked: " in read(m.path / "log")
        assert done(run(m.main, "a.sh", "true\n")) == "ok"
    finally:
        ok(["umount", place])
    m.remount()
    asked(m)
    assert [line(m, name).split()[1] for name in ("one", "two")] == [".one", ".two"]


def test_clashes(mounted, specs):
    install(specs, "tiny-b", extension=".tiny")
    install(specs, "tiny-a", extension=".tiny")
    install(specs, "snake", extension=".py")
    install(specs, "python", extension=".own")
    m = mounted()
    asked(m)
    assert line(m, "tiny-a").split()[1] == ".tiny"
    assert line(m, "tiny-b").split()[1] == "-" and "(echo tiny-b > config/kernel/tiny)" in line(m, "tiny-b")
    assert line(m, "snake").split()[1] == "-"
    assert line(m, "python").split()[1] == ".py" and line(m, "jupyter-python").split()[1] == ".own"
    log = read(m.path / "log")
    assert "language tiny-b: the extension .tiny is already tiny-a's" in log
    assert "language snake: the extension .py is already python's" in log
    assert "jupyter-python" in log
    assert record(run(m.main, "a.tiny", "print x\n"))["language"] == "tiny-a"
    write(m.main / "config" / "kernel" / "tiny", "tiny-b\n")
    assert record(run(m.main, "b.tiny", "print x\n"))["language"] == "tiny-b"
    write(m.main / "config" / "kernel" / "py", "snake\n")
    assert read(run(m.main, "c.py", "print x\n") / "stdout") == "x\n"
    other = m.context("other")
    assert record(run(other, "a.tiny", "print x\n"))["language"] == "tiny-a"


def test_config_kernel_gives_an_extension_that_nothing_has(mounted, specs):
    install(specs, "tiny")
    m = mounted()
    asked(m)
    with fails(errno.EINVAL):
        write(m.main / "config" / "kernel" / "zz", "nothing\n")
    with fails(errno.EINVAL):
        write(m.main / "config" / "kernel" / "tiny", "/bin/sh\n")
    write(m.main / "cells" / "a.zz", "print draft\n")
    assert read(m.main / "results" / "a.zz" / "status").startswith("draft")
    write(m.main / "config" / "kernel" / "zz", "tiny\n")
    assert read(run(m.main, "a.zz", "print cell\n") / "stdout") == "cell\n"
    kernels = json.loads(read(m.main / "context.json"))["kernels"]
    assert kernels["zz"]["language"] == "tiny"
    m.remount()
    assert read(run(m.main, "a.zz", "print again\n") / "stdout") == "again\n"
    os.unlink(m.main / "config" / "kernel" / "zz")
    write(m.main / "cells" / "b.zz", "print draft\n")
    assert read(m.main / "results" / "b.zz" / "status").startswith("draft")


def test_an_extension_called_like_a_language_has_a_kernel_of_its_own(mounted, specs):
    install(specs, "tiny")
    m = mounted()
    asked(m)
    write(m.main / "config" / "kernel" / "bash", "tiny\n")
    assert read(run(m.main, "a.sh", "echo $BASH_VERSION\n") / "stdout")[0].isdigit()
    assert read(run(m.main, "a.bash", "print x\n") / "stdout") == "x\n"
    assert set(json.loads(read(m.main / "context.json"))["kernels"]) == {"bash", ".bash"}
    write(m.main / "ctl", "restart .bash\n")
    assert record(run(m.main, "a.bash", "print x\n"))["generation"] == 2


def test_exit_and_death_of_a_kernel(mounted, specs):
    install(specs, "tiny")
    m = mounted()
    asked(m)
    r = run(m.main, "a.tiny", "exit 3\n")
    behind = run(m.main, "b.tiny", "print behind\n")
    assert done(r) == "error" and read(r / "exit_code") == "3\n" and not record(r)["state_preserved"]
    assert done(behind) == "ok" and read(behind / "stdout") == "behind\n"
    assert record(behind)["generation"] == 2 and "exit code 3" in read(behind / "stderr")
    r = run(m.main, "a.tiny", "kill\n")
    assert done(r) == "killed" and "signal 9" in record(r)["reason"] and "last words" in read(r / "stderr")
    assert done(run(m.main, "a.tiny", "print on\n")) == "ok"


def test_env_of_the_configuration(mounted, specs):
    install(specs, "tiny")
    m = mounted()
    asked(m)
    write(m.main / "config" / "env" / "A", "1")
    assert read(run(m.main, "a.tiny", "env A\ncwd\n") / "stdout") == "1\n/workspace\n"
    write(m.main / "config" / "env" / "A", "2")
    r = run(m.main, "a.tiny", "env A\n")
    assert done(r) == "error" and "restart" in json.loads(read(r / "error.json"))["message"]
    write(m.main / "ctl", "restart\n")
    assert read(run(m.main, "a.tiny", "env A\n") / "stdout") == "2\n"


@pytest.mark.options("kernelspecs=off")
def test_off_finds_nothing(fresh):
    assert "kernel.json" not in read(fresh.path / "languages")
    assert not (fresh.state / "kernelspecs.json").exists()


def test_the_first_of_a_name_wins(mounted, specs, tmp_path):
    install(tmp_path, "tiny", extension=".first")
    install(specs, "tiny", extension=".second")
    install(specs, "more", extension=".more")
    m = mounted(f"{tmp_path}:{specs}")
    asked(m)
    assert line(m, "tiny").split()[1] == ".first" and line(m, "more").split()[1] == ".more"


def test_what_was_asked_is_gone_and_left_nothing(mounted, specs):
    install(specs, "tiny")
    m = mounted()
    asked(m)
    until(lambda: not (m.state / "ask").exists(), why="the HOME of the question is there")
    left = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            left += [path] if str(specs / "tiny" / "tiny_kernel.py").encode() in path.read_bytes() else []
    assert left == []


def test_a_daemon_that_ends_while_it_asks(mounted, specs):
    install(specs, "slow", argv=["/bin/sleep", "1000"])
    m = mounted()
    until(lambda: (m.state / "ask").exists(), why="nothing is asked")
    m.unmount()
    m.start()
    assert "not asked" in line(m, "slow")


# ---- Debian's packages


@pytest.fixture(scope="module")
def debian():
    """All kernels of this host, as a user has them."""
    m = Mount(f"kernelspecs={INSTALLED}")
    until(lambda: "not asked" not in read(m.path / "languages"), seconds=60, why="a kernel is not asked")
    yield m
    m.close()


REAL = {
    "xpython": ("py", "40 + 2\n", "42\n"),
    "python3": ("py", "40 + 2\n", "42\n"),
    "ir": ("r", "40 + 2\n", "[1] 42\n"),
    "octave": ("m", "disp(42)\n", "42\n"),
}
ENV = {"py": "import os; print(os.environ['CELL_X'])\n", "r": "cat(Sys.getenv('CELL_X'))\n", "m": "disp(getenv('CELL_X'))\n"}


@pytest.mark.parametrize("name", [name for name in sorted(REAL) if (INSTALLED / name).exists()])
def test_an_installed_kernel(debian, name):
    ext, code, value = REAL[name]
    ctx = debian.context(name)
    if line(debian, name).split()[1] == "-":
        write(ctx / "config" / "kernel" / ext, name + "\n")
    r = run(ctx, "a." + ext, code)
    assert done(r) == "ok", read(r / "report.md")
    assert value in (read(r / "stdout"), read(r / "result.txt") if (r / "result.txt").exists() else None)
    r = run(ctx, "b." + ext, "#| env.CELL_X: 5\n" + ENV[ext])
    assert read(r / "stdout").strip() == "5"


@pytest.mark.parametrize("name", [name for name in ("ir", "xpython") if (INSTALLED / name).exists()])
def test_a_picture_of_an_installed_kernel(debian, name):
    ctx = debian.context(name + "-picture")
    ext = REAL[name][0]
    write(ctx / "config" / "kernel" / ext, name + "\n")
    code = {"ir": "plot(1:3)\n", "xpython": "from IPython.display import Image, display\nimport base64\n"
            f"display(Image(data=base64.b64decode('{PNG}'), format='png'))\n"}[name]
    r = run(ctx, "a." + ext, code)
    assert done(r) == "ok", read(r / "report.md")
    assert read_bytes(r / "display-1.png")[:4] == b"\x89PNG"
