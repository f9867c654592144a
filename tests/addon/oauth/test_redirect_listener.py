"""The listener that a sign-in comes back to: real sockets, and all that else may connect to it."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from authpool.config.pool_config import SignInConfig
from authpool.errors import RefusedError
from authpool.oauth import redirect_listener
from authpool.oauth.authorization import StrayAnswerError
from authpool.oauth.redirect_listener import MAX_CONNECTIONS, RedirectListener, bound
from support.ports import free_port


def read(query: str) -> str:
    """What the sign-in of these tests makes of a query."""
    if query == "no":
        raise RefusedError("the sign-in was <declined>")
    if not query.startswith("code="):
        raise StrayAnswerError("it has no <state>")
    return query.removeprefix("code=")


@asynccontextmanager
async def listening(config: SignInConfig | None = None) -> AsyncIterator[tuple[RedirectListener, "asyncio.Task[str]"]]:
    async with RedirectListener.open(config or SignInConfig()) as listener:
        waiting = asyncio.create_task(listener.code(read))
        await asyncio.sleep(0)
        try:
            yield listener, waiting
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


async def ask(port: int, data: bytes, host: str = "127.0.0.1") -> str:
    """Send bytes and read to the end."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        await writer.drain()
        return (await asyncio.wait_for(reader.read(), 20)).decode()
    finally:
        writer.close()


def get(target: str, method: str = "GET") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: a=b\r\n\r\n".encode()


async def test_the_page_is_shown_when_all_is_done() -> None:
    """Not before: until then the browser waits, and another tab with it."""
    async with listening() as (listener, waiting):
        tabs = [asyncio.create_task(ask(listener.port, get("/callback?code=abc"))) for _ in range(2)]
        assert await asyncio.wait_for(waiting, 20) == "abc"
        assert not any(tab.done() for tab in tabs)
        listener.succeed("Added google/<alice>\u202e")
        for page in await asyncio.gather(*tabs):
            assert "200 OK" in page
            assert '<h1 class="good">Signed in</h1>\n<p>Added google/&lt;alice&gt;\ufffd.</p>' in page


async def test_what_failed_is_told_as_the_terminal_tells_it() -> None:
    """After the answer was taken, and where the answer itself was a no."""
    async with listening() as (listener, waiting):
        page = asyncio.create_task(ask(listener.port, get("/callback?code=abc")))
        await asyncio.wait_for(waiting, 20)
        listener.fail("bob signed in, not <alice>")
        assert "<p>bob signed in, not &lt;alice&gt;.</p>" in await page
    async with listening() as (listener, waiting):
        assert "the sign-in was &lt;declined&gt;" in await ask(listener.port, get("/callback?no"))
        with pytest.raises(RefusedError, match="<declined>"):
            await waiting


