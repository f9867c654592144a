"""How far something is that takes a while, on standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal: tell it how much is done, of how much, and what is waited for."""
    bars: list[Any] = []

    def progress(done: int, of: int, waiting: str = "") -> None:
        if not bars:
            bars.append(click.progressbar(length=of, label=label, file=sys.stderr, show_pos=True))
            bars[0].__enter__()
        bars[0].label = f"{label} ({waiting})" if waiting else label
        bars[0].update(done - bars[0].pos)

    try:
        yield progress
    finally:
        for shown in bars:
            shown.__exit__(None, None, None)
