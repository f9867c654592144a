"""One credential, one account: copies are held back, whoever looks, and what is spent is presented by nobody."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, Token
from authpool.errors import RefusedError
from authpool.gateway.service import Service
from authpool.refresh.credential_holders import first_of
from authpool.store.folder.trail_files import NAME, read_trail
from authpool.verbs.account_rows import AccountRow
from authpool.verbs.operations import Operations
from authpool.verbs.sources import Credential
from support.command_line import authpool_on
from support.gateway import Mitmdump
from support.home import account_path, read_account, write_account, write_configuration
from support.operator import Desk, open_desk, process
from support.rotating_provider import RotatingProvider

ALICE = "google/alice@example.com"
COPY = "work/alice@example.com"
LATER = 4_000_000_000


def spent_presentations(desk: Desk) -> list[str]:
    """Which refresh tokens were presented more than once: with this provider each of them ends a grant."""
    return sorted({token for token in desk.posts if desk.posts.count(token) > 1})


def copy_account(desk: Desk, source: str, target: str) -> None:
    """Copy an account's file by hand, as `cp` and an editor would: the name inside becomes the new one."""
    document = dict(desk.stored(source))
    write_account(desk.home, target, document | {"name": target.partition("/")[2]})


async def rows(operations: Operations) -> dict[str, AccountRow]:
    return {f"{row.pool}/{row.name}": row for row in await operations.accounts()}


async def until(condition: Callable[[], bool], deadline_seconds: float = 10.0) -> None:
    async with asyncio.timeout(deadline_seconds):
        while not condition():
            await asyncio.sleep(0.01)


# --- `add` refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("running", (False, True))
async def test_credential_of_another_pool_is_refused_by_its_address(tmp_path: Path, *, running: bool) -> None:
    """The source file, the token it was exchanged for, and one spent long ago: each names the account, none is sent."""
    async with open_desk(tmp_path, more_pools=["work"], running=running) as desk:
        given = desk.signed_in("alice@example.com")
        await desk.operations.add("google", given)
        await desk.operations.refresh(ALICE)
        between = desk.posts[-1]
        await desk.operations.refresh(ALICE)
        posts = list(desk.posts)
        current = desk.stored(ALICE)["token"]["refresh_token"]
        for token, words in ((given.refresh_token, "move the account"), (current, "move"), (between, "is spent")):
            for name in (None, "alice@example.com", "other"):
                with pytest.raises(RefusedError, match=words) as refused:
                    await desk.operations.add("work", Credential(secret=token), name)
                assert ALICE in str(refused.value)
                assert str(token) not in str(refused.value)
        assert desk.posts == posts
        assert desk.provider.is_current(current)
        assert await desk.operations.add("work", desk.signed_in("alice@example.com")) == f"Added {COPY}"


async def test_spent_token_is_refused_in_its_own_pool_too(tmp_path: Path) -> None:
    """A token that the account exchanged after it was added is not presented either."""
    async with open_desk(tmp_path) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        spent = desk.stored(ALICE)["token"]["refresh_token"]
        await desk.operations.refresh(ALICE)
        with pytest.raises(RefusedError, match=f"is spent: {ALICE}"):
            await desk.operations.add("google", Credential(secret=spent))
        assert spent_presentations(desk) == []


async def test_credential_in_the_folder_of_a_pool_that_is_gone_is_refused(tmp_path: Path) -> None:
    """Its account would serve again the moment the pool is described again."""
    async with open_desk(tmp_path) as desk:
        issued = desk.provider.issue("alice@example.com")
        write_account(desk.home, "former/alice@example.com", {"token": {"refresh_token": issued["refresh_token"]}})
        with pytest.raises(RefusedError, match=r"is the one of former/alice@example\.com"):
            await desk.operations.add("google", Credential(secret=issued["refresh_token"]))
        assert desk.posts == []


async def test_source_can_be_added_again_once_its_account_is_removed(tmp_path: Path) -> None:
    """Nothing lives on what it was exchanged for; with a provider that does not rotate it works, in any pool."""
    async with open_desk(tmp_path, more_pools=["work"], provider=RotatingProvider(rotate=False)) as desk:
        given = desk.signed_in("alice@example.com")
        await desk.operations.add("google", given)
        await desk.operations.remove(ALICE)
        assert await desk.operations.add("work", given) == f"Added {COPY}"


