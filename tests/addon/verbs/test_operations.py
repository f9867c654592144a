"""The verbs other than `add`, on real files and a real token endpoint."""

import asyncio
import json
from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from authpool.errors import RefusedError
from authpool.verbs.account_rows import AccountRow
from support.answers import JSON, Slow
from support.operator import Desk, open_desk

ALICE = "google/alice@example.com"
LATER = 4_000_000_000


def write_alice(desk: Desk, **document: object) -> None:
    """An account with a live token and a refresh token that the provider knows."""
    issued = desk.provider.issue("alice@example.com")
    token = {"access_token": issued["access_token"], "refresh_token": issued["refresh_token"], "expires_at": LATER}
    desk.write(ALICE, **{"token": token, **document})


# --- pause and resume ------------------------------------------------------------------------------------------------


async def test_pause_and_resume_set_and_clear_the_operators_switch_only(tmp_path: Path) -> None:
    """`proxy_disabled` comes and goes with its time and reason; `disabled` stays as it was, and is told."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk, disabled=True, disabled_at=1_700_000_000, disabled_reason="invalid_grant: x")
        assert (await desk.operations.pause(ALICE)).startswith(f"Paused {ALICE}; it is also disabled (invalid_grant: x")
        paused = desk.stored(ALICE)
        assert (paused["proxy_disabled"], paused["proxy_disabled_reason"]) == (True, "manual")
        assert paused["proxy_disabled_at"] > 1_700_000_000
        assert (await desk.operations.resume(ALICE)).startswith(f"Resumed {ALICE}; it is also disabled")
        resumed = desk.stored(ALICE)
        assert not resumed["proxy_disabled"]
        assert not {"proxy_disabled_at", "proxy_disabled_reason"} & resumed.keys()
        assert (resumed["disabled"], resumed["disabled_reason"]) == (True, "invalid_grant: x")


async def test_pausing_twice_changes_nothing_and_says_so(tmp_path: Path) -> None:
    """The second time the file is not touched; likewise resuming what is not paused."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        assert await desk.operations.resume(ALICE) == f"{ALICE} is not paused"
        await desk.operations.pause(ALICE)
        before = desk.file_of(ALICE).stat()
        assert (await desk.operations.pause(ALICE)).startswith(f"{ALICE} is paused already, since 20")
        assert desk.file_of(ALICE).stat().st_ino == before.st_ino


async def test_pause_does_not_wait_for_a_refresh_under_way(tmp_path: Path) -> None:
    """The lock that a refresh holds is not needed to flip the switch."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        async with asyncio.timeout(5), desk.service.store.hold(AccountKey.parse(ALICE)):
            assert await desk.operations.pause(ALICE) == f"Paused {ALICE}"


async def test_running_gateway_sees_the_switch_at_once(tmp_path: Path) -> None:
    """When `pause` has answered, the pool that serves leaves the account out; `resume` brings it back."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        await desk.service.start()
        await desk.operations.pause(ALICE)
        assert [row.state for row in await desk.operations.accounts()] == ["paused"]
        await desk.operations.resume(ALICE)
        assert [row.state for row in await desk.operations.accounts()] == ["ready"]


@pytest.mark.parametrize("verb", ("pause", "resume", "enable", "refresh", "remove"))
async def test_unknown_account_is_refused_with_the_likely_ones(tmp_path: Path, verb: str) -> None:
    """A mistyped name, in any case, names the account that was meant; nothing is left behind."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        operation = getattr(desk.operations, verb)
        with pytest.raises(RefusedError, match=r"no account google/alise@example\.com.*mean alice@example\.com"):
            await operation("google/Alise@example.com")
        with pytest.raises(RefusedError, match="the pool has none yet"):
            await operation("keys/alice")
        with pytest.raises(RefusedError, match="Did you mean google"):
            await operation("goggle/alice")
        with pytest.raises(RefusedError, match="POOL/NAME"):
            await operation("alice")
        assert not (desk.home / "accounts" / "keys" / "alice.toml").exists()


async def test_accounts_are_addressed_in_any_case(tmp_path: Path) -> None:
    """POOL/NAME finds the account however it is spelt, and answers in the spelling first seen."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        assert await desk.operations.pause("google/ALICE@example.com") == f"Paused {ALICE}"


