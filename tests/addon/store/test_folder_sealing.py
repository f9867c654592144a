"""A folder whose secrets are sealed: what lies on the disk, and what happens when keys come, change and are missing."""

# ruff: noqa: ASYNC240  a test may look at a local file wherever it is

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authpool.accounts.account import Account, AccountKey, BrokenAccount, OAuthClient, SealedAccount, Token
from authpool.errors import BrokenAccountError, SealedError, StoreUnavailableError
from authpool.files.atomic_file import FileOperations
from authpool.store.folder.account_file import dump_account
from authpool.store.folder.store import FolderStore
from authpool.store.sealing.key_ring import KeyRing, OperatorKey, new_ring, wrapped
from support import sealing_process
from support.crashing_files import Crash, Disk, DyingFiles
from support.crashing_process import inline
from support.file_operations import STEPS, EditedFiles
from support.sealing_process import OPERATOR

OTHER = OperatorKey(bytes(range(7, 39)))
ALICE, BOB = AccountKey.of("google", "alice"), AccountKey.of("google", "bob")


def sealed_store(
    home: Path, operator: OperatorKey | None = OPERATOR, files: FileOperations | None = None, *, no_key: str = ""
) -> FolderStore:
    store = FolderStore(home / "accounts", run=inline, files=files)
    why = store.seal_with(operator, no_key=no_key)
    assert not why or operator is not OPERATOR, why
    return store


def account(name: str = "alice", **changes: Any) -> Account:
    made = Account(
        pool="google",
        name=name,
        generation=3,
        token=Token(access_token=f"SECRET-at-{name}", refresh_token=f"SECRET-rt-{name}", extra={"id_token": "SECRET"}),
        client=OAuthClient(client_id="c", client_secret="SECRET-client"),
        extra={"api_password": "SECRET-extra", "label": "work"},
    )
    return replace(made, **changes)


def content(home: Path) -> str:
    """Everything that lies in a home."""
    return "\n".join(
        f"{path.name} {path.read_bytes().decode('latin-1')}" for path in sorted(home.rglob("*")) if path.is_file()
    )


def file_of(home: Path, name: str = "alice") -> Path:
    return home / "accounts" / "google" / f"{name}.toml"


async def plain(home: Path, *names: str) -> None:
    """Accounts as an authpool without a key writes them."""
    store = FolderStore(home / "accounts", run=inline)
    for name in names:
        await store.update(AccountKey.of("google", name), lambda _, name=name: account(name))  # type: ignore[misc]


async def rewrite_all(store: FolderStore) -> list[str]:
    return [await store.rewrite(part) for part in await store.parts()]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


