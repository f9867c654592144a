"""The lines operators read and grep for. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

from authpool.accounts.account import Account
from authpool.pool.pool import State

NEVER_QUIET = (
    "Disabling account ",
    "Skipping disabled account ",
    "Skipping broken account ",
    "Skipping sealed account ",
)
"""How the lines begin that --quiet must not hide: an account needs somebody."""


def reload_line(pool: str, counts: Mapping[State, int]) -> str:
    """``Pool google reloaded: 3 ready, 1 paused, 1 disabled``; states nobody is in are left out."""
    order = (State.READY, State.REFRESHING, State.COOLING, State.PAUSED, State.DISABLED, State.BROKEN, State.SEALED)
    parts = [f"{counts.get(state, 0)} {state}" for state in order if counts.get(state) or state is State.READY]
    return f"Pool {pool} reloaded: {', '.join(parts)}"


def disabled_line(account: Account) -> str:
    """``Skipping disabled account POOL/NAME (reason, since time)``."""
    since = f", since {timestamp(account.disabled_at)}" if account.disabled_at is not None else ""
    return f"Skipping disabled account {account.address} ({account.disabled_reason or 'no reason given'}{since})"


def timestamp(seconds: float) -> str:
    """Unix seconds as people read them: ISO 8601 in UTC, to the second."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{seconds:.0f}"
