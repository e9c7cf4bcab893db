"""What kernels/PROTOCOL.md asks of every driver."""

import json
import os
import signal

import pytest

from conversation import manifests, probe
from snippets import SNIPPETS


@pytest.fixture
def say(name):
    return SNIPPETS[name]


@pytest.fixture
def run(driver, say):
    def runner(code, **options):
        return driver.run(code, say["file"], **options)

    return runner


def started(driver, say, wait):
    """Start a wait, and go on when it has begun."""
    number = driver.start(say["started"] + say["waits"][wait], say["file"])
    driver.until(lambda out: b"started" in out)
    return number


def test_every_manifest_is_complete():
    for manifest in manifests().values():
        assert {"name", "title", "extensions", "comment", "interpreters", "probe", "argv", "env",
                "guard", "exit_status", "install"} <= set(manifest)
        version = probe(manifest)[1]
        assert version and version[0].isdigit() and "\n" not in version


def test_hello(driver, name):
    hello = driver.hello
    assert hello["ev"] == "hello" and hello["proto"] == 1 and hello["min_proto"] == 1
    assert hello["lang"] == name.partition("-")[0] and hello["pid"] == driver.pid
    assert hello["ver"][0].isdigit() and hello["engine"]
    assert driver.ready == {"ev": "ready"}


def test_value(run, say):
    if "value" not in say:
        pytest.skip("the language has no values")
    code, text = say["value"]
    done = run(code)
    assert done.status == "ok" and done.value["text/plain"] == text
    assert "text/x-repr" not in done.value


def test_string_value_is_the_string_itself(run, say):
    if "string" not in say:
        pytest.skip("the language has no values")
    code, text, written = say["string"]
    assert run(code).value == {"text/plain": text, "text/x-repr": written}


def test_statement_without_value(run, say):
    done = run(say["none"])
    assert [event["ev"] for event in done.events] == ["done"]
    assert (done.status, done.done["code"], done.stdout, done.stderr) == ("ok", 0, "", "")


def test_done_comes_last_with_all_output(run, say):
    done = run(say["print"].format("text"))
    assert done.stdout == "text\n" and done.order[-1][1] is done.done


def test_error_has_name_line_and_traceback(run, say):
    code, error, line, status = say["failing"]
    done = run(code)
    assert done.status == "error" and done.done["code"] == status and done.stdout == "before\n"
    assert done.error["name"] == error and done.error["line"] == line
    assert any(say["file"] in text for text in done.error["traceback"])
    assert done.error["frames"][-1] == {
        "file": say["file"], "line": line, "func": done.error["frames"][-1]["func"]}


def test_syntax_error_has_its_line(run, say):
    code, line = say["syntax"]
    done = run(code)
    assert done.status == "error"
    assert done.error["name"] == "SyntaxError" and done.error["line"] == line


def test_leading_blank_lines_count(run, say):
    code, error, line, _ = say["failing"]
    assert run("\n\n  \n" + code).error["line"] == line + 3


def test_state_is_kept(run, say):
    run(say["set"].format(7))
    assert run(say["show"]).stdout == "7\n"
    run(say["failing"][0])
    run(say["syntax"][0])
    assert run(say["show"]).stdout == "7\n"


def test_definitions_can_be_repeated(run, say):
    assert run(say["again"]).status == run(say["again"]).status == "ok"


def test_env_of_a_run(run, say):
    ask = say["env"].format("CELL_X")
    nasty = "a'b\"c\\d\n\te \u00e9 $HOME `id` \x01 }, {\"X\":1}"
    assert run(ask, env={"CELL_X": nasty, "CELL_Y": "2"}).stdout == nasty + "\n"
    assert run(ask).stdout == "(absent)\n"


def test_env_set_run_restore_remove(driver, run, say):
    ask = say["env"].format("CELL_S")
    driver.send({"op": "set", "env": {"CELL_S": "set"}})
    assert run(ask).stdout == "set\n"
    assert run(ask, env={"CELL_S": "run"}).stdout == "run\n"
    assert run(ask).stdout == "set\n"
    assert run(ask, env={"CELL_S": None}).stdout == "(absent)\n"
    assert run(ask).stdout == "set\n"
    driver.send({"op": "set", "env": {"CELL_S": None}})
    assert run(ask).stdout == "(absent)\n"


