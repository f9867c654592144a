"""Every key that there is, in memory: whose a key is, and whether it is any good at this moment."""

import hmac
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from authpool.clients.client import ClientEntry, GatewayClient, IssuedKey
from authpool.clients.key import parse_key, sha256_of

type DenialCode = Literal["client_key_required", "client_not_allowed", "client_limited"]

NO_KEY = (
    "Send a gateway key, in Proxy-Authorization, Authorization: Bearer, x-api-key, x-goog-api-key or the query's key; "
    "the gateway's operator makes one (authpool client add)."
)
MISTYPED = "This is no gateway key: it is mistyped, or was cut off."
UNKNOWN = "The gateway key is unknown."
EXPIRED = "The gateway key has expired; ask the gateway's operator for a new one."
ROTATED = "The gateway key was rotated out: another one has taken its place."
REMOVED = "The gateway key was removed."
ENDED = "The gateway key is no longer good: it was removed or rotated out, or has expired."
"""Of a request that was let in before."""

_NOBODY = sha256_of("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A key that is good until `ends_at` (Unix seconds), and its client as it is stored now."""

    client: GatewayClient
    key: IssuedKey
    ends_at: float

    @property
    def name(self) -> str:
        return self.client.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Why a client is not served. `client` is its name, where it has the right secret, else empty.

    `guess`: what was sent was no key of anybody's.
    """

    code: DenialCode
    detail: str
    client: str = ""
    retry_after_seconds: float | None = None
    guess: bool = False


class Keyring:
    """The keys of these clients; another one takes its place whenever a client changes."""

    def __init__(self, entries: Iterable[ClientEntry] = (), *, known: bool = True) -> None:
        """`known`: whether the clients could be read at all."""
        self.entries: Mapping[str, ClientEntry] = {entry.name.casefold(): entry for entry in entries}
        self._keys: dict[str, tuple[GatewayClient, IssuedKey]] = {}
        self._grants: dict[str, Grant] = {}
        self.doubles: frozenset[str] = frozenset()
        """The names of clients that share a key, which then is no good for any of them."""
        self.anybody = bool(self.entries) or not known
        """Whether there is a client, or was one: to remove the last one must not open the gateway."""
        self._add_all()

    def _add_all(self) -> None:
        shared: dict[str, set[str]] = {}
        for client in (entry for entry in self.entries.values() if isinstance(entry, GatewayClient)):
            for key in client.keys:
                if key.id in self._keys:
                    shared.setdefault(key.id, {self._keys[key.id][0].name}).add(client.name)
                self._keys[key.id] = (client, key)
                self._grants[key.id] = Grant(client=client, key=key, ends_at=client.ends_at(key))
        for identifier in shared:
            del self._keys[identifier], self._grants[identifier]
        self.doubles = frozenset().union(*shared.values())

    def verify(self, text: str, now: float) -> Grant | Denial:
        """Whose key this is, or why it is no good; takes as long for an unknown id as for a wrong secret."""
        parsed = parse_key(text)
        if parsed is None:
            return Denial(code="client_key_required", detail=MISTYPED, guess=True)
        grant = self._grants.get(parsed.id)
        same = hmac.compare_digest(parsed.sha256, _NOBODY if grant is None else grant.key.sha256)
        if grant is None or not same:
            return Denial(code="client_key_required", detail=UNKNOWN, guess=True)
        return grant if now < grant.ends_at else self.ended(grant)

    def current(self, grant: Grant, now: float) -> Grant | None:
        """What a grant is worth now: its client may have changed; None: nothing any more."""
        found = self._grants.get(grant.key.id)
        if found is None or now >= found.ends_at or found.key.sha256 != grant.key.sha256:
            return None
        return found

    def ended(self, grant: Grant) -> Denial:
        """Why a key that was good is so no more, as far as that is known."""
        client, key = self._keys.get(grant.key.id, (grant.client, grant.key))
        detail = ENDED
        if client.removed or key.ending == "removed":
            detail = REMOVED
        elif key.ends_at is not None and key.ends_at <= (math.inf if client.expires_at is None else client.expires_at):
            detail = ROTATED
        elif client.expires_at is not None:
            detail = EXPIRED
        return Denial(code="client_key_required", detail=detail, client=client.name)
