"""What an account is: frozen records, and their form in a file.

Nothing here touches a disk, a network or a clock. All times are whole Unix seconds.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from authpool.errors import BrokenAccountError

VERSION = 1
REASON_BYTES = 800

type Document = dict[str, Any]
"""A parsed TOML document."""


class AccountKey(NamedTuple):
    """What tells one account from another; `name` is case-folded, for names compare case-insensitively."""

    pool: str
    name: str

    @classmethod
    def of(cls, pool: str, name: str) -> "AccountKey":
        return cls(pool, name.casefold())

    @classmethod
    def parse(cls, address: str) -> "AccountKey":
        """Read ``POOL/NAME``; the name may hold further slashes. Raises ValueError."""
        pool, slash, name = address.partition("/")
        if not (pool and slash and name):
            raise ValueError(f"{address!r} is not of the form POOL/NAME")
        return cls.of(pool, name)

    def __str__(self) -> str:
        return f"{self.pool}/{self.name}"


def fingerprint(secret: str) -> str:
    """Tell one secret from another without showing it: the first 8 hex digits of its SHA-256."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def clip_reason(reason: str) -> str:
    """Cut a reason to at most 800 bytes of UTF-8, between characters, on one line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    return flat.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """The secret part of an account, as RFC 6749 §5.1 names it; `expires_at` is absent when unknown."""

    access_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    token_type: str = "Bearer"
    expires_at: int | None = None
    scope: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def live(self, now: float, margin_seconds: float = 0) -> bool:
        """Whether the access token can still be used at `now + margin_seconds`, as far as anyone knows."""
        return bool(self.access_token) and (self.expires_at is None or now + margin_seconds < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRefresh:
    """The written intent: this refresh token (by fingerprint) may have been spent from `started_at` on."""

    fingerprint: str
    started_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """A client of the account's own, where it is not the pool's (RFC 6749 §2.3.1)."""

    client_id: str
    client_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account as its record says. `extra` holds the keys authpool does not know; they survive."""

    pool: str
    name: str
    generation: int = 0
    created_at: int = 0
    disabled: bool = False
    disabled_at: int | None = None
    disabled_reason: str | None = None
    proxy_disabled: bool = False
    proxy_disabled_at: int | None = None
    proxy_disabled_reason: str | None = None
    token: Token = field(default_factory=Token)
    client: OAuthClient | None = None
    pending_refresh: PendingRefresh | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def key(self) -> AccountKey:
        return AccountKey.of(self.pool, self.name)

    @property
    def address(self) -> str:
        """``POOL/NAME`` as people write it, in the spelling first seen."""
        return f"{self.pool}/{self.name}"

    def with_token(self, token: Token) -> "Account":
        """The credential changed: one generation on, and no refresh is pending any more."""
        return replace(self, token=token, generation=self.generation + 1, pending_refresh=None)

    def with_disabled(self, reason: str, now: float) -> "Account":
        return replace(
            self,
            disabled=True,
            disabled_at=int(now),
            disabled_reason=clip_reason(reason),
            pending_refresh=None,
        )

    def with_enabled(self) -> "Account":
        return replace(self, disabled=False, disabled_at=None, disabled_reason=None)

    def with_paused(self, now: float, reason: str = "manual") -> "Account":
        return replace(
            self,
            proxy_disabled=True,
            proxy_disabled_at=int(now),
            proxy_disabled_reason=clip_reason(reason),
        )

    def with_resumed(self) -> "Account":
        return replace(self, proxy_disabled=False, proxy_disabled_at=None, proxy_disabled_reason=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenAccount:
    """An account whose record can't be read: shown, logged and skipped, and nothing else is affected."""

    pool: str
    name: str
    reason: str

    @property
    def key(self) -> AccountKey:
        return AccountKey.of(self.pool, self.name)

    @property
    def address(self) -> str:
        return f"{self.pool}/{self.name}"


_MISSING: Any = object()


class _Table:
    """A TOML table that is taken apart key by key; what was not taken is what authpool does not know."""

    def __init__(self, table: Any, where: str) -> None:
        if not isinstance(table, dict):
            raise BrokenAccountError(f"[{where}] must be a table")
        self._rest = dict(table)
        self._where = f"{where}." if where else ""

    def take[T](self, key: str, kind: type[T], default: Any = _MISSING) -> T:
        value = self._rest.pop(key, default)
        if value is _MISSING:
            raise BrokenAccountError(f"`{self._where}{key}` is missing")
        if value is default:
            return value  # type: ignore[no-any-return]
        if type(value) is not kind:
            raise BrokenAccountError(f"`{self._where}{key}` must be a {_KIND_NAMES[kind]}")
        return value

    def take_time(self, key: str, default: Any = None) -> Any:
        value = self._rest.get(key)
        if type(value) is float and abs(value) < 1e15:  # an editor or a script wrote 1.7e9
            self._rest[key] = int(value)
        return self.take(key, int, default)

    def rest(self) -> dict[str, Any]:
        return self._rest


_KIND_NAMES: dict[type, str] = {str: "string", int: "whole number", bool: "true or false", dict: "table"}


def account_from_document(pool: str, name: str, document: Document) -> Account:
    """Read the account that a file named `name` (decoded) in folder `pool` holds. Raises BrokenAccountError."""
    top = _Table(document, "")
    version = top.take("version", int, VERSION)
    if version != VERSION:
        raise BrokenAccountError(f"`version` is {version}; this authpool reads version {VERSION}")
    written_name = top.take("name", str, name)
    if written_name.casefold() != name.casefold():
        raise BrokenAccountError("`name` is not the one its file name says")
    return Account(
        pool=pool,
        name=written_name,
        generation=top.take("generation", int, 0),
        created_at=top.take_time("created_at", 0),
        disabled=top.take("disabled", bool, False),
        disabled_at=top.take_time("disabled_at"),
        disabled_reason=top.take("disabled_reason", str, None),
        proxy_disabled=top.take("proxy_disabled", bool, False),
        proxy_disabled_at=top.take_time("proxy_disabled_at"),
        proxy_disabled_reason=top.take("proxy_disabled_reason", str, None),
        token=_token(top.take("token", dict, {})),
        client=_client(top.take("client", dict, None)),
        pending_refresh=_pending_refresh(top.take("pending_refresh", dict, None)),
        extra=top.rest(),
    )


def _token(document: Document) -> Token:
    table = _Table(document, "token")
    return Token(
        access_token=table.take("access_token", str, None) or None,
        refresh_token=table.take("refresh_token", str, None) or None,
        token_type=table.take("token_type", str, "Bearer"),
        expires_at=table.take_time("expires_at"),
        scope=table.take("scope", str, None),
        extra=table.rest(),
    )


def _client(document: Document | None) -> OAuthClient | None:
    if document is None:
        return None
    table = _Table(document, "client")
    return OAuthClient(
        client_id=table.take("client_id", str),
        client_secret=table.take("client_secret", str, None),
    )


def _pending_refresh(document: Document | None) -> PendingRefresh | None:
    if document is None:
        return None
    table = _Table(document, "pending_refresh")
    return PendingRefresh(fingerprint=table.take("fingerprint", str), started_at=table.take_time("started_at", 0))


def document_from_account(account: Account) -> Document:
    """Write an account as the TOML document of its file: known keys first, tables last, `None` left out."""
    scalars = {k: v for k, v in account.extra.items() if not isinstance(v, dict)}
    tables = {k: v for k, v in account.extra.items() if isinstance(v, dict)}
    token = account.token
    return _without_none(
        {
            "version": VERSION,
            "name": account.name,
            "generation": account.generation,
            "created_at": account.created_at,
            "disabled": account.disabled,
            "disabled_at": account.disabled_at,
            "disabled_reason": account.disabled_reason,
            "proxy_disabled": account.proxy_disabled,
            "proxy_disabled_at": account.proxy_disabled_at,
            "proxy_disabled_reason": account.proxy_disabled_reason,
            **scalars,
            "token": _without_none(
                {
                    "access_token": token.access_token,
                    "refresh_token": token.refresh_token,
                    "token_type": token.token_type,
                    "expires_at": token.expires_at,
                    "scope": token.scope,
                    **token.extra,
                }
            ),
            "client": None
            if account.client is None
            else _without_none({"client_id": account.client.client_id, "client_secret": account.client.client_secret}),
            "pending_refresh": None
            if account.pending_refresh is None
            else {
                "fingerprint": account.pending_refresh.fingerprint,
                "started_at": account.pending_refresh.started_at,
            },
            **tables,
        }
    )


def _without_none(table: Document) -> Document:
    return {key: value for key, value in table.items() if value is not None}
