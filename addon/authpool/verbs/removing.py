"""The verb `remove`: an account goes with all that is kept of it, and its grant ends at the provider."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from authpool.accounts.account import Account, AccountKey, OAuthClient, Token, fingerprint
from authpool.accounts.events import AccountEvent
from authpool.errors import BrokenAccountError, RefusedError, SealedError, UnknownAccountError
from authpool.gateway.service import Service
from authpool.store import Hold, SearchesUnread, SetsAside
from authpool.store.unread import UnreadRecord
from authpool.verbs.holdings import Holdings
from authpool.verbs.replacement import ADDED_FROM
from authpool.verbs.rescued_tokens import Rescued, RescuedTokens
from authpool.verbs.revocation import NO_ENDPOINT, Ended, Revocation

ROUNDS = 8
"""So many records an account may have: its name may be spelled in several ways, each a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """One record of an account. `account` is all that is known of it, `state` why that is little."""

    account: Account
    unread: Sequence[UnreadRecord] = ()
    rescued: Sequence[Rescued] = ()
    state: str = ""

    def grants(self) -> list[Account]:
        """What is to be ended at the provider: one account for each refresh token that was found."""
        tokens = {} if self.account.token.refresh_token is None else {self.account.token.refresh_token: self.account}
        for record in self.unread:
            for token in record.refresh_tokens:
                tokens.setdefault(token, _holding(self.account, token, record.client))
        for one in self.rescued:
            token = one.credential.refresh_token or ""
            tokens.setdefault(token, _holding(self.account, token, one.credential.client))
        return [grant for token, grant in tokens.items() if token]


