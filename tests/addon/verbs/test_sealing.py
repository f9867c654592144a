"""`seal`, `unseal` and `rekey` on a home, beside a gateway that serves it; and the other verbs without the key."""

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from authpool.config.seal_key import SealKey
from authpool.errors import AuthpoolError, ConfigurationError, RefusedError, SealedError
from authpool.gateway.service import Service
from authpool.store.folder.store import FolderStore
from authpool.verbs.operations import Operations
from authpool.verbs.sealing import Progress
from authpool.verbs.sources import read_source
from support.operator import Desk, open_desk
from support.rotating_provider import RotatingProvider

KEYS = {"KEY": bytes(range(32)).hex(), "OTHER": bytes(range(9, 41)).hex()}
ALICE, BOB = "google/alice@example.com", "google/bob@example.com"


def quiet(_done: int, _of: int) -> None:
    """Nobody watches."""


def configure(home: Path, seal_key: str | None) -> None:
    """Write another `seal_key` into authpool.toml, as its only key of the gateway."""
    text = (home / "authpool.toml").read_text().partition("\n[gateway]\n")[0]
    line = "" if seal_key is None else f'seal_key = "{seal_key}"\n'
    (home / "authpool.toml").write_text(f"{text}\n[gateway]\n{line}")


@asynccontextmanager
async def command_line(home: Path, **environ: str) -> AsyncIterator[Operations]:
    """The verbs in a process of their own, as good as."""
    service = Service(home, environ, process="command line")
    try:
        await service.open()
        yield Operations(service)
    finally:
        await service.stop()


def secrets_in(desk: Desk) -> list[str]:
    """Which of the provider's tokens stand somewhere in the home."""
    everything = "".join(path.read_bytes().decode("latin-1") for path in desk.home.rglob("*") if path.is_file())
    known = [word for post in desk.posts for word in [post]] + ["the-account-secret"]
    return [word for word in known if word and word in everything]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_desk(tmp_path) as desk:
        for name in ("alice", "bob"):
            await desk.operations.add("google", desk.signed_in(f"{name}@example.com"))
        yield desk


def files(desk: Desk) -> str:
    return "\n".join(path.read_text() for path in sorted((desk.home / "accounts" / "google").glob("*.toml")))


