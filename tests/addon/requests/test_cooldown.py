"""Upstreams that say "not so fast": the account pauses, the request goes on with the next one."""

import asyncio
import time
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from mitmproxy import http

from authpool.accounts.account import AccountKey
from authpool.gateway.service import Service
from authpool.proxy.addon import Gateway
from authpool.store.folder.trail_files import read_trail
from authpool.verbs.operations import Operations
from support.answers import JSON, Echo, Slow
from support.clock import FakeClock
from support.exchange import Answer, Request
from support.pool_rig import Rig, client, reverse_gateway

pytestmark = pytest.mark.mitmproxy


def owner(request: Request) -> str:
    return (request.bearer or "-").rpartition("-of-")[2]


class Limited:
    """An upstream that answers some accounts with a refusal, until it is told otherwise."""

    def __init__(self, *names: str, status: int = 429, **headers: str) -> None:
        self.names = set(names)
        self._refusal = JSON(status, {"error": "slow down"}, {k.replace("_", "-"): v for k, v in headers.items()})

    def __call__(self, request: Request) -> Answer:
        return self._refusal if owner(request) in self.names else Echo()


def states(gateway: Gateway) -> dict[str, str]:
    assert gateway.service is not None
    now = gateway.service.clock.time()
    return {member.record.name: str(member.state(now)) for member in gateway.service.snapshot.pools["p"]}


@pytest.mark.parametrize(
    ("status", "headers"),
    (
        (429, {"retry_after": "600"}),
        (429, {"retry_after": "a date"}),
        (429, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "600"}),
        (429, {"ratelimit": '"default";r=0;t=600'}),
        (503, {"retry_after": "600"}),
        (529, {"retry_after": "600"}),
    ),
)
async def test_the_request_goes_on_with_the_next_account(rig: Rig, status: int, headers: dict[str, str]) -> None:
    """The client sees one 200; the account that was told to pause is left out for as long as it was told."""
    rig.home("alice", "bob")
    if headers == {"retry_after": "a date"}:
        headers = {"retry_after": formatdate(time.time() + 600, usegmt=True)}
    rig.upstream.respond = Limited("alice", status=status, **headers)
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        answers = [await api.post("/x", content=b"body") for _ in range(6)]
        comments = [flow.comment for flow in gateway.finished]
        found = states(addon)

    assert {answer.status_code for answer in answers} == {200}
    assert rig.owners.count("alice") == 1
    assert [request.body for request in rig.upstream.received] == [b"body"] * 7
    assert found == {"alice": "cooling", "bob": "ready"}
    assert sum(comment.endswith("(p/alice: cooldown)") for comment in comments) == 1
    assert rig.posts == 0
    (cooldown,) = rig.account("alice")["cooldowns"]
    told = 600 if "retry_after" not in headers else 300  # no quota says the same: no longer than the pool allows
    assert abs(cooldown["until"] - time.time() - told) < 30


async def test_a_cooldown_is_told_once(rig: Rig) -> None:
    """One line in the log when it begins and one when it ends, however many answers were of its burst."""
    rig.home("alice", "bob")
    limited = rig.upstream.respond = Limited("alice", retry_after="1")
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        await asyncio.gather(*(api.get("/x") for _ in range(12)))
        limited.names.clear()
        await gateway.wait_until(lambda: states(addon)["alice"] == "ready")
        await asyncio.gather(*(api.get("/x") for _ in range(12)))
        began = [m for m in gateway.messages if m.startswith("Account p/alice is cooling until")]
        ended = [m for m in gateway.messages if m == "Account p/alice serves again after a cooldown"]
    assert (len(began), len(ended)) == (1, 1)
    assert began[0].endswith("the upstream answered 429")


