"""Answering a refresh from what is there already: on disk, or in memory where the disk did not take it. Pure."""

from authpool.accounts.account import Account
from authpool.accounts.confirmation import confirm_from
from authpool.refresh.outcome import Dead, Gone, Outcome, Ready, Rejected, Unavailable

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
