"""The gateway's own answers (RFC 9457): what a client is told when no credential can be put on. Pure.

None of them names an account, or repeats a token or a word of the provider's.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from authpool.pool.pool import State

type Code = Literal[
    "pool_exhausted",
    "token_endpoint_unavailable",
    "pool_misconfigured",
    "client_key_required",
    "client_not_allowed",
    "plaintext_refused",
    "request_refused",
    "method_refused",
    "gateway_error",
]

_STATUS_AND_TITLE: Mapping[Code, tuple[int, str]] = {
    "pool_exhausted": (503, "No usable account"),
    "token_endpoint_unavailable": (502, "The token endpoint can't be reached"),
    "pool_misconfigured": (502, "The pool is misconfigured"),
    "client_key_required": (401, "A gateway key is required"),
    "client_not_allowed": (403, "This gateway key is not allowed here"),
    "plaintext_refused": (403, "No credential goes over plain HTTP"),
    "request_refused": (400, "No credential goes on a request like this"),
    "method_refused": (405, "No credential goes on a request of this method"),
    "gateway_error": (500, "The gateway failed"),
}

CODES = frozenset(_STATUS_AND_TITLE)
"""Every code there is, as the header ``Authpool-Error`` has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is answered by the gateway itself."""

    code: Code
    detail: str
    retry_after_seconds: float | None = None
    allow: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        return _STATUS_AND_TITLE[self.code][0]

    def body(self) -> bytes:
        status, title = _STATUS_AND_TITLE[self.code]
        document = {
            "type": f"urn:authpool:{self.code}",
            "title": title,
            "status": status,
            "detail": self.detail,
        }
        return json.dumps(document).encode() + b"\n"

    def headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/problem+json",
            "Authpool-Error": self.code,
            "Cache-Control": "no-store",
        }
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_seconds)))
        if self.code == "client_key_required":
            headers["WWW-Authenticate"] = 'Bearer realm="authpool"'
        if self.allow:
            headers["Allow"] = ", ".join(self.allow)
        return headers


GATEWAY_ERROR = Refusal(code="gateway_error", detail="Something unexpected happened; the gateway's log says what.")


def pool_exhausted(counts: Mapping[State, int], retry_after_seconds: float | None) -> Refusal:
    """No account can serve: say how many are held back by what, and what helps."""
    held = [f"{counts[s]} {s}" for s in (State.DISABLED, State.PAUSED, State.COOLING, State.BROKEN) if counts.get(s)]
    text = "No account of the pool can serve this request"
    text += f" ({', '.join(held)})." if held else " (the pool is empty)." if not sum(counts.values()) else "."
    if counts.get(State.DISABLED) or not sum(counts.values()):
        text += " Re-adding an account (authpool add) helps at once."
    if counts.get(State.PAUSED):
        text += " A paused account serves again after authpool resume."
    return Refusal(code="pool_exhausted", detail=text, retry_after_seconds=retry_after_seconds)


def token_endpoint_unavailable(retry_after_seconds: float | None) -> Refusal:
    """No access token is live, and nobody is there to give one."""
    return Refusal(
        code="token_endpoint_unavailable",
        detail="No account has a live access token, and the token endpoint can't be reached to get one.",
        retry_after_seconds=retry_after_seconds,
    )


POOL_MISCONFIGURED = Refusal(
    code="pool_misconfigured",
    detail="The token endpoint rejects the gateway's own client; its operator finds the reason in the log.",
)
PLAINTEXT_REFUSED = Refusal(
    code="plaintext_refused",
    detail="The upstream is http:// and not loopback. Use https://, or set allow_plaintext for the pool.",
)
CLIENT_NOT_ALLOWED = Refusal(
    code="client_not_allowed",
    detail="This gateway serves the machine it runs on, and no other.",
)
HOSTS_DIFFER = Refusal(
    code="request_refused",
    detail="The request's target, its Host and the server it goes to are not one and the same.",
)
MALFORMED = Refusal(
    code="request_refused",
    detail="The request's method, target or a header has a character that it can't have.",
)
USUAL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def method_refused(allowed: tuple[str, ...]) -> Refusal:
    """The upstream would answer with what it was sent; `allowed` are the methods of the pool, none for all of them."""
    return Refusal(
        code="method_refused",
        detail="An upstream answers TRACE with the request as it arrived, the credential in it.",
        allow=allowed or USUAL_METHODS,
    )
