"""Requests that are written to be read in two ways: none takes a credential along, or where it was not to go."""

import asyncio
import json
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

import httpx
import pytest
from mitmproxy import http

from authpool.proxy.request_head import fields_left, hosts_named, is_well_formed
from support.certificates import CertificateAuthority
from support.gateway import Mitmdump, RunningGateway
from support.pool_rig import Rig, gateway_master, reverse_gateway
from support.raw_client import RawAnswer, head, send_raw
from support.upstream import Upstream

SCRIPT = Path(__file__).parents[3] / "addon" / "gateway.py"


def refusal(answer: RawAnswer) -> str | None:
    """The code of the gateway's own answer, where it is one in every respect."""
    code = answer.header("authpool-error")
    if code is None or answer.header("content-type") != "application/problem+json":
        return None
    return code if json.loads(answer.body)["status"] == answer.status else None


def errors(gateway: RunningGateway) -> list[str]:
    return [record.getMessage() for record in gateway.log if record.levelname in {"ERROR", "CRITICAL"}]


# --- where it goes --------------------------------------------------------------------------------------------------


@pytest.mark.mitmproxy
@pytest.mark.parametrize(
    ("target", "code"),
    (
        ("http://evil.example/v1", "request_refused"),
        ("https://evil.example/v1", "request_refused"),
        ("http://127.0.0.1.evil.example/v1", "request_refused"),
        ("http://127.0.0.1:1/v1", "request_refused"),
        ("http://{upstream}/v1", None),
        ("http://127.0.0.1:{port}/v1", None),
        ("http://localhost:{port}/v1", None),
    ),
)
async def test_in_reverse_mode_a_target_with_an_authority_names_the_upstream_or_the_listener(
    rig: Rig, target: str, code: str | None
) -> None:
    """Nginx takes the target's authority before the Host header; whatever was named, the upstream is told a path."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway:
        line = target.format(upstream=rig.upstream.authority, port=gateway.port)
        answer = await send_raw(gateway.port, head(f"GET {line} HTTP/1.1", f"Host: {line.split('/')[2]}"))
        differing = await send_raw(gateway.port, head(f"GET {line} HTTP/1.1", "Host: evil.example"))
        assert errors(gateway) == []

    assert refusal(differing) == (code or "client_not_allowed")

    assert refusal(answer) == code
    assert answer.status == (200 if code is None else 400)
    assert [request.target for request in rig.upstream.received] == ([] if code else ["/v1"])


@pytest.mark.mitmproxy
@pytest.mark.parametrize(
    "hosts",
    (
        ("Host: evil.example",),
        ("Host: {upstream}", "Host: evil.example"),
        ("Host: {upstream}", "Host: {upstream}"),
        ("Host: 127.0.0.1:1",),
        ("Host: user@{upstream}",),
        ("Host: {upstream}/",),
        ("Host: \uff11{upstream}",),
    ),
)
async def test_a_proxy_request_whose_host_is_another_is_a_bad_request(rig: Rig, hosts: tuple[str, ...]) -> None:
    """A client's mistake, or attempt: the answer says so, and the log has no error of it."""
    rig.home("alice")
    lines = [host.format(upstream=rig.upstream.authority) for host in hosts]
    async with gateway_master(rig.path) as gateway:
        request = "\r\n".join((f"GET {rig.upstream.url}/v1 HTTP/1.1", *lines, "Connection: close", "", ""))
        answer = await send_raw(gateway.port, request.encode())
        assert errors(gateway) == []

    assert (answer.status, refusal(answer)) == (400, "request_refused")
    assert rig.upstream.received == []


