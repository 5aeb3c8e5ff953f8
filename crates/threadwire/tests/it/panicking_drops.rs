//! Values of the program that panic as they are dropped, on every face: what a panic has raised, errors, listeners, what a closure has. The
//! connection they belong to closes with 1011, and nobody else notices.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::panic::panic_any;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::peer::{Host, Peer, TEXT};
use crate::common::{Serving, bind, bounded, echo, patient, vacant};
use threadwire::reconnect::{Backoff, Cause, State};
use threadwire::worker::EventLoop;
use threadwire::{App, Client, Closed, Connection, Error, Listener, Message, Reply, blocking};

/// Raises another one as it is dropped.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic_any(Bomb)
    }
}

impl StdError for Bomb {}

/// All ways in which a callback can fail with a bomb.
fn fail(how: &str) -> Result<(), Error> {
    match how {
        "panic" => panic_any(Bomb),
        "other" => Err(Error::other(Bomb)),
        "io" => Err(io::Error::other(Bomb).into()),
        _ => Ok(()),
    }
}

const WAYS: [&str; 3] = ["panic", "other", "io"];

/// Does what the message says, and has a bomb of its own.
struct Fails {
    _bomb: Bomb,
}

impl Listener for Fails {
    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        let Message::Text(text) = message else { return Ok(()) };
        match text {
            "timer" => {
                let (ws, bomb) = (ws.clone(), Bomb);
                EventLoop::current().after(Duration::ZERO, move || {
                    let _ = ws.send("rang");
                    let _bomb = bomb;
                });
            }
            "call" => {
                // On this thread it would be run at once.
                let handle = ws.handle();
                std::thread::spawn(move || {
                    handle.run(|ws| {
                        let _ = ws.send("called");
                        panic_any(Bomb);
                    });
                });
            }
            "post" => {
                let _ = EventLoop::current().remote().post(|_| panic_any(Bomb));
                ws.send("posted")?;
            }
            "late" => {
                ws.close()?;
                return fail("other");
            }
            _ => return fail(text),
        }
        Ok(())
    }

    fn on_close(&mut self, _: &Connection, _: &Closed) {
        panic_any(Bomb);
    }
}

fn fall() -> Reply {
    panic_any(Bomb)
}

#[test]
fn a_server_of_listeners_outlives_them() {
    bounded(|| {
        let serving = Serving::with(bind().config(patient()), |request| match request.path() {
            "/echo" => Reply::with(echo),
            "/hook" => fall(),
            // No subprotocol was offered: the listener is never used.
            "/refused" => Reply::with(Fails { _bomb: Bomb }).subprotocol("chat").unwrap(),
            _ => Reply::with(Fails { _bomb: Bomb }),
        });
        let bystander = serving.bystander();
        for way in WAYS {
            let mut peer = serving.peer();
            peer.send(TEXT, way.as_bytes());
            assert_eq!(peer.code(), 1011, "{way}");
            peer.close(1011, "");
            assert!(peer.ended(), "{way}");
        }
        let mut peer = serving.peer();
        for (what, answer) in [("timer", "rang"), ("call", "called"), ("post", "posted")] {
            peer.send(TEXT, what.as_bytes());
            assert_eq!(peer.text(), answer);
        }
        peer.send(TEXT, b"late");
        assert_eq!(peer.code(), 1000);
        drop(peer);
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(crate::common::peer::request("/hook"));
        assert!(peer.head().starts_with("HTTP/1.1 500 "));
        let mut peer = Peer::connect(serving.addr);
        peer.bytes(crate::common::peer::request("/refused"));
        assert!(!peer.head().starts_with("HTTP/1.1 101 "));
        bystander.noticed_nothing();
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
    });
}

#[test]
fn the_last_to_hold_an_end_may_be_anybody() {
    bounded(|| {
        let serving = Serving::with(bind().config(patient()), |_| Reply::with(Fails { _bomb: Bomb }));
        for way in WAYS {
            let (tell, told) = mpsc::channel();
            let mut ws = blocking::connect(&serving.url("/")).unwrap();
            ws.send(way).unwrap();
            assert!(ws.recv().is_err(), "it is told that the server failed");
            // On this side, too: the error is in the end that a handle keeps.
            struct Here(&'static str, mpsc::Sender<threadwire::Handle>);
            impl Listener for Here {
                fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
                    self.1.send(ws.handle()).unwrap();
                    fail(self.0)
                }
            }
            let ws = Client::new(&serving.url("/")).unwrap().connect(Here(way, tell)).unwrap();
            let closed = ws.wait_closed().unwrap();
            assert!(closed.error.is_some());
            assert!(!closed.to_string().is_empty(), "it can be printed, though its error can't");
            drop((closed, ws));
            let handle = told.recv().unwrap();
            drop(handle);
        }
    });
}

