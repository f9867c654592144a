"""When an `invalid_grant` is confirmed: providers say it for things that pass, too. Pure; times are Unix seconds."""

BEING_CONFIRMED = "invalid_grant, being confirmed"
"""Why an account is cooling meanwhile."""
EARLIEST_SECONDS = 2.0
LATEST_SECONDS = 4.0
"""So long after the first answer the same refresh token is presented once more."""


def confirm_from(rejected_at: float, now: float) -> float:
    """From when on the second answer counts. Where that is too far ahead to be true, the clock was put back."""
    earliest = rejected_at + EARLIEST_SECONDS
    return earliest if earliest <= now + LATEST_SECONDS else now
