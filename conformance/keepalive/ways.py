"""Ways to use a connection, face by face, and the paths that say so to both sides."""

RECEIVE, SEND, SEND_NATIVE, NOTHING = "receive", "send", "send-native", "nothing"
ALL = (RECEIVE, SEND, NOTHING)
OURS, THEIRS = "ours", "theirs"

# What a program of the face has of a connection, and what it may do with it.
WAYS = {
    "listener": {"connection": ALL, "handle": ALL},
    "blocking": {
        "connection": (RECEIVE, SEND, SEND_NATIVE, NOTHING),
        "halves": ALL,
        "handle": ALL,
        "select": ALL,
    },
    "blocking-threads": {"connection": (RECEIVE, SEND, SEND_NATIVE, NOTHING), "handle": ALL},
    "app": {"connection": ALL, "handle": ALL},
    "aio": {
        "connection": ALL,
        "halves": ALL,
        "sender": (SEND, NOTHING),
        "receiver": (RECEIVE, NOTHING),
        "handle": (SEND, NOTHING),
    },
}
SERVERS = ("listener", "blocking", "blocking-threads", "aio")
CLIENTS = ("listener", "blocking", "app", "aio")


class Way:
    """How one connection is used: parsed from its path, /FACE.ROLE.PEER[.talks]/HELD/DOING/CLOSER."""

    def __init__(self, path):
        self.path = path
        _, name, self.held, self.doing, self.closer = path.split("/")
        self.face, self.role, self.peer = name.split(".")[:3]
        # The peer talks where somebody listens, and in some ways also where nobody does.
        self.talks = self.doing == RECEIVE or name.endswith(".talks")

    @property
    def sends(self):
        """Whether our side sends."""
        return self.doing in (SEND, SEND_NATIVE)

    def __str__(self):
        heard = ", talked to" if self.talks and self.doing != RECEIVE else ""
        return "%s %s, %s, %s%s, with %s; %s" % (
            self.face,
            self.role,
            self.held,
            self.doing,
            heard,
            self.peer,
            "we close" if self.closer == OURS else "the peer closes",
        )


def paths(face, role, peer, talks):
    """The paths of all ways for one face and one peer. talks: also those in which the peer talks to one that does not receive."""
    for held, doings in WAYS[face].items():
        for doing in doings:
            name = "%s.%s.%s" % (face, role, peer)
            yield "/%s/%s/%s/%s" % (name, held, doing, THEIRS)
            yield "/%s/%s/%s/%s" % (name, held, doing, OURS)
            if talks and doing != RECEIVE:
                yield "/%s.talks/%s/%s/%s" % (name, held, doing, THEIRS)
