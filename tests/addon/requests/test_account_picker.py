"""Who serves a request, and who is next when that one fails: the picker over a real store, without mitmproxy."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from authpool.accounts.account import AccountKey
from authpool.gateway.service import Service
from authpool.pool.pool import Member
from authpool.pool.refused_token import CURE_SECONDS
from authpool.requests.failover import Decision
from authpool.requests.pooled_request import PooledRequest
from authpool.rotation.rotation import RotationRequest
from support.answers import JSON, Slow
from support.clock import FakeClock
from support.home import account_path
from support.pool_rig import Rig
from support.token_endpoint import refused_url


@pytest.fixture
async def services() -> AsyncIterator[list[Service]]:
    """Services to be stopped at the end."""
    started: list[Service] = []
    yield started
    for service in started:
        await service.stop()


async def start(rig: Rig, services: list[Service], clock: FakeClock | None = None) -> Service:
    service = Service(rig.path, {}, clock=clock)
    services.append(service)
    await service.start()
    return service


def pooled(**more: Any) -> PooledRequest:
    asked = RotationRequest(method="GET", host="api.example.com", path="/x")
    settings: dict[str, Any] = {"pool": "p", "rotation": "round_robin", "request": asked, "max_accounts": 3}
    return PooledRequest(**settings | more)


def member(service: Service, name: str) -> Member:
    found = service.snapshot.pools["p"].get(AccountKey.of("p", name))
    assert found is not None
    return found


async def served(service: Service, **more: Any) -> PooledRequest:
    """One request up to the wire."""
    taken = pooled(**more)
    await service.picker.acquire(taken)
    assert taken.refusal is None
    assert service.picker.current(taken)
    service.picker.sent(taken)
    return taken


async def test_a_thousand_requests_that_meet_one_expired_account_cause_one_post(
    rig: Rig, services: list[Service]
) -> None:
    """All of them await the same flight, and all have the same fresh token."""
    rig.home("alice", expires_in=-10)
    gate = asyncio.Event()
    rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
    service = await start(rig, services)
    requests = [pooled() for _ in range(1000)]
    waiting = asyncio.gather(*(service.picker.acquire(request) for request in requests))
    async with asyncio.timeout(30):
        while not rig.posts:
            await asyncio.sleep(0.005)
    gate.set()
    await waiting

    assert rig.posts == 1
    assert {request.access_token for request in requests} == {rig.account("alice")["token"]["access_token"]}


async def test_a_thousand_refusals_of_one_token_cause_one_post(rig: Rig, services: list[Service]) -> None:
    """A 401 is about a token string: whoever comes late finds it replaced, and posts nothing."""
    rig.home("alice")
    service = await start(rig, services)
    requests = [await served(service) for _ in range(1000)]
    decisions = await asyncio.gather(*(service.failover.decide(r, "bad_token", resend=True) for r in requests[:500]))
    decisions += [await service.failover.decide(r, "bad_token", resend=True) for r in requests[500:]]

    assert set(decisions) == {Decision.RESEND}
    assert rig.posts == 1
    assert len({request.access_token for request in requests}) == 1


async def test_accounts_are_counted_as_they_serve(rig: Rig, services: list[Service]) -> None:
    """The count is of requests on the wire, not of decisions."""
    rig.home("alice", "bob")
    service = await start(rig, services)
    for _ in range(4):
        await served(service)
    await service.picker.acquire(pooled())

    assert (member(service, "alice").served, member(service, "bob").served) == (2, 2)


async def test_an_account_that_refuses_even_fresh_tokens_is_left_alone_for_a_while(
    rig: Rig, services: list[Service]
) -> None:
    """Its 401 is about something else (a scope, a plan): no refresh for each request, until the time is over."""
    rig.home("alice")
    clock = FakeClock(now=time.time())
    service = await start(rig, services, clock)
    for seconds in (2, 4, 8):
        request = await served(service)
        while await service.failover.decide(request, "bad_token", resend=True) is Decision.RESEND:
            service.picker.sent(request)
        clock.jump(seconds)  # it cools meanwhile
    assert rig.posts == 1

    clock.jump(CURE_SECONDS + 1)
    await service.failover.decide(await served(service), "bad_token", resend=True)
    assert rig.posts == 2


async def test_a_failed_refresh_is_not_a_failed_request_while_the_token_lives(
    rig: Rig, services: list[Service]
) -> None:
    """Near its end a token is to be refreshed; with the endpoint down it serves to the last second."""
    with refused_url() as nowhere:
        rig.home("alice", expires_in=3, token_url=nowhere)
        service = await start(rig, services)
        member(service, "alice").mandatory_seconds = 30
        request = await served(service)
        assert request.access_token == rig.account("alice")["token"]["access_token"]


async def test_the_comment_never_holds_the_token(rig: Rig, services: list[Service]) -> None:
    """It is shown in mitmweb and saved in flow files; the pooled request's own repr may be logged."""
    rig.home("alice")
    service = await start(rig, services)
    request = await served(service)
    assert request.access_token
    assert request.access_token not in request.comment("200") + repr(request)
    assert request.comment("200") == "p/alice attempts=1 outcome=200 rotation=round_robin"


async def test_a_refused_lease_has_no_token(rig: Rig, services: list[Service]) -> None:
    """Nothing of what it held before is left to be put on."""
    rig.home("alice")
    service = await start(rig, services)
    request = await served(service)
    service.picker.refuse(request)
    assert service.picker.current(request) is None
    assert request.access_token == ""


