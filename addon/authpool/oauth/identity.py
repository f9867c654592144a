"""Who an account is, in the provider's own words: the userinfo endpoint's, else the id_token's."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authpool.errors import RefusedError, UnprovedError
from authpool.oauth.provider_text import repeats
from authpool.oauth.token_client import TokenEndpoint
from authpool.oauth.verdict import TRANSIENT_STATUSES, Granted, Reply

_OK = 200
_SERVER_ERRORS = 500
_JWT_PARTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a provider tells of an account: `name` is its `email`, else its `sub`; `subject` its `sub` alone."""

    name: str | None = None
    subject: str | None = None


async def provider_identity(endpoint: TokenEndpoint, userinfo_url: str | None, granted: Granted) -> Identity:
    """Ask who an account is.

    Raises RefusedError when the provider can't be asked now, for its other answer might be another name.
    """
    told = id_token_claims(granted.id_token)
    claims = await _userinfo(endpoint, userinfo_url, granted.access_token) if userinfo_url is not None else {}
    subjects = {subject for subject in (_subject(claims), _subject(told)) if subject is not None}
    if len(subjects) > 1:
        # OpenID Connect Core 1.0 §5.3.2: userinfo of another subject must not be used.
        raise RefusedError("the provider's userinfo speaks of another account than its id_token")
    name = name_in(claims) or name_in(told)
    shown = (granted.access_token, granted.refresh_token, granted.id_token)
    if any(repeats(one, shown) for one in (name, *subjects) if one):
        raise RefusedError("what the provider tells can't be an account name: it is a credential that it was shown")
    return Identity(name=name, subject=next(iter(subjects), None))


def name_in(claims: Mapping[str, Any]) -> str | None:
    """The name that claims give an account (OpenID Connect Core 1.0 §5.1): `email`, else `sub`."""
    return _text(claims, "email") or _text(claims, "sub")


def _subject(claims: Mapping[str, Any]) -> str | None:
    """OpenID Connect Core 1.0 §2 says that `sub` is a string; some write a number."""
    value = claims.get("sub")
    return str(value) if type(value) is int else _text(claims, "sub")


def _text(claims: Mapping[str, Any], claim: str) -> str | None:
    value = claims.get(claim)
    return value.strip() or None if isinstance(value, str) else None


def id_token_claims(id_token: str | None) -> Mapping[str, Any]:
    """What an id_token says; empty when there is none to read.

    Its signature is not checked: it came straight from the token endpoint over TLS, which OpenID Connect
    Core 1.0 §3.1.3.7 (6) accepts in its place.
    """
    parts = (id_token or "").split(".")
    if len(parts) != _JWT_PARTS:
        return {}
    payload = parts[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


async def _userinfo(endpoint: TokenEndpoint, url: str, access_token: str) -> Mapping[str, Any]:
    """Ask as OpenID Connect Core 1.0 §5.3.1 says; empty when the endpoint has nothing for this token."""
    answer = await endpoint.get(url, {"Authorization": f"Bearer {access_token}"})
    if not isinstance(answer, Reply):
        raise _no_answer(answer.detail)
    if answer.status in TRANSIENT_STATUSES or answer.status >= _SERVER_ERRORS:
        raise _no_answer(f"HTTP {answer.status}")
    if answer.status != _OK:  # most often 401 or 403: the grant lacks the scope `openid`
        return {}
    try:
        claims = json.loads(answer.body)
    except (ValueError, RecursionError):  # a signed one, §5.3.2, or no userinfo at all
        return {}
    return claims if isinstance(claims, dict) else {}


def _no_answer(detail: str) -> UnprovedError:
    told = f"the provider's userinfo endpoint can't be asked for the name: {detail}"
    return UnprovedError(told, fault="provider", spent=True)
