"""Figures as Markdown."""

from collections.abc import Iterable
from itertools import groupby

from .figures import Figures

_COLUMNS = (
    "accounts",
    "rotation",
    "served %",
    "429 per 1,000",
    "503 per 1,000",
    "sent per request",
    "fairness",
    "busiest",
    "session hits %",
    "p95 s",
    "choice µs",
)


def table(figures: Iterable[Figures]) -> str:
    """One line for each rotation; the number of accounts stands where it begins."""
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---:|---" + "|---:" * (len(_COLUMNS) - 2) + "|"]
    for accounts, group in groupby(figures, lambda one: one.accounts):
        for number, one in enumerate(group):
            lines.append("| " + " | ".join([f"{accounts:,}" if not number else "", *_cells(one)]) + " |")
    return "\n".join(lines) + "\n"


def _cells(one: Figures) -> tuple[str, ...]:
    return (
        one.rotation,
        f"{one.served_share:.1%}".rstrip("%"),
        f"{one.per_1000(one.refused_429):.1f}",
        f"{one.per_1000(one.refused_503):.1f}",
        f"{one.attempts_per_request:.2f}",
        f"{one.fairness:.2f}",
        f"{one.busiest:.1f}",
        f"{one.session_hits:.0%}".rstrip("%"),
        f"{one.p95_seconds:.1f}",
        f"{one.choice_us:.1f}",
    )
