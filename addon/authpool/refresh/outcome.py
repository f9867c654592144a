"""What came of refreshing an account: data for whoever asked. Pure."""

from dataclasses import dataclass
from typing import Literal

from authpool.accounts.account import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """There is a live access token, stored. `posted` is False when another flight or process had fetched it."""

    account: Account
    posted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """The account is disabled. `stored` is False while the disk refuses to take that verdict."""

    account: Account
    stored: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """`invalid_grant`, once: out of the rotation until it is confirmed, not before `confirm_at` (Unix seconds).

    `stored` is False while the disk refuses to take that.
    """

    account: Account
    confirm_at: float
    stored: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """Not now. `cause` says whose fault it is; nothing was decided about the account.

    `endpoint` is the token URL that failed. `asked` is False where it was not even asked, being known to be down.
    `account` is what is stored now, where a new refresh token was written and no access token came with it.
    """

    detail: str
    cause: Literal["endpoint", "store", "account"] = "endpoint"
    retry_after_seconds: float | None = None
    endpoint: str | None = None
    asked: bool = True
    account: Account | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Misconfigured:
    """The token endpoint rejects the client, or everything it says: an operator must look at the pool."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """The account was removed, or its record can't be read any more."""

    detail: str


type Outcome = Ready | Dead | Rejected | Unavailable | Misconfigured | Gone
