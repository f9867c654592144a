"""How requests end: what is told of each, in the flow, to who observes, and to who counts its client."""

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from mitmproxy import http

from authpool.gateway.service import Service
from authpool.proxy.client_access import Admission, ClientAccess
from authpool.requests.observer import Observe, RequestEnd
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.refusals import CODES

UNAUTHORIZED = 401
FAILED_OVER = ":repeat:"
"""The mark of a flow that went on to another account: mitmproxy's tools show an emoji, and ``~marked`` finds it."""


@dataclass(slots=True, kw_only=True)
class Begun:
    """What there will be to tell of a request when it ends."""

    pool: str = ""
    pooled: PooledRequest | None = None
    admission: Admission | None = None
    client: str = ""
    """Whose gateway key was shown, let in or not."""
    health: bool = False

    def comment(self, outcome: str) -> str:
        """The flow's comment."""
        if self.pooled is not None:
            return self.pooled.comment(outcome)
        return f"{self.pool or 'authpool:'} outcome={outcome}{f' client={self.client}' if self.client else ''}"


class Endings:
    """What was begun, until it ends. `observe` hears how, as long as it `listens`."""

    def __init__(self, service: Service, access: ClientAccess, observe: Observe, listens: Callable[[], bool]) -> None:
        self._service = service
        self._access = access
        self._observe = observe
        self._listens = listens
        self._begun: WeakKeyDictionary[http.HTTPFlow, Begun] = WeakKeyDictionary()

    def begin(self, flow: http.HTTPFlow) -> Begun:
        """A request begins; a replay takes the place of what the flow was."""
        before = self._begun.pop(flow, None)
        if before is not None and before.admission is not None:
            self._access.end(before.admission)
        if flow.marked == FAILED_OVER:
            flow.marked = ""
        self._begun[flow] = begun = Begun()
        return begun

    def expect(self, flow: http.HTTPFlow) -> Begun:
        """What there will be to tell, whether or not the request was looked at before."""
        return self._begun.setdefault(flow, Begun())

    def ended(self, flow: http.HTTPFlow) -> None:
        """A flow has its answer, or will have none: mark it if it failed over, and tell. Before `Traffic.finished`."""
        begun = self._begun.pop(flow, None)
        if begun is None:
            return
        if begun.pooled is not None and begun.pooled.failed_over and not flow.marked:
            flow.marked = FAILED_OVER
        if begun.admission is not None:
            self._left(flow, begun, begun.admission)
        if self._listens():
            self._observe(_end_of(flow, begun, self._service.clock.time()))

    def _left(self, flow: http.HTTPFlow, begun: Begun, admission: Admission) -> None:
        """A client that was let in is done with its request."""
        self._access.ended(flow, admission)
        if begun.pooled is None:
            flow.comment = begun.comment(outcome_of(flow))
        elif begun.pooled.sends and _account_of(begun.pooled):
            self._service.clients.used(admission.client, begun.pooled.served_by)


def _end_of(flow: http.HTTPFlow, begun: Begun, now: float) -> RequestEnd:
    pooled, request, response = begun.pooled, flow.request, flow.response
    address = str(flow.client_conn.peername[0])
    return RequestEnd(
        at=now,
        client=begun.client or address,
        address=address,
        method=request.method,
        host=request.host,
        path=request.path.partition("?")[0],
        pool=begun.pool,
        account="" if pooled is None else _account_of(pooled),
        attempts=0 if pooled is None else pooled.sends,
        status=None if response is None else response.status_code,
        waited_seconds=0.0 if pooled is None else pooled.waited_seconds,
        outcome="health" if begun.health else _ended_how(flow),
    )


def _account_of(pooled: PooledRequest) -> str:
    """The name of who served, without the pool's; empty where nobody did."""
    return pooled.served_by.partition("/")[2]


def outcome_of(flow: http.HTTPFlow) -> str:
    """The gateway's own code where it refused, else the status, for the flow's comment."""
    if flow.response is None:
        return "error"
    status: int = flow.response.status_code
    code = flow.response.headers.get("Authpool-Error") if status >= UNAUTHORIZED else None
    return code if code in CODES else str(status)  # an upstream may say anything


def _ended_how(flow: http.HTTPFlow) -> str:
    outcome = outcome_of(flow)
    return outcome if outcome in CODES else "error" if flow.response is None or flow.error is not None else "answered"
