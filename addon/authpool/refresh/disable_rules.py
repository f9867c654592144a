"""What is decided when a credential is refused: whose fault it is, and whether the account is disabled.

`ClientWatch` (beside this) tells a dead client from dead accounts, `DisableRules` decides.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress

from authpool.accounts.account import Account, AccountKey, fingerprint
from authpool.accounts.printable import clip_reason
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.errors import HoldLostError, StoreError
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.grant_request import client_name, source_name
from authpool.refresh.client_watch import WAY_OUT, ClientWatch
from authpool.refresh.held_account import HeldAccount
from authpool.refresh.ledger import Ledger
from authpool.refresh.outcome import Dead, Misconfigured, Outcome, Unavailable
from authpool.refresh.pool_trouble import Troubles
from authpool.store import Hold
from authpool.store.client_record import Rejection

logger = logging.getLogger(__name__)

type Everyone = Callable[[], Awaitable[Collection[Account]]]
"""Reads every account of the configured pools, as the store has them at that moment."""


class DisableRules:
    """Applies the disable rules, for one refresher. `client` names who asked, as `GrantRequest.client` does."""

    def __init__(
        self,
        ledger: Ledger,
        clients: ClientWatch,
        everyone: Everyone,
        pools: Callable[[], Mapping[str, PoolConfig]],
        resolver: EndpointResolver,
        clock: Clock,
        troubles: Troubles,
    ) -> None:
        self._troubles = troubles
        self._ledger = ledger
        self._clients = clients
        self._everyone = everyone
        self._pools = pools
        self._resolver = resolver
        self._clock = clock

    async def condemn(
        self,
        held: HeldAccount,
        account: Account,
        pool: PoolConfig,
        client: str,
        reason: str,
        *,
        confirmed: bool,
        lost: bool,
    ) -> Outcome:
        """Disable the account, when all the disable rules hold; a storm is judged before anything else.

        `confirmed`: it is not the first time, or needs no second. `lost`: an answer to the refresh token never
        arrived. Unless the outcome is Unavailable, what it means for the account is written. Raises SupersededError,
        and HoldLostError: who holds the account by then decides.
        """
        if account.disabled:  # it was asked by force, and is as dead as before
            return Dead(account=account)
        if held.hold.lost:
            raise HoldLostError(f"{account.address} is not held any more")
        self._clients.note_rejected(client, account.key)
        credential = account.token.refresh_token or account.token.access_token or ""
        now = self._clock.time()
        rejection = Rejection(account=account.key, fingerprint=fingerprint(credential), at=int(now))
        try:
            disabled = await self._disabled(client)
            judge = self._clients.rejected if confirmed else self._clients.storms
            storm = await judge(client, rejection, disabled)
        except StoreError as error:  # who can't be counted must not be disabled: it may be one too many
            return Unavailable(detail=str(error), cause="store")
        if storm:
            return await self._spare(held.hold, account, pool, client, reason, lost=lost)
        if not confirmed:
            return await self._ledger.reject(held.hold, account, client, lost=lost)
        return await self._ledger.condemn(held, account, reason, lost=lost)

    def reject_client(self, account: Account, pool: PoolConfig, client: str, code: str, detail: str) -> Outcome:
        """The client was refused: its own fault, unless it was accepted for another account a moment ago.

        Of a client that has not been asked for another one yet nobody can tell: but for `invalid_client`, which is
        never an account's, one other is asked before the rest are held back.
        """
        if self._clients.accepted_for_others(client, account.key):
            return Unavailable(detail=clip_reason(detail), cause="account")
        return self.fault(pool, client, detail, witness=None if code == "invalid_client" else account.key)

    async def spare(self, hold: Hold, account: Account) -> None:
        """The client is at fault: an account that waited to be confirmed does so no more. Raises SupersededError."""
        pending = account.pending()
        await self._ledger.spare(hold, account, lost=pending is not None and pending.unanswered)

    async def _spare(
        self, hold: Hold, account: Account, pool: PoolConfig, client: str, reason: str, *, lost: bool
    ) -> Outcome:
        detail = clip_reason(
            f"several accounts of one client are rejected at once ({reason}): suspect the client; "
            "no further account is disabled until one of them is accepted"
        )
        with suppress(StoreError):  # then other processes find out by themselves
            await self._clients.meet_storm(client, pool.name, detail)
        await self._ledger.spare(hold, account, lost=lost)
        return self.fault(pool, client, detail, storm=True)

    async def _disabled(self, client: str) -> list[Account]:
        """The accounts of a client that are disabled, as far as the store can tell."""
        accounts: Collection[Account] = ()
        with suppress(StoreError):  # the client's own record counts all the same
            accounts = await self._everyone()
        return [account for account in accounts if account.disabled and self._client_of(account) == client]

    def _client_of(self, account: Account) -> str | None:
        pool = self._pools().get(account.pool)
        if pool is None:
            return None
        url = self._resolver.known_token_url(pool)
        return source_name(pool) if url is None else client_name(url, pool, account)

    def followed(self, before: Account, after: Account) -> None:
        """The store has `after` where it had `before`: a token that another process was granted clears its client."""
        new_token = after.token.access_token not in {None, before.token.access_token}
        client = self._client_of(after)
        if client is None or not new_token or after.disabled or after.generation <= before.generation:
            return
        if self._clients.heard(client, after.key) is not None:
            logger.warning("Pool %s: the token endpoint accepts the client again", after.pool)

    def fault(
        self,
        pool: PoolConfig,
        client: str,
        detail: str,
        *,
        storm: bool = False,
        witness: AccountKey | None = None,
    ) -> Misconfigured:
        """No account is to blame: hold back the client for a while."""
        detail = clip_reason(detail)
        if self._clients.blame(client, pool.name, detail, storm=storm, witness=witness):
            logger.error("Pool %s: %s; %s", pool.name, detail, WAY_OUT)
        self._troubles.client_rejected(pool.name, client, detail)
        return Misconfigured(detail=detail)
