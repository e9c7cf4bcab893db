"""What a cell may rely on in every language: the same test for each, through a mount."""

import hashlib
import itertools
import json
import os
import struct
import types

import pytest

from control.steps import about, events, record, says, until_status
from languages.snippets import DATA, LANGUAGES, TEXT
from mount import ROOT, done, read, read_bytes, run, within, write

SLOW = float(os.environ.get("CELLFS_SLOW", "1"))
SOON = 4.5 * SLOW  # before SIGKILL; the bar is 1.5 s on a machine that does nothing else


class Language(types.SimpleNamespace):
    """One language in a context of its own."""

    def run(self, code, cell=None):
        return run(self.ctx, cell or self.say["cell"], code)

    def out(self, code, cell="ask"):
        r = self.run(code, cell + self.extension)
        assert done(r) == "ok", read(r / "report.md")
        return read(r / "stdout")

    def env(self, name):
        return self.out(self.say["env"].format(name))

    def kernel(self):
        return about(self.ctx)["kernels"][self.say["kernel"]]


@pytest.fixture(scope="module", params=LANGUAGES)
def lang(request, m):
    say = LANGUAGES[request.param]
    ctx = m.context("of-" + request.param)
    yield Language(name=request.param, say=say, ctx=ctx, extension=say["cell"][1:])
    if m.alive:  # else a test has failed for it
        write(ctx / "ctl", "remove\n")


def having(key):
    """Only the languages that have it."""
    return pytest.mark.parametrize("lang", [name for name, say in LANGUAGES.items() if key in say], indirect=True, scope="module")


def error(r):
    assert done(r) == "error", read(r / "report.md")
    return json.loads(read(r / "error.json"))


# ---- values, output, errors ----------------------------------------------------------------------


@having("value")
def test_the_last_value_is_in_result_txt(lang):
    for key in ("value", "string"):
        code, text = lang.say[key]
        r = lang.run(code)
        assert done(r) == "ok", read(r / "report.md")
        assert read(r / "result.txt") == text and read(r / "stdout") == "" and read(r / "stderr") == ""
        assert os.getxattr(r / "result.txt", "user.mime_type") == b"text/plain"
        (main,) = record(r)["results"]
        assert main["is_main_result"] is True and main["formats"]["text/plain"] == text[:-1]


def test_a_statement_has_no_value(lang):
    r = lang.run(lang.say["nothing"])
    assert done(r) == "ok", read(r / "report.md")
    assert [n for n in os.listdir(r) if n.startswith(("result", "display", "error"))] == []
    assert (read(r / "stdout"), read(r / "stderr"), read(r / "exit_code")) == ("", "", "0\n")


def test_an_empty_cell_and_one_of_comments(lang):
    for code in ("\n", "\n\n  \n", lang.say["option"][:-1] + " nothing\n"):
        r = lang.run(code)
        assert done(r) == "ok" and read(r / "stdout") == "", read(r / "report.md")


def test_prints_errors_and_displays_keep_their_order(lang):
    r = lang.run(lang.say["streams"])
    assert done(r) == "ok", read(r / "report.md")
    assert read(r / "stdout") == "one\nthree\n" and read(r / "stderr") == "two\n"
    order = [e["type"] for e in events(r) if e["type"] in ("stdout", "stderr", "display")]
    assert [kind for kind, _ in itertools.groupby(order)] == ["stdout", "display", "stderr", "display", "stdout"]
    assert {"display-1.txt", "display-2.txt"} <= set(os.listdir(r)) and read(r / "display-2.txt").split()[-1] == "2"


def test_an_error_has_its_name_message_and_line(lang):
    code, name, message, line = lang.say["failing"]
    e = error(lang.run(code))
    assert e["name"] == name or name is None and e["name"], e
    assert message in e["message"] and e["line"] == line, e
    assert e["frames"] and all(f["file"] == lang.say["cell"] for f in e["frames"]), e["frames"]
    r = lang.ctx / "results" / lang.say["cell"]
    assert read(r / "stdout") == "before\n" and read(r / "exit_code") == ("2\n" if lang.name == "bash" else "1\n")
    text = read(r / "error.txt")
    assert lang.say["cell"] in text and "\x1b" not in text and str(ROOT) not in text and "/kernels/" not in text
    assert text == "".join(line + "\n" for line in e["traceback"]) and record(r)["error"] == e
    assert e["message"] in read(r / "report.md")


