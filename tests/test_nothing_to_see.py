"""All that a gateway shows and leaves behind, searched for every secret in play: nothing is found."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from support.answers import JSON, Cut, Hang, Nothing, Raw, Redirect, Reset, Slow
from support.certificates import CertificateAuthority
from support.command_line import authpool_on
from support.exchange import Answer, Request
from support.gateway import Mitmdump
from support.gateway_clients import basic
from support.mitmweb import PASSWORD, Browser, Mitmweb, browser, chromium
from support.pool_rig import Rig, client, proxied
from support.ports import free_port
from support.raw_client import send_raw
from support.secret_search import SecretProvider, SecretSearch, new_secret, whole_forms
from support.server import HttpServer
from support.streams import WebSocketEcho, event_stream
from support.token_endpoint import Form
from support.upstream import Upstream

SCRIPT = Path(__file__).parent.parent / "addon" / "gateway.py"
RAISING = """
def response(flow):
    if "raise" in flow.request.path:
        raise RuntimeError("an addon of the operator's that fails")
"""
PLUGIN = """
from authpool.plugins.api import hookimpl

@hookimpl
def authpool_account_event(event):
    raise RuntimeError(f"a plugin that fails: {event!r}")
"""
PROGRAM = """#!/bin/sh
cat /proc/$$/environ /proc/$$/cmdline >> "$1"
cat "$2"
"""


@pytest.fixture
def rotating() -> SecretProvider:
    """The provider of this test, whose tokens are random."""
    return SecretProvider()


@dataclass(slots=True, kw_only=True)
class Scene:
    """A sealed home with three pools and what is around it; `search` takes up what was to be seen."""

    rig: Rig
    folder: Path
    confdir: Path
    ca_file: Path
    tls: Upstream
    http2: Upstream
    keyed: Upstream
    commanded: Upstream
    hooks: list[bytes] = field(default_factory=list)
    search: SecretSearch = field(default_factory=SecretSearch)
    keys: list[str] = field(default_factory=list)
    others: dict[str, str] = field(
        default_factory=lambda: {name: new_secret(name) for name in ("client", "hook", "made")}
    )
    operator_key: str = field(default_factory=lambda: os.urandom(32).hex())
    echoes_form: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What the operator gives the gateway, and nobody else."""
        return {"POOL_SECRET": self.others["client"], "SEAL_KEY": self.operator_key}

    @property
    def secrets(self) -> list[str]:
        """Every secret that was ever in play."""
        return [*self.provider.issued, *self.others.values(), self.operator_key, *self.key_secrets]

    @property
    def hidden_from_upstreams(self) -> list[str]:
        """Those that no upstream may receive: all but access tokens."""
        issued = [secret for secret in self.provider.issued if secret.startswith("r+")]
        return [*issued, self.others["client"], self.others["hook"], self.operator_key, *self.key_secrets]

    @property
    def key_secrets(self) -> list[str]:
        return [key.split("_")[2] for key in self.keys]

    @property
    def provider(self) -> SecretProvider:
        assert isinstance(self.rig.provider, SecretProvider)
        return self.rig.provider

    def token_answer(self, number: int, form: Form) -> Answer:
        if self.echoes_form:
            words = {"error": "temporarily_unavailable", "error_description": f"{form}", **form}
            return JSON(400, words, {"x-echo": form.get("refresh_token", "")})
        return self.rig.provider(number, form)

    async def authpool(self, *arguments: str, shown: bool = True, stdin: str = "") -> str:
        """Run `authpool`, and take up what it says; a key that it was asked for is not `shown`."""
        ended = await authpool_on(self.rig.path, *arguments, env=self.environment, stdin=stdin)
        self.search.collect(f"authpool {arguments[0]}", *((ended.out,) if shown else ()), ended.err)
        return ended.out.strip()


class Hooks:
    """Where webhooks go."""

    def __init__(self, received: list[bytes]) -> None:
        self._received = received

    def greet(self) -> None:
        return None

    async def answer(self, request: Request) -> Answer:
        self._received.append(f"{request.target} {request.headers}".encode() + request.body)
        return JSON(200, {})


@pytest.fixture
async def scene(
    rig: Rig,
    tmp_path: Path,
    confdir: Path,
    authority: CertificateAuthority,
    tls_upstream: Upstream,
    http2_upstream: Upstream,
) -> AsyncIterator[Scene]:
    """A home, sealed, with accounts whose tokens are due in every way."""
    async with Upstream() as keyed, Upstream() as commanded:
        scene = Scene(
            rig=rig,
            folder=tmp_path,
            confdir=confdir,
            ca_file=authority.ca_file,
            tls=tls_upstream,
            http2=http2_upstream,
            keyed=keyed,
            commanded=commanded,
        )
        async with HttpServer(Hooks(scene.hooks)) as hooks:
            await _write_home(scene, hooks.url)
            yield scene


