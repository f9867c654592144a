"""Who may use the gateway, in mitmproxy's terms: its connections, requests, tunnels and SOCKS logins.

A request is let in by a key of its own, else by the one that its connection has shown: at CONNECT, or to SOCKS. What
was let in is kept here until it is over, and is cut off when its key is good no more.
"""

import logging
from dataclasses import dataclass, field
from weakref import ReferenceType, WeakKeyDictionary

from mitmproxy import ctx, http, tcp, udp
from mitmproxy.connection import Client
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpStream

from authpool.clients.keyring import Denial, Grant
from authpool.clients.presented import NOTHING, Presented
from authpool.config.endpoint_url import is_loopback
from authpool.config.host_pattern import canonical_host
from authpool.config.pool_config import PoolConfig
from authpool.gateway.service import Service
from authpool.proxy.clients import OWN_TRAFFIC_MODES
from authpool.proxy.wire.cut_off import cut_connection, cut_stream
from authpool.proxy.wire.http1 import SWITCHING_PROTOCOLS
from authpool.proxy.wire.presented_keys import taken_from
from authpool.proxy.wire.socks import SocksLogin
from authpool.requests.refusals import Refusal, client_refused

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Admission:
    """One request that a client was let in with. `stream`: where it is one of several on its connection."""

    grant: Grant
    session: "_Session"
    stream: ReferenceType[HttpStream] | None = None
    over: bool = False

    @property
    def client(self) -> str:
        """The client's name."""
        return self.grant.client.name


@dataclass(slots=True, kw_only=True, eq=False)
class _Session:
    """One connection of a client. `is_open`: others than this machine could have made it."""

    is_open: bool
    grant: Grant | None = None
    """What the connection itself has shown, which holds for all that is in it."""
    connecting: Grant | None = None
    """What a CONNECT has shown that is not answered yet."""
    active: set[Admission] = field(default_factory=set)
    unasked: bool = False
    """Whether it is relayed as it is, since a time when no key was asked for."""


