"""How fast a provider may be asked: as it says itself, else ever slower while it gives no answer."""

from authpool.clock import Clock

FIRST_PAUSE_SECONDS = 0.5
ROUNDS = 5
"""So often in a row is waited for a provider that answers nobody: 15 s, or as long as it asks for."""


class Pace:
    """For all jobs of one import."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = 0.0
        self._rounds = 0

    @property
    def wait_seconds(self) -> float:
        """So long nobody is to be asked."""
        return max(0.0, self._until - self._clock.monotonic())

    @property
    def given_up(self) -> bool:
        return self._rounds > ROUNDS

    def answered(self) -> None:
        """Somebody was told something of a credential."""
        self._rounds = 0

    def failed(self, retry_after_seconds: float | None) -> None:
        """Somebody was told to come later, or nothing. Those who asked at the same time tell nothing new."""
        now = self._clock.monotonic()
        if now >= self._until:
            self._rounds += 1
        pause = FIRST_PAUSE_SECONDS * 2 ** (self._rounds - 1) if retry_after_seconds is None else retry_after_seconds
        self._until = max(self._until, now + pause)
