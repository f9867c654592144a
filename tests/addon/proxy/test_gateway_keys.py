"""Gateway keys in a real mitmproxy: who is let in by which way, what is never seen, limits, and what a removal ends."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from mitmproxy import http
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from authpool.clients.key import new_key
from authpool.gateway.service import Service
from authpool.proxy import client_access
from authpool.proxy.addon import Gateway
from authpool.proxy.commands import Commands
from support.answers import JSON, Cut, Hang, Nothing, Raw, Reset, Slow
from support.gateway import RunningGateway
from support.gateway_clients import (
    PLACES,
    SocksRefusedError,
    add_client,
    basic,
    change_client,
    issued,
    remove_client,
    through_socks,
)
from support.home import write_configuration
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.streams import WebSocketEcho, event_stream
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy


def service_of(gateway: RunningGateway) -> Service:
    service: Service = gateway.master.addons.get("authpool").service
    return service


def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers.get("authpool-error", "")


async def read_on(reader: asyncio.StreamReader) -> None:
    """Raises ConnectionError at the end, however it comes."""
    async with asyncio.timeout(20):
        while await reader.read(100):
            pass
    raise ConnectionResetError


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


REQUIRED = (401, "client_key_required")


# --- by which way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
async def test_a_key_lets_a_request_in_and_is_seen_nowhere(rig: Rig, place: str) -> None:
    """From each of its places; it is in no flow and goes to no upstream, in the pool or out of it."""
    home = rig.home("alice")
    key = add_client(home)
    async with Upstream() as other, gateway_master(home) as gateway, client("", proxy=gateway.url) as api:
        for url in (f"{rig.upstream.url}/x", f"{other.url}/y"):
            answer = await api.get(url, headers=PLACES[place](key))
            assert answer.status_code == 200
        secret = key.split("_")[2]
        for flow in gateway.flows:
            assert secret not in str(flow.get_state())
            assert "client=ci" in flow.comment
        assert secret not in str([*rig.upstream.received, *other.received, *gateway.messages])
        assert rig.owners == ["alice"]
        assert gateway.flows[0].comment.startswith("p/alice attempts=1 outcome=200 rotation=round_robin client=ci")
        assert gateway.flows[1].comment == "authpool: outcome=200 client=ci"


async def test_a_key_in_the_query_is_taken_off_it(rig: Rig) -> None:
    """The rest of the target stays as it was."""
    home = rig.home("alice")
    key = add_client(home)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get(f"/x?a=%20&key={key}&b")).status_code == 200
        assert error_of(await api.get("/x?a=1")) == REQUIRED
        assert gateway.flows[0].request.path == "/x?a=%20&b"
    assert [request.target for request in rig.upstream.received] == ["/x?a=%20&b"]


MISPLACED = (
    "GET /{key} HTTP/1.1\r\nHost: x\r\n",
    "GET /x?{key}=1&a={key} HTTP/1.1\r\nHost: x\r\n",
    "GET /x#{key} HTTP/1.1\r\nHost: x\r\n",
    "GET /x HTTP/1.1\r\nHost: {key}\r\n",
    "{key} /x HTTP/1.1\r\nHost: x\r\n",
    "GET /x HTTP/1.1\r\nHost: x\r\n{key}: 1\r\n",
    "GET /x HTTP/1.1\r\nHost: x\r\nAuthorization: Token {key}\r\n",
    "GET /x HTTP/1.1\r\nHost: x\r\nAuthorization:\tBasic {basic}\r\n",
    "GET /x HTTP/1.1\r\nHost: x\r\nX-API-KEY:{key}\r\nx-api-key: {key}\r\n",
    "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: other\r\n",
)


@pytest.mark.parametrize("head", MISPLACED, ids=range(len(MISPLACED)))
@pytest.mark.parametrize("keyed", (False, True))
async def test_a_key_where_none_belongs_is_seen_nowhere_either(rig: Rig, head: str, *, keyed: bool) -> None:
    """Whether or not the request has a key of its own besides, and is let in by that."""
    home = rig.home("alice")
    key = add_client(home)
    written = head.format(key=key, basic=basic(key, "").partition(" ")[2])
    written += f"Proxy-Authorization: Bearer {key}\r\n\r\n" if keyed else "\r\n"
    written += f"1\r\na\r\n0\r\nother: {key}\r\n\r\n" if head.startswith("POST") else ""
    async with reverse_gateway(rig) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(written.encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 ")
        writer.close()
        await until(lambda: gateway.finished)
        seen = str([[flow.get_state() for flow in gateway.flows], rig.upstream.received, gateway.messages])
    assert key.split("_")[2] not in seen
    assert basic(key, "")[20:60] not in seen


async def test_without_a_good_key_nothing_goes_out(rig: Rig) -> None:
    """No key, another's, a mistyped one: the answer says what to do, and names nobody."""
    home = rig.home("alice")
    key = add_client(home)
    async with Upstream() as other, gateway_master(home) as gateway, client("", proxy=gateway.url) as api:
        for url in (f"{rig.upstream.url}/x", f"{other.url}/y"):
            for wrong, word in ((None, "Send"), (new_key().text, "unknown"), (key[:-1], "mistyped")):
                headers = {"Authorization": f"Bearer {wrong}"} if wrong else {}
                answer = await api.get(url, headers=headers)
                assert error_of(answer) == REQUIRED
                assert word in answer.json()["detail"]
                assert answer.headers["content-type"] == "application/problem+json"
                assert "Bearer" in answer.headers["www-authenticate"]
        assert not [flow for flow in gateway.flows if key[:-1] in str(flow.get_state())]
        head = await api.head(f"{other.url}/y")
        assert (error_of(head), head.content) == (REQUIRED, b"")
        assert rig.upstream.received == other.received == []


