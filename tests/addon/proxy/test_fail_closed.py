"""mitmproxy fails open; the gateway does not. Each test breaks something and looks at what the upstream received.

What must never arrive there: the client's own credential, no credential at all, or one of another destination.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Self

import httpx
import pytest
from mitmproxy import exceptions, http
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from authpool.accounts.account import AccountKey
from authpool.errors import AuthpoolError
from authpool.proxy import wire
from authpool.proxy.addon import Gateway
from authpool.rotation.rotation import Rotation, RotationRequest
from support.gateway import GatewayStartError, Mitmdump, dump_master
from support.home import make_home, write_configuration
from support.pool_rig import Rig, client, gateway_master, proxied, reverse_gateway
from support.streams import event_stream
from support.upstream import Upstream

pytestmark = pytest.mark.mitmproxy

OWN = {"authorization": "Bearer the-clients-own", "x-api-key": "the-clients-own"}
SCRIPT = Path(__file__).parents[3] / "addon" / "gateway.py"


def is_gateway_error(answer: httpx.Response) -> bool:
    """Whether the answer is the gateway's own: 500, problem+json, and no word about anybody."""
    return (
        answer.status_code == 500
        and answer.headers["authpool-error"] == "gateway_error"
        and answer.headers["content-type"] == "application/problem+json"
        and answer.json()["status"] == 500
    )


# --- something inside breaks ----------------------------------------------------------------------------------------


class BrokenRotation(Rotation):
    """A rotation that knows the accounts and raises when it is asked for one."""

    def add(self, key: AccountKey) -> None:
        pass

    def remove(self, key: AccountKey) -> None:
        pass

    def choose(self, request: RotationRequest, tried: Collection[AccountKey]) -> AccountKey | None:
        raise RuntimeError("the rotation is broken")


BROKEN_PLUGIN = f"""
from authpool import hookimpl
import sys; sys.path.append({str(Path(__file__).parent)!r})
from test_fail_closed import BrokenRotation

@hookimpl
def authpool_rotation(name):
    return (lambda pool: BrokenRotation()) if name == "broken" else None
"""


async def test_a_rotation_that_raises_is_named_and_the_requests_are_served(rig: Rig) -> None:
    """Accounts take turns instead, each with its own credential and never with the client's."""
    home = rig.home("alice", "bob", rotation="broken")
    (home / "plugins" / "broken.py").write_text(BROKEN_PLUGIN)
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        answers = [await api.post("/x", content=b"b", headers=OWN) for _ in range(4)]
        messages = gateway.messages

    assert [answer.status_code for answer in answers] == [200] * 4
    assert set(rig.owners) == {"alice", "bob"}
    assert any("The rotation of plugin broken (pool p) raised" in message for message in messages)


class Saboteur:
    """Breaks a part of the gateway behind its back, as a bug would."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def spoil(self, part: str) -> None:
        service = self._gateway.service
        assert service is not None
        match part:
            case "router":
                object.__setattr__(service.snapshot, "router", None)
            case "picker":
                service.picker = None  # type: ignore[assignment]
            case "traffic":
                self._gateway._traffic = None
            case "hook":
                self._gateway.requestheaders = None  # type: ignore[assignment, method-assign]


@pytest.mark.parametrize("part", ("router", "picker", "traffic", "hook"))
async def test_a_bug_anywhere_on_the_way_ends_in_an_answer_of_ours(rig: Rig, part: str) -> None:
    """The parts fail one by one, and at the worst place: a hook that mitmproxy does not even call any more."""
    rig.home("alice")
    addon = Gateway()
    mode = f"reverse:{rig.upstream.url}"
    async with gateway_master(rig.path, gateway=addon, mode=mode) as gateway, client(gateway.url) as api:
        Saboteur(addon).spoil(part)
        answer = await api.get("/x", headers=OWN)

    assert is_gateway_error(answer)
    assert rig.upstream.received == []


class AfterHeaders:
    """Runs something between the gateway's decision and the wire."""

    def __init__(self, act: object) -> None:
        self._act = act

    def request(self, flow: http.HTTPFlow) -> None:
        self._act(flow)  # type: ignore[operator]


