"""How long mitmdump with the gateway takes from its start to its first answer, with 3, 10,000 and 100,000 accounts.

Prints a Markdown table: wall-clock seconds, CPU seconds of the process until that answer (what the machine is busy with
besides adds to the one and hardly to the other), and both without the gateway, in interleaved rounds; the shortest
counts. The load of the machine is told under the table.
"""

import argparse
import os
import tempfile
from pathlib import Path

from mitmdump_process import running_mitmdump
from pool_home import seal_home, write_home
from upstream_server import running_upstream

SCRIPT = Path(__file__).parents[2] / "addon" / "gateway.py"


def started(folder: Path, home: Path | None, upstream_port: int, script: Path) -> tuple[float, float]:
    """Start one, and answer the seconds and the CPU seconds until its first answer."""
    arguments = [] if home is None else ["--scripts", str(script), "--set", f"authpool_home={home}"]
    with running_mitmdump(folder, upstream_port, arguments) as mitmdump:
        if mitmdump.sends_credential() is (home is None):
            raise RuntimeError(f"{folder.name}: the credential did not do what it should")
        return mitmdump.first_answer_seconds, mitmdump.cpu_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(prog="start", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accounts", type=int, nargs="*", default=[3, 10_000, 100_000])
    parser.add_argument("--script", type=Path, default=SCRIPT, help="what mitmdump loads")
    parser.add_argument("--sealed", action="store_true", help="seal the accounts' secrets at rest")
    arguments = parser.parse_args()
    sizes = (None, *arguments.accounts)
    with tempfile.TemporaryDirectory(prefix="authpool-bench-") as name:
        folder = Path(name)
        measured: dict[int | None, list[tuple[float, float]]] = {size: [] for size in sizes}
        with running_upstream(folder) as (_, port):
            for size in arguments.accounts:
                write_home(folder / f"home-{size}", accounts=size, upstream_port=port, fast_dispatch=True)
                if arguments.sealed:
                    seal_home(folder / f"home-{size}")
            for number in range(arguments.rounds):
                for size in sizes:
                    home = None if size is None else folder / f"home-{size}"
                    measured[size].append(started(folder / f"{number}-{size}", home, port, arguments.script))
                    print(f"round {number + 1}: {size}: %.1f s, CPU %.1f s" % measured[size][-1], flush=True)
    print("| | first answer s | CPU s until then |\n|---|---:|---:|")
    for size, pairs in measured.items():
        seconds, used = (min(values) for values in zip(*pairs, strict=True))
        print(f"| {'bare mitmdump' if size is None else f'{size:,} accounts'} | {seconds:.1f} | {used:.1f} |")
    print(f"\n{arguments.rounds} rounds, load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