async def test_two_processes_that_add_one_file_to_two_pools_make_one_account(tmp_path: Path) -> None:
    """The one that comes second is refused, and names the first."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        source = tmp_path / "token.json"
        source.write_text(json.dumps(desk.provider.issue("alice@example.com")))
        source.chmod(0o600)
        ended = await asyncio.gather(
            *(authpool_on(desk.home, "add", pool, f"@{source}") for pool in ("google", "work", "google", "work"))
        )
        added = [one.out for one in ended if one.out.startswith("Added")]
        assert len(added) == 1
        first = added[0].removeprefix("Added ").strip()
        refused = [one.err for one in ended if one.status]
        assert len(refused) == 2
        assert all(first in text for text in refused)
        assert spent_presentations(desk) == []
        assert desk.provider.is_alive("alice@example.com")


# --- a copy by hand --------------------------------------------------------------------------------------------------


def test_who_is_first_is_the_same_for_everybody() -> None:
    """Who had it last by the trail, else the oldest, else by address; in whatever order they are met."""
    old = Account(pool="z", name="old", created_at=1)
    new = Account(pool="a", name="new", created_at=2)
    same = Account(pool="b", name="new", created_at=2)
    for group in ((old, new, same), (same, new, old)):
        assert first_of(group, None) is old
        assert first_of(group, same.key) is same
        assert first_of(group, AccountKey.of("gone", "x")) is old
    assert first_of((same, new), None) is new


@pytest.mark.parametrize("target", (COPY, "google/zoe", "a/alice@example.com"))
@pytest.mark.parametrize("added", (True, False))
async def test_copy_is_held_back_wherever_it_is_looked_at(tmp_path: Path, target: str, *, added: bool) -> None:
    """At load and on the command line, before the account was refreshed once and after: it is `broken`, with why."""
    async with open_desk(tmp_path, more_pools=["work", "a"]) as desk:
        if added:
            await desk.operations.add("google", desk.signed_in("alice@example.com"))
        else:
            issued = desk.provider.issue("alice@example.com")
            desk.write(ALICE, token={"refresh_token": issued["refresh_token"]})
        copy_account(desk, ALICE, target)
        first, second = (ALICE, target) if added or not target.startswith("a/") else (target, ALICE)
        for round_ in range(2):
            shown = await rows(desk.operations)
            assert (shown[first].state, shown[second].state) == ("ready", "broken")
            assert first in shown[second].reason
            async with process(desk, running=True) as gateway:
                live = await rows(gateway)
                assert {address: row.state for address, row in live.items()} == {first: "ready", second: "broken"}
                assert (await gateway.refresh(first)).startswith("Refreshed")
            ended = await authpool_on(desk.home, "refresh", second)
            assert ended.status == 1
            assert first in ended.err
            assert len(desk.posts) == round_ + (2 if added else 1)
        assert spent_presentations(desk) == []
        assert desk.provider.is_current(desk.stored(first)["token"]["refresh_token"])
        assert not desk.stored(second).get("disabled")


async def test_copy_that_appears_while_a_gateway_runs_is_held_back_and_lives_when_the_first_goes(
    tmp_path: Path,
) -> None:
    """It is noticed, serves nothing, and takes over once the first is removed; the first lives on until then."""
    async with open_desk(tmp_path, more_pools=["work"], running=True) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        copy_account(desk, ALICE, COPY)
        await desk.service.catch_up()
        shown = await rows(desk.operations)
        assert (shown[ALICE].state, shown[COPY].state) == ("ready", "broken")
        pool = desk.service.snapshot.pools["work"]
        assert pool.counts() == {"broken": 1}
        await desk.operations.remove(ALICE)
        assert {address: row.state for address, row in (await rows(desk.operations)).items()} == {COPY: "ready"}
        assert (await desk.operations.refresh(COPY)).startswith("Refreshed")
        assert desk.provider.is_alive("alice@example.com")
        assert spent_presentations(desk) == []


async def test_copy_lives_when_the_first_gets_another_credential(tmp_path: Path) -> None:
    """Re-added with a new sign-in, the first leaves the old credential to the copy."""
    async with open_desk(tmp_path, more_pools=["work"], running=True) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        copy_account(desk, ALICE, COPY)
        await desk.service.catch_up()
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        await desk.service.catch_up()
        shown = await rows(desk.operations)
        assert (shown[ALICE].state, shown[COPY].state) == ("ready", "ready")
        for address in (ALICE, COPY):
            await desk.operations.refresh(address)
            assert desk.provider.is_current(desk.stored(address)["token"]["refresh_token"])
        assert spent_presentations(desk) == []


async def test_copy_that_nobody_noticed_is_held_back_right_before_the_post(tmp_path: Path) -> None:
    """The gateway still believes the copy is an account like any other; under the lock it looks again."""
    async with open_desk(tmp_path, more_pools=["work"], running=True) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        write_account(desk.home, COPY, {"token": {"refresh_token": "unrelated"}})
        await desk.service.catch_up()
        seen = await desk.service.store.read(AccountKey.parse(COPY))
        copy_account(desk, ALICE, COPY)
        posts = len(desk.posts)
        outcome = await desk.service.refresher.refresh(seen, force=True)
        assert ALICE in str(outcome)
        assert len(desk.posts) == posts


async def test_copy_taken_before_a_refresh_is_held_back_after_it(tmp_path: Path) -> None:
    """The first has gone on to a newer token: what the copy holds is spent, and by whom is known."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        desk.write(ALICE, token={"refresh_token": desk.provider.issue("alice@example.com")["refresh_token"]})
        before = dict(desk.stored(ALICE))
        await desk.operations.refresh(ALICE)
        write_account(desk.home, COPY, before)
        for running in (False, True):
            async with process(desk, running=running) as operations:
                shown = await rows(operations)
                assert (shown[ALICE].state, shown[COPY].state) == ("ready", "broken")
                assert f"{ALICE} has exchanged" in shown[COPY].reason
                with pytest.raises(RefusedError, match=ALICE):
                    await operations.refresh(COPY)
        assert spent_presentations(desk) == []


