"""An account's document, sealed: what stays readable, what does not, and that all of it comes back."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.account import Account, AccountKey, OAuthClient, PendingRefresh, Token
from authpool.accounts.document import account_from_document, document_from_account
from authpool.accounts.standing import Cooldown
from authpool.errors import BrokenAccountError, SealedError
from authpool.refresh.credential_rules import MOVED_FROM
from authpool.store.folder.account_file import parse_toml
from authpool.store.sealing.sealed_document import (
    OWN_MARKS,
    has_plain_secrets,
    opened_document,
    sealed_document,
    sealed_with,
)
from authpool.store.sealing.sealed_value import DataKey
from authpool.verbs.account_writing import LABEL
from authpool.verbs.replacement import ADDED_FROM

KEY = DataKey.of("0a0b0c0d", bytes(range(32)))
ALICE = AccountKey.of("google", "alice")

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
plain = st.integers(-(2**60), 2**60) | st.booleans() | texts | st.floats(allow_nan=False)
values = plain | st.lists(plain, max_size=2) | st.dictionaries(texts.filter(bool), plain, max_size=2)
extras = st.dictionaries(texts.map(lambda text: f"x{text}"), values, max_size=3)

accounts = st.builds(
    Account,
    pool=st.just("google"),
    name=st.just("Alice"),
    generation=st.integers(0, 2**60),
    token=st.builds(
        Token,
        access_token=st.none() | texts.filter(bool),
        refresh_token=st.none() | texts.filter(bool),
        expires_at=st.none() | st.integers(0, 2**60),
        extra=extras,
    ),
    client=st.none() | st.builds(OAuthClient, client_id=texts, client_secret=st.none() | texts, extra=extras),
    pending_refresh=st.none()
    | st.builds(PendingRefresh, fingerprint=texts, started_at=st.integers(0, 99), extra=extras),
    cooldowns=st.just(()) | st.just((Cooldown(until=5, reason="r"),)),
    extra=extras,
)


def find(key_id: str) -> DataKey:
    if key_id != KEY.id:
        raise SealedError(key_id)
    return KEY


@given(accounts)
def test_all_of_an_account_comes_back(account: Account) -> None:
    """Whatever it holds, of whatever type; and through a file's text."""
    sealed = sealed_document(document_from_account(account), ALICE, KEY)
    assert not has_plain_secrets(sealed)
    assert sealed_with(sealed) <= {KEY.id}
    tomli_w.dumps(sealed)
    opened = opened_document(sealed, ALICE, find)
    assert account_from_document("google", "alice", opened) == account


def full() -> Account:
    when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    return Account(
        pool="google",
        name="alice",
        generation=7,
        subject="1162",
        created_at=1_700_000_000,
        disabled=True,
        disabled_at=1_700_000_000,
        disabled_reason="invalid_grant",
        token=Token(
            access_token="SECRET-1",
            refresh_token="SECRET-2",
            expires_at=1_700_003_600,
            scope="openid",
            extra={"id_token": "SECRET-3", "when": when},
        ),
        client=OAuthClient(client_id="the-client", client_secret="SECRET-4", extra={"key": "SECRET-5"}),
        pending_refresh=PendingRefresh(fingerprint="9f86d081", started_at=5, extra={"nonce": "SECRET-6"}),
        cooldowns=(Cooldown(until=5, reason="429"),),
        extra={"password": "SECRET-7", "mine": {"deep": ["SECRET-8"]}, "label": "work", "added_from": "9f86d081"},
    )


def test_no_secret_is_left_and_what_people_go_by_is() -> None:
    """The document as it is written for an account that has everything."""
    sealed = sealed_document(document_from_account(full()), ALICE, KEY)
    assert "SECRET" not in tomli_w.dumps(sealed)
    tables = {name: sealed.pop(name) for name in ("token", "client", "pending_refresh")}
    for table in (sealed, *tables.values()):
        assert table.pop("sealed").startswith("authpool1:0a0b0c0d:")
    assert tables == {
        "token": {"token_type": "Bearer", "expires_at": 1_700_003_600, "scope": "openid"},
        "client": {"client_id": "the-client"},
        "pending_refresh": {"fingerprint": "9f86d081", "started_at": 5},
    }
    assert sealed == {
        "version": 1,
        "name": "alice",
        "generation": 7,
        "subject": "1162",
        "created_at": 1_700_000_000,
        "disabled": True,
        "disabled_at": 1_700_000_000,
        "disabled_reason": "invalid_grant",
        "proxy_disabled": False,
        "label": "work",
        "added_from": "9f86d081",
        "cooldowns": [{"until": 5, "reason": "429"}],
    }


