"""A process of its own that exchanges a refresh token, and is killed before it can write that into the audit trail.

``python -m support.ending_process HOME refresh ACCOUNT`` or ``... HOME add POOL SOURCE``.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from authpool.gateway.service import Service
from authpool.store.audit import Entry
from authpool.store.folder.store import FolderStore
from authpool.verbs.operations import Operations
from authpool.verbs.sources import parse_credential


class EndingStore(FolderStore):
    """Ends the process in the place of the first line that tells of an exchange."""

    def append(self, entry: Entry) -> None:
        if entry.replaced is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        super().append(entry)


async def ended(home: Path, *arguments: str) -> int:
    """Run such a process to its end: minus the signal that ended it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "support.ending_process", str(home), *arguments),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    return await process.wait()


async def main(home: Path, verb: str, *arguments: str) -> None:
    """Do it as the command line does."""
    service = Service(home, {}, store=EndingStore(home / "accounts"), process="command line")
    operations = Operations(service)
    if verb == "refresh":
        await operations.refresh(*arguments)
    else:
        await operations.add(arguments[0], parse_credential(arguments[1], "the test"))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
