"""Keys are found where they may be, and taken off wherever they are."""

from base64 import b64encode
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.clients.key import new_key
from authpool.clients.presented import NOTHING, PLACES, Presented, keys_in, take_from_fields, take_from_target

KEY = new_key().text
RAW = KEY.encode()


def basic(user: str, password: str) -> bytes:
    return b"Basic " + b64encode(f"{user}:{password}".encode())


ACCEPTED = (
    (b"Proxy-Authorization", b"Bearer " + RAW),
    (b"proxy-authorization", basic(KEY, "")),
    (b"proxy-authorization", basic("ci", KEY)),
    (b"Proxy-Authorization", basic("", KEY).replace(b"Basic", b"basic")),
    (b"Proxy-Authorization", basic("c", KEY).rstrip(b"=")),
    (b"Proxy-Authorization", basic("cii", KEY).rstrip(b"=")),
    (b"Proxy-Authorization", basic("ci", KEY).replace(b" ", b"\t")),
    (b"Authorization", b"bearer  " + RAW + b" "),
    (b"x-api-key", RAW),
    (b"X-Goog-Api-Key", b" " + RAW),
)


@pytest.mark.parametrize("field", ACCEPTED, ids=range(len(ACCEPTED)))
def test_a_key_is_found_in_its_places(field: tuple[bytes, bytes]) -> None:
    """In whatever case; it is taken off, and nothing else is."""
    fields = ((b"Host", b"api.test"), field, (b"Accept", b"*/*"))
    left, presented = take_from_fields(fields)
    assert left == (fields[0], fields[2])
    assert keys_in(presented.values[0]) == [KEY]
    assert KEY not in repr(presented)


STRIPPED = (
    (b"Authorization", basic(KEY, "x")),
    (b"Proxy-Authorization", RAW),
    (b"X-Forwarded-Authorization", b"Bearer " + RAW),
    (b"Cookie", b"a=b; key=" + RAW),
    (b"Referer", b"https://api.test/?key=" + RAW),
    (b"x-api-key", b"Bearer " + RAW),
    (RAW, b"1"),
    (b"Sec-WebSocket-Protocol", b"api-key." + RAW),
)


@pytest.mark.parametrize("field", STRIPPED, ids=range(len(STRIPPED)))
def test_a_key_in_another_place_is_taken_off_and_does_not_count(field: tuple[bytes, bytes]) -> None:
    """It must be in no flow, and go to no upstream."""
    assert take_from_fields((field,)) == ((), Presented())


def test_a_mistyped_key_is_taken_off_too() -> None:
    """It is nearly one."""
    left, presented = take_from_fields(((b"x-api-key", RAW[:-1]),))
    assert (left, presented.values) == ((), (RAW[:-1],))


def test_what_is_no_key_stays() -> None:
    """It is the upstream's, or the pool takes it off."""
    fields = (
        (b"Authorization", b"Bearer sk-1"),
        (b"User-Agent", b"authpool_tests"),
        (b"Proxy-Authorization", b"Basic !"),
    )
    left, presented = take_from_fields(fields)
    assert left is fields
    assert presented == Presented(other=True)
    assert take_from_fields(fields[1:2]) == (fields[1:2], NOTHING)


def test_the_place_that_counts_first_comes_first() -> None:
    """Whatever the order of the fields."""
    other = new_key().text.encode()
    _, presented = take_from_fields(((b"x-api-key", other), (b"proxy-authorization", b"Bearer " + RAW)))
    assert [keys_in(value) for value in presented.values] == [[KEY], [other.decode()]]


TARGETS = (
    (b"/v1?key=" + RAW, b"/v1", RAW),
    (b"/v1?a=1&key=" + RAW + b"&b=%20", b"/v1?a=1&b=%20", RAW),
    (b"/v1?%6Bey=" + RAW.replace(b"_", b"%5F"), b"/v1", RAW),
    (b"/v1/" + RAW + b"/x?a=1", b"/v1//x?a=1", None),
    (b"/v1/" + RAW + b"?key=" + RAW, b"/v1/", RAW),
    (b"/v1/a%20b/" + RAW.replace(b"_", b"%5f") + b"/%2F?a=%20", b"/v1/a%20b//%2F?a=%20", None),
    (b"/%61" + RAW[1:] + b"x%2Fy", b"/", None),
    (b"/v1?other=" + RAW, b"/v1", None),
    (b"/v1?key=AIza&a=%2F", b"/v1?key=AIza&a=%2F", None),
    (b"/v1?monkey=1", b"/v1?monkey=1", None),
    (b"/v1", b"/v1", None),
    (b"/v1?", b"/v1?", None),
)


@pytest.mark.parametrize(("target", "left", "key"), TARGETS, ids=range(len(TARGETS)))
def test_a_key_is_taken_off_the_query(target: bytes, left: bytes, key: bytes | None) -> None:
    """However it is encoded; every other byte stays."""
    assert take_from_target(target) == (left, key)


FIELD_NAMES = st.sampled_from((*PLACES, b"cookie", b"x-other", b"Host")) | st.binary(min_size=1, max_size=8)
AROUND = st.binary(max_size=12) | st.sampled_from((b"Bearer ", b"Basic ", b"key=", b" ", b"?", b"&"))


@given(st.lists(st.tuples(FIELD_NAMES, AROUND, st.booleans(), AROUND), max_size=6))
def test_no_field_with_a_key_is_left(parts: list[tuple[bytes, bytes, bool, bytes]]) -> None:
    """Whatever stands around it; what has none stays, in its order."""
    fields = tuple((name, before + (RAW if has else b"") + after) for name, before, has, after in parts)
    left, presented = take_from_fields(fields)
    assert RAW not in b"\n".join(value for _, value in left)
    assert [one for one in fields if RAW not in one[1]] == list(left)
    for value in presented.values:
        assert set(keys_in(value)) <= {KEY} or RAW in value


@given(st.lists(st.tuples(AROUND, st.booleans(), AROUND), max_size=5), st.sets(st.integers(0, len(RAW) - 1)))
def test_no_target_with_a_key_is_left(parts: list[tuple[bytes, bool, bytes]], encoded: set[int]) -> None:
    """However much of it is percent-encoded, in whatever parameter."""
    written = b"".join(b"%%%02X" % byte if at in encoded else bytes([byte]) for at, byte in enumerate(RAW))
    query = b"&".join(before + (written if has else b"") + after for before, has, after in parts)
    left, _ = take_from_target(b"/v1?" + query)
    assert RAW not in unquote_to_bytes(left)
