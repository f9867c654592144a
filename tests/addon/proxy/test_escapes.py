"""Comparing a text with data in which each character may be escaped."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.proxy.escapes import Comparison, Steps, beginnings, forms

ENOUGH = 10_000
CHARACTERS = b'a37F/+%\\&;"u'
WRITTEN = st.lists(
    st.sampled_from(
        [bytes((byte,)) for byte in CHARACTERS]
        + [form % byte for byte in CHARACTERS for form in (b"%%%02x", b"%%%02X", b"%%25%02x", b"\\u%04x", b"\\x%02x")]
        + [b"&#%d;" % byte for byte in CHARACTERS]
        + [b"&#x%02X;" % byte for byte in CHARACTERS]
        + [b"\\/", b'\\"', b"&amp;", b"&sol;", b"&#00047;", b"%2", b"\\u00", b"&#"]
    ),
    max_size=12,
).map(b"".join)
TEXT = st.lists(st.sampled_from(CHARACTERS), min_size=1, max_size=8).map(bytes)


def forward(data: bytes, text: bytes, at: int) -> tuple[int, int]:
    """One character after the other."""
    for same, byte in enumerate(text):
        match = forms(byte).match(data, at)
        if match is None:
            return same, at
        at = match.end()
    return len(text), at


def backward(data: bytes, text: bytes, at: int) -> tuple[int, int]:
    """One character after the other, the longest of its forms."""
    for same, byte in enumerate(reversed(text)):
        lengths = [n for n in range(min(10, at), 0, -1) if forms(byte).fullmatch(data, at - n, at)]
        if not lengths:
            return same, at
        at -= lengths[0]
    return len(text), at


@given(WRITTEN, TEXT, st.data())
def test_it_finds_what_comparing_each_character_finds(data: bytes, text: bytes, draw: st.DataObject) -> None:
    """In both directions, from anywhere; what is alike as it stands is compared at once, and that changes nothing."""
    at = draw.draw(st.integers(0, len(data)))
    data = data[:at] + text + data[at:]
    for place in (0, at, at + len(text), len(data)):
        assert Comparison(data, Steps(ENOUGH)).forward(text, place) == forward(data, text, place)
        assert Comparison(data, Steps(ENOUGH)).backward(text, place) == backward(data, text, place)


@given(WRITTEN, TEXT)
def test_where_it_begins_is_not_passed_over(data: bytes, text: bytes) -> None:
    """Three characters of it are there, or the data end with fewer."""
    found = {match.start() for match in beginnings(text).finditer(data)}
    for at in range(len(data)):
        same, end = forward(data, text, at)
        if same == len(text) or (same and end == len(data)):
            assert any(start <= at < start + 30 for start in found)


@pytest.mark.parametrize("steps", (0, 1, 2, 5))
def test_steps_are_all_that_it_takes(steps: int) -> None:
    """Then nothing more is alike; several comparisons may share them."""
    data, left = b"%61" * 100, Steps(steps)
    assert Comparison(data, left).forward(b"a" * 100, 0)[0] == steps
    assert Comparison(data, left).backward(b"a" * 100, len(data))[0] == 0
    assert left.left == 0
    assert Comparison(b"a" * 256 * steps, Steps(steps)).forward(b"a" * 10_000, 0)[0] == 256 * steps
