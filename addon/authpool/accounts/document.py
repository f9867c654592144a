"""The form of an account in a file: a TOML document, as the contract names its keys. What is unknown survives."""

from collections.abc import Mapping
from typing import Any

from authpool.accounts.account import Account, OAuthClient, PendingRefresh, Token
from authpool.accounts.printable import printable
from authpool.accounts.standing import Cooldown
from authpool.errors import BrokenAccountError
from authpool.toml_table import put_together, without_none

VERSION = 1

_NUMBERS = range(-(2**63), 2**63)
"""The whole numbers of TOML 1.0; a time beyond them is more than a float holds."""

type Document = dict[str, Any]
"""A parsed TOML document."""

_KIND_NAMES: dict[type, str] = {str: "string", int: "whole number", bool: "true or false", dict: "table", list: "array"}

_ACCOUNT: dict[str, type] = {
    "version": int,
    "name": str,
    "generation": int,
    "subject": str,
    "created_at": int,
    "replaced": str,
    "replaced_at": int,
    "disabled": bool,
    "disabled_at": int,
    "disabled_reason": str,
    "proxy_disabled": bool,
    "proxy_disabled_at": int,
    "proxy_disabled_reason": str,
    "proxy_disabled_until": int,
    "cooldowns": list,
    "token": dict,
    "client": dict,
    "pending_refresh": dict,
}
_TOKEN: dict[str, type] = {
    "access_token": str,
    "refresh_token": str,
    "token_type": str,
    "expires_at": int,
    "scope": str,
}
_CLIENT: dict[str, type] = {"client_id": str, "client_secret": str}
_PENDING_REFRESH: dict[str, type] = {
    "fingerprint": str,
    "started_at": int,
    "account": str,
    "rejected_at": int,
    "client": str,
    "unanswered": bool,
}
_COOLDOWN: dict[str, type] = {"until": int, "reason": str, "key": str}
ACCOUNT_KEYS = frozenset(_ACCOUNT)
"""What authpool knows of a record itself."""
PENDING_REFRESH_KEYS = frozenset(_PENDING_REFRESH)
_REASONS = frozenset({"disabled_reason", "proxy_disabled_reason"})
_TIMES = frozenset(
    {
        "created_at",
        "replaced_at",
        "disabled_at",
        "proxy_disabled_at",
        "proxy_disabled_until",
        "expires_at",
        "started_at",
        "rejected_at",
        "until",
    }
)


def _taken_apart(table: Any, kinds: Mapping[str, type], where: str) -> dict[str, Any]:
    """The known keys of a table, and under `extra` what authpool does not know. Raises BrokenAccountError."""
    if not isinstance(table, dict):
        raise BrokenAccountError(f"[{where}] must be a table")
    extra: dict[str, Any] = {}
    known: dict[str, Any] = {"extra": extra}
    for key, value in table.items():  # only what is there: 100,000 accounts are loaded at a start
        kind = kinds.get(key)
        if kind is None:
            extra[key] = value
        elif type(value) is kind:
            if kind is int and value not in _NUMBERS:
                raise BrokenAccountError(f"`{where and f'{where}.'}{key}` is out of range")
            known[key] = value
        elif type(value) is float and key in _TIMES and abs(value) < 1e15:  # an editor or a script wrote 1.7e9
            known[key] = int(value)
        else:
            raise BrokenAccountError(f"`{where and f'{where}.'}{key}` must be a {_KIND_NAMES[kind]}")
    return known


def _require(known: Mapping[str, Any], key: str, where: str) -> None:
    if key not in known:
        raise BrokenAccountError(f"`{where}.{key}` is missing")


