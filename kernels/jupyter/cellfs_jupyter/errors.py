"""Jupyter's errors as the protocol wants them."""

import re

from cellfs_python.errors import LINE_LIMIT, MESSAGE_LIMIT, cut, short

COLOURS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-Za-z]|[=>78cDEHM])")

# Where tracebacks name a line of the cell, the surest first; of those that fit equally the last is the innermost.
PLACES = [re.compile(pattern) for pattern in (
    r"^(?:Cell |Input )In ?\[\d+\], line (?P<line>\d+)",                             # IPython
    r"\b(?:ipython-input-[^>]*>|ipykernel_\d+/\d+\.py)\"?(?:, line |:)(?P<line>\d+)",
    r"\bIn\[\d+\]:(?P<line>\d+)",                                                   # IJulia
    r"<(?:text|stdin|cell|string|input|anonymous|eval|repl)[^>]*>\"?(?:, line |:)(?P<line>\d+)(?::(?P<column>\d+))?",
    r"^-+> ?(?P<line>\d+)\b",
    r"\b[Ll]ine:? ?(?P<line>\d+)(?:,? ?(?:col|column):? ?(?P<column>\d+))?",
)]
UNPARSED = ("Error in parse(", "Continuation prompt found")  # IRkernel, whose others are ERROR; metakernel
HANDLER = re.compile(r"\d+\. \.handleSimpleError\(")  # with evaluate 1.0 IRkernel shows this frame of its own
FRAME = re.compile(r"^(?:File |[A-Z]\w* In ?\[|In ?\[|<ipython-input)")
ARROW = PLACES[4]


def plain(text):
    """TEXT without a terminal's colours."""
    return COLOURS.sub("", text)


def describe(content, name, code):
    """The `error` event of Jupyter's error CONTENT in CODE, the cell NAME, but for the run's id."""
    traceback = content.get("traceback")
    text = [plain(str(part)) for part in traceback] if isinstance(traceback, list) else []
    rows = _rows(text)
    message = plain(str(content.get("evalue") or "")).strip("\n")
    event = {
        "ev": "error",
        "name": short(name_of(content), LINE_LIMIT),
        "message": short(message, MESSAGE_LIMIT),
        **(_place([*rows, *message.split("\n")], code) if code and content.get("lines", True) else {}),
    }
    rows = _rows(part for part in text if not HANDLER.match(part))
    event["frames"] = [{"file": name, "line": event["line"], "func": ""}] if "line" in event else []
    if "line" in event:
        rows.insert(0, f"{name}, line {event['line']}")  # the kernel knows the cell by a number only
    event["traceback"] = cut(rows or [f"{event['name']}: {event['message']}"])
    return event


def _rows(parts):
    return [row for part in parts for row in part.rstrip("\n").split("\n")]


def name_of(content):
    """The error's name without what some kernels put around it."""
    name = plain(str(content.get("ename") or "")).strip()
    found = re.fullmatch(r"<class '(?:.*\.)?(\w+)'>", name)
    if str(content.get("evalue") or "").startswith(UNPARSED):
        return "SyntaxError"
    return found[1] if found else "Error" if name in ("", "ERROR") else name


def _place(rows, code):
    last = code.rstrip().count("\n") + 1
    rows = [row for row in rows[-2000:] if len(row) < LINE_LIMIT]
    here, cells = True, []  # IPython's arrows are in files too, below a heading that says so
    for row in rows:
        if FRAME.match(row):
            here = not row.startswith("File ")
        elif not here and ARROW.match(row):
            continue
        cells.append(row)
    for pattern in PLACES:
        found = [match for row in cells for match in pattern.finditer(row)
                 if 1 <= int(match["line"]) <= code.count("\n") + 2]
        if found:
            place = {key: int(value) for key, value in found[-1].groupdict().items() if value}
            if place["line"] <= last and place.get("column", 1) > 0:
                return place
            return {"line": min(place["line"], last)}  # a parser's end of the input
    return {}
