"""Points in time as other tools write them down."""

from datetime import UTC, datetime

_MILLISECONDS = 100_000_000_000  # as seconds that is the year 5138
_LATEST = 253_402_300_799  # the end of the year 9999


def unix_seconds(value: object) -> int | None:
    """Read Unix seconds or milliseconds, as a number or as text, or RFC 3339; None where it is none of them."""
    if isinstance(value, str):
        return _from_text(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = int(value / 1000) if abs(value) >= _MILLISECONDS else int(value)
    except (OverflowError, ValueError):
        return None
    return seconds if 0 < seconds <= _LATEST else None


def _from_text(text: str) -> int | None:
    if text.isascii() and text.isdigit() and len(text) < 16:
        return unix_seconds(int(text))
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        return None
    aware = told if told.tzinfo is not None else told.replace(tzinfo=UTC)
    return unix_seconds(aware.timestamp())
