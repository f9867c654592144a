"""A storm stands: no outage, restart, reload, second process, command or clock lets more than three accounts die."""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from authpool.accounts.account import AccountKey
from authpool.errors import RefusedError
from authpool.gateway.service import Service
from authpool.oauth.verdict import Answer
from authpool.pool.pool import State
from authpool.refresh.outcome import Dead, Misconfigured, Rejected
from authpool.store.client_record import ACCOUNTS
from authpool.store.folder.store import FolderStore
from authpool.verbs.operations import Operations
from support.clock import FakeClock
from support.crashing_process import inline
from support.home import read_account, write_account
from support.idle_gateway import idle_gateway, idle_home, turn
from support.rotating_provider import RotatingProvider
from support.transport import INVALID_GRANT, Transport, reply


class Endpoint(Transport):
    """Says to everybody what `says` is, or what the provider says where that is None."""

    says: Answer | None = INVALID_GRANT

    def handle(self, form: Mapping[str, str]) -> Answer:
        return super().handle(form) if self.says is None else self.says


@pytest.fixture
def endpoint(clock: FakeClock) -> Endpoint:
    return Endpoint(RotatingProvider(monotonic=clock.monotonic))


def home_of(folder: Path, clock: FakeClock, endpoint: Endpoint, count: int) -> Path:
    """A home whose accounts' access tokens are over: every gateway asks for new ones at once."""
    names = [f"user{number}" for number in range(count)]
    home = idle_home(folder, clock, endpoint.provider, *names)
    for name in names:
        document = read_account(home, f"p/{name}")
        document["token"]["expires_at"] = 1_000_000_000  # over, however far the clock is put back
        write_account(home, f"p/{name}", document)
    return home


def disabled(home: Path) -> list[str]:
    paths = sorted((home / "accounts" / "p").glob("*.toml"))
    return [path.stem for path in paths if read_account(home, f"p/{path.stem}").get("disabled")]


async def turned[T](clock: FakeClock, doing: Coroutine[Any, Any, T], seconds: float = 600) -> T:
    """Turn the clock until it is done."""
    task = asyncio.ensure_future(doing)
    await turn(clock, seconds, task.done)
    return await task


async def command[T](home: Path, clock: FakeClock, endpoint: Endpoint, verb: str, *arguments: str) -> Any:
    """Carry out one verb as a process of its own does; answers its sentence, or what it was refused with."""
    service = Service(home, {}, clock=clock, endpoint=endpoint, store=FolderStore(home / "accounts", run=inline))
    try:
        return await turned(clock, getattr(Operations(service), verb)(*arguments))
    except RefusedError as error:
        return str(error)
    finally:
        await turned(clock, service.stop())


async def storm(home: Path, clock: FakeClock, endpoint: Endpoint, seconds: float = 100) -> None:
    """Let a gateway run into it, and end."""
    async with idle_gateway(home, clock, endpoint):
        await turn(clock, seconds)
    assert len(disabled(home)) == ACCOUNTS - 1


