"""What happens to a flow: matched to a pool, stripped of the client's credentials, given an account's on the wire."""

import asyncio
import logging
from collections.abc import Awaitable
from weakref import WeakKeyDictionary

from mitmproxy import http
from mitmproxy.proxy.mode_specs import ReverseMode

from authpool import health
from authpool.answers import CLIENT_NOT_ALLOWED, GATEWAY_ERROR, PLAINTEXT_REFUSED, Refusal
from authpool.config.endpoint_url import is_loopback
from authpool.config.host_pattern import canonical_host
from authpool.failover import Decision
from authpool.lease import Lease
from authpool.proxy.credential import strip_credentials
from authpool.proxy.destination import destination_of, names_another_host
from authpool.proxy.gate import TrafficGate, response_of
from authpool.proxy.message import answer_of, is_grpc, is_stream, rotation_request, telling_fields
from authpool.proxy.ticket import Ticket, Tickets
from authpool.selection import lane_of
from authpool.service import Service
from authpool.upstream_answer import UpstreamAnswer

logger = logging.getLogger(__name__)

OWN_TRAFFIC_MODES = frozenset({"local", "tun"})
"""Modes without a listener that others could reach."""
UNAUTHORIZED = 401
REPLACE_SECONDS = 5.0
"""So long the end of a streamed refusal waits for its token to be replaced, for the client's next request."""


