"""One mitmdump in reverse mode, and what the kernel says it used."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from upstream_server import CREDENTIAL_PATH, free_port, wait_until_open

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Mitmdump:
    """A running mitmdump; paused except while it is measured, so that it takes nothing from the others."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self.port = port
        self.first_answer_seconds = 0.0
        """From its start to the answer to the first `sends_credential`."""
        self._started_at = time.monotonic()

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run for as long as the block lasts. Raises RuntimeError when it has ended."""
        self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGSTOP)
        if self._process.returncode is not None:
            raise RuntimeError(f"mitmdump ended with status {self._process.returncode}")

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system (proc_pid_stat(5), fields 14 and 15)."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / _TICKS_PER_SECOND

    def resident_bytes(self) -> int:
        """Memory held now (proc_pid_statm(5), field 2)."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * _PAGE_BYTES

    def sends_credential(self) -> bool:
        """Whether a pooled credential reaches the upstream. Waits for the accounts to be loaded."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", CREDENTIAL_PATH)
            sent = connection.getresponse().status == 204
            self.first_answer_seconds = self.first_answer_seconds or time.monotonic() - self._started_at
            return sent


@contextlib.contextmanager
def running_mitmdump(folder: Path, upstream_port: int, arguments: list[str]) -> Iterator[Mitmdump]:
    """Start mitmdump with everyone's options and `arguments`; its log goes to `folder`."""
    folder.mkdir()
    port = free_port()
    common = {
        "mode": f"reverse:http://127.0.0.1:{upstream_port}",
        "listen_host": "127.0.0.1",
        "listen_port": str(port),
        "confdir": str(folder / "confdir"),
        "flow_detail": "0",
        "termlog_verbosity": "warn",
    }
    options = [word for key, value in common.items() for word in ("--set", f"{key}={value}")]
    program = Path(sys.executable).parent / "mitmdump"
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([program, *options, *arguments], stdout=output, stderr=output)
    mitmdump = Mitmdump(process, port)
    try:
        wait_until_open(port)
        yield mitmdump
    except Exception:
        sys.stderr.write(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)