async def _write_home(scene: Scene, hooks_url: str) -> None:
    rig = scene.rig
    for name, mode, text in (
        ("program", 0o700, PROGRAM),
        ("made", 0o600, scene.others["made"]),
        ("hook", 0o600, scene.others["hook"]),
        ("raising.py", 0o600, RAISING),
    ):
        (scene.folder / name).write_text(text)
        (scene.folder / name).chmod(mode)
    argv = [str(scene.folder / name) for name in ("program", "program.seen", "made")]
    home = rig.home(
        "alice",
        "bob",
        "carol",
        hosts=[one.authority for one in (rig.upstream, scene.tls, scene.http2)],
        client_secret="env:POOL_SECRET",
        pools={
            "q": rig.pool(hosts=[scene.keyed.authority], client_secret="env:POOL_SECRET")
            | {"inject": {"query": "key", "value": "{token}"}},
            "c": {"type": {"name": "command", "argv": argv}, "hosts": [scene.commanded.authority]},
        },
        gateway={"seal_key": "env:SEAL_KEY"},
    )
    with (home / "authpool.toml").open("a") as file:
        file.write(f'\n[plugins.webhook]\nurl = "{hooks_url}/hook"\nsecret = "file:{scene.folder / "hook"}"\n')
    (home / "plugins" / "raising.py").write_text(PLUGIN)
    (home / "plugins" / "raising.py").chmod(0o600)
    rig.endpoint.script = scene.token_answer
    for upstream in (scene.tls, scene.http2, scene.keyed):
        upstream.accept(rig.provider)
    scene.keyed.credential_of = lambda request: (request.query.get("key") or [""])[-1]
    scene.commanded.accept([scene.others["made"]])
    await scene.authpool("seal")
    await scene.authpool("add", "q", "-", "dave", stdin=rig.provider.issue("dave")["refresh_token"])
    await scene.authpool("add", "c", "none", "erin")
    scene.keys.append(await scene.authpool("client", "add", "ci", shown=False))


# --- the traffic ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def traffic(scene: Scene, gateway: Mitmdump, reverse: int) -> AsyncIterator[None]:
    """Everything that handles a credential; some of it is still under way while the block runs, and after it."""
    key = scene.keys[-1]
    proxy = gateway.url.replace("//", f"//ci:{key}@")
    async with (
        proxied(proxy, scene.confdir) as h1,
        proxied(proxy, scene.confdir, http2=True) as h2,
        client(f"http://127.0.0.1:{reverse}", headers={"x-api-key": key}) as api,
        client("", proxy=proxy) as plain,
    ):
        await whole_requests(scene, h1, h2, api, plain)
        await broken_requests(scene, gateway, h1, api, plain)
        await dead_accounts(scene, h2, api)
        under_way = await unfinished_requests(scene, h1, api)
        try:
            yield
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


async def whole_requests(
    scene: Scene, h1: httpx.AsyncClient, h2: httpx.AsyncClient, api: httpx.AsyncClient, plain: httpx.AsyncClient
) -> None:
    """Plain, echoed, uploaded, streamed, over either HTTP and a WebSocket, after a 401, by each pool."""
    upload = b"x" * 300_000
    places = ((scene.tls, h1, "alice"), (scene.http2, h2, "bob"), (scene.rig.upstream, plain, "carol"))
    for upstream, http, expiring in places:
        url = upstream.url
        assert (await http.get(f"{url}/plain?a=1")).status_code == 200
        assert (await http.post(f"{url}/upload", content=_pieces(upload))).status_code == 200
        upstream.then(event_stream(3))
        assert (await http.get(f"{url}/events")).text.count("data:") == 3
        gate = asyncio.Event()
        upstream.then(Slow(gate, JSON(200, {})))
        slow = asyncio.create_task(http.get(f"{url}/slow"))
        await asyncio.sleep(0.1)  # so that it is seen while it waits; nothing depends on it
        scene.rig.provider.expire(expiring)
        gate.set()
        await slow
        for number in range(3):
            assert (await http.post(f"{url}/again/{number}", content=b"body")).status_code == 200
        assert (await http.get(f"{url}/raise")).status_code == 200
    assert (await plain.get(f"{scene.keyed.url}/by-query?b=2")).status_code == 200
    scene.keyed.then(Redirect(f"http://elsewhere.test{scene.keyed.received[-1].target}"))
    assert (await plain.get(f"{scene.keyed.url}/redirected")).status_code == 302
    assert (await plain.get(f"{scene.commanded.url}/by-command")).status_code == 200
    assert (await plain.request("TRACE", f"{scene.rig.upstream.url}/trace")).status_code >= 400
    scene.rig.upstream.then(WebSocketEcho())
    url = f"ws://127.0.0.1:{api.base_url.port}/socket"
    websocket = await websocket_connect(HTTPRequest(url, headers={"x-api-key": scene.keys[-1]}))
    await websocket.write_message("hello")
    assert await websocket.read_message() == "hello"
    websocket.close()


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