@pytest.mark.parametrize("at_once", ("0", "Wed, 01 Jan 2020 00:00:00 GMT"))
async def test_who_refuses_and_says_at_once_is_not_taken_at_its_word(rig: Rig, at_once: str) -> None:
    """`Retry-After: 0` says nothing: the account pauses, longer each time, rather than being asked again and again."""
    rig.home("alice")
    rig.upstream.respond = Limited("alice", retry_after=at_once)
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        answers = [await api.get("/x") for _ in range(10)]
        assert states(addon) == {"alice": "cooling"}
    assert {answer.headers["Retry-After"] for answer in answers} <= {"1", "2"}
    assert len(rig.upstream.received) == 1


async def test_a_503_that_does_not_say_when_is_the_clients(rig: Rig) -> None:
    """It may be about anything, and no account is to blame."""
    rig.home("alice", "bob")
    rig.upstream.respond = Limited("alice", "bob", status=503)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [await api.get("/x") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert all("Authpool-Error" not in answer.headers for answer in answers)


async def test_when_all_are_cooling_the_client_hears_when_to_come_again(rig: Rig) -> None:
    """503 with the earliest Retry-After, from the request that found the last one out and from those after it."""
    rig.home("alice", "bob")
    by_name = {"alice": Limited("alice", retry_after="600"), "bob": Limited("bob", retry_after="60")}
    rig.upstream.respond = lambda request: by_name[owner(request)](request)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [await api.get("/x") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503] * 3
    assert {answer.headers["Authpool-Error"] for answer in answers} == {"pool_exhausted"}
    assert all(55 <= int(answer.headers["Retry-After"]) <= 61 for answer in answers)
    assert all("2 cooling" in answer.json()["detail"] for answer in answers)
    assert len(rig.upstream.received) == 2


async def test_no_request_walks_through_the_whole_pool(rig: Rig) -> None:
    """`max_accounts` in all; then the upstream's own answer is the client's."""
    rig.home(*(f"a{number}" for number in range(6)), gateway={"max_accounts": 2})
    rig.upstream.respond = lambda request: JSON(429, {"mine": True}, {"retry-after": "600"})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/x")
    assert (answer.status_code, answer.json()) == (429, {"mine": True})
    assert len(rig.upstream.received) == 2


async def test_a_pool_may_wait_for_the_first_to_come_back(rig: Rig) -> None:
    """The request is held until the account is back, and goes on with it."""
    rig.home("alice", wait_seconds=20)
    rig.upstream.then(JSON(429, {}, {"retry-after": "1"}))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = await asyncio.gather(*(api.get("/x") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5


async def test_a_request_that_was_tried_on_enough_accounts_may_wait_too(rig: Rig) -> None:
    """Where nobody else could serve it either: it is held, and served by the first that comes back."""
    rig.home("alice", "bob", wait_seconds=20, gateway={"max_accounts": 1})
    rig.upstream.then(*[JSON(429, {}, {"retry-after": "1"})] * 2)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 429  # the other account is there for the client's next request
        assert (await api.get("/x")).status_code == 200


async def test_an_error_of_the_upstreams_own_is_no_proof(rig: Rig) -> None:
    """A 500 to the probe leaves the account to the next one."""
    rig.home("alice", wait_seconds=20)
    rig.upstream.then(JSON(429, {}, {"retry-after": "1"}), JSON(500, {}))
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 500
        assert addon.service is not None
        member = addon.service.snapshot.pools["p"].get(AccountKey.of("p", "alice"))
        assert member is not None
        assert member.throttle is not None
        assert (await api.get("/x")).status_code == 200
        assert member.throttle is None


async def test_a_pool_that_waits_does_not_wait_in_vain(rig: Rig) -> None:
    """When nobody comes back in time, the client hears so at once."""
    rig.home("alice", wait_seconds=20, max_cooldown_seconds=600)
    rig.upstream.respond = Limited("alice", retry_after="600")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        async with asyncio.timeout(10):
            answer = await api.get("/x")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 500


async def test_one_probe_ends_a_cooldown(rig: Rig) -> None:
    """Of many requests that wait for the account's return one goes first, and the others follow when it was served."""
    rig.home("alice", wait_seconds=30)
    served = asyncio.Event()
    rig.upstream.then(JSON(429, {}, {"retry-after": "1"}), Slow(served, Echo()))
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        waiting = [asyncio.create_task(api.get("/x"))]
        await gateway.wait_until(lambda: states(addon) == {"alice": "cooling"})
        waiting += [asyncio.create_task(api.get("/x")) for _ in range(7)]
        await rig.upstream.wait_for_requests(2)
        for _ in range(30):
            await asyncio.sleep(0.01)
        alone = len(rig.upstream.received)
        served.set()
        answers = await asyncio.gather(*waiting)
    assert alone == 2
    assert [answer.status_code for answer in answers] == [200] * 8


async def test_an_answer_too_long_to_be_judged_by_its_body_ends_a_cooldown_too(rig: Rig) -> None:
    """A rule on the body holds an answer back only so far; past that it is the client's, and speaks for the account."""
    rule = {"status": 200, "json": "error.code", "equals": "token_expired", "means": "bad_token"}
    rig.home("alice", wait_seconds=20, answers=[rule])
    rig.upstream.then(JSON(429, {}, {"retry-after": "1"}))
    rig.upstream.respond = lambda request: JSON(200, {"text": "x" * 100_000})
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        assert [(await api.get("/x")).status_code for _ in range(2)] == [200] * 2
        assert "Account p/alice serves again after a cooldown" in gateway.messages


async def test_a_body_that_streams_after_all_still_has_its_kind(rig: Rig) -> None:
    """The account was to be chosen by the body, and there is none: what a header says of the kind holds still."""
    rig.home("alice", "bob", cooldown_by="header:X-Model", rotation={"name": "sticky", "by": "json:user"})
    rig.upstream.respond = Limited("alice", "bob", retry_after="600")
    addon = Gateway()

    class Streams:
        def requestheaders(self, flow: http.HTTPFlow) -> None:
            flow.request.stream = True

    async with reverse_gateway(rig, Streams(), gateway=addon) as gateway, client(gateway.url) as api:
        answer = await api.post("/x", content=b"a body", headers={"X-Model": "large"})
        assert states(addon) == {"alice": "ready", "bob": "ready"}
    assert answer.status_code == 429


async def test_a_cooldown_survives_a_restart(rig: Rig) -> None:
    """The next gateway on the home leaves the account out from its first request."""
    rig.home("alice", "bob")
    rig.upstream.respond = Limited("alice", retry_after="600")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        for _ in range(2):
            await api.get("/x")
    before = len(rig.upstream.received)
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        assert [(await api.get("/x")).status_code for _ in range(4)] == [200] * 4
        assert states(addon) == {"alice": "cooling", "bob": "ready"}
    assert rig.owners[before:] == ["bob"] * 4


async def test_a_cooldown_survives_a_reload_and_a_refresh(rig: Rig) -> None:
    """Neither has anything to do with what the upstream said."""
    rig.home("alice", "bob")
    rig.upstream.respond = Limited("alice", retry_after="600")
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        for _ in range(2):
            await api.get("/x")
        assert addon.service is not None
        alice = AccountKey.of("p", "alice")
        await addon.service.refresher.refresh(await addon.service.store.read(alice), force=True)
        assert states(addon)["alice"] == "cooling"
        await addon.service.reload()
        assert states(addon)["alice"] == "cooling"
        assert {owner for _ in range(3) for owner in [(await api.get("/x")).status_code]} == {200}
    assert rig.owners.count("alice") == 1


@pytest.mark.parametrize("by", ("header:X-Model", "json:model", "path"))
async def test_a_cooldown_may_be_of_one_kind_of_request(rig: Rig, by: str) -> None:
    """An account that is out of one model still serves the other."""
    rig.home("alice", "bob", cooldown_by=by)

    def limited(request: Request) -> Answer:
        asked = f"{request.header('x-model')}{request.body.decode()}{request.target}"
        refused = owner(request) == "alice" and "large" in asked
        return JSON(429, {}, {"retry-after": "600"}) if refused else Echo()

    rig.upstream.respond = limited

    def ask(api: httpx.AsyncClient, model: str) -> Any:
        match by.partition(":")[0]:
            case "header":
                return api.post("/x", content=b"{}", headers={"X-Model": model})
            case "json":
                return api.post("/x", json={"model": model})
        return api.post(f"/{model}", content=b"{}")

    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        large = [await ask(api, "large") for _ in range(4)]
        between = len(rig.upstream.received)
        small = [await ask(api, "small") for _ in range(4)]
        found = states(addon)
    assert {answer.status_code for answer in (*large, *small)} == {200}
    assert rig.owners[:between].count("alice") == 1
    assert sorted(rig.owners[between:]) == ["alice", "alice", "bob", "bob"]
    assert found == {"alice": "ready", "bob": "ready"}


async def test_an_answer_that_streams_cools_as_well(rig: Rig) -> None:
    """It can't be asked again for a body that was not held; the client has the upstream's own answer."""
    rig.home("alice", "bob")
    rig.upstream.respond = Limited("alice", "bob", retry_after="600")
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon, stream_large_bodies="10") as gateway, client(gateway.url) as api:
        answer = await api.post("/x", content=b"more than ten bytes")
        assert sorted(states(addon).values()) == ["cooling", "ready"]
    assert answer.status_code == 429
    assert len(rig.upstream.received) == 1


# --- what an API says in its own way ---------------------------------------------------------------------------------


async def test_an_api_may_say_bad_token_in_its_own_way(rig: Rig) -> None:
    """By 403 and a header, or by 200 and a field of the body: the account is refreshed, the request sent again."""
    rules = [
        {"status": 403, "header": "X-Reason", "equals": "expired", "means": "bad_token"},
        {"status": "2xx", "json": "error.code", "equals": ["token_expired"], "means": "bad_token"},
    ]
    rig.home("alice", answers=rules)
    rig.upstream.then(JSON(403, {}, {"x-reason": "expired"}))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        assert rig.posts == 1
        rig.upstream.then(JSON(200, {"error": {"code": "token_expired"}}))
        answer = await api.get("/x")
    assert answer.status_code == 200
    assert "token_expired" not in answer.text
    assert rig.posts == 2
    assert len(rig.upstream.received) == 4


async def test_forbidden_is_another_accounts_turn(rig: Rig) -> None:
    """Nothing is refreshed, nobody cools; when all of them may not, the client has the upstream's own answer."""
    rig.home("alice", "bob", answers=[{"status": 403, "means": "forbidden"}])
    limited = Limited("alice", status=403)
    rig.upstream.respond = limited
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        assert [(await api.get("/x")).status_code for _ in range(4)] == [200] * 4
        limited.names.add("bob")
        refused = await api.get("/x")
        assert states(addon) == {"alice": "ready", "bob": "ready"}
    assert (refused.status_code, refused.json()) == (403, {"error": "slow down"})
    assert rig.posts == 0


# --- quotas -----------------------------------------------------------------------------------------------------------


async def test_an_account_is_spared_below_its_reserve(rig: Rig) -> None:
    """It is held back on disk with its own reason, and the others serve."""
    rig.home("alice", "bob", quota_reserve=10)
    left = {"alice": 12, "bob": 1000}

    def counted(request: Request) -> Answer:
        left[owner(request)] -= 1
        told = {"x-ratelimit-remaining": str(left[owner(request)]), "x-ratelimit-reset": "600"}
        return JSON(200, {}, told)

    rig.upstream.respond = counted
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        assert {(await api.get("/x")).status_code for _ in range(12)} == {200}
        assert states(addon) == {"alice": "paused", "bob": "ready"}
    assert left["alice"] == 9
    alice = rig.account("alice")
    assert (alice["proxy_disabled"], alice["proxy_disabled_reason"]) == (True, "quota_protection")
    assert abs(alice["proxy_disabled_until"] - time.time() - 600) < 30


async def test_a_spared_account_returns_by_itself(rig: Rig) -> None:
    """At its reset it serves again, and its file says so a moment later."""
    rig.home("alice", quota_reserve="5%")
    rig.upstream.then(JSON(200, {}, {"ratelimit": "limit=100, remaining=4, reset=2"}))
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        await api.get("/x")
        held_back = await api.get("/x")
        await gateway.wait_until(lambda: states(addon) == {"alice": "ready"})
        assert (await api.get("/x")).status_code == 200
        await gateway.wait_until(lambda: rig.account("alice").get("proxy_disabled") is False)
    assert held_back.status_code == 503
    assert 1 <= int(held_back.headers["Retry-After"]) <= 3
    assert "proxy_disabled_until" not in rig.account("alice")


async def test_a_quota_of_nobodys_token_spares_nobody(rig: Rig) -> None:
    """Some APIs count requests with a bad token by their sender's address, and tell what is left of that."""
    rig.home("alice", quota_reserve=10)
    rig.upstream.then(JSON(401, {}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "600"}))
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        assert [(await api.get("/x")).status_code for _ in range(2)] == [200] * 2
        assert states(addon) == {"alice": "ready"}


async def test_what_ended_while_nobody_looked_is_taken_back_in_the_file(rig: Rig) -> None:
    """The reset came while no gateway ran: the file says so a moment after the next start."""
    rig.home("alice")
    over = {"proxy_disabled": True, "proxy_disabled_reason": "quota_protection", "proxy_disabled_until": 1_700_000_000}
    rig.write("alice", **rig.account("alice") | over)
    async with reverse_gateway(rig) as gateway:
        await gateway.wait_until(lambda: rig.account("alice").get("proxy_disabled") is False)


async def test_a_sparing_is_told_by_the_gateway_that_wrote_it(rig: Rig) -> None:
    """Of several on one home that all see the reset, so that the trail has it once."""
    rig.home("alice")
    clock = FakeClock(time.time())
    spared = {"proxy_disabled": True, "proxy_disabled_reason": "quota_protection"}
    rig.write("alice", **rig.account("alice") | spared | {"proxy_disabled_until": int(clock.time()) + 60})
    services = [Service(rig.path, {}, clock=clock) for _ in range(3)]
    for service in services:
        await service.start()
    clock.jump(61)
    for service in services:
        service._limits.take_back(service.snapshot.pools.values())
    for service in services:
        await service.stop()
    assert [entry.event for entry in read_trail(rig.path)] == ["resumed"]
    assert rig.account("alice")["proxy_disabled"] is False


async def test_an_operators_resume_holds_until_the_reset(rig: Rig) -> None:
    """Whoever takes a spared account back knows of its quota: the next answer does not take it out again."""
    rig.home("alice", quota_reserve=10)
    told = {"x-ratelimit-remaining": "3", "x-ratelimit-reset": "600"}
    rig.upstream.respond = lambda request: JSON(200, {}, told)
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        assert states(addon) == {"alice": "paused"}
        assert addon.service is not None
        await gateway.wait_until(lambda: rig.account("alice").get("proxy_disabled"))
        await Operations(addon.service).resume("p/alice")
        assert [(await api.get("/x")).status_code for _ in range(3)] == [200] * 3
        await addon.service.reload()
        assert (await api.get("/x")).status_code == 200
        assert states(addon) == {"alice": "ready"}


async def test_an_operators_pause_is_not_touched_by_a_quota(rig: Rig) -> None:
    """A request that was under way when the operator paused the account tells of an empty quota: the pause stays."""
    rig.home("alice", quota_reserve=10)
    answered = asyncio.Event()
    empty = JSON(200, {}, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"})
    rig.upstream.then(Slow(answered, empty))
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        under_way = asyncio.create_task(api.get("/x"))
        await rig.upstream.wait_for_requests(1)
        assert addon.service is not None
        key = AccountKey.of("p", "alice")
        await addon.service.store.update(key, lambda account: account and account.with_paused(time.time()))
        await gateway.wait_until(lambda: states(addon) == {"alice": "paused"})
        answered.set()
        await under_way
        reset_at = time.time() + 1
        await gateway.wait_until(lambda: time.time() > reset_at)
        assert states(addon) == {"alice": "paused"}
    assert rig.account("alice")["proxy_disabled_reason"] == "manual"
