"""Several gateways and a command line on one home, while processes are killed and answers get lost."""

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx

from authpool.accounts.account import fingerprint
from authpool.errors import RefusedError
from authpool.gateway.service import Service
from authpool.store.folder.trail_files import read_trail
from authpool.verbs.operations import Operations
from support.chaos_record import AFTERWARDS_SECONDS, Call, Loss, Outage, Record, RefusedVerb
from support.home import Document, make_home, read_account, token_table
from support.mitmdump import Mitmdump
from support.process_ports import tcp_ports
from support.provider_process import Provider
from support.tcp_shim import Fate, TcpShim

_ROOT = Path(__file__).parents[2]
POOL = "team"
PAUSABLE = 2
"""The operator pauses so many of the accounts at most: the others must carry the traffic."""
REQUESTS_PER_SECOND = 8.0
TRACEBACK_LINES = 60
"""So much of what a gateway printed is told from a line on that must not be there."""
_BUSY_SECONDS = 60.0


class Chaos:
    """The rig: `run` it for a while, then `settle`, and ask what was `wrong`.

    `rates` and `plan` are what the shim does to token answers.
    """

    def __init__(self, provider: Provider, home: Path, shim: TcpShim, names: list[str], seed: int) -> None:
        self.record = Record()
        self.shim = shim
        self.gateways: list[Mitmdump] = []
        self._provider = provider
        self._home = home
        self._names = names
        self._random = random.Random(seed)
        self._statuses: Counter[int] = Counter()

    @classmethod
    @asynccontextmanager
    async def of(
        cls,
        provider: Provider,
        folder: Path,
        confdir: Path,
        names: list[str],
        *,
        gateways: int = 4,
        rates: Mapping[Fate, float] | None = None,
        plan: Sequence[Fate] = (),
        seed: int = 1,
    ) -> AsyncIterator[Self]:
        """Build it and start its gateways; what they print ends up in `folder`, a file for each."""
        async with AsyncExitStack() as running:
            shim = await running.enter_async_context(
                TcpShim(provider.host, provider.port, rates=rates, plan=plan, seed=seed)
            )
            home = make_home(
                folder,
                pools={POOL: provider.pool() | {"token_url": f"http://127.0.0.1:{shim.port}/token"}},
                accounts={f"{POOL}/{name}": {"token": token_table(await provider.grant(name))} for name in names},
                gateway={"max_accounts": len(names)},
            )
            chaos = cls(provider, home, shim, names, seed)
            started = [
                Mitmdump("-s", "addon/gateway.py", "--mode", f"reverse:{provider.issuer}", home=home, confdir=confdir)
                for _ in range(gateways)
            ]
            running.callback(_keep_output, folder, started)
            await running.enter_async_context(started[0])  # alone: it makes the CA the others share
            await asyncio.gather(*(running.enter_async_context(gateway) for gateway in started[1:]))
            chaos.gateways = started
            yield chaos

    async def run(
        self,
        seconds: float,
        *,
        restarts: bool = False,
        kill_share: float = 0.0,
        enough: Callable[[Record], bool] = lambda record: True,
    ) -> None:
        """Let everything happen at once for so long, and let what is under way come to its end.

        Of the restarts `kill_share` begin with SIGKILL, the others with SIGTERM. On a machine that is too busy for
        anything to happen in that time it goes on until `enough` has. Raises TimeoutError.
        """
        over = asyncio.Event()
        loops: list[Coroutine[Any, Any, None]] = [
            *(self._send_requests(number, over) for number in range(len(self.gateways))),
            self._operate(over),
        ]
        if restarts:
            loops.append(self._restart_gateways(over, kill_share))
        async with asyncio.TaskGroup() as onlookers:
            watching = onlookers.create_task(self._watch())
            async with asyncio.TaskGroup() as tasks:
                for loop in loops:
                    tasks.create_task(loop)
                await asyncio.sleep(seconds)
                async with asyncio.timeout(_BUSY_SECONDS):
                    while not enough(self.record):
                        await asyncio.sleep(0.1)
                over.set()
            await asyncio.sleep(AFTERWARDS_SECONDS)  # what is seen now decides about the last requests
            watching.cancel()

    async def settle(self) -> None:
        """End the gateways, let every answer pass, and refresh each account once more."""
        self.shim.be_honest()
        self._statuses.update(await asyncio.gather(*(gateway.stop() for gateway in self.gateways)))
        self._note_trail()
        for name in self._names:
            self._note_loss(name)
            if self._read(name).get("disabled"):
                continue
            service = Service(self._home, {})  # one each: a process remembers what a client was refused
            try:
                await Operations(service).resume(POOL)  # so many may have lost an answer at once that it is a storm
                await Operations(service).refresh(f"{POOL}/{name}")
                self.record.still_refresh.add(name)
            except RefusedError as refused:
                self.record.refusals.append(RefusedVerb(verb="refresh", output=f"at the end: {refused}"))
            finally:
                await service.stop()
            self._note_loss(name)

    # --- what happens at once -----------------------------------------------------------------------------------

    async def _send_requests(self, number: int, over: asyncio.Event) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)  # a kept one may lead to a gateway that is gone
        url = f"{self.gateways[number].url}/me"
        async with httpx.AsyncClient(trust_env=False, timeout=45, limits=limits) as client:
            while not over.is_set():
                self.record.calls.append(await _call(client, url, number))
                await asyncio.sleep(1 / REQUESTS_PER_SECOND)

    async def _restart_gateways(self, over: asyncio.Event, kill_share: float) -> None:
        while not over.is_set():
            await _first_of(over.wait(), asyncio.sleep(self._random.uniform(0.3, 1.5)))
            number = await self._next_victim()
            if over.is_set():
                return
            gateway = self.gateways[number]
            first = kill_share > 0 and not self.record.outages
            killed = first or self._random.random() < kill_share
            outage = Outage(gateway=number, killed=killed, begun_at=time.monotonic())
            self.record.outages.append(outage)
            status = await (gateway.kill() if outage.killed else gateway.stop())
            outage.dead_at = time.monotonic()
            self._statuses.update([status])
            outage.killed = status == -signal.SIGKILL  # also one that did not stop in time
            await gateway.start()
            outage.ended_at = time.monotonic()

    async def _next_victim(self) -> int:
        """Choose a gateway to end: the one that has just asked the token endpoint, where that can be told."""
        victim = self._random.randrange(len(self.gateways))
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                exchange = await self.shim.next_exchange()
            ports = [tcp_ports(gateway.process.pid) if gateway.process else set() for gateway in self.gateways]
            victim = next((n for n, held in enumerate(ports) if exchange.client_port in held), victim)
            await asyncio.sleep(self._random.uniform(0, 0.05))
        return victim

    async def _operate(self, over: asyncio.Event) -> None:
        paused: set[str] = set()
        while not over.is_set():
            disabled = [name for name in self._names if self._read(name).get("disabled")]
            for name in disabled:
                self._note_loss(name)
            name = self._random.choice(self._names[:PAUSABLE])
            if disabled:
                await self._add_again(disabled[0])
            else:
                await self._authpool("resume" if name in paused else "pause", f"{POOL}/{name}")
                paused ^= {name}
                await self._authpool("refresh", f"{POOL}/{self._random.choice(self._names)}")
                await self._add_again(self._random.choice(self._names))
            await _first_of(over.wait(), asyncio.sleep(0.3))

    async def _add_again(self, name: str) -> None:
        grant = await self._provider.grant(name)
        await self._authpool("add", POOL, "-", name, token=grant["refresh_token"])

    async def _authpool(self, verb: str, *arguments: str, token: str = "") -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "authpool", "--home", str(self._home), verb, *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=_ROOT / "addon",
        )
        output, _ = await process.communicate(token.encode())
        self.record.verbs[verb] += 1
        if process.returncode != 0:
            presented = fingerprint(token) if token else None
            self.record.refusals.append(RefusedVerb(verb=verb, output=output.decode(), token=presented))

    async def _watch(self) -> None:
        """See what an onlooker sees, for ever: which accounts could serve, and which were lost."""
        while True:
            now = time.time()
            documents = {name: self._read(name) for name in self._names}
            ready = frozenset(name for name, document in documents.items() if _is_ready(document, now))
            self.record.ready.append((time.monotonic(), ready))
            for name in self._names:
                self._note_loss(name)
            await asyncio.sleep(0.1)

    def _read(self, name: str) -> Document:
        return read_account(self._home, f"{POOL}/{name}")

    def _note_loss(self, name: str) -> None:
        document = self._read(name)
        if document.get("disabled"):
            token = fingerprint(document["token"]["refresh_token"])
            self.record.losses.add(Loss(account=name, reason=document["disabled_reason"], token=token))

    def _note_trail(self) -> None:
        """Find those in the audit trail, too, that were disabled and added again before anybody looked."""
        for entry in read_trail(self._home):
            if entry.event in {"disabled", "lost"}:
                name, token = entry.account.removeprefix(f"{POOL}/"), entry.fingerprint or ""
                self.record.losses.add(Loss(account=name, reason=entry.reason, token=token))

    def wrong(self) -> list[str]:
        """Everything that must not happen under any losses and kills, in words."""
        found = self.record.wrong(self.shim.exchanges)
        for name in self._names:
            if name not in self.record.still_refresh and not self._read(name).get("disabled"):
                found.append(f"{name} is not disabled and does not refresh")
        printed = [list(gateway.output) for gateway in self.gateways]
        return found + [
            "\n".join(lines[number : number + TRACEBACK_LINES])
            for lines in printed
            for number, line in enumerate(lines)
            if "nexpected" in line or "Traceback" in line
        ]

    def figures(self) -> dict[str, object]:
        """Tell what a run amounted to."""
        return {
            "requests": dict(Counter(call.code or str(call.status or call.detail) for call in self.record.calls)),
            "outages": len(self.record.outages),
            "kills": self.record.kills,
            "exit statuses": dict(self._statuses),
            "verbs": dict(self.record.verbs),
            "refused verbs": len(self.record.refusals),
            "losses": dict(Counter(loss.reason.partition(":")[0] for loss in self.record.losses)),
            "tokens spent": sum(exchange.spent for exchange in self.shim.exchanges),
            "shim": dict(self.shim.counts),
        }


def _keep_output(folder: Path, gateways: Sequence[Mitmdump]) -> None:
    for number, gateway in enumerate(gateways):
        (folder / f"gateway-{number}.log").write_text(gateway.text + "\n")


async def _call(client: httpx.AsyncClient, url: str, number: int) -> Call:
    begun_at = time.monotonic()
    try:
        answer = await client.get(url)
    except httpx.TransportError as error:
        return Call(
            gateway=number, begun_at=begun_at, ended_at=time.monotonic(), status=None, detail=type(error).__name__
        )
    return Call(
        gateway=number,
        begun_at=begun_at,
        ended_at=time.monotonic(),
        status=answer.status_code,
        code=answer.headers.get("Authpool-Error"),
        detail="" if answer.status_code == 200 else answer.text,
    )


def _is_ready(document: Document, now: float) -> bool:
    held_back = document.get("disabled") or document.get("proxy_disabled")
    return not held_back and bool(document["token"]["expires_at"] > now + 0.2)


async def _first_of(*waits: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
