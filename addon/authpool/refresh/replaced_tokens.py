"""Which refresh tokens of an account were replaced, as far as this process knows, and by what.

An editor that loaded an account's file before a rotation and saves after it brings a spent token back. Presenting
that would end the grant, so it is told from a credential that somebody means.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from authpool.accounts.account import Account, AccountKey, fingerprint

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
        disabled=newest.disabled,
        disabled_at=newest.disabled_at,
        disabled_reason=newest.disabled_reason,
        pending_refresh=None,
    )
