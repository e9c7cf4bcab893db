"""Packages: the installers and the wrappers without the daemon, and the running kernels that see what came."""

import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

from conftest import DRIVERS
from conversation import KERNELS, Driver, manifests, probe
from made_packages import npm_package, r_package, reach, tarball, wheel

PACKAGES = KERNELS / "packages"
NODE, R = shutil.which("node"), shutil.which("Rscript")
PYTHON = "/usr/bin/python3"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
needs_npm = pytest.mark.skipif(not (NODE and shutil.which("npm")), reason="no npm")
needs_r = pytest.mark.skipif(not R, reason="no R")
NO_NETWORK = "(in the context's directory), or echo on > config/network\n"


class Place:
    """A prefix, a workspace, a home, and what the daemon would put into the environment."""

    def __init__(self, base):
        self.base = base
        self.prefix, self.work, self.home = base / "packages", base / "work", base / "home"
        for folder in (self.work, self.home, *(self.prefix / name for name in ("bin", "lib", "cache", "list"))):
            folder.mkdir(parents=True)
        self.env = {
            "PATH": f"{PACKAGES}/bin:{self.prefix}/bin:{SYSTEM_PATH}", "HOME": str(self.home), "LANG": "C.UTF-8",
            "TERM": "dumb", "CELLFS_PACKAGES": str(self.prefix), "PYTHONPATH": f"{PACKAGES}/python",
            "NODE_PATH": f"{self.prefix}/lib/node_modules", "PIP_NO_INDEX": "1", "npm_config_offline": "true",
            "R_REPOSITORIES": "NULL",
        }

    def rows(self, lines):
        """The file that the daemon writes: lines `NAME +SPEC`."""
        interpreters = {"python": ("python", PYTHON), "js": ("javascript", NODE), "r": ("r", R)}
        path = self.base / "rows"
        with open(path, "w") as rows:
            for line in lines:
                name, _, spec = line.partition(" ")
                folder, interpreter = interpreters[name]
                rows.write("\t".join([name, str(KERNELS / folder), interpreter or "missing", spec[0], spec[1:]]) + "\n")
        return path

    def install(self, *lines, **env):
        return self.run(str(PACKAGES / "install.sh"), str(self.rows(lines)), **env)

    def run(self, *argv, **env):
        return subprocess.run(argv, cwd=self.work, env={**self.env, **env}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)

    def list(self, name):
        return (self.prefix / "list" / name).read_text()

    def offline(self):
        """The prefix cannot be written to: not there is a way that also holds for root."""
        return {"CELLFS_PACKAGES": str(self.base / "none")}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def kernel(place):
    """Starts a driver in the place."""
    started = []

    def start(name, **env):
        started.append(Driver(DRIVERS[name], {**place.env, "HOME": str(place.home), **env}, place.work))
        return started[-1]

    yield start
    for driver in started:
        driver.close()


@pytest.fixture
def installer(place):
    """The driver of the runs that install."""
    manifest = manifests()["packages"]
    argv = [part.replace("{interpreter}", probe(manifest)[0]).replace("{dir}", manifest["dir"])
            for part in manifest["argv"]]
    driver = Driver(argv, place.env, place.work)
    yield driver
    driver.close()


# Python.

def test_a_wheel_of_the_workspace_is_installed_with_its_program_and_listed(place):
    wheel(place.work, "alpha")
    done = place.install("python +./alpha-1.0-py3-none-any.whl")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Successfully installed alpha-1.0" in done.stdout
    assert done.stdout.endswith("\npython: alpha==1.0\n")
    assert place.list("python") == "alpha==1.0\n"
    assert place.run("alpha-program").stdout == "alpha 1.0\n"


def test_a_bare_file_name_and_a_directory_are_of_the_workspace_too(place):
    wheel(place.work, "alpha")
    assert place.install("python +alpha-1.0-py3-none-any.whl").returncode == 0
    assert place.list("python") == "alpha==1.0\n"


def test_several_requirements_may_stand_in_a_line(place):
    for name in ("alpha", "beta", "gamma"):
        wheel(place.work, name)
    links = {"PIP_FIND_LINKS": str(place.work)}
    done = place.install("python +alpha beta==1.0", "python +./gamma-1.0-py3-none-any.whl", **links)
    assert done.returncode == 0, done.stderr
    assert place.list("python") == "alpha==1.0\nbeta==1.0\ngamma==1.0\n"


@pytest.mark.parametrize("spec", [
    "alpha >= 1.0", "alpha; python_version >= '3'", "alpha @ file://{0}/alpha-1.0-py3-none-any.whl", "alpha>=1, <2"])
def test_a_requirement_with_spaces_stays_one(place, spec):
    wheel(place.work, "alpha")
    done = place.install(f"python +{spec.format(place.work)}", PIP_FIND_LINKS=str(place.work))
    assert done.returncode == 0, done.stderr
    assert place.list("python") == "alpha==1.0\n"


def test_what_the_host_has_is_not_installed_again(place):
    done = place.install("python +pytest")
    assert done.returncode == 0 and "already satisfied" in done.stdout
    assert place.list("python") == ""