# --- enable ----------------------------------------------------------------------------------------------------------


async def test_enable_takes_back_an_account_whose_refresh_succeeds(tmp_path: Path) -> None:
    """`disabled` goes once the token endpoint has said yes, and a pause that still holds is told."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk, disabled=True, disabled_at=1, disabled_reason="by mistake", proxy_disabled=True)
        answer = await desk.operations.enable(ALICE)
        stored = desk.stored(ALICE)
        assert answer.startswith(f"Enabled {ALICE}: a refresh succeeded; it is still paused")
        assert not stored["disabled"]
        assert not {"disabled_at", "disabled_reason"} & stored.keys()
        assert stored["proxy_disabled"]
        assert desk.provider.is_current(stored["token"]["refresh_token"])


async def test_enable_leaves_a_dead_account_disabled_as_it_was(tmp_path: Path) -> None:
    """A refresh that is rejected clears nothing: neither time nor reason change."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk, disabled=True, disabled_at=1_700_000_000, disabled_reason="invalid_grant: first")
        desk.provider.revoke("alice@example.com")
        with pytest.raises(RefusedError, match=r"it stays disabled .invalid_grant: first, since 2023-11-14"):
            await desk.operations.enable(ALICE)
        stored = desk.stored(ALICE)
        assert (stored["disabled"], stored["disabled_at"]) == (True, 1_700_000_000)
        assert stored["disabled_reason"] == "invalid_grant: first"


async def test_enable_asks_though_a_refresh_that_would_not_is_under_way(tmp_path: Path) -> None:
    """A flight that only reads `disabled` is not taken for the answer: the token endpoint is asked after it."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk, disabled=True)
        key = AccountKey.parse(ALICE)
        account = await desk.service.store.read(key)
        async with desk.service.store.hold(key):
            unforced = asyncio.create_task(desk.service.refresher.refresh(account))
            async with asyncio.timeout(30):
                while not desk.service.refresher.refreshing(key):
                    await asyncio.sleep(0)
            enabling = asyncio.create_task(desk.operations.enable(ALICE))
            await asyncio.wait([enabling], timeout=0.1)
        await unforced
        assert (await enabling).startswith(f"Enabled {ALICE}")


async def test_enable_without_an_answer_decides_nothing(tmp_path: Path) -> None:
    """A token endpoint that is down leaves the account disabled."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk, disabled=True)
        desk.token_endpoint.script = [JSON(503, {})]
        with pytest.raises(RefusedError, match="HTTP 503"):
            await desk.operations.enable(ALICE)
        assert desk.stored(ALICE)["disabled"]


async def test_enable_is_for_disabled_accounts(tmp_path: Path) -> None:
    """On a paused account it is refused, and tells the verb that is meant."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk, proxy_disabled=True)
        with pytest.raises(RefusedError, match=r"is not disabled; it is still paused .*authpool resume"):
            await desk.operations.enable(ALICE)
        assert desk.posts == []


# --- refresh ---------------------------------------------------------------------------------------------------------


async def test_refresh_fetches_a_new_token_though_the_old_one_lives(tmp_path: Path) -> None:
    """One POST, a new access token in the file, and the answer tells how long it lives."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        before = desk.stored(ALICE)["token"]
        answer = await desk.operations.refresh(ALICE)
        after = desk.stored(ALICE)["token"]
        assert answer.startswith(f"Refreshed {ALICE}; the token lives until 20")
        assert after["access_token"] != before["access_token"]
        assert desk.posts == [before["refresh_token"]]


