//! Threads that are no workers and end with connections, in a program that logs: what their loops do then must not reach a logger whose
//! thread-local is gone, and a panic in `on_close` must not end the process.

use std::cell::{Cell, RefCell};
use std::fmt::{Debug, Write as _};
use std::rc::Rc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::common::peer::{Host, Peer};
use crate::common::process::alone;
use crate::common::{bounded, patient};
use threadwire::reconnect::Backoff;
use threadwire::{Client, Closed, Connection, Listener, blocking, connect, wait_until};

thread_local! {
    /// The line that is being written. Common loggers have such a thread-local, and panic where it is gone.
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes all that is logged into a line.
struct Logger;

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            event.record(&mut Line(line));
        });
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Tells how its connection has ended, logs, and panics.
struct Tells(Sender<u16>);

impl Listener for Tells {
    fn on_close(&mut self, _: &Connection, closed: &Closed) {
        self.0.send(closed.code.get()).unwrap();
        tracing::info!("on_close");
        panic!("in on_close");
    }
}

/// A thread that does this, logs, and ends. Returns the code that the peer was told.
fn end_after(work: impl FnOnce(&str) + Send + 'static) -> u16 {
    let host = Host::listen();
    let url = host.url();
    let host = host.run(|host| {
        let mut peer = host.upgrade(b"");
        let code = peer.code();
        assert!(peer.ended());
        code
    });
    let thread = thread::spawn(move || {
        work(&url);
        // From here on the logger has a thread-local that is younger than that of the loop: it is gone before.
        tracing::info!("about to leave");
    });
    thread.join().unwrap();
    host.join().unwrap()
}

#[test]
fn they_say_goodbye_and_tell_the_code_that_the_peer_was_told() {
    alone(|| {
        bounded(|| {
            tracing::subscriber::set_global_default(Logger).unwrap();
            let (tell, told) = mpsc::channel();

            let tells = tell.clone();
            assert_eq!(end_after(move |url| drop(connect(url, Tells(tells)).unwrap())), 1001);
            assert_eq!(told.recv().unwrap(), 1001);

            // One that is closing keeps the code that it was closed with.
            let tells = tell.clone();
            let code = end_after(move |url| connect(url, Tells(tells)).unwrap().close().unwrap());
            assert_eq!((code, told.recv().unwrap()), (1000, 1000));

            let code = end_after(|url| std::mem::forget(blocking::connect(url).unwrap()));
            assert_eq!(code, 1001);
            assert_eq!(end_after(|url| drop(blocking::connect(url).unwrap())), 1001);

            let tells = tell.clone();
            let code = end_after(move |url| {
                let is_open = Rc::new(Cell::new(false));
                struct Opens(Rc<Cell<bool>>, Tells);
                impl Listener for Opens {
                    fn on_open(&mut self, _: &Connection) -> Result<(), threadwire::Error> {
                        self.0.set(true);
                        Ok(())
                    }
                    fn on_close(&mut self, ws: &Connection, closed: &Closed) {
                        self.1.on_close(ws, closed);
                    }
                }
                let client = Client::new(url).unwrap().config(patient());
                let opens = Opens(Rc::clone(&is_open), Tells(tells));
                client.reconnect(Backoff::default()).start(opens);
                wait_until(None, || is_open.get()).unwrap();
            });
            assert_eq!((code, told.recv().unwrap()), (1001, 1001));

            // A server's connection.
            let (tell, told) = mpsc::channel();
            let thread = thread::spawn(move || {
                let mut server = blocking::Server::bind("127.0.0.1:0").unwrap();
                tell.send(server.local_addr().unwrap()).unwrap();
                let ws = server.accept().unwrap();
                std::mem::forget((server, ws));
                tracing::info!("about to leave");
            });
            let mut peer = Peer::open(told.recv().unwrap(), "/");
            assert_eq!(peer.code(), 1001);
            thread.join().unwrap();
        });
    });
}
