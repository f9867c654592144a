"""Whether a pool could serve a request now; asked by probes, so cheap however many accounts there are."""

from collections.abc import Callable, Mapping

from authpool.accounts.account import AccountKey
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.oauth.discovery import EndpointResolver
from authpool.pool.pool import Member, Pool, State
from authpool.refresh.refresher import Refresher
from authpool.requests.health import PoolHealth

UNTRIED_SECONDS = 10.0
"""An account whose tokens were refused counts again so long after its cooldown, if no request has tried it by then.

Where requests come they find out; where none come any more, because of what a probe was told, one has to.
"""
LOOK_SECONDS = 1.0
"""A pool in which nobody could serve is looked through again after so long, or when its counts change."""


class Readiness:
    """Knows which pools can serve. `pools` gives those of the moment."""

    def __init__(
        self,
        pools: Callable[[], Mapping[str, Pool]],
        refresher: Refresher,
        resolver: EndpointResolver,
        clock: Clock,
    ) -> None:
        self._pools = pools
        self._refresher = refresher
        self._resolver = resolver
        self._clock = clock
        self._able: dict[str, AccountKey] = {}
        """By pool an account that could serve when it was last looked."""
        self._nobody: dict[str, tuple[float, Pool, Mapping[State, int]]] = {}
        """By pool until when (monotonic seconds) nobody is known to be able to serve, and what that was seen of."""

    def of(self, config: PoolConfig) -> PoolHealth:
        """How a configured pool stands; one whose accounts are not loaded yet can't serve."""
        pool = self._pools().get(config.name)
        rejected = self._refresher.fault(config.name) is not None
        down = self._endpoint_down(config)
        counts = {} if pool is None else pool.counts()
        able = pool is not None and bool(counts.get(State.READY)) and self._anybody(pool, counts, rejected or down)
        return PoolHealth(can_serve=able, counts=counts, client_rejected=rejected, endpoint_down=down)

    def _anybody(self, pool: Pool, counts: Mapping[State, int], stuck: bool) -> bool:  # noqa: FBT001
        name, now = pool.config.name, self._clock.monotonic()
        time = self._clock.time()
        known = pool.get(self._able[name]) if name in self._able else None
        if known is not None and self._can_serve(pool, known, stuck, time):
            return True
        until, seen, seen_counts = self._nobody.get(name, (0.0, pool, {}))
        if now < until and seen is pool and seen_counts == counts:
            return False
        found = next((member for member in pool if self._can_serve(pool, member, stuck, time)), None)
        if found is None:
            self._nobody[name] = (now + LOOK_SECONDS, pool, dict(counts))
            return False
        self._nobody.pop(name, None)
        self._able[name] = found.key
        return True

    def _can_serve(self, pool: Pool, member: Member, stuck: bool, now: float) -> bool:  # noqa: FBT001
        """Whether a request would get this account's token; `stuck`: nobody of the pool can be refreshed now."""
        if member.state(now) is not State.READY:
            return False
        if member.on_probation and member.throttle is not None and now < member.throttle.until + UNTRIED_SECONDS:
            return False
        if member.live(now):
            return True
        return not (stuck or member.failures) and _is_renewable(pool, member)

    def _endpoint_down(self, config: PoolConfig) -> bool:
        url = self._resolver.known_token_url(config)
        return url is not None and self._refresher.endpoint_down(url)


def _is_renewable(pool: Pool, member: Member) -> bool:
    """Whether another access token can take the place of the one there is."""
    kind = pool.config.type
    return kind != "static" and (kind != "refresh_token" or member.account.token.refresh_token is not None)