async def test_an_outage_before_it_changes_nothing(tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """Twenty accounts whose endpoint answers 503, and then `invalid_grant`: three are disabled, the rest spared."""
    home = home_of(tmp_path, clock, endpoint, 20)
    endpoint.says = reply(503)
    async with idle_gateway(home, clock, endpoint) as gateway:
        await turn(clock, 60)
        assert not disabled(home)
        endpoint.says = INVALID_GRANT
        await turn(clock, 300)
        assert len(disabled(home)) == ACCOUNTS - 1
        assert "suspect the client" in (gateway.refresher.fault("p") or "")
        endpoint.says = None
        await turn(clock, 120)
        counts = gateway.snapshot.pools["p"].counts()
        assert (counts[State.READY], counts[State.DISABLED]) == (17, 3)
        assert gateway.refresher.fault("p") is None


@pytest.mark.parametrize("what", (reply(502, b"<html>"), reply(503)))
async def test_lost_rotations_are_counted(what: Answer, tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """That each of them may have been lost on our side makes it no other thing."""
    home = home_of(tmp_path, clock, endpoint, 8)
    endpoint.script.extend([what] * 8)
    async with idle_gateway(home, clock, endpoint):
        await turn(clock, 300)
    assert len(disabled(home)) == ACCOUNTS - 1


async def test_three_processes_a_minute_apart(tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """None of them begins a new count."""
    home = home_of(tmp_path, clock, endpoint, 8)
    for _ in range(3):
        await storm(home, clock, endpoint, 60)


@pytest.mark.parametrize("count", (4, 6))
async def test_twelve_minutes_later(count: int, tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """The end of a window lets nobody die."""
    home = home_of(tmp_path, clock, endpoint, count)
    async with idle_gateway(home, clock, endpoint) as gateway:
        await turn(clock, 1500)
        assert len(disabled(home)) == ACCOUNTS - 1
        assert "suspect the client" in (gateway.refresher.fault("p") or "")
    await storm(home, clock, endpoint)


async def test_three_died_and_the_next_are_asked_an_hour_later(
    tmp_path: Path, clock: FakeClock, endpoint: Endpoint
) -> None:
    """No success came in between, so it is the same trouble."""
    home = home_of(tmp_path, clock, endpoint, 3)
    await storm(home, clock, endpoint)
    clock.jump(3600)
    for name in ("x", "y", "z"):
        write_account(home, f"p/{name}", {"token": {"refresh_token": f"r-{name}", "access_token": "a"}})
        await command(home, clock, endpoint, "refresh", f"p/{name}")
    assert len(disabled(home)) == ACCOUNTS - 1


async def test_refreshing_the_spared_ones_by_hand(tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """One after the other on the command line, again and again: each is told why it stays."""
    home = home_of(tmp_path, clock, endpoint, 8)
    for _ in range(2):
        answers = [await command(home, clock, endpoint, "refresh", f"p/user{number}") for number in range(8)]
        assert len(disabled(home)) == ACCOUNTS - 1
        assert ["suspect the client" in answer for answer in answers] == [False] * 3 + [True] * 5
    rows = await command(home, clock, endpoint, "accounts")
    assert ["suspect the client" in row.reason for row in rows] == [False] * 3 + [True] * 5


@pytest.mark.parametrize("hours", (-1, 1, 24 * 365, -24 * 365))
async def test_a_clock_that_is_set(hours: int, tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """Forward or back: it neither ends the storm nor keeps it for ever."""
    home = home_of(tmp_path, clock, endpoint, 6)
    async with idle_gateway(home, clock, endpoint) as gateway:
        await turn(clock, 100)
        clock.jump(3600 * hours)
        await turn(clock, 700)
        assert len(disabled(home)) == ACCOUNTS - 1
        endpoint.says = None
        await turn(clock, 120)
        assert gateway.refresher.fault("p") is None
        assert gateway.snapshot.pools["p"].counts()[State.READY] == 3


@pytest.mark.parametrize("marker", ("authpool.toml", ".reload"))
async def test_a_reload(marker: str, tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """It asks the client again at once, and disables nobody."""
    home = home_of(tmp_path, clock, endpoint, 6)
    async with idle_gateway(home, clock, endpoint) as gateway:
        await turn(clock, 100)
        for _ in range(3):
            posts = len(endpoint.posts)
            (home / marker).write_text((home / marker).read_text() + "#\n" if marker == "authpool.toml" else "")
            await gateway.reload()
            assert "suspect the client" in (gateway.refresher.fault("p") or "")
            member = gateway.snapshot.pools["p"].get(AccountKey.of("p", min(spared(gateway))))
            assert member is not None
            assert isinstance(await gateway.refresher.refresh(member.account), Misconfigured)
            assert len(endpoint.posts) == posts + 1
        assert len(disabled(home)) == ACCOUNTS - 1


def spared(gateway: Service) -> list[str]:
    return [member.record.name for member in gateway.snapshot.pools["p"] if not member.account.disabled]


async def test_two_gateways_within_a_moment(tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """Verdicts of the same millisecond are counted one after the other."""
    home = home_of(tmp_path, clock, endpoint, 12)
    async with AsyncExitStack() as running:
        gateways = [await running.enter_async_context(idle_gateway(home, clock, endpoint)) for _ in range(2)]
        accounts = [member.account for member in gateways[0].snapshot.pools["p"]]
        asked = [gateways[n % 2].refresher.refresh(account, force=True) for n, account in enumerate(accounts)]
        outcomes = await turned(clock, _all(asked))
        assert sum(isinstance(outcome, Dead) for outcome in outcomes) == ACCOUNTS - 1
        assert len(disabled(home)) == ACCOUNTS - 1


async def _all[T](doing: list[Coroutine[Any, Any, T]]) -> list[T]:
    return await asyncio.gather(*doing)


async def test_a_success_ends_it(tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """In whichever process: from then on it is an account's own fault again, in all of them."""
    home = home_of(tmp_path, clock, endpoint, 8)
    async with idle_gateway(home, clock, endpoint) as gateway:
        await turn(clock, 100)
        endpoint.says = None
        alive = spared(gateway)
        assert "Refreshed" in await command(home, clock, endpoint, "refresh", f"p/{alive[0]}")
        await gateway.catch_up()
        assert gateway.refresher.fault("p") is None
        endpoint.provider.revoke(alive[1])
        assert "disabled now" in await command(home, clock, endpoint, "refresh", f"p/{alive[1]}")


@pytest.mark.parametrize("hours", (0, -5))
async def test_somebody_says_that_it_is_over(
    hours: int, tmp_path: Path, clock: FakeClock, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    """`resume POOL`: the client is asked again, and three more may die before it is suspected again."""
    home = home_of(tmp_path, clock, endpoint, 8)
    async with idle_gateway(home, clock, endpoint) as gateway:
        await turn(clock, 100)
        clock.jump(3600 * hours)
        assert "trusted again" in await command(home, clock, endpoint, "resume", "p")
        await gateway.catch_up()
        assert "Pool p: the client is trusted again" in caplog.text
        await turn(clock, 150)
        assert len(disabled(home)) == 2 * (ACCOUNTS - 1)
        assert "suspect the client" in (gateway.refresher.fault("p") or "")
    assert "No storm of rejections stands" in await command(
        home_of(tmp_path / "other", clock, endpoint, 1), clock, endpoint, "resume", "p"
    )


@pytest.mark.parametrize("content", ("", "version = 1\nclient = 7\n", "garbage", None))
async def test_a_record_that_is_broken_or_gone(
    content: str | None, tmp_path: Path, clock: FakeClock, endpoint: Endpoint
) -> None:
    """Nobody more is disabled, the gateway runs on, and a success mends it."""
    home = home_of(tmp_path, clock, endpoint, 8)
    async with idle_gateway(home, clock, endpoint) as gateway:
        await turn(clock, 100)
        (path,) = (home / "accounts" / ".clients").glob("*.toml")
        assert path.stat().st_mode & 0o777 == 0o600
        if content is None:
            path.unlink()
        else:
            path.write_text(content)
        await turn(clock, 700)
        assert len(disabled(home)) == ACCOUNTS - 1
        endpoint.says = None
        await turn(clock, 120)
        assert gateway.snapshot.pools["p"].counts()[State.READY] == 5
        assert gateway.refresher.fault("p") is None
    assert not path.exists() or "storm_since" not in path.read_text()


async def test_a_broken_record_disables_nobody_at_all(tmp_path: Path, clock: FakeClock, endpoint: Endpoint) -> None:
    """A process that starts and can't read it knows of no count."""
    home = home_of(tmp_path, clock, endpoint, 8)
    await storm(home, clock, endpoint)
    (path,) = (home / "accounts" / ".clients").glob("*.toml")
    path.write_bytes(b"\xff")
    clock.jump(86400)
    await storm(home, clock, endpoint, 700)


async def test_in_the_normal_case_a_success_writes_nothing_of_its_client(
    tmp_path: Path, clock: FakeClock, endpoint: Endpoint
) -> None:
    """There is nothing to be cleared."""
    endpoint.says = None
    home = home_of(tmp_path, clock, endpoint, 3)
    async with idle_gateway(home, clock, endpoint) as gateway:
        await turn(clock, 30)
        assert gateway.snapshot.pools["p"].counts()[State.READY] == 3
    assert not (home / "accounts" / ".clients").exists()


async def test_a_storm_lets_those_go_that_wait_to_be_confirmed(
    tmp_path: Path, clock: FakeClock, endpoint: Endpoint
) -> None:
    """Their access tokens live: they serve on."""
    home = idle_home(tmp_path, clock, endpoint.provider, *(f"user{number}" for number in range(8)))
    async with idle_gateway(home, clock, endpoint) as gateway:
        members = list(gateway.snapshot.pools["p"])
        outcomes = [await gateway.refresher.refresh(m.account, rejected=m.account.token.access_token) for m in members]
        assert all(isinstance(outcome, Rejected) for outcome in outcomes)
        assert gateway.snapshot.pools["p"].counts()[State.COOLING] == 8
        await turn(clock, 60)
        await gateway.catch_up()  # what this process wrote is told like anybody's, but not by the turned clock
        counts = gateway.snapshot.pools["p"].counts()
        assert (counts[State.DISABLED], counts[State.READY]) == (3, 5)


async def test_the_dead_do_not_keep_the_one_that_lives_from_being_asked(
    tmp_path: Path, clock: FakeClock, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token ends while the storm stands, and the others come first each time: its success ends the storm."""

    def handle(form: Mapping[str, str]) -> Answer:
        lives = form.get("refresh_token", "").endswith("-of-user7")
        return Transport.handle(endpoint, form) if lives else INVALID_GRANT

    monkeypatch.setattr(endpoint, "handle", handle)
    endpoint.provider.expires_in = 20
    home = home_of(tmp_path, clock, endpoint, 8)
    async with idle_gateway(home, clock, endpoint) as gateway:
        member = gateway.snapshot.pools["p"].get(AccountKey.of("p", "user7"))
        assert member is not None
        without = 0
        for _ in range(120):
            await turn(clock, 1)
            without += not member.live(clock.time())
        assert without <= 20
    assert "user7" not in disabled(home)
