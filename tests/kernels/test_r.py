"""What only the R driver does."""

import json
import os
import re
import struct
import subprocess

import pytest

from conversation import KERNELS

ONLY = ("r",)
PNG = b"\x89PNG\r\n\x1a\n"
DATA = "application/vnd.cellfs.data+json"


@pytest.fixture
def run(driver):
    def runner(code, **options):
        return driver.run(code, "a.r", **options)

    return runner


def has(package):
    """Only where the package is installed; make test installs them all."""
    found = subprocess.run(["Rscript", "-e", f"q('no', !nzchar(system.file(package = '{package}')))"])
    return pytest.mark.skipif(found.returncode != 0, reason=f"R has no package {package}")


def kinds(done):
    return [(event["kind"], event["data"].get("text/plain")) for event in done.of("display")]


def pictures(done):
    return pictures_of(done.of("display"))


def pictures_of(displays):
    made = [event["data"]["image/png"] for event in displays]
    assert all(picture.startswith(PNG) and picture.endswith(b"IEND\xaeB`\x82") for picture in made)
    return made


def size(picture):
    return struct.unpack(">II", picture[16:24])


# ---- values --------------------------------------------------------------------------------------

VALUES = {
    "1:3": "[1] 1 2 3",
    "NULL": "NULL",
    "c(a = 'x')": '  a \n"x" ',
    "c('a', 'b')": '[1] "a" "b"',
    "NA_character_": "[1] NA",
    "factor(c('u', 'v'))": "[1] u v\nLevels: u v",
    "function(x) x + 1  # why": "function(x) x + 1",
    "f <- function(x) {\n  x  # kept\n}\nf": "function(x) {\n  x  # kept\n}",
    "(x <- 5)": "[1] 5",
    "if (TRUE) 7": "[1] 7",
    "quote(a + b)": "a + b",
    "y ~ x": "y ~ x",
    "list(a = 1)": "$a\n[1] 1\n",
    "setClass('P', representation(a = 'numeric')) -> P\nsetMethod('show', 'P', function(object) cat('<P>\\n'))\nP(a = 1)": "<P>",
    "A <- setRefClass('A', fields = list(x = 'numeric'))\nA$new(x = 1)": 'Reference class object of class "A"\nField "x":\n[1] 1',
    "print.mine <- function(x, ...) cat('mine!\\n')\nstructure(1, class = 'mine')": "mine!",
    "as.Date('2024-02-03')": '[1] "2024-02-03"',
}


@pytest.mark.parametrize("code", VALUES)
def test_value_is_what_r_prints(run, code):
    done = run(code)
    assert done.status == "ok" and done.value == {"text/plain": VALUES[code]} and done.stdout == ""


@pytest.mark.parametrize("code", [
    "invisible(5)", "x <- 1", "for (i in 1:2) i", "repeat break", "if (FALSE) 1",
    "f <- function() invisible(3)\nf()", "suppressWarnings(invisible(1))", "assign('x', 2)"])
def test_invisible_values(run, code):
    done = run(code)
    assert [event["ev"] for event in done.events] == ["done"] and done.stdout == ""


def test_the_last_visible_value_is_the_result(run):
    assert kinds(run("1\n2\nx <- 3\ncat('end\\n')")) == [("display", "[1] 1"), ("result", "[1] 2")]
    assert kinds(run("1\nfor (i in 1:3) i\n'a'")) == [("display", "[1] 1"), ("result", "a")]
    quiet = run("f <- function() invisible(1)\n41\nf()")  # nobody can see beforehand that f() is quiet
    assert kinds(quiet) == [("display", "[1] 41"), ("result", "[1] 41")]
    assert kinds(run("1\n2\nnosuch()")) == [("display", "[1] 1"), ("display", "[1] 2")]
    assert kinds(run("1\n2\nstop('x')")) == [("display", "[1] 1"), ("result", "[1] 2")]
    assert kinds(run("1\nx <- log('a')")) == [("result", "[1] 1")]


def test_values_prints_and_displays_keep_their_order(run):
    done = run("1\ncat('a\\n')\n2\ndisplay(3)\nmessage('b')\ncat('c\\n')\n4\n")
    what = [item["data"]["text/plain"] if fd == 4 and item["ev"] == "display" else item
            for fd, item in done.order if fd != 2]
    assert what[:-1] == ["[1] 1", b"a\n", "[1] 2", "[1] 3", b"c\n", "[1] 4"]
    assert done.stderr == "b\n"


