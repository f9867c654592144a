"""What happens in an account's life, as something that can be told on: to the log, to plugins, to an audit trail."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from authpool.accounts.account import Account

type EventKind = Literal[
    "added",
    "readded",
    "refreshed",
    "rotated",
    "disabled",
    "enabled",
    "paused",
    "resumed",
    "cooled",
    "moved",
    "removed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEvent:
    """One change of an account, after it was written. `reason` says why, and holds no secret.

    `replaced` is the fingerprint of the refresh token that was exchanged for the account's, where one was.
    """

    kind: EventKind
    account: Account
    reason: str = ""
    replaced: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolExhausted:
    """No account of a pool could serve a request.

    `counts`: how many accounts are in which state (ready, cooling, paused, disabled, broken). `retry_at`: when the next
    cooldown ends (Unix seconds), None when none does. `at`: when it was noticed.
    """

    pool: str
    at: int
    counts: Mapping[str, int] = field(default_factory=dict)
    retry_at: int | None = None


type PoolEventKind = Literal["client_rejected", "client_accepted", "endpoint_down", "endpoint_up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEvent:
    """Trouble of a whole pool began (`client_rejected`, `endpoint_down`) or ended (`client_accepted`, `endpoint_up`).

    `endpoint` is the host of the token endpoint, empty where there is none. `reason` says what it answered, and holds
    no secret; an end has none. `at` is Unix seconds.
    """

    kind: PoolEventKind
    pool: str
    endpoint: str = ""
    reason: str = ""
    at: int = 0


type NotifyPool = Callable[[PoolEvent], None]

type Notify = Callable[[AccountEvent], None]
