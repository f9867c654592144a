"""What an answer of a token endpoint means. Pure: no network, no clock, no account.

An error code is compared for equality, never searched for in a message: RFC 6749 §5.2, and the `error` objects and
200 replies that providers send instead. A code a provider uses in its own way is mapped by the pool's `codes`; only
what is named there may also stand in `error_codes`, be a word of the description, or be all of the description.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from authpool.config.error_codes import CLIENT_CODES, SIGN_IN_CODES, SIGN_IN_SUBTYPES, TRANSIENT_CODES
from authpool.oauth.answer_body import Body, leading_document, remains, whole_document
from authpool.oauth.error_code import code_of, description_of
from authpool.oauth.http_date import http_date
from authpool.oauth.provider_text import harmless_words

TRANSIENT_STATUSES = frozenset({408, 429})
MISPLACED_STATUSES = frozenset({404, 405, 410})
"""No token endpoint says these of a token request: something else is at that URL."""
LOST_BEHIND_STATUSES = frozenset({502, 504})
FIRST_PROXY_STATUS = 520
"""A proxy in between says that it got no answer: the two above, and what only proxies say (Cloudflare's 520 to 530,
598, 599). What the endpoint itself says, 500, 501, 503 or 507, is an answer: it did not do what it was asked for."""
CUT_LIFETIME_SECONDS = 300
"""How long a token is used whose `expires_in` was in the part of the answer that never came."""
MAX_LIFETIME_SECONDS = 10 * 365 * 86400
MAX_RETRY_AFTER_SECONDS = 3600.0
"""A date that is wrong by a century must not bench an account for as long."""
MAX_SECRET_CHARACTERS = 65536  # no header takes more, and the pair has to fit an account's file

_VISIBLE = re.compile(r"[\x21-\x7e]+")  # RFC 6749 A.12 allows the space too; a header value does not want it


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the endpoint answered. `retry_after` and `content_type` are those headers as they were sent."""

    status: int
    body: bytes = field(repr=False)
    retry_after: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """The request surely was not processed: no connection, no name, no TLS. `nobody`: there is no such server."""

    detail: str
    nobody: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyLost:
    """The request was sent and its answer never came whole: the server may have acted on it.

    `status` is None when not even that came; `body` is as much of it as arrived.
    """

    detail: str
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    retry_after: str | None = None
    content_type: str | None = None


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
class PartlyGranted:
    """A new refresh token, and no access token that can be used: what was presented is spent, the new one is good."""

    refresh_token: str = field(repr=False)
    detail: str


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
    """Nothing is known against account or client. `ambiguous`: the refresh token may have been spent.

    `misplaced`: what answered looks like no token endpoint, so its URL may be wrong.
    """

    detail: str
    retry_after_seconds: float | None = None
    ambiguous: bool = False
    misplaced: bool = False


type Verdict = Granted | PartlyGranted | GrantRejected | SignInRequired | ClientRejected | TryLater


def judge(
    answer: Answer, *, now: float, codes: Mapping[str, str] | None = None, presented: str | None = None
) -> Verdict:
    """Say what an answer means.

    `now` (Unix seconds) is for a Retry-After that is a date; `presented` is the refresh token that was sent, None for
    a grant of another type.
    """
    if isinstance(answer, NotSent):
        return TryLater(detail=answer.detail, misplaced=answer.nobody)
    if answer.status is None:
        return TryLater(detail=answer.detail, ambiguous=True)
    wait = retry_after_seconds(answer.retry_after, now)
    if answer.status in TRANSIENT_STATUSES or answer.status >= 500:
        return TryLater(detail=f"HTTP {answer.status}", retry_after_seconds=wait, ambiguous=_lost_behind(answer.status))
    body = Body(data=answer.body, content_type=answer.content_type, whole=isinstance(answer, Reply))
    success = 200 <= answer.status < 300
    if success and (granted := _granted(body, presented)):
        return granted  # whatever else it says: a rotated refresh token may be in it
    # A redirect is not followed, and what stands beside it is no token endpoint's word: a portal's, a firewall's.
    document = None if 300 <= answer.status < 400 else whole_document(body)
    code, sent_code = (None, None) if document is None else code_of(document, codes or {})
    if document is not None and code is not None:
        return _judge_code(code, sent_code, document, answer.status, wait)
    if success and (granted := _granted_in_pieces(body, presented)):
        return granted
    if isinstance(answer, ReplyLost):
        return TryLater(detail=answer.detail, retry_after_seconds=wait, ambiguous=success)
    if document is None:
        # A captive portal, a firewall's page; but a 2xx may also be our new token, cut or garbled.
        return TryLater(
            detail=f"HTTP {answer.status} without a JSON object",
            retry_after_seconds=wait,
            ambiguous=success,
            misplaced=True,
        )
    return TryLater(
        detail=f"HTTP {answer.status} without {'an access token' if success else 'a known error code'}",
        retry_after_seconds=wait,
        ambiguous=success,
        misplaced=answer.status in MISPLACED_STATUSES,
    )


def _lost_behind(status: int) -> bool:
    return status in LOST_BEHIND_STATUSES or status >= FIRST_PROXY_STATUS


def _judge_code(
    code: str, sent_code: str | None, document: Mapping[str, Any], status: int, wait: float | None
) -> Verdict:
    told = code if sent_code in {None, code} else f"{code} ({sent_code})"
    reason = ": ".join(filter(None, [told, harmless_words(description_of(document))]))
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
        return TryLater(detail=f"HTTP {status} {told}", retry_after_seconds=wait)
    return TryLater(
        detail=f"HTTP {status} with an unknown error code",
        retry_after_seconds=wait,
        ambiguous=200 <= status < 300,
        misplaced=status in MISPLACED_STATUSES,
    )


def _granted(body: Body, presented: str | None) -> Granted | PartlyGranted | None:
    """What a token response grants that the body consists of, or begins with."""
    document = leading_document(body)
    if document is None:
        return None
    return _read_grant(document) or _partly_granted(_text(document.get("refresh_token")), presented)


def _granted_in_pieces(body: Body, presented: str | None) -> Granted | PartlyGranted | None:
    """What is granted by an answer that is cut, damaged, or wrapped in something."""
    pieces = remains(body, presented)
    if "refresh_token" not in pieces:
        pieces = remains(body)  # the token that was sent may be the one that is to be used on
    granted = _read_grant({"expires_in": CUT_LIFETIME_SECONDS} | pieces)
    refresh_token = _text(pieces.get("refresh_token"))
    if refresh_token is None:
        return None  # there may be a new one in what is missing
    return granted or _partly_granted(refresh_token, presented)


def _partly_granted(refresh_token: str | None, presented: str | None) -> PartlyGranted | None:
    if refresh_token is None or presented is None or refresh_token == presented:
        return None
    return PartlyGranted(
        refresh_token=refresh_token,
        detail="the token endpoint gave a new refresh token without an access token that can be used",
    )


def _read_grant(document: Mapping[str, Any]) -> Granted | None:
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
        seconds = float(text[:12]) if text.isascii() and text.isdigit() else http_date(text) - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)
