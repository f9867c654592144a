"""HTTP/2 upstreams: an attempt that fails is told to the client, and one that takes leave loses nobody's answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from hpack import Encoder

from authpool.proxy.wire.attempts import MAX_UNPROCESSED
from support.certificates import CertificateAuthority
from support.pool_rig import Rig, gateway_master, proxied
from support.scripted import Frame, Http2Upstream, ScriptedStream

pytestmark = pytest.mark.mitmproxy

GRACEFUL = 2**31 - 1
"""The last stream of a GOAWAY that cuts off nothing (RFC 9113 §6.8)."""


def go_away(stream: ScriptedStream, last_stream: int, code: int = 0) -> None:
    """Send GOAWAY as it is, for h2 itself takes it for the end."""
    stream.flush()
    payload = last_stream.to_bytes(4, "big") + code.to_bytes(4, "big")
    stream._writer.write(len(payload).to_bytes(3, "big") + b"\x07\x00" + bytes(4) + payload)


@asynccontextmanager
async def gateway(
    rig: Rig,
    authority: CertificateAuthority,
    confdir: Path,
    *,
    at_head: Frame | None = None,
    at_end: Frame | None = None,
    said: list[str] | None = None,
) -> AsyncIterator[tuple[Http2Upstream, httpx.AsyncClient]]:
    """HTTP/2 on both sides, on one connection of the client. `said`: what was logged, at the end."""
    tls = authority.server_context(http2=True)
    async with Http2Upstream(tls, at_head=at_head, at_end=at_end) as upstream:
        rig.host = upstream.authority
        rig.home("alice")
        async with (
            gateway_master(rig.path, confdir=confdir, ssl_verify_upstream_trusted_ca=str(authority.ca_file)) as running,
            proxied(running.url, confdir, http2=True, limits=httpx.Limits(max_connections=1)) as api,
        ):
            yield upstream, api
            if said is not None:
                said += running.messages


@pytest.mark.parametrize("failure", ("reset", "close"))
async def test_the_failure_of_a_later_attempt_reaches_the_client(
    failure: str, rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """A 401, and then an upstream that breaks the second attempt off: a 502, and no waiting for ever."""
    seen: list[ScriptedStream] = []

    def at_end(stream: ScriptedStream) -> None:
        seen.append(stream)
        if len(seen) == 1:
            stream.head(401, end=True)
        elif len(seen) == 2:
            stream.reset(2) if failure == "reset" else stream.close()
        else:
            stream.head(200, end=True)

    async with gateway(rig, authority, confdir, at_end=at_end) as (upstream, api):
        answers = [(await api.post(f"{upstream.url}/x", content=b"body")).status_code for _ in range(2)]

    assert answers == [502, 200]


async def test_an_answer_that_comes_after_goaway_is_the_answer(
    rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """As servers do that answer so many requests on a connection; the next request has a new one."""

    def at_end(stream: ScriptedStream) -> None:
        go_away(stream, stream.id)
        stream.head(200)
        stream.data(b"done", end=True)

    async with gateway(rig, authority, confdir, at_end=at_end) as (upstream, api):
        answers = [(await api.post(f"{upstream.url}/x", content=b"body")).content for _ in range(3)]

    assert answers == [b"done"] * 3
    assert upstream.connections_made == 3


async def test_a_refusal_beside_goaway_leads_to_the_next_attempt(
    rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """Which goes out on a new connection."""
    refused: list[ScriptedStream] = []

    def at_end(stream: ScriptedStream) -> None:
        if not refused:
            refused.append(stream)
            go_away(stream, GRACEFUL)
            stream.head(401, end=True)
        else:
            stream.head(200, end=True)

    async with gateway(rig, authority, confdir, at_end=at_end) as (upstream, api):
        answer = await api.post(f"{upstream.url}/x", content=b"body")

    assert answer.status_code == 200
    assert upstream.connections_made == 2


@pytest.mark.parametrize("code", (0, 11))
async def test_what_an_upstream_has_not_processed_before_goaway_goes_out_anew(
    code: int, rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """A stream beyond the last one, where all is in good order; another end than that may be the request's fault."""
    first: list[ScriptedStream] = []

    def at_head(stream: ScriptedStream) -> Awaitable[None] | None:
        if not first:
            first.append(stream)
            go_away(stream, 0, code)
        return None

    def at_end(stream: ScriptedStream) -> None:
        if stream not in first:
            stream.head(200, end=True)

    async with gateway(rig, authority, confdir, at_head=at_head, at_end=at_end) as (upstream, api):
        answers = [(await api.post(f"{upstream.url}/x", content=b"body")).status_code for _ in range(2)]

    assert answers == ([200, 200] if code == 0 else [502, 200])


async def test_an_upstream_that_only_takes_leave_is_a_502(
    rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """Nobody goes round for ever."""
    async with gateway(rig, authority, confdir, at_head=lambda stream: go_away(stream, 0)) as (upstream, api):
        answer = await api.post(f"{upstream.url}/x", content=b"body")

    assert answer.status_code == 502
    assert upstream.connections_made == 1 + MAX_UNPROCESSED


@pytest.mark.parametrize("frame", ("length", "upper case", "pseudo-header", "status", "goaway"))
async def test_what_an_upstream_says_against_the_protocol_is_not_repeated(
    frame: str, rig: Rig, authority: CertificateAuthority, confdir: Path
) -> None:
    """It may be a credential: neither the log shows it, nor the other requests on that connection."""
    first: list[ScriptedStream] = []

    def at_end(stream: ScriptedStream) -> None:
        first.append(stream)
        if len(first) == 1:
            stream.head(200, end=True)
        if len(first) < 3:
            return
        secret, fields = first[0].bearer, [(":status", "200")]
        match frame:
            case "length":
                fields.append(("content-length", secret))
            case "upper case":
                fields.append((f"X-{secret}", "1"))
            case "pseudo-header":
                fields.append((f":{secret}", "1"))
            case "status":
                fields = [(":status", secret)]
        stream.flush()
        payload, kind = Encoder().encode(fields), 1
        if frame == "goaway":
            payload, kind = bytes(4) + (2).to_bytes(4, "big") + secret.encode(), 7
        head = len(payload).to_bytes(3, "big") + bytes((kind, 4 if kind == 1 else 0))
        stream._writer.write(head + (stream.id if kind == 1 else 0).to_bytes(4, "big") + payload)

    said: list[str] = []
    async with gateway(rig, authority, confdir, at_end=at_end, said=said) as (upstream, api):
        assert (await api.get(f"{upstream.url}/0")).status_code == 200  # so that httpx knows that it is HTTP/2
        answers = await asyncio.gather(*[api.get(f"{upstream.url}/{number}") for number in (1, 2)])

    secret = first[0].bearer
    shown = [*said, *[answer.text for answer in answers]]
    assert [answer.status_code for answer in answers] == [502, 502]
    assert any("HTTP/2" in answer.text for answer in answers)
    assert not [text for text in shown for form in (secret, secret[:20].encode().hex()) if form in text]
