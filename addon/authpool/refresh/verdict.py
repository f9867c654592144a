"""What an answer of a token endpoint means. Pure: no network, no clock, no account.

An error code is compared for equality, never searched for in a message: RFC 6749 §5.2, and the `error` objects and
200 replies that providers send instead. A code a provider uses in its own way is mapped by the pool's `codes`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

CLIENT_CODES = frozenset(
    {"invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type", "invalid_request"}
)
SIGN_IN_CODES = frozenset({"interaction_required", "login_required", "consent_required"})
SIGN_IN_SUBTYPES = frozenset({"invalid_rapt"})  # Google Workspace session control, beside error=invalid_grant
TRANSIENT_CODES = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
TRANSIENT_STATUSES = frozenset({408, 429})
MAX_LIFETIME_SECONDS = 10 * 365 * 86400
MAX_RETRY_AFTER_SECONDS = 3600.0
"""A date that is wrong by a century must not bench an account for as long."""
MAX_SECRET_CHARACTERS = 65536  # no header takes more, and the pair has to fit an account's file

_VISIBLE = re.compile(r"[\x21-\x7e]+")  # RFC 6749 A.12 allows the space too; a header value does not want it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the endpoint answered. `retry_after` is that header as it was sent."""

    status: int
    body: bytes = field(repr=False)
    retry_after: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """The request surely was not processed: no connection, no name, no TLS."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLost:
    """The request was sent and its answer never came whole: the server may have acted on it."""

    detail: str


type Answer = Reply | NotSent | ReplyLost


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A token response (RFC 6749 §5.1). `lifetime_seconds` is `expires_in`, None when unknown."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    token_type: str = "Bearer"
    lifetime_seconds: int | None = None
    scope: str | None = None
    id_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRejected:
    """`invalid_grant` by exact code: the account may be dead, the disable rules decide."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInRequired:
    """A person must sign in again before this grant works."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRejected:
    """The configuration is wrong: no account is to blame."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TryLater:
    """Nothing is known against account or client. `ambiguous`: the refresh token may have been spent."""

    detail: str
    retry_after_seconds: float | None = None
    ambiguous: bool = False


type Verdict = Granted | GrantRejected | SignInRequired | ClientRejected | TryLater


def judge(answer: Answer, *, now: float, codes: Mapping[str, str] | None = None) -> Verdict:
    """Say what an answer means; `now` (Unix seconds) is for a Retry-After that is a date."""
    match answer:
        case NotSent():
            return TryLater(detail=answer.detail)
        case ReplyLost():
            return TryLater(detail=answer.detail, ambiguous=True)
    wait = retry_after_seconds(answer.retry_after, now)
    if answer.status in TRANSIENT_STATUSES or answer.status >= 500:
        # A gateway's 502 to 504 may stand for the endpoint's own answer, which got lost behind it.
        return TryLater(detail=f"HTTP {answer.status}", retry_after_seconds=wait, ambiguous=answer.status >= 500)
    document = _json_object(answer.body)
    if document is None:
        # A captive portal, a firewall's page; but a 2xx may also be our new token, cut or garbled.
        return TryLater(
            detail=f"HTTP {answer.status} without a JSON object",
            retry_after_seconds=wait,
            ambiguous=200 <= answer.status < 300,
        )
    success = 200 <= answer.status < 300
    if success and (granted := _granted(document)):
        return granted  # whatever else it says: a rotated refresh token may be in it
    code, description = _error_of(document)
    if code is not None:
        return _judge_code((codes or {}).get(code, code), code, description, document, answer.status, wait)
    if success:
        return TryLater(
            detail=f"HTTP {answer.status} without an access token", retry_after_seconds=wait, ambiguous=True
        )
    return TryLater(detail=f"HTTP {answer.status} without a known error code", retry_after_seconds=wait)


def _judge_code(
    code: str, sent_code: str, description: str, document: Mapping[str, Any], status: int, wait: float | None
) -> Verdict:
    reason = ": ".join(filter(None, [sent_code if sent_code == code else f"{code} ({sent_code})", description]))
    subtype = document.get("error_subtype")
    if code in SIGN_IN_CODES:
        return SignInRequired(reason=reason)
    if code == "invalid_grant" and isinstance(subtype, str) and subtype in SIGN_IN_SUBTYPES:
        return SignInRequired(reason=f"{subtype}: {reason}")
    if code == "invalid_grant":
        return GrantRejected(reason=reason)
    if code in CLIENT_CODES:
        return ClientRejected(code=code, reason=reason)
    if code in TRANSIENT_CODES:
        return TryLater(detail=f"HTTP {status} {code}", retry_after_seconds=wait)
    return TryLater(
        detail=f"HTTP {status} with an unknown error code", retry_after_seconds=wait, ambiguous=200 <= status < 300
    )


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _error_of(document: Mapping[str, Any]) -> tuple[str | None, str]:
    """Find the error code and its description, in the places where providers put them."""
    error = document.get("error")
    description = document.get("error_description")
    if isinstance(error, dict):
        description = description or error.get("message") or error.get("description")
        error = error.get("code")
    return (
        error if isinstance(error, str) and error else None,
        description if isinstance(description, str) else "",
    )


def _granted(document: Mapping[str, Any]) -> Granted | None:
    access_token = _text(document.get("access_token"))
    if access_token is None or not _VISIBLE.fullmatch(access_token):
        return None
    return Granted(
        access_token=access_token,
        refresh_token=_text(document.get("refresh_token")),
        token_type=_text(document.get("token_type")) or "Bearer",
        lifetime_seconds=lifetime_seconds(document.get("expires_in")),
        scope=_text(document.get("scope")),
        id_token=_text(document.get("id_token")),
    )


def _text(value: object) -> str | None:
    """Accept what a file and a form can hold: no lone surrogates, and an end."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_SECRET_CHARACTERS:
        return None
    return None if any("\ud800" <= character <= "\udfff" for character in value) else value


def lifetime_seconds(value: object) -> int | None:
    """Read `expires_in`: a number, or a number in a string as some providers send it; None when it says nothing."""
    try:
        seconds = int(float(value)) if isinstance(value, (int, float, str)) and value is not True else 0
    except (ValueError, OverflowError):
        return None
    return min(seconds, MAX_LIFETIME_SECONDS) if seconds > 0 else None


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Read a Retry-After header (RFC 9110 §10.2.3), seconds or an HTTP date: at most an hour; None: nothing to read."""
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = (
            float(text[:12]) if text.isascii() and text.isdigit() else parsedate_to_datetime(text).timestamp() - now
        )
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)
