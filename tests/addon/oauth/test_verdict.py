"""What an answer of a token endpoint means: tables."""

import json
from datetime import UTC, datetime
from email.utils import format_datetime, formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.oauth.verdict import (
    MAX_RETRY_AFTER_SECONDS,
    ClientRejected,
    Granted,
    GrantRejected,
    NotSent,
    Reply,
    ReplyLost,
    SignInRequired,
    TryLater,
    Verdict,
    judge,
    lifetime_seconds,
    retry_after_seconds,
)

NOW = 1_700_000_000.0
PAIR = {"access_token": "at", "refresh_token": "rt"}


def verdict(status: int, body: object, retry_after: str | None = None, **more: Any) -> Verdict:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return judge(Reply(status=status, body=data, retry_after=retry_after), now=NOW, **more)


def test_a_token_response() -> None:
    """RFC 6749 §5.1, with what OpenID Connect adds."""
    body = {**PAIR, "token_type": "bearer", "expires_in": 60, "scope": "a b", "id_token": "e.y.J", "more": 1}
    assert verdict(200, body) == Granted(
        access_token="at", refresh_token="rt", token_type="bearer", lifetime_seconds=60, scope="a b", id_token="e.y.J"
    )
    assert verdict(200, {"access_token": "at"}) == Granted(access_token="at")
    assert verdict(201, b"\xef\xbb\xbf" + json.dumps(PAIR).encode()) == Granted(**PAIR)


@pytest.mark.parametrize("value", (None, "", 7, ["at"], "a b", "a\nb", "ä", "\ud800", "x" * 65537))
def test_what_can_stand_in_no_header_is_no_access_token(value: object) -> None:
    """The answer is suspicious then, and the refresh token may be spent."""
    found = verdict(200, {"access_token": value, "token_type": "Bearer"})
    assert isinstance(found, TryLater)
    assert found.ambiguous


@pytest.mark.parametrize(
    ("value", "kept"),
    (("r t", "r t"), ("1//0ä", "1//0ä"), ("\x00", "\x00"), ("", None), (7, None), ("\udfff", None), (None, None)),
)
def test_a_refresh_token_is_whatever_a_form_can_hold(value: object, kept: str | None) -> None:
    """It goes nowhere but into forms and the account's file; dropping it would lose the account."""
    found = verdict(200, {"access_token": "at", "refresh_token": value})
    assert isinstance(found, Granted)
    assert found.refresh_token == kept


def test_a_pair_that_arrived_counts_whatever_else_is_said() -> None:
    """Some providers answer an `error` field with every success."""
    assert verdict(200, {**PAIR, "error": "none", "ok": True}) == Granted(**PAIR)
    assert isinstance(verdict(400, {**PAIR, "error": "invalid_grant"}), GrantRejected)


@pytest.mark.parametrize(
    ("status", "body"),
    (
        (400, {"error": "invalid_grant", "error_description": "gone"}),
        (403, {"error": {"code": "invalid_grant", "message": "gone"}}),
        (200, {"ok": False, "error": "invalid_grant", "error_description": "gone"}),
        (401, {"error": {"code": "invalid_grant"}, "error_description": "gone"}),
    ),
)
def test_invalid_grant_wherever_providers_put_it(status: int, body: object) -> None:
    """As a string, in an error object, in a 200."""
    assert verdict(status, body) == GrantRejected(reason="invalid_grant: gone")


@pytest.mark.parametrize(
    "code", ("Invalid_grant", "invalid_grant ", "invalid_grants", "x invalid_grant", "", "revoked")
)
def test_codes_are_compared_for_equality(code: str) -> None:
    """And never searched for in a message."""
    assert isinstance(verdict(400, {"error": code, "error_description": "invalid_grant"}), TryLater)
    assert isinstance(verdict(400, f"invalid_grant {code}".encode()), TryLater)


@pytest.mark.parametrize(
    "code", ("invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type", "invalid_request")
)
def test_a_client_at_fault(code: str) -> None:
    """The configuration is wrong; no account is to blame."""
    assert verdict(400, {"error": code}) == ClientRejected(code=code, reason=code)


@pytest.mark.parametrize("code", ("interaction_required", "login_required", "consent_required"))
def test_a_sign_in_is_due(code: str) -> None:
    """OpenID Connect Core §3.1.2.6."""
    assert verdict(400, {"error": code}) == SignInRequired(reason=code)


def test_google_session_control() -> None:
    """`invalid_rapt` beside `invalid_grant`; another subtype changes nothing."""
    body = {"error": "invalid_grant", "error_description": "reauth", "error_subtype": "invalid_rapt"}
    assert verdict(400, body) == SignInRequired(reason="invalid_rapt: invalid_grant: reauth")
    assert isinstance(verdict(400, {**body, "error_subtype": "other"}), GrantRejected)
    assert isinstance(verdict(400, {**body, "error_subtype": ["invalid_rapt"]}), GrantRejected)


