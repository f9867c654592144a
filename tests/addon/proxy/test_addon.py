"""The gateway's life: start, reload, changes by anybody's hand, several gateways on one home, listeners, the end."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import exceptions
from mitmproxy.addonmanager import AddonManager

from authpool.proxy import wire
from authpool.proxy.addon import Gateway
from support.answers import Slow
from support.gateway import Mitmdump, RunningGateway, dump_master
from support.home import account_path, write_configuration
from support.pool_rig import Rig, client, gateway_master, reverse_gateway

pytestmark = pytest.mark.mitmproxy

SCRIPT = Path(__file__).parents[3] / "addon" / "gateway.py"


def states(gateway: RunningGateway) -> dict[str, str]:
    service = gateway.master.addons.get("authpool").service
    now = time.time()
    return {member.record.name: str(member.state(now)) for member in service.snapshot.pools["p"]}


# --- changes by anybody's hand --------------------------------------------------------------------------------------


def _add(rig: Rig) -> None:
    rig.write("bob", token=rig.token("bob"))


def _remove(rig: Rig) -> None:
    account_path(rig.path, "p/alice").unlink()


def _pause(rig: Rig) -> None:
    rig.write("alice", **rig.account("alice") | {"proxy_disabled": True})


def _disable(rig: Rig) -> None:
    rig.write("alice", **rig.account("alice") | {"disabled": True})


def _break(rig: Rig) -> None:
    account_path(rig.path, "p/alice").write_text("half a fi")


CHANGES: dict[str, tuple[Callable[[Rig], None], dict[str, str]]] = {
    "added": (_add, {"alice": "ready", "bob": "ready"}),
    "removed": (_remove, {}),
    "paused": (_pause, {"alice": "paused"}),
    "disabled": (_disable, {"alice": "disabled"}),
    "broken": (_break, {"alice": "broken"}),
}


async def test_each_change_of_a_file_is_noticed(rig: Rig) -> None:
    """By whatever process. How soon is a matter of the intervals, which `test_noticing` looks at in virtual time."""
    rig.home("alice")
    document = rig.account("alice")
    async with reverse_gateway(rig) as gateway:
        for act, wanted in CHANGES.values():
            act(rig)
            await gateway.wait_until(lambda wanted=wanted: states(gateway) == wanted, 30)  # type: ignore[misc]
            account_path(rig.path, "p/bob").unlink(missing_ok=True)
            rig.write("alice", **document)
            await gateway.wait_until(lambda: states(gateway) == {"alice": "ready"}, 30)


@pytest.mark.parametrize("how", ("sighup", "marker", "configuration", "command"))
async def test_a_reload_takes_in_the_configuration_and_never_empties_the_pool(rig: Rig, how: str) -> None:
    """SIGHUP, the marker that `authpool reload` touches, and the file itself; requests go on all the while."""
    home = rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        asking = asyncio.create_task(_ask_until_cancelled(api))
        service = gateway.master.addons.get("authpool").service
        before = service.snapshot
        match how:
            case "sighup":
                os.kill(os.getpid(), signal.SIGHUP)
            case "marker":
                (home / ".reload").touch()
            case "configuration":
                write_configuration(home, pools={"p": rig.pool()}, gateway={"max_accounts": 7})
            case "command":
                await service.reload()
        await gateway.wait_until(lambda: service.snapshot is not before)
        assert (await api.get("/x")).status_code == 200
        asking.cancel()
        statuses = await asking

    assert set(statuses) == {200}
    assert service.snapshot.config.gateway.max_accounts == (7 if how == "configuration" else 3)


async def test_fast_dispatch_follows_the_configuration(rig: Rig) -> None:
    """A reload switches it off and on again."""
    home = rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        for fast in (True, False, True):
            write_configuration(home, pools={"p": rig.pool()}, gateway={"fast_dispatch": fast})
            await gateway.wait_until(
                lambda fast=fast: (AddonManager.trigger_event is wire.fast_trigger_event) is fast  # type: ignore[misc]
            )
            assert (await api.get("/x")).status_code == 200


async def _ask_until_cancelled(api: object) -> list[int]:
    statuses: list[int] = []
    try:
        while True:
            statuses.append((await api.get("/y")).status_code)  # type: ignore[attr-defined]
    except asyncio.CancelledError:
        return statuses


async def test_what_a_process_knows_of_an_account_survives_a_reload(rig: Rig) -> None:
    """Counts are carried over; the swapped-in pool is not a new one to the operator."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        await api.get("/x")
        service = gateway.master.addons.get("authpool").service
        await service.reload()
        assert next(iter(service.snapshot.pools["p"])).served == 1


# --- restarts and neighbours ----------------------------------------------------------------------------------------


