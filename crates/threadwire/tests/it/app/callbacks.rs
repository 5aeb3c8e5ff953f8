//! Callbacks of apps: their order, and how and where a run ends.

use crate::common::peer::{Host, PING, PONG, TEXT, frame, upgraded};
use crate::common::{Serving, bind, bounded, echo, patient};
use crate::examples::echoapp;
use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;
use threadwire::app::{self};
use threadwire::error::TimeoutKind;
use threadwire::reconnect::Backoff;
use threadwire::worker::EventLoop;
use threadwire::{App, Client, CloseCode, Error, Keepalive, Limits, Reply, sleep, wait_until};

/// The notes of callbacks.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(super) fn add(&self, note: impl Into<String>) {
        self.0.lock().unwrap().push(note.into());
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub(super) fn count(&self, note: &str) -> usize {
        self.all().iter().filter(|other| *other == note).count()
    }

    /// An app with all callbacks, each of which writes down that it was called.
    pub(super) fn app(&self, url: &str) -> App {
        let notes = [(); 8].map(|()| self.clone());
        let [open, reconnect, data, message, ping, pong, error, close] = notes;
        let hex = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
        App::new(url)
            .unwrap()
            .config(patient())
            .on_open(move |_ws| open.add("open"))
            .on_reconnect(move |_ws| reconnect.add("reconnect"))
            .on_data(move |_ws, message| data.add(format!("data {message}")))
            .on_message(move |_ws, text| message.add(format!("message {text}")))
            .on_ping(move |_ws, payload| ping.add(format!("ping {}", hex(payload))))
            .on_pong(move |_ws, payload| pong.add(format!("pong {}", hex(payload))))
            .on_error(move |ws, text| {
                error
                    .add(format!("error{}: {text}", if ws.is_some() { "" } else { " without a connection" }));
            })
            .on_close(move |_ws, closed| close.add(format!("close {}", closed.code.get())))
    }
}

/// Tries again at once.
pub(super) fn at_once() -> Backoff {
    Backoff::default().first(Duration::ZERO)
}

/// Waits for so long that no test sees the end of it.
pub(super) fn in_a_long_time() -> Backoff {
    let far = Duration::from_secs(1 << 40);
    Backoff::default().first(far).cap(far)
}

pub(super) fn echo_server() -> Serving {
    Serving::with(bind(), |_| Reply::with(echo))
}

