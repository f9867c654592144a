"""Many accounts at once: nothing is presented twice, one bad entry stops nothing, and a second run changes nothing."""

import asyncio
import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from authpool.errors import RefusedError
from authpool.files.atomic_file import FileOperations
from authpool.verbs import import_pace
from authpool.verbs.import_formats.entry import ImportEntry
from authpool.verbs.import_formats.texts import text_entries
from authpool.verbs.import_report import ImportReport
from authpool.verbs.importing import ImportOptions
from authpool.verbs.operations import Operations
from support.answers import HTML, JSON, Nothing, Slow
from support.exchange import Answer
from support.operator import Desk, open_desk, process
from support.token_endpoint import Form


def listed(*documents: dict[str, Any]) -> list[Any]:
    return list(text_entries(json.dumps(documents), "the list"))


def signed_in(desk: Desk, *names: str) -> list[Any]:
    """A list of fresh credentials with their names."""
    return listed(*({"name": one, "refresh_token": desk.provider.issue(one)["refresh_token"]} for one in names))


async def imported(
    where: Desk | Operations, found: Sequence[Any], pool: str = "google", **options: Any
) -> ImportReport:
    operations = where.operations if isinstance(where, Desk) else where
    return await operations.importing.run(pool, found, ImportOptions(**options))


def kinds(report: ImportReport) -> list[str]:
    """What became of each entry, in the order of the list."""
    return [one.kind for one in sorted(report.outcomes, key=lambda one: int(one.where.rpartition(" ")[2]))]


def presented_once(desk: Desk) -> bool:
    return len(desk.posts) == len(set(desk.posts))


# --- adding ----------------------------------------------------------------------------------------------------------


async def test_all_are_proved_named_and_written(tmp_path: Path) -> None:
    """Each by one refresh; the rotated pairs are in private files, and none is left over."""
    async with open_desk(tmp_path) as desk:
        found = signed_in(desk, *(f"user{n}@example.com" for n in range(30)))
        report = await imported(desk, found)
        assert report.counts == {"added": 30}
        assert not report.trouble
        assert len(desk.posts) == 30
        assert presented_once(desk)
        for n in range(30):
            stored = desk.stored(f"google/user{n}@example.com")
            assert desk.provider.is_current(stored["token"]["refresh_token"])
            assert stored["subject"] == f"id-of-user{n}@example.com"
        assert desk.unclaimed == []


@pytest.mark.parametrize("another", (False, True), ids=("the same process", "another one"))
async def test_second_run_asks_nobody_and_changes_nothing(tmp_path: Path, *, another: bool) -> None:
    """The list still holds the tokens that the first run spent."""
    async with open_desk(tmp_path) as desk:
        found = signed_in(desk, "a@example.com", "b@example.com")
        await imported(desk, found)
        before = [desk.file_of(f"google/{name}@example.com").read_bytes() for name in "ab"]
        if another:
            async with process(desk) as operations:
                report = await imported(operations, found)
        else:
            report = await imported(desk, found)
        assert report.counts == {"unchanged": 2}
        assert len(desk.posts) == 2
        assert [desk.file_of(f"google/{name}@example.com").read_bytes() for name in "ab"] == before


async def test_list_without_names_is_known_again(tmp_path: Path) -> None:
    """By the fingerprint of what was exchanged; the names are told by the provider."""
    async with open_desk(tmp_path) as desk:
        found = listed(*({"refresh_token": desk.provider.issue(one)["refresh_token"]} for one in "ab"))
        assert (await imported(desk, found)).counts == {"added": 2}
        assert (await imported(desk, found)).counts == {"unchanged": 2}
        assert presented_once(desk)


async def test_one_bad_entry_stops_nothing(tmp_path: Path) -> None:
    """A dead token, somebody else's, one that can't be read: the rest is imported, and each says what is wrong."""
    async with open_desk(tmp_path) as desk:
        good, wrong = signed_in(desk, "good@example.com", "some@example.com")
        found = [*listed({"name": "dead@example.com", "refresh_token": "dead"}, {"refresh_token": 7}), good]
        assert isinstance(wrong, ImportEntry)
        report = await imported(desk, [*found, *listed({"name": "x", "refresh_token": wrong.credential.refresh_token})])
        assert report.counts == {"added": 1, "failed": 3}
        told = " ".join(one.detail for one in report.outcomes)
        assert "rejects the credential" in told
        assert "some@example.com's, not x's" in told
        assert "3 of 4 entries failed" in report.trouble


