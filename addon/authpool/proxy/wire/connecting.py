"""How a connection to an upstream is opened: to an address that was looked at, after its name was resolved, once.

A check before mitmproxy connects would be of another resolution than the one that it connects by, and the owner of a
name may answer each with what suits him. So here the name is resolved, its addresses are checked, and what is left of
them is connected to.
"""

import asyncio
import logging
import socket
import types
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final, Literal

from mitmproxy.connection import Client, Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, layer, mode_servers
from mitmproxy.proxy import server as proxy_server
from mitmproxy.proxy.layers.modes import DestinationKnown
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from authpool.proxy.wire.installed import Installed, Reach

logger = logging.getLogger(__name__)

NOT_ALLOWED: Final = "authpool: this client may not reach that address"
"""Why a connection was not opened; in mitmproxy's log, and in the connection's `error`."""

_opening: ContextVar[tuple[Client, Server] | None] = ContextVar("authpool_opening", default=None)
"""Who asks for the connection that this task opens, and to where."""


class GatewayConnectionHandler(ProxyConnectionHandler):
    """mitmproxy's handler of a client's connection, which tells who asks for a connection to an upstream."""

    async def open_connection(self, command: commands.OpenConnection) -> None:
        server = command.connection
        _opening.set((self.client, server))
        if server.transport_protocol == "udp" and not server.error and not await _may_send(self.client, server):
            server.error = NOT_ALLOWED
        await super().open_connection(command)

    async def handle_connection(self, connection: Connection) -> None:
        """As ever; but what is cancelled while its data wait for their turn mitmproxy alone would leave open."""
        try:
            await super().handle_connection(connection)
        finally:
            left = self.transports.get(connection)
            if left is not None:
                await self._close_what_is_left(connection, left.writer)

    async def _close_what_is_left(self, connection: Connection, writer: Any) -> None:
        connection.state = ConnectionState.CLOSED
        try:
            await self.server_event(events.ConnectionClosed(connection))
        finally:
            self.transports.pop(connection, None)
            with suppress(OSError):
                writer.close()


async def open_connection(host: str, port: int, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """`asyncio.open_connection`, but only to where the client may go. Raises OSError."""
    opening = _opening.get()
    reach = Installed.reach
    if opening is None or reach is None:  # a replay of the operator's, or no gateway
        return await asyncio.open_connection(host, port, **options)
    how = _how(reach, *opening)
    if how == "nowhere":
        raise OSError(NOT_ALLOWED)
    if how == "anywhere":
        return await asyncio.open_connection(host, port, **options)
    return await _open_checked(reach, host, port, options)


async def _open_checked(
    reach: Reach, host: str, port: int, options: dict[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to one of the addresses that the client may reach, in their order."""
    failed = OSError(NOT_ALLOWED)
    for family, address in await _resolved(host, port, socket.SOCK_STREAM):
        if reach.is_local(address):
            continue
        try:
            return await asyncio.open_connection(address, port, family=family, **options)
        except OSError as error:
            failed = error
    raise failed


async def _may_send(client: Client, server: Server) -> bool:
    """Whether datagrams may go where this leads; mitmproxy resolves its name again, if it is one."""
    reach = Installed.reach
    if reach is None or server.address is None:
        return True
    how = _how(reach, client, server)
    if how != "checked":
        return how == "anywhere"
    try:
        found = await _resolved(server.address[0], server.address[1], socket.SOCK_DGRAM)
    except OSError:
        return True  # it fails, and says why
    return not any(reach.is_local(address) for _, address in found)


def _how(reach: Reach, client: Client, server: Server) -> Literal["anywhere", "checked", "nowhere"]:
    try:
        return reach.how(client, server)
    except Exception:
        logger.exception("Nobody can tell where a client may go; the connection is not opened")
        return "nowhere"


async def _resolved(host: str, port: int, kind: int) -> list[tuple[int, str]]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in found))


_stock_finish_start: Any = getattr(DestinationKnown, "finish_start", None)


def _finish_start(self: DestinationKnown) -> layer.CommandGenerator[str | None]:
    """As ever; but where the client may go nowhere it is let speak, for an answer in HTTP says why."""
    reach = Installed.reach
    if reach is None or _how(reach, self.context.client, self.context.server) != "nowhere":
        return (yield from _stock_finish_start(self))  # type: ignore[no-any-return]
    self._handle_event = self.child_layer.handle_event  # type: ignore[method-assign]
    yield from self.child_layer.handle_event(events.Start())
    return None


def guard_connections() -> None:
    """Have mitmproxy open its connections in our way."""
    ours = types.ModuleType("asyncio", asyncio.__doc__)
    vars(ours).update(vars(asyncio), open_connection=open_connection)
    vars(proxy_server)["asyncio"] = ours
    mode_servers.ProxyConnectionHandler = GatewayConnectionHandler  # type: ignore[misc]
    DestinationKnown.finish_start = _finish_start  # type: ignore[method-assign]


def connect_as_ever() -> None:
    """Have mitmproxy open its connections in its own way."""
    vars(proxy_server)["asyncio"] = asyncio
    mode_servers.ProxyConnectionHandler = ProxyConnectionHandler  # type: ignore[misc]
    DestinationKnown.finish_start = _stock_finish_start  # type: ignore[method-assign]


def missing() -> list[str]:
    """What of all this mitmproxy has no more."""
    handle = getattr(mode_servers.ServerInstance, "handle_stream", None)
    known = {
        "DestinationKnown.finish_start": _stock_finish_start is not None
        and {"child_layer", "_handle_event"} <= set(_stock_finish_start.__code__.co_names),
        "ServerInstance.handle_stream": handle is not None and "ProxyConnectionHandler" in handle.__code__.co_names,
        "ConnectionHandler.open_connection": {"asyncio", "open_connection"}
        <= set(proxy_server.ConnectionHandler.open_connection.__code__.co_names),
    }
    return [name for name, there in known.items() if not there]