def test_last_value(run):
    run("41")
    assert run(".Last.value + 1").value["text/plain"] == "[1] 42"


def test_strings_that_are_no_utf_8(run):
    assert run("iconv('\u00e9', 'UTF-8', 'latin1')").value["text/plain"] == "\u00e9"
    assert "ff" in run("rawToChar(as.raw(c(97, 255)))").value["text/plain"]
    assert run("cat(rawToChar(as.raw(c(97, 255, 10))))").out[1] == b"a\xff\n"
    assert run("stop(rawToChar(as.raw(c(97, 255))))").error["message"].startswith("a")
    assert run("strrep('\u4e16', 100000)").value["text/plain"].decode() == "\u4e16" * 100000


def test_a_print_method_that_fails_is_an_error(run):
    done = run("print.bad <- function(x, ...) stop('no print')\n\nstructure(1, class = 'bad')")
    assert (done.status, done.error["message"], done.value) == ("error", "no print", None)
    assert [frame["func"] for frame in done.error["frames"]] == ["print.bad"]
    run("rm(print.bad)")


# ---- tables --------------------------------------------------------------------------------------

def table(run, code):
    data = run(code).value
    return data, json.loads(data[DATA])


def test_data_frame(run):
    data, columns = table(run, """
data.frame(name = c('Ann', 'B\u00e9a "q" \\\\', NA), f = factor(c('u', NA, 'v')), n = c(0.1 + 0.2, Inf, NaN), i = c(1L, NA, 3L),
           l = c(TRUE, NA, FALSE), d = as.Date('2024-01-31') + 0:2, t = as.POSIXct(c(0.5, 1, NA), origin = '1970-01-01', tz = 'Asia/Tokyo'),
           z = c(1i, 2, 3), h = c('a<b', '&', '>'))""")
    assert columns == {
        "name": ["Ann", 'B\u00e9a "q" \\', None], "f": ["u", None, "v"], "n": [0.1 + 0.2, None, None], "i": [1, None, 3],
        "l": [True, None, False], "d": ["2024-01-31", "2024-02-01", "2024-02-02"],
        "t": ["1970-01-01T00:00:00.500000Z", "1970-01-01T00:00:01Z", None], "z": ["0+1i", "2+0i", "3+0i"], "h": ["a<b", "&", ">"]}
    assert "Ann" in data["text/plain"]
    assert data["text/html"].startswith("<table") and "<td>a&lt;b</td>" in data["text/html"]
    assert list(data) == ["text/plain", "text/html", DATA]


def test_names_of_rows_and_odd_columns(run):
    _, columns = table(run, "x <- mtcars[1:2, 1:2]\nx$m <- matrix(1:4, 2)\nx$l <- list(1, 'a')\nx")
    assert columns == {"row.names": ["Mazda RX4", "Mazda RX4 Wag"], "mpg": [21, 21], "cyl": [6, 6],
                       "m.V1": [1, 2], "m.V2": [3, 4], "l": [1, "a"]}
    assert table(run, "data.frame(a = 1, a = 2, check.names = FALSE)")[1] == {"a": [1], "a.1": [2]}
    assert table(run, "data.frame()")[1] == {} and table(run, "data.frame(a = integer())")[1] == {"a": []}


def test_matrix(run):
    data, columns = table(run, "matrix(1:4, 2, dimnames = list(NULL, c('a', 'b')))")
    assert columns == {"a": [1, 2], "b": [3, 4]} and "<th>b</th>" in data["text/html"]
    assert table(run, "matrix(c('x', 'y'), 1)")[1] == {"V1": ["x"], "V2": ["y"]}


def test_a_large_table_is_bounded_and_says_so(run):
    done = run("data.frame(x = 1:20000)")
    data = {mime: value.decode() if isinstance(value, bytes) else value for mime, value in done.value.items()}
    note = "data.json: the first 5,000 of 20,000 rows"
    assert json.loads(data[DATA])["x"] == list(range(1, 5001))
    assert data["text/plain"].endswith(f"({note})") and note in data["text/html"]
    assert "<th>20000</th>" in data["text/html"] and data["text/html"].count("<tr>") < 70
    assert done.of("display")[0]["meta"] == {DATA: {"rows": 5000, "total": 20000}}
    assert run("data.frame(x = 1:5000)").of("display")[0].get("meta") is None


