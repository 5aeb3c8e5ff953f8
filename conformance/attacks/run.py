#!/usr/bin/env python3
"""Attacks our servers, and looks whether a good client is served meanwhile, and how much memory that takes.

Each attack has a server of its own, of each face, on loopback. The verdict is about being served at all, and about memory where a bound is
given: times depend on the machine, and are only printed."""

import multiprocessing
import os
import platform
import signal
import statistics
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "shared"))

import attacks  # noqa: E402
import peer  # noqa: E402
import runner  # noqa: E402
from processes import Process  # noqa: E402

FACES = ["listener", "blocking", "aio"]
# A good client that waits for longer than that is not served.
PATIENCE = 10.0


class Server(Process):
    def __init__(self, program, face, log):
        super().__init__([program, "attacked", "--face", face], log)
        url = runner.address(self, "the server of the face " + face)
        host, port = url.removeprefix("ws://").rsplit(":", 1)
        self.address = (host, int(port))

    def memory(self):
        """In MiB."""
        with open(f"/proc/{self.popen.pid}/status", encoding="ascii") as status:
            sizes = [line.split()[1] for line in status if line.startswith("VmRSS:")]
        # A process that has ended has none.
        return int(sizes[0]) / 1024 if sizes else 0.0

    def stops(self):
        """Whether it ends when it is told to."""
        self.popen.send_signal(signal.SIGTERM)
        return self.wait(PATIENCE) is not None


class GoodClient(threading.Thread):
    """Exchanges short messages, and notes how long each takes, and in which part of the run."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.sock = peer.connect(address, "/", timeout=PATIENCE)
        self.part, self.times, self.problem, self.is_over = "before", {}, None, False

    def run(self):
        while not self.is_over:
            begun, part = time.perf_counter(), self.part
            try:
                peer.exchange(self.sock)
            except OSError as error:
                self.problem = f"{part}: {error or type(error).__name__}"
                return
            self.times.setdefault(part, []).append((time.perf_counter() - begun) * 1000)
            time.sleep(0.002)


def told(times):
    """The median and the 99th percentile, in milliseconds."""
    if len(times) < 2:
        return f"{len(times)} only"
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return f"{cuts[49]:.2f} / {cuts[98]:.1f}"


def attack(server, kind, seconds):
    """What came of one attack on a server: the cells of its row, and the problems."""
    problems = []
    context = multiprocessing.get_context("fork")
    ready, stop = context.Event(), context.Event()
    process = context.Process(target=kind().run, args=(server.address, ready, stop), daemon=True)
    good = GoodClient(server.address)
    memory = {"before": server.memory(), "most": 0.0}
    good.start()
    time.sleep(seconds / 3)
    good.part = "during"
    process.start()
    ready.wait(PATIENCE)
    until = time.monotonic() + seconds
    newcomer = None
    while time.monotonic() < until:
        memory["most"] = max(memory["most"], server.memory())
        time.sleep(0.02)
        if newcomer is None and time.monotonic() > until - seconds / 2:
            try:
                newcomer = peer.connect(server.address, "/", timeout=PATIENCE)
                peer.exchange(newcomer)
            except OSError as error:
                problems.append(f"who came during the attack is not served: {error or type(error).__name__}")
    good.part = "after"
    stop.set()
    process.join(PATIENCE)
    if process.is_alive():
        process.kill()
    time.sleep(seconds / 3)
    memory["after"] = server.memory()
    good.is_over = True
    good.join(PATIENCE)
    if good.problem:
        problems.append(f"the good client is not served {good.problem}")
    problems += [f"no exchange {part}" for part in ("before", "during", "after") if not good.times.get(part)]
    if not server.stops():
        problems.append("the server does not stop")
    cells = [told(good.times.get(part, [])) for part in ("before", "during", "after")]
    return cells, memory, problems


def parse(arguments):
    parser = runner.parser("attacks", __doc__)
    parser.add_argument("--face", action="append", choices=FACES, help="only this one (repeatable)")
    parser.add_argument("--attack", action="append", metavar="NAME", help="only attacks with this in their name (repeatable)")
    parser.add_argument("--quick", action="store_true", help="a third of the time")
    parser.add_argument("--most-mib", type=float, help="the most memory that a server may take, above what it takes alone")
    options = parser.parse_args(arguments)
    names = options.attack or [""]
    options.kinds = [kind for kind in attacks.ALL if any(name in kind.name for name in names)]
    if not options.kinds:
        known = ", ".join(kind.name for kind in attacks.ALL)
        parser.error(f"no attack has {' or '.join(names)} in its name; there are {known}")
    return options


def run(options):
    if platform.system() != "Linux":
        raise runner.Unavailable("how much memory a server takes is known on Linux only")
    program = runner.program(options)
    seconds = 1.5 if options.quick else 4.0
    print("The good client's p50 / p99 in ms, and the server's memory in MiB.\n")
    print("| face | attack | before | during | after | memory before | at most | after | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    is_fine = True
    for face in options.face or FACES:
        for kind in options.kinds:
            with Server(program, face, os.path.join(options.prefix, f"{face}.log")) as server:
                cells, memory, problems = attack(server, kind, seconds)
            if options.most_mib is not None and memory["most"] - memory["before"] > options.most_mib:
                problems.append(f"more than {options.most_mib:.0f} MiB")
            is_fine &= not problems
            sizes = [f"{memory[part]:.0f}" for part in ("before", "most", "after")]
            print("|", " | ".join([face, kind.name, *cells, *sizes, "; ".join(problems) or "served"]), "|", flush=True)
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(runner.main("attacks", run, parse(sys.argv[1:])))
