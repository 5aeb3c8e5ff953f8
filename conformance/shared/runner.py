"""The frame of a run with foreign programs: what it takes is made, its exit status says what came of it, and nothing is left running.

exit status: 0 all went well; 1 something did not; 2 it could not be run; 77 skipped, as what it takes is not there;
130, 129, 143 ended by Ctrl-C, SIGHUP, SIGTERM.
"""

import argparse
import os
import sys

import environment
import processes
from program import PACKAGE, ROOT, CannotBuild, build

SKIPPED = 77
# Seconds for an installation or a build, and for a program to say where it listens.
BUILD = 900
START = 30


class Unavailable(Exception):
    """What it takes is not there."""


class CannotRun(Exception):
    """What it takes does not work."""


def parser(name, text):
    """Options that every run has. name: of the run, and of its folder in `target`; text: what it does."""
    made = argparse.ArgumentParser(
        description="\n".join((text.strip(), "", __doc__.strip().split("\n\n")[1])),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--program", metavar="PATH", help="a %s that is already built" % PACKAGE)
    made.add_argument(
        "--prefix",
        default=os.path.join(ROOT, "target", name),
        help="where what is installed and the logs go (default: target/%s)" % name,
    )
    return made


def main(name, run, options):
    """Calls `run` with the options, and returns the exit status."""
    processes.raise_on_signals()
    try:
        os.makedirs(options.prefix, exist_ok=True)
        return run(options)
    except Unavailable as reason:
        print("%s: skipped: %s" % (name, reason))
        return SKIPPED
    except (CannotRun, CannotBuild) as reason:
        print("%s: could not run: %s" % (name, reason), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("%s: interrupted" % name, file=sys.stderr)
        return 130
    finally:
        processes.ignore_signals()
        processes.end_all()


def installed(what, requirements, options, least=(3, 9)):
    """The `bin` of a virtual environment with what the file `requirements` names. least: the Python that it needs."""
    if sys.version_info < least:
        needs = ".".join(map(str, least))
        raise Unavailable("this Python is %s, and %s need %s" % (sys.version.split()[0], what, needs))
    log = os.path.join(options.prefix, "install.log")
    try:
        return environment.install(os.path.join(options.prefix, "venv"), requirements, log, BUILD)
    except environment.CannotInstall as reason:
        raise Unavailable("%s can't be installed: %s" % (what, reason)) from None


def program(options):
    """The path of the project's own program, which is built if none was named."""
    return options.program or build("release", options.prefix, BUILD)


def address(server, name):
    """The URL at which a server says that it listens."""
    match = server.wait_for_output(r"listening on (ws://\S+)", START)
    if not match:
        raise CannotRun("%s did not start%s" % (name, server.tail()))
    return match.group(1)
