"""Which paths narrow a pool: ``/v1/models``, ``/v1/*``, ``/users/*/mail``.

- a ``*`` at the end stands for anything, slashes included, or nothing: ``/v1/*`` is ``/v1/`` and all below
- a ``*`` as a whole segment before the end stands for one segment that is not empty
- a ``*`` anywhere else is refused

Paths compare without their query, with case, and with needless percent-encoding undone (RFC 3986 §6.2.2.2).
"""

import re
from dataclasses import dataclass

from authpool.config.plain_path import is_plain_path

type PathRank = tuple[int, bool]

NO_PATH: PathRank = (-1, False)
"""The rank of a pool that is not narrowed by paths."""

_ODD = re.compile(r"[^!-~]|[%\\#]|/\+*\.")  # a `+` is a blank to some, and blanks before dots are dropped
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_ANY_SEGMENT = "*"


def comparable_path(path: str) -> str | None:
    r"""Bring the path of a request (origin-form, with or without query) into the form that compares.

    None: it must match no pattern, because servers may take it for another path (`is_plain_path`).
    """
    path = path.partition("?")[0]
    if _ODD.search(path) is None:
        return path
    return _ESCAPE.sub(_undo_needless, path) if is_plain_path(path) else None


def _undo_needless(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if _UNRESERVED.match(character) else escape[0].upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class PathPattern:
    """One entry of `paths`: its segments; the last is only a beginning when the pattern is `open`."""

    segments: tuple[str, ...]
    open: bool

    @classmethod
    def parse(cls, text: str) -> "PathPattern":
        """Read an entry of `paths`. Raises ValueError with the problem as a sentence."""
        if not text.startswith("/"):
            raise ValueError("does not begin with a slash.")
        if "?" in text or any(not " " < c <= "~" for c in text):
            raise ValueError("has a query, a space or a character that must be percent-encoded.")
        path = comparable_path(text)
        if path is None:
            raise ValueError("has dot segments or encoded slashes; no request would match it.")
        is_open = path.endswith("*")
        segments = tuple(path.removesuffix("*").split("/")[1:] if is_open else path.split("/")[1:])
        odd = any("*" in segment and segment != _ANY_SEGMENT for segment in segments)
        if odd or (is_open and segments[-1] == _ANY_SEGMENT):
            raise ValueError("has a `*` that is neither a whole segment nor at the end.")
        return cls(segments=segments, open=is_open)

    def compiled(self) -> re.Pattern[str]:
        """Give the regular expression that a comparable path must match in full."""
        segments = ("[^/]+" if s == _ANY_SEGMENT else re.escape(s) for s in self.segments)
        return re.compile("/" + "/".join(segments) + (".*" if self.open else ""), re.DOTALL)

    @property
    def rank(self) -> PathRank:
        """The higher, the longer: characters written out, less any `*`; then a closed end before an open."""
        written = sum(len(s) + 1 for s in self.segments if s != _ANY_SEGMENT)
        return (written + sum(s == _ANY_SEGMENT for s in self.segments), not self.open)

    def overlaps(self, other: "PathPattern") -> bool:
        """Whether some path matches both."""
        for index in range(max(len(self.segments), len(other.segments))):
            if index >= len(self.segments) or index >= len(other.segments):
                return False
            mine, theirs = self.segments[index], other.segments[index]
            i_end = self.open and index == len(self.segments) - 1
            they_end = other.open and index == len(other.segments) - 1
            if i_end and they_end:
                return mine.startswith(theirs) or theirs.startswith(mine)
            if i_end or they_end:
                return _can_begin(*((theirs, mine) if i_end else (mine, theirs)))
            if not _can_equal(mine, theirs):
                return False
        return True


def _can_equal(mine: str, theirs: str) -> bool:
    if _ANY_SEGMENT in (mine, theirs):
        return bool(mine and theirs)
    return mine == theirs


def _can_begin(segment: str, beginning: str) -> bool:
    return segment == _ANY_SEGMENT or segment.startswith(beginning)
