"""Who decides what goes upstream, and the one who does just now."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from mitmproxy import http
from mitmproxy.connection import Client, Server
from mitmproxy.proxy import commands

from authpool.proxy.echo import Echo


class Gate(Protocol):
    """Who decides what goes upstream."""

    def outgoing(self, flow: http.HTTPFlow, request: http.Request, server: Server) -> http.Request | http.Response:
        """What to send to `server` instead of `request`; or the answer to give, and nothing is sent."""

    def asks_for_key(self, client: Client) -> bool:
        """Whether a gateway key is asked for on this connection."""

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

    def unreachable(self, flow: http.HTTPFlow) -> http.Response:
        """The answer where the client may not reach the address that the request leads to."""


class Reach(Protocol):
    """Who decides where a client may have connections opened to."""

    def how(self, client: Client, server: Server) -> Literal["anywhere", "checked", "nowhere"]:
        """Whether a connection is opened: to any address, to one that `is_local` says no of, or not at all."""

    def is_local(self, address: str) -> bool:
        """Whether an address is one that only this machine and its network should reach."""


@dataclass
class AuthpoolUpstreamAnswerHook(commands.StartHook):
    """An answer for which `may_resend` holds is here: whole, or as far as it came; the client has seen none of it."""

    flow: http.HTTPFlow


class Installed:
    """What outlives a reload of the script: the stream class stays, only the gate comes and goes.

    Without a gate nothing goes out by HTTP; for what is no HTTP the last `reach` goes on to count.
    """

    gate: Gate | None = None
    reach: Reach | None = None
    refusal: Callable[[], http.Response] | None = None