async def test_token_of_another_pool_is_not_presented(tmp_path: Path) -> None:
    """Neither as it stands there, nor what that pool exchanged already."""
    async with open_desk(tmp_path, more_pools=["other"]) as desk:
        found = signed_in(desk, "a@example.com")
        await imported(desk, found, "other")
        held = desk.stored("other/a@example.com")["token"]["refresh_token"]
        report = await imported(desk, [*found, *listed({"name": "a@example.com", "refresh_token": held})])
        assert report.counts == {"failed": 2}
        assert ["the one of other/a@example.com" in one.detail for one in report.outcomes] == [True, True]
        assert len(desk.posts) == 1
        assert desk.provider.is_alive("a@example.com")


async def test_restored_spent_token_is_not_presented(tmp_path: Path) -> None:
    """After further refreshes of the account, and after it was removed: its old list spends nothing."""
    async with open_desk(tmp_path) as desk:
        found = signed_in(desk, "a@example.com")
        await imported(desk, found)
        first = desk.stored("google/a@example.com")["token"]["refresh_token"]
        await desk.operations.refresh("google/a@example.com")
        old = listed({"name": "a@example.com", "refresh_token": first})
        assert (await imported(desk, [*found, *old])).counts == {"unchanged": 1, "left out": 1}
        assert (await imported(desk, old)).counts == {"unchanged": 1}
        await desk.operations.remove("google/a@example.com", keep_grant=True)
        report = await imported(desk, old)
        assert report.counts == {"failed": 1}
        assert "is spent" in report.outcomes[0].detail
        assert presented_once(desk)
        assert desk.provider.is_alive("a@example.com")


# --- one credential, or one account, more than once ------------------------------------------------------------------


async def test_credential_that_is_listed_twice_is_presented_once(tmp_path: Path) -> None:
    """Also under another name, and in other files."""
    async with open_desk(tmp_path) as desk:
        token = desk.provider.issue("a@example.com")["refresh_token"]
        found = listed(
            {"name": "a@example.com", "refresh_token": token},
            {"refresh_token": token},
            {"name": "A@EXAMPLE.COM", "refresh_token": token},
        )
        assert (await imported(desk, found)).counts == {"added": 1, "left out": 2}
        assert desk.posts == [token]


@pytest.mark.parametrize("times", ((None, None), (20, 10), (10, 20)))
async def test_of_two_credentials_of_one_account_the_newest_is_taken(tmp_path: Path, times: tuple[Any, Any]) -> None:
    """By the source's own times, else the later one; names differ in case. The other one is not presented."""
    async with open_desk(tmp_path) as desk:
        tokens = [desk.provider.issue("a@example.com")["refresh_token"] for _ in times]
        found = listed(
            *(
                {"name": name, "refresh_token": token, "expires_at": time}
                for name, token, time in zip(("a@example.com", "A@Example.com"), tokens, times, strict=True)
            )
        )
        newest = 0 if times == (20, 10) else 1
        report = await imported(desk, found)
        assert kinds(report) == (["added", "left out"] if newest == 0 else ["left out", "added"])
        assert desk.posts == [tokens[newest]]
        again = await imported(desk, found)
        assert again.counts == {"unchanged": 1, "left out": 1}


async def test_older_credential_is_tried_when_the_newest_is_dead(tmp_path: Path) -> None:
    """Whoever kept both meant to have one that works."""
    async with open_desk(tmp_path) as desk:
        (old,) = signed_in(desk, "a@example.com")
        dead = listed({}, {"name": "a@example.com", "refresh_token": "dead"})[1]
        assert kinds(await imported(desk, [old, dead])) == ["added", "failed"]
        assert desk.posts[0] == "dead"


# --- disabled, paused ------------------------------------------------------------------------------------------------

DISABLED = {"disabled": True, "disabled_reason": "invalid_grant: gone", "disabled_at": 1700000000}


async def test_disabled_account_is_written_down_and_nobody_is_asked(tmp_path: Path) -> None:
    """With its reason, times, label and order; a second run leaves it as it is."""
    async with open_desk(tmp_path) as desk:
        found = listed(
            {"email": "a@example.com", "refresh_token": "t", "created_at": 1690000000, "custom_label": "spare"}
            | DISABLED
        )
        assert (await imported(desk, found)).counts == {"added as disabled": 1}
        assert desk.posts == []
        stored = desk.stored("google/a@example.com")
        assert {key: stored[key] for key in DISABLED} == DISABLED
        assert (stored["created_at"], stored["label"], stored["token"]["refresh_token"]) == (1690000000, "spare", "t")
        assert (await imported(desk, found)).counts == {"unchanged": 1}


