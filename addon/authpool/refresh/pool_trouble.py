"""Trouble of whole pools, told once when it begins and once when it is over."""

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from authpool.accounts.events import NotifyPool, PoolEvent, PoolEventKind
from authpool.clock import Clock
from authpool.config import PoolConfig


class Troubles:
    """Hears of each rejection and each failure, and of each success; tells `notify` of what is new in that.

    `client` names who asks, as `GrantRequest.client` does; `url` is a token endpoint's.
    """

    def __init__(self, notify: NotifyPool, pools: Callable[[], Mapping[str, PoolConfig]], clock: Clock) -> None:
        """`pools` gives the configured pools: those that share a token endpoint share its trouble."""
        self._notify = notify
        self._pools = pools
        self._clock = clock
        self._rejected: dict[str, set[str]] = {}
        """By pool the clients of it that are rejected: an account may have one of its own."""
        self._doubted: set[str] = set()
        """Pools whose rejected clients may be theirs no more."""
        self._down: dict[str, str] = {}
        """By pool the token endpoint of it that is down."""

    def client_rejected(self, pool: str, client: str, reason: str) -> None:
        """The client is at fault, as far as this pool is concerned."""
        clients = self._rejected.setdefault(pool, set())
        if not clients:
            self._tell("client_rejected", pool, client.partition(" ")[0], reason)
        clients.add(client)
        self._doubted.discard(pool)

    def client_accepted(self, pool: str, client: str) -> None:
        """The client got a token: whatever pool it was rejected for, that is over."""
        doubted = pool in self._doubted
        self._doubted.discard(pool)
        for name, clients in list(self._rejected.items()):
            clients.discard(client)
            if not clients or (doubted and name == pool):
                del self._rejected[name]
                self._tell("client_accepted", name, client.partition(" ")[0])

    def doubt(self) -> None:
        """The configuration changed: the next token of a pool ends its trouble, whoever its client was before."""
        self._doubted.update(self._rejected)

    def endpoint_down(self, pool: str, url: str, reason: str) -> None:
        """The endpoint is down, for this pool and for all that are configured to use it."""
        others = (name for name, config in self._pools().items() if config.token_url == url)
        for name in dict.fromkeys((pool, *others)):
            if name not in self._down:
                self._down[name] = url
                self._tell("endpoint_down", name, url, reason)

    def endpoint_up(self, pool: str, url: str) -> None:
        """The endpoint has answered, whatever; the pool may have had another one before."""
        for name, down in list(self._down.items()):
            if down == url or name == pool:
                del self._down[name]
                self._tell("endpoint_up", name, url)

    def _tell(self, kind: PoolEventKind, pool: str, url: str, reason: str = "") -> None:
        if pool in self._pools():
            endpoint = urlsplit(url).hostname or ""
            self._notify(PoolEvent(kind=kind, pool=pool, endpoint=endpoint, reason=reason, at=int(self._clock.time())))
