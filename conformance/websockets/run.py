#!/usr/bin/env python3
"""Has the faces and Python's websockets send one another compressed messages, and checks what comes back: messages, fragments,
window sizes and context takeover are random, the same for the same seed."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "shared"))

import runner  # noqa: E402
from processes import Process  # noqa: E402
from settings import Settings  # noqa: E402

SERVERS = ("listener", "blocking", "blocking-threads", "aio")
CLIENTS = ("listener", "blocking", "app", "aio")
# Seconds for one run.
RUN = 120


def parse(arguments):
    parser = runner.parser("websockets", __doc__)
    parser.add_argument(
        "--face", action="append", choices=sorted({*SERVERS, *CLIENTS}), help="only this one (repeatable)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: 1)")
    parser.add_argument(
        "--settings",
        type=int,
        default=21,
        metavar="N",
        help="how many settings of compression each face is run with, as a server and as a client (default: 21)",
    )
    parser.add_argument(
        "--messages", type=int, default=40, metavar="N", help="messages on each connection (default: 40)"
    )
    return parser.parse_args(arguments)


def run(options):
    python = runner.installed("websockets", os.path.join(HERE, "requirements.txt"), options)
    pair = Pair(runner.program(options), os.path.join(python, "python"), options)
    for number in range(options.settings):
        settings = Settings(options.seed, number)
        for face in options.face or SERVERS:
            if face in SERVERS:
                pair.as_server(face, settings)
        for face in options.face or CLIENTS:
            if face in CLIENTS:
                pair.as_client(face, settings, checks=number % 7 == 0)
    print("%d of %d went well" % (pair.count - pair.failures, pair.count))
    return 1 if pair.failures else 0


class Pair:
    """Runs one program beside the other, and counts."""

    def __init__(self, program, python, options):
        self.program = program
        self.peer = [python, "-u", os.path.join(HERE, "peer.py")]
        self.prefix = options.prefix
        self.messages = options.messages
        self.count = 0
        self.failures = 0

    def as_server(self, face, settings):
        """Our server, and a client of websockets."""
        argv = [self.program, "server", "--face", face, "--listen", "127.0.0.1:0", "--deflate", settings.ours]
        with Process(argv, self.log("server")) as server:
            url = runner.address(server, "our server")
            with Process([*self.peer, "client", url, *self.theirs(settings)], self.log("peer")) as peer:
                self.judge("server", face, settings, peer.wait(RUN), [peer, server])

    def as_client(self, face, settings, checks):
        """A server of websockets, and our client: an echo of what it sends, and with `checks` also what sends fragments."""
        with Process([*self.peer, "server", *self.theirs(settings)], self.log("peer")) as peer:
            url = runner.address(peer, "the server of websockets")
            common = ["--face", face, "--url", url, "--deflate", settings.ours]
            with Process([self.program, "client", *common], self.log("client")) as client:
                status = client.wait(RUN)
                # It echoes whatever comes: whether that was right, the peer says.
                wrong = "WRONG" in peer.output() or "all is well" not in peer.output()
                self.judge("client", face, settings, 1 if wrong else status, [client, peer])
            if checks:
                with Process([self.program, "check", "--quick", *common], self.log("check")) as check:
                    self.judge("check", face, settings, check.wait(RUN), [check, peer])

    def theirs(self, settings):
        return [settings.theirs, str(settings.seed), str(self.messages)]

    def log(self, name):
        return os.path.join(self.prefix, name + ".log")

    def judge(self, role, face, settings, status, programs):
        self.count += 1
        if status == 0:
            return
        self.failures += 1
        print("WRONG %-6s %-16s %s (exit %s)" % (role, face, settings, status), flush=True)
        for program in programs:
            print(program.tail())


if __name__ == "__main__":
    sys.exit(runner.main("websockets", run, parse(sys.argv[1:])))
