"""Accounts of pools that are gone, and moving them: nothing is lost, and nothing serves from two addresses."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from authpool.accounts.account import AccountKey
from authpool.errors import ConfigurationError, RefusedError
from authpool.gateway.service import Service
from authpool.store.folder.trail_files import read_trail
from authpool.verbs.operations import Operations
from authpool.verbs.sources import Credential
from support import moving_process
from support.command_line import authpool_on
from support.home import account_path, read_account, write_account, write_configuration
from support.operator import Desk, credential, open_desk

OLD = "former/alice@example.com"
NEW = "google/alice@example.com"


def write_left(desk: Desk, **document: Any) -> dict[str, Any]:
    """An account in the folder of a pool that nobody describes any more."""
    issued = desk.provider.issue("alice@example.com")
    token = {"access_token": issued["access_token"], "refresh_token": issued["refresh_token"]}
    write_account(desk.home, OLD, {"token": {**token, "token_type": "Bearer", "expires_at": 1}, **document})
    return read_account(desk.home, OLD)


# --- pools that are not configured -----------------------------------------------------------------------------------


@pytest.mark.parametrize("running", (True, False))
async def test_accounts_of_a_pool_that_is_gone_are_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, running: bool
) -> None:
    """With their file's state, and the reason; a gateway warns of them when it starts."""
    async with open_desk(tmp_path) as desk:
        write_left(desk, disabled=True, disabled_at=1_700_000_000, disabled_reason="invalid_grant: x")
        write_account(desk.home, "former/bob", {"token": {"refresh_token": "b"}})
        (desk.home / "accounts" / "empty").mkdir(mode=0o700)
        if running:
            await desk.service.start()
            warning = "Pool former is not configured, and the home holds 2 accounts of it"
            assert any(record.getMessage().startswith(warning) for record in caplog.records)
        rows = {row.name: row for row in await desk.operations.accounts()}
        assert rows["alice@example.com"].state == "disabled"
        assert rows["alice@example.com"].reason == "the pool former is not configured; invalid_grant: x"
        assert (rows["bob"].pool, rows["bob"].state) == ("former", "ready")
        assert rows["bob"].reason == "the pool former is not configured"


async def test_accounts_of_a_pool_that_is_gone_can_be_removed_and_nothing_else(tmp_path: Path) -> None:
    """`remove` reaches them; the other verbs say what to do."""
    async with open_desk(tmp_path) as desk:
        write_left(desk)
        for verb in ("pause", "resume", "enable", "refresh"):
            with pytest.raises(RefusedError, match=f"authpool move {OLD} POOL"):
                await getattr(desk.operations, verb)(OLD)
        shown = await authpool_on(desk.home, "accounts", "--json")
        assert '"the pool former is not configured"' in shown.out
        removed = await authpool_on(desk.home, "remove", OLD, "--yes")
        assert removed.status == 0
        assert removed.out.startswith(f"Removed {OLD}. Its grant was not revoked: its pool is not configured")
        assert not account_path(desk.home, OLD).exists()
        assert await desk.operations.accounts() == []
        with pytest.raises(RefusedError, match="no such pool"):
            await desk.operations.remove("never/alice")


# --- moving ----------------------------------------------------------------------------------------------------------


async def test_moved_account_brings_everything_along(tmp_path: Path) -> None:
    """Credential, generation, states, cooldowns, intents and keys that nobody knows; then it serves there."""
    async with open_desk(tmp_path) as desk:
        before = write_left(
            desk,
            generation=7,
            created_at=1_600_000_000,
            subject="s-1",
            proxy_disabled=True,
            proxy_disabled_reason="manual",
            note={"by": ["me"]},
            cooldowns=[{"until": 4_000_000_000, "reason": "429", "mine": True}],
            pending_refresh={"fingerprint": "abcdef01", "started_at": 1, "mine": {"x": 1}},
        )
        ended = await authpool_on(desk.home, "move", OLD, "google")
        assert ended.out.startswith(f"Moved {OLD} to {NEW}; it is still paused (manual)")
        assert read_account(desk.home, NEW) == {**before, "disabled": False}
        assert not account_path(desk.home, OLD).exists()
        await desk.operations.resume(NEW)
        assert (await desk.operations.refresh(NEW)).startswith("Refreshed")
        events = [(entry.event, entry.account, entry.reason) for entry in read_trail(desk.home)]
        assert events[:2] == [("moved", OLD, f"to {NEW}"), ("added", NEW, f"moved from {OLD}")]


