"""The refresh protocol, rule by rule, on a real folder with a provider that rotates and punishes reuse."""

import asyncio
import errno
import logging
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from authpool.accounts.account import Account, OAuthClient, PendingRefresh, Token, fingerprint
from authpool.config.pool_config import ClientConfig
from authpool.oauth.verdict import Answer, NotSent
from authpool.refresh.outcome import Dead, Gone, Misconfigured, Outcome, Ready, Rejected, Unavailable
from authpool.store.folder.store import FolderStore
from support import refresh_process
from support.answers import Hang
from support.clock import FakeClock
from support.crashing_process import inline
from support.exchange import Answer as WireAnswer
from support.rotating_provider import RotatingProvider
from support.token_endpoint import Form, ScriptedTokenEndpoint
from support.transport import ALICE, INVALID_GRANT, LOST, Rig, reply
from support.world import pool_config


@pytest.fixture
def rig(tmp_path: Path, clock: FakeClock) -> Rig:
    """An empty pool; `add` puts accounts into it."""
    return Rig(tmp_path / "accounts", clock)


async def turning(clock: FakeClock, task: "asyncio.Task[Outcome]") -> Outcome:
    """Turn the clock, second by second, until a refresh is done."""
    for _ in range(120):
        if task.done():
            break
        await clock.advance(1)
        await asyncio.sleep(0.001)
    return await task


async def refresh(rig: Rig, account: Account, **how: object) -> Outcome:
    return await turning(rig.clock, asyncio.ensure_future(rig.refresher.refresh(account, **how)))  # type: ignore[arg-type]


async def verdict(rig: Rig, account: Account) -> Outcome:
    """Refresh, and once more where a rejection is to be confirmed."""
    outcome = await refresh(rig, account)
    if not isinstance(outcome, Rejected):
        return outcome
    await rig.clock.advance(3)
    return await refresh(rig, account)


