"""random_two: of two accounts drawn at random, the one with fewer requests in flight.

For several gateways on the same accounts: none knows what the others have in flight, and the draw keeps them from all
turning to the same account (Mitzenmacher, The Power of Two Choices, 2001).

Options: none.
Bound: an account that has more in flight than every other is not chosen while another can be. With n accounts the
busiest is about log log n requests above the mean, where a single draw would make that about log n.
Cost: the same for 10 and for 10,000 accounts.
"""

import random
from bisect import insort
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


class RandomTwo(Rotation):
    """A list without an order, so that drawing from it and leaving it are one step each."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._members: list[AccountKey] = []
        self._places: dict[AccountKey, int] = {}
        self._in_flight: dict[AccountKey, int] = {}
        """Of members and of others; without zeros."""

    def add(self, key: AccountKey) -> None:
        self._places[key] = len(self._members)
        self._members.append(key)

    def remove(self, key: AccountKey) -> None:
        place, last = self._places.pop(key), self._members.pop()
        if last != key:
            self._members[place] = last
            self._places[last] = place

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        passed = sorted({self._places[key] for key in tried if key in self._places}) if tried else []
        left = len(self._members) - len(passed)
        if not left:
            return None
        place = self._draw(left, passed)
        first = self._members[place]
        if left == 1:
            return first
        insort(passed, place)
        second = self._members[self._draw(left - 1, passed)]
        return first if self._in_flight.get(first, 0) <= self._in_flight.get(second, 0) else second

    def started(self, key: AccountKey) -> None:
        self._in_flight[key] = self._in_flight.get(key, 0) + 1

    def finished(self, key: AccountKey) -> None:
        before = self._in_flight.pop(key, 0)
        if before > 1:
            self._in_flight[key] = before - 1

    def _draw(self, left: int, passed: list[int]) -> int:
        """Draw one of the places that are left, each as likely as the other, past those in `passed` (in order)."""
        place = int(self._rng.random() * left)
        for taken in passed:
            place += taken <= place
        return place


def _make(pool: PoolConfig) -> Rotation:
    rotation_options(pool)
    return RandomTwo()


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "random_two" else None
