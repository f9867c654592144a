"""sticky: the same client, or whatever else tells requests apart, gets the same account while that can serve."""

from collections.abc import Callable
from typing import Any

import pytest

from authpool.accounts.account import AccountKey
from authpool.errors import ConfigurationError
from authpool.rotation.rotation import Rotation, RotationRequest
from support.rotations import key, made, request

CLIENTS = [f"10.0.{number // 200}.{number % 200}" for number in range(600)]


def filled(by: str | None = None, accounts: int = 20) -> Rotation:
    rotation = made("sticky", {} if by is None else {"by": by})
    for number in range(accounts):
        rotation.add(key(number))
    return rotation


def owners(rotation: Rotation) -> list[AccountKey | None]:
    return [rotation.choose(request(client), ()) for client in CLIENTS]


def test_a_client_stays_with_its_account() -> None:
    """Each gets the same one every time, and all accounts have some."""
    rotation = filled()
    assert owners(rotation) == owners(rotation) == owners(filled())
    assert len(set(owners(rotation))) == 20


def test_clients_of_an_account_that_is_away_come_back_with_it() -> None:
    """They go to the next on the ring meanwhile, and nobody else moves."""
    rotation = filled()
    before = owners(rotation)
    rotation.remove(key(3))
    for was, now in zip(before, owners(rotation), strict=True):
        assert now != key(3)
        assert was in {now, key(3)}
    rotation.add(key(3))
    assert owners(rotation) == before


def by_session(value: str) -> RotationRequest:
    return request("192.0.2.1", {"x-session": value})


def by_user(value: object) -> RotationRequest:
    return request("192.0.2.1", body={"user": {"id": value}})


def by_first_message(value: object) -> RotationRequest:
    return request("192.0.2.1", body={"messages": [{"content": value}, {"content": "other"}]})


@pytest.mark.parametrize(
    ("by", "made_by"),
    (("header:X-Session", by_session), ("json:user.id", by_user), ("json:messages.0.content", by_first_message)),
)
def test_other_things_tell_requests_apart(by: str, made_by: Callable[[Any], RotationRequest]) -> None:
    """Requests of one client go to many accounts, those with the same header or field to the same."""
    rotation = filled(by)
    values = [f"value-{number}" for number in range(100)]
    chosen = [rotation.choose(made_by(value), ()) for value in values]
    assert chosen == [rotation.choose(made_by(value), ()) for value in values]
    assert len(set(chosen)) > 10


def test_numbers_tell_apart_as_well() -> None:
    """What is a list or a table does not: such a request goes by its client."""
    rotation = filled("json:user.id")
    assert len({rotation.choose(by_user(number), ()) for number in range(50)}) > 5
    assert rotation.choose(by_user({"a": 1}), ()) == rotation.choose(by_user({"b": 2}), ())


@pytest.mark.parametrize(
    ("by", "lacking"),
    (
        ("header:X-Session", {}),
        ("header:X-Session", {"headers": {"X-Session": ""}}),
        ("json:user.id", {}),
        ("json:user.id", {"body": b""}),
        ("json:user.id", {"body": b"no json"}),
        ("json:user.id", {"body": b"\xff\xfe\x00"}),
        ("json:user.id", {"body": b"[" * 100_000}),
        ("json:user.id", {"body": b'{"user": {"id": ' + b"9" * 5_000 + b"}}"}),
        ("json:user.id", {"body": {"user": "u"}}),
        ("json:user.id", {"body": {"user": {"id": None}}}),
        ("json:user.id", {"body": ["user"]}),
        ("json:messages.3.x", {"body": {"messages": []}}),
    ),
)
def test_what_lacks_it_goes_by_the_client(by: str, lacking: dict[str, Any]) -> None:
    """Without the header or field, or with a body that is no JSON, the client's address decides."""
    rotation, plain = filled(by), filled("client")
    for client in CLIENTS[:20]:
        assert rotation.choose(request(client, **lacking), ()) == plain.choose(request(client), ())


def test_text_that_is_no_unicode_is_no_error() -> None:
    """A header's bytes and JSON's escapes may be lone surrogates in Python."""
    assert filled("header:X-Session").choose(by_session("\udcff"), ()) is not None
    assert filled("json:user.id").choose(request(body=b'{"user": {"id": "\\ud800"}}'), ()) is not None


def test_only_a_field_of_the_body_needs_the_body() -> None:
    """A client or a header is known at once, and the request need not be held."""
    assert [filled(by).needs_body for by in (None, "header:X", "json:x")] == [False, False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    (
        ({"buy": "client"}, r"rotation\.buy: there is no such key\. Did you mean `by`\?"),
        ({"by": 3}, r"rotation\.by: must be a string, not a whole number"),
        ({"by": ""}, r"rotation\.by: is empty"),
        ({"by": "cookie:x"}, r"rotation\.by: is none of \"client\", \"header:NAME\""),
        ({"by": "header:"}, r"rotation\.by: is none of"),
        ({"by": "header:X Session"}, r"rotation\.by: is none of"),
        ({"by": "json:"}, r"rotation\.by: is none of"),
        ({"by": "json:user..id"}, r"rotation\.by: is none of"),
    ),
)
def test_mistakes_are_told(options: dict[str, Any], message: str) -> None:
    """Each with file, key and remedy."""
    with pytest.raises(ConfigurationError, match=rf"^authpool\.toml: pools\.p\.{message}"):
        made("sticky", options)
