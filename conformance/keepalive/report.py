"""Reports on connections, as both sides print them: a line each, with tabs between."""

import time

# From one message to the next.
PAUSE = 0.2
# How long our side may take to close, in seconds, after its time.
PATIENCE = 5
TEXT = "bid 0.00012345"


class Report:
    """What one side says of a connection that has ended. Times are in seconds."""

    def __init__(self, path):
        self.path = path
        self.begun = time.monotonic()
        self.closing = None
        self.took = None
        self.messages = 0

    def count(self):
        self.messages += 1

    def begin_to_close(self):
        self.closing = time.monotonic()

    def closed(self):
        """The close that this side began is through."""
        self.took = time.monotonic() - self.closing

    def tell(self, code, error):
        took = "-" if self.took is None else round(self.took * 1000)
        lasted = round((time.monotonic() - self.begun) * 1000)
        error = " ".join(str(error or "").split())
        line = ("ended", self.path, code or 0, str(code == 1000).lower(), lasted, took, self.messages, error)
        # In one write, as threads print too.
        print("\t".join(map(str, line)) + "\n", end="", flush=True)


class Ended:
    """The same, read again."""

    def __init__(self, line):
        _, self.path, code, clean, lasted, took, messages, self.error = line.split("\t")
        self.code = int(code)
        self.clean = clean == "true"
        self.lasted = int(lasted) / 1000
        self.took = None if took == "-" else int(took) / 1000
        self.messages = int(messages)

    def __str__(self):
        return "code %d, %s, after %.1f s%s" % (
            self.code,
            "clean" if self.clean else "not clean",
            self.lasted,
            ": " + self.error if self.error else "",
        )


def read(outputs):
    """All reports among what programs have printed, by path."""
    lines = (line for output in outputs for line in output.splitlines() if line.startswith("ended\t"))
    return {ended.path: ended for ended in map(Ended, lines)}
