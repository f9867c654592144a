"""Telling that a pool had nobody for a request, and not for each request anew."""

from collections.abc import Callable

from authpool.accounts.events import PoolExhausted
from authpool.clock import Clock
from authpool.pool.pool import Pool

QUIET_SECONDS = 60.0


class Exhaustion:
    """Tells `notify` of each pool at most once a minute."""

    def __init__(self, notify: Callable[[PoolExhausted], None], clock: Clock) -> None:
        self._notify = notify
        self._clock = clock
        self._told_at: dict[str, float] = {}

    def tell(self, pool: Pool, retry_at: float | None) -> None:
        """Nobody of the pool could serve a request; `retry_at` (Unix seconds) is when that may end by itself."""
        now, name = self._clock.monotonic(), pool.config.name
        if now - self._told_at.get(name, -QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._told_at[name] = now
        counts = {str(state): count for state, count in pool.counts().items() if count}
        until = None if retry_at is None else int(retry_at)
        self._notify(PoolExhausted(pool=name, at=int(self._clock.time()), counts=counts, retry_at=until))
