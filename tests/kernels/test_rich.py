"""What values of pandas, plotly and altair show, and what a value shows that cannot be shown."""

import json

import pytest

from test_python import PACKAGES, error_of

ONLY = ("python", "python-bare")
DATA = "application/vnd.cellfs.data+json"
PLOTLY = "application/vnd.plotly.v1+json"


@pytest.fixture
def run(driver):
    driver.run(PACKAGES)
    return driver.run


def loaded(value):
    """The JSON of a format, however it came."""
    if isinstance(value, dict):
        return value["json"]
    return json.loads(value, parse_constant=pytest.fail)


# Tables.

@pytest.fixture
def table(run):
    pytest.importorskip("pandas")
    run("import pandas as pd, numpy as np, datetime, decimal")

    def table(code):
        done = run(code)
        assert (done.status, done.stderr) == ("ok", ""), (done.stderr, done.events)
        return loaded(done.value[DATA])

    return table


def test_a_data_frame(table):
    assert table("pd.DataFrame({'i': [1, 2], 'f': [.5, np.nan], 'b': [True, False], "
                 "'s': ['\u4e2d', None], 1: [np.inf, 0]})") == {
        "i": [1, 2], "f": [0.5, None], "b": [True, False], "s": ["\u4e2d", None], "1": [None, 0]}


COLUMNS = {
    "pd.to_datetime(['2024-01-02 03:04:05.000006', None])": ["2024-01-02T03:04:05.000006", None],
    "pd.to_datetime(['2024-01-02', '2024-07-02']).tz_localize('Europe/Berlin')":
        ["2024-01-02T00:00:00+01:00", "2024-07-02T00:00:00+02:00"],
    "[datetime.date(2024, 1, 2), datetime.time(3, 4)]": ["2024-01-02", "03:04:00"],
    "pd.to_timedelta([90, None], 's')": ["P0DT0H1M30S", None],
    "pd.period_range('2024-01', periods=2, freq='M')": ["2024-01", "2024-02"],
    "pd.Categorical(['a', None])": ["a", None],
    "pd.array([1, None], dtype='Int64')": [1, None],
    "pd.array(['x', None], dtype='string')": ["x", None],
    "[decimal.Decimal('1.10'), decimal.Decimal('0.1000000000000000000001')]":
        [1.1, "0.1000000000000000000001"],
    "[decimal.Decimal('NaN'), decimal.Decimal('Infinity')]": [None, None],
    "[np.array([1, 2]), {'k': [np.float64('nan'), {3}]}]": [[1, 2], {"k": [None, [3]]}],
    "[b'ab', 1j]": ["YWI=", "1j"],
    "[2**70, -1]": [2**70, -1],
}


@pytest.mark.parametrize("code", COLUMNS)
def test_columns(table, code):
    assert table(f"pd.DataFrame({{'c': {code}}})") == {"c": COLUMNS[code]}


def test_an_index_that_says_something_is_kept(table):
    assert table("pd.DataFrame({'a': [1]}, index=['p'])") == {"index": ["p"], "a": [1]}
    assert table("pd.DataFrame({'a': [1]}, index=pd.Index([5], name='k'))") == {"k": [5], "a": [1]}
    assert table("pd.DataFrame({'a': [1, 2], 'b': [3, 4]})[1:]") == {
        "index": [1], "a": [2], "b": [4]}
    assert table("pd.DataFrame({'k': [1, 1], 'g': ['x', 'y'], 'v': [2, 3]})"
                 ".groupby(['k', 'g']).sum()") == {"k": [1, 1], "g": ["x", "y"], "v": [2, 3]}
    assert table("pd.DataFrame({'k': [1], 'v': [2]}, index=pd.Index([3], name='k'))") == {
        "k.1": [3], "k": [1], "v": [2]}


