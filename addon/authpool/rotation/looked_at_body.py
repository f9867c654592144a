"""How much of a body is looked at, and a request's body as rotations are given it."""

from collections.abc import Callable

LOOKED_AT_BYTES = 1024 * 1024
"""Of a body, when its content coding is undone. What tells one kind of request from another stands near the start."""


class LookedAtBody:
    """Reads a body when it is asked for, and once. `read` answers at most `LOOKED_AT_BYTES` of it."""

    __slots__ = ("_body", "_read")

    def __init__(self, read: Callable[[], bytes | None]) -> None:
        self._read: Callable[[], bytes | None] | None = read
        self._body: bytes | None = None

    def __call__(self) -> bytes | None:
        if self._read is not None:
            self._body, self._read = self._read(), None
        return self._body
