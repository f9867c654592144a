"""What an upstream's refusal of a token does to its account: the account at fault is out, the others serve on."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from authpool.accounts.account import AccountKey
from authpool.accounts.events import AccountEvent
from authpool.accounts.standing import TOKEN_REFUSED
from authpool.gateway.service import Service
from authpool.pool.lane import LONGEST_SECONDS
from authpool.pool.pool import Member, Pool, State
from authpool.pool.refused_token import CURE_SECONDS, SEVERAL_PATHS, Refusals, RefusedToken
from authpool.proxy.addon import Gateway
from authpool.rotation.rotation import RotationRequest
from authpool.verbs.account_rows import live_rows
from authpool.verbs.operations import Operations
from authpool.verbs.sources import Credential
from support.answers import JSON, Echo
from support.asked import Upstream as Answers
from support.asked import answered, ask, sent
from support.clock import FakeClock
from support.exchange import Answer, Request
from support.pool_rig import Rig, client, reverse_gateway
from support.token_endpoint import refused_url

NAMES = ("a", "b", "c", "d", "e")
STATIC = {"type": "static", "token_url": None, "client_id": None, "client_secret": None}


def owner_of(token: str) -> str:
    return token.rpartition("-of-")[2]


def refuses(*names: str) -> Answers:
    """An upstream that takes no token of these accounts."""
    return lambda token, _path: 401 if owner_of(token) in names else 200


def admin_is_refused(token: str, path: str) -> int:
    """An upstream that lets nobody do one thing, and everybody everything else."""
    return 401 if path.startswith("/admin") else 200


@pytest.fixture
def turned() -> FakeClock:
    """A clock that says now, for tokens of the rig live by the wall clock."""
    return FakeClock(now=time.time())


@pytest.fixture
async def start(rig: Rig, turned: FakeClock) -> AsyncIterator[Callable[[], Any]]:
    services: list[Service] = []

    async def started() -> Service:
        service = Service(rig.path, {}, clock=turned)
        services.append(service)
        await service.start()
        return service

    yield started
    for service in services:
        await service.stop()


def pool_of(service: Service) -> Pool:
    return service.snapshot.pools["p"]


def member(service: Service, name: str) -> Member:
    found = pool_of(service).get(AccountKey.of("p", name))
    assert found is not None
    return found


def states(service: Service) -> dict[str, str]:
    now = service.clock.time()
    return {one.record.name: str(one.state(now)) for one in pool_of(service)}


async def written(rig: Rig, service: Service) -> None:
    """Wait until what a service knows of limits is in its store."""
    await service._limits.aclose()


async def cooled(service: Service, turned: FakeClock, *names: str, strikes: int = 3) -> None:
    """Let accounts be refused, at each of their probes, until they have cooled so often, and are cooling."""
    for _ in range(1000):
        throttles = [member(service, name).throttle for name in names]
        if all(one and one.strikes >= strikes and one.blocks(turned.time()) for one in throttles):
            return
        for _ in pool_of(service):
            await ask(service, refuses(*names))
        if all(one and one.blocks(turned.time()) for one in throttles):
            await turned.advance(0.5)
    raise AssertionError(states(service))


# --- the account is at fault ----------------------------------------------------------------------------------------


@pytest.mark.mitmproxy
@pytest.mark.parametrize("kind", ("refreshed", "static", "403 by rule"))
async def test_accounts_that_an_upstream_refuses_leave_the_rotation(rig: Rig, kind: str) -> None:
    """Four of five are refused whatever token they have: after a few requests the fifth serves them all."""
    good = "e"
    if kind == "static":
        rig.home(**STATIC)
        for name in NAMES:
            rig.write(name, token={"access_token": f"secret-of-{name}"})
        rig.upstream.accept({f"secret-of-{good}"})
    else:
        rules = [{"status": 403, "means": "bad_token"}]
        rig.home(*NAMES, **({"answers": rules} if kind == "403 by rule" else {}))
        rig.upstream.accept(_OwnedBy(good))
    if kind == "403 by rule":
        rig.upstream.refusal = JSON(403, {"error": "forbidden"})
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        statuses = [(await api.get("/x")).status_code for _ in range(50)]
        assert addon.service is not None
        found = states(addon.service)
        reasons = {row.reason for row in live_rows(addon.service) if row.state is State.COOLING}
        said = [m for m in gateway.messages if m.startswith("Account p/a is cooling until")]

    assert Counter(statuses)[200] >= 46
    assert set(statuses[4:]) == {200}
    assert found[good] == "ready"
    assert reasons == {TOKEN_REFUSED} or not reasons  # each may be waiting for its probe just now
    assert said
    assert said[0].endswith(TOKEN_REFUSED)


async def test_it_is_told_once_as_an_event(rig: Rig, start: Any) -> None:
    """To plugins; of a burst of refusals as well."""
    rig.home("a", "b")
    service = await start()
    events: list[AccountEvent] = []
    service.plugins.notify = events.append  # type: ignore[method-assign]
    holding = [await sent(service) for _ in range(10)]
    await asyncio.gather(*(answered(service, one, refuses("a")) for one in holding))
    assert [(event.kind, event.account.name, event.reason) for event in events if event.kind == "cooled"] == [
        ("cooled", "a", TOKEN_REFUSED)
    ]


class _OwnedBy:
    """The tokens of one account."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def __contains__(self, token: object) -> bool:
        return owner_of(str(token)) == self._owner