async def test_refresh_of_a_disabled_account_is_refused_without_asking(tmp_path: Path) -> None:
    """The answer tells the two ways out, and the token endpoint is left alone."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk, disabled=True, disabled_reason="invalid_grant")
        with pytest.raises(RefusedError, match=r"disabled \(invalid_grant\): use enable, or add it again"):
            await desk.operations.refresh(ALICE)
        assert desk.posts == []


async def test_refresh_that_finds_the_account_dead_says_that_it_is_disabled_now(tmp_path: Path) -> None:
    """The disable rules hold for a refresh by hand too."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        desk.provider.revoke("alice@example.com")
        with pytest.raises(RefusedError, match=r"it is disabled now \(invalid_grant: Token has been expired"):
            await desk.operations.refresh(ALICE)
        assert desk.stored(ALICE)["disabled"]


async def test_refresh_names_a_client_that_is_rejected(tmp_path: Path) -> None:
    """A rejected client is the pool's fault: the account is not disabled."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        desk.token_endpoint.script = [JSON(401, {"error": "invalid_client"})]
        with pytest.raises(RefusedError, match="rejects the client: invalid_client"):
            await desk.operations.refresh(ALICE)
        assert not desk.stored(ALICE)["disabled"]


async def test_static_secret_has_nothing_to_refresh(tmp_path: Path) -> None:
    """`refresh` on a static account is refused in its own words."""
    async with open_desk(tmp_path) as desk:
        desk.write("keys/team", token={"access_token": "key-1"})
        with pytest.raises(RefusedError, match="static secret"):
            await desk.operations.refresh("keys/team")


async def test_refresh_of_an_account_that_another_process_holds_ends(tmp_path: Path) -> None:
    """A lock that is never given back is waited for only so long."""
    async with open_desk(tmp_path, patience_seconds=0.2) as desk:
        write_alice(desk)
        async with desk.service.store.hold(AccountKey.parse(ALICE)):
            with pytest.raises(RefusedError, match="another process holds it"):
                await desk.operations.refresh(ALICE)


# --- remove ----------------------------------------------------------------------------------------------------------


async def test_remove_takes_the_file_away(tmp_path: Path) -> None:
    """The account is gone from disk, and from the pool of a gateway in this process."""
    async with open_desk(tmp_path, running=True) as desk:
        write_alice(desk)
        assert (await desk.operations.remove(ALICE)).startswith(f"Removed {ALICE}; ")
        assert not desk.file_of(ALICE).exists()
        assert await desk.operations.accounts() == []
        with pytest.raises(RefusedError, match="no account"):
            await desk.operations.remove(ALICE)


async def test_broken_account_can_be_removed(tmp_path: Path) -> None:
    """A record that can't be read is no reason to keep it."""
    async with open_desk(tmp_path) as desk:
        path = desk.write(ALICE, token=5)
        await desk.operations.remove(ALICE)
        assert not path.exists()


async def test_remove_waits_for_a_refresh_under_way(tmp_path: Path) -> None:
    """An account is not taken away under a refresh, whose answer would have nowhere to go."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        gate = asyncio.Event()
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        refreshing = asyncio.create_task(desk.operations.refresh(ALICE))
        async with asyncio.timeout(30):
            while not desk.posts:
                await asyncio.sleep(0.005)
        removing = asyncio.create_task(desk.operations.remove(ALICE))
        done, _ = await asyncio.wait([removing], timeout=0.2)
        assert not done
        gate.set()
        assert (await refreshing).startswith("Refreshed")
        assert (await removing).startswith("Removed")
        assert not desk.file_of(ALICE).exists()


# --- accounts --------------------------------------------------------------------------------------------------------


async def test_accounts_tell_state_reason_and_times(tmp_path: Path) -> None:
    """Without a gateway: every account of every pool in order, `disabled` judged before `paused`, nobody counts."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        desk.write("google/Bob", disabled=True, disabled_at=5, disabled_reason="dead", proxy_disabled=True)
        desk.write("google/carol", proxy_disabled=True, proxy_disabled_at=6, proxy_disabled_reason="manual")
        desk.write("google/dave", token=5)
        desk.write("keys/team", token={"access_token": "k"})
        rows = await desk.operations.accounts()
    assert [(row.pool, row.name, row.state, row.reason, row.since, row.expires_at, row.served) for row in rows] == [
        ("google", "alice@example.com", "ready", "", None, LATER, None),
        ("google", "Bob", "disabled", "dead", 5, None, None),
        ("google", "carol", "paused", "manual", 6, None, None),
        ("google", "dave", "broken", "`token` must be a table", None, None, None),
        ("keys", "team", "ready", "", None, None, None),
    ]


