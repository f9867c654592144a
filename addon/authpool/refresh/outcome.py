"""What came of refreshing an account: data for whoever asked. Pure."""

from dataclasses import dataclass
from typing import Literal

from authpool.accounts.account import Account
from authpool.accounts.confirmation import confirm_from


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


# --- answers from what is there already: on disk, or in memory where the disk did not take it ---------------------

ADOPT_MARGIN_SECONDS = 1.0


def already_refreshed(stored: Account, seen: Account, rejected: str | None, now: float) -> bool:
    """Whether the store has a live access token that is neither the one last seen nor the one refused."""
    known_bad = {rejected, seen.token.access_token}
    return stored.token.live(now, ADOPT_MARGIN_SECONDS) and stored.token.access_token not in known_bad


def from_memory(unwritten: Account, rejected: str | None, now: float) -> Outcome:
    """Answer for an account whose record can't be written yet; its refresh token on disk must not be used."""
    if unwritten.disabled:
        return Dead(account=unwritten, stored=False)
    if unwritten.token.live(now) and unwritten.token.access_token != rejected:
        return Ready(account=unwritten, posted=False)
    return Unavailable(detail="the store can't be written", cause="store")


def from_successor(current: Account | None, now: float) -> Outcome:
    """Answer where the credential became another one meanwhile: the one presented decides nothing any more."""
    if current is None:
        return Gone(detail="the account was removed")
    if current.disabled:
        return Dead(account=current)
    rejected_at = current.rejected_at()
    if rejected_at is not None:
        return Rejected(account=current, confirm_at=confirm_from(rejected_at, now))
    if current.token.live(now, ADOPT_MARGIN_SECONDS):
        return Ready(account=current, posted=False)
    return Unavailable(detail="the credential was replaced meanwhile", cause="account", retry_after_seconds=0)
