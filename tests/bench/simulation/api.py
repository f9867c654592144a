"""The other side: an API that limits each account, and the token endpoint that its grants live or die at."""

import asyncio
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from authpool.accounts.account import Token
from authpool.oauth.token_client import Form
from authpool.oauth.verdict import Answer, Reply
from authpool.requests.upstream_answer import UpstreamAnswer

from .plan import Upstream

REFUSAL_SECONDS = 0.05
"""An upstream is quick to say 401 or 429, and the token endpoint to say anything."""
LIFETIME_SECONDS = 300
"""Of an access token: short, so that refreshes that succeed outnumber those that find a dead grant, as they do."""


class Bucket:
    """A token bucket: `rate` a second flow in, up to `burst`, and each request takes one out."""

    def __init__(self, rate: float, burst: float, level: float) -> None:
        self._rate, self._burst, self._level, self._at = rate, burst, level, 0.0

    def take(self, at: float) -> bool:
        self._level = min(self._burst, self._level + (at - self._at) * self._rate)
        self._at = at
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def told(self) -> dict[str, str]:
        """The fields that tell how it stands; the reset is when it will be full again, as several APIs say it."""
        return {
            "x-ratelimit-limit": str(int(self._burst)),
            "x-ratelimit-remaining": str(int(self._level)),
            "x-ratelimit-reset": str(math.ceil((self._burst - self._level) / self._rate)),
        }

    def next_seconds(self) -> int:
        return max(1, math.ceil((1 - self._level) / self._rate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An answer and how long it takes."""

    answer: UpstreamAnswer
    seconds: float


class Api:
    """Knows accounts by number; tokens are named after them."""

    def __init__(self, upstreams: Sequence[Upstream], now: Callable[[], float]) -> None:
        """`now` tells the seconds of the play."""
        self._upstreams = upstreams
        self._now = now
        self._buckets = [Bucket(upstream.rate, upstream.burst, upstream.level) for upstream in upstreams]
        self._granted = 0

    def ask(self, access_token: str, latency_seconds: float) -> Given:
        """Answer a request that is sent now with an account's access token."""
        number, now = _owner(access_token), self._now()
        upstream, bucket = self._upstreams[number], self._buckets[number]
        if upstream.dead(now):
            return _given(401, {}, REFUSAL_SECONDS)
        served = bucket.take(now)
        headers = bucket.told() if upstream.tells_quota else {}
        if served:
            return _given(200, headers, latency_seconds * upstream.slowness)
        if upstream.tells_retry_after:
            headers["retry-after"] = str(bucket.next_seconds())
        return _given(429, headers, REFUSAL_SECONDS)

    def grant(self, number: int, expires_at: float) -> Token:
        """Sign an account in."""
        self._granted += 1
        return Token(
            access_token=f"{number}-access-{self._granted}",
            refresh_token=f"{number}-refresh-{self._granted}",
            expires_at=int(expires_at),
        )

    async def post(self, url: str, form: Form, headers: Mapping[str, str]) -> Answer:
        """Refresh, as a token endpoint does."""
        await asyncio.sleep(REFUSAL_SECONDS)
        number = _owner(str(form["refresh_token"]))
        if self._upstreams[number].dead(self._now()):
            return Reply(status=400, body=b'{"error": "invalid_grant"}')
        token = self.grant(number, 0)
        fields = {"access_token": token.access_token, "refresh_token": token.refresh_token, "token_type": "Bearer"}
        return Reply(status=200, body=json.dumps(fields | {"expires_in": LIFETIME_SECONDS}).encode())

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        raise AssertionError("nobody has to discover anything")


def _given(status: int, headers: dict[str, str], seconds: float) -> Given:
    return Given(answer=UpstreamAnswer(status=status, header=headers.get), seconds=seconds)


def _owner(token: str) -> int:
    return int(token.partition("-")[0])
