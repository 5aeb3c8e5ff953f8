#!/usr/bin/env python3
"""Has the clients of all faces connect through real proxies (pproxy, proxy.py and Twisted's), plain and in TLS, and checks the echo."""

import os
import shutil
import socket
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "shared"))

import runner  # noqa: E402
from processes import Process  # noqa: E402
from runner import START, CannotRun, Unavailable  # noqa: E402

FACES = ("listener", "blocking", "app", "aio")
# Seconds for one check of one face.
CHECK = 120
# A character in it has to be encoded.
USER, PASSWORD = "user", "s@cret"
LOGIN = "user:s%40cret@"


def parse(arguments):
    parser = runner.parser("proxies", __doc__)
    parser.add_argument("--face", action="append", choices=FACES, help="only this one (repeatable)")
    return parser.parse_args(arguments)


def run(options):
    bin_directory = runner.installed("the proxies", os.path.join(HERE, "requirements.txt"), options)
    chain, key, authority = certify(options.prefix)
    program = runner.program(options)
    place = lambda name: os.path.join(options.prefix, name)  # noqa: E731

    servers = {}
    for scheme, extra in (("ws", []), ("wss", ["--tls-cert", chain, "--tls-key", key])):
        argv = [program, "server", "--face", "listener", "--listen", "127.0.0.1:0"] + extra
        server = Process(argv, place("server-%s.log" % scheme))
        match = server.wait_for_output(r"listening on \S+:(\d+)", START)
        if not match:
            raise CannotRun("the server did not start%s" % server.tail())
        servers[scheme] = "%s://localhost:%s/" % (scheme, match.group(1))

    failures = count = 0
    for name, url in start_proxies(bin_directory, place, chain, key):
        for scheme, server in servers.items():
            for face in options.face or FACES:
                argv = [program, "check", "--quick", "--face", face, "--url", server, "--proxy", url]
                argv += ["--ca", authority]
                check = Process(argv, place("check.log"))
                status = check.wait(CHECK)
                check.end()
                count += 1
                fine = status == 0
                failures += not fine
                print("%-5s %-8s %-3s through %s" % ("ok" if fine else "WRONG", face, scheme, name), flush=True)
                if not fine:
                    print(check.tail())
    failures += refused(program, options.face or FACES, servers["ws"], bin_directory, place)
    print("%d of %d went well" % (count - failures, count))
    return 1 if failures else 0


def start_proxies(bin_directory, place, chain, key):
    """Starts the proxies, and names them with their URLs."""
    pproxy, proxy_py = os.path.join(bin_directory, "pproxy"), os.path.join(bin_directory, "proxy")
    login = "#%s:%s" % (USER, PASSWORD)
    port = pproxy_at(pproxy, place, "http+socks4+socks5", "", [])
    for scheme in ("http", "socks4", "socks5", "socks5h"):
        yield "pproxy, " + scheme, "%s://127.0.0.1:%d" % (scheme, port)
    port = pproxy_at(pproxy, place, "http+socks5", login, [])
    for scheme in ("http", "socks5", "socks5h"):
        yield "pproxy with a login, " + scheme, "%s://%s127.0.0.1:%d" % (scheme, LOGIN, port)
    port = pproxy_at(pproxy, place, "http+ssl", login, ["--ssl", "%s,%s" % (chain, key)])
    yield "pproxy with a login, https", "https://%slocalhost:%d" % (LOGIN, port)
    port = free_port()
    argv = [os.path.join(bin_directory, "twistd"), "--nodaemon", "--pidfile=", "socks", "--interface", "127.0.0.1"]
    listen(argv + ["--port", str(port)], place("twistd.log"), port)
    for scheme in ("socks4", "socks4a"):
        yield "twistd, " + scheme, "%s://127.0.0.1:%d" % (scheme, port)
    tls = ["--cert-file", chain, "--key-file", key]
    for scheme, host, extra in (("http", "127.0.0.1", []), ("https", "localhost", tls)):
        port = free_port()
        argv = [proxy_py, "--hostname", "127.0.0.1", "--port", str(port), "--num-workers", "1", "--num-acceptors", "1"]
        listen(argv + ["--basic-auth", "%s:%s" % (USER, PASSWORD)] + extra, place("proxy.py-%s.log" % scheme), port)
        yield "proxy.py with a login, " + scheme, "%s://%s%s:%d" % (scheme, LOGIN, host, port)


def pproxy_at(pproxy, place, protocols, login, extra):
    port = free_port()
    argv = [pproxy, "-l", "%s://127.0.0.1:%d/%s" % (protocols, port, login)] + extra
    listen(argv, place("pproxy-%d.log" % port), port)
    return port


def refused(program, faces, server, bin_directory, place):
    """Counts the faces that a proxy lets through that should not, or that do not say why."""
    proxy_py, port = os.path.join(bin_directory, "proxy"), free_port()
    argv = [proxy_py, "--hostname", "127.0.0.1", "--port", str(port), "--num-workers", "1", "--num-acceptors", "1"]
    listen(argv + ["--basic-auth", "%s:%s" % (USER, PASSWORD)], place("proxy.py-refuses.log"), port)
    wrong = 0
    for face in faces:
        argv = [program, "check", "--quick", "--face", face, "--url", server]
        argv += ["--proxy", "http://%s:wrong-password@127.0.0.1:%d" % (USER, port)]
        check = Process(argv, place("refused.log"))
        status = check.wait(CHECK)
        check.end()
        said = check.output()
        fine = status not in (0, None) and "407" in said and "wrong-password" not in said
        wrong += not fine
        print("%-5s %-8s ws  refused by proxy.py" % ("ok" if fine else "WRONG", face), flush=True)
        if not fine:
            print(check.tail())
    return wrong


def listen(argv, log, port):
    """Starts a proxy, and waits until it can be connected to."""
    proxy = Process(argv, log)
    for _ in range(START * 10):
        if proxy.wait(0.1) is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise CannotRun("%s did not start%s" % (os.path.basename(argv[0]), proxy.tail()))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def certify(prefix):
    """A certificate for `localhost`, its key, and who has signed it: three files."""
    openssl = shutil.which("openssl")
    if not openssl:
        raise Unavailable("there is no openssl")
    files = {name: os.path.join(prefix, name) for name in ("ca.pem", "ca.key", "server.pem", "server.key")}
    new = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    signed = ["-CA", files["ca.pem"], "-CAkey", files["ca.key"]]
    names = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"]
    for argv in (
        new + ["-subj", "/CN=authority", "-keyout", files["ca.key"], "-out", files["ca.pem"]],
        new + ["-subj", "/CN=localhost", "-keyout", files["server.key"], "-out", files["server.pem"]] + signed + names,
    ):
        process = Process(argv, os.path.join(prefix, "openssl.log"))
        if process.wait(START) != 0:
            raise Unavailable("this openssl makes no certificates%s" % process.tail())
    return files["server.pem"], files["server.key"], files["ca.pem"]


if __name__ == "__main__":
    sys.exit(runner.main("proxies", run, parse(sys.argv[1:])))
