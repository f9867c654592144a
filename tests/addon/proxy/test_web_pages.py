"""What any web page could have a browser send gets nothing from a pool: across sites, or by a name that leads here."""

import json
import ssl
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from support.certificates import CertificateAuthority
from support.home import write_configuration
from support.plain_request import send, send_on
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.socks import SUCCEEDED, socks_connect
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

ACROSS: tuple[Mapping[str, str], ...] = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"sec-fetch-site": "Cross-Site", "Origin": "https://evil.example"},
    {"Origin": "https://evil.example"},
    {"origin": "null"},
    {"Origin": "file://"},
    {"Origin": "http://localhost:1"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    {"Origin": ""},
)
"""What browsers say of the requests that other sites' pages make, and what no browser says."""
WEBSOCKET = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AA==")


def is_not_allowed(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.headers.get("authpool-error")) == (403, "client_not_allowed")


# --- across sites -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ("GET", "POST", "OPTIONS"))
async def test_another_sites_page_gets_nothing_in_reverse_mode(rig: Rig, method: str) -> None:
    """Nothing goes upstream, whatever the method; and nothing of the answer is for the page."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        for headers in ACROSS:
            answer = await api.request(method, "/v1", headers=headers)
            assert is_not_allowed(answer), headers
            assert "access-control-allow-origin" not in answer.headers
        assert {flow.comment for flow in gateway.finished} == {"p outcome=client_not_allowed"}
    assert rig.upstream.received == []


async def test_its_own_pages_and_what_is_no_browser_are_served(rig: Rig) -> None:
    """The same origin, by the address or name that the client came by; the user's own doing; no word of it at all."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        for headers in (
            {},
            {"Sec-Fetch-Site": "none"},
            {"Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "same-origin", "Origin": gateway.url},
            {"Origin": gateway.url},
            {"Origin": f"http://localhost:{gateway.port}", "Host": f"localhost:{gateway.port}"},
            {"Origin": "http://localhost", "Host": "LOCALHOST:80"},
        ):
            assert (await api.post("/v1", headers=headers)).status_code == 200, headers
        other = {"Origin": f"http://localhost:{gateway.port}"}  # while Host names the address
        assert is_not_allowed(await api.post("/v1", headers=other))
        other = {"Origin": f"https://127.0.0.1:{gateway.port}"}
        assert is_not_allowed(await api.post("/v1", headers=other))


async def test_a_pool_allows_pages_by_their_origin(rig: Rig) -> None:
    """That origin and no other; a reload takes it back. Without a word of the origin nobody can tell."""
    home = rig.home("alice", allowed_origins=["https://app.example", "http://localhost:3000", "tauri://localhost"])
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        for origin in ("https://app.example", "https://APP.example:443", "http://localhost:3000", "tauri://localhost"):
            headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            assert (await api.post("/v1", headers=headers)).status_code == 200, origin
        for origin in ("http://app.example", "https://app.example:8443", "https://app.example.evil.example", "null"):
            assert is_not_allowed(await api.post("/v1", headers={"Origin": origin})), origin
        assert is_not_allowed(await api.get("/v1", headers={"Sec-Fetch-Site": "cross-site"}))
        twice = [("Origin", "https://app.example"), ("Origin", "https://evil.example")]
        assert is_not_allowed(await api.post("/v1", headers=twice))
        write_configuration(home, pools={"p": rig.pool()})
        await gateway.wait_until(lambda: sum("Pool p reloaded" in message for message in gateway.messages) > 1)
        assert is_not_allowed(await api.post("/v1", headers={"Origin": "https://app.example"}))


@pytest.mark.parametrize("http2", (False, True), ids=("h1", "h2"))
async def test_in_a_tunnel_the_destination_is_the_own_origin(
    rig: Rig, confdir: Path, authority: CertificateAuthority, *, http2: bool
) -> None:
    """A browser that uses the proxy: the pages of the pool's host are served, other sites' are not."""
    async with Upstream(authority.server_context(http2=http2)) as upstream:
        rig.upstream = upstream
        rig.home("alice", allowed_origins=["https://app.example"])
        more = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file)}
        async with (
            gateway_master(rig.path, confdir=confdir, **more) as gateway,
            proxied(gateway.url, confdir, http2=http2) as browser,
        ):
            for headers in ACROSS:
                assert is_not_allowed(await browser.post(f"{upstream.url}/v1", headers=headers)), headers
            assert upstream.received == []
            for origin in (upstream.url, "https://app.example"):
                answer = await browser.post(f"{upstream.url}/v1", headers={"Origin": origin})
                assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")


