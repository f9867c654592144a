"""What the refresh protocol writes: the intent, the new pair, the verdict; and what it does when the store refuses."""

import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Literal

from authpool.account import Account, AccountKey, PendingRefresh, fingerprint
from authpool.clock import Clock
from authpool.errors import AuthpoolError, BrokenAccountError, StoreError
from authpool.events import AccountEvent, Notify
from authpool.refresh.late_writer import LateWriter
from authpool.refresh.lineage import Lineage
from authpool.refresh.outcome import Dead, Outcome, Ready
from authpool.refresh.succession import SupersededError, if_still, succeed
from authpool.refresh.verdict import Granted
from authpool.store import Change, Store

logger = logging.getLogger(__name__)

REMOVAL_SECONDS = 0.5
ROTATION_LOST = "rotation_lost:"
"""So begins the reason of an account whose new refresh token never reached us."""


class Ledger:
    """Writes for one refresher. Every method is called under the account's lock."""

    def __init__(self, store: Store, late: LateWriter, lineage: Lineage, clock: Clock, notify: Notify) -> None:
        self._store = store
        self._late = late
        self._lineage = lineage
        self._intents: dict[AccountKey, str] = {}
        self._lost: dict[AccountKey, str] = {}
        """Which refresh token of an account may have been spent, should an editor take the intent out of the file."""
        self._clock = clock
        self._notify = notify

    async def read(self, key: AccountKey) -> Account:
        """Read an account; where an editor brought a spent refresh token back, put its successor there first.

        Raises StoreError.
        """
        account = await self._store.read(key)
        self._note_lost(account)
        heal = self._lineage.heal(account)
        if heal is None:
            self._lineage.seen(account)
            return account
        stored = await self._store.update(key, if_still(account, heal))
        logger.warning("The record of %s held a spent refresh token again; its successor is put back", account.address)
        return stored or account

    async def intend(self, account: Account) -> tuple[bool, Account]:
        """Record durably that the refresh token is about to be spent.

        Returns whether an earlier refresh of the same token was cut off, and the account as it is stored now.
        """
        refresh_token = account.token.refresh_token
        if refresh_token is None:
            return False, account
        mark = PendingRefresh(fingerprint=fingerprint(refresh_token), started_at=int(self._clock.time()))
        cut_off = mark.fingerprint in {self._intents.get(account.key), self._lost.get(account.key)}
        left_over = account.pending_refresh
        if left_over is not None and left_over.fingerprint == mark.fingerprint:
            self._intents[account.key] = mark.fingerprint  # an editor may take it out of the file yet
            return True, account  # keep the older time: the token may have been spent from then on
        stored = await self._store.update(
            account.key, if_still(account, lambda current: replace(current, pending_refresh=mark))
        )
        self._intents[account.key] = mark.fingerprint
        return cut_off, stored or account

    async def withdraw(self, account: Account) -> None:
        """The answer came and spent nothing: take the intent back, if it still stands."""
        self._intents.pop(account.key, None)
        try:
            await self._store.update(
                account.key,
                if_still(
                    account,
                    lambda now: now if now.pending_refresh is None else replace(now, pending_refresh=None),
                ),
            )
        except StoreError as error:
            logger.warning("The refresh intent of %s stays: %s", account.address, error)

    async def keep(self, account: Account, granted: Granted, asked_at: float, held: AsyncExitStack) -> Outcome:
        """Write the new pair, and only then let it be used."""
        self._intents.pop(account.key, None)
        change = succeed(account, granted, asked_at, stale=lambda current: self._lineage.heal(current) is not None)
        rotated = granted.refresh_token not in {None, account.token.refresh_token}
        kind: Literal["rotated", "refreshed"] = "rotated" if rotated else "refreshed"
        try:
            stored = await self._replace(account.key, change)
        except SupersededError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the new pair is nowhere else
            logger.error(
                "The new token of %s can't be written: %s. It is kept in memory and tried again; "
                "make room before this gateway stops, or the account is lost",
                account.address,
                _told(error),
            )
            stored = change(account)
            assert stored is not None  # noqa: S101 - the change never removes
            self._late.write_later(stored, change, held)
        assert stored is not None  # noqa: S101 - likewise
        if rotated and account.token.refresh_token is not None:
            self._lineage.rotated(account, stored)
        spent = fingerprint(account.token.refresh_token) if rotated and account.token.refresh_token else None
        self._notify(AccountEvent(kind=kind, account=stored, replaced=spent))
        return Ready(account=stored, posted=True)

    async def _replace(self, key: AccountKey, change: Change) -> Account | None:
        try:
            return await self._store.update(key, change)
        except SupersededError as superseded:
            if superseded.current is not None:
                raise
        # An editor that saves by renaming leaves a moment without a file: a removal is believed the second time.
        await self._clock.sleep(REMOVAL_SECONDS)
        return await self._store.update(key, change)

    async def condemn(self, account: Account, reason: str, held: AsyncExitStack, *, lost: bool) -> Outcome:
        """Write that the grant is dead; `lost` when an answer to this refresh token had never arrived."""
        now = self._clock.time()
        if lost:
            reason = f"{ROTATION_LOST} an answer of the token endpoint never reached us, then {reason}"
        change = if_still(account, lambda current: current.with_disabled(reason, now))
        written = True
        try:
            stored = await self._store.update(account.key, change)
        except (SupersededError, BrokenAccountError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was, the verdict stands
            logger.error(
                "Disabling %s can't be written: %s. It leaves the pool all the same", account.address, _told(error)
            )
            stored = account.with_disabled(reason, now)
            written = False
            self._late.write_later(stored, change, held)
        assert stored is not None  # noqa: S101 - the change never removes
        self._note_lost(stored)
        logger.warning(
            "Disabling account %s due to %s: refresh token likely revoked or expired",
            account.address,
            "invalid_grant" if "invalid_grant" in reason else reason.partition(":")[0],
        )
        if lost:
            logger.error(
                "The gateway, not the user, lost the refresh token of %s: an answer of the token endpoint never "
                "arrived. Re-add the account",
                account.address,
            )
        self._notify(AccountEvent(kind="disabled", account=stored, reason=stored.disabled_reason or ""))
        return Dead(account=stored, stored=written)

    def _note_lost(self, account: Account) -> None:
        """A refresh token that a gateway lost stays lost, also when an editor takes that out of the file."""
        if (account.disabled_reason or "").startswith(ROTATION_LOST) and account.token.refresh_token is not None:
            self._lost[account.key] = fingerprint(account.token.refresh_token)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, AuthpoolError) else type(error).__name__
