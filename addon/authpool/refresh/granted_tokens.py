"""Writing what a token endpoint granted: before anybody uses it, and whatever became of the record meanwhile."""

import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from authpool.accounts.account import Account, fingerprint
from authpool.accounts.events import AccountEvent, Notify
from authpool.errors import StoreError, told
from authpool.oauth.verdict import Granted, PartlyGranted
from authpool.refresh.conditional_change import SupersededError, succeed, token_from_grant
from authpool.refresh.credential_rules import RESTORED
from authpool.refresh.held_account import HeldAccount
from authpool.refresh.outcome import Outcome, Ready, Unavailable
from authpool.refresh.pending_writes import PendingWrites
from authpool.refresh.replaced_tokens import ReplacedTokens
from authpool.store import Change

logger = logging.getLogger(__name__)

NOT_KEPT = "not kept: the account was removed, or signed in anew, while the token endpoint was asked"


class GrantedTokens:
    """Writes granted tokens for one refresher; what the store does not take is written later."""

    def __init__(
        self,
        late: PendingWrites,
        replaced_tokens: ReplacedTokens,
        notify: Notify,
        is_spent: Callable[[Account], Awaitable[bool]] | None = None,
    ) -> None:
        """`is_spent`: that an account itself exchanged what its record holds."""
        self._pending_writes = late
        self._replaced_tokens = replaced_tokens
        self._notify = notify
        self._is_spent = is_spent

    async def keep(
        self, held: HeldAccount, account: Account, granted: Granted | PartlyGranted, asked_at: float
    ) -> Outcome:
        """Write the new pair, or the new refresh token where that came alone, and only then let it be used.

        Also when the hold was lost meanwhile: what arrived is never thrown away.
        """
        rotated = granted.refresh_token not in {None, account.token.refresh_token}
        kind: Literal["rotated", "refreshed"] = "rotated" if rotated else "refreshed"
        spent = fingerprint(account.token.refresh_token) if rotated and account.token.refresh_token else None
        try:
            stored = await self._put_granted(held, account, granted, asked_at)
        except SupersededError:
            if spent is not None:  # a backup may bring it back
                given = account.with_token(token_from_grant(account.token, granted, asked_at))
                self._notify(AccountEvent(kind=kind, account=given, reason=NOT_KEPT, replaced=spent))
            raise
        if rotated and account.token.refresh_token is not None:
            self._replaced_tokens.rotated(account, stored)
        self._notify(AccountEvent(kind=kind, account=stored, replaced=spent))
        if isinstance(granted, PartlyGranted):
            return Unavailable(detail=granted.detail, account=stored)
        return Ready(account=stored, posted=True)

    async def _put_granted(
        self, held: HeldAccount, account: Account, granted: Granted | PartlyGranted, asked_at: float
    ) -> Account:
        """Put what was granted in the place of what was presented, or of an old copy that is there by now."""
        change = succeed(
            account, granted, asked_at, stale=lambda current: self._replaced_tokens.heal(current) is not None
        )
        try:
            return await self._write_granted(held, account, change)
        except SupersededError as superseded:
            if not await self._holds_what_is_spent(superseded.current):
                raise
            change = _in_the_place_of(superseded.current, account, granted, asked_at)
        return await self._write_granted(held, account, change)

    async def _write_granted(self, held: HeldAccount, account: Account, change: Change) -> Account:
        """Write it now, or as soon as the store takes it. Raises SupersededError."""
        try:
            stored = await held.hold.keep_granted(change)
        except SupersededError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the new pair is nowhere else
            logger.error(
                "The new token of %s can't be written: %s. It is kept in memory and tried again; "
                "make room before this gateway stops, or the account is lost",
                account.address,
                told(error),
            )
            stored = change(account)
            assert stored is not None  # noqa: S101 - the change never removes
            self._pending_writes.write_later(stored, change, held, granted=True)
        assert stored is not None  # noqa: S101 - likewise
        return stored

    async def _holds_what_is_spent(self, current: Account | None) -> bool:
        """Whether an old copy of the record was put back meanwhile, and no newer credential."""
        if current is None or self._is_spent is None:
            return False
        try:
            return await self._is_spent(current)
        except StoreError:
            return False


def _in_the_place_of(
    current: Account | None, presented: Account, granted: Granted | PartlyGranted, asked_at: float
) -> Change:
    """Put the granted token in the place of the one that `current` holds, which is spent, and of no other."""
    held = None if current is None else current.token.refresh_token
    put = succeed(presented, granted, asked_at, stale=lambda now: now.token.refresh_token == held)

    def change(now: Account | None) -> Account | None:
        renewed = put(now)
        held_back = renewed is not None and (renewed.disabled_reason or "").startswith(RESTORED)
        return renewed.with_enabled() if renewed is not None and held_back else renewed

    return change