async def test_static_accounts_may_share_a_secret(tmp_path: Path) -> None:
    """Nothing is spent where nothing is exchanged."""
    async with open_desk(tmp_path) as desk:
        for name in ("one", "two"):
            await desk.operations.add("keys", Credential(secret="the-key"), name)
        async with process(desk, running=True) as gateway:
            assert {row.state for row in (await rows(gateway)).values()} == {"ready"}


async def test_copied_folder_of_a_renamed_pool_serves(tmp_path: Path) -> None:
    """Who renames a pool and copies its folder has two records of each credential, and one that is presented."""
    async with open_desk(tmp_path) as desk:
        desk.write("old/alice", token={"refresh_token": desk.provider.issue("alice")["refresh_token"]})
        desk.write("google/alice", token=desk.stored("old/alice")["token"])
        async with process(desk, running=True) as gateway:
            assert (await gateway.refresh("google/alice")).startswith("Refreshed")
            assert (await rows(gateway))["google/alice"].state == "ready"


# --- a restored backup -----------------------------------------------------------------------------------------------


def put_back(desk: Desk, backup: Path) -> None:
    """Put a copy of the accounts back, as `cp -r` over them would."""
    shutil.copytree(backup, desk.home / "accounts", dirs_exist_ok=True)


async def backup_then_refresh(desk: Desk, folder: Path, *names: str) -> Path:
    """Write accounts by hand, copy them, and refresh each; the trail knows what was exchanged."""
    for name in names:
        issued = desk.provider.issue(name)
        desk.write(f"google/{name}", token={"refresh_token": issued["refresh_token"]})
    backup = folder / "backup"
    shutil.copytree(desk.home / "accounts", backup)
    async with process(desk) as operations:
        for name in names:
            await operations.refresh(f"google/{name}")
    return backup


@pytest.mark.parametrize("running", (True, False))
async def test_restored_copy_is_held_back_before_anything_is_presented(tmp_path: Path, *, running: bool) -> None:
    """At load in a gateway and under the lock on the command line: `disabled`, since when and the ways out are said."""
    async with open_desk(tmp_path) as desk:
        names = ("alice", "bob", "carol", "dave", "eve")
        backup = await backup_then_refresh(desk, tmp_path, *names)
        put_back(desk, backup)
        posts = list(desk.posts)
        async with process(desk, running=running) as operations:
            shown = await rows(operations)
            assert {row.state for row in shown.values()} == {"disabled"}
            if running:
                await until(lambda: all(desk.stored(f"google/{name}").get("disabled") for name in names))
            for name in names:
                for verb in (operations.refresh, operations.enable):
                    with pytest.raises(RefusedError, match="restored_copy"):
                        await verb(f"google/{name}")
        assert desk.posts == posts
        for name in names:
            stored = desk.stored(f"google/{name}")
            assert stored["disabled"]
            reason = stored["disabled_reason"]
            assert reason.startswith("restored_copy: since 20")
            for way_out in ("sign in again", "authpool add google SOURCE", f"authpool enable --force google/{name}"):
                assert way_out in reason
            assert desk.provider.is_alive(name)
        assert [e.event for e in read_trail(desk.home) if e.reason.startswith("restored_copy")] == ["disabled"] * 5
        answer = await desk.operations.add("google", desk.signed_in("alice"))
        assert "is enabled again" in answer


