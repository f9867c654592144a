"""Adding and re-adding accounts, against a real token endpoint that rotates and punishes reuse."""

import asyncio
import base64
import errno
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from authpool.accounts.account import AccountKey
from authpool.errors import BrokenAccountError, RefusedError, StoreError
from authpool.files.atomic_file import FileOperations
from authpool.gateway.service import Service
from authpool.verbs.operations import Operations
from authpool.verbs.sources import Credential, read_source
from support.answers import HTML, JSON, Hang, Nothing, Redirect, Slow
from support.exchange import Answer
from support.home import make_home
from support.operator import Desk, credential, open_desk
from support.provider import OidcProvider
from support.rotating_provider import RotatingProvider

ALICE = "google/alice@example.com"


class FullDisk(FileOperations):
    """System calls of a disk that is full while `full` is set."""

    def __init__(self) -> None:
        self.full = False

    def create(self, path: Path) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return super().create(path)


def jwt(claims: dict[str, object]) -> str:
    """An id_token whose signature nobody checks."""
    parts = ({"alg": "none"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + ".x"


# --- a new account ------------------------------------------------------------------------------------------------


async def test_new_account_is_proved_named_and_written(tmp_path: Path) -> None:
    """A refresh proves the credential, userinfo names it, and the rotated pair is in a private file."""
    async with open_desk(tmp_path) as desk:
        given = desk.signed_in("alice@example.com")
        answer = await desk.operations.add("google", given)
        stored = desk.stored(ALICE)
        assert answer == f"Added {ALICE}"
        assert desk.posts == [given.refresh_token]
        assert desk.provider.is_current(stored["token"]["refresh_token"])
        assert stored["token"]["access_token"] in desk.provider
        assert stored["generation"] == 1
        assert stored["created_at"] > 1_700_000_000
        assert not stored["disabled"]
        assert desk.file_of(ALICE).stat().st_mode & 0o777 == 0o600
        assert desk.unclaimed == []


async def test_account_without_email_is_named_by_its_subject(tmp_path: Path) -> None:
    """Userinfo with `sub` alone names the account by it."""
    async with open_desk(tmp_path) as desk:
        desk.userinfo.claims = {"email": None}
        assert await desk.operations.add("google", desk.signed_in("alice")) == "Added google/id-of-alice"


async def test_id_token_names_the_account_where_there_is_no_userinfo(tmp_path: Path) -> None:
    """Without a userinfo endpoint the claims of the id_token decide."""
    async with open_desk(tmp_path, userinfo=False) as desk:
        issued = {"access_token": "a", "refresh_token": "r2", "id_token": jwt({"sub": "1", "email": "bob@example.com"})}
        desk.token_endpoint.script = [JSON(200, issued)]
        assert await desk.operations.add("google", Credential(secret="r1")) == "Added google/bob@example.com"


async def test_name_is_needed_where_the_provider_tells_none_and_nothing_is_lost(tmp_path: Path) -> None:
    """Refused for want of a name, the rotated token is kept; the error's own advice leads to the account."""
    async with open_desk(tmp_path, userinfo=False) as desk:
        with pytest.raises(RefusedError, match="tells no name") as refused:
            await desk.operations.add("google", desk.signed_in("alice"))
        (kept,) = desk.unclaimed
        assert f"authpool add google @{kept} NAME" in str(refused.value)
        assert kept.stat().st_mode & 0o777 == 0o600
        assert kept.parent.stat().st_mode & 0o777 == 0o700
        again = read_source(f"@{kept}", environ={})
        assert await desk.operations.add("google", again, "alice") == "Added google/alice"
        assert desk.unclaimed == []
        assert desk.provider.is_alive("alice")
        assert desk.provider.is_current(desk.stored("google/alice")["token"]["refresh_token"])


async def test_given_name_matches_in_any_case_and_the_provider_spells_it(tmp_path: Path) -> None:
    """NAME is compared case-insensitively, and what the provider says is written."""
    async with open_desk(tmp_path) as desk:
        answer = await desk.operations.add("google", desk.signed_in("Alice@Example.com"), "alice@example.COM")
        assert answer == "Added google/Alice@Example.com"


async def test_another_name_than_the_provider_says_is_refused(tmp_path: Path) -> None:
    """A NAME that is not the provider's is refused, no account is written, the rotated token is kept."""
    async with open_desk(tmp_path) as desk:
        with pytest.raises(RefusedError, match=r"alice@example\.com's, not bob@example\.com's"):
            await desk.operations.add("google", desk.signed_in("alice@example.com"), "bob@example.com")
        assert await desk.operations.accounts() == []
        (kept,) = desk.unclaimed
        assert desk.provider.is_current(json.loads(kept.read_text())["refresh_token"])


async def test_spent_source_is_removed_when_its_successor_is_kept(tmp_path: Path) -> None:
    """A file of `unclaimed` whose token was exchanged again is replaced: to present it once more would be a reuse."""
    async with open_desk(tmp_path, userinfo=False) as desk:
        given = desk.signed_in("alice")
        for source in (given, None):
            with pytest.raises(RefusedError, match="tells no name"):
                await desk.operations.add("google", source or read_source(f"@{desk.unclaimed[0]}", environ={}))
        (kept,) = desk.unclaimed
        assert desk.provider.is_current(json.loads(kept.read_text())["refresh_token"])


async def test_userinfo_that_does_not_answer_is_not_taken_for_one_without_a_name(tmp_path: Path) -> None:
    """A failing userinfo refuses, even with a NAME; the token is kept and the next try succeeds."""
    async with open_desk(tmp_path) as desk:
        desk.userinfo.answered = JSON(503, {})
        with pytest.raises(RefusedError, match="HTTP 503"):
            await desk.operations.add("google", desk.signed_in("alice@example.com"), "alice@example.com")
        desk.userinfo.answered = None
        await desk.operations.add("google", read_source(f"@{desk.unclaimed[0]}", environ={}), "alice@example.com")
        assert desk.unclaimed == []


async def test_name_stands_where_userinfo_refuses_the_token(tmp_path: Path) -> None:
    """Userinfo that answers 403 (no scope openid) tells no name, so NAME is taken."""
    async with open_desk(tmp_path) as desk:
        desk.userinfo.answered = JSON(403, {"error": "insufficient_scope"})
        assert await desk.operations.add("google", desk.signed_in("alice"), "mine") == "Added google/mine"


async def test_impossible_name_from_the_provider_is_refused_and_nothing_lost(tmp_path: Path) -> None:
    """A name of 300 characters can't be a file's; the token is kept."""
    async with open_desk(tmp_path) as desk:
        with pytest.raises(RefusedError, match="can't be an account name"):
            await desk.operations.add("google", desk.signed_in("x" * 300))
        assert len(desk.unclaimed) == 1


async def test_impossible_given_name_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    """A NAME that can't be is refused without a request."""
    async with open_desk(tmp_path) as desk:
        with pytest.raises(RefusedError, match="can't be an account name"):
            await desk.operations.add("google", desk.signed_in("alice"), "x" * 300)
        assert desk.posts == []


async def test_unknown_pool_is_refused_with_the_likely_one_and_without_repeating_it(tmp_path: Path) -> None:
    """A mistyped pool names the one that was meant; what stood in its place is not repeated."""
    async with open_desk(tmp_path) as desk:
        with pytest.raises(RefusedError, match="Did you mean google") as refused:
            await desk.operations.add("gogle", desk.signed_in("alice"))
        assert "gogle" not in str(refused.value)


# --- a credential that does not work -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    (
        (JSON(400, {"error": "invalid_grant", "error_description": "bad secret-token"}), "rejects the credential"),
        (JSON(400, {"error": "invalid_grant", "error_subtype": "invalid_rapt"}), "sign in again"),
        (JSON(401, {"error": "invalid_client"}), "rejects the client"),
        (JSON(503, {}), "HTTP 503"),
        (HTML(200), "answer was lost"),
        (HTML(403), "HTTP 403"),
        (Redirect("http://127.0.0.1:1/"), "HTTP 302"),
        (JSON(200, {"ok": True}), "without an access token"),
    ),
)
async def test_unproved_credential_is_refused_and_nothing_written(tmp_path: Path, answer: Answer, words: str) -> None:
    """Whatever the token endpoint says instead of a token is told, without the secret, and no account is made."""
    async with open_desk(tmp_path) as desk:
        desk.token_endpoint.script = [answer]
        with pytest.raises(RefusedError, match=words) as refused:
            await desk.operations.add("google", Credential(secret="secret-token"))
        assert "secret-token" not in str(refused.value)
        assert "the-client-secret" not in str(refused.value)
        assert await desk.operations.accounts() == []
        assert desk.unclaimed == []