async def test_nobody_is_asked_until_a_client_exists_and_everybody_from_then_on(rig: Rig) -> None:
    """On a loopback listener; also when the last client was removed."""
    home = rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        key = add_client(home)
        anybody = service_of(gateway).clients.gatekeeper
        await until(lambda: anybody.keyring.anybody)
        assert error_of(await api.get("/x")) == REQUIRED
        assert (await api.get("/x", headers={"x-api-key": key})).status_code == 200
        remove_client(home)
        await until(lambda: not any(anybody.holds(grant) for grant in anybody.keyring._grants.values()))
        answer = await api.get("/x", headers={"x-api-key": key})
        assert error_of(answer) == REQUIRED
        assert "removed" in answer.json()["detail"]
        assert error_of(await api.get("/x")) == REQUIRED


@pytest.mark.parametrize("keys", ("required", "off"))
async def test_keys_are_required_or_off_by_configuration(rig: Rig, keys: str) -> None:
    """Whether or not there is a client; where they are off, none is looked at, and none is passed on."""
    home = rig.home("alice", gateway={"client_keys": keys})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        wanted = 200 if keys == "off" else 401
        assert (await api.get("/x")).status_code == wanted
        add_client(home)
        assert (await api.get("/x", headers={"x-api-key": new_key().text})).status_code == wanted
    assert "authpool_" not in str(rig.upstream.received)


async def test_health_needs_no_key(rig: Rig) -> None:
    """And tells counts only."""
    home = rig.home("alice")
    add_client(home)
    async with gateway_master(home) as gateway, client(gateway.url) as api, client("", proxy=gateway.url) as proxy:
        for answer in (await api.get("/health"), await proxy.get("http://authpool.internal/health")):
            assert answer.status_code == 200
            assert "alice" not in answer.text


async def test_a_replay_is_the_operators_own(rig: Rig) -> None:
    """It needs no key, and the flow has none."""
    home = rig.home("alice")
    key = add_client(home)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        await api.get("/x", headers={"x-api-key": key})
        flow = gateway.flows[0].copy()
        gateway.master.commands.call("replay.client", [flow])  # type: ignore[no-untyped-call]
        await rig.upstream.wait_for_requests(2)
        await until(lambda: flow in gateway.finished)
    assert rig.owners == ["alice", "alice"]


# --- tunnels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("http2", (False, True), ids=("http1", "http2"))
async def test_a_key_at_connect_holds_for_the_tunnel(rig: Rig, confdir: Path, authority: Any, *, http2: bool) -> None:
    """Every request in it, of either HTTP; without one it is 407 and Proxy-Authenticate."""
    async with Upstream(authority.server_context(http2=http2)) as upstream:
        rig.host, rig.upstream = upstream.authority, upstream
        home = rig.home("alice")
        key = add_client(home)
        trust = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file), "confdir": confdir}
        async with gateway_master(home, **trust) as gateway:
            with_key = gateway.url.replace("//", f"//ci:{key}@")
            async with proxied(with_key, confdir, http2=http2) as api:
                answers = [await api.get(f"{upstream.url}/{number}") for number in range(3)]
            assert [answer.status_code for answer in answers] == [200] * 3
            assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
            assert all("client=ci" in flow.comment for flow in gateway.flows)
            async with proxied(gateway.url, confdir) as api:
                with pytest.raises(httpx.ProxyError, match="407"):
                    await api.get(f"{upstream.url}/x", headers={"x-api-key": key})
            answer = await connect(gateway, upstream.authority)
            assert b" 407 " in answer
            assert b'proxy-authenticate: basic realm="authpool"' in answer.lower()
            assert key.split("_")[2] not in str([flow.get_state() for flow in gateway.flows])
    assert rig.owners == ["alice"] * 3


