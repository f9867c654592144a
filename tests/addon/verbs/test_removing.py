"""Removing an account: nothing of it stays, whatever its records are like and whatever happens meanwhile."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from authpool.accounts.account import fingerprint
from authpool.errors import RefusedError
from authpool.files.atomic_file import FileOperations
from support.answers import JSON, Slow
from support.command_line import authpool_on
from support.exchange import Answer
from support.home import make_home, token_table, write_account
from support.operator import Desk, open_desk
from support.provider import ClientKind, OidcProvider
from support.token_endpoint import Form, ScriptedTokenEndpoint

ALICE = "google/alice@example.com"
REVOKED = f"Removed {ALICE}, and revoked its grant at the provider"
GRANT = {"refresh_token": "the-refresh-token"}


def left_of(desk: Desk) -> list[str]:
    """Which files of the home hold anything that looks like one of the tokens here."""
    files = [path for path in desk.home.rglob("*") if path.is_file()]
    return [path.name for path in files if b"-token" in path.read_bytes() and path.name != "authpool.toml"]


def tokens(revocation: ScriptedTokenEndpoint) -> list[str]:
    return [post.form["token"] for post in revocation.received]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def rescue(desk: Desk, token: str, *marks: str, pool: str = "google") -> Path:
    """A file that an `add` left which was cut off."""
    folder = desk.home / "unclaimed"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{pool}-{fingerprint(token)}.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"refresh_token": token, "exchanged_from": list(marks)}))
    return path


# --- what is set aside -----------------------------------------------------------------------------------------------


async def test_what_was_set_aside_is_revoked_and_goes(tmp_path: Path) -> None:
    """Each refresh token in it, as far as it is another one; files of accounts of a like name stay."""
    async with (
        ScriptedTokenEndpoint([JSON(200, {})] * 3) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url) as desk,
    ):
        path = desk.write(ALICE, token=GRANT)
        path.with_suffix(".broken").write_text("[token\nrefresh_token = 'an-older-token'\n")
        path.with_suffix(".broken-2").write_text("name = 7\n[token]\nrefresh_token = 'the-oldest-token'\n")
        path.with_suffix(".broken-3").write_text("[token]\nrefresh_token = 'the-refresh-token'\n")
        path.with_suffix(".broken-4").write_text("")
        other = desk.write(f"{ALICE}.broken", token={"refresh_token": "of-another-account"})
        assert other.name == "alice@example.com.broken.toml"
        assert await desk.operations.remove(ALICE) == REVOKED
        assert tokens(revocation) == ["the-refresh-token", "an-older-token", "the-oldest-token"]
        assert other.exists()
        assert [name for name in os.listdir(path.parent) if not name.endswith("lock")] == [other.name]


@pytest.mark.parametrize("text", ("[token\nrefresh_token = 'half", "\x01\x02", "x = 1\n[token]\nrefresh_token = 7\n"))
async def test_what_was_set_aside_and_cannot_be_read(tmp_path: Path, text: str) -> None:
    """Its grant could not be revoked: nothing is done before somebody says that it may live on."""
    async with (
        ScriptedTokenEndpoint() as revocation,
        open_desk(tmp_path, revoke_url=revocation.url) as desk,
    ):
        path = desk.write(ALICE, token=GRANT)
        aside = path.with_suffix(".broken")
        aside.write_text(text)
        with pytest.raises(RefusedError, match=rf"^{ALICE} is not removed: .*{aside.name} may hold .*--keep-grant"):
            await desk.operations.remove(ALICE)
        assert path.exists()
        assert revocation.received == []
        assert await desk.operations.remove(ALICE, keep_grant=True) == f"Removed {ALICE}"
        assert not path.exists()
        assert not aside.exists()


async def test_a_broken_record_gives_its_token_away(tmp_path: Path) -> None:
    """It is revoked as that of any other account."""
    async with (
        ScriptedTokenEndpoint([JSON(200, {})]) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url) as desk,
    ):
        path = desk.write(ALICE)
        path.write_text("name = 7\n[token]\nrefresh_token = 'a-token'\n")
        assert await desk.operations.remove(ALICE) == REVOKED
        assert tokens(revocation) == ["a-token"]
        assert left_of(desk) == []
        assert not path.exists()


async def test_a_record_that_is_spelled_twice(tmp_path: Path) -> None:
    """One account, two files: both go, and both grants end."""
    async with (
        ScriptedTokenEndpoint([JSON(200, {})] * 2) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url) as desk,
    ):
        path = desk.write(ALICE, token=GRANT)
        twin = path.with_name("Alice@Example.com.toml")
        twin.touch(mode=0o600)
        twin.write_text("name = 'Alice@Example.com'\n[token]\nrefresh_token = 'another-token'\n")
        assert (await desk.operations.remove(ALICE)).casefold() == REVOKED.casefold()
        assert sorted(tokens(revocation)) == ["another-token", "the-refresh-token"]
        assert left_of(desk) == []


async def test_what_a_dead_writer_left(tmp_path: Path) -> None:
    """Its temporary file has the account's tokens in plain."""
    async with open_desk(tmp_path) as desk:
        path = desk.write(ALICE, token=GRANT)
        path.with_name(".123-abc.tmp").write_text("refresh_token = 'the-refresh-token'")
        await desk.operations.remove(ALICE)
        assert left_of(desk) == []


