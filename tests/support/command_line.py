"""`authpool` as a shell runs it: a process of its own, on a home."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import authpool

_SOURCES = os.pathsep.join(str(Path(module).parents[1]) for module in (authpool.__file__,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a process ended."""

    status: int | None
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


async def authpool_on(home: Path, *arguments: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Ended:
    """Run ``authpool --home HOME ARGUMENTS`` to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "authpool", "--home", str(home), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": _SOURCES, **(env or {})},
    )
    out, err = await process.communicate(stdin.encode())
    return Ended(status=process.returncode, out=out.decode(), err=err.decode())
