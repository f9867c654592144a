"""Ctrl-C and the like while a verb is carried out: told at once, and nothing is lost by it."""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import Any

from authpool.errors import RefusedError
from authpool.oauth.token_client import ANSWER_SECONDS, CONNECT_SECONDS
from authpool.verbs.holdings import PATIENCE_SECONDS

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
QUIET_SECONDS = 2.0
"""A verb that takes longer says what it waits for."""
REMINDER_SECONDS = 10.0


async def carry_out[T](work: Coroutine[Any, Any, T], *, reminded: bool = True) -> T:
    """Carry out a verb. Raises RefusedError when it was interrupted, unless the verb itself has an answer then.

    One that tells how far it is need not be `reminded` that it takes long. The signals stay taken until the event loop
    ends: what was begun at a provider may still have to land.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work, name="authpool verb")
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        logger.warning("interrupted: it ends once what was asked of a provider is answered and kept")
        if not interrupted:  # a second one may not cut off what the first one lets land
            interrupted = True
            task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, interrupt)
    reminder = loop.create_task(_remind(), name="authpool reminder") if reminded else None
    try:
        return await task
    except asyncio.CancelledError as cancelled:
        if not interrupted:
            raise
        notes = getattr(cancelled, "__notes__", ["`authpool accounts` shows how things stand"])
        raise RefusedError(f"interrupted before it was done. {' '.join(notes)}", error_code="interrupted") from None
    finally:
        if reminder is not None:
            reminder.cancel()


async def _remind() -> None:
    waited, pause = 0.0, QUIET_SECONDS
    while True:
        await asyncio.sleep(pause)
        waited += pause
        pause = REMINDER_SECONDS
        logger.warning(
            "still waiting after %g s; a provider has %g s for each answer, "
            "another process that holds the account %g s",
            waited,
            CONNECT_SECONDS + ANSWER_SECONDS,
            PATIENCE_SECONDS,
        )
