"""The verbs of gateway keys, and what a gateway that runs makes of them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from authpool.clients.gatekeeper import Gatekeeper
from authpool.clients.keyring import Denial, Grant
from authpool.clients.presented import Presented
from authpool.clients.usage import Usage
from authpool.errors import RefusedError
from authpool.verbs.gateway_clients import ClientRow, GatewayClientVerbs, Issued, Terms, live_rows
from support.operator import Desk, open_desk

DAY = 86_400


def look(gatekeeper: Gatekeeper, issued: Issued) -> Grant | Denial:
    return gatekeeper.identify(Presented(values=(issued.key.encode(),)), "192.0.2.1")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def verbs(desk: Desk) -> GatewayClientVerbs:
    return desk.operations.clients


async def only_row(desk: Desk) -> ClientRow:
    (row,) = await verbs(desk).rows()
    return row


async def test_a_running_gateway_follows(tmp_path: Path) -> None:
    """Added, rotated and removed, each in a moment; the key in no file and no log of the trail."""
    async with open_desk(tmp_path, running=True) as desk:
        gatekeeper = desk.service.clients.gatekeeper
        assert not gatekeeper.keyring.anybody
        first = await verbs(desk).add("ci", Terms(pools=["google"], max_in_flight=3))
        await until(lambda: isinstance(look(gatekeeper, first), Grant))
        second = await verbs(desk).rotate("CI", overlap_seconds=60)
        await until(lambda: isinstance(look(gatekeeper, second), Grant))
        assert isinstance(look(gatekeeper, first), Grant)
        third = await verbs(desk).rotate("ci", overlap_seconds=60, leaked=True)
        await until(lambda: isinstance(look(gatekeeper, third), Grant))
        for former in (first, second):
            denial = look(gatekeeper, former)
            assert isinstance(denial, Denial)
            assert "rotated out" in denial.detail
        (row,) = live_rows(desk.service)
        assert (row.name, row.state, row.pools, row.max_in_flight, row.keys) == ("ci", "active", ["google"], 3, 1)
        await verbs(desk).remove("ci")
        await until(lambda: isinstance(look(gatekeeper, third), Denial))
        denial = look(gatekeeper, third)
        assert isinstance(denial, Denial)
        assert "removed" in denial.detail
        assert gatekeeper.keyring.anybody  # the last one that goes does not open the gateway
        await desk.service.stop()
        written = b"".join(path.read_bytes() for path in desk.home.rglob("*") if path.is_file())
        for issued in (first, second, third):
            assert issued.key.split("_")[2].encode() not in written
            assert issued.key not in repr(issued)
        entries = [entry for entry in await desk.service.store.entries() if entry.account == "client:ci"]
        events = ["client added", "client rotated", "client rotated", "client removed"]
        assert [entry.event for entry in entries] == events


async def test_usage_is_written_and_survives_a_rotation(tmp_path: Path) -> None:
    """A while after it was counted, and when the gateway ends; the command line reads it."""
    async with open_desk(tmp_path, running=True) as desk:
        clients = desk.service.clients
        issued = await verbs(desk).add("ci", Terms())
        await until(lambda: isinstance(look(clients.gatekeeper, issued), Grant))
        grant = look(clients.gatekeeper, issued)
        assert isinstance(grant, Grant)
        assert clients.gatekeeper.admit(grant, None, "https", "api.test", 443) is None
        async with asyncio.timeout(30):
            while (await only_row(desk)).requests != 1:
                await asyncio.sleep(0.01)
        await verbs(desk).rotate("ci", overlap_seconds=0)
        assert (await only_row(desk)).requests == 1
        assert clients.gatekeeper.admit(grant, None, "https", "api.test", 443) is None
        assert live_rows(desk.service)[0].requests == 2
        await desk.service.stop()
        row = await only_row(desk)
        assert (row.requests, row.refused, row.last_used_at is not None) == (2, 0, True)


async def test_who_used_which_account_is_in_the_trail(tmp_path: Path) -> None:
    """Each pair once a day; and nobody takes it for news of the account."""
    async with open_desk(tmp_path) as desk:
        for _ in range(3):
            desk.service.clients.used("ci", "google/alice")
        desk.service.clients.used("ci", "google/bob")
        await desk.service.store.aclose()
        entries = await desk.service.store.entries()
        told = [(entry.event, entry.account, entry.reason) for entry in entries]
        assert told == [("used", "google/alice", "by client ci"), ("used", "google/bob", "by client ci")]


async def test_what_can_not_be_done_is_refused(tmp_path: Path) -> None:
    """With the way out."""
    async with open_desk(tmp_path) as desk:
        await verbs(desk).add("ci", Terms())
        for refusal, verb in (
            ("rotate ci", verbs(desk).add("CI", Terms())),
            ("can't be a client's name", verbs(desk).add("../ci", Terms())),
            ("configures no pool nope", verbs(desk).add("a", Terms(pools=["nope"]))),
            ("is a URL", verbs(desk).add("a", Terms(hosts=["https://a.test/"]))),
            ("leave it out", verbs(desk).add("a", Terms(hosts=["*"]))),
            ("there is no client nobody", verbs(desk).rotate("nobody", overlap_seconds=0)),
            ("there is no client ../nobody", verbs(desk).remove("../nobody")),
        ):
            with pytest.raises(RefusedError, match=refusal):
                await verb
        assert [row.name for row in await verbs(desk).rows()] == ["ci"]


async def test_an_expired_client_needs_another_end(tmp_path: Path) -> None:
    """A new key of it would be none; with one, no former key comes to life again."""
    async with open_desk(tmp_path) as desk:
        await verbs(desk).add("ci", Terms(expires_seconds=30))
        store, now = desk.service.store, desk.service.clock.time()
        await store.update_gateway_client("ci", lambda one: one and one.until(int(now) - 10))
        assert (await only_row(desk)).state == "expired"
        with pytest.raises(RefusedError, match="--expires"):
            await verbs(desk).rotate("ci", overlap_seconds=60)
        await verbs(desk).rotate("ci", overlap_seconds=60, expires_seconds=DAY)
        row = await only_row(desk)
        assert (row.state, row.keys) == ("active", 1)


async def test_a_removed_client_can_be_added_anew(tmp_path: Path) -> None:
    """The keys of the former one stay removed."""
    async with open_desk(tmp_path) as desk:
        first = await verbs(desk).add("ci", Terms())
        await verbs(desk).remove("ci")
        with pytest.raises(RefusedError, match="was removed"):
            await verbs(desk).remove("ci")
        with pytest.raises(RefusedError, match="was removed"):
            await verbs(desk).rotate("ci", overlap_seconds=0)
        second = await verbs(desk).add("ci", Terms())
        await desk.service.clients.load()
        assert isinstance(look(desk.service.clients.gatekeeper, second), Grant)
        denial = look(desk.service.clients.gatekeeper, first)
        assert isinstance(denial, Denial)
        assert "removed" in denial.detail


async def test_a_broken_client_is_shown_and_can_be_removed(tmp_path: Path) -> None:
    """Whatever stands in its file; adding or rotating it is refused."""
    async with open_desk(tmp_path) as desk:
        path = desk.home / "clients" / "ci.toml"
        path.touch(mode=0o600)
        path.write_text('version = 1\nname = "ci"\nmax_in_flight = "many"\n')
        row = await only_row(desk)
        assert (row.state, row.reason) == ("broken", "`max_in_flight` is no number above 0, or out of range")
        with pytest.raises(Exception, match="max_in_flight"):
            await verbs(desk).add("ci", Terms())
        await verbs(desk).remove("ci")
        assert await verbs(desk).rows() == []


async def test_what_ended_long_ago_is_cleared_away(tmp_path: Path) -> None:
    """A client of one job a day later, a removed one after thirty; when the next is added."""
    async with open_desk(tmp_path) as desk:
        store, now = desk.service.store, int(desk.service.clock.time())
        await verbs(desk).add("job", Terms(expires_seconds=60, for_run=True))
        await verbs(desk).add("old", Terms(expires_seconds=60))
        await verbs(desk).add("gone", Terms())
        for name in ("job", "old"):
            await store.update_gateway_client(name, lambda one: one and one.until(now - 2 * DAY))
        await store.update_gateway_client("gone", lambda one: one and one.with_removed(now - 31 * DAY))
        await store.count_usage({"job": Usage(requests=1)})
        await verbs(desk).add("new", Terms())
        assert set(await store.gateway_clients()) == {"old", "new"}
