"""random_two: of two accounts drawn at random, the one with fewer requests in flight.

For several gateways on the same accounts: none knows what the others have in flight, and the draw keeps them from all
turning to the same account (Mitzenmacher, The Power of Two Choices, 2001).

Options: none.
Bound: an account that has more in flight than every other is not chosen while another can be. With n accounts the
busiest is about log log n requests above the mean, where a single draw would make that about log n.
Cost: the same for 10 and for 10,000 accounts.
"""

import random
from collections import Counter
from collections.abc import Collection

from authpool import hookimpl
from authpool.account import AccountKey
from authpool.config import PoolConfig
from authpool.rotation import Rotation, RotationFactory, RotationRequest, rotation_options


class RandomTwo(Rotation):
    """A list without an order, so that drawing from it and leaving it are one step each."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._members: list[AccountKey] = []
        self._places: dict[AccountKey, int] = {}
        self._in_flight: Counter[AccountKey] = Counter()
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
        passed = sorted({self._places[key] for key in tried if key in self._places})
        first = self._draw(passed)
        if first is None:
            return None
        second = self._draw(sorted([*passed, self._places[first]]))
        if second is None or self._in_flight[first] <= self._in_flight[second]:
            return first
        return second

    def started(self, key: AccountKey) -> None:
        self._in_flight[key] += 1

    def finished(self, key: AccountKey) -> None:
        self._in_flight[key] -= 1
        if self._in_flight[key] <= 0:
            del self._in_flight[key]

    def _draw(self, passed: list[int]) -> AccountKey | None:
        """Draw one, each as likely as the other, but those in the `passed` places (in order)."""
        left = len(self._members) - len(passed)
        if not left:
            return None
        place = int(self._rng.random() * left)
        for taken in passed:
            place += taken <= place
        return self._members[place]


def _make(pool: PoolConfig) -> Rotation:
    rotation_options(pool)
    return RandomTwo()


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "random_two" else None