def test_one_that_is_missing_fails_all_of_them_with_pips_own_words_and_status(place):
    wheel(place.work, "alpha")
    done = place.install("python +alpha nothing-of-this-name", PIP_FIND_LINKS=str(place.work))
    assert done.returncode == 1
    assert "nothing-of-this-name" in done.stderr and "ERROR" in done.stderr
    assert place.list("python") == "" and "python: " not in done.stdout


def test_a_package_is_removed(place):
    wheel(place.work, "alpha")
    place.install("python +alpha-1.0-py3-none-any.whl")
    done = place.install("python -alpha")
    assert done.returncode == 0 and "Successfully uninstalled alpha" in done.stdout
    assert place.list("python") == ""


def test_an_option_is_no_package(place):
    done = place.install("python +--index-url=http://example.org")
    assert done.returncode == 1 and "an option is no package" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_imported_from_the_workspace_while_packages_are_installed(place):
    for name in ("pip", "venv", "configparser", "sitecustomize"):
        (place.work / f"{name}.py").write_text("raise SystemExit('the workspace was run')\n")
    wheel(place.work, "alpha")
    done = place.install("python +alpha-1.0-py3-none-any.whl", PYTHONPATH=str(place.work))
    assert done.returncode == 0, done.stderr


def test_the_users_settings_are_merged_and_later_ones_win(place):
    settings = place.base / "settings"
    (settings / "pip").mkdir(parents=True)
    (place.base / "links").mkdir()
    wheel(place.base / "links", "alpha")
    (settings / "pip" / "1").write_text("[global]\nno-index = true\nfind-links = /nonexistent\n")
    (settings / "pip" / "2").write_text(f"[global]\nfind-links = {place.base}/links\n")
    done = place.install("python +alpha", CELLFS_SETTINGS=str(settings), PIP_NO_INDEX="")
    assert done.returncode == 0, done.stderr
    assert place.list("python") == "alpha==1.0\n"


def test_settings_that_a_cell_left_in_the_prefix_are_not_read(place):
    (place.prefix / "pip.conf").write_text("[global]\nfind-links = http://127.0.0.1:9/\nno-index = nonsense\n")
    wheel(place.work, "alpha")
    assert place.install("python +alpha-1.0-py3-none-any.whl").returncode == 0


def test_a_venv_of_another_python_is_made_anew(place):
    wheel(place.work, "alpha")
    place.install("python +alpha-1.0-py3-none-any.whl")
    config = place.prefix / "pyvenv.cfg"
    config.write_text(config.read_text().replace("cellfs = ", "cellfs = 2.7 "))
    (place.prefix / "bin/python3").unlink()
    (place.prefix / "bin/python3").symlink_to("/nonexistent/python")
    done = place.install("python +alpha-1.0-py3-none-any.whl")
    assert done.returncode == 0, done.stderr
    assert os.readlink(place.prefix / "bin/python3") == PYTHON


def test_a_python_without_pip_is_told_how_to_get_it(place):
    bare = place.base / "bare"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", bare], check=True)
    rows = place.rows(["python +alpha"])
    rows.write_text(rows.read_text().replace(PYTHON, f"{bare}/bin/python"))
    done = place.run(str(PACKAGES / "install.sh"), str(rows))
    assert done.returncode == 1
    assert done.stderr == "packages: Python's packages need pip: apt-get install python3-pip\n"


def test_a_language_that_the_host_lacks_is_named_with_its_package(place):
    rows = place.rows(["python +alpha"])
    rows.write_text(rows.read_text().replace(PYTHON, "missing"))
    done = place.run(str(PACKAGES / "install.sh"), str(rows))
    assert done.returncode == 1
    assert done.stderr == "packages: this host cannot run python: apt-get install python3 python3-ipython\n"


# The run.

def test_a_run_of_packages_has_the_tools_output_and_then_what_is_installed(place, installer):
    assert installer.hello["lang"] == "packages"
    wheel(place.work, "alpha")
    run = installer.run(place.rows(["python +alpha-1.0-py3-none-any.whl"]).read_text(), "packages")
    assert (run.status, run.done["code"], run.stderr) == ("ok", 0, "")
    assert run.stdout.endswith("python: alpha==1.0\n")


def test_a_failing_installer_ends_the_run_with_its_exit_status_and_no_syntax_error(place, installer):
    run = installer.run(place.rows(["python +nothing (>=1.0"]).read_text(), "packages")
    assert (run.status, run.done["code"]) == ("error", 1)
    assert run.error["name"] == "ExitStatus" and "ERROR" in run.stderr
    assert installer.run("", "packages").status == "ok"


def test_a_sigint_ends_an_install_promptly(place, installer):
    slow = {"slow/pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'build'\nbackend-path = ['.']\n",
            "slow/build.py": f"import time\nopen({str(place.base / 'building')!r}, 'w')\ntime.sleep(60)\n"}
    tarball(place.work / "slow-1.0.tar.gz", slow)
    number = installer.start(place.rows(["python +./slow-1.0.tar.gz"]).read_text(), "packages")
    installer.until_there(place.base / "building")
    began = time.monotonic()
    installer.interrupt()
    assert installer.finish(number).status == "interrupted"
    assert time.monotonic() - began < 3
    assert installer.run("", "packages").status == "ok"


