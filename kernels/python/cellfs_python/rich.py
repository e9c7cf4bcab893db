"""What values of well-known libraries show beside the formats that they have themselves.

Nothing is imported here that the value's own library has not imported.
"""

import functools
import importlib
import os
import sys

from . import bundle

PLOTLY_RENDERER = "plotly_mimetype"


def add(value, data, meta):
    """Add to a bundle of `value`; a format that cannot be made is left out, and stderr says so."""
    try:
        maker = _maker(type(value))
    except Exception:
        return
    if maker is None:
        return
    try:
        maker(value, data, meta)
    except Exception:
        bundle.complain(f"showing {type(value).__name__}")


@functools.lru_cache(256)
def _maker(kind):
    for base in kind.__mro__:
        library = str(base.__module__).partition(".")[0]
        maker = MAKERS.get((library, base.__name__))
        if maker:
            return maker
    return None


def _table(value, data, meta):
    from . import tables
    tables.add(value, data, meta)


def _figure(value, data, meta):
    from . import backend
    backend.add(value, data, meta)


def _plotly(value, data, meta):
    if sys.modules["plotly.io"].renderers.default != PLOTLY_RENDERER:
        return  # the user has chosen another one
    data["application/vnd.plotly.v1+json"] = value.to_json()
    script = os.environ.get("CELLFS_PLOTLYJS", "inline")
    data["text/html"] = value.to_html(include_plotlyjs=True if script == "inline" else script)


def _altair(value, data, meta):
    display = importlib.import_module(_package(value) + ".display")
    spec = value.to_dict()
    data.setdefault(display.VEGALITE_MIME_TYPE, spec)
    try:
        data["text/html"] = value.to_html(inline=True)
    except (ImportError, TypeError, ValueError):
        page = value.to_html()
        data["text/html"] = page.replace('<div id="vis"></div>', ALTAIR_NOTE, 1)


def _package(value):
    return next(base.__module__ for base in type(value).__mro__
                if base.__name__ == "TopLevelMixin").rpartition(".")[0]


ALTAIR_NOTE = '<div id="vis">This page fetches Vega from the network. ' \
    "With Altair 5.3 and the Python package vl-convert-python it holds all that it needs.</div>"

MAKERS = {
    ("pandas", "DataFrame"): _table,
    ("pandas", "Series"): _table,
    ("polars", "DataFrame"): _table,
    ("polars", "Series"): _table,
    ("pyarrow", "Table"): _table,
    ("matplotlib", "Figure"): _figure,
    ("plotly", "BaseFigure"): _plotly,
    ("altair", "TopLevelMixin"): _altair,
}
