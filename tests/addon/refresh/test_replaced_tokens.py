"""Which refresh tokens were replaced: an editor's old copy is told from a credential that somebody means."""

from dataclasses import replace

from authpool.accounts.account import Account, Token
from authpool.refresh.replaced_tokens import KEPT, ReplacedTokens


def account(number: int, generation: int | None = None) -> Account:
    """Alice with her `number`-th refresh token."""
    token = Token(access_token=f"access-{number}", refresh_token=f"refresh-{number}")
    return Account(pool="p", name="alice", generation=number if generation is None else generation, token=token)


def healed(replaced_tokens: ReplacedTokens, current: Account) -> Account | None:
    heal = replaced_tokens.heal(current)
    return None if heal is None else heal(current)


def test_a_spent_token_is_replaced_by_the_newest() -> None:
    """However many rotations ago it was loaded; what else was edited stays."""
    replaced_tokens = ReplacedTokens()
    for number in range(1, 4):
        replaced_tokens.rotated(account(number), account(number + 1))
    saved = replace(
        account(1), proxy_disabled=True, extra={"note": "mine"}, token=replace(account(1).token, extra={"x": 1})
    )
    back = healed(replaced_tokens, saved)
    assert back is not None
    assert (back.token.refresh_token, back.generation) == ("refresh-4", 5)
    assert (back.proxy_disabled, back.extra, back.token.extra) == (True, {"note": "mine"}, {"x": 1})
    assert healed(replaced_tokens, account(4)) is None
    assert healed(replaced_tokens, account(9)) is None


def test_what_a_refresh_read_before_counts_too() -> None:
    """A person replaced the credential between two refreshes, and nobody looked in between."""
    replaced_tokens = ReplacedTokens()
    replaced_tokens.seen(account(1))
    replaced_tokens.seen(account(2))
    replaced_tokens.rotated(account(2), account(3))
    back = healed(replaced_tokens, account(1))
    assert back is not None
    assert back.token.refresh_token == "refresh-3"
    replaced_tokens.forget(account(1).key)
    assert healed(replaced_tokens, account(1)) is None


def test_what_another_process_rotated_counts_too() -> None:
    """The store told both records, one after the other."""
    replaced_tokens = ReplacedTokens()
    replaced_tokens.followed(account(1), account(2))
    back = healed(replaced_tokens, account(1))
    assert back is not None
    assert back.token.refresh_token == "refresh-2"


def test_an_old_credential_that_is_put_back_on_purpose_stays() -> None:
    """By `add` it has a new generation, by hand at least not the old one: nobody knows that it is spent."""
    replaced_tokens = ReplacedTokens()
    replaced_tokens.followed(account(1), account(2))
    assert healed(replaced_tokens, account(1, generation=2)) is None
    replaced_tokens.rotated(account(1), account(2))  # but what this process spent is spent
    assert healed(replaced_tokens, account(1, generation=7)) is not None


def test_the_old_copy_brings_no_verdict_back() -> None:
    """It was loaded when the account was disabled, and the account has been added again since."""
    replaced_tokens = ReplacedTokens()
    dead = account(1).with_disabled("invalid_grant", 1)
    replaced_tokens.followed(dead, account(2))
    back = healed(replaced_tokens, dead)
    assert back is not None
    assert (back.disabled, back.disabled_reason) == (False, None)


def test_the_old_copy_is_not_followed() -> None:
    """Seeing it saved makes it no credential; a sign-in by hand after that does."""
    replaced_tokens = ReplacedTokens()
    replaced_tokens.rotated(account(1), account(2))
    replaced_tokens.followed(account(2), account(1))
    assert healed(replaced_tokens, account(2)) is None
    replaced_tokens.followed(account(1), account(8, generation=1))
    back = healed(replaced_tokens, account(1))
    assert back is not None
    assert back.token.refresh_token == "refresh-8"


def test_a_removed_account_has_no_line() -> None:
    """Who comes under its name is another one; and no line grows for ever."""
    replaced_tokens = ReplacedTokens()
    for number in range(1, KEPT + 3):
        replaced_tokens.rotated(account(number), account(number + 1))
    assert [healed(replaced_tokens, account(number)) is None for number in (1, 2, 3)] == [True, True, False]
    replaced_tokens.forget(account(1).key)
    assert healed(replaced_tokens, account(KEPT)) is None