def test_env_is_restored_after_an_error_and_an_exit(run, say):
    ask = say["env"].format("CELL_E")
    run(say["failing"][0], env={"CELL_E": "1"})
    assert run(ask).stdout == "(absent)\n"
    run(say["exit"].format(1), env={"CELL_E": "1"})
    assert run(ask).stdout == "(absent)\n"


def test_cwd_of_a_run(driver, run, say, tmp_path):
    other = tmp_path / "sp ace \u00e9"
    other.mkdir()
    here = run(say["cwd"]).stdout
    assert run(say["cwd"], cwd=str(other)).stdout == f"{other}\n"
    assert run(say["cwd"]).stdout == here
    run(say["chdir"].format("/"), cwd=str(other))
    assert run(say["cwd"]).stdout == here
    run(say["exit"].format(0), cwd=str(other))
    assert run(say["cwd"]).stdout == here


def test_cwd_goes_with_env(run, say, tmp_path):
    done = run(say["env"].format("CELL_B") + "\n" + say["cwd"],
               env={"CELL_B": "b", "cwd": "trap"}, cwd=str(tmp_path))
    assert done.stdout == f"b\n{tmp_path}\n"


def test_cwd_that_cannot_be_entered_fails_the_run(run, say, tmp_path):
    done = run(say["print"].format("never"), cwd=f"{tmp_path}/absent")
    assert done.status == "error" and f"{tmp_path}/absent" in done.error["message"]
    assert done.stdout == ""


def test_chdir_is_kept_and_set_cwd_works(driver, run, say):
    run(say["chdir"].format("/usr"))
    assert run(say["cwd"]).stdout == "/usr\n"
    driver.send({"op": "set", "cwd": str(driver.cwd)})
    assert run(say["cwd"]).stdout == f"{driver.cwd}\n"


def test_prints_and_displays_keep_their_order(run, say):
    run(say["prepare"])
    done = run(say["ordered"])
    count = say["ordered_count"]
    assert len(done.displays) == count
    lines, misplaced = 0, 0
    for fd, what in done.order:
        if fd == 1:
            lines += what.count(b"\n")
        elif what["ev"] == "display":
            misplaced += lines != 1
            lines = 0
    assert misplaced == 0
    assert done.stdout.count("\n") == count


def test_binary_payload(driver, run, say):
    code, mime, payload = say["binary"]
    done = run(code)
    assert done.displays[0]["data"][mime] == payload
    assert [path.name for path in driver.spool.iterdir() if path.is_file()] == []


def test_large_text_goes_by_file(run, say):
    code, mime = say["large_text"]
    value = run(code).displays[0]["data"][mime]
    assert isinstance(value, bytes) and len(value.strip(b"'")) == 300000


def test_unicode(run, say):
    assert run(say["unicode"]).stdout == "\u00e9\u4e16\U0001f600\n"


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_ends_the_run_not_the_kernel(driver, run, say, code):
    done = run(say["exit"].format(code))
    assert (done.status, done.done["code"], done.error) == ("exit", code, None)
    assert run(say["show"]).stdout == "5\n"
    assert driver.waited is None


def test_bulk_output_is_complete(run, say):
    assert len(run(say["bulk"]).out[1]) == 64 << 20


WAITS = sorted({wait for say in SNIPPETS.values() for wait in say["waits"]})


@pytest.mark.parametrize("wait", WAITS)
def test_interrupt(driver, run, say, wait):
    if wait not in say["waits"]:
        pytest.skip("not a wait of this language")
    run(say["set"].format(11))
    number = started(driver, say, wait)
    done, tries = driver.stop(number)
    assert done.status == "interrupted"
    assert tries == 1 or wait in say["needs_a_second"]
    assert done.error["name"] == say["interrupt_name"]
    after = run(say["show"])
    assert (after.status, after.stdout) == ("ok", "11\n")


def test_idle_interrupt_is_harmless(driver, run, say):
    for _ in range(3):
        driver.interrupt()
    driver.pause()  # as the daemon, which cannot know either when the driver has heard of the last one
    assert run(say["none"]).status == "ok"
    for _ in range(50):
        driver.interrupt()
        assert run(say["none"]).status in ("ok", "interrupted")
    driver.pause()
    assert run(say["none"]).status == "ok"


def test_a_cell_that_ignores_interrupts_deafens_only_itself(driver, run, say):
    run(say["deaf"])
    assert driver.stop(started(driver, say, "loop"))[0].status == "interrupted"