@pytest.mark.mitmproxy
async def test_inside_a_tunnel_a_target_with_another_authority_is_refused(
    rig: Rig, tls_upstream: Upstream, authority: CertificateAuthority, confdir: Path
) -> None:
    """The tunnel is the destination; HTTP/1 in it may have targets with an authority as well."""
    rig.upstream = tls_upstream
    rig.home("alice")
    trust = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file)}
    statuses = []
    async with gateway_master(rig.path, confdir=confdir, **trust) as gateway:
        mitmproxys_ca = ssl.create_default_context(cafile=str(confdir / "mitmproxy-ca-cert.pem"))
        for target in ("https://evil.example/v1", f"{tls_upstream.url}/v1"):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(f"CONNECT {tls_upstream.authority} HTTP/1.1\r\n\r\n".encode())
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await writer.start_tls(mitmproxys_ca, server_hostname="127.0.0.1")
            writer.write(head(f"GET {target} HTTP/1.1", f"Host: {tls_upstream.authority}"))
            statuses.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
            writer.close()

    assert statuses == [b"400", b"200"]
    assert [request.target for request in tls_upstream.received] == ["/v1"]


# --- what the upstream would repeat ---------------------------------------------------------------------------------


@pytest.mark.mitmproxy
@pytest.mark.parametrize("method", ("TRACE", "TRACK", "trace", "Track"))
async def test_methods_that_the_upstream_answers_with_the_request_are_refused(rig: Rig, method: str) -> None:
    """The answer would be the credential."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway:
        answer = await send_raw(gateway.port, head(f"{method} /v1 HTTP/1.1", "Host: localhost"))

    assert (answer.status, refusal(answer)) == (405, "method_refused")
    assert "TRACE" not in (answer.header("allow") or "TRACE")
    assert rig.upstream.received == []


@pytest.mark.mitmproxy
async def test_nor_is_a_header_for_them_let_through(rig: Rig) -> None:
    """Whether the pool is narrowed or not; any other method is the client's to choose where it is not."""
    rig.home("alice")
    lines = ("X-HTTP-Method-Override: trace", "X_Http_Method:  TRACK ", "X-Method-Override: PATCH")
    async with reverse_gateway(rig) as gateway:
        assert (await send_raw(gateway.port, head("POST /v1 HTTP/1.1", "Host: localhost", *lines))).status == 200
    (received,) = rig.upstream.received
    names = {name.lower() for name, _ in received.headers}
    assert names & {"x-http-method-override", "x_http_method", "x-method-override"} == {"x-method-override"}


# --- fields that undo the choice ------------------------------------------------------------------------------------

OVERRIDES = (
    "X-HTTP-Method-Override: DELETE",
    "X-HTTP-Method: DELETE",
    "X-Method-Override: DELETE",
    "x_http_method_override: DELETE",
    "X-Original-URL: /admin",
    "X-Rewrite-URL: /admin",
    "X-Original-URI: /admin",
    "X-Forwarded-Path: /admin",
    "X-Forwarded-Uri: /admin",
    "X-Forwarded-Prefix: /admin",
    "X-Envoy-Original-Path: /admin",
    "X-Matched-Path: /admin",
    "X-WAWS-Unencoded-URL: /admin",
    "Destination: /admin",
)


@pytest.mark.mitmproxy
@pytest.mark.parametrize(
    "narrowing", ({"methods": ["GET"]}, {"paths": ["/v1/*"]}, {}), ids=("methods", "paths", "none")
)
async def test_a_narrowed_pool_lets_no_other_method_or_path_in_by_a_header(
    rig: Rig, narrowing: dict[str, list[str]]
) -> None:
    """Where a pool is not narrowed they are nobody's business."""
    rig.home("alice", **narrowing)
    async with reverse_gateway(rig) as gateway:
        answer = await send_raw(
            gateway.port, head("GET /v1/x?_method=DELETE&a=1 HTTP/1.1", "Host: localhost", *OVERRIDES, "X-Mine: 1")
        )
    (received,) = rig.upstream.received

    names = {name.lower() for name, _ in received.headers}
    overriding = {line.partition(":")[0].lower() for line in OVERRIDES}
    assert answer.status == 200
    assert "x-mine" in names
    assert names & overriding == (set() if narrowing else overriding)
    assert received.target == ("/v1/x?a=1" if narrowing else "/v1/x?_method=DELETE&a=1")


