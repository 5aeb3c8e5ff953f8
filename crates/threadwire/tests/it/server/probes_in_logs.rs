//! Health checks and port scans in a server's log: nothing above debug, and no credentials.

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::common::doors::{FACES, Plan, status};
use crate::common::peer::{Peer, request};
use crate::common::process::alone;
use crate::common::{Serving, bind, bounded, echo, faces};
use threadwire::server::Router;
use threadwire::{Client, Reply, Request, Response};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Writes down what is said.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

impl Lines {
    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("threadwire")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push((*event.metadata().level(), line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn probes_are_told_of_at_debug_and_credentials_not_at_all() {
    alone(|| {
        let lines = Lines::default();
        tracing::subscriber::set_global_default(lines.clone()).unwrap();
        for &face in FACES {
            let heard = lines.clone();
            bounded(move || {
                let well = Response::new(200).unwrap().with_body("well\n");
                let auth = threadwire::server::BasicAuth::new("feed").user("ann", "secret").unwrap();
                let router = Router::new()
                    .page("/healthz", move |_: &Request| well.clone())
                    .unwrap()
                    .check(auth)
                    .route("/", move |_| face.accept())
                    .unwrap();
                let served = face.serve(Plan::new(router.hook()));
                // One that only connects, one that resets, one that asks half a question, one that speaks TLS, one that asks
                // for a page that is not there, and one that says who it is, wrongly.
                drop(Peer::connect(served.addr()));
                Peer::connect(served.addr()).reset();
                let mut half = Peer::connect(served.addr());
                half.bytes("GET /healthz HTTP/1.1\r\n");
                drop(half);
                let mut tls = Peer::connect(served.addr());
                tls.bytes(crate::common::peer::client_hello());
                tls.rest();
                drop(tls);
                assert_eq!(status(&served.answer("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")), 200);
                assert_eq!(status(&served.answer("GET /favicon.ico HTTP/1.1\r\nHost: a\r\n\r\n")), 404);
                // What balancers send: HAProxy by default, and in the ways that its guides tell of.
                let open = face.serve(Plan::new(move |_: &Request| face.accept()));
                for (probe, answer) in [
                    ("OPTIONS / HTTP/1.0\r\n\r\n", 200),
                    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200),
                    ("HEAD / HTTP/1.0\r\n\r\n", 405),
                    ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
                    ("GET / HTTP/1.0\r\n\r\n", 505),
                    ("GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 505),
                    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 426),
                    ("GET / HTTP/1.1\r\n\r\n", 400),
                    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
                    ("SSH-2.0-OpenSSH_9.6\r\n", 400),
                ] {
                    assert_eq!(status(&open.answer(probe)), answer, "{face:?}: {probe:?}");
                }
                drop(Peer::connect(open.addr()));
                Peer::connect(open.addr()).reset();
                open.stop();
                let headers = "Authorization: Basic c2VjcmV0OnRvbzpzZWNyZXQ=\r\nCookie: sid=5678\r\n";
                assert_eq!(served.status("/?token=1234", headers), 401);
                let mut peer = Peer::connect(served.addr());
                peer.bytes(request("/"));
                assert_eq!(status(&peer.head()), 401);
                drop(peer);
                served.stop();
                let lines = heard.take();
                assert!(!lines.is_empty());
                for (level, line) in lines {
                    assert!(level >= Level::DEBUG, "{face:?}: {line}");
                    for secret in ["secret", "c2Vj", "5678", "1234"] {
                        assert!(!line.contains(secret), "{face:?}: {line}");
                    }
                }
            });
        }
    });
}

#[test]
fn frames_are_in_a_log_that_takes_traces_on_each_side_and_face_without_the_credentials() {
    alone(|| {
        let lines = Lines::default();
        tracing::subscriber::set_global_default(lines.clone()).unwrap();
        for &face in FACES {
            let heard = lines.clone();
            bounded(move || {
                let served = face.serve(Plan::new(move |_: &Request| face.accept()));
                let mut peer = Peer::connect(served.addr());
                peer.bytes(request("/?token=1234"));
                assert_eq!(status(&peer.head()), 101);
                peer.close(1000, "");
                assert_eq!(peer.code(), 1000);
                served.stop();
                traced(&heard.take(), &format!("{face:?}"));
            });
        }
        let server = Serving::with(bind(), |_| Reply::with(echo));
        for &face in faces::FACES {
            let (heard, url) = (lines.clone(), server.url("/?token=1234"));
            bounded(move || {
                assert_eq!(face.echo(&Client::new(url).unwrap(), "hello").unwrap(), "hello");
                traced(&heard.take(), &format!("{face:?}"));
            });
        }
    });
}

fn traced(lines: &[(Level, String)], face: &str) {
    let traces: Vec<_> = lines.iter().filter(|(level, _)| *level == Level::TRACE).collect();
    assert!(traces.iter().any(|(_, line)| line.contains("/?token=***")), "{face}: {traces:?}");
    assert!(traces.iter().any(|(_, line)| line.contains("close: 1000")), "{face}: {traces:?}");
    assert!(!lines.iter().any(|(_, line)| line.contains("1234")), "{face}: {lines:?}");
}
