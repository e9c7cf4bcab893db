"""A language that cannot be had: without its interpreter, with a manifest that is wrong, with a driver of another time.

And what an installation ships.
"""

import errno
import json
import os
import pathlib
import re
import shutil
import tempfile

import pytest

from languages.snippets import LANGUAGES
from mount import ROOT, WORK, Mount, done, fails, ok, read, run, write

PROGRAMS = {"javascript": ["node", "nodejs"], "r": ["R", "Rscript"], "java": ["java", "javac", "jshell"]}


def lines(m):
    return {line.split()[0]: line for line in read(m.path / "languages").splitlines()}


@pytest.fixture
def made(request):
    """made(kernels, PATH): a mount with these."""
    mounts = []

    def make(kernels, path=None):
        mounts.append(Mount(f"kernels={kernels}" if kernels else "", env={"PATH": path} if path else None))
        return mounts[-1]

    yield make
    for m in mounts:
        m.close()


@pytest.fixture
def place():
    """A directory that boxes can have bound."""
    WORK.mkdir(parents=True, exist_ok=True)
    made = pathlib.Path(tempfile.mkdtemp(dir=WORK))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def folder(place):
    """A folder of languages; folder(name, **changes) adds one that is Bash but for these."""

    def add(name, script=None, /, **changes):
        shutil.copytree(ROOT / "kernels" / "bash", place / name)
        manifest = json.loads(read(ROOT / "kernels" / "bash" / "manifest.json"))
        manifest.update({"name": name, "title": name.title(), "extensions": [name], **changes})
        write(place / name / "manifest.json", json.dumps({k: v for k, v in manifest.items() if v is not None}))
        if script is not None:
            write(place / name / "kernel.sh", script)
        return place

    return add


def without(place, programs):
    """A PATH that has all of this one but these; and the languages, which know no absolute path of theirs."""
    farm = place / "bin"
    farm.mkdir()
    for directory in reversed(os.environ["PATH"].split(":")):
        for name in os.listdir(directory) if os.path.isdir(directory) else []:
            if name not in programs:
                (farm / name).unlink(missing_ok=True)
                (farm / name).symlink_to(os.path.join(directory, name))
    kernels = place / "kernels"
    shutil.copytree(ROOT / "kernels", kernels, ignore=shutil.ignore_patterns("__pycache__"))
    for path in kernels.glob("*/manifest.json"):
        manifest = json.loads(read(path))
        paths = [i for i in manifest["interpreters"] if "/" in i and i.rpartition("/")[2] in programs]
        manifest["interpreters"] = [i for i in manifest["interpreters"] if i not in paths] or programs
        write(path, json.dumps(manifest))
    return kernels, str(farm)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_language_without_its_runtime(made, place, name):
    m = made(*without(place, PROGRAMS[name]))
    line = lines(m)[name]
    assert "missing" in line and re.search(r"apt-get install \S+", line), line
    cells = m.main / "cells"
    for say in LANGUAGES.values():
        ext = say["cell"][1:]
        if say["kernel"] != name:
            continue
        with fails(errno.EINVAL):
            write(cells / ("a" + ext), "1\n")
        write(cells / "draft", "1\n")
        with fails(errno.EINVAL):
            os.rename(cells / "draft", cells / ("a" + ext))
        log = read(m.main / "log")
        assert "a" + ext in log and re.search(r"apt-get install \S+", log), log
    assert sorted(os.listdir(cells)) == ["draft"] and os.listdir(m.main / "history") == []
    r = run(m.main, "a.sh", "echo others run\n")
    assert done(r) == "ok" and read(r / "stdout") == "others run\n"


@pytest.mark.parametrize("least,most", [(2, 9), (0, 0), (8, 8)])
def test_a_driver_of_another_protocol_is_refused_with_both_versions(made, folder, least, most):
    hello = json.dumps(dict(ev="hello", proto=most, min_proto=least, lang="odd", ver="1", engine="odd", pid=1))
    m = made(folder("odd", f"echo '{hello}' >&4\nsleep 1000\n"))
    r = run(m.main, "a.odd", "x\n")
    assert done(r) == "killed"
    text = f"the driver speaks protocol {least} to {most}, the daemon 1"
    assert text in read(r / "error.txt") and text in read(r / "status") and text in read(m.main / "log")


