"""What only the Bash driver does."""

import pytest

ONLY = ("bash",)

ENDS = {
    "exit": "exit 3",
    "function": "f() { local kept=local; g; }; g() { local kept=inner other=1; exit 3; }; f",
    "errexit": "set -e; false",
    "nounset": "set -u; echo $absent_variable",
    "expansion": "echo ${absent_variable?needed}",
    "syntax": "if; fi",
}


@pytest.fixture
def run(driver):
    def runner(code, **options):
        return driver.run(code, "a.sh", **options)

    return runner


SETUP = r"""
kept=1
nl=$'two\nlines "and" $quotes \\'
declare -a list=(1 '2 3' [7]=x)
declare -A map=([k]='v w' [$'a\nb']=2)
declare -i number=4
declare -n ref=kept
declare -r fixed=9
export shown=yes
declare -x empty=
declare unset_one
alias greet='echo hello'
hello() { echo "hi $1"; }
export -f hello
shopt -s extglob nullglob
set -f -o pipefail
umask 027
mkdir -p 'sub dir'; cd 'sub dir'
trap 'echo usr' USR1
set -- one 'two three'
IFS=:
"""

SHOW = r"""
declare -p kept nl list map number ref fixed shown empty IFS
declare -p unset_one 2>&1
greet
hello you
bash -c 'hello child'
shopt extglob nullglob
echo "$- $(set -o | grep pipefail) $(umask) ${PWD##*/} $# $2"
trap -p USR1
number+=1; echo $number; number=4
echo $OLDPWD
"""


@pytest.mark.parametrize("end", sorted(ENDS))
def test_all_state_is_kept(start, end):
    driver = start()
    assert driver.run(SETUP, "a.sh").status == "ok"
    before = driver.run(SHOW, "a.sh")
    driver.run(ENDS[end], "b.sh")
    after = driver.run(SHOW, "a.sh")
    assert after.stdout == before.stdout and after.stderr == before.stderr
    assert "hi child" in after.stdout and 'kept="1"' in after.stdout


def test_all_state_is_kept_over_an_interrupt(start):
    driver = start()
    driver.run(SETUP, "a.sh")
    before = driver.run(SHOW, "a.sh").stdout
    number = driver.start("f() { local kept=2; echo on; while :; do :; done; }; f", "a.sh")
    driver.until(lambda out: b"on" in out)
    assert driver.stop(number)[0].status == "interrupted"
    assert driver.run(SHOW, "a.sh").stdout == before


def test_status_of_the_last_command_is_the_run_s(run):
    done = run("true\nls /absent/file 2>/dev/null")
    assert (done.status, done.done["code"]) == ("error", 2)
    assert done.error["name"] == "ExitStatus" and done.error["line"] == 2
    assert done.error["message"].startswith("exit status 2") and "ls" in done.error["message"]
    assert run("false\ntrue").status == "ok"


def test_return_ends_the_cell(run):
    done = run("echo a; return 4; echo b")
    assert (done.status, done.done["code"], done.stdout) == ("error", 4, "a\n")


def test_errexit(run):
    done = run("set -e\necho a\nfalse\necho b")
    assert (done.status, done.done["code"], done.stdout) == ("error", 1, "a\n")
    assert done.error["line"] == 3
    assert run("false; echo goes on").stdout == "goes on\n"


def test_nounset(run):
    done = run("set -u\necho a\necho $nope\necho b")
    assert done.status == "error" and done.stdout == "a\n" and "nope" in done.stderr
    assert run("echo [$nope]").stdout == "[]\n"


def test_options_last_over_cells_but_not_in_the_driver(run):
    done = run("set -u; set -f; set -C")
    assert done.status == "ok"
    assert "u" in run("echo $-").stdout
    assert run("echo *; set +ufC").stdout == "*\n"


def test_xtrace_shows_the_cell_alone(run):
    run("set -x")
    done = run("echo hi")
    assert done.stderr.splitlines()[-1] == "++ echo hi" and len(done.stderr.splitlines()) <= 2
    run("set +x")


