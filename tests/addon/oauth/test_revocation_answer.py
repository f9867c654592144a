"""What answers of revocation endpoints mean."""

import json

import pytest

from authpool.oauth.revocation_answer import NotRevoked, Revoked, revocation_outcome
from authpool.oauth.verdict import Answer, NotSent, Reply, ReplyLost


def reply(status: int, document: object = None, body: bytes = b"") -> Reply:
    return Reply(status=status, body=body if document is None else json.dumps(document).encode())


@pytest.mark.parametrize(
    "answer",
    (
        reply(200),
        reply(200, {}),
        reply(200, body=b"<html>thank you</html>"),  # "the content of the response body is ignored" (RFC 7009 §2.2)
        reply(204),
    ),
)
def test_the_grant_is_at_its_end(answer: Answer) -> None:
    """By the status alone: also of a token that nobody knows."""
    assert revocation_outcome(answer) == Revoked()


@pytest.mark.parametrize("status", (200, 400))
def test_it_was_so_before(status: int) -> None:
    """Google says it with an error, where RFC 7009 wants none."""
    assert revocation_outcome(reply(status, {"error": "invalid_token"})) == Revoked(before=True)


@pytest.mark.parametrize(
    ("answer", "told", "again"),
    (
        (NotSent(detail="connection refused"), "can't be reached (connection refused)", True),
        (ReplyLost(detail="the answer did not arrive"), "did not answer", True),
        (reply(503), "answered HTTP 503", True),
        (reply(500, {"error": "invalid_token"}), "answered HTTP 500", True),
        (reply(429), "answered HTTP 429", True),
        (reply(302), "answered HTTP 302", False),
        (reply(404), "answered HTTP 404", False),
        (reply(401, {"error": "invalid_token"}), "answered HTTP 401 (invalid_token)", False),
        (reply(401, {"error": "invalid_client"}), "rejects the client (invalid_client)", False),
        (reply(400, {"error": "unsupported_token_type"}), "does not revoke refresh tokens", False),
        (reply(400, {"error": "invalid_grant"}), "answered HTTP 400 (invalid_grant)", False),
        (reply(200, {"ok": False, "error": "not_authed"}), "answered HTTP 200 (not_authed)", False),
        (reply(400, {"error": "4f0cAbCdEf0123456789xyz"}), "answered HTTP 400 ([redacted])", False),
    ),
)
def test_the_grant_lives_on(answer: Answer, told: str, again: bool) -> None:  # noqa: FBT001
    """What is said of it holds no word that may be a secret."""
    outcome = revocation_outcome(answer)
    assert isinstance(outcome, NotRevoked)
    assert told in outcome.detail
    assert outcome.again is again
