"""Play pools of random accounts under load with each rotation; print tables, or put them and a plot into the docs.

`make simulate`, or `PYTHONPATH=addon:plugins:tests python tests/bench/simulate.py`. It takes minutes of one core; the
same seed gives the same figures, but for the time that a choice takes. SIMULATION.md says what is played.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from simulation.figures import Figures, figures
from simulation.plan import QUOTA_SHARE, Plan
from simulation.plot import svg
from simulation.rotations import ROTATIONS
from simulation.table import table
from simulation.world import World

PAGE = Path(__file__).with_name("SIMULATION.md")
PLOT = Path(__file__).with_name("simulation.svg")
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
LOADS = (0.5, 0.9, 1.2)
SIZES = (10, 100, 1_000, 10_000)
USUAL_LOAD = 0.9
LARGEST = 10_000
"""So many accounts are played at the usual load only, unless loads are asked for."""
TELLING = 100
"""So many are also played with quotas that all of them tell."""
SPANS = {10: (300.0, 4), 100: (200.0, 1), 1_000: (60.0, 1), 10_000: (30.0, 1)}
"""How long a play of so many accounts lasts (seconds), and of how many random pools: ten accounts are soon unlike."""
WARM_UP_SHARE = 1 / 3


def plans(size: int, load: float, seed: int, quota_share: float = QUOTA_SHARE) -> list[Plan]:
    """Make the plays of so many accounts under this load."""
    seconds, pools = SPANS[min((known for known in SPANS if known >= size), default=LARGEST)]
    return [
        Plan(
            accounts=size,
            load=load,
            seconds=seconds,
            warm_up_seconds=seconds * WARM_UP_SHARE,
            seed=seed + number,
            quota_share=quota_share,
        )
        for number in range(pools)
    ]


def play(rotation: str, same: Sequence[Plan]) -> Figures:
    """Play one rotation in plans of one kind."""
    return figures(rotation, same[0], [World(plan, rotation).play() for plan in same])


def kinds(sizes: Sequence[int], loads: Sequence[float] | None, seed: int) -> Iterator[list[Plan]]:
    """Make the plans for everything that is in the tables."""
    for size in sizes:
        for load in loads or ([USUAL_LOAD] if size >= LARGEST else LOADS):
            yield plans(size, load, seed)
    if TELLING in sizes:
        for load in loads or LOADS:
            yield plans(TELLING, load, seed, 1.0)


def tables(found: Sequence[Figures]) -> str:
    """Make one table for each load."""
    parts = []
    for share in sorted({one.quota_share for one in found}):
        for load in sorted({one.load for one in found if one.quota_share == share}):
            told = " and every account tells what is left" if share == 1 else ""
            parts.append(f"### Requests are {load:.0%} of the limits{told}\n")
            parts.append(table(one for one in found if (one.load, one.quota_share) == (load, share)))
    return "\n".join(parts)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="N")
    parser.add_argument("--loads", type=float, nargs="+", metavar="SHARE", help="of the sum of the limits")
    parser.add_argument("--rotations", nargs="+", default=ROTATIONS, choices=ROTATIONS, metavar="NAME")
    parser.add_argument("--jobs", type=int, default=1, help="so many processes; the time of a choice suffers")
    parser.add_argument("--write", action="store_true", help=f"put tables and plot into {PAGE.name} and {PLOT.name}")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    pairs = [(name, same) for same in kinds(given.sizes, given.loads, given.seed) for name in given.rotations]
    found: list[Figures] = []
    with ProcessPoolExecutor(given.jobs) as executor:
        for one in executor.map(play, *zip(*pairs, strict=True)):
            found.append(one)
            print(f"{len(found)} of {len(pairs)} ", end="\r", file=sys.stderr, flush=True)
    print(tables(found))
    if given.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        PAGE.write_text(before + BEGIN + "\n" + tables(found) + "\n" + END + rest.partition(END)[2], encoding="utf-8")
        PLOT.write_text(svg([one for one in found if one.quota_share == QUOTA_SHARE]), encoding="utf-8")


if __name__ == "__main__":
    main()
