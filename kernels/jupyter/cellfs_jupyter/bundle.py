"""MIME bundles of Jupyter's messages, made ready for the wire."""

import ast
import base64
import binascii

from cellfs_python.wire import dumps

MOST_FORMATS = 32
TEXT_OF_IMAGE = ("image/svg+xml",)
BINARY = ("application/pdf", "application/octet-stream", "application/zip", "application/wasm")


def pack(data):
    """{MIME: (JSON text or None, payload bytes)} of a bundle; the text is what may go inline."""
    packed = {}
    for mime, value in data.items():
        if value is None or len(packed) == MOST_FORMATS:
            continue
        if isinstance(value, list) and not _is_json(mime) and all(isinstance(line, str) for line in value):
            value = "".join(value)  # as notebooks keep text
        if isinstance(value, str):
            payload = _decoded(value) if _is_binary(mime) else None
            packed[mime] = (dumps(value), value.encode("utf-8", "replace")) if payload is None else (None, payload)
        else:
            text = dumps(value)
            packed[mime] = b'{"json":' + text + b"}", text
    return packed


def readable(data, language):
    """A string reads as itself, where the language writes it as Python does; its repr stands beside it."""
    text = data.get("text/plain")
    if language in ("python", "javascript", "typescript") and isinstance(text, str) and text[:1] in ("'", '"', "("):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return data
        if isinstance(value, str):
            return {**data, "text/plain": value, "text/x-repr": text}
    return data


def _is_json(mime):
    return mime == "application/json" or mime.endswith("+json")


def _is_binary(mime):
    return mime.partition("/")[0] in ("image", "audio", "video", "font") and mime not in TEXT_OF_IMAGE \
        or mime in BINARY


def _decoded(text):
    try:
        return base64.b64decode(text.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        return None