def test_output_comes_as_it_is_made(place, installer):
    build = f"import os, time\nwhile not os.path.exists({str(place.base / 'seen')!r}): time.sleep(0.01)\n"
    tarball(place.work / "slow-1.0.tar.gz", {
        "slow/pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'build'\nbackend-path = ['.']\n",
        "slow/build.py": build})
    number = installer.start(place.rows(["python +./slow-1.0.tar.gz"]).read_text(), "packages")
    installer.until(lambda out: b"Processing" in out)  # while the build waits for that
    (place.base / "seen").touch()
    installer.finish(number)


# npm.

@needs_npm
def test_tarballs_of_npm_are_installed_listed_and_removed(place):
    npm_package(place.work, "alpha")
    npm_package(place.work, "@scope/beta", "2.0.0")
    done = place.install("js +./alpha-1.0.0.tgz", "js +scope-beta-2.0.0.tgz")
    assert done.returncode == 0, done.stderr
    assert "added 2 packages" in done.stdout and "audit" not in done.stdout + done.stderr
    assert done.stdout.endswith("js: @scope/beta@2.0.0\njs: alpha@1.0.0\n")
    assert (place.prefix / "bin/alpha-program").exists()
    done = place.install("js -alpha @scope/beta")
    assert done.returncode == 0, done.stderr
    assert place.list("js") == ""


@needs_npm
def test_npms_failure_ends_with_its_status_and_words(place):
    done = place.install("js +./absent-1.0.0.tgz")
    assert done.returncode not in (0, 130) and "npm" in done.stderr
    assert place.list("js") == ""


@needs_npm
def test_npms_settings_are_the_users_and_not_the_workspaces_or_the_prefixs(place):
    npm_package(place.work, "alpha")
    settings = place.base / "settings" / "npm"
    settings.mkdir(parents=True)
    (settings / "user").write_text("offline=true\n")
    (place.prefix / "etc").mkdir()
    (place.prefix / "etc/npmrc").write_text("dry-run=true\n")
    (place.work / ".npmrc").write_text("dry-run=true\n")
    done = place.install("js +alpha-1.0.0.tgz", CELLFS_SETTINGS=str(settings.parent), npm_config_offline="false")
    assert done.returncode == 0, done.stderr
    assert place.list("js") == "alpha@1.0.0\n"


@needs_npm
def test_a_sigint_ends_an_install_of_npm(place, installer):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        installer.send({"op": "set", "env": {
            "npm_config_offline": "false", "npm_config_registry": f"http://127.0.0.1:{silent.getsockname()[1]}/"}})
        number = installer.start(place.rows(["js +alpha"]).read_text(), "packages")
        silent.accept()
        began = time.monotonic()
        installer.interrupt()
        assert installer.finish(number).status == "interrupted"
        assert time.monotonic() - began < 3


# R.

@needs_r
def test_a_source_package_of_r_is_installed_listed_and_removed(place):
    r_package(place.work, "alpha")
    done = place.install("r +./alpha_1.0.tar.gz")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("r: alpha==1.0\n")
    assert place.install("r +alpha==1.0").stdout == "alpha 1.0 is installed already\nr: alpha==1.0\n"
    assert place.install("r -alpha").returncode == 0
    assert place.list("r") == ""


@needs_r
def test_a_package_of_r_that_cannot_be_built_fails_the_run(place):
    r_package(place.work, "alpha", code="stop('not today')\n")
    done = place.install("r +alpha_1.0.tar.gz")
    assert done.returncode == 1 and "not today" in done.stdout  # where R has it
    assert "ERROR: lazy loading failed" in done.stderr and "non-zero exit status" in done.stderr
    assert place.list("r") == ""


@needs_r
def test_a_sigint_ends_an_install_of_r_and_what_would_follow(place, installer):
    for name in ("alpha", "beta"):
        r_package(place.work, name, code=f"cat('building\\n', file = '{place.base}/building', append = TRUE)\nSys.sleep(60)\n")
    number = installer.start(place.rows(["r +alpha_1.0.tar.gz beta_1.0.tar.gz"]).read_text(), "packages")
    installer.until_there(place.base / "building")
    assert (place.prefix / "lib/R/00LOCK-alpha").exists()
    began = time.monotonic()
    installer.interrupt()
    assert installer.finish(number).status == "interrupted"
    assert time.monotonic() - began < 5
    assert place.list("r") == ""


@needs_r
def test_r_takes_the_repository_of_the_users_settings(place):
    repository = place.base / "repository" / "src" / "contrib"
    (repository / "Archive" / "beta").mkdir(parents=True)
    r_package(repository, "alpha", imports="beta")
    r_package(repository, "beta", "2.0")
    r_package(repository / "Archive" / "beta", "beta", "1.0")
    subprocess.run([R, "-e", f"tools::write_PACKAGES('{repository}')"], check=True, capture_output=True)
    settings = place.base / "settings"
    (settings / "R").mkdir(parents=True)
    (settings / "R" / "Rprofile").write_text(f"options(repos = c(CRAN = 'file://{place.base}/repository'))\n")
    (place.home / ".Rprofile").write_text("stop('a cell left this')\n")
    done = place.install("r +alpha", CELLFS_SETTINGS=str(settings))
    assert done.returncode == 0, done.stderr
    assert place.list("r") == "alpha==1.0\nbeta==2.0\n"
    assert place.install("r +beta==1.0", CELLFS_SETTINGS=str(settings)).returncode == 0
    assert place.list("r") == "alpha==1.0\nbeta==1.0\n"
    done = place.install("r +gamma", CELLFS_SETTINGS=str(settings))
    assert done.returncode == 1 and "no repository has gamma" in done.stderr


