"""A token endpoint that is down: nobody storms it, live tokens serve to their end, and all is well soon after."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import Any

import pytest

from authpool.accounts.account import AccountKey
from authpool.oauth.verdict import Answer, NotSent, Reply, ReplyLost, judge
from authpool.pool.pool import State
from authpool.refresh.client_watch import WAY_OUT
from authpool.refresh.endpoint_watch import MAX_HOLD_SECONDS, PAUSE_SECONDS, EndpointWatch, blames_endpoint
from authpool.refresh.outcome import Dead, Ready, Unavailable
from authpool.store.client_record import ACCOUNTS
from authpool.verbs.account_rows import live_rows
from support.answers import JSON
from support.clock import FakeClock
from support.home import read_account, write_account
from support.idle_gateway import idle_gateway, idle_home, turn
from support.operator import open_desk
from support.outage import BEGIN_SECONDS, END_SECONDS, Failure, Outage
from support.rotating_provider import RotatingProvider
from support.transport import INVALID_GRANT, Rig, Transport, reply

URL, OTHER = "https://auth.example.com/token", "https://other.example.com/token"
LONGEST = PAUSE_SECONDS[1]
DOWN = reply(503, b"<html>")


@pytest.mark.parametrize("failure", ("refused", "silent", "unavailable"))
def test_500_accounts_outlive_ten_minutes_without_their_token_endpoint(failure: Failure) -> None:
    """Few POSTs and few at once, no request lost while a token lives, and nobody waits long: before and after."""
    outage = Outage(failure)
    endpoint = outage.play()
    each_minute = Counter(int((at - BEGIN_SECONDS) // 60) for at in endpoint.posts if at < END_SECONDS)
    assert each_minute[0] <= 30  # until it is known to be down, and the first short pauses
    assert all(1 <= each_minute[minute] <= 12 for minute in range(1, 10))
    assert endpoint.most_under_way <= 16
    # The return: no herd, and no long wait.
    after = [at for at in endpoint.posts if at >= END_SECONDS]
    assert max(Counter(int(at) for at in after).values()) <= 60
    assert len(outage.waiting) == 500
    back = sorted(outage.refreshed[key] - END_SECONDS for key in outage.waiting)
    assert back[0] <= 22  # the longest pause (15 s; here also Retry-After: 20) and the probe itself
    assert back[int(0.95 * len(back))] <= 35
    assert len(after) <= 505  # each account once
    # The requests meanwhile.
    refused = [served for served in outage.served if served.refusal is not None]
    assert not [served for served in refused if served.live]
    assert len([served for served in outage.served if served.pool == "late" and served.live]) > 500
    assert len(refused) > 20
    for served in refused:
        assert served.refusal is not None
        assert served.refusal.code == "token_endpoint_unavailable"
        assert 0 < float(served.refusal.headers()["Retry-After"]) <= 60
    assert max(served.waited for served in outage.served) < 1


# --- the watch ------------------------------------------------------------------------------------------------


def watch_of(*failures: str, now: float = 0.0) -> EndpointWatch:
    watch = EndpointWatch(Random(1))
    for who in failures:
        watch.failed(URL, who, now)
    return watch


def test_two_accounts_without_an_answer_tell_that_an_endpoint_is_down() -> None:
    """One alone may be in trouble of its own, however often it fails; and another endpoint is another matter."""
    watch = watch_of("a", "a", "a")
    assert not watch.down(URL)
    assert watch.failed(URL, "b", 0.0)
    assert watch.down(URL)
    assert not watch.down(OTHER)
    assert not watch.failed(URL, "c", 0.0)  # no news


def test_an_answer_in_between_tells_that_it_is_up() -> None:
    """Failures count only while nobody gets an answer."""
    watch = watch_of("a")
    assert not watch.answered(URL)
    assert not watch.failed(URL, "b", 0.0)
    watch.failed(URL, "c", 0.0)
    assert watch.answered(URL)
    assert watch.held_back(URL, 0.0, probe=False) is None


def test_one_probe_at_a_time_asks_an_endpoint_that_is_down() -> None:
    """Nobody before the pause is over, then one; requests are never the probe."""
    watch = watch_of("a", "b")
    held_back = watch.held_back(URL, 0.0, probe=True)
    assert held_back is not None
    assert not held_back.asked
    due = held_back.retry_after_seconds or 0.0
    assert watch.held_back(URL, due, probe=False) is not None
    assert watch.held_back(URL, due, probe=True) is None
    watch.begin(URL, "c")
    assert watch.held_back(URL, due, probe=True) is not None
    watch.end(URL, "somebody else")
    assert watch.held_back(URL, due, probe=True) is not None
    watch.end(URL, "c")
    assert watch.held_back(URL, due, probe=True) is None


def test_pauses_grow_to_a_limit_with_jitter() -> None:
    """Each probe that fails doubles the pause; what was under way beside it counts for nothing."""
    watch = watch_of(*"abcdefgh")
    now, pauses = 0.0, []
    for _ in range(12):
        held_back = watch.held_back(URL, now, probe=True)
        assert held_back is not None
        assert held_back.retry_after_seconds is not None
        pauses.append(held_back.retry_after_seconds)
        now += held_back.retry_after_seconds
        watch.failed(URL, "a", now)
        watch.failed(URL, "b", now)
    assert all(LONGEST / 2 <= pause <= LONGEST for pause in pauses[5:])
    assert all(pause <= 2**number for number, pause in enumerate(pauses[:4]))
    assert len(set(pauses[5:])) == len(pauses[5:])


@pytest.mark.parametrize(("told", "held"), ((100.0, 100.0), (3600.0, MAX_HOLD_SECONDS)))
def test_one_retry_after_holds_back_the_whole_endpoint(told: float, held: float) -> None:
    """The endpoint said so itself, once is enough; but one account's limit does not starve the others."""
    watch = EndpointWatch(Random(1))
    assert watch.failed(URL, "a", 0.0, told)
    assert watch.held_back(URL, held - 1, probe=True) is not None
    assert watch.held_back(URL, held, probe=True) is None