def test_exit_trap_runs_when_the_cell_exits(run):
    done = run("trap 'echo bye' EXIT\nexit 3")
    assert (done.status, done.done["code"], done.stdout) == ("exit", 3, "bye\n")
    assert run("exit 0").stdout == ""


def test_exit_trap_of_a_subshell(run):
    assert run("(trap 'echo sub' EXIT; exit 1); echo after").stdout == "sub\nafter\n"


def test_exit_without_a_number_has_the_last_status(run):
    assert run("(exit 6); exit").done["code"] == 6


def test_lines_and_names(run):
    assert run("\n\necho $LINENO ${BASH_SOURCE##*/} $0").stdout == "3 a.sh bash\n"


def test_message_of_bash_names_the_file(run):
    assert "a.sh: line 2: nonsense" in run("\nnonsense").stderr


@pytest.mark.parametrize("code,line", [("echo a\nif true; then\n", 3), ("echo 'a\n", 1),
                                       ("x=(1\n", 2), ("\nfi", 2)])
def test_syntax_errors(run, code, line):
    done = run(code)
    assert (done.status, done.done["code"], done.error["name"]) == ("error", 2, "SyntaxError")
    assert abs(done.error["line"] - line) <= 1  # versions of Bash differ at the end of the file


def test_a_command_s_status_two_is_no_syntax_error(run):
    assert run("(exit 2)").error["name"] == "ExitStatus"


@pytest.mark.parametrize("file,mime", [
    ("p.png", "image/png"), ("p.html", "text/html"), ("p.svg", "image/svg+xml"),
    ("p.md", "text/markdown"), ("p.json", "application/json"), ("p.pdf", "application/pdf")])
def test_display_by_extension(run, file, mime):
    done = run(f"echo content > {file}; display {file}")
    assert done.displays[0]["data"] == {mime: b"content\n"}


@pytest.mark.parametrize("head,mime", [
    ("\\x89PNG\\r\\n", "image/png"), ("\\xff\\xd8\\xff", "image/jpeg"),
    ("%%PDF-1", "application/pdf"),
    ("<svg/>", "image/svg+xml"), ("words", "text/plain")])
def test_display_by_content(run, head, mime):
    assert list(run(f"printf '{head}' > blob; display blob").displays[0]["data"]) == [mime]


def test_display_with_mime_and_from_stdin(run):
    assert run("echo x | display - text/x-own").displays[0]["data"] == {"text/x-own": b"x\n"}


def test_display_refuses(run):
    for code in ("display", "display /absent/file", "display /etc/hostname 'a\"b'"):
        done = run(code)
        assert done.status == "error" and not done.displays and done.stderr


def test_odd_bytes_in_an_error_make_valid_json(run):
    done = run(b"f$'\\xff\"\\x01' 2>/dev/null\n'\xff\"\x01\\' 2>/dev/null")
    assert done.status == "error" and done.error["name"] == "ExitStatus"


def test_a_cell_s_functions_and_aliases_do_not_reach_the_driver(start):
    driver = start()
    driver.run("cd() { echo CD; builtin cd \"$@\"; }\nprintf() { echo PF; }\nread() { echo RD; }\n"
               "source() { echo SRC; }\nalias eval='echo EV'; alias local='echo LC'", "a.sh")
    done = driver.run("exit 3", "a.sh", cwd="/usr", env={"A": "1"})
    assert (done.status, done.stdout, done.stderr) == ("exit", "", "")
    assert driver.run("pwd", "a.sh").stdout == f"{driver.cwd}\n"
    assert driver.run("read x", "a.sh").stdout == "RD\n"


def test_background_jobs_are_kept_over_cells(run):
    run("sleep 0.05 & job=$!")
    assert run("wait $job; echo $?").stdout == "0\n"


def test_history_expansion_is_off(run):
    assert run("echo 'a!b' \"c!d\"").stdout == "a!b c!d\n"


def test_positional_parameters_last(run):
    run("set -- a 'b c'")
    assert run("echo $# $2").stdout == "2 b c\n"
    run("set --")


def test_debug_trap_and_err_trap_of_a_cell(run):
    assert run("trap 'echo err' ERR; false; trap - ERR; false; true").stdout == "err\n"
