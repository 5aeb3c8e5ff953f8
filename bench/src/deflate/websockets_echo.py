"""An echo server on Python's `websockets`, for `bench -- deflate --python PYTHON`: PORT yes|no (context takeover)."""

import asyncio
import contextlib
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


async def echo(websocket):
    # The load ends without a close frame.
    with contextlib.suppress(ConnectionClosed):
        async for message in websocket:
            await websocket.send(message)


async def main(port, takeover):
    deflate = ServerPerMessageDeflateFactory(
        server_no_context_takeover=not takeover,
        client_no_context_takeover=not takeover,
        server_max_window_bits=12,
        client_max_window_bits=12,
        compress_settings={"level": 1, "memLevel": 5},
    )
    async with serve(
        echo, "127.0.0.1", port, compression=None, extensions=[deflate], ping_interval=None
    ) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2] == "yes"))