async def test_a_pool_that_is_gone_from_the_configuration_serves_nobody(rig: Rig, services: list[Service]) -> None:
    """The request was matched before the reload."""
    rig.home("alice")
    service = await start(rig, services)
    request = await served(service)
    unknown = pooled(pool="gone")
    await service.picker.acquire(unknown)

    assert unknown.refusal is not None
    assert unknown.refusal.code == "pool_exhausted"
    assert service.picker.current(pooled(pool="gone", key=request.key)) is None
    assert (
        await service.failover.decide(pooled(pool="gone", key=request.key), "bad_token", resend=True)
        is Decision.PASS_ON
    )


async def test_a_token_endpoint_that_repeats_the_refused_token_is_not_a_cure(rig: Rig, services: list[Service]) -> None:
    """Some answer the same access token until it expires: the next account is tried, and the trail says why."""
    rig.home("alice")
    service = await start(rig, services)
    request = await served(service)
    same = {"access_token": request.access_token, "token_type": "Bearer", "expires_in": 3600}
    rig.endpoint.script = lambda _number, _form: JSON(200, same)

    assert await service.failover.decide(request, "bad_token", resend=True) is Decision.PASS_ON
    assert "gave the refused token again" in request.comment("401")


@pytest.mark.parametrize("dead", (1, 2))
async def test_the_next_account_is_one_that_was_not_tried(rig: Rig, services: list[Service], dead: int) -> None:
    """However the rotation stands, no account is tried twice for one request."""
    rig.home("a", "b", "c", expires_in=-10)
    for name in "abc"[:dead]:
        rig.provider.revoke(name)
    service = await start(rig, services)
    for _ in range(3):
        request = await served(service)
        assert request.key is not None
        assert request.key.name not in "abc"[:dead]
        assert len(request.trail) <= dead


async def test_a_token_that_is_live_serves_even_when_the_others_were_tried_in_vain(
    rig: Rig, services: list[Service]
) -> None:
    """A request gives up waiting for refreshes, never an account that needs none."""
    with refused_url() as nowhere:
        rig.home("alice", token_url=nowhere)
        service = await start(rig, services)
        request = pooled(max_accounts=1, endpoint_failures=1)  # as after an account whose refresh failed
        member(service, "alice").mandatory_seconds = 7200  # it would be refreshed first, were there patience left
        await service.picker.acquire(request)
    assert (request.refusal, request.address) == (None, "p/alice")


@pytest.mark.parametrize("others", ((), ("bob",)))
async def test_a_refused_token_that_can_not_be_replaced_now_is_told_by_us(
    rig: Rig, services: list[Service], others: tuple[str, ...]
) -> None:
    """The 401 is about a token the client knows nothing of: it must not take it for its own fault."""
    with refused_url() as nowhere:
        rig.home("alice", *others, token_url=nowhere)
        service = await start(rig, services)
        request = await served(service)
        for _ in others:
            assert await service.failover.decide(request, "bad_token", resend=True) is Decision.RESEND
            service.picker.sent(request)
        assert await service.failover.decide(request, "bad_token", resend=True) is Decision.PASS_ON
    assert request.refusal is not None
    assert request.refusal.code == "token_endpoint_unavailable"


async def test_a_request_that_met_as_many_dying_accounts_as_it_may_is_told_by_us(
    rig: Rig, services: list[Service]
) -> None:
    """No upstream's 401 for the client, though no further account is tried; the next request finds the living one."""
    rig.home("alice", "bob", "carol")
    service = await start(rig, services)
    request = pooled(max_accounts=2)
    await service.picker.acquire(request)
    for decision in (Decision.RESEND, Decision.PASS_ON):
        service.picker.sent(request)
        rig.provider.revoke(request.address.removeprefix("p/"))
        assert await service.failover.decide(request, "bad_token", resend=True) is decision
    assert request.refusal is not None
    assert request.refusal.code == "pool_exhausted"
    await served(service)


@pytest.mark.parametrize("record", (b"", b"not TOML ["), ids=("removed", "broken"))
async def test_an_account_that_left_while_its_request_was_out_gives_way_to_the_next(
    rig: Rig, services: list[Service], record: bytes
) -> None:
    """Its 401 is nothing the client should see while another account is ready."""
    rig.home("alice", "bob")
    service = await start(rig, services)
    request = await served(service)
    first = request.address
    path = account_path(rig.path, first)
    if record:
        path.write_bytes(record)
    else:
        path.unlink()
    await service.catch_up()

    assert await service.failover.decide(request, "bad_token", resend=True) is Decision.RESEND
    assert {first, request.address} == {"p/alice", "p/bob"}


async def test_a_token_that_ends_while_its_successor_is_fetched_is_waited_for(
    rig: Rig, services: list[Service]
) -> None:
    """The short patience is for tokens that live; this one ended sooner than it seemed, as on a busy machine."""
    rig.home("alice")
    clock = FakeClock(now=rig.account("alice")["token"]["expires_at"] - 0.4)
    service = await start(rig, services, clock)
    member(service, "alice").mandatory_seconds = 30

    gate = asyncio.Event()

    def end_meanwhile(number: int, form: Mapping[str, str]) -> Slow:
        clock.jump(5)
        asyncio.get_running_loop().call_later(0.5, gate.set)  # after the short patience, which is 0.2 s here
        return Slow(gate, rig.provider(number, form))

    rig.endpoint.script = end_meanwhile
    request = await served(service)
    assert request.access_token == rig.account("alice")["token"]["access_token"]
    assert rig.posts == 1