@has("tibble")
def test_tibble(run):
    data, columns = table(run, "tibble::tibble(a = 1:2, b = list(1, 2:3))")
    assert "# A tibble: 2" in data["text/plain"] and columns == {"a": [1, 2], "b": [1, [2, 3]]}


@has("data.table")
def test_data_table_by_reference_is_quiet(run):
    assert run("d <- data.table::data.table(a = 1:2)\nd[, b := a * 2]").value is None
    assert table(run, "d")[1] == {"a": [1, 2], "b": [2, 4]}


# ---- plots ---------------------------------------------------------------------------------------

def test_pages_come_in_order_between_the_prints(run):
    done = run("plot(1:3)\ncat('between\\n')\nplot(3:1)\nlines(3:1)\n")
    assert len(pictures(done)) == 2 and {size(p) for p in pictures(done)} == {(840, 840)}
    assert done.stdout == "between\n"
    again = run("x <- 1")
    assert not again.displays, "the last plot is repeated"


def test_size_resolution_and_form_by_options(run):
    done = run("options(repr.plot.width = 4, repr.plot.height = 2, repr.plot.res = 100)\nplot(1)\n"
               "options(repr.plot.width = 3)\nplot(2)\n")
    assert [size(p) for p in pictures(done)] == [(400, 200), (300, 200)]
    run("options(repr.plot.width = NULL, repr.plot.height = NULL, repr.plot.res = NULL)")
    assert size(pictures(run("dev.new(width = 2, height = 1)\nplot.new()"))[0]) == (240, 120)
    done = run("options(jupyter.plot_mimetypes = 'image/svg+xml')\nplot(1)\nplot(2)")
    assert all(b"<svg" in display["data"]["image/svg+xml"] for display in done.displays) and len(done.displays) == 2
    done = run("options(jupyter.plot_mimetypes = 'application/pdf')\nplot(1)")
    assert done.displays[0]["data"]["application/pdf"].startswith(b"%PDF")
    run("options(jupyter.plot_mimetypes = NULL)")


def test_other_graphics(driver, run):
    assert len(pictures(run("grid::grid.newpage()\ngrid::grid.circle()"))) == 1
    assert len(pictures(run("par(mfrow = c(1, 2))\nplot(1)\nplot(2)"))) == 1
    assert len(pictures(run("persp(volcano)\nimage(volcano)\ngraphics.off()"))) == 2
    assert pictures(run("plot(1:9)\nkept <- recordPlot()"))[0] == run("kept").value["image/png"]
    mine = run("png('own.png')\nplot(1)\nclosed <- dev.off()\nplot(2)")
    assert len(pictures(mine)) == 1 and (driver.cwd / "own.png").read_bytes().startswith(PNG)
    assert run("plot.new()\nstop('x')").displays, "what was drawn before an error shows"
    assert not [path for path in driver.spool.iterdir() if path.is_file()]


def test_text_of_all_scripts_is_drawn(run):
    if "CJK" not in subprocess.run(["fc-list"], capture_output=True, text=True).stdout:
        pytest.skip("no font")
    draw = "par(mar = rep(0, 4))\nplot.new()\ntext(.5, .5, '{}', cex = 20)"
    boxes = pictures(run(draw.format("\U000f0001")))[0]
    one, two = (pictures(run(draw.format(text)))[0] for text in "\u4e00\u56fd")
    assert len(two) > len(one) * 1.2 and one != boxes != two


@has("lattice")
def test_lattice(run):
    assert run("lattice::xyplot(mpg ~ cyl, mtcars)").value["image/png"].startswith(PNG)


@has("ggplot2")
def test_ggplot_is_the_result(run):
    done = run("suppressMessages(library(ggplot2))\nplot(1)\np <- ggplot(mtcars, aes(mpg, cyl)) + geom_point()\np")
    assert done.value["text/plain"] == "<ggplot>" and done.value["image/png"].startswith(PNG)
    assert len(done.displays) == 1
    assert len(pictures(run("print(p)\nfor (i in 1:2) print(p)"))) == 3
    assert run("x <- p").of("display") == []
    twice = run("f <- function() invisible(1)\np\nf()")
    assert len(pictures_of(twice.displays)) == 1 and twice.value == {"text/plain": "<ggplot>"}
    assert "nosuch" in run("ggplot(mtcars, aes(nosuch, cyl)) + geom_point()").error["message"]


