"""The bridge to Jupyter's kernels: what each of them does, and what a kernel nobody has heard of can make of it."""

import base64
import json
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys

import pytest

import snippets_jupyter
from conversation import KERNELS, PATIENCE, Driver, manifests, probe

TINY = pathlib.Path(__file__).with_name("tiny_kernel.py")
PYTHON = probe(manifests()["jupyter"])[0]
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def tiny(**changes):
    return snippets_jupyter.command({
        "name": "tiny", "argv": [PYTHON, str(TINY), "{connection_file}"], "env": {"TINY_EXTENSION": ".tiny"},
        "resource_dir": str(TINY.parent), **changes})


@pytest.fixture(scope="module")
def shared_tiny():
    made = Driver(tiny())
    yield made
    made.close()


@pytest.fixture
def driver(shared_tiny):
    yield shared_tiny
    assert shared_tiny.waited is None


@pytest.fixture
def start():
    started = []

    def starter(*argv, **settings):
        started.append(Driver(*argv, **settings))
        return started[-1]

    yield starter
    for made in started:
        made.close()


def test_hello_tells_the_language(driver):
    assert driver.hello["lang"] == "jupyter" and driver.hello["engine"] == "tiny 1.0" and driver.hello["ver"] == "0.1"
    assert (driver.hello["language"], driver.hello["extension"], driver.hello["comment"]) == ("tiny", ".tiny", "#|")


def test_output_and_value(driver):
    done = driver.run('print a\nwarn b\nvalue {"text/plain": "7", "application/x-own": "kept", "application/json": {"a": [1]}}')
    assert (done.status, done.stdout, done.stderr) == ("ok", "a\n", "b\n")
    assert done.value == {"text/plain": "7", "application/x-own": "kept", "application/json": {"json": {"a": [1]}}}


def test_only_the_first_result_is_the_result(driver):
    done = driver.run('value {"text/plain": "1"}\nvalue {"text/plain": "2"}')
    assert done.value == {"text/plain": "1"} and [d["data"]["text/plain"] for d in done.displays] == ["2"]


def test_binary_is_decoded_and_goes_by_file(driver):
    bundle = {"image/png": base64.b64encode(PNG).decode(), "image/svg+xml": "<svg/>", "text/html": ["<b>", "x</b>"]}
    done = driver.run("show " + json.dumps({"data": bundle, "metadata": {"image/png": {"width": 3}}}))
    assert done.displays[0]["data"] == {"image/png": PNG, "image/svg+xml": "<svg/>", "text/html": "<b>x</b>"}
    assert done.displays[0]["meta"] == {"image/png": {"width": 3}}


def test_what_is_no_base64_is_kept_as_it_is(driver):
    done = driver.run('show {"data": {"image/png": "not base64!"}}')
    assert done.displays[0]["data"] == {"image/png": "not base64!"}


def test_updates_and_clears(driver):
    one = {"data": {"text/plain": "1"}, "transient": {"display_id": "d"}}
    two = {"data": {"text/plain": "2"}, "transient": {"display_id": "d"}}
    done = driver.run(f"show {json.dumps(one)}\nupdate {json.dumps(two)}\nclear wait\nclear")
    assert [(d["kind"], d["display_id"], d["data"]["text/plain"]) for d in done.displays] == [
        ("display", "d", "1"), ("update", "d", "2")]
    assert [event["wait"] for event in done.of("clear")] == [True, False]


def test_order_of_prints_and_displays(driver):
    done = driver.run("".join(f'print {i}\nshow {{"data": {{"text/plain": "{i}"}}}}\n' for i in range(100)))
    got = b"".join(what if fd == 1 else what["data"]["text/plain"].encode() + b";"
                   for fd, what in done.order if fd == 1 or what["ev"] == "display")
    assert got == b"".join(b"%d\n%d;" % (i, i) for i in range(100))


def test_error_without_colours_with_its_line(driver):
    done = driver.run("print before\n\nraise no")
    assert (done.status, done.stdout) == ("error", "before\n")
    assert (done.error["name"], done.error["message"], done.error["line"]) == ("ValueError", "no", 3)
    assert done.error["frames"] == [{"file": "a.py", "line": 3, "func": ""}]
    assert done.error["traceback"] == ["a.py, line 3", "Line 3 of the cell", "  raise no", "ValueError: no"]


def test_messages_that_mean_nothing_here_are_ignored(driver):
    assert driver.run("comm\nforge\njunk\nprint fine").stdout == "fine\n"


def test_a_page_is_printed(driver):
    assert driver.run("page help").stdout == "help\n"


