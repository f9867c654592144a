"""The account store on a folder, within one process: real files, and failures at chosen steps."""

# ruff: noqa: ASYNC240  a test may look at a local file wherever it is

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authpool.accounts.account import Account, AccountKey, BrokenAccount, Token
from authpool.errors import BrokenAccountError, RefusedError, StoreUnavailableError, UnknownAccountError
from authpool.files.atomic_file import FileOperations, StrPath
from authpool.store import Record, Store
from authpool.store.folder.account_file import dump_account, parse_account
from authpool.store.folder.store import FolderStore
from support.file_operations import STEPS, CountingFiles, EditedFiles, InterruptedFiles

ALICE = AccountKey("google", "alice")
BOB = AccountKey("google", "bob")


async def inline[T](function: Callable[..., T], *arguments: Any, **keywords: Any) -> T:
    """Run file work where it stands."""
    return function(*arguments, **keywords)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An accounts folder with one pool and one account."""
    (tmp_path / "accounts" / "google").mkdir(parents=True, mode=0o700)
    put(tmp_path / "accounts", "alice")
    return tmp_path / "accounts"


def put(folder: Path, file_name: str, text: str = 'label = "work"\n\n[token]\nrefresh_token = "old"\n') -> Path:
    """Write an account's file in place, as a simple editor does."""
    path = folder / "google" / f"{file_name}.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


def renewed(account: Account | None) -> Account | None:
    return account and account.with_token(Token(access_token="new", refresh_token="new"))


