"""Judges a report of the suite, case by case.

The suite marks each case twice: how the peer behaved, and how the connection was closed. `wstest` exits 0 whatever it
found, and leaves cases that never ran out of its report without a word. So nothing but an explicit good mark passes.
"""

import collections
import json
import os

# A strict peer is asked for: NON-STRICT and UNIMPLEMENTED are not among these. INFORMATIONAL cases have no wrong answer.
GOOD = ("OK", "INFORMATIONAL")
REASON_LENGTH = 240
MISSING_SHOWN = 20

Failure = collections.namedtuple("Failure", "case behaviour close reason")


class Judgement:
    """What became of the selected cases of one run.

    counts    how many cases had which (behaviour, close behaviour)
    failures  the cases that ran and did not pass, in the order of selection
    missing   the cases that never ran
    problems  what went wrong outside any case (the program crashed, the time ran out), a sentence each
    """

    def __init__(self, selected):
        self.selected = list(selected)
        self.counts = collections.Counter()
        self.failures = []
        self.missing = []
        self.problems = []

    @property
    def ran(self):
        """How many of the selected cases have a result."""
        return len(self.selected) - len(self.missing)

    @property
    def passed(self):
        """How many cases passed."""
        return self.ran - len(self.failures)

    @property
    def failed(self):
        """How many cases failed or never ran, plus one for each problem outside the cases."""
        return len(self.failures) + len(self.missing) + len(self.problems)

    def lines(self):
        """The judgement as text, a line at a time."""
        if self.counts:
            row = "  %-15s %-15s %5s"
            yield row % ("behaviour", "close", "cases")
            for (behaviour, close), count in sorted(
                self.counts.items(), key=lambda item: (-item[1], item[0])
            ):
                yield row % (behaviour, close, count)
        if self.failures:
            yield "failed (%d):" % len(self.failures)
            for failure in self.failures:
                yield "  %-8s %s, close %s: %s" % failure
        if self.missing:
            more = " ..." if len(self.missing) > MISSING_SHOWN else ""
            yield "never ran (%d): %s%s" % (len(self.missing), " ".join(self.missing[:MISSING_SHOWN]), more)
        for problem in self.problems:
            yield "failed: " + problem


def judge(index, agent, selected, details):
    """Judges the results of one agent.

    index     the suite's index.json: {agent: {case: {"behavior", "behaviorClose", "reportfile", ...}}}
    selected  the ids of the cases that should have run
    details   a function from a `reportfile` to that case's own report, {} where there is none
    """
    judgement = Judgement(selected)
    results = index.get(agent, {})
    for case in judgement.selected:
        if case not in results:
            judgement.missing.append(case)
            continue
        result = results[case]
        behaviour = result.get("behavior", "no mark")
        close = result.get("behaviorClose", "no mark")
        judgement.counts[behaviour, close] += 1
        if behaviour not in GOOD or close not in GOOD:
            report = details(result.get("reportfile", ""))
            judgement.failures.append(Failure(case, behaviour, close, reason(behaviour, close, report)))
    if judgement.missing and not results and index:
        judgement.problems.append(
            "the report knows %s, but no agent %r" % (", ".join(map(repr, sorted(index))), agent)
        )
    return judgement


def reason(behaviour, close, report):
    """The suite's own words for a case that did not pass."""
    words = []
    if behaviour not in GOOD:
        words.append(report.get("result"))
    if close not in GOOD:
        words += [report.get("resultClose"), report.get("wasNotCleanReason")]
    words = [" ".join(str(word).split()) for word in words if word]
    text = "; ".join(dict.fromkeys(words))  # the suite often says the same of both
    if len(text) > REASON_LENGTH:
        text = text[:REASON_LENGTH] + "..."
    return text or "the suite gives no reason"


def judge_folder(folder, agent, selected):
    """Judges the report that the suite wrote into a folder; OSError or ValueError where there is no readable index."""

    def details(name):
        try:
            return read_json(os.path.join(folder, name))
        except (OSError, ValueError):
            return {}

    return judge(read_json(os.path.join(folder, "index.json")), agent, selected, details)


def read_json(path):
    """A file's JSON. The suite quotes the peer's bytes in its reports, which need not be UTF-8."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return json.load(file)
