"""In the virtual machine, as root: runs the suites in every phase, and writes one line of JSON for each to OUT/sums."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET

TOP, BUILD, OUT = map(pathlib.Path, sys.argv[1:4])
JOB = json.loads((OUT / "job").read_text())
CGROUP = pathlib.Path("/sys/fs/cgroup")
USER = 2000  # nobody on the host: the root of the machine is an overlay
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all", "--"]
REAL = BUILD / "cellfs.real"

# Each daemon in a cgroup of its own that belongs to its user, as in a scope with Delegate=yes.
WRAPPER = """#!/bin/sh
d=$CELLFS_VM_CGROUP/daemon.$$
mkdir "$d" && echo $$ >"$d/cgroup.procs" || exit 96
exec "$0.real" "$@"
"""
AS_ROOT = ("hostile",)  # starts the daemon of an ordinary user by itself


def say(text):
    print(text, flush=True)


def note(**what):
    with open(OUT / "sums", "a", encoding="utf-8") as f:
        f.write(json.dumps(what) + "\n")
        f.flush()
        os.fsync(f.fileno())


def sysctl(name, value):
    """Sets it and returns what it was, None where this kernel has none."""
    path = pathlib.Path("/proc/sys") / name.replace(".", "/")
    if not path.exists():
        return None
    was = path.read_text().strip()
    path.write_text(f"{value}\n")
    return was


class Who:
    """Root or the ordinary user, in a phase."""

    def __init__(self, phase, root=False):
        self.phase = phase
        self.root = root or phase == "root"
        self.cgroup = CGROUP / phase
        self.home = BUILD / "tests" / (phase + "-as-root" if root else phase)
        self.home.mkdir(exist_ok=True)
        for d in ("tests", "scopes"):
            (self.cgroup / d).mkdir(parents=True, exist_ok=True)
        for d in (self.cgroup, self.cgroup / "scopes"):
            give = " ".join("+" + c for c in (d / "cgroup.controllers").read_text().split())
            (d / "cgroup.subtree_control").write_text(give)
        if not self.root:
            os.chown(self.home, USER, USER)
        if phase != "bare":  # anybody may make a group in `scopes`, and move there from `tests`
            (self.cgroup / "scopes").chmod(0o777)
            (self.cgroup / "cgroup.procs").chmod(0o666)

    def argv(self, argv):
        argv = [str(a) for a in argv]
        if self.root:
            return argv
        return AS_USER + argv

    def env(self):
        env = {k: os.environ[k] for k in ("PATH", "LANG")}
        env.update(JOB["env"])
        env.update(
            HOME=str(self.home), TMPDIR="/tmp", USER="root" if self.root else "tester", TERM="dumb",
            CELLFS_BUILD=str(BUILD), CELLFS_VM=self.phase, PYTHONDONTWRITEBYTECODE="1",
            PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        )
        if self.phase != "bare":
            env["CELLFS_VM_CGROUP"] = str(self.cgroup / "scopes")
        return env

    def run(self, argv, seconds):
        """The exit status, None if it took too long."""
        with subprocess.Popen(
            self.argv(argv), cwd=TOP, env=self.env(), stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=lambda: (self.cgroup / "tests" / "cgroup.procs").write_text("0"),
        ) as p:
            try:
                return p.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(p.pid, signal.SIGINT)  # pytest writes its sums
                try:
                    p.wait(30)
                except subprocess.TimeoutExpired:
                    self.end()
                return None

    def end(self):
        """Nothing of this phase outlives it."""
        (self.cgroup / "cgroup.kill").write_text("1")


def suite(who, where):
    xml = OUT / (re.sub(r"[^A-Za-z0-9_.]+", "-", f"{who.phase}.{where}") + ".xml")
    mine = who.home / "sum.xml"
    say(f"\n---- {who.phase}: tests/{where}")
    start = time.monotonic()
    argv = ["/usr/bin/python3", "-m", "pytest", "-q", "-rfEs", "--tb=short", "-p", "no:cacheprovider"]
    path, _, only = where.partition(" ")
    rc = who.run(argv + [f"--junitxml={mine}", f"tests/{path}"] + (["-k", only] if only else []), JOB["seconds"])
    passed = failed = skipped = 0
    try:
        for case in ET.parse(mine).getroot().iter("testcase"):
            kinds = {child.tag for child in case}
            if kinds & {"failure", "error"}:
                failed += 1
            elif "skipped" in kinds:
                skipped += 1
            else:
                passed += 1
        xml.write_bytes(mine.read_bytes())
        mine.unlink()
    except (OSError, ET.ParseError) as e:
        say(f"tests/{where}: no sums: {e}")
    if rc is None:
        say(f"tests/{where} took more than {JOB['seconds']} s and was ended")
    if (rc != 0 and not failed) or not passed:
        failed += 1
    who.end()
    note(phase=who.phase, suite=where, passed=passed, failed=failed, skipped=skipped,
         seconds=round(time.monotonic() - start))


# ---- a host where no box can be made -------------------------------------------------------------


def mounted(path):
    """Not os.path.ismount: even root may not look at a user's mount."""
    return f" {path} " in pathlib.Path("/proc/self/mounts").read_text()