async def test_its_cooldown_grows_and_is_capped(rig: Rig, start: Any, turned: FakeClock) -> None:
    """Each probe that is refused doubles it; a fresh token is fetched once a minute for that, and no more."""
    rig.home("a")
    service = await start()
    waits = []
    for _ in range(12):
        began = turned.time()
        await ask(service, refuses("a"))
        waits.append(member(service, "a").cooling(turned.time())[0] - began)
        await turned.advance(waits[-1] + 0.01)

    assert waits[0] < waits[2] < waits[4]
    assert waits[-1] == pytest.approx(LONGEST_SECONDS, rel=0.26)
    assert rig.posts <= 1 + sum(waits) / CURE_SECONDS


async def test_it_is_probed_by_one_request_at_a_time(rig: Rig, start: Any, turned: FakeClock) -> None:
    """When its time is over one request finds out, and the others have the account that serves."""
    rig.home("a", "b")
    service = await start()
    for _ in range(2):
        assert await ask(service, refuses("a")) == 200
    await turned.advance(2)
    holding = [await sent(service) for _ in range(10)]
    names = Counter(owner_of(one.access_token) for one in holding)
    assert names == {"a": 1, "b": 9}
    assert {await answered(service, one, lambda _token, _path: 200) for one in holding} == {200}
    assert states(service) == {"a": "ready", "b": "ready"}


async def test_a_request_meets_one_account_on_probation(rig: Rig, start: Any, turned: FakeClock) -> None:
    """Four are due for their probe at once: who meets one that is refused goes on with the one that serves."""
    rig.home(*NAMES)
    service = await start()
    statuses = [await ask(service, refuses("a", "b", "c", "d")) for _ in range(10)]
    for _ in range(5):
        await turned.advance(LONGEST_SECONDS)
        statuses += [await ask(service, refuses("a", "b", "c", "d")) for _ in range(10)]
    assert statuses.count(401) <= 1


async def test_a_burst_counts_once(rig: Rig, start: Any, turned: FakeClock) -> None:
    """Fifty requests under way when a token dies at the API: one refresh, one cooldown, its first."""
    rig.home("a", "b")
    service = await start()
    holding = [await sent(service) for _ in range(50)]
    assert set(await asyncio.gather(*(answered(service, one, refuses("a")) for one in holding))) == {200}
    throttle = member(service, "a").throttle
    assert throttle is not None
    assert throttle.strikes == 1
    assert rig.posts == 1


async def test_who_served_before_is_cooled_when_another_serves_the_same(rig: Rig, start: Any) -> None:
    """Revoked at the API, while its refresh token works."""
    rig.home("a", "b")
    service = await start()
    for _ in range(4):
        await ask(service, refuses())
    for _ in range(2):
        assert await ask(service, refuses("a")) == 200
    assert states(service) == {"a": "cooling", "b": "ready"}


async def test_all_revoked_at_the_api_are_told(rig: Rig, start: Any, turned: FakeClock) -> None:
    """Fresh tokens, and not one is taken for what was served a moment ago: nobody is ready."""
    rig.home("a", "b")
    service = await start()
    for _ in range(4):
        assert await ask(service, refuses()) == 200
    for _ in range(3):
        await turned.advance(0.01)
        assert await ask(service, refuses("a", "b")) != 200
    assert states(service) == {"a": "cooling", "b": "cooling"}
    assert not pool_of(service).serves()


async def test_a_stream_that_is_refused_speaks_against_the_account_too(rig: Rig, start: Any) -> None:
    """It can't be sent again; but its account is refreshed, and cooled when that token is refused."""
    rig.home("a")
    service = await start()
    for _ in range(2):
        taken = await sent(service)
        refused = taken.refused_token()
        assert refused is not None
        service.picker.release(taken)
        await service.failover.replace(refused)
    assert rig.posts == 1
    assert states(service) == {"a": "cooling"}


