"""Ending what a client has under way: its connection, or one stream of a connection that others may use too."""

import contextlib
import itertools
from typing import Any

from mitmproxy import ctx
from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.layers.http import HttpLayer, HttpStream
from mitmproxy.utils import asyncio_utils


class CutOff(commands.RequestWakeup):
    """What the stream that is cut off is woken with."""


def cut_connection(client: Client) -> None:
    """End a client's connection at once, with whatever was still to be sent on it."""
    handler = _handler(client)
    transport = None if handler is None else handler.transports.get(client)
    if transport is None:
        return
    writer = transport.writer
    if writer is not None and hasattr(writer, "transport"):
        with contextlib.suppress(OSError, RuntimeError):
            writer.transport.abort()
    if transport.handler is not None:
        transport.handler.cancel("the gateway key ended")


def cut_stream(stream: HttpStream) -> None:
    """End one request; the others on its connection go on."""
    handler = _handler(stream.context.client)
    if handler is None:
        return
    command = CutOff(0)
    for parent, child in itertools.pairwise(stream.context.layers):  # as if each had asked to be woken
        if isinstance(parent, HttpLayer):
            parent.command_sources[command] = child
    event = handler.server_event(events.Wakeup(command))
    asyncio_utils.create_task(event, name="authpool cut off", keep_ref=True)


def _handler(client: Client) -> Any:
    server = ctx.master.addons.get("proxyserver")
    return None if server is None else server.connections.get(client.id)