# ---- other formats -------------------------------------------------------------------------------

def test_display(driver, run):
    done = run("display('<b>x</b>', 'text/html')\ndisplay(list(a = 1:2, b = I('x')), 'application/json')\n"
               "display(1, id = 'k')\ndisplay(2, id = 'k', update = TRUE)\nclear_output()")
    assert [event["data"] for event in done.displays[:2]] == [
        {"text/html": "<b>x</b>"}, {"application/json": '{"a":[1,2],"b":["x"]}'}]
    assert [(event["kind"], event["display_id"]) for event in done.displays[2:]] == [("display", "k"), ("update", "k")]
    assert done.of("clear")[0]["wait"] is True
    assert not run("display('x', strrep('m', 1e5))").displays[0]["data"]
    assert run("display(1, id = strrep('\u00e9', 1e5))").displays[0]["display_id"].startswith("\u00e9")
    (driver.cwd / "p.svg").write_text("<svg/>")
    assert run("display(file = 'p.svg')").displays[0]["data"] == {"image/svg+xml": b"<svg/>"}


def test_methods_of_the_cell(run):
    data = run("repr_html.zed <- function(obj, ...) '<z>'\nrepr_png.zed <- function(obj, ...) stop('not')\nstructure(1, class = 'zed')")
    assert data.value["text/html"] == "<z>" and "image/png" not in data.value
    assert "repr_png is left out: not" in data.stderr and data.status == "ok"


@has("IRdisplay")
def test_irdisplay(run):
    picture = "iVBORw0KGgo="
    done = run(f"IRdisplay::display_html('<i>')\nIRdisplay::publish_mimebundle(list('image/png' = '{picture}'), list(a = 1))\n"
               "IRdisplay::display_json('{\"a\": 1}')\nIRdisplay::clear_output(FALSE)")
    assert [event["data"] for event in done.displays] == [
        {"text/html": "<i>"}, {"image/png": PNG}, {"application/json": '{"a": 1}'}]
    assert done.displays[1]["meta"] == {"a": 1} and done.of("clear")[0]["wait"] is False


@has("jsonlite")
def test_json(run):
    data = run("jsonlite::toJSON(list(a = 1:2), pretty = TRUE)").value
    assert json.loads(data["application/json"]) == {"a": [1, 2]} and data["text/plain"].startswith("{")


@has("knitr")
def test_kable(run):
    assert run("knitr::kable(data.frame(a = 1))").value["text/markdown"].startswith("|")
    assert "<table" in run("knitr::kable(data.frame(a = 1), 'html')").value["text/html"]


@has("DT")
def test_a_widget_is_one_page(run):
    data = run("DT::datatable(data.frame(word = 'findme'))").value
    page = data["text/html"].decode()
    assert data["text/plain"] == "<datatables>" and "findme" in page and page.startswith("<!DOCTYPE html>")
    assert not re.search(r'<(script|link)[^>]*(src|href)=', page), "something is outside of the page"
    assert "url(data:image/png;base64," in page or "url(" not in page
    assert run("htmltools::tags$b('x')").value == {"text/plain": "<b>x</b>", "text/html": "<b>x</b>"}


def test_help_is_text(run):
    assert "Arithmetic Mean" in run("?mean").value["text/plain"]


# ---- errors and warnings -------------------------------------------------------------------------

def test_error_with_calls_and_places(run):
    done = run("f <- function(x) {\n  y <- 1\n  g(x)\n}\ng <- function(x) {\n    x + y\n}\nf('a')\n")
    error = done.error
    assert (error["name"], error["line"], error["column"]) == ("simpleError", 6, 5)
    assert [(frame["func"], frame["line"]) for frame in error["frames"]] == [("<toplevel>", 8), ("f", 3), ("g", 6)]
    assert error["traceback"] == ["Error in g(x) : object 'y' not found", "Traceback:", "1. f(\"a\")  at a.r:8",
                                  "2. g(x)  at a.r:3", "3. in g  at a.r:6"]
    called = run("f('b')").error
    assert called["line"] == 1 and [frame["line"] for frame in called["frames"]] == [1, 3, 6]


