"""round_robin: every account in turn.

Bound: over any number of requests no two accounts that can serve all the while differ by more than 1.
Cost: the same for 10 and for 10,000 accounts.
"""

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


class RoundRobin(Rotation):
    """A queue: who serves goes to its end, and so does who comes back."""

    def __init__(self) -> None:
        # An OrderedDict, for its first entry is found at once however many were removed before it.
        self._queue: OrderedDict[AccountKey, None] = OrderedDict()

    def add(self, key: AccountKey) -> None:
        self._queue[key] = None

    def remove(self, key: AccountKey) -> None:
        del self._queue[key]

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        for key in self._queue:
            if key not in tried:
                self._queue.move_to_end(key)
                return key
        return None


def _make(pool: PoolConfig) -> Rotation:
    rotation_options(pool)
    return RoundRobin()


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "round_robin" else None