async def test_token_that_was_spent_by_a_lost_answer_is_told_from_a_dead_one(tmp_path: Path) -> None:
    """When an answer was lost and then the token rejected, the operator hears that it may have been spent by us."""
    async with open_desk(tmp_path) as desk:
        desk.provider.lose_next("after_rotation", Nothing())
        with pytest.raises(RefusedError, match="answer was lost on the way"):
            await desk.operations.add("google", desk.signed_in("alice@example.com"))
        assert len(desk.posts) == 2


# --- re-adding -------------------------------------------------------------------------------------------------------


async def test_life_of_an_account_that_dies_and_comes_back(tmp_path: Path) -> None:
    """Dead, it refuses the token it died with; a new sign-in clears `disabled` and leaves `paused`, and says so."""
    async with open_desk(tmp_path) as desk:
        given = desk.signed_in("alice@example.com")
        await desk.operations.add("google", given)
        dead = desk.stored(ALICE)["token"]["refresh_token"]
        await desk.operations.pause(ALICE)
        desk.provider.revoke("alice@example.com")
        with pytest.raises(RefusedError, match=r"it is disabled now .*invalid_grant"):
            await desk.operations.refresh(ALICE)
        desk.edit(ALICE, note="mine")
        before = desk.stored(ALICE)
        assert before["disabled"]

        for refresh_token in (dead, given.refresh_token):
            with pytest.raises(RefusedError, match="invalid_grant"):
                await desk.operations.add("google", Credential(secret=refresh_token))
            after = desk.stored(ALICE)
            assert (after["disabled"], after["disabled_at"]) == (True, before["disabled_at"])
            assert after["disabled_reason"] == before["disabled_reason"]

        answer = await desk.operations.add("google", desk.signed_in("alice@example.com"), "ALICE@example.com")
        stored = desk.stored(ALICE)
        assert "it was disabled (invalid_grant" in answer
        assert "is enabled again" in answer
        assert "still paused" in answer
        assert not stored["disabled"]
        assert not {"disabled_at", "disabled_reason"} & stored.keys()
        assert stored["proxy_disabled"]
        assert stored["generation"] == before["generation"] + 1
        assert (stored["created_at"], stored["note"]) == (before["created_at"], "mine")
        assert desk.provider.is_current(stored["token"]["refresh_token"])


