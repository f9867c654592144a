"""headroom: the account with the largest share of its quota left.

For upstreams that tell what is left (`RateLimit`, `X-RateLimit-*`): accounts run dry together rather than one by one,
and one that others use as well is spared.

    rotation = { name = "headroom", forget_seconds = 60 }

Options: `forget_seconds`, how long a quota that does not say when it starts anew is believed; 1 to 86,400.
What is left is what the upstream said last, less the requests that are in flight or were started since, whichever are
more. An account of which nothing is known counts as full, as does one whose quota has started anew; so that these are
spread, too, each request in flight is taken for one of 100. Where only what is left is told, the most that ever was
stands for the whole.
Bound: no account that can serve has a larger share left than the one that is chosen; among those with as much, in turn.
Cost: O(log n), a heap.
"""

from collections.abc import Collection

from authpool import hookimpl
from authpool.account import AccountKey
from authpool.clock import Clock, SystemClock
from authpool.config import PoolConfig
from authpool.quota import Quota
from authpool.ranking import Ranking
from authpool.rotation import Rotation, RotationFactory, RotationRequest, rotation_options

_UNKNOWN_LIMIT = 100
_FORGET_SECONDS = 60


class _Account:
    """What is known of an account, member or not."""

    __slots__ = ("in_flight", "most_remaining", "remaining", "started", "whole")

    def __init__(self) -> None:
        self.in_flight = 0
        self.started = 0
        """Since the upstream told what is left."""
        self.remaining: int | None = None
        self.whole = _UNKNOWN_LIMIT
        self.most_remaining = 0

    def share(self) -> float:
        if self.remaining is None:
            return 1.0 - self.in_flight / _UNKNOWN_LIMIT
        return min(1.0, (self.remaining - max(self.in_flight, self.started)) / self.whole)


class Headroom(Rotation):
    """An account's rank is the share that it has used; the times at which quotas start anew are a ranking as well."""

    def __init__(self, clock: Clock, forget_seconds: int = _FORGET_SECONDS) -> None:
        self._clock = clock
        self._forget_seconds = forget_seconds
        self._accounts: dict[AccountKey, _Account] = {}
        self._members: Ranking[float] = Ranking()
        self._anew: Ranking[float] = Ranking()

    def add(self, key: AccountKey) -> None:
        self._members.place(key, -self._account(key).share())

    def remove(self, key: AccountKey) -> None:
        self._members.discard(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        self._start_anew()
        key = self._members.first(tried)
        if key is not None:
            self._place(key)
        return key

    def started(self, key: AccountKey) -> None:
        account = self._account(key)
        account.in_flight += 1
        account.started += 1
        self._place(key)

    def finished(self, key: AccountKey) -> None:
        account = self._account(key)
        account.in_flight = max(0, account.in_flight - 1)
        self._place(key)

    def observe(self, key: AccountKey, quota: Quota) -> None:
        account = self._account(key)
        account.started = 0
        account.remaining = quota.remaining
        account.most_remaining = max(account.most_remaining, quota.remaining)
        account.whole = max(1, account.most_remaining if quota.limit is None else quota.limit)
        anew_at = quota.resets_at
        self._anew.place(key, self._clock.time() + self._forget_seconds if anew_at is None else anew_at)
        self._place(key)

    def _account(self, key: AccountKey) -> _Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account()
        return account

    def _place(self, key: AccountKey) -> None:
        """Put the account where its share belongs, after all that have as much."""
        if key in self._members:
            self._members.place(key, -self._accounts[key].share())

    def _start_anew(self) -> None:
        now = self._clock.time()
        while (key := self._anew.first()) is not None and self._anew[key] <= now:
            self._anew.discard(key)
            self._accounts[key].remaining = None
            self._place(key)


def _make(pool: PoolConfig) -> Rotation:
    options = rotation_options(pool, "forget_seconds")
    forget_seconds = options.take_whole("forget_seconds", _FORGET_SECONDS, 1, 86_400)
    return Headroom(SystemClock(), forget_seconds)


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "headroom" else None