async def test_gateway_that_knows_the_newest_token_puts_it_back(tmp_path: Path) -> None:
    """Started after the exchange, it never saw the spent one, and heals the file all the same."""
    async with open_desk(tmp_path) as desk:
        backup = await backup_then_refresh(desk, tmp_path, "alice")
        newest = desk.stored("google/alice")["token"]["refresh_token"]
        await desk.service.start()
        put_back(desk, backup)
        await desk.service.catch_up()
        await until(lambda: desk.stored("google/alice")["token"]["refresh_token"] == newest)
        assert not desk.stored("google/alice").get("disabled")
        assert (await desk.operations.refresh("google/alice")).startswith("Refreshed")
        assert spent_presentations(desk) == []
        assert desk.provider.is_alive("alice")


@pytest.mark.parametrize("running_meanwhile", (True, False))
async def test_forced_enabling_makes_the_credential_count_again(tmp_path: Path, *, running_meanwhile: bool) -> None:
    """By a person who knows better: said in the answer, on the command line, and not held back again by anybody."""
    provider = RotatingProvider(grace_seconds=3600)
    async with open_desk(tmp_path, provider=provider) as desk:
        backup = await backup_then_refresh(desk, tmp_path, "alice")
        put_back(desk, backup)
        posts = len(desk.posts)
        assert (await authpool_on(desk.home, "refresh", "google/alice")).status == 1
        if running_meanwhile:
            await desk.service.start()
        ended = await authpool_on(desk.home, "enable", "--force", "google/alice")
        assert ended.out.startswith("Enabled google/alice without a refresh: its next refresh presents")
        assert running_meanwhile or len(desk.posts) == posts
        async with process(desk, running=True) as gateway:
            async with asyncio.timeout(30):
                while (await rows(gateway))["google/alice"].state != "ready":
                    await asyncio.sleep(0.05)
        async with process(desk, running=True) as gateway:
            assert (await rows(gateway))["google/alice"].state == "ready"
            assert (await gateway.refresh("google/alice")).startswith(("Refreshed", "Somebody"))
        assert not desk.stored("google/alice")["disabled"]
        assert provider.is_alive("alice")


async def test_running_gateway_survives_a_whole_home_that_is_put_back(tmp_path: Path) -> None:
    """The trail is as old as the accounts then; the gateway goes by what it read before, and heals them."""
    async with open_desk(tmp_path, running=True) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        backup = tmp_path / "backup"
        shutil.copytree(desk.home, backup)
        await desk.operations.refresh(ALICE)
        newest = desk.stored(ALICE)["token"]["refresh_token"]
        shutil.copytree(backup, desk.home, dirs_exist_ok=True)
        await desk.service.catch_up()
        await until(lambda: desk.stored(ALICE)["token"]["refresh_token"] == newest)
        assert (await desk.operations.refresh(ALICE)).startswith("Refreshed")
        assert spent_presentations(desk) == []


@pytest.mark.parametrize("elsewhere", (False, True))
@pytest.mark.parametrize("running", (True, False))
async def test_whole_home_that_is_put_back_while_nothing_runs_is_recognised(
    tmp_path: Path, *, running: bool, elsewhere: bool
) -> None:
    """Trail and all, in its place or beside it: what was exchanged since is known outside of the home."""
    async with open_desk(tmp_path) as desk:
        desk.write("google/alice", token={"refresh_token": desk.provider.issue("alice")["refresh_token"]})
        async with process(desk) as operations:
            await operations.refresh("google/alice")
        backup = tmp_path / "backup"
        shutil.copytree(desk.home, backup)
        async with process(desk) as operations:
            await operations.refresh("google/alice")
        shutil.rmtree(desk.home)
        restored = tmp_path / "elsewhere" if elsewhere else desk.home
        shutil.copytree(backup, restored)
        posts = list(desk.posts)
        ended = await authpool_on(restored, "refresh", "google/alice")
        assert (ended.status, "restored_copy" in ended.err) == (1, True)
        if running and not elsewhere:
            async with process(desk, running=True) as gateway:
                assert (await rows(gateway))["google/alice"].state == "disabled"
        assert desk.posts == posts
        assert desk.provider.is_alive("alice")


