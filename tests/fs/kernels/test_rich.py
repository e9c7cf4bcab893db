"""Rich results through the mount: each format is a file with its extension, its type and its bytes."""

import json
import os

import pytest

from control.steps import record
from mount import Mount, done, read, read_bytes, run, write

PNG = b"\x89PNG\r\n\x1a\n"
# MIME type: extension. The table of cellfs(5), and what has none of its own.
TYPES = {
    "text/plain": "txt", "text/x-repr": "repr.txt", "text/html": "html", "image/png": "png",
    "image/svg+xml": "svg", "application/json": "json", "text/markdown": "md",
    "text/latex": "tex", "image/jpeg": "jpg", "application/pdf": "pdf",
    "application/javascript": "js", "application/vnd.cellfs.data+json": "data.json",
    "application/vnd.cellfs.chart+json": "chart.json",
    "application/vnd.plotly.v1+json": "application_vnd.plotly.v1+json",
    "application/vnd.vegalite.v5+json": "application_vnd.vegalite.v5+json",
    "image/gif": "image_gif", "image/webp": "image_webp", "text/x-own": "text_x-own",
}


def is_binary(mime):
    return mime == "application/pdf" or mime.startswith("image/") and mime != "image/svg+xml"


@pytest.mark.parametrize("kind", ["result", "display-1"])
def test_every_type_has_its_extension(ctx, kind):
    bundle = {mime: bytes(range(256)) if is_binary(mime) else
              {"of": mime} if mime.endswith("json") else f"of {mime}" for mime in TYPES}
    show = "V()" if kind == "result" else "_ = display(V())"
    r = run(ctx, "a.py", f"class V:\n    def _repr_mimebundle_(self, **_): return {bundle!r}\n{show}\n")
    assert done(r) == "ok", read(r / "report.md")
    names = {n for n in os.listdir(r) if n.startswith(("result", "display"))}
    assert names == {f"{kind}.{ext}" for ext in TYPES.values()}
    for mime, ext in TYPES.items():
        name = r / f"{kind}.{ext}"
        assert os.getxattr(name, "user.mime_type").decode() == mime
        if is_binary(mime):
            assert read_bytes(name) == bundle[mime]
        elif mime.endswith("json"):
            assert json.loads(read(name)) == bundle[mime]
        else:
            assert read(name) == bundle[mime] + "\n"
    (shown,) = record(r)["results"]
    assert set(shown["formats"]) == set(TYPES)


def test_a_figure_has_a_picture_and_a_chart(ctx):
    r = run(ctx, "a.py", "import matplotlib.pyplot as plt\nplt.plot([1, 2.5], label='l')\nplt.title('\u4e2d')\n"
            "plt.show()\nfig, ax = plt.subplots()\n_ = ax.bar(['a', 'b'], [3, 3])\nfig\n")
    assert done(r) == "ok", read(r / "report.md")
    assert read_bytes(r / "display-1.png").startswith(PNG)
    assert read_bytes(r / "result.png").startswith(PNG)
    line, bar = (json.loads(read(r / name)) for name in ("display-1.chart.json", "result.chart.json"))
    assert (line["type"], line["title"]) == ("line", "\u4e2d")
    assert line["elements"] == [{"label": "l", "points": [[0, 1], [1, 2.5]]}]
    assert bar["elements"] == [{"label": "a", "group": "", "value": 3}, {"label": "b", "group": "", "value": 3}]
    assert not [n for n in os.listdir(r) if n.startswith("display-2")]
    assert read(r / "stderr") == ""
    report = read(r / "report.md")
    assert "display-1.chart.json` (application/vnd.cellfs.chart+json" in report and "result.png" in report


def test_formats_of_figures(ctx):
    write(ctx / "config" / "env" / "CELLFS_FIGURES", "svg")
    code = "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])\n"
    r = run(ctx, "a.py", code)
    assert done(r) == "ok" and {n for n in os.listdir(r) if n.startswith("display")} == {
        "display-1.svg", "display-1.txt", "display-1.chart.json"}
    assert "<svg" in read(r / "display-1.svg")
    r = run(ctx, "b.py", "#| env.CELLFS_FIGURES: png pdf\n" + code)
    assert done(r) == "ok" and read_bytes(r / "display-1.pdf").startswith(b"%PDF")
    assert read_bytes(r / "display-1.png").startswith(PNG) and not (r / "display-1.svg").exists()


def test_a_data_frame_is_data(ctx):
    r = run(ctx, "a.py", "import pandas as pd\npd.DataFrame({'t': pd.to_datetime(['2024-01-02', None]), 'v': [.5, None]},"
            " index=['p', 'q'])\n")
    assert done(r) == "ok", read(r / "report.md")
    assert json.loads(read(r / "result.data.json")) == {
        "index": ["p", "q"], "t": ["2024-01-02T00:00:00", None], "v": [0.5, None]}
    report = read(r / "report.md")
    assert "2024-01-02  0.5" in report and "result.data.json` (application/vnd.cellfs.data+json" in report
    r = run(ctx, "b.py", "pd.DataFrame({'a': range(9000)})\n")
    assert done(r) == "ok" and json.loads(read(r / "result.data.json")) == {"a": list(range(5000))}
    for name in "result.txt", "result.html", "report.md":
        assert "data.json: the first 5,000 of 9,000 rows" in read(r / name)


def test_plotly_is_a_page_of_its_own(ctx):
    r = run(ctx, "a.py", "import plotly.graph_objects as go\ngo.Figure(go.Bar(x=['a'], y=[2]))\n")
    assert done(r) == "ok", read(r / "report.md")
    page = read(r / "result.html")
    assert "<html>" in page and len(page) > 1 << 20 and 'src="http' not in page
    figure = json.loads(read(r / "result.application_vnd.plotly.v1+json"))
    assert figure["data"][0]["y"] == [2] and read(r / "result.txt").startswith("Figure({")
    assert len(read(r / "report.md")) < 32 << 10


def test_what_fails_to_show_is_no_error_but_a_failing_repr_is(ctx):
    r = run(ctx, "a.py", "class A:\n    def _repr_html_(self): 1/0\n    def _repr_json_(self):\n        d = {}\n"
            "        d['d'] = d\n        return d\n    def __repr__(self): return 'A'\nA()\n")
    assert done(r) == "ok" and read(r / "result.txt") == "A\n" and "ZeroDivisionError" in read(r / "stderr")
    assert {n for n in os.listdir(r) if n.startswith("result")} == {"result.txt"}
    r = run(ctx, "b.py", "class B:\n    def __repr__(self): 1/0\nB()\n")
    assert done(r) == "error" and json.loads(read(r / "error.json"))["line"] == 2


def test_languages_says_when_no_font_has_cjk_or_emoji(m, tmp_path):
    def line(mounted):
        (found,) = [each for each in read(mounted.path / "languages").splitlines() if each.startswith("python ")]
        return found

    assert "no font" not in line(m)
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    for names, lacking in (("NotoColorEmoji.ttf", "CJK and emoji"), ("NotoSansCJK-Regular.ttc", "emoji"), ("Symbola.ttf", None)):
        (fonts / names).write_text("")
        other = Mount(env={"XDG_DATA_DIRS": str(tmp_path)})
        said = line(other)
        other.close()
        assert (f"plots: no font for {lacking} (apt-get install" in said) if lacking else "no font" not in said, said