class TestWriting:
    async def test_nothing_secret_lies_on_the_disk(self, home: Path) -> None:
        """And another process with the key reads all of it."""
        written = await sealed_store(home).update(ALICE, lambda _: account())
        assert "SECRET" not in content(home)
        assert await sealed_store(home).read(ALICE) == written == account()

    async def test_without_a_key_everything_is_as_it_ever_was(self, home: Path) -> None:
        """No file more, and not a byte different."""
        store = FolderStore(home / "accounts", run=inline)
        assert store.seal_with(None) == ""
        await store.update(ALICE, lambda _: account())
        assert file_of(home).read_bytes() == dump_account(account())
        assert [path.name for path in home.iterdir()] == ["accounts"]

    async def test_plain_records_are_read_and_sealed_when_they_are_written_next(self, home: Path) -> None:
        """Those of before, and those that an operator puts there later."""
        await plain(home, "alice")
        store = sealed_store(home)
        assert await store.read(ALICE) == account()
        assert "SECRET-rt-alice" in content(home)
        await store.update(ALICE, lambda one: one and one.with_paused(1))
        assert "SECRET" not in content(home)
        await plain(home, "bob")
        assert dict(await store.load(["google"]))[BOB] == account("bob")
        await store.update(BOB, lambda one: one and one.with_paused(1))
        assert "SECRET" not in content(home)

    async def test_an_edit_by_hand_in_a_sealed_file_counts(self, home: Path) -> None:
        """A line beside the sealed ones, and a switch that is not sealed; the rest is what it was."""
        store = sealed_store(home)
        await store.update(ALICE, lambda _: account())
        text = file_of(home).read_text().replace("[token]\n", '[token]\nrefresh_token = "SECRET-by-hand"\n')
        file_of(home).write_text(text.replace("proxy_disabled = false", "proxy_disabled = true"))
        edited = await store.read(ALICE)
        assert edited == account(token=replace(account().token, refresh_token="SECRET-by-hand"), proxy_disabled=True)
        await store.update(ALICE, lambda one: one and one.with_resumed())
        assert "SECRET" not in content(home)
        assert (await store.read(ALICE)).token.refresh_token == "SECRET-by-hand"

    async def test_an_edit_while_it_is_written_is_not_undone(self, home: Path) -> None:
        """The comparison before the rename holds for sealed files as well."""
        await sealed_store(home).update(ALICE, lambda _: account())

        def edit() -> None:
            file_of(home).write_text(file_of(home).read_text().replace('label = "work"', 'label = "mine"'))

        stored = await sealed_store(home, files=EditedFiles(edit)).update(ALICE, lambda one: one and one.with_paused(1))
        assert stored is not None
        assert (stored.extra["label"], stored.proxy_disabled) == ("mine", True)

    async def test_a_record_that_is_set_aside_is_sealed(self, home: Path) -> None:
        """As a whole: in what can't be read as an account anything may stand."""
        store = sealed_store(home)
        await store.update(BOB, lambda _: account("bob"))
        broken = b'[token]\nrefresh_token = "SECRET-half\n'
        for aside in ("alice.broken", "alice.broken-2"):
            file_of(home).touch(mode=0o600)
            file_of(home).write_bytes(broken)
            await store.update(ALICE, lambda _: account(), replace_broken=True)
            assert "SECRET" not in content(home)
            assert (file_of(home).with_name(aside).stat().st_mode & 0o777) == 0o600
            await store.update(ALICE, lambda _: None)
        assert not list(home.rglob("*.tmp"))
        await store.change_keys(lambda ring: replace(ring, sealing=False))
        await rewrite_all(store)
        assert file_of(home).with_name("alice.broken-2").read_bytes() == broken

    async def test_removing_leaves_nothing(self, home: Path) -> None:
        store = sealed_store(home)
        await store.update(ALICE, lambda _: account())
        assert await store.update(ALICE, lambda _: None) is None
        assert not file_of(home).exists()


class TestMoving:
    """Values that are carried elsewhere, or back in time."""

    @pytest.fixture
    async def store(self, home: Path) -> FolderStore:
        store = sealed_store(home)
        await store.update(ALICE, lambda _: account())
        return store

    async def test_a_copy_under_another_name_is_broken(self, home: Path, store: FolderStore) -> None:
        file_of(home, "bob").touch(mode=0o600)
        file_of(home, "bob").write_text(file_of(home).read_text().replace('"alice"', '"bob"'))
        with pytest.raises(BrokenAccountError, match="another account or generation"):
            await store.read(BOB)
        assert await store.read(ALICE) == account()

    async def test_an_older_value_in_a_newer_record_is_broken(self, home: Path, store: FolderStore) -> None:
        """And it can be added again; the record of before is set aside."""
        old = [line for line in file_of(home).read_text().splitlines() if line.startswith("sealed")]
        await store.update(ALICE, lambda one: one and one.with_token(Token(refresh_token="SECRET-2")))
        lines = file_of(home).read_text().splitlines()
        spoilt = [
            old.pop() if line.startswith("sealed") and lines[i - 1] == "[token]" else line
            for i, line in enumerate(lines)
        ]
        file_of(home).write_text("\n".join(spoilt) + "\n")
        with pytest.raises(BrokenAccountError, match=r"sealed in \[token\]"):
            await store.read(ALICE)
        assert await store.update(ALICE, lambda _: account(generation=9), replace_broken=True) == account(generation=9)
        assert "SECRET" not in content(home)

    async def test_an_old_copy_of_the_whole_file_is_read_as_ever(self, home: Path, store: FolderStore) -> None:
        """Editors save such: who knows the newer token puts that back, as without sealing."""
        draft = file_of(home).read_bytes()
        await store.update(ALICE, lambda one: one and one.with_token(Token(refresh_token="SECRET-2")))
        file_of(home).write_bytes(draft)
        assert await store.read(ALICE) == account()

    async def test_a_changed_character_breaks_that_account_alone(self, home: Path, store: FolderStore) -> None:
        await store.update(BOB, lambda _: account("bob"))
        text = file_of(home).read_text()
        at = text.index("authpool1:", text.index("[token]")) + 40
        file_of(home).write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
        records = await sealed_store(home).load(["google"])
        assert type(records[ALICE]) is BrokenAccount
        assert records[BOB] == account("bob")


