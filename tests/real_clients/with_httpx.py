"""httpx: everything from the environment."""

import asyncio
import sys
from collections.abc import AsyncIterator

import httpx


async def pieces() -> AsyncIterator[bytes]:
    for _ in range(40):
        yield b"x" * 30_000


async def main(url: str) -> None:
    async with httpx.AsyncClient(timeout=30) as client:
        print("plain", (await client.get(f"{url}/plain")).status_code, flush=True)
        async with client.stream("GET", f"{url}/events") as response:
            async for line in response.aiter_lines():
                if line.startswith("data:"):
                    print("event", flush=True)
        print("uploaded", (await client.post(f"{url}/upload", content=pieces())).json()["length"], flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for _ in range(4):
            print("after", (await client.get(f"{url}/after")).status_code, flush=True)


asyncio.run(main(sys.argv[1]))
