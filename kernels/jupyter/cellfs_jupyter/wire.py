"""The bridge's end of the control pipes: the Python driver's, but that it never waits for a command."""

import contextlib
import json
import os

from cellfs_python import wire


class Wire(wire.Wire):
    """Signals interrupt nothing here."""

    def __init__(self):
        super().__init__(contextlib.nullcontext())

    def receive(self):
        """The commands of one read; None at the end of file."""
        chunk = os.read(self.commands, wire.LINE_LIMIT)
        if not chunk:
            return None
        *lines, self._unread = (self._unread + chunk).split(b"\n")
        return [json.loads(line) for line in lines]
