"""What the audit trail tells of credentials, and how little is read for it."""

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, Token, fingerprint
from authpool.accounts.events import AccountEvent, EventKind
from authpool.store import trail_index
from authpool.store.audit import Entry, Process, entry_of
from authpool.store.folder import trail_files
from authpool.store.folder.store import FolderStore
from authpool.store.folder.trail_files import NAME, rotated_path
from authpool.store.trail_index import Known, TrailIndex
from support.clock import FakeClock
from support.crashing_process import inline
from support.trail import AuditTrail

ALICE = AccountKey.of("p", "alice")


@pytest.fixture
def trail(tmp_path: Path, clock: FakeClock) -> AuditTrail:
    return AuditTrail(tmp_path, clock, "gateway")


def event(
    kind: EventKind,
    token: str,
    *,
    generation: int = 1,
    name: str = "alice",
    replaced: str | None = None,
    reason: str = "",
) -> AccountEvent:
    account = Account(pool="p", name=name, generation=generation, token=Token(refresh_token=token))
    mark = None if replaced is None else fingerprint(replaced)
    return AccountEvent(kind=kind, account=account, replaced=mark, reason=reason)


def index_of(home: Path) -> TrailIndex:
    return TrailIndex(FolderStore(home / "accounts", run=inline))


def catch_up(index: TrailIndex) -> None:
    asyncio.run(index.catch_up())


def known(index: TrailIndex, token: str) -> Known | None:
    catch_up(index)
    return index.known(fingerprint(token))


def is_spent(index: TrailIndex, token: str) -> bool:
    found = known(index, token)
    return found is not None and found.exchanged_at is not None


def test_what_was_exchanged_is_known_with_whom_and_when(trail: AuditTrail, tmp_path: Path, clock: FakeClock) -> None:
    """The token that a refresh presented is spent, its successor is the account's; also where neither was heard of."""
    trail.record(event("rotated", "r2", generation=2, replaced="r1"))
    index = index_of(tmp_path)
    assert known(index, "r1") == Known(account=ALICE, exchanged_at=int(clock.time()), generation=2)
    assert known(index, "r2") == Known(account=ALICE)
    assert known(index, "other") is None


def test_what_this_process_exchanged_is_known_also_where_the_trail_can_not_be_written(
    tmp_path: Path, clock: FakeClock
) -> None:
    """A full disk, most often; and an old copy of the account may be put back meanwhile."""
    index = index_of(tmp_path)
    entry = entry_of(event("rotated", "r2", replaced="r1"), now=clock.time(), process=Process(pid=1, kind="gateway"))
    assert entry is not None
    index.note(entry)
    assert is_spent(index, "r1")
    assert not is_spent(index, "r2")


