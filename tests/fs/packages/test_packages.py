"""`packages` of a context: what it lists, what a write does, the run that installs, and the box that it has."""

import base64
import contextlib
import errno
import hashlib
import http.server
import importlib.util
import json
import os
import pathlib
import socket
import threading

import pytest

import mount
from mount import done, events, fails, ok, read, run, spawn, until, write

SLOW = float(os.environ.get("CELLFS_SLOW", "1"))

_spec = importlib.util.spec_from_file_location("made_packages", pathlib.Path(__file__).parents[2] / "kernels/made_packages.py")
packed = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(packed)


def value(ctx, cell, code):
    r = run(ctx, cell, code)
    assert done(r) == "ok", read(r / "report.md")
    return read(r / "result.txt").rstrip("\n")


def installed(ctx, text, status="ok"):
    """Appends TEXT to packages and waits for its run."""
    with open(ctx / "packages", "a") as f:
        f.write(text)
    r = ctx / "results/packages"
    assert done(r) == status, read(r / "report.md")
    return r


def runs_of_packages(ctx):
    return sum(e["type"] == "queued" and e["cell"] == "packages" for e in events(ctx))


def upload(ctx, made):
    """Puts the file MADE into the workspace; its name."""
    (ctx / "workspace" / made.name).write_bytes(made.read_bytes())
    return made.name


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        packed.wheel(folder, "cellfs_try", version)
    return folder


# ---- what it lists and takes ---------------------------------------------------------------------


def test_nothing_is_installed_in_a_new_context(ctx):
    assert read(ctx / "packages") == "" and os.stat(ctx / "packages").st_mode & 0o777 == 0o644


def test_a_wheel_of_the_workspace_is_installed_and_the_running_kernel_imports_it(ctx, wheels):
    assert value(ctx, "a.py", "state = 40; state") == "40"
    name = upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl")
    r = installed(ctx, f"python: ./{name}\n")
    assert "Successfully installed" in read(r / "stdout") and read(r / "code") == f"python: ./{name}\n"
    assert read(ctx / "packages") == "python: cellfs_try==1.0\n"
    assert value(ctx, "b.py", "import cellfs_try\n(cellfs_try.VERSION, state + 2)") == "('1.0', 42)"
    assert "cellfs_try 1.0" in ok("cat %s" % (run(ctx, "c.sh", "cellfs_try-program\n") / "stdout"))
    assert read(ctx / "context.json").count('"execution_count"') >= 1
    assert os.listdir(ctx / "artifacts") == []


def test_packages_of_javascript_and_r_are_seen_by_their_running_kernels(ctx, tmp_path):
    assert value(ctx, "a.js", "let kept = 1; kept") == "1"
    assert value(ctx, "a.r", "kept <- 1; kept") == "[1] 1"
    js = upload(ctx, packed.npm_package(tmp_path, "cellfs-try", "1.2.3"))
    r = upload(ctx, packed.r_package(tmp_path, "cellfstry"))
    installed(ctx, f"js: ./{js}\nr: ./{r}\n")
    assert read(ctx / "packages") == "js: cellfs-try@1.2.3\nr: cellfstry==1.0\n"
    assert value(ctx, "b.js", 'require("cellfs-try").version + kept') == "1.2.31"
    assert value(ctx, "c.ts", 'import t from "cellfs-try"; t.version') == "1.2.3"
    assert value(ctx, "b.r", "paste(cellfstry::answer(), kept)") == "cellfstry 1.0 1"
    assert os.listdir(ctx / "artifacts") == []


def test_only_a_line_with_a_minus_removes(ctx, wheels):
    name = upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl")
    installed(ctx, f"{name}\n")
    write(ctx / "packages", "# nothing of it is left out\n")
    assert read(ctx / "packages") == "python: cellfs_try==1.0\n" and runs_of_packages(ctx) == 1
    installed(ctx, "-python: cellfs-try\n")
    assert read(ctx / "packages") == ""
    r = run(ctx, "a.py", "import cellfs_try\n")
    assert done(r) == "error" and "No module named 'cellfs_try'" in read(r / "error.txt")


