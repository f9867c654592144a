"""The first-party rotations, each with what its operator would tell it about the accounts."""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

from authpool.clock import Clock
from authpool.config.pool_config import PoolConfig
from authpool.plugins.manager import Plugins
from authpool.rotation.rotation import Rotation
from authpool_headroom import Headroom
from authpool_random_two import RandomTwo

from .plan import Upstream

ROTATIONS = (
    "round_robin",
    "least_recently_used",
    "weighted",
    "fill_first",
    "least_in_flight",
    "random_two",
    "sticky",
    "headroom",
)


def account_name(number: int) -> str:
    return f"account-{number:05}"


def options(name: str, upstreams: Sequence[Upstream]) -> dict[str, Any]:
    """What stands beside the rotation's name: true limits as weights, and the largest limit first in order."""
    match name:
        case "weighted":
            return {"weights": {account_name(number): one.rate for number, one in enumerate(upstreams)}}
        case "fill_first":
            numbers = sorted(range(len(upstreams)), key=lambda number: -upstreams[number].rate)
            return {"order": [account_name(number) for number in numbers]}
    return {}


def factory(config: PoolConfig, clock: Clock, seed: int) -> Callable[[], Rotation]:
    """Make rotations as the gateway does; but the two that look at a clock or draw lots are given ours."""
    match config.rotation:
        case "headroom":
            return lambda: Headroom(clock)
        case "random_two":
            return lambda: RandomTwo(Random(seed))
    return partial(Plugins().rotation, config)
