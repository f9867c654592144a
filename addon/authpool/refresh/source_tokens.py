"""Asking a plugin's token source for an access token, with an end, and looking at what it answers."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping

from authpool.accounts.account import Account
from authpool.accounts.printable import clip_reason
from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.errors import (
    CredentialDeadError,
    CredentialMisconfiguredError,
    CredentialUnavailableError,
    TokenSourceError,
)
from authpool.oauth.grant_request import source_name, without_secrets
from authpool.oauth.verdict import Granted
from authpool.refresh.client_watch import ClientWatch
from authpool.refresh.conditional_change import SupersededError
from authpool.refresh.disable_rules import DisableRules
from authpool.refresh.held_account import HeldAccount
from authpool.refresh.ledger import Ledger
from authpool.refresh.outcome import Misconfigured, Outcome, Unavailable, from_successor
from authpool.refresh.pool_trouble import Troubles
from authpool.refresh.token_source import Fetched, TokenSource

logger = logging.getLogger(__name__)

FETCH_SECONDS = 60.0
_TOKEN = re.compile(r"[\x21-\x7e]+")  # what can stand in a header as it is


class SourceTokens:
    """Fetches tokens from plugins' sources, for one refresher. Whoever calls it holds the account's lock."""

    def __init__(
        self,
        ledger: Ledger,
        clients: ClientWatch,
        rules: DisableRules,
        pools: Callable[[], Mapping[str, PoolConfig]],
        clock: Clock,
        troubles: Troubles,
    ) -> None:
        self._troubles = troubles
        self._ledger = ledger
        self._clients = clients
        self._rules = rules
        self._pools = pools
        self._clock = clock

    async def refresh(
        self, held: HeldAccount, account: Account, source: TokenSource, pool: PoolConfig, *, force: bool
    ) -> Outcome:
        """Fetch, and write what was fetched before it is used. Nothing is spent, so there is no intent to write."""
        name = source_name(pool)
        fault = self._clients.held_back(name, pool.name, account.key)
        if fault is not None and not force:
            return Misconfigured(detail=fault.detail)
        try:
            granted, asked_at = await self.prove(source, account, pool)
            return await self._ledger.keep(held, account, granted, asked_at)
        except (CredentialDeadError, CredentialMisconfiguredError) as error:
            detail = clip_reason(without_secrets(error.detail, account, pool))
            if self._pools().get(pool.name) != pool:
                return Unavailable(detail="the pool's configuration changed meanwhile", retry_after_seconds=1)
            if isinstance(error, CredentialMisconfiguredError):
                return self._rules.fault(pool, name, detail)
            return await self._condemn(held, account, pool, name, detail)
        except CredentialUnavailableError as error:
            detail = clip_reason(without_secrets(error.detail, account, pool))
            return Unavailable(detail=detail, retry_after_seconds=error.retry_after_seconds)
        except SupersededError as superseded:
            return from_successor(superseded.current, self._clock.time())

    async def _condemn(self, held: HeldAccount, account: Account, pool: PoolConfig, name: str, reason: str) -> Outcome:
        try:
            return await self._rules.condemn(held, account, pool, name, reason, confirmed=True, lost=False)
        except SupersededError as superseded:
            return from_successor(superseded.current, self._clock.time())

    async def prove(self, source: TokenSource, account: Account, pool: PoolConfig) -> tuple[Granted, float]:
        """Fetch a token, and tell when it was asked for (Unix seconds). Raises TokenSourceError."""
        asked_at = self._clock.time()
        granted = await fetch_from(source, account, now=asked_at)
        if await self._clients.accepted(source_name(pool), account.key) is not None:
            logger.warning("Pool %s: its token source works again", pool.name)
        self._troubles.client_accepted(pool.name, source_name(pool))
        return granted, asked_at


async def fetch_from(source: TokenSource, account: Account, *, now: float) -> Granted:
    """Fetch, and answer as a token endpoint would. Raises TokenSourceError, and nothing else."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            fetched = await source.fetch(account)
    except TokenSourceError:
        raise
    except TimeoutError:
        raise CredentialUnavailableError(f"the token source took longer than {FETCH_SECONDS:.0f} s") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is somebody else's code, and its words may hold a secret
        raise CredentialUnavailableError(f"the token source failed ({type(error).__name__})") from None
    if not isinstance(fetched, Fetched):
        raise CredentialMisconfiguredError("the token source answers something that is no token")
    if not _TOKEN.fullmatch(str(fetched.access_token)):
        raise CredentialUnavailableError("the token source answers a token with a character that no token has")
    if fetched.expires_at is not None and fetched.expires_at <= now:
        raise CredentialUnavailableError("the token source answers a token that is over already")
    lifetime = None if fetched.expires_at is None else int(fetched.expires_at) - int(now)
    return Granted(access_token=fetched.access_token, token_type=fetched.token_type, lifetime_seconds=lifetime)