async def connect(gateway: RunningGateway, authority: str, *fields: str) -> bytes:
    """Send a CONNECT, and answer the head of what comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write("\r\n".join([f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *fields, "", ""]).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


async def test_a_connect_that_failed_lets_nobody_else_in(rig: Rig) -> None:
    """Its connection goes on, and may be another client's: a balancer in front shares them."""
    home = rig.home("alice")
    key = add_client(home)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = f"127.0.0.1:{probe.getsockname()[1]}"
    async with gateway_master(home) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(f"CONNECT {nobody} HTTP/1.1\r\nProxy-Authorization: Bearer {key}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 502 " in head
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        writer.write(f"GET {rig.upstream.url}/x HTTP/1.1\r\nHost: {rig.upstream.authority}\r\n\r\n".encode())
        assert b" 401 " in await reader.readline()
        writer.close()
    assert rig.upstream.received == []


async def test_a_key_in_the_tunnel_comes_before_the_tunnels(rig: Rig, confdir: Path, authority: Any) -> None:
    """A client behind another one is itself; a wrong key is wrong."""
    async with Upstream(authority.server_context()) as upstream:
        rig.host, rig.upstream = upstream.authority, upstream
        home = rig.home("alice")
        outer, inner = add_client(home, "outer"), add_client(home, "inner")
        trust = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file), "confdir": confdir}
        async with (
            gateway_master(home, **trust) as gateway,
            proxied(gateway.url.replace("//", f"//{outer}:@"), confdir) as api,
        ):
            url = f"{upstream.url}/x"
            assert (await api.get(url, headers={"Authorization": "Bearer sk-mine"})).status_code == 200
            assert (await api.get(url, headers={"x-api-key": inner})).status_code == 200
            assert error_of(await api.get(url, headers={"x-api-key": inner[:-1]})) == REQUIRED
            clients = [flow.comment.partition("client=")[2] for flow in gateway.flows]
    assert clients == ["outer", "inner", ""]


async def test_a_tunnel_leads_where_the_client_may_go(rig: Rig) -> None:
    """403 at CONNECT where neither its pools nor its hosts are; whatever would be in it."""
    home = rig.home("alice")
    pool, host = add_client(home, "pool", pools=("p",)), add_client(home, "host", hosts=("other.test",))
    async with gateway_master(home, connection_strategy="lazy") as gateway:
        for key, authority, status in (
            (pool, rig.upstream.authority, b"200"),
            (pool, "elsewhere.test:443", b"403"),
            (host, "other.test:443", b"200"),
            (host, rig.upstream.authority, b"403"),
            (host, "other.test:22", b"403"),
        ):
            head = await connect(gateway, authority, f"Proxy-Authorization: Bearer {key}")
            assert head.split()[1] == status, authority
            assert (b"client_not_allowed" in head) is (status == b"403")


async def test_socks_takes_a_key_as_user_or_password(rig: Rig) -> None:
    """It holds for the connection; without one no method is acceptable, and a wrong one is refused."""
    home = rig.home("alice")
    key = add_client(home)
    async with gateway_master(home, mode="socks5") as gateway:
        for user, password in ((key, "x"), ("ci", key)):
            reader, writer = await through_socks(gateway.port, rig.upstream.port, user, password)
            for _ in range(2):
                writer.write(f"GET /x HTTP/1.1\r\nHost: {rig.upstream.authority}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                assert b" 200 " in head
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            writer.close()
        for user, words in ((None, "no acceptable method"), ("ci", "login refused"), (key[:-1], "login refused")):
            with pytest.raises(SocksRefusedError, match=words):
                await through_socks(gateway.port, rig.upstream.port, user, "pw")
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"\x05\x01\x02")  # cut off in the middle of its login
        await reader.readexactly(2)
        writer.write(bytes([1, len(key)]) + key.encode()[:-1])
        writer.close()
        await gateway.wait_until(lambda: [m for m in gateway.messages if "before completing SOCKS5" in m])
        assert key.split("_")[2] not in str(gateway.messages)
        assert all("client=ci" in flow.comment for flow in gateway.flows)
    assert rig.owners == ["alice"] * 4


