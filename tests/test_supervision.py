"""What runs for ever is started again when it dies, and that is told."""

import asyncio

import pytest

from authpool.supervision import PAUSE_SECONDS, STEADY_SECONDS, supervised, tell_if_it_dies
from support.clock import FakeClock


async def test_what_dies_is_told_and_started_again(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """One line with where, and never the words of the exception, which may hold a secret."""
    starts = 0

    async def work() -> None:
        nonlocal starts
        starts += 1
        raise ValueError("s3cret")

    running = asyncio.ensure_future(supervised("keeper", work, clock))
    await clock.settle()
    (line,) = caplog.messages
    assert line.startswith("The keeper stopped: ValueError at ")
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

    for work, lines in ((fail(), 1), (asyncio.sleep(10), 1)):
        task: asyncio.Task[object] = asyncio.ensure_future(work)
        tell_if_it_dies(task)
        task.cancel() if lines and task.get_coro().__name__ == "sleep" else None
        await asyncio.wait([task])
        await asyncio.sleep(0)
    (line,) = caplog.messages
    assert "failed: KeyError at" in line
    assert "s3cret" not in line