async def test_a_gate_that_raises_at_the_wire_ends_in_an_answer_of_ours(rig: Rig) -> None:
    """The last moment: the decision was made, and putting the credential on fails."""
    rig.home("alice")
    addon = Gateway()
    breaks = AfterHeaders(lambda _flow: Saboteur(addon).spoil("picker"))
    mode = f"reverse:{rig.upstream.url}"
    async with gateway_master(rig.path, breaks, gateway=addon, mode=mode) as gateway, client(gateway.url) as api:
        answer = await api.post("/x", content=b"body", headers=OWN)

    assert is_gateway_error(answer)
    assert rig.upstream.received == []


async def test_without_a_gateway_that_lives_nothing_goes_out(rig: Rig, confdir: Path) -> None:
    """After `done` a request is refused, to whatever host."""
    rig.home("alice")
    addon = Gateway()
    async with (
        Upstream() as other,
        gateway_master(rig.path, gateway=addon, confdir=confdir) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        gateway.master.addons.remove(addon)
        answers = [await api.get(f"{url}/x", headers=OWN) for url in (rig.upstream.url, other.url)]
        assert other.received == []

    assert all(is_gateway_error(answer) for answer in answers)
    assert rig.upstream.received == []


async def test_a_request_under_way_when_the_gateway_ends_is_refused(rig: Rig) -> None:
    """It has its account already; there is nobody left to put the credential on."""
    rig.home("alice")
    addon = Gateway()
    mode = f"reverse:{rig.upstream.url}"
    ends = AfterHeaders(lambda _flow: wire.remove(addon._traffic.gate))  # type: ignore[union-attr]
    async with gateway_master(rig.path, ends, gateway=addon, mode=mode) as gateway, client(gateway.url) as api:
        answer = await api.get("/x", headers=OWN)

    assert is_gateway_error(answer)
    assert rig.upstream.received == []


async def test_a_gateway_that_could_not_be_configured_lets_nothing_through(rig: Rig) -> None:
    """Its configuration is wrong: mitmproxy may go on without it, the wire does not."""
    home = rig.home("alice")
    (home / "authpool.toml").write_text("[pools.p\n")
    mode = f"reverse:{rig.upstream.url}"
    async with dump_master(Unconfigured(), home=home, mode=mode) as gateway, client(gateway.url) as api:
        answer = await api.get("/x", headers=OWN)

    assert is_gateway_error(answer)
    assert rig.upstream.received == []


class Unconfigured(Gateway):
    """A gateway in a tool that goes on whatever was logged while it started."""

    def _refuse_to_start(self, error: AuthpoolError) -> None:
        assert "authpool.toml" in str(error)


# --- answers while a body streams -----------------------------------------------------------------------------------


async def _pieces(count: int = 40, size: int = 8192) -> object:
    for _ in range(count):
        yield b"secret-of-the-body" + b"x" * size
        await asyncio.sleep(0)


@pytest.mark.parametrize("known_length", (True, False), ids=("content-length", "chunked"))
async def test_a_refusal_of_a_streamed_upload_is_an_answer(*, rig: Rig, known_length: bool) -> None:
    """Mitmproxy alone crashes on a response beside a request that streams, and logs the body."""
    rig.home()
    body = b"secret-of-the-body" * 20_000
    async with (
        reverse_gateway(rig, stream_large_bodies="20k") as gateway,
        client(gateway.url) as api,
    ):
        for _ in range(2):  # the connection is good for another
            answer = await api.post("/x", content=body if known_length else _pieces())  # type: ignore[union-attr]
            assert (answer.status_code, answer.headers["authpool-error"]) == (503, "pool_exhausted")
        assert not [message for message in gateway.messages if "crashed" in message or "secret-of-the-body" in message]

    assert rig.upstream.received == []


async def test_a_streamed_upload_refused_at_the_wire_is_answered_too(rig: Rig) -> None:
    """The gate is asked while the client is still sending; it gets the same answer as anybody."""
    rig.home("alice")
    addon = Gateway()
    mode = f"reverse:{rig.upstream.url}"

    class Redirects:
        def requestheaders(self, flow: http.HTTPFlow) -> None:
            Saboteur(addon).spoil("picker")

    async with (
        gateway_master(rig.path, Redirects(), gateway=addon, mode=mode, stream_large_bodies="20k") as gateway,
        client(gateway.url) as api,
    ):
        answer = await api.post("/x", content=b"x" * 400_000, headers=OWN)

    assert is_gateway_error(answer)
    assert rig.upstream.received == []


# --- somebody else changes the destination --------------------------------------------------------------------------


@pytest.fixture
async def other() -> object:
    """Another host, which no pool is for."""
    async with Upstream() as server:
        yield server


async def test_map_remote_to_another_host_takes_no_credential_along(rig: Rig, other: Upstream) -> None:
    """Mitmproxy's own option, at work after the pool was chosen."""
    rig.home("alice")
    rule = f"|{rig.upstream.url}|{other.url}"
    async with reverse_gateway(rig, map_remote=[rule]) as gateway, client(gateway.url) as api:
        answer = await api.get("/x", headers=OWN)

    assert is_gateway_error(answer)
    assert other.received == rig.upstream.received == []


async def test_map_remote_to_a_pools_host_is_refused(rig: Rig, other: Upstream, confdir: Path) -> None:
    """The request was let pass with the client's own credential, for another host."""
    rig.home("alice")
    rule = f"|{other.url}|{rig.upstream.url}"
    async with (
        gateway_master(rig.path, confdir=confdir, map_remote=[rule]) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        answer = await api.get(f"{other.url}/x", headers=OWN)

    assert is_gateway_error(answer)
    assert other.received == rig.upstream.received == []


async def test_map_remote_between_hosts_of_no_pool_works_as_ever(rig: Rig, other: Upstream, confdir: Path) -> None:
    """What is none of the gateway's business is left to mitmproxy."""
    rig.home("alice")
    rule = "|http://unmanaged.test|" + other.url
    async with (
        gateway_master(rig.path, confdir=confdir, map_remote=[rule]) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        answer = await api.get("http://unmanaged.test/x", headers=OWN)

    assert answer.status_code == 200
    assert other.received[0].bearer == "the-clients-own"


class _Rewrites:
    """An addon after ours that gives the request another path."""

    def __init__(self, path: str) -> None:
        self._path = path

    def request(self, flow: http.HTTPFlow) -> None:
        flow.request.path = self._path


@pytest.mark.parametrize(("path", "status"), (("/b/x", 500), ("/c", 500), ("/a/%2e%2e/b", 500), ("/a/y?z=1", 200)))
async def test_an_addon_that_turns_a_request_into_another_pools_gets_no_credential(
    rig: Rig, path: str, status: int
) -> None:
    """The pool was chosen by the path as well; within the pool's own paths a rewrite is nobody's business."""
    rig.home("alice", paths=["/a/*"], pools={"q": rig.pool(paths=["/b/*"])})
    async with reverse_gateway(rig, _Rewrites(path)) as gateway, client(gateway.url) as api:
        answer = await api.get("/a/x")
    assert answer.status_code == status
    assert [request.target for request in rig.upstream.received] == ([path] if status == 200 else [])


@pytest.mark.parametrize("hook", ("requestheaders", "request"))
@pytest.mark.parametrize("body", (b"", b"body"), ids=("get", "post"))
async def test_an_addon_that_turns_a_request_to_another_port_gets_no_credential(
    rig: Rig, other: Upstream, hook: str, body: bytes
) -> None:
    """Whatever hook it uses, as long as it comes after the gateway's."""
    rig.home("alice")

    class Turns:
        pass

    turns = Turns()
    setattr(turns, hook, lambda flow: setattr(flow.request, "port", other.port))
    async with reverse_gateway(rig, turns) as gateway, client(gateway.url) as api:
        answer = await api.request("POST" if body else "GET", "/x", content=body, headers=OWN)

    assert is_gateway_error(answer)
    assert other.received == rig.upstream.received == []


async def test_an_addon_that_connects_elsewhere_gets_no_credential(rig: Rig, other: Upstream, confdir: Path) -> None:
    """`server_connect` may change the address while the request still names the pool's host."""
    rig.home("alice")

    class Reconnects:
        def server_connect(self, data: ServerConnectionHookData) -> None:
            data.server.address = (other.host, other.port)

    async with (
        gateway_master(rig.path, Reconnects(), confdir=confdir) as gateway,
        proxied(gateway.url, confdir) as api,
    ):
        answer = await api.get(f"{rig.upstream.url}/x", headers=OWN)

    assert is_gateway_error(answer)
    assert other.received == rig.upstream.received == []


async def test_an_answer_of_an_addon_before_us_stands(rig: Rig) -> None:
    """Proxyauth's 407, a block list: nothing is chosen, and nothing goes out."""
    rig.home("alice")

    class Blocks:
        name = "blocks"

        def requestheaders(self, flow: http.HTTPFlow) -> None:
            flow.response = http.Response.make(407, b"who are you?")

    mode = f"reverse:{rig.upstream.url}"
    async with gateway_master(rig.path, before=[Blocks()], mode=mode) as gateway, client(gateway.url) as api:
        answer = await api.get("/x", headers=OWN)

    assert (answer.status_code, answer.text) == (407, "who are you?")
    assert rig.upstream.received == []


# --- options --------------------------------------------------------------------------------------------------------


async def test_proxy_debug_is_refused_while_the_gateway_runs(rig: Rig) -> None:
    """With it mitmproxy logs what is on the wire."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        with pytest.raises(exceptions.OptionsError, match="proxy_debug"):
            gateway.master.options.update(proxy_debug=True)
        assert gateway.master.options.proxy_debug is False
        assert (await api.get("/x")).status_code == 200


async def test_the_home_does_not_change_under_a_running_gateway(rig: Rig, tmp_path: Path) -> None:
    """The old one stays in force, and says why."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        with pytest.raises(exceptions.OptionsError, match="start anew"):
            gateway.master.options.update(authpool_home=str(tmp_path / "other"))
        assert (await api.get("/x")).status_code == 200


# --- the script, in a real mitmdump ---------------------------------------------------------------------------------


class _Traffic:
    """Requests without a pause, as long as it runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.statuses: list[int] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _send(self) -> None:
        async with client(self._url, headers=OWN) as api:
            while True:
                self.statuses.append((await api.get("/x")).status_code)
                await asyncio.sleep(0.002)

    async def wait_for(self, status: int, deadline_seconds: float = 5.0) -> None:
        """Wait until an answer from now on has this status."""
        seen = len(self.statuses)
        async with asyncio.timeout(deadline_seconds):
            while status not in self.statuses[seen:]:
                await asyncio.sleep(0.005)


def later(path: Path, text: str) -> None:
    """Write the script anew, so that mitmproxy sees a newer file."""
    newer = path.stat().st_mtime + 2 if path.exists() else None
    path.write_text(text)
    if newer:
        os.utime(path, (newer, newer))


async def test_a_script_that_is_reloaded_broken_or_deleted_leaks_nothing(rig: Rig, confdir: Path) -> None:
    """The whole life of a script under traffic: reload, break, mend, delete, put back.

    With traffic all the while, only the pool's own tokens arrive; without a gateway, nothing does.
    """
    rig.home("alice")
    text = SCRIPT.read_text()
    script = rig.folder / "gateway.py"
    script.write_text(text)
    gateway = Mitmdump("-s", str(script), "--mode", f"reverse:{rig.upstream.url}", home=rig.path, confdir=confdir)
    async with gateway, _Traffic(gateway.url) as traffic:
        await traffic.wait_for(200)
        later(script, text + "\n")
        await gateway.wait_for("Loading script")
        await traffic.wait_for(200)
        later(script, text + "\nthis is not Python\n")
        await traffic.wait_for(500)
        gateway.send_signal(signal.SIGHUP)  # which nobody takes for a reload now, and nobody dies of
        settled = len(rig.upstream.received)
        later(script, text)
        await traffic.wait_for(200)
        script.unlink()
        await traffic.wait_for(500)
        gone = len(rig.upstream.received)
        script.write_text(text)
        await traffic.wait_for(500)

    assert set(traffic.statuses) == {200, 500}
    assert len(rig.upstream.received) == gone > settled
    assert set(rig.owners) == {"alice"}
    assert "the-clients-own" not in str([request.headers for request in rig.upstream.received])


async def test_a_broken_configuration_stops_mitmdump_at_start(tmp_path: Path, confdir: Path) -> None:
    """It ends with a status that scripts see, naming file, key and remedy."""
    home = make_home(tmp_path, pools={"p": {"hosts": ["x.test"], "client_id": "c", "token_url": "http://x.test"}})
    said = await last_words(Mitmdump("-s", str(SCRIPT), home=home, confdir=confdir))
    assert "authpool.toml: pools.p.token_url" in said
    assert "https" in said


async def test_a_home_that_is_not_there_stops_mitmdump_and_is_not_made(tmp_path: Path, confdir: Path) -> None:
    """A mistyped option is an error."""
    home = tmp_path / "nonexistent"
    said = await last_words(Mitmdump("-s", str(SCRIPT), "--set", f"authpool_home={home}", confdir=confdir))
    assert "authpool init" in said
    assert not home.exists()


async def last_words(gateway: Mitmdump) -> str:
    """Start a gateway that is to end by itself, with a status that scripts see; answer what it said.

    mitmproxy listens for a moment before it looks whether something failed: nothing goes out then either.
    """
    try:
        await gateway.start()
    except GatewayStartError as ended:
        return str(ended)
    assert gateway.process is not None
    async with asyncio.timeout(10):
        assert await gateway.process.wait() == 1
    await gateway.stop()
    return gateway.text


async def test_a_configuration_broken_while_it_runs_changes_nothing(rig: Rig) -> None:
    """The old one stays in force, the log says what is wrong, and mending it takes effect."""
    home = rig.home("alice")
    good = (home / "authpool.toml").read_text()
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        (home / "authpool.toml").write_text(good.replace("token_url", "tokn_url"))
        await gateway.wait_until(lambda: [m for m in gateway.messages if "stays in force" in m and "tokn_url" in m])
        assert (await api.get("/x", headers=OWN)).status_code == 200
        write_configuration(home, pools={"p": rig.pool(methods=["POST"])})
        await gateway.wait_until(lambda: len([m for m in gateway.messages if "Pool p reloaded" in m]) == 2)
        rig.upstream.accept({"the-clients-own"})
        assert (await api.get("/x", headers=OWN)).status_code == 200

    assert rig.owners == ["alice", "the-clients-own"]


async def test_a_rotation_nobody_provides_leaves_the_old_pool_and_its_followers(rig: Rig) -> None:
    """A reload that fails late has not eaten the changes of the accounts meanwhile."""
    home = rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        rig.write("bob", token=rig.token("bob"))
        write_configuration(home, pools={"p": rig.pool(rotation="nobody's")})
        await gateway.wait_until(lambda: [m for m in gateway.messages if "nobody's" in m and "stays in force" in m])
        await gateway.wait_until(lambda: [m for m in gateway.messages if "reloaded: 2 ready" in m])
        assert [(await api.get("/x")).status_code for _ in range(2)] == [200, 200]

    assert set(rig.owners) == {"alice", "bob"}


async def test_an_event_stream_begun_before_the_gateway_ended_goes_on(rig: Rig) -> None:
    """What was let through is not broken off; only what is new is refused."""
    rig.home("alice")
    gate = asyncio.Event()
    rig.upstream.then(event_stream(2, gate))
    addon = Gateway()
    mode = f"reverse:{rig.upstream.url}"
    async with (
        gateway_master(rig.path, gateway=addon, mode=mode) as gateway,
        client(gateway.url) as api,
        api.stream("GET", "/events") as stream,
    ):
        lines = stream.aiter_lines()
        assert '"n": 0' in await anext(lines)
        wire.remove(addon._traffic.gate)  # type: ignore[union-attr]
        gate.set()
        assert '"n": 1' in "".join([line async for line in lines])
