//! Reconnecting on every driver: what one can, the other can, by the same rules.

use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::faces::{DRIVERS, Face};
use crate::common::peer::{Host, TEXT};
use crate::common::{Serving, bind, bounded, echo, ignore, patient, vacant};
use threadwire::error::LimitKind;
use threadwire::reconnect::{Backoff, Cause, Change, ReconnectHandle, State};
use threadwire::{Client, Compress, Config, Error, Reply, SendOptions, WhenFull};

/// What is set up alike on all faces.
#[derive(Clone)]
struct Setup {
    backoff: Backoff,
    config: Config,
    hold: Option<usize>,
    slower_than: Option<(Duration, usize)>,
    /// Each connection sends this first.
    subscribes: bool,
    /// The states that were told of.
    states: Arc<Mutex<Vec<String>>>,
}

impl Setup {
    /// Tries again soon.
    fn new() -> Setup {
        Setup {
            backoff: Backoff::default().first(Duration::from_millis(1)).cap(Duration::from_millis(1)),
            config: patient(),
            hold: None,
            slower_than: None,
            subscribes: false,
            states: Arc::default(),
        }
    }

    fn states(&self) -> Vec<String> {
        self.states.lock().unwrap().clone()
    }
}

/// The handle of a face.
trait Feed: Send {
    fn send(&self, text: &str) -> Result<(), Error>;
    fn send_with(&self, text: &str, options: SendOptions) -> Result<(), Error>;
    fn held(&self) -> usize;
    fn close(&self);
}

macro_rules! feed {
    ($handle:ty) => {
        impl Feed for $handle {
            fn send(&self, text: &str) -> Result<(), Error> {
                <$handle>::send(self, text)
            }

            fn send_with(&self, text: &str, options: SendOptions) -> Result<(), Error> {
                <$handle>::send_with(self, text, options)
            }

            fn held(&self) -> usize {
                <$handle>::held(self)
            }

            fn close(&self) {
                <$handle>::close(self).unwrap();
            }
        }
    };
}

feed!(ReconnectHandle);
#[cfg(feature = "aio")]
feed!(threadwire::aio::ReconnectHandle);

/// A change in a few words. How long a wait takes is left to chance.
fn brief(change: &Change) -> String {
    match change.state {
        State::Waiting { attempt, .. } => format!("waiting for attempt {attempt}"),
        state => state.to_string(),
    }
}

/// Starts on a thread of its own, which returns the end.
fn start(face: Face, url: String, setup: &Setup) -> (Box<dyn Feed>, JoinHandle<Change>) {
    let setup = setup.clone();
    let (tell, told) = mpsc::channel::<Box<dyn Feed>>();
    let thread = thread::spawn(move || {
        let client = Client::new(&url).unwrap().config(setup.config);
        let states = setup.states;
        let on_change = move |change: &Change| states.lock().unwrap().push(brief(change));
        match face {
            Face::Listener => {
                let mut reconnect = client.reconnect(setup.backoff).on_change(on_change);
                if let Some(bytes) = setup.hold {
                    reconnect = reconnect.hold(bytes);
                }
                if let Some((slowest, rounds)) = setup.slower_than {
                    reconnect = reconnect.slower_than(slowest, rounds);
                }
                let listener = crate::common::recorder::Log::new().listener(move |ws, call| match call {
                    crate::common::recorder::Call::Open if setup.subscribes => ws.send("subscribe"),
                    call => ignore(ws, call),
                });
                let handle = reconnect.start(listener);
                tell.send(Box::new(handle.clone())).unwrap();
                handle.wait_ended().unwrap()
            }
            #[cfg(feature = "aio")]
            Face::Aio => crate::common::tasks::single().block_on(async {
                let mut feed = threadwire::aio::reconnect(&client, setup.backoff).on_change(on_change);
                if let Some(bytes) = setup.hold {
                    feed = feed.hold(bytes);
                }
                if let Some((slowest, rounds)) = setup.slower_than {
                    feed = feed.slower_than(slowest, rounds);
                }
                if setup.subscribes {
                    feed = feed.on_open(|ws| ws.send("subscribe"));
                }
                let handle = feed.handle();
                tell.send(Box::new(handle.clone())).unwrap();
                while let Ok(Some(_)) = feed.recv().await {}
                handle.last_change()
            }),
            face => panic!("{face:?} drives no connections"),
        }
    });
    (told.recv().unwrap(), thread)
}

