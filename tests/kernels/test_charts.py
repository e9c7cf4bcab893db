"""The chart of a figure, value by value against the data that drew it; what fonts it has."""

import datetime
import json
import math

import pytest

from test_python import PACKAGES, PNG

ONLY = ("python", "python-bare")
CHART = "application/vnd.cellfs.chart+json"

pytest.importorskip("matplotlib")


@pytest.fixture
def draw(driver):
    """Runs a cell that leaves one figure; its chart, with the common fields taken off."""
    driver.run(PACKAGES + "import matplotlib.pyplot as plt, numpy as np, datetime\n"
               "fig = lambda: plt.subplots()[1]")

    def draw(code):
        done = driver.run(code)
        assert (done.status, done.stderr) == ("ok", ""), (done.stderr, done.events)
        (shown,) = done.displays
        assert shown["data"]["image/png"].startswith(PNG)
        return of(shown)

    return draw


def of(event):
    value = event["data"].get(CHART)
    return json.loads(value) if isinstance(value, bytes) else value and value["json"]


X = [0.5, 1.25, 7.0, -3.0, 1e9]
Y = [1.0, float("nan"), -2.5, 4.0, float("inf")]
DAYS = [datetime.datetime(2024, 2, 28, 23), datetime.datetime(2024, 3, 1, 0, 30)]


def points(xs, ys):
    return [[x, y if math.isfinite(y) else None] for x, y in zip(xs, ys)]


def test_line(draw):
    x, y = X, Y
    chart = draw(f"inf, nan = np.inf, np.nan\nax = fig()\nax.plot({x}, {y}, label='one')\n"
                 "ax.plot([1, 1], [2, 3], 'r--', label='upright')\nax.plot([5, 6])\n"
                 "ax.set(title='T', xlabel='Time (s)', ylabel='Load [kN]');")
    assert {key: chart[key] for key in ("type", "title", "x_label", "y_label", "x_unit", "y_unit",
                                        "x_scale", "y_scale", "library")} == {
        "type": "line", "title": "T", "x_label": "Time (s)", "y_label": "Load [kN]", "x_unit": "s",
        "y_unit": "kN", "x_scale": "linear", "y_scale": "linear", "library": "matplotlib"}
    assert chart["elements"] == [
        {"label": "one", "points": points(x, y)},
        {"label": "upright", "points": [[1, 2], [1, 3]]},
        {"label": "", "points": [[0, 5], [1, 6]]}]


def test_ticks_are_those_in_view(draw):
    chart = draw("ax = fig()\nax.plot([0, 4], [10, 30])\n"
                 "ax.set_xticks([0, 1, 2, 3, 4])\nax.set_yticks([10, 30], ['low', 'high'])\n"
                 "ax.set_xlim(1, 3);")
    assert (chart["x_ticks"], chart["x_tick_labels"]) == ([1, 2, 3], ["1", "2", "3"])
    assert (chart["y_ticks"], chart["y_tick_labels"]) == ([10, 30], ["low", "high"])


def test_scatter(draw):
    chart = draw("ax = fig()\nax.scatter([1, 2], [3, 4], c=[7, 8], s=[20, 30], label='a')\n"
                 "ax.plot([5, 6], [7, 8], 'o', label='b');")
    assert chart["type"] == "scatter"
    assert sorted(chart["elements"], key=lambda element: element["label"]) == [
        {"label": "a", "points": [[1, 3], [2, 4]], "values": [7, 8], "sizes": [20, 30]},
        {"label": "b", "points": [[5, 7], [6, 8]]}]


def bars(chart):
    return [(bar["group"], bar["label"], bar["value"]) for bar in chart["elements"]]


def test_bars(draw):
    chart = draw("fig().bar(['a', 'b', 'c'], [3, 3, 3]);")
    assert (chart["type"], chart["orientation"], chart["x_scale"]) == (
        "bar", "vertical", "categorical")
    assert bars(chart) == [("", "a", 3), ("", "b", 3), ("", "c", 3)]
    assert chart["x_ticks"] == chart["x_tick_labels"] == ["a", "b", "c"]