class AfterRead(FileOperations):
    """Does something once, right after a file was read."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.arm(action)

    def arm(self, action: Callable[[], object]) -> None:
        self._actions = [action]

    def read(self, path: StrPath) -> bytes:
        data = super().read(path)
        if self._actions:
            self._actions.pop()()
        return data


def stored(folder: Path, name: str = "alice") -> Account:
    return parse_account("google", name, (folder / "google" / f"{name}.toml").read_bytes())


def litter(folder: Path) -> list[str]:
    """Files that are neither accounts nor locks."""
    return [p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith((".toml", ".lock"))]


def is_account(record: Record | None) -> bool:
    return isinstance(record, Account)


def reason(record: Record | None) -> str:
    assert isinstance(record, BrokenAccount)
    return record.reason


async def told_gone(store: FolderStore) -> dict[AccountKey, Record | None]:
    """What `changes` tells once it tells something: a file is believed gone at the second look only."""
    async with asyncio.timeout(30):
        while not (changes := dict(await store.changes())):
            await asyncio.sleep(0.01)
    return changes


async def settled(store: FolderStore, files: CountingFiles) -> None:
    """Wait until no file is so young that it is read once more to be sure."""
    async with asyncio.timeout(30):
        while files.reads:
            files.reads.clear()
            await asyncio.sleep(0.02)
            await store.changes()


def test_it_is_a_store() -> None:
    """The type checker agrees that FolderStore has what Store asks for."""
    store: Store = FolderStore(Path("accounts"))
    assert callable(store.update)


async def test_a_folder_that_never_was_is_empty(tmp_path: Path) -> None:
    """No account, no error, and nothing is created by looking."""
    store = FolderStore(tmp_path / "accounts")
    assert await store.load(["google"]) == {}
    assert await store.changes() == {}
    assert await store.update(ALICE, renewed) is None
    with pytest.raises(UnknownAccountError, match="google/alice"):
        await store.read(ALICE)
    assert list(tmp_path.iterdir()) == []


async def test_a_new_account_is_private(tmp_path: Path) -> None:
    """Folders 0700, files 0600, lock files too, whatever the umask."""
    before = os.umask(0)
    try:
        store = FolderStore(tmp_path / "accounts")
        async with store.hold(ALICE):
            await store.update(ALICE, lambda _: Account(pool="google", name="alice"))
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "accounts").rglob("*")}
    assert modes == {"google": 0o700, "alice.toml": 0o600, ".lock": 0o600, ".alice.lock": 0o600}
    assert (tmp_path / "accounts").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("run", (asyncio.to_thread, inline))
async def test_an_update_is_stored_and_returned(folder: Path, run: Any) -> None:
    """What is returned is what a fresh store reads, and what is unknown survives."""
    store = FolderStore(folder, run=run)
    after = await store.update(ALICE, renewed)
    assert after == await FolderStore(folder, run=run).read(ALICE) == stored(folder)
    assert (after.generation, after.token.refresh_token, after.extra) == (1, "new", {"label": "work"})
    assert litter(folder) == []


async def test_nothing_is_written_for_no_change(folder: Path) -> None:
    """The very same object back: the file is not touched."""
    before = (folder / "google" / "alice.toml").stat()
    await FolderStore(folder).update(ALICE, lambda account: account)
    assert (folder / "google" / "alice.toml").stat() == before


async def test_none_removes_the_account_and_keeps_its_lock(folder: Path) -> None:
    """The lock file stays, or two processes could hold two files of one name."""
    store = FolderStore(folder)
    await store.load(["google"])
    async with store.hold(ALICE):
        assert await store.update(ALICE, lambda _: None) is None
    assert {p.name for p in (folder / "google").iterdir()} == {".lock", ".alice.lock"}
    assert await store.changes() == {ALICE: None}


async def test_a_change_that_raises_changes_nothing(folder: Path) -> None:
    """The exception goes to the caller, and the next update is not held up."""

    def refuse(_: Account | None) -> Account | None:
        raise RefusedError("not this one")

    store = FolderStore(folder)
    with pytest.raises(RefusedError, match="not this one"):
        await store.update(ALICE, refuse)
    assert stored(folder).generation == 0
    assert await store.update(ALICE, renewed)


async def test_a_change_may_not_turn_one_account_into_another(folder: Path) -> None:
    """It would be written under a name that nobody locked."""
    with pytest.raises(ValueError, match="returned google/bob"):
        await FolderStore(folder).update(ALICE, lambda _: Account(pool="google", name="bob"))
    assert not (folder / "google" / "bob.toml").exists()


async def test_the_spelling_first_seen_is_kept(folder: Path) -> None:
    """Alice stays Alice, in the file and in its name, whoever writes alice."""
    store = FolderStore(folder)
    bob = await store.update(BOB, lambda _: Account(pool="google", name="Bob"))
    assert bob
    again = await store.update(BOB, lambda _: Account(pool="google", name="bOB", generation=5))
    assert again
    assert (again.name, again.generation) == ("Bob", 5)
    assert [p.name for p in (folder / "google").glob("[bB]*")] == ["Bob.toml"]


@pytest.mark.parametrize("name", ("team/bot", "..", ".hidden", "Zoë Straße", "ΑΘΗΝΑ", "x" * 240, "50%", "~"))
async def test_any_reasonable_name_works(folder: Path, name: str) -> None:
    """Slashes, dots, blanks, other alphabets: one file each, inside the pool's folder."""
    store = FolderStore(folder)
    key = AccountKey.of("google", name)
    async with store.hold(key):
        await store.update(key, lambda _: Account(pool="google", name=name))
    assert (await store.load(["google"])).keys() == {ALICE, key}
    assert (await FolderStore(folder).read(AccountKey.of("google", name.upper()))).name == name
    path = store.path_of(key)
    assert path
    assert path.parent == folder / "google"


@pytest.mark.parametrize("name", ("", "x" * 300, "a\nb", "a\x00b", "a\ud800"))
async def test_an_impossible_name_is_refused(folder: Path, name: str) -> None:
    """Before anything is written."""
    with pytest.raises(RefusedError, match="can't be an account name"):
        await FolderStore(folder).update(AccountKey.of("google", name), lambda _: Account(pool="google", name=name))
    assert [p.name for p in (folder / "google").glob("*.toml")] == ["alice.toml"]


