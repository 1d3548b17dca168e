"""Opens a WebSocket with these fields in its opening: what is echoed, or the status that refuses it."""

import asyncio
import json
import sys

import websockets

URL, HEADERS = sys.argv[1], json.loads(sys.argv[2])


async def main():
    try:
        async with websockets.connect(URL, additional_headers=HEADERS) as client:
            await client.send("hello")
            return {"echo": await client.recv()}
    except websockets.exceptions.InvalidStatus as error:
        return {"status": error.response.status_code}


print(json.dumps(asyncio.run(main())))