# --- what was rescued ------------------------------------------------------------------------------------------------


async def test_all_that_was_rescued_goes(tmp_path: Path) -> None:
    """Whatever came of the account's token, at whatever remove; another account's stays."""
    async with (
        ScriptedTokenEndpoint([JSON(200, {})] * 4) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url) as desk,
    ):
        desk.write(ALICE, token=GRANT, added_from=fingerprint("its-first-token"))
        rescue(desk, "successor-token", fingerprint("the-refresh-token"))
        rescue(desk, "second-token", fingerprint("successor-token"))
        rescue(desk, "elder-token", fingerprint("its-first-token"))
        other = rescue(desk, "other-token", fingerprint("of somebody else"))
        assert await desk.operations.remove(ALICE) == REVOKED
        assert set(tokens(revocation)) == {"the-refresh-token", "successor-token", "second-token", "elder-token"}
        assert desk.unclaimed == [other]


@pytest.mark.parametrize("how", ("kept", "shared", "refused", "no endpoint"))
async def test_what_was_rescued_where_the_grant_lives_on(tmp_path: Path, how: str) -> None:
    """It may be all that is left of it, so it stays and is named; without an endpoint there is nothing to wait for."""
    async with (
        ScriptedTokenEndpoint([JSON(400, {"error": "unsupported_token_type"})] * 2) as revocation,
        open_desk(tmp_path, revoke_url=None if how == "no endpoint" else revocation.url) as desk,
    ):
        desk.write(ALICE, token=GRANT)
        if how == "shared":
            desk.write("google/copy", token=GRANT)
        path = rescue(desk, "successor-token", fingerprint("the-refresh-token"))
        try:
            said = await desk.operations.remove(ALICE, keep_grant=how == "kept")
        except RefusedError as refused:
            said = str(refused)
        assert path.exists() == (str(path) in said) == (how != "no endpoint")
        assert not desk.file_of(ALICE).exists()


async def test_a_pair_that_could_not_be_written_is_the_accounts(tmp_path: Path) -> None:
    """The audit trail knows whose it is, where nothing in the file says so."""
    async with (
        ScriptedTokenEndpoint([JSON(200, {})] * 4) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url) as desk,
    ):
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        before = desk.stored(ALICE)
        await desk.operations.refresh(ALICE)
        newest = desk.stored(ALICE)["token"]["refresh_token"]
        desk.write(ALICE, **{key: value for key, value in before.items() if key != "name"})
        rescue(desk, newest)
        assert await desk.operations.remove(ALICE) == REVOKED
        assert newest in tokens(revocation)
        assert desk.unclaimed == []