async def test_a_pool_name_leads_nowhere_else(folder: Path) -> None:
    """Pool names become folder names the way account names become file names."""
    key = AccountKey.of("../out", "eve")
    await FolderStore(folder).update(key, lambda _: Account(pool="../out", name="eve"))
    assert (folder / "%2E.%2Fout" / "eve.toml").exists()
    assert {p.name for p in folder.parent.iterdir()} == {"accounts"}


async def test_a_value_that_is_no_text_is_refused_unseen(folder: Path) -> None:
    """A lone surrogate (JSON can carry one) is refused before the old file is given up."""
    with pytest.raises(RefusedError, match="lone surrogates") as caught:
        await FolderStore(folder).update(
            ALICE, lambda account: account and account.with_token(Token(access_token="s3cret\ud800"))
        )
    assert caught.value.__suppress_context__
    assert stored(folder).token.refresh_token == "old"


# --- broken records


def cut_in_half(path: Path) -> None:
    path.write_bytes(dump_account(Account(pool="google", name="bob", token=Token(refresh_token="s3cret")))[:-4])


def make_link(path: Path) -> None:
    path.rename(path.with_suffix(".aside"))
    path.symlink_to(path.with_suffix(".aside"))


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o700)


@pytest.mark.parametrize(
    ("damage", "told"),
    (
        (cut_in_half, "not valid TOML at "),
        (lambda path: path.write_bytes(b"s3cret\xff"), "not UTF-8 text"),
        (lambda path: path.write_text("[s3cret]\n[s3cret]"), "not valid TOML at line 2, column 8"),
        (lambda path: path.write_text("a = " + "[" * 5000), "not valid TOML"),
        (lambda path: path.write_text("version = 3"), "`version` is 3"),
        (lambda path: path.write_text('name = "carol"'), "`name` is not the one"),
        (lambda path: path.write_text("# " + "x" * (1 << 20)), "larger than 1 MiB"),
        (lambda path: path.chmod(0o640), "chmod 600"),
        (make_link, "bob.toml is a symbolic link"),
        (make_folder, "bob.toml is not a regular file"),
    ),
)
async def test_a_bad_file_breaks_one_account(folder: Path, damage: Callable[[Path], Any], told: str) -> None:
    """It is told with a reason that shows nothing of its content, and no other account notices."""
    damage(put(folder, "bob"))
    store = FolderStore(folder)
    records = await store.load(["google"])
    assert told in reason(records[BOB])
    assert "s3cret" not in reason(records[BOB])
    assert is_account(records[ALICE])
    with pytest.raises(BrokenAccountError, match="google/bob: "):
        await store.read(BOB)
    with pytest.raises(BrokenAccountError, match="google/bob: "):
        await store.update(BOB, renewed)


async def test_a_mended_file_is_an_account_again(folder: Path) -> None:
    """As soon as `changes` looks; a changed mode counts as well."""
    path = put(folder, "bob")
    path.chmod(0o644)
    store = FolderStore(folder)
    assert "chmod 600" in reason((await store.load(["google"]))[BOB])
    path.chmod(0o600)
    assert is_account((await store.changes())[BOB])


async def test_a_broken_record_is_set_aside_when_replaced(folder: Path) -> None:
    """`replace_broken` starts from nothing and loses nothing, however often."""
    store = FolderStore(folder)
    for text in ("first [", "second ["):
        put(folder, "bob", text)
        given: list[Account | None] = []

        def add(account: Account | None, given: list[Account | None] = given) -> Account:
            given.append(account)
            return Account(pool="google", name="bob")

        assert await store.update(BOB, add, replace_broken=True)
        assert given == [None]
    assert (folder / "google" / "bob.broken").read_text() == "first ["
    assert (folder / "google" / "bob.broken-2").read_text() == "second ["
    assert (await store.load(["google"])).keys() == {ALICE, BOB}


async def test_a_broken_record_can_be_removed(folder: Path) -> None:
    """A change to None with `replace_broken` takes it away, and keeps it aside."""
    put(folder, "bob", "half [")
    store = FolderStore(folder)
    assert await store.update(BOB, lambda _: None, replace_broken=True) is None
    assert (await store.load(["google"])).keys() == {ALICE}
    assert (folder / "google" / "bob.broken").read_text() == "half ["


