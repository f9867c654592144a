"""Whose account it is, as the provider says it."""

import base64
import json
from collections.abc import Mapping

import pytest

from authpool.errors import RefusedError
from authpool.oauth.identity import id_token_claims, name_in, provider_identity
from authpool.oauth.verdict import Answer, Granted, NotSent, Reply, ReplyLost

URL = "https://accounts.example.com/userinfo"


class UserinfoEndpoint:
    """A `TokenEndpoint` that knows one answer to GET; `asked` holds what it was asked with."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        self.asked.append((url, headers))
        return self.answer

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        raise AssertionError("nobody posts to userinfo")


def told(claims: object, status: int = 200) -> UserinfoEndpoint:
    return UserinfoEndpoint(Reply(status=status, body=json.dumps(claims).encode()))


def id_token(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


def granted(claims: object = None) -> Granted:
    return Granted(access_token="the-access-token", id_token=None if claims is None else id_token(claims))


async def test_userinfo_is_asked_with_the_new_token() -> None:
    """One GET with the access token as bearer."""
    endpoint = told({"email": "a@example.com"})
    assert (await provider_identity(endpoint, URL, granted())).name == "a@example.com"
    assert endpoint.asked == [(URL, {"Authorization": "Bearer the-access-token"})]


@pytest.mark.parametrize(
    ("claims", "name"),
    (
        ({"email": "a@example.com", "sub": "1"}, "a@example.com"),
        ({"email": " a@example.com ", "sub": "1"}, "a@example.com"),
        ({"sub": "1"}, "1"),
        ({"email": "", "sub": "1"}, "1"),
        ({"email": None, "sub": "1"}, "1"),
        ({"email": ["a@example.com"], "sub": "1"}, "1"),
        ({"sub": 1}, None),
        ({}, None),
    ),
)
def test_name_is_the_email_else_the_subject(claims: Mapping[str, object], name: str | None) -> None:
    """Only a string that says something is a name."""
    assert name_in(claims) == name


async def test_userinfo_counts_before_the_id_token() -> None:
    """Where both tell a name, it is userinfo's: its subject even before the id_token's e-mail."""
    assert (
        await provider_identity(told({"email": "new@example.com"}), URL, granted({"email": "old@example.com"}))
    ).name == ("new@example.com")


@pytest.mark.parametrize(
    "answer",
    (
        Reply(status=401, body=b"{}"),
        Reply(status=403, body=b"no"),
        Reply(status=302, body=b""),
        Reply(status=200, body=b"eyJ.signed.jwt"),
        Reply(status=200, body=b"[]"),
        Reply(status=200, body=b"{}"),
        Reply(status=200, body=b"[" * 100_000),
    ),
)
async def test_id_token_tells_where_userinfo_has_nothing(answer: Answer) -> None:
    """A refusal, another format or an empty answer leave it to the id_token; without one there is no name."""
    assert (await provider_identity(UserinfoEndpoint(answer), URL, granted({"sub": "s"}))).name == "s"
    assert (await provider_identity(UserinfoEndpoint(answer), URL, granted())).name is None


async def test_nobody_is_asked_where_there_is_no_userinfo() -> None:
    """Without a userinfo endpoint the id_token is all there is."""
    endpoint = told({"email": "a@example.com"})
    assert (await provider_identity(endpoint, None, granted({"sub": "s"}))).name == "s"
    assert endpoint.asked == []


@pytest.mark.parametrize(
    "answer",
    (
        NotSent(detail="no connection"),
        ReplyLost(detail="the answer did not arrive"),
        Reply(status=429, body=b""),
        Reply(status=503, body=b""),
    ),
)
async def test_failing_userinfo_is_no_answer(answer: Answer) -> None:
    """The id_token may tell another name than userinfo would, so a passing failure must not decide the name."""
    with pytest.raises(RefusedError, match="can't be asked for the name"):
        await provider_identity(UserinfoEndpoint(answer), URL, granted({"sub": "s"}))


async def test_userinfo_of_another_subject_is_refused() -> None:
    """OpenID Connect Core 1.0 §5.3.2: the two subjects must be the same."""
    with pytest.raises(RefusedError, match="another account"):
        await provider_identity(told({"sub": "2", "email": "b@example.com"}), URL, granted({"sub": "1"}))


@pytest.mark.parametrize(
    ("userinfo", "claims", "subject"),
    (
        ({"sub": "1", "email": "a@example.com"}, None, "1"),
        ({"email": "a@example.com"}, {"sub": "2"}, "2"),
        ({"sub": 3}, None, "3"),
        ({"sub": True}, None, None),
        ({"sub": " "}, None, None),
        ({"email": "a@example.com"}, None, None),
    ),
)
async def test_the_subject_is_kept_beside_the_name(userinfo: object, claims: object, subject: str | None) -> None:
    """`sub` tells people apart who share an e-mail address; some providers write it as a number."""
    assert (await provider_identity(told(userinfo), URL, granted(claims))).subject == subject


@pytest.mark.parametrize(
    "text", (None, "", "a.b", "a.b.c.d", "a.!!!.c", "a.e30", "a.W10.c", "a.e30=.c", f"a.{'W1' * 50_000}.c", "a.ü.c")
)
def test_id_token_that_can_not_be_read_claims_nothing(text: str | None) -> None:
    """Whatever stands there, it is empty rather than an error."""
    assert id_token_claims(text) == {}
