import unittest

from cases import DEFAULT, QUICK, UnknownCase, select

KNOWN = [
    "1.1.1",
    "1.1.2",
    "1.2.1",
    "2.1",
    "2.10",
    "3.1",
    "4.1.1",
    "5.1",
    "6.1.1",
    "7.1.1",
    "9.1.1",
    "10.1.1",
    "12.1.1",
    "13.1.1",
]


class Select(unittest.TestCase):
    def test_takes_an_id_for_that_case_alone(self):
        self.assertEqual(select(KNOWN, ["2.1"]), ["2.1"])

    def test_takes_the_beginning_of_an_id_up_to_a_dot(self):
        self.assertEqual(select(KNOWN, ["1"]), ["1.1.1", "1.1.2", "1.2.1"])
        self.assertEqual(select(KNOWN, ["1.1"]), ["1.1.1", "1.1.2"])

    def test_takes_a_star_for_any_rest(self):
        self.assertEqual(select(KNOWN, ["1.*"]), ["1.1.1", "1.1.2", "1.2.1"])
        self.assertEqual(select(KNOWN, ["*"]), KNOWN)

    def test_gives_each_case_once_and_in_the_suites_order(self):
        self.assertEqual(select(KNOWN, ["2.10", "1.1.1", "1.1.*", "2.1"]), ["1.1.1", "1.1.2", "2.1", "2.10"])

    def test_leaves_out_the_excluded(self):
        self.assertEqual(select(KNOWN, ["1", "2"], ["1.1", "2.10"]), ["1.2.1", "2.1"])

    def test_refuses_a_pattern_that_no_case_answers_to(self):
        for pattern in ("8", "8.*", "1.1.3", "1.", "quick", ""):
            with self.subTest(pattern):
                self.assertRaises(UnknownCase, select, KNOWN, ["1.1.1", pattern])
                self.assertRaises(UnknownCase, select, KNOWN, ["1.1.1"], [pattern])

    def test_leaves_compression_out_unless_asked_and_large_messages_out_of_the_quick_run(self):
        self.assertEqual([c for c in KNOWN if c not in select(KNOWN, DEFAULT)], ["12.1.1", "13.1.1"])
        self.assertEqual([c for c in KNOWN if c not in select(KNOWN, QUICK)], ["9.1.1", "12.1.1", "13.1.1"])


if __name__ == "__main__":
    unittest.main()
