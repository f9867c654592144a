"""A home with a pool of any size, as files; its tokens live long enough that nothing is refreshed."""

import asyncio
import time
from pathlib import Path

from authpool.store.folder.store import FolderStore
from authpool.store.sealing.key_ring import OperatorKey

_CONFIG = """
[pools.bench]
type = "refresh_token"
token_url = "http://127.0.0.1:9/token"
client_id = "bench"
hosts = ["127.0.0.1:{port}"]

[gateway]
fast_dispatch = {fast_dispatch}
"""

_ACCOUNT = """\
version = 1
name = "{name}"
generation = 1
created_at = {now}
disabled = false
proxy_disabled = false

[token]
access_token = "bench-{name}"
refresh_token = "bench-refresh-{name}"
token_type = "Bearer"
expires_at = {expires_at}
"""

TOKEN_SECONDS = 12 * 3600


def write_home(home: Path, *, accounts: int, upstream_port: int, fast_dispatch: bool) -> None:
    """Write configuration and accounts for an upstream on loopback into a new folder."""
    folder = home / "accounts" / "bench"
    for path in (home, home / "accounts", folder):
        path.mkdir(mode=0o700)
    _write(home / "authpool.toml", _CONFIG.format(port=upstream_port, fast_dispatch=str(fast_dispatch).lower()))
    now = int(time.time())
    for number in range(accounts):
        name = f"account-{number:05}"
        _write(folder / f"{name}.toml", _ACCOUNT.format(name=name, now=now, expires_at=now + TOKEN_SECONDS))


def seal_home(home: Path) -> None:
    """Seal the home's accounts, with a key beside the home."""
    key = home.with_name(f"{home.name}.key")
    _write(key, bytes(range(32)).hex())
    with (home / "authpool.toml").open("a") as config:
        config.write(f'seal_key = "file:{key}"\n')
    asyncio.run(_seal(FolderStore(home / "accounts")))


async def _seal(store: FolderStore) -> None:
    store.seal_with(OperatorKey(bytes(range(32))))
    for part in await store.parts():
        await store.rewrite(part)


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
