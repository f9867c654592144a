"""The gate on the wire: what goes upstream, with the credential put on at the last moment, and what does not."""

import logging
from weakref import WeakValueDictionary

from mitmproxy import http
from mitmproxy.connection import Client, Server

from authpool.config.endpoint_url import is_loopback
from authpool.config.pool_config import ECHOING_METHODS, BasicInjection, PoolConfig
from authpool.gateway.service import Service
from authpool.proxy.client_access import ClientAccess
from authpool.proxy.credential import PLACEHOLDER, clean_after_change, with_credential, with_fields
from authpool.proxy.credential_echo import echo_of
from authpool.proxy.destination import (
    asks_for_another_host,
    destination_of,
    destination_reached,
    names,
    names_another_host,
    shows_to_a_proxy,
    takes_origin_form,
)
from authpool.proxy.echo import Echo
from authpool.proxy.form_override import names_a_method
from authpool.proxy.injected import outgoing, secrets_of, with_injected
from authpool.proxy.message import answer_to
from authpool.proxy.reach import ConfiguredReach
from authpool.proxy.request_head import VERSION, Fields, head_of, hosts_named, is_framed, is_well_formed
from authpool.proxy.ticket import Injection, Ticket, Tickets
from authpool.proxy.token_exchange import TokenAnswer
from authpool.proxy.upstream_tls import UpstreamTls
from authpool.requests.pooled_request import PooledRequest
from authpool.requests.refusals import (
    GATEWAY_ERROR,
    HOSTS_DIFFER,
    LOCAL_REFUSED,
    MALFORMED,
    METHOD_IN_FORM,
    PLAINTEXT_REFUSED,
    Refusal,
    method_refused,
)
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
        self._echoes: WeakValueDictionary[tuple[str, bool, str], Echo] = WeakValueDictionary()

    def asks_for_key(self, client: Client) -> bool:
        return self._access.asks_for_key(client)

    def outgoing(self, flow: http.HTTPFlow, request: http.Request, server: Server) -> http.Request | http.Response:
        ticket = self._tickets.get(flow)
        barred = GATEWAY_ERROR if ticket is None else self._barred(ticket)
        if ticket is None or barred is not None:
            return response_of(barred or GATEWAY_ERROR, request)
        if ticket.pooled is None or ticket.pool is None:
            return self._outgoing_unmatched(flow, request, server, ticket)
        changed = head_of(request) != ticket.head  # by another addon, or by hand
        refusal = self._refusal(ticket, ticket.pool, request, server, changed=changed)
        if refusal is not None:
            return response_of(refusal, request)
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
        fields = clean_after_change(request, ticket.pool) if changed else None
        if ticket.injection is not None:
            return self._injected(request, ticket.injection, ticket.pooled, ticket.pool, fields)
        self._service.picker.sent(ticket.pooled)
        return with_credential(request, ticket.pool, access_token, fields)

    def _injected(
        self,
        request: http.Request,
        injection: Injection,
        pooled: PooledRequest,
        pool: PoolConfig,
        fields: Fields | None,
    ) -> http.Request | http.Response:
        """Have a plugin put the credential on, at each attempt anew; or refuse."""
        before, account = injection.outgoing, pooled.account
        shown = injection.outgoing = outgoing(request, pool, fields, None if before is None else before.body)
        injected = GATEWAY_ERROR if account is None else injection.injector.inject(shown, account)
        if isinstance(injected, Refusal):
            pooled.refusal = injected
            return response_of(injected, request)
        wire, injection.secrets = with_injected(request, pool, injected, fields), secrets_of(injected)
        self._service.picker.sent(pooled)
        return wire

    def _refusal(
        self, ticket: Ticket, pool: PoolConfig, request: http.Request, server: Server, *, changed: bool
    ) -> Refusal | None:
        """Why a request gets no credential after all: it goes elsewhere than was decided, or is another by now."""
        destination, reached = destination_of(request), destination_reached(server)
        if not destination == ticket.destination == reached:
            logger.error(
                "A request for pool %s was redirected from %s to %s; it gets no credential and is refused",
                pool.name,
                ticket.destination,
                destination if destination != ticket.destination else reached,
            )
            return GATEWAY_ERROR
        if changed and (problem := self._spoilt(ticket, request)):
            logger.error("A request for pool %s %s; refused", pool.name, problem)
            return GATEWAY_ERROR
        if VERSION.fullmatch(request.data.http_version) is None:  # another addon, or a hand, may write lines into it
            logger.error("A request for pool %s was given a version that HTTP does not have; refused", pool.name)
            return GATEWAY_ERROR
        if asks_for_another_host(server):
            logger.error("A request for pool %s asks %s for another host by TLS; refused", pool.name, reached)
            return GATEWAY_ERROR
        if not self._upstream_tls.is_proven(server):
            logger.error("A request for pool %s has an upstream that proves nothing by TLS; refused", pool.name)
            return GATEWAY_ERROR
        if pool.methods and names_a_method(request):
            return METHOD_IN_FORM
        return PLAINTEXT_REFUSED if shows_to_a_proxy(server) and not pool.allow_plaintext else None

    def _spoilt(self, ticket: Ticket, request: http.Request) -> str:
        """What is wrong with a request that is another than the one that was decided about; nothing, for the most."""
        head = head_of(request)
        if not self._still_matches(ticket, request) or request.method in ECHOING_METHODS:
            return "became one that is not for that pool"
        if not (is_well_formed(head) and is_framed(request)):
            return "was changed into one that is no single request"
        named, known = hosts_named(head), hosts_named(ticket.head)
        said_once = len(named) <= 1 + bool(head[2])
        if named != known and not (said_once and all(one in known or names(one, ticket.destination) for one in named)):
            return "was changed to name another host"
        return ""

    def _outgoing_unmatched(
        self, flow: http.HTTPFlow, request: http.Request, server: Server, ticket: Ticket
    ) -> http.Request | http.Response:
        destination, reached = destination_of(request), destination_reached(server)
        manages = self._service.snapshot.router.manages
        if not destination == ticket.destination == reached and (manages(*destination) or manages(*reached)):
            logger.error("A request to %s was redirected to a pool's host after it was let pass; refused", destination)
            return response_of(GATEWAY_ERROR, request)
        if self._reach.refuses_connection(flow, server):
            return response_of(LOCAL_REFUSED, request)
        return with_fields(request, ticket.hidden) if ticket.hidden else request

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

    def echo_of(self, flow: http.HTTPFlow) -> Echo | None:
        ticket, echo = self._tickets.get(flow), None
        if ticket is None:
            return None
        if ticket.pooled is not None and ticket.pool is not None and ticket.pooled.access_token:
            secrets = () if ticket.injection is None else ticket.injection.secrets
            echo = self._echo(ticket.pool, ticket.pooled.access_token, secrets)
        return TokenAnswer(echo, PLACEHOLDER) if ticket.exchange else echo

    def _echo(self, pool: PoolConfig, access_token: str, secrets: tuple[str, ...]) -> Echo:
        """One for all requests with that token that are under way: what is to be looked for is made once for them."""
        if secrets:  # of this request alone
            return echo_of(pool, access_token, secrets)
        form = pool.inject.template if type(pool.inject) is BasicInjection else ""
        key = (form, pool.redact_echo, access_token)
        echo = self._echoes.get(key)
        if echo is None:
            echo = self._echoes[key] = echo_of(pool, access_token)
        return echo

    def hides_request(self, flow: http.HTTPFlow) -> bool:
        ticket = self._tickets.get(flow)
        return ticket is not None and ticket.exchange

    def lets_flow(self, flow: http.HTTPFlow) -> bool:
        ticket = self._tickets.get(flow)
        return ticket is not None and ticket.pooled is not None

    def unreachable(self, flow: http.HTTPFlow) -> http.Response:
        return response_of(LOCAL_REFUSED, flow.request)


def refusal_of_head(flow: http.HTTPFlow, pool: PoolConfig) -> Refusal | None:
    """Why a request as the client sent it gets no credential of the pool; else its target is made origin-form."""
    request = flow.request
    if request.scheme == "http" and not (pool.allow_plaintext or is_loopback(request.host)):
        return PLAINTEXT_REFUSED
    if request.method in ECHOING_METHODS:
        return method_refused(pool.methods)
    if not is_well_formed(head_of(request)):
        return MALFORMED
    if names_another_host(flow):
        return HOSTS_DIFFER
    if request.data.authority and takes_origin_form(flow):
        request.data.authority = b""
    return None


def response_of(refusal: Refusal, request: http.Request | None = None) -> http.Response:
    """Say a refusal as mitmproxy says a response, to this request."""
    return answer_to(request, refusal.status, refusal.body(), refusal.headers())


def gateway_error() -> http.Response:
    """What the wire answers when there is no gate to ask; it cuts the body off where HEAD was asked."""
    return response_of(GATEWAY_ERROR)
