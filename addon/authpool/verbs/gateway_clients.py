"""The verbs of gateway keys: a client is added, listed, given another key, removed."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from authpool.clients.client import NAME, NAME_RULE, BrokenClient, ClientEntry, GatewayClient, IssuedKey
from authpool.clients.key import NewKey, new_key
from authpool.clients.usage import NEVER, Usage
from authpool.config.host_pattern import HostPattern
from authpool.errors import RefusedError
from authpool.gateway.service import Service
from authpool.pool.report import timestamp
from authpool.store.audit import ClientEvent

type ClientState = Literal["active", "expired", "removed", "broken"]

KEPT_SECONDS = 30 * 86_400
"""So long a removed client's record tells whoever still has its key that it was removed."""
KEPT_AFTER_RUN_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A key that was just made, to be shown once, and a sentence about it."""

    client: str
    key: str = field(repr=False)
    message: str
    expires_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a new client may: see `GatewayClient`. No pool or no host: any."""

    pools: Collection[str] = ()
    hosts: Collection[str] = ()
    expires_seconds: float | None = None
    for_run: bool = False
    max_in_flight: int | None = None
    requests_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRow:
    """One client as it is shown. Times are Unix seconds, None where there is none."""

    name: str
    state: ClientState
    pools: list[str] | None
    hosts: list[str] | None
    expires_at: int | None
    keys: int
    max_in_flight: int | None
    requests_per_second: float | None
    last_used_at: int | None
    requests: int
    refused: int
    reason: str = ""


