"""The bytes of an exchange are there while it lasts, also through TLS, and no longer."""

import asyncio
import ssl

import httpx
import pytest

from authpool.oauth import token_client
from authpool.oauth.received_bytes import MAX_RECEIVED_BYTES, ReceivedBytes, recorded
from authpool.oauth.token_client import TokenClient
from authpool.oauth.verdict import Reply, ReplyLost
from support.answers import JSON, Raw
from support.certificates import CertificateAuthority
from support.token_endpoint import ScriptedTokenEndpoint

BAD = b"HTTP/1.1 200 OK\r\nBad Header Line\r\n\r\n"


async def test_an_answer_through_tls_is_read_too(
    authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is what TLS gives, not what is on the wire."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca_file))
    client = TokenClient()
    async with ScriptedTokenEndpoint([Raw(BAD + b"secret")], tls=authority.server_context()) as endpoint:
        answer = await client.post(endpoint.url.replace("127.0.0.1", "localhost"), {}, {})
    await client.aclose()
    assert isinstance(answer, ReplyLost)
    assert (answer.status, answer.body) == (200, b"secret")
    assert "secret" not in repr(answer)


async def test_a_good_answer_is_what_http_says() -> None:
    """Chunks and a line end behind the body are no more of it."""
    chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    line_end = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}\r\n"
    client = TokenClient()
    async with ScriptedTokenEndpoint([Raw(chunks), Raw(line_end), JSON(200, {})]) as endpoint:
        answers = [await client.post(endpoint.url, {}, {}) for _ in range(3)]
    await client.aclose()
    assert [(answer.body, type(answer)) for answer in answers if isinstance(answer, Reply)] == [(b"{}", Reply)] * 3


async def test_nothing_is_kept_of_an_exchange_that_is_over() -> None:
    """Neither bytes nor the connection; and no more than the limit while it lasts."""
    async with (
        ScriptedTokenEndpoint([JSON(200, {"a": "x" * (MAX_RECEIVED_BYTES + 1)})]) as endpoint,
        httpx.AsyncClient(transport=recorded(httpx.AsyncHTTPTransport(verify=False)), trust_env=False) as client,
    ):
        async with ReceivedBytes() as received:
            await client.post(endpoint.url)
            assert len(received.data) == MAX_RECEIVED_BYTES
            assert received.data.startswith(b"HTTP/1.1 200")
        assert not received.data
        assert not received._connections


async def test_two_exchanges_at_once_keep_their_own() -> None:
    """Each task has its own connection."""
    client = TokenClient()
    async with ScriptedTokenEndpoint(lambda _number, form: Raw(BAD + form["who"].encode())) as endpoint:
        answers = await asyncio.gather(*(client.post(endpoint.url, {"who": f"w{n}"}, {}) for n in range(8)))
    await client.aclose()
    assert [answer.body for answer in answers if isinstance(answer, ReplyLost)] == [b"w%d" % n for n in range(8)]


def test_the_library_has_what_this_relies_on() -> None:
    """No public way leads to httpx's connections."""
    transport = httpx.AsyncHTTPTransport(verify=ssl.create_default_context())
    before = transport._pool._network_backend  # type: ignore[attr-defined]
    assert recorded(transport)._pool._network_backend is not before
    assert token_client.recorded is recorded