async def test_adding_the_same_file_twice_does_not_kill_the_account(tmp_path: Path) -> None:
    """The token was exchanged when it was added first: presenting it again would be punished as a reuse."""
    async with open_desk(tmp_path) as desk:
        given = desk.signed_in("alice@example.com")
        await desk.operations.add("google", given)
        assert "has this credential already" in await desk.operations.add("google", given)
        assert desk.posts.count(given.refresh_token or "") == 1
        assert desk.provider.is_alive("alice@example.com")
        assert desk.provider.is_current(desk.stored(ALICE)["token"]["refresh_token"])


async def test_the_stored_token_is_presented_by_the_account_itself(tmp_path: Path) -> None:
    """Given the very token an account holds, that account is refreshed, and enabled when it was disabled."""
    async with open_desk(tmp_path) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        desk.edit(ALICE, disabled=True, disabled_at=1_700_000_000, disabled_reason="by mistake")
        held = desk.stored(ALICE)["token"]["refresh_token"]
        answer = await desk.operations.add("google", Credential(secret=held))
        stored = desk.stored(ALICE)
        assert answer == f"{ALICE} works again: it is enabled"
        assert not stored["disabled"]
        assert stored["token"]["refresh_token"] != held
        assert desk.provider.is_alive("alice@example.com")


