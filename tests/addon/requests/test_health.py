"""What the gateway tells of its own health, pure and through a real mitmproxy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from authpool.pool.pool import State
from authpool.proxy.addon import Gateway
from authpool.requests.health import PoolHealth, Probe, probe_at, readiness
from support.gateway import RunningGateway, dump_master
from support.home import make_home, token_table, write_account
from support.rotating_provider import RotatingProvider
from support.token_endpoint import ScriptedTokenEndpoint
from support.upstream import Upstream

HEALTH = "http://authpool.internal/health"


def pool(can_serve: bool = True, **more: Any) -> PoolHealth:  # noqa: FBT001, FBT002
    return PoolHealth(can_serve=can_serve, counts={State.READY: 1} | more.pop("counts", {}), **more)


@pytest.mark.parametrize("probe", ("health", "ready"))
@pytest.mark.parametrize(
    ("pools", "status", "word"),
    (
        ({}, 200, "ok"),
        ({"a": pool()}, 200, "ok"),
        ({"a": pool(), "b": pool(can_serve=False)}, 503, "unavailable"),
    ),
)
def test_every_pool_must_be_able_to_serve(
    probe: Probe, pools: Mapping[str, PoolHealth], status: int, word: str
) -> None:
    """200 only while each pool has an account that can serve; which pool has none is told either way."""
    answer = readiness(probe, pools)
    assert (answer.status, answer.document["status"]) == (status, word)
    told = answer.document["pools"]
    assert isinstance(told, dict)
    assert {name: one["can_serve"] for name, one in told.items()} == {n: p.can_serve for n, p in pools.items()}


def test_health_tells_the_states_and_what_ails_a_pool() -> None:
    """Its accounts count as what they are; a probe of readiness is told less."""
    sick = pool(can_serve=False, counts={State.COOLING: 2, State.PAUSED: 0}, client_rejected=True, endpoint_down=True)
    ailments = {"can_serve": False, "client": "rejected", "token_endpoint": "down"}
    assert readiness("health", {"a": sick}).document["pools"] == {"a": ailments | {"ready": 1, "cooling": 2}}
    assert readiness("ready", {"a": sick}).document["pools"] == {"a": ailments}


@pytest.mark.parametrize(
    ("target", "health_path", "probe"),
    (
        ("/health", None, "health"),
        ("/live?x=/ready", None, "live"),
        ("/ready?pool=p", None, "ready"),
        ("/", None, None),
        ("/ready/", None, None),
        ("/h", "/h", "health"),
        ("/h/ready", "/h", "ready"),
        ("/h/live?x", "/h", "live"),
        ("/h/ready", "/h/", "ready"),
        ("/h/", "/h/", "health"),
        ("/ready", "/h", None),
        ("/h/health", "/h", None),
        ("/hready", "/h", None),
        ("/ready", "/", "ready"),
    ),
)
def test_what_a_path_asks_for(target: str, health_path: str | None, probe: str | None) -> None:
    """Without its query; in reverse mode the two others are beneath the configured path."""
    assert probe_at(target, health_path) == probe


@pytest.fixture
def home(tmp_path: Path, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint, upstream: Upstream) -> Path:
    """One pool whose alice is ready, and whose bob is disabled."""
    upstream.accept(rotating)
    accounts: dict[str, Any] = {f"p/{name}": {"token": token_table(rotating.issue(name))} for name in ("alice", "bob")}
    accounts["p/bob"] |= {"disabled": True, "disabled_reason": "invalid_grant: x"}
    pool = {"token_url": token_endpoint.url, "client_id": "client", "hosts": [upstream.authority]}
    settings = {"health_path": "/authpool/health"}
    return make_home(tmp_path, pools={"p": pool}, accounts=accounts, gateway=settings)


def through(gateway: RunningGateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(proxy=gateway.url, trust_env=False)


def directly(gateway: RunningGateway) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=gateway.url, trust_env=False)


def pause_alice(home: Path, rotating: RotatingProvider) -> None:
    token = token_table(rotating.issue("alice"))
    write_account(home, "p/alice", {"token": token, "proxy_disabled": True})


@pytest.mark.mitmproxy
@pytest.mark.parametrize("strategy", ("eager", "lazy"))
async def test_through_the_proxy(
    home: Path, confdir: Path, upstream: Upstream, rotating: RotatingProvider, strategy: str
) -> None:
    """The gateway answers by itself: counts and no names, 200 until the last account stops serving, then 503."""
    gateway = dump_master(Gateway(), home=home, confdir=confdir, connection_strategy=strategy)
    async with gateway as running, through(running) as client:
        healthy = await client.get(HEALTH)
        assert healthy.status_code == 200
        assert healthy.headers["cache-control"] == "no-store"
        assert healthy.headers["content-type"] == "application/json"
        assert healthy.json() == {
            "status": "ok",
            "pools": {"p": {"can_serve": True, "ready": 1, "disabled": 1}},
        }
        pause_alice(home, rotating)
        await running.wait_until(lambda: "Pool p reloaded: 0 ready, 1 paused, 1 disabled" in running.messages)
        sick = await client.get(HEALTH)
        assert sick.status_code == 503
        assert sick.json() == {
            "status": "unavailable",
            "pools": {"p": {"can_serve": False, "ready": 0, "paused": 1, "disabled": 1}},
        }
        assert "alice" not in healthy.text + sick.text
        assert upstream.received == []
        assert all(flow.server_conn.timestamp_start is None for flow in running.finished)


@pytest.mark.mitmproxy
async def test_the_name_is_the_gateways_alone(home: Path, confdir: Path) -> None:
    """However the host is spelt, whatever the path, port and body: answered here, 404 but for the one path."""
    async with dump_master(Gateway(), home=home, confdir=confdir) as running, through(running) as client:
        for url in ("http://AuthPool.Internal/health", "http://authpool.internal./health?verbose", f"{HEALTH}?x=/"):
            assert (await client.get(url)).status_code == 200
        assert (await client.head(HEALTH)).status_code == 200
        assert (await client.post(HEALTH, content=b"x" * 100_000)).status_code == 200
        for url in ("http://authpool.internal/", f"{HEALTH}/", "http://authpool.internal:81/authpool/health"):
            answer = await client.get(url)
            assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
            assert set(answer.json()) == {"error"}
        assert all(flow.server_conn.timestamp_start is None for flow in running.finished)


@pytest.mark.mitmproxy
async def test_in_reverse_mode(home: Path, confdir: Path, upstream: Upstream, rotating: RotatingProvider) -> None:
    """There the client can name no host: the configured path answers, and every other goes upstream."""
    mode = f"reverse:{upstream.url}"
    async with dump_master(Gateway(), home=home, confdir=confdir, mode=mode) as running, directly(running) as client:
        healthy = await client.get("/authpool/health?x")
        assert (healthy.status_code, healthy.json()["status"]) == (200, "ok")
        pause_alice(home, rotating)
        await running.wait_until(lambda: "Pool p reloaded: 0 ready, 1 paused, 1 disabled" in running.messages)
        assert (await client.get("/authpool/health")).status_code == 503
        assert upstream.received == []
        assert (await client.get("/health")).headers["authpool-error"] == "pool_exhausted"


@pytest.mark.mitmproxy
async def test_the_path_means_nothing_elsewhere(home: Path, confdir: Path, upstream: Upstream) -> None:
    """As a proxy, and in reverse mode where none is configured, the upstream's own path stays the upstream's."""
    async with dump_master(Gateway(), home=home, confdir=confdir) as running, through(running) as client:
        assert (await client.get(f"{upstream.url}/authpool/health")).status_code == 200
    assert [request.path for request in upstream.received] == ["/authpool/health"]
    path = home / "authpool.toml"
    path.write_text(path.read_text().replace("health_path", "# health_path"))
    mode = f"reverse:{upstream.url}"
    async with dump_master(Gateway(), home=home, confdir=confdir, mode=mode) as running, directly(running) as client:
        assert (await client.get("/authpool/health")).status_code == 200
    assert len(upstream.received) == 2
