"""`mitmdump` (or mitmweb) as people run it: a process of its own."""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from support.certificates import write_spare_ca
from support.ports import free_port

_START_SECONDS = 45.0
_STOP_SECONDS = 10.0
_ROOT = Path(__file__).parent.parent.parent


class GatewayStartError(Exception):
    """mitmproxy did not come up; the message ends with what it said."""


class Mitmdump:
    """A real `mitmdump` (or mitmweb) in a process of its own: the one beside this Python.

    `async with Mitmdump("-s", "addon/gateway.py", home=home) as gateway`; or `start`, `kill`, `start` again:
    it keeps its port. `output` grows line by line while it runs. `tool` may be `authpool mitmdump` as well.
    """

    def __init__(
        self,
        *args: str,
        home: Path | None = None,
        confdir: Path | None = None,
        tool: str = "mitmdump",
        environment: Mapping[str, str] | None = None,
        cwd: Path = _ROOT,
    ) -> None:
        self.port = free_port()
        self.output: list[str] = []
        self.process: asyncio.subprocess.Process | None = None
        self._spare = tempfile.TemporaryDirectory() if confdir is None else None
        if self._spare is not None:
            write_spare_ca(Path(self._spare.name))
        program, *words = tool.split()
        self._command = [
            *(str(Path(sys.executable).parent / program), *words),
            *("--set", f"confdir={confdir or (self._spare and self._spare.name)}"),
            *("--listen-host", "127.0.0.1", "--listen-port", str(self.port)),
            *args,
        ]
        self._environment = _environment(home) | dict(environment or {})
        self._cwd = cwd
        self._collecting: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def text(self) -> str:
        """Everything it has printed so far."""
        return "\n".join(self.output)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.stop()
        if self._spare is not None:
            self._spare.cleanup()

    async def start(self) -> None:
        """Start it and wait until it listens. Raises GatewayStartError when it ends, or takes too long."""
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment,
            cwd=self._cwd,
        )
        self._collecting = asyncio.create_task(self._collect(self.process))
        try:
            await self._wait_until_it_listens(self.process)
        except BaseException:
            await self.kill()
            raise

    async def _wait_until_it_listens(self, process: asyncio.subprocess.Process) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                while process.returncode is None:
                    if await self._listens():
                        return
                    await asyncio.sleep(0.02)
        await self.kill()  # collects its last words, too
        raise GatewayStartError(self.text or f"it said nothing and did not listen for {_START_SECONDS:g} s")

    async def run_to_its_end(self) -> str:
        """Start one that ends by itself, with an error, and answer all that it said. Raises TimeoutError."""
        with suppress(GatewayStartError):
            await self.start()
        async with asyncio.timeout(_START_SECONDS):
            while self.process is not None and self.process.returncode is None:
                await asyncio.sleep(0.01)
        assert await self.stop() in {0, 1}
        return self.text

    async def stop(self) -> int:
        """Ask it to end (SIGTERM) and wait; answers its exit status, negative for a signal."""
        return await self._end(signal.SIGTERM)

    async def kill(self) -> int:
        """End it on the spot (SIGKILL), as a crash would."""
        return await self._end(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGHUP."""
        if self.process is not None:
            self.process.send_signal(number)

    async def wait_for(self, words: str, deadline_seconds: float = 30.0) -> str:
        """Wait until a line of its output holds these words, and answer that line. Raises TimeoutError."""
        async with asyncio.timeout(deadline_seconds):
            while not (found := [line for line in self.output if words in line]):
                await asyncio.sleep(0.01)
        return found[0]

    async def _end(self, number: signal.Signals) -> int:
        process = self.process
        if process is None:
            return 0
        if process.returncode is None:
            process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
        if self._collecting is not None:
            await self._collecting
        self.process = None
        return process.returncode or 0

    async def _collect(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            return
        async for line in process.stdout:
            self.output.append(line.decode("utf-8", "replace").rstrip())

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except ConnectionRefusedError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


def _environment(home: Path | None) -> dict[str, str]:
    """This process's environment without its proxies and its own authpool settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("AUTHPOOL_")
    }
    paths = [str(_ROOT / "addon"), str(_ROOT / "plugins"), kept.get("PYTHONPATH", "")]
    extra = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}
    return kept | extra | ({} if home is None else {"AUTHPOOL_HOME": str(home)})