@pytest.mark.parametrize("code,kind,message", [
    ("stop('boom')", "simpleError", "boom"),
    ("stop(structure(class = c('custom', 'error', 'condition'), list(message = 'm', call = NULL)))", "custom", "m"),
    ("library(nosuch)", "packageNotFoundError", "nosuch"),
    ("f <- function() f()\nf()", None, ""),
    ("options(warn = 2)\nwarning('w')", "simpleError", "(converted from warning) w"),
    ("invokeRestart('abort')", "abort", "aborted"),
    ("break", "simpleError", "break"),
    ("tryCatch(stop('a'), finally = cat(''))", "simpleError", "a"),
    ("options(error = recover)\nstop('r')", "simpleError", "r"),
    ("stop(strrep('\u00e9\"', 100000))", "simpleError", "\u00e9"),
])
def test_errors(run, code, kind, message):
    done = run(code)
    assert done.status == "error" and message in done.error["message"]
    assert kind is None or done.error["name"] == kind
    assert done.error["traceback"] and done.error["line"] in (1, 2)
    assert run("options(warn = 1, error = NULL)\nx <- 1").status == "ok"


@pytest.mark.parametrize("code,line", [
    ("x <- 1\ny <- (\n", 3), ("x <- 1\nfoo bar", 2), ("\n\n'abc", 3), ("x <- 1\ny <- '\\xzz'\nz <- 2", 2), ("f(1\n2)", 2),
    ("1 +* 2", 1), ("x <- 1\n}\n", 2)])
def test_syntax_errors(run, code, line):
    done = run("cat('ran')\n" + code)
    assert done.stdout == "" and done.error["name"] == "SyntaxError"
    assert (done.error["line"], "\n" in done.error["message"]) == (line + 1, False)
    assert f"  at a.r:{line + 1}" in done.error["traceback"]


def test_what_is_no_text(run):
    assert run(b"x <- 1\ny <- '\xff'\n").error["message"] == "the cell has bytes that are no UTF-8 in line 2"
    assert run(b"x <- 1\n\0\n").error["message"] == "the cell has a NUL byte in line 2"
    assert run(b"\xef\xbb\xbfcat(1)").stdout == "1"


def test_warnings_and_messages_are_live_on_stderr(run):
    done = run("cat('a\\n')\nwarning('top')\nf <- function() warning('inside')\nf()\nmessage('m')\ncat('b\\n')\nx <- as.integer('q')")
    assert done.status == "ok" and done.stdout == "a\nb\n"
    assert done.stderr == ("Warning: top\nWarning in f() : inside\nm\nWarning: NAs introduced by coercion\n")
    assert run("options(warn = 0)\nwarning('late')").stderr == "Warning: late\n"
    assert run("options(warn = 1)\nsuppressWarnings(f())\noptions(warn = -1)\nf()\noptions(warn = 1)").stderr == ""


# ---- the end of a run ----------------------------------------------------------------------------

@pytest.mark.parametrize("code,status,out", [
    ("q()", 0, ""), ("quit('no', 4)", 4, ""), ("q(status = 256 + 7)", 7, ""),
    ("f <- function() { on.exit(cat('on')); q(status = 3) }\nf()", 3, "on"),
    ("tryCatch(q(status = 2), condition = function(c) cat('no'), finally = cat('fin'))", 2, "fin"),
    ("base::q('no', 5)", 5, ""), ("sapply(1, function(i) quit(status = 6))", 6, "")])
def test_quit(run, code, status, out):
    done = run(code)
    assert (done.status, done.done["code"], done.stdout) == ("exit", status, out)


def test_finalizers_run_at_the_end(fresh):
    fresh.run("reg.finalizer(globalenv(), function(e) cat('finalized\\n'), onexit = TRUE) -> x", "a.r")
    fresh.send({"op": "shutdown"})
    assert fresh.wait() == 0
    fresh.until(lambda out: b"finalized\n" in out)


def test_sinks_left_open_are_closed(run):
    assert "sink" in run("sink('x.txt')\nprint(1)\n'value'").stderr
    assert run("print(2)").stdout == "[1] 2\n"
    run("sink(stdout(), type = 'message')\nmessage('to out')")
    assert run("message('to err')").stderr == "to err\n"


