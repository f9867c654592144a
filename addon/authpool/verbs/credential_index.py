"""Whose each refresh token is, looked up in no time: for many of them, or for one."""

from collections.abc import Iterable

from authpool.accounts.account import Account, AccountKey, fingerprint
from authpool.store import Record
from authpool.verbs.replacement import ADDED_FROM


class CredentialIndex:
    """Accounts by key, by the refresh token they hold, and by what was exchanged for it when they were added."""

    def __init__(self, accounts: Iterable[Account] = ()) -> None:
        self._accounts: dict[AccountKey, Account] = {}
        self._by_token: dict[str, list[AccountKey]] = {}
        self._by_origin: dict[str, list[AccountKey]] = {}
        for account in accounts:
            self.put(account.key, account)

    def all(self) -> list[Account]:
        return list(self._accounts.values())

    def get(self, key: AccountKey) -> Account | None:
        return self._accounts.get(key)

    def holding(self, refresh_token: str) -> list[Account]:
        """The accounts whose record holds this refresh token."""
        return [self._accounts[key] for key in self._by_token.get(refresh_token, ())]

    def living_on(self, refresh_token: str) -> list[Account]:
        """The accounts, but those that are disabled, that were added with this refresh token, since exchanged."""
        found = [self._accounts[key] for key in self._by_origin.get(fingerprint(refresh_token), ())]
        return [account for account in found if not account.disabled]

    def put(self, key: AccountKey, record: Record | None) -> None:
        """Take in an account as it is now; one that can't be read, or is gone, holds nothing."""
        before = self._accounts.pop(key, None)
        if before is not None:
            for table, one in self._entries(before):
                table[one].remove(key)
        if isinstance(record, Account):
            self._accounts[key] = record
            for table, one in self._entries(record):
                table.setdefault(one, []).append(key)

    def _entries(self, account: Account) -> list[tuple[dict[str, list[AccountKey]], str]]:
        token = account.token.refresh_token
        origins = str(account.extra.get(ADDED_FROM, "")).split()
        held = [(self._by_token, token)] if token is not None else []
        return [*held, *((self._by_origin, mark) for mark in dict.fromkeys(origins))]