HOSTS_OF = {"here": "127.0.0.1", "there": "api.example"}


@pytest.mark.parametrize("passed", ({"ignore_hosts": [".*"]}, {}), ids=("ignored", "tunnel"))
async def test_socks_leads_where_the_client_may_go(
    rig: Rig, confdir: Path, authority: Any, passed: dict[str, Any]
) -> None:
    """Also with TLS that is left closed, of which no request is ever seen."""
    async with Upstream(authority.server_context()) as tls:
        home = rig.home("alice", gateway={"unmatched": "pass" if passed else "tunnel"})
        keys = {name: add_client(home, name, hosts=(f"{host}:{tls.port}",)) for name, host in HOSTS_OF.items()}
        keys["pools"] = add_client(home, "pools", pools=("p",))
        async with gateway_master(home, mode="socks5", confdir=confdir, **passed) as gateway:
            for name, key in keys.items():
                reader, writer = await through_socks(gateway.port, tls.port, key)
                if name == "here":
                    await writer.start_tls(authority.client_context(), server_hostname="localhost")
                    writer.write(f"GET /x HTTP/1.1\r\nHost: {tls.authority}\r\n\r\n".encode())
                    assert b" 200 " in await reader.readline()
                else:
                    with pytest.raises((ConnectionError, ssl.SSLError)):
                        await writer.start_tls(authority.client_context(), server_hostname="localhost")
                    assert service_of(gateway).clients.usage(name).refused == 1
                writer.close()
    assert len(tls.received) == 1


async def test_socks_asks_nobody_while_no_key_is_asked_for(rig: Rig) -> None:
    """As mitmproxy does by itself."""
    rig.home("alice")
    async with gateway_master(rig.path, mode="socks5") as gateway:
        _, writer = await through_socks(gateway.port, rig.upstream.port, None)
        writer.close()


