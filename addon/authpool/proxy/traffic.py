"""What happens to a flow: matched to a pool, stripped of the client's credentials, given an account's on the wire."""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from mitmproxy import http

from authpool.config.endpoint_url import is_loopback
from authpool.gateway.service import Service
from authpool.pool.refused_token import RefusedToken
from authpool.proxy.credential import strip_credentials
from authpool.proxy.destination import destination_of, names_another_host
from authpool.proxy.gate import TrafficGate, response_of
from authpool.proxy.message import (
    answer_of,
    content_coding,
    is_grpc,
    is_stream,
    looked_at,
    rotation_request,
    telling_fields,
)
from authpool.proxy.probes import answer_probe
from authpool.proxy.ticket import Ticket, Tickets
from authpool.requests.failover import Decision
from authpool.requests.observer import Observe, RequestEnd
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.refusals import CLIENT_NOT_ALLOWED, CODES, GATEWAY_ERROR, PLAINTEXT_REFUSED, Refusal
from authpool.requests.upstream_answer import UpstreamAnswer
from authpool.rotation.selection import lane_of

logger = logging.getLogger(__name__)

OWN_TRAFFIC_MODES = frozenset({"local", "tun"})
"""Modes without a listener that others could reach."""
UNAUTHORIZED = 401
REPLACE_SECONDS = 5.0
"""So long the end of a streamed refusal waits for its token to be replaced, for the client's next request."""


FAILED_OVER = ":repeat:"
"""The mark of a flow that went on to another account: mitmproxy's tools show an emoji, and ``~marked`` finds it."""


@dataclass(slots=True, kw_only=True)
class _Begun:
    """What there will be to tell of a request when it ends."""

    pool: str = ""
    pooled: PooledRequest | None = None
    health: bool = False


