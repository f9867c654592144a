"""Verbs on several accounts: which they are, and how each of them ended."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from authpool.accounts.account import AccountKey
from authpool.errors import AuthpoolError, RefusedError
from authpool.verbs.holdings import Holdings

logger = logging.getLogger(__name__)

AT_ONCE = 8
_WILD = frozenset("*?[")

type Verb = Callable[[str], Awaitable[str]]
"""Does something to the account of an address; answers with a sentence. Raises AuthpoolError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a verb ended for one account: with a sentence, or with an error."""

    account: str
    message: str = ""
    error: AuthpoolError | None = None

    def __str__(self) -> str:
        """The sentence, or the error with the account's name in it."""
        if self.error is None:
            return self.message
        error = str(self.error)
        return error if self.account.casefold() in error.casefold() else f"{self.account}: {error}"


class InterruptedVerbError(RefusedError):
    """It was interrupted; `outcomes` are of those that were begun, `left` is how many were not."""

    error_code = "interrupted"

    def __init__(self, outcomes: Sequence[Outcome], left: int) -> None:
        total = len(outcomes) + left
        super().__init__(f"interrupted: {left} of {total} accounts were left as they were" if left else "interrupted")
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
    found: dict[str, str] = {}
    for address in addresses:
        for one in await _matches(holdings, address) if is_pattern(address) else (address,):
            pool, slash, name = one.partition("/")
            found.setdefault(f"{pool}{slash}{name.casefold()}", one)
    return list(found.values())


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


async def each(
    addresses: Sequence[str],
    verb: Verb,
    *,
    at_once: int = AT_ONCE,
    heard: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Carry out a verb on each account, so many at once; one that fails stops none of the others.

    `heard` is told of each as soon as it and all before it have ended. Raises InterruptedVerbError when it is
    cancelled: nothing more is begun, and what was begun says how it ended.
    """
    outcomes: dict[str, Outcome] = {}
    waiting, untold = deque(addresses), deque(addresses)

    async def work() -> None:
        while waiting:
            outcome = await _outcome(waiting.popleft(), verb)
            outcomes[outcome.account] = outcome
            while untold and untold[0] in outcomes:
                heard(outcomes[untold.popleft()])

    workers = [asyncio.create_task(work(), name="authpool verb") for _ in range(min(at_once, len(addresses)))]
    try:
        await asyncio.wait(workers)  # which, unlike `gather`, leaves it to us in which order they are ended
    except asyncio.CancelledError:
        left = len(waiting)
        waiting.clear()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        raise InterruptedVerbError([outcomes[one] for one in addresses if one in outcomes], left) from None
    await asyncio.gather(*workers)  # `heard` may have raised
    return [outcomes[address] for address in addresses]


async def _outcome(address: str, verb: Verb) -> Outcome:
    """Whatever one account's verb raises is that account's, so that the others go on."""
    error: AuthpoolError
    try:
        return Outcome(account=address, message=await verb(address))
    except AuthpoolError as refused:
        error = refused
    except OSError as failed:
        error = RefusedError(f"{address}: {failed.strerror or type(failed).__name__}", error_code="system")
    except asyncio.CancelledError as cancelled:  # `each` ends its worker
        notes = getattr(cancelled, "__notes__", ["`authpool accounts` shows how it stands"])
        error = RefusedError(f"{address}: interrupted before it was done. {' '.join(notes)}", error_code="interrupted")
    except Exception as fault:
        logger.exception("A verb failed unexpectedly (%s)", address)
        error = RefusedError(f"{address}: unexpected error {type(fault).__name__}", error_code="failed")
    return Outcome(account=address, error=error)
