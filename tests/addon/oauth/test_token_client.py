"""HTTP towards token endpoints, over real sockets: one request, one answer, whatever the other side does."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from authpool.oauth.token_client import MAX_BODY_BYTES, TokenClient, fetcher
from authpool.oauth.verdict import Answer, NotSent, Reply, ReplyLost
from support.answers import HTML, JSON, Big, Cut, Hang, Nothing, Raw, Redirect, Reset
from support.certificates import CertificateAuthority
from support.exchange import Answer as WireAnswer
from support.exchange import Reply as Connection
from support.token_endpoint import ScriptedTokenEndpoint, refused_url

FORM = {"grant_type": "refresh_token", "refresh_token": "r+t &=ä"}


@dataclass(frozen=True, slots=True)
class Drip:
    """A JSON answer that never ends, a byte at a time."""

    async def play(self, reply: Connection) -> None:
        await reply.head(200, {"content-type": "application/json"}, MAX_BODY_BYTES)
        for _ in itertools.count():
            await reply.data(b" ")
            await asyncio.sleep(0.01)


@pytest.fixture
async def client() -> AsyncIterator[TokenClient]:
    """A client that has little patience."""
    client = TokenClient(connect_seconds=0.3, answer_seconds=0.3)
    yield client
    await client.aclose()


async def ask(client: TokenClient, *script: WireAnswer) -> tuple[Answer, ScriptedTokenEndpoint]:
    """Post once to an endpoint that follows a script."""
    async with ScriptedTokenEndpoint(script) as endpoint:
        return await client.post(endpoint.url, FORM, {"Authorization": "Basic eDp5"}), endpoint


async def test_the_form_arrives_as_it_is(client: TokenClient) -> None:
    """Encoded once, with the client's header, and nothing that invites a compressed answer."""
    answer, endpoint = await ask(client, JSON(200, {"ok": True}, {"retry-after": "7"}))
    assert answer == Reply(status=200, body=b'{"ok": true}', retry_after="7", content_type="application/json")
    request = endpoint.received[0].request
    assert endpoint.received[0].form == FORM
    assert request.method == "POST"
    assert request.header("content-type") == "application/x-www-form-urlencoded"
    assert request.all_headers("authorization") == ["Basic eDp5"]
    assert request.header("accept") == "application/json"
    assert request.header("accept-encoding") == "identity"
    assert request.header("cookie") is None


@pytest.mark.parametrize(
    ("answer", "status"),
    ((HTML(), 200), (HTML(503), 503), (Redirect("http://127.0.0.1:1/"), 302), (JSON(400, {}), 400)),
)
async def test_what_arrived_is_told_as_it_is(client: TokenClient, answer: WireAnswer, status: int) -> None:
    """A page, a redirect, an error: judging them is somebody else's work, and no redirect is followed."""
    told, endpoint = await ask(client, answer)
    assert isinstance(told, Reply)
    assert told.status == status
    assert len(endpoint.received) == 1


async def test_a_redirect_is_not_followed(client: TokenClient) -> None:
    """Not even to the very same server; the form goes nowhere else."""
    async with ScriptedTokenEndpoint() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            told, _ = await ask(client, Redirect(elsewhere.url, status))
            assert isinstance(told, Reply)
            assert told.status == status
        assert elsewhere.received == []
        assert elsewhere.server.connections_made == 0


