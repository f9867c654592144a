"""Endpoints are learned from the issuer, once, and only from an issuer that says who it is."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from authpool.config import HostPattern, PoolConfig
from authpool.oauth.discovery import DiscoveryError, EndpointResolver, Endpoints, oauth_url, openid_url

OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"


class Issuer:
    """A real HTTP server on loopback; `answers` maps a path to status and body, anything else is 404."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.url = ""

    def serve(self, path: str, document: object, status: int = 200) -> None:
        self.answers[path] = (status, json.dumps(document).encode())

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        path = request.split()[1].decode()
        self.asked.append(path)
        await self.open.wait()
        status, body = self.answers.get(path, (404, b"no"))
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def fetch(url: str) -> tuple[int, bytes]:
    """GET over a plain socket."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    try:
        writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    server = await asyncio.start_server(issuer.handle, "127.0.0.1", 0)
    issuer.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield issuer


@pytest.fixture
async def resolver() -> AsyncIterator[EndpointResolver]:
    resolver = EndpointResolver(fetch)
    yield resolver
    await resolver.aclose()


def make_pool(issuer: str | None, **endpoints: str) -> PoolConfig:
    hosts = (HostPattern(host="api.example.com"),)
    return PoolConfig(name="x", hosts=hosts, issuer=issuer, **endpoints)  # type: ignore[arg-type]


def metadata(issuer: str, /, **changes: Any) -> dict[str, Any]:
    document = {
        "issuer": issuer,
        "token_endpoint": "https://op.example/token",
        "authorization_endpoint": "https://op.example/auth",
        "device_authorization_endpoint": "https://op.example/device",
        "userinfo_endpoint": "http://127.0.0.1:1/me",
        "revocation_endpoint": "https://op.example/revoke",
        "jwks_uri": "https://op.example/keys",
    }
    return document | changes


FOUND = Endpoints(
    token_url="https://op.example/token",
    authorize_url="https://op.example/auth",
    device_url="https://op.example/device",
    userinfo_url="http://127.0.0.1:1/me",
    revoke_url="https://op.example/revoke",
)


@pytest.mark.parametrize(
    ("issuer", "openid", "oauth"),
    (
        ("https://op.example", f"https://op.example{OPENID}", f"https://op.example{OAUTH}"),
        ("https://op.example/", f"https://op.example{OPENID}", f"https://op.example{OAUTH}"),
        ("https://op.example:8/t/a", f"https://op.example:8/t/a{OPENID}", f"https://op.example:8{OAUTH}/t/a"),
        ("https://op.example/t/", f"https://op.example/t{OPENID}", f"https://op.example{OAUTH}/t"),
    ),
)
def test_the_well_known_places_are_those_of_the_standards(issuer: str, openid: str, oauth: str) -> None:
    """OpenID appends the path to the issuer, RFC 8414 puts it between host and path."""
    assert openid_url(issuer) == openid
    assert oauth_url(issuer) == oauth


async def test_an_openid_provider_tells_all_its_endpoints(issuer: Issuer, resolver: EndpointResolver) -> None:
    """One question is enough, and no second place is asked."""
    issuer.serve(OPENID, metadata(issuer.url))
    assert await resolver.resolve(make_pool(issuer.url)) == FOUND
    assert issuer.asked == [OPENID]


@pytest.mark.parametrize("first", ((404, b""), (200, b"<html>"), (302, b""), (200, b"[]")))
async def test_a_plain_oauth_server_is_asked_second(
    issuer: Issuer, resolver: EndpointResolver, first: tuple[int, bytes]
) -> None:
    """Whatever else stands at OpenID's place, the metadata of RFC 8414 is found."""
    url = f"{issuer.url}/tenant"
    issuer.answers[f"/tenant{OPENID}"] = first
    issuer.serve(f"{OAUTH}/tenant", metadata(url))
    assert await resolver.resolve(make_pool(url)) == FOUND
    assert issuer.asked == [f"/tenant{OPENID}", f"{OAUTH}/tenant"]


async def test_what_the_configuration_says_goes_first(issuer: Issuer, resolver: EndpointResolver) -> None:
    """A configured endpoint is never replaced by a discovered one."""
    issuer.serve(OPENID, metadata(issuer.url))
    endpoints = await resolver.resolve(make_pool(issuer.url, token_url="https://mine.example/t"))
    assert endpoints.token_url == "https://mine.example/t"
    assert endpoints.revoke_url == FOUND.revoke_url


async def test_nobody_is_asked_without_an_issuer(issuer: Issuer, resolver: EndpointResolver) -> None:
    """Pools with endpoints of their own depend on no discovery."""
    pool = make_pool(None, token_url=f"{issuer.url}/token")
    assert await resolver.resolve(pool) == Endpoints(token_url=f"{issuer.url}/token")
    assert issuer.asked == []


async def test_nobody_is_asked_when_nothing_is_left_to_learn(issuer: Issuer, resolver: EndpointResolver) -> None:
    """An issuer beside all endpoints is not needed for them."""
    keys = ("token_url", "authorize_url", "device_url", "userinfo_url", "revoke_url")
    endpoints = await resolver.resolve(make_pool(issuer.url, **dict.fromkeys(keys, "https://mine.example/")))
    assert endpoints.token_url == "https://mine.example/"
    assert issuer.asked == []


