import unittest

from cases import DEFAULT, QUICK, UnknownCase, chosen, select

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
    "12.2.3",
    "13.1.1",
    "13.7.12",
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
        compression = ["12.1.1", "12.2.3", "13.1.1", "13.7.12"]
        self.assertEqual([c for c in KNOWN if c not in select(KNOWN, DEFAULT)], compression)
        self.assertEqual([c for c in KNOWN if c not in select(KNOWN, QUICK)], ["9.1.1", *compression])

    def test_takes_compression_alone_where_it_is_asked_for_and_some_of_it_in_the_quick_run(self):
        self.assertEqual(chosen(quick=False, deflate=False), DEFAULT)
        self.assertEqual(chosen(quick=True, deflate=False), QUICK)
        self.assertEqual(
            select(KNOWN, chosen(quick=False, deflate=True)), ["12.1.1", "12.2.3", "13.1.1", "13.7.12"]
        )
        known = ["%d.%d.%d" % (a, b, c) for a in (12, 13) for b in range(1, 8) for c in range(1, 19)]
        quick = select(known, chosen(quick=True, deflate=True))
        self.assertEqual(len(quick), 28)
        self.assertEqual(quick[:3], ["12.1.3", "12.1.12", "12.2.3"])


if __name__ == "__main__":
    unittest.main()
