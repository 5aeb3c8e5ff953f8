//! Client features on each face: a message is echoed, and the setting has left its trace.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use super::scenarios;
use crate::common::files::Files;
use crate::common::peer::Host;
use crate::common::proxies::{Kind, Proxying};
use crate::common::recorder::{Call, Log};
use crate::common::secure::Secure;
use crate::common::{SOON, Serving, bind, echo, patient, vacant};
use threadwire::client::{CookieJar, Proxy, Timeouts};
use threadwire::error::TimeoutKind;
use threadwire::reconnect::{Backoff, Cause, State};
use threadwire::server::ListenSocket;
use threadwire::{App, Client, Connection, Error, Message, Reply, blocking, wait_until};

/// An echo, and what it was asked for last: a header of the request.
fn asked(name: &'static str) -> (Serving, impl Fn() -> String) {
    let asked = Arc::new(Mutex::new(String::new()));
    let note = Arc::clone(&asked);
    let serving = Serving::with(bind(), move |request| {
        *note.lock().unwrap() = request.header(name).unwrap_or_default().to_owned();
        Reply::with(echo)
    });
    (serving, move || asked.lock().unwrap().clone())
}

/// A client of this server.
fn client_of(serving: &Serving) -> Client {
    Client::new(&serving.url("/")).unwrap().config(patient())
}

/// Tries again soon.
fn soon() -> Backoff {
    let moment = Duration::from_millis(1);
    Backoff::default().first(moment).cap(moment)
}

/// Tries again at once.
fn at_once() -> Backoff {
    Backoff::default().first(Duration::ZERO)
}

