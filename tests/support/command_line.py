"""`authpool` as a shell runs it: a process of its own, on a home."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import authpool

SOURCES = os.pathsep.join(str(Path(module).parents[1]) for module in (authpool.__file__,))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    status: int | None
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


async def start(*arguments: str, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """Start `python -m authpool` as a shell would, where a proxy is set that must not be used."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "authpool", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCES, "HTTPS_PROXY": "http://127.0.0.1:1", **(env or {})},
    )


async def run(*arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ended:
    """Run it to its end."""
    process = await start(*arguments, env=env)
    out, err = await process.communicate(stdin.encode())
    return Ended(process.returncode, out.decode(), err.decode())


async def authpool_on(home: Path, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ended:
    """Run ``authpool --home HOME ARGUMENTS`` to its end."""
    return await run("--home", str(home), *arguments, stdin=stdin, env=env)