class TestSealing:
    async def test_everything_is_sealed_and_counted(self, desk: Desk) -> None:
        """The verb says how much it wrote, and the second time that there was nothing left to do."""
        configure(desk.home, "env:KEY")
        told: list[tuple[int, int]] = []
        async with command_line(desk.home, **KEYS) as operations:
            done = await operations.sealing.seal(lambda done, of: told.append((done, of)))
            assert done.message == "The accounts' secrets are sealed: 2 records written"
            assert told == [(0, 2), (1, 2), (2, 2)]
            again = await operations.sealing.seal(quiet)
            assert "0 records written, 2 were so already" in again.message
            assert [row.state for row in await operations.accounts()] == ["ready", "ready"]
        assert "_token = " not in files(desk)
        assert files(desk).count("sealed = ") == 2

    async def test_a_key_in_the_home_itself_is_remarked_upon(self, desk: Desk, tmp_path: Path) -> None:
        """It works, and protects from nobody who copies the home."""
        for place, remark in ((desk.home, True), (tmp_path, False)):
            (place / "seal.key").touch(mode=0o600)
            (place / "seal.key").write_text(KEYS["KEY"])
            configure(desk.home, "file:seal.key" if remark else f"file:{place}/seal.key")
            async with command_line(desk.home) as operations:
                assert ("keep it elsewhere" in (await operations.sealing.seal(quiet)).message) == remark

    async def test_unsealed_it_stays_so(self, desk: Desk) -> None:
        """Though the key is still configured: until `seal` is said again."""
        configure(desk.home, "env:KEY")
        before = files(desk)
        async with command_line(desk.home, **KEYS) as operations:
            await operations.sealing.seal(quiet)
            done = await operations.sealing.unseal(quiet)
            assert "in plain" in done.message
            assert files(desk) == before
            await operations.pause(ALICE)
            assert "sealed" not in files(desk)
        configure(desk.home, None)
        async with command_line(desk.home) as operations:
            await operations.resume(ALICE)
        assert files(desk) == before

    async def test_a_new_operator_s_key_in_three_steps(self, desk: Desk) -> None:
        """The new one beside the former; then it is configured; then the former opens nothing any more."""
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            await operations.sealing.seal(quiet)
            to = SealKey(source="env:OTHER", home=desk.home, environ=KEYS)
            assert (
                "beside the former one" in (await operations.sealing.rekey(to, data_key=False, progress=quiet)).message
            )
            same = SealKey(source="env:KEY", home=desk.home, environ=KEYS)
            with pytest.raises(RefusedError, match="names already"):
                await operations.sealing.rekey(same, data_key=False, progress=quiet)
            await operations.pause(ALICE)
        configure(desk.home, "env:OTHER")
        async with command_line(desk.home, **KEYS) as operations:
            await operations.resume(ALICE)
            with pytest.raises(SealedError, match="authpool rekey"):
                await operations.sealing.rekey(None, data_key=True, progress=quiet)
            said = (await operations.sealing.rekey(None, data_key=False, progress=quiet)).message
            assert "alone opens the accounts from now on" in said
            said = (await operations.sealing.rekey(None, data_key=False, progress=quiet)).message
            assert "is the only one that opens the accounts" in said
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            assert {row.state for row in await operations.accounts()} == {"sealed"}

    async def test_a_new_data_key_seals_everything_anew(self, desk: Desk) -> None:
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            await operations.sealing.seal(quiet)
            before = files(desk)
            done = await operations.sealing.rekey(None, data_key=True, progress=quiet)
            assert "new data key: 2 records written" in done.message
        current = tomllib.loads((desk.home / "sealing.toml").read_text())["current"]
        assert current not in before
        assert files(desk).count(f"authpool1:{current}:") == 2

    async def test_a_new_data_key_is_for_what_is_sealed(self, desk: Desk) -> None:
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            await operations.sealing.unseal(quiet)
            with pytest.raises(RefusedError, match="nothing is sealed"):
                await operations.sealing.rekey(None, data_key=True, progress=quiet)

    async def test_without_a_key_it_says_how_to_make_one(self, desk: Desk) -> None:
        with pytest.raises(RefusedError, match=r'seal_key = "file:PATH".*head -c 32 /dev/urandom'):
            await desk.operations.sealing.seal(quiet)

    async def test_interrupted_it_says_how_far_it_is(self, desk: Desk) -> None:
        """And the same again does the rest."""
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            reached = asyncio.Event()

            def progress(done: int, _of: int) -> None:
                if done == 1:
                    reached.set()
                    task.cancel()

            task = asyncio.ensure_future(operations.sealing.seal(progress))
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await task
            assert reached.is_set()
            assert "At least 1 of 2 records are written" in cancelled.value.__notes__[0]
            assert [row.state for row in await operations.accounts()] == ["ready", "ready"]
            again = (await operations.sealing.seal(quiet)).rewriting  # what had begun may have come to its end
            assert again.as_they_were >= 1
            assert again.written + again.as_they_were == 2

    async def test_a_record_that_can_not_be_read_is_named(self, desk: Desk) -> None:
        configure(desk.home, "env:KEY")
        desk.file_of(ALICE).write_text("[tok")
        async with command_line(desk.home, **KEYS) as operations:
            done = await operations.sealing.seal(quiet)
        assert done.rewriting.unreadable == ["google/alice@example.com.toml"]
        assert done.rewriting.written == 1


class TestRescuedTokens:
    """A refresh token that is in no account yet lies in the home as sealed as any."""

    async def rescued(self, desk: Desk, operations: Operations) -> Path:
        """An `add` that failed after its token was exchanged."""
        with pytest.raises(AuthpoolError, match="which is kept in"):
            await operations.add("google", desk.signed_in("erin@example.com"), "somebody-else@example.com")
        (path,) = desk.unclaimed
        return path

    async def test_it_is_sealed_and_added_from_there(self, desk: Desk) -> None:
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            path = await self.rescued(desk, operations)
            assert json.loads(path.read_text()).keys() == {"sealed_for", "exchanged_from", "sealed"}
            said = await operations.add("google", read_source(f"@{path}", environ={}))
            assert said == "Added google/erin@example.com"
        assert desk.unclaimed == []

    async def test_the_source_of_before_finds_it(self, desk: Desk) -> None:
        """Whoever adds the same file again goes on with what its token was exchanged for."""
        configure(desk.home, "env:KEY")
        source = desk.signed_in("erin@example.com")
        async with command_line(desk.home, **KEYS) as operations:
            with pytest.raises(AuthpoolError, match="which is kept in"):
                await operations.add("google", source, "somebody-else@example.com")
            assert await operations.add("google", source) == "Added google/erin@example.com"
        assert desk.provider.is_alive("erin@example.com")

    async def test_the_verbs_write_it_anew(self, desk: Desk) -> None:
        """One that was kept in plain is sealed, sealed anew, and unsealed."""
        path = await self.rescued(desk, desk.operations)
        plain = path.read_text()
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            assert (await operations.sealing.seal(quiet)).rewriting.written == 3
            sealed = path.read_text()
            assert json.loads(plain)["refresh_token"] not in sealed
            assert (await operations.sealing.rekey(None, data_key=True, progress=quiet)).rewriting.written == 3
            assert path.read_text() != sealed
            await operations.sealing.unseal(quiet)
            assert path.read_text() == plain

    async def test_without_the_key_it_is_refused_before_anybody_is_asked(self, desk: Desk) -> None:
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            await operations.sealing.seal(quiet)
            path = await self.rescued(desk, operations)
        posts = len(desk.posts)
        async with command_line(desk.home) as operations:
            with pytest.raises(SealedError, match="KEY is not set"):
                await operations.add("google", read_source(f"@{path}", environ={}))
        assert len(desk.posts) == posts
        assert desk.unclaimed == [path]

    async def test_one_for_another_pool_or_token_does_not_open(self, desk: Desk) -> None:
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            path = await self.rescued(desk, operations)
            path.write_text(path.read_text().replace('"pool": "google"', '"pool": "keys"'))
            with pytest.raises(AuthpoolError, match="sealed for another place"):
                await operations.add("google", read_source(f"@{path}", environ={}))


