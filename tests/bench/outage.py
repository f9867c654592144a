"""Play an outage of the token endpoint under 500 accounts, and draw its POSTs per second into `outage.svg`.

Run with `PYTHONPATH=addon:plugins:tests python tests/bench/outage.py`; ten minutes of outage take some seconds.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from support.outage import BEGIN_SECONDS, END_SECONDS, STOP_SECONDS, Outage  # type: ignore[import-not-found]

PLOT = Path(__file__).with_name("outage.svg")
WIDTH, HEIGHT, MARGIN = 780, 240, 40
"""Pixels; one second of the play is one pixel wide."""
TOP = 60
"""POSTs per second at the upper edge."""


def y(posts: float) -> float:
    return HEIGHT - posts / TOP * HEIGHT


def text(x: float, at: float, words: str, anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{at:g}" text-anchor="{anchor}">{words}</text>'


def svg(posts: Iterable[float], title: str) -> str:
    """Draw one bar for each second; `posts` are seconds of the play."""
    each_second = Counter(int(at) for at in posts)
    bars = (
        f'<rect x="{second}" y="{y(count):g}" width="1" height="{HEIGHT - y(count):g}" fill="#1f6feb"/>'
        for second, count in sorted(each_second.items())
    )
    minutes = (text(minute * 60, HEIGHT + 16, f"{minute} min") for minute in range(int(STOP_SECONDS // 60) + 1))
    lines = (
        f'<line x1="0" x2="{WIDTH}" y1="{y(rate):g}" y2="{y(rate):g}" stroke="#ccc"/>'
        + text(-6, y(rate) + 4, str(rate), "end")
        for rate in range(0, TOP + 1, 20)
    )
    down = END_SECONDS - BEGIN_SECONDS
    box = f"{-MARGIN} {-MARGIN} {WIDTH + 2 * MARGIN} {HEIGHT + 2 * MARGIN}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="11">',
        f'<rect x="{-MARGIN}" y="{-MARGIN}" width="100%" height="100%" fill="#fff"/>',
        f'<rect x="{BEGIN_SECONDS:g}" y="0" width="{down:g}" height="{HEIGHT}" fill="#fbe3e4"/>',
        text(BEGIN_SECONDS + down / 2, 16, "the token endpoint is down"),
        text(WIDTH / 2, -16, title),
        *lines,
        *bars,
        *minutes,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    logging.disable()
    for failure in ("refused", "silent", "unavailable"):
        outage = Outage(failure)
        endpoint = outage.play()
        outside = sorted(at - END_SECONDS for at in outage.refreshed.values())
        during = sum(BEGIN_SECONDS <= at < END_SECONDS for at in endpoint.posts)
        refused = [request for request in outage.served if request.refusal]
        print(
            f"{failure:>12}: {during} POSTs in {(END_SECONDS - BEGIN_SECONDS) / 60:.0f} min, "
            f"at most {endpoint.most_under_way} at once; first refresh {outside[0]:.1f} s after the return, "
            f"95 % after {outside[int(len(outside) * 0.95)]:.1f} s; "
            f"{sum(request.live for request in refused)} requests refused while a token lived, "
            f"{len(refused)} while none did"
        )
        if failure == "silent":
            title = f"POSTs per second to a token endpoint that falls silent under {outage.accounts} expiring accounts"
            PLOT.write_text(svg(endpoint.posts, title), encoding="utf-8")


if __name__ == "__main__":
    main()
