"""The gateway: mitmweb with authpool loaded, in a process of its own, in front of the API."""

import contextlib
import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from authpool.demo.child import authpool_command
from authpool.demo.failure import DemoFailedError, expect
from authpool.demo.plain_http import fetch
from authpool.demo.stop_request import StopRequest

COLUMNS = ("icon", "path", "method", "status", "comment", "time")

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_LISTENING = re.compile(r" listening at (?:http://)?(127\.0\.0\.1:\d+)")
_WEB = re.compile(r"Web server listening at (http://\S+)")
_TIMESTAMP = re.compile(r"^\[[\d:.]+\] ?")


class Gateway:
    """A running mitmweb; `log` grows line by line."""

    def __init__(self, process: subprocess.Popen[str], stop: StopRequest) -> None:
        self._process = process
        self._stop = stop
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, name="demo gateway log", daemon=True)
        self._reader.start()

    @property
    def url(self) -> str:
        """Where clients send their requests."""
        return f"http://{self._found(_LISTENING)}"

    @property
    def web_url(self) -> str:
        """The link that opens mitmweb: its token is in it, and its cookie takes over from there."""
        return self._found(_WEB)

    def wait_until_it_listens(self) -> None:
        """Raises DemoFailedError with mitmweb's own last words when it ends instead."""
        self._stop.wait_until(
            lambda: (self._search(_LISTENING) and self._search(_WEB)) or self._process.poll() is not None,
            _START_SECONDS,
        )
        if self._process.poll() is not None:
            self._reader.join()
        if not (self._search(_LISTENING) and self._search(_WEB)) or self._process.poll() is not None:
            raise DemoFailedError("mitmweb did not start: " + (" / ".join(self.log[-3:]) or "it said nothing"))

    def wait_for(self, words: str, seconds: float = 10.0) -> str:
        """Wait for a line of the log that holds these words. Raises DemoFailedError."""
        found: list[str] = []

        def look() -> bool:
            ended = self._process.poll() is not None
            found.extend(line for line in self.log if words in line)
            return bool(found) or ended

        self._stop.wait_until(look, seconds)
        expect(found or self._process.poll() is None, "mitmweb has ended by itself")
        expect(found, f"the gateway's log does not say {words!r}")
        return found[0]

    def flows(self) -> list[dict[str, Any]]:
        """What mitmweb shows: every flow as its own page gets it."""
        flows: list[dict[str, Any]] = json.loads(self._ask("/flows"))
        return flows

    def saved_flows(self) -> bytes:
        """What mitmweb saves: the flow file it offers for download."""
        return self._ask("/flows/dump")

    def end(self) -> None:
        """Ask it to end, make it end."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _ask(self, path: str) -> bytes:
        parts = urlsplit(self.web_url)
        token = parse_qs(parts.query).get("token", [""])[0]
        answer = fetch(f"http://{parts.netloc}{path}", headers={"Authorization": f"Bearer {token}"})
        expect(answer.status == 200, f"mitmweb answered HTTP {answer.status} to {path}")
        return answer.body

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.log.append(_TIMESTAMP.sub("", line.rstrip()))

    def _search(self, pattern: re.Pattern[str]) -> str | None:
        return next((match[1] for line in list(self.log) if (match := pattern.search(line))), None)

    def _found(self, pattern: re.Pattern[str]) -> str:
        found = self._search(pattern)
        if found is None:
            raise DemoFailedError("mitmweb did not say where it listens")
        return found


@contextlib.contextmanager
def running_gateway(
    folder: Path, upstream: str, environment: Mapping[str, str], stop: StopRequest
) -> Iterator[Gateway]:
    """Start mitmweb in reverse mode before `upstream` (a URL); its own files go to `folder`. It may not listen yet."""
    options = {
        "confdir": folder / "confdir",
        "listen_host": "127.0.0.1",
        "listen_port": 0,
        "web_host": "127.0.0.1",
        "web_port": _free_port(),  # it can't tell which one it would have got
        "web_open_browser": "false",
    }
    settings = [f"{key}={value}" for key, value in options.items()] + [f"web_columns={name}" for name in COLUMNS]
    arguments = [word for setting in settings for word in ("--set", setting)]
    process = subprocess.Popen(  # noqa: S603 - the command line is ours
        [*authpool_command(), "mitmweb", "--mode", f"reverse:{upstream}", *arguments],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # Ctrl-C in the terminal is for the demo alone, which ends what it started
    )
    with process:
        gateway = Gateway(process, stop)
        try:
            yield gateway
        finally:
            gateway.end()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
