"""Presenting one refresh token: again, and the same one, while its answer was lost and may still be had."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.errors import ConfigurationError
from authpool.oauth.grant_request import GrantRequest, doubt
from authpool.oauth.token_client import ANSWER_SECONDS, CONNECT_SECONDS, Form, TokenEndpoint
from authpool.oauth.verdict import Answer, Reply, ReplyLost, TryLater, Verdict, judge

GRACE_SECONDS = 10.0
"""A token whose answer was lost is presented again only so long after the first time (published grace windows)."""
TRIES = 3
POST_SECONDS = CONNECT_SECONDS + ANSWER_SECONDS
"""So long one POST may take."""
TOO_LATE = "the hold on the account ends too soon for the token endpoint to be asked"


type Heard = Callable[[GrantRequest, PoolConfig, Answer, Verdict], None]
"""Told of each answer, and what it means."""


class TokenRequests:
    """Asks token endpoints, one POST at a time."""

    def __init__(self, endpoint: TokenEndpoint, clock: Clock, rng: random.Random, heard: Heard) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._rng = rng
        self._heard = heard

    async def ask(
        self,
        request: GrantRequest,
        pool: PoolConfig,
        deadline: float | None = None,
        may_ask_again: Callable[[], Awaitable[bool]] | None = None,
    ) -> tuple[Verdict, bool]:
        """POST, and again with the same token while an answer was lost and the grace windows are open.

        Nothing is sent that could be under way at the `deadline` (monotonic seconds) of the hold, and what is under way
        then is given up; `may_ask_again` is asked before each further time. Returns the verdict, and whether an answer
        was lost on the way to it, so that the token may be spent.
        """
        if not enough_time(deadline, self._clock):
            return TryLater(detail=TOO_LATE), False
        first_sent = self._clock.monotonic()
        lost = False
        attempt = 0
        while True:
            attempt += 1
            try:
                form = request.sent_form(self._clock.time())
            except ConfigurationError as error:  # a key that is being exchanged, or gone: nothing was sent
                return TryLater(detail=str(error)), lost
            answer = await self._post(request, form, deadline)
            verdict = judge(answer, now=self._clock.time(), codes=pool.codes, presented=request.presented)
            if isinstance(verdict, TryLater) and verdict.misplaced:
                why = doubt(request.url, pool, answered=isinstance(answer, Reply))
                verdict = replace(verdict, detail=f"{verdict.detail}; {why}")
            self._heard(request, pool, answer, verdict)
            lost = lost or (isinstance(verdict, TryLater) and verdict.ambiguous)
            pause = self._rng.uniform(0.1, 0.5) * attempt
            too_late = self._clock.monotonic() + pause - first_sent > GRACE_SECONDS
            too_late = too_late or not enough_time(deadline, self._clock, pause)
            may_come_yet = isinstance(answer, ReplyLost) and isinstance(verdict, TryLater) and verdict.ambiguous
            if not may_come_yet or attempt == TRIES or too_late:
                return verdict, lost
            await self._clock.sleep(pause)
            if may_ask_again is not None and not await may_ask_again():
                return verdict, lost

    async def _post(self, request: GrantRequest, form: Form, deadline: float | None) -> Answer:
        if deadline is None:
            return await self._endpoint.post(request.url, form, request.headers)
        posting = asyncio.ensure_future(self._endpoint.post(request.url, form, request.headers))
        ending = asyncio.ensure_future(self._clock.sleep(max(0.0, deadline - self._clock.monotonic())))
        try:
            await asyncio.wait({posting, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (posting, ending):
                task.cancel()
            await asyncio.gather(posting, ending, return_exceptions=True)
        if posting.cancelled():
            return ReplyLost(detail="the hold on the account ended before the answer came")
        return posting.result()


def enough_time(deadline: float | None, clock: Clock, pause: float = 0.0) -> bool:
    """Whether a POST that begins in `pause` seconds is over before the `deadline` (monotonic seconds) of a hold."""
    return deadline is None or clock.monotonic() + pause + POST_SECONDS <= deadline
