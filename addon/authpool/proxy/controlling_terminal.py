"""The terminal of this process, and whether it is gone: what tells a lost terminal's SIGHUP from a supervisor's."""

import os
from contextlib import suppress

_STANDARD = (0, 1, 2)


class ControllingTerminal:
    """The standard streams that were a terminal when the gateway was loaded."""

    def __init__(self) -> None:
        self._descriptors = tuple(number for number in _STANDARD if _is_terminal(number))

    def is_lost(self) -> bool:
        """Whether one of them is a terminal no more: it was closed, or its session has ended."""
        return any(not _is_terminal(number) for number in self._descriptors)

    def let_go(self) -> None:
        """Put nothing in the place of a terminal that is gone: a write to it fails, and mitmproxy ends on the spot."""
        with suppress(OSError):
            nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            for number in self._descriptors:
                if not _is_terminal(number):
                    os.dup2(nowhere, number)
            os.close(nowhere)


def _is_terminal(number: int) -> bool:
    try:
        return os.isatty(number)  # it asks the terminal for its settings: one that was hung up does not answer
    except OSError:
        return False