/// A URL where nobody listens any more.
pub(super) fn nobody() -> String {
    format!("ws://{}/", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// A server made by hand that upgrades each of `count` connections, has `serve` do something with it, and takes the other
/// side's close.
pub(super) fn host(
    count: usize,
    serve: impl Fn(usize, &mut crate::common::peer::Peer) + Send + 'static,
) -> (String, thread::JoinHandle<()>) {
    let host = Host::listen();
    let url = host.url();
    let thread = host.run(move |host| {
        for number in 0..count {
            let mut peer = host.upgrade(b"");
            serve(number, &mut peer);
        }
    });
    (url, thread)
}

#[test]
fn closes_in_on_message_and_on_close_is_called_once() {
    bounded(|| {
        let server = echo_server();
        for _ in 0..100 {
            let notes = Notes::default();
            let after = notes.clone();
            let mut app =
                notes.app(&server.url("/")).on_open(|ws| ws.send("hi")).on_message(move |ws, message| {
                    after.add(format!("got {message}"));
                    ws.close()?;
                    after.add("Message received...");
                    Ok::<_, Error>(())
                });
            let ended = app.run_forever().unwrap();
            assert_eq!(notes.all(), ["data hi", "got hi", "Message received...", "close 1000"]);
            let closed = ended.closed.unwrap();
            assert_eq!((closed.code, closed.clean, ended.connections), (CloseCode::NORMAL, true, 1));
        }
    });
}

#[test]
fn closes_in_a_thread_and_on_close_is_called_once() {
    bounded(|| {
        let server = echo_server();
        for _ in 0..100 {
            let notes = Notes::default();
            let (heard, mut app) = (notes.clone(), notes.app(&server.url("/")).on_open(|ws| ws.send("hi")));
            let handle = app.handle();
            app = app.on_message(move |_ws, message| {
                let (notes, text, handle) = (heard.clone(), message.to_string(), handle.clone());
                thread::spawn(move || {
                    notes.add(format!("got {text}"));
                    handle.close().unwrap();
                });
            });
            assert!(app.run_forever().unwrap().closed.unwrap().clean);
            assert_eq!(notes.all(), ["data hi", "got hi", "close 1000"]);
        }
    });
}

#[test]
fn the_example_echoes_three_messages_from_a_thread() {
    bounded(|| {
        let server = echo_server();
        assert_eq!(echoapp::run(&server.url("/")).unwrap(), ["Hello 0", "Hello 1", "Hello 2"]);
        assert!(matches!(echoapp::run(&nobody()), Err(Error::Connect(_))));
    });
}

#[test]
fn callbacks_come_in_order_and_data_before_message() {
    bounded(|| {
        let (url, host) = host(1, |_, peer| {
            peer.send(TEXT, b"one");
            peer.send(PING, b"two");
            assert_eq!(peer.frame(), (PONG, b"two".to_vec()));
            peer.send(PONG, b"three");
            peer.bytes([frame(1, false, b"fo"), frame(0x80, false, b"ur")].concat());
            peer.close(1001, "bye");
            assert_eq!(peer.code(), 1001);
        });
        let notes = Notes::default();
        let ended = notes.app(&url).run_forever().unwrap();
        let expected = [
            "open",
            "data one",
            "message one",
            "ping two",
            "pong three",
            "data four",
            "message four",
            "close 1001",
        ];
        assert_eq!(notes.all(), expected);
        assert_eq!(ended.closed.unwrap().reason, "bye");
        host.join().unwrap();
    });
}

#[test]
fn every_callback_may_be_missing() {
    bounded(|| {
        let (url, host) = host(1, |_, peer| {
            peer.send(TEXT, b"one");
            peer.send(PING, b"two");
            peer.frame();
            peer.send(PONG, b"");
            peer.close(1000, "");
            peer.code();
        });
        assert_eq!(App::new(&url).unwrap().config(patient()).run_forever().unwrap().connections, 1);
        host.join().unwrap();
    });
}

#[test]
fn reconnects_and_tells_of_each_end_between() {
    bounded(|| {
        let (url, host) = host(4, |number, peer| match number {
            0 => {
                // A normal close is no error, and is followed by another connection all the same.
                peer.close(1000, "bye");
                peer.code();
            }
            1 => peer.end(),
            2 => {
                peer.close(1012, "restart");
                peer.code();
            }
            _ => {
                peer.send(TEXT, b"last");
                peer.code();
                peer.close(1000, "");
            }
        });
        let notes = Notes::default();
        let heard = notes.clone();
        let mut app = notes.app(&url).reconnect(at_once()).on_message(move |ws, message| {
            heard.add(format!("message {message}"));
            ws.close()
        });
        let ended = app.run_forever().unwrap();
        let expected = [
            "open",
            "close 1000",
            "reconnect",
            "error: the peer ended the connection without a close frame",
            "close 1006",
            "reconnect",
            "error: closed by the peer with 1012 (service restart): restart",
            "close 1012",
            "reconnect",
            "data last",
            "message last",
            "close 1000",
        ];
        assert_eq!(notes.all(), expected);
        assert_eq!(ended.connections, 4);
        host.join().unwrap();
    });
}

#[test]
fn on_open_stands_in_for_on_reconnect() {
    bounded(|| {
        let (url, host) = host(2, |_, peer| {
            peer.close(1001, "");
            peer.code();
        });
        let opened = Rc::new(Cell::new(0));
        let count = Rc::clone(&opened);
        let mut app = App::new(&url).unwrap().config(patient()).reconnect(at_once()).on_open(move |ws| {
            count.set(count.get() + 1);
            if count.get() == 2 { ws.close() } else { Ok(()) }
        });
        app.run_forever().unwrap();
        assert_eq!(opened.get(), 2);
        host.join().unwrap();
    });
}

#[test]
fn failed_attempts_are_told_of_each_and_the_last_is_the_result() {
    bounded(|| {
        let notes = Notes::default();
        let url = nobody();
        let mut app = notes.app(&url).reconnect(at_once().max_attempts(Some(3)));
        assert!(matches!(app.run_forever(), Err(Error::Connect(_))));
        let told = format!("error without a connection: can't connect to {}", &url[5..url.len() - 1]);
        assert_eq!(notes.all(), [&told, &told, &told].map(String::as_str));
    });
}

#[test]
fn without_reconnect_the_first_end_is_the_end() {
    bounded(|| {
        let notes = Notes::default();
        assert!(matches!(notes.app(&nobody()).run_forever(), Err(Error::Connect(_))));
        assert_eq!(notes.all().len(), 1);

        let (url, host) = host(1, |_, peer| {
            peer.close(1011, "broken");
            peer.code();
        });
        let notes = Notes::default();
        let Err(Error::Ended(closed)) = notes.app(&url).run_forever() else { panic!("not an end") };
        assert_eq!((closed.code, &*closed.reason), (CloseCode::INTERNAL_ERROR, "broken"));
        let error = "error: closed by the peer with 1011 (internal error): broken";
        assert_eq!(notes.all(), ["open", error, "close 1011"]);
        host.join().unwrap();
    });
}

#[test]
fn retry_if_decides_where_it_reconnects() {
    bounded(|| {
        let (url, host) = host(2, |number, peer| {
            peer.close(4000 + number as u16, "");
            peer.code();
        });
        let notes = Notes::default();
        let mut app = notes
            .app(&url)
            .reconnect(at_once())
            .retry_if(|cause| cause.closed().is_some_and(|closed| closed.code == CloseCode::new(4000)));
        let Err(Error::Ended(closed)) = app.run_forever() else { panic!("not an end") };
        assert_eq!(closed.code, CloseCode::new(4001));
        assert_eq!((notes.count("open"), notes.count("reconnect")), (1, 1));
        host.join().unwrap();
    });
}

#[test]
fn the_rest_of_the_thread_goes_on() {
    bounded(|| {
        let server = echo_server();
        let mut app = App::new(&server.url("/")).unwrap();
        let handle = app.handle();
        EventLoop::current().after(Duration::from_millis(1), move || {
            let handle = handle.clone();
            // Another run on the same thread, inside of this one.
            let mut other = App::new(&server.url("/")).unwrap().on_open(|ws| ws.close());
            assert_eq!(other.run_forever().unwrap().connections, 1);
            handle.close().unwrap();
        });
        app.run_forever().unwrap();
    });
}

#[test]
fn keepalive_is_on_if_ping_says_so() {
    bounded(|| {
        let (url, host) = host(1, |_, peer| {
            // The peer never answers.
            assert_eq!(peer.frame().0, PING);
            while peer.frame_or_end().is_some() {}
        });
        let (idle_timeout, reply_timeout) = (Duration::from_millis(1), Duration::from_millis(1));
        let keepalive = Keepalive::default().idle_timeout(idle_timeout).reply_timeout(reply_timeout);
        let notes = Notes::default();
        let Err(Error::Ended(closed)) = notes.app(&url).ping(keepalive).run_forever() else {
            panic!("no end")
        };
        assert!(matches!(closed.error, Some(Error::Timeout(TimeoutKind::Silence { .. }))));
        assert!(notes.all()[1].starts_with("error: the peer was silent"), "{:?}", notes.all());
        host.join().unwrap();
    });
}

#[test]
fn headers_are_made_anew_for_each_attempt() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            for number in 1..=3 {
                let mut peer = host.accept();
                let head = peer.head();
                assert!(head.contains(&format!("\r\nX-Token: {number}\r\n")), "{head}");
                assert!(head.contains("\r\nX-Static: yes\r\n"), "{head}");
                assert!(head.contains(&format!("\r\nX-Before: {number}\r\n")), "{head}");
                if number == 1 {
                    peer.bytes("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
                    continue;
                }
                peer.bytes(upgraded(&head));
                peer.close(1001, "");
                peer.code();
            }
        });
        let (made, seen) = (Cell::new(0), RefCell::new(Vec::new()));
        let client = Client::new(&url).unwrap().header("X-Static", "yes").unwrap();
        let ended = App::new(&client)
            .unwrap()
            .reconnect(at_once().max_attempts(Some(3)))
            .before(move |attempt| {
                seen.borrow_mut().push(attempt.number());
                attempt.header("X-Before", &seen.borrow().len().to_string())
            })
            .headers(move || {
                made.set(made.get() + 1);
                [("X-Token", made.get().to_string())]
            })
            .run_forever()
            .unwrap();
        assert_eq!(ended.connections, 2);
        host.join().unwrap();
    });
}

