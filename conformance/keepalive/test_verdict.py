"""Tests of the verdict: what is a failure, and what is none."""

import unittest

import verdict
from report import Ended
from ways import WAYS, Way, paths

SECONDS, LIMIT = 10, 1.0


def ended(way, code=1000, clean="true", lasted=10_000, took="-", messages=50, error=""):
    return Ended("\t".join(map(str, ("ended", way.path, code, clean, lasted, took, messages, error))))


class Verdict(unittest.TestCase):
    way = Way("/aio.server.picows/handle/send/theirs")

    def faults(self, way=None, ours=None, theirs=None):
        way = way or self.way
        return verdict.faults(way, ended(way, **ours or {}), ended(way, **theirs or {"took": 1}), SECONDS, LIMIT)

    def test_a_connection_that_stays_and_is_closed_soon_is_fine(self):
        self.assertEqual(self.faults(), [])
        way = Way("/aio.server.picows/handle/nothing/ours")
        quiet = {"messages": 0}
        self.assertEqual(self.faults(way, {"took": 999, **quiet}, quiet), [])

    def test_what_either_side_holds_against_it_counts(self):
        for side in (
            {"code": 1011},
            {"clean": "false"},
            {"error": "ping timeout"},
            {"lasted": 2000},
        ):
            self.assertEqual(len(self.faults(ours=side)), 1, side)
            self.assertEqual(len(self.faults(theirs={"took": 1, **side})), 1, side)

    def test_silence_is_no_consent(self):
        one = ended(self.way, took=1)
        for ours, theirs in ((None, one), (one, None), (None, None)):
            self.assertEqual(len(verdict.faults(self.way, ours, theirs, SECONDS, LIMIT)), 1)

    def test_a_close_has_its_side_and_its_time(self):
        self.assertIn("took", self.faults(theirs={"took": 1001})[0])
        self.assertIn("wrong side", self.faults(ours={"took": 1}, theirs={"took": "-"})[0])

    def test_messages_arrive(self):
        self.assertEqual(len(self.faults(theirs={"took": 1, "messages": 3})), 1)
        self.assertEqual(len(self.faults(Way("/aio.server.picows/halves/receive/theirs"), {"messages": 3})), 1)

    def test_a_server_of_aiohttp_may_reset_what_is_on_its_way(self):
        reset = {"clean": "false", "error": "broken pipe"}
        self.assertEqual(self.faults(Way("/aio.client.aiohttp/handle/send/theirs"), reset), [])
        for path in ("/aio.server.aiohttp/handle/send/theirs", "/aio.client.aiohttp/handle/nothing/theirs"):
            self.assertNotEqual(self.faults(Way(path), reset), [])


class Ways(unittest.TestCase):
    def test_every_way_has_a_path_of_its_own(self):
        found = [path for face in WAYS for path in paths(face, "server", "picows", talks=True)]
        self.assertEqual(len(found), len(set(found)))
        self.assertTrue(all(Way(path).path == path for path in found))


if __name__ == "__main__":
    unittest.main()
