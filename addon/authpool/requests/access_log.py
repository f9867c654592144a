"""One line for each request, for people or for programs. Pure but for the logger.

What clients send is in these lines: it is escaped, so that no line looks like two, or moves a terminal's cursor.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from authpool.requests.observer import RequestEnd

logger = logging.getLogger(__name__)

PATH_CHARACTERS = 512
_OWN = re.compile(r"[A-Za-z0-9!$%&'*+,./:;@^_~()\[\]-]+")
"""What a value may consist of without being put into quotation marks."""

type Format = Callable[[RequestEnd, str], str]


def text_line(end: RequestEnd, level: str) -> str:
    """Say it for people: date, level, client, ``POOL/NAME``, and the rest by name."""
    account = "/".join(filter(None, (end.pool, end.account))) or "-"
    fields = [_date(end.at), level, _word(end.client or "-"), _word(account), f"attempts={end.attempts}"]
    fields += [f"status={end.status or '-'}", f"waited={end.waited_seconds:.3f}", f"outcome={_word(end.outcome)}"]
    fields += [f"address={_word(end.address)}"] if end.address not in {"", end.client} else []
    return " ".join([*fields, _word(end.method), _word(end.host + _clipped(end.path))])


def json_line(end: RequestEnd, level: str) -> str:
    """Say it for programs: one JSON object, ASCII only."""
    return json.dumps(
        {
            "date": _date(end.at),
            "level": level,
            "client": end.client or None,
            "address": end.address or None,
            "pool": end.pool or None,
            "account": end.account or None,
            "attempts": end.attempts,
            "status": end.status,
            "waited_seconds": round(end.waited_seconds, 3),
            "outcome": end.outcome,
            "method": end.method,
            "host": end.host,
            "path": _clipped(end.path),
        }
    )


FORMATS: Mapping[str, Format | None] = {"off": None, "text": text_line, "json": json_line}


class AccessLog:
    """Logs the end of each request in a `form` of `FORMATS`, which may change."""

    def __init__(self) -> None:
        self.form = "off"

    def is_on(self) -> bool:
        """Whether there is anything to be logged."""
        return FORMATS[self.form] is not None

    def observe(self, end: RequestEnd) -> None:
        """Log it: a warning where the gateway itself refused, else an information."""
        write = FORMATS[self.form]
        if write is not None:
            level = logging.INFO if end.outcome in {"answered", "error", "health"} else logging.WARNING
            logger.log(level, "%s", write(end, logging.getLevelName(level)))


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clipped(path: str) -> str:
    return path if len(path) <= PATH_CHARACTERS else path[:PATH_CHARACTERS] + "..."


def _word(value: str) -> str:
    return value if _OWN.fullmatch(value) else json.dumps(value)
