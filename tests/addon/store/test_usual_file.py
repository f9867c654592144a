"""The file of a usual account, read in one step: just what the whole parser reads, or nothing at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.account import Account, OAuthClient, PendingRefresh, Token
from authpool.accounts.document import account_from_document
from authpool.accounts.standing import Cooldown
from authpool.errors import BrokenAccountError
from authpool.store.folder.account_file import dump_account, parse_account, parse_toml
from authpool.store.folder.usual_file import parse_usual

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
NUMBERS = st.integers(0, 2**63 - 1)

usual_accounts = st.builds(
    Account,
    pool=st.just("google"),
    name=st.just("Alice"),
    generation=NUMBERS,
    subject=st.none() | TEXTS.filter(bool),
    created_at=NUMBERS,
    token=st.builds(
        Token,
        access_token=st.none() | TEXTS.filter(bool),
        refresh_token=st.none() | TEXTS.filter(bool),
        token_type=TEXTS,
        expires_at=st.none() | st.integers(-10, 2**63 - 1),
        scope=st.none() | TEXTS,
    ),
)

PLAIN = Account(
    pool="google",
    name="alice",
    generation=7,
    created_at=1_700_000_000,
    token=Token(access_token="a", refresh_token="r", expires_at=1_800_000_000),
)
TEXT = dump_account(PLAIN).decode()


def by_the_whole_parser(name: str, text: str) -> Account:
    return account_from_document("google", name, parse_toml(text.encode()))


@given(usual_accounts)
def test_it_reads_what_the_whole_parser_reads(account: Account) -> None:
    text = dump_account(account).decode()
    usual = parse_usual("google", "alice", text)
    assert by_the_whole_parser("alice", text) == account
    assert usual in (None, account)
    assert usual is None or usual.key == account.key


def test_the_usual_file_is_read_in_one_step() -> None:
    """Otherwise a start would take twice as long, and nobody would see why."""
    assert parse_usual("google", "alice", TEXT) == PLAIN


@given(
    st.integers(0, len(TEXT) - 1), st.integers(0, 3), st.sampled_from(["", "\n", '"', "\\", "1", " ", "é", "#", "0"])
)
def test_a_changed_file_is_read_alike_or_left_to_the_whole_parser(at: int, gone: int, put: str) -> None:
    text = TEXT[:at] + put + TEXT[at + gone :]
    usual = parse_usual("google", "alice", text)
    if usual is not None:
        assert usual == by_the_whole_parser("alice", text)


@pytest.mark.parametrize(
    "account",
    (
        PLAIN.with_disabled("gone", 1),
        PLAIN.with_paused(1),
        PLAIN.with_cooldown(Cooldown(until=2_000_000_000), 1),
        Account(pool="google", name="alice", client=OAuthClient(client_id="c")),
        Account(pool="google", name="alice", pending_refresh=PendingRefresh(fingerprint="0", started_at=1)),
        Account(pool="google", name="alice", extra={"note": "mine"}),
        Account(pool="google", name="alice", token=Token(extra={"id_token": "i"})),
    ),
)
def test_an_account_that_something_is_special_about_is_read_by_the_whole_parser(account: Account) -> None:
    data = dump_account(account)
    assert parse_usual("google", "alice", data.decode()) is None
    assert parse_account("google", "alice", data) == account


def test_a_name_that_is_not_the_file_s_is_told() -> None:
    with pytest.raises(BrokenAccountError, match="`name` is not the one its file name says"):
        parse_account("google", "bob", TEXT.encode())


def test_the_spelling_is_the_file_s_own() -> None:
    account = parse_account("google", "ALICE", TEXT.encode())
    assert (account.name, account.key.name) == ("alice", "alice")
