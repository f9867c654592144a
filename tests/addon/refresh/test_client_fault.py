"""Whose fault it is when a client is refused, and who gets which answer of a refresh under way."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from authpool.oauth.verdict import Answer
from authpool.pool.pool import State
from authpool.refresh.outcome import Misconfigured, Outcome, Ready, Unavailable
from authpool.verbs.account_rows import live_rows
from support.clock import FakeClock
from support.home import read_account
from support.idle_gateway import idle_gateway, idle_home, state, turn
from support.rotating_provider import RotatingProvider
from support.transport import Rig, Transport, reply

REFUSED = reply(403, {"error": "unauthorized_client", "error_description": "not this one"})


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Rig:
    return Rig(tmp_path / "accounts", clock)


class TestAClientThatIsRefused:
    async def test_for_one_account_only_is_that_accounts_trouble(self, rig: Rig) -> None:
        """It was accepted for another a moment ago: the others go on being asked."""
        alice, bob, carol = [await rig.add(name) for name in ("alice", "bob", "carol")]
        assert isinstance(await rig.refresher.refresh(alice), Ready)
        rig.transport.script.append(REFUSED)
        outcome = await rig.refresher.refresh(bob)
        assert isinstance(outcome, Unavailable)
        assert outcome.cause == "account"
        assert "unauthorized_client" in outcome.detail
        assert rig.refresher.fault("pool") is None
        assert isinstance(await rig.refresher.refresh(carol), Ready)
        assert rig.stored("bob").pending_refresh is None

    async def test_for_the_same_account_is_its_own(self, rig: Rig) -> None:
        """That it was accepted for this one before says nothing."""
        alice = await rig.add()
        assert isinstance(await rig.refresher.refresh(alice), Ready)
        rig.transport.script.append(REFUSED)
        assert isinstance(await rig.refresher.refresh(alice, force=True), Misconfigured)

    async def test_ten_minutes_later_it_is_its_own_again(self, rig: Rig) -> None:
        """Nobody knows by then."""
        alice, bob = await rig.add(), await rig.add("bob")
        assert isinstance(await rig.refresher.refresh(alice), Ready)
        await rig.clock.advance(601)
        rig.transport.script.append(REFUSED)
        assert isinstance(await rig.refresher.refresh(bob), Misconfigured)

    async def test_what_another_process_was_granted_counts(self, rig: Rig) -> None:
        """As soon as the store tells."""
        alice, bob = await rig.add(), await rig.add("bob")
        granted = await rig.process().refresh(alice)
        assert isinstance(granted, Ready)
        rig.refresher.followed(alice, granted.account)
        rig.transport.script.append(REFUSED)
        assert isinstance(await rig.refresher.refresh(bob), Unavailable)

    async def test_of_the_first_that_is_asked_another_one_tells_whose_fault_it_is(self, rig: Rig) -> None:
        """Nobody was accepted yet: one more is asked before the rest are held back, and the first one cools alone."""
        alice, bob, carol = [await rig.add(name) for name in ("alice", "bob", "carol")]
        rig.transport.script.append(REFUSED)
        assert isinstance(await rig.refresher.refresh(alice), Misconfigured)
        assert isinstance(await rig.refresher.refresh(alice), Misconfigured)  # who told of it is not asked again
        assert len(rig.transport.posts) == 1
        assert isinstance(await rig.refresher.refresh(bob), Ready)
        assert rig.refresher.fault("pool") is None
        assert isinstance(await rig.refresher.refresh(carol), Ready)
        rig.transport.script.append(REFUSED)
        outcome = await rig.refresher.refresh(alice)
        assert isinstance(outcome, Unavailable)
        assert outcome.cause == "account"

    @pytest.mark.parametrize("second", (REFUSED, reply(503, {})))
    async def test_one_other_is_asked_and_no_more(self, rig: Rig, second: Answer) -> None:
        """Two accounts say the same, or the second has no answer: the rest are held back until it is due again."""
        alice, bob, carol = [await rig.add(name) for name in ("alice", "bob", "carol")]
        rig.transport.script.extend((REFUSED, second))
        for account in (alice, bob, carol, alice, carol):
            assert not isinstance(await rig.refresher.refresh(account), Ready)
        assert len(rig.transport.posts) == 2
        await rig.clock.advance(61)
        assert isinstance(await rig.refresher.refresh(carol), Ready)

    async def test_invalid_client_is_never_one_accounts(self, rig: Rig) -> None:
        """Nobody else is asked."""
        alice, bob = await rig.add(), await rig.add("bob")
        rig.transport.script.append(reply(401, {"error": "invalid_client"}))
        assert isinstance(await rig.refresher.refresh(alice), Misconfigured)
        assert isinstance(await rig.refresher.refresh(bob), Misconfigured)
        assert len(rig.transport.posts) == 1


class TestARefusedToken:
    async def test_a_caller_does_not_get_it_from_a_flight_that_ignores_it(self, rig: Rig) -> None:
        """Who brings a token that was refused asks again when the flight under way hands it back, and so do others."""
        account = await rig.add()
        refused = "refused-by-the-upstream"
        gate = asyncio.Event()
        rig.transport.meanwhile = gate.wait
        rig.transport.script.append(
            reply(200, {"access_token": refused, "refresh_token": account.token.refresh_token, "expires_in": 60})
        )
        first = asyncio.ensure_future(rig.refresher.refresh(account))
        await rig.clock.settle()
        callers = [asyncio.ensure_future(rig.refresher.refresh(account, rejected=refused)) for _ in range(50)]
        await rig.clock.settle()
        assert len(rig.transport.posts) == 1
        gate.set()
        assert _token(await first) == refused
        outcomes = await asyncio.gather(*callers)
        assert len({_token(outcome) for outcome in outcomes}) == 1
        assert _token(outcomes[0]) != refused
        assert len(rig.transport.posts) == 2

    async def test_a_provider_that_gives_it_again_is_not_asked_for_ever(self, rig: Rig) -> None:
        """One flight that knew of it is enough."""
        account = await rig.add()
        again = reply(200, {"access_token": "same", "refresh_token": account.token.refresh_token, "expires_in": 60})
        rig.transport.script.extend([again] * 9)
        gate = asyncio.Event()
        rig.transport.meanwhile = gate.wait
        first = asyncio.ensure_future(rig.refresher.refresh(account))
        await rig.clock.settle()
        callers = [asyncio.ensure_future(rig.refresher.refresh(account, rejected="same")) for _ in range(20)]
        await rig.clock.settle()
        gate.set()
        await asyncio.gather(first, *callers)
        assert len(rig.transport.posts) == 2

    async def test_callers_with_different_ones_come_to_an_end(self, rig: Rig) -> None:
        """Each of them asks at most a few times."""
        account = await rig.add()
        again = reply(200, {"access_token": "a", "refresh_token": account.token.refresh_token, "expires_in": 60})
        rig.transport.script.extend([again] * 50)
        callers = [
            asyncio.ensure_future(rig.refresher.refresh(account, rejected=rejected)) for rejected in "abababababab"
        ]
        await asyncio.gather(*callers)
        assert len(rig.transport.posts) <= 4


def _token(outcome: Outcome) -> str | None:
    assert isinstance(outcome, Ready)
    return outcome.account.token.access_token


class OnlyFor(Transport):
    """Refuses the client for one account, whoever asks."""

    def handle(self, form: Mapping[str, str]) -> Answer:
        return REFUSED if form["refresh_token"].endswith("-of-bob") else super().handle(form)


async def test_one_accounts_answer_does_not_block_the_others(tmp_path: Path, clock: FakeClock) -> None:
    """It cools and says why; the pool is not at fault, and the others are refreshed for hours."""
    endpoint = OnlyFor(RotatingProvider(expires_in=600, monotonic=clock.monotonic))
    home = idle_home(tmp_path, clock, endpoint.provider, "alice", "bob", "carol")
    async with idle_gateway(home, clock, endpoint) as gateway:
        for name in ("alice", "carol"):
            member = gateway.snapshot.pools["p"].get(AccountKey.of("p", name))
            assert member is not None
            await gateway.refresher.refresh(member.account, force=True)
        for _ in range(60):
            await turn(clock, 60)
            assert gateway.refresher.fault("p") is None
            assert [state(gateway, name) for name in ("alice", "carol")] == [State.READY] * 2
        (row,) = [row for row in live_rows(gateway) if row.name == "bob"]
        assert row.state is State.COOLING
        assert "the token endpoint rejects the client: unauthorized_client" in row.reason
        assert not read_account(home, "p/bob").get("disabled")
