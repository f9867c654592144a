"""Whatever refresh token can be read from a success is kept, however the answer is written and wherever it ends."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authpool.oauth.answer_body import FORM_TYPE, Body, leading_document
from authpool.oauth.verdict import (
    CUT_LIFETIME_SECONDS,
    ClientRejected,
    Granted,
    GrantRejected,
    PartlyGranted,
    Reply,
    ReplyLost,
    TryLater,
    Verdict,
    judge,
)

NOW = 1_700_000_000.0
PAIR = {"access_token": "at", "refresh_token": "rt", "expires_in": 60}
TEXT = json.dumps(PAIR)
WITH_UMLAUT = json.dumps({"note": "für Bücher – heute", **PAIR}, ensure_ascii=False)
FORM = "application/x-www-form-urlencoded"


def whole(body: bytes | str, content_type: str | None = None, status: int = 200, **more: Any) -> Verdict:
    data = body if isinstance(body, bytes) else body.encode()
    reply = Reply(status=status, body=data, content_type=content_type)
    return judge(reply, now=NOW, presented="old", **more)


def cut(body: bytes | str, content_type: str | None = None, status: int = 200) -> Verdict:
    data = body if isinstance(body, bytes) else body.encode()
    return judge(ReplyLost(detail="cut", status=status, body=data, content_type=content_type), now=NOW, presented="old")


@pytest.mark.parametrize(
    ("body", "content_type"),
    (
        (WITH_UMLAUT.encode(), None),
        (WITH_UMLAUT.replace("–", "-").encode("latin-1"), None),
        (WITH_UMLAUT.replace("–", "-").encode("latin-1"), "application/json; charset=ISO-8859-1"),
        (WITH_UMLAUT.encode("cp1252"), "application/json"),
        (WITH_UMLAUT.encode("cp1252"), 'application/json; charset="windows-1252"'),
        (json.dumps({"note": "ソ表", **PAIR}, ensure_ascii=False).encode("shift_jis"), "text/json;charset=Shift_JIS"),
        (WITH_UMLAUT.encode("utf-8-sig"), None),
        (WITH_UMLAUT.encode("utf-16"), None),
        (WITH_UMLAUT.encode("utf-16-le"), None),
        (WITH_UMLAUT.encode("utf-16-be"), None),
        (WITH_UMLAUT.encode("utf-32"), None),
        (b'{"note": "\xff\xfe", ' + TEXT.encode()[1:], None),
        (b'{"note": "a\x81b", ' + TEXT.encode()[1:], "application/json; charset=no-such"),
        (b'{"note": "\xe4", ' + TEXT.encode()[1:], "application/json; charset=unicode_escape"),
        (b'{"note": "line\nbreak\x00", ' + TEXT.encode()[1:], None),
        (TEXT + "\n\n<!-- 12 ms -->", None),
        (TEXT + TEXT, None),
        (TEXT + "\x00" * 9, None),
        ("<br />\n<b>Warning</b>: mail() in <b>/x.php</b>\n" + TEXT, "text/html"),
        (")]}',\n" + TEXT, None),
        (f"callback({TEXT});", "application/javascript"),
        (TEXT.replace(", ", ",, "), None),
        (TEXT[:-1] + ",}", None),
        (json.dumps({"data": PAIR}), None),
        (json.dumps({"ok": True, "result": {"token": [PAIR]}}), None),
        (json.dumps([PAIR]), None),
        (json.dumps({"statusCode": 200, "body": TEXT}), None),
        (json.dumps(TEXT), None),
        ('{"refresh_token": "first", "access_token": "at", "refresh_token": "rt", "expires_in": 60}', None),
        (TEXT[:-1] + ', "refresh_token": null, "access_token": ""}', None),
        ("access_token=at&refresh_token=rt&expires_in=60", FORM),
        ("access_token=at&refresh_token=rt&expires_in=60&token_type=Bearer\n", None),
        ("access_token=at&expires_in=60&refresh_token=%72t", "text/plain; charset=utf-8"),
        (TEXT, FORM),
        (TEXT[:-1] + ', "error": "none"}', None),
    ),
)  # fmt: skip
def test_the_pair_is_read_however_it_is_written(body: bytes | str, content_type: str | None) -> None:
    """Charsets, forms, doubled and damaged documents, something before, behind or around."""
    assert whole(body, content_type) == Granted(access_token="at", refresh_token="rt", lifetime_seconds=60)


@pytest.mark.parametrize(
    "body",
    (
        {"refresh_token": "rt"},
        {"refresh_token": "rt", "access_token": None},
        {"refresh_token": "rt", "access_token": ""},
        {"refresh_token": "rt", "access_token": "a t"},
        {"refresh_token": "rt", "access_token": "a\r\nt"},
        {"refresh_token": "rt", "access_token": "ä"},
        {"refresh_token": "rt", "access_token": {"value": "at"}},
        {"refresh_token": "rt", "access_token": "x" * 70_000},
        {"refresh_token": "rt", "error": "invalid_grant"},
        {"data": {"refresh_token": "rt"}},
        {"data": {"refresh_token": "rt"}, "asked": {"refresh_token": "old"}},
    ),
)
def test_a_refresh_token_that_came_alone_is_news(body: object) -> None:
    """The one that was sent is spent, so this one is all there is."""
    found = whole(json.dumps(body))
    assert isinstance(found, PartlyGranted)
    assert found.refresh_token == "rt"
    assert "rt" not in repr(found).split("'")


@pytest.mark.parametrize(
    "body",
    (
        {"refresh_token": "old"},
        {"refresh_token": ""},
        {"refresh_token": "\ud800"},
        {"refresh_token": 7},
        {"data": {"refresh_token": "old"}},
        {"a": {"refresh_token": "r1"}, "b": {"refresh_token": "r2"}},
        {"data": {"access_token": "at"}},
    ),
)
def test_what_is_no_new_refresh_token_is_none(body: object) -> None:
    """The one that was sent, nothing, or several of which nobody knows which is meant: it may be spent."""
    found = whole(json.dumps(body))
    assert isinstance(found, TryLater)
    assert found.ambiguous


def test_an_error_that_repeats_what_was_sent_is_an_error() -> None:
    """An echo of the request beside `error` in a 200 grants nothing."""
    sent = {"error": "invalid_client", "request": {"refresh_token": "old"}}
    assert isinstance(whole(json.dumps(sent)), ClientRejected)
    assert isinstance(whole(json.dumps({"error": "invalid_grant", "refresh_token": "old"})), GrantRejected)


def test_another_users_token_inside_is_not_taken() -> None:
    """Slack answers the signed-in user's own pair inside that of the bot: the outer one is the account's."""
    body = {"ok": True, "access_token": "bot", "authed_user": {"access_token": "user", "refresh_token": "users"}}
    assert whole(json.dumps(body)) == Granted(access_token="bot")


def test_a_grant_without_refresh_token_has_no_news_to_lose() -> None:
    """Client credentials present none: a refresh token without an access token means nothing there."""
    found = judge(Reply(status=200, body=b'{"refresh_token": "rt"}'), now=NOW, presented=None)
    assert isinstance(found, TryLater)


# --- cut off --------------------------------------------------------------------------------------------------


def test_a_pair_is_taken_from_what_arrived() -> None:
    """Both tokens came; where the lifetime did not, the next refresh comes soon."""
    assert cut(TEXT) == Granted(access_token="at", refresh_token="rt", lifetime_seconds=60)
    for end in ("", ",", ', "expires', ', "expires_in": 36'):
        body = '{"access_token": "at", "refresh_token": "rt"' + end
        expected = Granted(access_token="at", refresh_token="rt", lifetime_seconds=CUT_LIFETIME_SECONDS)
        assert cut(body) == expected
        assert whole(body) == expected  # HTTP/1.0: nothing tells that there was more


@pytest.mark.parametrize("encoding", ("utf-8", "utf-16", "utf-16-le"))
def test_no_cut_ever_gives_a_part_of_a_token(encoding: str) -> None:
    """At every byte: nothing, or the whole token."""
    pair = {"note": "ü", "refresh_token": 'r"1\\/ä', "access_token": "access"}
    data = json.dumps(pair, ensure_ascii=False).encode(encoding)
    found = [cut(data[:end]) for end in range(len(data) + 1)]
    kinds = [type(one).__name__ for one in found]
    assert kinds == sorted(kinds, key=["TryLater", "PartlyGranted", "Granted"].index)
    assert len(set(kinds)) == 3
    assert {one.refresh_token for one in found if isinstance(one, Granted | PartlyGranted)} == {pair["refresh_token"]}
    assert all(one.ambiguous for one in found if isinstance(one, TryLater))


def test_no_cut_form_gives_a_part_of_a_token() -> None:
    """The field that a form was cut in is not looked at; nor is one believed to have no refresh token then."""
    data = b"refresh_token=r%2Ft&access_token=access&expires_in=60"
    found = [cut(data[:end], FORM) for end in range(len(data) + 1)]
    tokens = {one.refresh_token for one in found if isinstance(one, Granted | PartlyGranted)}
    assert tokens == {"r/t"}
    assert isinstance(cut(b"access_token=at&expires_in=60&refresh_to", FORM), TryLater)
    assert isinstance(cut(b"access_token=at&refresh_token=r", FORM), TryLater)


def test_an_access_token_before_the_cut_is_not_enough() -> None:
    """A new refresh token may have been in the rest: the old one must not be believed to go on."""
    for body in ('{"access_token": "at", "expires_in": 60', '{"access_token": "at", "refresh_token": "r'):
        found = cut(body)
        assert isinstance(found, TryLater)
        assert found.ambiguous


def test_a_provider_that_does_not_rotate_is_understood_when_cut() -> None:
    """The refresh token it repeats is the one to go on with."""
    body = '{"access_token": "at", "refresh_token": "old", "exp'
    assert cut(body) == Granted(access_token="at", refresh_token="old", lifetime_seconds=CUT_LIFETIME_SECONDS)


@pytest.mark.parametrize(("status", "ambiguous"), ((200, True), (400, False), (401, False), (500, False), (504, True)))
def test_what_is_known_at_the_head_counts_without_the_body(status: int, ambiguous: bool) -> None:  # noqa: FBT001
    """An error whose body failed is an error all the same: no reply that may have held a pair was lost."""
    found = cut('{"err', status=status)
    assert isinstance(found, TryLater)
    assert found.ambiguous == ambiguous


def test_an_error_that_came_whole_counts_although_the_connection_broke() -> None:
    """Chunked without its last chunk."""
    assert isinstance(cut('{"error": "invalid_grant"}', status=400), GrantRejected)
    assert isinstance(cut('{"error": "invalid_grant"', status=400), TryLater)


# --- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ("utf-8", "latin-1", "cp1252", "utf-16", "utf-8-sig"))
@pytest.mark.parametrize("content_type", (None, "application/json; charset=ISO-8859-1"))
def test_an_error_is_understood_in_any_charset(encoding: str, content_type: str | None) -> None:
    """Its description is for people, and must not hide the code."""
    body = json.dumps({"error": "invalid_grant", "error_description": "ungültig"}, ensure_ascii=False)
    found = whole(body.encode(encoding), content_type, status=400)
    assert found == GrantRejected(reason="invalid_grant: ungültig")


def test_an_error_in_a_form_is_understood_where_the_answer_says_that_it_is_one() -> None:
    """GitHub's form; but a page or a line of text is no verdict."""
    body = "error=invalid_grant&error_description=The+token+is+gone."
    assert whole(body, FORM, status=400) == GrantRejected(reason="invalid_grant: The token is gone.")
    assert isinstance(whole(body, "text/html", status=400), TryLater)
    assert isinstance(whole(body, None, status=400), TryLater)


