"""Reading an answer that is no good HTTP: for what is in it, whatever is wrong with its lines. Pure.

A status line that says which answer it is has to be there; a header line that can't be read is passed over.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_STATUS = re.compile(rb"\s*(?:HTTP|ICY)[^\s\"{]{0,10}[ \t]+(\d{3})(?!\d)[^\n]*(?:\n|\Z)", re.IGNORECASE)
_LINE = re.compile(rb"([^\n]*)(?:\n|\Z)")
_CHUNK_HEAD = re.compile(rb"(?:\A|\r?\n)[0-9a-fA-F]{1,8}[ \t]*(?:;[^\n]{0,200})?\r?\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedAnswer:
    """As much of an answer as can be told: header names in small letters, the last of each name."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def read_damaged(data: bytes) -> DamagedAnswer | None:
    """The final answer in what a connection received; None where nothing says that it is one."""
    status, headers, position = 0, dict[str, str](), 0
    while (match := _STATUS.match(data, position)) is not None:
        status = int(match[1])
        headers, position = _headers(data, match.end())
        if status >= 200 or status == 101:
            break
    if status < 200:
        return None
    body = data[position:]
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _CHUNK_HEAD.sub(b"", body)
    return DamagedAnswer(status=status, headers=headers, body=body)


def _headers(data: bytes, position: int) -> tuple[dict[str, str], int]:
    """The fields up to the blank line, and where the body begins: at the latest where JSON or markup does."""
    headers: dict[str, str] = {}
    while position < len(data):
        match = _LINE.match(data, position)
        assert match is not None  # noqa: S101 - it matches everything
        line = match[1].rstrip(b"\r")
        if line[:1] in {b"{", b"[", b"<"}:
            return headers, position
        position = match.end()
        if not line:
            return headers, position
        name, colon, value = line.partition(b":")
        if colon and line[:1] not in {b" ", b"\t"}:
            headers[name.strip().decode("latin-1").lower()] = value.strip().decode("latin-1")
    return headers, position
