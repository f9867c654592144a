"""One account from a JSON object, or from a table's row, in whichever tool's form.

Each form has its own names, and where two share one it means the same: so nobody has to say which form it is.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from authpool.accounts.printable import clip_reason
from authpool.errors import RefusedError
from authpool.oauth.identity import id_token_claims
from authpool.verbs.import_formats.entry import Found, ImportEntry, Unreadable
from authpool.verbs.import_formats.times import unix_seconds
from authpool.verbs.sources import bare_credential, credential_of, grant_in

_RENEWED = ("last_refresh", "expiry_timestamp", "expires_at", "expired", "expiry", "expiry_date")
"""When a pair of tokens was granted, or how long its access token lives: the later, the newer."""
_CREDENTIALS = frozenset(
    {"refresh_token", "access_token", "token", "tokens", "client_secret", "sealed", "secret", "api_key"}
)
_CCFLARE = frozenset({"provider", "paused"})
"""Columns of better-ccflare's table of accounts that no other form has both of."""


def entry_of(document: Mapping[str, Any], where: str, path: Path | None = None) -> Found:
    """Read one account. What stands in the document is never repeated in a message."""
    if document.get("type") == "service_account":
        return Unreadable(where=where, problem="it is a service account's key, not an account that signed in")
    if not _CREDENTIALS & document.keys():
        return Unreadable(where=where, problem="it holds no credential", foreign=True)
    try:
        return _ccflare(document, where) if document.keys() >= _CCFLARE else _entry(document, where, path)
    except RefusedError as refused:
        return Unreadable(where=where, problem=_without(str(refused), where))


def bare_entry(secret: object, where: str, name: str | None = None) -> Found:
    """Read an account of which only the refresh token is listed, or the secret, and maybe what it is called."""
    if not isinstance(secret, str) or not secret.strip():
        return Unreadable(where=where, problem="it holds no refresh token")
    try:
        return ImportEntry(where=where, credential=bare_credential(secret.strip(), where), name=name)
    except RefusedError as refused:
        return Unreadable(where=where, problem=_without(str(refused), where))


def _entry(document: Mapping[str, Any], where: str, path: Path | None) -> Found:
    if isinstance(document.get("secret"), str):
        found = bare_entry(document["secret"], where)
        if isinstance(found, Unreadable):
            return found
        credential = found.credential
    else:
        credential = credential_of(_plain(document), where, path)
    grant = grant_in(document)
    told = id_token_claims(_text(grant, "id_token")).get("email")
    if credential.name is None and isinstance(told, str):
        credential = replace(credential, name=told.strip() or None)
    disabled = _is_true(document.get("disabled"))
    reason = _text(document, "disabled_reason")
    return ImportEntry(
        where=where,
        credential=replace(
            credential, created_at=unix_seconds(document.get("created_at")), order=_order(document.get("order"))
        ),
        name=_name(document) if credential.name is None else None,
        subject=_text(document, "subject"),
        renewed_at=_renewed_at(document, grant),
        disabled=disabled,
        disabled_at=unix_seconds(document.get("disabled_at")) if disabled else None,
        disabled_reason=clip_reason(reason) if disabled and reason is not None else None,
    )


def _ccflare(document: Mapping[str, Any], where: str) -> Found:
    """A row of better-ccflare's table: times in milliseconds; its `name` is a label that the operator made up."""
    if not document.get("refresh_token") and document.get("api_key"):
        return Unreadable(where=where, problem="it is an API key, not an account that signed in")
    kept = {key: document.get(key) for key in ("refresh_token", "access_token")}
    name, reason = _text(document, "name"), _text(document, "pause_reason")
    as_ours = {
        **{key: value for key, value in kept.items() if value},
        "custom_label": name,
        "proxy_disabled": _is_true(document["paused"]),
        "proxy_disabled_reason": reason,
    }
    disabled = _is_true(document.get("requires_reauth"))
    return ImportEntry(
        where=where,
        credential=replace(credential_of(as_ours, where), created_at=unix_seconds(document.get("created_at"))),
        nickname=name,
        renewed_at=unix_seconds(document.get("refresh_token_issued_at")),
        disabled=disabled,
        disabled_reason="requires_reauth" if disabled else None,
    )


def _plain(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the switch as JSON writes it: a table's cells are all text."""
    return {
        **{key: value for key, value in document.items() if value != ""},
        "proxy_disabled": _is_true(document.get("proxy_disabled")),
        "proxy_disabled_at": unix_seconds(document.get("proxy_disabled_at")),
    }


def _is_true(value: object) -> bool:
    return value is True or value == 1 or (isinstance(value, str) and value.strip().casefold() in {"true", "1", "yes"})


def _renewed_at(document: Mapping[str, Any], grant: Mapping[str, Any]) -> int | None:
    told = (unix_seconds(table.get(key)) for key in _RENEWED for table in (document, grant))
    return next((at for at in told if at is not None), None)


def _order(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def _name(document: Mapping[str, Any]) -> str | None:
    return _text(document, "name")


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value.strip() or None if isinstance(value, str) else None


def _without(message: str, where: str) -> str:
    """A message that names its origin, without it: it is told beside it."""
    problem = message.removeprefix(where).removeprefix(":").strip()
    return "it holds no refresh token" if problem.startswith("holds no refresh_token") else problem
