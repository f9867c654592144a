"""How adding an account ended, and what of it is told to the operator."""

from dataclasses import dataclass

from authpool.accounts.account import Account
from authpool.errors import RefusedError
from authpool.pool.report import timestamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """The account as it is stored now, and as it was before, where it was there."""

    before: Account | None
    account: Account

    @property
    def changed(self) -> bool:
        return self.account is not self.before

    def told(self) -> str:
        """Tell it to the operator. Raises RefusedError where nothing came of it."""
        return _sentence(self.before, self.account) if self.changed else _unchanged(self.account)


def _unchanged(stored: Account) -> str:
    if stored.disabled:
        reason = stored.disabled_reason or "no reason given"
        raise RefusedError(f"{stored.address} stays disabled ({reason}): this is the same secret as before")
    return f"{stored.address} has this secret already{paused_note(stored)}"


def _sentence(before: Account | None, stored: Account) -> str:
    if before is None:
        return f"Added {stored.address}{paused_note(stored)}"
    note = ""
    if before.disabled and not stored.disabled:
        note = f"; it was disabled ({before.disabled_reason or 'no reason given'}) and is enabled again"
    elif stored.disabled:
        note = f"; it stays disabled ({stored.disabled_reason}): `authpool enable {stored.address}`"
    return f"Re-added {stored.address} with a new credential{note}{paused_note(stored)}"


def paused_note(account: Account) -> str:
    """What to add to a sentence when the operator's own switch still holds the account back."""
    if not account.proxy_disabled:
        return ""
    since = f" since {timestamp(account.proxy_disabled_at)}" if account.proxy_disabled_at is not None else ""
    reason = f" ({account.proxy_disabled_reason})" if account.proxy_disabled_reason else ""
    return f"; it is still paused{since}{reason} and serves nothing until: authpool resume {account.address}"