# What a cell has left in the workspace or the prefix.

EVIL = "from pathlib import Path\nPath({0!r}).touch()\nraise SystemExit('a cell left this')\n"


def trap(place):
    """A program that leaves a mark when it runs, and the mark."""
    mark, program = place.base / "mark", place.base / "trap"
    program.write_text(f"#!/bin/sh\necho \"$0 $*\" >>{mark}\nexit 1\n")
    program.chmod(0o755)
    return mark, program


@pytest.mark.parametrize("spec", ["alpha", "alpha==1.0", "alpha beta", "alpha[more]"])
def test_a_name_of_python_is_never_a_folder_of_the_workspace(place, spec):
    links = place.base / "links"
    links.mkdir()
    for name in ("alpha", "beta"):
        wheel(links, name)
    for folder in ("alpha", "alpha==1.0", "alpha beta", "alpha[more]", "beta"):
        (place.work / folder).mkdir()
        (place.work / folder / "setup.py").write_text(EVIL.format(str(place.base / "mark")))
    done = place.install(f"python +{spec}", PIP_FIND_LINKS=str(links))
    assert done.returncode == 0, done.stderr
    assert "alpha==1.0" in place.list("python") and not (place.base / "mark").exists()


def test_a_url_of_python_is_never_a_folder_of_the_workspace(place):
    evil = EVIL.format(str(place.base / "mark"))
    for spec in (f"alpha@file://{place.base}/absent", "git+file:///absent", "alpha @ file:///absent"):
        folder = place.work / spec.replace("//", "/")
        folder.mkdir(parents=True)
        (folder / "setup.py").write_text(evil)
        assert place.install(f"python +{spec}").returncode == 1
    assert not (place.base / "mark").exists()


@pytest.mark.parametrize("spec", ["./a b/alpha-1.0-py3-none-any.whl", "a/alpha-1.0-py3-none-any.whl",
                                  "./a/alpha-1.0-py3-none-any.whl; python_version >= '3'", "{}/a/alpha-1.0-py3-none-any.whl"])
def test_files_of_python_are_found_by_their_form(place, spec):
    for folder in ("a", "a b"):
        (place.work / folder).mkdir()
        wheel(place.work / folder, "alpha")
    done = place.install(f"python +{spec.format(place.work)}")
    assert done.returncode == 0, done.stderr
    assert place.list("python") == "alpha==1.0\n"


def test_a_source_folder_of_python_in_the_workspace_is_one(place):
    tarball(place.base / "alpha.tar.gz", {
        "alpha/pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'build'\nbackend-path = ['.']\n",
        "alpha/build.py": "raise SystemExit('built it in ' + __file__)\n"})
    shutil.unpack_archive(place.base / "alpha.tar.gz", place.work)
    done = place.install("python +./alpha")
    assert done.returncode == 1 and f"built it in {place.work}/alpha/build.py" in done.stdout + done.stderr


def test_settings_of_pip_and_of_distutils_in_the_workspace_are_not_read(place):
    wheel(place.work, "alpha")
    (place.work / "setup.cfg").write_text(f"[install]\nprefix = {place.base}/lost\n[easy_install]\nindex_url = nonsense\n")
    for name in ("pip.conf", ".pip/pip.conf", ".config/pip/pip.conf", "pip.ini"):
        path = place.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[global]\ntarget = {place.base}/lost\nrequire-hashes = true\n")
    done = place.install("python +alpha-1.0-py3-none-any.whl", XDG_CONFIG_HOME=f"{place.work}/.config")
    assert done.returncode == 0, done.stderr
    assert place.list("python") == "alpha==1.0\n" and not (place.base / "lost").exists()


def test_the_workspaces_git_is_not_asked_when_git_fetches_a_package(place):
    mark, program = trap(place)
    source = place.base / "source"
    tarball(place.base / "source.tar.gz", {
        "source/pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'build'\nbackend-path = ['.']\n",
        "source/build.py": "raise SystemExit('this is the one')\n"})
    shutil.unpack_archive(place.base / "source.tar.gz", place.base)
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for repository in (source, place.work):
        subprocess.run(["git", "init", "-q", repository], check=True)
    subprocess.run([*git, "add", "."], cwd=source, check=True)
    subprocess.run([*git, "commit", "-qm", "a"], cwd=source, check=True)
    hostile = (f"[core]\nfsmonitor = {program}\nsshCommand = {program}\nhooksPath = {place.work}/hooks\n"
               f"[credential]\nhelper = {program}\n[url \"file:///nonexistent/\"]\ninsteadOf = file://\n")
    for name in (".git/config", ".gitconfig", "git/config"):
        path = place.work / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(hostile)
    (place.work / "hooks").mkdir()
    shutil.copy(program, place.work / "hooks/post-checkout")
    done = place.install(f"python +git+file://{source}", GIT_DIR=f"{place.work}/.git", XDG_CONFIG_HOME=str(place.work))
    assert "this is the one" in done.stdout + done.stderr and not mark.exists()
    done = place.install("python +git+ssh://127.0.0.1:9/nothing")
    assert done.returncode == 1 and not mark.exists()


