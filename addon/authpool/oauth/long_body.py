"""A body of which only so much is kept: its beginning, and what stands around a refresh token further on."""

import re

MAX_BODY_BYTES = 1024 * 1024
MAX_SEARCHED_BYTES = 8 * 1024 * 1024
"""So far a success is read on for a refresh token that did not stand in the part that is kept."""
_AROUND_BYTES = 64 * 1024
_NAME = re.compile(rb"refresh[_-]?token", re.IGNORECASE)


class LongBody:
    """Takes a body in pieces and never keeps more than `MAX_BODY_BYTES` and a little. `search`: for a refresh token."""

    def __init__(self, *, search: bool) -> None:
        self.is_too_long = False
        self._search = search
        self._beginning = bytearray()
        self._around = bytearray()
        self._named_at: int | None = None
        self._size = 0

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; whether the one after it is wanted."""
        self._size += len(piece)
        room = MAX_BODY_BYTES - len(self._beginning)
        self._beginning += piece[:room]
        if len(piece) <= room:
            return True
        if not self.is_too_long:
            self.is_too_long = True
            self._search = self._search and _NAME.search(self._beginning) is None
            self._around += self._beginning[-_AROUND_BYTES:]
        return self._search and self._look(piece[room:])

    def _look(self, piece: bytes) -> bool:
        self._around += piece
        if self._named_at is None:
            found = _NAME.search(self._around)
            surplus = max(0, (len(self._around) if found is None else found.start()) - _AROUND_BYTES)
            self._named_at = None if found is None else found.start() - surplus
            del self._around[:surplus]
        if self._named_at is not None:
            return len(self._around) < self._named_at + _AROUND_BYTES
        return self._size < MAX_SEARCHED_BYTES

    def content(self) -> bytes:
        """What is kept, at most `MAX_BODY_BYTES`."""
        if self._named_at is None:
            return bytes(self._beginning)
        around = bytes(self._around[: self._named_at + _AROUND_BYTES])
        return bytes(self._beginning[: MAX_BODY_BYTES - len(around)]) + around
