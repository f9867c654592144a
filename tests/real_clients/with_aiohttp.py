"""aiohttp: `trust_env`, without which it goes past the proxy; its WebSockets by an `https:` address."""

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator

import aiohttp


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(40):
        yield b"x" * 30_000


async def main(url: str) -> None:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context())
    async with aiohttp.ClientSession(trust_env=True, connector=connector) as session:
        async with session.get(f"{url}/plain") as response:
            print("plain", response.status, flush=True)
        async with session.get(f"{url}/events") as response:
            async for line in response.content:
                if line.startswith(b"data:"):
                    print("event", flush=True)
        async with session.post(f"{url}/upload", data=pieces()) as response:
            print("uploaded", (await response.json())["length"], flush=True)
        async with session.ws_connect(f"{url}/socket") as socket:
            await socket.send_str("hello")
            print("echoed", (await socket.receive()).data, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for _ in range(4):
            async with session.get(f"{url}/after") as response:
                print("after", response.status, flush=True)


asyncio.run(main(sys.argv[1]))