async def broken_requests(
    scene: Scene, gateway: Mitmdump, h1: httpx.AsyncClient, api: httpx.AsyncClient, plain: httpx.AsyncClient
) -> None:
    """Answers that break off or are none, wrong keys, requests that can't be read."""
    upstream = scene.rig.upstream
    for answer in (Reset(), Nothing(), Cut(200, {"a": "b" * 99}), Raw(b"no HTTP at all\r\n\r\n"), JSON(500, {})):
        upstream.then(answer, answer, answer)
        with contextlib.suppress(httpx.HTTPError):
            await api.post("/broken", content=b"x")
        upstream.forget_answers()
    key = scene.keys[-1]
    for wrong in (key[:-1], f"{key[:-1]}!", key.upper()):
        assert (await plain.get(f"{upstream.url}/wrong", headers={"x-api-key": wrong})).status_code in {200, 401}
        await send_raw(gateway.port, f"GET {upstream.url}/?key={wrong} more HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await send_raw(
            gateway.port,
            f"GET {upstream.url}/ HTTP/1.1\r\nHost: {upstream.authority}\r\n"
            f"Proxy-Authorization: {basic('ci', wrong)}\r\nConnection: close\r\n\r\n".encode(),
        )
    with contextlib.suppress(httpx.HTTPError):
        await h1.get("https://127.0.0.1:9/nobody")


async def dead_accounts(scene: Scene, h2: httpx.AsyncClient, api: httpx.AsyncClient) -> None:
    """A token endpoint that repeats what it was sent; then one account after the other is dead, but the last."""
    provider = scene.rig.provider
    scene.echoes_form = True
    for name in ("alice", "bob", "carol"):
        provider.expire(name)
    assert (await api.get("/echoing-endpoint")).status_code in {502, 503}
    scene.echoes_form = False
    await scene.authpool("refresh", "p/carol")
    provider.revoke("alice")
    provider.revoke("bob")
    for number in range(4):
        await h2.get(f"{scene.http2.url}/failover/{number}")
    await scene.authpool("add", "p", "-", "bob", stdin=provider.issue("bob")["refresh_token"])
    scene.keys.append(await scene.authpool("client", "rotate", "ci", "--overlap", "1h", shown=False))


async def unfinished_requests(scene: Scene, h1: httpx.AsyncClient, api: httpx.AsyncClient) -> list["asyncio.Task[Any]"]:
    """One client leaves before its answer, one in the middle of it; others stay until the gateway ends."""
    never = asyncio.Event()
    for answer in (Hang(), event_stream(3, never)):
        scene.tls.then(answer)
        with contextlib.suppress(httpx.TimeoutException):
            async with h1.stream("GET", f"{scene.tls.url}/leaving", timeout=0.3) as response:
                await anext(response.aiter_bytes())
    scene.rig.upstream.then(Hang(), event_stream(3, never), Slow(never, JSON(200, {})))
    seen = len(scene.rig.upstream.received)
    tasks = [asyncio.create_task(api.get(f"/in-flight/{number}")) for number in range(3)]
    async with asyncio.timeout(30):
        while len(scene.rig.upstream.received) < seen + 3:
            await asyncio.sleep(0.01)
    return tasks


# --- what is to be seen ---------------------------------------------------------------------------------------------