# What a container runtime does to /proc: the kernel then lets no user namespace mount one of its own.
MASK = 'mount -t tmpfs none /proc/acpi; mount --bind /proc/sys /proc/sys; exec "$@"'
MASKED = ["unshare", "-m", "sh", "-ec", MASK, "sh"]


def start(who, opts="", before=()):
    """Mounts and unmounts at once: (exit status or None while it stays up, its stderr, `status`)."""
    state, mnt = who.home / f"state.{time.monotonic_ns()}", who.home / f"mnt.{time.monotonic_ns()}"
    log = who.home / "log"
    for d in (state, mnt):
        d.mkdir()
        if not who.root:
            os.chown(d, USER, USER)
    with open(log, "w+", encoding="utf-8") as f, subprocess.Popen(
        [*before, *who.argv([REAL, "-f", state, mnt] + (["-o", opts] if opts else []))], env=who.env(),
        stdin=subprocess.DEVNULL, stdout=f, stderr=f, start_new_session=True,
    ) as p:
        stop = time.monotonic() + JOB["patience"]
        while p.poll() is None and not mounted(mnt) and time.monotonic() < stop:
            time.sleep(0.05)
        status = ""
        if p.poll() is None and mounted(mnt):
            shown = subprocess.run(
                ([] if who.root else AS_USER) + ["cat", mnt / "status"], capture_output=True, text=True,
                timeout=JOB["patience"],
            )
            status = shown.stdout + shown.stderr
        rc = p.poll()
        if rc is None:
            subprocess.run(["umount", str(mnt)], check=False)
            try:
                p.wait(JOB["patience"])
            except subprocess.TimeoutExpired:
                p.kill()
                subprocess.run(["umount", "-l", str(mnt)], check=False)
        f.seek(0)
        return rc, f.read(), status


def refusals():
    """sandbox.md 1.4: it refuses with the cause and what mends it, or it mounts and says what it has."""
    user, root = Who("user"), Who("root")
    switch, most = "kernel.unprivileged_userns_clone", "user.max_user_namespaces"
    proc = "systempaths=unconfined"
    #  name, sysctl or MASKED, value, who, options, what stderr says when it refuses or None, what `status` says
    cases = [
        ("as ever, user", "", "keep", user, "", None, r"isolation: full"),
        ("as ever, root", "", "keep", root, "", None, r"isolation: full"),
        ("no userns for users, user", switch, 0, user, "", [switch], None),
        ("no userns for users, root", switch, 0, root, "", None, r"isolation: full"),
        ("no userns for users, weak", switch, 0, user, "sandbox=weak", None, r"isolation: weak"),
        ("no userns for users, none", switch, 0, user, "sandbox=none", None, r"isolation: none"),
        ("no userns at all, user", most, 0, user, "", [most], None),
        ("no userns at all, root", most, 0, root, "", [most], None),
        ("/proc is masked, user", MASKED, "keep", user, "", [proc], None),
        ("/proc is masked, root", MASKED, "keep", root, "", [proc], None),
    ]
    begin = time.monotonic()
    passed = failed = skipped = 0
    say("\n---- refusals")
    for name, key, value, who, opts, says, shows in cases:
        was = sysctl(key, value) if value != "keep" else ""
        if was is None:
            say(f"skipped  {name}: this kernel has no {key}")
            skipped += 1
            continue
        try:
            rc, err, status = start(who, opts, key if key is MASKED else ())
        finally:
            if was:
                sysctl(key, was)
        if says:
            good = rc not in (None, 0) and all(s in err for s in says)
        else:
            good = rc is None and re.search(shows, status)
        say(f"{'passed ' if good else 'FAILED '}  {name}")
        for line in [] if good and not says else [f"exit status {rc}"] + err.splitlines() + status.splitlines():
            say(f"           {line}")
        passed, failed = passed + bool(good), failed + (not good)
    note(phase="refusals", suite="", passed=passed, failed=failed, skipped=skipped,
         seconds=round(time.monotonic() - begin))