def test_only_what_was_appended_is_read(trail: AuditTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look reads the one new line, and a third, with nothing new, opens no file."""
    read: list[int] = []
    original = trail_files.read_from

    def counting(file: object, offset: int) -> bytes | None:
        content = original(file, offset)  # type: ignore[arg-type]
        read.append(len(content or b""))
        return content

    monkeypatch.setattr(trail_files, "read_from", counting)
    index = index_of(tmp_path)
    for number in range(2, 50):
        trail.record(event("rotated", f"r{number}", generation=number, replaced=f"r{number - 1}"))
    catch_up(index)
    trail.record(event("rotated", "r50", generation=50, replaced="r49"))
    last = (tmp_path / NAME).read_bytes().splitlines(keepends=True)[-1]
    catch_up(index)
    catch_up(index)
    assert read[1:] == [len(last)]
    assert is_spent(index, "r49")


def test_rotated_files_are_followed(tmp_path: Path, clock: FakeClock) -> None:
    """Nothing is missed where the trail is renamed between two looks, nor what is still appended to the old file."""
    small = AuditTrail(tmp_path, clock, "gateway", rotate_bytes=600)
    index = index_of(tmp_path)
    for number in range(2, 12):
        small.record(event("rotated", f"r{number}", generation=number, replaced=f"r{number - 1}"))
        assert is_spent(index, f"r{number - 1}")
    with rotated_path(tmp_path / NAME, 1).open("ab") as late:
        entry = json.loads((tmp_path / NAME).read_text().splitlines()[-1])
        late.write(json.dumps(entry | {"fingerprint": "b" * 8, "replaced": "a" * 8}).encode() + b"\n")
    catch_up(index)
    found = index.known("a" * 8)
    assert found is not None
    assert found.exchanged_at is not None


def test_trail_of_an_older_authpool_tells_by_the_generations(trail: AuditTrail, tmp_path: Path) -> None:
    """Without the spent token's fingerprint, the credential written right before a refresh is what it spent."""
    trail.record(event("added", "r1"))
    trail.record(event("rotated", "r2", generation=2))
    trail.record(event("rotated", "r4", generation=4))  # r3 came by somebody's hand
    index = index_of(tmp_path)
    assert [is_spent(index, token) for token in ("r1", "r2", "r4")] == [True, False, False]


@pytest.mark.parametrize("kind", ("paused", "resumed", "disabled"))
def test_what_changes_no_credential_makes_a_spent_one_no_better(
    trail: AuditTrail, tmp_path: Path, kind: EventKind
) -> None:
    """Also where the account holds the spent one at that time."""
    trail.record(event("rotated", "r2", generation=2, replaced="r1"))
    trail.record(event(kind, "r1"))
    assert is_spent(index_of(tmp_path), "r1")


@pytest.mark.parametrize("kind", ("enabled", "added", "readded"))
def test_a_credential_that_is_taken_up_again_counts(trail: AuditTrail, tmp_path: Path, kind: EventKind) -> None:
    """Proved, or vouched for by a person."""
    trail.record(event("rotated", "r2", generation=2, replaced="r1"))
    trail.record(event(kind, "r1"))
    assert known(index_of(tmp_path), "r1") == Known(account=ALICE)


def test_what_a_removed_account_spent_stays_spent(trail: AuditTrail, tmp_path: Path) -> None:
    """A copy of its file would present it yet; what it held last may be used by who has it."""
    trail.record(event("rotated", "r2", generation=2, replaced="r1"))
    trail.record(event("rotated", "b2", generation=2, replaced="b1", name="bob"))
    trail.record(event("removed", "r2"))
    index = index_of(tmp_path)
    assert [is_spent(index, token) for token in ("r1", "r2", "b1")] == [True, False, True]


def test_a_moved_account_takes_its_spent_tokens_along(trail: AuditTrail, tmp_path: Path) -> None:
    """What it exchanged under its old address is spent under the new one."""
    trail.record(event("rotated", "r2", generation=2, replaced="r1"))
    trail.record(event("moved", "r2", generation=2, reason="to q/alice"))
    found = known(index_of(tmp_path), "r1")
    assert found is not None
    assert found.account == AccountKey.of("q", "alice")


def _take_away(home: Path) -> None:
    (home / NAME).unlink()


def _make_garbage(home: Path) -> None:
    (home / NAME).write_bytes(b"\xff\n{}\n[]\nnot json\n" + b'{"account": "p/alice", "event": "refreshed"}\n')


def _make_a_folder(home: Path) -> None:
    (home / NAME).unlink()
    (home / NAME).mkdir()


def _make_a_fifo(home: Path) -> None:
    (home / NAME).unlink()
    os.mkfifo(home / NAME)


@pytest.mark.parametrize("spoil", (_take_away, _make_garbage, _make_a_folder, _make_a_fifo))
def test_a_trail_that_can_not_be_read_accuses_nobody(
    trail: AuditTrail, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """A new process knows nothing; one that read it before goes on knowing."""
    trail.record(event("rotated", "r2", generation=2, replaced="r1"))
    before = index_of(tmp_path)
    catch_up(before)
    spoil(tmp_path)
    assert is_spent(before, "r1")
    assert known(index_of(tmp_path), "r1") is None


@pytest.mark.parametrize("in_place", (True, False))
def test_an_older_trail_that_is_put_back_teaches_nothing_wrong(
    trail: AuditTrail, tmp_path: Path, clock: FakeClock, *, in_place: bool
) -> None:
    """A process that read the newer one does not take a spent token for good again."""
    trail.record(event("rotated", "r2", generation=2, replaced="r1"))
    older = (tmp_path / NAME).read_bytes()
    clock.jump(60)
    trail.record(event("rotated", "r3", generation=3, replaced="r2"))
    index = index_of(tmp_path)
    catch_up(index)
    if not in_place:
        (tmp_path / NAME).rename(tmp_path / "aside")
    (tmp_path / NAME).write_bytes(older)
    assert is_spent(index, "r2")
    assert known(index_of(tmp_path), "r2") == Known(account=ALICE)


def test_memory_has_an_end(trail: AuditTrail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was heard of longest ago is forgotten."""
    monkeypatch.setattr(trail_index, "REMEMBERED", 4)
    for number in range(2, 10):
        trail.record(event("rotated", f"r{number}", generation=number, replaced=f"r{number - 1}"))
    index = index_of(tmp_path)
    assert [is_spent(index, f"r{number}") for number in (2, 5, 6, 8)] == [False, False, True, True]
    assert known(index, "r9") == Known(account=ALICE)


@pytest.mark.parametrize("spends", ("alice", "bob"))
def test_two_credentials_may_have_one_fingerprint(tmp_path: Path, clock: FakeClock, spends: str) -> None:
    """Of ten thousand accounts that rotate some meet each day: the exchange of one says nothing of the other's."""
    mark, clocked = "201efd04", int(clock.time())
    index = index_of(tmp_path)

    def refreshed(name: str, given: str, spent: str) -> None:
        index.note(
            Entry(
                time=clocked,
                event="refreshed",
                account=f"p/{name}",
                reason="",
                process=Process(pid=1, kind="gateway"),
                fingerprint=given,
                generation=2,
                replaced=spent,
            )
        )

    refreshed("alice", mark, "aaaaaaaa")
    refreshed("bob", mark, "bbbbbbbb")
    refreshed(spends, "cccccccc", mark)
    other = AccountKey.of("p", "bob" if spends == "alice" else "alice")
    spent = index.known(mark, AccountKey.of("p", spends))
    assert spent is not None
    assert (spent.account.name, spent.exchanged_at) == (spends, clocked)
    assert index.known(mark, other) == Known(account=other)


def test_a_copy_that_was_given_the_same_for_the_same_is_no_other_credential(trail: AuditTrail, tmp_path: Path) -> None:
    """A provider's grace window answers the identical pair again: who exchanges that spends it for both."""
    trail.record(event("rotated", "r2", generation=2, replaced="r1"))
    trail.record(event("rotated", "r2", generation=2, replaced="r1", name="bob"))
    trail.record(event("rotated", "r3", generation=3, replaced="r2", name="bob"))
    index = index_of(tmp_path)
    catch_up(index)
    found = index.known(fingerprint("r2"), ALICE)
    assert found is not None
    assert found.exchanged_at is not None
