"""One credential taking the place of another, and only of that one. Pure."""

from collections.abc import Callable
from dataclasses import replace

from authpool.accounts.account import Account, Token
from authpool.oauth.verdict import Granted, PartlyGranted
from authpool.store import Change


class SupersededError(Exception):
    """While a token was being fetched, the stored credential became another one; `current` is what it is now."""

    def __init__(self, current: Account | None) -> None:
        super().__init__("the stored credential changed")
        self.current = current


ROUNDING_SECONDS = 2
"""The same access token, told to end so little earlier or later, ends when it was told to before."""


def token_from_grant(
    before: Token, granted: Granted | PartlyGranted, asked_at: float, presented: Token | None = None
) -> Token:
    """The token a response makes of the one before; a response without a refresh token keeps the old (RFC 6749 §6).

    That is the one `presented`, where the record holds another. One without an access token keeps that of before as
    long as it lives.
    """
    if isinstance(granted, PartlyGranted):
        kept = before if before.live(asked_at) else replace(before, access_token=None, expires_at=None)
        return replace(kept, refresh_token=granted.refresh_token)
    return replace(
        before,
        access_token=granted.access_token,
        refresh_token=granted.refresh_token or (presented or before).refresh_token,
        token_type=granted.token_type,
        expires_at=_end(before, granted, asked_at),
        scope=granted.scope or before.scope,
    )


def _end(before: Token, granted: Granted, asked_at: float) -> int | None:
    """When the granted access token ends; of the same one again that is not forgotten, nor changed by rounding."""
    end = None if granted.lifetime_seconds is None else int(asked_at) + granted.lifetime_seconds
    if granted.access_token != before.access_token or before.expires_at is None:
        return end
    return before.expires_at if end is None or abs(end - before.expires_at) <= ROUNDING_SECONDS else end


def succeed(
    presented: Account,
    granted: Granted | PartlyGranted,
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
        token = token_from_grant(current.token, granted, asked_at, presented.token)
        if token == current.token and current.generation >= presented.generation:
            return replace(current, pending_refresh=None)  # the same credential: no new generation
        renewed = current.with_token(token)
        if granted.refresh_token not in {None, presented.token.refresh_token}:
            renewed = renewed.with_replaced(presented.token.refresh_token, asked_at)
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
