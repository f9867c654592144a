"""mitmproxy itself, real: a DumpMaster inside the test's process, or a `mitmdump` of its own."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitmproxy import http, options
from mitmproxy.log import MitmLogHandler
from mitmproxy.tools.dump import DumpMaster

from support.certificates import write_spare_ca
from support.mitmdump import GatewayStartError, Mitmdump

__all__ = ["GatewayStartError", "Mitmdump", "RunningGateway", "dump_master"]

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0


class _Recorder:
    """An addon that comes last and keeps what it sees."""

    name = "authpool_tests_recorder"

    def __init__(self) -> None:
        self.flows: list[http.HTTPFlow] = []
        self.finished: list[http.HTTPFlow] = []
        self.is_running = False

    def running(self) -> None:
        self.is_running = True

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        self.flows.append(flow)

    def response(self, flow: http.HTTPFlow) -> None:
        self.finished.append(flow)

    def error(self, flow: http.HTTPFlow) -> None:
        self.finished.append(flow)


class _Capture(logging.Handler):
    """Keeps every record of the root logger."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningGateway:
    """A DumpMaster that is up."""

    master: DumpMaster
    port: int
    flows: list[http.HTTPFlow] = field(repr=False)
    """Every flow whose request arrived, oldest first."""
    finished: list[http.HTTPFlow] = field(repr=False)
    """Those that ended in a response or an error."""
    log: list[logging.LogRecord] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def messages(self) -> list[str]:
        """The log as text, one message each."""
        return [record.getMessage() for record in self.log]

    async def wait_until(self, condition: Callable[[], object], deadline_seconds: float = 30.0) -> None:
        """Wait until the condition holds. Raises TimeoutError."""
        async with asyncio.timeout(deadline_seconds):
            while not condition():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def dump_master(
    *addons: object,
    home: Path | None = None,
    confdir: Path | None = None,
    mode: str | Sequence[str] = "regular",
    **settings: Any,
) -> AsyncIterator[RunningGateway]:
    """Run a real DumpMaster with these addons on a free port of 127.0.0.1; one at a time in a process.

    `home` becomes the option `authpool_home`; `settings` are any options, those the addons add included.
    `confdir` keeps mitmproxy's own CA, which takes a moment to make: share one (fixture `confdir`), and only where
    a client has to trust it.
    Raises GatewayStartError when mitmproxy logs an error while starting, and OptionsError.
    """
    with tempfile.TemporaryDirectory() as spare, _captured_log() as log:
        if home is not None:
            settings["authpool_home"] = str(home)
        write_spare_ca(Path(spare))
        opts = options.Options(confdir=str(confdir or spare), listen_host="127.0.0.1", listen_port=0)
        recorder = _Recorder()
        master = DumpMaster(opts, with_termlog=False, with_dumper=False)
        opts.update_defer(mode=[mode] if isinstance(mode, str) else list(mode), **settings)
        master.addons.add(*addons, recorder)
        running = asyncio.create_task(_run(master, log))
        try:
            port = await _listening_port(master, recorder, running)
            yield RunningGateway(master=master, port=port, flows=recorder.flows, finished=recorder.finished, log=log)
        finally:
            master.shutdown()
            await asyncio.gather(running, return_exceptions=True)
            await _close_sockets(master)
        running.result()


async def _run(master: DumpMaster, log: list[logging.LogRecord]) -> None:
    try:
        await master.run()
    except SystemExit:  # let through, it would end the test run itself
        said = [record.getMessage() for record in log if record.levelno >= logging.ERROR]
        raise GatewayStartError("; ".join(said)) from None


async def _listening_port(master: DumpMaster, recorder: _Recorder, running: "asyncio.Task[None]") -> int:
    async with asyncio.timeout(_START_SECONDS):
        while not (recorder.is_running or running.done()):
            await asyncio.sleep(0.005)
    for _ in range(5):  # mitmproxy looks for logged errors one turn after the last `running` hook
        await asyncio.sleep(0)
    if running.done():
        running.result()
        raise GatewayStartError("mitmproxy ended while it was starting")
    return int(_proxyserver(master).listen_addrs()[0][1])


async def _close_sockets(master: DumpMaster) -> None:
    """Stop listening and break off what is left: mitmproxy leaves that to the end of its process."""
    server = _proxyserver(master)
    await server.servers.update([])
    async with asyncio.timeout(_STOP_SECONDS):
        while server.connections:
            for connection in list(server.connections.values()):
                client = connection.transports.get(connection.client)
                if client is not None and client.handler is not None:
                    client.handler.cancel("the test is over")
            await asyncio.sleep(0.005)


def _proxyserver(master: DumpMaster) -> Any:
    return master.addons.get("proxyserver")


@contextmanager
def _captured_log() -> Iterator[list[logging.LogRecord]]:
    root, capture = logging.getLogger(), _Capture()
    level = root.level
    root.addHandler(capture)
    root.setLevel(logging.DEBUG)
    try:
        yield capture.records
    finally:
        root.setLevel(level)
        for handler in list(root.handlers):  # a master that never got to `running` leaves some behind
            if handler is capture or isinstance(handler, MitmLogHandler):
                root.removeHandler(handler)
