"""The user's stdout and stderr, which reach the bridge twice: as messages, and in the pipes of the kernel's process.

What a child of the kernel prints is in the pipes only, or, with kernels that send it as messages, in both (an echo).
Which it is shows itself: until then what is in the pipes is held back to the end of the run.
"""

from cellfs_python.wire import put

TAIL = 8192
HELD_MOST = 1 << 20


class Stream:
    """One of the two."""

    def __init__(self, fd):
        self.fd = fd
        self.echoes = None
        self.tail = b""
        self.running = False
        self._said = bytearray()
        self._held = bytearray()
        self._return = ""

    def message(self, text):
        """The kernel has sent TEXT."""
        data = text.encode("utf-8", "replace")
        put(self.fd, data)
        if self.echoes is None and self.running:
            self._said += data
            self._full()

    def lines(self, text):
        """TEXT as it was before a terminal made \\r\\n of each \\n; the two may come in different messages."""
        text = self._return + text
        self._return = "\r" if text.endswith("\r") else ""
        return text[:len(text) - len(self._return)].replace("\r\n", "\n")

    def rest(self):
        """A \\r behind which nothing has come."""
        rest, self._return = self._return, ""
        return rest

    def keep(self, data):
        """DATA was in the pipe; it is not for the user, but may tell what went wrong."""
        self.tail = (self.tail + (data or b""))[-TAIL:]

    def pipe(self, data):
        """DATA was in the pipe."""
        self.keep(data)
        if self.echoes is False or self.echoes is None and not self.running:
            put(self.fd, data)
        elif self.echoes is None:
            self._held += data
            self._full()

    def learn(self, token, said):
        """A child has printed TOKEN; the messages SAID this."""
        if token.encode() in self._held:
            self.echoes = token in said
        self._held.clear()

    def settle(self):
        """The run is over: what is held is either an echo, or the user's."""
        if self._held:
            self.echoes = bytes(self._held) in self._said
            if not self.echoes:
                put(self.fd, self._held)
        self._held.clear()
        self._said.clear()

    def _full(self):
        if len(self._said) > HELD_MOST or len(self._held) > HELD_MOST:
            self.settle()
