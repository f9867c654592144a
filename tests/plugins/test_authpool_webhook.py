"""Messages to a URL: signed, tried again, and holding nobody up. The server is real."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import authpool_webhook
from authpool.accounts.account import Account, Token
from authpool.accounts.events import AccountEvent, PoolExhausted
from authpool.config.config_table import ConfigTable
from authpool.errors import ConfigurationError
from authpool.gateway.service import Service
from authpool.requests.pooled_request import PooledRequest
from authpool.rotation.rotation import RotationRequest
from authpool.verbs.operations import Operations
from authpool_webhook import Target, Webhook
from support.answers import JSON
from support.exchange import Answer, Reply, Request
from support.home import make_home, token_table
from support.rotating_provider import RotatingProvider
from support.server import HttpServer
from support.token_endpoint import ScriptedTokenEndpoint

REQUEST = RotationRequest(method="GET", host="api.example", path="/")
SECRET = "whsec_" + base64.b64encode(b"a key of some bytes").decode()
ALICE = Account(
    pool="p",
    name="alice",
    disabled=True,
    disabled_at=1_700_000_000,
    disabled_reason="invalid_grant",
    token=Token(access_token="the-access-token", refresh_token="the-refresh-token"),
)


class Hanging:
    """Reads the message, and never answers."""

    async def play(self, reply: Reply) -> None:
        await reply.gone()


class Receiver:
    """Takes messages; answers what is queued, else 200."""

    def __init__(self) -> None:
        self.received: list[Request] = []
        self.queue: deque[Answer] = deque()
        self.server = HttpServer(self)

    def greet(self) -> Answer | None:
        return None

    async def answer(self, request: Request) -> Answer:
        self.received.append(request)
        return self.queue.popleft() if self.queue else JSON(200, {})

    @property
    def url(self) -> str:
        return f"{self.server.url}/hook?from=authpool"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.received]

    async def wait_for(self, count: int) -> None:
        await until(lambda: len(self.received) >= count)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with receiver.server:
        yield receiver


@pytest.fixture
async def webhook(receiver: Receiver) -> AsyncIterator[Webhook]:
    """With pauses that a test can wait for."""
    webhook = Webhook(pauses_seconds=(0.02, 0.02, 0.02, 0.02))
    webhook.target = Target(url=receiver.url, secret=b"a key of some bytes")
    yield webhook
    await asyncio.to_thread(webhook.close, 0.2)


def verify(request: Request, key: bytes) -> None:
    """As a receiver does it, by the words of the specification."""
    identifier, timestamp = request.header("webhook-id") or "", request.header("webhook-timestamp") or ""
    signed = f"{identifier}.{timestamp}.".encode() + request.body
    version, _, signature = (request.header("webhook-signature") or "").partition(",")
    assert version == "v1"
    assert base64.b64decode(signature) == hmac.new(key, signed, hashlib.sha256).digest()
    assert abs(int(timestamp) - time.time()) < 60


async def test_a_message_is_signed_and_sent_again_after_an_error(receiver: Receiver, webhook: Webhook) -> None:
    """Under the same id, so that the receiver can tell; another failure costs another try."""
    receiver.queue += [JSON(500, {}), JSON(429, {}, {"retry-after": "0"})]
    webhook.tell("account.disabled", pool="p", account="alice")
    await receiver.wait_for(3)
    for request in receiver.received:
        verify(request, b"a key of some bytes")
        assert request.header("content-type") == "application/json"
        assert request.target == "/hook?from=authpool"
    assert len({request.header("webhook-id") for request in receiver.received}) == 1
    assert receiver.messages[0] == {"type": "account.disabled", "pool": "p", "account": "alice"}


async def test_a_retry_after_is_kept(receiver: Receiver, webhook: Webhook) -> None:
    """The pause is never shorter than the receiver asks for."""
    receiver.queue.append(JSON(503, {}, {"retry-after": "1"}))
    webhook.tell("account.disabled", pool="p")
    await receiver.wait_for(2)
    first, second = receiver.received
    assert second.at - first.at >= 0.95


@pytest.mark.parametrize(("status", "tries"), ((500, 5), (400, 1), (410, 1), (302, 1)))
async def test_when_to_give_up(
    status: int, tries: int, receiver: Receiver, webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    """After five tries, at once where trying again is no use; no redirect is followed. The URL stays out of the log."""
    receiver.queue += [JSON(status, {}, {"location": receiver.url})] * tries
    webhook.tell("account.disabled", pool="p")
    await until(lambda: "could not be delivered" in caplog.text)
    assert len(receiver.received) == tries
    assert f"webhook at 127.0.0.1: it answers {status}" in caplog.text
    assert "/hook" not in caplog.text


async def test_a_receiver_that_hangs_blocks_nothing(receiver: Receiver, webhook: Webhook) -> None:
    """Neither telling nor the end waits for it: it would be for ever, and the receiver still hangs afterwards."""
    receiver.queue += [Hanging()] * 10
    for _ in range(5):
        webhook.tell("account.disabled", pool="p")
    await receiver.wait_for(1)
    await asyncio.to_thread(webhook.close, 0.3)
    assert len(receiver.received) == 1


async def test_the_end_sends_what_waits_without_pauses(receiver: Receiver) -> None:
    """A message that has just failed is tried once more."""
    receiver.queue.append(JSON(500, {}))
    webhook = Webhook(pauses_seconds=(60.0,))
    webhook.target = Target(url=receiver.url, secret=b"k")
    webhook.tell("account.disabled", pool="p")
    webhook.tell("pool.exhausted", pool="p")
    await receiver.wait_for(1)
    await asyncio.to_thread(webhook.close, 5)
    assert [message["type"] for message in receiver.messages] == ["account.disabled"] * 2 + ["pool.exhausted"]


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """What the hooks tell, without a network."""
    told: list[Mapping[str, Any]] = []

    class Listening(Webhook):
        def tell(self, kind: str, **message: Any) -> None:
            told.append({"type": kind, **message})

    monkeypatch.setattr(authpool_webhook._Current, "webhook", Listening())
    return told


def test_what_is_told_of_an_account_holds_no_token(listening: list[Mapping[str, Any]]) -> None:
    """Who, why and since when; enabled and added again are told alike, unless it stays disabled."""
    enabled = Account(pool="p", name="alice", token=ALICE.token)
    for event in (
        AccountEvent(kind="disabled", account=ALICE, reason="invalid_grant"),
        AccountEvent(kind="refreshed", account=ALICE),
        AccountEvent(kind="readded", account=ALICE),
        AccountEvent(kind="readded", account=enabled),
        AccountEvent(kind="enabled", account=enabled),
    ):
        authpool_webhook.authpool_account_event(event)
    authpool_webhook.authpool_pool_exhausted(PoolExhausted(pool="p", at=5, counts={"disabled": 2}))
    disabled, readded, again, exhausted = listening
    assert disabled == {
        "type": "account.disabled",
        "pool": "p",
        "account": "alice",
        "reason": "invalid_grant",
        "at": 1_700_000_000,
    }
    assert (readded["type"], readded["reason"]) == ("account.enabled", "the account was added again")
    assert (again["type"], again["reason"]) == ("account.enabled", "the account was enabled again")
    assert exhausted == {"type": "pool.exhausted", "pool": "p", "counts": {"disabled": 2}, "retry_at": None, "at": 5}
    assert "the-access-token" not in repr(listening)


@pytest.mark.parametrize(
    ("options", "words"),
    (
        ({"secret": "env:HOOK"}, r"plugins\.webhook\.url: is missing"),
        ({"url": "http://example.com/x", "secret": "env:HOOK"}, r"plugins\.webhook\.url: is http://"),
        ({"url": "https://example.com/x"}, r"plugins\.webhook\.secret: is missing"),
        ({"url": "https://example.com/x", "secret": "hunter2"}, r"plugins\.webhook\.secret: is written out"),
        ({"url": "https://example.com/x", "secret": "env:NO_SUCH"}, r"NO_SUCH is not set"),
        ({"url": "https://example.com/x", "secret": "env:BAD"}, r"is no base64"),
        (
            {"url": "https://example.com/x", "secret": "env:HOOK", "events": ["disabled"]},
            r"events\[0\]: .* Did you mean `account\.disabled`",
        ),
        ({"ulr": "x"}, r"plugins\.webhook\.ulr: there is no such key"),
    ),
)
def test_mistakes_in_the_table_are_told(
    options: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With file, key and remedy; neither URL nor secret is repeated."""
    monkeypatch.setenv("HOOK", SECRET)
    monkeypatch.setenv("BAD", "whsec_%%%")
    table = ConfigTable.unchecked(options, ("plugins", "webhook"))
    with pytest.raises(ConfigurationError, match=words) as caught:
        authpool_webhook.authpool_configure(table, tmp_path)
    assert "hunter2" not in str(caught.value)
    assert "example.com/x" not in str(caught.value)


