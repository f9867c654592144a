"""Stopping lets the operator's commands land, whichever they are and however the gateway is stopped."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from mitmproxy import exceptions

from authpool.errors import RefusedError
from authpool.proxy.addon import Gateway
from authpool.proxy.commands import Commands
from authpool.proxy.under_way import UnderWay
from support.answers import Slow
from support.gateway import Mitmdump
from support.pool_rig import Rig, gateway_master

SCRIPT = str(Path(__file__).parents[3] / "addon" / "gateway.py")

LOADER = Path(SCRIPT).read_text()
OPERATOR = """
import asyncio
from mitmproxy import ctx

async def running():
    async def order():
        while ctx.master.addons.get("authpool").service.snapshot.pools == {{}}:
            await asyncio.sleep(0.01)
        ctx.master.commands.execute({line!r})
    asyncio.get_running_loop().create_task(order())
"""
"""An operator in a script: mitmdump has no prompt."""


class Held:
    """A token endpoint that answers as the provider does, once it may."""

    def __init__(self, rig: Rig) -> None:
        self.may_answer = asyncio.Event()
        rig.endpoint.script = lambda number, form: Slow(self.may_answer, rig.provider(number, form))
        self._rig = rig

    async def asked(self) -> None:
        async with asyncio.timeout(30):
            while not self._rig.posts:
                await asyncio.sleep(0.01)


def source(rig: Rig, name: str) -> Path:
    path = rig.folder / f"{name}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(rig.provider.issue(name)))
    return path


def operated(rig: Rig, confdir: Path, line: str) -> Mitmdump:
    script = rig.folder / "operator.py"
    script.write_text(OPERATOR.format(line=line))
    mode = f"reverse:{rig.upstream.url}"
    return Mitmdump("-s", SCRIPT, "-s", str(script), "--mode", mode, home=rig.path, confdir=confdir)


# --- a real process --------------------------------------------------------------------------------------------------


@pytest.mark.mitmproxy
@pytest.mark.parametrize("ask", ("once", "many times"))
async def test_an_add_under_way_lands(rig: Rig, confdir: Path, ask: str) -> None:
    """The proof has rotated the token: the new one is in the home, as an account, before the process ends."""
    rig.home("alice")
    held = Held(rig)
    async with operated(rig, confdir, f"authpool.add p @{source(rig, 'bob')} bob") as process:
        await held.asked()
        process.send_signal(signal.SIGTERM)
        await process.wait_for("first 1 commands that are under way")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if ask == "many times" else ():
            process.send_signal(number)
        held.may_answer.set()
        assert await process.stop() == 0
    assert "Added p/bob" in process.text
    assert rig.provider.is_current(rig.account("bob")["token"]["refresh_token"])
    assert list((rig.path / "unclaimed").glob("*.json")) == []


@pytest.mark.mitmproxy
@pytest.mark.parametrize("verb", ("refresh", "enable"))
async def test_other_commands_land_too(rig: Rig, confdir: Path, verb: str) -> None:
    """What they change is on disk, and the log says so."""
    rig.home()
    rig.write("carol", token=rig.token("carol"), **({"disabled": True} if verb == "enable" else {}))
    held = Held(rig)
    async with operated(rig, confdir, f"authpool.{verb} p/carol") as process:
        await held.asked()
        process.send_signal(signal.SIGTERM)
        await process.wait_for("first 1 commands that are under way")
        held.may_answer.set()
        assert await process.stop() == 0
    assert f"{'Refreshed' if verb == 'refresh' else 'Enabled'} p/carol" in process.text
    assert rig.provider.is_current(rig.account("carol")["token"]["refresh_token"])
    assert not rig.account("carol").get("disabled")


@pytest.mark.mitmproxy
async def test_an_add_lands_while_the_script_is_replaced(rig: Rig, confdir: Path) -> None:
    """The old gateway goes on until it is done; the new one serves meanwhile, and then has the account."""
    rig.home("alice")
    held = Held(rig)
    script = rig.folder / "loader.py"
    script.write_text(LOADER)
    operator = rig.folder / "operator.py"
    operator.write_text(OPERATOR.format(line=f"authpool.add p @{source(rig, 'bob')} bob"))
    mode = f"reverse:{rig.upstream.url}"
    process = Mitmdump("-s", str(script), "-s", str(operator), "--mode", mode, home=rig.path, confdir=confdir)
    async with process:
        await held.asked()
        later = script.stat().st_mtime + 10
        os.utime(script, (later, later))
        await process.wait_for("first 1 commands that are under way")
        held.may_answer.set()
        await process.wait_for("Added p/bob")
        await process.wait_for("Pool p reloaded: 2 ready")
        process.send_signal(signal.SIGHUP)  # the new gateway's own: the old one has taken nothing of it along
        async with asyncio.timeout(30):
            while process.text.count("Pool p reloaded: 2 ready") < 2:
                await asyncio.sleep(0.01)
    assert rig.provider.is_current(rig.account("bob")["token"]["refresh_token"])


# --- within the process ----------------------------------------------------------------------------------------------


@pytest.mark.mitmproxy
async def test_an_add_that_takes_too_long_keeps_its_token(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience ends; what the provider has answered by then is where the next `add` finds it, as the log says."""
    monkeypatch.setattr(UnderWay.land, "__defaults__", (0.05,))
    rig.home("alice")
    held = Held(rig)
    gateway = Gateway()
    async with gateway_master(rig.path, Commands(gateway), gateway=gateway) as running:
        running.master.commands.execute(f"authpool.add p @{source(rig, 'bob')} bob")  # type: ignore[no-untyped-call]
        await held.asked()
        asyncio.get_running_loop().call_later(0.3, held.may_answer.set)
    (kept,) = (rig.path / "unclaimed").glob("*.json")
    assert rig.provider.is_current(json.loads(kept.read_text())["refresh_token"])
    assert any(f"go on with: authpool add p @{kept}" in message for message in running.messages)


@pytest.mark.mitmproxy
async def test_no_command_begins_once_the_gateway_is_ending(rig: Rig) -> None:
    """It is refused, rather than cut off."""
    rig.home("alice")
    gateway = Gateway()
    async with gateway_master(rig.path, Commands(gateway), gateway=gateway) as running:
        await gateway.under_way.land()
        with pytest.raises(exceptions.CommandError, match="ending"):
            running.master.commands.execute("authpool.refresh p/alice")  # type: ignore[no-untyped-call]
    assert rig.posts == 0


async def test_what_ended_is_not_waited_for() -> None:
    """And what failed harms nobody else."""
    under_way = UnderWay()

    async def fail() -> None:
        raise ValueError("on purpose")

    async def work(done: list[int]) -> None:
        await asyncio.sleep(0)
        done.append(1)

    done: list[int] = []
    under_way.begin(work(done), "one")
    under_way.begin(fail(), "two")
    under_way.begin(work(done), "three")
    await under_way.land()
    assert done == [1, 1]
    with pytest.raises(RefusedError, match="ending"):
        under_way.begin(work(done), "four")
