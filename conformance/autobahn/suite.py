"""Finds CPython 2.7, installs the Autobahn Testsuite for it, and starts its wstest."""

import glob
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile

from processes import Process
from runner import CannotRun, Unavailable

HERE = os.path.dirname(os.path.abspath(__file__))
PINS = os.path.join(HERE, "requirements.txt")
WSTEST = os.path.join(HERE, "wstest_loopback.py")
# What installs the rest: Python 2.7 rarely has a pip, and what it has may be too old for the pinned wheels.
INSTALLERS = ("pip", "setuptools", "wheel")
CASES = 517

# Printed by a usable interpreter: the pinned wheels are for a "wide" (UCS-4) CPython 2.7, and pip needs zlib and ssl.
PROBE = """
import platform, ssl, sys, zlib
usable = platform.python_implementation() == "CPython" and sys.version_info[:2] == (2, 7) and sys.maxunicode > 0xffff
print(sys.executable if usable else "")
"""


def find_python2(environ):
    """The path of a usable CPython 2.7: $PYTHON2 and no other if that is set, else on PATH, else pyenv's."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Unavailable("the pinned packages are for Linux on x86_64")
    if environ.get("PYTHON2"):
        candidates = [environ["PYTHON2"]]
        where = "PYTHON2=" + environ["PYTHON2"]
    else:
        pyenv = environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
        candidates = [
            "python2.7",
            "python2",
            *sorted(glob.glob(os.path.join(pyenv, "versions", "2.7*", "bin", "python2.7"))),
        ]
        where = "PATH, pyenv"
    for candidate in candidates:
        # A pyenv shim is found on PATH and yet only prints a complaint: what counts is that it runs.
        try:
            probe = subprocess.run(
                [candidate, "-E", "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        path = probe.stdout.decode(errors="replace").strip()
        if probe.returncode == 0 and path:
            return path
    raise Unavailable("no CPython 2.7 (UCS-4, with zlib and ssl) found (looked in: %s)" % where)


class Suite:
    """The suite as installed into `prefix` for one interpreter; installed by the constructor where it is not yet.

    limit: seconds after which an installation is given up.
    """

    def __init__(self, prefix, python2, limit):
        self.prefix = prefix
        self.python2 = python2
        self.packages = os.path.join(prefix, "packages")
        # Written last, so that half an installation is never taken for a whole one.
        stamp = os.path.join(prefix, "installed")
        wanted = python2 + "\n" + hashlib.sha256(read(PINS).encode()).hexdigest() + "\n"
        if not os.path.exists(stamp) or read(stamp) != wanted:
            if os.path.exists(stamp):
                os.remove(stamp)
            self._install(limit)
            self.cases = self._list_cases()
            with open(stamp, "w") as file:
                file.write(wanted)
        else:
            self.cases = self._list_cases()

    def _install(self, limit):
        print("autobahn: installing the suite into %s" % self.prefix, flush=True)
        tools = os.path.join(self.prefix, "tools")
        wheels = os.path.join(self.prefix, "wheels")
        for folder in (tools, wheels, self.packages):
            shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(wheels)
        pins = os.path.join(wheels, "installers.txt")
        with open(pins, "w") as file:
            file.writelines(line for line in read(PINS).splitlines(True) if line.split("==")[0] in INSTALLERS)

        # Any pip can fetch the pinned pip; a pinned wheel is a zip file, and unpacking it is all it takes to run it.
        self._pip(self._any_pip(), "download", limit, "--only-binary=:all:", "--dest", wheels, "-r", pins)
        for wheel in glob.glob(os.path.join(wheels, "*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(tools)
        # Without isolation: an isolated build would fetch what it builds with from the index, newest version, no hash.
        self._pip(
            [self.python2, "-s"],
            "install",
            limit,
            "--no-build-isolation",
            "--no-cache-dir",
            "--target",
            self.packages,
            "-r",
            PINS,
            env=dict(os.environ, PYTHONPATH=tools),
        )
        for folder in (tools, wheels):
            shutil.rmtree(folder)

    def _any_pip(self):
        for python in (sys.executable, self.python2, "python3"):
            try:
                probe = [python, "-m", "pip", "--version"]
                if (
                    subprocess.run(
                        probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60
                    ).returncode
                    == 0
                ):
                    return [python]
            except (OSError, subprocess.TimeoutExpired):
                pass
        raise CannotRun(
            "no pip to install the suite with (tried %s, %s, python3)" % (sys.executable, self.python2)
        )

    def _pip(self, python, command, limit, *arguments, **options):
        argv = [
            *python,
            "-m",
            "pip",
            command,
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
            *arguments,
        ]
        with Process(argv, os.path.join(self.prefix, "pip-%s.log" % command), **options) as pip:
            code = pip.wait(limit)
            if code is None:
                raise CannotRun("pip %s was ended after %g s; its output: %s" % (command, limit, pip.log))
            if code != 0:
                raise CannotRun("pip %s failed; its output: %s%s" % (command, pip.log, pip.tail()))

    def _list_cases(self):
        with Process(self._wstest("--list"), os.path.join(self.prefix, "cases.log")) as listing:
            code = listing.wait(60)
            cases = listing.output().split()
            if code != 0 or len(cases) != CASES:
                raise CannotRun("the suite does not list its %d cases%s" % (CASES, listing.tail()))
            return cases

    def _wstest(self, *arguments):
        return [self.python2, "-E", "-s", "-u", WSTEST, self.packages, *arguments]

    def start(self, mode, folder, spec):
        """Starts wstest in a mode (`fuzzingclient` or `fuzzingserver`); its report goes into the folder."""
        path = os.path.join(folder, "spec.json")
        with open(path, "w") as file:
            json.dump(dict(spec, outdir=folder), file, indent=1)
        # -u 0: no web server beside it
        return Process(
            self._wstest("-m", mode, "-s", path, "-u", "0"), os.path.join(folder, "wstest.log"), cwd=folder
        )


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()
