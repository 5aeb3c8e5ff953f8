"""The verdict on each connection, from what both sides say of it."""

import statistics

from report import PAUSE
from ways import OURS, RECEIVE, THEIRS


def faults(way, ours, theirs, seconds, limit):
    """What is wrong with a connection; nothing if it stayed for its time and was then closed as it should be.

    ours, theirs: what each side says, or None; limit: seconds that a close may take.
    """
    if not ours or not theirs:
        said = "ours: %s; the peer's: %s" % (ours or "nothing", theirs or "nothing")
        return ["a side has not told of the end (%s)" % said]
    found = []
    for side, ended in (("ours", ours), ("the peer's", theirs)):
        if ended is ours and ended.code == 1000 and may_be_reset(way):
            continue
        if ended.code != 1000 or not ended.clean or ended.error:
            found.append("%s: %s" % (side, ended))
        # Clocks begin to run on each side when it has its connection.
        elif ended.lasted < seconds - 0.5:
            found.append("%s ended after %.1f s" % (side, ended.lasted))
    closer = ours if way.closer == OURS else theirs
    if closer.took is None:
        found.append("it was closed by the wrong side")
    elif closer.took > limit:
        found.append("the close took %.3f s" % closer.took)
    # Half of what is due is enough on a busy machine.
    least = seconds / PAUSE / 2
    if way.sends and min(ours.messages, theirs.messages) < least:
        found.append("of %d messages %d arrived" % (ours.messages, theirs.messages))
    if way.doing == RECEIVE and ours.messages < least:
        found.append("only %d messages arrived" % ours.messages)
    return found


def may_be_reset(way):
    """Whether our answer to the peer's close frame may meet a connection that was reset."""
    # A server of aiohttp ends TCP right behind its close frame where another task receives. What was on its way resets that.
    return way.peer == "aiohttp" and way.role == "client" and way.closer == THEIRS and way.sends


def times(ways, ours, theirs):
    """How long closes took, as text: those of the peer, and ours."""
    for closer, ended, name in ((THEIRS, theirs, "the peer closes"), (OURS, ours, "we close")):
        closes = ((ended.get(way.path), way) for way in ways if way.closer == closer)
        took = [(end.took * 1000, way) for end, way in closes if end and end.took is not None]
        if took:
            longest, way = max(took, key=lambda pair: pair[0])
            median = statistics.median(milliseconds for milliseconds, _ in took)
            slow = sum(milliseconds > 100 for milliseconds, _ in took)
            yield "%s: %d times, median %.0f ms, %d longer than 100 ms" % (name, len(took), median, slow)
            yield "  longest %.0f ms: %s" % (longest, way)
