"""Peers on threads: websockets and websocket-client."""

import threading
import time

import websocket
import websockets.sync.client
import websockets.sync.server
from websockets.exceptions import ConnectionClosed

from report import PATIENCE, PAUSE, TEXT, Report
from ways import THEIRS, Way


class Websockets:
    def __init__(self, ws, report):
        self.ws, self.report = ws, report
        self.error = None

    def receive(self):
        try:
            for _ in self.ws:
                self.report.count()
        except ConnectionClosed as error:
            self.error = error

    def talk(self):
        try:
            while True:
                self.ws.send(TEXT)
                time.sleep(PAUSE)
        except ConnectionClosed:
            pass

    def keep(self, way, seconds):
        receiving = threading.Thread(target=self.receive, daemon=True)
        receiving.start()
        if way.talks:
            threading.Thread(target=self.talk, daemon=True).start()
        closes = way.closer == THEIRS
        receiving.join(seconds if closes else seconds + PATIENCE)
        error = None
        if receiving.is_alive() and closes:
            self.report.begin_to_close()
            self.ws.close()
            self.report.closed()
            receiving.join()
        elif receiving.is_alive():
            error = "it has not ended"
        self.report.tell(self.ws.close_code, error or self.error)

    @staticmethod
    def settings(every):
        return {"ping_interval": every, "ping_timeout": every, "compression": None}

    @staticmethod
    def connect(url, path, every, seconds):
        report = Report(path)
        with websockets.sync.client.connect(url, proxy=None, **Websockets.settings(every)) as ws:
            Websockets(ws, report).keep(Way(path), seconds)

    @staticmethod
    def serve(every, seconds):
        def handle(ws):
            path = ws.request.path
            Websockets(ws, Report(path)).keep(Way(path), seconds)

        with websockets.sync.server.serve(handle, "127.0.0.1", 0, **Websockets.settings(every)) as server:
            print("listening on ws://127.0.0.1:%d" % server.socket.getsockname()[1], flush=True)
            server.serve_forever()


class WebsocketClient:
    """An app that closes itself, in one of its callbacks. One of them is called every second, for a ping or a pong."""

    def __init__(self, url, path, seconds):
        self.report, self.way, self.seconds = Report(path), Way(path), seconds
        self.code = self.error = None
        self.app = websocket.WebSocketApp(
            url,
            on_open=self.on_open,
            on_message=self.on_message,
            on_ping=lambda _app, _payload: self.close_in_time(),
            on_pong=lambda _app, _payload: self.close_in_time(),
            on_error=self.on_error,
            on_close=self.on_close,
        )

    def on_open(self, _app):
        if self.way.talks:
            threading.Thread(target=self.talk, daemon=True).start()

    def on_message(self, _app, _message):
        self.report.count()
        self.close_in_time()

    def on_error(self, _app, error):
        # A close frame of the peer is an error too, with 1000 as well.
        if getattr(error, "status_code", None) != 1000:
            self.error = error

    def on_close(self, _app, code, _reason):
        self.code = self.code or code

    def close_in_time(self):
        is_time = time.monotonic() > self.report.begun + self.seconds
        if self.way.closer == THEIRS and is_time and self.report.closing is None:
            socket = self.app.sock
            self.report.begin_to_close()
            self.app.close()
            self.report.closed()
            frame = socket.close_frame
            self.code = int.from_bytes(frame.data[:2], "big") if frame else 1006

    def talk(self):
        try:
            while self.app.keep_running and self.report.closing is None:
                self.app.send(TEXT)
                time.sleep(PAUSE)
        except (OSError, websocket.WebSocketException):
            pass

    @staticmethod
    def connect(url, path, every, seconds):
        kept = WebsocketClient(url, path, seconds)
        # The timeout must be shorter than the interval.
        timeout = every and every * 0.9
        kept.app.run_forever(ping_interval=every or 0, ping_timeout=timeout, http_no_proxy=["*"])
        kept.report.tell(kept.code, kept.error)


PEERS = {"websockets-sync": Websockets, "websocket-client": WebsocketClient}


def client(name, every, seconds, urls, stagger):
    threads = []
    for url in urls:
        threads.append(threading.Thread(target=connect, args=(name, every, seconds, url), daemon=True))
        threads[-1].start()
        time.sleep(stagger)
    for thread in threads:
        thread.join()


def connect(name, every, seconds, url):
    path = "/" + url.split("/", 3)[3]
    try:
        PEERS[name].connect(url, path, every, seconds)
    except Exception as error:
        Report(path).tell(0, repr(error))


def server(name, every, seconds):
    PEERS[name].serve(every, seconds)