class TestWithoutTheKey:
    """Every account is shown, none is touched, and no token endpoint is asked."""

    @pytest.fixture
    async def sealed(self, desk: Desk) -> Desk:
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            await operations.sealing.seal(quiet)
        return desk

    async def test_accounts_are_listed(self, sealed: Desk) -> None:
        async with command_line(sealed.home) as operations:
            rows = await operations.accounts()
        assert [(row.pool, row.name, row.state) for row in rows] == [
            ("google", "alice@example.com", "sealed"),
            ("google", "bob@example.com", "sealed"),
        ]
        assert all("KEY is not set" in row.reason for row in rows)

    async def test_no_verb_changes_anything(self, sealed: Desk) -> None:
        before, posts = files(sealed), len(sealed.posts)
        async with command_line(sealed.home) as operations:
            for verb in (operations.pause, operations.resume, operations.refresh, operations.enable):
                with pytest.raises(SealedError, match="KEY is not set"):
                    await verb(ALICE)
            with pytest.raises(SealedError, match="KEY is not set"):
                await operations.add("google", sealed.signed_in("alice@example.com"))
            with pytest.raises(ConfigurationError, match="KEY is not set"):
                await operations.sealing.unseal(quiet)
        assert files(sealed) == before
        assert len(sealed.posts) == posts

    async def test_one_can_be_removed(self, sealed: Desk) -> None:
        """That its grant can't be revoked is said; whoever lost the key for good may clear up; the others stay."""
        async with command_line(sealed.home) as operations:
            with pytest.raises(RefusedError, match=r"can't be read .*KEY is not set.*--keep-grant"):
                await operations.remove(ALICE)
            assert sealed.file_of(ALICE).exists()
            assert await operations.remove(ALICE, keep_grant=True) == f"Removed {ALICE}"
        left = {path.name for path in (sealed.home / "accounts" / "google").iterdir() if not path.name.endswith("lock")}
        assert left == {"bob@example.com.toml"}

    @pytest.mark.parametrize(
        ("seal_key", "why"),
        (
            ("env:KEY", "KEY is not set"),
            (None, "has no seal_key"),
            ("env:OTHER", "wrapped by another operator's key"),
        ),
    )
    async def test_a_gateway_does_not_start(self, sealed: Desk, seal_key: str | None, why: str) -> None:
        """It would answer every request with a refusal, and nobody would know why."""
        configure(sealed.home, seal_key)
        with pytest.raises(ConfigurationError, match=why) as refused:
            Service(sealed.home, {"OTHER": KEYS["OTHER"]})
        assert str(refused.value).startswith(f"{sealed.home}/authpool.toml: gateway.seal_key: ")

    async def test_a_gateway_that_runs_keeps_what_it_has(self, sealed: Desk) -> None:
        """A reload with a key that is missing, wrong or gone is refused, and the accounts go on."""
        service = Service(sealed.home, KEYS)
        await service.start()
        try:
            for seal_key in ("env:NOWHERE", "env:OTHER", None):
                configure(sealed.home, seal_key)
                with pytest.raises(ConfigurationError, match="seal_key"):
                    await service.reload()
                assert await Operations(service).refresh(ALICE)
            assert [row.state for row in await Operations(service).accounts()] == ["ready", "ready"]
        finally:
            await service.stop()
        assert "_token = " not in files(sealed)

    async def test_accounts_are_sealed_where_the_keys_file_is_gone(self, sealed: Desk) -> None:
        """With the operator's key at hand: a gateway does not start, and nothing is made in its place."""
        (sealed.home / "sealing.toml").unlink()
        with pytest.raises(ConfigurationError, match="put it back from a copy of the home"):
            Service(sealed.home, KEYS)
        async with command_line(sealed.home, **KEYS) as operations:
            assert {row.state for row in await operations.accounts()} == {"sealed"}
        assert not (sealed.home / "sealing.toml").exists()


