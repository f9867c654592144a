"""The verb `export`: all accounts of a pool as a list that `import` reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from authpool.accounts.account import Account
from authpool.config import PoolConfig
from authpool.errors import RefusedError
from authpool.gateway.service import Service
from authpool.store.audit import exported_entry
from authpool.verbs.account_writing import LABEL, ORDER
from authpool.verbs.holdings import Holdings


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A JSON list in plain, of how many accounts, and which of the pool could not be read."""

    text: str = field(repr=False)
    accounts: int
    unreadable: list[str]


class Exporting:
    """Reads the accounts of one home, sealed ones with the configured key."""

    def __init__(self, service: Service, holdings: Holdings) -> None:
        self._service = service
        self._holdings = holdings

    async def export(self, pool_name: str, how: str) -> Exported:
        """List the accounts of a pool; the audit trail says so, and `how`. Raises RefusedError, StoreError."""
        pool = self._holdings.pool(pool_name)
        await self._holdings.require_open()
        records = await self._service.store.load([pool.name])
        accounts = [record for record in records.values() if isinstance(record, Account)]
        unreadable = sorted(record.address for record in records.values() if not isinstance(record, Account))
        if not accounts:
            raise RefusedError(f"there is nothing to export: pool {pool.name} has no account that can be read")
        documents = [_document(account, pool) for account in sorted(accounts, key=_place)]
        # An item a line: a list that can be looked through, and told apart line by line.
        text = "[\n" + ",\n".join(json.dumps(document) for document in documents) + "\n]\n"
        told = f"{len(accounts)} account{'' if len(accounts) == 1 else 's'}, {how}"
        trail = self._service.trail
        trail.note(exported_entry(pool.name, reason=told, now=self._service.clock.time(), process=trail.process))
        return Exported(text=text, accounts=len(accounts), unreadable=unreadable)


def _place(account: Account) -> tuple[bool, int, int, str]:
    order = account.extra.get(ORDER)
    numbered = type(order) is int
    return not numbered, order if isinstance(order, int) else 0, account.created_at, account.key.name


def _document(account: Account, pool: PoolConfig) -> Mapping[str, Any]:
    """What `import` needs to make the same account of it. An access token is a secret only where it is all there is."""
    client, token = account.client, account.token
    label, order = account.extra.get(LABEL), account.extra.get(ORDER)
    document = {
        "name": account.name,
        "refresh_token": token.refresh_token,
        "access_token": token.access_token if pool.type == "static" else None,
        "client_id": None if client is None else client.client_id,
        "client_secret": None if client is None else client.client_secret,
        "subject": account.subject,
        "created_at": account.created_at or None,
        "custom_label": label if isinstance(label, str) else None,
        "order": order if isinstance(order, int) else None,
        "disabled": account.disabled or None,
        "disabled_at": account.disabled_at,
        "disabled_reason": account.disabled_reason,
        "proxy_disabled": account.proxy_disabled or None,
        "proxy_disabled_at": account.proxy_disabled_at,
        "proxy_disabled_reason": account.proxy_disabled_reason,
    }
    return {key: value for key, value in document.items() if value is not None}
