"""mitmweb as somebody with its password sees it: its API, its socket, its page in a browser."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

PASSWORD = "pass"
_POLL_SECONDS = 0.02
_LOGGED_IN = {"Authorization": f"Bearer {PASSWORD}", "Cookie": "_mitmproxy_xsrf=00", "X-XSRFToken": "00"}


class Mitmweb:
    """Its API at `url`; `polled` and `updates` grow while `watching`, one entry for each answer or message."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.page_url = f"{self.url}/?token={PASSWORD}"
        self.polled: list[bytes] = []
        self.updates: list[bytes] = []
        self._api = httpx.AsyncClient(
            base_url=self.url,
            headers=_LOGGED_IN,
            trust_env=False,
            verify=False,
            timeout=20,
        )

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Poll what it shows every 20 ms, and listen at its socket, for as long as the block runs."""
        await asyncio.wait_for(self._comes_up(), 30)
        address = f"{self.url.replace('http', 'ws')}/updates"
        socket = await websocket_connect(HTTPRequest(address, headers=_LOGGED_IN))
        tasks = [asyncio.create_task(self._poll()), asyncio.create_task(self._listen(socket))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            socket.close()
            await self._api.aclose()

    async def get(self, path: str) -> bytes:
        return (await self._api.get(path)).content

    async def flows(self) -> list[dict[str, Any]]:
        flows: list[dict[str, Any]] = json.loads(await self.get("/flows"))
        return flows

    async def post(self, path: str, body: object = None) -> bytes:
        """Ask it to do something; what comes out may have no form in JSON (500), but it lets us ask."""
        answer = await self._api.post(path, json=body)
        assert answer.status_code != 403
        return answer.content

    async def command(self, name: str, *arguments: str) -> bytes:
        """Run one of mitmproxy's commands in its command bar."""
        return await self.post(f"/commands/{name}", {"arguments": arguments})

    async def _comes_up(self) -> None:
        while True:
            with suppress(httpx.TransportError):
                await self._api.get("/state")
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _poll(self) -> None:
        while True:
            for path in ("/flows", "/events", "/state"):
                with suppress(httpx.TransportError):
                    self.polled.append(await self.get(path))
            await asyncio.sleep(_POLL_SECONDS)

    async def _listen(self, socket: WebSocketClientConnection) -> None:
        while (message := await socket.read_message()) is not None:
            self.updates.append(message if isinstance(message, bytes) else message.encode())


def chromium() -> str | None:
    """The browser of this machine, if it has one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """Headless Chromium with one page open; what the page shows and receives is in `seen`."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self.seen: list[bytes] = []
        self._connection = connection
        self._numbers = iter(range(1, 1_000_000))
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol."""
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        await self._connection.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
        return await asyncio.wait_for(answer, 20)

    async def run(self, script: str) -> Any:
        """Run a script in the page and answer its value."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return answer.get("result", {}).get("result", {}).get("value")

    async def look(self) -> str:
        """Take up what the page shows now."""
        shown = str(await self.run("document.documentElement.outerHTML"))
        self.seen.append(shown.encode())
        return shown

    async def receive(self) -> None:
        while (message := await self._connection.read_message()) is not None:
            data = message if isinstance(message, bytes) else message.encode()
            decoded = json.loads(data)
            if (answer := self._answers.pop(decoded.get("id", 0), None)) is not None:
                if not answer.done():
                    answer.set_result(decoded)
            else:  # what the network brought the page, its socket's messages too
                self.seen.append(data)


@asynccontextmanager
async def browser(folder: Path, url: str, *, arguments: Sequence[str] = ()) -> AsyncIterator[Browser]:
    """Open a page in headless Chromium, which ends with the block."""
    process = await asyncio.create_subprocess_exec(
        *(str(chromium()), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
        *(
            "--no-proxy-server",
            "--disable-background-networking",
            f"--user-data-dir={folder}",
            *arguments,
            "about:blank",
        ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        connection = await websocket_connect(await _page(folder), max_message_size=100_000_000)
        page = Browser(connection)
        receiving = asyncio.create_task(page.receive())
        for domain in ("Network", "Page", "Runtime"):
            await page.call(f"{domain}.enable")
        await page.call("Page.navigate", url=url)
        try:
            yield page
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            connection.close()
    finally:
        process.terminate()
        await process.wait()


async def _page(folder: Path) -> str:
    """Where the one page's debugger listens."""
    told = folder / "DevToolsActivePort"
    async with asyncio.timeout(30), httpx.AsyncClient(trust_env=False, verify=False) as api:
        while not (told.is_file() and told.read_text().count("\n")):
            await asyncio.sleep(_POLL_SECONDS)
        port = told.read_text().split("\n")[0]
        while not (
            pages := [p for p in (await api.get(f"http://127.0.0.1:{port}/json")).json() if p["type"] == "page"]
        ):
            await asyncio.sleep(_POLL_SECONDS)
    return str(pages[0]["webSocketDebuggerUrl"])