@pytest.mark.mitmproxy
async def test_no_trailer_does_either(rig: Rig) -> None:
    """Some servers take trailers for header fields."""
    rig.home("alice", methods=["POST"])
    trailers = "X-HTTP-Method-Override: DELETE\r\nAuthorization: mine\r\nX_Original_URL: /admin"
    body = f"2\r\nok\r\n0\r\n{trailers}\r\n\r\n".encode()
    async with reverse_gateway(rig) as gateway:
        request = head("POST /v1 HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked")
        assert (await send_raw(gateway.port, request + body)).status == 200

    (received,) = rig.upstream.received
    assert (received.body, rig.owners) == (b"ok", ["alice"])


@pytest.mark.mitmproxy
@pytest.mark.parametrize(
    ("sent", "arrives"),
    (
        ("Authorization", None),
        ("close, AUTHORIZATION", "close"),
        ("x-key, keep-alive , Host,Content-Length", "keep-alive"),
        ("Upgrade, HTTP2-Settings", "Upgrade"),
    ),
)
async def test_connection_names_no_field_that_counts(rig: Rig, sent: str, arrives: str | None) -> None:
    """A proxy on the way drops what it names: the credential, and the account would seem to be refused."""
    rig.home("alice", inject={"header": "X-Key", "value": "{token}"})
    rig.upstream.credential_of = lambda request: request.header("x-key")
    request = f"GET /v1 HTTP/1.1\r\nHost: localhost\r\nConnection: {sent}\r\nProxy-Connection: X-Key\r\n\r\n"
    async with reverse_gateway(rig) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(request.encode())
        assert b" 200 " in await reader.readuntil(b"\r\n")
        writer.close()
    (received,) = rig.upstream.received

    assert received.header("connection") == arrives
    assert received.header("proxy-connection") is None
    assert received.header("x-key")


@pytest.mark.mitmproxy
@pytest.mark.parametrize("target", ("/v1#frag", "/v1?a=1#frag", "/v1?a=1#b?c=d"))
async def test_no_fragment_stands_before_a_credential_in_the_query(rig: Rig, target: str) -> None:
    """Behind a `#` an upstream would not see the key, and others would see it where no query is looked for."""
    rig.home("alice", inject={"query": "key", "value": "{token}"})
    rig.upstream.credential_of = lambda request: (request.query.get("key") or [""])[-1]
    async with reverse_gateway(rig) as gateway:
        answer = await send_raw(gateway.port, head(f"GET {target} HTTP/1.1", "Host: localhost"))

    assert answer.status == 200
    assert "#" not in rig.upstream.received[0].target


# --- what somebody changes afterwards -------------------------------------------------------------------------------


class _Changes:
    """Another addon, or a hand in mitmweb, after the pool was chosen."""

    def __init__(self, change: Callable[[http.Request], None]) -> None:
        self._change = change

    def request(self, flow: http.HTTPFlow) -> None:
        self._change(flow.request)


def _set(name: str, value: object) -> Callable[[http.Request], None]:
    return lambda request: setattr(request, name, value)


def _header(name: str, value: str) -> Callable[[http.Request], None]:
    return lambda request: request.headers.__setitem__(name, value)


SPOILT: dict[str, Callable[[http.Request], None]] = {
    "host": _header("host", "evil.test"),
    "second host": lambda request: request.headers.add("Host", "evil.test"),
    "authority": _set("authority", "evil.test"),
    "line end in the path": _set("path", "/v1 HTTP/1.1\r\nHost: evil.test\r\n\r\nGET /x"),
    "blank in the path": _set("path", "/v1 HTTP/1.1"),
    "line end in the version": _set("http_version", "HTTP/1.1\r\nHost: evil.test"),
    "another form of path": _set("path", "http://evil.test/v1"),
    "line end in a header": _header("x-a", "1\r\nHost: evil.test"),
    "line feed in a header": _header("x-a", "1\nAuthorization: x"),
    "carriage return in a header": _header("x-a", "1\rx"),
    "line end in a header's name": _header("x-a\r\nHost", "evil.test"),
    "line end in the method": _set("method", "GET /y HTTP/1.1\r\nx:"),
    "method": _set("method", "TRACE"),
    "two lengths": lambda request: request.headers.add("Content-Length", "0"),
    "length and coding": _header("transfer-encoding", "chunked"),
    "wrong length": _header("content-length", "1"),
}