#[test]
fn a_blocking_server_outlives_them() {
    bounded(|| {
        let serving = blocking::Server::bind("127.0.0.1:0").unwrap().config(patient());
        let serving = serving
            .serve(1, |ws| {
                while let Some(message) = ws.recv()? {
                    fail(message.as_text().unwrap_or_default())?;
                    ws.send(&message)?;
                }
                Ok(())
            })
            .unwrap();
        let addr = serving.local_addr().unwrap();
        for way in WAYS {
            let mut peer = Peer::open(addr, "/");
            peer.send(TEXT, way.as_bytes());
            assert_eq!(peer.code(), 1011, "{way}");
            peer.close(1011, "");
        }
        let mut peer = Peer::open(addr, "/");
        peer.send(TEXT, b"still there");
        assert_eq!(peer.text(), "still there");
        peer.close(1000, "");
        serving.stop();
        serving.join().unwrap();
    });
}

/// Goes on at once, and not for long.
fn at_once() -> Backoff {
    Backoff::default().first(Duration::ZERO).max_attempts(2)
}

#[test]
fn reconnecting_outlives_them() {
    bounded(|| {
        let (_taken, nobody) = vacant();
        let url = format!("ws://{nobody}");
        let bomb = || {
            let bomb = Bomb;
            move |_: &Connection, _: Message<'_>| {
                let _ = &bomb;
                Ok(())
            }
        };
        let reconnect = || Client::new(&url).unwrap().reconnect(at_once());
        let handle = reconnect().retry_if(|_: &Cause| panic_any(Bomb)).start(bomb());
        assert_eq!(handle.wait_ended().unwrap().state, State::GaveUp);
        for way in WAYS {
            let handle = reconnect().before(move |_| fail(way)).start(bomb());
            assert_eq!(handle.wait_ended().unwrap().state, State::GaveUp);
        }
        let handle = reconnect().on_change(|_| panic_any(Bomb)).start(bomb());
        assert_eq!(handle.wait_ended().unwrap().state, State::GaveUp);
        // The loop is still there.
        threadwire::update().unwrap();
    });
}

#[test]
fn an_app_outlives_them() {
    bounded(|| {
        for way in WAYS {
            let host = Host::listen();
            let url = host.url();
            let peers = host.run(|host| {
                let mut peer = host.upgrade(b"");
                peer.send(TEXT, b"now");
                assert_eq!(peer.code(), 1011);
                peer.close(1011, "");
            });
            let ended = App::new(&url)
                .unwrap()
                .on_message(move |_, _| fail(way))
                .on_error(move |_, _| fail(way))
                .on_close(move |_, _| fail(way))
                .run_forever();
            assert!(ended.is_ok() || ended.is_err());
            std::mem::forget(ended);
            peers.join().unwrap();
        }
    });
}

#[cfg(feature = "aio")]
mod aio {
    use super::*;
    use crate::common::tasks::{join, on_runtimes};
    use threadwire::aio;

    #[test]
    fn a_server_of_tasks_outlives_them() {
        on_runtimes(|| async {
            let server = aio::Server::bind("127.0.0.1:0").await.unwrap();
            let url = format!("ws://{}", server.local_addr().unwrap());
            let serving = tokio::spawn(server.serve(|_request, mut ws| async move {
                while let Ok(Some(message)) = ws.recv().await {
                    if message == "panic" {
                        panic_any(Bomb);
                    }
                    ws.send(&message).await.unwrap();
                }
            }));
            let mut good = aio::connect(&url).await.unwrap();
            for _ in 0..4 {
                let mut bad = aio::connect(&url).await.unwrap();
                bad.send("panic").await.unwrap();
                let Err(Error::Ended(closed)) = bad.recv().await else { panic!("it went well") };
                assert_eq!(closed.code.get(), 1011);
            }
            good.send("hello").await.unwrap();
            assert_eq!(good.recv().await.unwrap().unwrap(), "hello");
            serving.abort();
        });
    }

    #[test]
    fn reconnecting_outlives_them() {
        on_runtimes(|| async {
            let (_taken, nobody) = vacant();
            let url = format!("ws://{nobody}");
            for way in WAYS {
                let mut feed = aio::reconnect(&url, at_once()).before(move |_| fail(way));
                std::mem::forget(feed.recv().await.unwrap_err());
                let host = Host::listen();
                let mut feed = aio::reconnect(&host.url(), at_once()).on_open(move |_| fail(way));
                let peers = host.run(|host| {
                    let mut peer = host.upgrade(b"");
                    assert_eq!(peer.code(), 1011);
                    peer.close(1011, "");
                });
                std::mem::forget(feed.recv().await.unwrap_err());
                join(peers).await;
            }
            let mut feed = aio::reconnect(&url, at_once()).retry_if(|_| panic_any(Bomb));
            assert!(feed.recv().await.is_err());
            let mut feed = aio::reconnect(&url, at_once()).on_change(|_| panic_any(Bomb));
            assert!(feed.recv().await.is_err());
        });
    }
}