async def test_another_accounts_token_is_refused_before_it_is_presented(tmp_path: Path) -> None:
    """A stored token given under another NAME names its owner and is not spent."""
    async with open_desk(tmp_path) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        held = desk.stored(ALICE)["token"]["refresh_token"]
        with pytest.raises(RefusedError, match=r"is the one of google/alice@example\.com"):
            await desk.operations.add("google", Credential(secret=held), "bob@example.com")
        assert held not in desk.posts


async def test_one_token_added_by_many_at_once_is_presented_once(tmp_path: Path) -> None:
    """Concurrent adds of one file leave one living account."""
    async with open_desk(tmp_path) as desk:
        given = desk.signed_in("alice@example.com")
        answers = await asyncio.gather(*(desk.operations.add("google", given) for _ in range(4)))
        assert sum(answer.startswith("Added") for answer in answers) == 1
        assert desk.posts.count(given.refresh_token or "") == 1
        assert desk.provider.is_alive("alice@example.com")


async def test_broken_record_is_replaced_and_set_aside(tmp_path: Path) -> None:
    """Re-adding an account whose file can't be read writes it anew and keeps the old file beside it."""
    async with open_desk(tmp_path) as desk:
        path = desk.write(ALICE, token={"refresh_token": 5})
        with pytest.raises(BrokenAccountError):
            await desk.operations.pause(ALICE)
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        assert desk.stored(ALICE)["generation"] == 1
        assert path.with_suffix(".broken").exists()


async def test_provider_that_does_not_rotate_leaves_nothing_to_keep(tmp_path: Path) -> None:
    """Where the given token stays good, a refused add keeps no copy of it, and it can be given again."""
    async with open_desk(tmp_path, provider=RotatingProvider(rotate=False)) as desk:
        given = desk.signed_in("alice@example.com")
        with pytest.raises(RefusedError, match="not bob's") as refused:
            await desk.operations.add("google", given, "bob")
        assert desk.unclaimed == []
        assert "unclaimed" not in str(refused.value)
        await desk.operations.add("google", given)
        assert desk.stored(ALICE)["token"]["refresh_token"] == given.refresh_token


# --- nothing is lost -------------------------------------------------------------------------------------------------


async def test_token_that_can_not_be_written_is_kept_aside(tmp_path: Path) -> None:
    """A full disk under the accounts: the rotated token is in `unclaimed`, and adding that works later."""
    disk = FullDisk()
    async with open_desk(tmp_path, files=disk) as desk:
        disk.full = True
        with pytest.raises(StoreError, match="No space left on device") as failed:
            await desk.operations.add("google", desk.signed_in("alice@example.com"))
        disk.full = False
        (kept,) = desk.unclaimed
        assert str(kept) in str(failed.value)
        await desk.operations.add("google", read_source(f"@{kept}", environ={}))
        assert desk.provider.is_alive("alice@example.com")
        assert desk.unclaimed == []


async def test_refresh_that_can_not_be_written_is_kept_aside_by_the_command_line(tmp_path: Path) -> None:
    """`refresh` outside of a gateway must not end with the only copy of a rotated token in memory."""
    disk = FullDisk()
    async with open_desk(tmp_path, files=disk) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))

        def answer_on_a_full_disk(number: int, form: dict[str, str]) -> Answer:
            disk.full = True
            return desk.provider(number, form)

        desk.token_endpoint.script = answer_on_a_full_disk
        with pytest.raises(StoreError, match="can't be written"):
            await desk.operations.refresh(ALICE)
        (kept,) = desk.unclaimed
        assert desk.provider.is_current(json.loads(kept.read_text())["refresh_token"])


