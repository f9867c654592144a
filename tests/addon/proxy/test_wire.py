"""What goes over the wire, in every mode and version that carries HTTP: seen where it arrives."""

import asyncio
import base64
import os
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from mitmproxy import addonmanager, http
from mitmproxy.io import FlowReader, FlowWriter
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.test import tflow

from authpool.errors import ConfigurationError
from authpool.gateway.pools import Snapshot
from authpool.proxy import wire
from authpool.proxy.reach import ConfiguredReach
from authpool.proxy.wire import installed, message_check
from support.certificates import CertificateAuthority
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.streams import WebSocketEcho
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy


CLIENTS_OWN = {
    "authorization": "Bearer the-clients-own",
    "x-api-key": "the-clients-own",
    "x-goog-api-key": "the-clients-own",
}


def trust(authority: CertificateAuthority) -> dict[str, Any]:
    return {"ssl_verify_upstream_trusted_ca": str(authority.ca_file)}


# --- modes and versions ---------------------------------------------------------------------------------------------


async def test_reverse_mode_replaces_the_credential_and_nothing_else(rig: Rig) -> None:
    """Method, target, body and every other header arrive as the client sent them."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        target = "/a%2Fb//c;d?x=%2B+%20&y=&access_token=mine&&z=~"
        answer = await api.request(
            "PATCH",
            f"{gateway.url}{target}",
            content=b"\x00\xff body",
            headers=CLIENTS_OWN | {"X-Other": "kept, as is"},
        )

    received = rig.upstream.received[0]
    assert answer.status_code == 200
    assert (received.method, received.body) == ("PATCH", b"\x00\xff body")
    assert received.target == "/a%2Fb//c;d?x=%2B+%20&y=&&z=~"
    assert rig.provider.account_of(received.bearer or "") == "alice"
    assert "the-clients-own" not in str(received.headers)
    assert received.all_headers("X-Other") == ["kept, as is"]
    assert len(received.all_headers("authorization")) == 1


async def test_a_plain_proxy_request_gets_the_credential_on_loopback(rig: Rig, confdir: Path) -> None:
    """Regular mode without a tunnel; the client's Proxy-Authorization stays here."""
    rig.home("alice")
    async with gateway_master(rig.path, confdir=confdir) as gateway, proxied(gateway.url, confdir) as api:
        answer = await api.get(f"{rig.upstream.url}/x", headers={"Proxy-Authorization": "Basic a2V5"} | CLIENTS_OWN)

    assert answer.status_code == 200
    assert rig.owners == ["alice"]
    assert "the-clients-own" not in str(rig.upstream.received[0].headers)
    assert rig.upstream.received[0].header("proxy-authorization") is None


@pytest.mark.parametrize("http2", (True, False), ids=("h2", "h1"))
async def test_a_tunnel_is_opened_and_the_credential_put_on(
    *,
    http2: bool,
    rig: Rig,
    tls_upstream: Upstream,
    http2_upstream: Upstream,
    authority: CertificateAuthority,
    confdir: Path,
) -> None:
    """CONNECT and mitmproxy's CA; the client speaks what the upstream speaks."""
    rig.upstream = http2_upstream if http2 else tls_upstream
    rig.host = f"localhost:{rig.upstream.port}"
    rig.home("alice")
    async with (
        gateway_master(rig.path, confdir=confdir, **trust(authority)) as gateway,
        proxied(gateway.url, confdir, http2=True) as api,
    ):
        answers = [await post_with_own_credentials(api, f"https://{rig.host}") for _ in range(2)]

    assert {answer.http_version for answer in answers} == {"HTTP/2" if http2 else "HTTP/1.1"}
    check_that_all_arrived_clean(rig, 2)


