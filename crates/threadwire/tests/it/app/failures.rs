//! Failing callbacks of an app: errors and panics.

use super::callbacks::{Notes, at_once, echo_server, host};
use crate::common::bounded;
use crate::common::peer::{CLOSE, PING, PONG, TEXT, farewell, frame};
use threadwire::{App, CloseCode, Error};

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
