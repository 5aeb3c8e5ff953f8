"""A library of Python as the other side, in the virtual environment of run.py.

client LIBRARY PING SECONDS FILE: connects to each URL in the file, a line each.
server LIBRARY PING SECONDS: serves any path.

PING is 1 for a keepalive of one second, 0 for none. What the path says is done; how it ended is printed (report.py).
"""

import asyncio
import sys

import asyncio_peers
import thread_peers

# From one connection to the next, so that they do not all end at once.
STAGGER = 0.05


def main():
    role, name, ping, seconds = sys.argv[1:5]
    every = 1 if ping == "1" else None
    arguments = (name, every, int(seconds))
    if role == "client":
        with open(sys.argv[5], encoding="utf-8") as file:
            arguments += (file.read().split(), STAGGER)
    if name in asyncio_peers.PEERS:
        asyncio.run(getattr(asyncio_peers, role)(*arguments))
    else:
        getattr(thread_peers, role)(*arguments)


main()
