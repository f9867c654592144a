"""A process of its own that refreshes ``pool/alice``: ``python -m support.refresh_process FOLDER TOKEN_URL``.

It says ``ready``, waits for a line, and says what came of it.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from authpool.accounts.account import AccountKey
from authpool.clock import SystemClock
from authpool.oauth.discovery import EndpointResolver
from authpool.oauth.token_client import TokenClient, fetcher
from authpool.refresh.outcome import Ready
from authpool.refresh.refresher import Refresher
from authpool.store.folder.store import FolderStore
from support.world import pool_config


def start(folder: Path, url: str) -> subprocess.Popen[str]:
    """Start such a process, with pipes to its standard input and output."""
    return subprocess.Popen(
        [sys.executable, "-m", "support.refresh_process", str(folder), url],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def main(folder: Path, url: str) -> None:
    """Refresh once."""
    store, client = FolderStore(folder), TokenClient()
    refresher = Refresher(
        store=store,
        endpoint=client,
        resolver=EndpointResolver(fetcher(client)),
        pools=lambda: {"pool": pool_config(token_url=url)},
        clock=SystemClock(),
    )
    seen = await store.read(AccountKey.of("pool", "alice"))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    outcome = await refresher.refresh(seen)
    told = ("posted" if outcome.posted else "adopted") if isinstance(outcome, Ready) else type(outcome).__name__
    print(told, flush=True)
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