def account_from_document(pool: str, name: str, document: Document) -> Account:
    """Read the account that a file named `name` (decoded) in folder `pool` holds. Raises BrokenAccountError."""
    version = document.get("version", VERSION)
    if (
        type(version) is int and version != VERSION and version in _NUMBERS
    ):  # before all else: there everything may be different
        raise BrokenAccountError(f"`version` is {version}; this authpool reads version {VERSION}")
    known = _taken_apart(document, _ACCOUNT, "")
    known.pop("version", None)
    written_name = known.setdefault("name", name)
    if written_name is not name and written_name != name and written_name.casefold() != name.casefold():
        raise BrokenAccountError("`name` is not the one its file name says")
    if "subject" in known:
        known["subject"] = known["subject"] or None
    for reason in _REASONS & known.keys():  # people write in this file, and what they do is shown
        known[reason] = printable(known[reason])
    if "cooldowns" in known:
        known["cooldowns"] = _cooldowns(known["cooldowns"])
    if "token" in known:
        known["token"] = _token(known["token"])
    if "client" in known:
        known["client"] = _client(known["client"])
    if "pending_refresh" in known:
        known["pending_refresh"] = _pending_refresh(known["pending_refresh"])
    return Account(pool=pool, **known)


def _token(document: Document) -> Token:
    known = _taken_apart(document, _TOKEN, "token")
    access_token, refresh_token = known.pop("access_token", None), known.pop("refresh_token", None)
    return Token(access_token=access_token or None, refresh_token=refresh_token or None, **known)


def _client(document: Document) -> OAuthClient:
    known = _taken_apart(document, _CLIENT, "client")
    _require(known, "client_id", "client")
    return OAuthClient(**known)


def _pending_refresh(document: Document) -> PendingRefresh:
    known = _taken_apart(document, _PENDING_REFRESH, "pending_refresh")
    _require(known, "fingerprint", "pending_refresh")
    known.setdefault("started_at", 0)
    return PendingRefresh(**known)


def _cooldowns(documents: list[Any]) -> tuple[Cooldown, ...]:
    tables = [_taken_apart(document, _COOLDOWN, "cooldowns") for document in documents]
    return tuple(Cooldown(**{"until": 0, **table}) for table in tables)


def _pending_refresh_table(pending: PendingRefresh) -> Document:
    return without_none(
        {
            "fingerprint": pending.fingerprint,
            "started_at": pending.started_at,
            "account": pending.account,
            "rejected_at": pending.rejected_at,
            "client": pending.client,
            "unanswered": pending.unanswered or None,
            **pending.extra,
        }
    )


def _cooldown_table(cooldown: Cooldown) -> Document:
    table: Document = {"until": cooldown.until, "reason": cooldown.reason}
    return table | ({"key": cooldown.key} if cooldown.key else {}) | dict(cooldown.extra)


def _client_table(client: OAuthClient) -> Document:
    return without_none({"client_id": client.client_id, "client_secret": client.client_secret, **client.extra})


def document_from_account(account: Account) -> Document:
    """Write an account as the TOML document of its file: known keys first, tables last, `None` left out."""
    token = account.token
    return put_together(
        {
            "version": VERSION,
            "name": account.name,
            "generation": account.generation,
            "subject": account.subject,
            "created_at": account.created_at,
            "replaced": account.replaced,
            "replaced_at": account.replaced_at,
            "disabled": account.disabled,
            "disabled_at": account.disabled_at,
            "disabled_reason": account.disabled_reason,
            "proxy_disabled": account.proxy_disabled,
            "proxy_disabled_at": account.proxy_disabled_at,
            "proxy_disabled_reason": account.proxy_disabled_reason,
            "proxy_disabled_until": account.proxy_disabled_until,
        },
        account.extra,
        token=without_none(
            {
                "access_token": token.access_token,
                "refresh_token": token.refresh_token,
                "token_type": token.token_type,
                "expires_at": token.expires_at,
                "scope": token.scope,
                **token.extra,
            }
        ),
        client=None if account.client is None else _client_table(account.client),
        pending_refresh=None if account.pending_refresh is None else _pending_refresh_table(account.pending_refresh),
        cooldowns=[_cooldown_table(cooldown) for cooldown in account.cooldowns] or None,
    )
