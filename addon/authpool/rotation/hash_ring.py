"""Consistent hashing: which account a name belongs to, in every process the same, whoever else comes or goes.

Karger et al., Consistent Hashing and Random Trees (STOC 1997): each account owns many points of a ring, and a name
belongs to the account whose point comes next.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection
from hashlib import blake2b, shake_128
from struct import Struct

from authpool.accounts.account import AccountKey

POINTS = 16
"""Of each account. An account's share of all names deviates from the mean by 1/sqrt(POINTS), one quarter."""
_RUN = 512
"""A run holds no more points: longer ones take longer to insert into, shorter ones are more to look through."""
_eight_bytes = Struct("<Q").unpack
_account_points = Struct(f"<{POINTS}Q").unpack


class HashRing:
    """Points of the ring in order, cut into runs, so that a point among 100,000 others is put in without moving those.

    `add`, `remove` and `owner` take O(log n), as long as `tried` is short.
    """

    def __init__(self) -> None:
        self._starts = [0]
        """Where each run begins: the first point that may be in it."""
        self._points = [array("Q")]
        self._owners: list[list[AccountKey]] = [[]]
        self._accounts = 0

    def add(self, key: AccountKey) -> None:
        for point in _points_of(key):
            run = bisect_right(self._starts, point) - 1
            points, owners = self._points[run], self._owners[run]
            index = bisect_left(points, point)
            points.insert(index, point)
            owners.insert(index, key)
            if len(points) > _RUN:
                self._split(run)
        self._accounts += 1

    def remove(self, key: AccountKey) -> None:
        for point in _points_of(key):
            run = bisect_right(self._starts, point) - 1
            points, owners = self._points[run], self._owners[run]
            index = owners.index(key, bisect_left(points, point))
            del points[index], owners[index]
            if not points and len(self._points) > 1:
                self._drop(run)
        self._accounts -= 1

    def owner(self, name: bytes, tried: Collection[AccountKey] = ()) -> AccountKey | None:
        """Find the account whose point comes next after the name's, other than `tried`; None when there is none."""
        if not self._accounts:
            return None
        (point,) = _eight_bytes(blake2b(name, digest_size=8).digest())
        run = bisect_right(self._starts, point) - 1
        index = bisect_left(self._points[run], point)
        passed: set[AccountKey] = set()
        while len(passed) < self._accounts:
            owners = self._owners[run]
            if index == len(owners):
                run, index = (run + 1) % len(self._owners), 0
                continue
            if owners[index] not in tried:
                return owners[index]
            passed.add(owners[index])
            index += 1
        return None

    def _split(self, run: int) -> None:
        points, owners = self._points[run], self._owners[run]
        half = len(points) // 2
        self._starts.insert(run + 1, points[half])
        self._points[run : run + 1] = [points[:half], points[half:]]
        self._owners[run : run + 1] = [owners[:half], owners[half:]]

    def _drop(self, run: int) -> None:
        del self._starts[run], self._points[run], self._owners[run]
        self._starts[0] = 0


def _points_of(key: AccountKey) -> tuple[int, ...]:
    return _account_points(shake_128(key.name.encode("utf-8", "surrogatepass")).digest(8 * POINTS))