async def test_first_that_can_not_be_read_for_a_moment_stays_the_first(tmp_path: Path) -> None:
    """An editor that saves in place leaves half a file: its copy must not take over meanwhile."""
    async with open_desk(tmp_path, more_pools=["work"], running=True) as desk:
        desk.write(ALICE, token={"refresh_token": desk.provider.issue("alice@example.com")["refresh_token"]})
        await desk.service.catch_up()
        await desk.operations.refresh(ALICE)
        copy_account(desk, ALICE, COPY)
        await desk.service.catch_up()
        path = desk.file_of(ALICE)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        await desk.service.catch_up()
        posts = len(desk.posts)
        with pytest.raises(RefusedError, match=ALICE):
            await desk.operations.refresh(COPY)
        assert len(desk.posts) == posts
        path.write_bytes(whole)
        await desk.service.catch_up()
        assert (await desk.operations.refresh(ALICE)).startswith("Refreshed")


async def test_forced_enabling_is_for_what_is_disabled(tmp_path: Path) -> None:
    """An account that serves is refused; one that is dead is taken back without a request."""
    async with open_desk(tmp_path) as desk:
        desk.write("google/alice", token={"refresh_token": "r"})
        with pytest.raises(RefusedError, match="is not disabled"):
            await desk.operations.enable("google/alice", force=True)
        desk.edit("google/alice", disabled=True, disabled_at=1, disabled_reason="invalid_grant: x")
        assert "without a refresh" in await desk.operations.enable("google/alice", force=True)
        assert not {"disabled_at", "disabled_reason"} & desk.stored("google/alice").keys()
        assert desk.posts == []


async def _nothing(desk: Desk) -> None:
    """Nothing happens but a refresh and a restart."""


async def _new_token_by_hand(desk: Desk) -> None:
    desk.write("google/alice", token={"refresh_token": desk.provider.issue("alice")["refresh_token"]})


async def _remove_and_write_again(desk: Desk) -> None:
    token = desk.stored("google/alice")["token"]
    await desk.operations.remove("google/alice")
    desk.write("google/alice", token=token)


async def _remove_and_add(desk: Desk) -> None:
    await desk.operations.remove("google/alice")
    await desk.operations.add("google", desk.signed_in("alice"))


async def _add_the_same_again(desk: Desk) -> None:
    await desk.operations.add("google", Credential(secret=desk.stored("google/alice")["token"]["refresh_token"]))


async def _trail_taken_away(desk: Desk) -> None:
    (desk.home / NAME).unlink()


async def _trail_unreadable(desk: Desk) -> None:
    (desk.home / NAME).write_bytes(b"\xff\n" * 100)


async def _edited(desk: Desk) -> None:
    desk.edit("google/alice", note="mine", generation=1)


@pytest.mark.parametrize(
    "happening",
    (
        _nothing,
        _new_token_by_hand,
        _remove_and_write_again,
        _remove_and_add,
        _add_the_same_again,
        _trail_taken_away,
        _trail_unreadable,
        _edited,
    ),
)
@pytest.mark.parametrize("rotate", (True, False))
async def test_nobody_is_accused_wrongly(
    tmp_path: Path, happening: "Callable[[Desk], AsyncIterator[None]]", *, rotate: bool
) -> None:
    """Whatever people do to an account that holds a good credential: it is ready, and refreshes, again and again."""
    async with open_desk(tmp_path, provider=RotatingProvider(rotate=rotate)) as desk:
        await desk.operations.add("google", desk.signed_in("alice"))
        await desk.operations.refresh("google/alice")
        await happening(desk)  # type: ignore[misc]
        for running in (True, False):
            async with process(desk, running=running) as operations:
                for _ in range(2):
                    assert (await rows(operations))["google/alice"].state == "ready"
                    assert (await operations.refresh("google/alice")).startswith("Refreshed")
        assert desk.provider.is_alive("alice")


@pytest.mark.parametrize("with_trail", (True, False))
async def test_copy_restored_at_a_provider_without_rotation_serves(tmp_path: Path, *, with_trail: bool) -> None:
    """Its refresh token is never exchanged: every backup is good."""
    async with open_desk(tmp_path, provider=RotatingProvider(rotate=False)) as desk:
        backup = await backup_then_refresh(desk, tmp_path, "alice")
        put_back(desk, backup)
        if not with_trail:
            (desk.home / NAME).unlink(missing_ok=True)
        async with process(desk, running=True) as gateway:
            assert (await gateway.refresh("google/alice")).startswith("Refreshed")


