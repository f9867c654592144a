"""mitmproxy's HTTP/1 server, for two things that no hook is asked about.

A load balancer's probe sends no proxy request: a plain ``GET /ready`` on the proxy's own port, perhaps without a Host
header. mitmproxy answers it with an error page, or sends it wherever the Host header says; here it is the gateway's.
And mitmproxy's own error pages have a body even where HEAD was asked.
"""

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.http._base import ReceiveHttp
from mitmproxy.proxy.layers.http._events import HttpEvent, RequestHeaders, ResponseProtocolError

from authpool.proxy.wire.addressed import note_probe
from authpool.proxy.wire.http1 import GatewayHttp1Server
from authpool.requests.health import HOST, probe_at

PROBE_METHODS = frozenset({"GET", "HEAD"})


class OwnPortHttp1Server(GatewayHttp1Server):
    """mitmproxy's HTTP/1 server; a plain request for the gateway's health goes to the gateway."""

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        read = super().read_headers(event)
        for command in read:
            if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders):
                self._redirect_probe(command.event.request)
                yield command
                break
            yield self._without_body(command)
        yield from read

    def _redirect_probe(self, request: http.Request) -> None:
        plain = not (request.data.host or request.data.authority)
        if plain and probe_at(request.path) is not None and request.method in PROBE_METHODS and self._is_proxy():
            note_probe(request)
            request.data.scheme, request.data.host, request.data.port = b"http", HOST, 80

    def _is_proxy(self) -> bool:
        """Whether clients name the destination here: in a tunnel or in reverse mode every request is a plain one."""
        parent = self.context.layers[self.context.layers.index(self) - 1]
        return isinstance(parent, http_layer.HttpLayer) and parent.mode is not HTTPMode.transparent

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseProtocolError):
            return (self._without_body(command) for command in super().send(event))
        return super().send(event)

    def _without_body(self, command: commands.Command) -> commands.Command:
        """The head alone of one of mitmproxy's pages, where HEAD was asked."""
        if isinstance(command, commands.SendData) and self.request is not None and self.request.method == "HEAD":
            head, end, _body = command.data.partition(b"\r\n\r\n")
            return commands.SendData(command.connection, head + end)
        return command