async def test_cancelled_add_keeps_what_the_provider_answered(tmp_path: Path) -> None:
    """An operator who interrupts during the request loses no rotated token: it is kept before the command ends."""
    async with open_desk(tmp_path) as desk:
        given = desk.signed_in("alice@example.com")
        gate = asyncio.Event()
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        adding = asyncio.create_task(desk.operations.add("google", given))
        await until(lambda: bool(desk.posts))
        adding.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await adding
        (kept,) = desk.unclaimed
        assert desk.provider.is_current(json.loads(kept.read_text())["refresh_token"])
        assert await desk.operations.accounts() == []


async def test_add_that_is_cut_off_while_it_learns_the_name_has_kept_the_token(tmp_path: Path) -> None:
    """The rotated token is on disk before anybody is asked for a name, so even a kill then loses nothing."""
    async with open_desk(tmp_path) as desk:
        desk.userinfo.answered = Hang()
        adding = asyncio.create_task(desk.operations.add("google", desk.signed_in("alice@example.com")))
        await until(lambda: bool(desk.userinfo.received))
        (kept,) = desk.unclaimed
        assert desk.provider.is_current(json.loads(kept.read_text())["refresh_token"])
        adding.cancel()
        with suppress(asyncio.CancelledError):
            await adding


async def test_account_held_by_another_process_is_waited_for_with_an_end(tmp_path: Path) -> None:
    """With a NAME the lock comes first, so nothing is spent; without one the token is kept until it can be written."""
    async with open_desk(tmp_path, patience_seconds=0.3) as desk:
        given = desk.signed_in("alice@example.com")
        async with desk.service.store.hold(AccountKey.of("google", "alice@example.com")):
            with pytest.raises(RefusedError, match="held by another process"):
                await desk.operations.add("google", given, "alice@example.com")
            assert desk.posts == []
            with pytest.raises(RefusedError, match="held by another process"):
                await desk.operations.add("google", given)
        (kept,) = desk.unclaimed
        await desk.operations.add("google", read_source(f"@{kept}", environ={}), "alice@example.com")
        assert desk.provider.is_alive("alice@example.com")


# --- what a source brings along --------------------------------------------------------------------------------------


async def test_client_of_an_authorized_user_file_is_used_and_kept(tmp_path: Path) -> None:
    """A client that is not the pool's proves the token, and is written beside it."""
    async with open_desk(tmp_path) as desk:
        document = {"client_id": "their-client", "client_secret": "theirs", "type": "authorized_user"}
        issued = desk.provider.issue("alice@example.com")["refresh_token"]
        await desk.operations.add("google", credential({**document, "refresh_token": issued}))
        assert desk.stored(ALICE)["client"] == {"client_id": "their-client", "client_secret": "theirs"}
        authorization = desk.token_endpoint.received[0].request.header("authorization") or ""
        assert authorization == "Basic dGhlaXItY2xpZW50OnRoZWlycw=="  # their-client:theirs


async def test_the_pools_own_client_is_not_repeated(tmp_path: Path) -> None:
    """A file that names the pool's client leaves no copy of it in the account."""
    async with open_desk(tmp_path) as desk:
        issued = desk.provider.issue("alice@example.com")["refresh_token"]
        await desk.operations.add("google", credential({"client_id": "the-client", "refresh_token": issued}))
        assert "client" not in desk.stored(ALICE)


def manager_file(desk: Desk, account: str) -> Credential:
    """An Antigravity Manager account that is paused there, and once was disabled."""
    return credential(
        {
            "id": "8c5f",
            "email": account,
            "token": {**desk.provider.issue(account), "expiry_timestamp": 1},
            "disabled": True,
            "disabled_reason": "invalid_grant",
            "proxy_disabled": True,
            "proxy_disabled_at": 1_690_000_000,
            "proxy_disabled_reason": "bulk",
            "custom_label": "Spare",
            "device_profile": {"machine_id": "m"},
        }
    )