#[test]
fn headers_that_fail_end_the_run_and_are_told_of_once() {
    bounded(|| {
        let notes = Notes::default();
        let error =
            notes.app(&nobody()).headers(|| Err::<Vec<(String, String)>, _>("no token")).run_forever();
        assert_eq!(error.unwrap_err().to_string(), "no token");
        assert_eq!(notes.all(), ["error without a connection: no token"]);

        let result = App::new("ws://127.0.0.1/").unwrap().headers(|| vec![("Bad Name", "1")]).run_forever();
        assert!(matches!(result, Err(Error::Handshake(_))));

        let made = Cell::new(0);
        let notes = Notes::default();
        let mut app = notes.app(&nobody()).reconnect(at_once()).headers(move || {
            made.set(made.get() + 1);
            assert!(made.get() < 2, "no more");
            [("X-Token", "1")]
        });
        assert!(matches!(app.run_forever(), Err(Error::Panicked(text)) if text.contains("no more")));
        assert_eq!(notes.all().len(), 2, "the failed attempt, and the panic: {:?}", notes.all());
        assert!(notes.all()[1].contains("no more"));
    });
}

#[test]
fn runs_again_with_the_same_callbacks_and_state() {
    bounded(|| {
        let server = echo_server();
        let opened = Rc::new(Cell::new(0));
        let count = Rc::clone(&opened);
        let mut app = App::new(&server.url("/")).unwrap().on_open(move |ws| {
            count.set(count.get() + 1);
            ws.close()
        });
        for run in 1..=3 {
            assert_eq!(app.run_forever().unwrap().connections, 1);
            assert_eq!((opened.get(), app.handle().state(), Rc::strong_count(&opened)), (run, None, 2));
        }
        drop(app);
        assert_eq!(Rc::strong_count(&opened), 1, "nothing is kept");
    });
}

