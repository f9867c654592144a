"""Keys as text: their form, and what is told without a look-up."""

import re

from hypothesis import given
from hypothesis import strategies as st

from authpool.clients.key import PATTERN, new_key, parse_key, sha256_of


def test_a_new_key_has_the_form_that_scanners_look_for() -> None:
    """Prefix, id, 256 bits, checksum; and its repr does not show it."""
    key = new_key()
    assert re.fullmatch(PATTERN, key.text)
    prefix, identifier, secret, checksum = key.text.split("_")
    assert (prefix, identifier, len(secret), len(checksum)) == ("authpool", key.id, 43, 6)
    assert 62**43 > 2**256
    assert secret not in repr(key)


def test_a_key_is_read_as_its_id_and_the_hash_of_all_of_it() -> None:
    """Which is what the record has."""
    key = new_key()
    parsed = parse_key(key.text)
    assert parsed is not None
    assert (parsed.id, parsed.sha256) == (key.id, key.sha256) == (key.id, sha256_of(key.text))


def test_no_two_keys_are_alike() -> None:
    """Neither by id nor by secret."""
    keys = [new_key() for _ in range(200)]
    assert len({key.id for key in keys}) == len({key.text for key in keys}) == 200


@given(st.data())
def test_a_typo_is_told_without_a_look_up(data: st.DataObject) -> None:
    """One other character, or one that is missing, anywhere."""
    text = new_key().text
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("0aZ_-"))
    assert parse_key(text[:at] + text[at + 1 :]) is None
    if other != text[at]:
        assert parse_key(text[:at] + other + text[at + 1 :]) is None


@given(st.text(max_size=100))
def test_anything_else_is_no_key(text: str) -> None:
    """Whatever clients send."""
    assert parse_key(text) is None
    assert parse_key(f"authpool_{text}") is None
