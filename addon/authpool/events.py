"""What happens in an account's life, as something that can be told on: to the log, to plugins, to an audit trail."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from authpool.account import Account

type EventKind = Literal[
    "added", "readded", "refreshed", "rotated", "disabled", "enabled", "paused", "resumed", "cooled", "removed"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountEvent:
    """One change of an account, after it was written. `reason` says why, and holds no secret."""

    kind: EventKind
    account: Account
    reason: str = ""


type Notify = Callable[[AccountEvent], None]
