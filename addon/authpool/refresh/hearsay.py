"""What other processes did to the accounts, as the store tells it: they are on the same clients and the same files."""

import logging
from collections.abc import Callable, Mapping

from authpool.accounts.account import Account
from authpool.config import PoolConfig
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.grant_request import client_name
from authpool.refresh.client_watch import ClientWatch
from authpool.refresh.replaced_tokens import ReplacedTokens

logger = logging.getLogger(__name__)


class Hearsay:
    """Lets `replaced_tokens` and `clients` hear of it; to be told each change of a record once."""

    def __init__(
        self,
        replaced_tokens: ReplacedTokens,
        clients: ClientWatch,
        pools: Callable[[], Mapping[str, PoolConfig]],
        resolver: EndpointResolver,
    ) -> None:
        self._replaced_tokens = replaced_tokens
        self._clients = clients
        self._pools = pools
        self._resolver = resolver

    def followed(self, before: Account, after: Account) -> None:
        """The store has `after` where it had `before`."""
        self._replaced_tokens.followed(before, after)
        pool = self._pools().get(after.pool)
        url = None if pool is None else self._resolver.known_token_url(pool)
        if pool is None or url is None:
            return
        client = client_name(url, pool, after)
        if _was_granted(before, after) and self._clients.heard(client, after.key) is not None:
            logger.warning("Pool %s: the token endpoint accepts the client again", pool.name)


def _was_granted(before: Account, after: Account) -> bool:
    new_token = after.token.access_token not in {None, before.token.access_token}
    return new_token and not after.disabled and after.generation > before.generation
