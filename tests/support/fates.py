"""What may become of a POST to a token endpoint."""

from collections.abc import Mapping
from typing import Literal

from authpool.refresh.verdict import Answer, NotSent, Reply, ReplyLost

type Fate = Literal[
    "answer", "not_sent", "redirect", "client_rejected",
    "lost_before", "lost_after", "unavailable_before", "unavailable_after", "html_before", "html_after", "cut_after",
]  # fmt: skip
"""`after`: the provider did what it was asked for, and may have rotated."""

CLEAR: frozenset[Fate] = frozenset({"answer", "not_sent", "redirect", "client_rejected"})
"""After these it is known whether the refresh token was spent."""

_HTML = Reply(status=200, body=b"<!doctype html><title>Sign in to the network</title>")
_UNAVAILABLE = Reply(status=503, body=b'{"error": "invalid_grant"}')
_LOST = ReplyLost(detail="time-out")
_ANSWERS: Mapping[Fate, Answer] = {
    "not_sent": NotSent(detail="no connection"),
    "redirect": Reply(status=302, body=b""),
    "client_rejected": Reply(status=401, body=b'{"error": "invalid_client"}'),
    "lost_before": _LOST,
    "lost_after": _LOST,
    "unavailable_before": _UNAVAILABLE,
    "unavailable_after": _UNAVAILABLE,
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
    return answer if fate == "answer" else Reply(status=200, body=answer.body[: len(answer.body) // 2])