async def test_move_within_a_running_gateway(tmp_path: Path) -> None:
    """When it has answered, the one pool has lost the account and the other serves it."""
    async with open_desk(tmp_path, more_pools=["work"], running=True) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        assert await desk.operations.move(NEW, "work") == f"Moved {NEW} to work/alice@example.com"
        pools = desk.service.snapshot.pools
        assert (dict(pools["google"].counts()), dict(pools["work"].counts())) == ({}, {"ready": 1})
        await desk.operations.refresh("work/alice@example.com")
        assert desk.provider.is_alive("alice@example.com")


@pytest.mark.parametrize(
    ("changes", "words"),
    (
        ({"type": "static", "token_url": None, "client_id": None, "client_secret": None}, "another type"),
        ({"type": "client_credentials"}, "another type"),
        ({"token_url": "https://other.example/token"}, "another token endpoint"),
        ({"client_id": "other"}, "another client"),
        ({"client_id": "other", "token_url": "https://o.example/t"}, "another token endpoint and another client"),
    ),
)
async def test_pool_of_another_provider_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    """By what it differs in; the account stays where it is."""
    async with open_desk(tmp_path) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        google = {"token_url": desk.token_endpoint.url, "client_id": "the-client", "client_secret": "s"}
        other = {key: value for key, value in (google | changes).items() if value is not None}
        pools = {"google": google | {"hosts": ["google.example"]}, "other": other | {"hosts": ["other.example"]}}
        write_configuration(desk.home, pools=pools)
        ended = await authpool_on(desk.home, "move", NEW, "other")
        assert ended.status == 1
        assert words in ended.err
        assert account_path(desk.home, NEW).exists()
        assert not account_path(desk.home, "other/alice@example.com").exists()


async def test_what_can_not_be_moved_stays(tmp_path: Path) -> None:
    """To where an account is, to its own pool, to a pool of another kind or that is none; and what is not there."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        write_left(desk)
        desk.write(NEW, token={"refresh_token": "another"})
        before = read_account(desk.home, OLD)
        for pool, words in (
            ("google", f"{NEW} exists"),
            ("keys", "is of another type"),
            ("service", "is of another type"),
            ("nowhere", "no such pool"),
        ):
            with pytest.raises(RefusedError, match=words):
                await desk.operations.move(OLD, pool)
        with pytest.raises(RefusedError, match="in that pool already"):
            await desk.operations.move(NEW, "google")
        with pytest.raises(RefusedError, match=r"Did you mean alice@example\.com"):
            await desk.operations.move("former/alise@example.com", "work")
        assert read_account(desk.home, OLD) == before
        assert read_account(desk.home, NEW)["token"]["refresh_token"] == "another"


async def test_unreadable_target_is_refused(tmp_path: Path) -> None:
    """A file that can't be read may hold a credential."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        write_left(desk)
        (desk.home / "accounts" / "work").mkdir(mode=0o700)
        path = account_path(desk.home, "work/alice@example.com")
        path.write_text("not toml")
        path.chmod(0o600)
        with pytest.raises(RefusedError, match="can't be read"):
            await desk.operations.move(OLD, "work")
        assert account_path(desk.home, OLD).exists()


async def test_static_and_service_accounts_move_too(tmp_path: Path) -> None:
    """Between pools of their own kind."""
    async with open_desk(tmp_path) as desk:
        write_account(desk.home, "former/key", {"token": {"access_token": "k"}})
        write_account(desk.home, "former/robot", {"client": {"client_id": "robot", "client_secret": "s", "mine": 1}})
        assert await desk.operations.move("former/key", "keys") == "Moved former/key to keys/key"
        assert await desk.operations.move("former/robot", "service") == "Moved former/robot to service/robot"
        assert desk.stored("keys/key")["token"]["access_token"] == "k"
        assert desk.stored("service/robot")["client"] == {"client_id": "robot", "client_secret": "s", "mine": 1}