def test_names_of_columns(table):
    assert table("pd.DataFrame([[1, 2, 3]], columns=['a', 'a', 'a.1'])") == {
        "a": [1], "a.1": [2], "a.1.1": [3]}
    assert table("pd.DataFrame({'k': [1, 1], 'v': [2, 4]}).groupby('k', as_index=False)"
                 ".agg({'v': ['sum', 'mean']})") == {"k": [1], "v.sum": [6], "v.mean": [3]}


def test_a_series(table):
    assert table("pd.Series([1, 2], name='s')") == {"s": [1, 2]}
    assert table("pd.Series([.5], index=['p'])") == {"index": ["p"], "value": [0.5]}


def test_a_large_table_is_cut_and_says_so(run, table):
    done = run("pd.DataFrame({'a': range(10**6)})")
    assert loaded(done.value[DATA]) == {"a": list(range(5000))}
    for text in done.value["text/plain"], done.value["text/html"]:
        assert text.count("data.json: the first 5,000 of 1,000,000 rows") == 1
    assert done.of("display")[0]["meta"][DATA] == {"rows": 5000, "total": 10**6}
    done = run("pd.DataFrame({'a': ['z' * 10**6] * 100})")
    assert "rows)" in done.value["text/plain"] and len(done.value[DATA]) < 8 << 20
    done = run("pd.DataFrame({'a': range(5000)})")
    assert len(loaded(done.value[DATA])["a"]) == 5000 and "data.json" not in \
        done.value["text/plain"] + str(done.value["text/html"])


def test_empty_tables(table):
    assert table("pd.DataFrame()") == {}
    assert table("pd.DataFrame({'a': []})") == {"a": []}


def test_a_subclass_is_a_table(table, run):
    run("class Mine(pd.DataFrame): pass")
    assert table("Mine({'a': [1]})") == {"a": [1]}


def test_a_table_that_fails_is_a_text(run, table):
    done = run("class Odd(pd.Series):\n  def to_frame(self, *_): raise ValueError('odd')\n"
               "Odd([7])")
    assert done.status == "ok" and DATA not in done.value and "7" in done.value["text/plain"]
    assert "ValueError: odd" in done.stderr


def test_display_of_a_table(run, table):
    assert loaded(run("display(pd.DataFrame({'a': [1]}))").displays[0]["data"][DATA]) == {"a": [1]}


# Interactive charts.

def page(value):
    return value.decode() if isinstance(value, bytes) else value


def test_plotly(run):
    pytest.importorskip("plotly")
    done = run("import plotly.graph_objects as go\n"
               "f = go.Figure(go.Scatter(x=[1, 2], y=[3, float('nan')]))\nf")
    assert (done.status, done.stderr, done.displays) == ("ok", "", [])
    figure = loaded(done.value[PLOTLY])
    assert (figure["data"][0]["x"], figure["data"][0]["y"]) == ([1, 2], [3, None])
    text = page(done.value["text/html"])
    assert "<html>" in text and "src=\"http" not in text.lower() and len(text) > 1 << 20
    for code in ("f.show()", "import plotly.io\nplotly.io.show(f)"):
        done = run(code)
        assert [PLOTLY in event["data"] for event in done.displays] == [True] and not done.value
    linked = run("f", env={"CELLFS_PLOTLYJS": "cdn"}).value["text/html"]
    assert len(page(linked)) < 1 << 16


def test_the_users_choice_of_a_plotly_renderer(run):
    pytest.importorskip("plotly")
    done = run("import plotly.graph_objects as go, plotly.io as pio\n"
               "kept, pio.renderers.default = pio.renderers.default, 'json'\n"
               "f = go.Figure(go.Scatter(x=[1], y=[3]))\nf")
    assert "application/json" in done.value and PLOTLY not in done.value, done.value.keys()
    run("pio.renderers.default = kept")