@having("raising")
def test_an_error_of_the_cells_own(lang):
    code, name, message, line = lang.say["raising"]
    e = error(lang.run(code))
    assert (e["message"], e["line"]) == (message, line) and (name is None or e["name"] == name), e


def test_a_syntax_error_has_its_line(lang):
    code, name, lines = lang.say["syntax"]
    e = error(lang.run(code))
    assert e["name"] == name and e["line"] in lines and e["message"], e


def test_line_numbers_are_the_files_own_behind_options(lang):
    code, _, _, line = lang.say["failing"]
    option = lang.say["option"]
    e = error(lang.run(f"{option} timeout: 50\n{option} label: x\n\n{code}"))
    assert e["line"] == line + 3


def test_the_state_is_kept_over_cells_errors_and_definitions(lang):
    for n in (1, 2):
        assert done(lang.run(lang.say["set"].format(n), "set" + lang.extension)) == "ok"
        assert lang.out(lang.say["show"]) == f"{n}\n"
        error(lang.run(lang.say["failing"][0]))
        error(lang.run(lang.say["syntax"][0]))
        assert lang.out(lang.say["show"]) == f"{n}\n"
    assert lang.kernel()["generation"] == 1


def test_text_of_all_scripts(lang):
    r = lang.run(lang.say["text"].format(TEXT))
    assert done(r) == "ok", read(r / "report.md")
    assert read(r / "stdout") == TEXT + "\n"
    if "value" in lang.say:
        assert read(r / "result.txt") == TEXT + "\n"
        assert record(r)["results"][0]["formats"]["text/plain"] == TEXT
    assert record(r)["logs"]["stdout"] == TEXT + "\n"


def test_names_of_cells_may_have_spaces_and_other_scripts(lang):
    cell = "a b \u4e16" + lang.extension
    code, _, _, line = lang.say["failing"]
    r = lang.run(code, cell)
    e = error(r)
    assert e["line"] == line and cell in read(r / "error.txt"), e


def test_ten_megabytes_of_output_are_exact(lang):
    r = lang.run(lang.say["flood"])
    with within(30 * SLOW):
        assert done(r) == "ok", read(r / "report.md")
    want = b"".join(b"%09d\n" % i * 1000 for i in range(1000))
    got = read_bytes(r / "stdout")
    assert len(got) == len(want) == 10_000_000 and hashlib.sha256(got).digest() == hashlib.sha256(want).digest()


# ---- pictures and tables -------------------------------------------------------------------------


@having("picture")
def test_a_picture_is_a_png_of_the_size_that_was_asked_for(lang):
    code, name, size = lang.say["picture"]
    r = lang.run(code)
    assert done(r) == "ok", read(r / "report.md")
    picture = read_bytes(r / name)
    assert picture.startswith(b"\x89PNG\r\n\x1a\n") and picture.endswith(b"IEND\xaeB`\x82")
    assert struct.unpack(">II", picture[16:24]) == size
    assert os.getxattr(r / name, "user.mime_type") == b"image/png" and name in read(r / "report.md")
    assert [n for n in os.listdir(r) if n.endswith(".png")] == [name]


@having("table")
def test_a_table_is_the_same_data_in_every_language(lang):
    r = lang.run(lang.say["table"])
    assert done(r) == "ok", read(r / "report.md")
    data = json.loads(read(r / "result.data.json"))
    assert list(data) == list(DATA)
    data["when"] = [t and t[:19] for t in data["when"]]  # fractions and zone are the language's
    assert data == DATA
    assert read(r / "result.html").lstrip().startswith("<") and "<td" in read(r / "result.html")
    assert "Ann" in read(r / "result.txt")


# ---- environment and working directory -----------------------------------------------------------


@pytest.fixture
def value(lang):
    """A variable of the context; None takes it away."""
    path = lang.ctx / "config" / "env" / "LANG_A"

    def put(text):
        if text is None:
            os.unlink(path)
        else:
            write(path, text)

    yield put
    if path.exists():
        os.unlink(path)


