"""The parts that the other tests are made of do what they say."""

import asyncio
import json
import logging
import os
import ssl
import stat
import struct
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest
from mitmproxy import ctx, http

from support import node
from support.answers import HTML, JSON, Big, Cut, Hang, Nothing, Raw, Redirect, Reset, Slow
from support.certificates import CertificateAuthority
from support.clock import FakeClock
from support.exchange import Answer
from support.gateway import GatewayStartError, Mitmdump, dump_master
from support.home import account_path, make_home, read_account, token_table
from support.provider import ClientKind, OidcProvider
from support.rotating_provider import Moment, RotatingProvider
from support.streams import GrpcStatus, PacedStream, WebSocketEcho, event_stream, grpc_stream, line_stream
from support.token_endpoint import ScriptedTokenEndpoint, refused_url
from support.upstream import Upstream


def client(**settings: object) -> httpx.AsyncClient:
    """An HTTP client that heeds no environment and waits 10 s at most."""
    return httpx.AsyncClient(trust_env=False, timeout=10, **settings)  # type: ignore[arg-type]


async def refresh(url: str, refresh_token: str, auth: tuple[str, str] | None = None, /, **more: str) -> httpx.Response:
    """Present a refresh token (RFC 6749 §6)."""
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token, **more}
    async with client() as session:
        return await session.post(url, data=form, auth=auth or httpx.USE_CLIENT_DEFAULT)


async def me(provider: OidcProvider, access_token: str) -> httpx.Response:
    """Read the provider's protected resource."""
    async with client() as session:
        return await session.get(provider.userinfo_url, headers={"authorization": f"Bearer {access_token}"})


class TestFakeClock:
    """Time moves only when the test says so."""

    async def test_sleeper_returns_only_when_time_has_passed(self, clock: FakeClock) -> None:
        """A sleep of 10 s is over after 10 s of the clock, not after 9."""
        sleeper = asyncio.create_task(clock.sleep(10))
        await clock.advance(9)
        assert not sleeper.done()
        await clock.advance(1)
        assert sleeper.done()

    async def test_sleepers_wake_in_order_and_each_at_its_own_time(self, clock: FakeClock) -> None:
        """One long advance passes through every deadline, those set on the way included."""
        seen: list[tuple[str, float]] = []

        async def tick(name: str, *spans: float) -> None:
            for span in spans:
                await clock.sleep(span)
                seen.append((name, clock.monotonic()))

        tasks = [asyncio.create_task(tick("a", 3, 3)), asyncio.create_task(tick("b", 2, 2))]
        await clock.advance(100)
        await asyncio.gather(*tasks)
        assert seen == [("b", 2), ("a", 3), ("b", 4), ("a", 6)]
        assert clock.time() == 1_700_000_100

    async def test_a_cancelled_sleeper_is_forgotten(self, clock: FakeClock) -> None:
        """Cancelling leaves no sleeper behind, and the others are not disturbed."""
        cancelled, other = asyncio.create_task(clock.sleep(1)), asyncio.create_task(clock.sleep(2))
        await clock.wait_for_sleepers(2)
        cancelled.cancel()
        await clock.settle()
        assert clock.sleepers == 1
        await clock.advance(2)
        assert other.done()

    async def test_a_jump_moves_the_wall_clock_alone(self, clock: FakeClock) -> None:
        """An administrator's correction wakes nobody."""
        sleeper = asyncio.create_task(clock.sleep(10))
        await clock.wait_for_sleepers()
        clock.jump(-3600)
        assert (clock.time(), clock.monotonic(), sleeper.done()) == (1_700_000_000 - 3600, 0, False)
        await clock.advance(10)
        await sleeper


