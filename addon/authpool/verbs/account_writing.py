"""An account with a credential that was just proved: written under its lock, and told of in a sentence."""

from authpool.accounts.account import Account, OAuthClient, Token
from authpool.accounts.events import AccountEvent
from authpool.config import PoolConfig
from authpool.errors import RefusedError
from authpool.gateway.service import Service
from authpool.pool.report import timestamp
from authpool.store import Hold
from authpool.verbs.holdings import Holdings
from authpool.verbs.replacement import CredentialReplacement
from authpool.verbs.sources import Credential

LABEL = "label"


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
            created_at=int(self._service.clock.time()),
            proxy_disabled=credential.proxy_disabled,
            proxy_disabled_at=credential.proxy_disabled_at,
            proxy_disabled_reason=credential.proxy_disabled_reason,
            token=token,
            client=_own_client(pool, credential.client),
            extra={LABEL: credential.label} if credential.label is not None else {},
        )

    async def write(self, hold: Hold, pool: PoolConfig, fresh: Account, *, vouched: bool = False) -> str:
        """Write through the hold on the account; answer with a sentence for the operator.

        `vouched`: the provider has just issued the credential, so that it counts as a new one though it is the same.
        Raises RefusedError, StoreError.
        """
        change = CredentialReplacement(pool, fresh, vouched=vouched)
        stored = await hold.update(change, replace_broken=True)
        if stored is None:
            raise TypeError("a change that never removes has removed")
        before = change.before
        if stored is before:
            return _unchanged(stored)
        self._service.notify(
            AccountEvent(kind="added" if before is None else "readded", account=stored, replaced=fresh.replaced)
        )
        await self._holdings.follow()
        return _sentence(before, stored)


def _own_client(pool: PoolConfig, client: OAuthClient | None) -> OAuthClient | None:
    """The client to write beside an account: none where it is the pool's."""
    if client is None or pool.client is None:
        return client
    known = pool.client
    same = client.client_id == known.client_id and client.client_secret in {None, known.secret()}
    return None if same else client


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