async def test_an_issuer_is_asked_once(issuer: Issuer, resolver: EndpointResolver) -> None:
    """Many callers and several pools share one question, and its answer is kept."""
    issuer.serve(OPENID, metadata(issuer.url))
    issuer.open.clear()
    callers = [asyncio.create_task(resolver.resolve(make_pool(issuer.url))) for _ in range(20)]
    while not issuer.asked:
        await asyncio.sleep(0)
    issuer.open.set()
    assert await asyncio.gather(*callers) == [FOUND] * 20
    assert await resolver.resolve(make_pool(issuer.url)) == FOUND
    assert issuer.asked == [OPENID]


async def test_a_caller_that_gives_up_takes_nobody_along(issuer: Issuer, resolver: EndpointResolver) -> None:
    """The first one to ask may be cancelled; the others get the answer."""
    issuer.serve(OPENID, metadata(issuer.url))
    issuer.open.clear()
    first = asyncio.create_task(resolver.resolve(make_pool(issuer.url)))
    second = asyncio.create_task(resolver.resolve(make_pool(issuer.url)))
    while not issuer.asked:
        await asyncio.sleep(0)
    first.cancel()
    issuer.open.set()
    assert await second == FOUND
    with pytest.raises(asyncio.CancelledError):
        await first
    assert issuer.asked == [OPENID]


async def test_a_failure_is_not_kept(issuer: Issuer, resolver: EndpointResolver) -> None:
    """An issuer that was down is asked again."""
    issuer.answers[OPENID] = (503, b"")
    with pytest.raises(DiscoveryError):
        await resolver.resolve(make_pool(issuer.url))
    issuer.serve(OPENID, metadata(issuer.url))
    assert await resolver.resolve(make_pool(issuer.url)) == FOUND


async def test_closing_ends_what_is_under_way(issuer: Issuer) -> None:
    """A question nobody will answer does not outlive the gateway."""
    resolver = EndpointResolver(fetch)
    issuer.open.clear()
    caller = asyncio.create_task(resolver.resolve(make_pool(issuer.url)))
    while not issuer.asked:
        await asyncio.sleep(0)
    await resolver.aclose()
    issuer.open.set()
    with pytest.raises(asyncio.CancelledError):
        await caller


@pytest.mark.parametrize("status", (408, 429, 500, 503))
async def test_a_server_in_trouble_is_worth_another_try(
    issuer: Issuer, resolver: EndpointResolver, status: int
) -> None:
    """The configuration is not blamed for it, and the second place not asked."""
    issuer.answers[OPENID] = (status, b"secret body")
    with pytest.raises(DiscoveryError, match=f"answers {status} at") as caught:
        await resolver.resolve(make_pool(issuer.url))
    assert caught.value.transient
    assert "secret body" not in str(caught.value)
    assert issuer.asked == [OPENID]


async def test_no_answer_is_worth_another_try(issuer: Issuer, resolver: EndpointResolver) -> None:
    """A port nobody listens on: transient."""
    probe = await asyncio.start_server(issuer.handle, "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    with pytest.raises(DiscoveryError, match=r"does not answer at .*: ConnectionRefusedError") as caught:
        await resolver.resolve(make_pool(f"http://127.0.0.1:{port}"))
    assert caught.value.transient


@pytest.mark.parametrize(
    ("body", "message"),
    (
        (b"<html>", "answers no JSON object"),
        (b"", "answers no JSON object"),
        (b"[1]", "answers no JSON object"),
        (b"\xff\xfe\xfd", "answers no JSON object"),
        (b"[" * 200_000, "answers no JSON object"),
    ),
)
async def test_what_is_no_metadata_is_not_worth_another_try(
    issuer: Issuer, resolver: EndpointResolver, body: bytes, message: str
) -> None:
    """A page, nothing, a list or noise: the issuer is the wrong one."""
    issuer.answers[OPENID] = (200, body)
    with pytest.raises(DiscoveryError, match=message) as caught:
        await resolver.resolve(make_pool(issuer.url))
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("changes", "message"),
    (
        ({"issuer": "https://evil.example"}, "names another issuer$"),
        ({"issuer": None}, "names another issuer$"),
        ({"issuer": ["x"]}, "names another issuer$"),
        ({"token_endpoint": None}, "publishes no token_endpoint"),
        ({"token_endpoint": 5}, "token_endpoint of issuer .* is not a string"),
        ({"token_endpoint": "http://op.example/t"}, "is http://, and its host is not loopback"),
        ({"token_endpoint": "https://a:b@op.example/t"}, "has a user name or password"),
        ({"revocation_endpoint": "javascript:alert(1)"}, "is not a complete https:// URL"),
    ),
)
async def test_metadata_that_must_not_be_used_is_refused(
    issuer: Issuer, resolver: EndpointResolver, changes: dict[str, object], message: str
) -> None:
    """RFC 8414 §3.3 and §2: somebody else's metadata, or endpoints a secret must not be sent to."""
    issuer.serve(OPENID, metadata(issuer.url, **changes))
    with pytest.raises(DiscoveryError, match=message) as caught:
        await resolver.resolve(make_pool(issuer.url))
    assert not caught.value.transient


async def test_an_issuer_that_differs_by_its_last_slash_is_told_how_to_write_it(
    issuer: Issuer, resolver: EndpointResolver
) -> None:
    """Auth0's issuers end in a slash: they must be written so, and the error says so."""
    issuer.serve(OPENID, metadata(f"{issuer.url}/"))
    with pytest.raises(DiscoveryError, match=f"write it as {issuer.url}/$"):
        await resolver.resolve(make_pool(issuer.url))
    assert await resolver.resolve(make_pool(f"{issuer.url}/")) == FOUND
