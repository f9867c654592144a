"""Probes of the gateway's health: through the proxy, on its own port as a load balancer asks, and in reverse mode."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from mitmproxy import ctx

from authpool.gateway.service import Service
from authpool.proxy.addon import Gateway
from support.answers import JSON
from support.home import token_table, write_account
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway

pytestmark = pytest.mark.mitmproxy

PATHS = ("/health", "/live", "/ready")
INVALID_GRANT = JSON(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})


async def ask(port: int, *lines: str) -> tuple[int, dict[str, Any]]:
    """Send these lines as a request of a connection of its own, and read the answer to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write("\r\n".join((*lines, "Connection: close", "", "")).encode())
        async with asyncio.timeout(10):
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    return status, json.loads(body) if b"application/json" in head and body else {}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", ("regular", "upstream:http://127.0.0.1:9"))
async def test_a_plain_request_on_the_proxys_own_port(rig: Rig, mode: str, path: str) -> None:
    """As load balancers send it: by an address or a name of the listener's, and without one; HEAD too."""
    rig.home("alice", gateway={"listener_names": ["*.cluster.local"]})
    async with gateway_master(rig.path, mode=mode) as gateway:
        for host in (f"127.0.0.1:{gateway.port}", "gateway.svc.cluster.local", "localhost", "authpool.internal"):
            status, document = await ask(gateway.port, f"GET {path} HTTP/1.1", f"Host: {host}")
            assert (status, document["status"]) == (200, "ok")
        for lines in (
            (f"GET {path}?x HTTP/1.0",),
            (f"HEAD {path} HTTP/1.1", "Host: [::1]:80"),
            (f"HEAD {path} HTTP/1.0",),
        ):
            assert (await ask(gateway.port, *lines))[0] == 200
        async with httpx.AsyncClient(trust_env=False) as direct:
            assert (await direct.get(f"{gateway.url}{path}")).json()["status"] == "ok"
        assert all(flow.server_conn.timestamp_start is None for flow in gateway.finished)
    assert rig.upstream.received == []


