"""A pair that arrives in an answer that is no good HTTP is kept all the same: through the whole refresh."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from authpool.oauth.token_client import TokenClient
from authpool.refresh.outcome import Ready
from support.answers import JSON, Hang
from support.clock import FakeClock
from support.exchange import Answer
from support.exchange import Reply as Connection
from support.token_endpoint import Form, ScriptedTokenEndpoint
from support.transport import Rig

STATUS = b"HTTP/1.1 200 OK\r\n"
TYPE = b"Content-Type: application/json\r\n"
END = b"Connection: close\r\n\r\n"


def length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


DAMAGES = {
    "a line without a colon": lambda body: (STATUS + TYPE + b"Bad Header Line\r\n" + END, body),
    "a blank before the colon": lambda body: (STATUS + b"X-A : 1\r\n" + length(body) + END, body),
    "a folded line first": lambda body: (STATUS + b" folded\r\n" + length(body) + END, body),
    "a control byte": lambda body: (STATUS + b"X-A: \x01\x02\r\n" + length(body) + END, body),
    "a NUL": lambda body: (STATUS + b"X-A: \x00\r\n" + length(body) + END, body),
    "an empty name": lambda body: (STATUS + b": nothing\r\n" + length(body) + END, body),
    "a name with a blank": lambda body: (STATUS + b"Set Cookie: a\r\n" + length(body) + END, body),
    "two lengths": lambda body: (STATUS + length(body) + b"Content-Length: 5\r\n" + END, body),
    "a length that is no number": lambda body: (STATUS + b"Content-Length: many\r\n" + END, body),
    "a negative length": lambda body: (STATUS + b"Content-Length: -1\r\n" + END, body),
    "a length that is too short": lambda body: (STATUS + b"Content-Length: 9\r\n" + END, body),
    "a length of nothing": lambda body: (STATUS + b"Content-Length: 0\r\n" + END, body),
    "another protocol": lambda body: (b"HTTP/2 200 OK\r\n" + length(body) + END, body),
    "no version": lambda body: (b"HTTP 200 OK\r\n" + length(body) + END, body),
    "two blanks in the status line": lambda body: (b"HTTP/1.1  200 OK\r\n" + length(body) + END, body),
    "a control byte in the reason": lambda body: (b"HTTP/1.1 200 O\x01K\r\n" + length(body) + END, body),
    "a line end before it": lambda body: (b"\r\n\r\n" + STATUS + length(body) + END, body),
    "an odd interim answer": lambda body: (b"HTTP/1.1 103 E\r\nbad\r\n\r\n" + STATUS + length(body) + END, body),
    "a transfer coding that is not known": lambda body: (STATUS + b"Transfer-Encoding: nothing\r\n" + END, body),
    "no blank line": lambda body: (STATUS + TYPE, body),
    "a chunk size that lies": lambda body: (
        STATUS + b"Transfer-Encoding: chunked\r\n" + END,
        b"5\r\n" + body + b"\r\n",
    ),
    "chunks in an odd head": lambda body: (
        STATUS + b"Bad Line\r\nTransfer-Encoding: chunked\r\n" + END,
        b"9\r\n%s\r\n%x;ext\r\n%s\r\n0\r\n\r\n" % (body[:9], len(body) - 9, body[9:]),
    ),
    "a head of 150,000 bytes": lambda body: (STATUS + b"X-A: " + b"x" * 150_000 + b"\r\n" + length(body) + END, body),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Damaged:
    """Head and body, in one piece or in two; then the end, or silence."""

    head: bytes
    body: bytes
    pieces: bool = False
    silence: bool = False

    async def play(self, connection: Connection) -> None:
        await connection.raw(self.head if self.pieces else self.head + self.body)
        if self.pieces:
            await asyncio.sleep(0.02)
            await connection.raw(self.body)
        await (Hang().play(connection) if self.silence else connection.close())


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Rig:
    """An empty pool at a provider that rotates and punishes reuse."""
    return Rig(tmp_path / "accounts", clock)


@pytest.fixture
async def client() -> AsyncIterator[TokenClient]:
    """A client that does not wait long."""
    client = TokenClient(connect_seconds=5, answer_seconds=2)
    yield client
    await client.aclose()


async def refreshed(rig: Rig, client: TokenClient, make: object) -> list[str]:
    """Refresh an account whose first answer is damaged; the refresh tokens that were presented."""

    def script(number: int, form: Form) -> Answer:
        answer = rig.provider(number, form)
        assert isinstance(answer, JSON)
        return answer if number or answer.status != 200 else make(json.dumps(answer.body).encode())  # type: ignore[operator]

    account = await rig.add()
    async with ScriptedTokenEndpoint(script) as endpoint:
        rig.pools["pool"] = replace(rig.pools["pool"], token_url=endpoint.url)
        outcome = await rig.process(rig.store, endpoint=client).refresh(account)
        presented = [post.form["refresh_token"] for post in endpoint.received]
    assert isinstance(outcome, Ready)
    stored = rig.stored()
    assert rig.provider.is_current(stored.token.refresh_token or "")
    assert stored.token.access_token in rig.provider
    assert not stored.disabled
    return presented


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_pair_survives_the_damage(damage: str, rig: Rig, client: TokenClient) -> None:
    """It is written, and the spent token never presented again."""
    presented = await refreshed(rig, client, lambda body: Damaged(*DAMAGES[damage](body)))
    assert len(presented) == 1


@pytest.mark.parametrize("silence", (False, True))
async def test_the_body_may_come_after_the_head_was_refused(rig: Rig, client: TokenClient, *, silence: bool) -> None:
    """The connection is read on: to its end, or until nothing more comes."""
    head = STATUS + b"Bad Header Line\r\n\r\n"
    presented = await refreshed(rig, client, lambda body: Damaged(head, body, pieces=True, silence=silence))
    assert len(presented) == 1
