"""The suite's own wstest, kept on this machine. For CPython 2.7; suite.py starts it.

    wstest_loopback.py PACKAGES --list                     the ids of all cases, a line each, in the suite's order
    wstest_loopback.py PACKAGES -m MODE -s SPEC -u 0       wstest with these arguments

PACKAGES is the folder that the suite was installed into. Nothing of the suite is changed but its surroundings:

- what it listens on is a free port of 127.0.0.1, announced as `listening on ws://127.0.0.1:PORT` (wstest itself would
  listen on every interface, on a port that somebody else may have by now);
- it connects to loopback addresses only;
- told to end (SIGTERM), it first writes its report of the cases that ran.
"""
from __future__ import print_function

import os
import site
import sys


def use_packages(folder):
    """Imports come from the standard library and this folder, never from this file's or the interpreter's own."""
    own = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [
        path
        for path in sys.path
        if os.path.abspath(path) != own and os.path.basename(path) not in ("site-packages", "dist-packages")
    ]
    # not a plain path: zope.interface is a namespace package, and is only found through its .pth file
    site.addsitedir(folder)


def list_cases():
    from autobahntestsuite.case import CaseBasename, CaseCategories, Cases, CaseSetname, CaseSubCategories
    from autobahntestsuite.caseset import CaseSet

    cases = CaseSet(CaseSetname, CaseBasename, Cases, CaseCategories, CaseSubCategories)
    for case in Cases:
        print(cases.caseClasstoId(case))


def run():
    from autobahntestsuite import wstest  # before the reactor: it chooses which one
    from twisted.internet import reactor

    listen, connect = reactor.listenTCP, reactor.connectTCP

    def listen_on_loopback(port, factory, backlog=50, interface=""):
        listener = listen(0, factory, backlog, "127.0.0.1")
        # the factory refuses a handshake whose Host header names another port than this
        factory.externalPort = listener.getHost().port
        reactor.addSystemEventTrigger("before", "shutdown", factory.createReports)
        print("listening on ws://127.0.0.1:%d" % factory.externalPort)
        return listener

    def connect_to_loopback(host, port, factory, *args, **kwargs):
        if host not in ("127.0.0.1", "localhost"):
            raise ValueError("not a loopback address: %s" % host)

        def report_if_cut_short():
            if factory.currSpecCase < len(factory.specCases):
                factory.createReports()

        reactor.addSystemEventTrigger("before", "shutdown", report_if_cut_short)
        return connect(host, port, factory, *args, **kwargs)

    reactor.listenTCP, reactor.connectTCP = listen_on_loopback, connect_to_loopback
    wstest.run()


if __name__ == "__main__":
    use_packages(sys.argv.pop(1))
    if sys.argv[1:] == ["--list"]:
        list_cases()
    else:
        run()