# --- the request is at fault ----------------------------------------------------------------------------------------


@pytest.mark.mitmproxy
@pytest.mark.parametrize("names", (("a",), NAMES), ids=("one", "several"))
@pytest.mark.parametrize("kind", ("refresh_token", "static"))
@pytest.mark.parametrize("served_first", (True, False))
async def test_what_everybody_is_refused_benches_nobody(
    rig: Rig, names: tuple[str, ...], kind: str, *, served_first: bool
) -> None:
    """`/admin` is refused to every token, `/x` is served: a loop of one never fails the other."""
    rig.home(*([] if kind == "static" else names), **(STATIC if kind == "static" else {}))
    for name in names if kind == "static" else ():
        rig.write(name, token={"access_token": f"secret-of-{name}"})
    rig.upstream.accept(_All())
    rig.upstream.respond = _only_x
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        good = [(await api.get("/x")).status_code for _ in range(10 if served_first else 0)]
        for _ in range(30):
            await api.get("/admin")
        good += list(await asyncio.gather(*(_status(api, "/x") for _ in range(20))))
        for _ in range(5):
            await api.get("/admin")
            good.append((await api.get("/x")).status_code)
        assert addon.service is not None
        found = states(addon.service)

    assert set(good) == {200}
    assert rig.posts <= 2 * len(names)
    if served_first:
        assert set(found.values()) == {"ready"}


async def _status(api: Any, path: str) -> int:
    return int((await api.get(path)).status_code)


class _All:
    def __contains__(self, token: object) -> bool:
        return token is not None


def _only_x(request: Request) -> Answer:
    return Echo() if request.target == "/x" else JSON(401, {"error": "insufficient"})


async def test_several_paths_in_a_row_speak_against_the_account(rig: Rig, start: Any, turned: FakeClock) -> None:
    """One path may be refused for ever; but not everything that is asked for."""
    rig.home("a")
    service = await start()
    await ask(service, refuses())
    for number in range(SEVERAL_PATHS):
        assert states(service) == {"a": "ready"}
        await turned.advance(0.1)
        await ask(service, refuses("a"), f"/other/{number}?q={number}")
    assert states(service) == {"a": "cooling"}
    assert await ask(service, refuses(), "/x") == 200  # and what it is known to serve, it may be asked for all the same
    assert states(service) == {"a": "ready"}


async def test_a_refusal_now_and_then_is_nobodys_fault(rig: Rig, start: Any, turned: FakeClock) -> None:
    """What it is asked for decides, and it serves all others in between."""
    rig.home("a")
    service = await start()
    for number in range(50):
        await turned.advance(0.1)
        assert await ask(service, admin_is_refused) == 200
        assert await ask(service, admin_is_refused, f"/admin/{number}") == 401
        assert states(service) == {"a": "ready"}
    assert rig.posts <= 2


# --- a 401 is worth a refresh, now and then -------------------------------------------------------------------------


async def test_the_refusals_of_one_request_do_not_keep_another_from_being_mended(
    rig: Rig, start: Any, turned: FakeClock
) -> None:
    """GET /admin once; then the token is revoked at the API while requests go on: mended within a minute."""
    rig.home("a")
    service = await start()

    def api(token: str, path: str) -> int:
        return 401 if path == "/admin" or token not in rig.provider else 200

    assert await ask(service, api) == 200
    assert await ask(service, api, "/admin") == 401
    rig.provider.expire("a")
    began, seconds = turned.time(), []
    for _ in range(240):
        await turned.advance(0.5)
        if await ask(service, api) == 200:
            seconds.append(turned.time() - began)
    assert seconds
    assert seconds[0] <= CURE_SECONDS
    assert len(seconds) == 240 - 2 * seconds[0] + 1
    assert rig.posts == 2


async def test_refreshes_for_the_sake_of_401s_are_rare(rig: Rig, start: Any, turned: FakeClock) -> None:
    """One a minute, and one more where the fresh token served; however the requests are mixed."""
    rig.home("a")
    service = await start()
    for second in range(600):
        await turned.advance(1)
        await ask(service, admin_is_refused, "/admin" if second % 3 else "/x")
    assert rig.posts <= 2 * (600 / CURE_SECONDS) + 1


