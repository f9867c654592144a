"""Presenting one refresh token: again, and the same one, while its answer was lost and may still be had."""

import logging
import random
from dataclasses import replace
from urllib.parse import urlsplit

from authpool.clock import Clock
from authpool.config import PoolConfig
from authpool.oauth.grant_request import GrantRequest, doubt
from authpool.oauth.token_client import TokenEndpoint
from authpool.oauth.verdict import Answer, Reply, ReplyLost, TryLater, Verdict, judge
from authpool.refresh.endpoint_watch import EndpointWatch, blames_endpoint, presenter
from authpool.refresh.pool_trouble import Troubles

logger = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""A token whose answer was lost is presented again only so long after the first time (published grace windows)."""
TRIES = 3


class Asker:
    """Asks token endpoints, one POST at a time, and tells `watch` which of them answer."""

    def __init__(
        self, endpoint: TokenEndpoint, watch: EndpointWatch, clock: Clock, rng: random.Random, troubles: Troubles
    ) -> None:
        self._troubles = troubles
        self._endpoint = endpoint
        self._watch = watch
        self._clock = clock
        self._rng = rng

    async def ask(self, request: GrantRequest, pool: PoolConfig) -> tuple[Verdict, bool]:
        """POST, and again with the same token while an answer was lost and the grace windows are open.

        Returns the verdict, and whether an answer was lost on the way to it, so that the token may be spent.
        """
        first_sent = self._clock.monotonic()
        lost = False
        attempt = 0
        while True:
            attempt += 1
            answer = await self._endpoint.post(request.url, request.form, request.headers)
            presented = request.form.get("refresh_token")
            verdict = judge(answer, now=self._clock.time(), codes=pool.codes, presented=presented)
            if isinstance(verdict, TryLater) and verdict.misplaced:
                why = doubt(request.url, pool, answered=isinstance(answer, Reply))
                verdict = replace(verdict, detail=f"{verdict.detail}; {why}")
            self._note(request, pool.name, answer, verdict)
            lost = lost or (isinstance(verdict, TryLater) and verdict.ambiguous)
            pause = self._rng.uniform(0.1, 0.5) * attempt
            too_late = self._clock.monotonic() + pause - first_sent > GRACE_SECONDS
            may_come_yet = isinstance(answer, ReplyLost) and isinstance(verdict, TryLater) and verdict.ambiguous
            if not may_come_yet or attempt == TRIES or too_late:
                return verdict, lost
            await self._clock.sleep(pause)

    def _note(self, request: GrantRequest, pool: str, answer: Answer, verdict: Verdict) -> None:
        host = urlsplit(request.url).hostname
        if not (isinstance(verdict, TryLater) and blames_endpoint(answer, verdict)):
            if self._watch.answered(request.url):
                logger.warning("The token endpoint at %s answers again", host)
            self._troubles.endpoint_up(pool, request.url)
            return
        wait = verdict.retry_after_seconds
        if self._watch.failed(request.url, presenter(request), self._clock.monotonic(), wait):
            logger.error(
                "The token endpoint at %s is down (%s): its accounts serve while their tokens live, and one probe "
                "at a time asks it",
                host,
                verdict.detail,
            )
        if self._watch.down(request.url):
            self._troubles.endpoint_down(pool, request.url, verdict.detail)
