"""Whatever a token endpoint answers is judged: nothing is raised, and no secret is told."""

import json

from hypothesis import given
from hypothesis import strategies as st

from authpool.oauth.content_coding import decoded
from authpool.oauth.verdict import Reply, judge

SECRET = "rt-9f8e7d6c5b4a39281706f5e4d3c2b1a0"
KEYS = ("error", "error_description", "access_token", "refresh_token", "expires_in", "token_type", "scope", "id_token")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6).map(lambda found: json.dumps(found).encode())
CUT = st.tuples(DOCUMENTS, st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])
BODIES = DOCUMENTS | CUT | st.binary(max_size=200)
TYPES = st.none() | st.text(max_size=30) | st.sampled_from(["application/json; charset=utf-16", "text/plain"])
CODINGS = st.lists(st.sampled_from(["gzip", "deflate", "br", "zstd", "identity", "x", ""]), max_size=5).map(",".join)


@given(st.integers(0, 999), BODIES, st.none() | st.text(max_size=30), TYPES)
def test_any_reply_is_judged(status: int, body: bytes, retry_after: str | None, content_type: str | None) -> None:
    """Without an exception, and without the presented token in what is told of it."""
    reply = Reply(status=status, body=body, retry_after=retry_after, content_type=content_type)
    assert SECRET not in repr(reply)
    assert SECRET not in repr(judge(reply, now=1_700_000_000.0, presented=SECRET))


@given(st.binary(max_size=4096), CODINGS, st.integers(1, 2048))
def test_any_coding_is_undone_to_its_limit(data: bytes, coding: str, limit: int) -> None:
    """However damaged it is."""
    content, _ = decoded(data, coding, limit)
    assert len(content) <= limit