@pytest.mark.parametrize(
    "answer",
    (
        Nothing(),
        Reset(),
        Reset(before_reading=True),
        Cut(200, {"access_token": "at", "refresh_token": "rt"}),
        Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{"),
        Raw(b"not HTTP at all\r\n\r\n"),
        Raw(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8bno"),
        Hang(),
        Drip(),
        Big(),
    ),
    ids=lambda answer: f"{answer}"[:40],
)
async def test_an_answer_that_never_arrives_whole_is_lost(client: TokenClient, answer: WireAnswer) -> None:
    """The endpoint may have acted. It ends, it is sent once, and what arrived is handed on but told to nobody."""
    told, endpoint = await ask(client, answer)
    assert isinstance(told, ReplyLost)
    assert len(endpoint.received) <= 1
    assert endpoint.server.connections_made == 1
    assert "r+t" not in told.detail
    assert "at" not in told.detail.split()
    assert "access_token" not in repr(told)


async def test_a_megabyte_is_still_read(client: TokenClient) -> None:
    """The cap is the first byte beyond it."""
    body = b'"' + b"x" * (MAX_BODY_BYTES - 2) + b'"'
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    told, _ = await ask(TokenClient(), Raw(head + body))
    assert isinstance(told, Reply)
    assert len(told.body) == MAX_BODY_BYTES


async def test_no_connection_is_surely_not_processed(client: TokenClient) -> None:
    """Refused, no such name, no URL at all: free to try again."""
    with refused_url() as url:
        assert isinstance(await client.post(url, FORM, {}), NotSent)
    for url in ("http://name.invalid/token", "ftp://127.0.0.1/token", "http://[/token"):
        assert isinstance(await client.post(url, FORM, {}), NotSent), url
    async with ScriptedTokenEndpoint() as endpoint:
        assert isinstance(await client.post(endpoint.url, FORM, {"X-Bad": "a\nb"}), NotSent)
        assert endpoint.received == []


async def test_a_certificate_nobody_knows_is_no_connection(
    client: TokenClient, authority: CertificateAuthority
) -> None:
    """The form is not sent."""
    async with ScriptedTokenEndpoint(tls=authority.server_context()) as endpoint:
        assert isinstance(await client.post(endpoint.url, FORM, {}), NotSent)
        assert endpoint.received == []


async def test_each_request_has_its_own_connection(client: TokenClient) -> None:
    """A kept-alive one may be stale: then a request that was never read looks like a lost answer."""
    async with ScriptedTokenEndpoint([JSON(200, {})] * 3) as endpoint:
        for _ in range(3):
            assert isinstance(await client.post(endpoint.url, FORM, {}), Reply)
        assert endpoint.server.connections_made == 3


async def test_the_environment_reroutes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTPS_PROXY may point at this very gateway; a .netrc is nobody's client authentication."""
    with refused_url() as nowhere:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, nowhere.removesuffix("/token"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        client = TokenClient()
        told, endpoint = await ask(client, JSON(200, {}))
        await client.aclose()
    assert isinstance(told, Reply)
    assert len(endpoint.received) == 1


async def test_no_cookie_is_kept(client: TokenClient) -> None:
    """One account's session is not another's."""
    async with ScriptedTokenEndpoint([JSON(200, {}, {"set-cookie": "session=alice"}), JSON(200, {})]) as endpoint:
        for _ in range(2):
            await client.post(endpoint.url, FORM, {})
        assert endpoint.received[1].request.header("cookie") is None


async def test_many_at_once(client: TokenClient) -> None:
    """No pool of connections holds anybody up."""
    patient = TokenClient()
    async with ScriptedTokenEndpoint([JSON(200, {})] * 60) as endpoint:
        answers = await asyncio.gather(*(patient.post(endpoint.url, FORM, {}) for _ in range(60)))
    await patient.aclose()
    assert all(isinstance(answer, Reply) for answer in answers)


async def test_cancelling_ends_the_request(client: TokenClient) -> None:
    """The one thing that is raised."""
    async with ScriptedTokenEndpoint([Hang()]) as endpoint:
        patient = TokenClient()
        asking = asyncio.ensure_future(patient.post(endpoint.url, FORM, {}))
        async with asyncio.timeout(30):
            while not endpoint.received:
                await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await patient.aclose()


async def test_documents_are_fetched_under_the_same_limits(client: TokenClient) -> None:
    """For discovery: status and body, OSError when nothing came."""
    async with ScriptedTokenEndpoint([JSON(404, {"a": 1}), Big()]) as endpoint:
        assert await fetcher(client)(endpoint.url) == (404, b'{"a": 1}')
        assert endpoint.received[0].request.method == "GET"
        with pytest.raises(OSError, match="more than"):
            await fetcher(client)(endpoint.url)