class Traffic:
    """What the flow hooks do, and the gate that they decide for. One per running gateway."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tickets: Tickets = WeakKeyDictionary()
        self.gate = TrafficGate(service, self._tickets)
        self._replacing: set[asyncio.Task[None]] = set()

    # --- hooks ------------------------------------------------------------------------------------------------

    async def take(self, flow: http.HTTPFlow) -> None:
        """Decide about a request before anything of it goes upstream."""
        request = flow.request
        self._give_up(flow)  # a replay of the same flow is decided about anew
        snapshot = self._service.snapshot
        if canonical_host(request.host) == health.HOST or _asks_health(flow, snapshot.config.gateway.health_path):
            self._answer_health(flow)
            return
        ticket = Ticket(destination=destination_of(request))
        pool = snapshot.router.match(*ticket.destination, request.method, request.path)
        if pool is not None:
            strip_credentials(request, pool)
            if is_grpc(request.headers):
                request.stream = True  # both ways at once; so it can't be sent twice
            if request.scheme == "http" and not (pool.allow_plaintext or is_loopback(request.host)):
                self._answer(flow, PLAINTEXT_REFUSED, "authpool: outcome=plaintext_refused")
                return
            if snapshot.config.gateway.client_keys != "off" and _is_stranger(flow):
                self._answer(flow, CLIENT_NOT_ALLOWED, "authpool: outcome=client_not_allowed")
                return
            if names_another_host(flow):
                logger.error("A request for pool %s names another host than %s; refused", pool.name, request.host)
                self.refuse(flow)
                return
            ticket.pool, ticket.shape = pool, (request.method, request.path)
            ticket.lease = Lease(
                pool=pool.name,
                rotation=pool.rotation,
                request=rotation_request(flow),
                max_accounts=snapshot.config.gateway.max_accounts,
            )
            ticket.awaits_body = not request.stream and self._service.broker.needs_body(pool)
        self._tickets[flow] = ticket
        if pool is not None and not ticket.awaits_body:
            await self._acquire(flow, ticket)

    def awaits_body(self, flow: http.HTTPFlow) -> bool:
        """Whether the account is chosen only when the request has arrived whole, by `take_whole`."""
        ticket = self._tickets.get(flow)
        return ticket is not None and ticket.awaits_body

    async def take_whole(self, flow: http.HTTPFlow) -> None:
        """The request has arrived whole: choose the account by its body."""
        await self._acquire(flow, self._tickets[flow])

    async def _acquire(self, flow: http.HTTPFlow, ticket: Ticket) -> None:
        lease, pool, ticket.awaits_body = ticket.lease, ticket.pool, False
        if lease is not None and pool is not None:
            lease.lane = lane_of(pool.cooldown_by, lease.request)
            await self._service.broker.acquire(lease)
            if lease.refusal is not None:
                self._tickets.pop(flow, None)
                self._answer(flow, lease.refusal, lease.comment(lease.refusal.code))

    def answer_headers(self, flow: http.HTTPFlow) -> None:
        """Hear what an upstream says; let streams through as they come, unless the request may yet be sent again."""
        response, ticket = flow.response, self._tickets.get(flow)
        if response is None:
            return
        fields = telling_fields(response.headers)
        if ticket is not None:
            self._hear(ticket, answer_of(response, fields))
            if self.gate.may_resend(flow):
                return
        if is_stream(fields, ticket.pool.stream_types if ticket is not None and ticket.pool is not None else ()):
            response.stream = True

    def _hear(self, ticket: Ticket, answer: UpstreamAnswer) -> None:
        if ticket.lease is not None and ticket.pool is not None:
            ticket.meaning = self._service.snapshot.classifier.meaning(ticket.pool, answer)
            if ticket.meaning is not None:
                self._service.failover.heard(ticket.lease, answer, ticket.meaning)

    async def answered(self, flow: http.HTTPFlow) -> None:
        """An answer that speaks against the account has arrived whole: say whether to send the request again."""
        ticket = self._tickets.get(flow)
        if ticket is None or ticket.lease is None or flow.response is None:
            return
        lease, response = ticket.lease, flow.response
        if ticket.meaning is None:
            body = response.get_content(strict=False) or b""
            self._hear(ticket, answer_of(response, telling_fields(response.headers), body))
        decision = await self._service.failover.decide(lease, ticket.meaning or "ok", resend=True)
        ticket.resend = decision is Decision.RESEND
        if lease.refusal is not None:
            flow.response = response_of(lease.refusal)
        flow.comment = lease.comment("resending" if ticket.resend else _outcome(flow))

    def finished(self, flow: http.HTTPFlow) -> Awaitable[object] | None:
        """The answer, or the end, of a flow; what it answers is to be awaited."""
        ticket = self._tickets.get(flow)
        if ticket is None or ticket.lease is None:
            return None
        try:
            return self._conclude(flow, ticket, ticket.lease)
        finally:
            self._service.broker.release(ticket.lease)

    def _conclude(self, flow: http.HTTPFlow, ticket: Ticket, lease: Lease) -> Awaitable[object] | None:
        response, flow.comment = flow.response, lease.comment(_outcome(flow))
        trailers = None if response is None else response.trailers
        if response is not None and trailers is not None and "grpc-status" in trailers:
            self._hear(ticket, answer_of(response, telling_fields(trailers)))
        elif response is not None and ticket.meaning is None:  # too long to be judged by its body
            self._hear(ticket, answer_of(response, telling_fields(response.headers), b""))
        streamed = flow.request.stream or (response is not None and response.stream)
        if not (ticket.meaning == "bad_token" and lease.sends == 1 and streamed):
            return None
        # It could not be sent again; but the next request shall not meet the same bad token.
        task = asyncio.create_task(self._replace_token(lease), name=f"replace the token of {lease.address}")
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)
        return asyncio.wait({task}, timeout=REPLACE_SECONDS)

    async def _replace_token(self, lease: Lease) -> None:
        try:
            await self._service.failover.decide(lease, "bad_token", resend=False)
        except Exception:
            logger.exception("Replacing the token of %s failed", lease.address)

    def refuse(self, flow: http.HTTPFlow) -> None:
        """Something went wrong in a hook: the request must not go on."""
        self._give_up(flow)
        self._answer(flow, GATEWAY_ERROR, "authpool: outcome=gateway_error")

    def _give_up(self, flow: http.HTTPFlow) -> None:
        ticket = self._tickets.pop(flow, None)
        if ticket is not None and ticket.lease is not None:
            self._service.broker.release(ticket.lease)

    def _answer_health(self, flow: http.HTTPFlow) -> None:
        request, snapshot = flow.request, self._service.snapshot
        there = {name: snapshot.pools.get(name) for name in snapshot.config.pools}
        counts = {name: {} if pool is None else pool.counts() for name, pool in there.items()}
        answer = health.health(counts, self._service.dry_pools())
        named = canonical_host(request.host) == health.HOST
        if named and (request.scheme, request.path.partition("?")[0]) != ("http", health.PATH):
            answer = health.NOT_FOUND
        request.stream = False
        body = b"" if request.method == "HEAD" else answer.body()
        flow.response = http.Response.make(answer.status, body, dict(health.HEADERS))
        flow.comment = "authpool: outcome=health"

    def _answer(self, flow: http.HTTPFlow, refusal: Refusal, comment: str) -> None:
        # A response beside a request that streams would crash the stream, and log the body.
        flow.request.stream = False
        flow.response = response_of(refusal)
        flow.comment = comment


def _asks_health(flow: http.HTTPFlow, path: str | None) -> bool:
    """Whether a client of reverse mode, which can name no host, asks for the gateway's health."""
    asked = path is not None and flow.request.path.partition("?")[0] == path
    return asked and isinstance(flow.client_conn.proxy_mode, ReverseMode)


def _is_stranger(flow: http.HTTPFlow) -> bool:
    """Whether another machine asks; one may get through while a listener that was open is being closed."""
    client = flow.client_conn
    local = flow.is_replay or client.proxy_mode.type_name in OWN_TRAFFIC_MODES
    return not (local or is_loopback(client.peername[0]))


def _outcome(flow: http.HTTPFlow) -> str:
    if flow.response is not None:
        status: int = flow.response.status_code
        return (flow.response.headers.get("Authpool-Error") if status >= UNAUTHORIZED else None) or str(status)
    return "error"
