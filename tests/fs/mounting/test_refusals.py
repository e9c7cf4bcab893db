"""Hosts where no box can be made: nothing is mounted, the cause and its mend are told, the exit status is not 0.

Each host is played: by a seccomp program, in a user namespace of its own, below a /proc that is masked. The cases that
need another kernel are in tests/vm."""

import ctypes
import os
import pathlib
import struct
import subprocess
import tempfile

import pytest

from mount import BUILD

libc = ctypes.CDLL(None, use_errno=True)
CLONE3, EPERM, ENOSYS = 435, 1, 38
NOBODY = 65534


def refuse(number, err):
    """A seccomp program that answers one system call with an error, for this process and what it starts."""
    def op(code, jt, jf, k):
        return struct.pack("HBBI", code, jt, jf, k)
    program = op(0x20, 0, 0, 0) + op(0x15, 0, 1, number) + op(0x06, 0, 0, 0x50000 | err) + op(0x06, 0, 0, 0x7FFF0000)
    memory = ctypes.create_string_buffer(program)
    fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(memory)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, fprog, 0, 0) == 0, os.strerror(ctypes.get_errno())


def mount_nobody(masked):
    """A mount namespace of its own, where nobody could mount; as nobody."""
    assert libc.unshare(0x00020000) == 0
    assert libc.mount(b"none", b"/", None, 0x4000 | (1 << 18), None) == 0
    node = tempfile.mktemp(prefix="cellfs-fuse-")
    os.mknod(node, 0o20666, os.makedev(10, 229))
    os.chmod(node, 0o666)
    assert libc.mount(node.encode(), b"/dev/fuse", None, 4096, None) == 0
    os.unlink(node)
    if masked:
        what = next(f for f in ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/uptime") if os.path.exists(f))
        assert libc.mount(b"/dev/null", what.encode(), None, 4096, None) == 0
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


@pytest.fixture
def place():
    with tempfile.TemporaryDirectory(prefix="cellfs-refusal-") as d:
        os.chmod(d, 0o777)
        os.mkdir(d + "/mnt", 0o777)
        os.chmod(d + "/mnt", 0o777)
        yield pathlib.Path(d)


def cellfs(place, *options, prepare=None, before=()):
    return subprocess.run([*before, str(BUILD / "cellfs"), "-f", str(place / "state"), str(place / "mnt"), *options],
                          preexec_fn=prepare, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def check(place, r, *words):
    assert r.returncode == 1, r
    for word in ("no kernel can be isolated here, so nothing is mounted", "cause:", "mend:", "sandbox=weak", *words):
        assert word in r.stderr, r.stderr
    assert not os.path.ismount(place / "mnt")


def test_namespaces_are_blocked_by_a_containers_seccomp(place):
    check(place, cellfs(place, prepare=lambda: refuse(CLONE3, EPERM)), "--security-opt seccomp=")


def test_clone3_is_blocked_by_a_containers_seccomp(place):
    check(place, cellfs(place, prepare=lambda: refuse(CLONE3, ENOSYS)), "clone3", "--security-opt seccomp=")


def test_mount_is_blocked_by_a_containers_seccomp(place):
    check(place, cellfs(place, prepare=lambda: refuse(165, EPERM)), "Operation not permitted")


def test_no_user_namespaces_are_left(place):
    r = cellfs(place, before=["unshare", "-Urm", "sh", "-c", 'echo 0 >/proc/sys/user/max_user_namespaces; exec "$@"', "sh"])
    check(place, r, "user.max_user_namespaces", "sysctl -w user.max_user_namespaces=10000")


def test_a_masked_proc(place):
    check(place, cellfs(place, prepare=lambda: mount_nobody(True)), "/proc", "--security-opt systempaths=unconfined")


def test_root_of_a_user_namespace_with_one_uid(place):
    check(place, cellfs(place, before=["unshare", "-Urm"]))


def test_the_same_user_could_mount_without_the_mask(place):
    """So that the case above is about the mask alone."""
    p = subprocess.Popen([str(BUILD / "cellfs"), "-f", str(place / "state"), str(place / "mnt")],
                         preexec_fn=lambda: mount_nobody(False), stderr=subprocess.PIPE, text=True)
    try:
        line = ""
        while "mounted at" not in line:
            line = p.stderr.readline()
            assert line, "it ended"
    finally:
        p.terminate()
        assert p.wait(30) == 0


def test_in_the_background_the_status_and_the_text_are_the_same(place):
    r = subprocess.run([str(BUILD / "cellfs"), str(place / "state"), str(place / "mnt")],
                       preexec_fn=lambda: refuse(CLONE3, EPERM), capture_output=True, text=True, timeout=60)
    check(place, r)


@pytest.mark.parametrize("mode", ["weak", "none"])
def test_only_in_writing_it_does_without(place, mode):
    def prepare():
        mount_nobody(True)
    p = subprocess.Popen([str(BUILD / "cellfs"), "-f", str(place / "state"), str(place / "mnt"), "-o", "sandbox=" + mode],
                         preexec_fn=prepare, stderr=subprocess.PIPE, text=True)
    said = ""
    try:
        while "mounted at" not in said:
            line = p.stderr.readline()
            assert line, said
            said += line
        nobody = ["nsenter", "-t", str(p.pid), "-m", "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        cell = f"cd {place}/mnt/contexts/main && echo 'echo $((6 * 7))' >cells/a.sh && cat results/a.sh/report.md results/a.sh/stdout"
        r = subprocess.run([*nobody, "sh", "-c", cell], capture_output=True, text=True, timeout=60)
        assert r.stdout.endswith("\n42\n"), r
    finally:
        p.terminate()
        assert p.wait(30) == 0
    assert "isolation: %s: " % mode in said
