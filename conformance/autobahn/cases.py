"""Which cases of the suite a run selects."""

from fnmatch import fnmatchcase

# 12.* and 13.* test permessage-deflate: they take minutes, and are asked for by an option or by name.
DEFAULT = ("1", "2", "3", "4", "5", "6", "7", "9", "10")
# 9.* sends messages of up to 16 MiB; without it a run takes seconds.
QUICK = ("1", "2", "3", "4", "5", "6", "7", "10")


# Compression: payloads, then parameters.
DEFLATE = ("12", "13")
# Of each kind of payload and parameters a short message, and one in fragments.
DEFLATE_QUICK = ("12.*.3", "12.*.12", "13.*.3", "13.*.12")


def chosen(quick, deflate):
    """The patterns of a run for which no case was named."""
    if deflate:
        return DEFLATE_QUICK if quick else DEFLATE
    return QUICK if quick else DEFAULT


class UnknownCase(ValueError):
    """A pattern that no case of the suite answers to."""


def select(known, patterns, exclude=()):
    """The ids out of `known`, in its order, that some pattern matches and no excluded one does.

    A pattern is an id (`7.1.5`), the beginning of one up to a dot (`7`, `7.1`), or has `*` for any rest (`7.*`).
    A pattern that matches nothing is a slip of the pen, and would test less than its author meant: UnknownCase.
    """
    for pattern in (*patterns, *exclude):
        if not any(matches(case, pattern) for case in known):
            raise UnknownCase("no such case: %s" % pattern)

    def listed(case, among):
        return any(matches(case, pattern) for pattern in among)

    return [case for case in known if listed(case, patterns) and not listed(case, exclude)]


def matches(case, pattern):
    """Whether the pattern means this case."""
    return fnmatchcase(case, pattern) or case.startswith(pattern + ".")
