"""What authpool costs: bare mitmdump against mitmdump with the gateway, same upstream, rounds interleaved.

Prints a Markdown table. Each variant is measured once a round, and its ratio is taken to bare of the same
round, for a machine is seldom equally fast for minutes on end. `p99 of 3 accounts` is such a ratio too, to the pool of
three. `idle` is the share of a core that a variant uses while nobody asks for anything, `first answer` the time from
its start to its first request served; both are measured once, while the others sleep.

mitmdump is bound by one core, and the load keeps it busy: where it got much less than a core, something else ran
on the machine, and requests/s say more about that than about mitmdump. Where bare mitmdump itself differs from round
to round, the core's speed does. Lines under the table tell when so; more and shorter rounds help then.
"""

import argparse
import contextlib
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from mitmdump_process import Mitmdump, running_mitmdump
from pool_home import write_home
from upstream_server import running_upstream
from wrk_load import Load, find_wrk, run_wrk

SCRIPT = Path(__file__).parents[2] / "addon" / "gateway.py"
WARM_UP_SECONDS = 2
STARVED_BELOW = 0.9
"""Of a core: a mitmdump that got less in a round was waiting for the machine."""
STEADY_WITHIN = 1.25
"""Best over worst round of bare mitmdump; a virtual core can slow down without telling (no steal time)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What is measured; without accounts it is bare mitmdump."""

    accounts: int | None = None
    fast_dispatch: bool = True

    @property
    def name(self) -> str:
        if self.accounts is None:
            return "bare mitmdump"
        plural = "" if self.accounts == 1 else "s"
        switch = "" if self.fast_dispatch else ", `fast_dispatch = false`"
        return f"authpool, {self.accounts:,} account{plural}{switch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What is measured of one variant besides the load."""

    first_answer_seconds: float
    idle_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One variant in one round."""

    load: Load
    cpu_ms_per_request: float
    core_share: float
    resident_mib: float


VARIANTS = (
    Variant(),
    Variant(accounts=3),
    Variant(accounts=10_000),
    Variant(accounts=100_000),
    Variant(accounts=3, fast_dispatch=False),
)
FEW = VARIANTS[1]
SETTLE_SECONDS = 5
"""After its start a gateway has a look at everything; it is idle after that."""


@contextlib.contextmanager
def running(variant: Variant, folder: Path, upstream_port: int, script: Path) -> Iterator[Mitmdump]:
    """Start a variant, make sure that it does what its name says, and put it to sleep."""
    folder.mkdir()
    arguments: list[str] = []
    if variant.accounts is not None:
        write_home(
            folder / "home",
            accounts=variant.accounts,
            upstream_port=upstream_port,
            fast_dispatch=variant.fast_dispatch,
        )
        arguments = ["--scripts", str(script), "--set", f"authpool_home={folder / 'home'}"]
    with running_mitmdump(folder / "mitmdump", upstream_port, arguments) as mitmdump:
        with mitmdump.awake():
            if mitmdump.sends_credential() is not (variant.accounts is not None):
                raise RuntimeError(f"{variant.name}: the credential did not do what it should")
        yield mitmdump


def idle_share(mitmdump: Mitmdump, seconds: int) -> float:
    """Which share of a core it uses while nobody asks for anything."""
    with mitmdump.awake():
        time.sleep(SETTLE_SECONDS)
        used, began = mitmdump.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return (mitmdump.cpu_seconds() - used) / (time.monotonic() - began)


def measure(mitmdump: Mitmdump, *, seconds: int, connections: int, folder: Path) -> Sample:
    """Load one variant while the others sleep."""
    with mitmdump.awake():
        cpu_before, before = mitmdump.cpu_seconds(), time.monotonic()
        load = run_wrk(mitmdump.port, seconds=seconds, connections=connections, folder=folder)
        used, elapsed = mitmdump.cpu_seconds() - cpu_before, time.monotonic() - before
        return Sample(
            load=load,
            cpu_ms_per_request=used / load.requests * 1000,
            core_share=used / elapsed,
            resident_mib=mitmdump.resident_bytes() / 2**20,
        )


def table(samples: dict[Variant, list[Sample]], rests: dict[Variant, Rest]) -> str:
    """Write the samples as a Markdown table: medians over the rounds."""
    columns = (
        "requests/s (min to max)",
        "of bare, same round",
        "p50 ms",
        "p99 ms",
        "p99 of 3 accounts",
        "CPU ms/request",
        "of bare, same round",
        "got of a core",
        "RSS MiB",
        "idle",
        "first answer s",
    )
    lines = [f"| | {' | '.join(columns)} |", "|---" + "|---:" * len(columns) + "|"]
    lines += [_row(variant, samples, rests[variant]) for variant in samples]
    return "\n".join(lines)


def _row(variant: Variant, by_variant: dict[Variant, list[Sample]], rest: Rest) -> str:
    samples, bare, few = by_variant[variant], by_variant[VARIANTS[0]], by_variant[FEW]
    rates = [s.load.requests_per_second for s in samples]
    ratios = [rate / b.load.requests_per_second for rate, b in zip(rates, bare, strict=True)]
    cpu_ratios = [s.cpu_ms_per_request / b.cpu_ms_per_request for s, b in zip(samples, bare, strict=True)]
    tails = [s.load.p99_ms / f.load.p99_ms for s, f in zip(samples, few, strict=True)]
    cells = [
        variant.name,
        f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})",
        f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        f"{median(s.load.p50_ms for s in samples):.1f}",
        f"{median(s.load.p99_ms for s in samples):.1f}",
        f"{median(tails):.2f} ({min(tails):.2f} to {max(tails):.2f})",
        f"{median(s.cpu_ms_per_request for s in samples):.2f}",
        f"{median(cpu_ratios):.2f}",
        f"{median(s.core_share for s in samples):.0%}",
        f"{median(s.resident_mib for s in samples):.0f}",
        f"{rest.idle_share:.1%}",
        f"{rest.first_answer_seconds:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def doubts(samples: dict[Variant, list[Sample]]) -> list[str]:
    """Say why the figures are not to be quoted, if there is a reason."""
    shares = [sample.core_share for of_variant in samples.values() for sample in of_variant]
    starved = [share for share in shares if share < STARVED_BELOW]
    bare = [sample.load.requests_per_second for sample in samples[VARIANTS[0]]]
    found = []
    if starved:
        found.append(
            f"in {len(starved)} of {len(shares)} runs mitmdump got less than {STARVED_BELOW:.0%} of a core "
            f"(least {min(starved):.0%}): something else ran on this machine"
        )
    if max(bare) > min(bare) * STEADY_WITHIN:
        found.append(
            f"bare mitmdump's best round was {max(bare) / min(bare):.2f} times its worst: this machine's speed is "
            "not steady, as on a shared host, and one round is no measure for another"
        )
    return found


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="length of one run, in whole seconds (wrk)")
    parser.add_argument("--connections", type=int, default=16, help="keep-alive connections")
    parser.add_argument("--idle-seconds", type=int, default=20, help="how long each variant is watched doing nothing")
    parser.add_argument("--script", type=Path, default=SCRIPT, help="what mitmdump loads")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    find_wrk()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authpool-bench-")))
        upstream, port = stack.enter_context(running_upstream(folder))
        started = {
            variant: stack.enter_context(running(variant, folder / str(number), port, arguments.script))
            for number, variant in enumerate(VARIANTS)
        }
        run = {"connections": arguments.connections, "folder": folder}
        rests = {
            variant: Rest(
                first_answer_seconds=mitmdump.first_answer_seconds,
                idle_share=idle_share(mitmdump, arguments.idle_seconds),
            )
            for variant, mitmdump in started.items()
        }
        for mitmdump in started.values():
            measure(mitmdump, seconds=WARM_UP_SECONDS, **run)
        samples: dict[Variant, list[Sample]] = {variant: [] for variant in started}
        for number in range(arguments.rounds):
            for variant, mitmdump in started.items():
                samples[variant].append(measure(mitmdump, seconds=arguments.seconds, **run))
                rate = samples[variant][-1].load.requests_per_second
                print(f"round {number + 1}: {variant.name}: {rate:,.0f} requests/s", flush=True)
    print(
        f"\nmitmproxy {version('mitmproxy')}, Python {platform.python_version()}, upstream {upstream}, "
        f"wrk -t1 -c{arguments.connections}, {arguments.rounds} rounds of {arguments.seconds} s\n"
    )
    print(table(samples, rests))
    for doubt in doubts(samples):
        print(f"\nNOT TO BE QUOTED: {doubt}.")


if __name__ == "__main__":
    main()
