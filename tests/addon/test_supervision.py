"""What runs for ever is started again when it dies, and that is told."""

import asyncio
from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from authpool.pool.pool import Member
from authpool.store import Record
from authpool.supervision import PAUSE_SECONDS, STEADY_SECONDS, supervised, tell_if_it_dies
from support.clock import FakeClock
from support.idle_gateway import idle_gateway, idle_home, sign_in, turn
from support.rotating_provider import RotatingProvider
from support.transport import Transport


async def test_what_dies_is_told_and_started_again(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """One line with where, and never the words of the exception, which may hold a secret."""
    starts = 0

    async def work() -> None:
        nonlocal starts
        starts += 1
        raise ValueError("s3cret")

    running = asyncio.ensure_future(supervised("refresh schedule", work, clock))
    await clock.settle()
    (line,) = caplog.messages
    assert line.startswith("The refresh schedule stopped: ValueError at ")
    assert f"{__file__}:" in line
    assert "It is started again in 0.5 s" in line
    assert "s3cret" not in caplog.text
    for number, pause in enumerate((0.5, 1, 2, 4, 8, 16, 30, 30), 1):
        assert starts == number
        await clock.advance(pause)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()


async def test_what_ends_is_started_again_too(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """After the shortest pause, when it ran for a good while."""
    starts = 0

    async def work() -> None:
        nonlocal starts
        starts += 1
        await clock.sleep(STEADY_SECONDS)

    running = asyncio.ensure_future(supervised("follower", work, clock))
    for number in range(1, 4):
        await clock.settle()
        assert starts == number
        await clock.advance(STEADY_SECONDS + PAUSE_SECONDS[0])
    assert set(caplog.messages) == {"The follower stopped: it ended. It is started again in 0.5 s"}
    running.cancel()
    await asyncio.wait([running])


async def test_a_task_that_nobody_awaits_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """When it fails; not when it was cancelled."""

    async def fail() -> None:
        raise KeyError("s3cret")

    failing: asyncio.Task[object] = asyncio.ensure_future(fail())
    cancelled: asyncio.Task[object] = asyncio.ensure_future(asyncio.sleep(10))
    for task in (failing, cancelled):
        tell_if_it_dies(task)
    await asyncio.wait([failing])
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await asyncio.sleep(0)
    (line,) = caplog.messages
    assert "failed: KeyError at" in line
    assert "s3cret" not in line


async def test_a_keeper_and_a_follower_that_die_go_on_where_they_were(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account whose turn it was is refreshed all the same, and what is edited afterwards is taken in."""
    provider = RotatingProvider(expires_in=60, monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice")
    transport = Transport(provider)
    async with idle_gateway(home, clock, transport) as gateway:
        failing = ["refresh schedule", "follower"]

        def fail(name: str) -> None:
            if name in failing:
                failing.remove(name)
                raise RuntimeError("s3cret")

        start, mark = gateway._schedule._flights._start, gateway._requests._current_mark

        def failing_start(key: AccountKey) -> None:
            fail("refresh schedule")
            start(key)

        monkeypatch.setattr(gateway._schedule._flights, "_start", failing_start)
        monkeypatch.setattr(gateway._requests, "_current_mark", lambda: (fail("follower"), mark())[1])
        await turn(clock, 120, until=lambda: transport.posts)
        assert len(transport.posts) == 1
        async with asyncio.timeout(30):
            while failing:
                await asyncio.sleep(0.01)
        sign_in(home, clock, provider, "bob")
        async with asyncio.timeout(30):
            while len(gateway.snapshot.pools["p"]) == 1:
                await clock.advance(0.1)
                await asyncio.sleep(0.01)
    stopped = sorted(message.partition(":")[0] for message in caplog.messages if "is started again" in message)
    assert stopped == ["The follower stopped", "The refresh schedule stopped"]
    assert "s3cret" not in caplog.text


async def test_one_record_that_can_not_be_taken_in_costs_no_other(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store tells it tells once."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice")
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        pool = gateway.snapshot.pools["p"]
        put = pool.put

        def fails_for_bob(record: Record) -> Member:
            if record.name == "bob":
                raise RuntimeError("s3cret")
            return put(record)

        monkeypatch.setattr(pool, "put", fails_for_bob)
        for name in ("anna", "bob", "carol"):
            sign_in(home, clock, provider, name)
        await gateway.catch_up()
        assert {member.record.name for member in pool} == {"alice", "anna", "carol"}
    (line,) = [message for message in caplog.messages if "can't be taken in" in message]
    assert line.startswith("A change of p/bob can't be taken in: RuntimeError at ")
