"""An account whose removal a reload finds, before the follower does: who comes under its name next is another one."""

import asyncio
from pathlib import Path

from authpool.accounts.account import AccountKey
from support.clock import FakeClock
from support.home import account_path, read_account, token_table, write_account
from support.idle_gateway import idle_gateway, idle_home, turn
from support.rotating_provider import RotatingProvider
from support.transport import Transport


async def test_what_is_added_after_it_is_not_put_back(tmp_path: Path, clock: FakeClock) -> None:
    """The first of two sign-ins is added again once the account is gone, and stays."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice")
    first = read_account(home, "p/alice")
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        second = token_table(provider.issue("alice"), now=clock.time())
        write_account(home, "p/alice", {**first, "token": second, "generation": 2})
        await gateway.catch_up()
        account_path(home, "p/alice").unlink()
        reload = asyncio.ensure_future(gateway.reload())
        await turn(clock, 5, reload.done)
        await reload
        assert not gateway.snapshot.pools["p"]
        write_account(home, "p/alice", first)
        await gateway.catch_up()
        await gateway.refresher.heal(AccountKey.of("p", "alice"))  # as every refresh begins
        assert read_account(home, "p/alice")["token"] == first["token"]
