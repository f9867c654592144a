"""Text from elsewhere as a terminal, a log or a page may show it: nothing in it moves a cursor or turns the writing."""

REASON_BYTES = 800
_JOINERS = frozenset("\u200c\u200d")
"""Invisible, and part of the spelling of Persian, Hindi and others."""


def is_printable(text: str) -> bool:
    """Whether a text has neither control nor format characters, bidirectional ones above all (Unicode's UAX #9)."""
    return text.isprintable() or all(character.isprintable() or character in _JOINERS for character in text)


def printable(text: str) -> str:
    """The text, with a replacement character for each that is not printable."""
    if is_printable(text):
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else "\ufffd" for c in text)


def clip_reason(reason: str) -> str:
    """Cut a reason to at most 800 bytes of UTF-8, between characters, on one line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    return flat.encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")
