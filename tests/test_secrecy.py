"""The real credential is on the wire and nowhere else: not in a flow, a file, an export, a page or a log."""

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from mitmproxy import ctx
from mitmproxy.addons.dumper import Dumper
from mitmproxy.addons.eventstore import EventStore
from mitmproxy.flow import Flow

from support.answers import JSON
from support.gateway import Mitmdump
from support.home import read_account
from support.pool_rig import CLIENT_SECRET, Rig, client, reverse_gateway
from support.rotating_provider import RotatingProvider
from support.streams import event_stream
from support.token_endpoint import Form, ScriptedTokenEndpoint
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

SCRIPT = Path(__file__).parent.parent / "addon" / "gateway.py"


@pytest.fixture
def rig(tmp_path: Path, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint, upstream: Upstream) -> Rig:
    upstream.respond = lambda _request: JSON(200, {"ok": True})  # an echo would show the token in the answer
    return Rig(folder=tmp_path, provider=rotating, endpoint=token_endpoint, upstream=upstream)


def spy(rig: Rig) -> list[str]:
    """Let the token endpoint note every secret that it hands out or is shown; the list grows with the traffic."""
    seen = [CLIENT_SECRET, *rig.secrets]

    def script(number: int, form: Form) -> object:
        answer = rig.provider(number, form)
        if isinstance(answer, JSON) and isinstance(answer.body, dict):
            seen.extend(str(answer.body[key]) for key in ("access_token", "refresh_token") if key in answer.body)
        seen.extend(form[key] for key in ("refresh_token", "client_secret") if key in form)
        return answer

    rig.endpoint.script = script  # type: ignore[assignment]
    return seen


def leaks(secrets: list[str], *texts: str | bytes) -> list[str]:
    """Which secrets appear in any of these, as they are or percent-encoded."""
    whole = b"\n".join(text if isinstance(text, bytes) else text.encode() for text in texts)
    return [s for s in dict.fromkeys(secrets) if s.encode() in whole or quote(s, safe="").encode() in whole]


async def make_traffic(rig: Rig, api: httpx.AsyncClient) -> None:
    """Refusals, refreshes, a dead account, a stream and a streamed upload: everything that handles a token."""
    assert (await api.get("/plain")).status_code == 200
    rig.provider.expire("alice")
    rig.provider.expire("bob")
    for n in range(3):
        assert (await api.post(f"/again/{n}", content=b"body")).status_code == 200
    rig.provider.revoke("alice")
    for n in range(3):
        assert (await api.get(f"/failover/{n}")).status_code == 200
    rig.upstream.then(event_stream(3))
    assert (await api.get("/events")).status_code == 200
    rig.provider.revoke("bob")
    assert (await api.get("/nobody")).status_code == 503


class Exports:
    """Exports each flow in every form, at each of its stages, as somebody at the console would."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.texts: list[str] = []

    def _export(self, flow: Flow) -> None:
        for form in ("curl", "httpie", "raw_request"):
            path = self._folder / f"{flow.id}.{form}"
            ctx.master.commands.call("export.file", form, flow, str(path))
            self.texts.append(path.read_text("utf-8", "replace"))
        self.texts += [json.dumps(flow.get_state(), default=repr), repr(flow), str(flow.comment), repr(flow.metadata)]

    def request(self, flow: Flow) -> None:
        self._export(flow)

    def responseheaders(self, flow: Flow) -> None:
        self._export(flow)

    def authpool_upstream_answer(self, flow: Flow) -> None:
        self._export(flow)

    def response(self, flow: Flow) -> None:
        self._export(flow)


INJECTIONS = ({"header": "Authorization", "value": "Bearer {token}"}, {"query": "key", "value": "{token}"})


@pytest.mark.parametrize("inject", INJECTIONS, ids=("header", "query"))
async def test_no_secret_is_in_flows_files_exports_or_logs(
    rig: Rig, inject: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Flow file, HAR, exports at every stage, event log at debug, the flow printed in full detail."""
    rig.upstream.credential_of = lambda request: request.bearer or (request.query.get("key") or [""])[-1]
    rig.home("alice", "bob", inject=inject)
    secrets = spy(rig)
    exports, events, dumper = Exports(tmp_path), EventStore(size=100_000), Dumper()
    settings = {
        "save_stream_file": str(tmp_path / "flows"),
        "hardump": str(tmp_path / "flows.har"),
        "flow_detail": 4,
        "termlog_verbosity": "debug",
    }
    async with (
        reverse_gateway(rig, exports, events, dumper, **settings) as gateway,
        client(gateway.url) as api,
    ):
        await make_traffic(rig, api)
        log = [record.getMessage() + str(record.exc_text or "") for record in gateway.log]
        shown = [entry.msg for entry in events.data]

    printed = capsys.readouterr()
    files = [(tmp_path / name).read_bytes() for name in ("flows", "flows.har")]
    assert len(secrets) > 6
    assert len(exports.texts) > 50
    assert all(len(file) > 1000 for file in files)
    assert "[authpool]" in printed.out
    assert leaks(secrets, *files, *exports.texts, *log, *shown, printed.out, printed.err) == []


