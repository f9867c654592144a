"""The fast parser agrees with the real one, or leaves the document to it."""

import tomllib
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authpool.accounts.account import Account, Token
from authpool.accounts.document import document_from_account
from authpool.store.plain_toml import parse_plain

_WORDS = st.text("ab1-_", min_size=1, max_size=3)
_SCALARS = st.one_of(st.text(max_size=8), st.integers(-(2**63), 2**63 - 1), st.booleans(), st.floats(allow_nan=False))
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_WORDS, inner, max_size=3),
    max_leaves=8,
)
_LINES = st.sampled_from(
    ["a = 1", "a = 01", "a = -0", "a = +1", "a = 1_0", "b = true", "b=true", 'c = "x"', 'c = "\\n"', 'c = "x" #',
     "[a]", "[ a ]", "[t]", "[t.u]", "[[t]]", "a.b = 1", '"a" = 1', "# note", "", " ", "\r", "d = 1.0",
     "d = 0x1", 'e = """x"""', "e = 'x'", 'e = "é\u2028"', 'e = "\t"', 'e = "\x7f"', "f = []", "f = {}",
     "= 1", "a =", "a = 1 "]
)  # fmt: skip


def agrees(text: str) -> bool:
    plain = parse_plain(text)
    return plain is None or (plain == (real := tomllib.loads(text)) and repr(plain) == repr(real))


def test_an_account_file_is_plain() -> None:
    """Otherwise the parser would be of no use."""
    account = Account(pool="p", name="alice@example.com", token=Token(access_token="a.b-c", expires_at=1))
    document = document_from_account(account.with_paused(1))
    assert parse_plain(tomli_w.dumps(document)) == document


@settings(suppress_health_check=[HealthCheck.too_slow])  # of the machine, which may be busy
@given(st.dictionaries(_WORDS, _VALUES, max_size=5))
def test_it_agrees_on_what_is_written(document: dict[str, Any]) -> None:
    """Any document that tomli-w writes is read as tomllib reads it, or not at all."""
    assert agrees(tomli_w.dumps(document))


@given(st.lists(_LINES, max_size=6))
def test_it_agrees_on_what_is_typed(lines: list[str]) -> None:
    """Any mixture of lines is read as tomllib reads it, or not at all; never where tomllib sees an error."""
    assert agrees("\n".join(lines))


@given(st.text('ab= "\\[]1\n\r#', max_size=20))
def test_it_agrees_on_noise(text: str) -> None:
    """Any characters are read as tomllib reads them, or not at all."""
    assert agrees(text)


@pytest.mark.parametrize("text", ("a = 1\na = 2", "[t]\n[t]", "t = 1\n[t]", 'a = "cut of'))
def test_an_error_is_left_to_the_real_parser(text: str) -> None:
    """Duplicates and halves are not plain."""
    assert parse_plain(text) is None
