"""A request as bytes, and its answer: what no HTTP library would send."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainAnswer:
    """An answer, read to the end of its connection or of its body."""

    status: int
    head: str
    body: bytes

    @property
    def code(self) -> str:
        """What `Authpool-Error` says."""
        return self.field("authpool-error")

    def field(self, name: str) -> str:
        lines = [line.partition(":") for line in self.head.splitlines()]
        return next((value.strip() for key, _, value in lines if key.lower() == name), "")

    def json(self) -> Any:
        return json.loads(self.body)


async def send(port: int, *lines: str, body: bytes = b"", host: str = "127.0.0.1") -> PlainAnswer:
    """Send these lines as a request of a connection of its own."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await send_on(reader, writer, lines, body)
    finally:
        writer.close()


async def send_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lines: Sequence[str], body: bytes = b""
) -> PlainAnswer:
    """Send them on a connection that is there, and read the answer; the connection stays."""
    writer.write("\r\n".join((*lines, "", "")).encode() + body)
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        answer = PlainAnswer(status=int(head.split(" ")[1]), head=head, body=b"")
        size = int(answer.field("content-length") or 0)
        content = await reader.readexactly(size) if size and not lines[0].startswith("HEAD") else b""
    return PlainAnswer(status=answer.status, head=head, body=content)