def test_altair(run):
    pytest.importorskip("altair")
    done = run("import altair as alt\n"
               "alt.Chart(alt.Data(values=[{'a': 1}])).mark_bar().encode(x='a:Q')")
    assert (done.status, done.stderr) == ("ok", "")
    (mime,) = [mime for mime in done.value if "vegalite" in mime]
    spec = loaded(done.value[mime])
    assert spec["data"]["values"] == [{"a": 1}] and f"/{mime.split('.')[2][:2]}" in spec["$schema"]
    text = page(done.value["text/html"])
    assert text.lower().startswith("<!doctype html>")
    # without Vega in the page it says what it needs
    assert len(text) > 1 << 19 or "vl-convert-python" in text


# What cannot be shown.

CLASS = "class V:\n    def __repr__(self): return 'V'\n    def {}: {}\n"
BROKEN = {
    "raises": ("_repr_html_(self)", "1/0"),
    "a bundle that raises": ("_repr_mimebundle_(self, include=None, exclude=None)", "1/0"),
    "a circle": ("_repr_json_(self)", "d = {}; d['d'] = d; return d"),
    "too deep": ("_repr_json_(self)", "exec('l = []\\nfor i in range(10**5): l = [l]'); "
                                      "return locals()['l']"),
    "a bundle with a circle": ("_repr_mimebundle_(self, **_)",
                               "l = []; l.append(l); return {'application/json': l}"),
    "text that raises": ("_repr_mimebundle_(self, **_)",
                         "return {'text/x-own': type('T', (), {'__str__': lambda s: 1/0})()}"),
    "no picture": ("_repr_png_(self)", "return object()"),
    "no method": ("__getattr__(self, name)", "raise ZeroDivisionError(name)"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_cannot_be_shown_is_a_text(run, what):
    done = run(CLASS.format(*BROKEN[what]) + "V()")
    assert done.status == "ok" and done.value["text/plain"] == "V", (done.events, done.stderr)
    done = run("display(V())")
    assert done.status == "ok" and done.displays[0]["data"]["text/plain"] == "V"
    if what in ("raises", "a bundle that raises", "a circle", "too deep"):
        assert done.stderr


def test_a_bundle_of_the_wrong_kind(run):
    for wrong in ("5", "[1]", "({}, {}, {})", "('x', 5)", "{5: 'x'}", "None"):
        done = run(CLASS.format("_repr_mimebundle_(self, **_)", f"return {wrong}") + "V()")
        assert done.status == "ok" and done.value["text/plain"] == "V", (wrong, done.events)


def test_keys_and_values_that_json_has_not(run):
    pytest.importorskip("numpy")
    done = run("import numpy as np, decimal, datetime\n" + CLASS.format(
        "_repr_json_(self)",
        "return {(1, 2): {3}, None: np.float32(.5), 'n': [np.nan, np.int8(1)], "
        "'a': np.array([1, np.inf]), 'd': datetime.date(2024, 1, 2)}") + "V()")
    assert loaded(done.value["application/json"]) == {
        "(1, 2)": [3], "None": 0.5, "n": [None, 1], "a": [1, None], "d": "2024-01-02"}


def test_metadata_that_json_has_not(run):
    done = run("display(5, metadata={(1, 2): object()})\nm = {}\nm['m'] = m\n"
               "display(5, metadata=m)")
    assert done.status == "ok" and len(done.displays) == 2


def test_unknown_types_are_kept(run):
    done = run("display({'application/x-own+json': {'a': 1}, 'text/x-own': 'o', 'chemical/x-pdb': "
               "'c', 'image/webp': b'w', 'text/plain': 'p'}, raw=True)")
    assert done.displays[0]["data"] == {
        "application/x-own+json": {"json": {"a": 1}}, "text/x-own": "o", "chemical/x-pdb": "c",
        "image/webp": b"w", "text/plain": "p"}


def test_a_failing_repr_is_an_error_whatever_else_there_is(run):
    error_of(run("class R:\n  def _repr_html_(self): return 'h'\n"
                 "  def __repr__(self): raise ValueError('no')\nR()"), "ValueError", 3)