@pytest.mark.parametrize(
    ("answer", "blamed"),
    (
        (NotSent(detail="no connection"), True),
        (ReplyLost(detail="lost"), True),
        (reply(500, {"error": "invalid_grant"}), True),
        (reply(429), True),
        (reply(200, b"<html>a captive portal</html>"), True),
        (reply(400, {"error": "temporarily_unavailable"}, "30"), True),
        (reply(400, {"error": "a_code_nobody_knows"}), False),
        (INVALID_GRANT, False),
        (reply(401, {"error": "invalid_client"}), False),
        (reply(200, {"access_token": "a"}), False),
    ),
    ids=(
        "refused",
        "lost",
        "500",
        "429",
        "html",
        "told when",
        "unknown code",
        "invalid_grant",
        "invalid_client",
        "granted",
    ),
)
def test_what_tells_of_the_endpoint_and_what_of_the_account(answer: Answer, *, blamed: bool) -> None:
    """An OAuth answer shows that the endpoint is there, whatever it says."""
    assert blames_endpoint(answer, judge(answer, now=0.0)) is blamed


# --- in the refresh protocol ----------------------------------------------------------------------------------


async def test_an_endpoint_that_is_down_is_not_asked(tmp_path: Path, clock: FakeClock) -> None:
    """The third account is answered at once; a probe brings it back, and force asks whenever it likes."""
    rig = Rig(tmp_path, clock)
    accounts = [await rig.add(name) for name in ("alice", "bob", "carol")]
    rig.transport.script.extend([DOWN, DOWN])
    for account in accounts[:2]:
        await rig.refresher.refresh(account)
    outcome = await rig.refresher.refresh(accounts[2], probe=True)
    assert isinstance(outcome, Unavailable)
    assert (outcome.asked, len(rig.transport.posts)) == (False, 2)
    await clock.advance(1)
    assert isinstance(await rig.refresher.refresh(accounts[2]), Unavailable)
    assert len(rig.transport.posts) == 2
    assert isinstance(await rig.refresher.refresh(accounts[2], probe=True), Ready)
    assert isinstance(await rig.refresher.refresh(accounts[0]), Ready)


async def test_force_asks_an_endpoint_that_is_down(tmp_path: Path, clock: FakeClock) -> None:
    """An operator who says so knows why."""
    rig = Rig(tmp_path, clock)
    accounts = [await rig.add(name) for name in ("alice", "bob")]
    rig.transport.script.extend([DOWN, DOWN])
    for account in accounts:
        await rig.refresher.refresh(account)
    assert isinstance(await rig.refresher.refresh(accounts[0], force=True), Ready)
    assert isinstance(await rig.refresher.refresh(accounts[1]), Ready)


@pytest.mark.parametrize("as_date", (False, True))
async def test_a_retry_after_is_honoured_by_every_account(*, as_date: bool, tmp_path: Path, clock: FakeClock) -> None:
    """In seconds or as an HTTP date: until then nobody asks."""
    rig = Rig(tmp_path, clock)
    alice, bob = [await rig.add(name) for name in ("alice", "bob")]
    wait = formatdate(clock.time() + 90, usegmt=True) if as_date else "90"
    rig.transport.script.append(Reply(status=429, body=b"", retry_after=wait))
    await rig.refresher.refresh(alice)
    await clock.advance(88)
    assert isinstance(await rig.refresher.refresh(bob, probe=True), Unavailable)
    await clock.advance(3)
    assert isinstance(await rig.refresher.refresh(bob, probe=True), Ready)
    assert len(rig.transport.posts) == 2