def mitmdump(rig: Rig, confdir: Path, *more: str) -> Mitmdump:
    return Mitmdump("-s", str(SCRIPT), "--mode", f"reverse:{rig.upstream.url}", *more, home=rig.path, confdir=confdir)


async def test_a_dead_account_stays_dead_over_a_restart_until_it_is_added_again(rig: Rig, confdir: Path) -> None:
    """The verdict is on disk; the start says who is skipped and why; the running gateway takes a new grant at once."""
    rig.home("alice", "bob", expires_in=-10)
    rig.provider.revoke("alice")
    gateway = mitmdump(rig, confdir)
    async with gateway, client(gateway.url) as api:
        assert [(await api.get("/x")).status_code for _ in range(2)] == [200, 200]
        await gateway.wait_for("Disabling account p/alice due to invalid_grant")
        assert await gateway.stop() == 0
        gateway.output.clear()
        await gateway.start()
        skipped = await gateway.wait_for("Skipping disabled account p/alice")
        assert "invalid_grant: Token has been expired or revoked., since 2" in skipped
        assert (await api.get("/x")).status_code == 200
        settled = len(rig.upstream.received)
        assert "alice" not in rig.owners
        rig.write("alice", generation=9, token=rig.token("alice"))
        await gateway.wait_for("Account p/alice re-enabled: new refresh token")
        assert [(await api.get("/x")).status_code for _ in range(2)] == [200, 200]

    assert "alice" in rig.owners[settled:]


async def test_two_gateways_on_one_home_lose_no_account(rig: Rig, confdir: Path) -> None:
    """Tokens of five seconds at a provider that punishes reuse: one refresh per expiry, and everybody alive."""
    rig.provider.expires_in = 5
    rig.home("alice", "bob")
    first, second = mitmdump(rig, confdir), mitmdump(rig, confdir)
    await asyncio.gather(first.start(), second.start())
    async with client(first.url) as one, client(second.url) as other:
        refused = []
        while rig.posts < 4:
            answers = await asyncio.gather(one.get("/x"), other.get("/x"), one.get("/y"), other.get("/y"))
            refused += [answer.text for answer in answers if answer.status_code != 200]
    await asyncio.gather(first.stop(), second.stop())

    assert refused == [], (first.text, second.text)
    assert rig.provider.is_alive("alice")
    assert rig.provider.is_alive("bob")
    assert {handled.error for handled in rig.provider.handled} == {None}  # nobody presented what another had spent
    assert not any(rig.account(name).get("disabled") for name in ("alice", "bob"))


# --- listeners ------------------------------------------------------------------------------------------------------


async def test_without_a_listen_host_only_this_machine_can_reach_it(rig: Rig, confdir: Path) -> None:
    """Mitmproxy's own default is every interface."""
    rig.home("alice")
    async with mitmdump(rig, confdir, "--listen-host", "") as gateway, client(gateway.url) as api:
        await gateway.wait_for(f"listening at 127.0.0.1:{gateway.port}")
        assert "no listen_host was given; listening on 127.0.0.1 only" in gateway.text
        assert f":{gateway.port:04X}" in await _listening_on("0100007F")
        assert f":{gateway.port:04X}" not in await _listening_on("00000000")
        assert (await api.get("/x")).status_code == 200


async def _listening_on(address: str) -> str:
    """Give the kernel's list of IPv4 listeners on this address (hexadecimal, as it writes them)."""
    table = await asyncio.to_thread(Path("/proc/net/tcp").read_text)
    fields = [line.split() for line in table.splitlines()[1:]]
    return " ".join(f[1] for f in fields if f[3] == "0A" and f[1].startswith(address))


OPEN = (
    {"listen_host": "0.0.0.0"},
    {"listen_host": "::"},
    {"mode": "regular@0.0.0.0:0"},
    {"mode": ["regular", "reverse:http://127.0.0.1:1@0.0.0.0:0"]},
)


@pytest.mark.parametrize("settings", OPEN, ids=str)
async def test_a_listener_that_strangers_reach_asks_for_keys(rig: Rig, settings: dict[str, Any]) -> None:
    """From this machine too; as long as there is no client the log says how one is made."""
    rig.home("alice")
    async with gateway_master(rig.path, connection_strategy="lazy", **settings) as gateway:
        await gateway.wait_until(lambda: [m for m in gateway.messages if "there is no client yet" in m])
        ports = [port for _, port, *_ in gateway.master.addons.get("proxyserver").listen_addrs()]
        host = "[::1]" if settings.get("listen_host") == "::" else "127.0.0.1"
        for port in ports[1:] or ports:
            async with client("", proxy=f"http://{host}:{port}") as api:
                answer = await api.get(f"{rig.upstream.url}/x")
            assert (answer.status_code, answer.headers["authpool-error"]) == (401, "client_key_required")
    assert rig.upstream.received == []


