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

import json
import re
from collections.abc import Callable, Collection

from authpool import hookimpl
from authpool.account import AccountKey
from authpool.config import PoolConfig
from authpool.config.config_table import mistake
from authpool.hash_ring import HashRing
from authpool.rotation import Rotation, RotationFactory, RotationRequest, rotation_options

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2, token


class Sticky(Rotation):
    """A ring that every account has points on, and every client a place."""

    def __init__(self, identify: Callable[[RotationRequest], str | None] | None = None, *, needs_body: bool) -> None:
        """`identify` answers what the account goes by; where it answers None or nothing, the client's address does."""
        self.needs_body = needs_body
        self._identify = identify
        self._ring = HashRing()

    def add(self, key: AccountKey) -> None:
        self._ring.add(key)

    def remove(self, key: AccountKey) -> None:
        self._ring.remove(key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        name = (self._identify and self._identify(request)) or request.client
        return self._ring.owner(name.encode("utf-8", "surrogatepass"), tried)


def by_client() -> Sticky:
    return Sticky(needs_body=False)


def by_header(header: str) -> Sticky:
    return Sticky(lambda request: request.header(header), needs_body=False)


def by_json(path: str) -> Sticky:
    """Stick by a field of the body: ``user.id``, ``messages.0.content``."""
    parts = path.split(".")
    return Sticky(lambda request: _field(request.body(), parts), needs_body=True)


def _field(body: bytes | None, parts: list[str]) -> str | None:
    try:
        value = json.loads(body or b"null")
        for part in parts:
            value = value[int(part)] if isinstance(value, list) else value[part]
        return value if value is None or isinstance(value, str) else json.dumps(value, sort_keys=True)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _make(pool: PoolConfig) -> Rotation:
    options = rotation_options(pool, "by")
    by = options.take_string("by") or "client"
    kind, _, name = by.partition(":")
    if by == "client":
        return by_client()
    if kind == "header" and _HEADER_NAME.fullmatch(name):
        return by_header(name)
    if kind == "json" and all(name.split(".")):
        return by_json(name)
    raise mistake(
        options.at("by"),
        "is not what requests can be told apart by.",
        'Write "client", "header:" and its name, or "json:" and a path such as user.id.',
    )


@hookimpl
def authpool_rotation(name: str) -> RotationFactory | None:
    return _make if name == "sticky" else None