async def test_what_is_no_http_needs_a_key_too(rig: Rig, confdir: Path) -> None:
    """A listener for plain TCP has no place for one, so nothing gets through it; in a tunnel with a key it does."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello ")
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    home = rig.home("alice")
    key = add_client(home)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with gateway_master(home, mode=f"reverse:tcp://127.0.0.1:{port}", confdir=confdir) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"x")
        with pytest.raises(ConnectionError):
            await read_on(reader)
        writer.close()
    async with gateway_master(home, mode="socks5", confdir=confdir, tcp_hosts=["127.0.0.1"]) as gateway:
        reader, writer = await through_socks(gateway.port, port, key)
        writer.write(b"there")
        assert await reader.readexactly(11) == b"hello there"
        assert service_of(gateway).clients.usage("ci").requests == 1
        writer.close()
    server.close()
    await server.wait_closed()


async def test_upstream_mode_hands_no_key_on(rig: Rig) -> None:
    """The proxy behind gets its own credentials only."""
    home = rig.home("alice")
    key = add_client(home)
    mode = f"upstream:http://{rig.upstream.authority}"
    async with gateway_master(home, mode=mode) as gateway, client("", proxy=gateway.url) as api:
        url = f"{rig.upstream.url}/x"
        assert (await api.get(url, headers={"Proxy-Authorization": f"Bearer {key}"})).status_code == 200
        assert error_of(await api.get(url)) == REQUIRED
    (received,) = rig.upstream.received
    assert key.split("_")[2] not in str(received)


# --- what a key may ---------------------------------------------------------------------------------------------------


async def test_a_client_reaches_its_own_pools_and_hosts_only(rig: Rig) -> None:
    """403 elsewhere, without a word about where it may go."""
    async with Upstream() as other:
        second = {"type": "static", "hosts": [other.authority]}
        home = rig.home("alice", pools={"second": second})
        mine, hosts = add_client(home, "mine", pools=("p",)), add_client(home, "hosts", hosts=(other.authority,))
        async with gateway_master(home) as gateway, client("", proxy=gateway.url) as api:
            for key, url, status in (
                (mine, rig.upstream.url, 200),
                (mine, other.url, 403),
                (hosts, rig.upstream.url, 403),
            ):
                answer = await api.get(f"{url}/x", headers={"x-api-key": key})
                assert answer.status_code == status
            assert error_of(answer) == (403, "client_not_allowed")
            assert gateway.flows[-1].comment == "p outcome=client_not_allowed client=hosts"
    assert other.received == []


async def test_limits_refuse_and_are_given_back(rig: Rig) -> None:
    """429 with Retry-After while too many are under way; none waits, and each that ends makes room."""
    home = rig.home("alice")
    key = add_client(home, max_in_flight=2)
    gate = asyncio.Event()
    rig.upstream.respond = lambda _request: Slow(gate, JSON(200, {}))
    async with reverse_gateway(rig) as gateway, client(gateway.url, headers={"x-api-key": key}) as api:
        first = [asyncio.create_task(api.get("/x")) for _ in range(2)]
        await rig.upstream.wait_for_requests(2)
        refused = await api.get("/x")
        assert error_of(refused) == (429, "client_limited")
        assert refused.headers["retry-after"] == "1"
        first[0].cancel()  # a client that leaves makes room too
        keeper = service_of(gateway).clients.gatekeeper
        await until(lambda: keeper.in_flight("ci") == 1)
        gate.set()
        assert (await first[1]).status_code == 200
        await until(lambda: keeper.in_flight("ci") == 0)
        assert (await api.get("/x")).status_code == 200


ENDINGS = (
    JSON(200, {}),
    JSON(401, {}),
    JSON(429, {}),
    Cut(200, {"a": "b" * 1000}),
    Cut(401, {"a": "b" * 1000}),
    Reset(),
    Nothing(),
    Raw(b"HTTP/1.1 200 OK\r\ncontent-length: nonsense\r\n\r\n"),
    Raw(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: other\r\nconnection: upgrade\r\n\r\n"),
)


@pytest.mark.parametrize("answer", ENDINGS, ids=range(len(ENDINGS)))
@pytest.mark.parametrize("streamed", (False, True), ids=("held", "streamed"))
async def test_however_a_request_ends_it_takes_up_no_room(rig: Rig, answer: Any, *, streamed: bool) -> None:
    """Or a client would be locked out for good. Also where it leaves, is killed, or sends what can't be read."""
    home = rig.home("alice")
    key = add_client(home, max_in_flight=100)
    rig.upstream.respond = lambda _request: answer

    class Kills:
        def request(self, flow: http.HTTPFlow) -> None:
            if flow.request.path == "/kill":
                flow.kill()

    settings = {"stream_large_bodies": "1k"} if streamed else {}
    upgrade = {"connection": "upgrade", "upgrade": "other"} if answer is ENDINGS[-1] else {}
    async with reverse_gateway(rig, Kills(), **settings) as gateway:
        async with client(gateway.url, headers={"x-api-key": key, **upgrade}) as api:
            for path in ("/x", "/kill", "/y"):
                with suppress(httpx.HTTPError):
                    await api.post(path, content=b"x" * 5000)
            leaves = asyncio.create_task(api.post("/x", content=b"x" * 5000))
            await asyncio.sleep(0)
            leaves.cancel()
        for length in (b"10", b"many"):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nx-api-key: " + key.encode())
            writer.write(b"\r\nContent-Length: " + length + b"\r\n\r\nhalf")
            writer.write_eof()
            await reader.read()
            writer.close()
        keeper = service_of(gateway).clients.gatekeeper
        await until(lambda: keeper.in_flight("ci") == 0)
        assert keeper.usage.peek() or service_of(gateway).clients.usage("ci").requests


async def test_a_rate_is_refused_beyond(rig: Rig) -> None:
    """At once, not after a wait."""
    home = rig.home("alice")
    key = add_client(home, requests_per_second=0.001)
    async with reverse_gateway(rig) as gateway, client(gateway.url, headers={"x-api-key": key}) as api:
        assert (await api.get("/x")).status_code == 200
        refused = await api.get("/x")
    assert error_of(refused) == (429, "client_limited")
    assert int(refused.headers["retry-after"]) > 900


async def test_wrong_keys_are_limited_by_address(rig: Rig) -> None:
    """429 for who guesses; who has a key comes through from there all the same."""
    home = rig.home("alice")
    key = add_client(home)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        codes = [error_of(await api.get("/x", headers={"x-api-key": new_key().text}))[1] for _ in range(21)]
        assert codes == ["client_key_required"] * 20 + ["client_limited"]
        assert (await api.get("/x", headers={"x-api-key": key})).status_code == 200


