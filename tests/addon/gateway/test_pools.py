"""Pools that are replaced by a reload: what is unchanged is kept once, and what is replaced goes."""

import gc
from pathlib import Path
from weakref import ref

from authpool.accounts.account import AccountKey
from support.clock import FakeClock
from support.idle_gateway import idle_gateway, idle_home
from support.rotating_provider import RotatingProvider
from support.transport import Transport

ALICE = AccountKey("p", "alice")


async def test_a_replaced_pool_goes_without_the_garbage_collector(tmp_path: Path, clock: FakeClock) -> None:
    """What was loaded at a start is out of its sight, and to take 10,000 accounts down at once holds requests up."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice", "bob")
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        former = ref(gateway.snapshot.pools["p"])
        gc.disable()
        try:
            await gateway.reload()
            assert former() is None
        finally:
            gc.enable()


async def test_an_unchanged_account_is_the_same_record_after_a_reload(tmp_path: Path, clock: FakeClock) -> None:
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice", "bob")
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        before = gateway.snapshot.pools["p"].get(ALICE)
        await gateway.reload()
        after = gateway.snapshot.pools["p"].get(ALICE)
        assert before is not None
        assert after is not None
        assert after is not before
        assert after.record is before.record
