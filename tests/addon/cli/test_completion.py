"""Completion, in the shells that this machine has."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from support.command_line import SOURCES, authpool_on, run
from support.operator import Desk, open_desk

BASH = r"""
set -u
eval "$(authpool completion bash)"
complete_line() {
    COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    [[ "$1" == *" " ]] && { COMP_WORDS+=(""); COMP_CWORD=$(( COMP_CWORD + 1 )); }
    COMPREPLY=(); _authpool_completion authpool
    printf '%s\n' "${COMPREPLY[@]-}"
    echo --
}
"""


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
        assert await completed(desk, "pause", "go") == ["google/"]
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


async def in_shell(shell: str, script: str, tmp_path: Path, home: Path) -> str:
    env = {"PATH": f"{bin_folder(tmp_path)}:{os.environ['PATH']}", "AUTHPOOL_HOME": str(home), "HOME": str(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        *(shell, *(["-f"] if shell == "zsh" else []), "-c", script),
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert err == b"", err.decode()
    return out.decode()


async def test_bash_completes_names_with_an_at_sign_and_a_colon(tmp_path: Path) -> None:
    """Which end words in it, unless it is told otherwise."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    async with open_desk(tmp_path) as desk:
        for name in ("alice@example.com", "al:so"):
            desk.write(f"google/{name}", token={"refresh_token": name})
        script = (
            BASH + 'echo "$COMP_WORDBREAKS" | tr -cd "@:" | wc -c\ncomplete_line "authpool pause google/alice@ex"\n'
        )
        out = await in_shell("bash", script, tmp_path, desk.home)
    assert out.split() == ["0", "google/alice@example.com", "--"]


@pytest.mark.parametrize("shell", ("zsh", "fish"))
async def test_other_shells_take_what_is_printed(tmp_path: Path, shell: str) -> None:
    """Zsh and fish read it without a word."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    async with open_desk(tmp_path) as desk:
        desk.write("google/alice@example.com", token={"refresh_token": "x"})
        if shell == "zsh":
            script = (
                'autoload -Uz compinit; compinit -D; eval "$(authpool completion zsh)"; whence -w _authpool_completion'
            )
            assert "function" in await in_shell(shell, script, tmp_path, desk.home)
        else:
            script = "authpool completion fish | source; complete -C 'authpool pause google/al'"
            assert (await in_shell(shell, script, tmp_path, desk.home)).split() == ["google/alice@example.com"]


async def test_the_shells_are_named(tmp_path: Path) -> None:
    """Another one is wrong usage."""
    ended = await authpool_on(tmp_path, "completion", "tcsh")
    assert ended.status == 2
    assert "bash" in ended.err