async def test_who_used_what_can_be_answered(rig: Rig) -> None:
    """The comment, the access log, the usage, the trail."""
    home = rig.home("alice")
    key = add_client(home, pools=("p",))
    async with Upstream() as other, gateway_master(home, authpool_access_log="json") as gateway:
        async with client("", proxy=gateway.url, headers={"x-api-key": key}) as api:
            for url in (rig.upstream.url, rig.upstream.url, other.url):
                await api.get(f"{url}/x")
        service = service_of(gateway)
        lines = [json.loads(message) for message in gateway.messages if message.startswith("{")]
        told = [(one["client"], one["address"], one["account"], one["outcome"]) for one in lines]
        assert told[:2] == [("ci", "127.0.0.1", "alice", "answered")] * 2
        assert (told[2][0], told[2][3]) == ("ci", "client_not_allowed")
        usage = service.clients.usage("ci")
        assert (usage.requests, usage.refused) == (2, 1)
        await until(lambda: not service.clients.gatekeeper.usage)
    entries = await service.store.entries()
    assert [one.account for one in entries if one.event == "used" and one.reason == "by client ci"] == ["p/alice"]
    assert (await service.store.gateway_usage())["ci"].requests == 2


async def test_the_prompt_shows_the_clients(rig: Rig) -> None:
    """What they may and have used, and no key."""
    home = rig.home("alice")
    key = add_client(home, hosts=("127.0.0.1:1", rig.upstream.authority), max_in_flight=4)
    addon = Gateway()
    mode = f"reverse:{rig.upstream.url}"
    async with gateway_master(home, Commands(addon), gateway=addon, mode=mode) as gateway, client(gateway.url) as api:
        assert (await api.get("/x", headers={"x-api-key": key})).status_code == 200
        header, row = gateway.master.commands.execute("authpool.clients")  # type: ignore[no-untyped-call]
    shown = dict(zip(header, row, strict=True))
    assert (shown["CLIENT"], shown["STATE"], shown["REQUESTS"], shown["LIMITS"]) == ("ci", "active", "1", "4 at a time")
    assert key.split("_")[1] not in str(row)


# --- what a removal ends ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def streaming(rig: Rig, *, answer: Any) -> AsyncIterator[tuple[Path, str]]:
    home = rig.home("alice")
    rig.upstream.respond = lambda _request: answer
    yield home, add_client(home)


async def test_a_removal_cuts_a_stream(rig: Rig) -> None:
    """Of HTTP/1, with its connection."""
    stream = event_stream(gate=asyncio.Event())
    async with (
        streaming(rig, answer=stream) as (home, key),
        reverse_gateway(rig) as gateway,
        client(gateway.url) as api,
    ):
        async with api.stream("GET", "/x", headers={"x-api-key": key}) as answer:
            pieces = answer.aiter_bytes()
            assert await anext(pieces)
            remove_client(home)
            with pytest.raises(httpx.HTTPError):
                await asyncio.wait_for(anext(pieces), 20)
        await until(lambda: service_of(gateway).clients.gatekeeper.in_flight("ci") == 0)


async def test_a_removal_cuts_what_waits_for_an_answer(rig: Rig) -> None:
    """The upstream is silent, and would be for ever."""
    async with (
        streaming(rig, answer=Hang()) as (home, key),
        reverse_gateway(rig) as gateway,
        client(gateway.url) as api,
    ):
        asked = asyncio.create_task(api.get("/x", headers={"x-api-key": key}))
        await rig.upstream.wait_for_requests(1)
        remove_client(home)
        with pytest.raises(httpx.HTTPError):
            async with asyncio.timeout(20):
                await asked
        await gateway.wait_until(lambda: gateway.finished)


async def test_a_removal_cuts_a_websocket(rig: Rig) -> None:
    """Which counts as under way as long as it is open."""
    async with streaming(rig, answer=WebSocketEcho()) as (home, key), reverse_gateway(rig) as gateway:
        keeper = service_of(gateway).clients.gatekeeper
        lines = ["GET /ws HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade", f"x-api-key: {key}"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
        for ending in ("the client", "the operator"):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write("\r\n".join(lines).encode())
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"\x81\x82\x00\x00\x00\x00hi")
            assert await reader.readexactly(4) == b"\x81\x02hi"
            assert keeper.in_flight("ci") == 1
            if ending == "the operator":
                remove_client(home)
                with pytest.raises(ConnectionError):
                    await read_on(reader)
            writer.close()
            await until(lambda: keeper.in_flight("ci") == 0)


@pytest.mark.parametrize("how", ("removed", "leaked", "expired"))
async def test_an_end_cuts_a_tunnel(rig: Rig, authority: Any, confdir: Path, how: str) -> None:
    """With all that is in it, and nothing more is let in by its key."""
    async with Upstream(authority.server_context()) as upstream:
        rig.host, rig.upstream = upstream.authority, upstream
        async with streaming(rig, answer=event_stream(gate=asyncio.Event())) as (home, key):
            trust = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file), "confdir": confdir}
            async with (
                gateway_master(home, **trust) as gateway,
                proxied(gateway.url.replace("//", f"//{key}:@"), confdir) as api,
            ):
                async with api.stream("GET", f"{upstream.url}/x") as answer:
                    pieces = answer.aiter_bytes()
                    assert await anext(pieces)
                    await end(home, gateway, how)
                    with pytest.raises(httpx.HTTPError):
                        await asyncio.wait_for(anext(pieces), 20)
                with pytest.raises(httpx.ProxyError, match="407"):
                    await api.get(f"{upstream.url}/x")
    assert len(rig.upstream.received) == 1


