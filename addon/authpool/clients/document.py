"""A client of the gateway as a TOML document, and back. Whatever is not as it should be makes all of it unreadable.

A limit that could not be understood must not be taken for no limit.
"""

from collections.abc import Mapping
from typing import Any, cast, get_args

from authpool.clients.client import NAME, NAME_RULE, Ending, GatewayClient, IssuedKey
from authpool.config.host_pattern import HostPattern
from authpool.toml_table import LARGEST, put_together, taken, without_none

VERSION = 1
_SLOWEST = 1e-9
"""Requests a second: of a smaller number not even the wait can be told."""
_ENDINGS = get_args(Ending.__value__)


def client_from_document(document: Mapping[str, Any]) -> GatewayClient:
    """Read a client. Raises ValueError, fit to be shown: it names the key, never a value."""
    rest = dict(document)
    if rest.pop("version", VERSION) != VERSION:
        raise ValueError("`version` is another one than 1")
    name = taken(rest, "name", str)
    if not NAME.fullmatch(name):
        raise ValueError(f"`name` is no client's name ({NAME_RULE})")
    pools, hosts = _texts(rest, "pools"), _texts(rest, "hosts")
    return GatewayClient(
        name=name,
        created_at=taken(rest, "created_at", int, 0),
        expires_at=taken(rest, "expires_at", int, None),
        removed_at=taken(rest, "removed_at", int, None),
        for_run=taken(rest, "for_run", bool, False),
        pools=pools,
        hosts=None if hosts is None else tuple(_host(one) for one in hosts),
        max_in_flight=_limit(rest, "max_in_flight", int),
        requests_per_second=_limit(rest, "requests_per_second", int, float),
        keys=tuple(_key(one) for one in taken(rest, "keys", list, [])),
        extra=rest,
    )


def document_from_client(client: GatewayClient) -> dict[str, Any]:
    """Write a client: known keys first, tables last, what is None left out."""
    return put_together(
        {
            "version": VERSION,
            "name": client.name,
            "created_at": client.created_at,
            "expires_at": client.expires_at,
            "removed_at": client.removed_at,
            "for_run": client.for_run or None,
            "pools": None if client.pools is None else list(client.pools),
            "hosts": None if client.hosts is None else [str(host) for host in client.hosts],
            "max_in_flight": client.max_in_flight,
            "requests_per_second": client.requests_per_second,
        },
        client.extra,
        keys=[_key_table(key) for key in client.keys],
    )


def _key_table(key: IssuedKey) -> dict[str, Any]:
    return without_none(
        {
            "id": key.id,
            "sha256": key.sha256,
            "created_at": key.created_at,
            "ends_at": key.ends_at,
            "ending": key.ending,
        }
    )


def _limit(rest: dict[str, Any], key: str, *kinds: type) -> Any:
    value = rest.pop(key, None)
    if value is not None and (type(value) not in kinds or not _SLOWEST <= value < LARGEST):
        raise ValueError(f"`{key}` is no number above 0, or out of range")
    return value


def _texts(rest: dict[str, Any], key: str) -> tuple[str, ...] | None:
    values = taken(rest, key, list, None)
    if values is not None and not all(isinstance(value, str) for value in values):
        raise ValueError(f"`{key}` is no list of names")
    return None if values is None else tuple(values)


def _host(text: str) -> HostPattern:
    try:
        return HostPattern.parse(text)
    except ValueError as error:
        raise ValueError(f"one of `hosts` {error}") from None


def _key(table: Any) -> IssuedKey:
    if not isinstance(table, dict):
        raise ValueError("one of `keys` is no table")  # noqa: TRY004 - whatever is wrong in a file is one kind of trouble
    rest = dict(table)
    ending = taken(rest, "ending", str, None)
    if ending is not None and ending not in _ENDINGS:
        raise ValueError("`ending` of a key is none that there is")
    sha256 = taken(rest, "sha256", str)
    if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef"):
        raise ValueError("`sha256` of a key is no SHA-256 in hex")
    return IssuedKey(
        id=taken(rest, "id", str),
        sha256=sha256,
        created_at=taken(rest, "created_at", int, 0),
        ends_at=taken(rest, "ends_at", int, None),
        ending=cast("Ending | None", ending),
    )