class TestHome:
    """A home on disk as an operator would have it."""

    def test_modes_are_private(self, tmp_path: Path) -> None:
        """Folders 0700 and files 0600, whatever the umask says."""
        before = os.umask(0)
        try:
            home = make_home(tmp_path, pools={"p": {"type": "static"}}, accounts={"p/a@example.com": {}})
        finally:
            os.umask(before)
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (home, *home.rglob("*"))}
        assert set(modes) == {home, *home.rglob("*")}
        assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())

    @pytest.mark.parametrize("name", ("alice@example.com", "a/b", ".ü name+1", "50%"))
    def test_an_account_reads_back(self, tmp_path: Path, name: str) -> None:
        """What was written is what is read, and the file lies in the pool's own folder."""
        token = token_table({"access_token": "a", "refresh_token": "r", "expires_in": 60}, now=1000.5)
        home = make_home(tmp_path, pools={}, accounts={f"p/{name}": {"token": token}})
        assert account_path(home, f"p/{name.upper()}").parent == home / "accounts" / "p"
        document = read_account(home, f"p/{name}")
        assert (document["name"], document["generation"]) == (name, 1)
        assert document["token"] == {"access_token": "a", "refresh_token": "r", "expires_at": 1060}


class TestScriptedTokenEndpoint:
    """Each scripted answer looks to a client like the accident it stands for."""

    async def test_forms_are_recorded_and_answers_come_in_order(self) -> None:
        """Every request's form is kept; a list is played first to last."""
        async with ScriptedTokenEndpoint([JSON(200, {"n": 1}, {"x-a": "b"}), HTML(503)]) as endpoint:
            first, second = await refresh(endpoint.url, "r+1 &"), await refresh(endpoint.url, "r2")
        assert (first.json(), first.headers["x-a"]) == ({"n": 1}, "b")
        assert (second.status_code, second.headers["content-type"][:9]) == (503, "text/html")
        assert [post.form["refresh_token"] for post in endpoint.received] == ["r+1 &", "r2"]

    async def test_a_function_sees_number_and_form(self) -> None:
        """A function of (n, form), plain or async, decides each answer."""

        async def script(number: int, form: dict[str, str]) -> Answer:
            return JSON(200, [number, form["refresh_token"]])

        async with ScriptedTokenEndpoint(script) as endpoint:
            assert [(await refresh(endpoint.url, t)).json() for t in "ab"] == [[0, "a"], [1, "b"]]

    async def test_a_script_that_runs_out_is_an_error(self) -> None:
        """A request too many is answered 500 and fails the test that made it."""
        with pytest.raises(AssertionError, match="1 request"):
            async with ScriptedTokenEndpoint([]) as endpoint:
                assert (await refresh(endpoint.url, "r")).status_code == 500

    @pytest.mark.parametrize(
        ("answer", "error", "received"),
        (
            (Nothing(), httpx.RemoteProtocolError, 1),
            (Reset(), httpx.ReadError, 1),
            (Reset(before_reading=True), httpx.TransportError, 0),
            (Cut(200, {"access_token": "x" * 50}), httpx.RemoteProtocolError, 1),
            (Raw(b"SSH-2.0-OpenSSH\r\n"), httpx.RemoteProtocolError, 1),
        ),
    )
    async def test_broken_connections(self, answer: Answer, error: type[Exception], received: int) -> None:
        """The client meets the accident as an error of the transport."""
        async with ScriptedTokenEndpoint([answer]) as endpoint:
            with pytest.raises(error):
                await refresh(endpoint.url, "r")
        assert len(endpoint.received) == received

    async def test_refused_connection(self) -> None:
        """Nobody listens there."""
        with refused_url() as url, pytest.raises(httpx.ConnectError):
            await refresh(url, "r")

    async def test_a_hanging_answer_ends_with_the_client_or_the_server(self) -> None:
        """A client may give up, and closing the server doesn't wait for those who haven't."""
        async with ScriptedTokenEndpoint([Hang(), Hang()]) as endpoint:
            async with client() as session:
                with pytest.raises(httpx.ReadTimeout):
                    await session.post(endpoint.url, timeout=0.05)
            waiting = asyncio.create_task(refresh(endpoint.url, "r"))
            async with asyncio.timeout(30):
                while len(endpoint.received) < 2:
                    await asyncio.sleep(0.001)
        with pytest.raises(httpx.TransportError):
            await waiting

    async def test_big_and_redirect(self) -> None:
        """Ten megabytes are ten megabytes; a redirect is not followed by itself."""
        async with ScriptedTokenEndpoint([Big(), Redirect("http://127.0.0.1:1/")]) as endpoint:
            assert len((await refresh(endpoint.url, "r")).content) > 10_000_000
            assert (await refresh(endpoint.url, "r")).headers["location"] == "http://127.0.0.1:1/"

    async def test_slow_waits_for_the_test(self) -> None:
        """The answer comes when the event is set."""
        gate = asyncio.Event()
        async with ScriptedTokenEndpoint([Slow(gate, JSON(200, {}))]) as endpoint:
            asked = asyncio.create_task(refresh(endpoint.url, "r"))
            async with asyncio.timeout(30):
                while not endpoint.received:
                    await asyncio.sleep(0.001)
            assert not asked.done()
            gate.set()
            assert (await asked).status_code == 200