def test_what_comes_after_the_end_is_late(driver):
    done = driver.run("print now\nlate later")
    assert done.stdout in ("now\n", "now\nlater\n")
    if done.stdout == "now\n":
        driver.until(lambda out: out == b"later\n")
        driver.late[1].clear()


def test_a_kernel_that_never_replies_is_given_up(driver):
    done = driver.run("print x\nmute")
    assert (done.status, done.stdout, done.error["name"]) == ("error", "x\n", "Aborted")
    assert driver.run("print on").stdout == "on\n"


def test_its_own_stdout_counts_where_it_is_no_echo(start):
    driver = start(tiny())
    assert driver.run("raw from the process").stdout == "from the process\n"
    assert sorted(driver.run("print a\nraw b").stdout.split()) == ["a", "b"]


def test_an_echo_is_not_printed_twice(start):
    driver = start(tiny())
    assert driver.run("both once").stdout == "once\n"
    assert driver.run("both twice\nboth thrice").stdout == "twice\nthrice\n"


def test_input_is_refused(driver):
    done = driver.run("input name?\nprint behind")
    assert (done.status, done.error["name"]) == ("error", "StdinUnavailable") and "no stdin" in done.error["message"]
    assert driver.run("print on").stdout == "on\n"


def test_interrupt_by_signal(driver):
    run = driver.start("wait", "a.tiny")
    driver.until(lambda out: b"waiting" in out)
    done, tries = driver.stop(run)
    assert (done.status, tries, done.error["name"]) == ("interrupted", 1, "KeyboardInterrupt")
    assert driver.run("print on").stdout == "on\n"


def test_interrupt_by_message(start):
    driver = start(tiny(interrupt_mode="message"))
    run = driver.start("control", "a.tiny")
    driver.until(lambda out: b"waiting" in out)
    done, tries = driver.stop(run)
    assert (done.status, tries, done.error["message"]) == ("interrupted", 1, "interrupt_request")


def test_an_unknown_language_refuses_env_and_cwd(driver, tmp_path):
    for options in ({"env": {"A": "1"}}, {"cwd": str(tmp_path)}):
        done = driver.run("print never", **options)
        assert (done.status, done.error["name"], done.stdout) == ("error", "NotSupported", "")
        assert "tiny" in done.error["message"]
    done = driver.run("print never", cwd=f"{tmp_path}/absent")
    assert done.error["name"] == "FileNotFoundError"
    assert driver.run("print on").stdout == "on\n"


def test_set_in_an_unknown_language_asks_for_a_restart(start):
    driver = start(tiny(), env={"WAS": "1"})
    assert driver.run("env WAS").stdout == "1\n"
    driver.send({"op": "set", "env": {"WAS": "2"}})
    done = driver.run("env WAS")
    assert done.error["name"] == "NotSupported" and "config/env/WAS" in done.error["message"]
    assert "restart" in done.error["message"]
    driver.send({"op": "set", "env": {"WAS": "1"}})
    assert driver.run("env WAS").stdout == "1\n"


@pytest.mark.parametrize("code", [0, 3])
def test_exit_of_the_kernel(start, code):
    driver = start(tiny())
    done = driver.run(f"print x\nexit {code}")
    assert (done.status, done.done["code"], done.stdout) == ("exit", code, "x\n")
    assert done.done["lost"] == f"its process ended with exit code {code}"


def test_what_a_kernel_sent_before_its_end_is_not_lost_on_a_busy_machine(start):
    """ZeroMQ's thread hears of it later than the bridge of the end."""
    driver = start(tiny())
    driver.run("print x")
    (cpu, *_) = os.sched_getaffinity(0)
    for task in os.listdir(f"/proc/{driver.pid}/task"):
        os.sched_setaffinity(int(task), [cpu])
        if pathlib.Path(f"/proc/{driver.pid}/task/{task}/comm").read_text().startswith("ZMQ"):
            os.sched_setscheduler(int(task), os.SCHED_IDLE, os.sched_param(0))
    spin = f"import os\nos.sched_setaffinity(0, [{cpu}])\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin], stdout=subprocess.PIPE) as busy:
        try:
            busy.stdout.readline()
            done = driver.run("print y\nexit 3")
        finally:
            busy.kill()
    assert (done.status, done.done["code"], done.stdout) == ("exit", 3, "y\n")


def test_a_child_that_holds_the_connections_does_not_keep_the_end_of_its_kernel(start):
    done = start(tiny()).run("print y\nfork\nexit 3")
    assert (done.status, done.done["code"], done.stdout) == ("exit", 3, "y\n")


def test_a_killed_kernel_takes_the_driver_along(start):
    driver = start(tiny())
    driver.start("kill", "a.tiny")
    assert driver.wait() == -signal.SIGKILL
    while driver.step(1):
        if 2 not in driver.fds:
            break
    assert b"last words" in driver.late[2]