@pytest.mark.parametrize("served", (False, True))
def test_evidence_does_not_renew_itself(*, served: bool) -> None:
    """The minute is counted from the refresh, whatever is refused meanwhile."""
    refusals = Refusals()
    assert refusals.may_refresh(0)
    refusals.refreshed(2, 0.0)
    refusals.refreshed(2, 1.0)  # told by another request of the same burst
    if served:
        refusals.served()
    for second in range(59):
        refused = RefusedToken(pool="p", key=AccountKey("p", "a"), access_token="t", request=_GET, sent_at=second)
        refusals.refused(refused, second)
        assert refusals.may_refresh(second) is served
    assert refusals.may_refresh(60)
    refusals.refreshed(3, 59.0)
    refusals.served()
    assert not refusals.may_refresh(59.5)


_GET = RotationRequest(method="GET", host="h", path="/")


# --- refused, and no new token --------------------------------------------------------------------------------------


async def test_in_a_total_outage_nobody_is_ready(rig: Rig, start: Any, turned: FakeClock) -> None:
    """All revoked: three are disabled, the rest are a storm; their tokens are not live, whatever expires_at says."""
    rig.home(*NAMES)
    service = await start()
    for name in NAMES:
        rig.provider.revoke(name)
    for _ in range(6):
        assert await ask(service, lambda token, _path: 200 if token in rig.provider else 401) in {502, 503}
    found = Counter(states(service).values())
    assert found["ready"] == 0
    assert found["cooling"] >= 1
    assert not service.readiness.of(service.snapshot.config.pools["p"]).can_serve
    assert not pool_of(service).serves()
    assert all(row.reason for row in live_rows(service))


@pytest.mark.parametrize("cause", ("down", "client rejected"))
async def test_a_refused_token_without_a_newer_one_is_not_live(
    rig: Rig, start: Any, turned: FakeClock, cause: str
) -> None:
    """The account cools, with a reason; and when a refresh succeeds it serves at once."""
    rig.home("a")
    service = await start()
    script = rig.endpoint.script
    rig.endpoint.script = lambda *_: JSON(503 if cause == "down" else 401, {"error": "invalid_client"})
    rig.provider.expire("a")
    answers = [await ask(service, lambda token, _path: 200 if token in rig.provider else 401) for _ in range(3)]
    assert set(answers) == {502}
    (row,) = live_rows(service)
    assert row.state is State.COOLING
    assert row.reason
    assert not member(service, "a").live(turned.time())
    rig.endpoint.script = script
    service.refresher.forget_faults()
    await service.refresher.refresh(member(service, "a").account, force=True)
    assert states(service) == {"a": "ready"}
    assert await ask(service, lambda token, _path: 200 if token in rig.provider else 401) == 200


async def test_the_keeper_fetches_a_token_for_who_was_refused(rig: Rig, start: Any, turned: FakeClock) -> None:
    """No request has to be lost on it: the account is refreshed as if its token had expired."""
    rig.home("a")
    service = await start()
    script = rig.endpoint.script
    rig.endpoint.script = lambda *_: JSON(503, {"error": "down"})
    rig.provider.expire("a")
    await ask(service, lambda token, _path: 200 if token in rig.provider else 401)
    assert states(service) == {"a": "cooling"}
    rig.endpoint.script = script
    async with asyncio.timeout(30):
        while states(service) != {"a": "ready"}:
            await turned.advance(1)
            await asyncio.sleep(0.01)
    assert rig.posts >= 2


async def test_a_success_of_a_request_in_flight_takes_it_back(rig: Rig, start: Any) -> None:
    """The upstream has second thoughts: the token is live after all."""
    with refused_url() as nowhere:
        rig.home("a", token_url=nowhere)
        service = await start()
        slow = await sent(service)
        await ask(service, refuses("a"))
        assert states(service) == {"a": "cooling"}
        assert not member(service, "a").serves(service.clock.time())
        assert await answered(service, slow, refuses()) == 200
        assert states(service) == {"a": "ready"}
        assert member(service, "a").serves(service.clock.time())


async def test_a_refused_token_is_tried_again_when_there_is_nothing_else(
    rig: Rig, start: Any, turned: FakeClock
) -> None:
    """The endpoint stays down, and the upstream was wrong for a moment: its tokens serve again."""
    with refused_url() as nowhere:
        rig.home("a", "b", token_url=nowhere)
        service = await start()
        for _ in range(3):
            await ask(service, refuses("a", "b"))
        assert set(states(service).values()) == {"cooling"}
        await turned.advance(LONGEST_SECONDS)
        assert [await ask(service, refuses()) for _ in range(4)] == [200] * 4


