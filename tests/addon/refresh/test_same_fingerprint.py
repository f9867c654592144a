"""Two refresh tokens of one fingerprint, where the process has seen both: neither is taken for a copy of the other."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, Token, fingerprint
from authpool.config import PoolConfig
from authpool.refresh.credential_holders import Holders
from authpool.refresh.credential_ownership import Ownership
from authpool.refresh.credential_rules import CopyOf, CredentialRules
from authpool.store.trail_index import Known
from support.clock import FakeClock
from support.memory_store import MemoryStore, Tables
from support.transport import Rig


def colliding() -> tuple[str, str]:
    """Two tokens with the same first 32 bits of their SHA-256."""
    seen: dict[str, str] = {}
    for number in range(1_000_000):
        token = f"rt-clash-{number}-0123456789abcdef"
        other = seen.setdefault(fingerprint(token), token)
        if other != token:
            return other, token
    raise AssertionError("no two tokens have one fingerprint")


ONE, OTHER = colliding()


class Trail:
    """Says that `alice` exchanged what has the fingerprint; nobody else was given anything."""

    async def catch_up(self) -> None:
        pass

    def known(self, mark: str, account: AccountKey | None = None) -> Known | None:
        return Known(account=account_of("alice", "").key, exchanged_at=5) if mark == fingerprint(ONE) else None

    def take_in(self, account: Account) -> bool:
        return False

    def marks_of(self, key: AccountKey) -> Collection[str]:
        return ()


def account_of(name: str, token: str, generation: int = 1) -> Account:
    return Account(pool="pool", name=name, generation=generation, token=Token(refresh_token=token or None))


@pytest.fixture
def pools(tmp_path: Path, clock: FakeClock) -> Mapping[str, PoolConfig]:
    """One pool whose provider rotates."""
    return Rig(tmp_path / "accounts", clock).pools


async def judged(pools: Mapping[str, PoolConfig], held: str, *, seen: bool) -> bool:
    """Whether `bob`, who holds a token, is taken for a copy of `alice`, who exchanged one."""
    rules = CredentialRules(Trail(), lambda key: None)
    alice, bob = account_of("alice", "new", 2), account_of("bob", held)
    if seen:
        rules.replaced(account_of("alice", ONE), alice)
    return isinstance(rules.judge(bob, await Holders.of([alice, bob]), pools), CopyOf)


async def test_another_token_of_one_fingerprint_is_no_copy(pools: Mapping[str, PoolConfig]) -> None:
    """Where the process saw which token it was that was exchanged; else the trail's word counts."""
    assert not await judged(pools, OTHER, seen=True)
    assert await judged(pools, OTHER, seen=False)


async def test_a_copy_is_a_copy(pools: Mapping[str, PoolConfig]) -> None:
    """Whether the process saw it or not."""
    assert await judged(pools, ONE, seen=True)
    assert await judged(pools, ONE, seen=False)


async def test_who_follows_the_store_sees_what_is_exchanged(pools: Mapping[str, PoolConfig], clock: FakeClock) -> None:
    """By whichever process: the record had another token before."""
    alice, bob = account_of("alice", ONE), account_of("bob", OTHER)
    ownership = Ownership(store=MemoryStore(Tables(), clock), trail=Trail(), pools=lambda: pools, clock=clock)
    await ownership.load({one.key: one for one in (alice, bob)}, pools, known={})
    renewed = account_of("alice", "new", 2)
    changes = await ownership.follow({renewed.key: renewed, bob.key: bob}, lambda key: None)
    assert changes[bob.key] == bob
    await ownership.aclose()
