"""Jupyter's messages: signed frames in, signed frames out."""

import datetime
import hashlib
import hmac
import json
import os

DELIMITER = b"<IDS|MSG>"
VERSION = "5.3"


class Message:
    """One message as it came."""

    __slots__ = ("kind", "parent", "metadata", "content", "header")

    def __init__(self, header, parent, metadata, content):
        self.kind = header.get("msg_type", "")
        self.parent = parent.get("msg_id") if isinstance(parent, dict) else None
        self.header, self.metadata, self.content = header, metadata, content


class Session:
    """What both sides know: the key, and who we are."""

    def __init__(self):
        self.key = os.urandom(16).hex()
        self.id = os.urandom(16).hex()
        self._signer = hmac.new(self.key.encode(), digestmod=hashlib.sha256)
        self._sent = 0

    def encode(self, kind, content, parent=None):
        """(msg_id, frames)"""
        self._sent += 1
        header = {
            "msg_id": f"{self.id}_{self._sent}", "session": self.id, "username": "cellfs", "msg_type": kind,
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(), "version": VERSION,
        }
        parts = [json.dumps(part).encode() for part in (header, parent or {}, {}, content)]
        return header["msg_id"], [DELIMITER, self._sign(parts), *parts]

    def decode(self, frames):
        """The Message, or None if it is not a signed one."""
        try:
            at = frames.index(DELIMITER)
            signature, *parts = frames[at + 1:at + 6]
            if not hmac.compare_digest(signature, self._sign(parts)):
                return None
            return Message(*map(json.loads, parts))
        except (ValueError, TypeError, AttributeError):
            return None

    def _sign(self, parts):
        signer = self._signer.copy()
        for part in parts:
            signer.update(part)
        return signer.hexdigest().encode()