@pytest.mark.parametrize("source", (OLD, "work/alice@example.com"))
@pytest.mark.parametrize("step", range(moving_process.STEPS + 1))
async def test_move_that_is_killed_loses_nothing_and_can_go_on(tmp_path: Path, source: str, step: int) -> None:
    """Killed at each of its writes: one address at most presents the token, and the same command finishes it."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        issued = desk.provider.issue("alice@example.com")
        write_account(desk.home, source, {"token": {"refresh_token": issued["refresh_token"]}})
        process = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "support.moving_process", str(desk.home), source, "google", str(step)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            check=False,
            capture_output=True,
            text=True,
        )
        killed = step < moving_process.STEPS
        assert process.returncode == (-signal.SIGKILL if killed else 0), process.stderr
        service = Service(desk.home, {})
        await service.start()
        operations = Operations(service)
        try:
            configured = [row for row in await operations.accounts() if row.pool != "former"]
            for row in configured:
                if row.state == "ready":
                    await operations.refresh(f"{row.pool}/{row.name}")
            assert sum(row.state == "ready" for row in configured) <= 1
            if account_path(desk.home, source).exists():
                target_is_held = [row for row in configured if row.pool == "google"]
                assert all(row.state == "broken" or source == OLD for row in target_is_held)
                await operations.move(source, "google")
            (row,) = await operations.accounts()
            assert (row.pool, row.state) == ("google", "ready")
            assert (await operations.refresh(NEW)).startswith("Refreshed")
        finally:
            await service.stop()
        assert desk.provider.is_alive("alice@example.com")
        assert len(set(desk.posts)) == len(desk.posts)


# --- what looks after accounts needs no secret -----------------------------------------------------------------------


@pytest.mark.parametrize("secret", ("env:NOT_SET_ANYWHERE", "file:no-such-file"))
async def test_looking_after_accounts_needs_no_client_secret(tmp_path: Path, secret: str) -> None:
    """What asks no token endpoint works without; the others say what is missing, and present nothing."""
    async with open_desk(tmp_path) as desk:
        configure_secret(desk, secret)
        desk.write(NEW, token={"refresh_token": "r"}, disabled=True)
        service = Service(desk.home, {}, process="command line")
        operations = Operations(service)
        try:
            await operations.accounts()
            await operations.pause(NEW)
            await operations.resume(NEW)
            await operations.enable(NEW, force=True)
            await operations.move(NEW, "work")
            moved = "work/alice@example.com"
            with pytest.raises(ConfigurationError, match="client_secret: "):
                await operations.refresh(moved)
            with pytest.raises(ConfigurationError, match="client_secret: "):
                await operations.add("google", Credential(secret="token"))
            with pytest.raises(ConfigurationError, match="client_secret: "):
                operations.require_secrets()
            await operations.remove(moved)
        finally:
            await service.stop()
        with pytest.raises(ConfigurationError, match="client_secret: "):
            Service(desk.home, {})
        assert desk.posts == []


async def test_the_command_line_says_which_secret_is_missing(tmp_path: Path) -> None:
    """`accounts` and `history` work, `reload` checks as a gateway would."""
    async with open_desk(tmp_path) as desk:
        configure_secret(desk, "env:NOT_SET_ANYWHERE")
        desk.write(NEW, token={"refresh_token": "r"})
        assert "alice@example.com" in (await authpool_on(desk.home, "accounts")).out
        assert (await authpool_on(desk.home, "history")).status == 0
        ended = await authpool_on(desk.home, "reload")
        assert ended.status == 1
        assert "the environment variable NOT_SET_ANYWHERE is not set" in ended.err
        assert "Traceback" not in ended.err


def configure_secret(desk: Desk, secret: str) -> None:
    """Two pools of one client, whose secret is somewhere else."""
    table = {"token_url": desk.token_endpoint.url, "client_id": "c", "client_secret": secret}
    write_configuration(desk.home, pools={name: {**table, "hosts": [f"{name}.example"]} for name in ("google", "work")})


async def test_gateway_notices_a_changed_secret(tmp_path: Path) -> None:
    """Each refresh after a reload is by the secret of then, also one that waited while the file was changed."""
    async with open_desk(tmp_path) as desk:
        (desk.home / "secret").write_text("first")
        (desk.home / "secret").chmod(0o600)
        table = {"token_url": desk.token_endpoint.url, "client_id": "c", "client_secret": "file:secret"}
        write_configuration(desk.home, pools={"google": {**table, "hosts": ["google.example"]}})
        desk.write(NEW, token={"refresh_token": desk.provider.issue("alice@example.com")["refresh_token"]})
        await desk.service.reload()
        before = desk.service.snapshot.config.pools["google"]
        (desk.home / "secret").write_text("second")
        await desk.service.reload()
        assert desk.service.snapshot.config.pools["google"] != before


# --- who it is -------------------------------------------------------------------------------------------------------


async def test_two_people_with_one_address_are_told_apart_by_name(tmp_path: Path) -> None:
    """The second is refused, says how, and is added under a NAME; both live, and both can be added again."""
    async with open_desk(tmp_path) as desk:
        shared = {"email": "team@example.com"}
        desk.userinfo.claims = {**shared, "sub": "1"}
        assert await desk.operations.add("google", desk.signed_in("one")) == "Added google/team@example.com"
        first = desk.stored("google/team@example.com")
        assert first["subject"] == "1"
        desk.userinfo.claims = {**shared, "sub": "2"}
        for name in (None, "team@example.com"):
            with pytest.raises(RefusedError, match=r"another subject.*NAME of its own tells this one apart"):
                await desk.operations.add("google", desk.signed_in("two"), name)
        assert desk.stored("google/team@example.com") == first
        assert await desk.operations.add("google", desk.signed_in("two"), "team-2") == "Added google/team-2"
        assert desk.stored("google/team-2")["subject"] == "2"
        assert (await desk.operations.add("google", desk.signed_in("two"), "team-2")).startswith("Re-added")
        desk.userinfo.claims = {**shared, "sub": "3"}
        with pytest.raises(RefusedError, match="not team-2's"):
            await desk.operations.add("google", desk.signed_in("three"), "team-2")
        claimed = credential({**desk.provider.issue("three"), "email": "team@example.com"})
        assert await desk.operations.add("google", claimed, "team-3") == "Added google/team-3"
        desk.userinfo.claims = {**shared, "sub": "1"}
        assert (await desk.operations.add("google", desk.signed_in("one"))).startswith("Re-added google/team@")
        with pytest.raises(RefusedError, match="not team-4's"):
            await desk.operations.add("google", desk.signed_in("one"), "team-4")


async def test_name_must_still_be_what_the_provider_says(tmp_path: Path) -> None:
    """Where nobody else has that address, another NAME is somebody else's."""
    async with open_desk(tmp_path) as desk:
        await desk.operations.add("google", desk.signed_in("bob@example.com"))
        for name in ("bob@example.com", "new"):
            with pytest.raises(RefusedError, match=f"is alice@example.com's, not {name}'s"):
                await desk.operations.add("google", desk.signed_in("alice@example.com"), name)


