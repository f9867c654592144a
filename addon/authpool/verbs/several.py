"""Verbs on several accounts: which they are, and how each of them ended."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from authpool.accounts.account import AccountKey
from authpool.errors import AuthpoolError, RefusedError
from authpool.verbs.holdings import Holdings

AT_ONCE = 8
_WILD = frozenset("*?[")

type Verb = Callable[[str], Awaitable[str]]
"""Does something to the account of an address; answers with a sentence. Raises AuthpoolError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a verb ended for one account: with a sentence, or with an error; neither where it was not begun."""

    account: str
    message: str = ""
    error: AuthpoolError | None = None

    @property
    def failed(self) -> bool:
        return self.error is not None


class InterruptedVerbError(RefusedError):
    """It was interrupted; `outcomes` are how far it came."""

    error_code = "interrupted"

    def __init__(self, outcomes: Sequence[Outcome], left: int) -> None:
        super().__init__(f"interrupted: {left} of {len(outcomes) + left} accounts were left as they were")
        self.outcomes = outcomes


def is_pattern(address: str) -> bool:
    """Whether an address may mean several accounts."""
    return not _WILD.isdisjoint(address)


async def matching(holdings: Holdings, addresses: Sequence[str]) -> list[str]:
    """The accounts that are meant, each once: ``POOL/NAME``, or ``POOL/*`` and other patterns (`*`, `?`, `[...]`).

    A name with such a character in it means the account that is called so, if there is one; but `*` alone is all of
    them in any case, for names come from whoever signs in (`[*]` is that account). An address without is
    answered as it is, whether or not there is such an account: the verb itself says so best. Raises RefusedError where
    nothing matches.
    """
    found: dict[str, None] = {}
    for address in addresses:
        if not is_pattern(address):
            found.setdefault(address)
            continue
        for one in await _matches(holdings, address):
            found.setdefault(one)
    return list(found)


async def _matches(holdings: Holdings, pattern: str) -> list[str]:
    try:
        key = AccountKey.parse(pattern)
    except ValueError:
        raise RefusedError("write accounts as POOL/NAME, or POOL/* for all of a pool") from None
    names = await holdings.names(key.pool)
    wanted = key.name.casefold()
    exact = [name for name in names if name.casefold() == wanted != "*"]
    matches = [f"{key.pool}/{name}" for name in exact or names if exact or fnmatchcase(name.casefold(), wanted)]
    if not matches:
        raise RefusedError(f"no account of {key.pool} matches {key.name}", error_code="unknown_account")
    return matches


async def each(addresses: Sequence[str], verb: Verb, *, at_once: int = AT_ONCE) -> list[Outcome]:
    """Carry out a verb on each account, so many at once; one that fails stops none of the others.

    Raises InterruptedVerbError with how far it came when it is cancelled; what was begun comes to its end first.
    """
    outcomes: dict[str, Outcome] = {}
    waiting = list(reversed(addresses))

    async def work() -> None:
        while waiting:
            address = waiting.pop()
            try:
                outcomes[address] = Outcome(account=address, message=await verb(address))
            except AuthpoolError as error:
                outcomes[address] = Outcome(account=address, error=error)

    workers = [asyncio.create_task(work(), name="authpool verb") for _ in range(min(at_once, len(addresses)))]
    try:
        await asyncio.gather(*workers)
    except asyncio.CancelledError:
        left = len(waiting)
        waiting.clear()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        done = [outcomes[address] for address in addresses if address in outcomes]
        raise InterruptedVerbError(done, max(left, len(addresses) - len(done))) from None
    return [outcomes[address] for address in addresses]
