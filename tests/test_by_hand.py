"""What a hand in mitmweb makes of a request of a pool: another path is its own affair, another host gets nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.gateway import Mitmdump
from support.pool_rig import Rig, client
from support.ports import free_port

pytestmark = pytest.mark.mitmproxy

SCRIPT = Path(__file__).parent.parent / "addon" / "gateway.py"
XSRF = "_mitmproxy_xsrf"


@asynccontextmanager
async def mitmweb(rig: Rig, confdir: Path) -> AsyncIterator[tuple[Mitmdump, httpx.AsyncClient]]:
    """A mitmweb that stops every request, and somebody who is logged in to it."""
    port = free_port()
    settings = {"web_port": port, "web_host": "127.0.0.1", "web_open_browser": "false", "web_password": "pass"}
    arguments = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    arguments += ["--set", "intercept=~q", "--mode", f"reverse:{rig.upstream.url}"]
    web = Mitmdump("-s", str(SCRIPT), *arguments, tool="mitmweb", home=rig.path, confdir=confdir)
    token = {"Authorization": "Bearer pass", "Cookie": f"{XSRF}=00", "X-XSRFToken": "00"}
    async with web, client(f"http://127.0.0.1:{port}", headers=token) as page:
        async with asyncio.timeout(30):
            while not await _is_up(page):
                await asyncio.sleep(0.05)
        yield web, page


async def _is_up(page: httpx.AsyncClient) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await page.get("/flows")).status_code == 200
    return False


async def edit(page: httpx.AsyncClient, change: dict[str, Any]) -> None:
    """Change the one flow that is stopped, and let it go on."""
    async with asyncio.timeout(30):
        while not (stopped := [flow for flow in (await page.get("/flows")).json() if flow["intercepted"]]):
            await asyncio.sleep(0.02)
    (flow,) = stopped
    headers = [[name, change.pop(name.lower(), value)] for name, value in flow["request"]["headers"]]
    change = {"headers": headers, **change}
    (await page.put(f"/flows/{flow['id']}", json={"request": change})).raise_for_status()
    (await page.post(f"/flows/{flow['id']}/resume")).raise_for_status()


async def test_a_request_that_is_edited_by_hand_is_looked_at_again(rig: Rig, confdir: Path) -> None:
    """Stopped after the pool was chosen: Host, path and a header are another when it goes on."""
    rig.home("alice")
    changes: list[tuple[dict[str, Any], int]] = [
        ({"host": "evil.test"}, 500),
        ({"path": "/x HTTP/1.1\r\nHost: evil.test\r\n\r\nGET /y"}, 500),
        ({"x-mine": "1\r\nHost: evil.test"}, 500),
        ({"path": "/another", "x-mine": "2"}, 200),
    ]
    statuses = []
    async with mitmweb(rig, confdir) as (web, page), client(web.url, headers={"X-Mine": "1"}) as api:
        for change, _ in changes:
            answering = asyncio.create_task(api.get("/x"))
            await edit(page, dict(change))
            statuses.append((await answering).status_code)

    assert statuses == [status for _, status in changes]
    (received,) = rig.upstream.received
    assert (received.target, received.header("x-mine"), rig.owners) == ("/another", "2", ["alice"])
