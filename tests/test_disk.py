"""A gateway whose disk is in trouble: it serves what it has, loses no token, and is whole again by itself."""

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from authpool.accounts.account import AccountKey
from authpool.refresh.outcome import Ready
from support.clock import FakeClock
from support.exchange import Answer
from support.gateway import RunningGateway
from support.home import account_path, read_account
from support.idle_gateway import idle_gateway, idle_home
from support.mounts import set_read_only, small_disk, switchable
from support.pool_rig import Rig, client, reverse_gateway
from support.rotating_provider import RotatingProvider
from support.token_endpoint import Form
from support.transport import Failing, Transport

CANT_READ = "The accounts can't be read"
WAITS = "Refreshes wait for the store: "


class Desk:
    """A gateway that runs, and a client of it whose every request must be answered with 200."""

    def __init__(self, rig: Rig, running: RunningGateway, api: httpx.AsyncClient) -> None:
        self.rig = rig
        self.running = running
        self._api = api

    async def ask(self, times: int = 6) -> None:
        """More often than there are accounts, so that each has its turn."""
        for _ in range(times):
            answer = await self._api.get("/")
            assert answer.status_code == 200, answer.text

    async def ask_until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await self.ask(2)
                await asyncio.sleep(0.05)

    def said(self, words: str) -> int:
        """In how many lines of the log."""
        return sum(words in message for message in self.running.messages)

    def holds_a_live_grant(self, name: str) -> bool:
        return self.rig.provider.is_current(self.rig.account(name)["token"]["refresh_token"])


async def open_desk(stack: AsyncExitStack, rig: Rig) -> Desk:
    running = await stack.enter_async_context(reverse_gateway(rig))
    return Desk(rig, running, await stack.enter_async_context(client(running.url)))


async def spend_nothing(desk: Desk) -> None:
    """Alice's access token ends, and can't be replaced now: the others serve, and her refresh token is not spent."""
    posts = desk.rig.posts
    desk.rig.provider.expire("alice")
    await desk.ask()
    assert desk.rig.posts == posts
    assert desk.said(WAITS) == 1


async def be_whole_again(desk: Desk) -> None:
    """Without anybody's doing Alice is refreshed and serves, and nothing was lost."""
    await desk.ask_until(lambda: desk.rig.posts and desk.rig.owners[-4:].count("alice") >= 1 and _served(desk, "alice"))
    assert desk.holds_a_live_grant("alice")
    assert desk.holds_a_live_grant("bob")
    assert not any(desk.rig.account(name).get("disabled") for name in ("alice", "bob"))
    assert "pending_refresh" not in desk.rig.account("alice")


def _served(desk: Desk, name: str) -> bool:
    return any(
        bearer in desk.rig.provider for bearer in desk.rig.bearers[-4:] if (bearer or "").endswith(f"-of-{name}")
    )


@pytest.mark.mitmproxy
async def test_a_full_disk(tmp_path: Path, rig: Rig) -> None:
    """No intent can be written, so nothing is presented; one line says so, and it passes with the trouble."""
    with small_disk(tmp_path / "disk") as disk:
        rig.folder = disk.path
        rig.home("alice", "bob")
        async with AsyncExitStack() as stack:
            desk = await open_desk(stack, rig)
            await desk.ask()
            disk.fill()
            await spend_nothing(desk)
            assert desk.said(f"{WAITS}{rig.path}/accounts/p") == 1
            disk.free()
            await be_whole_again(desk)
            assert desk.said("Refreshes wait for the store no more") == 1


@pytest.mark.mitmproxy
async def test_a_disk_that_fills_up_during_a_refresh(tmp_path: Path, rig: Rig) -> None:
    """The new pair serves from memory, and is on disk as soon as there is room."""
    with small_disk(tmp_path / "disk") as disk:
        rig.folder = disk.path
        rig.home("alice", expires_in=-10)

        def fill_and_answer(number: int, form: Form) -> Answer:
            disk.fill()
            return rig.provider(number, form)

        rig.endpoint.script = fill_and_answer
        async with AsyncExitStack() as stack:
            desk = await open_desk(stack, rig)
            await desk.ask()
            assert not desk.holds_a_live_grant("alice")
            assert desk.said("The new token of p/alice can't be written") == 1
            await desk.ask()
            disk.free()
            await desk.ask_until(lambda: desk.said("The record of p/alice is written now"))
            assert desk.holds_a_live_grant("alice")
            assert rig.posts == 1


