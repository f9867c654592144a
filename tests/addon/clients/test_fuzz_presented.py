"""Wherever a gateway key stands in a request's head, nothing of it is left, and nothing is raised."""

from base64 import b64encode
from urllib.parse import quote

from hypothesis import example, given
from hypothesis import strategies as st

from authpool.clients.key import new_key
from authpool.clients.presented import keys_in, take_from_fields, take_from_target

KEY = new_key(lambda count: bytes(range(count))).text.encode()
NAMES = st.sampled_from(
    [b"Authorization", b"PROXY-authorization", b"x-api-key", b"X-Goog-Api-Key", b"cookie", b"accept", b""]
)
AROUND = st.binary(max_size=8)
BASIC = b"Basic " + b64encode(b"u:" + KEY)
WITH_KEY = st.tuples(AROUND, AROUND).map(lambda ends: ends[0] + KEY + ends[1])
VALUES = st.binary(max_size=40) | WITH_KEY | st.sampled_from([KEY, b"Bearer " + KEY, BASIC, b"Basic =" + KEY])
PIECES = st.sampled_from(
    [b"?", b"&", b"=", b"key", b"key=", b"%6bey=", b"+", b"%", b"/", b"a", KEY, quote(KEY).encode()]
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_no_field_keeps_one(fields: list[tuple[bytes, bytes]]) -> None:
    """In any field, encoded as it may be; and what is left is what came, in its order."""
    left, presented = take_from_fields(tuple(fields))
    assert not any(KEY in name + value for name, value in left)
    assert KEY.decode() not in repr(presented)
    assert list(left) == [field for field in fields if field in left]
    for value in presented.values:
        keys_in(value)


@example(b"/?%a" + KEY)  # decoded, its first letter is a part of another byte
@given(st.lists(PIECES, max_size=10).map(lambda pieces: b"/" + b"".join(pieces)))
def test_no_target_keeps_one(target: bytes) -> None:
    """In the path, in a parameter's name or value."""
    left, _ = take_from_target(target)
    assert KEY not in left
    assert len(left) <= len(target)