async def test_imported_account_keeps_its_pause_and_label_but_not_its_death(tmp_path: Path) -> None:
    """The proof decides `disabled`; the operator's switch and the label come along, the device does not."""
    async with open_desk(tmp_path) as desk:
        answer = await desk.operations.add("google", manager_file(desk, "alice@example.com"))
        stored = desk.stored(ALICE)
        assert "still paused since 2023-07-22T04:26:40Z (bulk)" in answer
        assert (stored["disabled"], stored["proxy_disabled"]) == (False, True)
        assert (stored["proxy_disabled_at"], stored["proxy_disabled_reason"]) == (1_690_000_000, "bulk")
        assert stored["label"] == "Spare"
        assert "machine_id" not in desk.file_of(ALICE).read_text()


async def test_import_leaves_the_switch_of_an_account_that_is_here_alone(tmp_path: Path) -> None:
    """For an account that exists, its own `proxy_disabled` holds, not the file's."""
    async with open_desk(tmp_path) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        await desk.operations.add("google", manager_file(desk, "alice@example.com"))
        assert not desk.stored(ALICE)["proxy_disabled"]


async def test_imported_email_must_be_what_the_provider_says(tmp_path: Path) -> None:
    """A file that claims another e-mail is refused, and the rotated token is kept without that claim."""
    async with open_desk(tmp_path) as desk:
        claimed = credential({**desk.provider.issue("alice@example.com"), "email": "bob@example.com"})
        with pytest.raises(RefusedError, match=r"alice@example\.com's, not bob@example\.com's"):
            await desk.operations.add("google", claimed)
        again = read_source(f"@{desk.unclaimed[0]}", environ={})
        assert await desk.operations.add("google", again, "alice@example.com") == f"Added {ALICE}"


# --- the other types -------------------------------------------------------------------------------------------------


async def test_static_secret_needs_a_name_and_is_not_proved(tmp_path: Path) -> None:
    """A static pool takes the secret as it is, under the NAME that is given."""
    async with open_desk(tmp_path) as desk:
        with pytest.raises(RefusedError, match="NAME"):
            await desk.operations.add("keys", Credential(secret="key-1"))
        assert await desk.operations.add("keys", Credential(secret="key-1"), "team a") == "Added keys/team a"
        assert desk.stored("keys/team a")["token"]["access_token"] == "key-1"
        assert desk.posts == []


async def test_static_account_comes_back_with_another_secret_only(tmp_path: Path) -> None:
    """The same secret does not clear `disabled`; another one does."""
    async with open_desk(tmp_path) as desk:
        await desk.operations.add("keys", Credential(secret="key-1"), "team")
        desk.edit("keys/team", disabled=True, disabled_reason="leaked")
        with pytest.raises(RefusedError, match="same secret"):
            await desk.operations.add("keys", Credential(secret="key-1"), "team")
        assert "is enabled again" in await desk.operations.add("keys", Credential(secret="key-2"), "team")
        assert not desk.stored("keys/team")["disabled"]
        assert desk.stored("keys/team")["generation"] == 2


async def test_service_identity_is_proved_and_named_by_its_client(tmp_path: Path) -> None:
    """A client is an account: its credentials get a token, its client_id is its name."""
    async with open_desk(tmp_path) as desk:
        given = credential({"client_id": "robot-1", "client_secret": "s1"})
        assert await desk.operations.add("service", given) == "Added service/robot-1"
        stored = desk.stored("service/robot-1")
        assert stored["client"] == {"client_id": "robot-1", "client_secret": "s1"}
        assert "refresh_token" not in stored["token"]
        assert stored["token"]["access_token"] in desk.provider


async def test_the_pools_own_client_can_be_the_service_identity(tmp_path: Path) -> None:
    """The pool's secret by itself adds the pool's client, and is not copied into the account."""
    async with open_desk(tmp_path) as desk:
        added = await desk.operations.add("service", Credential(secret="the-client-secret"))
        assert added == "Added service/the-client"
        assert "client" not in desk.stored("service/the-client")


