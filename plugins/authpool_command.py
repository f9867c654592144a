"""command: access tokens that an external program prints, such as `gcloud auth print-access-token` or a vault client.

    type = { name = "command", argv = ["gcloud", "auth", "print-access-token", "{account}"], lifetime_seconds = 3000 }

The program is started without a shell, once for each token; ``{account}`` in an argument is the account's name. What it
prints is kept in the account's record until shortly before it expires. It never shows in a log.
"""

import asyncio
import json
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from authpool.plugins.api import (
    Account,
    ConfigTable,
    CredentialMisconfiguredError,
    CredentialUnavailableError,
    Fetched,
    PoolConfig,
    RefusedError,
    TokenSource,
    TokenSourceFactory,
    clip_reason,
    find_program,
    harmless_words,
    hookimpl,
    mistake,
    source_options,
)

OUTPUT_BYTES = 64 * 1024
_KEYS = ("argv", "format", "seconds", "lifetime_seconds", "env", "environment")
_PASSED_ON = frozenset(
    {
        *("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TEMP", "TMP", "TMPDIR", "TZ", "USER"),
        *("NO_PROXY", "SSL_CERT_DIR", "SSL_CERT_FILE", "no_proxy"),
    }
)
"""What every program needs, and nothing of it a secret: the gateway's environment has those of all pools."""
_PASSED_ON_PREFIXES = ("LC_", "XDG_")
_TOKEN_KEYS = ("access_token", "token", "accessToken", "id_token")
_EXPIRY_KEYS = ("expires_at", "expiration", "expiry", "expiresOn", "Expiration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(TokenSource):
    """One program, for the accounts of a pool. `lifetime_seconds`: how long a token lives whose end is not printed.

    It gets the variables `env`, and of the gateway's the common ones and those that `environment` names. Nobody but
    root, this process's user and the owner of `home` may be able to exchange it.
    """

    argv: tuple[str, ...]
    is_json: bool = False
    seconds: int = 10
    lifetime_seconds: int | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: tuple[str, ...] = ()
    home: Path = Path("/")

    async def fetch(self, account: Account) -> Fetched:
        asked_at = int(time.time())
        output = await self._run([argument.replace("{account}", account.name) for argument in self.argv])
        try:
            text = output.decode().strip()
            token, expires_at = _read_json(text, asked_at) if self.is_json else (text, None)
        except (ValueError, TypeError, RecursionError):  # not chained: what was printed may be a token
            raise CredentialUnavailableError(f"{self.argv[0]} printed no token that can be read") from None
        if not token:
            raise CredentialUnavailableError(f"{self.argv[0]} printed no token")
        if expires_at is None and self.lifetime_seconds is not None:
            expires_at = asked_at + self.lifetime_seconds
        return Fetched(access_token=token, expires_at=expires_at)

    async def _run(self, argv: list[str]) -> bytes:
        environment = self._passed_on() | dict(self.env)
        try:
            program = await asyncio.to_thread(find_program, argv[0], environment, self.home)
            process = await _start(program, argv, environment)
        except RefusedError as error:
            raise CredentialMisconfiguredError(f"{self.argv[0]} is not run: {error}") from None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "an argument can't be passed on"
            raise CredentialMisconfiguredError(f"{self.argv[0]} can't be started: {why}") from None
        try:
            async with asyncio.timeout(self.seconds):
                output, errors = await asyncio.gather(
                    _read(process.stdout, lambda: _kill_group(process)), _read(process.stderr)
                )
                status = await process.wait()
        except TimeoutError:
            raise CredentialUnavailableError(f"{self.argv[0]} took longer than {self.seconds} s") from None
        finally:
            await _end(process)
        if len(output) > OUTPUT_BYTES:
            raise CredentialUnavailableError(f"{self.argv[0]} printed more than {OUTPUT_BYTES} bytes")
        if status != 0:
            raise CredentialUnavailableError(f"{self.argv[0]} failed with status {status}{_first_line(errors)}")
        return output

    def _passed_on(self) -> dict[str, str]:
        names = _PASSED_ON.union(self.environment)
        return {
            name: value for name, value in os.environ.items() if name in names or name.startswith(_PASSED_ON_PREFIXES)
        }


async def _start(program: Path, argv: list[str], environment: Mapping[str, str]) -> Process:
    """Start a program in a group of its own, so that its children end with it.

    The start itself is not cancelled: asyncio would kill the program alone, and wait for its children for ever. It goes
    on until there is a group to end.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *argv,
            executable=program,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=environment,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.shield(_end_what_starts(starting))
        raise


async def _end_what_starts(starting: "asyncio.Future[Process]") -> None:
    with suppress(OSError, ValueError):
        await _end(await starting)


async def _read(stream: asyncio.StreamReader | None, too_much: Callable[[], None] = lambda: None) -> bytes:
    """Read to the end, and keep no more than one byte above the limit; `too_much` is called when there is more."""
    data = b""
    while stream is not None and (piece := await stream.read(OUTPUT_BYTES)):
        if len(data) <= OUTPUT_BYTES < len(data) + len(piece):
            too_much()
        data = (data + piece)[: OUTPUT_BYTES + 1]
    return data


def _kill_group(process: Process) -> None:
    """Kill what is left of the group, the program's own children too."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: Process) -> None:
    _kill_group(process)
    # Shielded: a caller that is cancelled leaves no zombie, and no pipe for the loop to trip over.
    await asyncio.shield(process.wait())
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio has no other way


def _first_line(errors: bytes) -> str:
    """The first line of what it complained of, without any word that may be a secret."""
    lines = errors.decode("utf-8", "replace").strip().splitlines()
    return f": {clip_reason(harmless_words(lines[0][:300]))}" if lines else ""


def _read_json(text: str, now: int) -> tuple[str, int | None]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise TypeError("no object")
    token = next((document[key] for key in _TOKEN_KEYS if isinstance(document.get(key), str)), "")
    if document.get("expires_in") is not None:
        return token, now + int(document["expires_in"])
    end = next((document[key] for key in _EXPIRY_KEYS if document.get(key) is not None), None)
    return token, None if end is None else _unix_seconds(end)


def _unix_seconds(end: Any) -> int:
    """Unix seconds, as a number or in digits, or a date as in RFC 3339."""
    if isinstance(end, int | float):
        return int(end)
    text = str(end)
    if text.isdecimal():
        return int(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a date without a zone is not known to the second")
    return int(moment.timestamp())


def _make(pool: PoolConfig) -> TokenSource:
    table = source_options(pool, *_KEYS)
    argv = table.take_strings("argv")
    if not argv or not argv[0].strip():
        raise mistake(table.at("argv"), "is missing or empty.", 'Write argv = ["PROGRAM", "ARGUMENT"].')
    lifetime = table.take_whole("lifetime_seconds", 3600, 1, 31_536_000) if "lifetime_seconds" in table else None
    return Command(
        argv=argv,
        is_json=table.take_choice("format", ("text", "json"), "text") == "json",
        seconds=table.take_whole("seconds", 10, 1, 55),
        lifetime_seconds=lifetime,
        env=_environment(table),
        environment=_named(table),
        home=pool.home,
    )


def _named(table: ConfigTable) -> tuple[str, ...]:
    names = table.take_strings("environment")
    for name in names:
        if name.startswith("AUTHPOOL_"):
            raise mistake(table.at("environment"), f"names {name}, which is authpool's own.", "Leave it out.")
    return names


def _environment(table: ConfigTable) -> dict[str, str]:
    names = table.take_table("env")
    env = ConfigTable.unchecked(names, table.at("env"))
    return {name: env.take(name, str, "") for name in names}


@hookimpl
def authpool_token_source(name: str) -> TokenSourceFactory | None:
    return _make if name == "command" else None