@pytest.mark.parametrize("works", (True, False))
async def test_disabled_account_is_proved_when_asked_for(tmp_path: Path, *, works: bool) -> None:
    """One that works is enabled; one that does not is imported as it was."""
    async with open_desk(tmp_path) as desk:
        token = desk.provider.issue("a@example.com")["refresh_token"] if works else "dead"
        found = listed({"email": "a@example.com", "refresh_token": token} | DISABLED)
        report = await imported(desk, found, prove_disabled=True)
        assert report.counts == {"added" if works else "added as disabled": 1}
        assert desk.stored("google/a@example.com")["disabled"] is not works


async def test_disabled_entry_disables_nobody(tmp_path: Path) -> None:
    """An account that is here and works stays as it is."""
    async with open_desk(tmp_path) as desk:
        await imported(desk, signed_in(desk, "a@example.com"))
        found = listed({"email": "a@example.com", "refresh_token": "older"} | DISABLED)
        assert (await imported(desk, found)).counts == {"unchanged": 1}
        assert not desk.stored("google/a@example.com")["disabled"]


async def test_paused_account_is_proved_and_stays_paused(tmp_path: Path) -> None:
    """The operator's switch comes along with time and reason."""
    async with open_desk(tmp_path) as desk:
        token = desk.provider.issue("a@example.com")["refresh_token"]
        paused = {"proxy_disabled": True, "proxy_disabled_at": 1700000000, "proxy_disabled_reason": "quota"}
        report = await imported(desk, listed({"email": "a@example.com", "refresh_token": token} | paused))
        assert report.counts == {"added": 1}
        stored = desk.stored("google/a@example.com")
        assert {key: stored[key] for key in paused} == paused
        assert "authpool resume google/a@example.com" in report.outcomes[0].detail


# --- a dry run -------------------------------------------------------------------------------------------------------


async def test_dry_run_tells_what_would_happen_and_does_nothing(tmp_path: Path) -> None:
    """Nobody is asked, nothing is written."""
    async with open_desk(tmp_path) as desk:
        known = signed_in(desk, "here@example.com")
        await imported(desk, known)
        before = sorted(desk.home.rglob("*"))
        found = [
            *known,
            *listed(
                {},
                {"name": "new@example.com", "refresh_token": "n"},
                {"name": "here@example.com", "refresh_token": "o"},
            ),
            *listed({}, {}, {}, {"email": "dis@example.com", "refresh_token": "d", "disabled": True}),
        ]
        found = [one for one in found if isinstance(one, ImportEntry)]
        report = await imported(desk, found, dry_run=True)
        assert report.counts == {"added": 1, "re-added": 1, "added as disabled": 1, "left out": 1}
        assert len(desk.posts) == 1
        assert sorted(desk.home.rglob("*")) == before


# --- providers in trouble --------------------------------------------------------------------------------------------


async def test_retry_after_is_kept_to(tmp_path: Path) -> None:
    """Nobody is asked before, and then all are imported."""
    async with open_desk(tmp_path) as desk:
        refused = 0

        def script(number: int, form: Form) -> Answer:
            nonlocal refused
            if number == 3:
                refused = number
                return JSON(429, {}, headers={"Retry-After": "1"})
            return desk.provider(number, form)

        desk.token_endpoint.script = script
        report = await imported(desk, signed_in(desk, *(f"u{n}@example.com" for n in range(6))), jobs=1)
        assert report.counts == {"added": 6}
        times = [post.at for post in desk.token_endpoint.received]
        assert times[refused + 1] - times[refused] >= 0.99


