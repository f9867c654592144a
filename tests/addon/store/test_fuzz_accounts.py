"""Whatever lies in an account's place is read, or told to be broken in one line: no neighbour, no secret is touched."""

import asyncio
import logging
import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from authpool.accounts.account import Account, AccountKey, BrokenAccount, OAuthClient, Token
from authpool.errors import BrokenAccountError, RefusedError, SealedError
from authpool.files.atomic_file import FileOperations
from authpool.pool.report import disabled_line, timestamp
from authpool.store.folder.account_file import dump_account, parse_account
from authpool.store.folder.folder_sealing import FolderSealing
from authpool.store.folder.key_file import KeyFile
from authpool.store.folder.pool_folder import PoolFolder
from support.clock import FakeClock
from support.idle_gateway import idle_gateway, idle_home, state, turn
from support.rotating_provider import RotatingProvider
from support.sealing_process import OPERATOR
from support.transport import Transport

SECRET = "rt9f8e7d6c5b4a39281706f5e4d3c2b1a0"
ALICE = Account(
    pool="p",
    name="alice",
    generation=3,
    token=Token(access_token=f"at-{SECRET}", refresh_token=f"rt-{SECRET}", extra={"id_token": SECRET}),
    client=OAuthClient(client_id="c", client_secret=SECRET),
    extra={"note": SECRET},
)
KEYS = (
    *("version", "name", "generation", "subject", "created_at", "disabled", "disabled_at", "disabled_reason", "zzz"),
    *("proxy_disabled", "proxy_disabled_at", "proxy_disabled_reason", "proxy_disabled_until", "cooldowns", "token"),
    *("client", "pending_refresh", "sealed", "token.expires_at", "token.access_token", "token.sealed"),
    *("client.client_secret", "client.sealed", "pending_refresh.started_at", "pending_refresh.rejected_at"),
)
VALUES = (
    *("1", "-1", "1.5", "inf", "nan", "1e400", "true", '""', "[]", "{}", "[[1]]", "2020-01-01", "9" * 19, "9" * 400),
    *("9" * 5000, f"0x{'f' * 5000}", f"'{SECRET}'", "'authpool1:'", f"'authpool1:{SECRET}'", "'authpool1:00000000:é'"),
    *(
        "[{until = 1e30}]",
        f"[{{until = {'9' * 400}}}]",
        "'\\u0000'",
        "[" * 400 + "]" * 400,
        "{a=" * 90 + "1" + "}" * 90,
    ),
)
LINES = st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)).map(" = ".join)
PLAIN = dump_account(ALICE)


def sealing(home: Path) -> FolderSealing:
    return FolderSealing(KeyFile(home, FileOperations()), OPERATOR, holds_sealed=lambda: False)


def read(data: bytes, name: str = "alice", pool: str = "p", keys: FolderSealing | None = None) -> Account | None:
    """Read it, and use what a gateway uses of it; None: it is broken, in one line without a secret."""
    try:
        account = parse_account(pool, name, data, keys)
    except (BrokenAccountError, SealedError) as error:
        check_told(str(error))
        return None
    for at in (account.disabled_at, account.proxy_disabled_at, account.token.expires_at, account.created_at):
        assert at is None or timestamp(at)
    assert SECRET not in disabled_line(replace(account, disabled_reason=None))
    assert account.token.live(1.7e9) in {True, False}
    assert account.rejected_at() is None or float(account.rejected_at() or 0)
    try:
        dump_account(account.with_token(account.token).with_paused(1.7e9))
    except RefusedError as error:
        check_told(str(error))
    return account


def check_told(reason: str) -> None:
    """It is one line, without a secret in it."""
    assert SECRET not in reason
    assert reason.isprintable()


@given(st.lists(LINES, max_size=3), st.lists(LINES, max_size=2))
@example(["disabled_at = " + "9" * 400], [])
@example(["generation = 0x" + "f" * 5000], [])
@example(["zzz = 0x" + "f" * 5000], [])
@example(["zzz = " + "[" * 400 + "]" * 400], [])
@example(["created_at = 1"], ["rejected_at = " + "9" * 400])
def test_any_line_is_read_or_told(top: list[str], token: list[str]) -> None:
    """Of any key and any type, also more digits than Python or a float holds."""
    pending = f'[pending_refresh]\nfingerprint = "0"\n{token[0]}\n' if token else ""
    text = "\n".join([*top, "[token]", *token, f'refresh_token = "{SECRET}"', pending])
    read(text.encode())


