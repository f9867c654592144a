"""What one path asks for does not take the accounts out: how long a pause may be, and whose it is."""

import asyncio
import time
from typing import Any

import pytest

from authpool.proxy.addon import Gateway
from support.answers import JSON, Echo
from support.exchange import Answer, Request
from support.home import write_configuration
from support.pool_rig import Rig, client, reverse_gateway

pytestmark = pytest.mark.mitmproxy

NAMES = ("a", "b", "c", "d", "e", "f")


class Paths:
    """An upstream that tells everybody to pause who asks for some paths; all of them: `/`."""

    def __init__(self, *paths: str, **headers: str) -> None:
        self.paths = paths
        self._refusal = JSON(429, {"error": "slow down"}, {k.replace("_", "-"): v for k, v in headers.items()})

    def __call__(self, request: Request) -> Answer:
        return self._refusal if request.path.startswith(self.paths) else Echo()


def states(gateway: Gateway) -> list[str]:
    assert gateway.service is not None
    now = gateway.service.clock.time()
    return [str(member.state(now)) for member in gateway.service.snapshot.pools["p"]]


def cooldowns(rig: Rig, names: tuple[str, ...] = NAMES) -> list[dict[str, Any]]:
    return [one for name in names for one in rig.account(name).get("cooldowns", [])]


@pytest.mark.parametrize(
    ("headers", "pool", "longest"),
    (
        ({"retry_after": "3600"}, {}, 300),
        ({"retry_after": "99999999"}, {}, 300),
        ({"retry_after": "Wed, 01 Jan 2098 00:00:00 GMT"}, {}, 300),
        ({"retry_after": "3600"}, {"max_cooldown_seconds": 20}, 20),
        ({"retry_after": "3600"}, {"max_cooldown_seconds": 3600}, 3600),
        ({"retry_after": "3600", "x_ratelimit_remaining": "0", "x_ratelimit_reset": "3600"}, {}, 3600),
        ({"retry_after": "7200", "x_ratelimit_remaining": "0", "x_ratelimit_reset": "3600"}, {}, 3602),
        ({"retry_after": "3600", "x_ratelimit_remaining": "5", "x_ratelimit_reset": "3600"}, {}, 300),
        ({"retry_after": "3600", "x_ratelimit_remaining": "0", "x_ratelimit_reset": "60"}, {}, 300),
        ({}, {"max_cooldown_seconds": 1}, 1),
    ),
)
async def test_how_long_a_pause_may_be(rig: Rig, headers: dict[str, str], pool: dict[str, int], longest: int) -> None:
    """As long as the pool allows; or until the quota counts anew, by the answer's own fields."""
    rig.home("alice", **pool)
    rig.upstream.respond = Paths("/", **headers)
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        await api.get("/x")
        assert addon.service is not None
        (member,) = addon.service.snapshot.pools["p"]
        assert member.throttle is not None
        ahead = member.throttle.until - time.time()
    assert longest - 30 < ahead <= longest
    assert all(one["until"] <= time.time() + longest + 1 for one in cooldowns(rig, ("alice",)))


async def test_one_path_can_not_take_the_accounts_out(rig: Rig) -> None:
    """Two requests have told all six to pause: another path is served all the same, and only the one path rests."""
    rig.home(*NAMES)
    rig.upstream.respond = Paths("/bad", retry_after="3600")
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        bad = [(await api.get("/bad?x=1")).status_code for _ in range(2)]
        assert states(addon) == ["cooling"] * 6
        good = [(await api.get(f"/good/{n}")).status_code for n in range(7)]
        found = states(addon)
        asked = len(rig.upstream.received)
        rests = await api.get("/bad")
        assert len(rig.upstream.received) == asked
        told = [message for message in gateway.messages if "the pause is that path's" in message]
    assert 200 not in bad
    assert good == [200] * 7
    assert found == ["ready"] * 6
    assert (rests.status_code, rests.headers["Authpool-Error"]) == (503, "pool_exhausted")
    assert 0 < int(rests.headers["Retry-After"]) <= 300
    assert len(told) == 1
    assert "/bad serve others" in told[0]
    assert {one["key"].partition(":")[0] for one in cooldowns(rig)} == {"path sha256"}


async def test_it_is_known_after_a_restart_and_a_reload(rig: Rig) -> None:
    """On disk it is the path's as well."""
    home = rig.home(*NAMES)
    rig.upstream.respond = Paths("/bad", retry_after="3600")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        for path in ("/bad", "/bad", "/good"):
            await api.get(path)
    addon = Gateway()
    asked = len(rig.upstream.received)
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        assert states(addon) == ["ready"] * 6
        assert (await api.get("/bad")).status_code == 503
        write_configuration(home, pools={"p": rig.pool(wait_seconds=0)})
        assert addon.service is not None
        await addon.service.reload()
        assert (await api.get("/bad")).status_code == 503
        assert len(rig.upstream.received) == asked
        assert (await api.get("/good")).status_code == 200


async def test_accounts_that_pause_for_all_paths_pause(rig: Rig) -> None:
    """One request for another path finds out, and then nobody is asked: nor for a third path."""
    rig.home(*NAMES)
    rig.upstream.respond = Paths("/", retry_after="60")
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        for _ in range(2):
            await api.get("/bad")
        first = len(rig.upstream.received)
        others = [(await api.get(f"/other/{n}")).status_code for n in range(5)]
        assert states(addon) == ["cooling"] * 6
    assert first == 6
    assert len(rig.upstream.received) == first + 1
    assert set(others) == {503}


async def test_the_same_path_is_not_asked_again(rig: Rig) -> None:
    """A pool of one path rests as a whole, as ever."""
    rig.home("a", "b")
    rig.upstream.respond = Paths("/bad", retry_after="60")
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        statuses = [(await api.get("/bad")).status_code for _ in range(5)]
        assert states(addon) == ["cooling"] * 2
    assert len(rig.upstream.received) == 2
    assert set(statuses) == {503}


async def test_many_at_once_find_out_with_one_try_each(rig: Rig) -> None:
    """While it is being found out whose the pause is, no account is asked twice."""
    rig.home(*NAMES)
    upstream = rig.upstream.respond = Paths("/", retry_after="60")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        for _ in range(2):
            await api.get("/bad")
        await asyncio.gather(*(api.get("/other") for _ in range(20)))
        assert len(rig.upstream.received) <= 12
        upstream.paths = ("/bad",)
        assert (await api.get("/other")).status_code == 503  # they pause, for all that is known


async def test_kinds_of_requests_have_their_own(rig: Rig) -> None:
    """Cooldowns are counted by model, and one path asks for a pause whatever the model is."""
    rig.home("a", "b", cooldown_by="header:X-Model")
    rig.upstream.respond = Paths("/bad", retry_after="3600")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        found = [
            (await api.get(path, headers={"X-Model": "large"})).status_code
            for path in ("/bad", "/good", "/bad", "/good")
        ]
    assert found == [503, 200, 503, 200]


async def test_the_path_is_tried_again_when_its_time_has_come(rig: Rig) -> None:
    """Served, it is as any other."""
    rig.home("a", "b", max_cooldown_seconds=1)
    upstream = rig.upstream.respond = Paths("/bad", retry_after="3600")
    addon = Gateway()
    async with reverse_gateway(rig, gateway=addon) as gateway, client(gateway.url) as api:
        for path in ("/bad", "/good"):
            await api.get(path)
        upstream.paths = ("/none",)
        async with asyncio.timeout(20):
            while (await api.get("/bad")).status_code != 200:
                await asyncio.sleep(0.05)
        assert states(addon) == ["ready"] * 2