async def test_the_log_says_once_that_an_endpoint_is_down_and_once_that_it_is_back(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Not once for each account."""
    rig = Rig(tmp_path, clock)
    accounts = [await rig.add(name) for name in ("alice", "bob", "carol", "dave")]
    rig.transport.script.extend([DOWN] * 3)
    for _ in range(2):
        for account in accounts:
            await rig.refresher.refresh(account, probe=True)
        await clock.advance(1)
    await clock.advance(LONGEST)
    for account in accounts:
        await rig.refresher.refresh(account, probe=True)
    assert [caplog.text.count(words) for words in ("is down (HTTP 503)", "answers again")] == [1, 1]


# --- several gateways on one home -----------------------------------------------------------------------------


async def turned[T](clock: FakeClock, doing: Coroutine[Any, Any, T]) -> T:
    """Turn the clock until it is done."""
    task = asyncio.ensure_future(doing)
    await turn(clock, 600, task.done)
    return await task


async def test_four_gateways_on_one_home_disable_no_more_than_one_would(tmp_path: Path, clock: FakeClock) -> None:
    """Each hears, before its verdict, of those the others wrote down: the fourth account of a client stays."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    names = [f"user{number}" for number in range(12)]
    home = idle_home(tmp_path, clock, provider, *names)
    transport = Transport(provider)
    transport.script.extend([INVALID_GRANT] * 2 * len(names))
    async with AsyncExitStack() as running:
        gateways = [await running.enter_async_context(idle_gateway(home, clock, transport)) for _ in range(4)]
        for number, name in enumerate(names):
            gateway = gateways[number % 4]
            member = gateway.snapshot.pools["p"].get(AccountKey.of("p", name))
            assert member is not None
            await turned(clock, gateway.refresher.refresh(member.account, force=True))
        assert len([name for name in names if read_account(home, f"p/{name}")["disabled"]]) == ACCOUNTS - 1
        assert [gateway.refresher.fault("p") is not None for gateway in gateways] == [True] * 4
        # One that is accepted anywhere ends it everywhere, as soon as the store tells.
        transport.script.clear()
        last = gateways[0].snapshot.pools["p"].get(AccountKey.of("p", names[-1]))
        assert last is not None
        assert isinstance(await gateways[0].refresher.refresh(last.account, force=True), Ready)
        for gateway in gateways:
            await gateway.catch_up()
        assert [gateway.refresher.fault("p") for gateway in gateways] == [None] * 4


async def test_what_an_operator_disables_is_no_storm(tmp_path: Path, clock: FakeClock) -> None:
    """Only verdicts of the provider tell on a client."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    names = [f"user{number}" for number in range(5)]
    home = idle_home(tmp_path, clock, provider, *names)
    transport = Transport(provider)
    async with idle_gateway(home, clock, transport) as gateway:
        for name in names[:4]:
            write_account(home, f"p/{name}", {**read_account(home, f"p/{name}"), "disabled": True})
        await gateway.catch_up()
        transport.script.extend([INVALID_GRANT] * 2)
        (member,) = [m for m in gateway.snapshot.pools["p"] if m.state(clock.time()) is State.READY]
        assert isinstance(await turned(clock, gateway.refresher.refresh(member.account, force=True)), Dead)


# --- a client in trouble --------------------------------------------------------------------------------------


async def test_accounts_show_that_their_client_is_suspected_and_the_way_out(tmp_path: Path) -> None:
    """Four accounts rejected at once: the reason of those left says so, until one of them is accepted."""
    names = ("alice", "bob", "carol", "dave")
    async with open_desk(tmp_path, running=True) as desk:
        for name in names:
            desk.write(f"google/{name}", token={"access_token": "old", "refresh_token": f"r-{name}"})
        await desk.service.catch_up()
        desk.token_endpoint.script = [JSON(400, {"error": "invalid_grant"})] * 7
        for name in names:  # the first three died a moment ago, of an older authpool
            if name != "dave":
                now = int(desk.service.clock.time())
                desk.edit(f"google/{name}", disabled=True, disabled_at=now, disabled_reason="invalid_grant")
        await desk.service.catch_up()
        (dave,) = [m for m in desk.service.snapshot.pools["google"] if m.record.name == "dave"]
        await desk.service.refresher.refresh(dave.account, rejected="old")
        (row,) = [row for row in live_rows(desk.service) if row.state is not State.DISABLED]
        assert "suspect the client" in row.reason
        assert WAY_OUT in row.reason