def test_programs_of_the_prefix_come_after_the_systems(place):
    mark, program = trap(place)
    for name in ("git", "node", "npm", "python3", "sh", "env", "mktemp", "rm", "R", "Rscript", "tar", "make", "uname"):
        shutil.copy(program, place.prefix / "bin" / name)
    (place.prefix / "bin/own").write_text("#!/bin/sh\necho the own program\n")
    (place.prefix / "bin/own").chmod(0o755)
    tarball(place.work / "slow-1.0.tar.gz", {
        "slow/pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'build'\nbackend-path = ['.']\n",
        "slow/build.py": "import subprocess, os\nsubprocess.run(['git', '--version'])\nsubprocess.run('own')\n"
                         "raise SystemExit(os.environ['PATH'])\n"})
    done = place.install("python +./slow-1.0.tar.gz")
    assert "the own program" in done.stdout + done.stderr and "git version" in done.stdout + done.stderr
    assert f"{SYSTEM_PATH}:{place.prefix}/bin" in done.stdout + done.stderr
    assert f"{PACKAGES}/bin" not in done.stdout + done.stderr
    if NODE and shutil.which("npm"):
        npm_package(place.work, "beta", install="node --version && own")
        assert place.install("js +./beta-1.0.0.tgz").returncode == 0
    if R:
        r_package(place.work, "gamma")
        assert place.install("r +gamma_1.0.tar.gz").returncode == 0
    assert not mark.exists(), mark.read_text()


def test_an_install_leaves_nothing_in_the_temporary_directory(place):
    (place.base / "tmp").mkdir()
    wheel(place.work, "alpha")
    assert place.install("python +alpha-1.0-py3-none-any.whl", TMPDIR=f"{place.base}/tmp").returncode == 0
    assert os.listdir(place.base / "tmp") == []


@needs_npm
@pytest.mark.parametrize("spec", ["alpha", "alpha@1.0.0", "alpha beta", "alpha/beta"])
def test_a_name_of_npm_is_never_a_folder_of_the_workspace(place, spec):
    mark, program = trap(place)
    for folder in ("alpha", "alpha@1.0.0", "alpha beta", "beta", "alpha/beta"):
        (place.work / folder).mkdir(parents=True)
        (place.work / folder / "package.json").write_text(
            '{"name": "alpha", "version": "1.0.0", "scripts": {"install": "%s", "preinstall": "%s"}}' % (program, program))
    done = place.install(f"js +{spec}", npm_config_registry="http://127.0.0.1:9/", npm_config_git=str(place.base / "nothing"))
    assert done.returncode != 0 and place.list("js") == "" and not mark.exists()


def put_archives(place, make, archive):
    """What MAKE makes of alpha, in a/, also unpacked, and in 'a b'/."""
    for folder in ("a", "a b"):
        (place.work / folder).mkdir()
        make(place.work / folder, "alpha")
    shutil.unpack_archive(place.work / "a" / archive, place.work / "a", "gztar")


@needs_npm
@pytest.mark.parametrize("spec", ["./a b/alpha-1.0.0.tgz", "a/alpha-1.0.0.tgz", "file:a/alpha-1.0.0.tgz", "file:./a/alpha-1.0.0.tgz",
                                  "alpha@./a/alpha-1.0.0.tgz", "alpha@file:a/alpha-1.0.0.tgz", "{}/a/alpha-1.0.0.tgz", "./a/package"])
def test_files_of_npm_are_found_by_their_form(place, spec):
    put_archives(place, npm_package, "alpha-1.0.0.tgz")
    done = place.install(f"js +{spec.format(place.work)}")
    assert done.returncode == 0, done.stderr
    assert place.list("js") == "alpha@1.0.0\n"


@needs_npm
def test_settings_of_npm_in_the_workspace_are_not_read(place):
    mark, program = trap(place)
    npm_package(place.work, "alpha", install="true")
    for name in (".npmrc", "npmrc"):
        (place.work / name).write_text(f"script-shell={program}\ngit={program}\nglobalconfig={program}\ndry-run=true\n")
    (place.work / "package.json").write_text('{"name": "mine", "scripts": {"install": "%s"}}' % program)
    done = place.install("js +./alpha-1.0.0.tgz")
    assert done.returncode == 0, done.stderr
    assert place.list("js") == "alpha@1.0.0\n" and not mark.exists()


@needs_r
@pytest.mark.parametrize("spec", ["alpha", "alpha==1.0", "alpha beta"])
def test_a_name_of_r_is_never_a_folder_of_the_workspace(place, spec):
    mark, program = trap(place)
    for folder in ("alpha", "alpha==1.0", "alpha beta", "beta"):
        (place.work / folder).mkdir()
        (place.work / folder / "DESCRIPTION").write_text("Package: alpha\nVersion: 1.0\n")
        shutil.copy(program, place.work / folder / "configure")
    settings = place.base / "settings"
    (settings / "R").mkdir(parents=True)
    (place.base / "repository/src/contrib").mkdir(parents=True)
    (place.base / "repository/src/contrib/PACKAGES").write_text("")
    (settings / "R/Rprofile").write_text(f"options(repos = c(CRAN = 'file://{place.base}/repository'))\n")
    done = place.install(f"r +{spec}", CELLFS_SETTINGS=str(settings))
    assert done.returncode == 1 and "no repository has alpha" in done.stderr
    assert place.list("r") == "" and not mark.exists()