class TestOneFlightPerAccount:
    async def test_a_thousand_callers_cause_one_post(self, rig: Rig) -> None:
        """They all get the one new token."""
        account = await rig.add()
        outcomes = await asyncio.gather(*(rig.refresher.refresh(account) for _ in range(1000)))
        assert len(rig.transport.posts) == 1
        assert {o.account.token.access_token for o in outcomes if isinstance(o, Ready)} == {
            rig.stored().token.access_token
        }
        assert len(rig.settled) == 1

    async def test_those_who_ask_by_force_share_the_next_flight(self, rig: Rig) -> None:
        """The one under way is not theirs; the one after it is that of all of them, and the end waits for it."""
        account = await rig.add()
        gate = asyncio.Event()
        rig.transport.meanwhile = gate.wait
        first = asyncio.ensure_future(rig.refresher.refresh(account))
        await rig.clock.settle()
        others = [asyncio.ensure_future(rig.refresher.refresh(account, force=True)) for _ in range(3)]
        await rig.clock.settle()
        assert len(rig.transport.posts) == 1
        rig.transport.meanwhile = None
        gate.set()
        outcomes = await asyncio.gather(first, *others)
        assert len(rig.transport.posts) == 2
        assert all(isinstance(outcome, Ready) for outcome in outcomes)
        assert rig.provider.is_current(rig.stored().token.refresh_token or "")

    async def test_a_caller_that_leaves_does_not_orphan_the_rotation(self, rig: Rig) -> None:
        """The only caller is cancelled while the POST is under way; the new pair is stored all the same."""
        account = await rig.add()
        gate, sent = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            sent.set()
            await gate.wait()

        rig.transport.meanwhile = hold
        caller = asyncio.ensure_future(rig.refresher.refresh(account))
        await sent.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert rig.refresher.refreshing(ALICE)
        gate.set()
        await rig.refresher.aclose()
        assert rig.provider.is_current(rig.stored().token.refresh_token or "")
        assert rig.stored().generation == 1

    async def test_settled_that_raises_spoils_nothing(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        """Callers get their outcome, and the log says what happened."""
        account = await rig.add()
        rig.settled = None  # type: ignore[assignment]
        assert isinstance(await rig.refresher.refresh(account), Ready)
        assert "could not be applied" in caplog.text


class TestLockAndReRead:
    async def test_two_processes_one_post(self, rig: Rig) -> None:
        """The second finds what the first has stored, and adopts it."""
        account = await rig.add()
        first, second = await asyncio.gather(rig.refresher.refresh(account), rig.process().refresh(account))
        assert isinstance(first, Ready)
        assert isinstance(second, Ready)
        assert (first.posted, second.posted) in {(True, False), (False, True)}
        assert first.account.token == second.account.token
        assert len(rig.transport.posts) == 1

    async def test_a_token_that_was_rejected_is_not_adopted(self, rig: Rig) -> None:
        """What is stored is live, and is the very token an upstream refused."""
        account = await rig.add()
        first = await rig.refresher.refresh(account)
        assert isinstance(first, Ready)
        again = await rig.refresher.refresh(account, rejected=first.account.token.access_token)
        assert isinstance(again, Ready)
        assert again.posted

    async def test_a_lock_whose_holder_hangs_ends_the_wait(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """After the patience for locks the flight is over, and the holder is not disturbed."""
        monkeypatch.setattr("authpool.refresh.exchange.LOCK_SECONDS", 0.05)
        account = await rig.add()
        async with rig.operator.hold(ALICE):
            outcome = await rig.refresher.refresh(account)
        assert isinstance(outcome, Unavailable)
        assert outcome.cause == "store"
        assert rig.transport.posts == []
        assert isinstance(await rig.refresher.refresh(account), Ready)

    async def test_real_processes_refresh_once(self, tmp_path: Path, clock: FakeClock) -> None:
        """Four processes at the same moment: one POST, three adopt, and the grant is alive."""
        provider = RotatingProvider()
        rig = Rig(tmp_path, clock, provider)
        await rig.add()
        async with ScriptedTokenEndpoint(provider) as endpoint:
            processes = [refresh_process.start(tmp_path, endpoint.url) for _ in range(4)]
            told = await asyncio.to_thread(_go, processes)
            assert sorted(told) == ["adopted", "adopted", "adopted", "posted"]
            assert len(endpoint.received) == 1
        assert provider.is_current(rig.stored().token.refresh_token or "")

    async def test_a_killed_process_leaves_intent_and_lets_go(self, tmp_path: Path, clock: FakeClock) -> None:
        """SIGKILL with the POST under way: the next process gets the lock, and knows that a refresh was cut off."""
        provider = RotatingProvider(rotate=False)
        rig = Rig(tmp_path, clock, provider)
        account = await rig.add()

        def first_hangs(number: int, form: Form) -> WireAnswer:
            return provider(number, form) if number else Hang()

        async with ScriptedTokenEndpoint(first_hangs) as endpoint:
            victim = refresh_process.start(tmp_path, endpoint.url)
            going = asyncio.ensure_future(asyncio.to_thread(_go, [victim]))
            async with asyncio.timeout(30):
                while not endpoint.received:
                    await asyncio.sleep(0.01)
            victim.send_signal(signal.SIGKILL)
            assert await going == [""]
            pending = rig.stored().pending_refresh
            assert pending is not None
            assert pending.fingerprint == fingerprint(account.token.refresh_token or "")
            heir = refresh_process.start(tmp_path, endpoint.url)
            assert await asyncio.to_thread(_go, [heir]) == ["posted"]
        assert rig.stored().pending_refresh is None


def _go(processes: list) -> list[str]:  # type: ignore[type-arg]
    """Let processes begin at once; their last words."""
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        return [process.communicate(timeout=30)[0].strip() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


class TestIntentFirst:
    async def test_the_intent_is_on_disk_before_the_post(self, rig: Rig) -> None:
        """Seen from inside the endpoint; and gone with the write that stores the new pair."""
        account = await rig.add()
        seen: list[PendingRefresh | None] = []
        rig.transport.meanwhile = lambda: seen.append(rig.stored().pending_refresh)
        await rig.refresher.refresh(account)
        token = account.token.refresh_token or ""
        assert seen == [
            PendingRefresh(fingerprint=fingerprint(token), started_at=int(rig.clock.time()), account=account.address)
        ]
        assert rig.stored().pending_refresh is None

    async def test_no_intent_no_post(self, rig: Rig) -> None:
        """A store that can't take the intent keeps the refresh token from being presented."""
        account = await rig.add()
        rig.failing.error = OSError(errno.ENOSPC, "No space left on device")
        outcome = await rig.refresher.refresh(account)
        assert isinstance(outcome, Unavailable)
        assert outcome.cause == "store"
        assert rig.transport.posts == []

    async def test_a_left_over_intent_of_another_token_is_ignored(self, rig: Rig) -> None:
        """It tells nothing about the token that is stored."""
        account = await rig.add(pending_refresh=PendingRefresh(fingerprint="00000000", started_at=1))
        rig.provider.revoke("alice")
        assert isinstance(await verdict(rig, account), Dead)
        assert (rig.stored().disabled_reason or "").startswith("invalid_grant")


class TestWriteThenPublish:
    async def test_the_new_pair_is_stored_before_it_is_told(self, rig: Rig) -> None:
        """The outcome is what the file says; generation and event tell that it rotated."""
        account = await rig.add()
        outcome = await rig.refresher.refresh(account)
        assert isinstance(outcome, Ready)
        assert outcome.account == rig.stored()
        assert outcome.account.generation == account.generation + 1
        assert outcome.account.token.expires_at == int(rig.clock.time()) + 3600
        assert [event.kind for event in rig.events] == ["rotated"]

    async def test_a_reply_without_a_refresh_token_keeps_the_old(self, rig: Rig) -> None:
        """RFC 6749 §6."""
        account = await rig.add()
        rig.transport.script.append(reply(200, {"access_token": "fresh", "expires_in": "60"}))
        await rig.refresher.refresh(account)
        assert rig.stored().token.refresh_token == account.token.refresh_token
        assert rig.stored().token.access_token == "fresh"
        assert [event.kind for event in rig.events] == ["refreshed"]

    @pytest.mark.parametrize(
        "error",
        (
            OSError(errno.ENOSPC, "No space left on device"),
            OSError(errno.EROFS, "Read-only"),
            RuntimeError("shut down"),
        ),
        ids=["full", "read-only", "unexpected"],
    )
    async def test_a_failed_write_keeps_pair_and_lock(
        self, rig: Rig, error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The spent token is presented by nobody, the new one is served from memory, and written when that works."""
        account = await rig.add()

        def fail() -> None:
            rig.failing.error = error

        rig.transport.meanwhile = fail
        outcome = await rig.refresher.refresh(account)
        assert isinstance(outcome, Ready)
        assert "can't be written" in caplog.text
        assert rig.stored().token.refresh_token == account.token.refresh_token
        from_memory = await rig.refresher.refresh(account)
        assert isinstance(from_memory, Ready)
        assert from_memory.account.token == outcome.account.token
        other = asyncio.ensure_future(rig.process().refresh(account))
        for _ in range(5):
            await rig.clock.advance(5)
        assert not other.done()
        assert len(rig.transport.posts) == 1
        rig.failing.error = None
        await rig.clock.advance(10)
        assert rig.stored().token == outcome.account.token
        adopted = await other
        assert isinstance(adopted, Ready)
        assert not adopted.posted
        assert isinstance(await refresh(rig, outcome.account), Ready)
        assert rig.transport.presented == [account.token.refresh_token, outcome.account.token.refresh_token]

    async def test_the_last_moment_is_used_to_write(self, rig: Rig) -> None:
        """The disk is back just before the gateway stops."""
        account = await rig.add()
        rig.transport.meanwhile = lambda: setattr(rig.failing, "error", OSError(errno.ENOSPC, "full"))
        outcome = await rig.refresher.refresh(account)
        assert isinstance(outcome, Ready)
        rig.failing.error = None
        await rig.refresher.aclose()
        assert rig.stored().token == outcome.account.token

    async def test_nothing_begins_once_the_end_has_begun(self, rig: Rig) -> None:
        """A refresh that starts while the gateway stops would be cut off between the POST and the write."""
        account = await rig.add()
        await rig.refresher.aclose()
        assert isinstance(await rig.refresher.refresh(account), Unavailable)
        assert rig.transport.posts == []

    async def test_a_spent_token_that_an_editor_brings_back_is_not_presented(
        self, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The file was loaded before a rotation and saved after it: its other edits stay, its old token goes."""
        account = await rig.add()
        first = await rig.refresher.refresh(account)
        assert isinstance(first, Ready)
        saved = replace(account, proxy_disabled=True)
        await rig.operator.update(account.key, lambda _: saved)
        assert isinstance(await rig.refresher.refresh(saved, force=True), Ready)
        assert rig.transport.presented == [account.token.refresh_token, first.account.token.refresh_token]
        assert rig.stored().proxy_disabled
        assert "held a spent refresh token again" in caplog.text

    async def test_an_editor_that_saves_during_a_refresh_loses_no_token(self, rig: Rig) -> None:
        """The file of two rotations ago is there when the answer comes: the new pair takes its place."""
        oldest = await rig.add()
        middle = await rig.refresher.refresh(oldest)
        assert isinstance(middle, Ready)
        rig.transport.meanwhile = lambda: rig.operator.update(
            oldest.key, lambda _: replace(oldest, proxy_disabled=True)
        )
        assert isinstance(await rig.refresher.refresh(middle.account, force=True), Ready)
        assert rig.provider.is_current(rig.stored().token.refresh_token or "")
        assert rig.stored().generation == middle.account.generation + 1
        assert rig.stored().proxy_disabled

    async def test_what_another_process_spent_is_put_back_too(self, rig: Rig) -> None:
        """This one followed the store, and so it knows."""
        account = await rig.add()
        first = await rig.process().refresh(account)
        assert isinstance(first, Ready)
        assert not rig.refresher.followed(account, first.account)
        await rig.operator.update(account.key, lambda _: account)
        assert rig.refresher.followed(first.account, account)
        await rig.refresher.heal(account.key)
        assert rig.stored().token == first.account.token
        rig.refresher.removed(account.key)
        assert not rig.refresher.followed(first.account, account)

    async def test_a_pair_that_is_lost_at_the_end_is_said_so(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        """Nothing could be done, but the operator knows."""
        account = await rig.add()
        rig.transport.meanwhile = lambda: setattr(rig.failing, "error", OSError(errno.ENOSPC, "full"))
        await rig.refresher.refresh(account)
        await rig.refresher.aclose()
        assert "pool/alice could never be written and is lost now" in caplog.text

    @pytest.mark.parametrize("odd", ({"scope": "\ud800"}, {"token_type": "\udfff"}, {"scope": 7}, {"error": "none"}))
    async def test_oddities_beside_the_tokens_lose_nothing(self, rig: Rig, odd: dict[str, object]) -> None:
        """What else is in the reply is dropped when no file can hold it; the pair is stored."""
        account = await rig.add()
        pair = {"access_token": "fresh", "refresh_token": "new one", "expires_in": 60}
        rig.transport.script.append(reply(200, pair | odd))
        assert isinstance(await rig.refresher.refresh(account), Ready)
        assert rig.stored().token.refresh_token == "new one"


ROWS: list[tuple[Answer, type[Outcome], bool]] = [
    (reply(400, {"error": "invalid_client"}), Misconfigured, False),
    (reply(401, {"error": "unauthorized_client"}), Misconfigured, False),
    (reply(400, {"error": "invalid_scope"}), Misconfigured, False),
    (reply(400, {"error": "unsupported_grant_type"}), Misconfigured, False),
    (reply(400, {"error": {"code": "invalid_request"}}), Misconfigured, False),
    (reply(200, {"ok": False, "error": "invalid_client"}), Misconfigured, False),
    (reply(408, {"error": "invalid_grant"}), Unavailable, False),
    (reply(429, {"error": "invalid_grant"}, "120"), Unavailable, False),
    (reply(500, {"error": "invalid_grant"}), Unavailable, False),
    (reply(503, {"error": "invalid_grant"}, "120"), Unavailable, False),
    (reply(502, {"error": "invalid_grant"}), Unavailable, True),
    (reply(504, b"<html>", "120"), Unavailable, True),
    (reply(400, {"error": "temporarily_unavailable"}), Unavailable, False),
    (reply(400, {"error": "slow_down"}), Unavailable, False),
    (NotSent(detail="no connection"), Unavailable, False),
    (reply(302), Unavailable, False),
    (reply(200, b"<html>"), Unavailable, True),
    (reply(200, b""), Unavailable, True),
    (reply(200, {"token_type": "Bearer"}), Unavailable, True),
    (reply(403, b"<html>"), Unavailable, False),
    (reply(401, {"error": "go_away"}), Unavailable, False),
    (reply(400, {"error": "the invalid_grant of old"}), Unavailable, False),
]


class TestErrorsOfTheTokenEndpoint:
    @pytest.mark.parametrize(("answer", "expected", "ambiguous"), ROWS)
    async def test_rows(self, rig: Rig, answer: Answer, expected: type[Outcome], ambiguous: bool) -> None:  # noqa: FBT001
        """None of them disables; the intent stays when the token may have been spent."""
        account = await rig.add()
        rig.transport.script.append(answer)
        outcome = await rig.refresher.refresh(account)
        assert isinstance(outcome, expected)
        assert not rig.stored().disabled
        assert (rig.stored().pending_refresh is not None) == ambiguous
        assert rig.stored().token == account.token
        assert len(rig.transport.posts) == 1

    async def test_retry_after_is_handed_on(self, rig: Rig) -> None:
        """Whoever plans the next refresh hears of it."""
        rig.transport.script.append(reply(429, b"", "120"))
        outcome = await rig.refresher.refresh(await rig.add())
        assert isinstance(outcome, Unavailable)
        assert outcome.retry_after_seconds == 120

    @pytest.mark.parametrize(
        ("body", "reason"),
        (
            ({"error": "interaction_required", "error_description": "MFA"}, "interaction_required: MFA"),
            ({"error": "consent_required"}, "consent_required"),
            ({"error": "invalid_grant", "error_subtype": "invalid_rapt"}, "invalid_rapt: invalid_grant"),
        ),
    )
    async def test_a_person_must_sign_in(self, rig: Rig, body: object, reason: str) -> None:
        """Disabled with the provider's own word, even when an answer was lost before."""
        account = await rig.add()
        rig.transport.script.extend([LOST, reply(400, body)])
        assert isinstance(await refresh(rig, account), Dead)
        assert rig.stored().disabled_reason == reason

    async def test_a_code_is_mapped_by_the_pool(self, rig: Rig) -> None:
        """The provider's own word is kept in the reason."""
        rig.pools["pool"] = pool_config(codes={"bad_refresh_token": "invalid_grant"})
        rig.transport.script.extend([reply(200, {"error": "bad_refresh_token"})] * 2)
        assert isinstance(await verdict(rig, await rig.add()), Dead)
        assert rig.stored().disabled_reason == "invalid_grant (bad_refresh_token)"

    async def test_a_lost_answer_is_asked_for_again_with_the_same_token(self, rig: Rig) -> None:
        """Within the grace window of the provider the identical pair comes."""
        rig.provider.grace_seconds = 10
        account = await rig.add()
        rig.transport.script.append(rig.transport.handle_and_lose)
        assert isinstance(await refresh(rig, account), Ready)
        assert rig.transport.presented == [account.token.refresh_token] * 2
        assert rig.stored().pending_refresh is None

    async def test_a_lost_answer_is_not_asked_for_later_than_ten_seconds(self, rig: Rig) -> None:
        """By then grace windows are closed."""
        account = await rig.add()
        rig.transport.meanwhile = lambda: rig.clock.advance(9.95)
        rig.transport.script.extend([LOST, LOST])
        assert isinstance(await rig.refresher.refresh(account), Unavailable)
        assert len(rig.transport.posts) == 1

    async def test_at_most_three_times(self, rig: Rig) -> None:
        """Then the refresh is over for now."""
        account = await rig.add()
        rig.transport.script.extend([LOST] * 4)
        assert isinstance(await refresh(rig, account), Unavailable)
        assert len(rig.transport.posts) == 3


class TestDisable:
    async def test_a_revoked_account_is_disabled_once(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        """File, event, outcome and log line; nothing is deleted, nothing is asked again."""
        account = await rig.add()
        rig.provider.revoke("alice")
        outcome = await verdict(rig, account)
        assert isinstance(outcome, Dead)
        assert outcome.stored
        stored = rig.stored()
        assert stored.disabled
        assert stored.disabled_at is not None
        assert 0 <= rig.clock.time() - stored.disabled_at <= 2
        assert stored.disabled_reason == "invalid_grant: Token has been expired or revoked."
        assert stored.token == account.token
        assert stored.pending_refresh is None
        assert [event.kind for event in rig.events] == ["disabled"]
        assert (
            "Disabling account pool/alice due to invalid_grant: refresh token likely revoked or expired" in caplog.text
        )
        assert isinstance(await rig.refresher.refresh(account), Dead)
        assert len(rig.transport.posts) == 2

    async def test_b_not_when_the_store_holds_another_token(self, rig: Rig) -> None:
        """Re-added while the old token was being rejected: the new credential is not condemned."""
        account = await rig.add()
        rig.provider.revoke("alice")
        rig.transport.meanwhile = rig.add
        outcome = await rig.refresher.refresh(account)
        assert isinstance(outcome, Unavailable)
        assert not rig.stored().disabled
        rig.transport.meanwhile = None
        assert isinstance(await rig.refresher.refresh(rig.stored()), Ready)

    async def test_b_not_when_the_account_has_another_client(self, rig: Rig) -> None:
        """The rejection was of the old one."""
        account = await rig.add(client=OAuthClient(client_id="old"))
        rig.transport.script.append(INVALID_GRANT)
        other = replace(account, client=OAuthClient(client_id="new"))
        rig.transport.meanwhile = lambda: rig.put(other)
        await rig.refresher.refresh(account)
        assert not rig.stored().disabled

    @pytest.mark.parametrize("settings", ({"token_url": "https://other.test/token"}, {"client": None}))
    async def test_b_not_when_the_pool_was_reconfigured(self, rig: Rig, settings: dict[str, None]) -> None:
        """Client or token endpoint are others now: their word counts, not that of the old ones."""
        account = await rig.add()
        rig.transport.script.append(INVALID_GRANT)
        rig.transport.meanwhile = lambda: rig.pools.update(pool=pool_config(**settings))
        assert isinstance(await rig.refresher.refresh(account), Unavailable)
        assert not rig.stored().disabled
        assert rig.stored().pending_refresh is None

    async def test_a_reconfigured_pool_is_not_blamed(self, rig: Rig) -> None:
        """`invalid_client` about the old client says nothing about the new one."""
        account = await rig.add()
        rig.transport.script.append(reply(401, {"error": "invalid_client"}))
        rig.transport.meanwhile = lambda: rig.pools.update(pool=pool_config(client=ClientConfig(client_id="new")))
        assert isinstance(await rig.refresher.refresh(account), Unavailable)
        assert rig.refresher.fault("pool") is None

    async def test_c_an_answer_lost_on_the_way_is_rotation_lost(
        self, rig: Rig, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The provider rotated, the answer got lost, the retry was taken for reuse: our side lost it."""
        account = await rig.add()
        rig.transport.script.append(rig.transport.handle_and_lose)
        assert isinstance(await verdict(rig, account), Dead)
        assert (rig.stored().disabled_reason or "").startswith("rotation_lost:")
        assert "The gateway, not the user, lost the refresh token of pool/alice" in caplog.text

    async def test_c_an_intent_left_over_at_start_is_rotation_lost(self, rig: Rig) -> None:
        """A process died between the POST and the write."""
        account = await rig.add()
        token = account.token.refresh_token or ""
        await rig.put(replace(account, pending_refresh=PendingRefresh(fingerprint=fingerprint(token), started_at=1)))
        rig.transport.handle({"grant_type": "refresh_token", "refresh_token": token})
        assert isinstance(await verdict(rig, account), Dead)
        assert (rig.stored().disabled_reason or "").startswith("rotation_lost:")

    async def test_c_an_intent_that_an_editor_took_out_of_the_file_is_not_forgotten(self, rig: Rig) -> None:
        """It loaded the file before the refresh, and saved it before the next one."""
        account = await rig.add()
        rig.transport.script.append(lambda form: (rig.transport.handle(form), reply(502, b"<html>"))[1])
        assert isinstance(await rig.refresher.refresh(account), Unavailable)
        assert rig.stored().pending_refresh is not None
        await rig.put(account)
        assert isinstance(await verdict(rig, account), Dead)
        assert (rig.stored().disabled_reason or "").startswith("rotation_lost:")

    async def test_c_what_was_lost_once_stays_lost(self, rig: Rig) -> None:
        """An editor took the verdict out of the file: the next one says the same."""
        account = await rig.add()
        rig.transport.script.append(rig.transport.handle_and_lose)
        assert isinstance(await verdict(rig, account), Dead)
        await rig.put(account)
        assert isinstance(await verdict(rig, account), Dead)
        assert (rig.stored().disabled_reason or "").startswith("rotation_lost:")

    async def test_c_a_gateway_error_after_the_rotation_is_rotation_lost(self, rig: Rig) -> None:
        """A 502 in front of the endpoint swallowed the new pair."""
        account = await rig.add()
        rig.transport.script.append(lambda form: (rig.transport.handle(form), reply(502, b"<html>"))[1])
        assert isinstance(await rig.refresher.refresh(account), Unavailable)
        assert isinstance(await verdict(rig, account), Dead)
        assert (rig.stored().disabled_reason or "").startswith("rotation_lost:")

    async def test_c_an_intent_is_taken_back_when_nothing_was_spent(self, rig: Rig) -> None:
        """A definite answer settles it: what comes later is the user's doing."""
        account = await rig.add()
        rig.transport.script.append(reply(429))
        await rig.refresher.refresh(account)
        rig.provider.revoke("alice")
        await verdict(rig, account)
        assert (rig.stored().disabled_reason or "").startswith("invalid_grant")

    async def test_d_a_storm_disables_no_more_accounts(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        """Several accounts of one client fail at once: the client is suspected, and each is asked once and no more."""
        accounts = [await rig.add(f"user{number}") for number in range(6)]
        rig.transport.script.extend([INVALID_GRANT] * 9)
        outcomes = [await verdict(rig, account) for account in accounts]
        assert [type(outcome) for outcome in outcomes] == [Dead] * 3 + [Misconfigured] * 3
        asked = len(rig.transport.posts)
        assert 7 <= asked <= 9
        for account in accounts[3 : asked - 3]:
            assert isinstance(await rig.refresher.refresh(account), Misconfigured)
        assert len(rig.transport.posts) == asked
        assert "suspect the client" in (rig.refresher.fault("pool") or "")
        assert "suspect the client" in caplog.text

    async def test_d_what_we_lost_ourselves_is_one_of_a_storm_like_any_other(self, rig: Rig) -> None:
        """An endpoint that was down, and rejects everybody when it is back, is in trouble itself."""
        accounts = [await rig.add(f"user{number}") for number in range(6)]
        rig.transport.script.extend([reply(502, b"<html>")] * 2)
        for account in accounts[:2]:
            assert isinstance(await rig.refresher.refresh(account), Unavailable)
        await rig.clock.advance(15)
        rig.transport.script.extend([INVALID_GRANT] * 9)
        outcomes = [await turning(rig.clock, rig.forced(account)) for account in accounts]
        assert [type(outcome) for outcome in outcomes] == [Dead] * 3 + [Misconfigured] * 3
        assert [(rig.stored(f"user{number}").disabled_reason or "")[:12] for number in range(4)] == [
            "rotation_los", "rotation_los", "invalid_gran", ""
        ]  # fmt: skip

    async def test_d_one_that_is_accepted_ends_the_storm(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        """After a while the client is asked again; a success clears it, and the log says so."""
        accounts = [await rig.add(f"user{number}") for number in range(5)]
        rig.transport.script.extend([INVALID_GRANT] * 7)
        for account in accounts[:4]:
            await verdict(rig, account)
        await rig.clock.advance(61)
        assert isinstance(await rig.refresher.refresh(accounts[4]), Ready)
        assert rig.refresher.fault("pool") is None
        assert "accepts the client again" in caplog.text

    async def test_a_verdict_that_cannot_be_written_stands(self, rig: Rig) -> None:
        """The account is out all the same, and the file says so as soon as it can."""
        account = await rig.add()
        rig.provider.revoke("alice")
        assert isinstance(await rig.refresher.refresh(account), Rejected)
        await rig.clock.advance(3)
        rig.failing.left = 1  # that it was rejected is noted of the client
        rig.transport.meanwhile = partial(setattr, rig.failing, "error", OSError(errno.ENOSPC, "full"))
        outcome = await rig.refresher.refresh(account)
        assert isinstance(outcome, Dead)
        assert not outcome.stored
        assert isinstance(await rig.refresher.refresh(account), Dead)
        assert len(rig.transport.posts) == 2
        rig.failing.error = None
        await rig.clock.advance(10)
        assert rig.stored().disabled
        await rig.refresher.aclose()

    async def test_who_cannot_be_counted_is_not_disabled(self, rig: Rig) -> None:
        """It may be one too many, as far as other processes know: it waits until the disk takes it."""
        account = await rig.add()
        rig.provider.revoke("alice")
        assert isinstance(await rig.refresher.refresh(account), Rejected)
        await rig.clock.advance(3)
        rig.transport.meanwhile = lambda: setattr(rig.failing, "error", OSError(errno.ENOSPC, "full"))
        outcome = await rig.refresher.refresh(account)
        assert isinstance(outcome, Unavailable)
        assert outcome.cause == "store"
        assert not rig.stored().disabled
        assert rig.stored().rejected_at() is not None
        rig.failing.error = rig.transport.meanwhile = None
        assert isinstance(await rig.refresher.refresh(account), Dead)

    async def test_a_disabled_account_is_asked_by_force_only(self, rig: Rig) -> None:
        """That is how an operator proves it; the record keeps `disabled` until it is enabled."""
        account = await rig.add(disabled=True, disabled_at=1, disabled_reason="invalid_grant")
        assert isinstance(await rig.refresher.refresh(account), Dead)
        assert isinstance(await rig.refresher.refresh(account, force=True), Ready)
        assert rig.stored().disabled
        rig.provider.revoke("alice")
        assert isinstance(await rig.refresher.refresh(account, force=True), Dead)
        assert rig.stored().disabled_at == 1


class TestEditsDuringAFlight:
    async def test_a_re_added_credential_is_not_overwritten(self, rig: Rig) -> None:
        """The flight of the old one ends well, and its pair is dropped."""
        account = await rig.add()
        added: list[Account] = []

        async def re_add() -> None:
            added.append(await rig.add(generation=5))

        rig.transport.meanwhile = re_add
        await rig.refresher.refresh(account)
        assert rig.stored() == added[0]

    async def test_operator_edits_survive(self, rig: Rig) -> None:
        """Pause, other keys, keys beside the token, a mended client: all are there, and so is the new pair."""
        account = await rig.add(client=OAuthClient(client_id="own", client_secret="old"))

        def edit(current: Account | None) -> Account | None:
            return current and replace(
                current.with_paused(5),
                client=OAuthClient(client_id="own", client_secret="mended"),
                extra={"label": "work"},
                token=replace(current.token, extra={"project_id": "p"}),
            )

        rig.transport.meanwhile = lambda: rig.operator.update(ALICE, edit)
        assert isinstance(await rig.refresher.refresh(account), Ready)
        stored = rig.stored()
        assert (stored.proxy_disabled, stored.extra, stored.token.extra) == (
            True,
            {"label": "work"},
            {"project_id": "p"},
        )
        assert stored.client == OAuthClient(client_id="own", client_secret="mended")
        assert rig.provider.is_current(stored.token.refresh_token or "")

    async def test_an_edit_by_hand_survives(self, rig: Rig) -> None:
        """Somebody saves the file in place while the POST is under way."""
        account = await rig.add()
        path = rig.folder / "pool" / "alice.toml"
        rig.transport.meanwhile = lambda: path.write_text('note = "mine"\n' + path.read_text())
        assert isinstance(await rig.refresher.refresh(account), Ready)
        assert rig.stored().extra == {"note": "mine"}
        assert rig.provider.is_current(rig.stored().token.refresh_token or "")

    async def test_an_editor_that_saves_by_renaming_loses_no_token(self, rig: Rig) -> None:
        """For a moment there is no file; the new pair waits for it."""
        account = await rig.add()
        path = rig.folder / "pool" / "alice.toml"
        backup = path.with_suffix(".toml~")
        rig.transport.meanwhile = lambda: path.rename(backup)
        flight = asyncio.ensure_future(rig.refresher.refresh(account))
        await rig.clock.wait_for_sleepers()
        backup.rename(path)
        await rig.clock.advance(1)
        assert isinstance(await flight, Ready)
        assert rig.provider.is_current(rig.stored().token.refresh_token or "")

    async def test_a_file_cut_in_half_meanwhile_loses_no_token(self, rig: Rig) -> None:
        """The pair is kept in memory until the file can be read again."""
        account = await rig.add()
        path = rig.folder / "pool" / "alice.toml"

        def cut() -> None:
            intact.append(path.read_text())
            path.write_text("[token]\nrefresh_token = ")

        intact: list[str] = []
        rig.transport.meanwhile = cut
        assert isinstance(await rig.refresher.refresh(account), Ready)
        path.write_text(intact[0])
        await rig.clock.advance(10)
        assert rig.provider.is_current(rig.stored().token.refresh_token or "")

    async def test_a_removed_account_stays_removed(self, rig: Rig) -> None:
        """Neither a new pair nor a verdict brings it back."""
        for answer in (None, INVALID_GRANT):
            account = await rig.add()
            rig.transport.script.extend([answer] if answer else [])
            rig.transport.meanwhile = lambda: rig.operator.update(ALICE, lambda _: None)
            assert isinstance(await refresh(rig, account), Gone)
            assert not (rig.folder / "pool" / "alice.toml").exists()

    async def test_a_pool_reconfigured_while_waiting_is_asked_as_it_is_now(self, rig: Rig) -> None:
        """The flight had begun with the old token endpoint, and waited for the lock."""
        account = await rig.add()
        async with rig.operator.hold(ALICE):
            flight = asyncio.ensure_future(rig.refresher.refresh(account))
            await rig.clock.settle()
            rig.pools["pool"] = pool_config(token_url="https://new.test/token")
        assert isinstance(await flight, Ready)
        assert [post.url for post in rig.transport.posts] == ["https://new.test/token"]


class TestAMisconfiguredClient:
    async def test_is_not_asked_again_for_a_minute(self, rig: Rig) -> None:
        """Nobody is disabled; force asks at once, and so does everybody when somebody changed the configuration."""
        alice, bob = await rig.add(), await rig.add("bob")
        rig.transport.script.extend([reply(401, {"error": "invalid_client"})] * 3)
        assert isinstance(await rig.refresher.refresh(alice), Misconfigured)
        assert isinstance(await rig.refresher.refresh(bob), Misconfigured)
        assert len(rig.transport.posts) == 1
        assert isinstance(await rig.refresher.refresh(bob, force=True), Misconfigured)
        assert len(rig.transport.posts) == 2
        await rig.clock.advance(61)
        assert isinstance(await rig.refresher.refresh(alice), Misconfigured)
        assert len(rig.transport.posts) == 3
        rig.refresher.forget_faults()
        assert isinstance(await rig.refresher.refresh(alice), Ready)
        assert not rig.stored().disabled

    async def test_a_clock_put_back_does_not_prolong_it(self, rig: Rig) -> None:
        """An hour of wall clock is not an hour of waiting."""
        account = await rig.add()
        rig.transport.script.append(reply(401, {"error": "invalid_client"}))
        await rig.refresher.refresh(account)
        rig.clock.jump(-3600)
        assert isinstance(await rig.refresher.refresh(account, force=False), Ready)


class TestOtherPools:
    async def test_a_static_credential_is_never_sent(self, rig: Rig) -> None:
        """There is nothing to refresh it with."""
        rig.pools["pool"] = pool_config(type="static")
        assert isinstance(await rig.refresher.refresh(await rig.add()), Unavailable)
        assert rig.transport.posts == []

    async def test_client_credentials(self, rig: Rig) -> None:
        """The client is the account: no refresh token, no intent, no verdict on `invalid_grant`."""
        rig.pools["pool"] = pool_config(type="client_credentials", scopes=("a", "b"))
        account = await rig.put(Account(pool="pool", name="alice"))
        assert isinstance(await rig.refresher.refresh(account), Ready)
        assert rig.transport.posts[0].form["scope"] == "a b"
        assert rig.stored().token.refresh_token is None
        rig.transport.script.append(INVALID_GRANT)
        assert isinstance(await rig.refresher.refresh(rig.stored()), Unavailable)
        assert not rig.stored().disabled

    @pytest.mark.parametrize("token", (Token(), Token(access_token="a", expires_at=0)))
    async def test_an_account_without_a_refresh_token_says_so(self, rig: Rig, token: Token) -> None:
        """Re-adding is the way out."""
        outcome = await rig.refresher.refresh(await rig.put(Account(pool="pool", name="alice", token=token)))
        assert isinstance(outcome, Unavailable)
        assert "re-add it" in outcome.detail

    async def test_what_is_not_there_is_gone(self, rig: Rig) -> None:
        """An account that was removed, one that is broken, a pool that is not configured any more."""
        account = await rig.add()
        path = rig.folder / "pool" / "alice.toml"
        path.write_text("version = 'x'")
        assert isinstance(await rig.refresher.refresh(account), Gone)
        path.unlink()
        assert isinstance(await rig.refresher.refresh(account), Gone)
        rig.pools.clear()
        assert isinstance(await rig.refresher.refresh(account), Gone)


async def test_no_secret_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Not in any log record, outcome, event or stored reason, whatever the provider repeats of what it was sent."""
    caplog.set_level(logging.DEBUG)
    for auth in ("client_secret_post", "client_secret_basic"):
        rig.pools["pool"] = pool_config(
            client=ClientConfig(client_id="id", client_secret="top-secret", client_auth=auth)  # type: ignore[arg-type]
        )
        account = await rig.add()
        repeats = f"{account.token.refresh_token} of {account.token.access_token} with top-secret"
        rejected = reply(400, {"error": "invalid_client", "error_description": repeats})
        dead = reply(400, {"error": "invalid_grant", "error_description": repeats})
        rig.transport.script.extend([LOST, rejected, reply(503, repeats), reply(200, repeats), dead, dead])
        told: list[object] = [await refresh(rig, account, force=True) for _ in range(4)]
        told += [rig.events, rig.settled, rig.transport.posts, rig.refresher.fault("pool")]
        assert rig.stored().disabled
        reasons = f"{told!r} {rig.stored().disabled_reason} {caplog.text} {[r.__dict__ for r in caplog.records]}"
        secrets = [account.token.refresh_token, account.token.access_token, "top-secret"]
        assert [secret for secret in secrets if secret in reasons] == []
        assert "[redacted] of [redacted] with [redacted]" in reasons
        rig.refresher.forget_faults()


async def test_at_most_sixteen_posts_at_a_time(rig: Rig) -> None:
    """However many accounts of an endpoint are due."""
    accounts = [await rig.add(f"user{number}") for number in range(40)]
    gate = asyncio.Event()
    at_once: list[int] = [0, 0]

    async def hold() -> None:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await gate.wait()
        at_once[0] -= 1

    rig.transport.meanwhile = hold
    flights = [asyncio.ensure_future(rig.refresher.refresh(account)) for account in accounts]
    await rig.clock.settle()
    gate.set()
    assert all(isinstance(outcome, Ready) for outcome in await asyncio.gather(*flights))
    assert at_once[1] == 16


async def test_a_store_that_never_was_is_no_verdict(rig: Rig, tmp_path: Path) -> None:
    """An accounts folder that is not there makes nobody dead."""
    refresher = rig.process(FolderStore(tmp_path / "nowhere", run=inline))
    outcome = await refresher.refresh(Account(pool="pool", name="alice"))
    assert isinstance(outcome, Gone | Unavailable)
    assert rig.transport.posts == []