async def test_mitmweb_never_shows_a_secret(rig: Rig, confdir: Path) -> None:
    """Its flows are asked for all the while, during the traffic and after it; its events too."""
    home = rig.home("alice", "bob")
    secrets = spy(rig)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {"web_port": port, "web_host": "127.0.0.1", "web_open_browser": "false", "web_password": "pass"}
    arguments = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    mode = ("--mode", f"reverse:{rig.upstream.url}")
    web = Mitmdump("-s", str(SCRIPT), "-v", *mode, *arguments, tool="mitmweb", home=home, confdir=confdir)
    pages: list[str] = []
    async with web, client(f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer pass"}) as page:
        await asyncio.wait_for(_comes_up(page), 15)
        polling = asyncio.create_task(_poll(page, pages))
        async with client(web.url) as api:
            await make_traffic(rig, api)
        await web.wait_for("Disabling account p/alice due to invalid_grant")
        flows = (await page.get("/flows")).json()
        await asyncio.wait_for(_enough(pages), 5)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        for flow in flows:
            for part in ("request/content.data", "response/content.data"):
                content = await page.get(f"/flows/{flow['id']}/{part}")
                pages.append(content.text)
    pages.append(web.text)

    assert len(flows) == 9
    assert any("attempts=2" in flow["comment"] for flow in flows)
    assert "[authpool]" in json.dumps(flows)
    assert leaks(secrets, *pages, json.dumps(flows)) == []
    assert read_account(home, "p/alice")["disabled"] is True


async def _poll(page: httpx.AsyncClient, pages: list[str]) -> None:
    while True:
        for path in ("/flows", "/events", "/options"):
            answer = await page.get(path)
            assert answer.status_code == 200
            pages.append(answer.text)
        await asyncio.sleep(0.005)


async def _comes_up(page: httpx.AsyncClient) -> None:
    """Mitmweb begins to proxy before it begins to show."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            await page.get("/flows")
            return
        await asyncio.sleep(0.02)


async def _enough(pages: list[str]) -> None:
    while len(pages) < 30:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("status", (400, 401, 500))
async def test_a_token_endpoint_that_repeats_what_it_was_sent_is_not_repeated(rig: Rig, status: int) -> None:
    """Providers put the refused token into their description; it reaches neither log, file, comment nor client."""
    home = rig.home("alice", expires_in=-10)
    secrets = [CLIENT_SECRET, *rig.secrets]

    def echo(_number: int, form: Form) -> JSON:
        return JSON(status, {"error": "invalid_grant", "error_description": f"bad {form}", **form})

    rig.endpoint.script = echo
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answer = await api.get("/x")
        texts = [*gateway.messages, gateway.finished[0].comment, answer.text, str(answer.headers)]

    account = read_account(home, "p/alice")
    assert answer.status_code in {502, 503}
    assert leaks(secrets, *texts, str(account.get("disabled_reason"))) == []
