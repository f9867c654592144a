"""The simulation that rotations are compared by: it repeats itself, loses no request, and is fair where they are."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from authpool.config import HostPattern, PoolConfig
from authpool.rotation.quota import Quota
from bench.simulation.figures import Tally, figures, jain
from bench.simulation.plan import Plan, Upstream
from bench.simulation.plot import svg
from bench.simulation.rotations import ROTATIONS, factory
from bench.simulation.table import table
from bench.simulation.world import World
from support.clock import FakeClock
from support.rotations import key, serve

PLAN = Plan(accounts=8, load=0.9, seconds=90.0, warm_up_seconds=30.0, seed=7)
TESTS = Path(__file__).parent


class EqualAccounts(Plan):
    """Every account has the same limit, and none dies."""

    def upstreams(self) -> list[Upstream]:
        alike = Upstream(
            rate=0.5, burst=10.0, level=10.0, tells_retry_after=True, tells_quota=False, slowness=1.0, deaths=()
        )
        return [alike] * self.accounts


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_the_same_seed_gives_the_same_figures(rotation: str) -> None:
    """Every rotation, and whatever the play depends on, goes by the seed; another seed is another play."""
    once, again = (figures(rotation, PLAN, [World(PLAN, rotation).play()]) for _ in range(2))
    other = figures(rotation, PLAN, [World(replace(PLAN, seed=8), rotation).play()])

    assert once == again
    assert other != once


def test_the_same_seed_gives_the_same_figures_in_another_process() -> None:
    """Nothing goes by the order of a set, which is another in each process."""
    script = (
        "from bench.simulation.plan import Plan; from bench.simulation.world import World; "
        f"tally = World({PLAN!r}, 'random_two').play(); print(tally.statuses, sorted(tally.sent.items()), tally.hits)"
    )
    path = ":".join(str(TESTS.parent / folder) for folder in ("addon", "plugins", "tests"))
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": path, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(printed) == 1
    assert "200: " in printed.pop()


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_no_request_is_lost(rotation: str) -> None:
    """Each is served or refused, once; who is served was sent, and on three accounts at most."""
    tally = World(PLAN, rotation).play()
    came = [one for one in PLAN.arrivals(PLAN.upstreams()) if one.at >= PLAN.warm_up_seconds]
    found = figures(rotation, PLAN, [tally])

    assert found.requests == len(came)
    assert found.served + found.refused_429 + found.refused_503 + found.refused_otherwise == found.requests
    assert found.served == tally.served.total()
    assert found.served <= found.attempts <= 3 * found.requests
    assert all(tally.served[number] <= sent for number, sent in tally.sent.items())


def test_no_account_serves_more_than_its_limit() -> None:
    """The upstreams' limits are what the load is measured by: bucket and flow are the most there is."""
    plan = replace(PLAN, load=3.0)
    tally = World(plan, "round_robin").play()
    span = plan.seconds - plan.warm_up_seconds

    for number, upstream in enumerate(plan.upstreams()):
        assert tally.served[number] <= upstream.burst + upstream.rate * span
    assert figures("round_robin", plan, [tally]).served_share < 0.5


def test_round_robin_is_fair_on_equal_accounts() -> None:
    """Equal limits that nobody reaches: as many requests each, none refused, none sent twice."""
    plan = EqualAccounts(accounts=8, load=0.3, seconds=120.0, warm_up_seconds=0.0, seed=3)
    tally = World(plan, "round_robin").play()
    found = figures("round_robin", plan, [tally])

    assert max(tally.served.values()) - min(tally.served.values()) <= 1
    assert found.fairness > 0.99
    assert found.served == found.attempts == found.requests > 100


def test_sticky_keeps_sessions_together_where_no_limit_is_reached() -> None:
    """A session's account can serve all the while, so every request is a hit; in turn hardly any is."""
    plan = EqualAccounts(accounts=8, load=0.1, seconds=600.0, warm_up_seconds=0.0, seed=3)
    sticky, in_turn = (figures(name, plan, [World(plan, name).play()]) for name in ("sticky", "round_robin"))

    assert sticky.session_hits > 0.9
    assert in_turn.session_hits < 0.4


def test_a_grant_that_dies_is_noticed_and_comes_back() -> None:
    """A 401 becomes a verdict and no client sees it; the account serves again once a new grant is there."""

    class OneDies(EqualAccounts):
        def upstreams(self) -> list[Upstream]:
            return [replace(super().upstreams()[0], deaths=(20.0, 60.0)), *super().upstreams()[1:]]

    plan = OneDies(accounts=4, load=0.3, seconds=100.0, warm_up_seconds=0.0, seed=3)
    world = World(plan, "round_robin")
    tally = world.play()

    assert tally.statuses == {200: tally.statuses.total()}
    assert tally.sent.total() == tally.statuses.total() + 1
    assert 0.4 < tally.served[0] / tally.served[1] < 0.8


def test_headroom_is_given_the_time_of_the_play() -> None:
    """It goes by when quotas start anew: by the machine's clock all of them would have done so long ago."""
    clock = FakeClock()
    config = PoolConfig(name="p", hosts=(HostPattern.parse("api.example.com"),), rotation="headroom")
    rotation = factory(config, clock, 1)()
    for name in "ab":
        rotation.add(key(name))
    rotation.observe(key("a"), Quota(remaining=0, limit=10, resets_at=clock.time() + 60))

    assert serve(rotation, 4) == ["b"] * 4


def test_jain_says_how_even_shares_are() -> None:
    """1 for even ones, 1/n when one has it all."""
    assert jain([2.0, 2.0, 2.0]) == pytest.approx(1.0)
    assert jain([3.0, 0.0, 0.0]) == pytest.approx(1 / 3)


def test_the_table_and_the_plot_show_every_rotation() -> None:
    """One line and one dot for each in each panel."""
    tally = Tally(choice_ns=[1000])
    tally.statuses.update({200: 3, 429: 1})
    tally.sent.update({0: 4})
    tally.served.update({0: 3})
    tally.limits = {0: 4.0}
    found = [figures(rotation, PLAN, [tally]) for rotation in ROTATIONS]

    assert table(found).count("| 75.0 | 250.0 | 0.0 | 1.00 |") == len(ROTATIONS)
    assert svg(found).count('r="4"') == 4 * len(ROTATIONS) + 1
