"""The gateway's own answers (RFC 9457): what a client is told when no credential can be put on. Pure.

None of them names an account, or repeats a token or a word of the provider's.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from authpool.clients.keyring import Denial
from authpool.pool.pool import State

type Code = Literal[
    "pool_exhausted",
    "token_endpoint_unavailable",
    "pool_misconfigured",
    "client_key_required",
    "client_not_allowed",
    "unmatched_refused",
    "client_limited",
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
    "client_not_allowed": (403, "This client is not allowed here"),
    "client_limited": (429, "This client has reached its limit"),
    "unmatched_refused": (403, "This gateway sends no such request"),
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
    at_connect: bool = False
    """Whether it answers a CONNECT, by which a client asks a proxy, and no upstream."""
    allow: tuple[str, ...] = ()

    @property
    def status(self) -> int:
        if self.at_connect and self.code == "client_key_required":
            return 407
        return _STATUS_AND_TITLE[self.code][0]

    def body(self) -> bytes:
        document = {
            "type": f"urn:authpool:{self.code}",
            "title": _STATUS_AND_TITLE[self.code][1],
            "status": self.status,
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
        if self.status == 407:
            headers["Proxy-Authenticate"] = 'Basic realm="authpool"'
        elif self.code == "client_key_required":
            headers["WWW-Authenticate"] = 'Bearer realm="authpool"'
        if self.allow:
            headers["Allow"] = ", ".join(self.allow)
        return headers


_OUT = (State.DISABLED, State.PAUSED, State.COOLING, State.BROKEN, State.SEALED)

GATEWAY_ERROR = Refusal(code="gateway_error", detail="Something unexpected happened; the gateway's log says what.")


def pool_exhausted(counts: Mapping[State, int], retry_after_seconds: float | None) -> Refusal:
    """No account can serve: say how many are held back by what, and what helps."""
    held = [f"{counts[s]} {s}" for s in _OUT if counts.get(s)]
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


def store_unavailable(retry_after_seconds: float | None) -> Refusal:
    """No access token is live, and none is asked for that could not be stored: it would be lost."""
    return Refusal(
        code="gateway_error",
        detail="No account has a live access token, and a new one could not be stored: the gateway's store can't be "
        "written (a full disk, for example). The gateway's log says more.",
        retry_after_seconds=retry_after_seconds,
    )


POOL_MISCONFIGURED = Refusal(
    code="pool_misconfigured",
    detail="The pool gets no access tokens as it is configured: the gateway's own client is rejected, or its token "
    "source is at fault. Its operator finds the reason in the log.",
)
PLAINTEXT_REFUSED = Refusal(
    code="plaintext_refused",
    detail="The upstream is http:// and not loopback. Use https://, or set allow_plaintext for the pool.",
)
FOREIGN_NAME = Refusal(
    code="client_not_allowed",
    detail="The request names a host that is not this gateway's, as a web page could whose name leads here. The "
    "gateway's operator can name it in listener_names.",
)
CROSS_SITE = Refusal(
    code="client_not_allowed",
    detail="A web page of another site makes this request. The gateway's operator can name its origin in the pool's "
    "allowed_origins.",
)
UNMATCHED_REFUSED = Refusal(
    code="unmatched_refused",
    detail="No pool is for this request, and this gateway sends no others.",
)
LOCAL_REFUSED = Refusal(
    code="unmatched_refused",
    detail="It leads into the gateway's own network, to where no pool names a host.",
)


HOSTS_DIFFER = Refusal(
    code="request_refused",
    detail="The request's target, its Host and the server it goes to are not one and the same.",
)
MALFORMED = Refusal(
    code="request_refused",
    detail="The request's method, target or a header has a character that it can't have.",
)
METHOD_IN_FORM = Refusal(
    code="request_refused",
    detail="A field of the form names another method, by which some servers go; this pool is for certain methods only.",
)
USUAL_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def client_refused(denial: Denial, *, at_connect: bool = False) -> Refusal:
    """A client of the gateway is not served: no key, none that is good, not for this, or too much."""
    return Refusal(
        code=denial.code,
        detail=denial.detail,
        retry_after_seconds=denial.retry_after_seconds,
        at_connect=at_connect,
    )


def method_refused(allowed: tuple[str, ...]) -> Refusal:
    """The upstream would answer with what it was sent; `allowed` are the methods of the pool, none for all of them."""
    return Refusal(
        code="method_refused",
        detail="An upstream answers TRACE with the request as it arrived, the credential in it.",
        allow=allowed or USUAL_METHODS,
    )
