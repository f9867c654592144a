"""What is taken off a request and put on it: pure functions on mitmproxy's requests."""

import pytest
from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from authpool.config.host_pattern import HostPattern
from authpool.config.pool_config import HeaderInjection, PoolConfig, QueryInjection
from authpool.proxy.clients import is_stranger
from authpool.proxy.credential import PLACEHOLDER, strip_credentials, with_credential
from authpool.proxy.destination import asks_for_another_host, names_another_host, shows_to_a_proxy
from authpool.proxy.gate import response_of
from authpool.requests.refusals import GATEWAY_ERROR

TOKEN = "ya29.a+b/c=&d %é"


def pool(inject: HeaderInjection | QueryInjection) -> PoolConfig:
    return PoolConfig(name="p", hosts=(HostPattern.parse("api.example.com"),), inject=inject)


HEADER = pool(HeaderInjection())
QUERY = pool(QueryInjection(parameter="key"))


def request(target: bytes = b"/v1/x?a=1", **headers: str) -> http.Request:
    made = http.Request.make("GET", "https://api.example.com/")
    made.headers = http.Headers([(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()])
    made.data.path = target
    return made


@pytest.mark.parametrize("name", ("Authorization", "Proxy-Authorization", "X-API-KEY", "x-goog-api-key"))
@pytest.mark.parametrize("chosen", (HEADER, QUERY), ids=("header", "query"))
def test_every_credential_header_of_the_client_is_removed(name: str, chosen: PoolConfig) -> None:
    """Whatever the pool injects, what the client sent as a credential does not travel, however often it was sent."""
    asked = request()
    asked.headers.add(name, "the client's own")
    asked.headers.add(name.swapcase(), "the client's other")

    strip_credentials(asked, chosen)
    sent = with_credential(asked, chosen, "token")

    assert b"client's" not in b"".join(value for _, value in sent.headers.fields)


@pytest.mark.parametrize(
    ("target", "sent"),
    (
        (b"/v1/x?access_token=mine", b"/v1/x"),
        (b"/v1/x?a=1&access_token=mine&b=2", b"/v1/x?a=1&b=2"),
        (b"/v1/x?access%5Ftoken=mine&b=2", b"/v1/x?b=2"),
        (b"/v1/x?access_token", b"/v1/x"),
        (b"/v1/x?a=%2B+%20&b=&c&&d=%7e", b"/v1/x?a=%2B+%20&b=&c&&d=%7e"),
        (b"/caf\xc3\xa9/\xff?q=\xfe", b"/caf\xc3\xa9/\xff?q=\xfe"),
        (b"//x?y", b"//x?y"),
        (b"//[x?y", b"//[x?y"),
        (b"*", b"*"),
    ),
)
def test_a_header_pool_leaves_the_target_alone_but_for_access_token(target: bytes, sent: bytes) -> None:
    """Only RFC 6750's query parameter goes, in any spelling; every other byte of the target stays."""
    asked = request(target)

    strip_credentials(asked, HEADER)
    wire = with_credential(asked, HEADER, "token")

    assert wire.data.path == sent
    assert wire.headers.get_all("authorization") == ["Bearer token"]


@pytest.mark.parametrize(
    ("target", "sent"),
    (
        (b"/v1/x", b"/v1/x?key=%s"),
        (b"/v1/x?", b"/v1/x?key=%s"),
        (b"/v1/x?a=1", b"/v1/x?a=1&key=%s"),
        (b"/v1/x?key=mine&a=1", b"/v1/x?a=1&key=%s"),
        (b"/v1/x?k%65y=mine&a=1&key=again", b"/v1/x?a=1&key=%s"),
        (b"/v1/x?access_token=mine", b"/v1/x?key=%s"),
        (b"/caf\xc3\xa9/\xff?q=\xfe", b"/caf\xc3\xa9/\xff?q=\xfe&key=%s"),
        (b"//[x?y", b"//[x?y&key=%s"),
    ),
)
def test_a_query_pool_puts_the_token_percent_encoded_at_the_end(target: bytes, sent: bytes) -> None:
    """The client's own value is gone in any spelling, and no character of the token can end the parameter."""
    asked = request(target)

    strip_credentials(asked, QUERY)
    wire = with_credential(asked, QUERY, TOKEN)

    assert wire.data.path == sent % b"ya29.a%2Bb%2Fc%3D%26d%20%25%C3%A9"
    assert wire.headers.get("authorization") is None
    assert PLACEHOLDER.encode() in asked.data.path


def test_other_headers_keep_their_spelling_their_order_and_their_repetitions() -> None:
    """Apart from the credential the header fields are the client's, byte for byte."""
    asked = request()
    asked.headers.fields = (
        (b"hOsT", b"api.example.com"),
        (b"X-A", b"1"),
        (b"authorization", b"x"),
        (b"x-a", b"\xff 2"),
    )

    strip_credentials(asked, HEADER)
    wire = with_credential(asked, HEADER, "token")

    assert wire.headers.fields == (
        (b"hOsT", b"api.example.com"),
        (b"X-A", b"1"),
        (b"x-a", b"\xff 2"),
        (b"Authorization", b"Bearer token"),
    )


@pytest.mark.parametrize("chosen", (HEADER, QUERY), ids=("header", "query"))
def test_the_request_that_others_see_holds_a_placeholder(chosen: PoolConfig) -> None:
    """The credential is on the copy alone; the flow's own request shows where it will be."""
    asked = request()
    strip_credentials(asked, chosen)
    before = asked.copy()

    with_credential(asked, chosen, TOKEN)

    assert asked.get_state() == before.get_state()
    assert PLACEHOLDER in asked.path + asked.headers.get("authorization", "")


def test_a_header_pool_of_another_header_replaces_that_one_too() -> None:
    """`inject = { header = "X-Key" }`: the client's own X-Key is gone."""
    chosen = pool(HeaderInjection(header="X-Key", template="{token}"))
    asked = request(X_KEY="mine", Authorization="mine")

    strip_credentials(asked, chosen)
    wire = with_credential(asked, chosen, "token")

    assert wire.headers.get_all("x-key") == ["token"]
    assert "authorization" not in wire.headers


@pytest.mark.parametrize("token", ("a\r\nX-Injected: 1", "a\nb", "a\x00b", "a\tb"))
def test_a_token_that_would_split_the_request_is_never_put_on(token: str) -> None:
    """An account file is edited by hand; a line end in its token must not become a header of its own."""
    asked = request()
    strip_credentials(asked, HEADER)

    with pytest.raises(ValueError, match="character"):
        with_credential(asked, HEADER, token)


@pytest.mark.parametrize(
    ("host", "names_another"),
    (
        ("api.example.com", False),
        ("API.Example.COM.", False),
        ("api.example.com:443", False),
        ("api.example.com:8443", True),
        ("evil.example.com", True),
        ("api.example.com.evil.test", True),
        ("user@api.example.com", True),
        ("", False),
    ),
)
def test_a_host_header_that_names_another_host_is_seen(*, host: str, names_another: bool) -> None:
    """A server that many share hands a request to whom its Host header names."""
    flow = tflow.tflow(req=request(Host=host))
    assert names_another_host(flow) is names_another


def test_a_second_host_header_and_the_authority_count_as_well() -> None:
    """Servers differ over which of two they take."""
    second = tflow.tflow(req=request(Host="api.example.com"))
    second.request.headers.add("host", "evil.test")
    authority = tflow.tflow(req=request(Host="api.example.com"))
    authority.request.authority = "evil.test"

    assert names_another_host(second)
    assert names_another_host(authority)


@pytest.mark.parametrize(
    ("sni", "other"), (("api.example.com", False), ("API.example.com", False), ("evil.test", True))
)
def test_a_tls_name_of_another_host_is_seen(*, sni: str, other: bool) -> None:
    """Mitmproxy asks the upstream for the certificate of the name that the client sent."""
    server = Server(address=("api.example.com", 443), tls=True, sni=sni)
    assert asks_for_another_host(server) is other


@pytest.mark.parametrize(
    ("tls", "via", "shown"),
    (
        (False, ("http", ("proxy.example.com", 3128)), True),
        (False, ("http", ("127.0.0.1", 3128)), False),
        (True, ("http", ("proxy.example.com", 3128)), False),
        (False, None, False),
    ),
)
def test_plain_http_through_a_proxy_elsewhere_is_seen(*, tls: bool, via: object, shown: bool) -> None:
    """An upstream proxy reads plain HTTP, also when it is for a loopback address."""
    server = Server(address=("127.0.0.1", 80), tls=tls)
    server.via = via  # type: ignore[assignment]
    assert shows_to_a_proxy(server) is shown


@pytest.mark.parametrize(
    ("mode", "peer", "stranger"),
    (
        ("regular", "127.0.0.1", False),
        ("regular", "::1", False),
        ("regular", "192.0.2.7", True),
        ("reverse:https://api.example.com", "2001:db8::7", True),
        ("local", "192.0.2.7", False),
    ),
)
def test_another_machine_is_a_stranger(*, mode: str, peer: str, stranger: bool) -> None:
    """What another machine's client may reach is less."""
    flow = tflow.tflow()
    flow.client_conn.proxy_mode = ProxyMode.parse(mode)
    flow.client_conn.peername = (peer, 50_000)
    assert is_stranger(flow) is stranger


def test_an_answer_of_the_gateway_is_a_whole_response() -> None:
    """Mitmproxy sends it as it is."""
    response = response_of(GATEWAY_ERROR)
    assert (response.status_code, response.headers["authpool-error"]) == (500, "gateway_error")
    assert response.headers["content-length"] == str(len(response.raw_content or b""))