async def test_a_file_name_that_is_no_account_is_shown(folder: Path) -> None:
    """It is broken under what can be shown of its name, and can't be written to."""
    put(folder, "caf%E9")
    put(folder, "a%0Ab")
    store = FolderStore(folder)
    records = await store.load(["google"])
    shown = {key.name: reason(record) for key, record in records.items() if key != ALICE}
    assert shown.keys() == {"caf%e9", "a%0ab"}
    assert "not percent-encoded UTF-8" in shown["caf%e9"]
    assert "control characters" in shown["a%0ab"]
    key = AccountKey.of("google", "caf%e9")
    with pytest.raises(RefusedError, match="rename or remove it"):
        await store.update(key, lambda _: Account(pool="google", name="caf%E9"), replace_broken=True)


async def test_files_that_are_no_accounts_are_left_alone(folder: Path) -> None:
    """Hidden files, other suffixes and editors' backups are nobody's account."""
    for name in (".alice.toml.swp", ".alice.toml", "alice.toml~", "notes.txt", "alice.json"):
        (folder / "google" / name).write_text("x")
    assert (await FolderStore(folder).load(["google"])).keys() == {ALICE}


async def test_the_first_of_two_namesakes_is_the_account(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Alice.toml sorts before alice.toml; the other is warned of, once, and takes over when it must."""
    put(folder, "Alice", 'label = "first"')
    files = CountingFiles()
    store = FolderStore(folder, files=files)
    (record,) = (await store.load(["google"])).values()
    assert record.name == "Alice"
    await settled(store, files)
    (warning,) = caplog.messages
    assert "alice.toml" in warning
    await store.update(ALICE, renewed)
    assert stored(folder, "Alice").generation == 1
    assert stored(folder, "alice").generation == 0
    await store.changes()
    (folder / "google" / "Alice.toml").unlink()
    changed = (await told_gone(store))[ALICE]
    assert is_account(changed)
    assert changed == stored(folder, "alice")


# --- following


async def test_a_foreign_change_is_told_once(folder: Path) -> None:
    """New, changed and removed files, whether edited in place or saved by renaming."""
    store = FolderStore(folder)
    await store.load(["google"])
    put(folder, "alice", 'generation = 2\n[token]\nrefresh_token = "old"')
    put(folder, "bob.new").rename(folder / "google" / "bob.toml")
    assert {k: is_account(r) for k, r in (await store.changes()).items()} == {ALICE: True, BOB: True}
    assert await store.changes() == {}
    put(folder, "alice.new", 'generation = 3\n[token]\nrefresh_token = "old"').rename(folder / "google" / "alice.toml")
    (folder / "google" / "bob.toml").unlink()
    assert await store.changes() == {ALICE: stored(folder)}
    assert await told_gone(store) == {BOB: None}
    assert await store.changes() == {}


async def test_a_file_is_believed_gone_at_the_second_look(folder: Path) -> None:
    """An editor's moment without a file is nothing to tell of, whether one follows or loads anew."""
    store = FolderStore(folder)
    before = await store.load(["google"])
    path = folder / "google" / "alice.toml"
    for look in (store.changes, lambda: store.load(["google"])):
        aside = path.rename(path.with_suffix(".toml~"))
        asyncio.get_running_loop().call_later(0.02, aside.rename, path)
        assert await look() in ({}, before)
        async with asyncio.timeout(30):
            while not path.exists():
                await asyncio.sleep(0.01)
        assert await store.changes() == {}
    path.unlink()
    assert await store.load(["google"]) == {}


@pytest.mark.parametrize(
    "half",
    ("", 'label = "wo', 'label = "work"\n', 'version = 1\nname = "alice"\n\n[token]\n'),
    ids=("empty", "broken", "no token", "an empty token"),
)
async def test_a_file_without_a_credential_is_believed_at_the_second_look(folder: Path, half: str) -> None:
    """An editor that saves in place leaves a moment with half of a file: the account goes on meanwhile."""
    store = FolderStore(folder, run=inline)
    await store.load(["google"])
    whole = (folder / "google" / "alice.toml").read_text()
    put(folder, "alice", half)
    assert await store.changes() == {}
    put(folder, "alice", whole)
    assert await store.changes() == {}
    put(folder, "alice", half)
    assert (await told_gone(store)).keys() == {ALICE}


async def test_what_this_process_removed_is_told_at_once(folder: Path) -> None:
    """There is nothing to make sure of."""
    store = FolderStore(folder)
    await store.load(["google"])
    await store.update(ALICE, lambda _: None)
    assert await store.changes() == {ALICE: None}


async def test_a_second_edit_within_one_tick_is_not_missed(folder: Path) -> None:
    """Same size, same inode, maybe the same time stamps: a young file is read once more."""
    files = CountingFiles()
    store = FolderStore(folder, files=files)
    path = put(folder, "alice", "generation = 1")
    await store.load(["google"])
    files.reads.clear()
    await store.changes()
    assert files.reads == ["alice.toml"]
    identity = path.stat()
    for _ in range(200):
        path.write_text("generation = 1")
        os.utime(path, ns=(identity.st_mtime_ns, identity.st_mtime_ns))
        await store.load(["google"])
        path.write_text("generation = 2")
        os.utime(path, ns=(identity.st_mtime_ns, identity.st_mtime_ns))
        assert (await store.changes()).keys() == {ALICE}


async def test_what_is_told_is_never_older_than_an_update(folder: Path) -> None:
    """Own writes are told like anybody's, in the state that `update` returned or a later one."""
    store = FolderStore(folder)
    await store.load(["google"])
    for _ in range(50):
        changes, after = await asyncio.gather(store.changes(), store.update(ALICE, renewed))
        assert after
        later = {**changes, **await store.changes()}
        assert later == {ALICE: after}


async def test_a_sweep_does_not_undo_an_update_that_overtook_it(folder: Path) -> None:
    """What a sweep read before an update wrote is not told after it."""
    files = AfterRead(lambda: None)
    store = FolderStore(folder, files=files)
    await store.load(["google"])
    put(folder, "alice", "generation = 5")

    def overtake() -> None:
        writer = threading.Thread(target=lambda: asyncio.run(store.update(ALICE, renewed)))
        writer.start()
        writer.join()

    files.arm(overtake)
    changes = await store.changes()
    assert changes == {ALICE: stored(folder)}
    assert stored(folder).generation == 6


async def test_a_folder_moved_away_is_no_removal(folder: Path) -> None:
    """Its accounts are not told as gone, it is not made anew, and once back it is followed again."""
    store = FolderStore(folder)
    await store.load(["google"])
    away = folder.rename(folder.with_name("away"))
    for attempt in (store.changes, lambda: store.load(["google"]), lambda: store.update(ALICE, renewed)):
        with pytest.raises(StoreUnavailableError, match=r"accounts/google is gone; put it back"):
            await attempt()
    with pytest.raises(StoreUnavailableError, match="is gone"):
        async with store.hold(ALICE):
            pytest.fail("there is nothing to lock")
    assert not folder.exists()
    away.rename(folder)
    put(folder, "bob")
    assert (await store.changes()).keys() == {BOB}


async def test_a_waiter_does_not_bring_a_moved_folder_back(folder: Path) -> None:
    """Whoever waits for a lock in it is told; an empty folder would read as all accounts removed."""
    tried = asyncio.Event()

    async def telling(function: Callable[..., Any], *arguments: Any) -> Any:
        result = await inline(function, *arguments)
        if result is False and function.__name__ == "take":
            tried.set()
        return result

    async with FolderStore(folder).hold(ALICE):
        other = FolderStore(folder, run=telling)
        waiter = asyncio.create_task(AsyncExitStack().enter_async_context(other.hold(ALICE)))
        await tried.wait()
        folder.rename(folder.with_name("away"))
        with pytest.raises(StoreUnavailableError, match="is gone"):
            await waiter
        assert not folder.exists()


async def test_one_pool_gone_does_not_silence_another(folder: Path) -> None:
    """What there is to tell is told first, the trouble after it."""
    store = FolderStore(folder)
    azure = AccountKey("azure", "carol")
    await store.update(azure, lambda _: Account(pool="azure", name="carol"))
    await store.load(["google", "azure"])
    (folder / "google").rename(folder / "elsewhere")
    await FolderStore(folder).update(azure, renewed)
    assert (await store.changes()).keys() == {azure}
    with pytest.raises(StoreUnavailableError, match="google is gone"):
        await store.changes()


async def test_one_changed_file_of_many_is_one_read(tmp_path: Path) -> None:
    """10,000 accounts load in under 2 s, a quiet sweep reads nothing, a change to one file reads one file."""
    (tmp_path / "google").mkdir(mode=0o700)
    token = Token(access_token="a" * 200, refresh_token="b" * 100, expires_at=1_700_003_600, scope="openid")
    template = dump_account(Account(pool="google", name="NAME", token=token))
    for number in range(10_000):
        name = f"user{number}@example.com"
        data = template.replace(b"NAME", name.encode())
        put_bytes(tmp_path / "google" / f"{name}.toml", data)
    files = CountingFiles()
    store = FolderStore(tmp_path, files=files)
    assert len(await store.load(["google"])) == 10_000
    await settled(store, files)

    put_bytes(tmp_path / "google" / "user77@example.com.toml", b'generation = 3\n[token]\nrefresh_token = "b"')
    changes = await store.changes()

    assert [str(key) for key in changes] == ["google/user77@example.com"]
    assert files.reads == ["user77@example.com.toml"]


def put_bytes(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.write(descriptor, data)
    os.close(descriptor)


# --- compare-and-set


async def test_an_edit_in_the_middle_of_an_update_holds(folder: Path) -> None:
    """The change is made again on what the editor saved."""
    files = EditedFiles(lambda: put(folder, "alice", 'label = "edited"'))
    after = await FolderStore(folder, files=files).update(ALICE, renewed)
    assert after
    assert (after.extra, after.generation, files.left) == ({"label": "edited"}, 1, 0)
    assert stored(folder) == after


async def test_an_account_that_appears_in_the_middle_is_not_overwritten(folder: Path) -> None:
    """Two additions of one name, differently spelt, become one account."""
    files = EditedFiles(lambda: put(folder, "BOB", "generation = 4"))
    after = await FolderStore(folder, files=files).update(
        BOB, lambda a: replace(a, generation=a.generation + 1) if a else Account(pool="google", name="bob")
    )
    assert after
    assert (after.name, after.generation) == ("BOB", 5)
    assert not (folder / "google" / "bob.toml").exists()


async def test_an_account_that_vanishes_in_the_middle_stays_gone(folder: Path) -> None:
    """A removal by hand is an edit too."""
    files = EditedFiles((folder / "google" / "alice.toml").unlink)
    assert await FolderStore(folder, files=files).update(ALICE, renewed) is None
    assert litter(folder) == []
    assert not (folder / "google" / "alice.toml").exists()


async def test_a_half_saved_edit_is_waited_for(folder: Path) -> None:
    """A file that is broken because an editor is just writing it does not fail the update."""
    put(folder, "alice", 'label = "ha')
    files = AfterRead(lambda: put(folder, "alice", 'label = "half no more"'))
    after = await FolderStore(folder, files=files).update(ALICE, renewed)
    assert after
    assert after.extra == {"label": "half no more"}


async def test_endless_edits_are_given_up(folder: Path) -> None:
    """The store says so instead of trying for ever; the last edit stands."""
    generations = iter(range(1000))
    files = EditedFiles(lambda: put(folder, "alice", f"generation = {next(generations)}"), times=1000)
    with pytest.raises(StoreUnavailableError, match="changes faster"):
        await FolderStore(folder, files=files).update(ALICE, renewed)
    assert stored(folder).generation == 1000 - files.left - 1
    assert litter(folder) == []


# --- failures


@pytest.mark.parametrize("step", STEPS)
async def test_a_failing_disk_leaves_old_or_new(folder: Path, step: str) -> None:
    """At whatever step: one content or the other whole, an error that names the file, no litter, no lock."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = InterruptedFiles(step, fail)
    store = FolderStore(folder, files=files)
    with pytest.raises(StoreUnavailableError, match=r"alice\.toml: No space left on device"):
        await store.update(ALICE, renewed)
    renamed = step in {"after rename", "fsync_folder"}
    assert stored(folder).token.refresh_token == ("new" if renamed else "old")
    assert litter(folder) == []
    files.step = None
    after = await store.update(ALICE, renewed)
    assert after == stored(folder)


async def test_trouble_of_the_store_breaks_no_account(folder: Path) -> None:
    """Too many open files is no account's fault: the sweep fails, and the next one goes on."""

    class Exhausted(CountingFiles):
        exhausted = True

        def read(self, path: Any) -> bytes:
            if self.exhausted:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
            return super().read(path)

    files = Exhausted()
    store = FolderStore(folder, files=files)
    with pytest.raises(StoreUnavailableError, match="Too many open files"):
        await store.load(["google"])
    files.exhausted = False
    assert is_account((await store.load(["google"]))[ALICE])


async def test_what_crashes_left_is_cleared_away(folder: Path) -> None:
    """Temporary files go at load once they are a day old: a younger one may be of somebody with another clock."""
    old, young = folder / "google" / ".1-dead.tmp", folder / "google" / ".2-alive.tmp"
    for path in (old, young):
        path.write_text("half")
    os.utime(old, (0, time.time() - 86500))
    os.utime(young, (0, time.time() - 7200))
    await FolderStore(folder).load(["google"])
    assert litter(folder) == [young.name]


# --- locks in one process


async def test_two_tasks_exclude_each_other(folder: Path) -> None:
    """A lock is nobody's twice, and waiting for it does not block the event loop or an update."""
    store = FolderStore(folder)
    inside = 0

    async def work() -> None:
        nonlocal inside
        async with store.hold(ALICE):
            inside += 1
            assert inside == 1
            await store.update(ALICE, renewed)
            inside -= 1

    async with asyncio.timeout(20), store.hold(BOB):
        await asyncio.gather(*(work() for _ in range(10)))
    assert stored(folder).generation == 10


async def test_one_account_has_one_lock_however_spelt(folder: Path) -> None:
    """The lock goes by the folded name; one too long for a file has a lock all the same."""
    store = FolderStore(folder)
    for name in ("Bob", "x" * 300, "a/b"):
        async with store.hold(AccountKey.of("google", name)):
            waiter = asyncio.create_task(
                AsyncExitStack().enter_async_context(store.hold(AccountKey.of("google", name.upper())))
            )
            done, _ = await asyncio.wait([waiter], timeout=0.1)
            assert not done
            waiter.cancel()
            await asyncio.wait([waiter])


async def test_a_cancelled_waiter_leaks_nothing(folder: Path) -> None:
    """Cancelled at any moment, also while a thread is just taking the lock: the lock is free afterwards."""
    store = FolderStore(folder)
    descriptors = len(os.listdir("/dev/fd"))
    for turns in range(30):
        waiter = asyncio.create_task(AsyncExitStack().enter_async_context(store.hold(ALICE)))
        for _ in range(turns % 6):
            await asyncio.sleep(0)
        waiter.cancel()
        (outcome,) = await asyncio.gather(waiter, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError)
    async with asyncio.timeout(5), store.hold(ALICE):
        pass
    async with asyncio.timeout(30):
        while len(os.listdir("/dev/fd")) > descriptors:
            await asyncio.sleep(0.01)


async def test_an_error_inside_a_lock_frees_it(folder: Path) -> None:
    """Like any context manager."""
    store = FolderStore(folder)
    with pytest.raises(RefusedError):
        async with store.hold(ALICE):
            raise RefusedError("inside")
    async with asyncio.timeout(5), store.hold(ALICE):
        pass
