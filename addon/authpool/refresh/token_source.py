"""What a token source is: where the accounts of a pool get their access tokens, when it is no OAuth token endpoint."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from authpool.accounts.account import Account
from authpool.config import PoolConfig
from authpool.config.config_table import ConfigTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An access token. `expires_at` is in Unix seconds; None: unknown, so it serves until an upstream refuses it."""

    access_token: str = field(repr=False)
    expires_at: int | None = None
    token_type: str = "Bearer"


class TokenSource(ABC):
    """Fetches access tokens for the accounts of one pool. A pool has a new one after each reload.

    authpool calls it for one account at a time, under that account's lock, and for several accounts at once; it keeps
    what was fetched in the account's record, and comes again shortly before `expires_at`, or when an upstream refuses
    the token. So a source keeps no tokens.
    """

    takes_client: bool = False
    """Whether its accounts have a key pair of their own, which `add` takes from its SOURCE: `Account.client`."""

    @abstractmethod
    async def fetch(self, account: Account) -> Fetched:
        """Get a new access token for `account`, whose record holds the last one.

        It runs in the gateway's event loop: it must not block, and may be cancelled at any `await`; it is after 60 s.
        Raises CredentialDeadError (the account is disabled), CredentialUnavailableError (try again) or
        CredentialMisconfiguredError (the pool is at fault). Anything else counts as unavailable, and only its type is
        told, for its text may hold a secret.
        """


type TokenSourceFactory = Callable[[PoolConfig], TokenSource]


def source_options(pool: PoolConfig, *known: str) -> ConfigTable:
    """What `type = { name = "...", ... }` says beside the name. Raises ConfigurationError for an unknown key."""
    return ConfigTable(pool.type_options, ("pools", pool.name, "type"), known)
