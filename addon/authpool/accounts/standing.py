"""What holds an account back for a while: an upstream's pauses, its quota, an operator. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from authpool.accounts.printable import clip_reason

MOST_COOLDOWNS = 64
"""Of one account's kinds of requests so many are kept, those that last the longest."""
QUOTA_PROTECTION = "quota_protection"
"""The `proxy_disabled_reason` of an account that is spared until its quota is full again."""
TOKEN_REFUSED = "the upstream refuses its token"
"""The `reason` of a cooldown begins so when no token of the account's is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldown:
    """An upstream asked for a pause until then: of the account, or (`key`) of what it was asked for, say a model."""

    until: int
    reason: str = ""
    key: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def of_token(self) -> bool:
        """Whether an upstream refused the account's tokens, rather than asked for a pause."""
        return self.reason.startswith(TOKEN_REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What holds an account back for a while: an upstream's pauses, its quota, an operator. None of it is a credential.

    It is written apart from the credential, so that it never waits for a refresh.
    """

    cooldowns: tuple[Cooldown, ...] = ()
    proxy_disabled: bool = False
    proxy_disabled_at: int | None = None
    proxy_disabled_reason: str | None = None
    proxy_disabled_until: int | None = None

    def with_paused(self, now: float, reason: str = "manual", until: float | None = None) -> "Standing":
        """Held back from now on, by an operator or (`until` then) for its quota."""
        return replace(
            self,
            proxy_disabled=True,
            proxy_disabled_at=int(now),
            proxy_disabled_reason=clip_reason(reason),
            proxy_disabled_until=None if until is None else math.ceil(until),
        )

    def with_resumed(self) -> "Standing":
        """Held back no more, by an operator or for its quota."""
        return replace(
            self,
            proxy_disabled=False,
            proxy_disabled_at=None,
            proxy_disabled_reason=None,
            proxy_disabled_until=None,
        )

    def spared(self) -> bool:
        """Whether it is held back for its quota, and not by an operator."""
        return self.proxy_disabled and self.proxy_disabled_reason == QUOTA_PROTECTION

    def paused(self, now: float) -> bool:
        """Whether it is held back now: by an operator until he takes it back, for its quota until that is full."""
        over = self.spared() and self.proxy_disabled_until is not None and self.proxy_disabled_until <= now
        return self.proxy_disabled and not over

    def with_cooldown(self, cooldown: Cooldown, now: float) -> "Standing":
        """With this pause beside those of other kinds, the later of two of a kind, and without those that are over."""
        same_kind = [one for one in self.cooldowns if one.key == cooldown.key]
        extra = {key: value for one in (*same_kind, cooldown) for key, value in one.extra.items()}
        cooldown = replace(max((*same_kind, cooldown), key=lambda one: one.until), extra=extra)
        others = [other for other in self.cooldowns if other.until > now and other.key != cooldown.key]
        others = sorted(others, key=lambda one: (one.key == "", one.until))[1 - MOST_COOLDOWNS :]  # clients name kinds
        kept = tuple(sorted([*others, cooldown], key=lambda one: one.key)) if cooldown.until > now else tuple(others)
        return self if kept == self.cooldowns else replace(self, cooldowns=kept)

    def with_token_accepted(self) -> "Standing":
        """Without the cooldowns of an account whose tokens are refused."""
        kept = tuple(one for one in self.cooldowns if not one.of_token)
        return self if kept == self.cooldowns else replace(self, cooldowns=kept)
