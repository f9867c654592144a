"""What mitmdump and mitmweb print of the gateway: the access log, and what --quiet must not hide."""

import asyncio
import json
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from mitmproxy.addons.termlog import TermLogHandler

from authpool.proxy.addon import Gateway
from authpool.proxy.terminal import Terminal
from authpool.requests.access_log import logger as access_logger
from support.gateway import GatewayStartError, Mitmdump, dump_master
from support.pool_rig import Rig, client, reverse_gateway
from support.token_endpoint import refused_url

pytestmark = pytest.mark.mitmproxy

SCRIPT = str(Path(__file__).parents[3] / "addon" / "gateway.py")
DISABLING = "Disabling account p/alice due to invalid_grant: refresh token likely revoked or expired"


def mitmdump(rig: Rig, confdir: Path, *args: str, **more: Any) -> Mitmdump:
    mode = ("--mode", f"reverse:{rig.upstream.url}")
    return Mitmdump("-s", SCRIPT, *mode, *args, home=rig.path, confdir=confdir, **more)


def access_log(form: str) -> tuple[str, str]:
    return ("--set", f"authpool_access_log={form}")


# --- the access log -------------------------------------------------------------------------------------------------


async def test_json_lines_on_standard_output(rig: Rig, confdir: Path) -> None:
    """Each line is an object and nothing else, with --quiet as well; no query, no token, no line end of a client's."""
    rig.home("alice", "bob", gateway={"health_path": "/h"})
    rig.provider.revoke("alice")
    async with mitmdump(rig, confdir, "-q", *access_log("json")) as gateway, client(gateway.url) as api:
        for _ in range(2):
            assert (await api.get("/a%0d%0ab?key=client-secret", headers={"x": "y"})).status_code == 200
        rig.provider.revoke("bob")
        assert (await api.get("/x")).status_code == 503
        assert (await api.get("/h/ready")).status_code == 503
        await gateway.wait_for('"health"')
        lines = [json.loads(line) for line in gateway.output if line.startswith("{")]
        text = gateway.text
    served, refused, health = lines[:2], lines[2], lines[3]
    assert len(lines) == 4
    assert {line["account"] for line in served} == {"bob"}
    assert {line["path"] for line in served} == {"/a%0d%0ab"}
    assert sorted(line["attempts"] for line in served) == [1, 2]
    assert all((line["status"], line["outcome"], line["level"]) == (200, "answered", "INFO") for line in served)
    assert max(line["waited_seconds"] for line in served) > 0
    expected = {"pool": "p", "account": None, "status": 503, "outcome": "pool_exhausted", "level": "WARNING"}
    assert refused | expected == refused
    assert health | {"pool": None, "outcome": "health", "status": 503} == health
    for secret in (*rig.secrets, "client-secret"):
        assert secret not in text


async def test_text_lines_beside_mitmdumps_own(rig: Rig, confdir: Path) -> None:
    """Once each, without mitmproxy's time before them; mitmdump's own lines stay as they are."""
    rig.home("alice")
    async with mitmdump(rig, confdir, *access_log("text")) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        line = await gateway.wait_for("127.0.0.1 p/alice attempts=1 status=200 waited=0.")
        assert line.split()[1] == "INFO"
        assert line.endswith(f"outcome=answered GET {rig.upstream.host}/x")
        await gateway.wait_for("<< 200")
        assert len([one for one in gateway.output if "outcome=answered" in one]) == 1


async def test_off_is_the_default(rig: Rig, confdir: Path) -> None:
    """Nothing but mitmproxy's own lines."""
    rig.home("alice")
    async with mitmdump(rig, confdir) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        await gateway.wait_for("<< 200")
        assert "attempts=" not in gateway.text


async def test_another_form_is_refused_at_start(rig: Rig, confdir: Path) -> None:
    """In a line, with those there are; mitmproxy listens for a moment before it looks whether something failed."""
    rig.home("alice")
    gateway = mitmdump(rig, confdir, *access_log("xml"))
    with suppress(GatewayStartError):
        await gateway.start()
    await gateway.wait_for("authpool_access_log is one of: off, text, json")
    assert "Traceback" not in gateway.text
    if gateway.process is not None:
        async with asyncio.timeout(20):
            assert await gateway.process.wait() == 1
    await gateway.stop()


async def test_each_request_is_logged_once_however_it_ends(rig: Rig, confdir: Path) -> None:
    """A request of no pool, one that failed over, one whose upstream is gone; the option may change meanwhile."""
    rig.home("alice", "bob", paths=["/x"])
    rig.provider.revoke("alice")
    async with reverse_gateway(rig, authpool_access_log="json") as gateway, client(gateway.url) as api:
        for path in ("/elsewhere", "/x", "/x"):
            assert (await api.get(path)).status_code in {200, 401}
        gateway.master.options.update(authpool_access_log="off")
        await api.get("/x")
        with pytest.raises(Exception, match="authpool_access_log is one of"):
            gateway.master.options.update(authpool_access_log="xml")
        gateway.master.options.update(authpool_access_log="json")
        assert (await api.get("/x?again")).status_code == 200
        lines = [
            json.loads(record.getMessage()) for record in gateway.log if record.name == "authpool.requests.access_log"
        ]
    assert [(line["pool"], line["account"]) for line in lines] == [(None, None), *[("p", "bob")] * 3]
    assert [line["path"] for line in lines] == ["/elsewhere", "/x", "/x", "/x"]  # and none while it was off
    with refused_url() as url:
        mode = f"reverse:{url.removesuffix('/token')}"
        settings = {"mode": mode, "connection_strategy": "lazy", "authpool_access_log": "json"}
        async with dump_master(Gateway(), home=rig.path, confdir=confdir, **settings) as gateway:
            async with client(gateway.url) as api:
                assert (await api.get("/x")).status_code == 502
            (line,) = [
                json.loads(one.getMessage()) for one in gateway.log if one.name == "authpool.requests.access_log"
            ]
    assert (line["outcome"], line["status"], line["pool"]) == ("error", None, None)


