"""What the gateway tells of its own health, pure and through a real mitmproxy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from authpool.health import health
from authpool.pool import State
from authpool.proxy.addon import Gateway
from support.gateway import RunningGateway, dump_master
from support.home import make_home, token_table, write_account
from support.rotating_provider import RotatingProvider
from support.token_endpoint import ScriptedTokenEndpoint
from support.upstream import Upstream

HEALTH = "http://authpool.internal/health"


@pytest.mark.parametrize(
    ("pools", "status", "word"),
    (
        ({}, 200, "ok"),
        ({"a": {State.READY: 3, State.DISABLED: 1}}, 200, "ok"),
        ({"a": {State.READY: 1}, "b": {State.COOLING: 1, State.PAUSED: 2, State.BROKEN: 1}}, 503, "unavailable"),
        ({"a": {}}, 503, "unavailable"),
    ),
)
def test_every_pool_must_be_able_to_serve(pools: Mapping[str, Mapping[State, int]], status: int, word: str) -> None:
    """200 only while each pool has an account that is ready; all pools and their states are told either way."""
    answer = health(pools)
    assert (answer.status, answer.document["status"]) == (status, word)
    assert answer.document["pools"] == {name: {"ready": 0} | counts for name, counts in pools.items()}


def test_a_pool_with_a_rejected_client_and_no_live_token_can_not_serve() -> None:
    """Its accounts count as what they are, and the pool says what ails it."""
    answer = health({"a": {State.READY: 1}, "b": {State.READY: 2}}, ["b"])
    assert answer.status == 503
    assert answer.document["pools"] == {"a": {"ready": 1}, "b": {"ready": 2, "client": "rejected"}}


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
        assert healthy.json() == {"status": "ok", "pools": {"p": {"ready": 1, "disabled": 1}}}
        pause_alice(home, rotating)
        await running.wait_until(lambda: "Pool p reloaded: 0 ready, 1 paused, 1 disabled" in running.messages)
        sick = await client.get(HEALTH)
        assert sick.status_code == 503
        assert sick.json() == {"status": "unavailable", "pools": {"p": {"ready": 0, "paused": 1, "disabled": 1}}}
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