# ---- a machine with systemd ----------------------------------------------------------------------


def systemd():
    """Where the daemon gets its cgroups from, when systemd has them."""
    begin = time.monotonic()
    passed = failed = 0
    say("\n---- systemd")
    subprocess.run(["loginctl", "enable-linger", "tester"], check=False)  # a user manager without a login
    run_dir = f"/run/user/{USER}"
    manager = f"{run_dir}/systemd/private"
    stop = time.monotonic() + 3 * JOB["patience"]
    while not os.path.exists(manager) and time.monotonic() < stop:
        time.sleep(0.2)
    if not os.path.exists(manager):
        say("no user manager:")
        subprocess.run(["journalctl", "--no-pager", "-b", "-n", "60"], check=False)
    bus = f"unix:path={run_dir}/bus"
    as_user = AS_USER + ["env", f"XDG_RUNTIME_DIR={run_dir}", f"DBUS_SESSION_BUS_ADDRESS={bus}"]
    scope = ["systemd-run", "--user", "--scope", "-q"]
    #  name, what starts the daemon, as root?
    cases = [
        ("user, systemd-run --user --scope -p Delegate=yes", as_user + scope + ["-p", "Delegate=yes", "--"], False),
        ("user, in a scope that is not delegated: it asks", as_user + scope + ["--"], False),
        ("user, in a session: it asks", ["su", "-l", "-s", "/bin/sh", "tester", "-c", 'exec "$0" "$@"', "--"], False),
        ("root, in a service with Delegate=yes", ["systemd-run", "-q", "--pipe", "-p", "Delegate=yes", "--"], True),
        ("root, systemd-run --scope: it asks", ["systemd-run", "--scope", "-q", "--"], True),
    ]
    for name, starter, root in cases:
        who = Seen("systemd", root, starter)
        rc, err, status = start(who)
        good = rc is None and re.search(r"\bcgroup v2: memory pids cpu\b", status)
        say(f"{'passed ' if good else 'FAILED '}  {name}")
        for line in [] if good else [f"exit status {rc}"] + err.splitlines() + status.splitlines():
            say(f"           {line}")
        passed, failed = passed + bool(good), failed + (not good)
    note(phase="systemd", suite="", passed=passed, failed=failed, skipped=0, seconds=round(time.monotonic() - begin))


class Seen(Who):
    """Whom systemd starts. Its groups are not ours."""

    def __init__(self, phase, root, starter):  # pylint: disable=super-init-not-called
        self.phase, self.root, self.starter = phase, root, starter
        self.home = BUILD / "tests" / f"{phase}.{'root' if root else 'user'}"
        self.home.mkdir(exist_ok=True)
        if not root:
            os.chown(self.home, USER, USER)

    def argv(self, argv):
        return self.starter + [str(a) for a in argv]

    def env(self):
        return dict(os.environ)


def main():
    say(f"cellfs-vm: Linux {os.uname().release}, {os.cpu_count()} CPUs, {time.monotonic():.0f} s after power on")
    (BUILD / "tests").chmod(0o1777)
    with open("/etc/passwd", "a", encoding="ascii") as f:
        f.write(f"tester:x:{USER}:{USER}::{BUILD / 'tests' / 'user'}:/bin/sh\n")
    with open("/etc/group", "a", encoding="ascii") as f:
        f.write(f"tester:x:{USER}:\n")
    with open("/etc/shadow", "a", encoding="ascii") as f:
        f.write("tester:*:20000::::::\n")  # PAM wants one
    os.rename(BUILD / "cellfs", REAL)
    for phase in JOB["phases"]:
        wrapper = BUILD / "cellfs"
        wrapper.unlink(missing_ok=True)
        if phase == "bare":
            os.symlink(REAL, wrapper)
        else:
            wrapper.write_text(WRAPPER)
            wrapper.chmod(0o755)
        if phase in ("refusals", "systemd"):
            refusals() if phase == "refusals" else systemd()
            continue
        for where in JOB["suites"]:
            own = where.split("/")[0] in AS_ROOT
            if own and phase == "user":
                say(f"\n---- {phase}: tests/{where} has been run by root, for both")
            else:
                suite(Who(phase, root=own), where)
    note(end=True)


main()
