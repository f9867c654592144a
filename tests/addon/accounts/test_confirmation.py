"""An `invalid_grant` is confirmed by a second answer, off the request's way, before it disables an account."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, PendingRefresh, fingerprint
from authpool.accounts.confirmation import BEING_CONFIRMED
from authpool.accounts.document import account_from_document, document_from_account
from authpool.config.pool_config import ClientConfig
from authpool.errors import RefusedError
from authpool.gateway.service import Service
from authpool.pool.pool import State
from authpool.refresh.outcome import Dead, Gone, Ready, Rejected, Unavailable
from authpool.requests.account_picker import PooledRequest
from authpool.rotation.rotation import RotationRequest
from authpool.store.folder.store import FolderStore
from authpool.verbs.account_rows import live_rows
from authpool.verbs.operations import Operations
from support.clock import FakeClock
from support.crashing_process import inline
from support.home import read_account, write_account
from support.idle_gateway import idle_gateway, idle_home, sign_in, state, turn
from support.rotating_provider import RotatingProvider
from support.transport import ALICE, INVALID_GRANT, LOST, Rig, Transport, reply
from support.world import pool_config


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Rig:
    return Rig(tmp_path / "accounts", clock)


async def rejected(rig: Rig, **fields: object) -> Account:
    """An account that was rejected once, and now waits."""
    account = await rig.add(**fields)
    rig.transport.script.append(INVALID_GRANT)
    outcome = await rig.refresher.refresh(account)
    assert isinstance(outcome, Rejected)
    assert 2 <= outcome.confirm_at - rig.clock.time() <= 4
    return account


class TestTheProtocol:
    async def test_the_first_one_disables_nobody(self, rig: Rig) -> None:
        """It is on record, as no intent that is left over; before two seconds have passed nothing is presented."""
        account = await rejected(rig)
        pending = rig.stored().pending_refresh
        assert pending is not None
        assert pending.rejected_at == rig.clock.time()
        assert not pending.unanswered
        assert not rig.stored().disabled
        await rig.clock.advance(1.9)
        for refresher in (rig.refresher, rig.process()):
            assert isinstance(await refresher.refresh(account), Rejected)
        assert len(rig.transport.posts) == 1

    async def test_the_second_one_does(self, rig: Rig) -> None:
        """In any process, by the provider's word of the second time."""
        account = await rejected(rig)
        await rig.clock.advance(3)
        rig.transport.script.append(INVALID_GRANT)
        assert isinstance(await rig.process().refresh(account), Dead)
        assert (rig.stored().disabled_reason or "").startswith("invalid_grant")
        assert rig.stored().pending_refresh is None
        assert [event.kind for event in rig.events] == ["disabled"]

    async def test_one_that_passes_is_forgotten(self, rig: Rig) -> None:
        """The pair of the second answer is kept."""
        account = await rejected(rig)
        await rig.clock.advance(3)
        assert isinstance(await rig.refresher.refresh(account), Ready)
        assert rig.stored().pending_refresh is None
        assert rig.provider.is_current(rig.stored().token.refresh_token or "")
        assert rig.transport.presented == [account.token.refresh_token] * 2

    async def test_the_confirmation_has_an_intent_of_its_own(self, rig: Rig) -> None:
        """On disk before its POST: should its answer get lost, that is known."""
        account = await rejected(rig)
        await rig.clock.advance(3)
        seen: list[PendingRefresh | None] = []
        rig.transport.meanwhile = lambda: seen.append(rig.stored().pending_refresh)
        rig.transport.script.append(reply(429))
        assert isinstance(await rig.refresher.refresh(account), Unavailable)
        assert [pending is not None and pending.unanswered for pending in seen] == [True]

    @pytest.mark.parametrize("answer", (reply(429), reply(401, {"error": "invalid_client"})))
    async def test_an_answer_that_says_nothing_lets_it_wait_on(self, rig: Rig, answer: object) -> None:
        """What was known before is known afterwards, and no more."""
        account = await rejected(rig)
        before = rig.stored().pending_refresh
        await rig.clock.advance(3)
        rig.transport.script.append(answer)  # type: ignore[arg-type]
        await rig.refresher.refresh(account)
        assert rig.stored().pending_refresh == before
        await rig.clock.advance(70)
        rig.transport.script.append(INVALID_GRANT)
        assert isinstance(await rig.refresher.refresh(account), Dead)
        assert (rig.stored().disabled_reason or "").startswith("invalid_grant")

    async def test_a_lost_answer_to_the_confirmation_is_a_lost_rotation(self, rig: Rig) -> None:
        """The server may have taken the token the second time."""
        account = await rejected(rig)
        await rig.clock.advance(3)
        rig.transport.script.extend([rig.transport.handle_and_lose, LOST, LOST])
        task = asyncio.ensure_future(rig.refresher.refresh(account))
        while not task.done():
            await rig.clock.advance(1)
        assert isinstance(await task, Unavailable)
        assert isinstance(await rig.process().refresh(account), Dead)
        assert (rig.stored().disabled_reason or "").startswith("rotation_lost:")

    @pytest.mark.parametrize("ambiguous", (False, True))
    async def test_a_crash_in_between(self, rig: Rig, *, ambiguous: bool) -> None:
        """Whoever finds it confirms it; during the confirmation's POST it is a lost answer."""
        account = await rejected(rig)
        pending = rig.stored().pending_refresh
        assert pending is not None
        await rig.put(replace(rig.stored(), pending_refresh=replace(pending, unanswered=ambiguous)))
        rig.provider.revoke("alice")
        await rig.clock.advance(3)
        assert isinstance(await rig.process().refresh(account), Dead)
        reason = rig.stored().disabled_reason or ""
        assert reason.startswith("rotation_lost:" if ambiguous else "invalid_grant")

    async def test_two_processes_confirm_it_once(self, rig: Rig) -> None:
        """The second finds the verdict."""
        account = await rejected(rig)
        await rig.clock.advance(3)
        rig.provider.revoke("alice")
        outcomes = await asyncio.gather(rig.refresher.refresh(account), rig.process().refresh(account))
        assert [type(outcome) for outcome in outcomes] == [Dead, Dead]
        assert len(rig.transport.posts) == 2

    async def test_a_re_add_in_between(self, rig: Rig) -> None:
        """The new credential is asked for the first time."""
        account = await rejected(rig)
        added = await rig.add(generation=5)
        assert isinstance(await rig.refresher.refresh(account), Ready)
        assert rig.transport.presented[-1] == added.token.refresh_token

    async def test_a_re_add_during_the_confirmation(self, rig: Rig) -> None:
        """The verdict is not written over it."""
        account = await rejected(rig)
        await rig.clock.advance(3)
        rig.transport.script.append(INVALID_GRANT)
        rig.transport.meanwhile = rig.add
        await rig.refresher.refresh(account)
        assert not rig.stored().disabled
        assert rig.stored().rejected_at() is None

    async def test_another_client_is_told_for_the_first_time(self, rig: Rig) -> None:
        """The pool was configured anew meanwhile: at once, and nothing confirms what the old client was told."""
        account = await rejected(rig)
        rig.pools["pool"] = pool_config(client=ClientConfig(client_id="other"))
        rig.transport.script.append(INVALID_GRANT)
        assert isinstance(await rig.refresher.refresh(account), Rejected)
        assert len(rig.transport.posts) == 2

    async def test_a_pause_and_a_removal(self, rig: Rig) -> None:
        """The operator's switch is not touched; what is removed is gone."""
        account = await rejected(rig)
        await rig.operator.update(ALICE, lambda current: current and current.with_paused(1))
        await rig.clock.advance(3)
        rig.transport.script.append(INVALID_GRANT)
        assert isinstance(await rig.refresher.refresh(account), Dead)
        assert rig.stored().proxy_disabled
        account = await rejected(rig)
        await rig.operator.update(ALICE, lambda _: None)
        await rig.clock.advance(3)
        assert isinstance(await rig.refresher.refresh(account), Gone)

    async def test_an_operator_waits_for_the_verdict(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        """And is told that he does."""
        account = await rig.add()
        rig.provider.revoke("alice")
        asked = rig.forced(account)
        await rig.clock.settle()
        assert not asked.done()
        assert "the token endpoint is asked once more" in caplog.text
        for _ in range(5):
            await rig.clock.advance(1)
        assert isinstance(await asked, Dead)
        assert len(rig.transport.posts) == 2

    async def test_others_do_not_wait_with_an_operator(self, rig: Rig) -> None:
        """A request of the moment is told at once that the account waits."""
        account = await rig.add()
        rig.provider.revoke("alice")
        asked = rig.forced(account)
        await rig.clock.settle()
        assert isinstance(await rig.refresher.refresh(account), Rejected)
        asked.cancel()

    async def test_what_needs_no_second_answer(self, rig: Rig) -> None:
        """A person must sign in; or it was disabled before, and is asked by force."""
        account = await rig.add()
        rig.transport.script.append(reply(400, {"error": "interaction_required"}))
        assert isinstance(await rig.refresher.refresh(account), Dead)
        rig.transport.script.append(INVALID_GRANT)
        assert isinstance(await rig.refresher.refresh(account, force=True), Dead)
        assert len(rig.transport.posts) == 2

    @pytest.mark.parametrize("seconds", (-86400, 86400))
    async def test_a_clock_that_is_set(self, rig: Rig, seconds: int) -> None:
        """It does not wait for a day."""
        account = await rejected(rig)
        rig.clock.jump(seconds)
        await rig.clock.advance(4)
        rig.transport.script.append(INVALID_GRANT)
        assert isinstance(await rig.refresher.refresh(account), Dead)


async def turned_until(clock: FakeClock, ends: Callable[[], object]) -> None:
    """Turn the clock by half a second at a time; a test that waits longer than a minute has failed."""
    for _ in range(120):
        if ends():
            return
        await turn(clock, 0.5)
    raise AssertionError("it did not come to that")


class TestAGateway:
    @pytest.fixture
    def transport(self, clock: FakeClock) -> Transport:
        return Transport(RotatingProvider(monotonic=clock.monotonic))

    @pytest.fixture
    def home(self, tmp_path: Path, clock: FakeClock, transport: Transport) -> Path:
        """Alice's access token is over, Bob's is not."""
        home = idle_home(tmp_path, clock, transport.provider, "alice", "bob")
        end_token(home, clock, "alice")
        return home

    async def test_the_request_goes_on_at_once(
        self, home: Path, clock: FakeClock, transport: Transport, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With the next account; the one that was rejected is cooling, and says why, and is disabled seconds later."""
        for name in ("alice", "bob"):
            sign_in(home, clock, transport.provider, name)
        async with idle_gateway(home, clock, transport) as gateway:
            transport.provider.revoke("alice")
            end_token(home, clock, "alice")
            began = clock.monotonic()
            await gateway.catch_up()
            pooled_requests = [await acquire(gateway) for _ in range(4)]
            assert {pooled.address for pooled in pooled_requests} == {"p/bob"}
            assert clock.monotonic() == began
            assert "Token refresh failed (p/alice): invalid_grant, trying next account" in caplog.text
            (row,) = [row for row in live_rows(gateway) if row.name == "alice"]
            assert (row.state, row.reason) == (State.COOLING, BEING_CONFIRMED)
            assert row.until is not None
            await turned_until(clock, lambda: state(gateway, "alice") is State.DISABLED)
            assert 2 <= clock.monotonic() - began <= 5
            assert len(transport.posts) == 2
            assert "Disabling account p/alice due to invalid_grant" in caplog.text

    async def test_one_that_passes_is_back(self, home: Path, clock: FakeClock, transport: Transport) -> None:
        """With nobody's doing, also from a live access token that was out of the rotation meanwhile."""
        transport.script.append(INVALID_GRANT)
        async with idle_gateway(home, clock, transport) as gateway:
            await turned_until(clock, lambda: len(transport.posts) == 1)
            assert state(gateway, "alice") is State.COOLING
            await turned_until(clock, lambda: len(transport.posts) == 2)
            assert state(gateway, "alice") is State.READY
            member = gateway.snapshot.pools["p"].get(AccountKey.of("p", "bob"))
            assert member is not None
            transport.script.append(INVALID_GRANT)
            await gateway.refresher.refresh(member.account, rejected=member.account.token.access_token)
            assert state(gateway, "bob") is State.COOLING
            await turned_until(clock, lambda: len(transport.posts) == 4)
            assert state(gateway, "bob") is State.READY

    async def test_a_transient_answer_is_waited_out(self, home: Path, clock: FakeClock, transport: Transport) -> None:
        """It goes on cooling for the same reason."""
        transport.script.extend([INVALID_GRANT, reply(429), reply(429)])
        async with idle_gateway(home, clock, transport) as gateway:
            await turned_until(clock, lambda: len(transport.posts) == 2)
            (row,) = [row for row in live_rows(gateway) if row.name == "alice"]
            assert (row.state, row.reason) == (State.COOLING, BEING_CONFIRMED)
            await turned_until(clock, lambda: state(gateway, "alice") is State.READY)

    async def test_whoever_starts_next_confirms_it(self, home: Path, clock: FakeClock, transport: Transport) -> None:
        """The gateway ended in between."""
        transport.provider.revoke("alice")
        async with idle_gateway(home, clock, transport):
            await turned_until(clock, lambda: len(transport.posts) == 1)
        assert read_account(home, "p/alice")["pending_refresh"]["rejected_at"]
        await clock.advance(600)
        async with idle_gateway(home, clock, transport) as gateway:
            assert state(gateway, "alice") in {State.COOLING, State.DISABLED}
            await turned_until(clock, lambda: state(gateway, "alice") is State.DISABLED)
        assert len(transport.posts) == 2
        assert read_account(home, "p/alice")["disabled_reason"].startswith("invalid_grant")

    async def test_other_processes_see_it(self, home: Path, clock: FakeClock, transport: Transport) -> None:
        """A gateway that follows the home, and the command line."""
        transport.script.append(INVALID_GRANT)
        async with idle_gateway(home, clock, transport) as one, idle_gateway(home, clock, transport) as other:
            await turned_until(clock, lambda: len(transport.posts) == 1)
            await turned_until(clock, lambda: state(one, "alice") is State.COOLING)
            await other.catch_up()
            assert state(other, "alice") is State.COOLING
            service = Service(
                home, {}, clock=clock, endpoint=transport, store=FolderStore(home / "accounts", run=inline)
            )
            (row, _) = await Operations(service).accounts()
            assert (row.state, row.reason) == (State.COOLING, BEING_CONFIRMED)
            await turned_until(clock, lambda: len(transport.posts) == 2)
            await turned_until(clock, lambda: state(one, "alice") is State.READY)
            await other.catch_up()
            assert state(other, "alice") is State.READY
            await turn(clock, 10)
            assert len(transport.posts) == 2

    async def test_the_command_line_ends_with_the_verdict(
        self, home: Path, clock: FakeClock, transport: Transport
    ) -> None:
        """It waits for the second answer itself."""
        transport.provider.revoke("alice")
        service = command_line(home, clock, transport)
        asked = asyncio.ensure_future(Operations(service).refresh("p/alice"))
        await turned_until(clock, asked.done)
        with pytest.raises(RefusedError, match="it is disabled now"):
            await asked
        await service.stop()

    async def test_a_reload_in_between(self, home: Path, clock: FakeClock, transport: Transport) -> None:
        """The pool that is swapped in knows it too."""
        transport.provider.revoke("alice")
        async with idle_gateway(home, clock, transport) as gateway:
            await turned_until(clock, lambda: len(transport.posts) == 1)
            await gateway.reload()
            assert state(gateway, "alice") is State.COOLING
            await turned_until(clock, lambda: state(gateway, "alice") is State.DISABLED)
            assert len(transport.posts) == 2


def command_line(home: Path, clock: FakeClock, transport: Transport) -> Service:
    """A service that is not started, as the command line has it."""
    store = FolderStore(home / "accounts", run=inline)
    return Service(home, {}, clock=clock, endpoint=transport, store=store)


def end_token(home: Path, clock: FakeClock, name: str) -> None:
    """Let the account's access token be over."""
    document = read_account(home, f"p/{name}")
    document["token"]["expires_at"] = int(clock.time()) - 1
    write_account(home, f"p/{name}", document)


async def acquire(gateway: Service) -> PooledRequest:
    request = RotationRequest(method="GET", host="api.test", path="/")
    pooled = PooledRequest(pool="p", rotation="round_robin", request=request, max_accounts=3)
    await gateway.picker.acquire(pooled)
    assert pooled.refusal is None
    return pooled


def test_keys_beside_the_intent_survive() -> None:
    """In its file, whatever another version or a person wrote there."""
    table = {"fingerprint": fingerprint("r"), "started_at": 5, "rejected_at": 7, "client": "c", "note": "mine"}
    account = account_from_document("p", "a", {"token": {"refresh_token": "r"}, "pending_refresh": table})
    assert account.rejected_at() == 7
    assert document_from_account(account)["pending_refresh"] == table
