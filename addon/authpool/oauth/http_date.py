"""The dates of HTTP (RFC 9110 §5.6.7), in each of the three forms that may still be sent. Pure."""

from datetime import UTC
from email.utils import parsedate_to_datetime


def http_date(text: str) -> float:
    """Read a date as Unix seconds; one that names no zone (asctime's form) is GMT. Raises ValueError, OverflowError."""
    at = parsedate_to_datetime(text)
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
