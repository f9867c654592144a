"""What is decided when a credential is refused: whose fault it is, and whether the account is disabled."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

from authpool.account import Account, clip_reason
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.errors import StoreError
from authpool.refresh.ledger import Ledger
from authpool.refresh.outcome import Dead, Misconfigured, Outcome
from authpool.refresh.storm import WAY_OUT, ClientWatch
from authpool.troubles import Troubles

logger = logging.getLogger(__name__)


class Sentencing:
    """Applies the disable rules, for one refresher. `client` names who asked, as `GrantRequest.client` does."""

    def __init__(
        self,
        ledger: Ledger,
        clients: ClientWatch,
        news: Callable[[], Awaitable[None]],
        clock: Clock,
        troubles: Troubles,
    ) -> None:
        self._troubles = troubles
        self._ledger = ledger
        self._clients = clients
        self._news = news
        self._clock = clock

    async def condemn(
        self, account: Account, pool: PoolConfig, client: str, reason: str, *, lost: bool, held: AsyncExitStack
    ) -> Outcome:
        """Disable the account, when all the disable rules hold. Under its lock. Raises SupersededError."""
        if account.disabled:  # it was asked by force, and is as dead as before
            return Dead(account=account)
        with suppress(StoreError):  # other gateways on this home may have disabled accounts of this client just now
            await self._news()
        # What we lost ourselves is nobody's storm.
        if not lost and self._clients.rejected(client, account.key, self._clock.time()):
            return self.fault(
                pool,
                client,
                f"several accounts of one client are rejected at once ({reason}): suspect the client; "
                "no further account is disabled until one of them is accepted",
            )
        return await self._ledger.condemn(account, reason, held, lost=lost)

    def fault(self, pool: PoolConfig, client: str, detail: str) -> Misconfigured:
        """No account is to blame: hold back the client for a while."""
        detail = clip_reason(detail)
        if self._clients.blame(client, pool.name, detail, self._clock.time()):
            logger.error("Pool %s: %s; %s", pool.name, detail, WAY_OUT)
        self._troubles.client_rejected(pool.name, client, detail)
        return Misconfigured(detail=detail)