def test_a_command_that_fails_is_told_to_the_run(start):
    driver = start(tiny(argv=["/bin/sh", "-c", "echo trouble >&2; exit 5"]))
    assert "exit code 5" in driver.hello["failed"] and "trouble" in driver.hello["failed"]
    done = driver.run("print x")
    assert (done.status, done.error["name"]) == ("error", "KernelFailed") and done.done["lost"]
    assert "trouble" in done.error["traceback"][-1] or "trouble" in done.error["message"]


def test_a_command_that_is_not_there(start):
    driver = start(tiny(argv=["/nonexistent/program"]))
    assert "/nonexistent/program" in driver.hello["failed"]


def test_kernelspec_env_and_names(start):
    driver = start(tiny(env={"TINY_EXTENSION": ".t", "A": "${HOME}/x", "B": "$NOTHING"}))
    assert driver.hello["extension"] == ".t"
    assert driver.run("env A\nenv B").stdout == f"{driver.home}/x\n$NOTHING\n"


def children(driver):
    return pathlib.Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()


def test_the_end_of_commands_ends_the_kernel_in_order(start):
    driver = start(tiny())
    driver.run("print x")
    (child,) = children(driver)
    connection = pathlib.Path(pathlib.Path(f"/proc/{child}/cmdline").read_text().split("\0")[2])
    assert connection.exists()
    os.close(driver.fds.pop(3))
    assert driver.wait() == 0
    driver.until(lambda out: b"goodbye" in out)
    assert not connection.parent.exists()


def test_a_driver_that_is_killed_leaves_no_kernel(start):
    driver = start(tiny())
    run = driver.start("wait", "a.tiny")
    driver.until(lambda out: b"waiting" in out)
    (child,) = children(driver)
    ends = [os.pidfd_open(int(child))]
    assert run
    os.kill(driver.pid, signal.SIGKILL)
    assert select.select(ends, [], [], PATIENCE)[0] == ends
    for end in ends:
        os.close(end)


# ---- known kernels

KNOWN = {
    "xpython": {
        "value": ("40 + 2", "42"), "print": "print('text')", "text": "text\n",
        "env": "import os; print(os.environ.get('CELL_X', '(absent)'))", "cwd": "import os; print(os.getcwd())",
        "error": ("x = 1\n\n1 / 0", "ZeroDivisionError", 3), "child": "import os; _ = os.system('echo child')",
        "loop": "print('in')\nwhile True: pass", "set": "kept = 5", "show": "print(kept)",
        "returns": "print('a\\r\\n\\nb\\rc\\r\\r\\n1\\n2\\r', end='')",
        "letter": "e",  # this Python takes the environment for ASCII
        "picture": "import base64\nfrom IPython.display import Image, display\n"
                   f"display(Image(data={PNG!r}, format='png'))",
    },
    "ir": {
        "value": ("40 + 2", "[1] 42"), "print": "cat('text\\n')", "text": "text\n",
        "env": "cat(Sys.getenv('CELL_X', unset = '(absent)'), '\\n', sep = '')", "cwd": "cat(getwd(), '\\n', sep = '')",
        "error": ("x <- 1\n\n(function() stop('no'))()", "Error", 3), "child": "invisible(system('echo child'))",
        "loop": "cat('in\\n'); flush.console(); repeat {}", "set": "kept <- 5", "show": "cat(kept, '\\n', sep = '')",
        "returns": "cat('a\\r\\n\\nb\\rc\\r\\r\\n1\\n2\\r')",
        "picture": "plot(1:3)",
    },
    "octave": {
        "print": "disp('text')", "text": "text\n",
        "env": "v = getenv('CELL_X'); if isempty(v), v = '(absent)'; end; printf('%s\\n', v)",
        "cwd": "printf('%s\\n', pwd())",
        "error": ("x = 1;\nerror('no')", "error", None), "child": "system('echo child');",
        "loop": "disp('in'); while true, end", "set": "kept = 5;", "show": "disp(kept)",
        # Where nothing comes for a moment, metakernel sends what comes before a \r and behind it one by one.
        "returns": "printf('a\\r\\n\\nb\\rc\\r\\r\\n'); for i = 1:2, pause(0.3), printf('%d', i); pause(0.3), "
                   "if i == 1, printf('\\n'), end, end, printf('\\r'); pause(0.3)",
    },
}


@pytest.fixture(scope="module", params=[name for name in sorted(KNOWN) if snippets_jupyter.bridge(name)])
def known(request):
    made = Driver(snippets_jupyter.bridge(request.param))
    yield made, KNOWN[request.param]
    made.close()


