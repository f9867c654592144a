"""The gate on the wire: what goes upstream, with the credential put on at the last moment, and what does not."""

import logging

from mitmproxy import http
from mitmproxy.connection import Client, Server

from authpool.gateway.service import Service
from authpool.proxy.client_access import ClientAccess
from authpool.proxy.credential import with_credential
from authpool.proxy.destination import (
    asks_for_another_host,
    destination_of,
    destination_reached,
    shows_to_a_proxy,
)
from authpool.proxy.message import answer_to
from authpool.proxy.reach import ConfiguredReach
from authpool.proxy.ticket import Ticket, Tickets
from authpool.proxy.upstream_tls import UpstreamTls
from authpool.requests.refusals import GATEWAY_ERROR, LOCAL_REFUSED, PLAINTEXT_REFUSED, Refusal
from authpool.rotation.selection import lane_of

logger = logging.getLogger(__name__)


class TrafficGate:
    """`authpool.proxy.wire.Gate` for the flows that have tickets; others get nothing out."""

    def __init__(
        self,
        service: Service,
        tickets: Tickets,
        access: ClientAccess,
        reach: ConfiguredReach,
        upstream_tls: UpstreamTls,
    ) -> None:
        self._service = service
        self._tickets = tickets
        self._access = access
        self._reach = reach
        self._upstream_tls = upstream_tls

    def asks_for_key(self, client: Client) -> bool:
        return self._access.asks_for_key(client)

    def outgoing(self, flow: http.HTTPFlow, request: http.Request, server: Server) -> http.Request | http.Response:
        ticket = self._tickets.get(flow)
        barred = GATEWAY_ERROR if ticket is None else self._barred(ticket)
        if ticket is None or barred is not None:
            return response_of(barred or GATEWAY_ERROR, request)
        destination, reached = destination_of(request), destination_reached(server)
        if ticket.pooled is None or ticket.pool is None:
            return self._outgoing_unmatched(flow, request, server, ticket)
        if not destination == ticket.destination == reached:
            logger.error(
                "A request for pool %s was redirected from %s to %s; it gets no credential and is refused",
                ticket.pool.name,
                ticket.destination,
                destination if destination != ticket.destination else reached,
            )
            return response_of(GATEWAY_ERROR, request)
        if (request.method, request.path) != ticket.shape and not self._still_matches(ticket, request):
            logger.error("A request for pool %s became one that is not for that pool; refused", ticket.pool.name)
            return response_of(GATEWAY_ERROR, request)
        if asks_for_another_host(server):
            logger.error("A request for pool %s asks %s for another host by TLS; refused", ticket.pool.name, reached)
            return response_of(GATEWAY_ERROR, request)
        if not self._upstream_tls.is_proven(server):
            logger.error("A request for pool %s has an upstream that proves nothing by TLS; refused", ticket.pool.name)
            return response_of(GATEWAY_ERROR, request)
        if shows_to_a_proxy(server) and not ticket.pool.allow_plaintext:
            return response_of(PLAINTEXT_REFUSED, request)
        if ticket.awaits_body:  # it streams after all, so there is no body to choose by
            ticket.awaits_body = False
            ticket.pooled.lane = lane_of(ticket.pool.cooldown_by, ticket.pooled.request)
            self._service.picker.acquire_now(ticket.pooled)
        access_token = self._service.picker.current(ticket.pooled)
        if access_token is None:
            logger.warning(
                "A request for pool %s lost its account before it was sent (its token ended, or it left the pool), and "
                "no other has a live token",
                ticket.pool.name,
            )
            return response_of(self._service.picker.refuse(ticket.pooled), request)
        self._service.picker.sent(ticket.pooled)
        return with_credential(request, ticket.pool, access_token)

    def _outgoing_unmatched(
        self, flow: http.HTTPFlow, request: http.Request, server: Server, ticket: Ticket
    ) -> http.Request | http.Response:
        destination, reached = destination_of(request), destination_reached(server)
        manages = self._service.snapshot.router.manages
        if not destination == ticket.destination == reached and (manages(*destination) or manages(*reached)):
            logger.error("A request to %s was redirected to a pool's host after it was let pass; refused", destination)
            return response_of(GATEWAY_ERROR, request)
        return response_of(LOCAL_REFUSED, request) if self._reach.refuses_connection(flow, server) else request

    def _barred(self, ticket: Ticket) -> Refusal | None:
        """Why the client may not go on, at each attempt: its key may have come to its end meanwhile."""
        return None if ticket.admission is None else self._access.lost(ticket.admission)

    def _still_matches(self, ticket: Ticket, request: http.Request) -> bool:
        pool = self._service.snapshot.router.match(*ticket.destination, request.method, request.path)
        return pool is not None and ticket.pool is not None and pool.name == ticket.pool.name

    def may_resend(self, flow: http.HTTPFlow) -> bool:
        ticket = self._tickets.get(flow)
        return ticket is not None and ticket.meaning != "ok" and ticket.pooled is not None and ticket.pooled.sends > 0

    def resend(self, flow: http.HTTPFlow) -> bool:
        ticket = self._tickets.get(flow)
        decided = ticket is not None and ticket.resend
        if ticket is not None:
            ticket.resend = False
        return decided

    def lets_flow(self, flow: http.HTTPFlow) -> bool:
        ticket = self._tickets.get(flow)
        return ticket is not None and ticket.pooled is not None

    def unreachable(self, flow: http.HTTPFlow) -> http.Response:
        return response_of(LOCAL_REFUSED, flow.request)


def response_of(refusal: Refusal, request: http.Request | None = None) -> http.Response:
    """Say a refusal as mitmproxy says a response, to this request."""
    return answer_to(request, refusal.status, refusal.body(), refusal.headers())


def gateway_error() -> http.Response:
    """What the wire answers when there is no gate to ask; it cuts the body off where HEAD was asked."""
    return response_of(GATEWAY_ERROR)
