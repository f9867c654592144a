"""least_in_flight: the account with the fewest requests in flight.

For requests of very different lengths, such as streams: an account that is busy with long ones gets no more of them.

Options: none.
Bound: no account that can serve has fewer in flight than the one that is chosen has; among those with as few, in turn.
Cost: the same for 10 and for 10,000 accounts. It grows with how many different counts of requests in flight there are:
with n requests in flight, sqrt(2n) at most.
"""

from bisect import insort
from collections import OrderedDict
from collections.abc import Collection

from authpool.plugins.api import (
    AccountKey,
    PoolConfig,
    Rotation,
    RotationFactory,
    RotationRequest,
    hookimpl,
    rotation_options,
)


class LeastInFlight(Rotation):
    """A queue for each count of requests in flight: who serves goes to its end, and so does who comes into it."""

    def __init__(self) -> None:
        self._in_flight: dict[AccountKey, int] = {}
        """Of members and of others; without zeros."""
        self._queues: dict[int, OrderedDict[AccountKey, None]] = {}
        self._counts: list[int] = []
        """Those there is a queue for, in order. They are few: each takes as many requests in flight."""

    def add(self, key: AccountKey) -> None:
        self._enter(key, self._in_flight.get(key, 0))

    def remove(self, key: AccountKey) -> None:
        self._leave(key, self._in_flight.get(key, 0))

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        for count in self._counts:
            queue = self._queues[count]
            for key in queue:
                if key not in tried:
                    queue.move_to_end(key)
                    return key
        return None

    def started(self, key: AccountKey) -> None:
        before = self._in_flight.get(key, 0)
        self._in_flight[key] = before + 1
        self._move(key, before, before + 1)

    def finished(self, key: AccountKey) -> None:
        before = self._in_flight.pop(key, 0)
        if before > 1:
            self._in_flight[key] = before - 1
        if before:
            self._move(key, before, before - 1)

    def _move(self, key: AccountKey, before: int, after: int) -> None:
        if key in self._queues.get(before, ()):  # only a member is in a queue
            self._leave(key, before)
            self._enter(key, after)

    def _enter(self, key: AccountKey, count: int) -> None:
        queue = self._queues.get(count)
        if queue is None:
            queue = self._queues[count] = OrderedDict()
            insort(self._counts, count)
        queue[key] = None

    def _leave(self, key: AccountKey, count: int) -> None:
        queue = self._queues[count]
        del queue[key]
        if not queue:
            del self._queues[count]
            self._counts.remove(count)


def _make(pool: PoolConfig) -> Rotation:
    rotation_options(pool)
    return LeastInFlight()


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "least_in_flight" else None