def descendants(pid: int) -> Iterator[int]:
    """The processes that this one started, and that those started."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from descendants(child)


async def watch_processes(scene: Scene, gateway: Mitmdump) -> None:
    """Look at the command lines of all, and the environments of those that are not the gateway itself."""
    own = gateway.process.pid if gateway.process else 0
    while True:
        _take_processes(scene, own)
        await asyncio.sleep(0.02)


def _take_processes(scene: Scene, gateway: int) -> None:
    children = set(descendants(gateway))
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            scene.search.collect("command lines", Path(f"/proc/{pid}/cmdline").read_bytes())
            if pid in children:
                scene.search.collect("environments of children", Path(f"/proc/{pid}/environ").read_bytes())


async def use_mitmweb(scene: Scene, web: Mitmweb) -> None:
    """Each export, cut, content view and replay of every flow."""
    before = await web.flows()
    (scene.folder / "exports").mkdir()
    for flow in before:
        number = flow["id"]
        for form in ("curl", "httpie", "raw", "raw_request", "raw_response"):
            exported = await web.command("export", form, f"@{number}")
            scene.search.collect(f"export {form}", exported)
            assert form != "curl" or exported.startswith(b'{"value": "curl ')
            await web.command("export.file", form, f"@{number}", str(scene.folder / "exports" / f"{number}.{form}"))
        for part in ("request", "response"):
            scene.search.collect("content", await web.get(f"/flows/{number}/{part}/content.data"))
            for view in ("auto", "raw", "hex dump"):
                scene.search.collect("content view", await web.get(f"/flows/{number}/{part}/content/{view}.json"))
    fields = "request.url,request.raw_content,request.text,request.header[authorization],response.raw_content,error"
    scene.search.collect("cut", await web.command("cut", "@all", fields))
    await web.command("cut.save", "@all", fields, str(scene.folder / "cut.csv"))
    await web.command("save.file", "@all", str(scene.folder / "saved"))
    await web.command("save.har", "@all", str(scene.folder / "saved.har"))
    for name in ("authpool.accounts", "authpool.history", "authpool.plugins", "authpool.clients"):
        scene.search.collect(name, await web.command(name))
    plain = [flow for flow in before if flow.get("request", {}).get("path", "").startswith(("/plain", "/by-query"))]
    for flow in plain:
        scene.search.collect("replay", await web.post(f"/flows/{flow['id']}/replay"))
    async with asyncio.timeout(30):
        while sum(_is_replayed(flow) for flow in await web.flows()) < len(plain):
            await asyncio.sleep(0.05)
    for flow in plain:
        scene.search.collect("duplicate", await web.post(f"/flows/{flow['id']}/duplicate"))
    scene.search.collect("flow dump", await web.get("/flows/dump"))
    scene.search.collect("options", await web.get("/options"))


def _is_replayed(flow: dict[str, Any]) -> bool:
    return flow["is_replay"] == "request" and "response" in flow


async def look_around(page: Browser, web: Mitmweb) -> None:
    """Open every flow in the browser, on each of its tabs."""
    for flow in await web.flows():
        for tab in ("request", "response", "connection", "comment"):
            await page.run(f"location.hash = '#/flows/{flow['id']}/{tab}'")
            await page.look()


def take_files(scene: Scene) -> None:
    """Take up all that was written: the home, its copy of the trail, what mitmproxy saved and keeps."""
    left_out = {"made", "hook", "program"}
    state = Path(os.environ["XDG_STATE_HOME"])
    for root in (scene.folder, scene.confdir, state):
        for path in root.rglob("*"):
            if path.is_file() and path.name not in left_out and "browser" not in path.relative_to(root).parts[:1]:
                scene.search.collect(f"file {path.name}", path.read_bytes())


# --- the tests ------------------------------------------------------------------------------------------------------


@pytest.mark.mitmproxy
@pytest.mark.timeout(300)
async def test_no_secret_is_anywhere_but_on_the_wire(scene: Scene) -> None:
    """Mitmweb polled, listened to and looked at; mitmdump in full detail; files, exports, output, processes."""
    async with scene_of_mitmweb(scene) as web:
        await use_mitmweb(scene, web)
    await scene_of_mitmdump(scene)
    for verb in ("accounts", "history", "plugins", "check"):
        await scene.authpool(verb)
        await scene.authpool(verb, "--json")
    await scene.authpool("client", "list")
    await scene.authpool("pause", "p/bob")
    await scene.authpool("resume", "p/bob")
    await scene.authpool("remove", "p/alice")
    take_files(scene)
    scene.search.collect("webhooks", *scene.hooks)

    print(
        f"searched {scene.search.searched_bytes:,} of {scene.search.collected_bytes:,} bytes "
        f"for {len(set(scene.secrets))} secrets, {'with' if chromium() else 'without'} a browser"
    )
    assert len(set(scene.secrets)) > 20
    assert scene.search.hits(scene.secrets) == []
    assert on_the_wire(scene).hits(scene.hidden_from_upstreams) == []
    assert on_the_wire(scene).hits([bearer for bearer in scene.rig.bearers if bearer]) != []


def on_the_wire(scene: Scene) -> SecretSearch:
    """What the upstreams received."""
    search = SecretSearch()
    for upstream in (scene.rig.upstream, scene.tls, scene.http2, scene.keyed, scene.commanded):
        search.collect("upstream", *(f"{one.target} {one.headers}".encode() + one.body for one in upstream.received))
    return search


@asynccontextmanager
async def scene_of_mitmweb(scene: Scene) -> AsyncIterator[Mitmweb]:
    port, reverse = free_port(), free_port()
    options = {
        "web_port": port,
        "web_host": "127.0.0.1",
        "web_open_browser": "false",
        "web_password": PASSWORD,
        "save_stream_file": scene.folder / "stream",
        "hardump": scene.folder / "stream.har",
        "store_streamed_bodies": "true",
        **_options(scene),
    }
    gateway = _gateway(scene, "mitmweb", reverse, options)
    web = Mitmweb(port)
    async with gateway, web.watching(), _browser(scene, web) as page:
        watching = asyncio.create_task(watch_processes(scene, gateway))
        async with traffic(scene, gateway, reverse):
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                gateway.send_signal(number)
            if page is not None:
                await look_around(page, web)
            yield web
            await gateway.stop()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    scene.search.collect("mitmweb's output", gateway.text)
    scene.search.collect("mitmweb's API", *web.polled, split=b'}, {"id": ')
    scene.search.collect("mitmweb's socket", *web.updates)
    assert "an addon of the operator's that fails" in gateway.text
    assert len(web.polled) > 30
    assert len(web.updates) > 30


@asynccontextmanager
async def _browser(scene: Scene, web: Mitmweb) -> AsyncIterator[Browser | None]:
    """A browser that looks all the while, where there is one."""
    if chromium() is None:
        assert os.environ.get("AUTHPOOL_REQUIRE_CHROMIUM") != "1", "there is no `chromium` on the PATH"
        yield None
        return
    async with browser(scene.folder / "browser", web.page_url) as page:
        looking = asyncio.create_task(_keep_looking(page))
        try:
            yield page
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
    scene.search.collect("the page", *page.seen, split=b"<tr ")
    assert any(b"/failover/3" in seen and b"[authpool]" in seen for seen in page.seen)


async def _keep_looking(page: Browser) -> None:
    while True:
        await page.look()
        await asyncio.sleep(0.05)


async def scene_of_mitmdump(scene: Scene) -> None:
    reverse = free_port()
    options = {"flow_detail": 4, **_options(scene)}
    gateway = _gateway(scene, "mitmdump", reverse, options, "-w", str(scene.folder / "written"))
    async with gateway, traffic(scene, gateway, reverse):
        await gateway.stop()
    scene.search.collect("mitmdump's output", gateway.text)
    read = Mitmdump("-nr", str(scene.folder / "written"), *_settings({"flow_detail": 4}), confdir=scene.confdir)
    scene.search.collect("mitmdump -nr", await read.run_to_its_end())


def _options(scene: Scene) -> dict[str, Any]:
    return {
        "ssl_verify_upstream_trusted_ca": scene.ca_file,
        "stream_large_bodies": "100k",
        "authpool_access_log": "json",
        "connection_strategy": "lazy",
    }


def _settings(options: dict[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in ("--set", f"{name}={value}")]


def _gateway(scene: Scene, tool: str, reverse: int, options: dict[str, Any], *more: str) -> Mitmdump:
    modes = ("--mode", "regular", "--mode", f"reverse:{scene.rig.upstream.url}@{reverse}")
    scripts = ("-s", str(SCRIPT), "-s", str(scene.folder / "raising.py"))
    return Mitmdump(
        *(*scripts, "-v", *modes, *_settings(options), *more),
        tool=tool,
        home=scene.rig.path,
        confdir=scene.confdir,
        environment=scene.environment,
    )


@pytest.mark.parametrize("form", whole_forms("x"))
def test_the_search_finds_a_secret_in_each_form(form: str) -> None:
    """Whole, and any two thirds of it; among other text, in a part that comes again and again."""
    secret = new_secret("planted")
    length = -(-2 * len(secret) // 3)
    for start in (0, (len(secret) - length) // 2, len(secret) - length, None):
        part = secret if start is None else secret[start : start + length]
        search = SecretSearch()
        search.collect("here", b"nothing", b"before " + whole_forms(part)[form] + b" after", split=b"}, {")
        assert [hit.partition(":")[0] for hit in search.hits([new_secret("other"), secret])][:1] == ["here"]


def test_the_search_finds_nothing_where_nothing_is() -> None:
    """A third of a secret is no find, nor is another secret."""
    secret, search = new_secret("planted"), SecretSearch()
    search.collect("here", new_secret("other"), secret[: len(secret) // 3], json.dumps({"a": sys.version}))
    assert search.hits([secret]) == []
