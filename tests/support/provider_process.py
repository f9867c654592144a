"""An OAuth provider of the tests in a process of its own, which says on its first line of JSON where it listens."""

import asyncio
import json
import subprocess
import threading
from collections.abc import Sequence
from typing import Any, Protocol, Self

_STOP_SECONDS = 5.0


class Provider(Protocol):
    """What a test needs of an OAuth provider that can be one or another; its `/me` is a protected resource."""

    host: str
    port: int

    @property
    def issuer(self) -> str: ...

    def pool(self) -> dict[str, Any]: ...

    async def grant(self, account: str) -> dict[str, Any]: ...


class ProviderProcess:
    """Runs `command()`, a program that prints ``{"port": ...}`` once it listens on loopback.

    Use as `async with`, or `start()` and `stop()`. It belongs to no event loop, so one can serve a whole test
    session. The program ends when its standard input does, and so cannot outlive the tests.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.port = 0
        self.log: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._collecting: threading.Thread | None = None

    def command(self) -> Sequence[str]:
        """Say what to run; what a machine lacks for it is raised here."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it listens. Raises RuntimeError, and what `command` raises."""
        self._process = process = subprocess.Popen(
            self.command(),
            stdin=subprocess.PIPE,  # ends with this process, whatever happens to it, and the provider with it
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in process.stdout or ():
            if line.startswith("{"):
                self.port = json.loads(line)["port"]
                self._collecting = threading.Thread(target=self._collect, args=(process,), daemon=True)
                self._collecting.start()
                return
            self.log.append(line)
        self.stop()
        raise RuntimeError(f"the OAuth provider did not start: {''.join(self.log)[-2000:]}")

    def _collect(self, process: "subprocess.Popen[str]") -> None:
        self.log.extend(process.stdout or ())

    def stop(self) -> None:
        """End it, by its process id."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._collecting is not None:
            self._collecting.join(_STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def issuer(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/token"

    @property
    def userinfo_url(self) -> str:
        return f"{self.issuer}/me"