def test_horizontal_bars(draw):
    chart = draw("ax = fig()\nax.barh(['a', 'b'], [1, 2.5], xerr=[.5, 1])\n"
                 "ax.set(xlabel='value', ylabel='name');")
    assert (chart["type"], chart["orientation"], chart["y_scale"]) == (
        "bar", "horizontal", "categorical")
    assert (chart["x_label"], chart["y_label"]) == ("value", "name")
    assert chart["elements"] == [
        {"label": "a", "group": "", "value": 1, "error": [0.5, 1.5]},
        {"label": "b", "group": "", "value": 2.5, "error": [1.5, 3.5]}]


def test_grouped_and_stacked_bars(draw):
    chart = draw("ax = fig()\nx = np.arange(2)\nax.bar(x - .2, [1, 2], .4, label='m')\n"
                 "ax.bar(x + .2, [3, 4], .4, label='w')\nax.set_xticks(x, ['p', 'q']);")
    assert bars(chart) == [("m", "p", 1), ("m", "q", 2), ("w", "p", 3), ("w", "q", 4)]
    chart = draw("ax = fig()\nax.bar(['p', 'q'], [1, 2], label='m')\n"
                 "ax.bar(['p', 'q'], [3, 4], bottom=[1, 2], label='w');")
    assert bars(chart) == [("m", "p", 1), ("m", "q", 2), ("w", "p", 3), ("w", "q", 4)]
    assert [bar.get("base") for bar in chart["elements"]] == [None, None, 1, 2]


def test_bars_at_numbers_and_times(draw):
    assert bars(draw("fig().bar([2019, 2021], [1, 2]);")) == [("", "2019", 1), ("", "2021", 2)]
    chart = draw(f"fig().bar({DAYS!r}, [1, 2], width=.5);")
    assert bars(chart) == [("", day.isoformat(), value) for day, value in zip(DAYS, (1, 2))]
    chart = draw(f"fig().barh(['task'], datetime.timedelta(1), left={DAYS[0]!r});")
    assert chart["elements"] == [{
        "label": "task", "group": "", "base": DAYS[0].isoformat(),
        "value": (DAYS[0] + datetime.timedelta(1)).isoformat()}]


def test_pie(draw):
    values = [1, 2.5, 0.5]
    chart = draw(f"fig().pie({values}, labels=['a', 'b', 'c'], autopct='%d');")
    assert chart == {"type": "pie", "title": None, "library": "matplotlib", "elements": [
        {"label": label, "angle": value / 4 * 360, "radius": 1, "value": value}
        for label, value in zip("abc", values)]}


def test_pie_with_a_legend(draw):
    chart = draw("ax = fig()\nax.pie([1, 1], colors=['r', 'b'])\nax.legend(['x', 'y']);")
    assert [each["label"] for each in chart["elements"]] == ["x", "y"]


@pytest.mark.parametrize("way", ["vertical", "horizontal"])
def test_box_and_whisker(draw, way):
    # By hand: the quartiles of 1…9 are 3, 5, 7; the whiskers reach to 1 and 9.
    data = [[*range(1, 10)], [*range(1, 9), 9, 9, 50]]
    chart = draw(f"ax = fig()\nax.boxplot({data}, vert={way == 'vertical'})\n"
                 f"ax.set_{'x' if way == 'vertical' else 'y'}ticks([1, 2], ['p', 'q']);")
    assert (chart["type"], chart["orientation"]) == ("box_and_whisker", way)
    first, second = chart["elements"]
    assert first == {"label": "p", "min": 1, "first_quartile": 3, "median": 5,
                     "third_quartile": 7, "max": 9, "outliers": []}
    assert (second["label"], second["max"], second["outliers"]) == ("q", 9, [50])


def test_histogram(draw):
    chart = draw("fig().hist([1, 2, 2, 3, 9], bins=[0, 2, 4, 10], label='h');")
    assert (chart["type"], chart["orientation"]) == ("histogram", "vertical")
    assert chart["elements"] == [{"label": "h", "bins": [0, 2, 4, 10], "values": [1, 3, 1]}]


@pytest.mark.parametrize("kind", ["bar", "barstacked", "step", "stepfilled"])
def test_several_histograms(draw, kind):
    chart = draw(f"fig().hist([[1, 1, 3], [3]], bins=[0, 2, 4], histtype={kind!r}, stacked=True, "
                 "label=['a', 'b']);")
    elements = sorted(chart["elements"], key=lambda element: element["label"])
    assert elements == [{"label": "a", "bins": [0, 2, 4], "values": [2, 1]},
                        {"label": "b", "bins": [0, 2, 4], "values": [0, 1]}]


