"""One client of the gateway, as it is stored: what it may reach, for how long, and the hashes of its keys."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from authpool.config.host_pattern import HostPattern, canonical_host

type Ending = Literal["rotated", "leaked", "removed"]
"""Why a key ends before its client does."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
NAME_RULE = "letters, digits and ._@+- only, at most 64, the first a letter or digit"
KEPT_ENDED = 20
"""So many keys that have ended are kept, so that whoever still sends one is told why it is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """One key of a client. Times are Unix seconds; from `ends_at` on it is no good, None: as long as its client."""

    id: str
    sha256: str = field(repr=False)
    created_at: int = 0
    ends_at: int | None = None
    ending: Ending | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayClient:
    """Who may use the gateway. `extra` holds the keys of its file that authpool does not know; they survive.

    `pools` and `hosts` are what it may reach, both of them; None: any. `expires_at` and `removed_at` are Unix seconds:
    from then on no key of it is any good. `for_run`: it was made for one job, and is cleared away after its end.
    """

    name: str
    created_at: int = 0
    expires_at: int | None = None
    removed_at: int | None = None
    for_run: bool = False
    pools: tuple[str, ...] | None = None
    hosts: tuple[HostPattern, ...] | None = None
    max_in_flight: int | None = None
    requests_per_second: float | None = None
    keys: tuple[IssuedKey, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def removed(self) -> bool:
        return self.removed_at is not None

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def ends_at(self, key: IssuedKey) -> float:
        """When (Unix seconds) a key of it ends, or has ended, whatever ends it."""
        return min(math.inf if at is None else at for at in (key.ends_at, self.expires_at, self.removed_at))

    def may_reach(self, pool: str | None, scheme: str, host: str, port: int) -> bool:
        """Whether a request of `pool` (None: of none) to this destination is within what it may."""
        if self.pools is not None and pool not in self.pools:
            return False
        return self.may_reach_host(scheme, host, port)

    def may_reach_host(self, scheme: str, host: str, port: int) -> bool:
        """Whether this destination is among its hosts, whatever the pool."""
        if self.hosts is None:
            return True
        name = canonical_host(host)
        return name is not None and any(one.matches(scheme, name, port) for one in self.hosts)

    def with_rotated(self, key: IssuedKey, now: float, *, overlap_seconds: float, leaked: bool) -> "GatewayClient":
        """The same with another key. Those before it end after the overlap; of a leaked client, at once."""
        ends_at = int(now) if leaked else math.ceil(now + overlap_seconds) if overlap_seconds > 0 else int(now)
        ending: Ending = "leaked" if leaked else "rotated"
        keys = tuple(_ended(one, ends_at, ending) for one in self._kept())
        return replace(self, keys=(*keys, key))

    def with_former(self, keys: tuple[IssuedKey, ...]) -> "GatewayClient":
        """The same, with what is known of the keys of a former client of its name."""
        return replace(self, keys=(*keys[-KEPT_ENDED:], *self.keys))

    def until(self, expires_at: int) -> "GatewayClient":
        """The same with another end. A key that ended with the one before it stays ended."""
        now_ended = tuple(
            key if key is self.keys[-1] or self.expires_at is None else _ended(key, self.expires_at, "rotated")
            for key in self.keys
        )
        return replace(self, expires_at=expires_at, keys=now_ended)

    def with_removed(self, now: float) -> "GatewayClient":
        """The same, removed: what is left of it tells whoever still has a key of it."""
        at = int(now)
        return replace(self, removed_at=at, keys=tuple(_ended(one, at, "removed") for one in self._kept()))

    def _kept(self) -> tuple[IssuedKey, ...]:
        """The keys without the oldest of those that have an end."""
        ended = [key for key in self.keys if key.ends_at is not None]
        dropped = set(ended[: max(0, len(ended) - KEPT_ENDED)])
        return tuple(key for key in self.keys if key not in dropped)


def _ended(key: IssuedKey, ends_at: int, ending: Ending) -> IssuedKey:
    """The same key with an end, where it has no earlier one."""
    if key.ends_at is not None and key.ends_at <= ends_at:
        return key
    return replace(key, ends_at=ends_at, ending=ending)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenClient:
    """A client whose record can't be read: none of its keys is any good. `reason` holds no secret."""

    name: str
    reason: str


type ClientEntry = GatewayClient | BrokenClient
