"""Who decides what goes upstream, and the one who does just now."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mitmproxy import http
from mitmproxy.connection import Server
from mitmproxy.proxy import commands

from authpool.proxy.echo import Echo


class Gate(Protocol):
    """Who decides what goes upstream."""

    def outgoing(self, flow: http.HTTPFlow, request: http.Request, server: Server) -> http.Request | http.Response:
        """What to send to `server` instead of `request`; or the answer to give, and nothing is sent."""

    def may_resend(self, flow: http.HTTPFlow) -> bool:
        """Whether the upstream's answer may lead to sending the request again."""

    def resend(self, flow: http.HTTPFlow) -> bool:
        """What the `authpool_upstream_answer` hook decided; asked once after each."""

    def echo_of(self, flow: http.HTTPFlow) -> Echo | None:
        """The credential that the request went out with, as the upstream may repeat it; None where it had none."""

    def hides_request(self, flow: http.HTTPFlow) -> bool:
        """Whether the flow is not to show the secrets that a client sends in its body."""

    def lets_flow(self, flow: http.HTTPFlow) -> bool:
        """Whether an answer that takes long is to go to the client as it comes."""


@dataclass
class AuthpoolUpstreamAnswerHook(commands.StartHook):
    """An answer for which `may_resend` holds is here: whole, or as far as it came; the client has seen none of it."""

    flow: http.HTTPFlow


class Installed:
    """What outlives a reload of the script: the stream class stays, only the gate comes and goes."""

    gate: Gate | None = None
    refusal: Callable[[], http.Response] | None = None
