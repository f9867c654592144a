"""A client that sends any bytes: what no HTTP library would."""

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """All that a connection brought until it was closed; the first answer of it taken apart."""

    raw: bytes

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        lines = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        pairs = [line.partition(":") for line in lines]
        return next((value.strip() for key, _, value in pairs if key.lower() == name.lower()), None)


async def send_raw(port: int, request: bytes, deadline_seconds: float = 20.0) -> RawAnswer:
    """Send these bytes on a connection of its own, and read until the other side closes it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(deadline_seconds):
            return RawAnswer(raw=await reader.read())
    finally:
        writer.close()


def head(*lines: str) -> bytes:
    """A request without a body, from its lines; the connection is closed after it."""
    return "\r\n".join((*lines, "Connection: close", "", "")).encode("latin-1")
