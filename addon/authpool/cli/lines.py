"""Lines that somebody types, or a script sends, while something else is waited for as well."""

import asyncio
import contextlib
import os
from typing import TextIO

_LONGEST_LINE = 64 * 1024
_BACKGROUND_SECONDS = 0.5
"""So long a job in the background waits before it looks whether it is in the foreground now."""


class Lines:
    """Reads a stream line by line without holding the event loop up; for use within it.

    `any` is False where nobody can send a line: the stream is closed, or a file.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._begun = b""
        self._descriptor: int | None = None
        self._again: asyncio.TimerHandle | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError, PermissionError):  # a file can't be waited for
            descriptor = stream.fileno() if stream is not None else -1
            self._loop.add_reader(descriptor, self._ready)
            self._descriptor = descriptor
        self.any = self._descriptor is not None

    def close(self) -> None:
        """Read no more. What was typed and not read is left to whoever reads next."""
        if self._again is not None:
            self._again.cancel()
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            self._descriptor = None

    async def read(self) -> str:
        """The next line that is not empty; waits for ever where none comes."""
        return await self._waiting.get()

    def _ready(self) -> None:
        descriptor = self._descriptor
        if descriptor is None:
            return
        if not _in_foreground(descriptor):
            self._loop.remove_reader(descriptor)
            self._again = self._loop.call_later(_BACKGROUND_SECONDS, self._loop.add_reader, descriptor, self._ready)
            return
        try:
            data = os.read(descriptor, 4096)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            data = b"\n"  # a script may end its last line without one
        *lines, self._begun = (self._begun + data).split(b"\n")
        self._begun = self._begun[:_LONGEST_LINE]
        for line in lines:
            if text := line.decode("utf-8", "replace").strip():
                self._waiting.put_nowait(text)


def _in_foreground(descriptor: int) -> bool:
    """Whether this process may read its terminal: one in the background would be stopped for it."""
    if not os.isatty(descriptor):
        return True
    with contextlib.suppress(OSError):
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    return True