@pytest.mark.parametrize(
    ("data", "status"),
    (
        (get("/favicon.ico"), "404"),
        (get("/"), "404"),
        (get("/callback/"), "404"),
        (get("/Callback?code=abc"), "404"),
        (get("/callback"), "400"),
        (get("/callback?state=other"), "400"),
        (get("/callback?code=abc", "HEAD"), "405"),
        (get("/callback?code=abc", "POST"), "405"),
        (get("/callback?code=abc", "OPTIONS"), "405"),
        (get("http://127.0.0.1/callback"), "400"),
        (get("http://127.0.0.1"), "404"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "400"),
        (b"GET /callback?code=abc\r\n\r\n", "400"),
        (b"\r\n\r\n", "400"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", ""),
    ),
)
async def test_strays_are_answered_and_the_wait_goes_on(data: bytes, status: str) -> None:
    """A favicon, another tab, a scanner: the answer that comes after them counts."""
    async with listening() as (listener, waiting):
        try:
            answer = await ask(listener.port, data)
        except ConnectionError:
            answer = ""
        assert answer[9:12] == status
        assert not waiting.done()
        last = asyncio.create_task(ask(listener.port, get("/callback?code=abc")))
        assert await asyncio.wait_for(waiting, 20) == "abc"
        listener.succeed("Added it")
        assert "Added it" in await last


async def test_connections_that_say_nothing_make_room_for_one_that_does() -> None:
    """However many there are: the oldest of them goes, and the browser is answered at its first try."""
    async with listening() as (listener, waiting):
        silent = [await asyncio.open_connection("127.0.0.1", listener.port) for _ in range(MAX_CONNECTIONS + 10)]
        page = asyncio.create_task(ask(listener.port, get("/callback?code=abc")))
        assert await asyncio.wait_for(waiting, 20) == "abc"
        listener.succeed("Added it")
        assert "Added it" in await page
        for _, writer in silent:
            writer.close()


async def test_a_connection_that_says_nothing_holds_up_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers open spare ones: only those that are given a page are waited for."""
    monkeypatch.setattr(redirect_listener, "FAREWELL_SECONDS", 3600)
    monkeypatch.setattr(redirect_listener, "HEAD_SECONDS", 3600)
    async with asyncio.timeout(20):
        async with listening() as (listener, waiting):
            spare, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            page = asyncio.create_task(ask(listener.port, get("/callback?code=abc")))
            await waiting
            listener.succeed("Added it")
        assert "Added it" in await page
        assert await spare.read() == b""
        writer.close()


async def test_half_open_and_hasty_connections_disturb_nobody() -> None:
    """Also as many as are taken: those that are too many are closed, and leave room when they go."""
    async with listening() as (listener, waiting):
        writers = []
        for _ in range(MAX_CONNECTIONS - 1):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writers.append(writer)
        writers[0].write(b"GET /callback?co")
        _, hasty = await asyncio.open_connection("127.0.0.1", listener.port)
        hasty.transport.abort()
        while True:
            page = asyncio.create_task(ask(listener.port, get("/callback?code=abc")))
            done, _ = await asyncio.wait({waiting, page}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
            assert done
            if waiting.done():
                break
            assert await page == ""  # the hasty one was still counted
        listener.succeed("Added it")
        assert "Added it" in await page
        for writer in writers:
            writer.close()


async def test_pages_have_no_script_and_leave_nothing_behind() -> None:
    """Nothing is loaded, kept, framed or told to another site; what a page was asked with is not on it."""
    async with listening() as (listener, waiting):
        page = asyncio.create_task(ask(listener.port, get("/callback?code=the-secret-code")))
        await waiting
        listener.succeed("Added it")
        pages = [await page, await ask(listener.port, get("/nowhere")), await ask(listener.port, get("/callback?a"))]
    for one in pages:
        head, _, body = one.partition("\r\n\r\n")
        assert "<script" not in body
        assert "http" not in body.replace("http-equiv", "")
        assert "the-secret-code" not in one
        assert re.search(r"Content-Security-Policy: default-src 'none'; style-src 'sha256-", head)
        assert "Cache-Control: no-store" in head
        assert "Referrer-Policy: no-referrer" in head
        assert f"Content-Length: {len(body.encode())}" in head


async def test_both_loopback_addresses_have_the_one_port() -> None:
    """`localhost` may mean either."""
    async with listening(SignInConfig(redirect_host="localhost", redirect_path="/a/b")) as (listener, waiting):
        assert listener.redirect_uri == f"http://localhost:{listener.port}/a/b"
        page = asyncio.create_task(ask(listener.port, get("/a/b?code=six"), host="::1"))
        assert await asyncio.wait_for(waiting, 20) == "six"
        listener.succeed("Added it")
        assert "Added it" in await page


async def test_the_port_is_free_as_soon_as_it_is_over() -> None:
    """For the next sign-in, on the same port if a provider insists."""
    port = free_port()
    for _ in range(3):
        async with listening(SignInConfig(redirect_ports=(port,))) as (listener, _):
            assert listener.port == port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionError):
            assert await reader.read() == b""  # it is closed, however little of it was read
        writer.close()


@pytest.mark.parametrize("address", ("127.0.0.1", "::1"))
def test_a_port_that_is_taken_is_named_and_the_next_one_tried(address: str) -> None:
    """On whichever address it is taken."""
    taken, other = free_port(), free_port()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.bind((address, taken))
        one.listen()
        with pytest.raises(RefusedError, match=rf"port {taken} is taken on this machine.*redirect_ports"):
            bound((taken,))
        sockets = bound((taken, other))
        assert [each.getsockname()[1] for each in sockets] == [other, other]
        for each in sockets:
            each.close()
