import json
import os
import tempfile
import unittest

from judge import REASON_LENGTH, judge, judge_folder


def result(behaviour="OK", close="OK", file="case.json"):
    return {
        "behavior": behaviour,
        "behaviorClose": close,
        "reportfile": file,
        "remoteCloseCode": 1000,
        "duration": 2,
    }


def judged(results, selected=None, details=None, agent="peer"):
    return judge(
        {"peer": results}, agent, list(results) if selected is None else selected, lambda _: details or {}
    )


class Marks(unittest.TestCase):
    def test_passes_ok_and_informational(self):
        judgement = judged(
            {
                "1.1.1": result(),
                "7.1.6": result("INFORMATIONAL", "INFORMATIONAL"),
                "7.13.1": result("INFORMATIONAL"),
            }
        )
        self.assertEqual((judgement.passed, judgement.failed), (3, 0))

    def test_fails_every_other_behaviour(self):
        for behaviour in ("FAILED", "NON-STRICT", "UNIMPLEMENTED", "UNCLEAN", "ok", ""):
            with self.subTest(behaviour):
                judgement = judged({"1.1.1": result(behaviour), "1.1.2": result()})
                self.assertEqual((judgement.passed, judgement.failed), (1, 1))
                self.assertEqual(judgement.failures[0].case, "1.1.1")

    def test_fails_every_other_close_behaviour_of_a_case_that_behaved(self):
        for close in ("FAILED", "UNCLEAN", "WRONG CODE", "FAILED BY CLIENT", "NON-STRICT", "UNIMPLEMENTED"):
            with self.subTest(close):
                judgement = judged({"7.1.1": result("OK", close)})
                self.assertEqual((judgement.passed, judgement.failed), (0, 1))

    def test_fails_a_result_without_marks(self):
        self.assertEqual(judged({"1.1.1": {}}).failed, 1)

    def test_counts_a_case_that_fails_both_ways_once(self):
        self.assertEqual(judged({"7.1.5": result("FAILED", "WRONG CODE")}).failed, 1)

    def test_counts_behaviour_and_close_together(self):
        judgement = judged({"1.1.1": result(), "1.1.2": result(), "7.1.1": result("OK", "UNCLEAN")})
        self.assertEqual(judgement.counts, {("OK", "OK"): 2, ("OK", "UNCLEAN"): 1})


class Missing(unittest.TestCase):
    def test_fails_a_selected_case_that_never_ran(self):
        judgement = judged({"1.1.1": result()}, ["1.1.1", "1.1.2", "1.1.3"])
        self.assertEqual(judgement.missing, ["1.1.2", "1.1.3"])
        self.assertEqual((judgement.ran, judgement.passed, judgement.failed), (1, 1, 2))

    def test_fails_everything_in_an_empty_report(self):
        judgement = judge({}, "peer", ["1.1.1", "1.1.2"], lambda _: {})
        self.assertEqual((judgement.passed, judgement.failed), (0, 2))

    def test_does_not_take_another_agents_results(self):
        judgement = judged({"1.1.1": result()}, agent="somebody else")
        self.assertEqual((judgement.passed, judgement.missing), (0, ["1.1.1"]))
        self.assertIn("'peer'", judgement.problems[0])

    def test_leaves_out_a_case_that_was_not_selected(self):
        judgement = judged({"1.1.1": result(), "9.1.1": result("FAILED")}, ["1.1.1"])
        self.assertEqual((judgement.passed, judgement.failed), (1, 0))

    def test_fails_for_a_problem_outside_the_cases(self):
        judgement = judged({"1.1.1": result()})
        judgement.problems.append("the server ended with 101")
        self.assertEqual((judgement.passed, judgement.failed), (1, 1))


class Reasons(unittest.TestCase):
    def reason(self, behaviour, close, **details):
        return judged({"7.1.5": result(behaviour, close)}, details=details).failures[0].reason

    def test_gives_the_suites_reason_for_the_mark_that_failed(self):
        words = {"result": "wrong echo", "resultClose": "wrong code", "wasNotCleanReason": "peer dropped TCP"}
        self.assertEqual(self.reason("FAILED", "OK", **words), "wrong echo")
        self.assertEqual(self.reason("OK", "UNCLEAN", **words), "wrong code; peer dropped TCP")
        self.assertEqual(
            self.reason("FAILED", "UNCLEAN", **words), "wrong echo; wrong code; peer dropped TCP"
        )

    def test_says_the_same_only_once(self):
        self.assertEqual(
            self.reason("FAILED", "WRONG CODE", result="no code", resultClose="no code"), "no code"
        )

    def test_puts_a_long_reason_on_one_line_and_cuts_it(self):
        reason = self.reason("FAILED", "OK", result="a\n  b " * 500)
        self.assertTrue(reason.startswith("a b a b"))
        self.assertEqual(len(reason), REASON_LENGTH + 3)

    def test_says_that_there_is_no_reason(self):
        self.assertEqual(self.reason("FAILED", "OK", result=None), "the suite gives no reason")


class Lines(unittest.TestCase):
    def test_lists_marks_failures_missing_cases_and_problems(self):
        judgement = judged(
            {"1.1.1": result(), "3.2": result("NON-STRICT")}, ["1.1.1", "3.2", "5.1"], {"result": "no echo"}
        )
        judgement.problems.append("the client ended with 1")
        self.assertEqual(
            [" ".join(line.split()) for line in judgement.lines()],
            [
                "behaviour close cases",
                "NON-STRICT OK 1",
                "OK OK 1",
                "failed (1):",
                "3.2 NON-STRICT, close OK: no echo",
                "never ran (1): 5.1",
                "failed: the client ended with 1",
            ],
        )

    def test_names_only_the_first_of_many_missing_cases(self):
        judgement = judged({}, ["6.%d" % n for n in range(1, 146)])
        line = list(judgement.lines())[0]
        self.assertTrue(line.startswith("never ran (145): 6.1 6.2 ") and line.endswith(" 6.20 ..."), line)


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, name, content):
        with open(os.path.join(self.folder, name), "wb") as file:
            file.write(content)

    def test_reads_the_index_and_the_cases_own_reports(self):
        self.write(
            "index.json", json.dumps({"peer": {"6.3.1": result("FAILED", file="peer_6_3_1.json")}}).encode()
        )
        self.write("peer_6_3_1.json", b'{"result": "bytes \xff here"}')
        failure = judge_folder(self.folder, "peer", ["6.3.1"]).failures[0]
        self.assertEqual(failure.reason, "bytes \ufffd here")

    def test_does_without_a_cases_own_report(self):
        self.write("index.json", json.dumps({"peer": {"6.3.1": result("FAILED", file="gone.json")}}).encode())
        self.assertEqual(judge_folder(self.folder, "peer", ["6.3.1"]).failed, 1)

    def test_refuses_a_folder_without_a_readable_index(self):
        self.assertRaises(OSError, judge_folder, self.folder, "peer", ["1.1.1"])
        self.write("index.json", b'{"peer": {"1.1')
        self.assertRaises(ValueError, judge_folder, self.folder, "peer", ["1.1.1"])


if __name__ == "__main__":
    unittest.main()