@pytest.mark.parametrize(
    "body",
    (
        '{"error": "invalid_grant"} <html>',
        'Warning\n{"error": "invalid_grant"}',
        '{"data": {"error": "invalid_grant"}}',
        '[{"error": "invalid_grant"}]',
    ),
)
def test_an_error_is_believed_only_of_a_whole_document(body: str) -> None:
    """Nobody is disabled for what stands somewhere in an answer."""
    assert isinstance(whole(body, status=400), TryLater)


@given(st.binary(max_size=200), st.binary(max_size=60), st.booleans())
def test_no_damage_breaks_it(before: bytes, after: bytes, is_cut: bool) -> None:  # noqa: FBT001
    """Anything may come; what is granted shows no token."""
    found = (cut if is_cut else whole)(before + TEXT.encode() + after)
    assert isinstance(found, Granted | PartlyGranted | TryLater)
    assert "'rt'" not in repr(found)


def test_a_form_whose_blanks_are_not_encoded_keeps_its_pair() -> None:
    """A scope is written as it stands by some; the new refresh token before it is no less ours."""
    text = b"access_token=a2&refresh_token=r2&scope=read write"
    document = leading_document(Body(data=text, content_type=FORM_TYPE))
    assert document == {"access_token": "a2", "refresh_token": "r2", "scope": "read write"}
