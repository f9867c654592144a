"""A proved credential taking the place of the one before, and when that takes a disabled account back."""

from dataclasses import replace

from authpool.accounts.account import Account, OAuthClient
from authpool.config import PoolConfig
from authpool.errors import RefusedError

ADDED_FROM = "added_from"
"""Key in an account's file: fingerprints of the refresh tokens that were exchanged when the account was added.

More than one, with a space between, where that took more than one `add`.

Adding the same file twice would present a spent token, and a provider that punishes reuse would end the grant.
"""


class CredentialReplacement:
    """The change that puts a proved credential in place; remembers what it was put in place of."""

    def __init__(self, pool: PoolConfig, fresh: Account, *, vouched: bool = False) -> None:
        """`vouched`: the provider has just issued the credential: it counts as new, though it be the same."""
        self._vouched = vouched
        self._pool = pool
        self._fresh = fresh
        self.before: Account | None = None

    def __call__(self, current: Account | None) -> Account | None:
        self.before = current
        fresh = self._fresh
        if current is None:
            return fresh
        refuse_another_subject(current, fresh.subject)
        changed = self._vouched or _credential(self._pool, fresh) != _credential(self._pool, current)
        if self._pool.type == "static" and not changed:
            return current
        extra = {**fresh.extra, **current.extra, ADDED_FROM: fresh.extra.get(ADDED_FROM)}
        account = replace(
            current,
            subject=fresh.subject or current.subject,
            replaced=fresh.replaced or current.replaced,
            replaced_at=fresh.replaced_at or current.replaced_at,
            client=_with_their_keys(fresh.client, current.client),
            extra={key: value for key, value in extra.items() if value is not None},
        ).with_token(replace(fresh.token, extra=current.token.extra))
        return account.with_enabled().with_token_accepted() if changed else account


def refuse_another_subject(stored: Account, subject: str | None) -> None:
    """Raise RefusedError when `subject` is somebody else than whose account is stored."""
    if subject is None or stored.subject is None or stored.subject == subject:
        return
    raise RefusedError(
        f"{stored.address} is the account of another subject at the provider (`sub`): two people share that name, and "
        f"a NAME of its own tells this one apart: authpool add {stored.pool} SOURCE NAME, or authpool login "
        f"{stored.pool} NAME",
        error_code="another_account",
    )


def _with_their_keys(client: OAuthClient | None, before: OAuthClient | None) -> OAuthClient | None:
    """The new client, with what somebody wrote beside the one before, if it is the same."""
    if client is None or before is None or client.client_id != before.client_id:
        return client
    return replace(client, extra={**before.extra, **client.extra})


def _credential(pool: PoolConfig, account: Account) -> object:
    """What an account of the pool stands or falls with: `disabled` is cleared when this changes."""
    match pool.type:
        case "static":
            return account.token.access_token
        case "client_credentials":
            return account.client
        case "refresh_token":
            return account.token.refresh_token
        case _:  # a plugin's token source has just vouched for it: as good as a new credential
            return object()
