"""A token response in a spelling of its own is read, where the usual one is not there."""

import json
import re

import pytest

from authpool.oauth.odd_spelling import odd_members, usually_spelt
from authpool.oauth.verdict import Granted, GrantRejected, PartlyGranted, Reply, ReplyLost, TryLater, Verdict, judge

PAIR = {"access_token": "at", "refresh_token": "r&t", "expires_in": 60}
CAMEL = {"accessToken": "at", "refreshToken": "r&t", "expiresIn": 60}
XML = "<access_token>at</access_token><refresh_token>r&amp;t</refresh_token><expires_in>60</expires_in>"


def whole(body: str, presented: str | None = "old", status: int = 200) -> Verdict:
    return judge(Reply(status=status, body=body.encode()), now=0, presented=presented)


@pytest.mark.parametrize(
    "body",
    (
        json.dumps(CAMEL),
        json.dumps({"AccessToken": "at", "RefreshToken": "r&t", "ExpiresIn": "60"}),
        json.dumps({"access-token": "at", "refresh-token": "r&t", "expires-in": 60}),
        json.dumps({"access_token": "at", "refreshToken": "r&t", "expires_in": 60}),
        json.dumps({"access_token": "at", "refresh_token": None, "refreshToken": "r&t", "expires_in": 60}),
        json.dumps({"data": CAMEL}),
        json.dumps([CAMEL])[:-1],
        str(PAIR),
        f"callback({CAMEL})",
        "{access_token: 'at', refresh_token: 'r&t', expires_in: 60}",
        "array('access_token' => 'at', 'refresh_token' => 'r&t', 'expires_in' => 60)",
        f"<?xml version='1.0'?><token>{XML}</token>",
        f"<t:token xmlns:t='x'>{XML.replace('<a', '<t:a').replace('<r', '<t:r').replace('<e', '<t:e')}</t:token>",
        XML.replace("r&amp;t", "<![CDATA[r&t]]>"),
        XML.replace("<refresh_token>", '<refresh_token type="opaque">\n  '),
        "<token access_token='at' refresh_token=\"r&t\" expires_in='60'/>",
        re.sub(r"<(\w+)>([^<]+)</\w+>", r"<key>\1</key><string>\2</string>", XML),
    ),
)  # fmt: skip
def test_the_pair_is_read(body: str) -> None:
    """Camel case, single quotes, bare names, XML; at the beginning or inside."""
    assert whole(body) == Granted(access_token="at", refresh_token="r&t", lifetime_seconds=60)


@pytest.mark.parametrize(
    "body", ("<refresh_token>new</refresh_token>", "{'refreshToken': 'new'", '{"refreshToken": "new"}')
)
def test_a_refresh_token_alone_is_kept(body: str) -> None:
    """It is all there is."""
    found = whole(body)
    assert isinstance(found, PartlyGranted)
    assert found.refresh_token == "new"


@pytest.mark.parametrize("text", (XML, str(PAIR), json.dumps(CAMEL)))
def test_no_cut_gives_a_part_of_a_token(text: str) -> None:
    """At every byte: nothing, or all of it."""
    found = [
        judge(ReplyLost(detail="cut", status=200, body=text[:end].encode()), now=0, presented="old")
        for end in range(len(text) + 1)
    ]
    assert {one.refresh_token for one in found if isinstance(one, Granted | PartlyGranted)} == {"r&t"}


@pytest.mark.parametrize(
    "body",
    (
        "{'old_refresh_token': 'r'}",
        "<old_refresh_token>r</old_refresh_token>",
        "{'refresh_token': 'old'}",
        "<a><refresh_token>r1</refresh_token></a><b><refresh_token>r2</refresh_token></b>",
        "<refresh_token></refresh_token>",
        "<p>Your refresh token is bad</p>",
    ),
)
def test_what_is_no_new_one_is_none(body: str) -> None:
    """Another name, the one that was sent, several, nothing: the presented one may be spent."""
    found = whole(body)
    assert isinstance(found, TryLater)
    assert found.ambiguous


def test_the_usual_spelling_goes_first() -> None:
    """What stands in another one beside it is something else."""
    assert usually_spelt({"refresh_token": "r1", "refreshToken": "r2"})["refresh_token"] == "r1"
    found = whole(json.dumps({"data": {"access_token": "at", "refresh_token": "r1"}, "note": "refreshToken: 'r2'"}))
    assert isinstance(found, Granted)
    assert found.refresh_token == "r1"


def test_an_error_is_an_error_in_the_usual_spelling_only() -> None:
    """Nobody is disabled for what looks like one."""
    assert isinstance(whole('{"error": "invalid_grant"}', status=400), GrantRejected)
    assert isinstance(whole("{'error': 'invalid_grant'}", status=400), TryLater)
    assert isinstance(whole("<error>invalid_grant</error>", status=400), TryLater)


@pytest.mark.parametrize(
    "piece",
    (
        "refresh_token:'",
        "<refresh_token>",
        "<refresh_token ",
        "<refresh_token><![CDATA[",
        "<key>refresh_token</key><s>",
        '"',
    ),
)
def test_a_megabyte_of_beginnings_is_read_in_one_pass(piece: str) -> None:
    """What never ends is not looked at again and again: that took two minutes, and the test's time limit says no."""
    assert "access_token" not in odd_members(piece * (1_000_000 // len(piece)), None)
