"""Accounts by the refresh token they hold: where two hold one, a refresh of one would spend the other's."""

import asyncio
from collections.abc import Collection, Iterable
from typing import Self

from authpool.accounts.account import Account, AccountKey, BrokenAccount
from authpool.store import Record

AT_ONCE = 500
"""After so many records others may go on: there may be a hundred thousand."""


class Holders:
    """Accounts by key, and by the refresh token they hold."""

    def __init__(self) -> None:
        self._accounts: dict[AccountKey, Account] = {}
        self._by_token: dict[str, list[AccountKey]] = {}

    @classmethod
    async def of(cls, records: Iterable[Record]) -> Self:
        """Index records, and let others go on now and then: there may be a hundred thousand."""
        holders = cls()
        for number, record in enumerate(records):
            holders.put(record.key, record)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)
        return holders

    def all(self) -> list[Account]:
        return list(self._accounts.values())

    def get(self, key: AccountKey) -> Account | None:
        return self._accounts.get(key)

    def holders(self, account: Account) -> list[AccountKey]:
        return self._by_token.get(account.token.refresh_token or "", [])

    def of_token(self, refresh_token: str) -> list[Account]:
        return [self._accounts[key] for key in self._by_token.get(refresh_token, [])]

    def put(self, key: AccountKey, record: Record | None) -> set[AccountKey]:
        """Take in an account, or that it is gone; answers who holds the token it had, or the one it has.

        One that can't be read, half-way through an editor's saving, is what it was.
        """
        if isinstance(record, BrokenAccount):
            return set()
        before = self._accounts.pop(key, None)
        affected: set[AccountKey] = set()
        if before is not None and before.token.refresh_token:
            sharing = self._by_token[before.token.refresh_token]
            sharing.remove(key)
            affected.update(sharing)
            if not sharing:
                del self._by_token[before.token.refresh_token]
        if record is not None:
            self._accounts[key] = record
            if record.token.refresh_token:
                sharing = self._by_token.setdefault(record.token.refresh_token, [])
                affected.update(sharing)
                sharing.append(key)
        return affected


def first_of(accounts: Collection[Account], owner: AccountKey | None) -> Account:
    """Whose credential it is: of the one that had it last by the trail, else of the oldest, else by address."""
    by_trail = next((account for account in accounts if account.key == owner), None)
    return by_trail or min(accounts, key=lambda account: (account.created_at, str(account.key)))