@pytest.mark.parametrize("upstream_http2", (True, False), ids=("upstream-h2", "upstream-h1"))
@pytest.mark.parametrize("client_http2", (True, False), ids=("client-h2", "client-h1"))
async def test_versions_may_differ_on_the_two_sides(
    *,
    client_http2: bool,
    upstream_http2: bool,
    rig: Rig,
    tls_upstream: Upstream,
    http2_upstream: Upstream,
    authority: CertificateAuthority,
    confdir: Path,
) -> None:
    """Reverse mode over TLS; mitmproxy offers the upstream what the client offered."""
    rig.upstream = http2_upstream if upstream_http2 else tls_upstream
    rig.host = f"localhost:{rig.upstream.port}"
    rig.home("alice")
    settings = trust(authority) | {"mode": f"reverse:https://{rig.host}", "connection_strategy": "lazy"}
    async with gateway_master(rig.path, confdir=confdir, **settings) as gateway:
        mitmproxys_ca = _OneVersion("h2" if client_http2 else "http/1.1", confdir / "mitmproxy-ca-cert.pem")
        url = f"https://localhost:{gateway.port}"
        async with client(url, verify=mitmproxys_ca, http1=not client_http2, http2=client_http2) as api:
            answers = [await post_with_own_credentials(api, url) for _ in range(2)]

    assert {answer.http_version for answer in answers} == {"HTTP/2" if client_http2 else "HTTP/1.1"}
    check_that_all_arrived_clean(rig, 2)


class _OneVersion(ssl.SSLContext):
    """Offers one version of HTTP, where httpx would offer HTTP/1.1 first."""

    def __new__(cls, alpn: str, ca_file: Path) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, alpn: str, ca_file: Path) -> None:
        self.load_verify_locations(ca_file)
        super().set_alpn_protocols([alpn])

    def set_alpn_protocols(self, alpn_protocols: object) -> None:
        pass


async def post_with_own_credentials(api: httpx.AsyncClient, url: str) -> httpx.Response:
    return await api.post(f"{url}/x?access_token=mine&a=1", content=b"body", headers=CLIENTS_OWN)


def check_that_all_arrived_clean(rig: Rig, count: int) -> None:
    assert rig.owners == ["alice"] * count
    for received in rig.upstream.received:
        assert (received.target, received.body) == ("/x?a=1", b"body")
        assert "the-clients-own" not in str(received.headers)


async def test_socks5_mode_carries_the_credential(rig: Rig) -> None:
    """The client names host and port in the SOCKS handshake."""
    rig.home("alice")
    async with gateway_master(rig.path, mode="socks5") as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"\x05\x01\x00")
        assert await reader.readexactly(2) == b"\x05\x00"
        writer.write(b"\x05\x01\x00\x01" + bytes([127, 0, 0, 1]) + struct.pack(">H", rig.upstream.port))
        assert (await reader.readexactly(10))[:2] == b"\x05\x00"
        writer.write(f"GET /x HTTP/1.1\r\nHost: {rig.upstream.authority}\r\nAuthorization: mine\r\n\r\n".encode())
        assert b" 200 " in await reader.readline()
        writer.close()
        await writer.wait_closed()

    assert rig.owners == ["alice"]
    assert rig.upstream.received[0].all_headers("authorization") == [f"Bearer {rig.bearers[0]}"]


async def test_upstream_mode_carries_the_credential_past_another_proxy(rig: Rig, confdir: Path) -> None:
    """`--mode upstream:...` on loopback: the proxy behind hands it on."""
    rig.home("alice")
    mode = f"upstream:http://{rig.upstream.authority}"  # an HTTP server is proxy enough for absolute-form requests
    async with gateway_master(rig.path, mode=mode, confdir=confdir) as gateway, proxied(gateway.url, confdir) as api:
        answer = await api.get(f"{rig.upstream.url}/x", headers=CLIENTS_OWN)

    assert answer.status_code == 200
    assert rig.upstream.received[0].target == f"{rig.upstream.url}/x"
    assert rig.owners == ["alice"]


