#!/usr/bin/env python3
"""Keeps connections between all faces and five libraries of Python open while a keepalive of one second watches them, and then
has one side close: a connection that does not stay, or is not closed cleanly and soon, is a failure."""

import contextlib
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "shared"))

import report  # noqa: E402
import runner  # noqa: E402
import verdict  # noqa: E402
from processes import Process  # noqa: E402
from ways import CLIENTS, SERVERS, WAYS, Way, paths  # noqa: E402

# As clients; the servers are all but the last, which has none.
PEERS = ("websockets", "websockets-sync", "aiohttp", "picows", "websocket-client")
# Seconds for all connections to open and to end, beside their time.
MARGIN = 40


def parse(arguments):
    parser = runner.parser("keepalive", __doc__)
    parser.add_argument("--face", action="append", choices=WAYS, help="only this one (repeatable)")
    parser.add_argument("--peer", action="append", choices=PEERS, help="only this one (repeatable)")
    parser.add_argument(
        "--pings", choices=("theirs", "ours"), help="who pings (default: both, one after the other)"
    )
    parser.add_argument(
        "--seconds", type=int, default=60, metavar="S", help="how long connections stay (default: 60)"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=1.0,
        metavar="S",
        help="how long a close may take (default: 1; on a quiet machine 0.1 is enough)",
    )
    return parser.parse_args(arguments)


def run(options):
    python = runner.installed("the libraries", os.path.join(HERE, "requirements.txt"), options, least=(3, 10))
    program = runner.program(options)
    count = failures = 0
    for pings in [options.pings] if options.pings else ["theirs", "ours"]:
        ways, wrong = Round(program, os.path.join(python, "python"), options, pings).run()
        count += ways
        failures += wrong
    print("%d of %d went well" % (count - failures, count))
    return 1 if failures else 0


class Round:
    """All connections, at the same time, with the pings of one side."""

    def __init__(self, program, python, options, pings):
        self.options, self.pings = options, pings
        self.seconds = str(options.seconds)
        self.ours = [program, "keep", "--seconds", self.seconds]
        if pings == "ours":
            self.ours += ["--ping", "1"]
        self.python = [python, "-u", os.path.join(HERE, "peer.py")]
        self.faces = options.face or list(WAYS)
        self.peers = options.peer or PEERS

    def run(self):
        """How many connections there were, and how many failed; these are printed."""
        with contextlib.ExitStack() as stack:
            ways, servers, clients = self.start(stack)
            deadline = time.monotonic() + self.options.seconds + MARGIN
            for client in clients:
                client.wait(deadline - time.monotonic())
            programs = servers + clients
            is_ours = lambda program: program.popen.args[0] == self.ours[0]  # noqa: E731
            while True:
                ours, theirs = (
                    report.read(program.output() for program in programs if is_ours(program) == side)
                    for side in (True, False)
                )
                # A server may tell of an end after its client has gone.
                if len(ours) >= len(ways) <= len(theirs) or time.monotonic() > deadline:
                    break
                time.sleep(0.5)
        return len(ways), self.judge(ways, ours, theirs)

    def start(self, stack):
        """Starts everything: the ways, the servers and the clients."""
        servers, clients, ways = [], [], []

        def serve(argv, *name):
            server = stack.enter_context(Process(argv, self.place("server", *name)))
            servers.append(server)
            return runner.address(server, " ".join(name))

        def connect(argv, *name):
            clients.append(stack.enter_context(Process(argv, self.place("client", *name))))

        def ways_of(face, role, peer):
            found = list(paths(face, role, peer, talks=self.pings == "theirs"))
            ways.extend(map(Way, found))
            return found

        def theirs(role, peer):
            return [*self.python, role, peer, "01"[self.pings == "theirs"], self.seconds]

        urls = {}
        for face in filter(self.faces.__contains__, SERVERS):
            urls[face] = serve([*self.ours, "--face", face, "--listen", "127.0.0.1:0"], face)
        faces = [face for face in CLIENTS if face in self.faces]
        for peer in filter(PEERS[:-1].__contains__, self.peers if faces else ()):
            url = serve(theirs("server", peer), peer)
            for face in faces:
                argv = [*self.ours, "--face", face, "--url", url, *ways_of(face, "client", peer)]
                connect(argv, face, peer)
        for peer in self.peers if urls else ():
            place = self.place("urls", peer)
            with open(place, "w", encoding="utf-8") as file:
                for face, url in urls.items():
                    file.writelines("%s%s\n" % (url, path) for path in ways_of(face, "server", peer))
            connect([*theirs("client", peer), place], peer)
        return ways, servers, clients

    def judge(self, ways, ours, theirs):
        failures = 0
        for way in ways:
            found = verdict.faults(
                way, ours.get(way.path), theirs.get(way.path), self.options.seconds, self.options.limit
            )
            if found:
                failures += 1
                print("WRONG %s, who pings: %s" % (way, self.pings))
                for fault in found:
                    print("  | " + fault)
        print("%d connections for %s s, who pings: %s" % (len(ways), self.seconds, self.pings))
        for line in verdict.times(ways, ours, theirs):
            print("  " + line)
        sys.stdout.flush()
        return failures

    def place(self, *parts):
        return os.path.join(self.options.prefix, "-".join((*parts, self.pings)) + ".log")


if __name__ == "__main__":
    sys.exit(runner.main("keepalive", run, parse(sys.argv[1:])))