def test_what_is_installed_just_so_makes_no_run(ctx, wheels):
    installed(ctx, upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl") + "\n")
    listed = read(ctx / "packages")
    write(ctx / "packages", listed)
    ok(f"cat {ctx}/packages > {ctx}/draft && mv {ctx}/draft {ctx}/packages")
    assert read(ctx / "packages") == listed and runs_of_packages(ctx) == 1


def test_an_editor_may_write_it(ctx, wheels):
    name = upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl")
    installed(ctx, f"{name}\n")
    newer = upload(ctx, wheels / "cellfs_try-2.0-py3-none-any.whl")
    ok(f"sed -i 's,.*,python: ./{newer},' {ctx}/packages")
    assert done(ctx / "results/packages") == "ok" and read(ctx / "packages") == "python: cellfs_try==2.0\n"


@pytest.mark.parametrize(
    "line, why",
    [
        ("cobol: x", "no language here has packages called cobol; there are"),
        ("python: --index-url=http://127.0.0.1/", "cannot begin with -"),
        ("--pre", "cannot begin with -"),
        ("js:", "no package is named"),
        ("- ", "no package is named"),
        ("python: a\tb", "a control character"),
        ("a\0b", "a NUL byte"),
    ],
)
def test_a_bad_line_is_refused_with_a_line_in_the_log_and_nothing_is_done(ctx, line, why):
    with fails(errno.EINVAL):
        write(ctx / "packages", f"humanize\n{line}\n")
    assert why in read(ctx / "log").splitlines()[-1] and runs_of_packages(ctx) == 0


def test_removing_and_installing_the_same_is_refused(ctx):
    with fails(errno.EINVAL):
        write(ctx / "packages", "-python: Humanize\nhumanize==4.9.0\n")
    assert "is to be removed and to be installed" in read(ctx / "log") and runs_of_packages(ctx) == 0


def test_what_is_written_in_pieces_is_one_text(ctx, wheels):
    name = upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl")
    fd = os.open(ctx / "packages", os.O_WRONLY | os.O_APPEND)
    for piece in ("# a com", "ment\npython: ./", name[:9], name[9:], "\n# the end"):
        os.write(fd, piece.encode())
    assert runs_of_packages(ctx) == 0
    with fails(errno.EINVAL):
        os.write(fd, b"\ncobol: x\n")
    os.close(fd)
    assert done(ctx / "results/packages") == "ok" and read(ctx / "packages") == "python: cellfs_try==1.0\n"
    assert runs_of_packages(ctx) == 1


def test_more_than_64_kib_or_a_thousand_lines_are_no_list_of_packages(ctx):
    with fails(errno.E2BIG):
        write(ctx / "packages", "a\n" * 1001)
    fd = os.open(ctx / "packages", os.O_WRONLY)
    with fails(errno.EFBIG):
        for _ in range(20):
            os.write(fd, b"#" * 4095 + b"\n")
    os.close(fd)
    assert runs_of_packages(ctx) == 0


def test_the_whole_queue_is_no_place_for_one_more(fresh):
    fresh.remount("queue=1")
    c = fresh.context("a")
    mount.hold(c)
    write(c / "cells/b.sh", "true\n")
    with fails(errno.ENOSPC):
        write(c / "packages", "humanize\n")
    mount.let_go(c)


# ---- the run -------------------------------------------------------------------------------------


def test_what_does_not_exist_is_the_installers_own_message_and_changes_nothing(ctx, wheels):
    name = upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl")
    installed(ctx, f"{name}\n")
    value(ctx, "a.py", "kept = 1; kept")
    r = installed(ctx, "python: ./no-such-1.0-py3-none-any.whl\n", "error")
    assert "no-such-1.0-py3-none-any.whl" in read(r / "stderr") and read(r / "exit_code") == "1\n"
    assert json.loads(read(r / "execution.json"))["error"]["name"] == "ExitStatus"
    assert read(ctx / "packages") == "python: cellfs_try==1.0\n" and value(ctx, "a.py", "kept") == "1"


def test_an_install_can_be_followed_and_interrupted(ctx, tmp_path):
    name = upload(ctx, packed.npm_package(tmp_path, "cellfs-try", "1.2.3", install="echo waiting; sleep 98761"))
    write(ctx / "packages", f"js: ./{name}\n")
    until(lambda: read(ctx / "results/packages/status") == "running\n")
    follower = spawn(f"cat {ctx}/results/packages/stdout.follow > /dev/null")
    until(lambda: sleeping(ctx), 40 * SLOW)
    write(ctx / "ctl", "interrupt\n")
    assert done(ctx / "results/packages") == "interrupted" and follower.wait(20) == 0
    until(lambda: not sleeping(ctx))
    assert read(ctx / "packages") == ""


def sleeping(ctx):
    inside = ok("pgrep -f '[s]leep 98761' || true").split()
    return [p for p in inside if mount.pid_namespace(int(p)) != os.readlink("/proc/self/ns/pid")]


def test_the_next_run_of_cells_waits_for_it_and_is_not_lost(ctx, wheels):
    name = upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl")
    with open(ctx / "packages", "a") as f:
        f.write(name)
    assert value(ctx, "a.py", "import cellfs_try; cellfs_try.VERSION") == "1.0"


def test_it_is_one_of_the_runs_and_no_cell(ctx, wheels):
    installed(ctx, upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl") + "\n")
    assert os.listdir(ctx / "cells") == [] and sorted(os.listdir(ctx / "results")) == ["latest", "packages"]
    value(ctx, "a.py", "1")
    ok(f"echo run all > {ctx}/ctl")
    until(lambda: read(ctx / "status").startswith("idle"))
    assert runs_of_packages(ctx) == 1 and [e["language"] for e in events(ctx) if e["type"] == "finished"][0] == "packages"


def test_an_install_that_cannot_start_ends_and_others_go_on(fresh, tmp_path):
    """Its network fails each time: three in the queue, and a cell behind them."""
    c = fresh.context("a")
    bad = tmp_path / "bin"
    bad.mkdir()
    for name in ("pasta", "slirp4netns"):
        (bad / name).write_text("#!/bin/sh\nexit 1\n")
        (bad / name).chmod(0o755)
    fresh.unmount()
    fresh.env = {"PATH": f"{bad}:{os.environ['PATH']}"}
    fresh.start()
    for i in range(3):
        write(c / "packages", f"nothing-{i}\n")
    assert done(run(c, "a.sh", "echo still\n")) == "ok" and runs_of_packages(c) == 3
    assert done(c / "results/packages") in ("error", "killed")
    until(lambda: "boxes: 1\n" in read(fresh.path / "status"))


def test_a_killed_installer_ends_its_run_and_the_next_goes_on(ctx, tmp_path, wheels):
    name = upload(ctx, packed.npm_package(tmp_path, "cellfs-try", "1.2.3", install="sleep 98761"))
    write(ctx / "packages", f"js: ./{name}\n")
    until(lambda: sleeping(ctx), 40 * SLOW)
    write(ctx / "packages", upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl") + "\n")
    first = json.loads(read(ctx / "context.json"))["kernels"]["packages"]["pid"]
    os.kill(mount.host_pid(ctx, first) if mount.pid_namespace(first) is None else first, 9)
    assert read(ctx / "history/1/done") == "killed\n" and done(ctx / "results/packages") == "ok"
    assert done(run(ctx, "a.sh", "true\n")) == "ok"


def test_a_cancelled_install_leaves_nothing(m, ctx):
    write(ctx / "packages", "humanize\n")
    with contextlib.suppress(ProcessLookupError):  # it may run already, and then ends by itself
        write(ctx / "ctl", "cancel all\n")
    assert done(ctx / "results/packages") in ("cancelled", "ok", "killed", "error")
    state = next(d.parent for d in m.state.glob("contexts/*/context") if ctx.name in d.read_text())
    until(lambda: not (state / "settings").exists())


# ---- its box -------------------------------------------------------------------------------------

LOOK = """(cat /proc/net/dev; id -u; ulimit -v; ls /; pwd; env | sort; echo by-install > /workspace/seen) > /tmp/look 2>&1
cat /tmp/look > /workspace/look; ls -A /home/user > /workspace/home; for f in /settings/*/*; do echo "== $f"; cat $f; done > /workspace/settings; cat /proc/net/route >> /workspace/settings"""


def test_an_install_has_the_network_that_the_cells_have_not(ctx, tmp_path):
    write(ctx / "config/env/TOKEN", "of-the-context")
    assert "eth0" not in read(run(ctx, "a.sh", "cat /proc/net/dev\n") / "stdout")
    installed(ctx, "js: ./" + upload(ctx, packed.npm_package(tmp_path, "cellfs-try", "1.2.3", install=LOOK)) + "\n")
    look = read(ctx / "workspace/look")
    assert "eth0" in look and "TOKEN=of-the-context" in look and read(ctx / "workspace/seen") == "by-install\n"
    assert read(ctx / "workspace/home") == ""
    r = run(ctx, "b.sh", "id -u; cat /workspace/seen; cat /proc/net/dev; touch /packages/x; ls /settings\n")
    assert done(r) == "error" and "by-install" in read(r / "stdout") and "eth0" not in read(r / "stdout")
    assert "Read-only file system" in read(r / "stderr") and "/settings" in read(r / "stderr")


def test_cells_with_a_network_may_change_packages_themselves(ctx, wheels):
    write(ctx / "config/network", "on")
    name = upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl")
    r = run(ctx, "a.py", f"%pip install ./{name}\nimport cellfs_try\ncellfs_try.VERSION")
    assert done(r) == "ok" and read(r / "result.txt") == "1.0\n", read(r / "report.md")
    assert read(ctx / "packages") == "python: cellfs_try==1.0\n"


@pytest.mark.parametrize(
    "cell, code, name",
    [
        ("a.py", "%pip install humanize", "humanize"),
        ("b.py", "!pip install humanize", "humanize"),
        ("c.py", "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'pip', 'install', 'humanize'])", "humanize"),
        ("d.sh", "pip install humanize\n", "humanize"),
        ("e.sh", "python3 -m pip install humanize\n", "humanize"),
        ("f.sh", "npm i lodash\n", "js: lodash"),
        ("g.r", 'install.packages("glue")', "r: glue"),
    ],
)
def test_without_a_network_one_line_says_how(ctx, cell, code, name):
    r = run(ctx, cell, code)
    done(r)
    error = read(r / "error.txt") if cell.endswith(".r") else ""
    lines = (read(r / "stdout") + read(r / "stderr") + error).splitlines()
    how = [line for line in lines if f"echo '{name}' >> packages" in line and "echo on > config/network" in line]
    assert len(how) == 1 and len([line for line in lines if line.strip()]) <= 4, lines


def test_the_settings_of_who_mounted_are_honoured_and_shown_to_no_cell(wheels, tmp_path, monkeypatch):
    for above in (tmp_path, *tmp_path.parents[:-2]):
        above.chmod(0o755)  # root's boxes have users of their own
    home = tmp_path / "home"
    (home / ".config/pip").mkdir(parents=True)
    wheels = wheels.rename(home / "wheels")
    (home / ".config/pip/pip.conf").write_text("[global]\nno-index = true\nfind-links =\n  ~/wheels\n# secret-of-pip\n")
    (home / ".npmrc").write_text("//registry.invalid/:_authToken=secret-of-npm\n")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    m = mount.Mount(env={"HOME": str(home)}, where=tmp_path / "mnt")
    try:
        c = m.context("a")
        installed(c, "cellfs-try\n")
        assert read(c / "packages") == "python: cellfs_try==2.0\n"
        installed(c, "js: ./" + upload(c, packed.npm_package(tmp_path, "cellfs-try", "1.2.3", install=LOOK)) + "\n")
        assert "secret-of-npm" in read(c / "workspace/settings")
        r = run(c, "a.sh", "env; cat ~/.npmrc ~/.config/pip/pip.conf /settings/*/*; grep -rs secret-of / --include=*rc --include=*.conf\n")
        done(r)
        assert "secret-of" not in read(r / "stdout") and "/settings" not in read(r / "stdout")
        until(lambda: not list(m.state.glob("contexts/*/settings")))
    finally:
        m.close()


def test_it_is_for_the_interpreter_that_the_context_has(ctx, wheels, tmp_path):
    for above in (tmp_path, *tmp_path.parents[:-2]):
        above.chmod(0o755)
    ok(f"/usr/bin/python3 -m venv --without-pip --system-site-packages {tmp_path}/own")
    write(ctx / "config/kernel/py", f"{tmp_path}/own/bin/python")
    installed(ctx, upload(ctx, wheels / "cellfs_try-1.0-py3-none-any.whl") + "\n")
    assert f"{tmp_path}/own" in read(run(ctx, "a.sh", "cat /packages/pyvenv.cfg\n") / "stdout")
    assert value(ctx, "a.py", "import cellfs_try, sys; (cellfs_try.VERSION, sys.prefix)") == f"('1.0', '{tmp_path}/own')"


@pytest.mark.parametrize("mode", ["weak", "none"])
def test_they_are_installed_without_a_box_too(wheels, tmp_path, mode):
    m = mount.Mount(f"sandbox={mode}", where=tmp_path / "mnt")
    try:
        c = m.context("a")
        installed(c, upload(c, wheels / "cellfs_try-1.0-py3-none-any.whl") + "\n")
        assert read(c / "packages") == "python: cellfs_try==1.0\n"
        assert value(c, "a.py", "import cellfs_try; cellfs_try.VERSION") == "1.0"
        until(lambda: not list(m.state.glob("contexts/*/settings")))
    finally:
        m.close()


def test_the_limit_of_the_disk_counts_packages(ctx, tmp_path):
    write(ctx / "config/disk", "20M")
    script = "dd if=/dev/zero of=$CELLFS_PACKAGES/big bs=1M count=400 2>/dev/null; sleep 20"
    name = upload(ctx, packed.npm_package(tmp_path, "cellfs-try", "1.2.3", install=script))
    with open(ctx / "packages", "a") as f:
        f.write(f"js: ./{name}\n")
    assert done(ctx / "results/packages") in ("error", "killed")
    assert "disk limit" in read(ctx / "log") or "File too large" in read(ctx / "results/packages/stderr")


def test_packages_outlive_the_daemon_and_go_with_their_context(wheels, tmp_path):
    m = mount.Mount(where=tmp_path / "mnt")
    try:
        c = m.context("a")
        installed(c, upload(c, wheels / "cellfs_try-1.0-py3-none-any.whl") + "\n")
        m.remount()
        assert read(c / "packages") == "python: cellfs_try==1.0\n" and read(c / "results/packages/status") == "ok\n"
        assert value(c, "a.py", "import cellfs_try; cellfs_try.VERSION") == "1.0"
        ok(f"rm -r {c}")
        until(lambda: not list(m.state.glob("contexts/*/packages/list")))
    finally:
        m.close()


def test_what_lists_name_is_shown_as_text(ctx):
    write(ctx / "config/network", "on")
    code = "mkdir -p /packages/list; printf 'x\\033[2J\\nq==1\\n' > /packages/list/python; ln -s /etc/passwd /packages/list/js\nmkfifo /packages/list/r\n"
    assert done(run(ctx, "a.sh", code)) == "ok"
    text = read(ctx / "packages")
    assert "\033" not in text and "python: q==1\n" in text and "root" not in text


# ---- from where packages are ---------------------------------------------------------------------


class Index(http.server.ThreadingHTTPServer):
    """An index of Python's and a registry of npm's, at an address of this host."""

    def __init__(self, wheel, tarball):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.connect(("192.0.2.1", 9))  # sends nothing
            host = s.getsockname()[0]
        super().__init__((host, 0), Answer)
        self.url = f"http://{host}:{self.server_port}"
        self.asked = []
        dist = {"integrity": "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode(),
                "tarball": f"{self.url}/{tarball.name}"}
        about = {"name": "cellfs-try", "dist-tags": {"latest": "1.2.3"},
                 "versions": {"1.2.3": {"name": "cellfs-try", "version": "1.2.3", "dist": dist}}}
        self.pages = {
            "/simple/cellfs-try/": ("text/html", f'<a href="/{wheel.name}">{wheel.name}</a>'.encode()),
            "/cellfs-try": ("application/json", json.dumps(about).encode()),
            f"/{wheel.name}": ("application/zip", wheel.read_bytes()),
            f"/{tarball.name}": ("application/gzip", tarball.read_bytes()),
        }
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        kind, data = self.server.pages.get(self.path, (None, b""))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def test_packages_come_over_the_network_from_the_index_of_who_mounted(wheels, tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    index = Index(wheels / "cellfs_try-1.0-py3-none-any.whl", packed.npm_package(tmp_path, "cellfs-try", "1.2.3"))
    home = tmp_path / "home"
    home.mkdir()
    (home / ".npmrc").write_text(f"registry={index.url}/\n")
    env = {"HOME": str(home), "PIP_INDEX_URL": f"{index.url}/simple", "PIP_TRUSTED_HOST": index.server_address[0]}
    m = mount.Mount(env=env, where=tmp_path / "mnt")
    try:
        c = m.context("a")
        assert value(c, "a.py", "state = 1; state") == "1" and value(c, "a.js", "let state = 1; state") == "1"
        installed(c, "cellfs-try\njs: cellfs-try\n")
        assert "/simple/cellfs-try/" in index.asked and "/cellfs-try" in index.asked
        assert value(c, "b.py", "import cellfs_try; (cellfs_try.VERSION, state)") == "('1.0', 1)"
        assert value(c, "b.js", 'require("cellfs-try").version + state') == "1.2.31"
        r = run(c, "c.py", f"import urllib.request\nurllib.request.urlopen({index.url!r}, timeout=5)")
        assert done(r) == "error"
    finally:
        m.close()
        index.shutdown()