@pytest.mark.timeout(300)  # it writes each account over and over
@pytest.mark.parametrize("way", ("seal", "rekey", "unseal"))
async def test_a_gateway_beside_it_refreshes_and_loses_nothing(tmp_path: Path, way: str) -> None:
    """The provider ends a grant whose token is presented twice: all of them live, and what is stored is current."""
    names = [f"user{number}@example.com" for number in range(12)]
    async with open_desk(tmp_path, provider=RotatingProvider()) as desk:
        for name in names:
            desk.write(f"google/{name}", token=desk.provider.issue(name))
        configure(desk.home, "env:KEY")
        gateway = Service(desk.home, KEYS)
        await gateway.start()
        try:
            async with command_line(desk.home, **KEYS) as operations:
                if way != "seal":
                    await operations.sealing.seal(quiet)
                refreshing = asyncio.ensure_future(_refresh_all(gateway, names, rounds=3))
                rounds = 0
                while not refreshing.done() or rounds < 2:
                    await _one_way(operations, way)
                    rounds += 1
                assert await refreshing == 3 * len(names)
            assert {str(member.state(0)) for member in gateway.snapshot.pools["google"]} == {"ready"}
        finally:
            await gateway.stop()
        async with command_line(desk.home, **KEYS) as operations:
            await operations.sealing.unseal(quiet)
        for name in names:
            assert desk.provider.is_alive(name)
            assert desk.provider.is_current(desk.stored(f"google/{name}")["token"]["refresh_token"])


async def _refresh_all(gateway: Service, names: list[str], rounds: int) -> int:
    operations, done = Operations(gateway), 0
    for _ in range(rounds):
        for name in names:
            await operations.refresh(f"google/{name}")
            done += 1
    return done


async def _one_way(operations: Operations, way: str, progress: Progress = quiet) -> None:
    match way:
        case "rekey":
            await operations.sealing.rekey(None, data_key=True, progress=progress)
        case "unseal":
            await operations.sealing.unseal(progress)
            await operations.sealing.seal(progress)
        case _:
            await operations.sealing.seal(progress)


async def test_a_gateway_takes_in_a_key_while_it_runs(tmp_path: Path) -> None:
    """`seal_key` comes into authpool.toml; what it writes from its reload on is sealed."""
    async with open_desk(tmp_path) as desk:
        desk.write(ALICE, token=desk.provider.issue("alice@example.com"))
        gateway = Service(desk.home, KEYS, store=FolderStore(desk.home / "accounts"))
        await gateway.start()
        try:
            configure(desk.home, "env:KEY")
            await gateway.reload()
            await Operations(gateway).refresh(ALICE)
            assert "_token = " not in files(desk)
            assert [row.state for row in await Operations(gateway).accounts()] == ["ready"]
        finally:
            await gateway.stop()


async def test_an_account_that_can_not_be_opened_is_named_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start and later; it leaves the pool, the others serve, and it comes back with its key."""
    caplog.set_level("INFO")
    async with open_desk(tmp_path) as desk:
        for name in (ALICE, BOB):
            desk.write(name, token=desk.provider.issue(name.partition("/")[2]))
        configure(desk.home, "env:KEY")
        async with command_line(desk.home, **KEYS) as operations:
            await operations.sealing.seal(quiet)
            keys = (desk.home / "sealing.toml").read_bytes()
            await operations.sealing.rekey(None, data_key=True, progress=quiet)
            foreign = desk.file_of(ALICE).read_text()
            (desk.home / "sealing.toml").write_bytes(keys)  # a backup without the newer key
        configure(desk.home, "env:KEY")
        gateway = Service(desk.home, KEYS)
        await gateway.start()
        try:
            assert "Skipping sealed account google/alice@example.com: sealed with the data key" in caplog.text
            assert "Pool google reloaded: 0 ready, 2 sealed" in caplog.text
            counts = gateway.snapshot.pools["google"].counts()
            assert counts["sealed"] == 2  # type: ignore[index]
            desk.write(BOB, token=desk.provider.issue("bob@example.com"))
            await gateway.catch_up()
            assert (await Operations(gateway).refresh(BOB)).startswith("Refreshed")
            caplog.clear()
            desk.file_of(BOB).write_text(foreign.replace("alice@", "bob@"))
            async with asyncio.timeout(30):  # at the second look: an editor could be half-way through
                while "Skipping sealed account google/bob@example.com" not in caplog.text:
                    await gateway.catch_up()
                    await asyncio.sleep(0.05)
        finally:
            await gateway.stop()


async def test_a_store_that_can_not_seal_is_refused(tmp_path: Path) -> None:
    """Rather than keep in plain what somebody wants sealed."""
    async with open_desk(tmp_path) as desk:
        configure(desk.home, "env:KEY")
        with pytest.raises(ConfigurationError, match="keeps nothing sealed"):
            Service(desk.home, KEYS, store=object())  # type: ignore[arg-type]
