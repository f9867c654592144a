"""least_recently_used: the account whose last use is longest ago.

For limits per minute: an account that was away comes back to the place that its last use gives it, so it is not asked
again right after it was (round_robin puts it last, however long it rested).

Options: none.
Bound: no account that can serve has rested longer than the one that is chosen; so of two that can serve all the while,
neither serves two requests between two of the other's.
Cost: O(log n), a heap.
"""

from collections.abc import Collection

from authpool.plugins.api import (
    AccountKey,
    PoolConfig,
    Ranking,
    Rotation,
    RotationFactory,
    RotationRequest,
    hookimpl,
    rotation_options,
)


class LeastRecentlyUsed(Rotation):
    """Uses are numbered; an account's rank is the number of its last one, and 0 before the first."""

    def __init__(self) -> None:
        self._members: Ranking[int] = Ranking()
        self._last_use: dict[AccountKey, int] = {}
        """Of members and of those that may come back."""
        self._uses = 0

    def add(self, key: AccountKey) -> None:
        self._members.place(key, self._last_use.get(key, 0))

    def remove(self, key: AccountKey) -> None:
        self._members.discard(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        key = self._members.first(tried)
        if key is not None:
            self._use(key)
        return key

    def started(self, key: AccountKey) -> None:
        self._use(key)

    def _use(self, key: AccountKey) -> None:
        if self._last_use.get(key) == self._uses:
            return  # it began right after it was chosen: that is one use
        self._uses += 1
        self._last_use[key] = self._uses
        if key in self._members:
            self._members.place(key, self._uses)


def _make(pool: PoolConfig) -> Rotation:
    rotation_options(pool)
    return LeastRecentlyUsed()


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "least_recently_used" else None
