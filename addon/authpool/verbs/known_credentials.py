"""Whose a refresh token is already: to present it beside its account's own refreshes would end the grant."""

from authpool.accounts.account import Account, fingerprint
from authpool.config import PoolConfig
from authpool.errors import RefusedError
from authpool.gateway.service import Service
from authpool.pool.report import timestamp
from authpool.verbs.credential_index import CredentialIndex
from authpool.verbs.holdings import Holdings


class KnownCredentials:
    """Looks through all accounts of a home, of every pool that it ever had."""

    def __init__(self, service: Service, holdings: Holdings) -> None:
        self._service = service
        self._holdings = holdings

    async def account_of(self, pool: PoolConfig, refresh_token: str) -> Account | None:
        """The account of this pool that holds the token, or lives on what it was exchanged for.

        Raises RefusedError, naming the account, when it is another pool's, or was spent.
        """
        index = await self.index()
        found = self.of(index, pool, refresh_token)
        if found is None:
            await self._refuse_spent(index, fingerprint(refresh_token))
        return found

    async def index(self) -> CredentialIndex:
        """Of every account that can be read, as it is stored now."""
        return CredentialIndex(await self._holdings.everyone())

    def of(self, index: CredentialIndex, pool: PoolConfig, refresh_token: str) -> Account | None:
        """As `account_of`, by an index, but for what was spent: the audit trail tells that."""
        same = [one for one in index.holding(refresh_token) if self._refreshed(one)]
        origin = index.living_on(refresh_token)
        found = sorted([*same, *origin], key=lambda one: (one.pool != pool.name, one not in same, str(one.key)))
        if found and found[0].pool != pool.name:
            raise RefusedError(_elsewhere(found[0], pool))
        return found[0] if found else None

    def _refreshed(self, account: Account) -> bool:
        """Whether the account's refresh token is presented, or would be were its pool configured."""
        pool = self._service.snapshot.config.pools.get(account.pool)
        return pool is None or pool.type == "refresh_token"

    async def _refuse_spent(self, index: CredentialIndex, mark: str) -> None:
        known = await self._service.ownership.known(mark)
        if known is None or known.exchanged_at is None:
            return
        holder = index.get(known.account)
        if holder is None:  # nothing lives on what became of it
            return
        state = f", and is disabled ({holder.disabled_reason or 'no reason given'})" if holder.disabled else ""
        raise RefusedError(
            f"that refresh token is spent: {holder.address} has exchanged it for a newer one, "
            f"{timestamp(known.exchanged_at)}{state}. To present it again may end that grant: sign in again"
        )


def _elsewhere(account: Account, pool: PoolConfig) -> str:
    return (
        f"that refresh token is the one of {account.address}: one credential in two pools is spent by whichever "
        f"refreshes first, and the other dies of it. Sign in again for one of its own, or move the account: "
        f"authpool move {account.address} {pool.name}"
    )
