"""The control protocol's lines, acks and spool files."""

import fcntl
import json
import os
import select

PROTOCOL = 1
LINE_LIMIT = 65536
INLINE_LIMIT = 16384
FIRST_FD = 500


def dumps(value):
    """JSON without spaces; a number that JSON has no form for becomes null."""
    try:
        text = _encode(value)
    except ValueError:
        text = _encode(_finite(value))
    return text.encode("utf-8", "replace")


def _finite(value):
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return None
    return value


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class Wire:
    """The bridge's end of the control pipes."""

    def __init__(self):
        self.spool = None
        self.commands, self._events, self._acks, _ = map(_claim, (3, 4, 5, 6))
        self._unread = b""
        self._owed = 0
        self._files = 0

    def receive(self):
        """The commands of one read; None at the end of file."""
        chunk = os.read(self.commands, LINE_LIMIT)
        if not chunk:
            return None
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def send(self, event):
        """Write one event."""
        self._write(dumps(event))

    def log(self, text):
        """Tell the context's log."""
        self.send({"ev": "log", "text": text[:4096]})

    def display(self, event, formats, wakeup):
        """Send a `display` with `formats` (as bundle.pack made them) and wait for its ack.

        The wait ends early when `wakeup` can be read, for an interrupt; the ack is then taken before the next one.
        """
        data = b",".join(self._inline(formats))
        self._write(dumps(event)[:-1] + b',"data":{' + data + b"}}")
        self._owed += 1
        waiting = select.poll()
        waiting.register(self._acks, select.POLLIN)
        waiting.register(wakeup, select.POLLIN)
        while self._owed:
            ready = [fd for fd, _ in waiting.poll()]
            if self._acks not in ready:
                return
            self._owed -= len(os.read(self._acks, self._owed)) or self._owed

    def _inline(self, formats):
        room = LINE_LIMIT - 8192
        for mime, (text, payload) in formats.items():
            if text is None or len(payload) > INLINE_LIMIT or len(text) > room:
                text = dumps({"file": self._put(payload)})
            room -= len(text)
            yield dumps(mime) + b":" + text

    def _put(self, payload):
        self._files += 1
        name = f"{os.getpid()}-{self._files}"
        path = os.path.join(self.spool, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(payload)
        return name

    def _write(self, line):
        put(self._events, line + b"\n")


def put(fd, data):
    """Write all of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest):]


def _claim(fd):
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FD)
    except OSError:
        if fd == 6:
            return None
        raise
    os.close(fd)
    return moved
