"""The project's own program: built, and where cargo says it put it."""

import json
import os

from processes import Process

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PACKAGE = "threadwire-conformance"


class CannotBuild(Exception):
    """There is no program, and why."""


def build(profile, prefix, limit):
    """Builds it and returns its path. profile: `debug` or anything else for release; limit: in seconds."""
    argv = ["cargo", "build", "-p", PACKAGE, "--message-format=json-render-diagnostics"]
    if profile != "debug":
        argv.append("--release")
    try:
        cargo = Process(argv, os.path.join(prefix, "cargo.log"), show_errors=True, cwd=ROOT)
    except OSError as error:
        raise CannotBuild("cannot start cargo: %s" % error)
    with cargo:
        code = cargo.wait(limit)
        if code != 0:
            raise CannotBuild("cargo build " + ("took too long" if code is None else "failed"))
        for line in cargo.output().splitlines():
            message = json.loads(line) if line.startswith("{") else {}
            if message.get("executable") and message["target"]["name"] == PACKAGE:
                return message["executable"]
    raise CannotBuild("cargo built no program named " + PACKAGE)