class GatewayClientVerbs:
    """What an operator can do to the gateway's clients. They raise RefusedError and StoreError."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def add(self, name: str, terms: Terms) -> Issued:
        """Add a client, and make its first key."""
        if not NAME.fullmatch(name):
            raise RefusedError(f"{name!a} can't be a client's name: it has {NAME_RULE}")
        now, key = self._service.clock.time(), new_key()
        client = self._made(name, terms, key, now)

        def add(current: GatewayClient | None) -> GatewayClient:
            if current is None:
                return client
            if not current.removed:
                raise RefusedError(
                    f"there is a client {current.name} already: give it another key with `authpool client rotate "
                    f"{current.name}`, or remove it first"
                )
            former = current.with_removed(current.removed_at or now).keys  # whoever has one is told that it was removed
            return client.with_former(former)

        stored = await self._service.store.update_gateway_client(name, add)
        self._note("client added", name, _told(client))
        await self._clear_away(now, name)
        expires_at = None if stored is None else stored.expires_at
        return Issued(client=name, key=key.text, message=f"Added client {name}: {_told(client)}", expires_at=expires_at)

    async def rotate(
        self, name: str, *, overlap_seconds: float, leaked: bool = False, expires_seconds: float | None = None
    ) -> Issued:
        """Give a client another key. Those before it end after the overlap, or, where they leaked, at once."""
        now, key = self._service.clock.time(), new_key()

        def rotate(current: GatewayClient | None) -> GatewayClient:
            client = _existing(name, current)
            if client.expired(now) and expires_seconds is None:
                raise RefusedError(
                    f"client {client.name} has expired: say until when the new key lives, with --expires"
                )
            rotated = client.with_rotated(_issued(key, now), now, overlap_seconds=overlap_seconds, leaked=leaked)
            return rotated if expires_seconds is None else rotated.until(math.ceil(now + expires_seconds))

        stored = await self._service.store.update_gateway_client(name, rotate)
        assert stored is not None  # noqa: S101 - for the type checker
        former = "at once" if leaked or overlap_seconds <= 0 else f"at {timestamp(math.ceil(now + overlap_seconds))}"
        self._note("client rotated", stored.name, "its key leaked" if leaked else f"the key before it ends {former}")
        message = f"Client {stored.name} has another key; the one before it ends {former}"
        return Issued(client=stored.name, key=key.text, message=message, expires_at=stored.expires_at)

    async def remove(self, name: str) -> str:
        """Remove a client: from now on no key of it is any good, and what is under way with one is cut off."""
        now = self._service.clock.time()
        broken = False

        def remove(current: GatewayClient | None) -> GatewayClient | None:
            if current is None and broken:
                return GatewayClient(name=name, removed_at=int(now))
            return _existing(name, current).with_removed(now)

        entries = await self._service.store.gateway_clients()
        broken = isinstance(entries.get(name.casefold()), BrokenClient) and NAME.fullmatch(name) is not None
        stored = await self._service.store.update_gateway_client(name, remove, replace_broken=broken)
        shown = name if stored is None else stored.name
        self._note("client removed", shown, "")
        others = [one for key, one in entries.items() if key != name.casefold() and not _is_removed(one)]
        left = (
            ""
            if others
            else '; it was the last one, and keys are asked for all the same (client_keys = "off" ends that)'
        )
        return (
            f"Removed client {shown}: within a second no gateway lets it in, and what it has under way is cut off{left}"
        )

    async def rows(self) -> list[ClientRow]:
        """Every client that was not removed, by name."""
        store = self._service.store
        return rows(await store.gateway_clients(), await store.gateway_usage(), self._service.clock.time())

    def _made(self, name: str, terms: Terms, key: NewKey, now: float) -> GatewayClient:
        rate, known = terms.requests_per_second, self._service.snapshot.config.pools
        if rate is not None and not 0 < rate < math.inf:
            raise RefusedError("the requests a second have to be a number above 0")
        for pool in terms.pools:
            if pool not in known:
                raise RefusedError(
                    f"authpool.toml configures no pool {pool}; there are: {', '.join(sorted(known)) or 'none'}"
                )
        return GatewayClient(
            name=name,
            created_at=int(now),
            expires_at=None if terms.expires_seconds is None else math.ceil(now + terms.expires_seconds),
            for_run=terms.for_run,
            pools=tuple(dict.fromkeys(terms.pools)) or None,
            hosts=tuple(_host(one) for one in terms.hosts) or None,
            max_in_flight=terms.max_in_flight,
            requests_per_second=terms.requests_per_second,
            keys=(_issued(key, now),),
        )

    async def _clear_away(self, now: float, added: str) -> None:
        """Forget clients whose end is long ago."""
        for name, entry in (await self._service.store.gateway_clients()).items():
            if name != added.casefold() and _is_forgotten(entry, now):
                await self._service.store.update_gateway_client(
                    name, lambda current: None if current is None or _is_forgotten(current, now) else current
                )

    def _note(self, event: ClientEvent, name: str, reason: str) -> None:
        self._service.trail.note_client(event, name, reason)


def rows(entries: Mapping[str, ClientEntry], usage: Mapping[str, Usage], now: float) -> list[ClientRow]:
    """The clients as they are shown, by name; those that were removed are left out."""
    return [
        _row(entry, usage.get(name, NEVER), now) for name, entry in sorted(entries.items()) if not _is_removed(entry)
    ]


def live_rows(service: Service) -> list[ClientRow]:
    """The clients that a running gateway knows."""
    entries, clients = service.clients.gatekeeper.keyring.entries, service.clients
    return rows(entries, {name: clients.usage(name) for name in entries}, service.clock.time())


def _row(entry: ClientEntry, usage: Usage, now: float) -> ClientRow:
    client = entry if isinstance(entry, GatewayClient) else GatewayClient(name=entry.name)
    state: ClientState = "expired" if client.expired(now) else "active"
    return ClientRow(
        name=client.name,
        state="broken" if isinstance(entry, BrokenClient) else state,
        pools=None if client.pools is None else list(client.pools),
        hosts=None if client.hosts is None else [str(host) for host in client.hosts],
        expires_at=client.expires_at,
        keys=sum(now < client.ends_at(key) for key in client.keys),
        max_in_flight=client.max_in_flight,
        requests_per_second=client.requests_per_second,
        last_used_at=usage.last_used_at or None,
        requests=usage.requests,
        refused=usage.refused,
        reason=entry.reason if isinstance(entry, BrokenClient) else "",
    )


def _existing(name: str, current: GatewayClient | None) -> GatewayClient:
    if current is None:
        raise RefusedError(f"there is no client {ascii(name)[1:-1]}; `authpool client list` shows those there are")
    if current.removed:
        raise RefusedError(f"client {current.name} was removed; `authpool client add {current.name}` makes a new one")
    return current


def _issued(key: NewKey, now: float) -> IssuedKey:
    return IssuedKey(id=key.id, sha256=key.sha256, created_at=int(now))


def _host(text: str) -> HostPattern:
    if text == "*":
        raise RefusedError("a client that may reach every host is one without any host: leave it out")
    try:
        return HostPattern.parse(text)
    except ValueError as error:
        raise RefusedError(f"the host {text!a} {error}") from None


def _is_removed(entry: ClientEntry) -> bool:
    return isinstance(entry, GatewayClient) and entry.removed


def _is_forgotten(entry: ClientEntry, now: float) -> bool:
    if isinstance(entry, BrokenClient):
        return False
    if entry.removed_at is not None and now > entry.removed_at + KEPT_SECONDS:
        return True
    return entry.for_run and entry.expires_at is not None and now > entry.expires_at + KEPT_AFTER_RUN_SECONDS


def _told(client: GatewayClient) -> str:
    """What it may, in words."""
    pools = "every pool" if client.pools is None else f"pool {', '.join(client.pools)}"
    hosts = "every host" if client.hosts is None else ", ".join(map(str, client.hosts))
    parts = [f"{pools} at {hosts}"]
    parts += [] if client.expires_at is None else [f"until {timestamp(client.expires_at)}"]
    parts += [] if client.max_in_flight is None else [f"{client.max_in_flight} requests at a time"]
    parts += [] if client.requests_per_second is None else [f"{client.requests_per_second:g} requests a second"]
    return ", ".join(parts)