@pytest.mark.mitmproxy
async def test_a_folder_that_turns_read_only(rig: Rig) -> None:
    """As with a full disk; what is there can still be read, and followed."""
    rig.home("alice", "bob")
    with switchable(rig.path / "accounts") as folder:
        async with AsyncExitStack() as stack:
            desk = await open_desk(stack, rig)
            await desk.ask()
            set_read_only(folder, read_only=True)
            await spend_nothing(desk)
            assert desk.said(CANT_READ) == 0
            set_read_only(folder, read_only=False)
            await be_whole_again(desk)


@pytest.mark.mitmproxy
@pytest.mark.parametrize("part", ("accounts/p", "accounts", "."))
async def test_a_folder_moved_away_and_back(rig: Rig, part: str) -> None:
    """Its accounts are not gone: they serve, and what is missing does not come into being anew and empty."""
    rig.home("alice", "bob")
    folder = (rig.path / part).resolve()
    away = folder.with_name("away")
    async with AsyncExitStack() as stack:
        desk = await open_desk(stack, rig)
        await desk.ask()
        folder.rename(away)
        await desk.ask_until(lambda: desk.said(CANT_READ))
        await spend_nothing(desk)
        assert not folder.exists()
        assert desk.said(CANT_READ) == 1
        away.rename(folder)
        await be_whole_again(desk)
        await desk.ask_until(lambda: desk.said("The accounts can be read again"))
        assert desk.said(CANT_READ) == 1
        assert desk.said("was removed") == 0


@pytest.mark.mitmproxy
@pytest.mark.parametrize("hours", (-1, 0, 1))
async def test_a_change_that_nobody_notifies_of(rig: Rig, hours: int) -> None:
    """As over NFS: a file renamed into place, of the same size, its time that of a server with another clock."""
    rig.home("alice", "bob")
    path = account_path(rig.path, "p/alice")
    async with AsyncExitStack() as stack:
        desk = await open_desk(stack, rig)
        await desk.ask()
        status = path.stat()
        text = path.read_text()
        aside = path.with_name(".from-another-host")
        aside.touch(mode=0o600)
        aside.write_text(text.replace("alice", "Alice", 1).replace("version = 1\n", "proxy_disabled=true\n"))
        assert aside.stat().st_size != 0
        os.utime(aside, (status.st_atime + 3600 * hours, status.st_mtime + 3600 * hours))
        aside.replace(path)
        await desk.running.wait_until(lambda: desk.said("Pool p reloaded: 1 ready, 1 paused"), deadline_seconds=3)
        await desk.ask()


@pytest.mark.mitmproxy
async def test_an_editor_that_saves_by_renaming(rig: Rig) -> None:
    """The only account's file is replaced again and again: every request is served meanwhile."""
    rig.home("alice")
    path = account_path(rig.path, "p/alice")
    async with AsyncExitStack() as stack:
        desk = await open_desk(stack, rig)
        for number in range(10):
            text = path.read_text()
            path.rename(path.with_suffix(".toml~"))
            await desk.ask(1)
            path.touch(mode=0o600)
            path.write_text(f"label = {number}\n" + text.partition("\n")[2] if number else f"label = 0\n{text}")
            await desk.ask(4)
            await asyncio.sleep(0.1)
        assert desk.said("was removed") == 0
    assert read_account(rig.path, "p/alice")["label"] == 9


async def test_an_older_record_does_not_displace_a_pair_that_is_not_written_yet(
    tmp_path: Path, clock: FakeClock
) -> None:
    """The store tells of the intent after the disk has filled up: the account goes on with its new token."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice")
    failing = Failing()
    transport = Transport(provider)
    async with idle_gateway(home, clock, transport, files=failing.files()) as gateway:
        member = gateway.snapshot.pools["p"].get(AccountKey.of("p", "alice"))
        assert member is not None
        transport.meanwhile = lambda: setattr(failing, "error", OSError(errno.ENOSPC, "No space left on device"))
        outcome = await gateway.refresher.refresh(member.account, force=True)
        assert isinstance(outcome, Ready)
        for follow in (gateway.catch_up, gateway.reload):
            await follow()
            member = gateway.snapshot.pools["p"].get(AccountKey.of("p", "alice"))
            assert member is not None
            assert member.account.token == outcome.account.token
        failing.error = None
