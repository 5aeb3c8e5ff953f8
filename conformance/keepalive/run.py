#!/usr/bin/env python3
"""Keeps connections between all faces and five libraries of Python open while a keepalive of one second watches them, and then
has one side close: a connection that does not stay, or is not closed cleanly and soon, is a failure.

exit status: 0 all went well; 1 something did not; 2 it could not be run; 77 skipped, as there is no Python 3.10 or the libraries
can't be installed; 130, 129, 143 ended by Ctrl-C, SIGHUP, SIGTERM.
"""

import argparse
import contextlib
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "shared"))

import environment  # noqa: E402
import processes  # noqa: E402
import report  # noqa: E402
import verdict  # noqa: E402
from processes import Process  # noqa: E402
from program import PACKAGE, ROOT, CannotBuild, build  # noqa: E402
from ways import CLIENTS, SERVERS, WAYS, Way, paths  # noqa: E402

# As clients; the servers are all but the last, which has none.
PEERS = ("websockets", "websockets-sync", "aiohttp", "picows", "websocket-client")
SKIPPED = 77
# Seconds for a program to say where it listens; for all connections to open and to end, beside their time; for an
# installation or a build.
START = 30
MARGIN = 40
BUILD = 900


class Unavailable(Exception):
    """What it takes is not there."""


class CannotRun(Exception):
    """What it takes does not work."""


def main():
    options = parse(sys.argv[1:])
    processes.raise_on_signals()
    try:
        return run(options)
    except Unavailable as reason:
        print("keepalive: skipped: %s" % reason)
        return SKIPPED
    except (CannotRun, CannotBuild) as reason:
        print("keepalive: could not run: %s" % reason, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("keepalive: interrupted", file=sys.stderr)
        return 130
    finally:
        processes.ignore_signals()
        processes.end_all()


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    parser.add_argument("--program", metavar="PATH", help="a %s that is already built" % PACKAGE)
    parser.add_argument(
        "--prefix",
        default=os.path.join(ROOT, "target", "keepalive"),
        help="where the libraries and the logs go (default: target/keepalive)",
    )
    return parser.parse_args(arguments)


def run(options):
    if sys.version_info < (3, 10):
        raise Unavailable("this Python is %s, and the libraries need 3.10" % sys.version.split()[0])
    os.makedirs(options.prefix, exist_ok=True)
    log = os.path.join(options.prefix, "install.log")
    try:
        requirements = os.path.join(HERE, "requirements.txt")
        python = environment.install(os.path.join(options.prefix, "venv"), requirements, log, BUILD)
    except environment.CannotInstall as reason:
        raise Unavailable("the libraries can't be installed: %s" % reason) from None
    program = options.program or build("release", options.prefix, BUILD)
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
            match = server.wait_for_output(r"listening on (ws://\S+)", START)
            if not match:
                raise CannotRun("%s did not start%s" % (" ".join(name), server.tail()))
            return match.group(1)

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
    sys.exit(main())
