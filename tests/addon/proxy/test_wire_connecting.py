"""A connection is opened to an address that was looked at, after the one time that its name was resolved."""

import asyncio
import socket
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from mitmproxy.connection import Client, Server
from mitmproxy.proxy import mode_servers
from mitmproxy.proxy import server as proxy_server
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from authpool.proxy.wire import connecting
from authpool.proxy.wire.installed import Installed

GOOD, BAD = "127.0.0.1", "127.0.0.2"


class Reach:
    """Only `GOOD` is elsewhere."""

    def __init__(self, how: Literal["anywhere", "checked", "nowhere"]) -> None:
        self._how = how

    def how(self, client: Client, server: Server) -> Literal["anywhere", "checked", "nowhere"]:
        return self._how

    def is_local(self, address: str) -> bool:
        return address != GOOD


class Names:
    """A resolver that answers each question with the next answer, and counts them."""

    def __init__(self, *answers: list[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in self._answers[min(len(self.asked), len(self._answers)) - 1]
        ]


@pytest.fixture
def opening() -> Iterator[None]:
    """As if a client's connection handler were at work."""
    token = connecting._opening.set(
        (Client(peername=("198.51.100.7", 1), sockname=(GOOD, 1)), Server(address=("x", 1)))
    )
    yield
    connecting._opening.reset(token)
    Installed.reach = None


async def connect(monkeypatch: pytest.MonkeyPatch, names: Names) -> list[str]:
    """Connect to `name.test`; answers the addresses at which somebody heard of it."""
    heard: list[str] = []

    def hear(address: str) -> Any:
        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(address)
            writer.close()

        return accept

    good = await asyncio.start_server(hear(GOOD), GOOD, 0)
    port = good.sockets[0].getsockname()[1]
    bad = await asyncio.start_server(hear(BAD), BAD, port)
    async with good, bad:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.getaddrinfo)
        reader, writer = await connecting.open_connection("name.test", port)
        assert await reader.read() == b""
        writer.close()
    return heard


@pytest.mark.usefixtures("opening")
async def test_the_address_that_was_looked_at_is_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several the local ones are left out; the name is resolved once, for the next answer may be another."""
    Installed.reach = Reach("checked")
    names = Names([BAD, GOOD, BAD], [BAD])
    assert await connect(monkeypatch, names) == [GOOD]
    assert names.asked == ["name.test"]


@pytest.mark.usefixtures("opening")
@pytest.mark.parametrize(("how", "asked"), (("checked", ["name.test"]), ("nowhere", [])))
async def test_nothing_is_opened(
    monkeypatch: pytest.MonkeyPatch, how: Literal["checked", "nowhere"], asked: list[str]
) -> None:
    """To local addresses alone, or where the client may go nowhere; that name is not even looked up."""
    Installed.reach = Reach(how)
    names = Names([BAD])
    with pytest.raises(OSError, match=connecting.NOT_ALLOWED):
        await connect(monkeypatch, names)
    assert names.asked == asked


@pytest.mark.usefixtures("opening")
async def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ever, when one can't be reached; and what is said in the end is of the last one."""
    Installed.reach = Reach("checked")
    monkeypatch.setattr(Reach, "is_local", lambda _self, address: address == BAD)
    assert await connect(monkeypatch, Names(["127.0.0.3", GOOD])) == [GOOD]
    with pytest.raises(ConnectionRefusedError):
        await connect(monkeypatch, Names(["127.0.0.3", BAD, "127.0.0.4"]))


async def test_without_a_client_of_the_proxy_it_is_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replays are the operator's."""
    Installed.reach = Reach("nowhere")
    try:
        assert await connect(monkeypatch, Names([BAD])) == [BAD]
    finally:
        Installed.reach = None


def test_it_is_put_in_place_and_taken_away() -> None:
    """Mitmproxy looks both up by name."""
    connecting.guard_connections()
    assert proxy_server.asyncio.open_connection is connecting.open_connection  # type: ignore[attr-defined]
    assert proxy_server.asyncio.Semaphore is asyncio.Semaphore  # type: ignore[attr-defined]
    assert mode_servers.ProxyConnectionHandler is connecting.GatewayConnectionHandler
    connecting.connect_as_ever()
    assert proxy_server.asyncio is asyncio  # type: ignore[attr-defined]
    assert mode_servers.ProxyConnectionHandler is ProxyConnectionHandler
    assert connecting.missing() == []


@pytest.mark.parametrize(
    ("how", "address", "may"),
    (
        ("anywhere", BAD, True),
        ("nowhere", GOOD, False),
        ("checked", BAD, False),
        ("checked", GOOD, True),
    ),
)
async def test_datagrams(
    monkeypatch: pytest.MonkeyPatch, how: Literal["anywhere", "checked", "nowhere"], address: str, *, may: bool
) -> None:
    """A transparent client names an address: the same rules."""
    monkeypatch.setattr(Installed, "reach", Reach(how))
    server = Server(address=(address, 443), transport_protocol="udp")
    client = Client(peername=("198.51.100.7", 1), sockname=(GOOD, 1), transport_protocol="udp")
    assert await connecting._may_send(client, server) is may


@pytest.mark.usefixtures("opening")
async def test_where_nobody_can_tell_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the rules is no way around them."""
    Installed.reach = None
    monkeypatch.setattr(Installed, "reach", object())
    with pytest.raises(OSError, match=connecting.NOT_ALLOWED):
        await connecting.open_connection("127.0.0.1", 1)