async def test_provider_that_is_down_stops_the_import_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few rounds, instead of one failure for each; nothing is spent, and a later run does the rest."""
    monkeypatch.setattr(import_pace, "FIRST_PAUSE_SECONDS", 0.01)
    async with open_desk(tmp_path) as desk:
        found = signed_in(desk, *(f"u{n}@example.com" for n in range(100)))
        desk.token_endpoint.script = lambda number, form: JSON(503, {})
        report = await imported(desk, found)
        assert "the provider gives no answer" in report.stopped
        assert report.counts["not tried"] > 80
        assert len(desk.posts) < 80
        desk.token_endpoint.script = desk.provider
        assert (await imported(desk, found)).counts == {"added": 100}


async def test_rejected_client_stops_the_import(tmp_path: Path) -> None:
    """It would be rejected for the rest as well."""
    async with open_desk(tmp_path) as desk:
        desk.token_endpoint.script = lambda number, form: JSON(401, {"error": "invalid_client"})
        report = await imported(desk, signed_in(desk, *(f"u{n}@example.com" for n in range(50))), jobs=2)
        assert "rejects the client" in report.stopped
        assert report.counts["not tried"] >= 48
        assert len(desk.posts) <= 2


async def test_userinfo_that_is_down_spends_few_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that was proved is kept, and the next run presents what was kept."""
    monkeypatch.setattr(import_pace, "FIRST_PAUSE_SECONDS", 0.01)
    async with open_desk(tmp_path) as desk:
        found = signed_in(desk, *(f"u{n}@example.com" for n in range(60)))
        desk.userinfo.answered = HTML(503)
        report = await imported(desk, found)
        assert report.stopped
        assert 0 < len(desk.unclaimed) < 40
        desk.userinfo.answered = None
        assert (await imported(desk, found)).counts == {"added": 60}
        assert desk.unclaimed == []
        assert presented_once(desk)


async def test_entry_that_the_provider_never_answers_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others are answered it is tried a few times, and fails by itself."""
    monkeypatch.setattr(import_pace, "FIRST_PAUSE_SECONDS", 0.01)
    async with open_desk(tmp_path) as desk:
        found = signed_in(desk, *(f"u{n}@example.com" for n in range(20)))
        odd = found[0].credential.refresh_token
        desk.token_endpoint.script = lambda number, form: (
            JSON(503, {}) if form["refresh_token"] == odd else desk.provider(number, form)
        )
        report = await imported(desk, found)
        assert report.counts == {"added": 19, "failed": 1}
        assert not report.stopped


async def test_userinfo_that_stumbles_once_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was proved is kept, and named at the next try."""
    monkeypatch.setattr(import_pace, "FIRST_PAUSE_SECONDS", 0.01)
    async with open_desk(tmp_path) as desk:
        answer = desk.userinfo.answer

        async def stumble(request: Any) -> Any:
            return JSON(503, {}) if not desk.userinfo.received else await answer(request)

        async def note(request: Any) -> Any:
            given = await stumble(request)
            if not desk.userinfo.received:
                desk.userinfo.received.append(request)
            return given

        desk.userinfo.answer = note  # type: ignore[method-assign]
        report = await imported(desk, signed_in(desk, "a@example.com", "b@example.com"), jobs=1)
        assert report.counts == {"added": 2}
        assert desk.unclaimed == []
        assert presented_once(desk)


class FullAfter(FileOperations):
    """A disk that has room for so many accounts."""

    def __init__(self, accounts: int) -> None:
        self.left = accounts

    def create(self, path: Path) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return super().create(path)


async def test_full_disk_stops_the_import_and_loses_nothing(tmp_path: Path) -> None:
    """What was exchanged and can't be written is kept; with room, the next run goes on from there."""
    files = FullAfter(5)
    async with open_desk(tmp_path, files=files) as desk:
        found = signed_in(desk, *(f"u{n}@example.com" for n in range(40)))
        report = await imported(desk, found, jobs=2)
        assert "No space left" in report.stopped
        assert report.counts["added"] == 5
        assert report.counts["not tried"] >= 30
        assert len(desk.unclaimed) == report.counts["failed"] <= 3
        files.left = 1000
        assert (await imported(desk, found)).counts == {"added": 35, "unchanged": 5}
        assert desk.unclaimed == []
        assert presented_once(desk)


async def test_lost_answer_is_not_taken_for_a_dead_credential(tmp_path: Path) -> None:
    """The entry says that an answer was lost; the others go on."""
    async with open_desk(tmp_path) as desk:
        desk.provider.lose_next("after_rotation", Nothing())
        report = await imported(desk, signed_in(desk, "a@example.com", "b@example.com"), jobs=1)
        assert report.counts == {"added": 1, "failed": 1}
        assert "answer was lost" in str(report.outcomes)


async def test_provider_without_names_spends_one_credential_to_find_out(tmp_path: Path) -> None:
    """The others are refused before they are presented."""
    async with open_desk(tmp_path, userinfo=False) as desk:
        found = listed(*({"refresh_token": desk.provider.issue(one)["refresh_token"]} for one in "abcdef"))
        report = await imported(desk, found, jobs=1)
        assert report.counts == {"failed": 6}
        assert len(desk.posts) == 1
        assert len(desk.unclaimed) == 1


