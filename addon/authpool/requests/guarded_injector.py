"""A plugin's injector, watched: a request is signed as it should be, or it is not sent."""

import logging
import re
from collections.abc import Callable, Iterator
from time import perf_counter

from authpool.accounts.account import Account
from authpool.accounts.printable import clip_reason
from authpool.config.injection import is_header_for_credentials
from authpool.errors import InjectionRefusedError, raised_at
from authpool.requests.classifier import AskedPlugin
from authpool.requests.injector import Injected, Injector, OutgoingRequest
from authpool.requests.refusals import GATEWAY_ERROR, Refusal
from authpool.requests.upstream_answer import UpstreamAnswer

logger = logging.getLogger(__name__)

SLOW_SECONDS = 1.0
STRIKES = 3
"""So often in a row it may take too long; then it is asked no more until the next reload, and its pool serves none."""
QUIET_SECONDS = 60.0
"""At most one line about its failures in this time."""
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 §5.5


class GuardedInjector:
    """Hands every call on to a plugin's injector. `plugin` and `pool` are for the log."""

    def __init__(self, inner: Injector, *, plugin: str, pool: str, timer: Callable[[], float] = perf_counter) -> None:
        self.inner = inner
        self.plugin = plugin
        self.client_headers = frozenset(name.lower().replace("_", "-").encode() for name in inner.client_headers)
        self.client_parameters = frozenset(name.lower() for name in inner.client_parameters)
        self._who = f"The injector of plugin {plugin} (pool {pool})"
        self._timer = timer
        self._strikes = 0
        self._told_at = -QUIET_SECONDS
        self._hears = type(inner).again is not Injector.again

    def inject(self, request: OutgoingRequest, account: Account) -> Injected | Refusal:
        """What to put on, looked at; or why the request is not sent."""
        if self._strikes >= STRIKES:
            return GATEWAY_ERROR
        began = self._timer()
        try:
            injected = self.inner.inject(request, account)
            problem = _what_is_wrong(injected)
        except InjectionRefusedError as refused:
            return Refusal(code="request_refused", detail=clip_reason(refused.detail))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is somebody else's code
            return self._failed(f"raised {type(error).__name__}{raised_at(error)}")
        if problem:
            return self._failed(problem)
        self._note_time(self._timer() - began)
        return injected

    def again(self, request: OutgoingRequest, answer: UpstreamAnswer, account: Account) -> bool:
        """Whether the request is to be sent once more; no, where the plugin fails."""
        if not self._hears:
            return False
        try:
            return self.inner.again(request, answer, account) is True
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            self._tell(f"raised {type(error).__name__}{raised_at(error)} in `again`; the answer is taken as it is")
            return False

    def judge(self) -> AskedPlugin | None:
        """The plugin as one that is asked what answers mean; None where it has nothing to say."""
        if type(self.inner).meaning is Injector.meaning:
            return None
        return AskedPlugin(self.plugin, lambda _, answer: self.inner.meaning(answer), "meaning")

    def _failed(self, what: str) -> Refusal:
        self._tell(f"{what} in `inject`; the request is refused")
        return GATEWAY_ERROR

    def _tell(self, what: str) -> None:
        now = self._timer()
        if now - self._told_at >= QUIET_SECONDS:
            self._told_at = now
            logger.error("%s %s", self._who, what)

    def _note_time(self, took_seconds: float) -> None:
        if took_seconds <= SLOW_SECONDS:
            self._strikes = 0
            return
        self._strikes += 1
        left_out = ": it is asked no more, and its requests are refused until the next reload"
        ending = left_out if self._strikes >= STRIKES else ""
        logger.error("%s took %.1f s in `inject`%s", self._who, took_seconds, ending)


def _what_is_wrong(injected: object) -> str:
    if not isinstance(injected, Injected):
        return f"answered a {type(injected).__name__}, not an Injected"
    if not any(value is not None for value in (*injected.headers.values(), *injected.query.values())):
        return "put on nothing"
    if not all(isinstance(text, str) for text in _texts(injected)):
        return "put on something that is no text"
    for name, value in injected.headers.items():
        if not is_header_for_credentials(name):
            return "put on a header that belongs to the connection, or is none"
        if value is not None and not _VALUE.fullmatch(value):
            return "put on a header with a character that no header may have"
    return ""


def _texts(injected: Injected) -> Iterator[object]:
    yield from injected.secrets or ()
    for put_on in (injected.headers, injected.query):
        yield from put_on
        yield from [value for value in put_on.values() if value is not None]
