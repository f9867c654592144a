"""Where the requests of no pool go, by who sends them: an open proxy into the own network is no default."""

import asyncio
from pathlib import Path
from typing import Any, Literal, Self

import httpx
import pytest
from mitmproxy import http

from authpool.config import GatewayConfig
from authpool.proxy.reach import _is_own_address, unmatched_for
from support.certificates import CertificateAuthority
from support.elsewhere import FromElsewhere
from support.gateway import RunningGateway
from support.gateway_clients import add_client
from support.home import write_configuration
from support.plain_request import send, send_on
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.socks import SUCCEEDED, socks_connect
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

type Strategy = Literal["eager", "lazy"]
STRATEGIES: tuple[Strategy, ...] = ("eager", "lazy")


def is_refused(answer: httpx.Response) -> bool:
    return (
        answer.status_code == 403
        and answer.headers.get("authpool-error") == "unmatched_refused"
        and answer.headers["content-type"] == "application/problem+json"
    )


@pytest.mark.parametrize(
    ("gateway", "here", "elsewhere"),
    (
        ({}, "pass", "block"),
        ({"client_keys": "required"}, "pass", "block"),
        ({"client_keys": "off"}, "pass", "pass"),
        ({"client_keys": "off", "unmatched": "block"}, "block", "block"),
        ({"unmatched": "pass"}, "pass", "pass"),
        ({"unmatched": "tunnel"}, "tunnel", "tunnel"),
    ),
)
def test_what_holds_where_nothing_is_said(gateway: dict[str, Any], here: str, elsewhere: str) -> None:
    """With keys on, other machines' clients are let to pools only."""
    config = GatewayConfig(**gateway)
    assert (unmatched_for(config, elsewhere=False), unmatched_for(config, elsewhere=True)) == (here, elsewhere)


