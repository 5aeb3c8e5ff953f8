#!/usr/bin/env python3
"""Attacks our servers, and looks whether a good client is served meanwhile, and how much memory that takes.

Each attack has a server of its own, of each face, on loopback. The verdict is about being served at all, and about memory where a bound is
given: times depend on the machine, and are only printed."""

import argparse
import multiprocessing
import pathlib
import signal
import statistics
import subprocess
import sys
import threading
import time

import attacks
import peer

ROOT = pathlib.Path(__file__).resolve().parents[2]
FACES = ["listener", "blocking", "aio"]
# A good client that waits for longer than that is not served.
PATIENCE = 10.0


class Server:
    def __init__(self, program, face):
        command = [program, "attacked", "--face", face]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on ws://"):
            raise SystemExit(f"the server of the face {face} does not start")
        host, port = line.strip().removeprefix("listening on ws://").rsplit(":", 1)
        self.address = (host, int(port))

    def memory(self):
        """In MiB."""
        for line in open(f"/proc/{self.process.pid}/status", encoding="ascii"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True


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


def attack(program, face, kind, seconds):
    """What came of one attack on one face: the cells of its row, and the problems."""
    server = Server(program, face)
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
    if not server.stop():
        problems.append("the server does not stop")
    cells = [told(good.times.get(part, [])) for part in ("before", "during", "after")]
    return cells, memory, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=ROOT / "target/release/threadwire-conformance", help="ours, built")
    parser.add_argument("--face", action="append", choices=FACES, help="only this one; may be repeated")
    parser.add_argument("--attack", action="append", metavar="NAME", help="only attacks with this in their name")
    parser.add_argument("--quick", action="store_true", help="a third of the time")
    parser.add_argument("--most-mib", type=float, help="the most memory that a server may take, above what it takes alone")
    chosen = parser.parse_args()
    seconds = 1.5 if chosen.quick else 4.0
    names = chosen.attack or [""]
    kinds = [kind for kind in attacks.ALL if any(name in kind.name for name in names)]
    print("The good client's p50 / p99 in ms, and the server's memory in MiB.\n")
    print("| face | attack | before | during | after | memory before | at most | after | |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    is_fine = True
    for face in chosen.face or FACES:
        for kind in kinds:
            cells, memory, problems = attack(chosen.program, face, kind, seconds)
            if chosen.most_mib is not None and memory["most"] - memory["before"] > chosen.most_mib:
                problems.append(f"more than {chosen.most_mib:.0f} MiB")
            is_fine &= not problems
            sizes = [f"{memory[part]:.0f}" for part in ("before", "most", "after")]
            print("|", " | ".join([face, kind.name, *cells, *sizes, "; ".join(problems) or "served"]), "|", flush=True)
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
