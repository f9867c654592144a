"""A long body is read on for a refresh token, and only what stands around it is kept."""

import json

import pytest

from authpool.oauth.long_body import MAX_BODY_BYTES, MAX_SEARCHED_BYTES, LongBody
from authpool.oauth.token_client import TokenClient
from authpool.oauth.verdict import Granted, ReplyLost, judge
from support.answers import JSON
from support.token_endpoint import ScriptedTokenEndpoint

PAIR = {"access_token": "at", "refresh_token": "rt", "expires_in": 60}


def fed(data: bytes, *, search: bool = True, size: int = 10_000) -> tuple[LongBody, int]:
    """What becomes of it in pieces, and how much was wanted."""
    body = LongBody(search=search)
    for start in range(0, len(data), size):
        if not body.feed(data[start : start + size]):
            return body, start + size
    return body, len(data)


@pytest.mark.parametrize(
    "before", (MAX_BODY_BYTES - 400_000, MAX_BODY_BYTES - 20, MAX_BODY_BYTES - 3, 1_300_000, 5_000_000)
)
@pytest.mark.parametrize("size", (7_001, 65_536, 10_000_000))
def test_the_pair_is_kept_wherever_it_stands(before: int, size: int) -> None:
    """Before the limit, across it, far behind it; whatever pieces it comes in."""
    text = json.dumps({"pad": "x" * before, **PAIR, "more": "y" * 500_000}).encode()
    body, _ = fed(text, size=size)
    content = body.content()
    assert len(content) <= MAX_BODY_BYTES
    granted = judge(ReplyLost(detail="cut", status=200, body=content), now=0, presented="old")
    assert granted == Granted(access_token="at", refresh_token="rt", lifetime_seconds=60)


def test_what_is_short_is_kept_whole() -> None:
    """Up to the limit, nothing is lost of it."""
    body, _ = fed(b"x" * MAX_BODY_BYTES)
    assert (len(body.content()), body.is_too_long) == (MAX_BODY_BYTES, False)


@pytest.mark.parametrize(("data", "search"), ((b"refresh_token" + b"x" * 3_000_000, True), (b"x" * 3_000_000, False)))
def test_nothing_more_is_wanted_where_it_is_no_use(data: bytes, *, search: bool) -> None:
    """The name stood in what is kept, or nobody asks for a token."""
    body, wanted = fed(data, search=search)
    assert wanted < MAX_BODY_BYTES + 20_000
    assert (len(body.content()), body.is_too_long) == (MAX_BODY_BYTES, True)


def test_a_search_has_an_end() -> None:
    """And keeps no more than its window while it lasts."""
    body, wanted = fed(b"x" * (MAX_SEARCHED_BYTES + 1_000_000))
    assert wanted <= MAX_SEARCHED_BYTES + 10_000
    assert len(body._around) < 200_000
    assert body.content() == b"x" * MAX_BODY_BYTES


async def test_a_pair_behind_a_megabyte_is_read_off_the_wire() -> None:
    """The answer is too long, and what is wanted of it is there."""
    client = TokenClient()
    async with ScriptedTokenEndpoint([JSON(200, {"pad": "x" * 1_300_000, **PAIR})]) as endpoint:
        answer = await client.post(endpoint.url, {}, {})
    await client.aclose()
    assert isinstance(answer, ReplyLost)
    assert "more than" in answer.detail
    assert isinstance(judge(answer, now=0, presented="old"), Granted)