def test_readline_is_empty(run):
    assert run("x <- readline('ask? ')\nx").value["text/plain"] == ""
    assert run("scan(quiet = TRUE)").value["text/plain"] == "numeric(0)"
    assert run("browser()\n1").status == "ok" and run("x <- 1").stdout == ""


# ---- hostile cells -------------------------------------------------------------------------------

def test_nothing_of_the_driver_is_in_the_way(fresh):
    assert fresh.run("ls(all.names = TRUE)", "a.r").value["text/plain"] == "character(0)"
    assert fresh.run("f <- function() cat(environmentName(parent.frame()), environmentName(topenv()))\nf()", "a.r").stdout == "R_GlobalEnv R_GlobalEnv"
    assert fresh.run("nrow(showConnections())", "a.r").value["text/plain"] == "[1] 0"


MASKS = "c('print', 'cat', 'c', 'list', 'eval', 'parse', 'paste0', 'tryCatch', 'writeLines', 'structure', 'sink', 'stop', 'file')"

HOSTILE = {
    "masks": f"for (n in {MASKS}) assign(n, function(...) base::stop('mine'), globalenv())",
    "base": f"for (n in setdiff({MASKS}, c('stop', 'eval', 'structure', 'c', 'list'))) "
            "{ unlockBinding(n, baseenv()); assign(n, function(...) stop('mine'), baseenv()) }",
    "removed": "rm(list = ls(all.names = TRUE))",
    "connections": "closeAllConnections()",
    "options": "options(device = NULL, warn = 1, jupyter.base_display_func = NULL, width = 80)",
    "tempdir": "unlink(tempdir(), recursive = TRUE)",
    "detached": "detach('tools:cellfs'); detach('package:utils'); detach('package:methods'); detach('package:stats')",
    "graphics": "detach('package:graphics'); detach('package:grDevices'); graphics.off <- 1",
    "handlers": "options(error = quote(q()), warning.expression = quote(stop('w')))",
    "exits": ".Last <- function() stop('last'); q()",
    "jit": "compiler::enableJIT(0) -> x; gctorture(FALSE) -> y",
    "sinks": "for (i in 1:15) sink(paste0('s', i)); sink(stdout(), type = 'message')",
    "random": "set.seed(1); rm(.Random.seed)",
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_cell_does_not_break_the_driver(start, how):
    driver = start()
    assert driver.run(HOSTILE[how], "a.r").status in ("ok", "exit")
    assert driver.run("40 + 2", "a.r").value["text/plain"] == "[1] 42"
    assert driver.run("base::stop('e')", "a.r").error["line"] == 1
    assert driver.run("base::invisible(7)\n'text'", "a.r", env={"A": "1"}, cwd="/usr").value["text/plain"] == "text"
    if how != "base":
        assert driver.run("graphics::plot.default(1)", "a.r").displays[0]["data"]["image/png"].startswith(PNG)
        assert DATA in driver.run("base::data.frame(a = 1)", "a.r").value


def test_forked_children_are_not_drivers(driver, run):
    done = run("x <- parallel::mclapply(1:4, function(i) { cat('child\\n'); plot(i); display(i); i }, mc.cores = 2)\nunlist(x)")
    assert done.value["text/plain"] == "[1] 1 2 3 4" and not done.displays and done.stdout == "child\n" * 4
    for end in ("cat('fell\\n')", "stop('fell')", "q('no', 3)", "f <- function() invokeRestart('abort'); f()"):
        # The pipe tells when the child is gone: its end closes with it.
        done = run(f"p <- parallel:::mcfork()\nif (inherits(p, 'masterProcess')) {{\n{end}\n}} else parallel:::selectChildren(p, 10)")
        assert done.status == "ok" and done.error is None
    assert run("40 + 2").value["text/plain"] == "[1] 42"
    driver.late[1].clear()
    driver.late[2].clear()


def test_output_of_c_code_is_in_order(run):
    done = run("l <- dyn.load(sub('.* ', '', grep('/libc.so.6$', readLines('/proc/self/maps'), value = TRUE)[1]))\nputs <- getNativeSymbolInfo('puts', l)\n"
               "say <- function(t) invisible(.C(puts, c(charToRaw(t), as.raw(0))))\n"
               "cat('a\\n'); say('b'); system('echo c'); cat('d\\n'); say('e')")
    assert done.stdout == "a\nb\nc\nd\ne\n"


def test_system(run):
    assert run("system('exit 3') -> x\nx").value["text/plain"] == "[1] 3"
    assert run("system('kill -9 $$') -> x\nx").value["text/plain"] == "[1] 9"
    assert run("system('cat', input = c('a', 'b'))").stdout == "a\nb\n"
    assert run("system2('echo', 'hi', stdout = TRUE)").value["text/plain"] == "hi"
    assert "error in running command" in run("system('nosuchcommand 2>/dev/null')").stderr
    assert run("system('cat; echo end')").stdout == "end\n"
    assert run("system(\"printf '\\xff'\")").out[1] == b"\xff"


def test_what_a_pipe_runs_is_in_the_group_that_is_interrupted(driver, run):
    command = "echo \"it's \u00e9\"; cut -d' ' -f5 /proc/$$/stat"
    done = run(f"p <- pipe({json.dumps(command, ensure_ascii=False)})\nwriteLines(c(summary(p)$description, readLines(p)))\nclose(p)")
    assert done.stdout == f"{command}\nit's \u00e9\n{driver.pid}\n"


def test_an_interrupt_goes_to_the_cells_handlers_once(driver, run):
    number = driver.start("tryCatch({ cat('on\\n'); Sys.sleep(100) }, interrupt = function(i) cat('mine\\n'))\ncat('after\\n')", "a.r")
    driver.until(lambda out: b"on" in out)
    done, tries = driver.stop(number)
    assert (done.status, tries) == ("ok", 1) and done.stdout.endswith("mine\nafter\n")


def test_an_interrupt_that_native_code_does_not_see_ends_its_own_run(driver, run):
    number = driver.start("x <- system2('sh', c('-c', shQuote('trap : INT; echo on; sleep 0.3; true')))\n", "a.r")
    driver.until(lambda out: b"on" in out)
    assert driver.stop(number)[0].status == "interrupted"
    assert run("1").value["text/plain"] == "[1] 1"


# ---- where it runs -------------------------------------------------------------------------------

def test_a_library_in_the_home_is_used_once_it_is_there(fresh):
    path = fresh.run("cat(Sys.getenv('R_LIBS_USER'))", "a.r").stdout.split(os.pathsep)[0].replace("~", str(fresh.home))
    assert path.startswith(str(fresh.home))
    os.makedirs(path)
    assert fresh.run(".libPaths()[1]", "a.r").value["text/plain"] == path
    mine = fresh.cwd / "lib"
    mine.mkdir()
    fresh.send({"op": "set", "env": {"R_LIBS": str(mine)}})
    assert fresh.run(".libPaths()[1]", "a.r").value["text/plain"] == str(mine)


def test_startup_files_are_not_read(start, tmp_path):
    (tmp_path / ".Rprofile").write_text("stop('profile')")
    (tmp_path / ".Renviron").write_text("FROM_FILE=1")
    (tmp_path / ".RData").write_text("no")
    driver = start(cwd=tmp_path)
    assert driver.run("Sys.getenv('FROM_FILE')", "a.r").value["text/plain"] == ""


def test_any_locale(start):
    driver = start(env={"LC_ALL": "C", "LANG": "C"})
    done = driver.run("cat('\u00e9\u4e16\\n')\n'\u4e16'", "a.r")
    assert done.stdout == "\u00e9\u4e16\n" and done.value["text/plain"] == "\u4e16"


def test_the_folder_may_have_any_name(start, name, tmp_path, monkeypatch):
    """Also without driver.rds, as with another R than the one that made it."""
    import conftest
    folder = tmp_path / "a b's $x"
    folder.mkdir()
    for part in (KERNELS / "r").glob("*.R"):
        (folder / part.name).write_bytes(part.read_bytes())
    argv = [part.replace(str(KERNELS / "r"), str(folder)) for part in conftest.DRIVERS[name]]
    monkeypatch.setitem(conftest.DRIVERS, name, argv)
    assert start().run("1 + 1", "a.r").value["text/plain"] == "[1] 2"


def test_r_itself_is_an_interpreter_too(start, name, monkeypatch):
    import conftest
    argv = [conftest.DRIVERS[name][0].removesuffix("script"), *conftest.DRIVERS[name][1:]]
    monkeypatch.setitem(conftest.DRIVERS, name, argv)
    assert start().run("1 + 1", "a.r").value["text/plain"] == "[1] 2"