scenarios! {
    "connect to a URL" {
        listener: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let ws = threadwire::connect(&serving.url("/"), |_: &Connection, _: Message<'_>| Ok(())).unwrap();
            assert!(ws.is_open());
        };
        blocking: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let mut ws = blocking::connect(&serving.url("/")).unwrap();
            ws.send("hello").unwrap();
            assert_eq!(ws.recv().unwrap().unwrap(), "hello");
        };
        app: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let mut app = App::new(&serving.url("/")).unwrap().on_open(|ws| ws.close());
            assert!(app.run_forever().unwrap().closed.unwrap().is_normal());
        };
        aio: alone async || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let mut ws = threadwire::aio::connect(&serving.url("/")).await.unwrap();
            ws.send("hello").await.unwrap();
            assert_eq!(ws.recv().await.unwrap().unwrap(), "hello");
        };
    }
    "headers of the request" {
        listener blocking app aio: client_of |face| {
            let (serving, asked) = asked("X-Name");
            face.echo(&client_of(&serving).header("X-Name", "value").unwrap(), "hello").unwrap();
            assert_eq!(asked(), "value");
        };
    }
    "headers made for each attempt" {
        listener blocking app aio: client_of |face| {
            let (serving, asked) = asked("X-Name");
            face.echo(&client_of(&serving).headers(|| [("X-Name", "fresh")]), "hello").unwrap();
            assert_eq!(asked(), "fresh");
        };
    }
    "user name and password, tokens" {
        listener blocking app aio: client_of |face| {
            let (serving, asked) = asked("Authorization");
            face.echo(&client_of(&serving).bearer_auth("token").unwrap(), "hello").unwrap();
            assert_eq!(asked(), "Bearer token");
            face.echo(&client_of(&serving).basic_auth("user", "secret").unwrap(), "hello").unwrap();
            assert!(asked().starts_with("Basic "));
        };
    }
    "offer subprotocols" {
        listener blocking app aio: client_of |face| {
            let (serving, asked) = asked("Sec-WebSocket-Protocol");
            face.echo(&client_of(&serving).subprotocols(["v2", "v1"]).unwrap(), "hello").unwrap();
            assert_eq!(asked().replace(' ', ""), "v2,v1");
        };
    }
    "cookies" {
        listener blocking app aio: client_of |face| {
            let (serving, asked) = asked("Cookie");
            let jar = CookieJar::new();
            assert!(jar.set(&serving.url("/"), "a=1").unwrap());
            face.echo(&client_of(&serving).cookies(&jar), "hello").unwrap();
            assert_eq!(asked(), "a=1");
        };
    }
    "follow redirects" {
        listener blocking app aio: client_of |face| {
            let serving = Serving::with(bind(), |request| match request.path() {
                "/new" => Ok(Reply::with(echo)),
                _ => Reply::status(307).header("Location", "/new"),
            });
            let client = client_of(&serving);
            face.echo(&client, "hello").unwrap();
            assert!(matches!(face.fails(&client.redirects(0)), Error::Status(_)));
        };
    }
    "proxies" {
        listener blocking app aio: client_of |face| {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let proxying = Proxying::start(Kind::Http, "feed.test", serving.addr);
            let client = Client::new(&format!("ws://feed.test:{}/", serving.addr.port())).unwrap();
            let through = Proxy::new(&format!("http://{}", proxying.addr)).unwrap();
            face.echo(&client.proxy(through), "hello").unwrap();
            assert_eq!(proxying.asked().len(), 1);
        };
    }
    "limits of time for each step" {
        listener blocking app aio: client_of |face| {
            let host = Host::listen();
            let client = Client::new(&host.url()).unwrap().config(patient());
            // The server never answers.
            let error = face.fails(&client.timeouts(Timeouts::default().upgrade(SOON)));
            assert!(matches!(error, Error::Timeout(TimeoutKind::Step(_))), "{error}");
        };
    }
    "addresses of a host" {
        listener blocking app aio: client_of |face| {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let client = Client::new(&format!("ws://feed.test:{}/", serving.addr.port())).unwrap();
            face.echo(&client.resolve("feed.test", [serving.addr]), "hello").unwrap();
        };
    }
    "the address to connect from" {
        listener blocking app aio: client_of |face| {
            let from = Arc::new(Mutex::new(None));
            let note = Arc::clone(&from);
            let serving = Serving::with(bind(), move |request| {
                *note.lock().unwrap() = request.peer_addr();
                Reply::with(echo)
            });
            face.echo(&client_of(&serving).bind("127.0.0.7".parse().unwrap()), "hello").unwrap();
            let from: SocketAddr = from.lock().unwrap().unwrap();
            assert_eq!(from.ip().to_string(), "127.0.0.7");
        };
    }
    "prepare the socket" {
        listener blocking app aio: client_of |face| {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let prepared = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&prepared);
            let client = client_of(&serving).prepare_socket(move |_socket, _address| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
            face.echo(&client, "hello").unwrap();
            assert_eq!(prepared.load(Ordering::SeqCst), 1);
        };
    }
    "open the socket oneself" {
        listener blocking app aio: client_of |face| {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let addr = serving.addr;
            let client = Client::new("ws://feed.test/").unwrap();
            face.echo(&client.clone().open_socket(move |_| Ok(TcpStream::connect(addr)?.into())), "hello").unwrap();
            face.echo(&client.over(TcpStream::connect(addr).unwrap()), "hello").unwrap();
        };
    }
    "Unix sockets" {
        listener blocking app aio: client_of |face| {
            let files = Files::empty();
            let path = files.path("feed.sock");
            let server = bind().add_socket(ListenSocket::unix(&path).unwrap());
            let _serving = Serving::with(server, |_| Reply::with(echo));
            face.echo(&Client::new("ws://localhost/").unwrap().unix_socket(&path), "hello").unwrap();
        };
    }
    "over a stream of any kind" {
        aio: alone async || {
            let (here, there) = tokio::io::duplex(4096);
            let url = Client::new("ws://localhost/").unwrap();
            let (ws, served) = tokio::join!(
                threadwire::aio::connect_over(here, &url),
                threadwire::aio::accept_over(there, patient()),
            );
            ws.unwrap().send("hello").await.unwrap();
            assert_eq!(served.unwrap().recv().await.unwrap().unwrap(), "hello");
        };
    }
    "TLS" {
        listener blocking app aio: client_of |face| {
            let (secure, authority) = Secure::trusted();
            let url = secure.url("localhost");
            let client = Client::new(&url).unwrap().tls(authority.trusted());
            assert_eq!(face.echo(&client, "hello").unwrap(), "hello");
        };
    }
    "come back by itself" {
        listener: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let client = client_of(&serving);
            let ws = client.reconnect(at_once()).start(|_: &Connection, _: Message<'_>| Ok(()));
            for count in 1..=2 {
                wait_until(None, || ws.connections() == count && ws.state() == State::Open).unwrap();
                ws.connection().unwrap().abort();
            }
            ws.stop();
        };
        app: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let mut app = App::new(&client_of(&serving)).unwrap().reconnect(at_once());
            app = app.on_open(|ws| ws.abort()).on_reconnect(|ws| ws.close()).on_error(|_, _| {});
            assert_eq!(app.run_forever().unwrap().connections, 2);
        };
        aio: alone async || {
            let greet = |ws: &Connection, call: &Call| match call {
                Call::Open => ws.send("hello"),
                _ => Ok(()),
            };
            let serving = Serving::recording(patient(), &Log::new(), greet);
            let mut feed = threadwire::aio::reconnect(&client_of(&serving), at_once());
            for _ in 0..2 {
                assert_eq!(feed.recv().await.unwrap().unwrap(), "hello");
                feed.handle().connection().unwrap().abort();
            }
        };
        blocking: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let connections = blocking::connections(&client_of(&serving), at_once());
            for ws in connections.take(2) {
                let mut ws = ws.unwrap();
                ws.send("hello").unwrap();
                assert_eq!(ws.recv().unwrap().unwrap(), "hello");
                ws.connection().abort();
            }
        };
    }
    "come back: one connection after the other" {
        blocking: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            for ws in blocking::connections(&client_of(&serving), at_once()).take(2) {
                assert!(ws.unwrap().is_open());
            }
        };
        aio: alone async || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let mut connections = threadwire::aio::connections(&client_of(&serving), at_once());
            for _ in 0..2 {
                assert!(connections.next().await.unwrap().unwrap().is_open());
            }
        };
    }
    "come back: hold messages meanwhile" {
        app: alone || {
            let (_place, addr) = vacant();
            let app = App::new(&format!("ws://{addr}/")).unwrap().reconnect(soon()).hold(100);
            let handle = app.handle();
            assert!(matches!(handle.send("it does not run"), Err(Error::Closed)));
            let peer = thread::spawn(move || {
                while handle.send("held").is_err() {
                    thread::yield_now();
                }
                assert_eq!(handle.held(), 4);
                let mut peer = Host::at(addr).upgrade(b"");
                let texts = [peer.text(), peer.text()];
                handle.send("direct").unwrap();
                assert_eq!(peer.text(), "direct");
                handle.close().unwrap();
                let code = peer.code();
                peer.close(code, "");
                peer.end();
                texts
            });
            let mut app = app.on_open(|ws| ws.send("first")).on_error(|_, _| {});
            assert_eq!(app.run_forever().unwrap().connections, 1);
            assert_eq!(peer.join().unwrap(), ["first", "held"]);
        };
        listener: alone || {
            let (_place, addr) = vacant();
            let client = Client::new(&format!("ws://{addr}/")).unwrap();
            let ws = client.reconnect(soon()).hold(100).start(|_: &Connection, _: Message<'_>| Ok(()));
            ws.send("held").unwrap();
            let peer = thread::spawn(move || Host::at(addr).upgrade(b"").text());
            wait_until(None, || peer.is_finished()).unwrap();
            assert_eq!(peer.join().unwrap(), "held");
        };
        aio: alone async || {
            let (_place, addr) = vacant();
            let client = Client::new(&format!("ws://{addr}/")).unwrap();
            let mut feed = threadwire::aio::reconnect(&client, soon()).hold(100);
            feed.send("held").await.unwrap();
            let receiving = tokio::spawn(async move { feed.recv().await });
            assert_eq!(Host::at(addr).upgrade(b"").text(), "held");
            receiving.abort();
        };
    }
    "come back: from connections that are too slow" {
        app: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let app = App::new(&client_of(&serving)).unwrap().reconnect(at_once().max_attempts(1));
            let (tell, told) = mpsc::channel();
            let app = app.slower_than(Duration::from_nanos(1), 1).on_error(|_, _| {});
            let mut app = app.on_change(move |change| tell.send(change.cause.clone()).unwrap());
            let _ended = app.run_forever();
            assert!(told.try_iter().any(|cause| matches!(cause.as_deref(), Some(Cause::TooSlow { .. }))));
        };
        listener: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let reconnect = client_of(&serving).reconnect(at_once().max_attempts(1));
            // Nothing is that near.
            let ws = reconnect.slower_than(Duration::from_nanos(1), 1);
            let end = ws.start(|_: &Connection, _: Message<'_>| Ok(())).wait_ended().unwrap();
            assert!(matches!(end.cause.as_deref(), Some(Cause::TooSlow { .. })));
        };
        aio: alone async || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let feed = threadwire::aio::reconnect(&client_of(&serving), at_once().max_attempts(1));
            let mut feed = feed.slower_than(Duration::from_nanos(1), 1);
            feed.recv().await.unwrap_err();
            assert!(matches!(feed.handle().last_change().cause.as_deref(), Some(Cause::TooSlow { .. })));
        };
    }
    "come back: be told of each change" {
        blocking: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let (tell, told) = mpsc::channel();
            let connections = blocking::connections(&client_of(&serving), at_once());
            let mut connections = connections.on_change(move |change| tell.send(change.state).unwrap());
            let _ws = connections.next().unwrap().unwrap();
            assert!(told.try_iter().any(|state| state == State::Open));
        };
        app: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let (tell, told) = mpsc::channel();
            let app = App::new(&client_of(&serving)).unwrap().on_open(|ws| ws.close());
            app.on_change(move |change| tell.send(change.state).unwrap()).run_forever().unwrap();
            assert!(told.try_iter().any(|state| state == State::Open));
        };
        listener: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let (tell, told) = mpsc::channel();
            let reconnect = client_of(&serving).reconnect(at_once());
            let reconnect = reconnect.on_change(move |change| tell.send(change.state).unwrap());
            let ws = reconnect.start(|_: &Connection, _: Message<'_>| Ok(()));
            wait_until(None, || told.try_iter().any(|state| state == State::Open)).unwrap();
            ws.stop();
        };
        aio: alone async || {
            let greet = |ws: &Connection, call: &Call| match call {
                Call::Open => ws.send("hello"),
                _ => Ok(()),
            };
            let serving = Serving::recording(patient(), &Log::new(), greet);
            let (tell, told) = mpsc::channel();
            let feed = threadwire::aio::reconnect(&client_of(&serving), at_once());
            let mut feed = feed.on_change(move |change| tell.send(change.state).unwrap());
            feed.recv().await.unwrap();
            assert!(told.try_iter().any(|state| state == State::Open));
        };
    }
    "come back: change an attempt, and forbid it" {
        blocking: alone || {
            let (serving, asked) = asked("X-Name");
            let connections = blocking::connections(&client_of(&serving), at_once());
            let connections = connections.before(|attempt| attempt.header("X-Name", "value"));
            let mut connections = connections.retry_if(|_| false);
            connections.next().unwrap().unwrap().connection().abort();
            assert!(connections.next().unwrap().is_err());
            assert_eq!(asked(), "value");
        };
        listener: alone || {
            let (serving, asked) = asked("X-Name");
            let reconnect = client_of(&serving).reconnect(at_once());
            let reconnect = reconnect.before(|attempt| attempt.header("X-Name", "value")).retry_if(|_| false);
            let ws = reconnect.start(|ws: &Connection, _: Message<'_>| ws.close());
            wait_until(None, || ws.state() == State::Open).unwrap();
            ws.connection().unwrap().abort();
            ws.wait_ended().unwrap();
            assert_eq!(asked(), "value");
        };
        app: alone || {
            let (serving, asked) = asked("X-Name");
            let app = App::new(&client_of(&serving)).unwrap().reconnect(at_once()).retry_if(|_| false);
            let app = app.before(|attempt| attempt.header("X-Name", "value")).on_open(|ws| ws.abort());
            let _ended = app.on_error(|_, _| {}).run_forever();
            assert_eq!(asked(), "value");
        };
        aio: alone async || {
            let (serving, asked) = asked("X-Name");
            let feed = threadwire::aio::reconnect(&client_of(&serving), at_once()).retry_if(|_| false);
            let feed = feed.before(|attempt| attempt.header("X-Name", "value"));
            let mut feed = feed.on_open(|ws| {
                ws.abort();
                Ok(())
            });
            feed.recv().await.unwrap_err();
            assert_eq!(asked(), "value");
        };
    }
}