@given(st.integers(0, len(PLAIN)), st.integers(0, 4), st.binary(max_size=4), st.randoms(use_true_random=False))
@example(0, 0, b"\xef\xbb\xbf", random.Random(0))
@example(9, 0, b"\x00", random.Random(0))
@example(9, 0, b"\xff", random.Random(0))
def test_any_damage_is_read_or_told(at: int, gone: int, put: bytes, rng: random.Random) -> None:
    """Cut off, overwritten, with other line ends, with a line twice or away."""
    lines = PLAIN.splitlines(keepends=True)
    rng.shuffle(lines)
    for data in (
        PLAIN[:at] + put + PLAIN[at + gone :],
        PLAIN[:at],
        PLAIN[:at].replace(b"\n", b"\r\n"),
        b"".join(lines),
    ):
        read(data)


def test_nothing_that_was_moved_is_opened(tmp_path: Path) -> None:
    """Each sealed line in every other table, another account, pool or generation; and each of its bytes changed."""
    keys = sealing(tmp_path)
    key = keys.sealing_key()
    data = dump_account(ALICE, key)
    assert SECRET.encode() not in data
    assert read(data, keys=keys) == ALICE
    assert parse_account("p", "ALICE", data, keys).token == ALICE.token
    assert read(data.replace(b"alice", b"bob"), "bob", keys=keys) is None
    assert read(data, pool="q", keys=keys) is None
    for generation in (b"2", b"4", b"-3", b"0"):
        assert read(data.replace(b"generation = 3", b"generation = " + generation), keys=keys) is None
    lines = [line for line in data.splitlines() if line.startswith(b"sealed")]
    assert len(lines) == 3
    for mine in lines:
        for other in (one for one in lines if one != mine):
            assert read(data.replace(mine, other), keys=keys) is None
        for at in range(len(mine) - 5):  # the last character of Base64 has bits that mean nothing
            changed = mine[:at] + (b"A" if mine[at : at + 1] != b"A" else b"B") + mine[at + 1 :]
            found = read(data.replace(mine, changed), keys=keys)
            assert found != ALICE
            assert found is None or at < len(b'sealed = "authpool1:')  # it is no sealed value any more


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["link", "folder", "fifo", "huge", "open", "binary"]), st.binary(max_size=40))
def test_whatever_is_in_its_place_is_broken_alone(tmp_path: Path, kind: str, data: bytes) -> None:
    """The one beside it is read as ever."""
    place, beside = tmp_path / "alice.toml", tmp_path / "bob.toml"
    beside.touch(mode=0o600)
    beside.write_bytes(dump_account(replace(ALICE, name="bob")))
    made = {
        "link": lambda: place.symlink_to(beside),
        "folder": place.mkdir,
        "fifo": lambda: os.mkfifo(place, 0o600),
        "huge": lambda: (place.touch(mode=0o600), place.write_bytes(PLAIN + b"#" * (1 << 20))),
        "open": lambda: (place.write_bytes(PLAIN), place.chmod(0o644)),
        "binary": lambda: (place.touch(mode=0o600), place.write_bytes(b"=" + data)),
    }
    made[kind]()
    folder = PoolFolder("p", tmp_path, FileOperations())
    folder.look_at(folder.names(), 0.0)
    folder.look_at(folder.names(), 1.0)
    found = folder.records[AccountKey.of("p", "alice")]
    assert isinstance(found, BrokenAccount)
    assert SECRET not in found.reason
    assert found.reason.isprintable()
    assert isinstance(folder.records[AccountKey.of("p", "bob")], Account)
    place.rmdir() if kind == "folder" else place.unlink()


@pytest.mark.parametrize("key", ("generation", "disabled = true\ndisabled_at", "created_at", "zzz"))
async def test_a_running_gateway_follows_any_number(
    tmp_path: Path, clock: FakeClock, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its tasks go on, no traceback is logged, and the neighbour serves."""
    provider = RotatingProvider(monotonic=clock.monotonic)
    home = idle_home(tmp_path, clock, provider, "alice", "bob")
    path = home / "accounts" / "p" / "alice.toml"
    async with idle_gateway(home, clock, Transport(provider)) as gateway:
        for number in ("-1", "9" * 18, "9" * 400, f"0x{'f' * 5000}"):
            path.write_text(f'{key} = {number}\n[token]\naccess_token = "{SECRET}"\nexpires_at = {number}\n')
            await gateway.catch_up()
            await turn(clock, 6)
            assert state(gateway, "bob").value == "ready"
        async with asyncio.timeout(30):  # the last of them can't be read
            while state(gateway, "alice").value != "broken":
                await gateway.catch_up()
                await asyncio.sleep(0.01)
    assert SECRET not in caplog.text
    errors = [record.message for record in caplog.records if record.exc_info or record.levelno > logging.WARNING]
    assert all(message.startswith("Skipping broken account p/alice: ") for message in errors), errors