@pytest.mark.mitmproxy
@pytest.mark.parametrize("mode", ("reverse", "regular"))
@pytest.mark.parametrize("what", SPOILT)
async def test_what_is_changed_after_the_choice_is_looked_at_again(
    rig: Rig, confdir: Path, what: str, mode: str
) -> None:
    """By another addon or by hand: a credential goes out with one request, to its own host, or not at all."""
    rig.home("alice")
    modes = {"mode": f"reverse:{rig.upstream.url}"} if mode == "reverse" else {"confdir": confdir}
    async with gateway_master(rig.path, _Changes(SPOILT[what]), **modes) as gateway:
        target = "" if mode == "reverse" else rig.upstream.url
        lines = (f"POST {target}/v1 HTTP/1.1", f"Host: {rig.upstream.authority}", "Content-Length: 4")
        answer = await send_raw(gateway.port, head(*lines) + b"body")

    assert (answer.status, refusal(answer)) == (500, "gateway_error")
    assert rig.upstream.received == []


HARMLESS: dict[str, Callable[[http.Request], None]] = {
    "header": _header("x-a", "1"),
    "body": _set("text", "another, longer body"),
    "path": _set("path", "/v2"),
    "the same host": lambda request: _header("host", f"127.0.0.1:{request.port}")(request),
    "connection": _header("connection", "close, authorization"),
}


@pytest.mark.mitmproxy
@pytest.mark.parametrize("what", HARMLESS)
async def test_other_changes_are_nobodys_business(rig: Rig, what: str) -> None:
    """They go out with the credential."""
    rig.home("alice")
    async with reverse_gateway(rig, _Changes(HARMLESS[what])) as gateway:
        answer = await send_raw(
            gateway.port, head("POST /v1 HTTP/1.1", "Host: localhost", "Content-Length: 4") + b"body"
        )
    (received,) = rig.upstream.received

    assert answer.status == 200
    assert rig.owners == ["alice"]
    assert received.header("connection") == "close"


class _Http2First(ssl.SSLContext):
    """Asks for nothing but HTTP/2; without an upstream yet, mitmproxy takes what the client likes best."""

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        super().set_alpn_protocols(["h2"])


