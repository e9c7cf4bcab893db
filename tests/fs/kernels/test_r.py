"""R through the mount."""

import json
import os

import pytest

from control.steps import events, kernel, record, says
from mount import done, read, read_bytes, run, within, write

PNG = b"\x89PNG\r\n\x1a\n"


def names(r, prefix):
    return sorted(name for name in os.listdir(r) if name.startswith(prefix))


def test_the_last_visible_value_and_those_before(ctx):
    r = run(ctx, "a.r", "x <- 1:3\nmean(x)\n'a\"b'\ny <- x * 2\n")
    assert done(r) == "ok", read(r / "report.md")
    assert read(r / "display-1.txt") == "[1] 2\n"
    assert (read(r / "result.txt"), read(r / "result.repr.txt")) == ('a"b\n', '"a\\"b"\n')
    assert (read(r / "stdout"), read(r / "stderr")) == ("", "")


@pytest.mark.parametrize("ext", ["r", "R"])
def test_both_extensions_share_one_kernel(ctx, ext):
    assert done(run(ctx, "a.r", "x <- 5\n")) == "ok"
    assert read(run(ctx, "b." + ext, "cat(x)\n") / "stdout") == "5"
    assert kernel(ctx, "r")["generation"] == 1


def test_a_data_frame_is_text_html_and_data(ctx):
    r = run(ctx, "a.r", "data.frame(when = as.POSIXct('2026-01-02 03:04:05', tz = 'UTC'), f = factor('u'), n = NA_real_)\n")
    assert done(r) == "ok", read(r / "report.md")
    assert json.loads(read(r / "result.data.json")) == {"when": ["2026-01-02T03:04:05Z"], "f": ["u"], "n": [None]}
    assert read(r / "result.html").startswith("<table") and "when" in read(r / "result.txt")


def test_plots_are_displays_in_order_and_ggplot_is_the_result(ctx):
    r = run(ctx, "a.r", "plot(1)\ncat('between\\n')\nhist(c(1, 2, 2))\nsuppressMessages(library(ggplot2))\nggplot(mtcars, aes(mpg, cyl)) + geom_point()\n")
    assert done(r) == "ok", read(r / "report.md")
    assert names(r, "display") == ["display-1.png", "display-2.png"]
    for name in ("display-1.png", "display-2.png", "result.png"):
        assert read_bytes(r / name).startswith(PNG) and read_bytes(r / name).endswith(b"IEND\xaeB`\x82")
    assert read(r / "stdout") == "between\n" and read(r / "stderr") == "", read(r / "stderr")
    assert names(run_done(ctx, "x <- 1\n"), "display") == []
    svg = run_done(ctx, "options(jupyter.plot_mimetypes = 'image/svg+xml')\nplot(1)\n")
    assert "<svg" in read(svg / "display-1.svg")


def run_done(ctx, code):
    r = run(ctx, "b.r", code)
    assert done(r) == "ok", read(r / "report.md")
    return r


def test_a_widget_is_one_page(ctx):
    r = run_done(ctx, "DT::datatable(data.frame(a = 'findme'))\n")
    assert "findme" in read(r / "result.html") and "<script src=" not in read(r / "result.html")


def test_errors_and_warnings(ctx):
    r = run(ctx, "a.r", "#| label: x\nf <- function(x) {\n  warning('careful')\n  x + nosuch\n}\nf(1)\n")
    assert done(r) == "error" and read(r / "stderr") == "Warning in f(1) : careful\n"
    e = json.loads(read(r / "error.json"))
    assert (e["name"], e["line"], e["column"]) == ("simpleError", 4, 3) and "nosuch" in e["message"]
    assert [(f["file"], f["line"], f["func"]) for f in e["frames"]] == [("a.r", 6, "<toplevel>"), ("a.r", 4, "f")]
    assert read(r / "error.txt").splitlines()[0] == "Error in f(1) : object 'nosuch' not found"
    e = json.loads(read(run(ctx, "b.r", "x <- 1\ny <- (2\nz\n") / "error.json"))
    assert (e["name"], e["line"]) == ("SyntaxError", 3)


def test_quit_ends_the_run_only(ctx):
    r = run(ctx, "a.r", "kept <- 5\nq(status = 3)\n")
    assert done(r) == "error" and read(r / "exit_code") == "3\n" and record(r)["error"]["name"] == "ExitStatus"
    assert read(run_done(ctx, "cat(kept)\n") / "stdout") == "5"


@pytest.mark.parametrize("wait", ["system('sleep 1000')", "repeat tryCatch(Sys.sleep(1000), condition = function(c) 1)", "kmeans(runif(3e6), 1000, 1e9)"])
def test_interrupts_keep_the_state(ctx, wait):
    run_done(ctx, "kept <- 7\n")
    r = run(ctx, "a.r", f"cat('go\\n')\n{wait}\ncat('after\\n')\n")
    says(r, "go\n")
    with within(10):
        write(ctx / "ctl", "interrupt\n")
        assert done(r) == "interrupted"
    assert record(r)["state_preserved"] is True and read(r / "stdout") == "go\n"
    assert read(run_done(ctx, "cat(kept)\n") / "stdout") == "7"


def test_children_and_libraries_of_the_box(ctx):
    r = run_done(ctx, "unlist(parallel::mclapply(1:3, function(i) { cat('c\\n'); i * 2 }, mc.cores = 2))\n")
    assert read(r / "result.txt") == "[1] 2 4 6\n" and read(r / "stdout") == "c\n" * 3
    r = run_done(ctx, "dir.create(Sys.getenv('R_LIBS_USER'), recursive = TRUE) -> made\n")
    assert read(run_done(ctx, ".libPaths()[1]\n") / "result.txt").startswith("/home/user/")


def test_prints_and_displays_keep_their_order(ctx):
    r = run_done(ctx, "for (i in 0:99) {\n  cat(i, '\\n')\n  display(i)\n}\n")
    out, seen, at = read(r / "stdout"), [], 0
    for e in events(r):
        if e["type"] == "stdout":
            seen += [int(x) for x in out[e["offset"] : e["offset"] + e["size"]].split()]
        elif e["type"] == "display":
            assert seen[-1] == at
            at += 1
    assert at == 100
