"""Figures as an SVG plot: a row of panels for each figure, a column for each load, a line in it for each rotation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .figures import Figures

LEFT, TOP = 140, 56
PANEL, LINE, GAP = 190, 15, 34
"""Pixels: width of a panel, height of a rotation's line, between panels."""
SHADES = {10: "#b6d4fe", 100: "#6aa7f8", 1_000: "#1f6feb", 10_000: "#0a2f6b"}
"""The more accounts, the darker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What a row of panels shows."""

    title: str
    lowest: float
    highest: float
    value: Callable[[Figures], float]
    form: str = "{:g}"

    def x(self, value: float) -> float:
        """Where in a panel; what lies outside the scale is drawn at its edge."""
        share = (value - self.lowest) / (self.highest - self.lowest)
        return PANEL * min(1.0, max(0.0, share))


SCALES = (
    Scale(
        title="429s and 503s that clients see, per 1,000 requests",
        lowest=0,
        highest=400,
        value=lambda one: one.refused_per_1000,
    ),
    Scale(
        title="accounts that a request was sent on, on average",
        lowest=0.5,
        highest=2.5,
        value=lambda one: one.attempts_per_request,
    ),
    Scale(
        title="fairness: what accounts serve in relation to their limits (Jain; 1 is even)",
        lowest=0,
        highest=1,
        value=lambda one: one.fairness,
    ),
    Scale(
        title="requests that got the account their session had before",
        lowest=0,
        highest=1,
        value=lambda one: one.session_hits,
        form="{:.0%}",
    ),
)


def svg(figures: Sequence[Figures]) -> str:
    """Draw them all."""
    loads = sorted({one.load for one in figures})
    sizes = sorted({one.accounts for one in figures})
    rotations = list(dict.fromkeys(one.rotation for one in figures))
    width = LEFT + len(loads) * (PANEL + GAP)
    height = TOP + len(SCALES) * _panel_height(rotations)
    box = f"0 0 {width} {height}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *_legend(sizes),
        *(
            _text(LEFT + column * (PANEL + GAP) + PANEL / 2, 44, f"load {load:.0%} of the limits")
            for column, load in enumerate(loads)
        ),
    ]
    for row, scale in enumerate(SCALES):
        y = TOP + row * _panel_height(rotations)
        parts.append(_text(LEFT, y + 14, scale.title, "start", "bold"))
        parts += (_text(LEFT - 8, y + 34 + LINE * at, name, "end") for at, name in enumerate(rotations))
        for column, load in enumerate(loads):
            shown = [one for one in figures if one.load == load]
            parts.append(f'<g transform="translate({LEFT + column * (PANEL + GAP)} {y + 22})">')
            parts += _panel(scale, shown, rotations)
            parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel_height(rotations: Sequence[str]) -> int:
    return LINE * len(rotations) + GAP + 26


def _legend(sizes: Sequence[int]) -> list[str]:
    parts = [_text(LEFT, 20, "accounts:", "start")]
    for at, size in enumerate(sizes):
        x = LEFT + 70 + 70 * at
        parts += [_dot(x, 16, size), _text(x + 9, 20, f"{size:,}", "start")]
    return parts


def _panel(scale: Scale, figures: Sequence[Figures], rotations: Sequence[str]) -> list[str]:
    bottom = LINE * len(rotations)
    parts = []
    for tick in range(5):
        value = scale.lowest + tick * (scale.highest - scale.lowest) / 4
        parts.append(f'<line x1="{scale.x(value):g}" x2="{scale.x(value):g}" y1="0" y2="{bottom}" stroke="#ddd"/>')
        parts.append(_text(scale.x(value), bottom + 13, scale.form.format(value)))
    for one in sorted(figures, key=lambda one: one.accounts):
        y = LINE * (rotations.index(one.rotation) + 0.5)
        parts.append(_dot(scale.x(scale.value(one)), y, one.accounts))
    return parts


def _dot(x: float, y: float, accounts: int) -> str:
    fill = next((shade for size, shade in SHADES.items() if accounts <= size), "#000")
    return f'<circle cx="{x:.1f}" cy="{y:g}" r="4" fill="{fill}" stroke="#fff" stroke-width="0.7"/>'


def _text(x: float, y: float, words: str, anchor: str = "middle", weight: str = "normal") -> str:
    bold = ' font-weight="bold"' if weight == "bold" else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{bold}>{words}</text>'
