"""A gateway without mitmproxy on a clock that is turned by hand: hours of its life in a second."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from authpool.accounts.account import AccountKey
from authpool.files.atomic_file import FileOperations
from authpool.gateway.service import Service
from authpool.oauth.token_client import TokenEndpoint
from authpool.pool.pool import State
from authpool.requests.health import Answer, readiness
from authpool.store.folder.store import FolderStore
from support.clock import FakeClock
from support.crashing_process import inline
from support.home import make_home, token_table, write_account
from support.rotating_provider import RotatingProvider

TOKEN_URL = "https://provider.test/token"
STEP_SECONDS = 5.0


def idle_home(folder: Path, clock: FakeClock, provider: RotatingProvider, *names: str, **pool: object) -> Path:
    """A home with these accounts in pool `p`, signed in a moment ago."""
    table = {"token_url": TOKEN_URL, "client_id": "client", "client_secret": "s", "hosts": ["api.test"], **pool}
    home = make_home(folder, pools={"p": table})
    for name in names:
        sign_in(home, clock, provider, name)
    return home


def sign_in(home: Path, clock: FakeClock, provider: RotatingProvider, name: str, **document: object) -> None:
    """Write an account's file by hand, with a credential that is new."""
    token = token_table(provider.issue(name), now=clock.time())
    write_account(home, f"p/{name}", {"token": token, **document})


@asynccontextmanager
async def idle_gateway(
    home: Path, clock: FakeClock, endpoint: TokenEndpoint, *, files: FileOperations | None = None
) -> AsyncIterator[Service]:
    """Run a gateway on the home; nobody sends it a request. `files` are the system calls of its store."""
    store = FolderStore(home / "accounts", run=inline, files=files, watch=None)
    service = Service(home, {}, clock=clock, endpoint=endpoint, store=store)
    await service.start()
    try:
        yield service
    finally:
        stopping = asyncio.ensure_future(service.stop())
        while not stopping.done():
            await turn(clock, STEP_SECONDS)
        await stopping


async def turn(clock: FakeClock, seconds: float, until: Callable[[], object] = lambda: False) -> None:
    """Turn the clock in small steps, and let the threads of a gateway keep up; no further than `until` holds."""
    end = clock.monotonic() + seconds
    while clock.monotonic() < end and not until():
        await clock.advance(min(STEP_SECONDS, end - clock.monotonic()))
        await _come_to_rest()


async def _come_to_rest() -> None:
    """Let whatever can go on without the clock do so, however many turns of the event loop that takes."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    rests = 0
    while rests < 3:
        await asyncio.sleep(0)
        if not ready:
            await asyncio.sleep(0.0005)  # a thread may have something to tell
        rests = 0 if ready else rests + 1


def counts(service: Service) -> Mapping[State, int]:
    """The states of pool `p`."""
    return service.snapshot.pools["p"].counts()


def state(service: Service, name: str) -> State:
    """The state of an account of pool `p`."""
    member = service.snapshot.pools["p"].get(AccountKey.of("p", name))
    assert member is not None
    return member.state(service.clock.time())


def health_of(service: Service) -> Answer:
    """What the gateway tells of its health."""
    snapshot = service.snapshot
    pools = {name: service.readiness.of(config) for name, config in snapshot.config.pools.items()}
    return readiness("health", pools)