async def test_account_from_before_learns_its_subject(tmp_path: Path) -> None:
    """By the next re-add, and by adding what it holds already; from then on another one is refused."""
    async with open_desk(tmp_path) as desk:
        desk.write(NEW, token={"refresh_token": desk.provider.issue("alice@example.com")["refresh_token"]})
        held = desk.stored(NEW)["token"]["refresh_token"]
        assert "has this credential already" in await desk.operations.add("google", Credential(secret=held))
        assert desk.stored(NEW)["subject"] == "id-of-alice@example.com"
        desk.edit(NEW, subject=None)
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        assert desk.stored(NEW)["subject"] == "id-of-alice@example.com"
        desk.userinfo.claims = {"sub": "another"}
        with pytest.raises(RefusedError, match="another subject"):
            await desk.operations.add("google", desk.signed_in("alice@example.com"))


async def test_keys_of_others_survive_every_verb(tmp_path: Path) -> None:
    """In [client], [[cooldowns]] and [pending_refresh], tables and arrays in them too."""
    async with open_desk(tmp_path, running=True) as desk:
        mine = {"note": "mine", "table": {"a": [1, {"b": 2}]}, "array": [{"x": 1}, {"y": [True]}]}
        issued = desk.provider.issue("alice@example.com")
        desk.write(
            NEW,
            token={"refresh_token": issued["refresh_token"], **mine},
            client={"client_id": "own", "client_secret": "s", **mine},
            cooldowns=[{"until": 4_000_000_000, "key": "m", **mine}],
            pending_refresh={"fingerprint": "abcdef01", "started_at": 1, **mine},
        )
        await desk.service.catch_up()
        await desk.operations.pause(NEW)
        stored = desk.stored(NEW)
        for table in (stored["client"], stored["cooldowns"][0], stored["pending_refresh"], stored["token"]):
            assert {key: table[key] for key in mine} == mine
        await desk.operations.refresh(NEW)
        again = {**desk.provider.issue("alice@example.com"), "client_id": "own", "client_secret": "new"}
        await desk.operations.add("google", credential(again))
        stored = desk.stored(NEW)
        for table in (stored["client"], stored["cooldowns"][0], stored["token"]):
            assert {key: table[key] for key in mine} == mine
        assert (await desk.service.store.read(AccountKey.parse(NEW))).pending_refresh is None