class Traffic:
    """What the flow hooks do, and the gate that they decide for. One per running gateway."""

    def __init__(self, service: Service, observe: Observe = lambda end: None) -> None:
        """`observe` hears how each request ended."""
        self._service = service
        self._observe = observe
        self._tickets: Tickets = WeakKeyDictionary()
        self._begun: WeakKeyDictionary[http.HTTPFlow, _Begun] = WeakKeyDictionary()
        self.gate = TrafficGate(service, self._tickets)
        self._replacing: set[asyncio.Task[None]] = set()

    # --- hooks ------------------------------------------------------------------------------------------------

    async def take(self, flow: http.HTTPFlow) -> None:
        """Decide about a request before anything of it goes upstream."""
        request = flow.request
        self._give_up(flow)  # a replay of the same flow is decided about anew
        snapshot = self._service.snapshot
        self._begun[flow] = begun = _Begun()
        if flow.marked == FAILED_OVER:
            flow.marked = ""
        ticket = Ticket(destination=destination_of(request))
        pool = snapshot.router.match(*ticket.destination, request.method, request.path)
        if pool is not None:
            begun.pool = pool.name
            strip_credentials(request, pool)
            if is_grpc(request.headers):
                request.stream = True  # both ways at once; so it can't be sent twice
            if request.scheme == "http" and not (pool.allow_plaintext or is_loopback(request.host)):
                self._answer(flow, PLAINTEXT_REFUSED)
                return
            if snapshot.config.gateway.client_keys != "off" and _is_stranger(flow):
                self._answer(flow, CLIENT_NOT_ALLOWED)
                return
            if names_another_host(flow):
                logger.error("A request for pool %s names another host than %s; refused", pool.name, request.host)
                self.refuse(flow)
                return
            ticket.pool, ticket.shape = pool, (request.method, request.path)
            ticket.pooled = begun.pooled = PooledRequest(
                pool=pool.name,
                rotation=pool.rotation,
                request=rotation_request(flow),
                max_accounts=snapshot.config.gateway.max_accounts,
            )
            ticket.awaits_body = not request.stream and self._service.picker.needs_body(pool)
        self._tickets[flow] = ticket
        if pool is not None and not ticket.awaits_body:
            await self._acquire(flow, ticket)

    def awaits_body(self, flow: http.HTTPFlow) -> bool:
        """Whether the account is chosen only when the request has arrived whole, by `take_whole`."""
        ticket = self._tickets.get(flow)
        return ticket is not None and ticket.awaits_body

    async def take_whole(self, flow: http.HTTPFlow) -> None:
        """The request has arrived whole: choose the account by its body."""
        ticket = self._tickets[flow]
        if ticket.pooled is not None and content_coding(flow.request):
            await asyncio.to_thread(ticket.pooled.request.body)  # decompressed there, and kept
            if self._tickets.get(flow) is not ticket:  # the client has left meanwhile
                return
        await self._acquire(flow, ticket)

    async def _acquire(self, flow: http.HTTPFlow, ticket: Ticket) -> None:
        pooled, pool, ticket.awaits_body = ticket.pooled, ticket.pool, False
        if pooled is not None and pool is not None:
            pooled.lane = lane_of(pool.cooldown_by, pooled.request)
            await self._service.picker.acquire(pooled)
            if pooled.refusal is not None:
                self._tickets.pop(flow, None)
                self._answer(flow, pooled.refusal)

    def answer_headers(self, flow: http.HTTPFlow) -> None:
        """Hear what an upstream says; let streams through as they come, unless the request may yet be sent again."""
        response, ticket = flow.response, self._tickets.get(flow)
        if response is None:
            return
        fields = telling_fields(response.headers)
        if ticket is not None:
            ticket.decided = False
            self._hear(ticket, answer_of(response, fields))
            if self.gate.may_resend(flow):
                return
        if is_stream(fields, ticket.pool.stream_types if ticket is not None and ticket.pool is not None else ()):
            response.stream = True

    def _hear(self, ticket: Ticket, answer: UpstreamAnswer) -> None:
        if ticket.pooled is not None and ticket.pool is not None and ticket.pooled.sends:  # else another addon said it
            ticket.meaning = self._service.snapshot.classifier.meaning(ticket.pool, answer)
            if ticket.meaning is not None:
                self._service.failover.heard(ticket.pooled, answer, ticket.meaning)

    async def answered(self, flow: http.HTTPFlow) -> None:
        """An answer that speaks against the account has arrived whole: say whether to send the request again."""
        ticket = self._tickets.get(flow)
        if ticket is None or ticket.pooled is None or flow.response is None:
            return
        pooled, response = ticket.pooled, flow.response
        ticket.decided = True
        if ticket.meaning is None:
            coded = content_coding(response)
            body = await asyncio.to_thread(looked_at, response) if coded else looked_at(response)
            self._hear(ticket, answer_of(response, telling_fields(response.headers), body))
        decision = await self._service.failover.decide(pooled, ticket.meaning or "ok", resend=True)
        ticket.resend = decision is Decision.RESEND
        if pooled.refusal is not None:
            flow.response = response_of(pooled.refusal, flow.request)
        flow.comment = pooled.comment("resending" if ticket.resend else _outcome(flow))

    def finished(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        """The answer, or the end, of a flow; what it answers is to be awaited.

        The flow may be kept for as long as mitmproxy runs: nothing of ours stays with it, the token least of all. A
        flow without a ticket gets nothing out.
        """
        ticket = self._tickets.get(flow)
        try:
            return None if ticket is None or ticket.pooled is None else self._conclude(flow, ticket, ticket.pooled)
        finally:
            self._give_up(flow)

    def _conclude(self, flow: http.HTTPFlow, ticket: Ticket, pooled: PooledRequest) -> Awaitable[object] | None:
        response, flow.comment = flow.response, pooled.comment(_outcome(flow))
        trailers = None if response is None else response.trailers
        if response is not None and trailers is not None and "grpc-status" in trailers:
            self._hear(ticket, answer_of(response, telling_fields(trailers)))
        elif response is not None and ticket.meaning is None:  # too long to be judged by its body, or cut off
            self._hear(ticket, answer_of(response, telling_fields(response.headers), b""))
        refused = pooled.refused_token()
        if ticket.meaning != "bad_token" or ticket.decided or refused is None or response is None:
            return None
        # It could not be sent again; but the next request shall not meet the same bad token.
        task = asyncio.create_task(self._replace_token(refused), name=f"replace the token of {pooled.address}")
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)
        return asyncio.wait({task}, timeout=REPLACE_SECONDS)

    async def _replace_token(self, refused: RefusedToken) -> None:
        try:
            await self._service.failover.replace(refused)
        except Exception:
            logger.exception("Replacing the token of %s failed", refused.key)

    def refuse(self, flow: http.HTTPFlow) -> None:
        """Something went wrong in a hook: the request must not go on."""
        self._give_up(flow)
        self._begun.setdefault(flow, _Begun())
        self._answer(flow, GATEWAY_ERROR)

    def _give_up(self, flow: http.HTTPFlow) -> None:
        ticket = self._tickets.pop(flow, None)
        if ticket is not None and ticket.pooled is not None:
            self._service.picker.release(ticket.pooled)

    def answer_health(self, flow: http.HTTPFlow, *, stopping: bool) -> bool:
        """Answer a request that is about the gateway itself, at once; whether it was one."""
        answer = answer_probe(flow, self._service, stopping=stopping)
        if answer is None:
            return False
        self._give_up(flow)  # the replay of another answer
        self._begun[flow] = _Begun(health=True)
        flow.request.stream = False
        flow.response, flow.comment = answer, "authpool: outcome=health"
        return True

    def _answer(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        # A response beside a request that streams would crash the stream, and log the body.
        flow.request.stream = False
        flow.response = response_of(refusal, flow.request)
        begun = self._begun.get(flow, _Begun())
        if begun.pooled is not None:
            flow.comment = begun.pooled.comment(refusal.code)
        else:
            flow.comment = f"{begun.pool or 'authpool:'} outcome={refusal.code}"

    # --- how it ended -----------------------------------------------------------------------------------------

    def ended(self, flow: http.HTTPFlow) -> None:
        """A flow has its answer, or will have none: mark it if it failed over, and tell. Before `finished`."""
        begun = self._begun.pop(flow, None)
        if begun is None:
            return
        pooled, request, response = begun.pooled, flow.request, flow.response
        if pooled is not None and pooled.failed_over and not flow.marked:
            flow.marked = FAILED_OVER
        served_by = "" if pooled is None else pooled.served_by.partition("/")[2]
        self._observe(
            RequestEnd(
                at=self._service.clock.time(),
                client=str(flow.client_conn.peername[0]),
                method=request.method,
                host=request.host,
                path=request.path.partition("?")[0],
                pool=begun.pool,
                account=served_by,
                attempts=0 if pooled is None else pooled.sends,
                status=None if response is None else response.status_code,
                waited_seconds=0.0 if pooled is None else pooled.waited_seconds,
                outcome="health" if begun.health else _ended_how(flow),
            )
        )


def _ended_how(flow: http.HTTPFlow) -> str:
    outcome = _outcome(flow)
    return outcome if outcome in CODES else "error" if flow.response is None or flow.error is not None else "answered"


def _is_stranger(flow: http.HTTPFlow) -> bool:
    """Whether another machine asks; one may get through while a listener that was open is being closed."""
    client = flow.client_conn
    local = flow.is_replay or client.proxy_mode.type_name in OWN_TRAFFIC_MODES
    return not (local or is_loopback(client.peername[0]))


def _outcome(flow: http.HTTPFlow) -> str:
    if flow.response is None:
        return "error"
    status: int = flow.response.status_code
    code = flow.response.headers.get("Authpool-Error") if status >= UNAUTHORIZED else None
    return code if code in CODES else str(status)  # an upstream may say anything