def _http2_client(url: str, confdir: Path) -> httpx.AsyncClient:
    context = _Http2First(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(confdir / "mitmproxy-ca-cert.pem")
    return httpx.AsyncClient(proxy=url, verify=context, trust_env=False, timeout=20, http2=True)


# --- bodies that HTTP/2 needs no length for -------------------------------------------------------------------------


@pytest.mark.mitmproxy
@pytest.mark.parametrize("stream", (True, False), ids=("streamed", "whole"))
async def test_a_body_that_came_by_http2_is_framed_for_an_http1_upstream(
    *, rig: Rig, tls_upstream: Upstream, authority: CertificateAuthority, confdir: Path, stream: bool
) -> None:
    """Unframed, it would be the upstream's next request on a connection that is trusted."""
    rig.upstream = tls_upstream
    rig.home("alice")
    settings = {"ssl_verify_upstream_trusted_ca": str(authority.ca_file), "connection_strategy": "lazy"}
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200

    async def pieces() -> object:
        yield smuggled[:100]
        yield smuggled[100:]

    async with (
        gateway_master(
            rig.path, confdir=confdir, **settings, **({"stream_large_bodies": "1"} if stream else {})
        ) as gateway,
        _http2_client(gateway.url, confdir) as api,
    ):
        answer = await api.post(f"{tls_upstream.url}/x", content=pieces())  # type: ignore[arg-type]
        assert (await api.get(f"{tls_upstream.url}/y")).status_code == 200

    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
    assert [request.path for request in tls_upstream.received] == ["/x", "/y"]
    assert tls_upstream.received[0].body == smuggled


# --- through a real mitmdump ----------------------------------------------------------------------------------------

ATTACKS = {
    b"GET http://evil.example/v1/x HTTP/1.1\r\nHost: evil.example\r\n": (400, "request_refused"),
    b"TRACE /v1/x HTTP/1.1\r\nHost: localhost\r\n": (405, "method_refused"),
    b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: 1\rAuthorization: x\r\n": (400, "request_refused"),
    b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\n folded\r\n": (400, "request_refused"),
    b"GET /v1/x\x7f HTTP/1.1\r\nHost: localhost\r\n": (400, "request_refused"),
    b"GET /v1/x HTTP/1.1\r\nHost: localhost\r\nX-A: \x00\r\n": (400, "request_refused"),
}


@pytest.mark.mitmproxy
async def test_a_real_mitmdump_refuses_them_all_without_an_error(rig: Rig, confdir: Path) -> None:
    """One process, every attack; what is refused is in the log as no error."""
    rig.home("alice")
    gateway = Mitmdump("-s", str(SCRIPT), "--mode", f"reverse:{rig.upstream.url}", home=rig.path, confdir=confdir)
    async with gateway:
        await gateway.wait_for("Pool p reloaded")
        answers = [await send_raw(gateway.port, attack + b"Connection: close\r\n\r\n") for attack in ATTACKS]
        assert (await send_raw(gateway.port, head("GET /v1/x HTTP/1.1", "Host: localhost"))).status == 200

    assert [(answer.status, refusal(answer)) for answer in answers] == list(ATTACKS.values())
    assert [request.target for request in rig.upstream.received] == ["/v1/x"]
    assert "ERROR" not in gateway.text
    assert "rror" not in gateway.text.replace("gateway_error", "")


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "fields", "well_formed"),
    (
        (b"GET", b"/", (), True),
        (b"GET", b"/\xc3\xa9?a=b#c", ((b"x", b"\xe9\t"),), True),
        (b"OPTIONS", b"*", (), True),
        (b"GET", b"*", (), False),
        (b"GET", b"", (), False),
        (b"GET", b"x", (), False),
        (b"GET", b"http://x/", (), False),
        (b"GET", b"/\x00", (), False),
        (b"GET", b"/a b", (), False),
        (b"GET", b"/\x1b", (), False),
        (b"", b"/", (), False),
        (b"G T", b"/", (), False),
        (b"GET", b"/", ((b"a b", b""),), False),
        (b"GET", b"/", ((b":path", b"/x"),), False),
        (b"GET", b"/", ((b"a", b"\x00"),), False),
    ),
)
def test_a_head_is_well_formed(
    method: bytes, target: bytes, fields: tuple[tuple[bytes, bytes], ...], *, well_formed: bool
) -> None:
    """In whatever version of HTTP it goes out."""
    assert is_well_formed((method, target, b"", fields)) is well_formed


def test_a_line_end_in_the_authority_is_seen() -> None:
    """It is written as a header by HTTP/1."""
    assert not is_well_formed((b"GET", b"/", b"a\r\nb: c", ()))
    assert hosts_named((b"GET", b"/", b"a", ((b"HOST", b"b"), (b"x", b"c")))) == [b"b", b"a"]


@pytest.mark.parametrize(
    "name", (b"X-Upload-Url", b"X-Forwarded-For", b"X-Forwarded-Host", b"Method-Name", b"Path-Info", b"X-Request-Id")
)
def test_what_only_looks_alike_stays(name: bytes) -> None:
    """A narrowed pool loses no other header."""
    assert fields_left([(name, b"1")], frozenset(), narrowed=True) == ((name, b"1"),)
