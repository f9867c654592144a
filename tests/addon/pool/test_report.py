"""The lines operators grep for, to the letter."""

import pytest

from authpool.accounts.account import Account
from authpool.pool.pool import State
from authpool.pool.report import disabled_line, reload_line, timestamp


@pytest.mark.parametrize(
    ("counts", "line"),
    (
        ({State.READY: 3, State.PAUSED: 1, State.DISABLED: 1}, "Pool google reloaded: 3 ready, 1 paused, 1 disabled"),
        ({State.DISABLED: 2}, "Pool google reloaded: 0 ready, 2 disabled"),
        ({}, "Pool google reloaded: 0 ready"),
        ({State.BROKEN: 1, State.COOLING: 2, State.READY: 1}, "Pool google reloaded: 1 ready, 2 cooling, 1 broken"),
    ),
)
def test_the_reload_line(counts: dict[State, int], line: str) -> None:
    """Ready is always told, the others where there are any."""
    assert reload_line("google", counts) == line


def test_the_line_of_a_disabled_account() -> None:
    """Who, why and since when."""
    account = Account(
        pool="google",
        name="alice@example.com",
        disabled=True,
        disabled_at=1_769_162_400,
        disabled_reason="invalid_grant: Token has been expired or revoked.",
    )
    assert disabled_line(account) == (
        "Skipping disabled account google/alice@example.com "
        "(invalid_grant: Token has been expired or revoked., since 2026-01-23T10:00:00Z)"
    )


@pytest.mark.parametrize(("seconds", "text"), ((0, "1970-01-01T00:00:00Z"), (10**15, "1000000000000000")))
def test_times_are_told_in_utc(seconds: int, text: str) -> None:
    """To the second; a number that is no time is shown as it is."""
    assert timestamp(seconds) == text
