"""Completion, in the shells that this machine has."""

import asyncio
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.command_line import SOURCES, authpool_on, run
from support.operator import Desk, open_desk


async def completed(desk: Desk, *words: str) -> list[str]:
    """What click answers a shell for the last word; nothing may be on standard error."""
    line = " ".join(("authpool", *words))
    env = {"_AUTHPOOL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    ended = await run(env={**env, "AUTHPOOL_HOME": str(desk.home)})
    assert ended.err == ""
    return [item.partition(",")[2] for item in ended.out.splitlines() if item]


async def test_verbs_pools_and_accounts(tmp_path: Path) -> None:
    """Those that are there; an account that was named already is not offered again."""
    async with open_desk(tmp_path) as desk:
        for name in ("alice@example.com", "Bob@example.com", "al:so"):
            desk.write(f"google/{name}", token={"refresh_token": name})
        assert await completed(desk, "pau") == ["pause"]
        assert await completed(desk, "login", "goo") == ["google"]
        assert await completed(desk, "pause", "s") == []
        assert await completed(desk, "pause", "") == ["google/", "keys/", "service/"]
        assert await completed(desk, "pause", "google/AL") == ["google/al:so", "google/alice@example.com"]
        assert await completed(desk, "pause", "google/al:so", "google/al") == ["google/alice@example.com"]
        assert await completed(desk, "accounts", "--state", "dis") == ["disabled"]
        assert await completed(desk, "--home", str(desk.home), "refresh", "google/b") == ["google/Bob@example.com"]


async def test_whatever_is_wrong_there_is_only_nothing_to_complete(tmp_path: Path) -> None:
    """A configuration that can't be read, a home that is not there, a pool that is none."""
    async with open_desk(tmp_path) as desk:
        assert await completed(desk, "pause", "nothing/") == []
        (desk.home / "authpool.toml").write_text("[")
        assert await completed(desk, "pause", "google/") == []
        assert await completed(desk, "--home", str(tmp_path / "nowhere"), "pause", "") == []


def bin_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "authpool"
    program.write_text(f"#!/bin/sh\nPYTHONPATH='{SOURCES}' exec '{sys.executable}' -m authpool \"$@\"\n")
    program.chmod(0o700)
    return folder


SHELLS = {
    "bash": (["--norc", "-i"], 'eval "$(authpool completion bash)"'),
    "zsh": (["-f", "-i"], 'autoload -Uz compinit; compinit -D; eval "$(authpool completion zsh)"'),
    "fish": (["--no-config", "-i"], "authpool completion fish | source"),
}
_OWN_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)
_ESCAPES = re.compile(r"\x1b(\[[0-9;?>=]*[a-zA-Z]|\][^\x07]*\x07|[()][A-Z0-9]|[>=])")


class Typed:
    """A shell at a terminal, as a person types into it."""

    def __init__(self, shell: str, folder: Path, home: Path) -> None:
        options, self._begin = SHELLS[shell]
        self._ours, theirs = os.openpty()
        env = {"PATH": f"{bin_folder(folder)}:{os.environ['PATH']}", "AUTHPOOL_HOME": str(home), "HOME": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, shell, *options],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**env, "TERM": "xterm", "LC_ALL": "C.UTF-8", "COLUMNS": "200"},
            cwd=folder,
        )
        os.close(theirs)
        self._shown = ""

    def begin(self) -> None:
        self.type(f"{self._begin}; echo rea''dy\r")
        self.until("ready")

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def until(self, words: str, seconds: float = 60.0) -> None:
        """Wait until it shows that; what was shown before counts no more."""
        end = time.monotonic() + seconds
        while words not in self._shown and time.monotonic() < end:
            if select.select([self._ours], [], [], 0.1)[0]:
                self._shown += _ESCAPES.sub("", os.read(self._ours, 65536).decode(errors="replace"))
        assert words in self._shown, self._shown
        self._shown = self._shown.partition(words)[2]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)


@pytest.fixture(params=sorted(SHELLS))
async def shell(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Typed]:
    """At a home of three pools, two of which begin alike."""
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param}")
    async with open_desk(tmp_path, more_pools=("google-eu",)) as desk:
        for name in ("alice@example.com", "al:so", "it's $(touch oops)", "b*"):
            desk.write(f"google/{name}", token={"refresh_token": name})
        desk.write("service/only", token={"refresh_token": "x"})
        typed = Typed(request.param, tmp_path, desk.home)
        try:
            await asyncio.to_thread(typed.begin)
            yield typed
        finally:
            typed.end()


COMPLETED = {
    "pau\t google/ali\t": "google/alice@example.com",
    "pause google/al:\t": "google/al:so",
    "pause google/it\t": "google/it's $(touch oops)",
    "pause google/b\t": "google/b*",
    "pause serv\t": "service/only",
}
"""What is typed, and which account is meant by it."""


@pytest.mark.timeout(240)
async def test_a_person_completes_at_a_terminal(shell: Typed, tmp_path: Path) -> None:
    """Names with an @, a colon, a space, a star, or what a shell would carry out arrive as the one word they are."""
    for keys, address in COMPLETED.items():
        shell.type(f"authpool {keys}\r")
        await asyncio.to_thread(shell.until, f"Paused {address}")
    assert not (tmp_path / "oops").exists()


async def test_the_only_pool_is_completed_with_its_accounts(tmp_path: Path) -> None:
    """For a shell sets a space behind a word that is the only one; however many accounts, all are offered."""
    async with open_desk(tmp_path, more_pools=("google-eu",)) as desk:
        for number in range(600):
            desk.write(f"google-eu/{number}", token={"refresh_token": str(number)})
        assert await completed(desk, "pause", "goo") == ["google/", "google-eu/"]
        assert len(await completed(desk, "pause", "google-")) == 600
        assert len(await completed(desk, "pause", "google-eu/")) == 600


async def test_the_shells_are_named(tmp_path: Path) -> None:
    """Another one is wrong usage."""
    ended = await authpool_on(tmp_path, "completion", "tcsh")
    assert ended.status == 2
    assert "bash" in ended.err
