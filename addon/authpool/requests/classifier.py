"""What an upstream's answer means: by the pool's own rules, by what plugins say, else by its status.

Plugins are asked about every answer while its request waits: one that raises or is slow is named in the log, and left
out when that goes on.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

from authpool.config import PoolConfig
from authpool.config.answer_rule import MEANINGS, Meaning
from authpool.errors import raised_at
from authpool.requests.upstream_answer import UpstreamAnswer, rule_meaning, usual_meaning

logger = logging.getLogger(__name__)

SLOW_SECONDS = 1.0
STRIKES = 3
"""So many failures in a row, and a plugin is asked no more until the next reload."""
WAIT = "wait"

type AnswerClass = Meaning | str | None
"""What a plugin says: a meaning, `"wait"` for the body, or None where it has nothing to say."""


class AskedPlugin:
    """One plugin's `authpool_classify_answer`, or what it has in its place, watched."""

    def __init__(
        self,
        name: str,
        ask: Callable[[PoolConfig, UpstreamAnswer], AnswerClass],
        called: str = "authpool_classify_answer",
    ) -> None:
        self._name = name
        self._called = called
        self._ask = ask
        self._strikes = 0

    def say(self, pool: PoolConfig, answer: UpstreamAnswer) -> AnswerClass:
        """Ask it; None as well where it fails."""
        if self._strikes >= STRIKES:
            return None
        began = perf_counter()
        try:
            said = self._ask(pool, answer)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is somebody else's code
            self._strike(f"raised {type(error).__name__}{raised_at(error)}")
            return None
        if said is not None and said != WAIT and said not in MEANINGS:
            self._strike("gave an answer that means nothing")
            return None
        if (took := perf_counter() - began) > SLOW_SECONDS:
            self._strike(f"took {took:.1f} s")
        else:
            self._strikes = 0
        return said

    def _strike(self, what: str) -> None:
        self._strikes += 1
        left_out = "; it is asked no more until the next reload" if self._strikes >= STRIKES else ""
        logger.error("Plugin %s %s in `%s`%s", self._name, what, self._called, left_out)


class Classifier:
    """Judges the answers of one configuration's upstreams; made anew at each reload."""

    def __init__(self, plugins: Sequence[AskedPlugin] = (), of_pools: Mapping[str, AskedPlugin] | None = None) -> None:
        """`of_pools` are those that are asked about the answers of one pool alone, before the others, by its name."""
        self._plugins = plugins
        self._of_pools = {name: [asked, *plugins] for name, asked in (of_pools or {}).items()}

    def meaning(self, pool: PoolConfig, answer: UpstreamAnswer) -> Meaning | None:
        """What an answer means; None while its body must tell, and it may yet."""
        if pool.answers:
            ruled = rule_meaning(answer, pool.answers)
            if ruled != "no rule":
                return ruled
        for plugin in self._of_pools.get(pool.name, self._plugins) if self._of_pools else self._plugins:
            said = plugin.say(pool, answer)
            if said == WAIT and answer.body is None:
                return None
            if said is not None and said != WAIT:
                return said  # type: ignore[return-value]  # `say` has looked
        return usual_meaning(answer)