def test_nothing_is_added_to_a_record_without_secrets() -> None:
    document = document_from_account(Account(pool="google", name="alice", client=OAuthClient(client_id="c")))
    assert "sealed" not in tomli_w.dumps(sealed_document(document, ALICE, KEY))


def test_the_marks_that_stay_readable_are_authpool_s_own() -> None:
    assert {LABEL, ADDED_FROM, MOVED_FROM} == OWN_MARKS


def test_what_stands_in_plain_beside_a_sealed_line_counts() -> None:
    """Somebody put it there by hand: it takes the place of what is sealed, and the rest stays."""
    sealed = sealed_document(document_from_account(full()), ALICE, KEY)
    sealed["token"]["refresh_token"] = "by hand"
    assert has_plain_secrets(sealed)
    token = account_from_document("google", "alice", opened_document(sealed, ALICE, find)).token
    assert token == replace(full().token, refresh_token="by hand")


def _moved(document: dict[str, Any]) -> tuple[dict[str, Any], AccountKey]:
    return document | {"name": "bob"}, AccountKey.of("google", "bob")


def _in_another_pool(document: dict[str, Any]) -> tuple[dict[str, Any], AccountKey]:
    return document, AccountKey.of("team", "alice")


def _rolled_back(document: dict[str, Any]) -> tuple[dict[str, Any], AccountKey]:
    return document | {"generation": 8}, ALICE


def _swapped(document: dict[str, Any]) -> tuple[dict[str, Any], AccountKey]:
    return document | {"client": document["client"] | {"sealed": document["token"]["sealed"]}}, ALICE


def _cut(document: dict[str, Any]) -> tuple[dict[str, Any], AccountKey]:
    return document | {"token": document["token"] | {"sealed": document["token"]["sealed"][:-8]}}, ALICE


@pytest.mark.parametrize("spoil", (_moved, _in_another_pool, _rolled_back, _swapped, _cut))
def test_values_that_do_not_belong_there_break_the_record(spoil: Any) -> None:
    """They are noticed, and the reason says what to do, and no secret."""
    document, key = spoil(sealed_document(document_from_account(full()), ALICE, KEY))
    with pytest.raises(BrokenAccountError, match="sealed for another account or generation") as broken:
        opened_document(document, key, find)
    assert "SECRET" not in str(broken.value)


TEXT = tomli_w.dumps(sealed_document(document_from_account(full()), ALICE, KEY))


@given(
    st.integers(0, len(TEXT) - 1),
    st.integers(0, 40),
    st.sampled_from(["", "\n", '"', "\\", "1", "=", "é", "#", "[", "sealed", "authpool1:", "\x00", "0a0b0c0d:"]),
)
def test_a_mangled_file_is_read_or_told_as_what_it_is(at: int, gone: int, put: str) -> None:
    """Nothing but these two errors, and no secret in them, whatever somebody's editor did."""
    text = TEXT[:at] + put + TEXT[at + gone :]
    read, told = None, ""
    try:
        read = account_from_document("google", "alice", opened_document(parse_toml(text.encode()), ALICE, find))
    except (BrokenAccountError, SealedError) as error:
        told = str(error)
    assert "SECRET" not in told
    if read is not None:
        assert read.token.access_token in {"SECRET-1", None}
        assert read.token.refresh_token in {"SECRET-2", None}


def test_a_value_without_a_key_s_name_is_damaged() -> None:
    """And not sealed with a key that could be somewhere."""
    document = sealed_document(document_from_account(full()), ALICE, KEY)
    document["token"]["sealed"] = "authpool1:SECRET"
    with pytest.raises(BrokenAccountError, match="is damaged") as broken:
        opened_document(document, ALICE, find)
    assert "SECRET" not in str(broken.value)


def test_without_the_key_it_is_sealed_and_not_broken() -> None:
    other = DataKey.of("ffffffff", bytes(32))
    with pytest.raises(SealedError):
        opened_document(sealed_document(document_from_account(full()), ALICE, other), ALICE, find)


def test_spelling_does_not_matter() -> None:
    """Names compare case-insensitively, here as well."""
    sealed = sealed_document(document_from_account(full()), AccountKey.of("google", "ALICE"), KEY)
    assert opened_document(sealed, ALICE, find)["token"]["access_token"] == "SECRET-1"
