"""What happens to a flow: matched to a pool, stripped of the client's credentials, given an account's on the wire."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

from mitmproxy import http

from authpool.clients.keyring import Denial
from authpool.config.pool_config import PoolConfig
from authpool.gateway.service import Service
from authpool.pool.refused_token import RefusedToken
from authpool.proxy.client_access import ClientAccess
from authpool.proxy.credential import PLACEHOLDER, strip_credentials
from authpool.proxy.destination import destination_of
from authpool.proxy.endings import Begun, Endings, outcome_of
from authpool.proxy.gate import TrafficGate, refusal_of_head, response_of
from authpool.proxy.injected import take_off
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
from authpool.proxy.reach import ConfiguredReach
from authpool.proxy.request_head import head_of
from authpool.proxy.ticket import Injection, Ticket, Tickets
from authpool.proxy.token_exchange import METHODS as EXCHANGE_METHODS
from authpool.proxy.token_exchange import hide_authorization, is_token_exchange
from authpool.proxy.upstream_tls import UpstreamTls
from authpool.proxy.web_pages import refusal_for_page, refusal_for_probe
from authpool.requests.failover import Decision
from authpool.requests.observer import Observe
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.refusals import GATEWAY_ERROR, Refusal, client_refused
from authpool.requests.upstream_answer import UpstreamAnswer
from authpool.rotation.selection import lane_of

logger = logging.getLogger(__name__)

REPLACE_SECONDS = 5.0
"""So long the end of a streamed refusal waits for its token to be replaced, for the client's next request."""

MOST_REPEATS = 2
"""So often a request is sent again because its answer asks for another injection."""


