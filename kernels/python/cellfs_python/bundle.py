"""MIME bundles: the formats of a value, made ready for the wire."""

import base64
import binascii
import sys

from .wire import dumps

METHODS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_pdf_": "application/pdf",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
    "_repr_javascript_": "application/javascript",
}
MOST_FORMATS = 32
META_LIMIT = 4096


def formats(value):
    """The bundle and metadata of `value` by its `_repr_*_` methods and its repr.

    A failing method costs its own format only, and stderr says so; a failing repr raises.
    """
    data, meta = {}, {}
    if not isinstance(value, type):
        for method in ("_repr_mimebundle_", *METHODS):
            try:
                _ask(value, method, data, meta)
            except Exception:
                complain(method)
    if "text/plain" not in data:
        data["text/plain"] = repr(value)
    return data, meta


def _ask(value, method, data, meta):
    mime = METHODS.get(method)
    function = None if mime in data else getattr(value, method, None)
    made = function() if callable(function) else None
    if made is None:
        return
    extra = {}
    if isinstance(made, tuple) and len(made) == 2:
        made, extra = made
    if mime is None:
        data.update(made)
        meta.update(extra)
    else:
        data[mime] = made
        if extra:
            meta[mime] = extra


def readable(value, data):
    """A string reads as itself; its repr stands beside it."""
    if isinstance(value, str) and type(value).__repr__ is str.__repr__:
        return {**data, "text/plain": str(value), "text/x-repr": repr(value)}
    return data


def pack(data):
    """{MIME: (JSON text or None, payload bytes)} of a bundle; the text is what may go inline."""
    packed = {}
    for mime, value in data.items():
        if value is None or not isinstance(mime, str) or len(packed) == MOST_FORMATS:
            continue
        try:
            packed[mime] = _pack(mime, value)
        except Exception:  # what JSON has no form for: a circle, too deep
            complain(f"the format {mime}")
    return packed


def _pack(mime, value):
    if isinstance(value, str) and _binary(mime):
        try:
            value = base64.b64decode(value.encode("ascii"), validate=False)
        except (binascii.Error, UnicodeEncodeError):
            pass
    if isinstance(value, (bytes, bytearray, memoryview)):
        return None, bytes(value)
    if isinstance(value, str):
        return dumps(value), value.encode("utf-8", "replace")
    text = dumps(value)
    return b'{"json":' + text + b"}", text


def metadata(meta):
    """`meta` if it has a form in JSON, and a short one."""
    try:
        return meta if len(dumps(meta)) < META_LIMIT else None
    except Exception:
        return None


def _binary(mime):
    kind = mime.partition("/")[0]
    return kind in ("image", "audio", "video") and mime != "image/svg+xml" \
        or mime == "application/pdf"


def complain(what):
    """Say on stderr that a format is missing, and why."""
    kind, error = sys.exc_info()[:2]
    print(f"{what} failed: {kind.__name__}: {error}", file=sys.stderr)
