"""What is known of one OAuth client at one token endpoint, by whichever process: whom it was rejected for. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from authpool.accounts.account import Account, AccountKey
from authpool.toml_table import put_together, taken

VERSION = 1
ACCOUNTS = 4
"""A storm: so many different accounts of one client rejected, and not one accepted in between."""
WINDOW_SECONDS = 600.0
"""Of accounts that were disabled without being noted here (by hand, by an older authpool), those of so long count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One account that was found dead: with which refresh token (by fingerprint), and when (Unix seconds)."""

    account: AccountKey
    fingerprint: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRecord:
    """One client, named as `GrantRequest.client` does. `extra` holds the keys authpool does not know; they survive."""

    client: str
    rejections: tuple[Rejection, ...] = ()
    """Those since the client was last accepted, however long ago that is."""
    storm_since: int | None = None
    """A storm stands, since then (Unix seconds), until the client is accepted or somebody says that it is over."""
    storm_reason: str = ""
    pools: tuple[str, ...] = ()
    """Who met the storm."""
    accepted_at: int = 0
    """When (Unix seconds) what was known against it was taken back."""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def storm(self) -> bool:
        return self.storm_since is not None

    @property
    def in_trouble(self) -> bool:
        """Whether there is anything that a success would clear."""
        return self.storm or bool(self.rejections)

    def rejected(self, rejection: Rejection, disabled: Collection[Account]) -> "ClientRecord":
        """The same after one more account was found dead; where that would make a storm, the storm stands instead.

        `disabled`: the client's accounts that the store says are disabled.
        """
        if self.storm or self.would_storm(rejection, disabled):
            return self.with_storm(rejection.at)
        others = tuple(one for one in self.rejections if one.account != rejection.account)
        return replace(self, rejections=(*others, rejection))

    def would_storm(self, rejection: Rejection, disabled: Collection[Account]) -> bool:
        """Whether one more account that is found dead makes too many."""
        counted = {one.account for one in self.rejections}
        counted |= {account.key for account in disabled if self._counts(account, rejection.at)}
        return len(counted | {rejection.account}) >= ACCOUNTS

    def with_storm(self, now: float, pool: str | None = None, reason: str = "") -> "ClientRecord":
        """The same with a storm that stands, and was met by a pool."""
        pools = self.pools if pool is None or pool in self.pools else (*self.pools, pool)
        since = int(now) if self.storm_since is None else self.storm_since
        return replace(self, storm_since=since, storm_reason=self.storm_reason or reason, pools=pools)

    def accepted(self, now: float) -> "ClientRecord":
        """The same after a success, or after somebody said that all is well: nothing is known against it."""
        return replace(
            self,
            rejections=(),
            storm_since=None,
            storm_reason="",
            pools=(),
            accepted_at=max(int(now), self.accepted_at),
        )

    def _counts(self, account: Account, now: float) -> bool:
        """Whether the store's word alone, of a verdict that is not noted here, counts."""
        at = account.disabled_at
        verdict = (account.disabled_reason or "").startswith(("invalid_grant", "rotation_lost"))
        return (
            account.disabled
            and verdict
            and at is not None
            and abs(now - at) <= WINDOW_SECONDS
            and at > self.accepted_at
        )


def broken_record(client: str) -> ClientRecord:
    """What stands for a record that can't be read: nobody knows how many were disabled, so nobody else may be."""
    return ClientRecord(client=client, storm_since=0, storm_reason="what is known of the client can't be read")


def client_from_document(document: Mapping[str, Any]) -> ClientRecord:
    """Read a record from its TOML document. Raises ValueError for anything that is not as it was written."""
    rest = dict(document)
    if rest.pop("version", VERSION) != VERSION:
        raise ValueError("another version")
    rejections = taken(rest, "rejections", list, [])
    return ClientRecord(
        client=taken(rest, "client", str),
        rejections=tuple(_rejection(one) for one in rejections),
        storm_since=taken(rest, "storm_since", int, None),
        storm_reason=taken(rest, "storm_reason", str, ""),
        pools=tuple(_text(pool) for pool in taken(rest, "pools", list, [])),
        accepted_at=taken(rest, "accepted_at", int, 0),
        extra=rest,
    )


def document_from_client(record: ClientRecord) -> dict[str, Any]:
    """Write a record as a TOML document: known keys first, tables last, `None` left out."""
    rejections = [
        {"pool": one.account.pool, "name": one.account.name, "fingerprint": one.fingerprint, "at": one.at}
        for one in record.rejections
    ]
    return put_together(
        {
            "version": VERSION,
            "client": record.client,
            "storm_since": record.storm_since,
            "storm_reason": record.storm_reason or None,
            "pools": list(record.pools) or None,
            "accepted_at": record.accepted_at,
        },
        record.extra,
        rejections=rejections or None,
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")  # noqa: TRY004 - whatever is wrong in a file is one kind of trouble
    return value


def _rejection(table: Any) -> Rejection:
    if not isinstance(table, dict):
        raise ValueError("a rejection is no table")  # noqa: TRY004 - likewise
    rest = dict(table)
    return Rejection(
        account=AccountKey.of(taken(rest, "pool", str), taken(rest, "name", str)),
        fingerprint=taken(rest, "fingerprint", str, ""),
        at=taken(rest, "at", int, 0),
    )
