"""Load by wrk, over keep-alive connections."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_REPORT = """
done = function(summary, latency, requests)
   local e = summary.errors
   io.write(string.format('\\n{"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"errors":%d}\\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      e.connect + e.read + e.write + e.status + e.timeout))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one run of wrk counted; latencies in milliseconds."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float


def find_wrk() -> str:
    """Find the program. Exits with a remedy when there is none."""
    program = shutil.which("wrk")
    if program is None:
        raise SystemExit("bench: wrk is missing: on Debian and Ubuntu, apt-get install wrk")
    return program


def run_wrk(port: int, *, seconds: int, connections: int, folder: Path, header: str = "") -> Load:
    """Load 127.0.0.1:`port`, each request with a header, if one is given.

    Raises RuntimeError when a request failed: a refusal is quick.
    """
    script = folder / "report.lua"
    script.write_text(_REPORT)
    command = [find_wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script)]
    command += ["-H", header] if header else []
    finished = subprocess.run([*command, f"http://127.0.0.1:{port}/"], check=True, capture_output=True, text=True)
    counted = json.loads(finished.stdout.strip().splitlines()[-1])
    if counted["errors"] or not counted["requests"]:
        raise RuntimeError(f"{counted['errors']} of {counted['requests']} requests failed")
    return Load(
        requests=counted["requests"],
        requests_per_second=counted["requests"] / counted["microseconds"] * 1e6,
        p50_ms=counted["p50"] / 1000,
        p99_ms=counted["p99"] / 1000,
    )