class TestRotatingProvider:
    """The in-process provider rotates, punishes and forgives as real ones do."""

    async def test_reuse_ends_the_family(
        self, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint
    ) -> None:
        """The spent token is refused, and after it the current one and its access token too."""
        old = rotating.issue("a")["refresh_token"]
        new = (await refresh(token_endpoint.url, old)).json()
        assert rotating.is_current(new["refresh_token"])
        assert new["access_token"] in rotating
        assert (await refresh(token_endpoint.url, old)).json()["error"] == "invalid_grant"
        assert (await refresh(token_endpoint.url, new["refresh_token"])).json()["error"] == "invalid_grant"
        assert new["access_token"] not in rotating
        assert [h.error for h in rotating.handled] == [None, "invalid_grant", "invalid_grant"]

    async def test_grace_answers_the_identical_pair(self, clock: FakeClock) -> None:
        """Within the grace window a retry gets what the first try got; after it the family dies."""
        provider = RotatingProvider(grace_seconds=5, monotonic=clock.monotonic)
        old = provider.issue("a")["refresh_token"]
        async with ScriptedTokenEndpoint(provider) as endpoint:
            first, again = await refresh(endpoint.url, old), await refresh(endpoint.url, old)
            assert first.json() == again.json()
            await clock.advance(5)
            assert (await refresh(endpoint.url, old)).status_code == 400
        assert not provider.is_alive("a")

    async def test_without_rotation_the_refresh_token_stays(self) -> None:
        """The same refresh token is answered every time."""
        provider = RotatingProvider(rotate=False)
        token = provider.issue("a")["refresh_token"]
        async with ScriptedTokenEndpoint(provider) as endpoint:
            assert {(await refresh(endpoint.url, token)).json()["refresh_token"] for _ in range(3)} == {token}

    @pytest.mark.parametrize(("moment", "survives"), (("before_rotation", True), ("after_rotation", False)))
    async def test_a_lost_reply(
        self,
        rotating: RotatingProvider,
        token_endpoint: ScriptedTokenEndpoint,
        moment: Moment,
        survives: bool,  # noqa: FBT001 (a column of the table)
    ) -> None:
        """Lost before the rotation nothing happened; lost after it, a retry with the old token is reuse."""
        token = rotating.issue("a")["refresh_token"]
        rotating.lose_next(moment)
        with pytest.raises(httpx.TransportError):
            await refresh(token_endpoint.url, token)
        assert rotating.is_current(token) is survives
        assert (await refresh(token_endpoint.url, token)).is_success is survives
        assert rotating.is_alive("a") is survives

    async def test_revoke_and_expire(self, rotating: RotatingProvider, token_endpoint: ScriptedTokenEndpoint) -> None:
        """Expiring takes the access tokens of one account, revoking its refresh token as well."""
        a, b = rotating.issue("a"), rotating.issue("b")
        rotating.expire("a")
        assert (a["access_token"] in rotating, b["access_token"] in rotating) == (False, True)
        assert rotating.account_of(b["access_token"]) == "b"
        fresh = (await refresh(token_endpoint.url, a["refresh_token"])).json()
        rotating.revoke("a")
        assert (await refresh(token_endpoint.url, fresh["refresh_token"])).json()["error"] == "invalid_grant"
        assert (await refresh(token_endpoint.url, b["refresh_token"])).is_success