def test_a_script_that_is_replaced_leaves_no_second_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The new one runs while the old one still lets its refreshes land; then the old one takes nothing away."""
    log = TermLogHandler()
    log.install()
    old, new = Terminal(), Terminal()
    try:
        old.configure("info")
        new.configure("info")
        access_logger.warning("one")
        old.close()
        access_logger.warning("two")
        assert capsys.readouterr().out == "one\ntwo\n"
    finally:
        new.close()
        log.uninstall()
    assert not access_logger.handlers


# --- quiet ----------------------------------------------------------------------------------------------------------


async def test_quiet_hides_no_disabled_account(rig: Rig, confdir: Path) -> None:
    """That one dies, and at the next start that it is left out; and nothing else is said."""
    rig.home("alice", "bob")
    rig.provider.revoke("alice")
    async with mitmdump(rig, confdir, "-q") as gateway, client(gateway.url) as api:
        for _ in range(2):
            assert (await api.get("/x")).status_code == 200
        await gateway.wait_for(DISABLING)
        assert len(gateway.output) == 1, gateway.text
    async with mitmdump(rig, confdir, "-q") as gateway:
        await gateway.wait_for("Skipping disabled account p/alice (invalid_grant")
        assert len(gateway.output) == 1, gateway.text


async def test_without_quiet_it_is_said_once(rig: Rig, confdir: Path) -> None:
    """By mitmproxy's own log."""
    rig.home("alice", "bob")
    rig.provider.revoke("alice")
    async with mitmdump(rig, confdir) as gateway, client(gateway.url) as api:
        for _ in range(2):
            assert (await api.get("/x")).status_code == 200
        await gateway.wait_for(DISABLING)
        await gateway.wait_for("Token refresh failed")
        assert gateway.text.count(DISABLING) == 1


async def test_it_is_standard_error_that_is_not_quiet(rig: Rig, confdir: Path, tmp_path: Path) -> None:
    """Standard output may be somebody's access log."""
    rig.home("alice", "bob")
    rig.provider.revoke("alice")
    errors = tmp_path / "stderr"
    gateway = mitmdump(rig, confdir, "-q", *access_log("json"))
    gateway._command = ["sh", "-c", 'exec "$0" "$@" 2> ' + str(errors), *gateway._command]
    async with gateway, client(gateway.url) as api:
        for _ in range(2):
            assert (await api.get("/x")).status_code == 200
        async with asyncio.timeout(30):
            while DISABLING not in errors.read_text():
                await asyncio.sleep(0.01)
    assert all(line.startswith("{") for line in gateway.output)


# --- mitmweb --------------------------------------------------------------------------------------------------------


async def test_what_mitmweb_shows_of_a_flow(rig: Rig, confdir: Path) -> None:
    """The comment begins with the account, one that failed over is marked, and a filter finds it; no token anywhere."""
    rig.home("alice", "bob")
    rig.provider.revoke("alice")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    web = ("--no-web-open-browser", "--web-port", str(port), "--set", "web_password=sesame")
    headers = {"Authorization": "Bearer sesame"}
    async with (
        mitmdump(rig, confdir, *web, *access_log("text"), tool="mitmweb") as gateway,
        client(gateway.url) as api,
        httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}", headers=headers) as page,
    ):
        for _ in range(2):
            assert (await api.get("/x")).status_code == 200
        rig.provider.revoke("bob")
        assert (await api.get("/x")).status_code == 503
        flows = (await page.get("/flows")).json()
        events = (await page.get("/events")).text
        everything = json.dumps(flows) + events
    comments = [flow["comment"] for flow in flows]
    assert sum(comment.startswith("p/bob attempts=1 outcome=200 ") for comment in comments) == 1
    assert sum(comment.startswith("p/bob attempts=2 outcome=200 ") for comment in comments) == 1
    assert sum(comment.startswith("p attempts=1 outcome=pool_exhausted ") for comment in comments) == 1
    assert all("rotation=round_robin client=127.0.0.1" in comment for comment in comments)
    marked = {flow["marked"] for flow in flows if flow["comment"].startswith("p/bob attempts=2")}
    assert marked == {"\N{CLOCKWISE RIGHTWARDS AND LEFTWARDS OPEN CIRCLE ARROWS}"}
    assert {flow["marked"] for flow in flows if not flow["comment"].startswith("p/bob attempts=2")} == {""}
    assert "outcome=pool_exhausted" in events
    assert not [secret for secret in rig.secrets if secret in everything]


async def test_a_replay_is_marked_for_what_happened_to_it_alone(rig: Rig) -> None:
    """The flow is the same one; this time its first account serves it. A person's own mark stays."""
    rig.home("alice", "bob", rotation="fill_first")
    rig.provider.revoke("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        (flow,) = gateway.finished
        await gateway.wait_until(lambda: flow.marked == ":repeat:")
        for mark, kept in ((":repeat:", ""), (":star:", ":star:")):
            flow.marked = mark
            ended = len(gateway.finished)
            await gateway.wait_until(lambda: not flow.live)  # else it is not replayed
            gateway.master.commands.call("replay.client", [flow])
            await gateway.wait_until(lambda ended=ended: len(gateway.finished) > ended)  # type: ignore[misc]
            assert flow.comment.startswith("p/bob attempts=1 outcome=200 ")
            assert flow.marked == kept