def test_interrupt_while_an_ack_is_owed(driver, run, say):
    run(say["prepare"])
    driver.ack = False
    code = say["binary"][0]
    number = driver.start(code, say["file"])
    event = driver.event("display")
    driver.interrupt()
    owed = 1
    while (end := driver.event())["ev"] != "done":
        if end["ev"] == "ending":  # this one is awaited, and the one before it
            driver.give_ack()
            driver.give_ack()
            owed = 0
    driver.ack = True
    assert (end["id"], end["status"]) == (number, "interrupted")
    for _ in range(owed):
        driver.give_ack()
    assert event["id"] == number
    test_prints_and_displays_keep_their_order(run, say)


def test_output_after_the_end(driver, run, say):
    assert run(say["late"]).stdout == ""
    if run(say["late_go"]).stdout != "late\n":  # it may be as fast as the run's own end
        driver.until(lambda out: out == b"late\n")
        driver.late[1].clear()


def test_background_process_prints_on(driver, run, say):
    (driver.cwd / "go").unlink(missing_ok=True)
    assert run(say["background"]).status == "ok"
    (driver.cwd / "go").touch()
    driver.until(lambda out: b"background\n" in out)
    driver.late[1].clear()


def test_unknown_op_is_answered_by_a_log(driver, run, say):
    driver.send({"op": "dance", "id": 9})
    assert "dance" in driver.event("log")["text"]
    assert run(say["none"]).status == "ok"


def test_another_protocol_is_refused(fresh):
    fresh.send({"op": "init", "proto": 2, "spool": str(fresh.spool), "env": {}, "cwd": "/"})
    assert "protocol 1" in fresh.event("log")["text"]
    assert fresh.wait() == 1


def test_unknown_keys_are_ignored(run, say):
    assert run(say["none"], zebra={"a": [1]}).status in ("ok", "error")
    assert run(say["none"]).status == "ok"


def test_cell_without_final_newline(run, say):
    assert run(say["no_newline"]).stdout == "end\n"


def test_empty_cells(run, say):
    for code in ("", "\n", "   \n\n", say.get("comment", "# comment")):
        done = run(code)
        assert (done.status, done.stdout, done.value) == ("ok", "", None)


def test_nul_bytes_do_not_end_the_driver(run, say):
    run(say["nul"])
    assert run(say["none"]).status == "ok"


def test_crlf(run, say):
    if say["crlf"] is None:
        pytest.skip("a carriage return is a character in this language")
    assert run(say["crlf"]).stdout == "3\n"


def test_stdin_is_empty(run, say):
    assert run(say["stdin"]).stdout == "''\n"


def test_control_pipes_are_out_of_the_way(fresh, say):
    ours = [os.readlink(f"/proc/self/fd/{end}") for end in fresh.fds.values()]
    assert not any(pipe in fresh.run(say["control"], say["file"]).stdout for pipe in ours)


def test_home_stays_empty(driver):
    assert os.listdir(driver.home) == []


def test_end_of_commands_ends_the_driver(fresh, say):
    fresh.run(say["at_exit"], say["file"])
    os.close(fresh.fds.pop(3))
    assert fresh.wait() == 0
    fresh.until(lambda out: b"left\n" in out)


def test_shutdown_ends_the_driver(fresh, say):
    fresh.run(say["at_exit"], say["file"])
    fresh.send({"op": "shutdown"})
    assert fresh.wait() == 0
    fresh.until(lambda out: b"left\n" in out)


def test_kill_is_seen(fresh, say):
    started(fresh, say, "loop")
    os.kill(fresh.pid, signal.SIGKILL)
    assert fresh.wait() == -signal.SIGKILL
    with pytest.raises(EOFError):
        fresh.event()


def test_events_are_lines_of_json(fresh, say):
    fresh.run(say["failing"][0], say["file"])
    assert fresh._partial == b"" and json.dumps(fresh.hello)


def test_spool_file_names(fresh, say):
    taken = []
    take = fresh._take_files

    def watch(event):
        taken.extend(value["file"] for value in event["data"].values() if "file" in value)
        take(event)

    fresh._take_files = watch
    fresh.run(say["binary"][0], say["file"])
    assert taken and all(
        name[0].isalnum() and name.replace("-", "").replace(".", "").replace("_", "").isalnum()
        for name in taken)
