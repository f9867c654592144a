"""A client's side of SOCKS5 (RFC 1928), as far as mitmproxy speaks it."""

import asyncio
import struct

SUCCEEDED = 0


async def socks_connect(
    port: int, host: str, destination: int
) -> tuple[int, asyncio.StreamReader, asyncio.StreamWriter]:
    """Ask the proxy on this port for a connection, by name; answers what it replied, and the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x05\x01\x00")
    assert await reader.readexactly(2) == b"\x05\x00"
    name = host.encode()
    writer.write(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack("!H", destination))
    reply = await reader.readexactly(10)
    return reply[1], reader, writer
