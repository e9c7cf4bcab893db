"""Errors as the protocol wants them: name, message, place, frames, traceback."""

import linecache
import os
import sys
import traceback

from .wire import dumps

DRIVER = os.path.dirname(os.path.abspath(__file__))
MESSAGE_LIMIT = 8192
FRAMES_LIMIT = 40
TRACEBACK_LIMIT = 36864
LINE_LIMIT = 4096


def describe(error, name):
    """The `error` event of what ended a run of the cell `name`, but for the run's id."""
    summary = traceback.TracebackException(type(error), error, error.__traceback__)
    _strip(summary, set())
    event = {"ev": "error", "name": type(error).__name__, "message": _message(error)}
    event.update(_place(error, summary.stack or (), name))
    frames = [
        {"file": frame.filename[:1024], "line": frame.lineno, "func": frame.name[:256]}
        for frame in summary.stack or ()
    ]
    if len(frames) > FRAMES_LIMIT:
        frames[FRAMES_LIMIT // 2:-FRAMES_LIMIT // 2] = []
    if len(dumps(frames)) > MESSAGE_LIMIT:
        frames[2:-4] = []
    event["frames"] = frames
    event["traceback"] = cut([line for part in summary.format() for line in part.split("\n")[:-1]])
    return event


def _message(error):
    try:
        text = error.msg if isinstance(error, SyntaxError) and error.msg else str(error)
    except Exception:
        text = f"<{type(error).__name__} without a printable message>"
    return short(text, MESSAGE_LIMIT)


def _place(error, stack, name):
    for frame in reversed(stack):
        if frame.filename == name:
            place = {"line": frame.lineno}
            column = getattr(frame, "colno", None)
            if column is not None:
                text = linecache.getline(name, frame.lineno).encode("utf-8", "replace")
                place["column"] = len(text[:column].decode("utf-8", "replace")) + 1
            return place
    if isinstance(error, SyntaxError) and error.filename == name and error.lineno:
        return {"line": error.lineno, **({"column": error.offset} if error.offset else {})}
    return {}


def _strip(summary, seen):
    """Take the frames of the driver and of IPython's own running of a cell out."""
    if summary is None or id(summary) in seen:
        return
    seen.add(id(summary))
    hidden = (DRIVER, *_ipython())
    frames = [frame for frame in summary.stack if not frame.filename.startswith(hidden)]
    summary.stack[:] = frames
    if not frames:
        summary.stack = None  # no heading over nothing
    for other in (summary.__cause__, summary.__context__, *(_group(summary))):
        _strip(other, seen)


def _group(summary):
    return getattr(summary, "exceptions", None) or ()


def _ipython():
    module = sys.modules.get("IPython")
    return (os.path.dirname(module.__file__) + os.sep,) if module else ()


def short(text, limit):
    """TEXT as far as it has room."""
    if len(text) * 4 <= limit or len(dumps(text)) <= limit:
        return text
    while len(dumps(text)) > limit:
        text = text[:len(text) * 7 // 8 - 1]
    return text + "…"


def cut(lines):
    """Leave lines out in the middle until the rest fits."""
    lines = [short(line, LINE_LIMIT) for line in lines]
    sizes = [len(dumps(line)) + 1 for line in lines]
    if sum(sizes) <= TRACEBACK_LIMIT:
        return lines
    head, room = 0, TRACEBACK_LIMIT // 4
    while room > sizes[head]:
        room -= sizes[head]
        head += 1
    tail, room = len(lines), TRACEBACK_LIMIT * 3 // 4 - 64
    while room > sizes[tail - 1]:
        tail -= 1
        room -= sizes[tail]
    return [*lines[:head], f"  … {tail - head} lines left out …", *lines[tail:]]