async def test_an_operator_may_open_the_gateway_by_configuration(rig: Rig) -> None:
    """`client_keys = "off"`: something else keeps strangers out. Taking that back holds at once."""
    home = rig.home("alice", gateway={"client_keys": "off"})
    async with gateway_master(home, listen_host="0.0.0.0") as gateway, client("", proxy=gateway.url) as api:
        for keys, status in (("off", 200), ("auto", 401), ("off", 200), ("required", 401)):
            write_configuration(home, pools={"p": rig.pool()}, gateway={"client_keys": keys})
            async with asyncio.timeout(30):
                while (await api.get(f"{rig.upstream.url}/x")).status_code != status:
                    await asyncio.sleep(0.02)


# --- in mitmweb's words ---------------------------------------------------------------------------------------------


async def test_every_flow_says_what_happened_to_it(rig: Rig) -> None:
    """Account, rotation, attempts and outcome, in the flow's comment."""
    rig.home("alice")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        await api.get("/x")
        rig.provider.expire("alice")
        await api.get("/x")
        rig.provider.revoke("alice")
        await api.get("/x")
        comments = [flow.comment for flow in gateway.finished]

    rest = "rotation=round_robin client=127.0.0.1"
    assert comments[0] == f"p/alice attempts=1 outcome=200 {rest}"
    assert comments[1] == f"p/alice attempts=2 outcome=200 {rest} (p/alice: 401, refreshed)"
    assert comments[2] == f"p attempts=1 outcome=pool_exhausted {rest} (p/alice: invalid_grant)"


# --- the end --------------------------------------------------------------------------------------------------------


async def test_the_end_waits_for_a_rotation_that_is_under_way(rig: Rig) -> None:
    """A refresh token that was spent is not lost because somebody stopped the gateway."""
    rig.home("alice", expires_in=-10)
    gate = asyncio.Event()
    rig.endpoint.script = lambda number, form: Slow(gate, rig.provider(number, form))
    async with asyncio.timeout(10):
        async with reverse_gateway(rig) as gateway:
            await gateway.wait_until(lambda: rig.posts == 1)
            asyncio.get_running_loop().call_later(0.1, gate.set)
        account = rig.account("alice")

    assert account["generation"] == 2
    assert "pending_refresh" not in account


async def test_nothing_is_left_behind_by_a_gateway_that_ended(rig: Rig) -> None:
    """Tasks, signal handlers: a reload of the script starts from nothing."""
    rig.home("alice")
    before = asyncio.all_tasks()
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        await api.get("/x")
    left = {task.get_name() for task in asyncio.all_tasks() - before if "authpool" in task.get_name()}

    assert left == set()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


async def test_a_gateway_that_was_never_configured_refuses(rig: Rig) -> None:
    """Loaded and nothing more: the wire is closed from the first moment on."""
    rig.home("alice")

    class Loaded(Gateway):
        def running(self) -> "asyncio.Future[bool]":
            return asyncio.ensure_future(asyncio.sleep(0, result=False))

    mode = f"reverse:{rig.upstream.url}"
    async with dump_master(Loaded(), home=rig.path, mode=mode) as gateway, client(gateway.url) as api:
        answer = await api.get("/x", headers={"authorization": "Bearer mine"})

    assert json.loads(answer.text)["type"].endswith("gateway_error")
    assert rig.upstream.received == []


async def test_plugins_named_by_option_are_loaded_and_stay(rig: Rig) -> None:
    """A file is named; the operator sees it in `authpool.plugins`; it can't change while the gateway runs."""
    named = rig.folder / "listening.py"
    named.write_text("from authpool import hookimpl\n@hookimpl\ndef authpool_stop(): ...\n")
    async with gateway_master(rig.home("alice"), authpool_plugins=[str(named)]) as gateway:
        rows = gateway.master.addons.get("authpool").service.plugins.rows
        assert next(row for row in rows if row.name == "listening").hooks == ("authpool_stop",)
        with pytest.raises(exceptions.OptionsError, match="plugins can't change"):
            gateway.master.options.update(authpool_plugins=[])
        assert gateway.master.options.authpool_plugins == [str(named)]


async def test_a_broken_account_does_not_keep_the_gateway_from_starting(rig: Rig) -> None:
    """It is shown and skipped; mitmproxy ends when an error is logged while it starts, so none is."""
    home = rig.home("alice", "bob")
    account_path(home, "p/bob").write_text("version = [")
    async with reverse_gateway(rig) as gateway, client(gateway.url) as api:
        assert (await api.get("/x")).status_code == 200
        assert states(gateway) == {"alice": "ready", "bob": "broken"}
        assert any("Skipping broken account p/bob" in message for message in gateway.messages)