async def end(home: Path, gateway: RunningGateway, how: str) -> None:
    now = service_of(gateway).clock.time()
    match how:
        case "removed":
            remove_client(home)
        case "leaked":
            another = issued(new_key())
            change_client(
                home, "ci", lambda one: one and one.with_rotated(another, now, overlap_seconds=0, leaked=True)
            )
        case _:
            change_client(home, "ci", lambda one: one and one.until(int(now) + 1))


async def test_a_removal_cuts_one_of_many_on_an_http2_connection(rig: Rig, authority: Any, confdir: Path) -> None:
    """The requests of another client on it go on: a proxy in front may put them together."""
    async with Upstream(authority.server_context(http2=True)) as upstream:
        rig.host, rig.upstream = upstream.authority, upstream
        gate = asyncio.Event()
        home = rig.home("alice")
        rig.upstream.respond = lambda _request: event_stream(gate=gate)
        front, gone, stays = add_client(home, "front"), add_client(home, "gone"), add_client(home, "stays")
        trust = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file), "confdir": confdir}
        async with (
            gateway_master(home, **trust) as gateway,
            proxied(gateway.url.replace("//", f"//{front}:@"), confdir, http2=True) as api,
        ):
            url = f"{upstream.url}/x"
            async with (
                api.stream("GET", url, headers={"x-api-key": stays}) as other,
                api.stream("GET", url, headers={"x-api-key": gone}) as cut,
            ):
                others, pieces = other.aiter_bytes(), cut.aiter_bytes()
                assert await anext(others)
                assert await anext(pieces)
                remove_client(home, "gone")
                with pytest.raises(httpx.HTTPError):
                    async with asyncio.timeout(20):
                        await anext(pieces)
                gate.set()
                assert await anext(others)
            assert len({flow.client_conn.id for flow in gateway.flows}) == 1
            keeper = service_of(gateway).clients.gatekeeper
            await until(lambda: keeper.in_flight("gone") == 0)


async def test_a_removal_is_not_undone_by_what_is_under_way(rig: Rig) -> None:
    """Requests race it, some before, some after, some being tried again: from then on none is let in, for ever."""
    home = rig.home("alice", "bob")
    rig.upstream.respond = lambda _request: JSON(200, {})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        keeper = service_of(gateway).clients.gatekeeper
        for number in range(3):
            name = f"ci{number}"
            key = add_client(home, name)
            await until(lambda name=name: name in keeper.keyring.entries)  # type: ignore[misc]
            statuses: list[int] = []
            removed = asyncio.Event()

            async def ask(key: str = key, statuses: list[int] = statuses, removed: asyncio.Event = removed) -> None:
                while not removed.is_set() or 401 not in statuses[-1:]:
                    try:
                        statuses.append((await api.get("/x", headers={"x-api-key": key})).status_code)
                    except httpx.HTTPError:  # cut off
                        statuses.append(0)

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            await until(lambda statuses=statuses: statuses.count(200) > 20)  # type: ignore[misc]
            remove_client(home, name)
            removed.set()
            async with asyncio.timeout(30):
                await asyncio.gather(*asking)
            assert statuses[-1] == 401
            await until(lambda: not keeper.usage)
            for _ in range(5):
                assert (await api.get("/x", headers={"x-api-key": key})).status_code == 401
            assert keeper.in_flight(name) == 0
        stored = await service_of(gateway).store.gateway_clients()
        assert [getattr(one, "removed", None) for one in stored.values()] == [True] * 3


async def test_a_request_that_waited_meanwhile_is_not_sent(rig: Rig) -> None:
    """Its client is removed while it waits for a token: it is cut off, and gets nothing out."""
    home = rig.home("alice", expires_in=-10)
    key = add_client(home)
    gate = asyncio.Event()
    rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        asked = asyncio.create_task(api.get("/x", headers={"x-api-key": key}))
        await gateway.wait_until(lambda: rig.posts == 1)
        remove_client(home)
        keeper = service_of(gateway).clients.gatekeeper
        await until(lambda: not any(keeper.holds(grant) for grant in keeper.keyring._grants.values()))
        gate.set()
        with pytest.raises(httpx.HTTPError):
            (await asked).raise_for_status()
        await gateway.wait_until(lambda: gateway.finished)
    assert rig.upstream.received == []


