"""What was written later counts, whatever the wall clock said meanwhile."""

from pathlib import Path

import pytest

from authpool.accounts.account import Account, Token, fingerprint
from authpool.accounts.events import AccountEvent
from authpool.store.folder.store import FolderStore
from authpool.store.trail_index import TrailIndex
from support.clock import FakeClock
from support.trail import AuditTrail

HOUR = 3600


def account(token: str, generation: int) -> Account:
    return Account(pool="p", name="alice", generation=generation, token=Token(refresh_token=token))


async def is_spent(index: TrailIndex, token: str) -> bool:
    await index.catch_up()
    found = index.known(fingerprint(token))
    return found is not None and found.exchanged_at is not None


def exchange(trail: AuditTrail, spent: str, newest: str, generation: int) -> None:
    trail.record(AccountEvent(kind="rotated", account=account(newest, generation), replaced=fingerprint(spent)))


@pytest.mark.parametrize("reader", ("was there", "starts now"))
async def test_what_is_enabled_by_force_counts_though_the_clock_was_put_back(
    tmp_path: Path, clock: FakeClock, reader: str
) -> None:
    """An operator's word is not undone because the wall clock was an hour fast when the token was exchanged."""
    trail, index = AuditTrail(tmp_path, clock, "command line"), TrailIndex(FolderStore(tmp_path / "accounts"))
    exchange(trail, "r1", "r2", generation=2)
    if reader == "was there":
        assert await is_spent(index, "r1")
    clock.jump(-HOUR)
    trail.record(AccountEvent(kind="enabled", account=account("r1", 1)))
    assert not await is_spent(index, "r1")
