"""Accounts as records, and as documents."""

import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from authpool.accounts.account import Account, AccountKey, OAuthClient, PendingRefresh, Token, fingerprint
from authpool.accounts.document import Document, account_from_document, document_from_account
from authpool.accounts.printable import clip_reason
from authpool.accounts.standing import MOST_COOLDOWNS, Cooldown
from authpool.errors import BrokenAccountError

FULL = Account(
    pool="google",
    name="alice@example.com",
    generation=7,
    created_at=1_700_000_000,
    disabled=True,
    disabled_at=1_700_000_001,
    disabled_reason="invalid_grant: Token has been expired or revoked.",
    proxy_disabled=True,
    proxy_disabled_at=1_700_000_002,
    proxy_disabled_until=1_700_000_009,
    cooldowns=(Cooldown(until=1_700_000_010, reason="429"), Cooldown(until=1_700_000_020, reason="529", key="m")),
    proxy_disabled_reason="manual",
    token=Token(
        access_token="access",
        refresh_token="refresh",
        expires_at=1_700_003_600,
        scope="openid email",
        extra={"id_token": "id"},
    ),
    client=OAuthClient(client_id="client", client_secret="secret"),
    pending_refresh=PendingRefresh(fingerprint="9f86d081", started_at=1_700_003_500),
    extra={"label": "work", "quota": {"daily": 5}},
)


def through_a_file(account: Account) -> Account:
    document = tomllib.loads(tomli_w.dumps(document_from_account(account)))
    return account_from_document(account.pool, account.name, document)


@pytest.mark.parametrize("account", (FULL, Account(pool="google", name="bob")), ids=["full", "bare"])
def test_an_account_survives_its_file(account: Account) -> None:
    """What is written is what is read, with every key there is and with none."""
    assert through_a_file(account) == account


def test_unknown_keys_survive_on_every_level() -> None:
    """A key that authpool does not know stays where it is, also when the known ones change."""
    document: Document = {"label": "work", "token": {"id_token": "x"}, "quota": {"daily": 5}}

    account = account_from_document("google", "alice", document).with_paused(1_700_000_000)

    written = document_from_account(account)
    assert (written["label"], written["token"]["id_token"], written["quota"]) == ("work", "x", {"daily": 5})
    assert written["proxy_disabled"] is True


def test_tables_come_last() -> None:
    """No scalar follows a table, or it would read as part of it."""
    kinds = [isinstance(value, dict) or key == "cooldowns" for key, value in document_from_account(FULL).items()]
    assert kinds == sorted(kinds)


@pytest.mark.parametrize(
    ("document", "reason"),
    (
        ({"version": 2}, "`version` is 2"),
        ({"name": "bob"}, "`name` is not the one"),
        ({"disabled": "yes"}, "`disabled` must be a true or false"),
        ({"disabled": 1}, "`disabled` must be"),
        ({"generation": True}, "`generation` must be"),
        ({"token": "secret"}, "`token` must be a table"),
        ({"token": {"refresh_token": 5}}, "`token.refresh_token` must be a string"),
        ({"token": {"expires_at": "later"}}, "`token.expires_at` must be a whole number"),
        ({"token": {"expires_at": float("nan")}}, "`token.expires_at` must be"),
        ({"client": {}}, "`client.client_id` is missing"),
        ({"pending_refresh": {"started_at": 1}}, "`pending_refresh.fingerprint` is missing"),
    ),
)
def test_a_document_that_is_no_account_says_which_key(document: Document, reason: str) -> None:
    """The reason names the key and what it must be, and holds no value that may be a secret."""
    with pytest.raises(BrokenAccountError) as caught:
        account_from_document("google", "alice", document)
    assert reason in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_time_may_be_a_float() -> None:
    """Scripts write times as floats; they are read as whole seconds."""
    account = account_from_document("google", "alice", {"token": {"expires_at": 1.7e9}})
    assert account.token.expires_at == 1_700_000_000


