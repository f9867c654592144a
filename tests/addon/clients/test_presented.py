"""Keys are found where they may be, and taken off wherever they are."""

from base64 import b64encode

import pytest

from authpool.clients.key import new_key
from authpool.clients.presented import NOTHING, Presented, keys_in, take_from_fields, take_from_target

KEY = new_key().text
RAW = KEY.encode()


def basic(user: str, password: str) -> bytes:
    return b"Basic " + b64encode(f"{user}:{password}".encode())


ACCEPTED = (
    (b"Proxy-Authorization", b"Bearer " + RAW),
    (b"proxy-authorization", basic(KEY, "")),
    (b"proxy-authorization", basic("ci", KEY)),
    (b"Proxy-Authorization", basic("", KEY).replace(b"Basic", b"basic")),
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