@needs_r
@pytest.mark.parametrize("spec", ["./a b/alpha_1.0.tar.gz", "a/alpha_1.0.tar.gz", "{}/a/alpha_1.0.tar.gz", "./a/alpha"])
def test_files_of_r_are_found_by_their_form(place, spec):
    put_archives(place, r_package, "alpha_1.0.tar.gz")
    done = place.install(f"r +{spec.format(place.work)}")
    assert done.returncode == 0, done.stderr
    assert place.list("r") == "alpha==1.0\n"


@needs_r
def test_settings_of_r_in_the_workspace_are_not_read(place):
    mark, program = trap(place)
    r_package(place.work, "alpha")
    for folder in (place.work, place.home):
        (folder / ".Rprofile").write_text(f"system('{program} profile')\n")
        (folder / ".Renviron").write_text(f"R_PROFILE_USER={folder}/.Rprofile\nTAR={program}\nMAKE={program}\n")
    (place.work / ".RData").write_text("nonsense\n")
    assert place.install("r +alpha_1.0.tar.gz").returncode == 0
    assert place.list("r") == "alpha==1.0\n" and not mark.exists()


# pip in cells.

PIPS = {"pip": ["pip"], "pip3": ["pip3"], "python -m pip": ["python3", "-m", "pip"]}


@pytest.mark.parametrize("pip", sorted(PIPS))
def test_pip_in_a_cell_installs_into_the_prefix_and_lists(place, pip):
    wheel(place.work, "alpha")
    done = place.run(*PIPS[pip], "install", "./alpha-1.0-py3-none-any.whl")
    assert done.returncode == 0, done.stderr
    assert place.list("python") == "alpha==1.0\n"
    assert place.run("python3", "-c", "import alpha; print(alpha.VERSION)").stdout == "1.0\n"
    assert place.run(*PIPS[pip], "uninstall", "-y", "alpha").returncode == 0
    assert place.list("python") == ""


@pytest.mark.parametrize("command, wish", [
    (["install", "humanize"], "echo 'humanize' >> packages "),
    (["-q", "install", "-U", "humanize", "requests"], "echo 'humanize requests' >> packages "),
    (["install", "a>1; python_version>'3'"], "printf '%s\\n' 'a>1; python_version>'\"'\"'3'\"'\"'' >> packages "),
    (["install", "-r", "requirements.txt"], "cat requirements.txt >> packages "),
    (["download", "humanize"], "echo 'humanize' >> packages "),
    (["install", "--target", "here", "humanize"], "echo 'humanize' >> packages "),
    (["uninstall", "-y", "humanize"], "echo '-python: humanize' >> packages "),
])
@pytest.mark.parametrize("pip", sorted(PIPS))
def test_without_a_network_pip_says_in_one_line_what_to_do(place, pip, command, wish):
    began = time.monotonic()
    done = place.run(*PIPS[pip], *command, **place.offline(), PIP_NO_INDEX="")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"cellfs: no network here: {wish}{NO_NETWORK}"
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("command", [["--version"], ["list"], ["freeze"], ["--help"], ["config", "list"], ["show", "pytest"]])
def test_pip_is_otherwise_the_real_one(place, command):
    plain = place.run(PYTHON, "-m", "pip", *command, PYTHONPATH="")
    assert plain.returncode == 0
    assert place.run("pip", *command).stdout == plain.stdout
    assert place.run("pip", *command, **place.offline()).stdout == plain.stdout


def test_import_pip_is_the_real_one(place):
    code = "import pip, pip._internal; print(pip.__version__, pip.__file__, pip.main, len(pip.__path__) > 0)"
    ours, real = (place.run(PYTHON, "-c", code, PYTHONPATH=path).stdout for path in (f"{PACKAGES}/python", ""))
    assert ours.split()[:2] == real.split()[:2] != []


def test_pip_with_a_place_of_its_own_is_left_alone(place):
    wheel(place.work, "alpha")
    for where in (place.env, {**place.env, **place.offline()}):
        done = place.run("pip", "install", "--target", "here", "./alpha-1.0-py3-none-any.whl", **where)
        assert done.returncode == 0, done.stderr
        assert (place.work / "here/alpha/__init__.py").exists()
        shutil.rmtree(place.work / "here")
    assert not (place.prefix / "pyvenv.cfg").exists()


def test_pip_in_a_venv_of_the_users_own_is_left_alone(place):
    wheel(place.work, "alpha")
    assert place.run(PYTHON, "-m", "venv", "--system-site-packages", "--without-pip", "own").returncode == 0
    for where in (place.env, {**place.env, **place.offline()}):
        done = place.run("own/bin/python", "-m", "pip", "install", "./alpha-1.0-py3-none-any.whl", **where)
        assert done.returncode == 0, done.stderr
    assert not (place.prefix / "pyvenv.cfg").exists()
    assert place.run("own/bin/python", "-c", "import alpha; print(alpha.__file__)").stdout.startswith(f"{place.work}/own/")


def test_a_venv_with_pip_can_be_made_in_a_cell(place):
    pytest.importorskip("ensurepip")
    assert place.run(PYTHON, "-m", "venv", "own").returncode == 0
    assert f"{place.work}/own" in place.run("own/bin/pip", "--version").stdout


