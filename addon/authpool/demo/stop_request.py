"""Ctrl-C, noted and acted on between two steps, so that nothing that was started is ever forgotten."""

import signal
import time
from collections.abc import Callable
from types import FrameType

_POLL_SECONDS = 0.02


class StopRequestedError(Exception):
    """Somebody asked the demo to end."""


class StopRequest:
    """Whether SIGINT, SIGTERM or SIGHUP has arrived. No signal interrupts anything: who waits, looks here."""

    def __init__(self) -> None:
        self._signal: int | None = None

    def listen(self) -> None:
        """Take over the signals of this process."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    @property
    def exit_status(self) -> int:
        """What a process that was ended by the signal exits with, as shells count."""
        return 128 + (self._signal or 0)

    def check(self) -> None:
        """Raise StopRequestedError when the demo is to end."""
        if self._signal is not None:
            raise StopRequestedError

    def wait_until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait for a condition, at most so long; answers whether it came true. Raises StopRequestedError."""
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def wait(self) -> None:
        """Wait for the signal itself."""
        while self._signal is None:
            time.sleep(10 * _POLL_SECONDS)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._signal = number