async def test_service_identity_with_the_same_client_stays_disabled(tmp_path: Path) -> None:
    """A fresh access token is no new credential: the same client does not clear `disabled`, another secret does."""
    async with open_desk(tmp_path) as desk:
        await desk.operations.add("service", credential({"client_id": "robot", "client_secret": "s1"}))
        desk.edit("service/robot", disabled=True, disabled_reason="by hand")
        answer = await desk.operations.add("service", credential({"client_id": "robot", "client_secret": "s1"}))
        assert "stays disabled (by hand): `authpool enable service/robot`" in answer
        assert desk.stored("service/robot")["disabled"]
        await desk.operations.add("service", credential({"client_id": "robot", "client_secret": "s2"}))
        assert not desk.stored("service/robot")["disabled"]


async def test_service_identity_keeps_no_refresh_token(tmp_path: Path) -> None:
    """RFC 6749 §4.4.3: a refresh token should not come with this grant; one that does is not kept."""
    async with open_desk(tmp_path) as desk:
        desk.token_endpoint.script = [JSON(200, {"access_token": "a", "refresh_token": "r", "expires_in": 3600})]
        await desk.operations.add("service", credential({"client_id": "robot", "client_secret": "s1"}))
        assert "refresh_token" not in desk.stored("service/robot")["token"]
        assert desk.unclaimed == []


# --- within a running gateway ----------------------------------------------------------------------------------------


async def test_running_gateway_takes_the_account_at_once(tmp_path: Path) -> None:
    """When `add` has answered, the pool that serves has the account, or has it back."""
    async with open_desk(tmp_path, running=True) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        (row,) = await desk.operations.accounts()
        assert (row.name, row.state, row.served) == ("alice@example.com", "ready", 0)
        desk.provider.revoke("alice@example.com")
        with pytest.raises(RefusedError):
            await desk.operations.refresh(ALICE)
        assert [row.state for row in await desk.operations.accounts()] == ["disabled"]
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        assert [row.state for row in await desk.operations.accounts()] == ["ready"]


async def test_plugins_hear_of_it(tmp_path: Path) -> None:
    """The account's events come in order, each once."""
    heard = tmp_path / "heard"
    plugin = f"""
from authpool import hookimpl

@hookimpl
def authpool_account_event(event):
    with open({str(heard)!r}, "a") as file:
        print(event.kind, file=file)
"""
    async with open_desk(tmp_path, plugin=plugin) as desk:
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        await desk.operations.add("google", desk.signed_in("alice@example.com"))
        await desk.operations.pause(ALICE)
        await desk.operations.resume(ALICE)
        await desk.operations.remove(ALICE)
    assert heard.read_text().split() == ["added", "readded", "paused", "resumed", "removed"]


async def until(condition: Callable[[], bool], deadline_seconds: float = 5.0) -> None:
    """Wait for a condition that somebody else brings about."""
    async with asyncio.timeout(deadline_seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.node
async def test_certified_provider_names_the_account_and_keeps_it_alive(
    tmp_path: Path, provider: OidcProvider, new_account: Callable[[], str]
) -> None:
    """Against a real provider: added, added again from the same file, refreshed, revoked, re-added."""
    account = new_account()
    home = make_home(tmp_path, pools={"real": provider.pool()})
    service = Service(home, {})
    try:
        operations = Operations(service)
        given = credential(await provider.grant(account))
        assert await operations.add("real", given) == f"Added real/{account}"
        assert "has this credential already" in await operations.add("real", given)
        assert (await operations.refresh(f"real/{account}")).startswith("Refreshed")
        await provider.revoke(account)
        with pytest.raises(RefusedError, match="it is disabled now"):
            await operations.refresh(f"real/{account}")
        answer = await operations.add("real", credential(await provider.grant(account)))
        assert "is enabled again" in answer
    finally:
        await service.stop()
