"""By which names a listener is addressed: pure, but for where mitmproxy is told to listen."""

import socket

import pytest
from mitmproxy.connection import Client
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons

from authpool.config.host_pattern import HostPattern
from authpool.proxy.listener_names import are_its_names

OWN = (HostPattern.parse("gateway.example"), HostPattern.parse("*.svc.local"), HostPattern.parse("203.0.113.9"))


def client(address: str, mode: str = "reverse:https://api.example.com") -> Client:
    return Client(peername=("127.0.0.1", 1), sockname=(address, 8080), proxy_mode=ProxyMode.parse(mode))


@pytest.mark.parametrize(
    ("address", "host", "its"),
    (
        ("127.0.0.1", "127.0.0.1", True),
        ("198.51.100.4", "198.51.100.4:443", True),
        ("198.51.100.4", "198.51.100.5", False),
        ("::ffff:198.51.100.4", "198.51.100.4", True),
        ("2001:db8::4", "[2001:DB8:0::4]:8080", True),
        ("fe80::4%eth0", "[fe80::4]", True),
        ("198.51.100.4", "localhost:9", True),
        ("198.51.100.4", "[::1]", True),
        ("0.0.0.0", "0.0.0.0", False),
        ("::", "[::]", False),
        ("127.0.0.1", "gateway.example.", True),
        ("127.0.0.1", "a.b.svc.local:1", True),
        ("127.0.0.1", "svc.local", False),
        ("127.0.0.1", "203.0.113.9", True),
        ("127.0.0.1", "evil-gateway.example", False),
        ("127.0.0.1", "gateway.example.evil.example", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "localhost@evil.example", False),
        ("127.0.0.1", "evil.example/localhost", False),
        ("127.0.0.1", "localhost, evil.example", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", "\xff", False),
    ),
)
def test_a_name_is_the_listeners_or_not(address: str, host: str, *, its: bool) -> None:
    """Compared as DNS and sockets see it; the port does not count."""
    with taddons.context():
        assert are_its_names(client(address), (host.encode("latin-1"),), OWN) is its


def test_all_of_several_names_have_to_be() -> None:
    """Host twice, or :authority beside it; none at all is no browser's."""
    with taddons.context():
        assert are_its_names(client("127.0.0.1"), (b"localhost", b"127.0.0.1"), ())
        assert not are_its_names(client("127.0.0.1"), (b"localhost", b"evil.example"), ())
        assert are_its_names(client("127.0.0.1"), (), ())


def test_the_name_it_was_told_to_listen_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an option or by its mode; and the machine's host name."""
    with taddons.context() as context:
        context.options.listen_host = "one.example"
        assert are_its_names(client("198.51.100.4"), (b"ONE.example:8080",), ())
        mode = "reverse:https://api.example.com@two.example:8080"
        assert are_its_names(client("198.51.100.4", mode), (b"two.example",), ())
        assert not are_its_names(client("198.51.100.4", mode), (b"one.example",), ())
        context.options.listen_host = "0.0.0.0"
        assert not are_its_names(client("198.51.100.4"), (b"0.0.0.0",), ())
        assert are_its_names(client("198.51.100.4"), (socket.gethostname().encode(),), ())