# --- what others do meanwhile ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", (True, False))
async def test_a_refresh_under_way_comes_first(tmp_path: Path, running: bool) -> None:  # noqa: FBT001
    """The pair that it brings is the one that is revoked, and does not come back; here in the same process."""
    gate = asyncio.Event()
    async with (
        ScriptedTokenEndpoint([JSON(200, {})]) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url, running=running) as desk,
    ):
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        posts = len(desk.posts)
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        refreshing = asyncio.create_task(desk.operations.refresh(ALICE))
        await until(lambda: len(desk.posts) > posts)
        removing = asyncio.create_task(desk.operations.remove(ALICE))
        gate.set()
        assert (await refreshing).startswith("Refreshed")
        assert await removing == REVOKED
        assert not desk.file_of(ALICE).exists()
        (revoked,) = tokens(revocation)
        assert desk.provider.is_current(revoked)
        assert revoked not in desk.posts


async def test_a_refresh_in_another_process_comes_first(tmp_path: Path) -> None:
    """By the account's lock: the command line refreshes, and this process removes."""
    gate = asyncio.Event()
    async with (
        ScriptedTokenEndpoint([JSON(200, {})]) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url, running=True, patience_seconds=60) as desk,
    ):
        desk.write(ALICE, token=token_table(desk.provider.issue("alice@example.com")))
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        refreshing = asyncio.create_task(authpool_on(desk.home, "refresh", ALICE))
        await until(lambda: desk.posts)
        removing = asyncio.create_task(desk.operations.remove(ALICE))
        gate.set()
        assert (await refreshing).status == 0
        assert await removing == REVOKED
        assert not desk.file_of(ALICE).exists()
        (revoked,) = tokens(revocation)
        assert desk.provider.is_current(revoked)
        assert revoked not in desk.posts


async def test_two_processes_remove_it_at_once(tmp_path: Path) -> None:
    """One does, once; to the other there is no such account."""
    gate = asyncio.Event()
    async with ScriptedTokenEndpoint(lambda number, form: Slow(gate, JSON(200, {}))) as revocation:
        async with open_desk(tmp_path, revoke_url=revocation.url) as desk:
            desk.write(ALICE, token=GRANT)
            both = [asyncio.create_task(authpool_on(desk.home, "remove", ALICE, "--yes")) for _ in range(2)]
            await until(lambda: revocation.received)
            gate.set()
            ended = await asyncio.gather(*both)
        assert sorted(one.status or 0 for one in ended) == [0, 1]
        assert [one.out for one in ended if one.status == 0] == [f"{REVOKED}\n"]
        assert ["there is no account" in one.err for one in ended if one.status] == [True]
        assert tokens(revocation) == ["the-refresh-token"]


async def test_one_who_is_killed_in_the_middle_is_repeated(tmp_path: Path) -> None:
    """The provider has heard of it, and the record is still there: the second time ends what the first one began."""
    hung = asyncio.Event()
    answers: dict[int, Answer] = {0: Slow(hung, JSON(200, {}))}
    async with (
        ScriptedTokenEndpoint(lambda number, form: answers.get(number, JSON(200, {}))) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url) as desk,
    ):
        desk.write(ALICE, token=GRANT)
        command = (sys.executable, "-m", "authpool", "--home", str(desk.home), "remove", ALICE, "--yes")
        paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        first = await asyncio.create_subprocess_exec(*command, env={**os.environ, **paths})
        await until(lambda: revocation.received)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        hung.set()
        assert desk.file_of(ALICE).exists()
        again = await authpool_on(desk.home, "remove", ALICE, "--yes")
        assert (again.status, again.out) == (0, f"{REVOKED}\n")
        assert left_of(desk) == []


class Killed(BaseException):
    """As good as SIGKILL: nobody handles it."""


class DyingAtRemoval(FileOperations):
    """System calls that end the process before, or right after, the so-manieth file is removed."""

    def __init__(self, number: int, *, after: bool) -> None:
        self.left = number
        self._after = after

    def unlink(self, path: Path) -> None:
        self.left -= 1
        if self.left == 0 and not self._after:
            raise Killed
        super().unlink(path)
        if self.left == 0:
            raise Killed


