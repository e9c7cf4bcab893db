"""Bash through the mount."""

import json
import os

import pytest

from control.steps import ending, kernel, record, says
from mount import PATIENCE, done, host_pid, read, read_bytes, run, within, write


def out(ctx, code, cell="a.sh"):
    return read(run(ctx, cell, code) / "stdout")


STATE = {
    "variable": ("x=5", "echo $x", "5\n"),
    "array": ("declare -A m=([a]=1 [b]='2 3')", "echo ${m[b]}", "2 3\n"),
    "function": ("f() { echo f$1; }", "f 1", "f1\n"),
    "alias": ("shopt -s expand_aliases; alias hi='echo hi'", "hi", "hi\n"),
    "export": ("export X=1", "env | grep ^X=", "X=1\n"),
    "cd": ("cd /usr", "pwd", "/usr\n"),
    "umask": ("umask 027", "umask", "0027\n"),
    "option": ("shopt -s nullglob", "echo x*nosuch*", "\n"),
}


@pytest.mark.parametrize("end", ["", "; exit 0", "; exit 3", "; set -e; false", "; set -u; echo $nosuch", "; false", "; kill -INT $$; sleep 9"])
def test_the_state_is_kept_across_every_end(ctx, end):
    r = run(ctx, "a.sh", "\n".join(first for first, _, _ in STATE.values()) + end + "\n")
    done(r)
    for name, (_, second, want) in STATE.items():
        assert out(ctx, second + "\n") == want, name
    assert kernel(ctx, "bash")["generation"] == 1


@pytest.mark.parametrize(
    "code,status,n,name",
    [
        ("true", "ok", 0, None),
        ("false", "error", 1, "ExitStatus"),
        ("exit 42", "error", 42, "ExitStatus"),
        ("false; true", "ok", 0, None),
        ("nosuchcommand", "error", 127, "ExitStatus"),
        ("(exit 255)", "error", 255, "ExitStatus"),
        ("sh -c 'kill -9 $$'", "error", 137, "ExitStatus"),
        ("", "ok", 0, None),
        ("return 3", "error", 3, "ExitStatus"),
        ("true | false", "error", 1, "ExitStatus"),
    ],
)
def test_exit_code_is_the_cells_own(ctx, code, status, n, name):
    r = run(ctx, "a.sh", code + "\n")
    assert done(r) == status and read(r / "exit_code") == f"{n}\n"
    rec = record(r)
    assert rec["exit_code"] == n and (rec["error"] or {}).get("name") == name
    assert (r / "error.txt").exists() == (status == "error")


@pytest.mark.parametrize("code,line", [("echo a\nif\n", None), ("echo a\necho b)\n", 2), ("echo 'a\n", None), ("f() {\n", None)])
def test_a_syntax_error_has_its_line(ctx, code, line):
    r = run(ctx, "a.sh", code)
    assert done(r) == "error"
    e = json.loads(read(r / "error.json"))
    assert e["line"] if line is None else e["line"] == line, e
    assert "syntax error" in read(r / "error.txt") + read(r / "stderr") or "unexpected" in read(r / "error.txt") + read(r / "stderr")
    assert out(ctx, "echo on\n") == "on\n"


def test_a_failing_command_has_its_line(ctx):
    r = run(ctx, "a.sh", "echo a\nset -e\nls /nosuch\necho no\n")
    assert done(r) == "error" and json.loads(read(r / "error.json"))["line"] == 3
    assert read(r / "stdout") == "a\n" and "nosuch" in read(r / "stderr")


def test_stdin_is_empty_and_the_terminal_none(ctx):
    with within(PATIENCE):
        assert out(ctx, "cat; read x; echo rc $?; [ -t 1 ] || echo no tty\n") == "rc 1\nno tty\n"


def test_the_line_numbers_and_the_name_are_the_files(ctx):
    assert out(ctx, "\necho $LINENO ${BASH_SOURCE##*/}\n").split()[0] == "2"


@pytest.mark.parametrize("ext", ["sh", "bash"])
def test_both_extensions_share_one_kernel(ctx, ext):
    assert done(run(ctx, "a.sh", "x=5\n")) == "ok"
    assert out(ctx, "echo $x\n", "b." + ext) == "5\n" and list(json.loads(read(ctx / "context.json"))["kernels"]) == ["bash"]


def test_nul_bytes_and_bytes_that_are_no_text(ctx):
    r = run(ctx, "a.sh", b"printf '%s' '\xff\xfe'\n")
    assert done(r) == "ok" and read_bytes(r / "stdout") == b"\xff\xfe"
    r = run(ctx, "b.sh", b"echo a\0b\n")
    assert done(r) in ("ok", "error") and read_bytes(r / "code") == b"echo a\0b\n"
    assert out(ctx, "echo on\n") == "on\n"


def test_display_of_a_file(ctx):
    r = run(ctx, "a.sh", "printf '<b>x</b>' > t.html; display t.html; display t.html text/plain\n")
    assert done(r) == "ok", read(r / "report.md")
    assert read(r / "display-1.html") == "<b>x</b>\n" and read(r / "display-2.txt") == "<b>x</b>\n"


def test_a_set_e_of_one_cell_does_not_end_the_kernel(ctx):
    assert done(run(ctx, "a.sh", "set -e\ntrue\n")) == "ok"
    assert done(run(ctx, "b.sh", "false\n")) == "error"
    assert out(ctx, "echo on\n") == "on\n" and kernel(ctx, "bash")["generation"] == 1


def test_jobs_go_on_and_are_interrupted_with_their_cell_only(ctx):
    r = run(ctx, "a.sh", "sleep 1000 & echo $!\n")
    assert done(r) == "ok"
    pid = int(read(r / "stdout"))
    job = host_pid(ctx, pid)
    r = run(ctx, "b.sh", "echo go; sleep 1000\n")
    says(r, "go")
    write(ctx / "ctl", "interrupt\n")
    assert done(r) == "interrupted"
    with ending(job):  # of an earlier cell, so it is there
        assert done(run(ctx, "c.sh", f"kill {pid}\n")) == "ok"