class TestWithoutTheKey:
    """Nothing is read, nothing is broken, and nothing is written."""

    @pytest.fixture(params=("none", "another", "gone"))
    async def locked(self, home: Path, request: pytest.FixtureRequest) -> FolderStore:
        await sealed_store(home).update(ALICE, lambda _: account())
        await plain(home, "bob")
        if request.param == "gone":
            (home / "sealing.toml").unlink()
        operator = {"none": None, "another": OTHER, "gone": OTHER}[request.param]
        return sealed_store(home, operator, no_key="the key is at home")

    async def test_accounts_are_told_as_sealed_and_plain_ones_are_read(self, locked: FolderStore, home: Path) -> None:
        records = await locked.load(["google"])
        assert isinstance(records[ALICE], SealedAccount)
        assert records[BOB] == account("bob")
        assert records[ALICE].address == "google/alice"
        assert await locked.locked() != ""
        with pytest.raises(SealedError, match="google/alice: "):
            await locked.read(ALICE)
        assert "SECRET-rt-alice" not in content(home)

    async def test_nothing_is_written_in_plain_nor_over_what_is_sealed(self, locked: FolderStore, home: Path) -> None:
        """Not even by who means to replace a broken record."""
        before = content(home)
        new = AccountKey.of("google", "carol")
        for key in (ALICE, BOB, new):
            for replace_broken in (False, True):
                with pytest.raises(SealedError):
                    await locked.update(key, lambda one, key=key: account(key.name), replace_broken=replace_broken)
        with pytest.raises(SealedError):
            await locked.change_keys(lambda ring: ring)
        for part in await locked.parts():
            with suppress(SealedError):
                assert await locked.rewrite(part) == "unreadable"
        assert {line for line in content(home).splitlines() if ".lock" not in line} == set(before.splitlines()) - {
            line for line in before.splitlines() if ".lock" in line
        }

    async def test_one_is_removed_by_who_means_to(self, locked: FolderStore, home: Path) -> None:
        """A key that is lost for good must not keep its accounts for ever; nothing is left of them."""
        assert await locked.update(ALICE, lambda _: None, replace_broken=True) is None
        assert not file_of(home).exists()
        assert not file_of(home).with_suffix(".broken").exists()

    async def test_with_the_key_all_is_as_before(self, locked: FolderStore, home: Path) -> None:
        """What was only looked at without it."""
        await locked.load(["google"])
        if (home / "sealing.toml").exists():
            assert await sealed_store(home).read(ALICE) == account()

    async def test_a_store_that_was_never_told_of_a_key_breaks_nothing_either(self, home: Path) -> None:
        """One that is used without any of this."""
        await sealed_store(home).update(ALICE, lambda _: account())
        store = FolderStore(home / "accounts", run=inline)
        assert isinstance((await store.load(["google"]))[ALICE], SealedAccount)
        with pytest.raises(SealedError, match="no seal_key"):
            await store.update(ALICE, lambda _: account(), replace_broken=True)