@pytest.mark.parametrize("after", (False, True))
@pytest.mark.parametrize("number", (1, 2))
@pytest.mark.parametrize("broken", (False, True))
async def test_killed_at_each_removal(tmp_path: Path, number: int, after: bool, broken: bool) -> None:  # noqa: FBT001
    """The second time takes what the first one left, also where only what was set aside is left."""
    files = DyingAtRemoval(number, after=after)
    async with (
        ScriptedTokenEndpoint(lambda number, form: JSON(200, {})) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url, files=files) as desk,
    ):
        path = desk.write(ALICE, token=GRANT)
        if broken:
            path.write_text("name = 7\n[token]\nrefresh_token = 'the-refresh-token'\n")
        path.with_suffix(".broken-2").write_text("[token]\nrefresh_token = 'an-older-token'")
        with pytest.raises(Killed):
            await desk.operations.remove(ALICE)
        files.left = -1
        if left_of(desk):
            assert await desk.operations.remove(ALICE) == REVOKED
        assert left_of(desk) == []


async def test_an_edit_meanwhile_is_not_undone(tmp_path: Path) -> None:
    """A new credential that an editor wrote in the last moment stays, and is not said to be revoked."""

    async def answer(number: int, form: Form) -> Answer:
        if number == 0:
            desk.write(ALICE, token={"refresh_token": "a-new-token"})
        return JSON(200, {})

    async with (
        ScriptedTokenEndpoint(answer) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url) as desk,
    ):
        desk.write(ALICE, token=GRANT)
        with pytest.raises(RefusedError, match="changed by somebody else"):
            await desk.operations.remove(ALICE)
        assert desk.stored(ALICE)["token"]["refresh_token"] == "a-new-token"
        assert await desk.operations.remove(ALICE) == REVOKED
        assert tokens(revocation) == ["the-refresh-token", "a-new-token"]


async def test_one_who_is_interrupted_learns_how_it_stands(tmp_path: Path) -> None:
    """The provider may have heard of it."""
    async with (
        ScriptedTokenEndpoint(lambda number, form: Slow(asyncio.Event(), JSON(200, {}))) as revocation,
        open_desk(tmp_path, revoke_url=revocation.url) as desk,
    ):
        desk.write(ALICE, token=GRANT)
        removing = asyncio.create_task(desk.operations.remove(ALICE))
        await until(lambda: revocation.received)
        removing.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await removing
        assert "repeat the command" in cancelled.value.__notes__[0]
        assert desk.file_of(ALICE).exists()


# --- a real provider -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ("confidential", "post", "public"))
async def test_a_real_provider_ends_the_grant(
    tmp_path: Path, provider: OidcProvider, new_account: Callable[[], str], kind: ClientKind
) -> None:
    """oidc-provider, for each way that a client proves itself: neither token is any good afterwards."""
    name = new_account()
    granted = await provider.grant(name, client=kind)
    home = make_home(tmp_path, pools={"p": provider.pool(kind)})
    write_account(home, f"p/{name}", {"token": token_table(granted)})
    removed = await authpool_on(home, "remove", f"p/{name}", "--yes")
    assert (removed.out, removed.err) == (f"Removed p/{name}, and revoked its grant at the provider\n", "")
    write_account(home, f"p/{name}", {"token": token_table(granted)})
    again = await authpool_on(home, "refresh", f"p/{name}")
    assert again.status == 1
    assert "invalid_grant" in again.err


async def test_a_real_provider_is_found_by_discovery(
    tmp_path: Path, provider: OidcProvider, new_account: Callable[[], str]
) -> None:
    """Its metadata name the revocation endpoint."""
    name = new_account()
    pool = {key: value for key, value in provider.pool().items() if key not in {"token_url", "revoke_url"}}
    home = make_home(tmp_path, pools={"p": pool | {"issuer": provider.issuer}})
    write_account(home, f"p/{name}", {"token": token_table(await provider.grant(name))})
    removed = await authpool_on(home, "remove", f"p/{name}", "--yes")
    assert removed.out == f"Removed p/{name}, and revoked its grant at the provider\n"