def test_without_a_prefix_pip_is_plain(place):
    del place.env["CELLFS_PACKAGES"]
    real = place.run(PYTHON, "-m", "pip", "install", "nothing-of-this-name", PYTHONPATH="")
    assert place.run("pip", "install", "nothing-of-this-name").stderr == real.stderr != ""


def test_a_host_without_pip_says_so_in_one_line(place):
    done = place.run(PYTHON, "-S", "-m", "pip", "install", "x")
    assert done.returncode == 1
    assert done.stderr == "cellfs: this host has no pip: apt-get install python3-pip\n"
    assert "ModuleNotFoundError: No module named 'pip'" in place.run(PYTHON, "-S", "-c", "import pip").stderr


# npm in cells.

@needs_npm
def test_npm_in_a_cell_installs_into_the_prefix_but_for_a_project(place):
    npm_package(place.work, "alpha")
    done = place.run("npm", "install", "./alpha-1.0.0.tgz")
    assert done.returncode == 0, done.stderr
    assert place.list("js") == "alpha@1.0.0\n"
    (place.work / "package.json").write_text('{"name": "mine", "version": "1.0.0"}')
    npm_package(place.work, "beta")
    assert place.run("npm", "install", "./beta-1.0.0.tgz").returncode == 0
    assert (place.work / "node_modules/beta").exists() and place.list("js") == "alpha@1.0.0\n"
    assert place.run("npm", "install", "-g", "./beta-1.0.0.tgz").returncode == 0
    assert place.list("js") == "alpha@1.0.0\nbeta@1.0.0\n"


@needs_npm
@pytest.mark.parametrize("command, line", [
    (["install", "lodash"], "js: lodash"), (["i", "-D", "lodash", "chalk"], "js: lodash chalk"), (["ci"], "js: NAME"),
    (["uninstall", "lodash"], "-js: lodash"),
])
def test_without_a_network_npm_says_in_one_line_what_to_do(place, command, line):
    done = place.run("npm", *command, **place.offline())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"cellfs: no network here: echo '{line}' >> packages {NO_NETWORK}"


@needs_npm
def test_npm_is_otherwise_the_real_one(place):
    assert place.run("npm", "--version").stdout == place.run("/usr/bin/npm", "--version").stdout != ""


# The running kernels.

@pytest.mark.parametrize("tier", ["python", "python-bare"])
def test_a_running_python_imports_what_was_installed_meanwhile(place, kernel, tier):
    driver = kernel(tier)
    assert driver.run("import alpha").error["name"] == "ModuleNotFoundError"
    wheel(place.work, "alpha", extra={"alpha_extra.pth": f"{place.work}/more\n"})
    (place.work / "more").mkdir()
    (place.work / "more" / "by_pth.py").write_text("value = 5\n")
    assert place.install("python +alpha-1.0-py3-none-any.whl").returncode == 0
    run = driver.run("import alpha, by_pth; print(alpha.VERSION, by_pth.value)")
    assert run.stdout == "1.0 5\n", run.stderr


@pytest.mark.parametrize("tier", ["python", "python-bare"])
def test_a_cell_imports_what_it_has_installed_itself(place, kernel, tier):
    wheel(place.work, "alpha", extra={"alpha_extra.pth": f"{place.work}/more\n"})
    wheel(place.work, "beta")
    (place.work / "more").mkdir()
    (place.work / "more" / "by_pth.py").write_text("value = 5\n")
    install = "import subprocess; subprocess.run(['pip', 'install', '-q', './{0}-1.0-py3-none-any.whl'], check=True)\n"
    driver = kernel(tier)
    run = driver.run("try: import alpha\nexcept ImportError: pass\n" + install.format("alpha")
                     + "import alpha, by_pth; print(alpha.VERSION)")
    assert run.stdout == "1.0\n", run.stderr
    run = driver.run("try: import beta\nexcept ImportError: pass\n" + install.format("beta")
                     + "import beta; print(beta.VERSION)")
    assert run.stdout == "1.0\n", run.stderr


def test_a_magic_and_a_shell_line_of_pip_are_one_and_the_same(place, kernel):
    for name in ("alpha", "beta", "gamma"):
        wheel(place.work, name)
    driver = kernel("python")
    for line in ("%pip install -q ./alpha-1.0-py3-none-any.whl", "!pip install -q ./beta-1.0-py3-none-any.whl",
                 "import sys\n!{sys.executable} -m pip install -q ./gamma-1.0-py3-none-any.whl"):
        run = driver.run(line)
        assert (run.status, run.stdout, run.stderr) == ("ok", "", "")
    assert driver.run("import alpha, beta, gamma; print(gamma.VERSION)").stdout == "1.0\n"
    assert place.list("python") == "alpha==1.0\nbeta==1.0\ngamma==1.0\n"


def test_an_upgrade_of_what_is_imported_is_told_to_need_a_restart(place, kernel):
    wheel(place.work, "alpha")
    wheel(place.work, "alpha", "2.0")
    driver = kernel("python")
    assert driver.run("%pip install -q ./alpha-1.0-py3-none-any.whl").stderr == ""
    assert driver.run("import alpha").status == "ok"
    assert driver.run("%pip install -q ./alpha-1.0-py3-none-any.whl").stderr == ""
    run = driver.run("%pip install -q ./alpha-2.0-py3-none-any.whl")
    assert run.stderr == "cellfs: imported before it changed: alpha: echo restart python > ctl\n"