async def test_one_odd_request_does_not_bench_accounts_while_the_endpoint_is_down(rig: Rig, start: Any) -> None:
    """`/admin` is refused, no refresh works: what serves serves on."""
    with refused_url() as nowhere:
        rig.home("a", "b", token_url=nowhere)
        service = await start()
        for _ in range(4):
            assert await ask(service, admin_is_refused) == 200
        for _ in range(20):
            await ask(service, admin_is_refused, "/admin")
        assert set(states(service).values()) == {"ready"}
        assert await ask(service, admin_is_refused) == 200


async def test_when_nobody_could_serve_and_one_is_back_the_others_are_probed(
    rig: Rig, start: Any, turned: FakeClock
) -> None:
    """The upstream refused everybody for some minutes: its end is found out once, not by each account in its time."""
    rig.home("a", "b", "c")
    service = await start()
    await ask(service, refuses())
    await cooled(service, turned, "a", "b", "c", strikes=4)
    while "ready" not in states(service).values():
        await turned.advance(1)
        await ask(service, refuses())
    for _ in range(3):
        assert await ask(service, refuses()) == 200
    assert set(states(service).values()) == {"ready"}


async def test_whoever_resumes_an_account_means_it_to_serve(rig: Rig, start: Any, turned: FakeClock) -> None:
    """As with any cooldown."""
    rig.home("a", "b")
    service = await start()
    await cooled(service, turned, "a")
    await written(rig, service)
    await service.catch_up()
    assert states(service)["a"] == "cooling"
    await Operations(service).resume("p/a")
    assert states(service) == {"a": "ready", "b": "ready"}


async def test_a_success_takes_it_back_in_the_store_too(rig: Rig, start: Any, turned: FakeClock) -> None:
    """Before this gateway has seen its own writing."""
    rig.home("a", "b")
    service = await start()
    await cooled(service, turned, "a")
    await turned.advance(LONGEST_SECONDS)
    slow = [await sent(service) for _ in range(2)]
    for _ in range(2):
        await ask(service, refuses("a"))
    assert {await answered(service, one, refuses()) for one in slow} == {200}
    await written(rig, service)
    await service.catch_up()
    assert states(service) == {"a": "ready", "b": "ready"}
    assert not rig.account("a").get("cooldowns")


# --- neighbours -----------------------------------------------------------------------------------------------------


async def test_a_reload_keeps_what_is_known(rig: Rig, start: Any, turned: FakeClock) -> None:
    """The cooldown, how often it struck, and the token that is not live."""
    rig.home("a", "b")
    service = await start()
    await cooled(service, turned, "a")
    before = member(service, "a").throttle
    assert before is not None
    assert before.strikes > 1
    await service.reload()
    after = member(service, "a").throttle
    assert after is not None
    assert (after.until, after.strikes, after.reason) == (before.until, before.strikes, before.reason)
    assert states(service) == {"a": "cooling", "b": "ready"}


async def test_other_gateways_learn_of_it_and_of_its_end(rig: Rig, start: Any, turned: FakeClock) -> None:
    """Written like any cooldown, and taken out when the account serves again."""
    rig.home("a", "b")
    one, other = await start(), await start()
    await cooled(one, turned, "a")
    await written(rig, one)
    assert rig.account("a")["cooldowns"][0]["reason"] == TOKEN_REFUSED
    await other.catch_up()
    assert states(other)["a"] == "cooling"
    await turned.advance(LONGEST_SECONDS)
    for _ in range(4):
        await ask(one, refuses())
    await written(rig, one)
    assert not [c for c in rig.account("a").get("cooldowns", []) if c["until"] > turned.time()]


@pytest.mark.parametrize("how", ("add", "by hand", "static"))
async def test_a_new_credential_is_given_a_chance(rig: Rig, start: Any, turned: FakeClock, how: str) -> None:
    """What was refused to the one before says nothing about it."""
    rig.home(*([] if how == "static" else ["a", "b"]), **(STATIC if how == "static" else {}))
    for name in ("a", "b") if how == "static" else ():
        rig.write(name, token={"access_token": f"secret-of-{name}"})
    service = await start()
    await cooled(service, turned, "a")
    await written(rig, service)
    await service.catch_up()
    assert states(service)["a"] == "cooling"
    if how == "add":
        await Operations(service).add("p", Credential(refresh_token=rig.provider.issue("a")["refresh_token"]), "a")
    else:
        document = rig.account("a")
        new = {"access_token": "other-of-a"} if how == "static" else rig.token("a")
        rig.write("a", **document | {"token": new})
        await service.catch_up()
    assert states(service) == {"a": "ready", "b": "ready"}
