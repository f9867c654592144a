"""A provider that rotates refresh tokens and punishes reuse, in the test's own process: fast, scriptable."""

import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from authpool.oauth.authorization import code_challenge
from support.answers import JSON, Reset
from support.exchange import Answer
from support.token_endpoint import Form

type TokenResponse = dict[str, Any]
type Moment = Literal["before_rotation", "after_rotation"]

_INVALID_GRANT = JSON(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """One request as the provider saw it: `error` is None when it issued tokens, even if they got lost."""

    account: str | None
    error: str | None
    lost: Moment | None = None


@dataclass(slots=True, kw_only=True)
class _Family:
    """A grant: one refresh token is current; spent ones are kept with what they were exchanged for."""

    account: str
    current: str = field(repr=False)
    alive: bool = True
    spent: dict[str, tuple[float, TokenResponse]] = field(default_factory=dict, repr=False)


class RotatingProvider:
    """The script of a `ScriptedTokenEndpoint`: ``ScriptedTokenEndpoint(RotatingProvider())``.

    A spent refresh token presented again ends its whole family, access tokens included (RFC 9700 §4.14.2),
    unless it was spent no longer than `grace_seconds` ago: then the very same pair is answered again. With
    `rotate=False` the refresh token never changes.
    """

    def __init__(
        self,
        *,
        rotate: bool = True,
        grace_seconds: float = 0.0,
        expires_in: int = 3600,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rotate = rotate
        self.grace_seconds = grace_seconds
        self.expires_in = expires_in
        self.handled: list[Handled] = []
        self._monotonic = monotonic
        self._numbers = itertools.count(1)
        self._families: list[_Family] = []
        self._access: dict[str, _Family | str] = {}
        self._codes: dict[str, tuple[str, str, dict[str, Any]]] = {}
        self._losses: deque[tuple[Moment, Answer]] = deque()

    def issue(self, account: str) -> TokenResponse:
        """Sign the account in; a grant it had before goes on living, as at real providers."""
        family = _Family(account=account, current=self._new("refresh", account))
        self._families.append(family)
        return self._pair(family)

    def code(self, account: str, challenge: str, **more: Any) -> str:
        """What the browser of who signs in brings back, for who has the verifier; `more` comes beside the tokens."""
        code = self._new("code", account)
        self._codes[code] = (account, challenge, more)
        return code

    def revoke(self, account: str) -> None:
        """End every grant of the account."""
        for family in self._of(account):
            self._end(family)

    def expire(self, account: str) -> None:
        """Make the account's access tokens worthless; its refresh tokens go on working."""
        self._access = {t: f for t, f in self._access.items() if not isinstance(f, _Family) or f.account != account}

    def lose_next(self, moment: Moment, answer: Answer | None = None) -> None:
        """Let the next request's reply be lost, by a reset unless told otherwise; calls queue up."""
        self._losses.append((moment, answer or Reset()))

    def __contains__(self, access_token: object) -> bool:
        """Whether a resource server would take this access token now: ``upstream.accept(provider)``."""
        return access_token in self._access

    def account_of(self, access_token: str) -> str | None:
        """Whose live access token this is."""
        holder = self._access.get(access_token)
        return holder.account if isinstance(holder, _Family) else holder

    def is_current(self, refresh_token: str) -> bool:
        """Whether a refresh with this token would succeed and is not a reuse."""
        return any(f.alive and f.current == refresh_token for f in self._families)

    def is_alive(self, account: str) -> bool:
        """Whether the account has a grant that has not been ended."""
        return any(family.alive for family in self._of(account))

    def __call__(self, _number: int, form: Form) -> Answer:
        """Answer one token request."""
        moment, lost = self._losses.popleft() if self._losses else (None, None)
        if moment == "before_rotation" and lost:
            self.handled.append(Handled(account=None, error=None, lost=moment))
            return lost
        account, answer = self._exchange(form)
        error = answer.body["error"] if isinstance(answer.body, dict) and answer.status != 200 else None
        self.handled.append(Handled(account=account, error=error, lost=moment))
        return lost or answer

    def _exchange(self, form: Form) -> tuple[str | None, JSON]:
        match form.get("grant_type"):
            case "refresh_token":
                return self._refresh(form.get("refresh_token", ""))
            case "authorization_code":
                account, challenge, more = self._codes.pop(form.get("code", ""), ("", "", {}))
                if not account or code_challenge(form.get("code_verifier", "")) != challenge:
                    return None, _INVALID_GRANT
                return account, JSON(200, self.issue(account) | more)
            case "client_credentials":
                client = form.get("client_id", "client")
                token = self._new("access", client)
                self._access[token] = client
                return client, JSON(200, self._response(token))
        return None, JSON(400, {"error": "unsupported_grant_type"})

    def _refresh(self, presented: str) -> tuple[str | None, JSON]:
        family = next((f for f in self._families if presented == f.current or presented in f.spent), None)
        if family is None or not family.alive:
            return (family.account if family else None), _INVALID_GRANT
        if presented in family.spent:
            spent_at, pair = family.spent[presented]
            if self._monotonic() - spent_at < self.grace_seconds:
                return family.account, JSON(200, pair)
            self._end(family)
            return family.account, _INVALID_GRANT
        return family.account, JSON(200, self._rotated(family) if self.rotate else self._pair(family))

    def _rotated(self, family: _Family) -> TokenResponse:
        spent, family.current = family.current, self._new("refresh", family.account)
        pair = self._pair(family)
        family.spent[spent] = (self._monotonic(), pair)
        return pair

    def _pair(self, family: _Family) -> TokenResponse:
        token = self._new("access", family.account)
        self._access[token] = family
        return {**self._response(token), "refresh_token": family.current}

    def _response(self, access_token: str) -> TokenResponse:
        return {"access_token": access_token, "token_type": "Bearer", "expires_in": self.expires_in}

    def _end(self, family: _Family) -> None:
        family.alive = False
        self._access = {token: holder for token, holder in self._access.items() if holder is not family}

    def _of(self, account: str) -> list[_Family]:
        return [family for family in self._families if family.account == account]

    def _new(self, kind: str, account: str) -> str:
        return f"{kind}-{next(self._numbers)}-of-{account}"
