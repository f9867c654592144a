"""Content codings are undone in pieces, and never to more than a limit."""

import gzip
import random
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.oauth import content_coding
from authpool.oauth.content_coding import decoded
from authpool.oauth.token_client import MAX_BODY_BYTES, TokenClient
from authpool.oauth.verdict import Granted, Reply, ReplyLost, judge
from support.answers import Raw
from support.token_endpoint import ScriptedTokenEndpoint

LIMIT = 1024 * 1024
BOMB_BYTES = 256 * 1024 * 1024
TEXT = b'{"access_token": "at", "refresh_token": "' + b"xyz" * 3000 + b'"}'


def zstd(data: bytes) -> bytes:
    return bytes(content_coding.zstd.compress(data))


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: bytes(brotli.compress(data, quality=5)),
    "zstd": zstd,
}


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """A quarter of a gigabyte of nothing in each coding, in one of the others, and in three of them."""
    nothing = b"\0" * BOMB_BYTES
    found = {name: code(nothing) for name, code in CODINGS.items()}
    found |= {f"{name}, br": CODINGS["br"](data) for name, data in list(found.items())}
    return found | {"gzip, zstd, br": CODINGS["br"](zstd(found["gzip"]))}


def test_no_bomb_is_blown_up(bombs: dict[str, bytes]) -> None:
    """Whatever it says it is; a few MiB are all that it costs."""
    for coding, bomb in bombs.items():
        tracemalloc.start()
        content, whole = decoded(bomb, coding, LIMIT)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (len(content) <= LIMIT, whole) == (True, False), coding
        assert peak < 16 * LIMIT, coding


async def test_a_token_endpoint_can_send_none(bombs: dict[str, bytes], client: TokenClient) -> None:
    """What is too long did not arrive whole, and nothing of it stays in memory."""
    for coding, bomb in bombs.items():
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(bomb)}\r\n\r\n"
        async with ScriptedTokenEndpoint([Raw(head.encode() + bomb)]) as endpoint:
            tracemalloc.start()
            answer = await client.post(endpoint.url, {"a": "b"}, {})
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert isinstance(answer, ReplyLost), coding
        assert len(answer.body) <= MAX_BODY_BYTES
        assert peak < 32 * LIMIT, coding


@pytest.fixture
async def client() -> AsyncIterator[TokenClient]:
    client = TokenClient(connect_seconds=5, answer_seconds=5)
    yield client
    await client.aclose()


@pytest.mark.parametrize("coding", CODINGS)
def test_a_token_in_any_coding_is_read(coding: str) -> None:
    """It exists nowhere else."""
    content, whole = decoded(CODINGS[coding](TEXT), coding, LIMIT)
    granted = judge(Reply(status=200, body=content), now=0)
    assert (content, whole) == (TEXT, True)
    assert isinstance(granted, Granted)


@pytest.mark.parametrize("coding", CODINGS)
def test_what_stands_before_a_cut_or_damage_is_read(coding: str) -> None:
    """As far as it goes, and never as if it were all."""
    data = CODINGS[coding](TEXT)
    for cut in range(2, len(data)):
        for rest in (b"", b"\xff" * 20):
            content, whole = decoded(data[:cut] + rest, coding, LIMIT)
            assert not whole or content == TEXT
            assert rest or TEXT.startswith(content)  # damage may be read as something


@pytest.mark.parametrize("coding", CODINGS)
def test_the_limit_is_exact(coding: str) -> None:
    """What is just as long is whole."""
    data = CODINGS[coding](TEXT)
    assert decoded(data, coding, len(TEXT)) == (TEXT, True)
    assert decoded(data, coding, len(TEXT) - 1) == (TEXT[:-1], False)


@pytest.mark.parametrize(
    ("coding", "whole"),
    (
        ("", True),
        ("identity", True),
        ("gzip", True),
        ("X-GZIP", True),
        ("br", True),
        ("zstd, gzip", True),
        ("??", True),
    ),
)
def test_what_says_it_is_compressed_and_is_not(coding: str, whole: bool) -> None:  # noqa: FBT001
    """A proxy may have undone it and left the field."""
    assert decoded(TEXT, coding, LIMIT) == (TEXT, whole)


