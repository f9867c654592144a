"""Telling a token endpoint that is down from accounts in trouble, and holding back those who would ask it."""

import random
from dataclasses import dataclass, field

from authpool.accounts.account import fingerprint
from authpool.oauth.grant_request import GrantRequest
from authpool.oauth.verdict import Answer, Reply, TryLater, Verdict
from authpool.refresh.outcome import Unavailable

ACCOUNTS = 2
"""So many different accounts got no answer, and nobody got one in between: the endpoint is down. One account that
fails again and again may be in trouble of its own, and must not hold back the others."""
PAUSE_SECONDS = (1.0, 15.0)
"""Between probes: doubled from the first to the second, and jittered down to half."""
PROBE_SECONDS = 5.0
"""While a probe is out, nobody knows for how long: come again after this."""
MAX_HOLD_SECONDS = 300.0
"""A Retry-After holds back the one who was told it for its whole length, but everybody else only so long: a limit on
one account must not let the others run dry (they begin this long before their tokens end)."""


@dataclass(slots=True, kw_only=True)
class _Trouble:
    """An endpoint's failures since it last answered. Times are monotonic seconds."""

    failed: set[str] = field(default_factory=set)
    down: bool = False
    pause: float = 0.0
    until: float = 0.0
    probe: str | None = None


class EndpointWatch:
    """Which token endpoints are down, by URL; `now` is in monotonic seconds. While one is, one probe at a time asks.

    `who` tells apart those who ask, as `presenter` does.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._troubles: dict[str, _Trouble] = {}

    def down(self, url: str) -> bool:
        return url in self._troubles and self._troubles[url].down

    def held_back(self, url: str, now: float, *, probe: bool) -> Unavailable | None:
        """Why not to ask, and how long; None when one may. `probe`: this one may find out whether it is back."""
        if not self.down(url):
            return None
        trouble = self._troubles[url]
        wait = trouble.until - now
        if wait <= 0 and trouble.probe is not None:
            wait = PROBE_SECONDS
        if wait <= 0 and probe:
            return None
        wait = max(wait, PAUSE_SECONDS[0])
        return Unavailable(detail="the token endpoint is down", retry_after_seconds=wait, endpoint=url, asked=False)

    def begin(self, url: str, who: str) -> None:
        """Somebody who may ask does: the probe, where the endpoint is down."""
        if self.down(url):
            self._troubles[url].probe = who

    def end(self, url: str, who: str) -> None:
        """Whatever came of it, the next one may be the probe."""
        trouble = self._troubles.get(url)
        if trouble is not None and trouble.probe == who:
            trouble.probe = None

    def failed(self, url: str, who: str, now: float, retry_after_seconds: float | None = None) -> bool:
        """Note that no answer came; True when that is what tells that the endpoint is down."""
        trouble = self._troubles.setdefault(url, _Trouble())
        before = trouble.down
        if not before:
            trouble.failed.add(who)
        if retry_after_seconds:
            trouble.down = True
            trouble.until = max(trouble.until, now + min(retry_after_seconds, MAX_HOLD_SECONDS))
        elif len(trouble.failed) >= ACCOUNTS or before:
            trouble.down = True
            if now >= trouble.until:  # those that were under way with it tell nothing new
                shortest, longest = PAUSE_SECONDS
                trouble.pause = min(longest, max(shortest, trouble.pause * 2))
                trouble.until = now + trouble.pause * self._rng.uniform(0.5, 1.0)
        return trouble.down and not before

    def answered(self, url: str) -> bool:
        """Note an answer, whatever it says of the account; True when the endpoint was down until now."""
        trouble = self._troubles.pop(url, None)
        return trouble is not None and trouble.down


def presenter(request: GrantRequest) -> str:
    """Who asks: the refresh token, by fingerprint, or else the client."""
    return fingerprint(request.form.get("refresh_token") or request.client)


def blames_endpoint(answer: Answer, verdict: Verdict) -> bool:
    """Whether an answer tells of the endpoint's trouble. An OAuth answer that nobody understands is the account's."""
    if not isinstance(verdict, TryLater):
        return False
    if verdict.retry_after_seconds or not isinstance(answer, Reply):
        return True
    return answer.status in (408, 429) or answer.status >= 500 or not answer.body.lstrip().startswith(b"{")
