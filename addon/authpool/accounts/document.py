"""The form of an account in a file: a TOML document, as the contract names its keys. What is unknown survives."""

from typing import Any

from authpool.accounts.account import Account, Cooldown, OAuthClient, PendingRefresh, Token
from authpool.errors import BrokenAccountError

VERSION = 1

type Document = dict[str, Any]
"""A parsed TOML document."""

_MISSING: Any = object()


class _Table:
    """A TOML table that is taken apart key by key; what was not taken is what authpool does not know."""

    def __init__(self, table: Any, where: str) -> None:
        if not isinstance(table, dict):
            raise BrokenAccountError(f"[{where}] must be a table")
        self._rest = dict(table)
        self._where = f"{where}." if where else ""

    def take[T](self, key: str, kind: type[T], default: Any = _MISSING) -> T:
        value = self._rest.pop(key, default)
        if type(value) is kind:  # nearly always, and 100,000 accounts have two million values
            return value
        if value is _MISSING:
            raise BrokenAccountError(f"`{self._where}{key}` is missing")
        if value is not default:
            raise BrokenAccountError(f"`{self._where}{key}` must be a {_KIND_NAMES[kind]}")
        return value  # type: ignore[no-any-return]

    def take_time(self, key: str, default: Any = None) -> Any:
        value = self._rest.get(key)
        if type(value) is float and abs(value) < 1e15:  # an editor or a script wrote 1.7e9
            self._rest[key] = int(value)
        return self.take(key, int, default)

    def rest(self) -> dict[str, Any]:
        return self._rest


_KIND_NAMES: dict[type, str] = {str: "string", int: "whole number", bool: "true or false", dict: "table", list: "array"}


def account_from_document(pool: str, name: str, document: Document) -> Account:
    """Read the account that a file named `name` (decoded) in folder `pool` holds. Raises BrokenAccountError."""
    top = _Table(document, "")
    version = top.take("version", int, VERSION)
    if version != VERSION:
        raise BrokenAccountError(f"`version` is {version}; this authpool reads version {VERSION}")
    written_name = top.take("name", str, name)
    if written_name.casefold() != name.casefold():
        raise BrokenAccountError("`name` is not the one its file name says")
    return Account(
        pool=pool,
        name=written_name,
        generation=top.take("generation", int, 0),
        subject=top.take("subject", str, None) or None,
        created_at=top.take_time("created_at", 0),
        disabled=top.take("disabled", bool, False),
        disabled_at=top.take_time("disabled_at"),
        disabled_reason=top.take("disabled_reason", str, None),
        proxy_disabled=top.take("proxy_disabled", bool, False),
        proxy_disabled_at=top.take_time("proxy_disabled_at"),
        proxy_disabled_reason=top.take("proxy_disabled_reason", str, None),
        proxy_disabled_until=top.take_time("proxy_disabled_until"),
        cooldowns=_cooldowns(top.take("cooldowns", list, [])),
        token=_token(top.take("token", dict, {})),
        client=_client(top.take("client", dict, None)),
        pending_refresh=_pending_refresh(top.take("pending_refresh", dict, None)),
        extra=top.rest(),
    )


def _token(document: Document) -> Token:
    table = _Table(document, "token")
    return Token(
        access_token=table.take("access_token", str, None) or None,
        refresh_token=table.take("refresh_token", str, None) or None,
        token_type=table.take("token_type", str, "Bearer"),
        expires_at=table.take_time("expires_at"),
        scope=table.take("scope", str, None),
        extra=table.rest(),
    )


def _client(document: Document | None) -> OAuthClient | None:
    if document is None:
        return None
    table = _Table(document, "client")
    return OAuthClient(
        client_id=table.take("client_id", str),
        client_secret=table.take("client_secret", str, None),
        extra=table.rest(),
    )


def _pending_refresh(document: Document | None) -> PendingRefresh | None:
    if document is None:
        return None
    table = _Table(document, "pending_refresh")
    return PendingRefresh(
        fingerprint=table.take("fingerprint", str),
        started_at=table.take_time("started_at", 0),
        rejected_at=table.take_time("rejected_at"),
        client=table.take("client", str, None),
        unanswered=table.take("unanswered", bool, False),
        extra=table.rest(),
    )


def _pending_refresh_table(pending: PendingRefresh | None) -> Document | None:
    if pending is None:
        return None
    return _without_none(
        {
            "fingerprint": pending.fingerprint,
            "started_at": pending.started_at,
            "rejected_at": pending.rejected_at,
            "client": pending.client,
            "unanswered": pending.unanswered or None,
            **pending.extra,
        }
    )


def _cooldowns(documents: list[Any]) -> tuple[Cooldown, ...]:
    tables = [_Table(document, "cooldowns") for document in documents]
    return tuple(
        Cooldown(
            until=table.take_time("until", 0),
            reason=table.take("reason", str, ""),
            key=table.take("key", str, ""),
            extra=table.rest(),
        )
        for table in tables
    )


def _cooldown_table(cooldown: Cooldown) -> Document:
    table: Document = {"until": cooldown.until, "reason": cooldown.reason}
    return table | ({"key": cooldown.key} if cooldown.key else {}) | dict(cooldown.extra)


def _client_table(client: OAuthClient) -> Document:
    return _without_none({"client_id": client.client_id, "client_secret": client.client_secret, **client.extra})


def document_from_account(account: Account) -> Document:
    """Write an account as the TOML document of its file: known keys first, tables last, `None` left out."""
    scalars = {k: v for k, v in account.extra.items() if not isinstance(v, dict)}
    tables = {k: v for k, v in account.extra.items() if isinstance(v, dict)}
    token = account.token
    return _without_none(
        {
            "version": VERSION,
            "name": account.name,
            "generation": account.generation,
            "subject": account.subject,
            "created_at": account.created_at,
            "disabled": account.disabled,
            "disabled_at": account.disabled_at,
            "disabled_reason": account.disabled_reason,
            "proxy_disabled": account.proxy_disabled,
            "proxy_disabled_at": account.proxy_disabled_at,
            "proxy_disabled_reason": account.proxy_disabled_reason,
            "proxy_disabled_until": account.proxy_disabled_until,
            **scalars,
            "token": _without_none(
                {
                    "access_token": token.access_token,
                    "refresh_token": token.refresh_token,
                    "token_type": token.token_type,
                    "expires_at": token.expires_at,
                    "scope": token.scope,
                    **token.extra,
                }
            ),
            "client": None if account.client is None else _client_table(account.client),
            "pending_refresh": None
            if account.pending_refresh is None
            else _pending_refresh_table(account.pending_refresh),
            "cooldowns": [_cooldown_table(cooldown) for cooldown in account.cooldowns] or None,
            **tables,
        }
    )


def _without_none(table: Document) -> Document:
    return {key: value for key, value in table.items() if value is not None}
