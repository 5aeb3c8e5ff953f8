"""Virtual environments of this Python with packages from the index."""

import os
import shutil
import sys

from processes import Process


class CannotInstall(Exception):
    """What is wanted is not there, and why."""


def install(place, requirements, log, limit):
    """The `bin` of a virtual environment at `place` with what the file `requirements` names, made if it is not there yet.

    log: a file for what is printed meanwhile; limit: seconds for each step.
    """
    stamp = os.path.join(place, "installed.txt")
    with open(requirements, encoding="utf-8") as file:
        wanted = file.read()
    if os.path.exists(stamp):
        with open(stamp, encoding="utf-8") as file:
            if file.read() == wanted:
                return os.path.join(place, "bin")
    shutil.rmtree(place, ignore_errors=True)
    pip = [os.path.join(place, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for argv in ([sys.executable, "-m", "venv", place], pip + ["-r", requirements]):
        with Process(argv, log) as process:
            if process.wait(limit) != 0:
                raise CannotInstall("%s%s" % (" ".join(argv[1:4]), process.tail()))
    # Written last, so that half an installation is never taken for a whole one.
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(wanted)
    return os.path.join(place, "bin")
