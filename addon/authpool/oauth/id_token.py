"""What an id_token that came with a sign-in must say (OpenID Connect Core 1.0 §3.1.3.7). Pure.

Its signature is not checked: it came straight from the token endpoint over TLS, which point 6 accepts in its place.
"""

import hmac
from collections.abc import Collection, Mapping
from typing import Any

from authpool.errors import RefusedError
from authpool.oauth.authorization import is_issuer

LEEWAY_SECONDS = 300
"""So much the clocks of this machine and of the provider may differ."""


def check_id_token(
    claims: Mapping[str, Any], *, issuers: Collection[str], client_id: str, nonce: str | None, now: float
) -> None:
    """Check whose, for whom, until when and for which sign-in an id_token is. Raises RefusedError.

    `issuers` as in SignInConfig; `nonce` is None where none was sent; `now`: Unix seconds.
    """
    issuer, tenant = claims.get("iss"), claims.get("tid")
    if issuers and not any(_is_from(issuer, known, tenant) for known in issuers):
        raise RefusedError("the id_token is from another issuer (`iss`) than the one that was asked")
    audience = claims.get("aud")
    if client_id not in (audience if isinstance(audience, list) else [audience]):
        raise RefusedError("the id_token is for another client (`aud`)")
    if claims.get("azp", client_id) != client_id:
        raise RefusedError("the id_token was issued to another client (`azp`)")
    expires_at = claims.get("exp")
    if not isinstance(expires_at, int | float) or isinstance(expires_at, bool):
        raise RefusedError("the id_token does not say when it ends (`exp`)")
    if expires_at + LEEWAY_SECONDS <= now:
        raise RefusedError("the id_token has ended (`exp`): is this machine's clock right?")
    if nonce is not None and not _is_same(claims.get("nonce"), nonce):
        raise RefusedError("the id_token is of another sign-in (`nonce`)")


def _is_from(issuer: object, known: str, tenant: object) -> bool:
    return isinstance(issuer, str) and is_issuer(issuer, known, tenant if isinstance(tenant, str) else "")


def _is_same(told: object, expected: str) -> bool:
    """In constant time. JSON may have lone surrogates in it, which UTF-8 has not."""
    return isinstance(told, str) and hmac.compare_digest(told.encode(errors="replace"), expected.encode())
