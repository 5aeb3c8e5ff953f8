"""Settings of compression for the two sides of a connection, by seed and number."""

import json
import random

# What zlib's compressor can do. 8 is tried apart, as none of its family can.
WINDOW_BITS = range(9, 16)


class Settings:
    """What both sides offer or agree to.

    ours: for the option --deflate of our program; theirs: JSON for websockets; seed: for the messages.
    """

    def __init__(self, seed, number):
        chance = random.Random(seed * 1_000_003 + number)
        self.seed = chance.randrange(1 << 32)
        bits = lambda: chance.choice([None, *WINDOW_BITS])  # noqa: E731
        self._ours = {
            "server_max_window_bits": bits(),
            "client_max_window_bits": bits(),
            "server_no_context_takeover": chance.random() < 0.3,
            "client_no_context_takeover": chance.random() < 0.3,
            "level": chance.randint(1, 9),
            "mem_level": chance.randint(1, 9),
            "threshold": chance.choice([0, 64, 1000]),
        }
        self._theirs = {
            # Each size has its turn, in each direction.
            "server_max_window_bits": WINDOW_BITS[number % 7],
            "client_max_window_bits": WINDOW_BITS[(number + number // 7 + 3) % 7],
            "server_no_context_takeover": number % 2 == 1,
            "client_no_context_takeover": number // 2 % 2 == 1,
            "compress_settings": {"level": chance.randint(1, 9), "memLevel": chance.randint(1, 9)},
        }
        self.ours = "; ".join(
            name if value is True else "%s=%d" % (name, value)
            for name, value in self._ours.items()
            if value is not None and value is not False
        )
        self.theirs = json.dumps(self._theirs)

    def __str__(self):
        return "ours: %s, theirs: %s, seed %d" % (self.ours, self.theirs, self.seed)