def test_bars_that_are_a_histogram(draw):
    for code in ("bar([0, 1, 3], [4, 5, 6], width=[1, 2, 1], align='edge')",
                 "stairs([4, 5, 6], [0, 1, 3, 4])"):
        chart = draw(f"fig().{code};")
        assert chart["type"] == "histogram"
        assert chart["elements"] == [{"label": "", "bins": [0, 1, 3, 4], "values": [4, 5, 6]}]
    assert draw("fig().bar([0, 1, 2], [4, 5, 6], width=1);")["type"] == "bar"


def test_heatmap(draw):
    chart = draw("ax = fig()\nim = ax.imshow([[1, 2, 3], [4, np.nan, 6]])\n"
                 "ax.set_xticks([0, 1, 2], ['a', 'b', 'c'])\n"
                 "ax.figure.colorbar(im, label='K');")
    assert chart["type"] == "heatmap"  # the color bar is no chart
    assert chart["elements"] == [{"label": "K", "x": ["a", "b", "c"], "y": [0, 1],
                                  "values": [[1, 2, 3], [4, None, 6]]}]
    chart = draw("fig().imshow([[1, 2], [3, 4]], origin='lower', extent=(0, 4, 10, 30));")
    assert chart["elements"][0]["x"] == [1, 3] and chart["elements"][0]["y"] == [15, 25]
    chart = draw("fig().pcolormesh([0, 1, 3], [0, 10, 20], [[1, 2], [3, 4]]);")
    assert chart["elements"] == [{"label": "", "x": [0.5, 2], "y": [5, 15],
                                  "values": [[1, 2], [3, 4]]}]


def test_superchart(draw):
    chart = draw("f, (a, b, _, c) = plt.subplots(1, 4)\na.plot([1, 2])\nb.bar(['x'], [3])\n"
                 "c.twinx().scatter([1], [2])\nf.suptitle('S')\nb.set_title('B');")
    assert (chart["type"], chart["title"]) == ("superchart", "S")
    assert [(each["type"], each["title"]) for each in chart["elements"]] == [
        ("line", None), ("bar", "B"), ("scatter", None)]  # what is empty is left out
    assert chart["elements"][0]["elements"] == [{"label": "", "points": [[0, 1], [1, 2]]}]
    assert bars(chart["elements"][1]) == [("", "x", 3)]
    assert draw("f, _ = plt.subplots(1, 2)\nf.axes[0].plot([1])\nf.suptitle('S');"
                )["title"] == "S"


def test_mixed(draw):
    chart = draw("ax = fig()\nax.scatter([1, 2], [3, 4], label='data')\n"
                 "ax.plot([1, 2], [3.5, 3.5], label='fit');")
    assert (chart["type"], sorted(chart["kinds"])) == ("mixed", ["line", "scatter"])
    assert sorted(chart["elements"], key=lambda element: element["type"]) == [
        {"type": "line", "label": "fit", "points": [[1, 3.5], [2, 3.5]]},
        {"type": "scatter", "label": "data", "points": [[1, 3], [2, 4]]}]
    chart = draw("ax = fig()\nax.hist([1, 2], bins=2)\nax.plot([1, 2], [0, 1]);")
    assert sorted(chart["kinds"]) == ["histogram", "line"]


def test_unknown(draw):
    chart = draw("ax = fig()\nax.contourf([[1, 2], [3, 4]])\nax.set_title('C');")
    assert (chart["type"], chart["title"], chart["elements"]) == ("unknown", "C", [])
    assert len(chart["not_read"]) == 1
    assert draw("ax = plt.figure().add_subplot(projection='3d')\nax.plot([1], [2], [3]);"
                )["type"] == "unknown"
    chart = draw("ax = fig()\nax.plot([1, 2])\nax.fill_between([0, 1], [0, 1], label='band');")
    assert chart["type"] == "line" and len(chart["not_read"]) == 1


def test_reference_lines_are_no_data(draw):
    chart = draw("ax = fig()\nax.hist([1, 2], bins=2)\nax.axvline(1.5, label='mean');")
    assert chart["type"] == "histogram"
    assert chart["reference_lines"] == [{"label": "mean", "axis": "x", "value": 1.5}]


