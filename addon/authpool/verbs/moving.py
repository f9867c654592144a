"""The verb `move`: an account goes to another pool with all that its record holds, and is never in two that serve."""

from contextlib import AsyncExitStack
from dataclasses import replace

from authpool.accounts.account import Account, AccountKey
from authpool.accounts.events import AccountEvent
from authpool.config import PoolConfig
from authpool.errors import BrokenAccountError, RefusedError, UnknownAccountError
from authpool.gateway.service import Service
from authpool.refresh.credential_rules import MOVED_FROM, went_on
from authpool.store import Hold
from authpool.store.trail_index import CAME_FROM, MOVED_TO
from authpool.verbs.holdings import Holdings


class Moving:
    """Moves accounts between pools of one store.

    In three durable steps: the record is written at its new address, marked as being moved; the old one is removed;
    the mark is taken away. While the old one is there, the marked one is held back, and the same command goes on
    where an earlier one was cut off. Until it is removed the old record is the account; but who was paused at the new
    address stays paused, and what was exchanged there for a newer credential stays the newer one.
    """

    def __init__(self, service: Service, holdings: Holdings) -> None:
        self._service = service
        self._holdings = holdings

    async def move(self, address: str, pool_name: str) -> Account:
        """Answer the account at its new address. Raises RefusedError, StoreError."""
        source = await self._holdings.any_key(address)
        pool = self._holdings.pool(pool_name)
        target = AccountKey(pool.name, source.name)
        if source == target:
            raise RefusedError(f"{source} is in that pool already")
        async with AsyncExitStack() as held:
            holds: dict[AccountKey, Hold] = {}
            for key in sorted([source, target]):  # in one order everywhere: two moves never wait for each other
                holds[key] = await held.enter_async_context(self._holdings.held(key))
            account = await self._source(holds[source], holds[target])
            self._refuse_other_provider(account, pool)
            return await self._carry_over(account, holds[source], holds[target])

    async def _source(self, source: Hold, target: Hold) -> Account:
        try:
            return await source.read()
        except UnknownAccountError:
            arrived = await self._stored(target)
            if arrived is not None and arrived.extra.get(MOVED_FROM) == str(source.key):
                await self._arrive(target)
                raise RefusedError(f"{source.key} is {arrived.address} already: that move is finished now") from None
            raise await self._holdings.unknown(source.key) from None

    async def _carry_over(self, account: Account, source: Hold, target: Hold) -> Account:
        marked = replace(account, pool=target.key.pool, extra={**account.extra, MOVED_FROM: str(account.key)})

        def arrive(current: Account | None) -> Account:
            if current is None:
                return marked
            if current.extra.get(MOVED_FROM) != str(account.key):
                raise RefusedError(f"{current.address} exists: remove it first, or let {account.address} stay")
            if went_on(current, account):
                return current
            return _paused_as(current, marked) if current.proxy_disabled and not account.proxy_disabled else marked

        def leave(current: Account | None) -> Account | None:
            if current is not None and current != account:
                raise RefusedError(f"{current.address} was changed by somebody else meanwhile; try again")
            return None

        try:
            await target.update(arrive)
        except BrokenAccountError as error:
            raise RefusedError(f"there is an account of that name that can't be read ({error}): remove it") from None
        await source.update(leave)
        self._service.notify(AccountEvent(kind="moved", account=account, reason=f"{MOVED_TO}{target.key}"))
        stored = await self._arrive(target)
        self._service.notify(AccountEvent(kind="added", account=stored, reason=f"{CAME_FROM}{account.address}"))
        return stored

    async def _arrive(self, target: Hold) -> Account:
        def unmark(current: Account | None) -> Account | None:
            if current is None or MOVED_FROM not in current.extra:
                return current
            return replace(current, extra={key: value for key, value in current.extra.items() if key != MOVED_FROM})

        stored = await target.update(unmark)
        if stored is None:
            raise RefusedError(f"{target.key} was removed by somebody else meanwhile")
        return stored

    async def _stored(self, hold: Hold) -> Account | None:
        try:
            return await hold.read()
        except (UnknownAccountError, BrokenAccountError):
            return None

    # --- what fits where --------------------------------------------------------------------------------------

    def _refuse_other_provider(self, account: Account, pool: PoolConfig) -> None:
        """A credential works for one type of pool, at one token endpoint and for one client only."""
        former = self._service.snapshot.config.pools.get(account.pool)
        if former is None:  # nobody can tell any more what that pool was like, but by the record
            self._refuse_other_kind(account, pool)
            return
        differing = [
            what
            for what, ours, theirs in (
                ("type", former.type, pool.type),
                ("type's options", dict(former.type_options), dict(pool.type_options)),
                ("token endpoint", _endpoint(former), _endpoint(pool)),
                ("client", _client_id(former, account), _client_id(pool, account)),
            )
            if ours != theirs
        ]
        if differing:
            raise RefusedError(
                f"{pool.name} has another {' and another '.join(differing)} than {former.name}: "
                f"the credential of {account.address} is worth nothing there"
            )

    def _refuse_other_kind(self, account: Account, pool: PoolConfig) -> None:
        token = account.token
        kind = "a refresh token" if token.refresh_token else "a client" if account.client else "a fixed secret"
        fits = {
            "refresh_token": token.refresh_token is not None,
            "client_credentials": token.refresh_token is None and account.client is not None,
            "static": token.refresh_token is None and account.client is None and token.access_token is not None,
        }
        if not fits.get(pool.type, True):
            raise RefusedError(
                f"{pool.name} is of type {pool.type}, and {account.address} holds {kind}: it is of another type"
            )


def _paused_as(paused: Account, account: Account) -> Account:
    return replace(
        account,
        proxy_disabled=True,
        proxy_disabled_at=paused.proxy_disabled_at,
        proxy_disabled_reason=paused.proxy_disabled_reason,
        proxy_disabled_until=paused.proxy_disabled_until,
    )


def _endpoint(pool: PoolConfig) -> tuple[str | None, str | None]:
    return pool.token_url, None if pool.token_url is not None else pool.issuer


def _client_id(pool: PoolConfig, account: Account) -> str | None:
    client = account.client or pool.client
    return None if client is None else client.client_id