@pytest.mark.parametrize("ask", ["env", "child_env"])
def test_config_env_is_the_kernels_environment(lang, value, ask):
    code = lang.say[ask].format("LANG_A")
    assert lang.out(code) == "(absent)\n"
    for text in ("one", "a'b\"c\\d $HOME `id` \u4e16", ""):
        value(text)
        assert lang.out(code) == (text or "") + "\n"
    value("two")
    value(None)
    assert lang.out(code) == "(absent)\n"


def ends(lang):
    """How a run can end: the code and the status."""
    return {
        "ok": (lang.say["nothing"], "ok"),
        "error": (lang.say["failing"][0], "error"),
        "syntax error": (lang.say["syntax"][0], "error"),
        "exit": (lang.say["exit"].format(3), "error"),
        "timeout": (lang.say["started"] + lang.say["waits"]["sleep"], "timeout"),
    }


def test_the_environment_of_one_run_is_put_back_whatever_its_end(lang, value):
    ask, option = lang.say["env"].format("LANG_A"), lang.say["option"]
    for before in (None, "context's"):
        if before:
            value(before)
        want = (before or "(absent)") + "\n"
        assert lang.out(f"{option} env.LANG_A: run's own\n" + ask) == "run's own\n"
        assert lang.out(ask) == want
        for how, (code, word) in ends(lang).items():
            timeout = f"{option} timeout: 1\n" if word == "timeout" else ""
            assert done(lang.run(f"{timeout}{option} env.LANG_A: run's own\n{code}")) == word, how
            assert lang.out(ask) == want, how
    assert lang.kernel()["generation"] == 1


@having("setenv")
def test_what_a_cell_itself_sets_stays(lang):
    assert done(lang.run(lang.say["setenv"].format("LANG_B"))) == "ok"
    assert lang.env("LANG_B") == "by the cell\n"
    assert lang.out(lang.say["child_env"].format("LANG_B")) == "by the cell\n"


def test_a_cell_may_go_elsewhere(lang):
    assert done(lang.run(lang.say["chdir"].format("/tmp"))) == "ok"
    assert lang.out(lang.say["cwd"]) == "/tmp\n"
    assert lang.out(lang.say["option"] + " cwd: /usr\n" + lang.say["cwd"]) == "/usr\n"
    assert lang.out(lang.say["cwd"]) == "/tmp\n"
    assert done(lang.run(lang.say["chdir"].format("/workspace"))) == "ok"


def test_cwd_of_a_run_and_of_the_context(lang):
    here, option = lang.out(lang.say["cwd"]), lang.say["option"]
    assert here == "/workspace\n"
    sub = lang.ctx / "workspace" / "s\u00e9 b"
    sub.mkdir()
    below = "/workspace/s\u00e9 b\n"
    for how, (code, word) in ends(lang).items():
        timeout = f"{option} timeout: 1\n" if word == "timeout" else ""
        assert done(lang.run(f"{timeout}{option} cwd: s\u00e9 b\n{code}")) == word, how
        assert lang.out(lang.say["cwd"]) == here, how
    assert lang.out(f"{option} cwd: s\u00e9 b\n" + lang.say["cwd"]) == below
    r = lang.run(f"{option} cwd: s\u00e9 b\n" + lang.say["write"].format("here.txt", "x"))
    assert done(r) == "ok" and read(sub / "here.txt") == "x", read(r / "report.md")
    write(lang.ctx / "config" / "cwd", "s\u00e9 b")
    assert lang.out(lang.say["cwd"]) == below
    os.unlink(lang.ctx / "config" / "cwd")
    assert lang.out(lang.say["cwd"]) == here


def test_options_that_are_wrong_fail_the_run_and_name_the_rule(lang):
    option = lang.say["option"]
    for line, word in (("nosuch: 1", "nosuch"), ("timeout: soon", "timeout"), ("cwd: not/there", "not/there"), ("env.9X: 1", "9X")):
        r = lang.run(f"{option} {line}\n" + lang.say["print"].format("ran"))
        e = error(r)
        assert word in e["message"] and read(r / "stdout") == "", (line, e)
    assert lang.out(lang.say["print"].format("on")) == "on\n"


