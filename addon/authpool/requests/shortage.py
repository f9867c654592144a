"""Why a request gets no account: nobody is there, the endpoint or the store is down, or the client is rejected."""

from collections.abc import Callable, Iterator

from authpool.clock import Clock
from authpool.pool.pool import Member, Pool
from authpool.refresh.refresher import Refresher
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.refusals import (
    POOL_MISCONFIGURED,
    Refusal,
    pool_exhausted,
    store_unavailable,
    token_endpoint_unavailable,
)

RETRY_SECONDS = 5.0
"""When nothing tells how long the token endpoint will be down: come again after this."""

type Exhausted = Callable[[Pool, float | None], None]
"""Hears of a pool that can serve nobody any more, and when (Unix seconds) that may end by itself."""


class Shortage:
    """Says for one picker why there is no account, and tells `exhausted` once of each pool that has none."""

    def __init__(self, refresher: Refresher, clock: Clock, exhausted: Exhausted) -> None:
        self._refresher = refresher
        self._clock = clock
        self._tell_exhausted = exhausted
        self._exhausted: set[str] = set()

    def ended(self, pool: str) -> None:
        """The pool has an account again."""
        self._exhausted.discard(pool)

    def refusal(self, pooled: PooledRequest, pool: Pool | None) -> Refusal:
        """What a request is answered that was tried on what there is."""
        if pool is None:
            return pool_exhausted({}, None)
        returns_at = pool.next_return(pooled.lane)
        wait = None if returns_at is None else returns_at - self._clock.time()
        if pooled.misconfigured or self._refresher.fault(pool.config.name) is not None:
            return POOL_MISCONFIGURED
        if pooled.endpoint_down or any(not member.waits_for_store for member in _failing(pool)):
            return token_endpoint_unavailable(RETRY_SECONDS if wait is None else wait)
        if pooled.store_down or any(_failing(pool)):
            return store_unavailable(RETRY_SECONDS if wait is None else wait)
        if pool.config.name not in self._exhausted and not pooled.tried:
            self._exhausted.add(pool.config.name)
            self._tell_exhausted(pool, returns_at)
        return pool_exhausted(pool.counts(), wait)


def _failing(pool: Pool) -> Iterator[Member]:
    """The accounts that could have another token, and whose last refresh failed."""
    if pool.config.type == "static":
        return
    needs_grant = pool.config.type == "refresh_token"
    for member in pool.unrefreshed():
        if member.failures and not (needs_grant and member.account.token.refresh_token is None):
            yield member
