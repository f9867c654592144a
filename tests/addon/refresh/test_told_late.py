"""Who exchanged a refresh token may be killed before it could write that into the audit trail."""

import json
from pathlib import Path

import pytest

from authpool.accounts.account import fingerprint
from authpool.errors import RefusedError
from authpool.refresh.credential_notes import TOLD_LATE
from authpool.store.folder.trail_files import read_trail
from support.ending_process import ended
from support.home import Document, write_account
from support.operator import Desk, open_desk, process

ALICE = "google/alice@example.com"
COPY = "work/alice@example.com"


async def refresh_untold(desk: Desk) -> Document:
    """Add an account, and let it be refreshed by a process that is killed before its line; answers what it was."""
    await desk.operations.add("google", desk.signed_in("alice@example.com"))
    before = dict(desk.stored(ALICE))
    assert await ended(desk.home, "refresh", ALICE) < 0
    assert desk.provider.is_current(desk.stored(ALICE)["token"]["refresh_token"])
    assert spent(before) not in told(desk)
    return before


def spent(document: Document) -> str:
    return fingerprint(document["token"]["refresh_token"])


def told(desk: Desk) -> list[str | None]:
    """What the trail says was exchanged."""
    return [entry.replaced for entry in read_trail(desk.home)]


def nothing_was_presented_twice(desk: Desk) -> bool:
    return len(desk.posts) == len(set(desk.posts))


@pytest.mark.parametrize("running", (False, True))
async def test_a_copy_of_what_was_spent_is_recognised_by_the_record(tmp_path: Path, *, running: bool) -> None:
    """Whoever comes next knows it at once, for whatever it does with either of them."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        write_account(desk.home, COPY, await refresh_untold(desk))
        async with process(desk, running=running) as operations:
            shown = {f"{row.pool}/{row.name}": row for row in await operations.accounts()}
            assert (shown[ALICE].state, shown[COPY].state) == ("ready", "broken")
            with pytest.raises(RefusedError, match=ALICE):
                await operations.refresh(COPY)
            await operations.refresh(ALICE)
        assert nothing_was_presented_twice(desk)


async def test_it_is_told_before_the_record_says_something_newer(tmp_path: Path) -> None:
    """Else the next refresh would be the end of what is known of it."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        before = await refresh_untold(desk)
        for _ in range(2):
            async with process(desk, running=False) as operations:
                await operations.refresh(ALICE)
        assert told(desk).count(spent(before)) == 1
        assert [entry.event for entry in read_trail(desk.home) if entry.reason == TOLD_LATE] == ["refreshed"]
        write_account(desk.home, COPY, before)
        async with process(desk, running=False) as operations:
            with pytest.raises(RefusedError, match=ALICE):
                await operations.refresh(COPY)
        assert nothing_was_presented_twice(desk)


async def test_a_gateway_tells_it_when_it_starts(tmp_path: Path) -> None:
    """So the account's own old file is recognised too, when that is put back later."""
    async with open_desk(tmp_path) as desk:
        before = await refresh_untold(desk)
        for _ in range(2):
            async with process(desk, running=True):
                pass
        assert told(desk).count(spent(before)) == 1
        write_account(desk.home, ALICE, before)
        async with process(desk, running=False) as operations:
            with pytest.raises(RefusedError, match="restored_copy"):
                await operations.refresh(ALICE)
        assert nothing_was_presented_twice(desk)


@pytest.mark.parametrize("running", (False, True))
async def test_what_was_spent_to_add_an_account_is_recognised_too(tmp_path: Path, *, running: bool) -> None:
    """A file that was made of the same source by hand."""
    async with open_desk(tmp_path, more_pools=["work"]) as desk:
        await desk.operations.add("google", desk.signed_in("bob@example.com"))
        source = desk.provider.issue("alice@example.com")
        assert await ended(desk.home, "add", "google", json.dumps(source)) < 0
        write_account(desk.home, COPY, {"token": {"refresh_token": source["refresh_token"]}})
        async with process(desk, running=running) as operations:
            with pytest.raises(RefusedError, match=ALICE):
                await operations.refresh(COPY)
        assert nothing_was_presented_twice(desk)


async def test_enabling_by_force_counts_all_the_same(tmp_path: Path) -> None:
    """Somebody knows that the old one still works."""
    async with open_desk(tmp_path) as desk:
        before = await refresh_untold(desk)
        async with process(desk, running=True):
            pass
        write_account(desk.home, ALICE, before)
        async with process(desk, running=False) as operations:
            with pytest.raises(RefusedError, match="restored_copy"):
                await operations.refresh(ALICE)
            await operations.enable(ALICE, force=True)
        async with process(desk, running=False) as operations:
            with pytest.raises(RefusedError, match="invalid_grant"):  # it does not: but that is for the provider to say
                await operations.refresh(ALICE)
        assert not nothing_was_presented_twice(desk)
