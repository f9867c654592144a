"""Device authorization, against a token endpoint that says what a test tells it, and a clock that a test turns."""

import math
from collections.abc import AsyncIterator
from typing import Any

import pytest

from authpool.accounts.account import Account
from authpool.config.host_pattern import HostPattern
from authpool.config.pool_config import ClientConfig, PoolConfig
from authpool.errors import RefusedError
from authpool.oauth.device_authorization import DeviceAuthorization, DeviceCode, DeviceRefusedError
from authpool.oauth.token_client import TokenClient
from authpool.oauth.verdict import Granted
from support.answers import HTML, JSON, Cut, Nothing, Raw, Reset
from support.exchange import Answer
from support.token_endpoint import ScriptedTokenEndpoint

ASKED = {
    "device_code": "the-device-code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://example.com/device",
    "verification_uri_complete": "https://example.com/device?user_code=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 5,
}
PENDING = JSON(400, {"error": "authorization_pending"})
SLOW_DOWN = JSON(400, {"error": "slow_down"})
TOKENS = JSON(200, {"access_token": "a", "refresh_token": "r", "expires_in": 60, "token_type": "Bearer"})


class Turned:
    """A clock that moves when somebody sleeps; `slept` is how long, each time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def time(self) -> float:
        return 1_800_000_000 + sum(self.slept)

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
async def http() -> AsyncIterator[TokenClient]:
    client = TokenClient()
    yield client
    await client.aclose()


def flow(http: TokenClient, clock: Turned, *, secret: str | None = "the-secret", **pool: Any) -> DeviceAuthorization:
    auth = "none" if secret is None else "client_secret_basic"
    client = ClientConfig(client_id="me", client_secret=secret, client_auth=auth)  # type: ignore[arg-type]
    config = PoolConfig(name="main", hosts=(HostPattern.parse("api.example"),), client=client, **pool)
    return DeviceAuthorization(http, clock, config, Account(pool="main", name="unnamed", generation=1, created_at=0))


async def begun(http: TokenClient, answer: Answer, **pool: Any) -> DeviceCode:
    async with ScriptedTokenEndpoint([answer]) as endpoint:
        return await flow(http, Turned(), **pool).begin(endpoint.url)


async def waited(http: TokenClient, clock: Turned, *answers: Answer, **code: Any) -> Granted:
    async with ScriptedTokenEndpoint(list(answers)) as endpoint:
        fields: dict[str, Any] = {"lifetime_seconds": 1800.0, "interval_seconds": 5.0, **code}
        asked = DeviceCode(device_code="the-device-code", user_code="WDJB-MJHT", url="https://example.com", **fields)
        return await flow(http, clock).wait(asked, endpoint.url)


# --- the code -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", (None, "the-secret"))
async def test_the_request_names_the_client_in_any_case(http: TokenClient, secret: str | None) -> None:
    """RFC 8628 §3.1 wants `client_id`, also beside a client that authenticates by a header."""
    async with ScriptedTokenEndpoint([JSON(200, ASKED)]) as endpoint:
        code = await flow(http, Turned(), secret=secret, scopes=("openid", "email")).begin(endpoint.url)
        [post] = endpoint.received
    assert post.form == {"client_id": "me", "scope": "openid email"}
    assert (post.request.header("authorization") is None) == (secret is None)
    assert (code.url, code.user_code, code.complete_url) == (
        "https://example.com/device",
        "WDJB-MJHT",
        "https://example.com/device?user_code=WDJB-MJHT",
    )
    assert (code.lifetime_seconds, code.interval_seconds) == (1800, 5)
    assert "the-device-code" not in repr(code)
    assert "WDJB" not in repr(code)


@pytest.mark.parametrize(
    ("changes", "lifetime", "interval"),
    (
        ({"interval": None, "expires_in": None}, 600, 5),
        ({"interval": "7", "expires_in": "900"}, 900, 7),
        ({"interval": 0, "expires_in": -5}, 1, 1),
        ({"interval": 1e9, "expires_in": 1e9}, 3600, 60),
        ({"interval": True, "expires_in": "soon"}, 600, 5),
        ({"interval": [], "expires_in": math.inf}, 3600, 5),
    ),
)
async def test_odd_numbers_are_brought_into_bounds(
    http: TokenClient, changes: dict[str, Any], lifetime: float, interval: float
) -> None:
    """Nobody is asked in a loop, and nobody waits for ever."""
    code = await begun(http, JSON(200, {**ASKED, **changes}))
    assert (code.lifetime_seconds, code.interval_seconds) == (lifetime, interval)


async def test_an_older_name_of_the_address_is_read(http: TokenClient) -> None:
    """Google's `verification_url`; an address with the code in it that is none is left out."""
    told = {**ASKED, "verification_uri": None, "verification_url": "https://www.google.com/device"}
    code = await begun(http, JSON(200, {**told, "verification_uri_complete": "javascript:alert(1)"}))
    assert (code.url, code.complete_url) == ("https://www.google.com/device", None)