def test_the_spelling_in_the_file_holds() -> None:
    """`name` may differ from the file name in case; it is how the account is shown."""
    account = account_from_document("google", "alice", {"name": "Alice"})
    assert (account.name, account.key) == ("Alice", AccountKey("google", "alice"))


@pytest.mark.parametrize(
    ("reason", "clipped"),
    (
        ("short", "short"),
        ("two\nlines\tand\x00more", "two lines and more"),
        ("a" * 801, "a" * 800),
        ("a" * 799 + "é", "a" * 799),
        ("a" * 798 + "é", "a" * 798 + "é"),
        ("😀" * 201, "😀" * 200),
        ("a" + "😀" * 200, "a" + "😀" * 199),
        ("lone \ud800 surrogate", "lone surrogate"),
    ),
)
def test_a_reason_is_cut_between_characters(reason: str, clipped: str) -> None:
    """At most 800 bytes, on one line, and no half of a character."""
    assert clip_reason(reason) == clipped


@given(st.text(max_size=1000))
def test_any_reason_fits(reason: str) -> None:
    """Whatever a provider says can be kept."""
    assert len(clip_reason(reason).encode()) <= 800


def test_no_secret_in_a_repr() -> None:
    """An account in a log line or a traceback shows no credential."""
    shown = repr(FULL)
    assert not any(secret in shown for secret in ("'access'", "'refresh'", "'secret'", "'id'"))


def test_a_changed_credential_is_a_new_generation() -> None:
    """`with_token` counts on, ends the pending refresh, and leaves both switches alone."""
    changed = FULL.with_token(Token(refresh_token="other"))
    assert (changed.generation, changed.pending_refresh) == (8, None)
    assert (changed.disabled, changed.proxy_disabled) == (True, True)


def test_the_two_switches_are_apart() -> None:
    """Neither `disabled` nor `proxy_disabled` sets or clears the other."""
    assert FULL.with_enabled().proxy_disabled
    assert FULL.with_resumed().disabled
    bare = Account(pool="google", name="bob")
    assert not bare.with_disabled("invalid_grant", 1).proxy_disabled
    assert not bare.with_paused(1).disabled


@pytest.mark.parametrize(
    ("token", "live"),
    (
        (Token(), False),
        (Token(access_token="a"), True),
        (Token(access_token="a", expires_at=111), True),
        (Token(access_token="a", expires_at=110), False),
    ),
)
def test_a_token_lives_until_its_margin(token: Token, *, live: bool) -> None:
    """At 100 with 10 seconds of margin, a token must expire after 110."""
    assert token.live(100, margin_seconds=10) is live


@pytest.mark.parametrize("address", ("google", "google/", "/alice", ""))
def test_an_address_needs_both_parts(address: str) -> None:
    """POOL/NAME, or an error."""
    with pytest.raises(ValueError, match="POOL/NAME"):
        AccountKey.parse(address)


def test_an_account_name_may_hold_slashes() -> None:
    """Only the first slash parts pool and name, and case does not tell accounts apart."""
    assert AccountKey.parse("google/Team/Bot") == AccountKey("google", "team/bot")


def test_a_fingerprint_is_the_start_of_a_hash() -> None:
    """8 hex digits of SHA-256, as in the contract."""
    assert fingerprint("test") == "9f86d081"


def test_cooldowns_of_an_account_are_bounded() -> None:
    """Clients name the kinds: those that last the longest are kept, and always the one for all requests."""
    cooling = Account(pool="p", name="alice").with_cooldown(Cooldown(until=20), 0)
    for number in range(3 * MOST_COOLDOWNS):
        cooling = cooling.with_cooldown(Cooldown(until=100 + number, key=f"k{number}"), 0)
    assert len(cooling.cooldowns) == MOST_COOLDOWNS
    assert Cooldown(until=20) in cooling.cooldowns
    assert min(one.until for one in cooling.cooldowns if one.key) == 100 + 2 * MOST_COOLDOWNS + 1