async def test_through_the_proxy_without_tls(rig: Rig) -> None:
    """Absolute-form: the same."""
    rig.home("alice")
    async with gateway_master(rig.path) as gateway:
        target, host = f"GET {rig.upstream.url}/v1 HTTP/1.1", f"Host: {rig.upstream.authority}"
        for origin, status in (("https://evil.example", 403), (gateway.url, 403), (rig.upstream.url, 200)):
            assert (await send(gateway.port, target, host, f"Origin: {origin}")).status == status
    assert len(rig.upstream.received) == 1


async def test_by_socks(rig: Rig) -> None:
    """The same."""
    rig.home("alice")
    async with gateway_master(rig.path, mode="socks5") as gateway:
        lines = ("GET /v1 HTTP/1.1", f"Host: {rig.upstream.authority}")
        for origin, status in (("https://evil.example", 403), (gateway.url, 403), (rig.upstream.url, 200)):
            reply, reader, writer = await socks_connect(gateway.port, rig.upstream.host, rig.upstream.port)
            assert reply == SUCCEEDED
            assert (await send_on(reader, writer, (*lines, f"Origin: {origin}"))).status == status
            writer.close()
    assert len(rig.upstream.received) == 1


async def test_in_upstream_mode(rig: Rig, confdir: Path) -> None:
    """Behind another proxy as well, which hears nothing of what is refused."""
    rig.home("alice", hosts=["api.example"], allow_plaintext=True)
    async with gateway_master(rig.path, confdir=confdir, mode=f"upstream:{rig.upstream.url}") as gateway:
        target = ("GET http://api.example/v1 HTTP/1.1", "Host: api.example")
        assert (await send(gateway.port, *target, "Sec-Fetch-Site: cross-site")).code == "client_not_allowed"
        assert rig.upstream.received == []
        assert (await send(gateway.port, *target, "Sec-Fetch-Site: same-origin")).status == 200
    assert [request.target for request in rig.upstream.received] == ["http://api.example/v1"]


async def test_a_websocket_of_another_site_is_not_opened(rig: Rig) -> None:
    """Browsers let any page open one anywhere: the server is to look at Origin (RFC 6455 §10.2)."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway:
        own = f"Host: 127.0.0.1:{gateway.port}"
        answer = await send(gateway.port, "GET /ws HTTP/1.1", own, *WEBSOCKET, "Origin: https://evil.example")
        assert answer.code == "client_not_allowed"
        foreign = ("Host: evil.example", "Origin: http://evil.example")
        assert (await send(gateway.port, "GET /ws HTTP/1.1", *foreign, *WEBSOCKET)).code == "client_not_allowed"
        assert rig.upstream.received == []
        assert (await send(gateway.port, "GET /ws HTTP/1.1", own, *WEBSOCKET, f"Origin: {gateway.url}")).status == 200


async def test_requests_of_no_pool_are_the_upstreams_to_judge(rig: Rig) -> None:
    """They carry no credential, and Origin arrives; only a name that is not the listener's is refused, as ever."""
    rig.home("alice", paths=["/v1/*"])
    rig.upstream.accept(_Everything())
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.post("/other", headers={"Origin": "https://evil.example"})).status_code == 200
        assert is_not_allowed(await api.post("/other", headers={"Host": "evil.example"}))
    assert len(rig.upstream.received) == 1


# --- by a name that leads here ----------------------------------------------------------------------------------

FOREIGN = (
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "0.0.0.0",
    "[::]",
    "192.0.2.77",
    "x",
    "no host;",
)


@pytest.mark.parametrize("listen_host", ("127.0.0.1", "0.0.0.0"))
async def test_a_foreign_host_in_reverse_mode(rig: Rig, listen_host: str) -> None:
    """DNS rebinding: the page's name leads here, and browser and page take it for their own site."""
    gateway_table = {"listener_names": ["gateway.example", "*.svc.cluster.local"], "client_keys": "off"}
    rig.home("alice", gateway=gateway_table)
    async with reverse_gateway(rig, listen_host=listen_host) as gateway:
        for host in FOREIGN:
            for more in ((), ("Sec-Fetch-Site: same-origin", f"Origin: http://{host}")):
                answer = await send(gateway.port, "GET /v1 HTTP/1.1", f"Host: {host}", *more)
                assert answer.code == "client_not_allowed", host
                assert host.partition(":")[0] not in answer.body.decode()
        twice = ("Host: localhost", "Host: evil.example")
        assert (await send(gateway.port, "GET /v1 HTTP/1.1", *twice)).status in {400, 403}
        assert rig.upstream.received == []
        own = ("127.0.0.1", f"127.0.0.1:{gateway.port}", "127.0.0.2:1", "LocalHost.", "[::1]:8080", "authpool.internal")
        for host in (*own, "gateway.example:8443", "GATEWAY.example", "pool.svc.cluster.local"):
            assert (await send(gateway.port, "GET /v1 HTTP/1.1", f"Host: {host}")).status == 200, host
        assert (await send(gateway.port, "GET /v1 HTTP/1.0")).status == 200
    hosts = {value for request in rig.upstream.received for name, value in request.headers if name.lower() == "host"}
    assert hosts == {rig.upstream.authority}


