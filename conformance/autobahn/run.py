#!/usr/bin/env python3
"""Runs the Autobahn Testsuite against the conformance programs (or others) and judges strictly.

exit status: 0 every selected case passed; 1 some failed or never ran; 2 it could not be run; 77 skipped, for want of a
CPython 2.7 on Linux x86_64; 130, 129, 143 ended by Ctrl-C, SIGHUP, SIGTERM.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import socket
import sys
import time
from urllib.parse import urlsplit

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "shared"))

import cases  # noqa: E402
import judge  # noqa: E402
import runner  # noqa: E402
import suite  # noqa: E402
from processes import Process  # noqa: E402
from program import PACKAGE, ROOT, build  # noqa: E402
from runner import START, CannotRun  # noqa: E402

# Seconds for wstest to write its report: it takes well under one.
REPORT = 60


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "positional",
        nargs="*",
        metavar="CASE",
        help="a case or pattern: 1.1.1, 7, '12.*' (default: 1-7, 9, 10)",
    )
    parser.add_argument("--cases", nargs="+", default=[], metavar="CASE", help="the same, as an option")
    parser.add_argument("--quick", action="store_true", help="1-7 and 10: all that takes no large messages")
    parser.add_argument(
        "--deflate", action="store_true", help="12 and 13: compression; with --quick some of each kind"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="CASE", help="leave out (repeatable)"
    )
    parser.add_argument(
        "--role",
        choices=("server", "client", "both"),
        help="what is tested (default: both; with only --url or only --command, that one)",
    )
    program = parser.add_argument_group("the project's own program")
    program.add_argument(
        "--face", action="append", default=[], help="listener, blocking, ... (repeatable; default: listener)"
    )
    program.add_argument("--program", metavar="PATH", help="a %s that is already built" % PACKAGE)
    program.add_argument("--profile", choices=("debug", "release"), help="how to build it (default: release)")
    program.add_argument(
        "--program-arg", action="append", default=[], metavar="ARG", help="pass on to it (repeatable)"
    )
    other = parser.add_argument_group("any other program")
    other.add_argument("--url", help="test the echo server at this ws:// URL of this machine")
    other.add_argument(
        "--command", help="test the echo client that this starts; {url} and {agent} are filled in"
    )
    limits = parser.add_argument_group("limits")
    limits.add_argument(
        "--time-limit",
        type=seconds,
        default=900.0,
        metavar="S",
        help="for each run, install or build (default: 900)",
    )
    limits.add_argument(
        "--patience", type=seconds, metavar="S", help="how long the suite waits for a close (its default: 1)"
    )
    limits.add_argument(
        "--option",
        type=option,
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="any option of the suite's protocol",
    )
    parser.add_argument(
        "--prefix",
        default=os.path.join(ROOT, "target", "autobahn"),
        help="where the suite and the reports go (default: target/autobahn)",
    )
    options = parser.parse_intermixed_args(arguments)

    options.patterns = options.positional + options.cases
    if (options.quick or options.deflate) and options.patterns:
        parser.error("--quick, --deflate and cases exclude each other")
    if options.role is None:
        options.role = (
            "both" if bool(options.url) == bool(options.command) else "server" if options.url else "client"
        )
    if options.url and options.role == "client":
        parser.error("--url is for the role server")
    if options.command and options.role == "server":
        parser.error("--command is for the role client")
    options.roles = ("server", "client") if options.role == "both" else (options.role,)
    if options.url and (
        urlsplit(options.url).scheme != "ws"
        or urlsplit(options.url).hostname not in ("127.0.0.1", "localhost")
    ):
        parser.error("the suite sends malformed traffic: --url has to be ws://127.0.0.1:PORT")
    options.own = [
        role for role in options.roles if not (options.url if role == "server" else options.command)
    ]
    if not options.own and (options.face or options.program or options.profile or options.program_arg):
        parser.error(
            "with nothing but --url and --command, no option of the project's own program has a meaning"
        )
    if options.program and options.profile:
        parser.error("--program is built already: no --profile")
    return options


def seconds(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def option(text):
    name, _, value = text.partition("=")
    return name, json.loads(value)


def run(options):
    prefix = os.path.abspath(options.prefix)
    python2 = suite.find_python2(os.environ)
    with only_run(prefix):
        autobahn = suite.Suite(prefix, python2, options.time_limit)
        patterns = options.patterns or cases.chosen(options.quick, options.deflate)
        try:
            selected = cases.select(autobahn.cases, patterns, options.exclude)
        except cases.UnknownCase as reason:
            raise CannotRun(str(reason)) from None
        if not selected:
            raise CannotRun("no case is left to run")
        program = None
        if options.own:
            program = our_program(options, prefix)
        runs = []
        for role in options.roles:
            for face in (options.face or ["listener"]) if role in options.own else [None]:
                runs.append(Run(role, face, options, autobahn, selected, program))
        judgements = [one.report() for one in runs]
    passed = sum(judgement.passed for judgement in judgements)
    failed = sum(judgement.failed for judgement in judgements)
    print("autobahn: %d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


@contextlib.contextmanager
def only_run(prefix):
    """Keeps a second run out: it would overwrite this one's reports, and each would upset the other's time limits."""
    with open(os.path.join(prefix, "lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotRun("another run is using %s" % prefix) from None
        yield


def our_program(options, prefix):
    """The path of the project's own program, which is built if none was named."""
    if options.program:
        return os.path.abspath(options.program)
    return build(options.profile, prefix, options.time_limit)


