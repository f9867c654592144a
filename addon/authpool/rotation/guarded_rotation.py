"""A plugin's rotation, watched: whatever it does, each request gets an account that can serve.

It is called for every request, so the guard costs a fraction of a microsecond, two looks at the clock included.
What it can't do is interrupt a call that never returns; rotations may not wait, and run in the gateway's event loop.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from time import perf_counter

from authpool.accounts.account import AccountKey
from authpool.errors import raised_at
from authpool.rotation.quota import Quota
from authpool.rotation.rotation import Rotation, RotationRequest

logger = logging.getLogger(__name__)

SLOW_SECONDS = 1.0
STRIKES = 3
"""So many failures in a row of one of its methods, and the plugin's rotation is left out until the next reload."""
QUIET_SECONDS = 60.0
"""At most one line about the failures of one method in this time."""


class GuardedRotation(Rotation):
    """Hands every call on to a plugin's rotation. When that fails, accounts take turns instead.

    `plugin` and `pool` are for the log.
    """

    def __init__(self, inner: Rotation, *, plugin: str, pool: str, timer: Callable[[], float] = perf_counter) -> None:
        self.inner = inner
        self.needs_body = inner.needs_body
        self._who = f"The rotation of plugin {plugin} (pool {pool})"
        self._timer = timer
        self._members: dict[AccountKey, None] = {}
        self._turns: OrderedDict[AccountKey, None] | None = None
        """The members in the order in which they take turns, from the first time they have to."""
        self._left_out = False
        self._strikes: dict[str, int] = {}
        self._told_at: dict[str, float] = {}
        # What the plugin leaves as it is costs nothing: the method of the base class is called directly.
        for name in ("started", "finished", "observe"):
            if getattr(type(inner), name) is getattr(Rotation, name):
                setattr(self, name, getattr(inner, name))

    def add(self, key: AccountKey) -> None:
        self._members[key] = None
        if self._turns is not None:
            self._turns[key] = None
        self._tell("add", self.inner.add, key)

    def remove(self, key: AccountKey) -> None:
        self._members.pop(key, None)
        if self._turns is not None:
            self._turns.pop(key, None)
        self._tell("remove", self.inner.remove, key)

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        if self._left_out:
            return self._take_turns(tried)
        began = self._timer()
        try:
            key = self.inner.choose(request, tried)
            # Each look costs as much as a rotation's own step, so there are no more than needed.
            if key not in self._members or (tried and key in tried):
                wrong = self._what_is_wrong(key, tried)
                if wrong:
                    self._strike("choose", wrong)
                    return self._take_turns(tried)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is somebody else's code
            self._strike("choose", f"raised {type(error).__name__}{raised_at(error)}")
            return self._take_turns(tried)
        if self._timer() - began > SLOW_SECONDS or self._strikes:
            self._note_time("choose", self._timer() - began)
        return key

    def _what_is_wrong(self, key: AccountKey | None, tried: Collection[AccountKey]) -> str:
        if key is not None:
            return "chose an account that can't serve this request"
        return "chose nobody" if any(member not in tried for member in self._members) else ""

    def started(self, key: AccountKey) -> None:
        self._tell("started", self.inner.started, key)

    def finished(self, key: AccountKey) -> None:
        self._tell("finished", self.inner.finished, key)

    def observe(self, key: AccountKey, quota: Quota) -> None:
        self._tell("observe", self.inner.observe, key, quota)

    def _tell[**P](self, name: str, method: Callable[P, None], *arguments: P.args, **keywords: P.kwargs) -> None:
        if self._left_out:
            return
        began = self._timer()
        try:
            method(*arguments, **keywords)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            self._strike(name, f"raised {type(error).__name__}{raised_at(error)}")
            return
        self._note_time(name, self._timer() - began)

    def _note_time(self, name: str, took_seconds: float) -> None:
        if took_seconds > SLOW_SECONDS:
            self._strike(name, f"took {took_seconds:.1f} s")
        elif self._strikes:
            self._strikes.pop(name, None)

    def _take_turns(self, tried: Collection[AccountKey]) -> AccountKey | None:
        if self._turns is None:
            self._turns = OrderedDict(self._members)
        for key in self._turns:
            if key not in tried:
                self._turns.move_to_end(key)
                return key
        return None

    def _strike(self, name: str, what: str) -> None:
        """Count a failure of one method; a choice that works in between does not make good for another method."""
        self._strikes[name] = self._strikes.get(name, 0) + 1
        if self._strikes[name] >= STRIKES:
            self._left_out = True
            logger.error(
                "%s %s in `%s`, %d times in a row: it is left out, and accounts take turns until the next reload",
                *(self._who, what, name, STRIKES),
            )
            return
        now = self._timer()
        if now - self._told_at.get(name, -QUIET_SECONDS) >= QUIET_SECONDS:
            self._told_at[name] = now
            logger.error("%s %s in `%s`; the requests are served all the same", self._who, what, name)
