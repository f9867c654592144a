"""What may become of a POST to a token endpoint."""

import json
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlencode

from authpool.oauth.verdict import Answer, NotSent, Reply, ReplyLost

type Fate = Literal[
    "answer", "not_sent", "redirect", "client_rejected",
    "unavailable", "lost_before", "lost_after", "gateway_before", "gateway_after", "html_before", "html_after",
    "cut_after", "alone_after", "cut_late_after", "form_after",
]  # fmt: skip
"""`after`: the provider did what it was asked for, and may have rotated."""

CLEAR: frozenset[Fate] = frozenset({"answer", "not_sent", "redirect", "client_rejected", "unavailable"})
"""After these it is known whether the refresh token was spent."""
ARRIVES: frozenset[Fate] = frozenset({"answer", "alone_after", "cut_late_after", "form_after"})
"""The provider's refresh token reaches the process, with an access token or alone, in whatever form."""

_HTML = Reply(status=200, body=b"<!doctype html><title>Sign in to the network</title>")
_GATEWAY = Reply(status=504, body=b'{"error": "invalid_grant"}')
_LOST = ReplyLost(detail="time-out")
_ANSWERS: Mapping[Fate, Answer] = {
    "not_sent": NotSent(detail="no connection"),
    "redirect": Reply(status=302, body=b""),
    "client_rejected": Reply(status=401, body=b'{"error": "invalid_client"}'),
    "lost_before": _LOST,
    "lost_after": _LOST,
    "unavailable": Reply(status=503, body=b'{"error": "invalid_grant"}'),
    "gateway_before": _GATEWAY,
    "gateway_after": _GATEWAY,
    "html_before": _HTML,
    "html_after": _HTML,
}


def reaches_the_provider(fate: Fate) -> bool:
    return fate == "answer" or fate.endswith("_after")


def what_arrives(fate: Fate, answer: Reply | None) -> Answer:
    """What the client gets, given what the provider said, where it was asked."""
    if fate in _ANSWERS:
        return _ANSWERS[fate]
    assert answer is not None
    if fate == "alone_after" and answer.status == 200:
        token = json.loads(answer.body)["refresh_token"]
        return Reply(status=200, body=json.dumps({"refresh_token": token}).encode())
    if fate == "form_after" and answer.status == 200:
        return Reply(status=200, body=urlencode(json.loads(answer.body)).encode())
    if fate == "cut_late_after" and answer.status == 200:
        return Reply(status=200, body=answer.body.removesuffix(b"}"))
    return answer if fate in ARRIVES else Reply(status=200, body=answer.body[: len(answer.body) // 2])
