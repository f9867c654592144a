"""Where the gateway listens: on this machine alone by default, bound once, and never silently for all."""

import socket
from pathlib import Path

import pytest

from support.gateway import Mitmdump
from support.home import write_configuration
from support.pool_rig import Rig, client, gateway_master

pytestmark = pytest.mark.mitmproxy

SCRIPT = str(Path(__file__).parents[3] / "addon" / "gateway.py")
NOBODY_ELSE = ("--listen-host", "")
"""As if nothing was said: what the test's own process gives by default is taken back."""


def gateway(rig: Rig, confdir: Path, *more: str, tool: str = "mitmdump") -> Mitmdump:
    return Mitmdump(
        *("-s", SCRIPT, "--mode", f"reverse:{rig.upstream.url}", *NOBODY_ELSE, *more),
        home=rig.path,
        confdir=confdir,
        tool=tool,
    )


@pytest.mark.parametrize(("keys", "tool"), (("auto", "mitmdump"), ("off", "mitmdump"), ("auto", "mitmweb")))
async def test_the_port_is_bound_once_and_on_loopback(rig: Rig, confdir: Path, keys: str, tool: str) -> None:
    """Whatever `client_keys` says. Another address of the port may be taken: every interface is never asked for."""
    rig.home("alice", gateway={"client_keys": keys})
    web = ("--no-web-open-browser", "--web-port", "0") if tool == "mitmweb" else ()
    process = gateway(rig, confdir, *web, tool=tool)
    with socket.create_server(("127.0.0.2", process.port)):
        async with process, client(process.url) as api:
            assert (await api.get("/x")).status_code == 200
            await process.wait_for("Pool p reloaded")
    listening = [line for line in process.output if "listening at" in line and "Web server" not in line]
    assert len(listening) == 1
    assert f"listening at 127.0.0.1:{process.port}" in listening[0]
    assert "stopped" not in process.text.partition("Pool p reloaded")[0]
    assert "whoever reaches it" not in process.text
    assert process.text.count("the home is") == 1  # one gateway, though options were set while it was built


async def test_a_port_that_is_taken_ends_the_start(rig: Rig, confdir: Path) -> None:
    """As mitmproxy does by itself: the address is named, and the exit status tells."""
    rig.home("alice")
    process = gateway(rig, confdir)
    with socket.create_server(("127.0.0.1", process.port)):
        said = await process.run_to_its_end()
    assert f"failed to listen on 127.0.0.1:{process.port}" in said


@pytest.mark.parametrize("keys", ("auto", "off"))
async def test_modes_with_addresses_of_their_own_are_left_alone(rig: Rig, confdir: Path, keys: str) -> None:
    """One that names its address, one that does not: the second one gets loopback, the first one keeps its own."""
    rig.home("alice", gateway={"client_keys": keys})
    with socket.create_server(("127.0.0.3", 0)) as probe:
        other = probe.getsockname()[1]
    more = ("--mode", f"regular@127.0.0.3:{other}")
    async with gateway(rig, confdir, *more) as process, client(process.url) as api:
        await process.wait_for("Pool p reloaded")
        assert (await api.get("/x")).status_code == 200
        with socket.create_connection(("127.0.0.3", other), 5):
            pass
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", process.port), 5):
            pass


async def test_without_the_check_an_open_listener_is_told_at_every_start(rig: Rig) -> None:
    """`client_keys = "off"` lifts the check; whoever asks for every interface is told each time what that means."""
    home = rig.home("alice", gateway={"client_keys": "off"})
    for _ in range(2):
        async with gateway_master(home, listen_host="0.0.0.0") as running:
            assert [r.levelname for r in running.log if "whoever reaches it gets" in r.getMessage()] == ["WARNING"]


async def test_a_reload_that_lifts_the_check_tells_it_too(rig: Rig) -> None:
    """Not only a start: from here on nobody checks."""
    home = rig.home("alice", gateway={"client_keys": "off"})
    async with gateway_master(home, listen_host="0.0.0.0") as running:
        before = len([m for m in running.messages if "whoever reaches it gets" in m])
        write_configuration(home, pools={"p": rig.pool()}, gateway={"client_keys": "off", "max_accounts": 2})
        await running.wait_until(
            lambda: len([m for m in running.messages if "whoever reaches it gets" in m]) == before + 1
        )
