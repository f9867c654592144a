"""Standard output on a disk that is full: mitmproxy would end the gateway at the first line that can't be written.

A token that was rotated a moment ago, and that the same disk does not take, would be gone with it.
"""

import errno
from typing import TextIO

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Room may be made again; that nobody reads any more (a closed pipe, a lost terminal) ends mitmproxy as ever."""
MISSING = "\nauthpool: lines are missing here: the disk of this log was full\n"


def survive_full_disk(stream: TextIO) -> None:
    """Let a stream lose what its disk has no room for, and say so once there is room; for whoever holds the stream."""
    if not isinstance(stream.write, _Lossy):
        lossy = _Lossy(stream)
        setattr(stream, "write", lossy)  # noqa: B010 - its users hold the stream itself since before we came
        setattr(stream, "flush", lossy.flush)  # noqa: B010


class _Lossy:
    """`write` and `flush` of a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._write = stream.write
        self._flush = stream.flush
        self._lost = False

    def __call__(self, text: str) -> int:
        try:
            if self._lost:
                self._flush()
                self._write(MISSING)
                self._lost = False
            return self._write(text)
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        if error.errno not in FULL:
            raise error
        self._lost = True
