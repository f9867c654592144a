"""Every first-party rotation passes the kit that is there for anybody's; and the kit finds what it is there to find."""

import random

from authpool.config.selector import Selector
from authpool.rotation.rotation import Rotation
from authpool.testing.rotations import RotationConformance
from authpool_fill_first import FillFirst
from authpool_headroom import Headroom
from authpool_least_in_flight import LeastInFlight
from authpool_least_recently_used import LeastRecentlyUsed
from authpool_random_two import RandomTwo
from authpool_round_robin import RoundRobin
from authpool_sticky import Sticky
from authpool_weighted import Weighted
from support.clock import FakeClock


class TestRoundRobin(RotationConformance):
    fair_within = 1

    def make(self) -> Rotation:
        return RoundRobin()


class TestWeighted(RotationConformance):
    fair_within = 1

    def make(self) -> Rotation:
        return Weighted({"account-5": 2.5})


class TestLeastInFlight(RotationConformance):
    fair_within = 1
    heeds_load = True

    def make(self) -> Rotation:
        return LeastInFlight()


class TestLeastRecentlyUsed(RotationConformance):
    fair_within = 1

    def make(self) -> Rotation:
        return LeastRecentlyUsed()


class TestRandomTwo(RotationConformance):
    heeds_load = True

    def make(self) -> Rotation:
        return RandomTwo(random.Random(7))


class TestFillFirst(RotationConformance):
    def make(self) -> Rotation:
        return FillFirst(["account-3", "account-1"])


class TestStickyByClient(RotationConformance):
    def make(self) -> Rotation:
        return Sticky(Selector(kind="client"))


class TestStickyByHeader(RotationConformance):
    def make(self) -> Rotation:
        return Sticky(Selector(kind="header", name="X-Session"))


class TestStickyByJson(RotationConformance):
    def make(self) -> Rotation:
        return Sticky(Selector(kind="json", name="user.id"))


class TestHeadroom(RotationConformance):
    fair_within = 1
    heeds_load = True

    def make(self) -> Rotation:
        return Headroom(FakeClock())
