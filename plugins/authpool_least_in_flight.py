"""least_in_flight: the account with the fewest requests in flight.

For requests of very different lengths, such as streams: an account that is busy with long ones gets no more of them.

Options: none.
Bound: no account that can serve has fewer in flight than the one that is chosen has; among those with as few, in turn.
Cost: the same for 10 and for 10,000 accounts; O(log k) for the k different counts of requests in flight there are.
"""

from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Collection

from authpool import hookimpl
from authpool.account import AccountKey
from authpool.config import PoolConfig
from authpool.rotation import Rotation, RotationFactory, RotationRequest, rotation_options


class LeastInFlight(Rotation):
    """A queue for each count of requests in flight: who serves goes to its end, and so does who comes into it."""

    def __init__(self) -> None:
        self._in_flight: Counter[AccountKey] = Counter()
        """Of members and of others; without zeros."""
        self._queues: dict[int, OrderedDict[AccountKey, None]] = {}
        self._counts: list[int] = []
        """Those there is a queue for, in order. They are few: each takes as many requests in flight."""

    def add(self, key: AccountKey) -> None:
        count = self._in_flight[key]
        if count not in self._queues:
            self._queues[count] = OrderedDict()
            insort(self._counts, count)
        self._queues[count][key] = None

    def remove(self, key: AccountKey) -> None:
        count = self._in_flight[key]
        del self._queues[count][key]
        if not self._queues[count]:
            del self._queues[count]
            del self._counts[bisect_left(self._counts, count)]

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        for count in self._counts:
            for key in self._queues[count]:
                if key not in tried:
                    self._queues[count].move_to_end(key)
                    return key
        return None

    def started(self, key: AccountKey) -> None:
        self._change(key, 1)

    def finished(self, key: AccountKey) -> None:
        self._change(key, -1)

    def _change(self, key: AccountKey, step: int) -> None:
        is_member = key in self._queues.get(self._in_flight[key], ())
        if is_member:
            self.remove(key)
        self._in_flight[key] += step
        if self._in_flight[key] <= 0:
            del self._in_flight[key]
        if is_member:
            self.add(key)


def _make(pool: PoolConfig) -> Rotation:
    rotation_options(pool)
    return LeastInFlight()


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "least_in_flight" else None
