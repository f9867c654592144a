"""What gateway keys cost: the same gateway without a client and with one, same upstream, rounds interleaved.

Both get the same requests, each with a key in `x-api-key`: the one without clients takes it off and asks for none. The
ratio is taken within a round; that of the CPU time tells more on a machine where something else runs, and that of the
least CPU time a request took in any round the most.
"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from mitmdump_process import Mitmdump, running_mitmdump
from pool_home import write_home
from upstream_server import running_upstream
from wrk_load import find_wrk, run_wrk

from authpool.clients.client import GatewayClient, IssuedKey
from authpool.clients.key import NewKey, new_key
from authpool.files.atomic_file import FileOperations
from authpool.store.folder.gateway_client_folder import GatewayClientFolder
from bench import SCRIPT, WARM_UP_SECONDS, Sample


@contextlib.contextmanager
def running(folder: Path, upstream_port: int, key: NewKey | None) -> Iterator[Mitmdump]:
    """Start a gateway, with a client that has this key, and put it to sleep."""
    folder.mkdir()
    home = folder / "home"
    write_home(home, accounts=3, upstream_port=upstream_port, fast_dispatch=True)
    if key is not None:
        issued = IssuedKey(id=key.id, sha256=key.sha256)
        client = GatewayClient(name="bench", pools=("bench",), max_in_flight=1_000, keys=(issued,))
        GatewayClientFolder(home, FileOperations()).update("bench", lambda _: client)
    arguments = ["--scripts", str(SCRIPT), "--set", f"authpool_home={home}"]
    with running_mitmdump(folder / "mitmdump", upstream_port, arguments) as mitmdump:
        with mitmdump.awake():
            if mitmdump.sends_credential() is (key is not None):
                raise RuntimeError("a request without a key did not end as it should")
        yield mitmdump


def measure(mitmdump: Mitmdump, key: NewKey, *, seconds: int, folder: Path) -> Sample:
    """Load one of them while the other sleeps."""
    with mitmdump.awake():
        before = mitmdump.cpu_seconds()
        load = run_wrk(mitmdump.port, seconds=seconds, connections=16, folder=folder, header=f"x-api-key: {key.text}")
        used = mitmdump.cpu_seconds() - before
    return Sample(load=load, cpu_ms_per_request=used / load.requests * 1000, core_share=0.0, resident_mib=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="client_keys", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=5)
    arguments = parser.parse_args()
    find_wrk()
    key = new_key()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authpool-bench-")))
        _, port = stack.enter_context(running_upstream(folder))
        off = stack.enter_context(running(folder / "off", port, None))
        on = stack.enter_context(running(folder / "on", port, key))
        for mitmdump in (off, on):
            measure(mitmdump, key, seconds=WARM_UP_SECONDS, folder=folder)
        rates, costs, least = [], [], [float("inf"), float("inf")]
        for number in range(arguments.rounds):
            without, with_key = (measure(one, key, seconds=arguments.seconds, folder=folder) for one in (off, on))
            rates.append(with_key.load.requests_per_second / without.load.requests_per_second)
            costs.append(without.cpu_ms_per_request / with_key.cpu_ms_per_request)
            least = [min(a, b.cpu_ms_per_request) for a, b in zip(least, (without, with_key), strict=True)]
            print(f"round {number + 1}: requests/s {rates[-1]:.3f}, by CPU time {costs[-1]:.3f}", flush=True)
    print(f"with keys, of without: requests/s {median(rates):.3f}, by CPU time {median(costs):.3f} (medians)")
    print(f"by the least CPU time: {least[0] / least[1]:.3f} ({least[0]:.3f} and {least[1]:.3f} ms a request)")


if __name__ == "__main__":
    main()
