"""Asking a person to sign in, and what comes back by the browser (RFC 6749 §4.1, RFC 7636, RFC 9207). Pure."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from authpool.config import PoolConfig
from authpool.errors import RefusedError
from authpool.oauth.discovery import Endpoints
from authpool.oauth.error_code import shown_code
from authpool.oauth.provider_text import harmless_words

LONGEST_CODE = 8192
_OPENID = "openid"
_RANDOM_BYTES = 32
_MEANINGS = {
    "access_denied": "the sign-in was declined at the provider",
    "consent_required": "the provider wants consent, and was told to ask for none",
    "interaction_required": "the provider has to ask the user something, and was told not to",
    "invalid_request": "the provider finds a mistake in the request",
    "invalid_scope": "the provider does not know, or does not allow, a scope: see the pool's `scopes`",
    "login_required": "nobody is signed in at the provider, and it was told not to ask",
    "server_error": "the provider has an error of its own: try again",
    "temporarily_unavailable": "the provider is overloaded or under maintenance: try again later",
    "unauthorized_client": "the provider does not let this client sign people in: see its registration",
    "unsupported_response_type": "the provider does not let this client use the authorization code flow",
}
"""What the error codes of an authorization endpoint mean (RFC 6749 §4.1.2.1, OpenID Connect Core 1.0 §3.1.2.6)."""


class StrayAnswerError(Exception):
    """What came is not the answer to this request, and says nothing about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """One sign-in. `url` is for the browser; `state` and the two secrets are known to nobody else.

    `iss_required`: the provider says that its answers name it (RFC 9207 §3).
    """

    url: str
    redirect_uri: str
    state: str = field(repr=False)
    verifier: str = field(repr=False)
    nonce: str | None = field(default=None, repr=False)
    issuers: tuple[str, ...] = ()
    iss_required: bool = False


def authorization_request(pool: PoolConfig, endpoints: Endpoints, redirect_uri: str) -> AuthorizationRequest:
    """Ask for a code, which only who has the verifier can exchange. The pool has a client and an `authorize_url`."""
    if pool.client is None or endpoints.authorize_url is None:
        raise ValueError("a sign-in needs a client and an authorization endpoint")
    state, verifier = secrets.token_urlsafe(_RANDOM_BYTES), secrets.token_urlsafe(_RANDOM_BYTES)
    nonce = secrets.token_urlsafe(_RANDOM_BYTES) if _OPENID in pool.scopes else None
    query = {
        "response_type": "code",
        "client_id": pool.client.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(pool.scopes),
        "state": state,
        "nonce": nonce or "",
        "code_challenge": code_challenge(verifier),
        "code_challenge_method": "S256",
        **pool.sign_in.authorize_params,
    }
    return AuthorizationRequest(
        url=_with_query(endpoints.authorize_url, {name: value for name, value in query.items() if value}),
        redirect_uri=redirect_uri,
        state=state,
        verifier=verifier,
        nonce=nonce,
        issuers=pool.sign_in.issuers,
        iss_required=endpoints.names_itself,
    )


def code_challenge(verifier: str) -> str:
    """RFC 7636 §4.2, method S256."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def code_in(request: AuthorizationRequest, query: str) -> str:
    """Read the code from the query that the provider sends the browser back with.

    Raises StrayAnswerError for what has another `state` or none, and RefusedError when the sign-in is over without a
    code.
    """
    answer = _parameters(query)
    state = answer.get("state")
    if state is None or not hmac.compare_digest(state.encode(), request.state.encode()):
        raise StrayAnswerError("it has the state of another sign-in" if state else "it has no state")
    _check_issuer(request, answer.get("iss"))
    if "error" in answer:
        raise RefusedError(_refusal(answer))
    code = answer.get("code")
    if not code:
        raise StrayAnswerError("it has neither a code nor an error")
    return _checked(code)


def pasted_code(request: AuthorizationRequest, text: str) -> str:
    """Read the code from what an operator pastes: the address that the browser ended up at, or the code alone.

    A bare code has no state: whoever pastes it has seen where it came from, and only our verifier can exchange it.
    Raises StrayAnswerError for what is neither, and RefusedError as `code_in`.
    """
    text = text.strip().strip("'\"<>")
    if "://" in text or text.startswith(("/", "?")) or "code=" in text or "error=" in text:
        try:
            parts = urlsplit(text)
        except ValueError:  # a part of an address, or one with a bracket too many
            raise StrayAnswerError("its address can't be read") from None
        return code_in(request, parts.query or parts.path)
    if not text or any(character.isspace() for character in text):
        raise StrayAnswerError("it is neither an address nor a code")
    return _checked(unquote(text))  # as it is in the address, where it is copied from: Google's begin with 4%2F


def _parameters(query: str) -> dict[str, str]:
    """Read a query; a parameter that is there twice is none of ours (RFC 6749 §3.1)."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=100, errors="strict")
    except ValueError:
        raise StrayAnswerError("it is no query") from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise StrayAnswerError("it has a parameter twice")
    return dict(pairs)


def _check_issuer(request: AuthorizationRequest, issuer: str | None) -> None:
    """RFC 9207 §2.4: who answers is who was asked."""
    if issuer is None:
        if request.iss_required:
            raise RefusedError("the answer does not say from which provider it is (`iss`), as this provider's do")
        return
    if request.issuers and not any(is_issuer(issuer, known, None) for known in request.issuers):
        raise RefusedError("the answer is from another provider (`iss`) than the one that was asked")


def is_issuer(issuer: str, known: str, tenant: str | None) -> bool:
    """Whether `issuer` is the `known` one; ``{tenantid}`` in that is `tenant`, or any one where that is None."""
    before, placeholder, after = known.partition("{tenantid}")
    if not placeholder:
        return issuer == known
    if tenant is not None:
        return issuer == f"{before}{tenant}{after}"
    middle = issuer[len(before) : len(issuer) - len(after)]
    return issuer == f"{before}{middle}{after}" and bool(middle) and "/" not in middle


def _refusal(answer: dict[str, str]) -> str:
    code = shown_code(answer["error"])
    said = harmless_words(answer.get("error_description", ""))
    meaning = _MEANINGS.get(answer["error"], "the provider ended the sign-in")
    return f"{meaning} ({code}{f': {said}' if said else ''})"


def _checked(code: str) -> str:
    if len(code) > LONGEST_CODE or not all(" " <= character <= "~" for character in code):
        raise StrayAnswerError("its code has a character that no code has")  # RFC 6749 A.11
    return code


def _with_query(url: str, query: dict[str, str]) -> str:
    """Keep the query that an authorization endpoint may have (RFC 6749 §3.1)."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(query))))))