def test_error_bars(draw):
    chart = draw("fig().errorbar([1, 2], [3, 4], xerr=.5, yerr=[[1, 2], [3, 4]], label='e');")
    assert chart["elements"] == [{"label": "e", "points": [[1, 3], [2, 4]],
                                  "x_errors": [[0.5, 1.5], [1.5, 2.5]],
                                  "y_errors": [[2, 6], [2, 8]]}]


@pytest.mark.parametrize("scale", ["log", "symlog", "logit"])
def test_scales(draw, scale):
    chart = draw(f"ax = fig()\nax.plot([.1, .5, .9], [1, 2, 3])\nax.set_xscale({scale!r});")
    assert (chart["x_scale"], chart["y_scale"]) == (scale, "linear")
    assert chart["elements"][0]["points"] == [[0.1, 1], [0.5, 2], [0.9, 3]]


def test_labels_of_a_log_axis_can_be_read(draw):
    chart = draw("fig().semilogy([1, 1000]);")
    assert dict(zip(chart["y_ticks"], chart["y_tick_labels"]))[100] == "10^2"


def test_times(draw):
    texts = [day.isoformat() for day in DAYS]
    chart = draw(f"fig().plot({DAYS!r}, [1, 2]);")
    assert (chart["x_scale"], [x for x, _ in chart["elements"][0]["points"]]) == (
        "datetime", texts)
    assert all(datetime.datetime.fromisoformat(tick) for tick in chart["x_ticks"])
    chart = draw(f"z = datetime.timezone(datetime.timedelta(hours=2))\n"
                 f"fig().plot([d.replace(tzinfo=z) for d in {DAYS!r}], [1, 2]);")
    assert [x for x, _ in chart["elements"][0]["points"]] == [text + "+02:00" for text in texts]
    chart = draw("fig().plot(np.array(['2024-01-01T00:00:00.25'], 'M8[ms]'), [1], 'o');")
    moment = chart["elements"][0]["points"][0][0]
    assert datetime.datetime.fromisoformat(moment) == datetime.datetime(2024, 1, 1, 0, 0, 0, 250000)


def test_times_come_out_as_they_went_in(draw):
    """Though matplotlib keeps them as days in a double."""
    moments = [datetime.datetime(2031, 5, 6) + datetime.timedelta(milliseconds=777777 * i)
               for i in range(300)]
    chart = draw(f"fig().plot([datetime.datetime.fromisoformat(each) for each in "
                 f"{list(map(str, moments))}], range(300));")
    assert [datetime.datetime.fromisoformat(x) for x, _ in chart["elements"][0]["points"]] == moments


def test_categories(draw):
    chart = draw("fig().plot(['a', 'b', 'a'], [1, 2, 3]);")
    assert chart["x_scale"] == "categorical"
    assert chart["elements"][0]["points"] == [["a", 1], ["b", 2], ["a", 3]]
    chart = draw("ax = fig()\nax.plot([0, 1], [1, 2])\nax.set_xticks([0, 1], ['p', 'q']);")
    assert chart["x_scale"] == "categorical"
    assert chart["elements"][0]["points"] == [["p", 1], ["q", 2]]


def test_pandas(draw, driver):
    pytest.importorskip("pandas")
    driver.run("import pandas as pd\n"
               "df = pd.DataFrame({'u': [1, 2], 'v': [3, 4]}, index=['p', 'q'])")
    assert bars(draw("_ = df.plot.bar();")) == [
        ("u", "p", 1), ("u", "q", 2), ("v", "p", 3), ("v", "q", 4)]
    assert draw("_ = df.plot.hist(bins=[0, 2, 4]);")["elements"][1] == {
        "label": "v", "bins": [0, 2, 4], "values": [0, 2]}
    assert [box["median"] for box in draw("_ = df.plot.box();")["elements"]] == [1.5, 3.5]
    chart = draw("_ = pd.Series([1, 2], pd.date_range('2024-01-01', periods=2)).plot();")
    assert chart["x_scale"] == "datetime" and chart["elements"][0]["points"] == [
        ["2024-01-01T00:00:00", 1], ["2024-01-02T00:00:00", 2]]


