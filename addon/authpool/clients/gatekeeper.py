"""Decides who is let in: from what a request carries to a client that may go on, or the reason why not."""

import math
from collections.abc import Sequence

from authpool.clients.allowance import Allowance
from authpool.clients.keyring import NO_KEY, Denial, Grant, Keyring
from authpool.clients.presented import Presented, keys_in
from authpool.clients.usage import UsageCount
from authpool.clients.wrong_keys import WrongKeys
from authpool.clock import Clock

CACHED = 10_000
"""So many header values are known by sight; of more, all are looked at anew."""

NOT_ALLOWED = "The gateway key is good, but not for this pool or host."
TOO_MANY_WRONG = "Too many wrong gateway keys came from this address."


class Gatekeeper:
    """The keys of the moment, and what their clients use. Keys change as a whole, by `replace`."""

    def __init__(self, clock: Clock) -> None:
        self.keyring = Keyring(known=False)
        self.usage = UsageCount()
        self._clock = clock
        self._allowances: dict[str, Allowance] = {}
        self._wrong = WrongKeys()
        self._cache: dict[bytes, Grant] = {}

    def replace(self, keyring: Keyring) -> None:
        """These keys count from now on."""
        self.keyring = keyring
        self._cache = {}
        for name in [name for name in self._allowances if name not in keyring.entries]:
            if not self._allowances[name].in_flight:
                del self._allowances[name]

    def identify(self, presented: Presented, address: str, held: Grant | None = None) -> Grant | Denial:
        """Whose request this is. `held`: what its connection has shown, which counts where it shows nothing itself."""
        now = self._clock.time()
        for value in presented.values:
            grant = self._cache.get(value)
            if grant is None:
                break  # it may be good, and then it comes first
            if now < grant.ends_at:
                return grant
        if presented.values:
            return self._look_up(presented.values, address, now)
        if held is not None:
            return self.keyring.current(held, now) or self._denied(self.keyring.ended(held))
        if presented.other:
            return self._guessed(address, Denial(code="client_key_required", detail=NO_KEY, guess=True))
        return Denial(code="client_key_required", detail=NO_KEY)

    def admit(self, grant: Grant, pool: str | None, scheme: str, host: str, port: int) -> Denial | None:
        """Let a request of its go on, until `leave`; or say why not."""
        client = grant.client
        if (client.pools is not None or client.hosts is not None) and not client.may_reach(pool, scheme, host, port):
            return self._denied(self.not_allowed(grant))
        if client.max_in_flight is not None or client.requests_per_second is not None:
            denial = self._allowance(grant.name).take(client, self._clock.monotonic())
            if denial is not None:
                return self._denied(denial)
        else:
            self._allowance(grant.name).in_flight += 1
        self.usage.note(client.name, refused=False, now=self._clock.time())
        return None

    def leave(self, name: str) -> None:
        """A request that was let in is over."""
        self._allowance(name).give_back()

    def holds(self, grant: Grant) -> bool:
        """Whether what was granted still is."""
        return self.current(grant) is not None

    def current(self, grant: Grant) -> Grant | None:
        """What was granted, as it is now; None: it is over."""
        return self.keyring.current(grant, self._clock.time())

    def in_flight(self, name: str) -> int:
        """How many requests of a client are under way."""
        allowance = self._allowances.get(name.casefold())
        return 0 if allowance is None else allowance.in_flight

    def not_allowed(self, grant: Grant) -> Denial:
        """The key is good, but not for what is asked for."""
        return Denial(code="client_not_allowed", detail=NOT_ALLOWED, client=grant.name)

    def used(self, grant: Grant) -> None:
        """Count what is no request, and has no limits."""
        self.usage.note(grant.name, refused=False, now=self._clock.time())

    def refused(self, denial: Denial) -> None:
        """Count a refusal that was decided elsewhere."""
        self._denied(denial)

    def _look_up(self, values: Sequence[bytes], address: str, now: float) -> Grant | Denial:
        first: Denial | None = None
        for value in values:
            for text in keys_in(value):
                verdict = self.keyring.verify(text, now)
                if isinstance(verdict, Grant):
                    if len(self._cache) >= CACHED:
                        self._cache.clear()
                    self._cache[value] = verdict
                    return verdict
                if first is None or (first.guess and not verdict.guess):
                    first = verdict  # who has a right secret is told about that one
        if first is None:
            first = Denial(code="client_key_required", detail=NO_KEY, guess=True)
        return self._guessed(address, first) if first.guess else self._denied(first)

    def _guessed(self, address: str, denial: Denial) -> Denial:
        seconds = self._wrong.note(address, self._clock.monotonic())
        if seconds is None:
            return denial
        return Denial(code="client_limited", detail=TOO_MANY_WRONG, retry_after_seconds=math.ceil(seconds), guess=True)

    def _denied(self, denial: Denial) -> Denial:
        if denial.client:
            self.usage.note(denial.client, refused=True, now=self._clock.time())
        return denial

    def _allowance(self, name: str) -> Allowance:
        folded = name.casefold()
        allowance = self._allowances.get(folded)
        if allowance is None:
            allowance = self._allowances[folded] = Allowance(self._clock.monotonic())
        return allowance
