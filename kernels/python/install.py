"""Installs and removes packages of Python: install.py INTERPRETER +SPEC... -SPEC...

Runs as INTERPRETER -I, in an empty folder: nothing of the workspace is imported, or is a setting, or has a package's name.
"""

import configparser
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "packages", "python"))

import cellfs_packages as packages  # noqa: E402

del sys.path[0]

VERSIONS = r"(===|==|~=|!=|<=|>=|<|>)[^\s;@,]+"
PLAIN = re.compile(rf"[A-Za-z0-9][\w.-]*(\[[\w.,-]*\])?({VERSIONS}(,{VERSIONS})*)?", re.ASCII)
ELSEWHERE = "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_DRY_RUN"
ARCHIVE = re.compile(r".+\.(whl|zip|tar|tgz|tbz|txz|tlz|tar\.(gz|bz2|xz|lz|lzma))", re.ASCII | re.IGNORECASE)
URL = re.compile(r"[A-Za-z][\w.+-]*:|[A-Za-z0-9][\w.-]*\s*(\[[^]]*\])?\s*@", re.ASCII)


def is_path(word):
    """Whether this is a file or a folder, which only its form says: a cell may make a folder of any name."""
    word = re.sub(r"(\[[^]]*\])?\s*(;.*)?$", "", word, count=1)
    if word.startswith("-") or URL.match(word):
        return False
    return "/" in word or word.startswith(".") or bool(ARCHIVE.fullmatch(word))


def requirements(spec):
    """What a line names: one requirement, or as many as it has words that are one each. Files are the workspace's."""
    workspace = os.environ["CELLFS_WORKSPACE"]
    words = spec.split()
    is_one = spec.startswith((".", "/")) and os.path.exists(os.path.join(workspace, spec))
    if is_one or not all(PLAIN.fullmatch(word) or is_path(word) for word in words):
        words = [spec]
    return [os.path.join(workspace, word) if is_path(word) else word for word in words]


def merged(settings):
    """One file for pip with the user's settings; later ones win."""
    parser = configparser.RawConfigParser()
    folder = os.path.join(settings, "pip")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    parser.read([os.path.join(folder, name) for name in sorted(names, key=int)], encoding="utf-8")
    with tempfile.NamedTemporaryFile("w", suffix=".conf", dir=os.getcwd(), delete=False, encoding="utf-8") as file:
        parser.write(file)
    return file.name


def environment():
    """That of pip: the user's settings, and nothing that sends packages elsewhere."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith("PYTHON") and name not in ELSEWHERE}
    env.update(PYTHONUNBUFFERED="1", PIP_USER="0", PIP_CONFIG_FILE=merged(env["CELLFS_SETTINGS"]))
    return env


def pip(prefix, env, *arguments):
    """Run the prefix's pip; its exit status."""
    command = [packages.python_of(prefix), "-I", "-m", "pip", "--no-input", "--disable-pip-version-check"]
    return subprocess.call([*command, *arguments], env=env)


def change(prefix, add, remove):
    """Install and remove; the exit status."""
    env = environment()
    status = 0
    if add:
        status = pip(prefix, env, "install", "--progress-bar", "off", "--no-warn-script-location",
                     "--cache-dir", os.path.join(prefix, "cache", "pip"), *add)
    if remove and not status:
        status = pip(prefix, env, "uninstall", "--yes", *remove)
    return status


def main():
    """Do what the arguments say; the exit status."""
    prefix = os.environ["CELLFS_PACKAGES"]
    add, remove = ([name for arg in sys.argv[2:] if arg[0] == sign for name in requirements(arg[1:].strip())]
                   for sign in "+-")
    for name in [*add, *remove]:
        if name.startswith("-"):
            sys.exit(f"packages: an option is no package: {name}")
    if not importlib.util.find_spec("pip"):
        sys.exit(f"packages: Python's packages need pip: {packages.how_to_get_pip()}")
    if packages.state(prefix) != "made":
        packages.make(prefix)
    settings = os.path.join(prefix, "pip.conf")
    if os.path.lexists(settings):
        os.unlink(settings)  # pip would read it; settings are the user's, not a cell's
    # An interrupt is pip's, which ends and takes back what it began: it is waited for.
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return change(prefix, add, remove)
    finally:
        packages.write_list(prefix)


if __name__ == "__main__":
    sys.exit(main())