class TestTheKeysFile:
    async def test_processes_that_begin_at_the_same_moment_share_one_key(self, home: Path) -> None:
        """Each in a pool of its own, so that no other lock keeps them apart; all of it can be opened."""
        names = [f"user{number}" for number in range(4)]
        processes = [await asyncio.to_thread(sealing_process.start, home / "accounts", name) for name in names]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            await asyncio.to_thread(process.communicate, timeout=90)
            assert process.returncode == 0
        store = sealed_store(home)
        for name in names:
            assert (await store.read(AccountKey.of(f"pool-{name}", name))).token.access_token == f"SECRET-{name}"
        assert (home / "sealing.toml").read_text().count("[[keys]]") == 1
        assert ((home / "sealing.toml").stat().st_mode & 0o777) == 0o600
        assert "SECRET" not in content(home)

    async def test_it_is_not_made_anew_where_something_is_sealed(self, home: Path) -> None:
        """A new key would open nothing; and once the old one is put back, what was sealed meanwhile would be lost."""
        await sealed_store(home).update(ALICE, lambda _: account())
        kept = (home / "sealing.toml").read_bytes()
        (home / "sealing.toml").unlink()
        store = FolderStore(home / "accounts", run=inline)
        assert "sealing.toml is gone" in store.seal_with(OPERATOR)
        with pytest.raises(SealedError, match="put it back from a copy"):
            await store.update(BOB, lambda _: account("bob"))
        (home / "sealing.toml").touch(mode=0o600)
        (home / "sealing.toml").write_bytes(kept)
        assert await store.locked() == ""
        assert await store.read(ALICE) == account()

    async def test_a_process_that_knows_it_writes_it_again(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Somebody deleted it under a running gateway."""
        store = sealed_store(home)
        await store.update(ALICE, lambda _: account())
        (home / "sealing.toml").unlink()
        assert await store.read(ALICE) == account()
        await store.update(BOB, lambda _: account("bob"))
        assert "was gone; it is written again" in caplog.text
        assert set(await sealed_store(home).load(["google"])) == {ALICE, BOB}
        assert await sealed_store(home).read(BOB) == account("bob")

    async def test_an_older_one_is_given_the_newer_keys(self, home: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Somebody put a backup of it back over a newer one, under a running gateway."""
        store = sealed_store(home)
        await store.update(ALICE, lambda _: account())
        older = (home / "sealing.toml").read_bytes()
        await store.change_keys(rekey)
        assert await rewrite_all(store) == ["written"]
        (home / "sealing.toml").write_bytes(older)
        assert isinstance((await sealed_store(home).load(["google"]))[ALICE], SealedAccount)
        await store.update(BOB, lambda _: account("bob"))
        assert "lacks data keys that this process knows" in caplog.text
        assert dict(await sealed_store(home).load(["google"])) == {ALICE: account(), BOB: account("bob")}
        caplog.clear()
        await store.update(BOB, lambda one: one and one.with_paused(1))
        assert caplog.text == ""

    @pytest.mark.parametrize("cut", (0, 1, 300, -30))
    async def test_half_of_it_is_refused_and_nothing_is_lost(self, home: Path, cut: int) -> None:
        """It is replaced as a whole, so only somebody's hand can have cut it; the copy of a home mends it."""
        await sealed_store(home).update(ALICE, lambda _: account())
        whole = (home / "sealing.toml").read_bytes()
        (home / "sealing.toml").write_bytes(whole[:cut])
        store = FolderStore(home / "accounts", run=inline)
        assert "sealing.toml can't be opened" in store.seal_with(OPERATOR)
        with pytest.raises(SealedError):
            await store.update(ALICE, lambda one: account())
        with pytest.raises(SealedError):
            await store.change_keys(lambda ring: ring)
        (home / "sealing.toml").write_bytes(whole)
        assert await store.read(ALICE) == account()

    async def test_one_that_others_can_read_is_refused(self, home: Path) -> None:
        await sealed_store(home).update(ALICE, lambda _: account())
        (home / "sealing.toml").chmod(0o644)
        with pytest.raises(StoreUnavailableError, match="chmod 600"):
            sealed_store(home)

    async def test_another_operator_s_key_opens_it_too_and_then_alone(self, home: Path) -> None:
        store = sealed_store(home)
        await store.update(ALICE, lambda _: account())
        await store.change_keys(lambda ring: ring, [OPERATOR, OTHER])
        for operator in (OPERATOR, OTHER):
            assert await sealed_store(home, operator).read(ALICE) == account()
        with pytest.raises(SealedError, match="authpool rekey"):
            await store.change_keys(lambda ring: ring.with_new_key(0))
        new = sealed_store(home, OTHER)
        await new.change_keys(lambda ring: ring, [OTHER])
        assert await new.read(ALICE) == account()
        assert FolderStore(home / "accounts", run=inline).seal_with(OPERATOR) != ""

    async def test_a_gateway_with_the_former_key_goes_on(self, home: Path) -> None:
        """It knows the data key; with one that it can't know it writes nothing, for it could not be read by others."""
        gateway = sealed_store(home)
        await gateway.update(ALICE, lambda _: account())
        await gateway.change_keys(lambda ring: ring, [OTHER])
        assert await gateway.update(BOB, lambda _: account("bob")) == account("bob")
        new = sealed_store(home, OTHER)
        assert await new.read(BOB) == account("bob")
        await new.change_keys(lambda ring: ring.with_new_key(0))
        with pytest.raises(SealedError):
            await gateway.update(BOB, lambda one: one and one.with_paused(1))
        assert await new.read(BOB) == account("bob")

    async def test_a_key_that_does_not_fit_takes_the_place_of_none(self, home: Path) -> None:
        """A reload with a wrong key: the former one stays in force."""
        store = sealed_store(home)
        await store.update(ALICE, lambda _: account())
        for operator in (OTHER, None):
            assert store.seal_with(operator, no_key="none") != ""
            assert await store.update(ALICE, lambda one: one and one.with_paused(1)) is not None


def seal(ring: KeyRing) -> KeyRing:
    return ring.turned(sealing=True)


def unseal(ring: KeyRing) -> KeyRing:
    return ring.turned(sealing=False)


def rekey(ring: KeyRing) -> KeyRing:
    return ring.with_new_key(5)


NAMES = ("alice", "bob", "carol")


async def prepare(home: Path, change: Callable[[KeyRing], KeyRing]) -> None:
    await plain(home, *NAMES)
    (aside := file_of(home, "dave").with_suffix(".broken")).touch(mode=0o600)
    aside.write_text("SECRET half")
    if change is not seal:
        await rewrite_all(sealed_store(home))


def is_done(home: Path, change: Callable[[KeyRing], KeyRing]) -> bool:
    text = content(home)
    if change is unseal:
        return "SECRET half" in text and all(
            file_of(home, name).read_bytes() == dump_account(account(name)) for name in NAMES
        )
    current = (home / "sealing.toml").read_text().partition('current = "')[2][:8]
    return "SECRET" not in text and text.count(f"authpool1:{current}") == text.count("authpool1:") == 10


class DyingAtAWrite(DyingFiles):
    """Dies at a step of the write after `writes_left` others; each begins by creating a file."""

    begun = 0

    def _at(self, step: str) -> None:
        if step == "create":
            self.writes_left -= self.begun > 0
            self.begun += 1
        super()._at(step)
        self.writes_left += step == "fsync_folder" and self.step is not None  # which the base takes for the end of one


CUTS = [
    (step, writes) for step, writes in itertools.product(STEPS, range(5)) if step != "fsync_folder" or writes in {0, 4}
]
CUTS.append((None, 0))


@pytest.mark.parametrize("change", (seal, unseal, rekey))
@pytest.mark.parametrize(("step", "writes"), CUTS)
async def test_whoever_is_killed_at_any_step_leaves_everything_readable(
    home: Path, change: Callable[[KeyRing], KeyRing], step: str | None, writes: int
) -> None:
    """At each step of each write: all accounts can be read, used and written, and the same again goes to the end."""
    await prepare(home, change)
    files = DyingAtAWrite(Disk(), lambda: _die(files))
    store = sealed_store(home, files=files)
    files.step, files.writes_left = step, writes
    with suppress(Crash):
        await store.change_keys(change)
        await rewrite_all(store)
        await store.finish_rewriting()
    assert files.dead == (step is not None)
    gateway = sealed_store(home)
    assert dict(await gateway.load(["google"])) == {AccountKey.of("google", name): account(name) for name in NAMES}
    paused = await gateway.update(ALICE, lambda one: one and one.with_paused(1))
    assert paused == account().with_paused(1)
    await gateway.update(ALICE, lambda one: one and one.with_resumed())
    again = sealed_store(home)
    await again.change_keys(change if change is not rekey else seal)
    await rewrite_all(again)
    await again.finish_rewriting()
    if change is rekey and step is not None and writes == 0 and step not in {"after rename", "fsync_folder"}:
        return  # the new data key was never made
    assert is_done(home, change)
    assert dict(await gateway.load(["google"])) == {AccountKey.of("google", name): account(name) for name in NAMES}


def _die(files: DyingFiles) -> None:
    files.dead = True
    raise Crash


async def test_a_gateway_reads_and_writes_in_between(home: Path) -> None:
    """Some records are of one key, some of the next and some in plain; whoever runs beside follows all of it."""
    await plain(home, *NAMES)
    gateway, command = sealed_store(home), sealed_store(home)
    await gateway.load(["google"])
    for change in (seal, rekey, unseal, seal, rekey):
        await command.change_keys(change)
        for part in await command.parts():
            await command.rewrite(part)
            for name in NAMES:
                stored = await gateway.update(AccountKey.of("google", name), lambda one: one and one.with_paused(2))
                assert stored == account(name).with_paused(2)
                await gateway.update(AccountKey.of("google", name), lambda one: one and one.with_resumed())
        records = await gateway.load(["google"])
        assert dict(records) == {AccountKey.of("google", name): account(name) for name in NAMES}


async def test_a_rewritten_record_is_no_news(home: Path) -> None:
    """The account is what it was: nobody who follows is told of anything, and nothing under way is disturbed."""
    await plain(home, *NAMES)
    gateway, command = sealed_store(home), sealed_store(home)
    await gateway.load(["google"])
    assert await rewrite_all(command) == ["written"] * 3
    assert await rewrite_all(command) == ["as it was"] * 3
    assert await gateway.changes() == {}


async def test_what_writers_that_died_left_is_cleared_away(home: Path) -> None:
    """It holds secrets in plain, perhaps; what is empty may be becoming a lock file at this moment."""
    await plain(home, "alice")
    left = file_of(home).with_name(".4711-0011223344556677.tmp")
    left.write_text("SECRET")
    (empty := left.with_name(".4711-8899aabbccddeeff.tmp")).touch()
    store = sealed_store(home)
    await rewrite_all(store)
    await store.finish_rewriting()
    assert "SECRET" not in content(home)
    assert empty.exists()
    assert await store.read(ALICE) == account()


async def test_broken_records_are_told_and_left_alone(home: Path) -> None:
    """Somebody has to mend them, and could not if they were sealed."""
    await plain(home, "alice")
    file_of(home, "bob").touch(mode=0o600)
    file_of(home, "bob").write_text("[tok")
    assert await rewrite_all(sealed_store(home)) == ["written", "unreadable"]
    assert file_of(home, "bob").read_text() == "[tok"


async def test_a_namesake_s_file_is_sealed_too(home: Path) -> None:
    """It counts for nothing, and holds secrets all the same."""
    await plain(home, "alice")
    text = file_of(home).read_text().replace('"alice"', '"Alice"')
    file_of(home, "Alice").touch(mode=0o600)
    file_of(home, "Alice").write_text(text)
    assert await rewrite_all(sealed_store(home)) == ["written", "written"]
    assert "SECRET" not in content(home)


def test_a_ring_fits_into_a_private_file() -> None:
    """However often somebody changes the data key: each takes some 200 bytes."""
    ring = new_ring(0)
    for number in range(200):
        ring = ring.with_new_key(number)
    assert len(wrapped(ring, [OPERATOR, OTHER])) < 100_000
