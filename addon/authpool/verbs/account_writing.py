"""An account with a credential that was just proved: written under its lock, and told of in a sentence."""

from authpool.accounts.account import Account, OAuthClient, Token
from authpool.accounts.events import AccountEvent, EventKind
from authpool.config import PoolConfig
from authpool.gateway.service import Service
from authpool.store import Hold
from authpool.verbs.added import Added
from authpool.verbs.grouped_writes import GroupedWrites
from authpool.verbs.holdings import Holdings
from authpool.verbs.replacement import CredentialReplacement
from authpool.verbs.sources import Credential

LABEL = "label"
ORDER = "order"
"""Keys in an account's file: what another tool called it, and its place in that one's list."""


class AccountWriting:
    """Writes new accounts, and new credentials of those that are there."""

    def __init__(self, service: Service, holdings: Holdings) -> None:
        self._service = service
        self._holdings = holdings

    def provisional(self, pool: PoolConfig, credential: Credential, name: str, token: Token) -> Account:
        """The account as it would be if it were new."""
        return Account(
            pool=pool.name,
            name=name,
            generation=1,
            created_at=credential.created_at or int(self._service.clock.time()),
            proxy_disabled=credential.proxy_disabled,
            proxy_disabled_at=credential.proxy_disabled_at,
            proxy_disabled_reason=credential.proxy_disabled_reason,
            token=token,
            client=_own_client(pool, credential.client),
            extra={
                key: value for key, value in ((LABEL, credential.label), (ORDER, credential.order)) if value is not None
            },
        )

    async def write(
        self,
        hold: Hold,
        pool: PoolConfig,
        fresh: Account,
        *,
        vouched: bool = False,
        among: GroupedWrites | None = None,
    ) -> Added:
        """Write through the hold on the account, alone or `among` others.

        `vouched`: the provider has just issued the credential, so that it counts as a new one though it is the same.
        Raises RefusedError, StoreError.
        """
        change = CredentialReplacement(pool, fresh, vouched=vouched)
        stored = await (hold.update(change, replace_broken=True) if among is None else among.update(hold, change))
        if stored is None:
            raise TypeError("a change that never removes has removed")
        before = change.before
        if stored is not before:
            kind: EventKind = "added" if before is None else "readded"
            self._service.notify(AccountEvent(kind=kind, account=stored, replaced=fresh.replaced))
            await self._holdings.follow()
        return Added(before=before, account=stored)


def _own_client(pool: PoolConfig, client: OAuthClient | None) -> OAuthClient | None:
    """The client to write beside an account: none where it is the pool's."""
    if client is None or pool.client is None:
        return client
    known = pool.client
    same = client.client_id == known.client_id and client.client_secret in {None, known.secret()}
    return None if same else client