@pytest.mark.parametrize(
    ("answer", "why"),
    (
        (JSON(400, {"error": "unauthorized_client"}), r"\(unauthorized_client\)"),
        (JSON(401, {"error": "invalid_client", "error_description": "No the-secret here"}), r"\(invalid_client: No"),
        (JSON(404, {}), r"\(HTTP 404\)"),
        (HTML(200, "<html>"), "has no code"),
        (JSON(200, {**ASKED, "user_code": None}), "has no code"),
        (JSON(200, {**ASKED, "user_code": "\x1b[2J"}), "has no code"),
        (JSON(200, {**ASKED, "user_code": "x" * 65}), "has no code"),
        (JSON(200, {**ASKED, "verification_uri": "http://evil.example"}), "is http://"),
        (JSON(200, {**ASKED, "verification_uri": "https://me:pw@example.com"}), "user name or password"),
        (Reset(), "did not arrive"),
    ),
)
async def test_what_is_no_code_is_told(http: TokenClient, answer: Answer, why: str) -> None:
    """In words that fit behind one another, without what was sent."""
    with pytest.raises(DeviceRefusedError, match=why) as refused:
        await begun(http, answer)
    assert "the-secret" not in str(refused.value)


# --- the wait -----------------------------------------------------------------------------------------------------


async def test_it_asks_at_the_interval_until_there_is_a_token(http: TokenClient) -> None:
    """With the grant type of RFC 8628 §3.4."""
    clock = Turned()
    assert await waited(http, clock, PENDING, PENDING, TOKENS) == Granted(
        access_token="a", refresh_token="r", lifetime_seconds=60
    )
    assert clock.slept == [5, 5, 5]


async def test_slow_down_adds_five_seconds_for_good(http: TokenClient) -> None:
    """Each time."""
    clock = Turned()
    await waited(http, clock, PENDING, SLOW_DOWN, PENDING, SLOW_DOWN, PENDING, TOKENS)
    assert clock.slept == [5, 5, 10, 10, 15, 15]


@pytest.mark.parametrize(
    "trouble",
    (
        HTML(200, "<html>a portal</html>"),
        JSON(500, {"error": "server_error"}),
        JSON(503, {}, {"retry-after": "1"}),
        JSON(429, {}),
        JSON(200, []),
        Nothing(),
        Reset(),
        Cut(400, b'{"error": "authoriz'),
        Raw(b"no HTTP at all\r\n\r\n"),
    ),
    ids=range(9),
)
async def test_what_is_no_oauth_answer_is_waited_out(http: TokenClient, trouble: Answer) -> None:
    """With pauses that grow, and are as before once it answers again."""
    clock = Turned()
    assert (await waited(http, clock, trouble, trouble, PENDING, PENDING, TOKENS)).refresh_token == "r"
    assert clock.slept == [5, 10, 20, 5, 5]


async def test_the_code_s_end_ends_it(http: TokenClient) -> None:
    """Not a question more, and the end is waited for, not gone over."""
    clock = Turned()
    with pytest.raises(RefusedError, match="nobody entered the code within 17 s"):
        await waited(http, clock, PENDING, PENDING, PENDING, lifetime_seconds=17.0)
    assert clock.slept == [5, 5, 5, 2]


@pytest.mark.parametrize(
    ("answer", "why"),
    (
        (JSON(400, {"error": "access_denied"}), "declined at the provider"),
        (JSON(400, {"error": "expired_token"}), "the code is too old"),
        (JSON(400, {"error": "invalid_grant", "error_description": "No the-device-code"}), r"\(invalid_grant: No "),
        (JSON(401, {"error": "invalid_client"}), r"\(invalid_client\)"),
    ),
)
async def test_an_answer_that_ends_it_is_told(http: TokenClient, answer: Answer, why: str) -> None:
    """And that nothing was changed."""
    with pytest.raises(RefusedError, match=f"{why}.*nothing was changed") as refused:
        await waited(http, Turned(), PENDING, answer)
    assert "the-device-code" not in str(refused.value)


async def test_a_pause_that_has_grown_ends_before_the_code_does(http: TokenClient) -> None:
    """Whoever entered it meanwhile is found, and the provider's interval is kept."""
    clock = Turned()
    granted = await waited(http, clock, HTML(200, "?"), HTML(502, "?"), TOKENS, lifetime_seconds=30.0)
    assert (granted.refresh_token, clock.slept) == ("r", [5, 10, 14])
