"""Account names as file names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.name import check_name, decode_name, encode_name
from authpool.errors import RefusedError


@pytest.mark.parametrize(
    ("name", "encoded"),
    (
        ("alice@example.com", "alice@example.com"),
        ("Alice+ci_1~x-y", "Alice+ci_1~x-y"),
        ("team/bot", "team%2Fbot"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("50%", "50%25"),
        ("a b:c*", "a%20b%3Ac%2A"),
        ("Zoë", "Zo%C3%AB"),
        ("x.toml", "x.toml"),
    ),
)
def test_a_name_is_percent_encoded(name: str, encoded: str) -> None:
    """Readable where it can be, never a path, never hidden; and back again."""
    check_name(name)
    assert encode_name(name) == encoded
    assert decode_name(encoded) == name


@given(st.text(max_size=40))
def test_a_name_is_refused_or_survives(name: str) -> None:
    """Every name that is not refused comes back from its file name, which any file system takes."""
    try:
        check_name(name)
    except RefusedError:
        return
    encoded = encode_name(name)
    assert decode_name(encoded) == name
    assert encoded.isascii()
    assert len(encoded) <= 240
    assert not set(encoded) & set('/\\:*?"<>|\x00 ')
    assert not encoded.startswith(".")


@pytest.mark.parametrize(
    ("name", "problem"),
    (
        ("", "it is empty"),
        ("a\x00b", "control characters"),
        ("a\nb", "control characters"),
        ("a\u2028b", "line breaks"),
        ("a\ud800b", "lone surrogates"),
        ("x" * 300, "300 bytes"),
        ("x" * 241, "241 bytes"),
        ("é" * 41, "246 bytes"),
    ),
)
def test_an_impossible_name_is_refused(name: str, problem: str) -> None:
    """The message says what is wrong, on one short line that any terminal can show."""
    with pytest.raises(RefusedError, match=problem) as caught:
        check_name(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_the_longest_name_is_possible() -> None:
    """240 plain characters."""
    check_name("x" * 240)


@pytest.mark.parametrize("encoded", ("%FF", "caf\udce9", "a%00", ""))
def test_a_file_name_that_is_no_account_is_told(encoded: str) -> None:
    """However it came there."""
    with pytest.raises(ValueError, match="file name"):
        decode_name(encoded)