async def test_label_names_an_account_that_nobody_else_names(tmp_path: Path) -> None:
    """better-ccflare's own name for it, where the provider tells none; what was kept meanwhile is taken up."""
    async with open_desk(tmp_path, userinfo=False) as desk:
        tokens = [desk.provider.issue(name)["refresh_token"] for name in ("a", "b")]
        rows = [{"provider": "x", "paused": 0, "name": f"work-{n}", "refresh_token": t} for n, t in enumerate(tokens)]
        report = await imported(desk, listed(*rows), jobs=1)
        assert report.counts == {"added": 2}
        assert desk.stored("google/work-0")["label"] == "work-0"
        assert desk.unclaimed == []
        assert presented_once(desk)
        assert (await imported(desk, listed(*rows))).counts == {"unchanged": 2}


# --- neighbours ------------------------------------------------------------------------------------------------------


async def test_two_imports_at_once_present_nothing_twice(tmp_path: Path) -> None:
    """Of the same list, in two processes, one of them beside a running gateway: every account is added once."""
    async with open_desk(tmp_path, running=True) as desk:
        found = signed_in(desk, *(f"u{n}@example.com" for n in range(60)))
        async with process(desk) as one, process(desk) as two:
            reports = await asyncio.gather(imported(one, found), imported(two, list(reversed(found))))
        assert sum(report.counts.get("added", 0) for report in reports) == 60
        assert sum(report.counts.get("unchanged", 0) for report in reports) == 60
        assert presented_once(desk)
        async with asyncio.timeout(10):
            while len(desk.service.snapshot.pools["google"]) < 60:
                await asyncio.sleep(0.02)


async def test_add_goes_on_beside_an_import(tmp_path: Path) -> None:
    """It has its turn, and neither presents what the other did."""
    async with open_desk(tmp_path) as desk:
        found = signed_in(desk, *(f"u{n}@example.com" for n in range(40)))
        async with process(desk) as other:
            importing = asyncio.create_task(imported(desk, found))
            answer = await other.add("google", found[-1].credential, found[-1].name)
            report = await importing
        assert "u39@example.com" in answer
        assert report.counts["added"] + report.counts.get("unchanged", 0) == 40
        assert desk.provider.is_alive("u39@example.com")


async def test_interrupted_import_lets_land_what_was_begun(tmp_path: Path) -> None:
    """What was asked is written, the rest is not tried, and a second run does it."""
    async with open_desk(tmp_path) as desk:
        gate = asyncio.Event()
        desk.token_endpoint.script = lambda number, form: Slow(gate, desk.provider(number, form))
        found = signed_in(desk, *(f"u{n}@example.com" for n in range(20)))
        importing = asyncio.create_task(imported(desk, found, jobs=4))
        async with asyncio.timeout(30):
            while len(desk.posts) < 4:
                await asyncio.sleep(0.01)
        importing.cancel()
        await asyncio.sleep(0)
        gate.set()
        report = await importing
        assert report.interrupted
        assert report.counts == {"added": 4, "not tried": 16}
        assert desk.unclaimed == []
        desk.token_endpoint.script = desk.provider
        assert (await imported(desk, found)).counts == {"added": 16, "unchanged": 4}
        assert presented_once(desk)


async def test_unknown_pool_is_refused_before_anything(tmp_path: Path) -> None:
    """As `add` refuses it."""
    async with open_desk(tmp_path) as desk:
        with pytest.raises(RefusedError, match="no such pool"):
            await imported(desk, signed_in(desk, "a"), "gogle")


async def test_static_secrets_are_imported_by_name(tmp_path: Path) -> None:
    """``name,secret``: nobody can be asked about them."""
    async with open_desk(tmp_path) as desk:
        found = list(text_entries("search-1,the-first\nsearch-2,the-second\n", "the list"))
        assert (await imported(desk, found, "keys")).counts == {"added": 2}
        assert (await imported(desk, found, "keys")).counts == {"unchanged": 2}
        assert desk.stored("keys/search-2")["token"]["access_token"] == "the-second"


async def test_clients_are_imported_and_known_again(tmp_path: Path) -> None:
    """Of a `client_credentials` pool: each with its secret, proved once."""
    async with open_desk(tmp_path) as desk:
        found = listed(*({"name": f"job-{n}", "client_id": f"client-{n}", "client_secret": "s"} for n in range(3)))
        assert (await imported(desk, found, "service")).counts == {"added": 3}
        assert (await imported(desk, found, "service")).counts == {"unchanged": 3}
        assert len(desk.posts) == 3
        assert desk.stored("service/job-1")["client"] == {"client_id": "client-1", "client_secret": "s"}
