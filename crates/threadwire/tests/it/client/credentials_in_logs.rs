//! Redaction: the log of connection attempts holds no credentials.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use crate::common::faces::FACES;
use crate::common::peer::Host;
use crate::common::process::alone;
use crate::common::proxies::{Kind, Proxying};
use crate::common::{Serving, bind, bounded, echo, patient, vacant};
use threadwire::client::{CookieJar, Proxy};
use threadwire::{Client, Reply, Response};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Writes down everything that is logged, by anybody.
struct Log(Arc<Mutex<String>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        attributes.record(&mut Fields(&mut self.0.lock().unwrap()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, record: &Record<'_>) {
        record.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut log = self.0.lock().unwrap();
        log.push('\n');
        event.record(&mut Fields(&mut log));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn no_credential_is_logged() {
    alone(|| {
        let log = Arc::new(Mutex::new(String::new()));
        tracing::subscriber::set_global_default(Log(Arc::clone(&log))).unwrap();
        bounded(|| {
            let server = Serving::with(bind(), |request| match request.path() {
                "/from" => {
                    let response =
                        Response::new(302).unwrap().with_header("Location", "/to?token=hushhush").unwrap();
                    Reply::respond(response.with_header("Set-Cookie", "session=hushhush").unwrap())
                }
                _ => Reply::with(echo),
            });
            let (_taken, nobody) = vacant();
            for face in FACES {
                for (scheme, kind, user) in [
                    ("http", Kind::Http, "user:hushhush@"),
                    ("socks5", Kind::Socks5, "user:hushhush@"),
                    ("socks4a", Kind::Socks4, "hushhush@"),
                ] {
                    let login = (user.len() > 9).then_some(("user", "hushhush"));
                    let login = if kind == Kind::Socks4 { Some(("hushhush", "")) } else { login };
                    let proxy = Proxying::with(kind, "feed.test", server.addr, login);
                    let url =
                        format!("ws://me:hushhush@feed.test:{}/from?token=hushhush", server.addr.port());
                    let client = |addr| {
                        Client::new(&url)
                            .unwrap()
                            .config(patient())
                            .cookies(&CookieJar::new())
                            .header("X-Key", "hushhush")
                            .unwrap()
                            .resolve("feed.test", [server.addr])
                            .proxy(Proxy::new(&format!("{scheme}://{user}{addr}")).unwrap())
                    };
                    face.echo(&client(proxy.addr), "hello").unwrap();
                    // Nothing listens there; or a proxy that refuses.
                    face.fails(&client(nobody));
                    let host = Host::listen();
                    let refused = client(host.addr());
                    let host = host.run(|host| host.accept().reset());
                    face.fails(&refused);
                    host.join().unwrap();
                }
            }
        });
        let log = log.lock().unwrap();
        assert!(log.contains("following a redirect") && log.contains("can't connect"), "{log}");
        assert!(!log.contains("hushhush") && !log.contains("Basic "), "{log}");
    });
}