class Run:
    """One role of one face (None: a program that is not the project's), from a clean folder to its judgement."""

    def __init__(self, role, face, options, autobahn, selected, program):
        self.role = role
        self.face = face
        self.options = options
        self.autobahn = autobahn
        self.selected = selected
        self.program = program
        self.agent = "threadwire-" + face if face else "other-" + role
        self.folder = os.path.join(autobahn.prefix, "reports", "%s-%s" % (role, face or "other"))
        self.problems = []

    def report(self):
        """Runs it, and prints and returns the judgement."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        name = "%s, %s" % (self.role, self.face or self.options.url or self.options.command)
        print("autobahn: %s: %d cases ..." % (name, len(self.selected)), flush=True)
        started = time.monotonic()
        self.deadline = started + self.options.time_limit
        self.as_server() if self.role == "server" else self.as_client()
        try:
            judgement = judge.judge_folder(self.folder, self.agent, self.selected)
        except (OSError, ValueError) as error:
            raise CannotRun(
                "the suite left no report: %s; see %s" % (error, os.path.join(self.folder, "wstest.log"))
            )
        judgement.problems += self.problems
        print(
            "%s: %d of %d cases ran, in %.0f s"
            % (name, judgement.ran, len(self.selected), time.monotonic() - started)
        )
        for line in judgement.lines():
            print(line)
        print("report: %s" % os.path.join(self.folder, "index.html"), flush=True)
        return judgement

    def left(self):
        """Seconds until the time limit."""
        return self.deadline - time.monotonic()

    def as_server(self):
        if not self.face:
            if not listens(self.options.url):
                raise CannotRun("nothing listens at %s" % self.options.url)
            return self.fuzz(self.options.url)
        with self.start(self.own_argv("--listen", "127.0.0.1:0")) as server:
            match = server.wait_for_output(r"listening on (ws://127\.0\.0\.1:\d+)\b", min(START, self.left()))
            if not match:
                raise CannotRun("the server did not say where it listens%s" % server.tail())
            self.fuzz(match.group(1))
            early = server.popen.poll()
            if early is not None:
                self.problems.append("the server ended by itself, with %d%s" % (early, server.tail()))
                return
            code = server.stop()
            if code is None:
                self.problems.append(
                    "the server did not end within %g s of SIGTERM%s" % (processes.GRACE, server.tail())
                )
            elif code != 0:
                self.problems.append("the server ended with %d on SIGTERM%s" % (code, server.tail()))

    def fuzz(self, url):
        spec = self.spec(servers=[{"url": url, "agent": self.agent}])
        with self.autobahn.start("fuzzingclient", self.folder, spec) as wstest:
            if wstest.wait(self.left()) is None:
                self.out_of_time()
                wstest.stop(REPORT)

    def as_client(self):
        with self.autobahn.start("fuzzingserver", self.folder, self.spec(url="ws://127.0.0.1")) as wstest:
            match = wstest.wait_for_output(r"listening on (ws://127\.0\.0\.1:\d+)\b", min(START, self.left()))
            if not match:
                raise CannotRun("the fuzzing server did not start%s" % wstest.tail())
            url = match.group(1)
            if self.face:
                argv = self.own_argv("--url", url, "--agent", self.agent)
            else:
                argv = [
                    word.replace("{url}", url).replace("{agent}", self.agent)
                    for word in shlex.split(self.options.command)
                ]
            with self.start(argv) as client:
                code = client.wait(self.left())
                if code is None:
                    self.out_of_time()
                elif code != 0:
                    self.problems.append("the client ended with %d%s" % (code, client.tail()))
            wstest.stop(REPORT)

    def own_argv(self, *arguments):
        return [self.program, self.role, "--face", self.face, *arguments, *self.options.program_arg]

    def start(self, argv):
        try:
            return Process(argv, os.path.join(self.folder, "program.log"))
        except OSError as error:
            raise CannotRun("cannot start %s: %s" % (argv[0], error))

    def out_of_time(self):
        self.problems.append("ended by the time limit of %g s" % self.options.time_limit)

    def spec(self, **more):
        """What wstest is to do: the suite's own specification format."""
        protocol = {}
        if self.options.patience:
            protocol["closeHandshakeTimeout"] = self.options.patience
            if self.role == "server":
                protocol["serverConnectionDropTimeout"] = self.options.patience
        protocol.update(self.options.option)
        return {
            "cases": self.selected,
            "exclude-cases": [],
            "exclude-agent-cases": {},
            "options": protocol,
            **more,
        }


def listens(url):
    """Whether something accepts connections there: wstest reports nothing where nothing does, and exits 0."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 80), 5).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(runner.main("autobahn", run, parse(sys.argv[1:])))
