"""How many columns of a terminal a text takes: wide characters two, combining ones none."""

from wcwidth import wcswidth, wcwidth


def cell_len(text: str) -> int:
    """The width of a text without control characters."""
    width: int = wcswidth(text)
    return len(text) if width < 0 else width


def cut(text: str, width: int) -> str:
    """As much of a text's beginning as fits."""
    taken = 0
    for index, character in enumerate(text):
        taken += max(0, wcwidth(character))
        if taken > width:
            return text[:index]
    return text
