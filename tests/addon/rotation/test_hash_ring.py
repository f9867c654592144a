"""Consistent hashing: who belongs to whom, and who moves when accounts come and go."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import authpool
from authpool.rotation.hash_ring import HashRing
from support.rotations import key

NAMES = [b"name-%d" % number for number in range(4_000)]


def ring(accounts: int) -> HashRing:
    filled = HashRing()
    for number in range(accounts):
        filled.add(key(number))
    return filled


def test_one_more_account_takes_its_share_and_no_more() -> None:
    """Of 50 accounts the last one gets about a fiftieth of the names; no name moves between the others."""
    before, after = ring(49), ring(50)
    moved = [name for name in NAMES if before.owner(name) != after.owner(name)]
    assert {after.owner(name) for name in moved} == {key(49)}
    assert 0.4 < len(moved) / len(NAMES) * 50 < 1.8


def test_one_account_less_moves_only_its_own_names() -> None:
    """They go to many others, each to the one that it would get if the account had been tried; and come back."""
    whole = ring(50)
    owners = {name: whole.owner(name) for name in NAMES}
    next_ones = {name: whole.owner(name, {key(7)}) for name in NAMES}
    whole.remove(key(7))
    heirs = set()
    for name, owner in owners.items():
        assert whole.owner(name) == next_ones[name]
        if owner == key(7):
            heirs.add(whole.owner(name))
        else:
            assert whole.owner(name) == owner
    assert len(heirs) > 5
    whole.add(key(7))
    assert {name: whole.owner(name) for name in NAMES} == owners


def test_shares_are_alike() -> None:
    """Among 50 accounts the deviation of their shares is about a quarter of the mean, as the number of points tells."""
    whole = ring(50)
    shares = Counter(whole.owner(name) for name in NAMES)
    mean = len(NAMES) / 50
    deviation = (sum((shares[key(number)] - mean) ** 2 for number in range(50)) / 50) ** 0.5
    assert 0.1 < deviation / mean < 0.4


@given(steps=st.lists(st.integers(0, 60), max_size=200), name=st.binary(max_size=4))
def test_the_order_of_coming_and_going_does_not_matter(steps: list[int], name: bytes) -> None:
    """A ring that was changed in every way answers like one that was made of the same accounts at once."""
    changed = HashRing()
    members: set[int] = set()
    for number in steps:
        (changed.remove if number in members else changed.add)(key(number))
        members ^= {number}
    fresh = HashRing()
    for number in sorted(members):
        fresh.add(key(number))
    tried = {key(number) for number in list(members)[:3]}
    assert changed.owner(name) == fresh.owner(name)
    assert changed.owner(name, tried) == fresh.owner(name, tried)


def test_a_ring_of_thousands_can_be_emptied_and_filled() -> None:
    """Runs are cut as they fill and dropped as they empty, the first among them; it answers as a fresh one does."""
    full = ring(1_000)
    for number in reversed(range(1, 1_000)):
        full.remove(key(number))
        if number % 300 == 1:
            fresh = ring(number)
            assert all(full.owner(name) == fresh.owner(name) for name in NAMES[:500])
    assert full.owner(b"x") == key(0)
    assert len(full._points) < 20
    for number in range(1, 300):
        full.add(key(number))
    fresh = ring(300)
    assert all(full.owner(name) == fresh.owner(name) for name in NAMES)
    for number in range(300):
        full.remove(key(number))
    assert full.owner(b"x") is None


def test_other_processes_answer_the_same() -> None:
    """Python's own hash differs from process to process; this one does not."""
    code = (
        "from authpool.accounts.account import AccountKey; from authpool.rotation.hash_ring import HashRing\n"
        "ring = HashRing()\n"
        "for number in range(50): ring.add(AccountKey('p', str(number)))\n"
        "print([int(ring.owner(b'name-%d' % n).name) for n in range(40)])"
    )
    environment = {"PYTHONPATH": str(Path(authpool.__file__).parents[1])}
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    here = ring(50)
    assert answer.stdout.strip() == str([int(owner.name) for name in NAMES[:40] if (owner := here.owner(name))])
