"""What a request's pooled remembers of its way, for what is said about it; and that over is over."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from authpool.gateway.service import Service
from support.answers import Slow
from support.asked import answered, ask, pooled, sent
from support.clock import FakeClock
from support.pool_rig import Rig


@pytest.fixture
async def service(rig: Rig) -> AsyncIterator[Service]:
    rig.home("a", "b")
    started = Service(rig.path, {}, clock=FakeClock(now=time.time()))
    await started.start()
    yield started
    await started.stop()


def owner(token: str) -> str:
    return token.rpartition("-of-")[2]


async def test_a_request_that_went_on_with_another_account_is_known_for_it(service: Service) -> None:
    """After a refusal; not after a refresh of its own account."""
    first = await sent(service)
    name = owner(first.access_token)
    assert await answered(service, first, lambda token, _path: 401 if owner(token) == name else 200) == 200
    assert first.failed_over
    assert first.sends == 3
    assert first.address != f"p/{name}"
    mended = await sent(service)
    old = mended.access_token
    assert await answered(service, mended, lambda token, _path: 401 if token == old else 200) == 200
    assert not mended.failed_over


async def test_it_knows_how_long_it_waited_for_a_token(rig: Rig, service: Service) -> None:
    """For a refresh that a refusal led to; nothing where a token was at hand."""
    gate = asyncio.Event()
    rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
    taken = await sent(service)
    assert taken.waited_seconds == 0
    old = taken.access_token
    asked = asyncio.create_task(answered(service, taken, lambda token, _path: 401 if token == old else 200))
    async with asyncio.timeout(30):
        while not rig.posts:
            await asyncio.sleep(0.005)
    await service.clock.advance(7)  # type: ignore[attr-defined]
    gate.set()
    assert await asked == 200
    assert taken.waited_seconds == pytest.approx(7)


async def test_a_closed_lease_gets_nothing_any_more(service: Service) -> None:
    """No account, no token, by whatever way."""
    taken = await sent(service)
    account = taken.account
    assert account is not None
    service.picker.release(taken)
    await service.picker.acquire(taken)
    service.picker.acquire_now(taken)
    service.picker.take(taken, account)
    assert service.picker.current(taken) is None
    assert (taken.held, taken.account, taken.access_token) == (None, None, "")
    assert taken.refused_token() is None
    assert await ask(service, lambda _token, _path: 200) == 200


def test_no_secret_is_in_its_repr() -> None:
    """Nor in that of what is known of a refusal."""
    taken = pooled()
    taken.access_token = "secret-token"
    taken.key = None
    assert "secret-token" not in repr(taken)
    assert "secret-token" not in repr(taken.refused_token())
