"""One credential taking the place of another, and only of that one."""

from dataclasses import replace

import pytest

from authpool.accounts.account import Account, OAuthClient, PendingRefresh, Token
from authpool.oauth.verdict import Granted
from authpool.refresh.conditional_change import SupersededError, if_still, succeed, token_from_grant

OLD = Token(access_token="a1", refresh_token="r1", scope="s", expires_at=5, extra={"project_id": "p"})
ALICE = Account(
    pool="pool", name="alice", generation=3, token=OLD, pending_refresh=PendingRefresh(fingerprint="f", started_at=1)
)
GRANTED = Granted(access_token="a2", refresh_token="r2", lifetime_seconds=60)


def test_a_token_from_a_grant() -> None:
    """What the response does not say stays as it was, but for the lifetime, which was the old token's."""
    assert token_from_grant(OLD, GRANTED, 100.9) == replace(OLD, access_token="a2", refresh_token="r2", expires_at=160)
    assert token_from_grant(OLD, Granted(access_token="a2", scope="t"), 100) == replace(
        OLD, access_token="a2", expires_at=None, scope="t"
    )


def test_the_pair_takes_the_place_of_what_was_presented() -> None:
    """One generation on, no intent any more, and what was edited meanwhile is kept."""
    edited = replace(ALICE.with_paused(1), client=OAuthClient(client_id="mended"), token=replace(OLD, extra={"x": 1}))
    after = succeed(ALICE, GRANTED, 100)(edited)
    assert after is not None
    assert (after.generation, after.pending_refresh, after.token.refresh_token) == (4, None, "r2")
    assert (after.proxy_disabled, after.client, after.token.extra) == (True, edited.client, {"x": 1})


def test_edits_are_made_while_the_credential_is_the_one_presented() -> None:
    """Whatever else was changed meanwhile."""
    after = if_still(ALICE, lambda now: now.with_disabled("dead", 7))(ALICE.with_paused(1))
    assert after is not None
    assert (after.disabled, after.proxy_disabled) == (True, True)


@pytest.mark.parametrize("current", (None, replace(ALICE, token=Token(refresh_token="other"))))
def test_another_credential_is_left_alone(current: Account | None) -> None:
    """Removed or re-added: neither pair nor verdict is written over it, and the caller learns what is there."""
    for change in (succeed(ALICE, GRANTED, 100), if_still(ALICE, lambda now: now)):
        with pytest.raises(SupersededError) as superseded:
            change(current)
        assert superseded.value.current is current


def test_another_client_gets_no_verdict() -> None:
    """The rejection was the old one's."""
    with pytest.raises(SupersededError):
        if_still(ALICE, lambda now: now)(replace(ALICE, client=OAuthClient(client_id="new")))


def test_without_a_refresh_token_the_client_is_the_account() -> None:
    """An access token of the old client is not kept for the new one."""
    service = Account(pool="pool", name="service")
    assert succeed(service, GRANTED, 100)(service) is not None
    with pytest.raises(SupersededError):
        succeed(service, GRANTED, 100)(replace(service, client=OAuthClient(client_id="new")))