async def test_accounts_of_a_running_gateway_are_live(tmp_path: Path) -> None:
    """Cooling until when, refreshing now, requests served: what only the process that serves knows."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        desk.write("google/bob", token={"access_token": "b", "refresh_token": "rb", "expires_at": LATER})
        await desk.service.start()
        pool = desk.service.snapshot.pools["google"]
        pool.cool(AccountKey.of("google", "bob"), LATER, "its refresh failed")
        member = pool.get(AccountKey.parse(ALICE))
        assert member is not None
        member.served = 3
        gate = asyncio.Event()
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        refreshing = asyncio.create_task(desk.operations.refresh(ALICE))
        async with asyncio.timeout(30):
            while not desk.posts:
                await asyncio.sleep(0.005)
        alice, bob = await desk.operations.accounts()
        gate.set()
        await refreshing
        assert (alice.state, alice.served) == ("refreshing", 3)
        assert (bob.state, bob.reason, bob.until, bob.served) == ("cooling", "its refresh failed", LATER, 0)


async def test_accounts_hold_no_secret(tmp_path: Path) -> None:
    """What is listed has no place for a token."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk)
        token = desk.stored(ALICE)["token"]
        (row,) = await desk.operations.accounts()
        shown = json.dumps({name: str(getattr(row, name)) for name in AccountRow.__dataclass_fields__}) + repr(row)
        assert token["access_token"] not in shown
        assert token["refresh_token"] not in shown


# --- spared for its quota --------------------------------------------------------------------------------------------


async def test_who_is_spared_for_a_quota_can_be_paused_for_good_and_resumed(tmp_path: Path) -> None:
    """The operator's pause outlasts the quota's reset; a resume ends either."""
    spared = {
        "proxy_disabled": True,
        "proxy_disabled_at": 1_700_000_000,
        "proxy_disabled_reason": "quota_protection",
        "proxy_disabled_until": LATER,
    }
    async with open_desk(tmp_path) as desk:
        write_alice(desk, **spared)
        (row,) = await desk.operations.accounts()
        assert (row.state, row.reason, row.until) == ("paused", "quota_protection", LATER)
        assert await desk.operations.pause(ALICE) == f"Paused {ALICE}"
        assert desk.stored(ALICE)["proxy_disabled_reason"] == "manual"
        assert "proxy_disabled_until" not in desk.stored(ALICE)
        write_alice(desk, **spared)
        assert await desk.operations.resume(ALICE) == f"Resumed {ALICE}"
        assert not {"proxy_disabled_until", "proxy_disabled_reason"} & desk.stored(ALICE).keys()


async def test_a_cooling_account_is_shown_with_its_end_and_reason(tmp_path: Path) -> None:
    """Without a gateway in this process, by what its file says."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk, cooldowns=[{"until": LATER, "reason": "the upstream answered 429"}])
        (row,) = await desk.operations.accounts()
        assert (row.state, row.reason, row.until) == ("cooling", "the upstream answered 429", LATER)


async def test_resume_ends_a_cooldown(tmp_path: Path) -> None:
    """In the file and in the gateway that runs here; what is over already is left alone."""
    async with open_desk(tmp_path) as desk:
        write_alice(desk, cooldowns=[{"until": LATER, "reason": "429"}, {"until": LATER, "reason": "429", "key": "m"}])
        await desk.service.start()
        assert [row.state for row in await desk.operations.accounts()] == ["cooling"]
        assert await desk.operations.resume(ALICE) == f"Resumed {ALICE}"
        assert [row.state for row in await desk.operations.accounts()] == ["ready"]
        assert "cooldowns" not in desk.stored(ALICE)
        write_alice(desk, cooldowns=[{"until": 1_700_000_000, "reason": "429"}])
        assert await desk.operations.resume(ALICE) == f"{ALICE} is not paused"
