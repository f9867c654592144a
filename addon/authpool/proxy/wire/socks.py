"""SOCKS5 with a gateway key as user or password (RFC 1929), which mitmproxy asks for only with its own `proxyauth`.

The key goes to the gateway alone: no other addon sees it, and no log.
"""

from dataclasses import dataclass, field

from mitmproxy.connection import Client
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.modes import (
    SOCKS5_METHOD_NO_ACCEPTABLE_METHODS,
    SOCKS5_METHOD_USER_PASSWORD_AUTHENTICATION,
    SOCKS5_VERSION,
    Socks5Proxy,
)

from authpool.proxy.wire.installed import Installed


@dataclass(slots=True, kw_only=True, eq=False)
class SocksLogin:
    """User and password that a client of a SOCKS listener sent; `valid` is for the gateway to set."""

    client: Client
    user: bytes = field(repr=False)
    password: bytes = field(repr=False)
    valid: bool = False


@dataclass
class AuthpoolSocksLoginHook(commands.StartHook):
    """A client of a SOCKS listener that asks for keys has sent user and password."""

    login: SocksLogin


class GatewaySocks5Proxy(Socks5Proxy):
    """mitmproxy's SOCKS5, which asks for user and password where the gateway asks for keys."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.state = self.state_greet

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        inner, reply = super()._handle_event(event), None
        while True:
            try:
                command = inner.send(reply)
            except StopIteration:
                return
            if isinstance(command, commands.Log):  # it may end with all that the client has sent
                command.message = command.message.partition(": b")[0]
            reply = yield command

    def state_greet(self) -> layer.CommandGenerator[None]:
        known = "proxyauth" in self.context.options and self.context.options.proxyauth
        greeted = len(self.buf) >= 2 and self.buf[0] == SOCKS5_VERSION and len(self.buf) >= 2 + self.buf[1]
        gate = Installed.gate
        if known or not greeted or (gate is not None and not gate.asks_for_key(self.context.client)):
            yield from super().state_greet()
            return
        end = 2 + self.buf[1]
        if SOCKS5_METHOD_USER_PASSWORD_AUTHENTICATION not in self.buf[2:end]:
            yield from self.socks_err(
                "A client without a gateway key was refused by SOCKS5.", SOCKS5_METHOD_NO_ACCEPTABLE_METHODS
            )
            return
        answer = bytes([SOCKS5_VERSION, SOCKS5_METHOD_USER_PASSWORD_AUTHENTICATION])
        yield commands.SendData(self.context.client, answer)
        self.buf = self.buf[end:]
        self.state = self.state_key
        yield from self.state()

    def state_key(self) -> layer.CommandGenerator[None]:
        """User and password arrive (RFC 1929 §2)."""
        if len(self.buf) < 3 or len(self.buf) < 3 + self.buf[1]:
            return
        user_end = 2 + self.buf[1]
        end = user_end + 1 + self.buf[user_end]
        if len(self.buf) < end:
            return
        login = SocksLogin(client=self.context.client, user=self.buf[2:user_end], password=self.buf[user_end + 1 : end])
        self.buf = self.buf[end:]
        yield AuthpoolSocksLoginHook(login)
        if not login.valid:
            yield commands.SendData(self.context.client, b"\x01\x01")
            yield from self.socks_err("A gateway key was refused by SOCKS5.")
            return
        yield commands.SendData(self.context.client, b"\x01\x00")
        self.state = self.state_connect
        yield from self.state()
