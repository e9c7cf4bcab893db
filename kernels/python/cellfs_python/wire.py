"""The control protocol's lines, acks and spool files; Jupyter's bridge has them from here too."""

import fcntl
import json
import os
import select
import threading

PROTOCOL = 1
LINE_LIMIT = 65536
INLINE_LIMIT = 16384
FIRST_FD = 500  # above what a cell closes when it makes itself a daemon


def dumps(value):
    """Strict JSON without spaces: what has no JSON form becomes null or text."""
    try:
        text = _encode(value)
    except (TypeError, ValueError):
        text = _encode(_strict(value))
    return text.encode("utf-8", "replace")


def _fallback(value):
    if isinstance(value, (set, frozenset)):
        return list(value)
    for method in ("item", "tolist", "isoformat"):
        if hasattr(value, method):
            try:
                return getattr(value, method)()
            except Exception:
                pass
    return str(value)


def _strict(value):
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # not so NaN and infinity
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return _strict(_fallback(value))


_encode = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_fallback
).encode


class Wire:
    """The driver's end of the control pipes."""

    def __init__(self, interrupts):
        self.interrupts = interrupts
        self.spool = None
        self.commands, self._events, self._acks, self._guard = map(_claim, (3, 4, 5, 6))
        self._unread = b""
        self._owed = 0
        self._files = 0
        self.lock = threading.RLock()  # one event, with its ack, at a time

    def close(self):
        """Let go of the pipes: a forked child is not the driver."""
        for fd in (self.commands, self._events, self._acks, self._guard):
            if fd is not None:
                os.close(fd)
        self.commands = self._events = self._acks = self._guard = None
        self.lock = threading.RLock()

    @property
    def closed(self):
        return self._events is None

    def receive(self, wait=None):
        """The next command, None at the end. `wait(fd)` is called before a read that may block."""
        while b"\n" not in self._unread:
            if wait:
                wait(self.commands)
            chunk = os.read(self.commands, LINE_LIMIT)
            if not chunk:
                return None
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def send(self, event):
        """Write one event."""
        self._write(dumps(event))

    def hello(self, **what):
        """Write the first event."""
        self.send({"ev": "hello", "proto": PROTOCOL, "min_proto": PROTOCOL, "pid": os.getpid(), **what})

    def begin(self, command):
        """Do what an `init` asks for, but for `ready`. False: it is of another protocol."""
        if command["proto"] != PROTOCOL:
            self.log(f"only protocol {PROTOCOL} is spoken here")
            return False
        self.spool = command["spool"]
        return True

    def log(self, text):
        """Tell the context's log."""
        self.send({"ev": "log", "text": text[:4096]})

    def display(self, event, formats, wakeup=None):
        """Send a `display` event with `formats` (as `pack` made them) and wait for its ack.

        The wait ends early when `wakeup` can be read; the ack is then taken before the next one.
        """
        if self.closed:
            return
        with self.lock:
            with self.interrupts:
                data = self._inline(formats)
                line = dumps(event)[:-1] + b',"data":{' + b",".join(data) + b"}}"
                self._write(line)
                self._owed += 1
            waiting = select.poll()
            for fd in (self._acks, wakeup):
                if fd is not None:
                    waiting.register(fd, select.POLLIN)
            while self._owed:
                if self._acks not in [fd for fd, _ in waiting.poll()]:
                    return
                with self.interrupts:
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
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(os.path.join(self.spool, name), flags, 0o600)
        try:
            put(fd, payload)
        except BaseException:
            os.unlink(os.path.join(self.spool, name))
            raise
        finally:
            os.close(fd)
        return name

    def _write(self, line):
        if self.closed:
            return
        with self.interrupts, self.lock:
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
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16)
    os.close(fd)
    return moved
