"""What an account is: frozen records.

Nothing here touches a disk, a network or a clock. All times are whole Unix seconds.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from authpool.accounts.printable import clip_reason
from authpool.accounts.standing import Cooldown, Standing


class AccountKey(NamedTuple):
    """What tells one account from another; `name` is case-folded, for names compare case-insensitively."""

    pool: str
    name: str

    @classmethod
    def of(cls, pool: str, name: str) -> "AccountKey":
        return tuple.__new__(cls, (pool, name.casefold()))  # half of the time: 100,000 accounts are loaded at a start

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
    """The written intent: this refresh token (by fingerprint) may have been spent from `started_at` on.

    With `rejected_at` it was answered, with `invalid_grant`, and that is being confirmed; `client` (a fingerprint of
    the client's name) is whom it was answered. `unanswered`: besides, a POST of it may have had no answer. `account` is
    the address of whose intent it is: a file that was copied holds another one's.
    """

    fingerprint: str
    started_at: int
    account: str | None = None
    rejected_at: int | None = None
    client: str | None = None
    unanswered: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthClient:
    """A client of the account's own, where it is not the pool's (RFC 6749 §2.3.1)."""

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account as its record says. `extra` holds the keys authpool does not know; they survive.

    `subject` is the provider's `sub`: it tells who this is where several people share an e-mail address. `replaced` is
    the fingerprint of the refresh token that was exchanged last, at `replaced_at`: whoever wrote the newer one may have
    been killed before it wrote that into the audit trail.
    """

    pool: str
    name: str
    generation: int = 0
    subject: str | None = None
    created_at: int = 0
    replaced: str | None = None
    replaced_at: int | None = None
    disabled: bool = False
    disabled_at: int | None = None
    disabled_reason: str | None = None
    proxy_disabled: bool = False
    proxy_disabled_at: int | None = None
    proxy_disabled_reason: str | None = None
    proxy_disabled_until: int | None = None
    cooldowns: tuple[Cooldown, ...] = ()
    token: Token = field(default_factory=Token)
    client: OAuthClient | None = None
    pending_refresh: PendingRefresh | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)
    key: AccountKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", AccountKey.of(self.pool, self.name))  # once: everybody asks for it

    @property
    def address(self) -> str:
        """``POOL/NAME`` as people write it, in the spelling first seen."""
        return f"{self.pool}/{self.name}"

    def with_token(self, token: Token) -> "Account":
        """The credential changed: one generation on, and no refresh is pending any more."""
        return replace(self, token=token, generation=self.generation + 1, pending_refresh=None)

    def with_replaced(self, refresh_token: str | None, now: float) -> "Account":
        """What it holds was given for that refresh token, if for any."""
        if refresh_token is None:
            return self
        return replace(self, replaced=fingerprint(refresh_token), replaced_at=int(now))

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

    def pending(self) -> PendingRefresh | None:
        """The intent, if it is about the refresh token that is stored now."""
        pending, token = self.pending_refresh, self.token.refresh_token
        return pending if pending is not None and token and pending.fingerprint == fingerprint(token) else None

    @property
    def presents(self) -> bool:
        """Whether it was this account, and not one it was copied from, that began to present its refresh token."""
        if self.pending_refresh is None or self.pending_refresh.account != self.address:
            return False
        return self.pending() is not None

    def rejected_at(self) -> int | None:
        """Since when (Unix seconds) the refresh token is known to be rejected, while that is being confirmed."""
        if self.pending_refresh is None or self.disabled:  # nearly always: no hash for that
            return None
        pending = self.pending()
        return None if pending is None else pending.rejected_at

    @property
    def standing(self) -> Standing:
        """What is told apart from its credential."""
        return Standing(
            cooldowns=self.cooldowns,
            proxy_disabled=self.proxy_disabled,
            proxy_disabled_at=self.proxy_disabled_at,
            proxy_disabled_reason=self.proxy_disabled_reason,
            proxy_disabled_until=self.proxy_disabled_until,
        )

    def with_standing(self, standing: Standing) -> "Account":
        if standing == self.standing:
            return self
        return replace(
            self,
            cooldowns=standing.cooldowns,
            proxy_disabled=standing.proxy_disabled,
            proxy_disabled_at=standing.proxy_disabled_at,
            proxy_disabled_reason=standing.proxy_disabled_reason,
            proxy_disabled_until=standing.proxy_disabled_until,
        )

    def with_paused(self, now: float, reason: str = "manual", until: float | None = None) -> "Account":
        """As `Standing.with_paused`."""
        return self.with_standing(self.standing.with_paused(now, reason, until))

    def with_resumed(self) -> "Account":
        """As `Standing.with_resumed`."""
        return self.with_standing(self.standing.with_resumed())

    def spared(self) -> bool:
        """As `Standing.spared`."""
        return self.proxy_disabled and self.standing.spared()

    def paused(self, now: float) -> bool:
        """As `Standing.paused`."""
        return self.proxy_disabled and self.standing.paused(now)

    def with_cooldown(self, cooldown: Cooldown, now: float) -> "Account":
        """As `Standing.with_cooldown`."""
        return self.with_standing(self.standing.with_cooldown(cooldown, now))

    def with_token_accepted(self) -> "Account":
        """As `Standing.with_token_accepted`."""
        return self.with_standing(self.standing.with_token_accepted())


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenAccount:
    """An account whose record can't be read: shown, logged and skipped, and nothing else is affected."""

    pool: str
    name: str
    reason: str
    key: AccountKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", AccountKey.of(self.pool, self.name))

    @property
    def address(self) -> str:
        return f"{self.pool}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedAccount(BrokenAccount):
    """An account whose secrets are sealed and can't be opened now: there is nothing wrong with its record."""
