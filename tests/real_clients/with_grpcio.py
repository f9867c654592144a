"""grpcio: the proxy and the root certificates come from the environment; its own names for both."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio

# A call is a stream both ways, so the gateway sends none twice: the client does, where it may.
RETRY = {
    "maxAttempts": 3,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAUTHENTICATED"],
}
CONFIG = json.dumps({"methodConfig": [{"name": [{"service": "test.Service"}], "retryPolicy": RETRY}]})
ROOTS = Path(os.environ["SSL_CERT_FILE"]).read_bytes()


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(40):
        yield b"x" * 30_000


async def main(url: str) -> None:
    credentials = grpc.ssl_channel_credentials(ROOTS)
    options = [("grpc.service_config", CONFIG)]
    async with grpc.aio.secure_channel(url.removeprefix("https://"), credentials, options) as channel:
        plain = channel.unary_unary("/test.Service/Plain")
        await plain(b"hello")
        print("plain", 200, flush=True)
        async for _ in channel.unary_stream("/test.Service/Events")(b"hello"):
            print("event", flush=True)
        print("uploaded", int(await channel.stream_unary("/test.Service/Upload")(pieces())), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for _ in range(4):
            await plain(b"hello")
            print("after", 200, flush=True)


asyncio.run(main(sys.argv[1]))