def frame(payload: bytes) -> bytes:
    """A masked text frame, as clients send (RFC 6455 §5.2), with an all-zero mask."""
    return struct.pack("!BB4x", 0x81, 0x80 | len(payload)) + payload


class TestUpstream:
    """The API behind the gateway records what came and answers what it is told."""

    async def test_requests_are_kept_as_received(self, upstream: Upstream) -> None:
        """Spelling, order, repetition and body survive."""
        headers = [("X-One", "1"), ("x-ONE", "2"), ("Authorization", "Bearer t")]
        async with client() as session:
            answer = await session.post(f"{upstream.url}/p?q=1&q=2", headers=headers, content=b"body")
        request = upstream.received[0]
        assert [pair for pair in request.headers if pair[0].lower() == "x-one"] == headers[:2]
        assert (request.path, request.query, request.body) == ("/p", {"q": ["1", "2"]}, b"body")
        assert request.bearer == "t"
        assert (answer.json()["target"], answer.json()["body"]) == ("/p?q=1&q=2", "body")

    async def test_chunked_request_body(self, upstream: Upstream) -> None:
        """A body of unknown length arrives whole."""

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        async with client() as session:
            await session.post(upstream.url, content=pieces())
        assert upstream.received[0].body == b"one two"

    async def test_only_accepted_tokens_get_in(self, upstream: Upstream) -> None:
        """Anything else is 401, or whatever `refusal` says; both are recorded."""
        upstream.accept({"good"})
        upstream.then(JSON(429, {}, {"retry-after": "1"}))
        async with client() as session:
            codes = [
                (await session.get(upstream.url, headers={"authorization": f"Bearer {token}"})).status_code
                for token in ("bad", "good", "good")
            ]
            upstream.refusal = Big(401, 300_000)
            big = await session.get(upstream.url)
        assert codes == [401, 429, 200]
        assert (big.status_code, len(big.content) > 300_000, len(upstream.received)) == (401, True, 4)

    @pytest.mark.parametrize("stream", (event_stream, line_stream))
    async def test_streams_are_paced_by_the_test(
        self, upstream: Upstream, stream: Callable[[int, asyncio.Event], PacedStream]
    ) -> None:
        """The first piece reaches the client before the second one is made."""
        gate = asyncio.Event()
        paced = stream(2, gate)
        upstream.then(paced)
        async with client() as session, session.stream("GET", upstream.url) as answer:
            pieces = answer.aiter_raw()
            assert b'{"n": 0}' in await anext(pieces)
            assert paced.produced == 1
            gate.set()
            assert b'{"n": 1}' in await anext(pieces)

    async def test_grpc_shapes(self, upstream: Upstream) -> None:
        """Messages carry gRPC's length prefix; a bare status is HTTP 200."""
        upstream.then(grpc_stream([b"abc"]), GrpcStatus(16))
        async with client() as session:
            message, status = await session.post(upstream.url), await session.post(upstream.url)
        assert message.content == b"\0\0\0\0\3abc"
        assert (status.status_code, status.headers["grpc-status"]) == (200, "16")

    async def test_websocket_echo(self, upstream: Upstream) -> None:
        """The handshake of RFC 6455 §1.3 is accepted, and a message comes back."""
        upstream.then(WebSocketEcho())
        reader, writer = await asyncio.open_connection(upstream.host, upstream.port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
        writer.write(frame(b"hello"))
        assert await reader.readexactly(7) == b"\x81\x05hello"
        writer.close()
        await writer.wait_closed()

    async def test_tls(self, tls_upstream: Upstream, authority: CertificateAuthority) -> None:
        """A client that trusts the authority gets through, another does not."""
        async with client(verify=authority.client_context()) as session:
            assert (await session.get(tls_upstream.url)).http_version == "HTTP/1.1"
        async with client(verify=ssl.create_default_context()) as session:
            with pytest.raises(httpx.ConnectError):
                await session.get(tls_upstream.url)

    async def test_http2(self, http2_upstream: Upstream, authority: CertificateAuthority) -> None:
        """Many streams on one connection: a refusal, a success, a big body and a stream, each as scripted."""
        gate = asyncio.Event()
        paced = event_stream(2, gate)
        answers: dict[str, Answer] = {"/big": Big(200, 1_000_000), "/events": paced}
        http2_upstream.accept({"good"})
        http2_upstream.respond = lambda request: answers.get(request.path, JSON(200, {}))
        good = {"authorization": "Bearer good"}
        async with client(http2=True, verify=authority.client_context()) as session:
            refused = await session.get(http2_upstream.url)
            small, big = await asyncio.gather(
                session.post(http2_upstream.url, headers=good, content=b"x" * 200_000),
                session.get(f"{http2_upstream.url}/big", headers=good),
            )
            async with session.stream("GET", f"{http2_upstream.url}/events", headers=good) as events:
                pieces = events.aiter_raw()
                assert b'{"n": 0}' in await anext(pieces)
                assert paced.produced == 1
                gate.set()
                assert b'{"n": 1}' in await anext(pieces)
        assert (refused.status_code, small.status_code, refused.http_version) == (401, 200, "HTTP/2")
        assert len(big.content) > 1_000_000
        assert sorted(len(r.body) for r in http2_upstream.received) == [0, 0, 0, 200_000]
        assert http2_upstream.server.connections_made == 1

    async def test_http2_reset(self, http2_upstream: Upstream, authority: CertificateAuthority) -> None:
        """A broken stream leaves the connection and its other streams alone."""
        http2_upstream.then(Reset())
        async with client(http2=True, verify=authority.client_context()) as session:
            with pytest.raises(httpx.RemoteProtocolError):
                await session.get(http2_upstream.url)
            assert (await session.get(http2_upstream.url)).status_code == 200

    async def test_a_server_that_was_stopped_comes_back_on_its_port(self, upstream: Upstream) -> None:
        """An outage ends where it began."""
        async with client() as session:
            await session.get(upstream.url)
            port = upstream.port
            await upstream.server.stop()
            with pytest.raises(httpx.ConnectError):
                await session.get(upstream.url)
            async with upstream:
                assert (await session.get(upstream.url)).status_code == 200
                assert upstream.port == port


class Stamp:
    """An addon with an option and a mark on every request."""

    name = "stamp"

    def load(self, loader: object) -> None:
        loader.add_option("stamp_text", str, "none", "what to stamp")  # type: ignore[attr-defined]

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        flow.request.headers["x-stamp"] = ctx.options.stamp_text


class OutOfOrder:
    """An addon that can't start."""

    name = "out_of_order"

    def running(self) -> None:
        logging.getLogger(__name__).error("out of order")


@pytest.mark.mitmproxy
class TestGateway:
    """mitmproxy runs for real, in this process and in one of its own."""

    async def test_dump_master_runs_addons(self, upstream: Upstream, confdir: Path) -> None:
        """A request goes through the addon; the flow and the log are there to look at."""
        async with dump_master(Stamp(), confdir=confdir, mode=f"reverse:{upstream.url}", stamp_text="hi") as gateway:
            async with client() as session:
                assert (await session.get(f"{gateway.url}/a")).status_code == 200
            await gateway.wait_until(lambda: gateway.finished)
        assert upstream.received[0].header("x-stamp") == "hi"
        assert [flow.request.path for flow in gateway.flows] == ["/a"]
        assert any("listening" in message for message in gateway.messages)

    @pytest.mark.parametrize("http2", (False, True))
    async def test_dump_master_intercepts_tls(
        self,
        tls_upstream: Upstream,
        http2_upstream: Upstream,
        authority: CertificateAuthority,
        confdir: Path,
        http2: bool,  # noqa: FBT001 (a column of the table)
    ) -> None:
        """Through CONNECT, with mitmproxy's CA on one side and ours on the other, in both HTTP versions."""
        upstream = http2_upstream if http2 else tls_upstream
        async with dump_master(confdir=confdir, ssl_verify_upstream_trusted_ca=str(authority.ca_file)) as gateway:
            trust = ssl.create_default_context(cafile=str(confdir / "mitmproxy-ca-cert.pem"))
            async with client(proxy=gateway.url, verify=trust, http2=http2) as session:
                answer = await session.get(f"{upstream.url}/x")
        assert answer.status_code == 200
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert any(name == ":path" for name, _ in upstream.received[0].headers) is http2

    async def test_dump_master_tells_why_it_did_not_start(self, confdir: Path) -> None:
        """An error logged while starting ends in an exception, not in the end of the test run."""
        with pytest.raises(GatewayStartError, match="out of order"):
            async with dump_master(OutOfOrder(), confdir=confdir):
                pytest.fail("it started")

    async def test_dump_master_closes_what_clients_left_open(self, upstream: Upstream, confdir: Path) -> None:
        """Nothing listens afterwards, and a connection that was open is at its end."""
        async with dump_master(confdir=confdir) as gateway:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", gateway.port)

    async def test_mitmdump_in_its_own_process(self, upstream: Upstream, confdir: Path, tmp_path: Path) -> None:
        """It serves, prints, comes back on its port after a crash, and ends in order on SIGTERM."""
        script = tmp_path / "tell.py"
        script.write_text("import logging, os\ndef running(): logging.info('home %s', os.environ['AUTHPOOL_HOME'])\n")
        gateway = Mitmdump("--mode", f"reverse:{upstream.url}", "-s", str(script), home=tmp_path, confdir=confdir)
        async with gateway, client() as session:
            assert str(tmp_path) in await gateway.wait_for("home ")
            assert (await session.get(gateway.url)).status_code == 200
            assert await gateway.kill() == -9
            with pytest.raises(httpx.TransportError):
                await session.get(gateway.url)
            await gateway.start()
            assert (await session.get(gateway.url)).status_code == 200
            assert await gateway.stop() == 0
        assert len(upstream.received) == 2

    async def test_mitmdump_that_does_not_start(self, confdir: Path) -> None:
        """Its own words are in the exception."""
        with pytest.raises(GatewayStartError, match="no-such"):
            await Mitmdump("-s", "/no-such-script.py", confdir=confdir).start()


@pytest.mark.node
class TestOidcProvider:
    """The real provider, with what a test must be able to do to it."""

    @pytest.mark.parametrize("kind", ("confidential", "post", "public"))
    async def test_every_client_can_refresh(
        self, provider: OidcProvider, new_account: Callable[[], str], kind: ClientKind
    ) -> None:
        """The minted grant is a real one: its tokens work, and a refresh rotates them."""
        account = new_account()
        first = await provider.grant(account, client=kind)
        second = (await self.refreshed(provider, first["refresh_token"], kind)).json()
        assert second["refresh_token"] != first["refresh_token"]
        assert (await me(provider, second["access_token"])).json() == {"sub": account, "email": account}
        stats = await provider.stats()
        assert [(r.ok, r.client) for r in stats.refreshes(account)] == [(True, provider.client_name(kind))]
        assert stats.me_success[account] == 1

    async def test_reuse_ends_the_grant(self, provider: OidcProvider, new_account: Callable[[], str]) -> None:
        """A spent refresh token kills what replaced it, and its access token."""
        account = new_account()
        first = await provider.grant(account)
        second = (await self.refreshed(provider, first["refresh_token"])).json()
        for spent in (first, second):
            assert (await self.refreshed(provider, spent["refresh_token"])).json()["error"] == "invalid_grant"
        assert (await me(provider, second["access_token"])).status_code == 401
        errors = [r.error for r in (await provider.stats()).refreshes(account)]
        assert errors == [None, "invalid_grant", "invalid_grant"]

    async def test_revoke_and_expire(self, provider: OidcProvider, new_account: Callable[[], str]) -> None:
        """Expiring takes the access token only; revoking takes everything, of that account alone."""
        account, other = new_account(), new_account()
        tokens, others = await provider.grant(account), await provider.grant(other)
        await provider.expire(account)
        assert (await me(provider, tokens["access_token"])).status_code == 401
        fresh = (await self.refreshed(provider, tokens["refresh_token"])).json()
        assert (await me(provider, fresh["access_token"])).status_code == 200
        await provider.revoke(account)
        assert (await me(provider, fresh["access_token"])).status_code == 401
        refused = await self.refreshed(provider, fresh["refresh_token"])
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
        assert (await me(provider, others["access_token"])).status_code == 200

    async def test_without_rotation(self, plain_provider: OidcProvider, new_account: Callable[[], str]) -> None:
        """The refresh token stays the same and may be used again and again."""
        token = (await plain_provider.grant(new_account()))["refresh_token"]
        answers = [(await self.refreshed(plain_provider, token)).json() for _ in range(2)]
        assert [answer["refresh_token"] for answer in answers] == [token, token]

    async def test_short_lived_access_token(self, provider: OidcProvider, new_account: Callable[[], str]) -> None:
        """A grant can be minted with an access token of any lifetime."""
        assert (await provider.grant(new_account(), access_token_seconds=1))["expires_in"] == 1

    async def test_client_credentials_revocation_and_introspection(
        self, provider: OidcProvider, new_account: Callable[[], str]
    ) -> None:
        """The other endpoints answer as RFC 6749 §4.4, 7009 and 7662 say; a wrong secret is invalid_client."""
        auth = (provider.client_id, provider.client_secret)
        async with client(auth=auth) as session:
            own = (await session.post(provider.token_url, data={"grant_type": "client_credentials"})).json()
            token = {"token": own["access_token"]}
            before = (await session.post(provider.introspection_url, data=token)).json()["active"]
            assert (await session.post(provider.revoke_url, data=token)).status_code == 200
            after = (await session.post(provider.introspection_url, data=token)).json()["active"]
        assert (before, after) == (True, False)
        refused = await refresh(provider.token_url, "r", (provider.client_id, "wrong"))
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")

    async def test_each_one_listens_for_itself_and_is_gone_afterwards(self, provider: OidcProvider) -> None:
        """Two run side by side; one that was stopped refuses connections."""
        async with OidcProvider(access_token_seconds=7) as other:
            assert other.port != provider.port
            assert (await other.grant("a"))["expires_in"] == 7
        with pytest.raises(httpx.ConnectError):
            await other.grant("a")

    async def refreshed(self, provider: OidcProvider, token: str, kind: ClientKind = "confidential") -> httpx.Response:
        """Refresh the way that kind of client does."""
        name = provider.client_name(kind)
        if kind == "confidential":
            return await refresh(provider.token_url, token, (name, provider.client_secret))
        secret = {"client_secret": provider.client_secret} if kind == "post" else {}
        return await refresh(provider.token_url, token, client_id=name, **secret)


class TestNode:
    """A machine without Node.js hears so in one clear line."""

    def test_missing_node(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """No node on the PATH."""
        monkeypatch.setenv("PATH", str(tmp_path))
        node.node.cache_clear()
        with pytest.raises(node.NodeMissingError, match=r"^Node\.js 20 or newer is needed .*`node`"):
            node.node()

    def test_old_node(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """One that is too old is named with its version."""
        fake = tmp_path / "node"
        fake.write_text("#!/bin/sh\necho v18.19.0\n")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        node.node.cache_clear()
        with pytest.raises(node.NodeMissingError, match=r"v18\.19\.0"):
            node.node()

    def test_only_a_missing_or_other_version_is_installed(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """An installation runs when the pinned version is not there, and not again; npm's failure is told."""
        (tmp_path / "package.json").write_text(json.dumps({"dependencies": {"oidc-provider": "1.2.3"}}))
        tools = tmp_path / "bin"
        tools.mkdir()
        npm = tools / "npm"
        npm.write_text(
            "#!/bin/sh\necho run >> runs\nmkdir -p node_modules/oidc-provider\n"
            'echo \'{"version": "1.2.3"}\' > node_modules/oidc-provider/package.json\n'
        )
        npm.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        node.install_provider(tmp_path)
        node.install_provider(tmp_path)
        assert (tmp_path / "runs").read_text().split() == ["run"]
        (tmp_path / "package.json").write_text(json.dumps({"dependencies": {"oidc-provider": "1.2.4"}}))
        npm.write_text("#!/bin/sh\necho no network >&2\nexit 3\n")
        with pytest.raises(RuntimeError, match="no network"):
            node.install_provider(tmp_path)
