"""websockets: takes the proxy from the environment."""

import asyncio
import sys

from websockets.asyncio.client import connect


async def main(url: str) -> None:
    address = f"{url.replace('https', 'wss')}/socket"
    async with connect(address, max_size=2_000_000) as socket:
        print("plain", socket.response.status_code if socket.response else None, flush=True)
        for number in range(3):
            await socket.send(str(number))
            if await socket.recv() == str(number):
                print("event", flush=True)
        await socket.send("x" * 1_200_000)
        print("uploaded", len(await socket.recv()), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for _ in range(4):
        async with connect(address) as socket:
            print("after", socket.response.status_code if socket.response else None, flush=True)


asyncio.run(main(sys.argv[1]))