def test_a_driver_that_speaks_this_protocol_too_is_taken(made, folder):
    script = read(ROOT / "kernels" / "bash" / "kernel.sh")
    newer = script.replace('"hello","proto":1,', '"hello","proto":3,')
    assert newer != script
    r = run(made(folder("new", newer)).main, "a.new", "echo $((40 + 2))\n")
    assert done(r) == "ok" and read(r / "stdout") == "42\n"


WRONG = {  # the manifest, and what the log says of it
    "text": ("{", "manifest.json"),
    "empty": ("", "manifest.json"),
    "list": ("[1]", "manifest.json"),
    "name": ({"name": None}, "name"),
    "exts": ({"extensions": []}, "extensions"),
    "argv": ({"argv": None}, "argv"),
    "none": ({"interpreters": []}, "interpreters"),
    "types": ({"extensions": "x", "argv": 5}, "extensions"),
}


def test_a_manifest_that_is_wrong_is_named_and_takes_nobody_along(made, folder):
    for name, (wrong, _) in WRONG.items():
        where = folder("x" + name, **(wrong if isinstance(wrong, dict) else {}))
        if not isinstance(wrong, dict):
            write(where / ("x" + name) / "manifest.json", wrong)
    m = made(folder("good"))
    assert list(lines(m)) == ["good"]
    log = read(m.path / "log")
    for name, (_, word) in WRONG.items():
        (line,) = [line for line in log.splitlines() if f"language x{name}:" in line]
        assert word in line, line
    r = run(m.main, "a.good", "echo fine\n")
    assert done(r) == "ok" and read(r / "stdout") == "fine\n"


def test_of_two_languages_with_one_extension_the_first_wins(made, folder):
    folder("one", extensions=["x", "y"])
    m = made(folder("two", extensions=["x", "z"]))
    assert re.search(r"language two: the extension \.x is already one's", read(m.path / "log"))
    for cell, name in (("a.x", "one"), ("a.y", "one"), ("a.z", "two")):
        r = run(m.main, cell, "true\n")
        assert done(r) == "ok" and json.loads(read(r / "execution.json"))["language"] == name


def test_a_probe_that_fails_makes_the_language_missing(made, folder):
    folder("old", probe=["-c", "echo 0.1; exit 2"], install="apt-get install new")
    m = made(folder("mute", probe=["-c", "true"], install=None))
    assert "missing: apt-get install new" in lines(m)["old"] and "missing" in lines(m)["mute"]
    for ext in ("old", "mute"):
        with fails(errno.EINVAL):
            write(m.main / "cells" / f"a.{ext}", "x\n")


def test_what_make_install_ships_runs_every_language(made, place):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    plan = ok(["make", "-n", "-o", "all", "-C", str(ROOT), "install"], env=env)
    shipped = re.search(r"for f in (kernels/[^;]*);", plan)[1].split()
    assert "kernels/python/manifest.json" in shipped and not [f for f in shipped if "__pycache__" in f or "/node_modules/" in f]
    for f in shipped:
        target = place / f
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / f, target)
    m = made(place / "kernels")
    for name, say in LANGUAGES.items():
        r = run(m.main, say["cell"], say["print"].format("of " + name))
        assert done(r) == "ok" and read(r / "stdout") == f"of {name}\n", read(r / "report.md")


def test_every_extension_is_in_the_manual():
    pages = read(ROOT / "README.md"), read(ROOT / "fsd" / "cellfs.5").partition(".SH LANGUAGES")[2]
    for path in ROOT.glob("kernels/*/manifest.json"):
        manifest = json.loads(read(path))
        for ext in manifest["extensions"]:
            assert all(f".{ext}" in page for page in pages), ext
