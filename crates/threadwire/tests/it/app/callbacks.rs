//! Callbacks of apps: their order, and how and where a run ends.

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::peer::{CLOSE, Host, PING, PONG, TEXT, farewell, frame, upgraded};
use crate::common::{Serving, bind, bounded, echo, patient};
use crate::examples::echoapp;
use threadwire::app::{self, AppHandle};
use threadwire::error::TimeoutKind;
use threadwire::reconnect::{Backoff, State};
use threadwire::worker::{Ended as WorkerEnded, EventLoop, Worker};
use threadwire::{App, Client, CloseCode, Error, Keepalive, Limits, Reply, sleep, wait_forever, wait_until};

/// The notes of callbacks.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: impl Into<String>) {
        self.0.lock().unwrap().push(note.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, note: &str) -> usize {
        self.all().iter().filter(|other| *other == note).count()
    }

    /// An app with all callbacks, each of which writes down that it was called.
    fn app(&self, url: &str) -> App {
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
fn at_once() -> Backoff {
    Backoff::default().first(Duration::ZERO)
}

/// Waits for so long that no test sees the end of it.
fn in_a_long_time() -> Backoff {
    let far = Duration::from_secs(1 << 40);
    Backoff::default().first(far).cap(far)
}

fn echo_server() -> Serving {
    Serving::with(bind(), |_| Reply::with(echo))
}

/// A URL where nobody listens any more.
fn nobody() -> String {
    format!("ws://{}/", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// A server made by hand that upgrades each of `count` connections, has `serve` do something with it, and takes the other
/// side's close.
fn host(
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
fn a_close_before_the_run_counts_for_it_and_only_for_it() {
    bounded(|| {
        let server = echo_server();
        let notes = Notes::default();
        let mut app = notes.app(&server.url("/")).on_open(|ws| ws.close()).reconnect(at_once());
        let handle = app.handle();
        assert_eq!(handle.state(), None);
        thread::spawn(move || handle.close_with(CloseCode::new(4000), "never mind")).join().unwrap().unwrap();
        let ended = app.run_forever().unwrap();
        assert_eq!((ended.connections, ended.closed.is_none(), notes.all().len()), (0, true, 0));

        assert_eq!(app.run_forever().unwrap().connections, 1);
        assert_eq!(app.run_forever().unwrap().connections, 1);
        assert_eq!(notes.all(), ["close 1000", "close 1000"]);

        app.handle().close().unwrap();
        let ended = app.run_forever().unwrap();
        assert_eq!((ended.connections, ended.closed.is_none()), (0, true), "it is not of the runs before");
    });
}

#[test]
fn a_close_that_can_not_be_sent_is_refused() {
    bounded(|| {
        let handle = App::new("ws://127.0.0.1/").unwrap().handle();
        assert!(matches!(handle.close_with(CloseCode::ABNORMAL, ""), Err(Error::Send(_))));
        assert!(matches!(handle.close_with(CloseCode::NORMAL, &"x".repeat(124)), Err(Error::Send(_))));
    });
}

#[test]
fn a_close_ends_a_wait_between_two_attempts_at_once() {
    bounded(|| {
        let notes = Notes::default();
        let mut app = notes.app(&nobody()).reconnect(in_a_long_time());
        let handle = app.handle();
        let thread = thread::spawn(move || {
            while !matches!(handle.state(), Some(State::Waiting { .. })) {
                thread::yield_now();
            }
            assert!(matches!(handle.send("too early"), Err(Error::Closed)));
            handle.close()
        });
        let ended = app.run_forever().unwrap();
        assert_eq!((ended.connections, notes.all().len()), (0, 1), "the failure was told");
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn a_close_ends_an_attempt_at_once_and_is_no_error() {
    bounded(|| {
        let host = Host::listen();
        let notes = Notes::default();
        let mut app = notes.app(&host.url());
        let handle = app.handle();
        let host = host.run(move |host| {
            let mut peer = host.accept();
            peer.head();
            handle.close().unwrap();
            assert!(peer.ended());
        });
        assert_eq!(app.run_forever().unwrap().connections, 0);
        assert!(notes.all().is_empty());
        host.join().unwrap();
    });
}

#[test]
fn a_close_from_another_thread_goes_behind_what_it_sent() {
    bounded(|| {
        let (url, host) = host(1, |_, peer| {
            assert_eq!((peer.text(), peer.text()), ("one".to_owned(), "two".to_owned()));
            assert_eq!(peer.closed(), (4000, "enough".to_owned()));
            peer.close(4000, "");
        });
        let notes = Notes::default();
        let mut app = notes.app(&url).reconnect(at_once());
        let handle = app.handle();
        let (tell, opened) = mpsc::channel();
        let thread = thread::spawn(move || {
            opened.recv().unwrap();
            assert!(handle.is_open());
            handle.send("one")?;
            handle.send_with("two", threadwire::WhenFull::Wait)?;
            handle.close_with(CloseCode::new(4000), "enough")?;
            assert!(!handle.is_open());
            assert!(matches!(handle.send("three"), Err(Error::Closed)));
            Ok::<_, Error>(())
        });
        app = app.on_open(move |_ws| tell.send(()));
        assert_eq!(app.run_forever().unwrap().closed.unwrap().code, CloseCode::new(4000));
        assert_eq!(notes.all(), ["close 4000"]);
        thread.join().unwrap().unwrap();
        host.join().unwrap();
    });
}

/// Callbacks that close the app.
type Close = fn(App, AppHandle) -> App;

#[test]
fn a_handle_may_close_in_every_callback() {
    bounded(|| {
        let closes: [(&str, Close); 7] = [
            ("on_open", |app, handle| app.on_open(move |_| handle.close())),
            ("on_data", |app, handle| app.on_data(move |_, _| handle.close())),
            ("on_message", |app, handle| app.on_message(move |_, _| handle.close())),
            ("on_ping", |app, handle| app.on_ping(move |_, _| handle.close())),
            ("on_pong", |app, handle| app.on_pong(move |_, _| handle.close())),
            ("on_close", |app, handle| app.on_close(move |_, _| handle.close())),
            ("on_error", |app, handle| app.on_error(move |_, _| handle.close())),
        ];
        for (place, close) in closes {
            let (url, host) = host(1, |_, peer| {
                peer.send(PING, b"");
                peer.send(PONG, b"");
                peer.send(TEXT, b"one");
                peer.end();
                // The peer reads to the end.
                while peer.frame_or_end().is_some() {}
            });
            let notes = Notes::default();
            let app = notes.app(&url).reconnect(in_a_long_time());
            let handle = app.handle();
            let ended = close(app, handle).run_forever().unwrap();
            assert_eq!(ended.connections, 1, "{place}");
            host.join().unwrap();
        }
    });
}

#[test]
fn nothing_arrives_behind_a_close_in_a_callback() {
    bounded(|| {
        let (url, host) = host(1, |_, peer| {
            peer.bytes([frame(TEXT, false, b"one"), frame(TEXT, false, b"two")].concat());
            peer.code();
            peer.close(1000, "");
        });
        let notes = Notes::default();
        let app = notes.app(&url);
        let (handle, heard) = (app.handle(), notes.clone());
        app.on_message(move |_, message| {
            heard.add(format!("message {message}"));
            handle.close()
        })
        .run_forever()
        .unwrap();
        assert_eq!(notes.all(), ["open", "data one", "message one", "close 1000"]);
        host.join().unwrap();
    });
}

#[test]
fn to_abort_is_no_error_either_and_is_followed_by_another_connection_where_it_reconnects() {
    bounded(|| {
        let server = echo_server();
        let notes = Notes::default();
        let ended = notes.app(&server.url("/")).on_open(|ws| ws.abort()).run_forever().unwrap();
        assert!(!ended.closed.unwrap().clean);
        assert_eq!(notes.all(), ["close 1006"]);

        let notes = Notes::default();
        let app = notes.app(&server.url("/")).reconnect(at_once());
        let ended = app.on_open(|ws| ws.abort()).on_reconnect(|ws| ws.close()).run_forever().unwrap();
        assert_eq!(ended.connections, 2);
        assert_eq!(notes.all(), ["close 1006", "close 1000"]);
    });
}

#[test]
fn the_handle_has_the_connection_from_on_open_on_and_until_on_close() {
    bounded(|| {
        let server = echo_server();
        let notes = Notes::default();
        let app = App::new(&server.url("/")).unwrap();
        let (handle, late) = (app.handle(), app.handle());
        let (first, last) = (notes.clone(), notes.clone());
        assert!(handle.connection().is_none());
        app.on_open(move |ws| {
            first.add(format!("{} {}", handle.connection() == Some(ws.handle()), handle.is_open()));
            ws.close()
        })
        .on_close(move |_, _| last.add(format!("{} {}", late.connection().is_none(), late.is_open())))
        .run_forever()
        .unwrap();
        assert_eq!(notes.all(), ["true true", "true false"]);
    });
}

#[test]
fn a_callback_that_is_stopped_while_it_waits_has_not_failed() {
    bounded(|| {
        let server = echo_server();
        let url = server.url("/");
        let notes = Notes::default();
        let heard = notes.clone();
        let (tell, told) = mpsc::channel();
        let running = app::spawn(move || {
            Ok(heard.app(&url).on_open(move |_ws| {
                tell.send(()).unwrap();
                wait_forever()
            }))
        })
        .unwrap();
        told.recv().unwrap();
        running.worker().stop();
        assert!(matches!(running.join(), Err(Error::Stopped)));
        assert_eq!(notes.all(), ["close 1001"]);
    });
}

#[test]
fn a_stop_of_the_worker_ends_the_run_and_on_close_follows() {
    bounded(|| {
        let (url, host) = host(1, |_, peer| {
            assert_eq!(peer.code(), 1001);
            peer.close(1001, "");
        });
        let notes = Notes::default();
        let heard = notes.clone();
        let (tell, told) = mpsc::channel();
        let running =
            app::spawn(move || Ok(heard.app(&url).reconnect(at_once()).on_open(move |_ws| tell.send(()))))
                .unwrap();
        told.recv().unwrap();
        running.worker().stop();
        assert!(matches!(running.join(), Err(Error::Stopped)));
        host.join().unwrap();
        assert_eq!(notes.all(), ["close 1001"]);
    });
}

#[test]
fn a_run_on_a_worker_that_is_stopped_does_not_begin() {
    bounded(|| {
        let worker = Worker::spawn(|| {
            threadwire::worker::current().stop();
            let mut app = App::new("ws://127.0.0.1/").unwrap();
            let results = [app.run_forever(), app.run_forever()];
            assert!(results.iter().all(|result| matches!(result, Err(Error::Stopped))));
            Ok(())
        });
        assert!(matches!(worker.join().unwrap(), WorkerEnded::Done(())));
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

/// Callbacks that fail.
type Fail = fn(App) -> App;

#[test]
fn a_callback_that_fails_is_told_of_and_closes_with_1011() {
    let fails: [(&str, Fail); 8] = [
        ("on_open", |app| app.on_open(|_| Err::<(), _>("on_open"))),
        ("on_data", |app| app.on_data(|_, _| Err::<(), _>("on_data"))),
        ("on_message", |app| app.on_message(|_, _| Err::<(), _>("on_message"))),
        ("on_ping", |app| app.on_ping(|_, _| Err::<(), _>("on_ping"))),
        ("on_pong", |app| app.on_pong(|_, _| Err::<(), _>("on_pong"))),
        ("a callback panicked: on_open", |app| app.on_open(panics("on_open"))),
        ("a callback panicked: on_message", |app| {
            let mut panics = panics("on_message");
            app.on_message(move |ws, _| panics(ws))
        }),
        ("a callback panicked: on_ping", |app| {
            let mut panics = panics("on_ping");
            app.on_ping(move |ws, _| panics(ws))
        }),
    ];
    bounded(move || {
        for (error, fail) in fails {
            let (url, host) = host(1, |_, peer| {
                peer.send(PING, b"");
                peer.send(PONG, b"");
                peer.send(TEXT, b"one");
                while peer.frame_or_end().is_some_and(|(opcode, _)| opcode != CLOSE) {}
                peer.bytes(frame(CLOSE, false, &farewell(1011, "")));
            });
            let notes = Notes::default();
            let Err(Error::Ended(closed)) = fail(notes.app(&url)).run_forever() else {
                panic!("{error}: no end")
            };
            assert_eq!(closed.code, CloseCode::INTERNAL_ERROR, "{error}");
            assert_eq!(closed.error.as_ref().unwrap().to_string(), error);
            let all = notes.all();
            assert_eq!(notes.count(&format!("error: {error}")), 1, "{all:?}");
            assert_eq!(
                (all.iter().filter(|note| note.starts_with("error")).count(), notes.count("close 1011")),
                (1, 1)
            );
            host.join().unwrap();
        }
    });
}

/// A callback that panics.
fn panics(text: &'static str) -> impl FnMut(&threadwire::Connection) {
    move |_ws| {
        if !text.is_empty() {
            panic!("{text}");
        }
    }
}

#[test]
fn a_failure_of_on_close_is_told_of_and_one_of_on_error_does_no_harm() {
    bounded(|| {
        let server = echo_server();
        let notes = Notes::default();
        let mut app =
            notes.app(&server.url("/")).on_open(|ws| ws.close()).on_close(|_, _| Err::<(), _>("on_close"));
        app.run_forever().unwrap();
        assert_eq!(notes.all(), ["error: on_close"]);

        let notes = Notes::default();
        let mut panics = panics("on_error");
        let mut app = notes
            .app(&server.url("/"))
            .on_open(|_| Err::<(), _>("on_open"))
            .on_error(move |ws, _| panics(ws.unwrap()));
        let Err(Error::Ended(closed)) = app.run_forever() else { panic!("no end") };
        assert_eq!(closed.error.as_ref().unwrap().to_string(), "on_open");
        assert_eq!(notes.all(), ["close 1011"]);
    });
}

#[test]
fn to_send_on_a_closed_connection_is_no_failure() {
    bounded(|| {
        let server = echo_server();
        let notes = Notes::default();
        let mut app = notes.app(&server.url("/")).on_open(|ws| {
            ws.close()?;
            ws.send("too late")
        });
        app.run_forever().unwrap();
        assert_eq!(notes.all(), ["close 1000"]);
    });
}

#[test]
fn a_callback_that_fails_may_be_followed_by_another_connection() {
    bounded(|| {
        let server = echo_server();
        let notes = Notes::default();
        let mut app = notes
            .app(&server.url("/"))
            .reconnect(at_once())
            .retry_if(|_| true)
            .on_open(|_| Err::<(), _>("once"))
            .on_reconnect(|ws| ws.close());
        assert_eq!(app.run_forever().unwrap().connections, 2);
        assert_eq!(notes.all(), ["error: once", "close 1011", "close 1000"]);
    });
}

#[test]
fn an_error_that_was_told_in_one_connection_does_not_hide_that_of_the_next() {
    bounded(|| {
        let (url, host) = host(2, |number, peer| match number {
            0 => {
                peer.code();
                peer.close(1011, "");
            }
            _ => peer.end(),
        });
        let notes = Notes::default();
        let mut app = notes
            .app(&url)
            .reconnect(at_once())
            .retry_if(|cause| cause.closed().is_some_and(|closed| closed.code == CloseCode::INTERNAL_ERROR))
            .on_open(|_| Err::<(), _>("once"));
        assert!(matches!(app.run_forever(), Err(Error::Ended(_))));
        let lost = "error: the peer ended the connection without a close frame";
        assert_eq!(notes.all(), ["error: once", "close 1011", "reconnect", lost, "close 1006"]);
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