def test_known_values_and_prints(known):
    driver, say = known
    assert driver.run(say["print"]).stdout == say["text"]
    if "value" in say:
        done = driver.run(say["value"][0])
        assert done.value["text/plain"] == say["value"][1]


def test_known_errors(known):
    driver, say = known
    code, name, line = say["error"]
    done = driver.run(code)
    assert (done.status, done.error["name"], done.error.get("line")) == ("error", name, line)
    traceback = "".join(done.error["traceback"])
    assert "\x1b" not in traceback and "handleSimpleError" not in traceback  # IRkernel's own frame


def test_known_output_of_a_child_is_there_once(known):
    driver, say = known
    assert driver.run(say["child"]).stdout == "child\n"


def test_known_line_ends_are_the_programs_own(known):
    driver, say = known
    assert driver.run(say["returns"]).stdout == "a\r\n\nb\rc\r\r\n1\n2\r"


def test_known_env_and_cwd_are_restored(known, tmp_path):
    driver, say = known
    letter = say.get("letter", "\u00e9")
    other = tmp_path / f"sp ace {letter}"
    other.mkdir()
    here = driver.run(say["cwd"]).stdout
    nasty = f"a'b\"c\\d %s $HOME `id` {letter}"
    assert driver.run(say["env"], env={"CELL_X": nasty}).stdout == nasty + "\n"
    assert driver.run(say["env"]).stdout == "(absent)\n"
    assert driver.run(say["cwd"], cwd=str(other)).stdout == f"{other}\n"
    assert driver.run(say["cwd"]).stdout == here
    driver.send({"op": "set", "env": {"CELL_X": "set"}})
    assert driver.run(say["env"]).stdout == "set\n"
    assert driver.run(say["env"], env={"CELL_X": "run"}).stdout == "run\n"
    assert driver.run(say["env"]).stdout == "set\n"
    driver.send({"op": "set", "env": {"CELL_X": None}})
    assert driver.run(say["env"]).stdout == "(absent)\n"


def test_known_interrupt_keeps_the_state(known):
    driver, say = known
    driver.run(say["set"])
    run = driver.start(say["loop"], "a.x")
    driver.until(lambda out: b"in" in out)
    done, tries = driver.stop(run)
    assert (done.status, tries) == ("interrupted", 1)
    assert driver.run(say["show"]).stdout == "5\n"


def test_known_picture(known):
    driver, say = known
    if "picture" not in say:
        pytest.skip("Octave draws only where there is gnuplot")
    displays = driver.run(say["picture"]).displays
    assert [d["data"]["image/png"][:4] for d in displays] == [PNG[:4]]


# ---- languages.py, by the languages' own interpreters

sys.path.insert(0, str(KERNELS / "jupyter"))
from cellfs_jupyter import languages  # noqa: E402

INTERPRETERS = {
    "python": [PYTHON, "-c"], "R": ["Rscript", "-e"], "octave": ["octave-cli", "--eval"], "javascript": ["node", "-e"],
    "bash": ["bash", "-c"], "julia": ["julia", "-e"],
}
NASTY = "a'b\"c\\d\n\te \u00e9 $HOME ${HOME} `id` %s \x01 #{x} }, {\"X\":1}"


@pytest.mark.parametrize("spoken", [name for name in sorted(INTERPRETERS) if shutil.which(INTERPRETERS[name][0])])
def test_language_reads_what_it_has_changed(spoken, tmp_path):
    program, *options = INTERPRETERS[spoken]
    language = languages.known(spoken)
    other = tmp_path / "sp'ace \u00e9"
    other.mkdir()
    code = "\n".join([
        language.begin, language.read(["CELL_A", "CELL_B"]), language.change({"CELL_A": NASTY, "CELL_B": None}, str(other)),
        language.read(["CELL_A", "CELL_B"]), language.child("echo child"),
    ])
    out = subprocess.run(
        [program, *options, code], capture_output=True, text=True, cwd=tmp_path, check=True,
        env={**os.environ, "CELL_B": "b", "LANG": "C.UTF-8"}).stdout
    first, second = (languages.answer("".join(part)) for part in (
        re.findall(r"cellfs:\w*=[^;]*;", out)[:3], re.findall(r"cellfs:\w*=[^;]*;", out)[3:]))
    assert first == ({"CELL_A": None, "CELL_B": "b"}, str(tmp_path))
    assert second == ({"CELL_A": NASTY, "CELL_B": None}, str(other))
    assert out.rstrip().endswith("child")


def test_option_lines_have_the_languages_comment():
    for language, sign in (("python", "#|"), ("JavaScript", "//|"), ("sql", "--|"), ("unheard-of", "#|"), ("C++", "//|")):
        assert languages.comment(language) == sign
