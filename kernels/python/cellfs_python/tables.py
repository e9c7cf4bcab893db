"""Tables as data: `application/vnd.cellfs.data+json`, {"column": [values]}.

An index that only counts is left out, any other one comes first, as columns. Of a large table only
the first rows are taken, and the other formats of the value say so.
"""

import base64
import datetime
import decimal
import html
import reprlib
import sys

MIME = "application/vnd.cellfs.data+json"
ROWS_MOST = 5000
CELLS_MOST = 100000
TEXT_MOST = 4 << 20
NESTED_MOST = 100000
DEPTH_MOST = 16


def add(value, data, meta):
    """Put the table `value` into a bundle."""
    library = next(name for name in map(_library, type(value).__mro__) if name in READERS)
    total, names, read = READERS[library](value)
    kept = min(total, ROWS_MOST, CELLS_MOST // max(len(names), 1))
    room = TEXT_MOST // max(len(names), 1)
    columns = [_cells(column, room) for column in read(kept)]
    kept = min(map(len, columns), default=kept)
    data[MIME] = {name: column[:kept] for name, column in zip(names, columns)}
    if kept < total:
        meta[MIME] = {"rows": kept, "total": total}
        note = f"data.json: the first {kept:,} of {total:,} rows"
        data["text/plain"] = f"{data.get('text/plain', '')}\n({note})"
        if "text/html" in data:
            data["text/html"] += f"<p>{html.escape(note)}</p>\n"


def _library(kind):
    return str(kind.__module__).partition(".")[0]


def _unique(names):
    """Each name as a text; one that is there already gets a number."""
    seen, made = set(), []
    for name in names:
        parts = map(str, name) if isinstance(name, tuple) else (str(name),)
        text = base = ".".join(filter(None, parts))
        count = 0
        while text in seen:
            count += 1
            text = f"{base}.{count}"
        seen.add(text)
        made.append(text)
    return made


def _pandas(value):
    pandas = sys.modules["pandas"]
    index, frame = value.index, value
    if value.ndim == 1:
        frame = value.to_frame("value" if value.name is None else value.name)
    names = []
    counts = isinstance(index, pandas.RangeIndex) and index.start == 0 and index.step == 1
    if index.names != [None] or not (counts or index.empty):
        default = ["index"] if index.nlevels == 1 else [f"level_{i}" for i in range(index.nlevels)]
        names = [given if name is None else name for name, given in zip(index.names, default)]

    def read(kept):
        top = frame.iloc[:kept]
        if names:
            for level in range(index.nlevels):
                yield top.index.get_level_values(level).tolist()
        for place in range(top.shape[1]):
            yield top.iloc[:, place].tolist()

    texts = _unique([*frame.columns, *names])  # where two are the same, the index gets the number
    return len(frame), texts[frame.shape[1]:] + texts[:frame.shape[1]], read


def _polars(value):
    frame = value.to_frame() if hasattr(value, "to_frame") else value

    def read(kept):
        yield from frame.head(kept).to_dict(as_series=False).values()

    return len(frame), list(frame.columns), read


def _pyarrow(value):
    def read(kept):
        return (column.to_pylist() for column in value.slice(0, kept).columns)

    return value.num_rows, _unique(value.column_names), read


READERS = {"pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow}


def _cells(values, room):
    """JSON's form of the values, as far as there is room for it."""
    made = []
    for value in values:
        kind = type(value)
        cell = value if kind is int or kind is bool else _cell(value)
        if cell.__class__ in (str, list, dict):
            room -= _length(cell)
            if room < 0 and made:
                break
        made.append(cell)
    return made


def _length(cell):
    if isinstance(cell, dict):
        return sum(len(key) + _length(each) for key, each in cell.items())
    if isinstance(cell, list):
        return sum(map(_length, cell))
    return len(cell) if isinstance(cell, str) else 20


def _cell(value, depth=0):
    """What JSON has for a value: times by ISO 8601, no number as null, else its text."""
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, float):
        return float(value) if value - value == 0 else None  # not so NaN and infinity
    if isinstance(value, decimal.Decimal):
        return _decimal(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat() if value == value else None  # not so NaT
    if isinstance(value, datetime.timedelta):
        return _duration(value)
    if type(value).__name__ == "NAType":
        return None
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if hasattr(value, "tolist") and getattr(value, "size", 0) <= NESTED_MOST:  # of numpy
        return _cell(value.tolist(), depth + 1)
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        if depth > DEPTH_MOST or len(value) > NESTED_MOST:
            return reprlib.repr(value)
        if isinstance(value, dict):
            return {str(key): _cell(each, depth + 1) for key, each in value.items()}
        return [_cell(each, depth + 1) for each in value]
    return str(value)


def _decimal(value):
    """A number where a double has just these digits, else the text."""
    if not value.is_finite():
        return None
    number = float(value)
    return number if decimal.Decimal(repr(number)) == value else str(value)


def _duration(value):
    """ISO 8601, as pandas has it."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    minutes, seconds = divmod(value.seconds + value.microseconds / 1e6, 60)
    return f"P{value.days}DT{minutes // 60:.0f}H{minutes % 60:.0f}M{round(seconds, 6):g}S"
