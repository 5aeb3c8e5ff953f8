"""Python's websockets as the other side, in the virtual environment of run.py.

client URL SETTINGS SEED MESSAGES: sends random messages to an echo, over a few connections.
server SETTINGS SEED MESSAGES: a fuzzing server in the way of the Autobahn Testsuite for the paths that it has; an echo elsewhere.
"""

import json
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from websockets.exceptions import ConnectionClosed, ConnectionClosedOK
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.sync.client import connect
from websockets.sync.server import serve

CONNECTIONS = 3
# Longer than what the faces take.
LIMIT = 16 << 20
# Seconds for an answer.
PATIENCE = 30
WORDS = "bid ask trade price 0.00012345 price size BTC-USD aé€😀 null true 42".split()


class Wrong(Exception):
    """What came is not what had to come."""


def main():
    if sys.argv[1] == "client":
        url, settings, seed, count = sys.argv[2:]
        client(url, json.loads(settings), int(seed), int(count))
    else:
        settings, seed, count = sys.argv[2:]
        server(json.loads(settings), int(seed), int(count))


def client(url, settings, seed, count):
    def talk(number):
        # Each offers another thing: a size for the client's window; that the server may say; nothing of it.
        offer = dict(settings, client_max_window_bits=[settings["client_max_window_bits"], True, None][number])
        deflate = ClientPerMessageDeflateFactory(**offer)
        with connect(url, compression=None, extensions=[deflate], max_size=LIMIT) as ws:
            agreed = agreement(ws)
            expect(agreed.remote_max_window_bits <= settings["server_max_window_bits"], repr(agreed))
            if settings["server_no_context_takeover"]:
                expect(agreed.remote_no_context_takeover, repr(agreed))
            exchange(ws, random.Random(seed + number), count)

    # All at once: so they take turns with the engines of the other side.
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        list(threads.map(talk, range(CONNECTIONS)))
    # What no compressor of zlib's family can do is declined, and the connection goes on without.
    impossible = ClientPerMessageDeflateFactory(server_max_window_bits=8)
    with connect(url, compression=None, extensions=[impossible], max_size=LIMIT) as ws:
        expect(not ws.protocol.extensions, "a window of 8 bits was promised")
        exchange(ws, random.Random(seed), 3)


def server(settings, seed, count):
    deflate = ServerPerMessageDeflateFactory(**settings)
    results = []

    def handle(ws):
        path = ws.request.path.split("?")[0]
        try:
            if path == "/getCaseCount":
                ws.send(str(CONNECTIONS))
            elif path == "/runCase":
                case = int(ws.request.path.split("case=")[1].split("&")[0])
                agreed = agreement(ws)
                expect(agreed.remote_max_window_bits <= settings["client_max_window_bits"], repr(agreed))
                exchange(ws, random.Random(seed + case), count)
                results.append(case)
            elif path == "/updateReports":
                expect(sorted(results) == list(range(1, CONNECTIONS + 1)), "only these went well: %s" % results)
                print("all is well", flush=True)
            else:
                echo(ws)
        except (Wrong, ConnectionClosed, TimeoutError) as error:
            print("WRONG %s: %r" % (path, error), flush=True)

    with serve(handle, "127.0.0.1", 0, compression=None, extensions=[deflate], max_size=LIMIT) as listening:
        print("listening on ws://127.0.0.1:%d" % listening.socket.getsockname()[1], flush=True)
        listening.serve_forever()


def echo(ws):
    """Sends every message back as it came, until the connection is closed."""
    try:
        for message in ws:
            ws.send(message)
    except ConnectionClosedOK:
        pass


def agreement(ws):
    """What was agreed on."""
    expect(len(ws.protocol.extensions) == 1, "it does not compress")
    return ws.protocol.extensions[0]


def exchange(ws, chance, count):
    """Sends random messages, in bursts, and checks what comes back."""
    messages = [message(chance) for _ in range(count)]
    sent = threading.Thread(target=send, args=(ws, messages, chance.randrange(1 << 32)), daemon=True)
    sent.start()
    for number, expected in enumerate(messages):
        found = ws.recv(timeout=PATIENCE)
        expect(type(found) is type(expected), "message %d is of another type" % number)
        expect(found == expected, "message %d of %d bytes is another" % (number, len(expected)))
    sent.join()


def send(ws, messages, seed):
    chance = random.Random(seed)
    for payload in messages:
        if chance.random() < 0.1:
            ws.ping()
        if chance.random() < 0.2:
            # The next one shall find other engines than the last, perhaps.
            time.sleep(chance.random() / 100)
        ws.send(fragments(payload, chance) if chance.random() < 0.4 else payload)


def fragments(payload, chance):
    """The pieces of a message; some of them are empty."""
    cuts = sorted(chance.randint(0, len(payload)) for _ in range(chance.choice([1, 2, 3, 20])))
    return [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)])]


def message(chance):
    """Text or bytes, of any length and of what compresses well, or badly, or not at all."""
    length = chance.choice([0, 1, 20, 63, 64, 300, 300, 1000, 4096, 5000, 16_000, 40_000, 70_000])
    length = chance.randint(length // 2, length)
    kind = chance.randrange(5)
    if kind == 0:
        return chance.randbytes(length)
    if kind == 1:
        return bytes([chance.randrange(256)]) * length
    if kind == 2:
        # It repeats itself at a distance that is near the size of a window.
        period = (1 << chance.choice(range(9, 16))) + chance.randint(-300, 300)
        return (chance.randbytes(period) * (length // period + 1))[:length]
    text = " ".join(chance.choices(WORDS, k=length // 6 + 1))
    return text[:length] if kind == 3 else text[:length].encode()


def expect(is_so, what):
    if not is_so:
        raise Wrong(what)


main()
