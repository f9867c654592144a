"""Ctrl-C and the like on the command line: answered at once, and nothing is lost; long waits are told."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from authpool.cli.interrupts import carry_out
from authpool.errors import RefusedError
from support.answers import Hang, Slow
from support.operator import Desk, open_desk

ROOT = Path(__file__).parents[3]
ALICE = "google/alice@example.com"


async def start(desk: Desk, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "authpool", "--home", str(desk.home), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'addon'}:{ROOT / 'plugins'}"} | environment,
    )


async def asked(desk: Desk, refresh_token: str) -> None:
    """Wait until this token was presented: somebody else may ask at a port that another test had."""
    async with asyncio.timeout(30):
        while refresh_token not in desk.posts:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "signals",
    (
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGHUP],
        [signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT],
    ),
    ids=lambda signals: "-".join(one.name for one in signals),
)
async def test_an_add_that_is_interrupted_loses_nothing(tmp_path: Path, signals: list[signal.Signals]) -> None:
    """It says at once that it was heard; then where the new token is and how to go on, which works."""
    async with open_desk(tmp_path) as desk:
        gate = asyncio.Event()
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        given = desk.provider.issue("alice@example.com")["refresh_token"]
        process = await start(desk, "add", "google", "env:T", T=given)
        await asked(desk, given)
        assert process.stderr is not None
        for number in signals:
            process.send_signal(number)
            heard = b""
            while b"interrupted: " not in heard:
                heard = await asyncio.wait_for(process.stderr.readline(), 10)
                assert heard
        gate.set()
        out, err = await process.communicate()
        assert (process.returncode, out) == (1, b"")
        (kept,) = desk.unclaimed
        assert f"go on with: authpool add google @{kept} NAME" in err.decode()
        assert given not in err.decode()
        assert desk.provider.is_current(json.loads(kept.read_text())["refresh_token"])

        again = await start(desk, "add", "google", f"@{kept}", "alice@example.com", "--json")
        out, _ = await again.communicate()
        assert json.loads(out)["ok"] is True
        assert desk.unclaimed == []


async def test_a_script_is_told_in_json(tmp_path: Path) -> None:
    """Also how to go on."""
    async with open_desk(tmp_path) as desk:
        gate = asyncio.Event()
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        given = desk.provider.issue("alice@example.com")["refresh_token"]
        process = await start(desk, "add", "google", "env:T", "--json", T=given)
        await asked(desk, given)
        process.send_signal(signal.SIGTERM)
        gate.set()
        out, _ = await process.communicate()
        told = json.loads(out)
        assert (process.returncode, told["ok"]) == (1, False)
        assert "go on with: authpool add google" in told["error"]


async def test_one_that_learns_the_name_ends_at_once(tmp_path: Path) -> None:
    """The token is safe by then: nobody waits for the userinfo endpoint."""
    async with open_desk(tmp_path) as desk:
        desk.userinfo.answered = Hang()
        given = desk.provider.issue("alice@example.com")["refresh_token"]
        process = await start(desk, "add", "google", "env:T", T=given)
        async with asyncio.timeout(30):
            while not desk.userinfo.received:
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 20)
        (kept,) = desk.unclaimed
        assert f"@{kept}" in err.decode()


async def test_one_that_waits_for_a_lock_ends_at_once(tmp_path: Path) -> None:
    """Nothing was asked of anybody."""
    async with open_desk(tmp_path) as desk:
        given = desk.provider.issue("alice@example.com")["refresh_token"]
        async with desk.service.store.hold(AccountKey.of("google", "alice@example.com")):
            process = await start(desk, "add", "google", "env:T", "alice@example.com", T=given)
            assert process.stderr is not None
            line = await asyncio.wait_for(process.stderr.readline(), 30)  # it says what it waits for
            assert line.startswith(
                b"authpool: still waiting after 2 s; a provider has 13 s for each answer, another pro"
            )
            process.send_signal(signal.SIGINT)
            _, err = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        assert b"interrupted before it was done" in err
        assert b"Traceback" not in err
        assert desk.posts == []


async def test_a_refresh_that_is_interrupted_lands(tmp_path: Path) -> None:
    """The account has its new token, though nobody waited for it."""
    async with open_desk(tmp_path) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        posts, gate = len(desk.posts), asyncio.Event()
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        process = await start(desk, "refresh", ALICE)
        async with asyncio.timeout(30):
            while len(desk.posts) == posts:
                await asyncio.sleep(0.01)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        await asyncio.wait_for(process.stderr.readline(), 10)
        gate.set()
        await process.communicate()
        assert process.returncode == 1
        assert desk.provider.is_current(desk.stored(ALICE)["token"]["refresh_token"])
        assert "pending_refresh" not in desk.stored(ALICE)


async def test_what_is_cancelled_by_others_stays_cancelled() -> None:
    """Only a signal is told as an interruption."""
    task = asyncio.create_task(carry_out(asyncio.sleep(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_refusal_is_passed_on() -> None:
    """As it is."""

    async def refuse() -> None:
        raise RefusedError("no")

    with pytest.raises(RefusedError, match="no"):
        await carry_out(refuse())