@pytest.mark.parametrize(
    ("status", "body", "ambiguous"),
    (
        (408, {"error": "invalid_grant"}, False),
        (429, {"error": "invalid_grant"}, False),
        (500, {"error": "invalid_grant"}, False),
        (501, b"", False),
        (502, b"<html>", True),
        (503, PAIR, False),
        (504, {"error": "invalid_grant"}, True),
        (507, b"", False),
        (511, b"<html>", False),
        (520, b"", True),
        (524, b"<html>", True),
        (599, b"", True),
        (400, {"error": "temporarily_unavailable"}, False),
        (400, {"error": "server_error"}, False),
        (200, {"error": "slow_down"}, False),
        (302, b"", False),
        (302, {"error": "invalid_grant"}, False),
        (303, {"error": "invalid_client"}, False),
        (307, {"error": "invalid_grant", "access_token": "at"}, False),
        (200, b"<!doctype html>", True),
        (200, b"", True),
        (200, [PAIR, {**PAIR, "refresh_token": "another"}], True),
        (200, b'{"access_token": "a', True),
        (200, b"[" * 100_000, True),
        (200, b"\xff\xfe\x00", True),
        (204, b"", True),
        (200, {"ok": True}, True),
        (200, {"error": "what is that"}, True),
        (401, {"message": "no"}, False),
        (403, b"<html>", False),
        (400, {"error": 400}, False),
        (400, {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}, False),
    ),
)
def test_transient(status: int, body: object, ambiguous: bool) -> None:  # noqa: FBT001
    """Nothing is known against the account; `ambiguous` where the endpoint may have rotated all the same."""
    found = verdict(status, body)
    assert isinstance(found, TryLater)
    assert found.ambiguous == ambiguous


def test_what_never_arrived() -> None:
    """Only an answer that was lost is ambiguous."""
    assert judge(NotSent(detail="DNS"), now=NOW) == TryLater(detail="DNS")
    assert judge(ReplyLost(detail="time-out"), now=NOW) == TryLater(detail="time-out", ambiguous=True)


def test_a_pool_maps_its_providers_codes() -> None:
    """The verdict is the mapped code's; people read both."""
    codes = {"bad_refresh_token": "invalid_grant", "invalid_request": "invalid_grant"}
    assert verdict(200, {"error": "bad_refresh_token"}, codes=codes) == GrantRejected(
        reason="invalid_grant (bad_refresh_token)"
    )
    assert isinstance(verdict(400, {"error": "invalid_request"}, codes=codes), GrantRejected)
    assert isinstance(verdict(400, {"error": "invalid_scope"}, codes=codes), ClientRejected)


@pytest.mark.parametrize(
    ("value", "seconds"),
    (
        (3600, 3600), ("3600", 3600), (3599.9, 3599), ("1e3", 1000), (0, None), (-5, None), (None, None), (True, None),
        ("soon", None), ([], None), (float("nan"), None), (float("inf"), None), (10**400, None), (10**12, 315_360_000),
    ),
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_lifetimes(value: object, seconds: int | None) -> None:
    """Numbers, numbers in strings, and what says nothing."""
    assert lifetime_seconds(value) == seconds


def test_retry_after_in_seconds() -> None:
    """RFC 9110 §10.2.3; no longer than an hour, whatever it says."""
    assert retry_after_seconds("120", NOW) == 120
    assert retry_after_seconds(" 0 ", NOW) == 0
    assert retry_after_seconds("9" * 400, NOW) == MAX_RETRY_AFTER_SECONDS
    assert [retry_after_seconds(text, NOW) for text in (None, "", "-1", "1.5", "soon", "²")] == [None] * 6


def test_retry_after_as_a_date() -> None:
    """A date that has passed means now; one in another century means an hour."""
    assert retry_after_seconds(formatdate(NOW + 90, usegmt=True), NOW) == 90
    assert retry_after_seconds(formatdate(NOW - 90, usegmt=True), NOW) == 0
    assert retry_after_seconds(format_datetime(datetime(9999, 12, 31, tzinfo=UTC)), NOW) == MAX_RETRY_AFTER_SECONDS


def test_retry_after_is_told_with_the_verdict() -> None:
    """Of whatever is to be tried later."""
    for status in (429, 503, 302, 403):
        found = verdict(status, b"", "7")
        assert isinstance(found, TryLater)
        assert found.retry_after_seconds == 7


@given(st.text())
def test_no_retry_after_breaks_it(text: str) -> None:
    """Anybody may send anything."""
    seconds = retry_after_seconds(text, NOW)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_SECONDS


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
names = ["access_token", "refresh_token", "expires_in", "error", "error_description", "error_subtype", "scope"]


@given(st.integers(100, 599), st.binary() | st.dictionaries(st.sampled_from(names), values))
def test_every_answer_has_a_verdict(status: int, body: object) -> None:
    """Whatever comes, the judgement is one of the five, and its repr shows no token."""
    found = verdict(status, body)
    assert isinstance(found, Granted | GrantRejected | SignInRequired | ClientRejected | TryLater)
    if isinstance(found, Granted):
        assert "access_token" not in repr(found)
        assert "refresh_token" not in repr(found)