def test_points_are_limited_and_it_says_so(draw):
    chart = draw("ax = fig()\nax.plot(np.arange(10**6), label='long')\nax.plot([1, 2]);")
    long, short = chart["elements"]
    assert chart["truncated"] is True and (long["truncated"], long["total"]) == (True, 10**6)
    assert 1000 < len(long["points"]) <= 5000 and "truncated" not in short
    assert long["points"][0] == [0, 0] and long["points"][-1] == [999999, 999999]
    assert len(short["points"]) == 2
    chart = draw("fig().imshow(np.ones((1000, 500)));")
    image = chart["elements"][0]
    assert image["total"] == [1000, 500] and sum(map(len, image["values"])) <= 5000
    (row,) = draw("fig().imshow(np.ones((1, 20001)), aspect='auto');")["elements"][0]["values"]
    assert 2500 <= len(row) <= 5000
    assert len(image["x"]) == len(image["values"][0]) and len(image["y"]) == len(image["values"])


def test_many_axes_are_limited(draw):
    chart = draw("f, axes = plt.subplots(7, 7)\nfor ax in axes.flat: ax.plot([1])\n"
                 "f.set_size_inches(1, 1)")
    assert (chart["truncated"], chart["total"]) == (True, 49) and len(chart["elements"]) < 49


def test_an_empty_figure_has_no_chart(draw):
    assert draw("plt.figure();") is None and draw("fig();") is None
    assert draw("fig().text(.5, .5, 'only text');") is None


def test_odd_texts(draw):
    chart = draw("ax = fig()\nax.plot([1], label='\\ud800')\nax.set_xlabel('')\n"
                 "ax.set_title('\u4e16' * 600, fontsize=1);")
    assert chart["x_label"] is None and chart["title"] == "\u4e16" * 500


EVERYTHING = """
a = plt.subplots(4, 4)[1].flat
for ax in a: ax.set_title('t')
a[0].plot([1, 2])
a[0].axhline(1)
a[1].bar([1, 2], [3, 4], yerr=1)
a[2].hist([1, 2], histtype='step')
a[3].boxplot([[1, 2]])
a[4].pie([1, 2])
a[5].imshow([[1, 2]])
a[6].pcolormesh([[1, 2]])
a[7].scatter([1, 2], [3, 4], c=['r', 'b'], label='x')
a[7].plot([1, 2])
a[8].errorbar([1, 2], [3, 4], yerr=1)
a[9].stem([1, 2])
a[10].plot([datetime.datetime(2024, 1, 1)], [1], label='l')
a[10].legend()
a[11].plot(['a'], [1])
a[12].contour([[1, 2], [3, 4]])
a[13].bar([1.5, 2.5], [1, 2], tick_label=['p', 'q'])
a[14].hist([1])
a[15].plot(range(6000))
"""
FAIL_IN_TURN = """
import types
from cellfs_python import backend, charts
kept, backend._draw = backend._draw, lambda *_: b'picture'
owners = charts, charts._Plot, charts._Scale, charts._Series
functions = [(owner, name, value) for owner in owners for name, value in vars(owner).items()
             if isinstance(value, types.FunctionType) and value.__module__ == charts.__name__]
came = set()
for owner, name, value in functions:
    def fail(*arguments, **options):
        came.add(name)
        raise ZeroDivisionError
    setattr(owner, name, fail)
    display(a[0].figure, display_id=f'{owner.__name__}.{name}')
    setattr(owner, name, value)
backend._draw = kept
print(*sorted({name for _, name, _ in functions} - came))
"""


def test_no_way_of_failing_reaches_the_cell(driver, draw):
    """Each function of the module fails in turn, for a figure that needs it."""
    assert CHART in driver.run(EVERYTHING + "display(ax.figure)").displays[0]["data"]
    done = driver.run(EVERYTHING + FAIL_IN_TURN)
    assert (done.status, done.stderr) == ("ok", "")
    spared = done.stdout.split()  # what works before a figure is shown, and pandas' own
    assert spared == ["_note_boxes", "_note_histogram", "_note_slices", "_periods", "watch"]
    assert len(done.displays) > 40
    for event in done.displays:
        assert event["data"]["image/png"] == b"picture"
        assert (CHART in event["data"]) == (event["display_id"].split(".")[-1] in spared), event
    assert of(driver.run("fig().plot([1, 2]);").displays[0])["type"] == "line"