#[test]
fn every_state_is_told_of_in_order() {
    bounded(|| {
        for &face in DRIVERS {
            let host = Host::listen();
            let url = host.url();
            let (opened, is_open) = mpsc::channel();
            let host = host.run(move |host| {
                let mut peer = host.accept();
                peer.head();
                peer.bytes("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
                let mut peer = host.upgrade(b"");
                assert_eq!(peer.text(), "subscribe");
                peer.close(1001, "restart");
                assert_eq!(peer.code(), 1001);
                drop(peer);
                let mut peer = host.upgrade(b"");
                peer.send(TEXT, b"hello");
                assert_eq!(peer.text(), "subscribe");
                opened.send(()).unwrap();
                assert_eq!(peer.code(), 1000);
                peer.close(1000, "");
            });
            let setup = Setup { subscribes: true, ..Setup::new() };
            let (feed, thread) = start(face, url, &setup);
            is_open.recv().unwrap();
            feed.close();
            let end = thread.join().unwrap();
            host.join().unwrap();
            let expected = [
                "connecting (attempt 1)",
                "waiting for attempt 2",
                "connecting (attempt 2)",
                "open",
                "closed",
                "waiting for attempt 3",
                "connecting (attempt 3)",
                "open",
                "closed",
                "stopped",
            ];
            assert_eq!(setup.states(), expected, "{face:?}");
            assert_eq!((end.state, end.connections), (State::Stopped, 2));
        }
    });
}

#[test]
fn the_offline_queue_leaves_in_order_behind_what_subscribes() {
    bounded(|| {
        for &face in DRIVERS {
            let (_place, addr) = vacant();
            let setup = Setup { hold: Some(100), subscribes: true, ..Setup::new() };
            let (feed, thread) = start(face, format!("ws://{addr}/"), &setup);
            feed.send("one").unwrap();
            feed.send_with("two", WhenFull::DropNewest.into()).unwrap();
            feed.send_with("three", Compress::Never.into()).unwrap();
            assert_eq!(feed.held(), 11);
            let full = feed.send(&"x".repeat(90));
            let is_full = |error: &Error| matches!(error, Error::Limit(it) if it.kind == LimitKind::Held);
            assert!(full.is_err_and(|error| is_full(&error)), "{face:?}");
            let mut peer = Host::at(addr).upgrade(b"");
            for expected in ["subscribe", "one", "two", "three"] {
                assert_eq!(peer.text(), expected, "{face:?}");
            }
            feed.send_with("four", WhenFull::DropOldest.into()).unwrap();
            assert_eq!((peer.text(), feed.held()), ("four".to_owned(), 0));
            feed.close();
            assert!(matches!(feed.send("too late"), Err(Error::Closed)));
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
            drop(peer);
            assert_eq!(thread.join().unwrap().state, State::Stopped);
        }
    });
}

#[test]
fn more_may_be_held_than_a_connection_takes_at_once() {
    bounded(|| {
        for &face in DRIVERS {
            let (_place, addr) = vacant();
            let setup = Setup { hold: Some(100_000), config: patient().max_buffered(100), ..Setup::new() };
            let (feed, thread) = start(face, format!("ws://{addr}/"), &setup);
            let padding = "x".repeat(40);
            for number in 0..1000 {
                feed.send(&format!("{number}{padding}")).unwrap();
            }
            let mut peer = Host::at(addr).upgrade(b"");
            for number in 0..1000 {
                assert_eq!(peer.text(), format!("{number}{padding}"), "{face:?}");
            }
            feed.close();
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
            drop(peer);
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_connection_that_is_slower_than_it_may_be_is_opened_anew() {
    bounded(|| {
        for &face in DRIVERS {
            let server = Serving::with(bind().config(patient()), |_| Reply::with(echo));
            let backoff = Setup::new().backoff.max_attempts(3);
            // Nothing is that near.
            let slower_than = Some((Duration::from_nanos(1), 3));
            let setup = Setup { backoff, slower_than, ..Setup::new() };
            let (_feed, thread) = start(face, server.url("/"), &setup);
            let end = thread.join().unwrap();
            assert_eq!((end.state, end.connections), (State::GaveUp, 3), "{face:?}");
            assert!(matches!(end.cause.as_deref(), Some(Cause::TooSlow { .. })), "{face:?}");

            // Anything is near enough.
            let slower_than = Some((Duration::from_secs(1000), 3));
            let setup = Setup { slower_than, hold: Some(100), ..Setup::new() };
            let (feed, thread) = start(face, server.url("/"), &setup);
            feed.send("hello").unwrap();
            while !setup.states().contains(&"open".to_owned()) {
                thread::yield_now();
            }
            feed.close();
            let end = thread.join().unwrap();
            assert_eq!((end.state, end.connections), (State::Stopped, 1), "{face:?}");
        }
    });
}