async def test_a_gateway_tells_of_a_dead_account_and_of_an_empty_pool(
    tmp_path: Path,
    receiver: Receiver,
    rotating: RotatingProvider,
    token_endpoint: ScriptedTokenEndpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From configuration to the wire, with a signature that verifies and no token in any message."""
    monkeypatch.setenv("HOOK", SECRET)
    issued = rotating.issue("alice")
    rotating.revoke("alice")
    pool = {"token_url": token_endpoint.url, "client_id": "c", "hosts": ["api.example"]}
    token = token_table(issued)
    home = make_home(tmp_path, pools={"p": pool}, accounts={"p/alice": {"token": token}})
    with (home / "authpool.toml").open("a") as file:
        file.write(f'\n[plugins.webhook]\nurl = "{receiver.url}"\nsecret = "env:HOOK"\n')
    service = Service(home, {})
    await service.start()
    try:
        with pytest.raises(Exception, match="it is disabled now"):
            await Operations(service).refresh("p/alice")
        for _ in range(3):  # told once, however many requests find nobody
            pooled = PooledRequest(pool="p", rotation="round_robin", request=REQUEST, max_accounts=3)
            await service.picker.acquire(pooled)
            assert pooled.refusal is not None
        await receiver.wait_for(2)
    finally:
        await service.stop()
    assert [message["type"] for message in receiver.messages] == ["account.disabled", "pool.exhausted"]
    assert receiver.messages[0]["account"] == "alice"
    assert "invalid_grant" in receiver.messages[0]["reason"]
    assert receiver.messages[1]["counts"] == {"disabled": 1}
    for request in receiver.received:
        verify(request, b"a key of some bytes")
        assert not [secret for secret in (issued["access_token"], issued["refresh_token"]) if secret in str(request)]
