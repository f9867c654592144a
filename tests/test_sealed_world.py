"""The same world with its accounts sealed: no healthy account is lost, whatever is done to the keys in between."""

from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from authpool.store.sealing.key_ring import KeyRing, OperatorKey
from support.file_operations import STEPS
from support.world import World
from test_world import SEED, SOAK, SOAK_EXAMPLES, WorldMachine

OPERATOR = OperatorKey(bytes(range(32)))


def _sealed(ring: KeyRing) -> KeyRing:
    return ring.turned(sealing=True)


def _unsealed(ring: KeyRing) -> KeyRing:
    return ring.turned(sealing=False)


def _rekeyed(ring: KeyRing) -> KeyRing:
    return ring.with_new_key(0)


class SealedWorldMachine(WorldMachine):
    """Somebody seals, unseals and changes the data key while everything else goes on, and is often cut off."""

    def new_world(self, provider: dict[str, Any]) -> World:
        return World(provider, OPERATOR)

    @rule(
        change=st.sampled_from([_sealed, _sealed, _unsealed, _rekeyed]),
        records=st.integers(0, 9),
        step=st.none() | st.sampled_from(STEPS),
        writes=st.integers(0, 4),
    )
    def reseal(self, change: Any, records: int, step: str | None, writes: int) -> None:
        self.world.reseal(change, records, step, writes)


if not SOAK:
    seed(SEED)(SealedWorldMachine)
TestSealedWorld = SealedWorldMachine.TestCase
TestSealedWorld.__doc__ = "Whatever happens in whatever order, the promise holds on a sealed folder."
TestSealedWorld.pytestmark = [pytest.mark.timeout(0 if SOAK else 600)]
TestSealedWorld.settings = settings(
    max_examples=SOAK_EXAMPLES if SOAK else 25,
    stateful_step_count=80 if SOAK else 40,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
