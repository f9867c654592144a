"""Which refresh tokens of an account were replaced, as far as this process knows, and by what.

An editor that loaded an account's file before a rotation and saves after it brings a spent token back. Presenting
that would end the grant, so it is told from a credential that somebody means, and its successor is put back.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from authpool.accounts.account import Account, AccountKey, fingerprint
from authpool.errors import AuthpoolError
from authpool.store import Record
from authpool.supervision import tell_if_it_dies

KEPT = 8
"""So many replaced tokens of an account are known: nobody's editor stays open for longer than that."""


@dataclass(slots=True, kw_only=True)
class _Line:
    newest: Account
    replaced: dict[str, int | None] = field(default_factory=dict)
    """By fingerprint: the generation the token had, so that one put back by hand counts; None: it was spent here."""


class ReplacedTokens:
    """The lines of all accounts of one process."""

    def __init__(self) -> None:
        self._lines: dict[AccountKey, _Line] = {}
        self._seen: dict[AccountKey, Account] = {}

    def seen(self, account: Account) -> None:
        """The account was read: what it was when it was read before, another process or a person replaced."""
        before = self._seen.get(account.key)
        self._seen[account.key] = account
        if before is not None:
            self.followed(before, account)

    def rotated(self, spent: Account, stored: Account) -> None:
        """The token endpoint took one refresh token and gave another."""
        self._replace(spent, stored, generation=None)
        self._seen[stored.key] = stored

    def followed(self, before: Account, after: Account) -> None:
        """The store has another record of the account than before, by anybody's hand."""
        if self.heal(after) is not None:
            return
        self._seen[after.key] = after
        if after.generation > before.generation and after.token.refresh_token != before.token.refresh_token:
            self._replace(before, after, generation=before.generation)
        elif after.key in self._lines:
            self._lines[after.key].newest = after

    def forget(self, key: AccountKey) -> None:
        """The account was removed."""
        self._lines.pop(key, None)
        self._seen.pop(key, None)

    def heal(self, account: Account) -> Callable[[Account], Account] | None:
        """How to put the newest credential back in the place of a replaced one; None when the account has no such."""
        line = self._lines.get(account.key)
        refresh_token = account.token.refresh_token
        if line is None or refresh_token is None:
            return None
        generation = line.replaced.get(fingerprint(refresh_token), -1)
        if generation is not None and account.generation > generation:
            return None
        return lambda current: _healed(current, line.newest)

    def _replace(self, before: Account, after: Account, generation: int | None) -> None:
        if before.token.refresh_token is None or after.token.refresh_token is None:
            return
        line = self._lines.setdefault(after.key, _Line(newest=after))
        line.newest = after
        mark = fingerprint(before.token.refresh_token)
        line.replaced[mark] = None if mark in line.replaced and line.replaced[mark] is None else generation
        line.replaced.pop(fingerprint(after.token.refresh_token), None)
        while len(line.replaced) > KEPT:
            del line.replaced[next(iter(line.replaced))]


def _healed(current: Account, newest: Account) -> Account:
    """The newest credential and what is known of it, in a record whose other keys are somebody's edit."""
    return replace(
        current,
        token=replace(newest.token, extra=current.token.extra),
        generation=max(current.generation, newest.generation) + 1,
        replaced=newest.replaced,
        replaced_at=newest.replaced_at,
        disabled=newest.disabled,
        disabled_at=newest.disabled_at,
        disabled_reason=newest.disabled_reason,
        pending_refresh=None,
    )


class Restoring(Protocol):
    """What a refresher does for its `TokenRestorer`."""

    def loaded(self, account: Account) -> None:
        """This process knows of the account from now on."""

    def followed(self, before: Account, after: Account) -> bool:
        """The store has another record of an account; True when it holds a spent refresh token again: `heal` it."""

    def removed(self, key: AccountKey) -> None:
        """The account is gone: what comes under its name next is another one."""

    def unwritten(self, key: AccountKey) -> Account | None:
        """The account as the store would have it, had it taken it."""

    async def heal(self, key: AccountKey) -> None:
        """Put the newest credential back. Raises StoreError."""


class TokenRestorer:
    """Lets a refresher learn from what somebody did to the accounts."""

    def __init__(self, refresher: Restoring) -> None:
        self._refresher = refresher
        self._tasks: set[asyncio.Task[None]] = set()

    def compare(self, former: Record | None, record: Record) -> None:
        """The store has `record` where it had `former`; where that brought a spent token back, put its successor in."""
        if not isinstance(record, Account) or former == record:
            return
        if not isinstance(former, Account):
            self._refresher.loaded(record)
        elif self._refresher.followed(former, record):
            task = asyncio.create_task(self._heal(record.key), name=f"heal {record.address}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            tell_if_it_dies(task)

    def removed(self, key: AccountKey) -> None:
        """The account is gone: what comes under its name next is another one."""
        self._refresher.removed(key)

    def ahead(self, record: Record) -> Record:
        """What the store would say, where it has not taken the newest credential yet."""
        unwritten = self._refresher.unwritten(record.key)
        if unwritten is None or not isinstance(record, Account) or record.generation >= unwritten.generation:
            return record
        return replace(
            record,
            token=unwritten.token,
            generation=unwritten.generation,
            replaced=unwritten.replaced,
            replaced_at=unwritten.replaced_at,
            pending_refresh=None,
        )

    def compare_all(self, former: Mapping[AccountKey, Record], records: Mapping[AccountKey, Record]) -> None:
        """The same for a whole store."""
        for key, record in records.items():
            self.compare(former.get(key), record)

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _heal(self, key: AccountKey) -> None:
        with contextlib.suppress(AuthpoolError):  # then the next refresh does it, before anything else
            await self._refresher.heal(key)
