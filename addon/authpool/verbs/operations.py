"""The verbs of the contract, the same for mitmproxy's prompt, mitmweb's command bar and the command line."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from authpool.accounts.account import Account, fingerprint
from authpool.accounts.events import AccountEvent
from authpool.errors import RefusedError
from authpool.gateway.service import Service
from authpool.pool.report import timestamp
from authpool.store import ForcesReloads, SealsSecrets
from authpool.verbs.account_rows import AccountRow, account_row, in_order, unconfigured_row
from authpool.verbs.added import paused_note
from authpool.verbs.adding import Adding
from authpool.verbs.exporting import Exporting
from authpool.verbs.gateway_clients import GatewayClientVerbs
from authpool.verbs.holdings import PATIENCE_SECONDS, Holdings
from authpool.verbs.importing import Importing
from authpool.verbs.moving import Moving
from authpool.verbs.person import TIMEOUT_SECONDS, Person
from authpool.verbs.removing import Removing
from authpool.verbs.rescued_tokens import RescuedTokens
from authpool.verbs.reviving import Reviving
from authpool.verbs.sealing import Sealing
from authpool.verbs.several import matching
from authpool.verbs.signing_in import SigningIn
from authpool.verbs.sources import Credential


class Operations:
    """What an operator can do to accounts, with a gateway running in this process or without.

    Each verb but `accounts` answers with a sentence for the operator. They raise RefusedError (understood, and
    refused: the message says why and what to do), StoreError, ConfigurationError and DiscoveryError.
    """

    def __init__(self, service: Service, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """`patience_seconds`: how long a verb waits for an account that another process holds."""
        self._service = service
        self._holdings = Holdings(service, patience_seconds=patience_seconds)
        seals = service.store if isinstance(service.store, SealsSecrets) else None
        unclaimed = RescuedTokens(service.home, run=service.run, seals=seals)
        self._reviving = Reviving(service, self._holdings, unclaimed)
        self._adding = Adding(service, self._holdings, self._reviving, unclaimed)
        self._signing_in = SigningIn(service, self._holdings, unclaimed)
        self._moving = Moving(service, self._holdings)
        self._removing = Removing(service, self._holdings, unclaimed)
        self.exporting = Exporting(service, self._holdings)
        self.importing = Importing(service, self._holdings, self._adding, unclaimed)
        self.sealing = Sealing(service, unclaimed)
        self.clients = GatewayClientVerbs(service)

    async def add(self, pool: str, credential: Credential, name: str | None = None) -> str:
        """Add an account, or give the one of that name a new credential, once it was proved to work."""
        return await self._adding.add(pool, credential, name or None)

    async def login(
        self,
        pool: str,
        name: str | None,
        person: Person,
        *,
        device: bool = False,
        port: int | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> str:
        """Add an account, or take one back, by its owner signing in; `port` is the one the sign-in comes back to.

        `device`: on another device, also where a browser could be started here.
        """
        return await self._signing_in.sign_in(
            pool, name or None, person, device=device, port=port, timeout_seconds=timeout_seconds
        )

    def pools(self) -> list[str]:
        """The configured pools, by name."""
        return sorted(self._service.snapshot.config.pools)

    def require_secrets(self) -> None:
        """Look up every pool's client secret, as a gateway does at its start. Raises ConfigurationError."""
        for pool in self._service.snapshot.config.pools.values():
            self._holdings.require_secret(pool)

    async def accounts(self) -> list[AccountRow]:
        """Every account, by pool and name; those of pools that are not configured as well."""
        now = self._service.clock.time()
        members = await self._holdings.members(self._service.snapshot.config.pools.keys())
        await self._service.refresher.recall()
        refresher, live = self._service.refresher, self._holdings.live
        rows = [account_row(member, refresher, now, live=live) for member in members]
        return in_order([*rows, *(unconfigured_row(member, now) for member in await self._holdings.unconfigured())])

    async def names(self, pool: str) -> list[str]:
        """What the accounts of a pool are called, broken ones too. Raises RefusedError, StoreError."""
        return await self._holdings.names(pool)

    async def matching(self, addresses: Sequence[str]) -> list[str]:
        """The accounts that ``POOL/NAME`` and patterns as ``POOL/*`` mean. Raises RefusedError, StoreError."""
        return await matching(self._holdings, addresses)

    async def pause(self, address: str) -> str:
        """Set `proxy_disabled`: the account serves nothing, and its token is kept alive."""
        now = self._service.clock.time()

        def hold_back(account: Account) -> Account:  # one that is spared for its quota may be paused for good
            return account if account.proxy_disabled and not account.spared() else account.with_paused(now)

        return await self._switch(address, hold_back, paused=True)

    async def resume(self, address: str) -> str:
        """Clear `proxy_disabled`, and end cooldowns: whoever resumes an account means it to serve.

        With a pool's name alone: end the storm of the pool's clients, and let their refreshes go on.
        """
        if "/" not in address and address in self._service.snapshot.config.pools:
            return await self._trust(address)
        now = self._service.clock.time()

        def held_back(account: Account) -> bool:
            return account.proxy_disabled or any(one.until > now or one.of_token for one in account.cooldowns)

        def take_back(account: Account) -> Account:
            return replace(account.with_resumed(), cooldowns=())

        return await self._switch(address, lambda one: take_back(one) if held_back(one) else one, paused=False)

    async def enable(self, address: str, *, force: bool = False, one_of_several: bool = False) -> str:
        """Clear `disabled` once a refresh has succeeded; or (`force`) at once, for who knows better.

        `one_of_several` as `refresh`; and that there is nothing to do is no failure then.
        """
        account = await self._holdings.read(address)
        if not account.disabled:
            already = f"{account.address} is not disabled{paused_note(account)}"
            if one_of_several:
                return already
            raise RefusedError(already, error_code="not_disabled")
        if force:
            stored = await self._reviving.enable_by_force(account)
            return f"Enabled {stored.address} without a refresh{_at_next_refresh(stored)}{paused_note(stored)}"
        enabled = await self._reviving.revive(account, one_of_several=one_of_several)
        return f"Enabled {account.address}: a refresh succeeded{paused_note(enabled)}"

    async def refresh(self, address: str, *, one_of_several: bool = False) -> str:
        """Fetch a new access token now, whatever is left of the old one.

        `one_of_several` is not asked for while its client or its token endpoint is known to be in trouble.
        """
        account = await self._holdings.read(address)
        if self._holdings.pool(account.pool).type == "static":
            raise RefusedError(f"{account.address} is a static secret: there is nothing to refresh")
        if account.disabled:
            reason = account.disabled_reason or "no reason given"
            raise RefusedError(
                f"{account.address} is disabled ({reason}): use enable, or add it again with a new refresh token",
                error_code="disabled",
            )
        ready = await self._reviving.refresh(account, one_of_several=one_of_several)
        expires_at = ready.account.token.expires_at
        until = f"; the token lives until {timestamp(expires_at)}" if expires_at is not None else ""
        done = "Refreshed" if ready.posted else "Somebody else had just refreshed"
        return f"{done} {ready.account.address}{until}"

    async def request_reload(self, *, forced: bool = False) -> int:
        """Ask every gateway on the store to reload, `forced` also where pools are lost; the request's number.

        Raises StoreError or RefusedError.
        """
        store = self._service.store
        if not forced:
            return await store.request_reload()
        if not isinstance(store, ForcesReloads):
            raise RefusedError("this store can't ask for a reload by force: start the gateway anew")
        return await store.force_reload()

    async def remove(self, address: str, *, keep_grant: bool = False, force: bool = False) -> str:
        """Remove the account and all that is kept of it, and revoke its grant where the provider lets clients do so.

        `keep_grant`: at the provider nothing is changed; `force`: the grant ends also where another account may live
        on it. Raises RefusedError: nothing was done, for that could not be done; or the account is removed and the
        grant lives on unwanted.
        """
        return await self._removing.remove(address, keep_grant=keep_grant, force=force)

    async def _trust(self, name: str) -> str:
        pool = self._holdings.pool(name)
        members = await self._holdings.members([name])
        accounts = [member.record for member in members if isinstance(member.record, Account)]
        if await self._service.refresher.end_storms(pool, accounts):
            return f"The client of pool {name} is trusted again: what is rejected from now on counts anew"
        return f"No storm of rejections stands against the client of pool {name}"

    async def move(self, address: str, pool: str) -> str:
        """Move an account with its credential, and all that its record says, to another pool."""
        moved = await self._moving.move(address, pool)
        await self._holdings.follow()
        await self._holdings.unconfigured()
        return f"Moved {address} to {moved.address}{_disabled_note(moved)}{paused_note(moved)}"

    async def _switch(self, address: str, switch: Callable[[Account], Account], *, paused: bool) -> str:
        before: Account | None = None

        def change(current: Account | None) -> Account | None:
            nonlocal before
            before = current
            return None if current is None else switch(current)

        stored = await self._holdings.update(address, change)
        still = _disabled_note(stored)
        if stored is before:
            already = f"is paused already{_since(stored.proxy_disabled_at)}" if paused else "is not paused"
            return f"{stored.address} {already}{still}"
        reason = stored.proxy_disabled_reason or ""
        self._service.notify(AccountEvent(kind="paused" if paused else "resumed", account=stored, reason=reason))
        return f"{'Paused' if paused else 'Resumed'} {stored.address}{still}"


def _at_next_refresh(account: Account) -> str:
    if account.token.refresh_token is None:
        return ""
    return (
        f": its next refresh presents the refresh token that is stored (fingerprint "
        f"{fingerprint(account.token.refresh_token)}). If the provider has replaced that one, this ends the grant, and "
        "the account needs a new sign-in"
    )


def _disabled_note(account: Account) -> str:
    if not account.disabled:
        return ""
    reason = account.disabled_reason or "no reason given"
    return f"; it is also disabled ({reason}{_since(account.disabled_at)}): add it again with a new refresh token"


def _since(at: int | None) -> str:
    return "" if at is None else f", since {timestamp(at)}"