async def test_migrated_home_serves(tmp_path: Path) -> None:
    """The whole home on another machine, trail and all, is the home: nothing is held back there."""
    async with open_desk(tmp_path) as desk:
        await backup_then_refresh(desk, tmp_path, "alice")
        moved = tmp_path / "elsewhere"
        shutil.copytree(desk.home, moved)
        service = Service(moved, {})
        await service.start()
        try:
            operations = Operations(service)
            assert (await operations.refresh("google/alice")).startswith("Refreshed")
        finally:
            await service.stop()


async def test_two_gateways_write_a_restored_copy_down_once(tmp_path: Path) -> None:
    """Both see it; one event, one reason, and none of them presents anything."""
    async with open_desk(tmp_path) as desk:
        backup = await backup_then_refresh(desk, tmp_path, "alice")
        put_back(desk, backup)
        posts = list(desk.posts)
        async with process(desk, running=True) as one, process(desk, running=True) as other:
            await until(lambda: bool(desk.stored("google/alice").get("disabled")))
            assert (await rows(one))["google/alice"].state == (await rows(other))["google/alice"].state == "disabled"
        assert [entry.event for entry in read_trail(desk.home)].count("disabled") == 1
        assert desk.posts == posts


async def test_mitmdump_presents_neither_a_copy_nor_a_restored_token(tmp_path: Path) -> None:
    """A backup that was put back, and a copy, in a gateway as people run it: the log names them and the way out."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        backup = await backup_then_refresh(desk, tmp_path, "alice")
        put_back(desk, backup)
        desk.write("google/bob", token={"refresh_token": desk.provider.issue("bob")["refresh_token"]})
        copy_account(desk, "google/bob", "work/zoe")
        async with Mitmdump("-s", "addon/gateway.py", home=desk.home) as gateway:
            assert "restored_copy" in await gateway.wait_for("Skipping disabled account google/alice")
            assert "google/bob holds the same" in await gateway.wait_for("Skipping broken account work/zoe")
            await until(lambda: read_account(desk.home, "google/bob")["generation"] > 1)  # refreshed: it had no token
            ended = await authpool_on(desk.home, "refresh", "work/zoe")
            assert (ended.status, "google/bob" in ended.err) == (1, True)
            assert (await authpool_on(desk.home, "remove", "google/bob", "--yes")).status == 0
            await gateway.wait_for("Account google/bob was removed")
            await until(lambda: bool(read_account(desk.home, "work/zoe").get("disabled")))  # what it holds is spent
        assert spent_presentations(desk) == []
        assert desk.provider.is_alive("alice")
        assert desk.provider.is_alive("bob")


async def test_secret_is_in_no_reason(tmp_path: Path) -> None:
    """Neither token nor fingerprint of the other account stands in what people read."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        copy_account(desk, ALICE, COPY)
        reason = (await rows(desk.operations))[COPY].reason
        token = Token(**{k: v for k, v in desk.stored(ALICE)["token"].items() if k.endswith("_token")})
        assert token.refresh_token is not None
        assert token.refresh_token not in reason
        assert (token.access_token or "") not in reason


async def test_pool_that_comes_back_does_not_present_what_was_exchanged_meanwhile(tmp_path: Path) -> None:
    """The old folder of a renamed pool holds a spent token; described again, its account is held back."""
    async with open_desk(tmp_path) as desk:
        desk.write("old/alice", token={"refresh_token": desk.provider.issue("alice")["refresh_token"]})
        desk.write("google/alice", token=desk.stored("old/alice")["token"])
        async with process(desk) as operations:
            await operations.refresh("google/alice")
        table = {
            "token_url": desk.token_endpoint.url,
            "client_id": "the-client",
            "client_secret": "the-client-secret",
        }
        pools = {name: {**table, "hosts": [f"{name}.example"]} for name in ("google", "old")}
        write_configuration(desk.home, pools=pools)
        async with process(desk, running=True) as gateway:
            shown = await rows(gateway)
            assert (shown["google/alice"].state, shown["old/alice"].state) == ("ready", "broken")
        assert account_path(desk.home, "old/alice").exists()
        assert read_account(desk.home, "old/alice")["token"]["refresh_token"] in desk.posts
        assert spent_presentations(desk) == []