#[test]
fn nothing_is_left_on_the_loop() {
    bounded(|| {
        let server = echo_server();
        let before = EventLoop::current().source_count();
        App::new(&server.url("/")).unwrap().on_open(|ws| ws.close()).run_forever().unwrap();
        App::new(&nobody()).unwrap().run_forever().unwrap_err();
        assert_eq!(EventLoop::current().source_count(), before);
    });
}

#[test]
fn a_callback_may_wait() {
    bounded(|| {
        let server = echo_server();
        let notes = Notes::default();
        let mut app = notes.app(&server.url("/")).on_open(|ws| ws.send("hi"));
        let (handle, waited) = (app.handle(), notes.clone());
        app = app.on_message(move |_ws, _message| {
            EventLoop::current().after(Duration::ZERO, {
                let handle = handle.clone();
                move || handle.close().unwrap()
            });
            assert!(wait_until(None, || !handle.is_open())?);
            sleep(Duration::from_millis(1))?;
            waited.add("waited");
            Ok::<_, Error>(())
        });
        app.run_forever().unwrap();
        assert_eq!(notes.all(), ["data hi", "waited", "close 1000"]);
    });
}

#[test]
fn what_makes_a_spawned_app_may_fail() {
    bounded(|| {
        let running = app::spawn(|| Err(Error::other("no url"))).unwrap();
        assert_eq!(running.join().unwrap_err().to_string(), "no url");
        let running = app::spawn(|| panic!("no app")).unwrap();
        assert!(matches!(running.join(), Err(Error::Panicked(text)) if &*text == "no app"));
    });
}

#[test]
fn a_spawned_app_may_be_closed_before_it_is_made() {
    bounded(|| {
        let (go, wait) = mpsc::channel::<()>();
        let running = app::spawn(move || {
            wait.recv().unwrap();
            App::new("ws://127.0.0.1:9/")
        })
        .unwrap();
        running.handle().close().unwrap();
        go.send(()).unwrap();
        assert_eq!(running.join().unwrap().connections, 0);
    });
}

#[test]
fn settings_of_the_client_are_kept() {
    bounded(|| {
        let server = Serving::with(bind(), |request| {
            let accept = Reply::with(echo);
            if request.path() == "/v2" { accept.subprotocol("v2").unwrap() } else { accept }
        });
        let client = Client::new(&server.url("/v2")).unwrap().subprotocols(["v1", "v2"]).unwrap();
        let limits = Limits::default().max_message(5);
        let client = client.config(patient().limits(limits));
        let agreed = Rc::new(RefCell::new(None));
        let see = Rc::clone(&agreed);
        let mut app = App::new(&client).unwrap().on_open(move |ws| {
            *see.borrow_mut() = ws.subprotocol().map(str::to_owned);
            ws.send("123456")
        });
        let Err(Error::Ended(closed)) = app.run_forever() else { panic!("no end") };
        assert_eq!(closed.code, CloseCode::TOO_BIG);
        assert_eq!(agreed.borrow().as_deref(), Some("v2"));
    });
}