def test_a_note_that_fails_costs_no_figure(driver, draw):
    driver.run("from cellfs_python import charts\nkept = {}\n"
               "for name in '_note_histogram', '_note_boxes', '_note_slices':\n"
               "    kept[name], charts.__dict__[name] = charts.__dict__[name], None")
    assert draw("fig().hist([1, 2], bins=2);")["type"] == "bar"
    assert "box_and_whisker" != draw("fig().boxplot([1, 2]);")["type"]
    assert draw("fig().pie([1, 1]);")["elements"][0]["angle"] == 180
    driver.run("charts.__dict__.update(kept)")


def test_drawing_fails_as_it_did(driver, draw):
    done = driver.run("fig().hist('nonsense', bins='nonsense');")
    assert done.status == "error" and done.error["line"] == 1
    assert "cellfs_python" not in "".join(done.error["traceback"])


def test_a_chart_costs_little(driver, draw):
    done = driver.run("""
import time
from cellfs_python import charts
ax = fig()
for i in range(10): ax.plot(np.random.rand(1000), label=str(i))
ax.figure.canvas.draw()
took = []
for _ in range(5):
    begin = time.perf_counter()
    charts.chart(ax.figure)
    took.append(time.perf_counter() - begin)
print(min(took))
plt.close()
""")
    assert float(done.stdout) < 0.05  # 0.005 where nothing else runs


# Formats of figures.

def formats(done):
    (shown,) = done.displays
    return sorted(key for key in shown["data"] if key not in ("text/plain", CHART))


def test_formats_by_the_environment(driver, draw):
    assert formats(driver.run("fig().plot([1]);", env={"CELLFS_FIGURES": "svg"})) == [
        "image/svg+xml"]
    assert formats(driver.run("fig().plot([1]);", env={"CELLFS_FIGURES": "png, pdf"})) == [
        "application/pdf", "image/png"]
    done = driver.run("fig().plot([1]);", env={"CELLFS_FIGURES": "nonsense"})
    assert formats(done) == [] and "no figure format 'nonsense': there are png" in done.stderr
    assert formats(driver.run("fig().plot([1]);")) == ["image/png"]


def test_formats_by_ipython(fresh, name):
    if name != "python":
        pytest.skip("needs IPython")
    fresh.run("%config InlineBackend.figure_formats = ['svg', 'pdf']")
    fresh.run("import matplotlib.pyplot as plt")
    assert formats(fresh.run("plt.plot([1]);")) == ["application/pdf", "image/svg+xml"]
    fresh.run("from matplotlib_inline.backend_inline import set_matplotlib_formats\n"
              "set_matplotlib_formats('retina')")
    done = fresh.run("plt.plot([1]);")
    picture = done.displays[0]["data"]["image/png"]
    width = int.from_bytes(picture[16:20], "big")
    assert done.displays[0]["meta"]["image/png"]["width"] == width // 2 and width > 1000


def test_a_figure_is_shown_once(driver, draw):
    done = driver.run("ax = fig()\nax.plot([1, 2])\nax.figure")
    (event,) = done.of("display")
    assert event["kind"] == "result" and of(event)["type"] == "line"
    assert event["data"]["text/plain"].startswith("<Figure")


# Fonts.

TEXTS = "fig().set_title('\u4e2d\u6587 \u304b\u306a \ud55c\uae00 \U0001f680')"


def test_cjk_and_emoji_have_glyphs(driver, draw, name):
    """Where a font has none, matplotlib warns and draws a box."""
    done = driver.run(f"import warnings\nwarnings.simplefilter('always')\n{TEXTS};")
    assert "missing" not in done.stderr, done.stderr
    done = driver.run("with plt.rc_context({'font.family': 'monospace'}):\n"
                      f"    {TEXTS}\n    plt.show()")
    assert "missing" not in done.stderr


def test_without_such_fonts(start):
    driver = start(env={"XDG_DATA_DIRS": "/nonexistent"})
    done = driver.run(PACKAGES + "import matplotlib.pyplot as plt\n"
                      f"fig = lambda: plt.subplots()[1]\n{TEXTS};")
    assert done.status == "ok" and "missing" in done.stderr
    assert done.displays[0]["data"]["image/png"].startswith(PNG)
