"""Clients of the gateway for a test: their keys, the ways to show one, and a SOCKS client."""

import asyncio
import struct
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from authpool.clients.client import GatewayClient, IssuedKey
from authpool.clients.key import NewKey, new_key
from authpool.config.host_pattern import HostPattern
from authpool.files.atomic_file import FileOperations
from authpool.store.folder.gateway_client_folder import GatewayClientFolder

type Change = Callable[[GatewayClient | None], GatewayClient | None]


def issued(key: NewKey, **more: Any) -> IssuedKey:
    """A key as its client's record has it."""
    return IssuedKey(id=key.id, sha256=key.sha256, created_at=int(time.time()), **more)


def add_client(home: Path, name: str = "ci", *, hosts: tuple[str, ...] | None = None, **more: Any) -> str:
    """Write a client into a home as the command line does, and answer its key."""
    key = new_key()
    patterns = None if hosts is None else tuple(map(HostPattern.parse, hosts))
    client = GatewayClient(name=name, hosts=patterns, keys=(issued(key),), **more)
    change_client(home, name, lambda _: client)
    return key.text


def change_client(home: Path, name: str, change: Change) -> None:
    """Change a client as the command line does: once nobody else has the folder's lock."""
    folder, deadline = GatewayClientFolder(home, FileOperations()), time.monotonic() + 10
    while not folder.update(name, change)[0]:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def remove_client(home: Path, name: str = "ci") -> None:
    """As `authpool client remove`."""
    change_client(home, name, lambda client: client and client.with_removed(time.time()))


def basic(user: str, password: str) -> str:
    """The value of an `Authorization` or `Proxy-Authorization` (RFC 7617)."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


PLACES: dict[str, Callable[[str], dict[str, str]]] = {
    "proxy bearer": lambda key: {"Proxy-Authorization": f"Bearer {key}"},
    "proxy user": lambda key: {"Proxy-Authorization": basic(key, "")},
    "proxy password": lambda key: {"Proxy-Authorization": basic("anybody", key)},
    "bearer": lambda key: {"Authorization": f"Bearer {key}"},
    "x-api-key": lambda key: {"x-api-key": key},
    "x-goog-api-key": lambda key: {"x-goog-api-key": key},
}
"""The header fields that a key may be in; the query's `key` is one more place."""


class SocksRefusedError(Exception):
    """The proxy did not let the client in; the message is its answer."""


async def through_socks(
    proxy_port: int, port: int, user: str | None, password: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to a port of 127.0.0.1 through SOCKS5; without a user, none is offered. Raises SocksRefusedError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy_port)
    writer.write(b"\x05\x01\x00" if user is None else b"\x05\x02\x00\x02")
    method = await reader.readexactly(2)
    if method == b"\x05\xff":
        writer.close()
        raise SocksRefusedError("no acceptable method")
    if method == b"\x05\x02":
        name, secret = (user or "").encode(), password.encode()
        writer.write(bytes([1, len(name)]) + name + bytes([len(secret)]) + secret)
        if (answer := await reader.readexactly(2)) != b"\x01\x00":
            writer.close()
            raise SocksRefusedError(f"login refused: {answer!r}")
    writer.write(b"\x05\x01\x00\x01" + bytes([127, 0, 0, 1]) + struct.pack(">H", port))
    if (answer := (await reader.readexactly(10))[:2]) != b"\x05\x00":
        writer.close()
        raise SocksRefusedError(f"connect refused: {answer!r}")
    return reader, writer
