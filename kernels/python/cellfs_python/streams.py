"""The user's stdout and stderr: live, in order with subprocesses and C code, and fast."""

import codecs
import ctypes
import io
import os
import sys

BUFFER = 65536
STARTS_OTHERS = frozenset((
    "subprocess.Popen", "os.system", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec"
))


def _escape(error):
    """Give a byte that came in by surrogateescape back as it was, and spell out the rest."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)


class Streams:
    """Owner of `sys.stdout` and `sys.stderr`."""

    def __init__(self):
        codecs.register_error("cellfs.escape", _escape)
        self._own = [_stream(1, "<stdout>"), _stream(2, "<stderr>")]
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__ = self._own
        libc = ctypes.CDLL(None)
        self._libc_flush = libc.fflush
        try:
            self._libc_stdout = ctypes.c_void_p.in_dll(libc, "stdout")
            libc.setvbuf(self._libc_stdout, None, 1, 0)
        except ValueError:
            self._libc_stdout = None
        sys.addaudithook(self._audit)

    def _audit(self, event, arguments):
        if event in STARTS_OTHERS:
            self.flush()

    def renew(self):
        """Replace a stream that a cell has closed."""
        for index, name in enumerate(("stdout", "stderr")):
            if self._own[index].closed:
                closed = self._own[index]
                self._own[index] = _stream(index + 1, f"<{name}>")
                if getattr(sys, name) is closed:
                    setattr(sys, name, self._own[index])
                setattr(sys, f"__{name}__", self._own[index])

    def flush(self):
        """Put all that was written so far into the pipes."""
        for stream in (sys.stdout, sys.stderr, *self._own):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        if self._libc_stdout:
            self._libc_flush(self._libc_stdout)


def _stream(fd, name):
    raw = io.FileIO(fd, "wb", closefd=False)
    raw.name = name
    return io.TextIOWrapper(
        io.BufferedWriter(raw, BUFFER), "utf-8", "cellfs.escape", "\n", line_buffering=True
    )