async def test_one_of_many_that_waited_meanwhile_is_not_sent(rig: Rig, authority: Any, confdir: Path) -> None:
    """On an HTTP/2 connection that goes on: the gate asks once more whether its client may."""
    async with Upstream(authority.server_context(http2=True)) as upstream:
        rig.host, rig.upstream = upstream.authority, upstream
        home = rig.home("alice", expires_in=-10)
        front, gone = add_client(home, "front"), add_client(home, "gone")
        gate = asyncio.Event()
        rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
        trust = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file), "confdir": confdir}
        async with (
            gateway_master(home, **trust) as gateway,
            proxied(gateway.url.replace("//", f"//{front}:@"), confdir, http2=True) as api,
        ):
            asked = asyncio.create_task(api.get(f"{upstream.url}/x", headers={"x-api-key": gone}))
            await gateway.wait_until(lambda: rig.posts == 1)
            remove_client(home, "gone")
            keeper = service_of(gateway).clients.gatekeeper
            await until(lambda: getattr(keeper.keyring.entries["gone"], "removed", False))
            gate.set()
            with pytest.raises(httpx.HTTPError):
                (await asked).raise_for_status()
            assert rig.upstream.received == []
            assert (await api.get(f"{upstream.url}/x")).status_code == 200
            await until(lambda: keeper.in_flight("gone") == 0)


async def test_a_store_that_is_away_changes_nothing(rig: Rig) -> None:
    """What is known goes on, what is unknown stays so; and it is said, once."""
    home = rig.home("alice")
    key = add_client(home)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x", headers={"x-api-key": key})).status_code == 200
        (home / "clients").rename(home / "away")
        await gateway.wait_until(lambda: [m for m in gateway.messages if "keys are as they were" in m])
        assert (await api.get("/x", headers={"x-api-key": key})).status_code == 200
        assert error_of(await api.get("/x")) == REQUIRED
        assert error_of(await api.get("/x", headers={"x-api-key": new_key().text})) == REQUIRED
        (home / "away").rename(home / "clients")
        await gateway.wait_until(lambda: [m for m in gateway.messages if "can be read again" in m])


async def test_keys_switched_on_hold_at_once(rig: Rig) -> None:
    """By a reload, also on connections that are there already."""
    home = rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        write_configuration(home, pools={"p": rig.pool()}, gateway={"client_keys": "required"})
        async with asyncio.timeout(30):
            while (await api.get("/x")).status_code != 401:
                await asyncio.sleep(0.02)


async def test_keys_that_begin_cut_what_is_relayed_without_one(rig: Rig, confdir: Path, authority: Any) -> None:
    """Nobody looks into it, so no request of it would ever be asked for a key."""
    async with Upstream(authority.server_context()) as tls:
        home = rig.home("alice", gateway={"unmatched": "tunnel"})
        async with gateway_master(home, mode="socks5", confdir=confdir) as gateway:
            reader, writer = await through_socks(gateway.port, tls.port, None)
            await writer.start_tls(authority.client_context(), server_hostname="localhost")
            writer.write(f"GET /x HTTP/1.1\r\nHost: {tls.authority}\r\n\r\n".encode())
            assert b" 200 " in await reader.readline()
            add_client(home)
            with pytest.raises(ConnectionError):
                await read_on(reader)
            await gateway.wait_until(lambda: [m for m in gateway.messages if "keys are asked for by now" in m])
            writer.close()


@pytest.mark.parametrize(
    ("mode", "peer", "is_open"),
    (
        ("regular", "127.0.0.1", False),
        ("regular", "192.0.2.7", True),
        ("regular@127.0.0.1:1", "::1", False),
        ("regular@0.0.0.0:1", "127.0.0.1", True),
        ("reverse:https://api.example.com@[::]:1", "::1", True),
        ("local", "192.0.2.7", False),
    ),
)
async def test_a_connection_is_open_by_its_listener(rig: Rig, mode: str, peer: str, *, is_open: bool) -> None:
    """And by who made it, while a listener is being closed."""
    rig.home("alice")
    async with reverse_gateway(rig):
        flow: http.HTTPFlow = tflow.tflow()
        flow.client_conn.proxy_mode = ProxyMode.parse(mode)
        flow.client_conn.peername = (peer, 50_000)
        assert client_access._is_open(flow.client_conn) is is_open