def test_several_codings_are_undone_from_the_last() -> None:
    """RFC 9110 §8.4; more than three are nobody's."""
    data = CODINGS["br"](zstd(gzip.compress(TEXT)))
    assert decoded(data, "gzip, zstd, br", LIMIT) == (TEXT, True)
    assert decoded(data, "identity, GZIP ,zstd,  br", LIMIT) == (TEXT, True)
    assert decoded(data, "gzip, gzip, zstd, br", LIMIT) == (b"", False)
    assert decoded(CODINGS["br"](TEXT), "compress", LIMIT) == (b"", False)


def test_frames_and_members_follow_each_other() -> None:
    """RFC 8878 §3, RFC 1952 §2.2; what is no member behind them is passed over."""
    assert decoded(zstd(TEXT) + zstd(TEXT), "zstd", LIMIT) == (TEXT * 2, True)
    assert decoded(gzip.compress(TEXT) + gzip.compress(TEXT), "gzip", LIMIT) == (TEXT * 2, True)
    assert decoded(gzip.compress(TEXT) + gzip.compress(TEXT), "gzip", len(TEXT) + 1) == (TEXT + TEXT[:1], False)
    assert decoded(gzip.compress(TEXT) + b"\0" * 100, "gzip", LIMIT) == (TEXT, True)
    assert decoded(gzip.compress(TEXT) + gzip.compress(TEXT)[:-1], "gzip", LIMIT) == (TEXT * 2, False)


def test_members_without_end_are_not_followed() -> None:
    """Each costs something, though there be nothing in it."""
    assert decoded(gzip.compress(b"") * 5000 + gzip.compress(TEXT), "gzip", LIMIT) == (b"", False)


def test_all_that_stands_before_damage_is_read() -> None:
    """However far into the body that is; what it costs does not depend on how much is left."""
    text = bytes(random.Random(1).choices(range(256), k=200_000))
    data = zlib.compress(text, 0)  # stored: each byte of it is there
    for at in (1000, 70_000, 150_000):
        content, whole = decoded(data[:at] + b"\xff" * 10 + data[at:], "deflate", LIMIT)
        assert not whole
        assert content[: at - 100] == text[: at - 100]


def inflations(data: bytes, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many pieces are given to zlib for it."""
    pieces = 0

    class Counted:
        def __init__(self, inflater: Any) -> None:
            self._inflater = inflater

        def copy(self) -> "Counted":
            nonlocal pieces
            pieces += 1
            return Counted(self._inflater.copy())

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inflater, name)

    with monkeypatch.context() as patch:
        make = zlib.decompressobj
        patch.setattr(content_coding.zlib, "decompressobj", lambda wbits: Counted(make(wbits)))
        decoded(data, "gzip", LIMIT)
    return pieces


def test_what_is_sound_is_inflated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of usual size in one piece; one that is damaged in as many as its last great piece has, and no more."""
    assert inflations(gzip.compress(TEXT), monkeypatch) == 1
    noise = gzip.compress(bytes(random.Random(1).choices(range(256), k=1_000_000)))
    assert inflations(noise, monkeypatch) == 16
    assert inflations(noise[:-5] + b"\0\0\0\0\0", monkeypatch) <= 16 + 64 + 1024 + 2


def test_a_frame_that_asks_for_a_great_window_gets_none() -> None:
    """RFC 9659 allows 8 MiB; a frame of a few bytes may ask for half a gigabyte."""
    parameters = {content_coding.zstd.CompressionParameter.window_log: 27}
    data = content_coding.zstd.compress(b"\0" * (200 * LIMIT), options=parameters)
    assert decoded(data, "zstd", LIMIT) == (b"", False)


@given(st.binary(max_size=300), st.sampled_from([*CODINGS, "gzip, br", "", "x"]), st.integers(0, 50))
def test_no_damage_breaks_it(data: bytes, coding: str, limit: int) -> None:
    """Anything may come."""
    content, _ = decoded(data, coding, limit)
    assert len(content) <= limit