async def test_a_foreign_authority_by_http2(rig: Rig, confdir: Path, authority: CertificateAuthority) -> None:
    """There it stands in :authority."""
    trusted = ssl.create_default_context()
    trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE
    async with Upstream(authority.server_context(http2=True)) as upstream:
        rig.upstream = upstream
        rig.home("alice")
        more = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file)}
        async with (
            reverse_gateway(rig, confdir=confdir, **more) as gateway,
            httpx.AsyncClient(verify=trusted, http2=True, trust_env=False) as api,
        ):
            for host, origin, status in (
                ("evil.example", "https://evil.example", 403),
                ("localhost", "https://localhost", 200),
                ("localhost", "http://localhost", 403),
            ):
                headers = {"Host": host, "Origin": origin}
                answer = await api.get(f"https://127.0.0.1:{gateway.port}/v1", headers=headers)
                assert (answer.status_code, answer.http_version) == (status, "HTTP/2"), (host, answer.text)
        assert len(upstream.received) == 1


@pytest.mark.parametrize("path", ("/health", "/live", "/ready"))
@pytest.mark.parametrize("mode", ("regular", "upstream:http://127.0.0.1:9"))
async def test_plain_requests_on_the_proxys_own_port(rig: Rig, mode: str, path: str) -> None:
    """The gateway's own answers are no page's either; nor does a page's name lead anywhere through it."""
    rig.home("alice")
    async with gateway_master(rig.path, mode=mode) as gateway:
        own = f"Host: 127.0.0.1:{gateway.port}"
        for host in FOREIGN:
            assert (await send(gateway.port, f"GET {path} HTTP/1.1", f"Host: {host}")).code == "client_not_allowed", (
                host
            )
            assert (await send(gateway.port, "GET /v1 HTTP/1.1", f"Host: {host}")).status >= 400, host
        for headers in ACROSS:
            lines = [f"{name}: {value}" for name, value in headers.items()]
            assert (await send(gateway.port, f"GET {path} HTTP/1.1", own, *lines)).code == "client_not_allowed", headers
        same = ("Sec-Fetch-Site: same-origin", f"Origin: {gateway.url}")
        assert (await send(gateway.port, f"GET {path} HTTP/1.1", own, *same)).status == 200
        assert (await send(gateway.port, f"GET http://authpool.internal{path} HTTP/1.1", "Host: x")).status == 200
    assert rig.upstream.received == []


async def test_a_plain_request_does_not_follow_a_host_to_a_pool(rig: Rig) -> None:
    """By mitmproxy alone it goes to whatever Host names; only a proxy's client names another host, in absolute-form."""
    rig.home("alice", hosts=["api.example"], allow_plaintext=True)
    async with gateway_master(rig.path) as gateway:
        answer = await send(gateway.port, "GET /v1 HTTP/1.1", "Host: api.example")
        assert answer.code == "client_not_allowed"


async def test_the_health_path_in_reverse_mode(rig: Rig) -> None:
    """Likewise."""
    rig.home("alice", gateway={"health_path": "/h"})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert is_not_allowed(await api.get("/h", headers={"Host": "evil.example"}))
        assert is_not_allowed(await api.get("/h", headers={"Origin": "https://evil.example"}))
        assert (await api.get("/h")).status_code == 200


async def test_the_operators_replay_is_no_web_page(rig: Rig) -> None:
    """What was refused to a page may be sent again by whoever looks at it."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert is_not_allowed(await api.get("/v1", headers={"Origin": "https://evil.example"}))
        copy = gateway.finished[0].copy()
        copy.response = None
        gateway.master.commands.call("replay.client", [copy])
        await rig.upstream.wait_for_requests(1)
        await gateway.wait_until(lambda: len(gateway.finished) == 2)
        assert json.loads(gateway.finished[1].response.content)["target"] == "/v1"  # type: ignore[union-attr, arg-type]


class _Everything:
    def __contains__(self, token: object) -> bool:
        return True
