"""Going through many accounts without holding anybody up."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

PIECE = 100
"""So many at a time: a thing of a millisecond or two."""
MANY_ACCOUNTS = 1_000
"""More than the garbage collector should look at."""


@contextlib.contextmanager
def loaded_for_good(many: Callable[[], bool]) -> Iterator[None]:
    """Keep the garbage collector away from what is loaded once and stays, where that is `many`.

    It would go through all of it again and again, for half of the time that a load takes, and later for a tenth of a
    second every now and then while requests wait.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if many():
            gc.freeze()
        if collecting:
            gc.enable()


async def in_pieces[T](things: Iterable[T]) -> AsyncIterator[T]:
    """Go through things and let others run between the pieces."""
    for number, thing in enumerate(things, 1):
        yield thing
        if number % PIECE == 0:
            await asyncio.sleep(0)


async def let_go(things: list[Any]) -> None:
    """Let others run while what nobody needs any more is taken down: of 10,000 at once it takes 20 ms."""
    while things:
        del things[-PIECE:]
        await asyncio.sleep(0)