class Removing:
    """Removes accounts.

    The grant ends first, then goes what was rescued of the account, then its record, and what was set aside of that:
    who is killed half-way repeats the command, and that goes on. Meanwhile the account is held, so a refresh that is
    under way comes to its end before, and it is the pair that it brought which is revoked.
    """

    def __init__(
        self, service: Service, holdings: Holdings, unclaimed: RescuedTokens, revocation: Revocation | None = None
    ) -> None:
        self._service = service
        self._holdings = holdings
        self._unclaimed = unclaimed
        self._revocation = revocation or Revocation(service, holdings)

    async def remove(self, address: str, *, keep_grant: bool = False, force: bool = False) -> str:
        """Answer with a sentence for the operator.

        Raises RefusedError: nothing was done, or the account is removed and its grant lives on unwanted.
        """
        key = await self._holdings.any_key(address)
        try:
            async with self._alone(key) as hold:
                removed, ended, left = await self._remove_all(hold, keep_grant=keep_grant, force=force)
        except asyncio.CancelledError as cancelled:
            cancelled.add_note(f"If {key} is still listed, its grant may be revoked already: repeat the command")
            raise
        await self._holdings.follow()
        await self._holdings.unconfigured()
        if ended.trouble:
            raise RefusedError(f"Removed {removed}, but its grant at the provider lives on: {ended.trouble}{left}")
        return f"Removed {removed}{_told(ended)}{left}"

    @asynccontextmanager
    async def _alone(self, key: AccountKey) -> AsyncIterator[Hold]:
        """Hold the account, and first what is rescued, where anything is: `add` takes them in that order, too."""
        async with AsyncExitStack() as stack:
            if await self._unclaimed.any():
                rescued = self._holdings.patiently(
                    self._unclaimed.alone(), "what `add` rescued is held by another process"
                )
                await stack.enter_async_context(rescued)
            yield await stack.enter_async_context(self._holdings.held(key))

    async def _remove_all(self, hold: Hold, *, keep_grant: bool, force: bool) -> tuple[str, Ended, str]:
        """Remove record after record: what was removed, what became of its grants, and what is left in the home."""
        found = await self._found(hold)
        removed, ended, rescued = found.account.address, Ended(), list(found.rescued)
        for _ in range(ROUNDS):
            if not keep_grant:
                self._refuse_unread(found)
                ended += await self._revocation.end(found.grants(), force=force)
            keep = keep_grant or ended.shared or bool(ended.trouble)  # it may be all that is left of a living grant
            await self._leave(hold, found, ended, drop=not keep)
            try:
                found = await self._found(hold)
            except RefusedError:
                return removed, ended, _left(rescued if keep else [])
            rescued += [one for one in found.rescued if one not in rescued]
        raise RefusedError(f"{removed} has more records than can be, or somebody adds it again and again; try again")

    async def _found(self, hold: Hold) -> _Found:
        """Read what there is of the account. Raises RefusedError when there is nothing."""
        key, state = hold.key, ""
        account = Account(pool=key.pool, name=key.name)
        unread = await self._unread(key)
        try:
            account = await hold.read()
        except UnknownAccountError:
            if not unread:
                raise await self._holdings.unknown(key) from None
            state = "only what was set aside of it was left"
        except SealedError:
            state = "it could not be opened"
        except BrokenAccountError:
            state = "it was broken"
        return _Found(account=account, unread=unread, rescued=await self._rescued(account, unread), state=state)

    async def _unread(self, key: AccountKey) -> Sequence[UnreadRecord]:
        store = self._service.store
        return await store.unread(key) if isinstance(store, SearchesUnread) else ()

    async def _rescued(self, account: Account, unread: Sequence[UnreadRecord]) -> list[Rescued]:
        """What an `add` left in the home that came of the account's own refresh tokens, by fingerprint."""
        tokens = [token for record in unread for token in record.refresh_tokens]
        marks = {fingerprint(token) for token in [account.token.refresh_token, *tokens] if token}
        marks |= {mark for record in unread for mark in record.marks}
        marks |= set(str(account.extra.get(ADDED_FROM, "")).split())
        marks |= set(await self._service.ownership.marks_of(account.key))
        return await self._unclaimed.of(marks)

    def _refuse_unread(self, found: _Found) -> None:
        """What can't be read can't be revoked. Raises RefusedError."""
        if not self._revocation.may_be_granted(found.account.pool):
            return
        places = [(record.where, record.trouble) for record in found.unread]
        places += [(str(one.path), one.trouble) for one in found.rescued]
        if not self._service_searches() and found.state:
            places.append(("its record", found.state))
        for where, trouble in places:
            if trouble:
                raise RefusedError(
                    f"{found.account.address} is not removed: a refresh token that {where} may hold can't be read "
                    f"({trouble}), so nobody can revoke it, and the grant would live on at the provider. Make it "
                    f"readable, or say --keep-grant to remove the account and leave the grant alive"
                )

    def _service_searches(self) -> bool:
        return isinstance(self._service.store, SearchesUnread)

    async def _leave(self, hold: Hold, found: _Found, ended: Ended, *, drop: bool) -> None:
        """Take away what is kept of the account, and its record only if it is the one that was read."""
        account = found.account

        def leave(current: Account | None) -> Account | None:
            if current is not None and current.token.refresh_token != account.token.refresh_token:
                raise RefusedError(f"{current.address} was changed by somebody else meanwhile; try again")
            return None

        if drop:
            for one in found.rescued:
                await self._unclaimed.discard(one.path)
        await hold.update(leave, replace_broken=True)  # which sets aside what can't be read
        if isinstance(self._service.store, SetsAside):
            await self._service.store.clear_set_aside(hold.key)
        reason = "; ".join(filter(None, (found.state, _trail(ended))))
        self._service.notify(AccountEvent(kind="removed", account=account, reason=reason))


def _holding(account: Account, token: str, client: OAuthClient | None) -> Account:
    """The account as it would be with another refresh token, and the client that this one came with."""
    return replace(account, token=Token(refresh_token=token), client=client or account.client)


def _told(ended: Ended) -> str:
    """What became of the grants, behind the sentence that says what was removed."""
    told = ""
    if ended.revoked:
        told = ", and revoked its grant at the provider"
    elif ended.before:
        told = ", whose grant was at its end already, as the provider says"
    if not ended.kept:
        return told
    return f"{told}; {ended.kept}" if ended.kept == NO_ENDPOINT else f"{told}. Its grant was not revoked: {ended.kept}"


def _left(rescued: Sequence[Rescued]) -> str:
    """What stays in the home, as long as the grant lives: it may be all that is left of that."""
    if not rescued:
        return ""
    paths = ", ".join(str(one.path) for one in rescued)
    return (
        f". What an `add` was given for its refresh token stays in {paths}, for that may be all that is left of the "
        "grant: `authpool add POOL @FILE` takes it up, and to delete the file gives it up"
    )


def _trail(ended: Ended) -> str:
    """The same for the audit trail."""
    if ended.trouble or ended.kept:
        return f"its grant lives on: {ended.trouble or ended.kept}"
    return "its grant was revoked" if ended.revoked or ended.before else ""