# --- block --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_block(rig: Rig, confdir: Path, authority: CertificateAuthority, strategy: Strategy) -> None:
    """Requests of no pool and CONNECT to no pool's host are refused before a connection; pools and health go on."""
    rig.home("alice", gateway={"unmatched": "block"}, paths=["/v1/*"])
    async with (
        Upstream() as other,
        Upstream(authority.server_context()) as tls,
        gateway_master(rig.path, confdir=confdir, connection_strategy=strategy) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        assert is_refused(await api.get(f"{other.url}/v1"))
        assert is_refused(await api.get(f"{rig.upstream.url}/elsewhere"))
        assert (await api.head(f"{other.url}/v1")).status_code == 403
        with pytest.raises(httpx.ProxyError, match="403"):
            await api.get(f"{tls.url}/v1")
        answer = await send(gateway.port, f"CONNECT {tls.authority} HTTP/1.1")
        assert (answer.status, answer.code) == (403, "unmatched_refused")
        assert answer.json()["type"] == "urn:authpool:unmatched_refused"
        assert (await api.get(f"{rig.upstream.url}/v1/x")).status_code == 200
        assert (await api.get("http://authpool.internal/ready")).status_code == 200
        assert other.server.connections_made == tls.server.connections_made == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_block_by_socks(rig: Rig, strategy: Strategy) -> None:
    """No connection is opened to what no pool names, whatever would be spoken there."""
    rig.home("alice", gateway={"unmatched": "block"})
    async with Upstream() as other, gateway_master(rig.path, mode="socks5", connection_strategy=strategy) as gateway:
        _, reader, writer = await socks_connect(gateway.port, other.host, other.port)
        lines = ("GET /x HTTP/1.1", f"Host: {other.authority}")
        assert (await send_on(reader, writer, lines)).code == "unmatched_refused"
        writer.close()
        _, reader, writer = await socks_connect(gateway.port, other.host, other.port)
        writer.write(b"\x00\x01\x02 no HTTP\r\n")
        assert await reader.read() == b""
        writer.close()
        reply, reader, writer = await socks_connect(gateway.port, rig.upstream.host, rig.upstream.port)
        assert reply == SUCCEEDED
        assert (await send_on(reader, writer, ("GET /x HTTP/1.1", f"Host: {rig.upstream.authority}"))).status == 200
        writer.close()
        assert other.server.connections_made == 0


@pytest.mark.parametrize(("unmatched", "relayed"), (("block", b""), ("pass", b"HTTP/1.1 400")))
@pytest.mark.parametrize("way", ("connect", "socks5"))
async def test_what_is_no_http_is_no_request_of_a_pool(rig: Rig, way: str, unmatched: str, relayed: bytes) -> None:
    """Not at a pool's host either: there it would go round `paths` and `methods`."""
    async with _Greeting() as greeting:
        rig.home("alice", hosts=[greeting.authority], gateway={"unmatched": unmatched})
        async with gateway_master(rig.path, mode="regular" if way == "connect" else way) as gateway:
            reader, writer = await _to(gateway, way, greeting)
            writer.write(b"\x01no HTTP\r\n\r\n")
            async with asyncio.timeout(20):
                assert await reader.read(12) == relayed
            writer.close()


class _Greeting:
    """Answers whatever comes."""

    def __init__(self) -> None:
        self.host, self.port, self.authority = "127.0.0.1", 0, ""

    async def __aenter__(self) -> Self:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await reader.read(100):
                writer.write(b"HTTP/1.1 400 What?\r\n\r\n")
            writer.close()

        self._server = await asyncio.start_server(answer, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.authority = f"{self.host}:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


async def test_block_in_upstream_mode(rig: Rig) -> None:
    """The other proxy hears of pools' hosts only."""
    rig.home("alice", hosts=["api.example"], allow_plaintext=True, gateway={"unmatched": "block"})
    async with gateway_master(rig.path, mode=f"upstream:{rig.upstream.url}") as gateway:
        for lines in (
            ("GET http://other.example/v1 HTTP/1.1", "Host: other.example"),
            ("CONNECT other.example:443 HTTP/1.1",),
        ):
            assert (await send(gateway.port, *lines)).code == "unmatched_refused"
        assert rig.upstream.received == []
        assert (await send(gateway.port, "GET http://api.example/v1 HTTP/1.1", "Host: api.example")).status == 200


async def test_block_in_reverse_mode(rig: Rig) -> None:
    """What is not narrowed to the pool is answered, with either strategy."""
    rig.home("alice", gateway={"unmatched": "block"}, hosts=["api.example"])
    for strategy in STRATEGIES:
        async with reverse_gateway(rig, connection_strategy=strategy) as gateway, client(gateway.url) as api:
            assert is_refused(await api.get("/v1"))
    assert rig.upstream.received == []


async def test_a_reload_changes_the_rule(rig: Rig, confdir: Path) -> None:
    """At once, also on connections that are there."""
    home = rig.home("alice")
    async with (
        Upstream() as other,
        gateway_master(home, confdir=confdir) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        assert (await api.get(f"{other.url}/v1")).status_code == 200
        write_configuration(home, pools={"p": rig.pool()}, gateway={"unmatched": "block"})
        await gateway.wait_until(lambda: sum("Pool p reloaded" in message for message in gateway.messages) > 1)
        assert is_refused(await api.get(f"{other.url}/v1"))


# --- tunnel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("way", ("connect", "socks5", "upstream"))
async def test_tunnel(rig: Rig, confdir: Path, authority: CertificateAuthority, way: str, strategy: Strategy) -> None:
    """TLS of no pool is the client's and the upstream's own; a pool's is opened, and plain HTTP is seen."""
    async with Upstream(authority.server_context()) as tls, Upstream() as plain, Upstream() as proxy:
        rig.home("alice", gateway={"unmatched": "tunnel"})
        mode = f"upstream:{proxy.url}" if way == "upstream" else "regular" if way == "connect" else way
        if way == "upstream":
            return await _tunnel_behind_a_proxy(rig, confdir, authority, tls, strategy)
        more = {"connection_strategy": strategy, "confdir": confdir}
        async with gateway_master(rig.path, mode=mode, **more) as gateway:
            reader, writer = await _to(gateway, way, tls)
            await writer.start_tls(authority.client_context(), server_hostname="localhost")  # the upstream's own CA
            assert (await send_on(reader, writer, ("GET /secret HTTP/1.1", f"Host: {tls.authority}"))).status == 200
            writer.close()
            reader, writer = await _to(gateway, way, plain)
            assert (await send_on(reader, writer, ("GET /plain HTTP/1.1", f"Host: {plain.authority}"))).status == 200
            writer.close()
            assert [flow.request.path for flow in gateway.flows] == ["/plain"]
    return None


async def _tunnel_behind_a_proxy(
    rig: Rig, confdir: Path, authority: CertificateAuthority, tls: Upstream, strategy: Strategy
) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode())
        there_reader, there = await asyncio.open_connection(tls.host, tls.port)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(_copy(reader, there), _copy(there_reader, writer))

    asked: list[str] = []
    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        mode = f"upstream:http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        more = {"connection_strategy": strategy, "confdir": confdir}
        async with gateway_master(rig.path, mode=mode, **more) as gateway:
            reader, writer = await _to(gateway, "connect", tls)
            await writer.start_tls(authority.client_context(), server_hostname="localhost")
            assert (await send_on(reader, writer, ("GET /secret HTTP/1.1", f"Host: {tls.authority}"))).status == 200
            writer.close()
            assert gateway.flows == []
        server.close_clients()
    assert asked == [tls.authority]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def _to(
    gateway: RunningGateway, way: str, upstream: "Upstream | _Greeting"
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection through the gateway, by CONNECT or by SOCKS."""
    if way == "socks5":
        reply, reader, writer = await socks_connect(gateway.port, upstream.host, upstream.port)
        assert reply == SUCCEEDED
        return reader, writer
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"CONNECT {upstream.authority} HTTP/1.1\r\n\r\n".encode())
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


@pytest.mark.parametrize("http2", (False, True), ids=("h1", "h2"))
async def test_with_tunnel_a_pools_tls_is_opened(
    rig: Rig, confdir: Path, authority: CertificateAuthority, *, http2: bool
) -> None:
    """Or it would get no credential."""
    async with Upstream(authority.server_context(http2=http2)) as upstream:
        rig.upstream = upstream
        rig.home("alice", gateway={"unmatched": "tunnel"})
        more = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file)}
        async with (
            gateway_master(rig.path, confdir=confdir, **more) as gateway,
            proxied(gateway.url, confdir, http2=http2) as api,
        ):
            assert (await api.get(f"{upstream.url}/v1")).status_code == 200
    assert rig.owners == ["alice"]


# --- the own network ------------------------------------------------------------------------------------------------

OPEN = {"unmatched": "pass", "client_keys": "off"}


@pytest.mark.parametrize("host", ("127.0.0.1", "localhost", "127.1", "2130706433", "[::ffff:127.0.0.1]"))
async def test_other_machines_clients_do_not_reach_this_one(rig: Rig, host: str) -> None:
    """However the address is written, and by whatever name it is found: nobody is connected to."""
    rig.home("alice", hosts=["api.example"], gateway=OPEN)
    async with Upstream() as other, gateway_master(rig.path, before=[FromElsewhere()]) as gateway:
        authority = f"{host}:{other.port}"
        plain = await send(gateway.port, f"GET http://{authority}/x HTTP/1.1", f"Host: {authority}")
        assert (plain.status, plain.code) == (403, "unmatched_refused")
        assert plain.json()["status"] == 403
        answer = await send(gateway.port, f"CONNECT {authority} HTTP/1.1")
        assert (answer.status, answer.code) == (403, "unmatched_refused")
        assert other.server.connections_made == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_nor_by_socks(rig: Rig, strategy: Strategy) -> None:
    """HTTP gets an answer once the connection is asked for; what is no HTTP is closed."""
    rig.home("alice", hosts=["api.example"], gateway=OPEN)
    more = {"before": [FromElsewhere()], "connection_strategy": strategy}
    async with Upstream() as other, gateway_master(rig.path, mode="socks5", **more) as gateway:
        reply, reader, writer = await socks_connect(gateway.port, "localhost", other.port)
        if reply == SUCCEEDED:
            lines = ("GET /x HTTP/1.1", f"Host: localhost:{other.port}")
            assert (await send_on(reader, writer, lines)).code == "unmatched_refused"
        else:
            assert strategy == "eager"
        writer.close()
        assert other.server.connections_made == 0


async def test_in_a_tunnel_that_is_opened_lazily(rig: Rig, confdir: Path, authority: CertificateAuthority) -> None:
    """The CONNECT is answered before anybody is asked; then each request in it is refused, one that streams as well."""
    rig.home("alice", hosts=["api.example"], gateway=OPEN)
    more = {"before": [FromElsewhere(), _Streams()], "connection_strategy": "lazy", "confdir": confdir}
    async with (
        Upstream(authority.server_context()) as other,
        gateway_master(rig.path, **more) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        for _ in range(2):
            assert is_refused(await api.get(f"{other.url}/x"))
            assert is_refused(await api.post(f"{other.url}/stream", content=b"x" * 100_000))
        assert other.server.connections_made == 0


class _Streams:
    """Has request bodies streamed where the path says so."""

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        flow.request.stream = flow.request.path == "/stream"


async def test_what_a_pool_names_is_reached(rig: Rig) -> None:
    """A pool in the own network is for whoever may use the gateway; also what of its host is of no pool."""
    rig.home("alice", paths=["/v1/*"], gateway=OPEN)
    async with gateway_master(rig.path, before=[FromElsewhere()]) as gateway:
        host = f"Host: {rig.upstream.authority}"
        assert (await send(gateway.port, f"GET {rig.upstream.url}/v1/x HTTP/1.1", host)).status == 200
        assert (await send(gateway.port, f"GET {rig.upstream.url}/x HTTP/1.1", host)).status == 401  # the upstream's
    assert rig.owners == ["alice", "-"]


async def test_a_wildcard_names_nothing_in_the_own_network(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can have a name in that zone says where it leads: here, it is this machine."""
    rig.home("alice", hosts=[f"*.test:{rig.upstream.port}"], gateway=OPEN)
    async with gateway_master(rig.path, before=[FromElsewhere()]) as gateway:
        loop = asyncio.get_running_loop()
        ask = loop.getaddrinfo

        async def leads_here(host: str, port: int, **more: Any) -> Any:
            return await ask("127.0.0.1" if host.endswith(".test") else host, port, **more)

        monkeypatch.setattr(loop, "getaddrinfo", leads_here)
        authority = f"mine.test:{rig.upstream.port}"
        answer = await send(gateway.port, f"CONNECT {authority} HTTP/1.1")
        assert (answer.status, answer.code) == (403, "unmatched_refused")
        assert rig.upstream.server.connections_made == 0
        write_configuration(rig.path, pools={"p": rig.pool(hosts=[authority])}, gateway=OPEN)
        await gateway.wait_until(lambda: sum("Pool p reloaded" in message for message in gateway.messages) > 1)
        assert (await send(gateway.port, f"CONNECT {authority} HTTP/1.1")).status == 200


async def test_reverse_mode_leads_where_the_operator_says(rig: Rig) -> None:
    """Its requests of no pool are refused all the same, where no pool names the host: they are answered."""
    rig.home("alice", hosts=["api.example"], gateway=OPEN)
    for strategy in STRATEGIES:
        more = {"connection_strategy": strategy, "mode": f"reverse:{rig.upstream.url}", "before": [FromElsewhere()]}
        async with gateway_master(rig.path, **more) as gateway, client(gateway.url) as api:
            assert is_refused(await api.get("/x"))
    assert rig.upstream.received == []


async def test_the_operator_opens_the_own_network(rig: Rig) -> None:
    """`allow_local`; and a reload closes it again, also to connections that are open."""
    home = rig.home("alice", hosts=["api.example"], gateway=OPEN | {"allow_local": True})
    async with Upstream() as other, gateway_master(home, before=[FromElsewhere()]) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        lines = (f"GET {other.url}/x HTTP/1.1", f"Host: {other.authority}")
        assert (await send_on(reader, writer, lines)).status == 200
        pools = {"p": rig.pool(hosts=["api.example"])}
        write_configuration(home, pools=pools, gateway=OPEN)
        await gateway.wait_until(lambda: sum("Pool p reloaded" in message for message in gateway.messages) > 1)
        assert (await send_on(reader, writer, lines)).code == "unmatched_refused"
        writer.close()
    assert len(other.received) == 1


async def test_this_machines_clients_reach_what_they_could_without(rig: Rig) -> None:
    """They are there already."""
    rig.home("alice", hosts=["api.example"], gateway=OPEN)
    async with Upstream() as other, gateway_master(rig.path) as gateway:
        answer = await send(gateway.port, f"GET {other.url}/x HTTP/1.1", f"Host: {other.authority}")
        assert answer.status == 200


PLAINLY_LOCAL = ("127.0.0.1", "localhost", "169.254.169.254", "[fd00::1]", "10.0.0.1", "0.0.0.0", "[::]")
ODDLY_LOCAL = ("127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "localhost.", "a.localhost", "[::ffff:7f00:1]")


async def test_behind_another_proxy_addresses_are_told(rig: Rig) -> None:
    """It resolves names by itself; what is an address, or localhost, is refused here."""
    rig.home("alice", hosts=["api.example"], gateway=OPEN)
    before = [FromElsewhere()]
    async with gateway_master(rig.path, mode=f"upstream:{rig.upstream.url}", before=before) as gateway:
        for host in (*PLAINLY_LOCAL, *ODDLY_LOCAL):
            answer = await send(gateway.port, f"GET http://{host}/x HTTP/1.1", f"Host: {host}")
            assert answer.code == "unmatched_refused", host
            assert (await send(gateway.port, f"CONNECT {host}:443 HTTP/1.1")).code == "unmatched_refused", host
        assert rig.upstream.received == []
        await send(gateway.port, "GET http://other.example/x HTTP/1.1", "Host: other.example")
    assert len(rig.upstream.received) == 1


async def test_by_default_they_are_let_to_pools_only(rig: Rig) -> None:
    """Nothing is said, and keys are on: with a key, and without one nowhere."""
    key = f"Proxy-Authorization: Bearer {add_client(rig.home('alice', hosts=['api.example']))}"
    async with Upstream() as other, gateway_master(rig.path, before=[FromElsewhere()]) as gateway:
        for head in (f"GET {other.url}/x HTTP/1.1", "CONNECT example.com:443 HTTP/1.1"):
            host = f"Host: {other.authority}"
            assert (await send(gateway.port, head, host)).code == "client_key_required"
            assert (await send(gateway.port, head, host, key)).code == "unmatched_refused"
        assert other.server.connections_made == 0


def test_addresses_of_this_machine_are_known() -> None:
    """Whatever their range: the kernel sends from them to them."""
    assert _is_own_address("127.0.0.1")
    assert _is_own_address("::1")
    assert not _is_own_address("198.51.100.7")
