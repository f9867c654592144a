"""A token_url that is wrong: who reads the log or the command's answer learns which, and where it is configured."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from authpool.config import PoolConfig
from authpool.errors import RefusedError
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.token_client import TokenClient
from authpool.oauth.verdict import Answer, NotSent, Reply
from authpool.refresh.outcome import Unavailable
from authpool.refresh.refresher import Refresher
from support.answers import HTML, JSON, Raw, Redirect
from support.clock import FakeClock
from support.exchange import Answer as WireAnswer
from support.home import read_account
from support.idle_gateway import idle_gateway, idle_home, turn
from support.operator import open_desk
from support.rotating_provider import RotatingProvider
from support.token_endpoint import ScriptedTokenEndpoint, refused_url
from support.transport import Rig, Transport

QUERY = "?key=a-secret-of-the-url"


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Rig:
    return Rig(tmp_path / "accounts", clock)


@pytest.fixture
async def client() -> AsyncIterator[TokenClient]:
    client = TokenClient()
    yield client
    await client.aclose()


async def detail_of(rig: Rig, client: TokenClient, url: str, **pool: object) -> str:
    """What a refresh at that URL comes to, in words."""
    rig.pools["pool"] = replace(rig.pools["pool"], token_url=url + QUERY, **pool)  # type: ignore[arg-type]
    refresher = rig.process(rig.store, endpoint=client)
    outcome = await refresher.refresh(await rig.add())
    assert isinstance(outcome, Unavailable)
    assert not rig.stored().disabled
    assert "a-secret-of-the-url" not in outcome.detail
    return outcome.detail


@pytest.mark.parametrize(
    ("answer", "told"),
    (
        (JSON(404, {"error": "not_found"}), "HTTP 404 with an unknown error code"),
        (JSON(404, {"message": "no route"}), "HTTP 404 without a known error code"),
        (HTML(404), "HTTP 404 without a JSON object"),
        (Raw(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n"), "HTTP 405 without a JSON object"),
        (HTML(410), "HTTP 410 without a JSON object"),
        (HTML(200), "HTTP 200 without a JSON object"),
        (HTML(403), "HTTP 403 without a JSON object"),
        (Redirect("https://elsewhere.test/"), "HTTP 302 without a JSON object"),
    ),
)
async def test_what_answers_is_no_token_endpoint(rig: Rig, client: TokenClient, answer: WireAnswer, told: str) -> None:
    """The URL without its query, and the key."""
    async with ScriptedTokenEndpoint([answer]) as endpoint:
        detail = await detail_of(rig, client, endpoint.url)
        expected = f"{told}; the URL {endpoint.url} is likely wrong, see authpool.toml: pools.pool.token_url"
    assert detail == expected


async def test_nobody_is_there(rig: Rig, client: TokenClient) -> None:
    """Refused, or no such host: it may also be down."""
    with refused_url() as url:
        detail = await detail_of(rig, client, url)
    assert detail == f"connection refused; the URL {url} may be wrong, see authpool.toml: pools.pool.token_url"
    detail = await detail_of(rig, client, "https://name.invalid/token")
    assert detail.startswith("the host name can't be found; the URL https://name.invalid/token may be wrong")


@pytest.mark.parametrize(
    "answer",
    (JSON(503, {}), HTML(502), JSON(429, {}), JSON(400, {"error": "slow_down"}), JSON(200, {"token_type": "Bearer"})),
)
async def test_an_endpoint_in_trouble_is_no_wrong_url(rig: Rig, client: TokenClient, answer: WireAnswer) -> None:
    """It answers as token endpoints do."""
    async with ScriptedTokenEndpoint([answer]) as endpoint:
        assert "wrong" not in await detail_of(rig, client, endpoint.url)


async def test_a_discovered_url_is_the_issuers(tmp_path: Path, clock: FakeClock) -> None:
    """There is no token_url to correct."""

    class Misled(Transport):
        async def get(self, url: str, headers: object) -> Answer:
            metadata = {"issuer": "https://op.test", "token_endpoint": "https://op.test/old"}
            return self.answer(200, metadata)

        async def post(self, url: str, form: object, headers: object) -> Answer:
            return self.answer(404, {})

        @staticmethod
        def answer(status: int, body: object) -> Answer:
            return Reply(status=status, body=json.dumps(body).encode())

    provider = RotatingProvider(monotonic=clock.monotonic)
    rig = Rig(tmp_path, clock, provider)
    pool: PoolConfig = replace(rig.pools["pool"], token_url=None, issuer="https://op.test")
    transport = Misled(provider)

    async def fetch(url: str) -> tuple[int, bytes]:
        answer = await transport.get(url, {})
        return answer.status, answer.body  # type: ignore[union-attr]

    refresher = Refresher(
        store=rig.store,
        endpoint=transport,  # type: ignore[arg-type]
        resolver=EndpointResolver(fetch, clock),
        pools=lambda: {"pool": pool},
        clock=clock,
    )
    outcome = await refresher.refresh(await rig.add())
    assert isinstance(outcome, Unavailable)
    assert outcome.detail.endswith("the URL https://op.test/old is likely wrong, see authpool.toml: pools.pool.issuer")


async def test_the_log_of_a_gateway_says_it(tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Of one account, and when the whole endpoint is taken for down."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice", "bob", token_url=f"https://provider.test/tokn{QUERY}")
    transport = Transport(provider)
    transport.script.extend([NotSent(detail="connection refused", nobody=True)] * 50)
    async with idle_gateway(home, clock, transport):
        await turn(clock, 3600, until=lambda: "is down" in caplog.text)
    words = "connection refused; the URL https://provider.test/tokn may be wrong, see authpool.toml: pools.p.token_url"
    assert f"did not work: {words}" in caplog.text
    assert f"is down ({words})" in caplog.text
    assert "a-secret-of-the-url" not in caplog.text
    assert not read_account(home, "p/alice").get("disabled")


async def test_adding_says_it(tmp_path: Path) -> None:
    """Where operators meet a wrong URL first."""
    async with open_desk(tmp_path) as desk:
        desk.token_endpoint.script = [HTML(404)]
        with pytest.raises(RefusedError) as refused:
            await desk.operations.add("google", desk.signed_in("alice@example.com"))
        words = f"the URL {desk.token_endpoint.url} is likely wrong, see authpool.toml: pools.google.token_url"
        assert words in str(refused.value)