async def test_nothing_else_on_the_own_port_is_ours(rig: Rig) -> None:
    """Other methods and paths end as they ever did; a proxy request for another host's path goes there."""
    rig.home("alice")
    async with gateway_master(rig.path) as gateway:
        for method, path in (("POST", "/ready"), ("GET", "/"), ("GET", "/ready/"), ("GET", "/metrics")):
            status, document = await ask(gateway.port, f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{gateway.port}")
            assert (status >= 400, document) == (True, {})
        assert (await ask(gateway.port, f"GET {rig.upstream.url}/ready HTTP/1.1", "Host: x"))[0] == 400
        host = f"Host: {rig.upstream.authority}"
        assert (await ask(gateway.port, f"GET {rig.upstream.url}/ready HTTP/1.1", host))[0] == 200
    assert [request.path for request in rig.upstream.received] == ["/ready"]


async def test_a_proxy_request_to_the_proxy_itself(rig: Rig, confdir: Path) -> None:
    """It would go round in a circle: the same answer, by whatever name of this machine."""
    rig.home("alice")
    async with gateway_master(rig.path, confdir=confdir) as gateway, proxied(gateway.url, confdir) as api:
        for host in ("127.0.0.1", "localhost"):
            assert (await api.get(f"http://{host}:{gateway.port}/ready")).json()["status"] == "ok"


async def test_through_the_proxy_and_for_one_pool(rig: Rig, confdir: Path) -> None:
    """`?pool=` asks for that pool alone; one that is not there is 404, with no word of it."""
    rig.home("alice", pools={"empty": rig.pool(hosts=["empty.example"])})
    async with gateway_master(rig.path, confdir=confdir) as gateway, proxied(gateway.url, confdir) as api:
        for path, status in (
            ("/live", 200),
            ("/live?pool=nobody", 200),
            ("/ready", 503),
            ("/health", 503),
            ("/ready?pool=p", 200),
            ("/health?pool=p", 200),
            ("/ready?pool=empty", 503),
            ("/ready?pool=p&pool=empty", 503),
            ("/ready?pool=no%62ody", 404),
            ("/ready?pool=", 404),
        ):
            answer = await api.get(f"http://authpool.internal{path}")
            assert (answer.status_code, "alice" in answer.text, "nobody" in answer.text) == (status, False, False)
        told = (await api.get("http://authpool.internal/ready")).json()
        assert told == {"status": "unavailable", "pools": {"p": {"can_serve": True}, "empty": {"can_serve": False}}}


async def test_in_reverse_mode(rig: Rig) -> None:
    """The configured path, and the two beneath it; nothing is answered on paths that are the upstream's."""
    rig.home("alice", gateway={"health_path": "/authpool/health"})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        for path in ("", "/live", "/ready", "/ready?pool=p"):
            assert (await api.get(f"/authpool/health{path}")).json()["status"] == "ok"
        assert (await api.head("/authpool/health/ready")).status_code == 200
        assert rig.upstream.received == []
        for path in ("/health", "/live", "/ready", "/authpool/health/health"):
            assert (await api.get(path)).status_code == 200
    assert len(rig.upstream.received) == 4


async def test_in_a_tunnel_the_paths_are_the_upstreams(rig: Rig, confdir: Path) -> None:
    """There every request is a plain one."""
    rig.home("alice")
    async with gateway_master(rig.path, confdir=confdir) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(f"CONNECT {rig.upstream.authority} HTTP/1.1\r\n\r\n".encode())
        async with asyncio.timeout(10):
            assert b"200" in await reader.readuntil(b"\r\n\r\n")
            writer.write(f"GET /ready HTTP/1.1\r\nHost: {rig.upstream.authority}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert [request.path for request in rig.upstream.received] == ["/ready"]


async def test_it_lives_before_it_is_ready_and_until_it_ends(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the accounts are being loaded, and while the gateway stops: live, and not ready."""
    rig.home("alice")
    may_load, start = asyncio.Event(), Service.start

    async def slowly(self: Service) -> None:
        await may_load.wait()
        await start(self)

    monkeypatch.setattr(Service, "start", slowly)
    asking: list[asyncio.Task[tuple[int, int]]] = []

    async def ask_meanwhile() -> tuple[int, int]:
        port = int(ctx.master.addons.get("proxyserver").listen_addrs()[0][1])
        live, ready = [(await ask(port, f"GET {path} HTTP/1.0"))[0] for path in ("/live", "/ready")]
        may_load.set()
        return live, ready

    class Asking:
        """Runs right before the gateway does, which then loads its accounts."""

        def running(self) -> None:
            asking.append(asyncio.create_task(ask_meanwhile()))

    addon = Gateway()
    async with gateway_master(rig.path, before=[Asking()], gateway=addon) as gateway:
        assert await asking[0] == (200, 503)
        assert (await ask(gateway.port, "GET /ready HTTP/1.0"))[0] == 200
        addon._stopping = True
        assert (await ask(gateway.port, "GET /live HTTP/1.0"))[0] == 200
        assert (await ask(gateway.port, "GET /ready HTTP/1.0"))[0] == 503
        addon._stopping = False


async def test_a_total_outage_is_told(rig: Rig) -> None:
    """All accounts revoked at the provider, access tokens too: not ready from the first refusals on, by any path."""
    names = ("alice", "bob", "carol", "dave", "erin")
    rig.home(*names, gateway={"health_path": "/h"})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/h/ready")).status_code == 200
        for name in names:
            rig.provider.revoke(name)
        statuses = [(await api.get("/x")).status_code for _ in range(5)]
        assert set(statuses) <= {502, 503}
        for path in ("/h", "/h/ready"):
            answer = await api.get(path)
            assert (answer.status_code, answer.json()["pools"]["p"]["can_serve"]) == (503, False)
        assert (await api.get("/h/live")).status_code == 200
        for name in names:  # signed in again
            write_account(rig.path, f"p/{name}", {"token": token_table(rig.provider.issue(name))})
        async with asyncio.timeout(30):
            while (await api.get("/h/ready")).status_code != 200:
                await asyncio.sleep(0.01)
        assert (await api.get("/x")).status_code == 200