@pytest.mark.parametrize("tier", ["python", "python-bare"])
def test_the_prefix_comes_before_the_hosts_packages_and_after_the_workspace(place, kernel, tier):
    wheel(place.work, "pytest", "99.0")
    wheel(place.work, "alpha")
    (place.work / "alpha.py").write_text("VERSION = 'mine'\n")
    driver = kernel(tier)
    place.install("python +pytest-99.0-py3-none-any.whl alpha-1.0-py3-none-any.whl")
    run = driver.run("import pytest, alpha; print(pytest.VERSION, alpha.VERSION)")
    assert run.stdout == "99.0 mine\n", run.stderr


def test_a_spare_python_takes_the_prefix_that_it_is_told_of(place, kernel):
    wheel(place.work, "alpha")
    place.install("python +alpha-1.0-py3-none-any.whl")
    driver = kernel("python", CELLFS_PACKAGES="")
    driver.send({"op": "set", "env": {"CELLFS_PACKAGES": str(place.prefix)}})
    assert driver.run("import alpha; print(alpha.VERSION)").stdout == "1.0\n"


@needs_npm
@pytest.mark.parametrize("code", [
    "require('alpha').version", "const {version} = await import('alpha'); version",
    "import {version as v} from 'alpha'; v", "require('@scope/beta').version", "require.resolve('alpha') && '1.0.0'"])
def test_a_running_javascript_finds_what_was_installed_meanwhile(place, kernel, code):
    driver = kernel("javascript")
    npm_package(place.work, "alpha")
    npm_package(place.work, "@scope/beta")
    for before in range(2):
        assert driver.run("require('alpha')", "a.js").error["message"].startswith("Cannot find module 'alpha'")
        assert driver.run("await import('alpha')", "a.js").status == "error"
        assert driver.run("require('@scope/beta')", "a.js").status == "error"
        if not before:
            (place.prefix / "lib/node_modules/other").mkdir(parents=True)
            (place.prefix / "lib/node_modules/other/index.js").write_text("")
    assert place.install("js +./alpha-1.0.0.tgz ./scope-beta-1.0.0.tgz").returncode == 0
    run = driver.run(code, "a.js")
    assert run.status == "ok" and run.value["text/plain"] == "1.0.0", run.error


@needs_npm
def test_a_module_of_the_workspace_comes_before_one_of_the_prefix(place, kernel):
    npm_package(place.work, "alpha")
    place.install("js +./alpha-1.0.0.tgz")
    (place.work / "node_modules/alpha").mkdir(parents=True)
    (place.work / "node_modules/alpha/index.js").write_text("exports.version = 'mine';\n")
    driver = kernel("javascript")
    for code in ("require('alpha').version", "(await import('alpha')).version"):
        assert driver.run(code, "a.js").value["text/plain"] == "mine"


@needs_r
def test_a_running_r_finds_what_was_installed_meanwhile(place, kernel):
    r_package(place.work, "alpha")
    driver = kernel("r")
    assert driver.run("library(alpha)", "a.r").status == "error"
    place.install("r +alpha_1.0.tar.gz")
    run = driver.run("library(alpha); cat(answer(), .libPaths()[1] == file.path(Sys.getenv('CELLFS_PACKAGES'), 'lib/R'))", "a.r")
    assert run.stdout == "alpha 1.0 TRUE"


@needs_r
def test_install_packages_in_a_cell_of_r_goes_into_the_prefix(place, kernel):
    r_package(place.work, "alpha")
    driver = kernel("r")
    run = driver.run("install.packages('alpha_1.0.tar.gz', repos = NULL)\nlibrary(alpha); cat(answer())", "a.r")
    assert run.stdout.endswith("alpha 1.0"), run.stderr
    assert place.list("r") == "alpha==1.0\n"
    assert driver.run("detach('package:alpha', unload = TRUE); remove.packages('alpha')", "a.r").status == "ok"
    assert place.list("r") == ""


@needs_r
def test_without_a_network_install_packages_says_in_one_line_what_to_do(place, kernel):
    run = kernel("r", **place.offline()).run("install.packages(c('glue', 'fs'))", "a.r")
    assert run.error["message"] == f"no network here: echo 'r: glue fs' >> packages {NO_NETWORK}".strip()


# With a network.

def with_network(place):
    for name in ("PIP_NO_INDEX", "npm_config_offline"):
        del place.env[name]
    for name, value in os.environ.items():
        if name.startswith(("PIP_", "npm_config_", "SSL_")) or name.lower().endswith(("_proxy", "_ca_certs")):
            place.env[name] = value


def test_a_package_comes_from_the_index_of_python(place):
    reach("python")
    with_network(place)
    done = place.install("python +humanize==4.9.0")
    assert done.returncode == 0, done.stderr
    assert place.list("python") == "humanize==4.9.0\n"


@needs_npm
def test_a_package_comes_from_the_registry_of_npm(place):
    reach("js")
    with_network(place)
    done = place.install("js +lodash@4.17.21")
    assert done.returncode == 0, done.stderr
    assert place.list("js") == "lodash@4.17.21\n"