class ClientAccess:
    """Lets clients in. One per running gateway."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._keeper = service.clients.gatekeeper
        self._sessions: WeakKeyDictionary[Client, _Session] = WeakKeyDictionary()
        self._switched: WeakKeyDictionary[http.HTTPFlow, Admission] = WeakKeyDictionary()
        service.clients.ended = self.cut_ended

    def asks_for_key(self, client: Client) -> bool:
        """Whether a key is asked for on this connection."""
        return self._asks(self._session(client))

    def admit(self, flow: http.HTTPFlow, pool: PoolConfig | None) -> Admission | Denial | None:
        """Let a request in, until `end`; or say why not. None: no key is asked for."""
        if flow.is_replay:  # the operator's own doing
            return None
        taken, client, request = taken_from(flow.request), flow.client_conn, flow.request
        session = self._session(client)
        if not self._asks(session):
            return None
        presented = NOTHING if taken is None else taken.presented
        verdict = self._keeper.identify(presented, str(client.peername[0]), session.grant)
        if isinstance(verdict, Denial):
            return verdict
        name = None if pool is None else pool.name
        denial = self._keeper.admit(verdict, name, request.scheme, request.host, request.port)
        if denial is not None:
            return denial
        shared = taken is not None and (request.is_http2 or request.is_http3)
        admission = Admission(grant=verdict, session=session, stream=taken.stream if taken and shared else None)
        session.active.add(admission)
        return admission

    def lost(self, admission: Admission) -> Refusal | None:
        """Why a request that was let in may not go on; None: it may."""
        if self._keeper.holds(admission.grant):
            return None
        return client_refused(self._keeper.keyring.ended(admission.grant))

    def end(self, admission: Admission) -> None:
        """A request is over."""
        if not admission.over:
            admission.over = True
            admission.session.active.discard(admission)
            self._keeper.leave(admission.client)

    def ended(self, flow: http.HTTPFlow, admission: Admission) -> None:
        """A flow has its answer, or will have none. What has switched protocols goes on, until it is closed."""
        switched = flow.error is None and flow.response is not None and flow.response.status_code == SWITCHING_PROTOCOLS
        if switched:
            self._switched[flow] = admission
        else:
            self.end(admission)

    def closed(self, flow: http.HTTPFlow) -> None:
        """A WebSocket is closed."""
        admission = self._switched.pop(flow, None)
        if admission is not None:
            self.end(admission)

    def connect(self, flow: http.HTTPFlow) -> Denial | None:
        """Let a CONNECT through, with all that will be in the tunnel; or say why not."""
        taken, client, request = taken_from(flow.request), flow.client_conn, flow.request
        session = self._session(client)
        session.connecting = None
        if not self._asks(session):
            return None
        presented = NOTHING if taken is None else taken.presented
        verdict = self._keeper.identify(presented, str(client.peername[0]), session.grant)
        if isinstance(verdict, Denial):
            return verdict
        if not self._may_tunnel(verdict, request.host, request.port):
            denial = self._keeper.not_allowed(verdict)
            self._keeper.refused(denial)
            return denial
        if not (request.is_http2 or request.is_http3):  # else the connection is not the tunnel's alone
            session.connecting = verdict
        return None

    def connected(self, client: Client) -> None:
        """The tunnel is there, and the connection is nobody else's from now on."""
        session = self._session(client)
        session.grant, session.connecting = session.connecting or session.grant, None

    def login(self, login: SocksLogin) -> None:
        """Let a client of a SOCKS listener in, with all that will be on its connection."""
        session = self._session(login.client)
        presented = Presented(values=tuple(one for one in (login.user, login.password) if one), other=True)
        verdict = self._keeper.identify(presented, str(login.client.peername[0]))
        if isinstance(verdict, Grant):
            session.grant = verdict
        login.valid = isinstance(verdict, Grant) or not self._asks(session)

    def check_raw(self, flow: tcp.TCPFlow | udp.UDPFlow) -> None:
        """Something that is no HTTP begins: cut it off, where a key is asked for and none was shown."""
        session = self._session(flow.client_conn)
        if not self._asks(session) or session.active:  # a request that was let in has switched protocols
            return
        host, port = (flow.server_conn.address or ("", 0))[:2]
        if session.grant is None or not self._may_tunnel(session.grant, host, port):
            logger.warning("A connection to %s:%s, which is no HTTP, is refused: no gateway key lets it in", host, port)
            cut_connection(flow.client_conn)
            return
        flow.comment = f"authpool: client={session.grant.name}"
        self._keeper.used(session.grant)

    def may_relay(self, context: Context) -> bool:
        """Whether what nobody looks into may go to its destination: no later hook would ask.

        A SOCKS login lets a client in, and is no word yet about where to.
        """
        session, address = self._session(context.client), context.server.address
        session.unasked = not self._asks(session)
        if address is None or session.grant is None or session.unasked:
            return True
        grant = self._keeper.current(session.grant)
        if grant is not None and self._may_tunnel(grant, *address[:2]):
            return True
        logger.warning("A connection to %s:%s is refused: client %s may not go there", *address[:2], session.grant.name)
        self._keeper.refused(self._keeper.not_allowed(session.grant))
        return False

    def disconnected(self, client: Client) -> None:
        """A connection is gone, and all that was on it."""
        session = self._sessions.pop(client, None)
        for admission in () if session is None else list(session.active):
            self.end(admission)

    def cut_ended(self) -> None:
        """Cut off what is under way by a key that is good no more."""
        for client, session in list(self._sessions.items()):
            if session.unasked and session.grant is None and self._asks(session):
                logger.info("Cutting off a connection that showed no key: keys are asked for by now")
                cut_connection(client)
                continue
            if session.grant is not None and not self._keeper.holds(session.grant):
                logger.info("Cutting off a connection of client %s: its key is no longer good", session.grant.name)
                cut_connection(client)
                continue
            for admission in list(session.active):
                if not self._keeper.holds(admission.grant):
                    logger.info("Cutting off a request of client %s: its key is no longer good", admission.client)
                    stream = None if admission.stream is None else admission.stream()
                    cut_connection(client) if stream is None else cut_stream(stream)

    def _asks(self, session: _Session) -> bool:
        match self._service.snapshot.config.gateway.client_keys:
            case "off":
                return False
            case "required":
                return True
            case _:
                return session.is_open or self._keeper.keyring.anybody

    def _may_tunnel(self, grant: Grant, host: str, port: int) -> bool:
        """Whether a client may reach a destination whatever is said to it."""
        client, name = grant.client, canonical_host(host)
        if client.pools is None and client.hosts is None:
            return True
        known = self._service.snapshot.config.pools
        pools = [known[pool] for pool in client.pools or () if pool in known]
        return name is not None and any(
            client.may_reach_host(scheme, host, port)
            and (client.pools is None or any(one.matches(scheme, name, port) for pool in pools for one in pool.hosts))
            for scheme in ("https", "http")
        )

    def _session(self, client: Client) -> _Session:
        session = self._sessions.get(client)
        if session is None:
            session = self._sessions[client] = _Session(is_open=_is_open(client))
        return session


def _is_open(client: Client) -> bool:
    """Whether another machine could have made a connection, by its listener; one may while that is being closed."""
    mode = client.proxy_mode
    if mode.type_name in OWN_TRAFFIC_MODES:
        return False
    return not (is_loopback(mode.listen_host(ctx.options.listen_host) or "") and is_loopback(client.peername[0]))
