"""Child processes that end with this one, whatever ends it, and never outlive their time limit."""

import atexit
import contextlib
import os
import re
import signal
import subprocess
import time

POLL = 0.05
GRACE = 5.0
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_running = []
# The signals that came while they are held; None while they are not.
_held = None


class Process:
    """A child process in a session of its own, so that whatever it starts can be ended with it.

    Its output goes to the file `log`; with `show_errors` its stderr goes to the terminal instead. In a `with` statement
    it is ended at the block's end.
    """

    def __init__(self, argv, log, show_errors=False, **options):
        self.log = log
        with open(log, "wb") as output, signals_held():
            self.popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if show_errors else subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
            _running.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def wait(self, limit):
        """The exit code, or None if it still runs after `limit` seconds."""
        try:
            return self.popen.wait(max(limit, 0))
        except subprocess.TimeoutExpired:
            return None

    def wait_for_output(self, pattern, limit):
        """The first match of a regular expression in its output, or None if it ends or `limit` seconds pass first."""
        deadline = time.monotonic() + limit
        while True:
            ended = self.popen.poll() is not None
            match = re.search(pattern, self.output())
            if match or ended or time.monotonic() > deadline:
                return match
            time.sleep(POLL)

    def stop(self, grace=GRACE):
        """Asks it, and not its group, to end (SIGTERM); the exit code, or None if it still runs `grace` seconds later."""
        if self.popen.poll() is None:
            self.popen.terminate()
        return self.wait(grace)

    def end(self):
        """Ends it and everything it started; does nothing the second time."""
        if self not in _running:
            return
        self._signal_group(signal.SIGTERM)
        self.wait(GRACE)
        # also when it went at once: its own children may have stayed
        self._signal_group(signal.SIGKILL)
        self.popen.wait()
        _running.remove(self)

    def _signal_group(self, number):
        try:
            os.killpg(self.popen.pid, number)
        except OSError:
            pass  # nobody of the group is left

    def output(self):
        """What it has written so far."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()

    def tail(self, count=12):
        """The last lines of its output, set off for quoting."""
        return "".join("\n  | " + line for line in self.output().splitlines()[-count:])


def end_all():
    """Ends every child that still runs."""
    for process in list(_running):
        process.end()


def leave(number):
    """Unwinds the program for a signal."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def raise_on_signals():
    """Lets SIGTERM and SIGHUP unwind the program as Ctrl-C does, so that the children are ended."""

    def handle(number, _frame):
        if _held is None:
            leave(number)
        _held.append(number)

    for number in ENDING:
        # under nohup SIGHUP is ignored, and stays so
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)
    atexit.register(end_all)


@contextlib.contextmanager
def signals_held():
    """Puts signals off to the block's end: one amid the start of a child would leave a child that nobody knows of."""
    global _held
    _held = []
    try:
        yield
    finally:
        held, _held = _held, None
        if held:
            leave(held[0])


def ignore_signals():
    """Lets nothing interrupt the last clearing up, not even an impatient second Ctrl-C."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
