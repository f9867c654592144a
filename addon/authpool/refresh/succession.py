"""One credential taking the place of another, and only of that one. Pure."""

from collections.abc import Callable
from dataclasses import replace

from authpool.account import Account, Token
from authpool.refresh.verdict import Granted
from authpool.store import Change


class SupersededError(Exception):
    """While a token was being fetched, the stored credential became another one; `current` is what it is now."""

    def __init__(self, current: Account | None) -> None:
        super().__init__("the stored credential changed")
        self.current = current


def token_from_grant(before: Token, granted: Granted, asked_at: float, presented: Token | None = None) -> Token:
    """The token a response makes of the one before; a response without a refresh token keeps the old (RFC 6749 §6).

    That is the one `presented`, where the record holds another.
    """
    lifetime = granted.lifetime_seconds
    return replace(
        before,
        access_token=granted.access_token,
        refresh_token=granted.refresh_token or (presented or before).refresh_token,
        token_type=granted.token_type,
        expires_at=None if lifetime is None else int(asked_at) + lifetime,
        scope=granted.scope or before.scope,
    )


def succeed(
    presented: Account,
    granted: Granted,
    asked_at: float,
    *,
    stale: Callable[[Account], bool] = lambda current: False,
) -> Change:
    """Put the granted token in the place of the one presented for it, whatever else was edited meanwhile.

    The client is not compared: an operator may have mended its secret, and the stored refresh token is spent.
    `stale` tells a record that an editor brought back from before the one presented: that does not count either.
    """

    def change(current: Account | None) -> Account | None:
        same_client = current is not None and current.client == presented.client
        holds = _holds(current, presented) or (current is not None and stale(current))
        if current is None or not holds or not (same_client or presented.token.refresh_token):
            raise SupersededError(current)
        renewed = current.with_token(token_from_grant(current.token, granted, asked_at, presented.token))
        return replace(renewed, generation=max(renewed.generation, presented.generation + 1))

    return change


def if_still(presented: Account, edit: Callable[[Account], Account]) -> Change:
    """Edit the account while the store holds the refresh token, and the client, that was presented."""

    def change(current: Account | None) -> Account | None:
        if current is None or not _holds(current, presented) or current.client != presented.client:
            raise SupersededError(current)
        return edit(current)

    return change


def _holds(current: Account | None, presented: Account) -> bool:
    return current is not None and current.token.refresh_token == presented.token.refresh_token
