"""Peers on asyncio: websockets, aiohttp and picows."""

import asyncio

import aiohttp
import picows
import websockets.asyncio.client
import websockets.asyncio.server
from aiohttp import web
from websockets.exceptions import ConnectionClosed

from report import PATIENCE, PAUSE, TEXT, Report
from ways import THEIRS, Way


class Websockets:
    def __init__(self, ws, report):
        self.ws, self.report = ws, report
        self.error = None

    async def receive(self):
        try:
            async for _ in self.ws:
                self.report.count()
        except ConnectionClosed as error:
            self.error = error

    async def send(self):
        await self.ws.send(TEXT)

    async def close(self):
        await self.ws.close()

    @property
    def code(self):
        return self.ws.close_code

    @staticmethod
    def settings(every):
        return {"ping_interval": every, "ping_timeout": every, "compression": None}

    @staticmethod
    async def connect(url, every, keep):
        async with websockets.asyncio.client.connect(url, proxy=None, **Websockets.settings(every)) as ws:
            await keep(Websockets, ws)

    @staticmethod
    async def serve(every, keep):
        async def handle(ws):
            await keep(Websockets, ws, ws.request.path)

        server = await websockets.asyncio.server.serve(handle, "127.0.0.1", 0, **Websockets.settings(every))
        return server.sockets[0].getsockname()[1]


class Aiohttp:
    def __init__(self, ws, report):
        self.ws, self.report = ws, report

    async def receive(self):
        async for _ in self.ws:
            self.report.count()

    async def send(self):
        await self.ws.send_str(TEXT)

    async def close(self):
        await self.ws.close()

    @property
    def code(self):
        return self.ws.close_code

    @property
    def error(self):
        return self.ws.exception()

    @staticmethod
    async def connect(url, every, keep):
        async with aiohttp.ClientSession() as session:
            # It expects an answer within half of the time.
            async with session.ws_connect(url, heartbeat=every) as ws:
                await keep(Aiohttp, ws)

    @staticmethod
    async def serve(every, keep):
        async def handle(request):
            ws = web.WebSocketResponse(heartbeat=every)
            await ws.prepare(request)
            await keep(Aiohttp, ws, request.path)
            return ws

        app = web.Application()
        app.router.add_get("/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner.addresses[0][1]


class Picows:
    class Listener(picows.WSListener):
        def __init__(self, connected):
            self.connected, self.messages = connected, 0

        def on_ws_connected(self, transport):
            self.connected(transport, self)

        def on_ws_frame(self, transport, frame):
            if frame.msg_type == picows.WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code(), frame.get_close_message())
                transport.disconnect()
            elif frame.msg_type == picows.WSMsgType.TEXT:
                self.messages += 1

    def __init__(self, ws, report):
        self.transport, self.listener = ws
        self.report = report
        self.error = None

    async def receive(self):
        try:
            await self.transport.wait_disconnected()
        except Exception as error:  # whatever has ended it
            self.error = error
        self.report.messages = self.listener.messages

    async def send(self):
        self.transport.send(picows.WSMsgType.TEXT, TEXT.encode())

    async def close(self):
        self.transport.send_close(picows.WSCloseCode.OK)
        await self.transport.wait_disconnected()

    @property
    def code(self):
        handshake = self.transport.close_handshake
        return handshake.recv.code.value if handshake and handshake.recv else 1006

    @staticmethod
    def settings(every):
        # Also where the other side talks.
        strategy = picows.WSAutoPingStrategy.PING_PERIODICALLY
        times = {"auto_ping_idle_timeout": every or 1, "auto_ping_reply_timeout": every or 1}
        return {"enable_auto_ping": bool(every), "auto_ping_strategy": strategy, **times}

    @staticmethod
    async def connect(url, every, keep):
        opened = asyncio.get_running_loop().create_future()

        def connected(transport, listener):
            opened.set_result(asyncio.ensure_future(keep(Picows, (transport, listener))))

        await picows.ws_connect(lambda: Picows.Listener(connected), url, **Picows.settings(every))
        await (await opened)

    @staticmethod
    async def serve(every, keep):
        kept = set()

        def accept(request):
            def connected(transport, listener):
                task = asyncio.ensure_future(keep(Picows, (transport, listener), request.path.decode()))
                kept.add(task)
                task.add_done_callback(kept.discard)

            return Picows.Listener(connected)

        server = await picows.ws_create_server(accept, "127.0.0.1", 0, **Picows.settings(every))
        return server.sockets[0].getsockname()[1]


PEERS = {"websockets": Websockets, "aiohttp": Aiohttp, "picows": Picows}


async def keep(link, way, report, seconds):
    """Keeps a connection for its time, then closes it or waits for its close, and tells."""
    receiving = asyncio.ensure_future(link.receive())
    talking = asyncio.ensure_future(talk(link)) if way.talks else None
    closes = way.closer == THEIRS
    await asyncio.wait([receiving], timeout=seconds if closes else seconds + PATIENCE)
    if talking:
        talking.cancel()
    error = None
    if not receiving.done() and closes:
        report.begin_to_close()
        await link.close()
        report.closed()
        await receiving
    elif not receiving.done():
        error = "it has not ended"
        receiving.cancel()
    report.tell(link.code, error or link.error)


async def talk(link):
    try:
        while True:
            await link.send()
            await asyncio.sleep(PAUSE)
    except (ConnectionError, ConnectionClosed):
        pass


async def client(name, every, seconds, urls, stagger):
    tasks = []
    for url in urls:
        tasks.append(asyncio.ensure_future(connect(name, every, seconds, url)))
        await asyncio.sleep(stagger)
    await asyncio.gather(*tasks)


async def connect(name, every, seconds, url):
    path = "/" + url.split("/", 3)[3]
    report = Report(path)

    async def opened(kind, ws):
        await keep(kind(ws, report), Way(path), report, seconds)

    try:
        await PEERS[name].connect(url, every, opened)
    except Exception as error:
        report.tell(0, repr(error))


async def server(name, every, seconds):
    async def opened(kind, ws, path):
        report = Report(path)
        try:
            await keep(kind(ws, report), Way(path), report, seconds)
        except Exception as error:
            report.tell(0, repr(error))

    port = await PEERS[name].serve(every, opened)
    print("listening on ws://127.0.0.1:%d" % port, flush=True)
    await asyncio.get_running_loop().create_future()
