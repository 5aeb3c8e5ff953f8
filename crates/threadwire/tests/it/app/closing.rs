//! Closing an app: from callbacks, handles and threads, and by a stop of its worker.

use super::callbacks::{Notes, at_once, echo_server, host, in_a_long_time, nobody};
use crate::common::bounded;
use crate::common::peer::{Host, PING, PONG, TEXT, frame};
use std::sync::mpsc;
use std::thread;
use threadwire::app::{self, AppHandle};
use threadwire::reconnect::State;
use threadwire::worker::{Ended as WorkerEnded, Worker};
use threadwire::{App, CloseCode, Error, wait_forever};

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