async def test_a_websocket_handshake_carries_the_credential(rig: Rig) -> None:
    """The upgrade is a request like any other, and the connection works afterwards."""
    rig.home("alice")
    rig.upstream.then(WebSocketEcho())
    async with reverse_gateway(rig) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            "GET /ws HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Authorization: mine",
        ]
        lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", "", ""]
        writer.write("\r\n".join(lines).encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x81\x82\x00\x00\x00\x00hi")
        assert await reader.readexactly(4) == b"\x81\x02hi"
        writer.close()
        await writer.wait_closed()

    assert rig.owners == ["alice"]


async def test_a_query_pool_puts_the_token_into_the_target_alone(rig: Rig) -> None:
    """`inject = { query = "key" }`, percent-encoded; the client's own value and headers are gone."""
    rig.upstream.credential_of = lambda request: (request.query.get("key") or [""])[-1]
    token = "t+o/k=e&n %"
    rig.home(
        inject={"query": "key", "value": "{token}"}, type="static", token_url=None, client_secret=None, client_id=None
    )
    rig.upstream.accept({token})
    rig.write("key", token={"access_token": token})
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get(f"{gateway.url}/x?key=mine&a=%20&k%65y=mine", headers=CLIENTS_OWN)
        flow = gateway.flows[0]

    received = rig.upstream.received[0]
    assert answer.status_code == 200
    assert received.target == "/x?a=%20&key=t%2Bo%2Fk%3De%26n%20%25"
    assert "mine" not in str(received)
    assert "the-clients-own" not in str(received)
    assert flow.request.path == "/x?a=%20&key=[authpool]"


async def test_a_query_pool_carries_a_target_of_any_bytes(rig: Rig) -> None:
    """Bytes beyond ASCII in a target are unusual, and none of the gateway's business."""
    rig.home("alice", inject={"query": "key", "value": "{token}"})
    rig.upstream.credential_of = lambda request: (request.query.get("key") or [""])[-1]
    async with reverse_gateway(rig) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET /caf\xc3\xa9? HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()
        await writer.wait_closed()

    assert rig.upstream.received[0].target.encode("latin-1").startswith(b"/caf\xc3\xa9?key=access-")


# --- what is not for the pool ---------------------------------------------------------------------------------------


async def test_a_host_of_no_pool_is_left_alone(rig: Rig, confdir: Path) -> None:
    """The client's own credential reaches it, and no placeholder."""
    rig.home("alice")
    async with (
        Upstream() as other,
        gateway_master(rig.path, confdir=confdir) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        answer = await api.get(f"{other.url}/x?access_token=mine&key=k", headers=CLIENTS_OWN)
        comment = gateway.flows[0].comment

    assert answer.status_code == 200
    assert other.received[0].target == "/x?access_token=mine&key=k"
    assert other.received[0].bearer == "the-clients-own"
    assert other.received[0].header("x-api-key") == "the-clients-own"
    assert comment == ""


async def test_a_path_or_method_outside_the_pool_is_left_alone(rig: Rig) -> None:
    """`paths` and `methods` narrow: whatever does not match exactly gets nothing."""
    rig.home("alice", paths=["/v1/*"], methods=["GET"])
    rig.upstream.accept({*rig.secrets, "mine"})
    async with reverse_gateway(rig) as gateway, client(gateway.url, headers={"authorization": "Bearer mine"}) as api:
        for method, target in (
            ("GET", "/v1/x"),
            ("POST", "/v1/x"),
            ("GET", "/v2/x"),
            ("GET", "/v1%2fx"),
            ("GET", "/v2/?/v1/x"),
        ):
            await api.request(method, f"{gateway.url}{target}")

    assert rig.owners == ["alice", "mine", "mine", "mine", "mine"]


class _NoConnection:
    """Notes every connection that mitmproxy opens."""

    def __init__(self) -> None:
        self.opened: list[object] = []

    def server_connect(self, data: object) -> None:
        self.opened.append(data)


async def test_plain_http_to_another_machine_is_refused_before_anything_is_connected(rig: Rig, confdir: Path) -> None:
    """A token never goes in the clear, and neither does the client's own."""
    rig.host = "api.example.test:80"
    rig.home("alice")
    watch = _NoConnection()
    async with gateway_master(rig.path, watch, confdir=confdir) as gateway, proxied(gateway.url, confdir) as api:
        answer = await api.get("http://api.example.test/x", headers=CLIENTS_OWN)
        comment = gateway.flows[0].comment

    assert answer.status_code == 403
    assert answer.headers["authpool-error"] == answer.json()["type"].rpartition(":")[2] == "plaintext_refused"
    assert watch.opened == []
    assert "plaintext_refused" in comment


async def test_plain_http_through_a_proxy_elsewhere_is_refused(rig: Rig, confdir: Path) -> None:
    """Loopback is no protection when another machine's proxy carries the request there."""
    rig.host = "localhost:80"
    rig.home("alice")
    mode = f"upstream:http://0.0.0.0:{rig.upstream.port}"  # leads here, and is no loopback address
    async with gateway_master(rig.path, mode=mode, confdir=confdir) as gateway, proxied(gateway.url, confdir) as api:
        answer = await api.get("http://localhost/x", headers=CLIENTS_OWN)

    assert answer.headers.get("authpool-error") == "plaintext_refused"
    assert rig.upstream.received == []


# --- the client's ways to aim a credential elsewhere ----------------------------------------------------------------


async def test_a_host_header_of_another_site_gets_no_credential(rig: Rig, confdir: Path) -> None:
    """On a machine that many sites share the Host header decides whose request it is."""
    rig.home("alice")
    async with gateway_master(rig.path, confdir=confdir) as gateway, proxied(gateway.url, confdir) as api:
        answer = await api.get(f"{rig.upstream.url}/x", headers={"Host": "evil.test"} | CLIENTS_OWN)

    assert (answer.status_code, answer.headers["authpool-error"]) == (400, "request_refused")
    assert rig.upstream.received == []


async def test_a_tls_name_of_another_site_gets_no_credential(
    rig: Rig, tls_upstream: Upstream, authority: CertificateAuthority, confdir: Path
) -> None:
    """Mitmproxy asks for, and checks, the certificate of the name the client sent: any site's would do."""
    rig.upstream = tls_upstream
    rig.host = f"127.0.0.1:{rig.upstream.port}"
    rig.home("alice")
    async with gateway_master(rig.path, confdir=confdir, **trust(authority)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(f"CONNECT {rig.host} HTTP/1.1\r\n\r\n".encode())
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        mitmproxys_ca = ssl.create_default_context(cafile=str(confdir / "mitmproxy-ca-cert.pem"))
        await writer.start_tls(mitmproxys_ca, server_hostname="localhost")
        writer.write(f"GET /x HTTP/1.1\r\nHost: {rig.host}\r\nAuthorization: mine\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    assert b" 500 " in answer
    assert b"Authpool-Error: gateway_error" in answer
    assert rig.upstream.received == []


# --- replays and flow files -----------------------------------------------------------------------------------------


async def test_a_client_replay_gets_a_token_of_the_moment(rig: Rig) -> None:
    """What was recorded holds a placeholder; the replay goes out with whatever is live now."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        await api.post("/x", content=b"body")
        rig.write("alice", token=rig.token("alice"))
        await gateway.wait_until(lambda: _token_of(gateway) != rig.bearers[0])
        await gateway.wait_until(lambda: not gateway.flows[0].live)
        gateway.master.commands.call("replay.client", [gateway.flows[0]])
        await rig.upstream.wait_for_requests(2)

    assert rig.owners == ["alice", "alice"]
    assert rig.bearers[1] not in {None, rig.bearers[0]}
    assert rig.upstream.received[1].body == b"body"


def _token_of(gateway: object) -> str | None:
    service = gateway.master.addons.get("authpool").service  # type: ignore[attr-defined]
    return next(iter(service.snapshot.pools["p"])).account.token.access_token  # type: ignore[no-any-return]


async def test_flows_read_from_a_file_are_left_alone(rig: Rig, tmp_path: Path) -> None:
    """A recording is shown as it was recorded, though all hooks run for it."""
    rig.home("alice")
    recorded = tflow.tflow(resp=True, req=http.Request.make("GET", f"{rig.upstream.url}/x"))
    recorded.request.headers["Authorization"] = "old"
    with (tmp_path / "flows").open("wb") as file:
        FlowWriter(file).add(recorded)
    async with reverse_gateway(rig) as gateway:
        await gateway.master.load_flow(next(_read(tmp_path / "flows")))
        assert gateway.flows[0].request.headers["Authorization"] == "old"
        assert gateway.flows[0].comment == ""

    assert rig.upstream.received == []


def _read(path: Path) -> Iterator[http.HTTPFlow]:
    with path.open("rb") as file:
        yield from FlowReader(file).stream()  # type: ignore[misc]


# --- mitmproxy's side of it -----------------------------------------------------------------------------------------


def test_this_mitmproxy_has_all_that_is_relied_on() -> None:
    """The check at start passes on every supported version."""
    wire.verify()


def test_a_mitmproxy_that_changed_stops_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what is missing and what to install, rather than failing open later."""
    monkeypatch.delattr(http_layer.HttpStream, "check_killed")
    with pytest.raises(ConfigurationError, match=r"HttpStream.check_killed.*mitmproxy>=12\.3,<13"):
        wire.verify()


def test_a_gate_that_was_replaced_does_not_take_its_successor_away() -> None:
    """On a reload of the script the old gateway ends after the new one has begun."""
    first, second = _Gate(), _Gate()
    reach = ConfiguredReach(_no_snapshot)
    wire.install(first, reach, lambda: http.Response.make(500), fast_dispatch=False)
    wire.install(second, reach, lambda: http.Response.make(500), fast_dispatch=False)
    wire.remove(first)
    assert _gate() is second
    wire.remove(second)
    assert _gate() is None
    assert http_layer.HttpStream is wire.GatewayStream


def _no_snapshot() -> Snapshot:
    raise AssertionError("nobody is to be reached here")


def _gate() -> object:
    return installed.Installed.gate


def _fields_of(message: http.Message) -> dict[str, Any]:
    return dict(vars(message.data))


_WRONG: dict[str, Any] = {"headers": {}, "content": "text", "timestamp_start": "now", "trailers": []}


@pytest.mark.parametrize(
    "message", (tflow.tflow().request, tflow.tflow(resp=True).response), ids=("request", "response")
)
def test_messages_are_checked_as_strictly_as_ever(message: http.Message) -> None:
    """What is declared passes, None where it may be; what is not is refused by mitmproxy itself, field by field."""
    kind, good = type(message.data), _fields_of(message)
    made = []
    for quick in (True, False):
        (message_check.check_quickly if quick else message_check.check_as_ever)()
        refused = []
        kind(**good)
        kind(**good | {"content": None, "trailers": None, "timestamp_end": None})
        for name in good:
            try:
                kind(**good | {name: _WRONG.get(name, object())})
            except TypeError as error:
                refused.append((name, str(error).partition(" object at")[0]))
        made.append(refused)
    assert made[0] == made[1]
    assert {name for name, _ in made[0]} >= good.keys() - {"timestamp_end"}


class _Gate:
    def outgoing(self, flow: object, request: http.Request, server: object) -> http.Request:
        return request

    def may_resend(self, flow: object) -> bool:
        return False

    def resend(self, flow: object) -> bool:
        return False

    def echo_of(self, flow: object) -> None:
        return None

    def hides_request(self, flow: object) -> bool:
        return False

    def lets_flow(self, flow: object) -> bool:
        return False

    def unreachable(self, flow: object) -> http.Response:
        return http.Response.make(403)


class _Listener:
    """An addon with the one hook, under a name of its own."""

    def __init__(self, name: str, said: list[str], nested: tuple[object, ...] = ()) -> None:
        self.name = name
        self._said = said
        if nested:
            self.addons = nested

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        self._said.append(self.name)


class _Raises(_Listener):
    def requestheaders(self, flow: http.HTTPFlow) -> None:
        super().requestheaders(flow)
        raise RuntimeError("on purpose")


class _Silent:
    name = "silent"

    def __init__(self, *nested: object) -> None:
        self.addons = nested


Trigger = Callable[[addonmanager.AddonManager, object], object]


@pytest.mark.parametrize("fast", (True, False), ids=("fast", "stock"))
async def test_dispatch_reaches_the_same_addons_in_the_same_order(*, rig: Rig, fast: bool) -> None:
    """Nested addons, hooks set later, one that raises: skipping is for addons without the hook only."""
    said: list[str] = []
    late = _Silent()
    addons = (
        _Raises("raises", said),
        _Listener("a", said, (_Listener("a.b", said), _Silent2(_Listener("a.c.d", said)))),
        _Listener("c", said, (_Raises("c.raises", said), _Listener("after c.raises", said))),
        late,
    )
    rig.home("alice", gateway={"fast_dispatch": fast})
    async with reverse_gateway(rig, *addons) as gateway, client(gateway.url) as api:
        late.requestheaders = lambda flow: said.append("late")  # type: ignore[attr-defined]
        await api.get("/x")
        replaced = addonmanager.AddonManager.trigger_event is wire.fast_trigger_event

    # An addon that raises takes its own branch along, and no other: that is mitmproxy's way.
    assert said == ["raises", "a", "a.b", "a.c.d", "c", "c.raises", "late"]
    assert replaced is fast


class _Silent2(_Silent):
    name = "silent2"
