"""A peer by hand: a socket, an opening handshake, and frames, of which only what an attack needs."""

import os
import socket
import struct
import zlib

TEXT, BINARY, RSV1, FIN = 0x1, 0x2, 0x40, 0x80


def request(path, deflate=False):
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==",
    ]
    if deflate:
        lines.append("Sec-WebSocket-Extensions: permessage-deflate")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def connect(address, path, deflate=False, narrow=False, timeout=10):
    """An open connection. A narrow one takes little before it is read from."""
    sock = socket.socket()
    if narrow:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(timeout)
    sock.connect(address)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(request(path, deflate))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte:
            raise ConnectionError("the server has closed instead of answering")
        head += byte
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionError(head.split(b"\r\n")[0].decode())
    return sock


def frame(first, payload):
    """A frame with a mask of zeros, which leaves the payload as it is."""
    length = len(payload)
    if length <= 125:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length <= 0xFFFF:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    return head + bytes(4) + payload


def compressed(length):
    """So many zeros, as a compressed message has them."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (engine.compress(bytes(length)) + engine.flush(zlib.Z_SYNC_FLUSH))[:-4]


def exact(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise ConnectionError("the server has closed")
        data += more
    return data


def exchange(sock):
    """One short message there and back."""
    payload = os.urandom(8).hex().encode()
    sock.sendall(frame(FIN | TEXT, payload))
    if exact(sock, 2 + len(payload)) != bytes([FIN | TEXT, len(payload)]) + payload:
        raise ConnectionError("that is no echo")
