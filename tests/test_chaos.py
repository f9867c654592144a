"""Real processes on one home: gateways die, answers get lost, operators type; no healthy account is lost.

It runs when it is asked to, for as long as it is told: ``AUTHPOOL_CHAOS_SECONDS=120 make test
ARGS="tests/test_chaos.py -s"``; AUTHPOOL_CHAOS_SEED varies it.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.chaos import Chaos
from support.node import NodeMissingError, node_is_required
from support.provider import OidcProvider
from support.tcp_shim import LOSSY, Fate

SECONDS = float(os.environ.get("AUTHPOOL_CHAOS_SECONDS", "12"))
SEED = int(os.environ.get("AUTHPOOL_CHAOS_SEED", "1"))
ACCOUNTS = 6
ACCESS_TOKEN_SECONDS = 4
LOSSES = {Fate.DROP: 0.03, Fate.RESET: 0.02, Fate.CUT: 0.02, Fate.REFUSE: 0.1, Fate.DELAY: 0.2}

pytestmark = [
    pytest.mark.skipif(
        "AUTHPOOL_CHAOS_SECONDS" not in os.environ, reason="chaos: set AUTHPOOL_CHAOS_SECONDS to run it"
    ),
    pytest.mark.mitmproxy,
    pytest.mark.node,
    pytest.mark.timeout(90 + 2 * SECONDS),
]


@pytest.fixture
def brief_provider() -> Iterator[OidcProvider]:
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
def names(new_account: Callable[[], str]) -> list[str]:
    return [new_account() for _ in range(ACCOUNTS)]


async def test_nobody_is_lost_while_every_answer_arrives(
    brief_provider: OidcProvider, tmp_path: Path, confdir: Path, names: list[str]
) -> None:
    """Four gateways and the command line refresh the same accounts; gateways are stopped and started in between.

    Answers are late, none is lost: never an invalid_grant, and only 200s while all gateways are up.
    """
    async with Chaos.of(brief_provider, tmp_path, confdir, names, rates={Fate.DELAY: 0.3}, seed=SEED) as chaos:
        await chaos.run(SECONDS / 4)
        undisturbed = {call.status for call in chaos.record.calls}
        await chaos.run(SECONDS / 2, restarts=True)
        await chaos.settle()
        print("\n", chaos.figures())

    assert chaos.wrong() == []
    assert undisturbed == {200}
    assert chaos.record.outages
    assert chaos.record.refusals == []
    assert chaos.record.losses == set()
    assert chaos.record.still_refresh == set(names)
    requests = (await brief_provider.stats()).token_requests
    assert {request.error for request in requests} == {None}
    assert {request.account for request in requests} == set(names)


async def test_only_what_was_really_lost_is_disabled_and_says_so(
    brief_provider: OidcProvider, tmp_path: Path, confdir: Path, names: list[str]
) -> None:
    """Gateways are killed and answers dropped, reset, cut and late: whoever is disabled had lost an answer."""
    async with Chaos.of(brief_provider, tmp_path, confdir, names, rates=LOSSES, seed=SEED) as chaos:
        await chaos.run(SECONDS, restarts=True, kill_share=0.8)
        await chaos.settle()
        print("\n", chaos.figures())

    assert chaos.wrong() == []
    assert chaos.record.kills > 0
    assert any(exchange.fate in LOSSY for exchange in chaos.shim.exchanges)
    assert any(call.status == 200 for call in chaos.record.calls)
