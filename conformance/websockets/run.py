#!/usr/bin/env python3
"""Has the faces and Python's websockets send one another compressed messages, and checks what comes back: messages, fragments,
window sizes and context takeover are random, the same for the same seed.

exit status: 0 all went well; 1 something did not; 2 it could not be run; 77 skipped, as there is no Python 3.9 or websockets
can't be installed; 130, 129, 143 ended by Ctrl-C, SIGHUP, SIGTERM.
"""

import argparse
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "shared"))

import environment  # noqa: E402
import processes  # noqa: E402
from processes import Process  # noqa: E402
from program import PACKAGE, ROOT, CannotBuild, build  # noqa: E402
from settings import Settings  # noqa: E402

SERVERS = ("listener", "blocking", "blocking-threads", "aio")
CLIENTS = ("listener", "blocking", "app", "aio")
SKIPPED = 77
# Seconds for a program to say where it listens; for one run; for an installation or a build.
START = 30
RUN = 120
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
        print("websockets: skipped: %s" % reason)
        return SKIPPED
    except (CannotRun, CannotBuild) as reason:
        print("websockets: could not run: %s" % reason, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("websockets: interrupted", file=sys.stderr)
        return 130
    finally:
        processes.ignore_signals()
        processes.end_all()


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    parser.add_argument("--program", metavar="PATH", help="a %s that is already built" % PACKAGE)
    parser.add_argument(
        "--prefix",
        default=os.path.join(ROOT, "target", "websockets"),
        help="where websockets and the logs go (default: target/websockets)",
    )
    return parser.parse_args(arguments)


def run(options):
    if sys.version_info < (3, 9):
        raise Unavailable("this Python is %s, and websockets needs 3.9" % sys.version.split()[0])
    os.makedirs(options.prefix, exist_ok=True)
    log = os.path.join(options.prefix, "install.log")
    try:
        requirements = os.path.join(HERE, "requirements.txt")
        python = environment.install(os.path.join(options.prefix, "venv"), requirements, log, BUILD)
    except environment.CannotInstall as reason:
        raise Unavailable("websockets can't be installed: %s" % reason) from None
    program = options.program or build("release", options.prefix, BUILD)
    runner = Runner(program, os.path.join(python, "python"), options)
    for number in range(options.settings):
        settings = Settings(options.seed, number)
        for face in options.face or SERVERS:
            if face in SERVERS:
                runner.as_server(face, settings)
        for face in options.face or CLIENTS:
            if face in CLIENTS:
                runner.as_client(face, settings, checks=number % 7 == 0)
    print("%d of %d went well" % (runner.count - runner.failures, runner.count))
    return 1 if runner.failures else 0


class Runner:
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
            url = self.address(server)
            with Process([*self.peer, "client", url, *self.theirs(settings)], self.log("peer")) as peer:
                self.judge("server", face, settings, peer.wait(RUN), [peer, server])

    def as_client(self, face, settings, checks):
        """A server of websockets, and our client: an echo of what it sends, and with `checks` also what sends fragments."""
        with Process([*self.peer, "server", *self.theirs(settings)], self.log("peer")) as peer:
            url = self.address(peer)
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

    def address(self, server):
        match = server.wait_for_output(r"listening on (ws://\S+)", START)
        if not match:
            raise CannotRun("%s did not start%s" % (server.popen.args[0], server.tail()))
        return match.group(1)

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
    sys.exit(main())