# ---- ends ----------------------------------------------------------------------------------------


def set_to_11(lang):
    """Gives the kernel a state; its generation. The kernel waits for its next cell then."""
    r = lang.run(lang.say["set"].format(11), "set" + lang.extension)
    assert done(r) == "ok", read(r / "report.md")
    return record(r)["generation"]


def keeps(lang, r, generation):
    """The run behind R has the state that was there before it."""
    rec = record(r)
    assert rec["state_preserved"] is True and rec["generation"] == generation, rec
    again = lang.run(lang.say["show"], "again" + lang.extension)
    assert done(again) == "ok" and (read(again / "stdout"), read(again / "stderr")) == ("11\n", "")
    assert record(again)["generation"] == generation
    return rec


@pytest.mark.parametrize("wait", ["loop", "sleep", "subprocess", "native"])
def test_an_interrupt_stops_it_soon_and_keeps_the_state(lang, wait):
    generation = set_to_11(lang)
    r = lang.run(lang.say["started"] + lang.say["waits"][wait])
    says(r, "started\n")
    with within(SOON):
        write(lang.ctx / "ctl", "interrupt\n")
        assert done(r) == "interrupted"
    rec = keeps(lang, r, generation)
    assert rec["status"] == "interrupted" and rec["exit_code"] == 130
    # A child dies of the same signal: what the language says of that may come first.
    assert rec["error"]["name"] == lang.say["interrupted"] or wait == "subprocess", rec["error"]


@pytest.mark.parametrize("wait", ["loop", "sleep"])
def test_a_timeout_keeps_the_state(lang, wait):
    generation = set_to_11(lang)
    r = lang.run(lang.say["option"] + " timeout: 2\n" + lang.say["started"] + lang.say["waits"][wait])
    with within(2 + SOON):
        says(r, "started\n")  # the timeout is to meet what waits, not what is before it
        assert done(r) == "timeout"
    rec = keeps(lang, r, generation)
    assert rec["exit_code"] == 124 and rec["duration_ms"] >= 2000 and read(r / "stdout") == "started\n"


@pytest.mark.parametrize("n", [0, 3, 255])
def test_an_exit_ends_the_run_and_not_the_kernel(lang, n):
    done(lang.run(lang.say["nothing"]))
    generation = lang.kernel()["generation"]
    r = lang.run(lang.say["exit"].format(n))
    assert done(r) == ("error" if n else "ok") and read(r / "exit_code") == f"{n}\n", read(r / "report.md")
    rec = record(r)
    assert (rec["error"] or {}).get("name") == ("ExitStatus" if n else None) and rec["state_preserved"] is True
    assert lang.out(lang.say["show"]) == "5\n" and lang.kernel()["generation"] == generation


def test_a_kernel_that_is_killed_ends_its_run_and_the_next_cell_says_so(lang):
    generation = set_to_11(lang)
    r = lang.run(lang.say["kill"])
    with within(10 * SLOW):
        assert done(r) == "killed"
    rec = record(r)
    assert rec["reason"] == "signal 9 (Killed)" and rec["exit_code"] == 137 and rec["state_preserved"] is False
    assert read(r / "stdout") == "before\n" and rec["error"]["name"] == "killed"
    code, text = lang.say["gone"]
    again = lang.run(code)
    assert done(again) == "ok" and read(again / "stdout") == text, read(again / "report.md")
    assert read(again / "stderr").startswith("cellfs: ") and record(again)["generation"] == generation + 1
    third = lang.run(lang.say["nothing"])
    assert done(third) == "ok" and read(third / "stderr") == ""


def test_restart_of_one_language_starts_it_anew(lang):
    generation = set_to_11(lang)
    write(lang.ctx / "ctl", f"restart {lang.say['kernel']}\n")
    code, text = lang.say["gone"]
    again = lang.run(code)
    assert done(again) == "ok" and read(again / "stdout") == text, read(again / "report.md")
    assert record(again)["generation"] == generation + 1
    until_status(lang.ctx, "idle")
