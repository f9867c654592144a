"""sticky: the same client, or whatever else tells requests apart, gets the same account while that can serve.

For what a provider keeps by account, such as prompt caches and sessions.

    rotation = { name = "sticky", by = "json:user.id" }

Options: `by`, what the account goes by:
    "client"              the client's IP address (the default)
    "header:X-Session"    a header of the request (the client's credentials are taken off before)
    "json:user.id"        a field of its JSON body, a name or an array's index at a time; a large body costs its parsing
Requests that lack the header or the field go by the client.
Bound: while an account can't serve, only its own clients move, each to the next account on the ring, and they come
back with it; one that is added takes 1/n of them from the others. Every gateway gives a client the same account. It
does not look at load: an account's share of the clients is 1/n, give or take a quarter of it (standard deviation).
Cost: O(log n) by consistent hashing.
"""

from collections.abc import Collection

from authpool.plugins.api import (
    AccountKey,
    HashRing,
    PoolConfig,
    Rotation,
    RotationFactory,
    RotationRequest,
    Selector,
    hookimpl,
    parse_selector,
    rotation_options,
    selected,
)


class Sticky(Rotation):
    """A ring that every account has points on, and every client a place."""

    def __init__(self, by: Selector) -> None:
        """`by`: what the account goes by; a request that lacks it goes by its client's address."""
        self.needs_body = by.needs_body
        self._by = by
        self._ring = HashRing()

    def add(self, key: AccountKey) -> None:
        self._ring.add(key)

    def remove(self, key: AccountKey) -> None:
        self._ring.remove(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        name = selected(self._by, request) or request.client
        return self._ring.owner(name.encode("utf-8", "surrogatepass"), tried)


def _make(pool: PoolConfig) -> Rotation:
    options = rotation_options(pool, "by")
    return Sticky(parse_selector(options.take_string("by") or "client", options.at("by"), "client", "header", "json"))


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "sticky" else None
