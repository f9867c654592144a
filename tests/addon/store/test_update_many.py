"""Several accounts written in one go, as each by itself."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from authpool.accounts.account import Account, AccountKey, Token
from authpool.errors import RefusedError, StoreUnavailableError
from authpool.files.atomic_file import FileOperations
from authpool.store import Change
from authpool.store.folder.store import FolderStore


def fresh(name: str, token: str = "t") -> Account:
    return Account(pool="google", name=name, token=Token(refresh_token=token))


def adding(*names: str) -> dict[AccountKey, Change]:
    accounts = [fresh(name) for name in names]
    return {account.key: lambda current, account=account: current or account for account in accounts}


async def test_all_are_written_and_read_again(tmp_path: Path) -> None:
    """In a folder that is not there yet, privately, and as another process reads them."""
    store = FolderStore(tmp_path / "accounts")
    done = await store.update_many("google", adding("a", "b", "c"))
    assert {str(key) for key, account in done.items() if isinstance(account, Account)} == {f"google/{n}" for n in "abc"}
    other = FolderStore(tmp_path / "accounts")
    assert len(await other.load(["google"])) == 3
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "accounts" / "google").glob("*.toml")} == {0o600}


async def test_account_that_is_there_in_another_spelling_is_that_account(tmp_path: Path) -> None:
    """Written by another process, and not known to this one: there is one file, in the spelling first seen."""
    store, other = FolderStore(tmp_path / "accounts"), FolderStore(tmp_path / "accounts")
    await store.load(["google"])
    await other.update(AccountKey("google", "alice"), lambda current: fresh("Alice", "first"))
    done = await store.update_many(
        "google",
        {AccountKey("google", "alice"): lambda current: current and replace(current, generation=9), **adding("bob")},
    )
    assert isinstance(alice := done[AccountKey("google", "alice")], Account)
    assert (alice.name, alice.generation, alice.token.refresh_token) == ("Alice", 9, "first")
    assert sorted(path.name for path in (tmp_path / "accounts" / "google").glob("*.toml")) == ["Alice.toml", "bob.toml"]


async def test_one_that_raises_spoils_no_other(tmp_path: Path) -> None:
    """It is answered what was raised, by the change or by the store."""
    store = FolderStore(tmp_path / "accounts")

    def refuse(current: Account | None) -> Account | None:
        raise RefusedError("not this one")

    odd = fresh("x" * 300)
    changes: dict[AccountKey, Change] = {AccountKey("google", "a"): refuse, odd.key: lambda current: odd, **adding("b")}
    done = await store.update_many("google", changes)
    assert [isinstance(one, RefusedError) for one in done.values()] == [True, True, False]
    assert len(await store.load(["google"])) == 1


async def test_broken_record_is_set_aside(tmp_path: Path) -> None:
    """As with `replace_broken`; who is removed goes, and what a change leaves alone is not written."""
    store = FolderStore(tmp_path / "accounts")
    await store.update_many("google", adding("a", "b", "c"))
    folder = tmp_path / "accounts" / "google"
    (folder / "a.toml").write_text("no toml")
    before = (folder / "b.toml").stat()
    changes = adding("a", "b") | {AccountKey("google", "c"): lambda current: None}
    done = await store.update_many("google", changes)
    assert done[AccountKey("google", "c")] is None
    assert (folder / "a.broken").read_text() == "no toml"
    assert (folder / "b.toml").stat().st_ino == before.st_ino
    assert not (folder / "c.toml").exists()


class FullAfter(FileOperations):
    """A disk that is full after so many files."""

    def __init__(self, files: int) -> None:
        self.left = files

    def create(self, path: Path) -> int:
        if self.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        self.left -= 1
        return super().create(path)


async def test_full_disk_is_told_to_whom_it_concerns(tmp_path: Path) -> None:
    """The first one is written, the others are not."""
    store = FolderStore(tmp_path / "accounts", files=FullAfter(1))
    done = list((await store.update_many("google", adding("a", "b", "c"))).values())
    assert isinstance(done[0], Account)
    assert [isinstance(one, StoreUnavailableError) for one in done[1:]] == [True, True]


@pytest.mark.parametrize("count", (1, 2))
async def test_editor_is_not_written_over(tmp_path: Path, count: int) -> None:
    """A file that changed while the change was made is read again, and the change with it."""
    store = FolderStore(tmp_path / "accounts")
    await store.update_many("google", adding("a", "b"))
    path = tmp_path / "accounts" / "google" / "a.toml"
    calls = 0

    def change(current: Account | None) -> Account | None:
        nonlocal calls
        calls += 1
        if calls == 1:  # an editor saves in between
            path.write_text(path.read_text().replace('name = "a"', 'name = "a"\nnote = "by hand"'))
        return current and replace(current, generation=current.generation + 1)

    changes: dict[AccountKey, Change] = {AccountKey("google", "a"): change}
    done = await store.update_many("google", changes | (adding("b") if count == 2 else {}))
    assert calls == 2
    assert isinstance(stored := done[AccountKey("google", "a")], Account)
    assert stored.extra["note"] == "by hand"
