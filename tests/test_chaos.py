"""Real processes on one home: gateways die, answers get lost, operators type; no healthy account is lost.

A minute by default. Longer: ``AUTHPOOL_CHAOS_SECONDS=120 make test ARGS="tests/test_chaos.py -n 0 -s"``, for so many
seconds each; AUTHPOOL_CHAOS_SEED varies what gets lost.
"""

import faulthandler
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.chaos import Chaos
from support.chaos_record import Record
from support.django_provider import DjangoProvider
from support.node import NodeMissingError, node_is_required
from support.provider import OidcProvider
from support.tcp_shim import LOSSY, Fate

SECONDS = float(os.environ.get("AUTHPOOL_CHAOS_SECONDS", "8"))
SEED = int(os.environ.get("AUTHPOOL_CHAOS_SEED", "1"))
ACCOUNTS = 6
ACCESS_TOKEN_SECONDS = 4
GRACE_SECONDS = 60
LOSSES = {Fate.DROP: 0.03, Fate.RESET: 0.02, Fate.CUT: 0.02, Fate.REFUSE: 0.1, Fate.DELAY: 0.2}
ONE_OF_EACH = [Fate.PASS] * ACCOUNTS + [Fate.DROP, Fate.PASS, Fate.CUT, Fate.REFUSE, Fate.RESET, Fate.DELAY]
"""However short the run: it begins with the first refreshes of all accounts, then each way to lose an answer."""

LIMIT_SECONDS = 240 + 3 * SECONDS

pytestmark = [pytest.mark.mitmproxy, pytest.mark.timeout(LIMIT_SECONDS)]


@pytest.fixture(autouse=True)
def _patience() -> None:
    """Put off what ends a run that hangs; pytest takes it back after the test."""
    faulthandler.dump_traceback_later(LIMIT_SECONDS + 30, exit=True, file=sys.__stderr__)


@pytest.fixture
def strict() -> Iterator[OidcProvider]:
    """The real provider, rotating and punishing reuse, with access tokens that live for seconds."""
    provider = OidcProvider(access_token_seconds=ACCESS_TOKEN_SECONDS)
    try:
        provider.start()
    except NodeMissingError as missing:
        if node_is_required():
            raise
        pytest.skip(str(missing))
    yield provider
    provider.stop()


@pytest.fixture
def graceful() -> Iterator[DjangoProvider]:
    """The real provider that answers a spent token again for a while; a rotation ends the access token before."""
    provider = DjangoProvider(access_token_seconds=ACCESS_TOKEN_SECONDS, grace_seconds=GRACE_SECONDS)
    provider.start()
    yield provider
    provider.stop()


@pytest.fixture
def names(new_account: Callable[[], str]) -> list[str]:
    return [new_account() for _ in range(ACCOUNTS)]


def has_seen_it_all(record: Record) -> bool:
    """Whether there were a kill, an account added again and a request that was served."""
    return record.kills > 0 and record.verbs["add"] > 0 and any(call.status == 200 for call in record.calls)


@pytest.mark.node
async def test_nobody_is_lost_while_every_answer_arrives(
    strict: OidcProvider, tmp_path: Path, confdir: Path, names: list[str]
) -> None:
    """Four gateways and the command line refresh the same accounts; gateways are stopped and started in between.

    Answers are late, none is lost: never an invalid_grant. Requests get their 200, or a documented answer where the
    machine was so slow that all these brief tokens ended before their successors came.
    """
    async with Chaos.of(strict, tmp_path, confdir, names, rates={Fate.DELAY: 0.3}, seed=SEED) as chaos:
        await chaos.run(SECONDS / 3, enough=lambda record: any(call.status == 200 for call in record.calls))
        undisturbed = {call.status for call in chaos.record.calls} - {502, 503}  # `wrong` judges those
        await chaos.run(SECONDS * 2 / 3, restarts=True, enough=lambda record: bool(record.outages and record.verbs))
        await chaos.settle()
        print("\n", chaos.figures())

    assert chaos.wrong() == []
    assert undisturbed == {200}
    assert chaos.record.kills == 0
    assert chaos.record.refusals == []
    assert chaos.record.losses == set()
    assert chaos.record.still_refresh == set(names)
    requests = (await strict.stats()).token_requests
    assert {request.error for request in requests} == {None}
    assert {request.account for request in requests} == set(names)


@pytest.mark.node
async def test_only_what_was_really_lost_is_disabled_and_says_so(
    strict: OidcProvider, tmp_path: Path, confdir: Path, names: list[str]
) -> None:
    """Gateways are killed and answers dropped, reset, cut and late: whoever is disabled had lost an answer."""
    async with Chaos.of(strict, tmp_path, confdir, names, rates=LOSSES, plan=ONE_OF_EACH, seed=SEED) as chaos:
        await chaos.run(SECONDS, restarts=True, kill_share=0.8, enough=has_seen_it_all)
        await chaos.settle()
        print("\n", chaos.figures())

    assert chaos.wrong() == []
    assert chaos.shim.counts["lost"] > 0
    assert chaos.record.losses  # this provider forgives nothing


async def test_nobody_is_lost_whose_provider_repeats_its_answer(
    graceful: DjangoProvider, tmp_path: Path, confdir: Path, names: list[str]
) -> None:
    """Gateways are killed and answers lost; the pair is had within the grace window, by whoever is next."""
    async with Chaos.of(graceful, tmp_path, confdir, names, rates=LOSSES, plan=ONE_OF_EACH, seed=SEED) as chaos:
        await chaos.run(SECONDS, restarts=True, kill_share=0.8, enough=has_seen_it_all)
        await chaos.settle()
        print("\n", chaos.figures())

    assert chaos.wrong() == []
    assert chaos.shim.counts["lost"] > 0
    assert chaos.record.losses == set()
    assert chaos.record.still_refresh == set(names)
    lost = {exchange.status for exchange in chaos.shim.exchanges if exchange.fate in LOSSY}
    assert lost <= {200, None}  # None: the gateway was killed before it had asked