class Traffic:
    """What the flow hooks do, and the gate that they decide for. One per running gateway."""

    def __init__(
        self, service: Service, observe: Observe = lambda end: None, listens: Callable[[], bool] = lambda: True
    ) -> None:
        """`observe` hears how each request ended that ends while it `listens`."""
        self._service = service
        self._tickets: Tickets = WeakKeyDictionary()
        self.reach = ConfiguredReach(lambda: service.snapshot)
        self.upstream_tls = UpstreamTls(self.reach)
        self.access = ClientAccess(service)
        self.endings = Endings(service, self.access, observe, listens)
        self.gate = TrafficGate(service, self._tickets, self.access, self.reach, self.upstream_tls)
        self._replacing: set[asyncio.Task[None]] = set()

    # --- hooks ------------------------------------------------------------------------------------------------

    async def take(self, flow: http.HTTPFlow) -> None:
        """Decide about a request before anything of it goes upstream."""
        request = flow.request
        self._give_up(flow)  # a replay of the same flow is decided about anew
        snapshot = self._service.snapshot
        begun = self.endings.begin(flow)
        ticket = Ticket(destination=destination_of(request))
        pool = snapshot.router.match(*ticket.destination, request.method, request.path)
        if pool is not None:
            begun.pool = pool.name
            strip_credentials(request, pool)
            if snapshot.injectors and (injector := snapshot.injectors.get(pool.name)) is not None:
                ticket.injection = Injection(injector=injector)
                take_off(request, injector)
        refusal = self._let_in(flow, begun, pool)
        if refusal is not None:
            self._answer(flow, refusal)
            return
        ticket.admission = begun.admission
        if pool is not None:
            if is_grpc(request.headers):
                request.stream = True  # both ways at once; so it can't be sent twice
            ticket.pool, ticket.head = pool, head_of(request)
            ticket.pooled = begun.pooled = PooledRequest(
                pool=pool.name,
                rotation=pool.rotation,
                request=rotation_request(flow, begun.client),
                max_accounts=snapshot.config.gateway.max_accounts,
            )
            ticket.awaits_body = not request.stream and self._service.picker.needs_body(pool)
        if request.method in EXCHANGE_METHODS:
            self._note_exchange(ticket, request)
        self._tickets[flow] = ticket
        if pool is not None and not ticket.awaits_body:
            await self._acquire(flow, ticket)

    def _let_in(self, flow: http.HTTPFlow, begun: Begun, pool: PoolConfig | None) -> Refusal | None:
        """Let a client in with its request; or say why not. Who has shown a key is no web page."""
        admission = self.access.admit(flow, pool)
        if isinstance(admission, Denial):
            begun.client = admission.client
            return client_refused(admission)
        begun.admission = admission
        refusal = None if pool is None else refusal_of_head(flow, pool)
        if admission is not None:
            begun.client = admission.client
        elif refusal is None:
            refusal = refusal_for_page(flow, self._service.snapshot.config.gateway, pool)
        if refusal is None and pool is None:
            refusal = self.reach.refusal_of_request(flow)
        return refusal

    def _note_exchange(self, ticket: Ticket, request: http.Request) -> None:
        """Keep what a client says to a pool's own token endpoint out of the flow."""
        pools = self._service.snapshot.config.pools.values()
        ticket.exchange = is_token_exchange(ticket.destination, request.path, pools, self._service.resolver)
        if ticket.exchange and ticket.pool is None:
            ticket.hidden = hide_authorization(request, PLACEHOLDER.encode())

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
            injection, answer = ticket.injection, answer_of(response, fields)
            if injection is None or not self._is_asked_again(ticket, injection, answer):
                self._hear(ticket, answer)
            if self.gate.may_resend(flow):
                return
        if is_stream(fields, ticket.pool.stream_types if ticket is not None and ticket.pool is not None else ()):
            response.stream = True

    def _hear(self, ticket: Ticket, answer: UpstreamAnswer) -> None:
        if ticket.pooled is not None and ticket.pool is not None and ticket.pooled.sends:  # else another addon said it
            ticket.meaning = self._service.snapshot.classifier.meaning(ticket.pool, answer)
            if ticket.meaning is not None:
                self._service.failover.heard(ticket.pooled, answer, ticket.meaning)

    def _is_asked_again(self, ticket: Ticket, injection: Injection, answer: UpstreamAnswer) -> bool:
        """Let the injector hear an answer; whether the request is to be sent with another injection, if it can be."""
        pooled, shown, injection.again = ticket.pooled, injection.outgoing, False
        account = None if pooled is None or not pooled.sends else pooled.account
        if shown is None or account is None:
            return False
        asked = injection.injector.again(shown, answer, account)
        if asked and injection.repeats < MOST_REPEATS and shown.body.content is not None:
            injection.again, ticket.meaning = True, None
        return injection.again

    async def answered(self, flow: http.HTTPFlow) -> None:
        """An answer that speaks against the account has arrived whole: say whether to send the request again."""
        ticket = self._tickets.get(flow)
        if ticket is None or ticket.pooled is None or flow.response is None:
            return
        pooled, response = ticket.pooled, flow.response
        ticket.decided = True
        injection = ticket.injection
        if injection is not None and injection.again:
            injection.again, injection.repeats, ticket.resend = False, injection.repeats + 1, True
            pooled.trail.append(f"{pooled.address}: asked for another injection")
            flow.comment = pooled.comment("resending")
            return
        if ticket.meaning is None:
            coded = content_coding(response)
            body = await asyncio.to_thread(looked_at, response) if coded else looked_at(response)
            self._hear(ticket, answer_of(response, telling_fields(response.headers), body))
        decision = await self._service.failover.decide(pooled, ticket.meaning or "ok", resend=True)
        ticket.resend = decision is Decision.RESEND
        if pooled.refusal is not None:
            flow.response = response_of(pooled.refusal, flow.request)
        flow.comment = pooled.comment("resending" if ticket.resend else outcome_of(flow))

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
        response, flow.comment = flow.response, pooled.comment(outcome_of(flow))
        trailers = None if response is None else response.trailers
        if response is not None and trailers is not None and "grpc-status" in trailers:
            self._hear(ticket, answer_of(response, telling_fields(trailers)))
        elif response is not None and ticket.meaning is None:  # too long to be judged by its body, or cut off
            self._hear(ticket, answer_of(response, telling_fields(response.headers), b""))
        if ticket.meaning != "bad_token" or ticket.decided or response is None:
            return None
        refused = pooled.refused_token()
        if refused is None:
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
        self.endings.expect(flow)
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
        begun = self.endings.begin(flow)
        refusal = refusal_for_probe(flow, self._service.snapshot.config.gateway)
        if refusal is not None:
            self._answer(flow, refusal)
            return True
        begun.health = True
        flow.request.stream = False
        flow.response, flow.comment = answer, "authpool: outcome=health"
        return True

    def _answer(self, flow: http.HTTPFlow, refusal: Refusal) -> None:
        # A response beside a request that streams would crash the stream, and log the body.
        flow.request.stream = False
        flow.response = response_of(refusal, flow.request)
        flow.comment = self.endings.expect(flow).comment(refusal.code)

    # --- clients ----------------------------------------------------------------------------------------------

    def connect(self, flow: http.HTTPFlow) -> None:
        """Let a CONNECT through, or answer it."""
        denial = self.access.connect(flow)
        refusal = self.reach.refusal_of_tunnel(flow) if denial is None else client_refused(denial, at_connect=True)
        if refusal is not None:
            self.endings.begin(flow).client = "" if denial is None else denial.client
            self._answer(flow, refusal)
            self.endings.ended(flow)  # no hook tells of it
