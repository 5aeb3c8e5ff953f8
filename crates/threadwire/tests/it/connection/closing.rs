//! Close handshake from both sides, and loss: `on_close` is called once, last, with the right outcome.

use crate::common::peer::{
    BINARY, CLOSE, Host, PING, PONG, Peer, TEXT, farewell, frame, masked, request, upgraded,
};
use crate::common::recorder::{Call, End, Log};
use crate::common::sharing::pair;
use crate::common::{SOON, Serving, bind, bounded, echo, ignore, patient};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use threadwire::error::TimeoutKind;
use threadwire::worker::EventLoop;
use threadwire::{
    Client, CloseCode, Closed, Config, Connection, Error, Initiator, Listener, Message, Reply, blocking,
    update, wait_until,
};

const TOO_LONG: &str = "the peer's answer to our close frame took too long";
const LOST: &str = "the peer ended the connection without a close frame";

/// A close of this side that was not answered.
fn unanswered(error: &str) -> End {
    End { reason: "done".to_owned(), ..broken(Initiator::Local, Some(error)) }
}

/// An end that nobody began in an orderly way.
pub(super) fn broken(initiator: Initiator, error: Option<&str>) -> End {
    let error = error.map(str::to_owned);
    End { code: 1006, reason: String::new(), initiator, clean: false, error }
}

/// A connection of a server: what the server does, what the peer does, and how it ends.
fn server<F>(config: Config, react: F, peer: impl FnOnce(Peer) + Send + 'static, expected: End)
where
    F: Fn(&Connection, &Call) -> Result<(), Error> + Clone + Send + Sync + 'static,
{
    bounded(move || {
        let log = Log::new();
        let serving = Serving::recording(config, &log, react);
        peer(serving.peer());
        assert_eq!(log.wait_end(), expected);
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
        assert_eq!(log.ends(), 1);
        assert!(
            matches!(log.calls().last(), Some(Call::Closed(_))),
            "calls after on_close: {:?}",
            log.calls()
        );
    });
}

/// A connection of a client: the same.
fn client(
    config: Config,
    react: impl FnMut(&Connection, &Call) -> Result<(), Error> + Send + 'static,
    peer: impl FnOnce(Peer) + Send + 'static,
    expected: End,
) {
    bounded(move || {
        let log = Log::new();
        let (ws, host) = connect(config, &log, react, peer);
        wait_until(None, || log.end().is_some()).unwrap();
        assert_eq!(log.wait_end(), expected);
        assert!(!ws.is_open());
        host.join().unwrap();
        // Nothing more comes, whatever still lies about.
        update().unwrap();
        drop(ws);
        update().unwrap();
        assert_eq!(log.ends(), 1);
        assert!(
            matches!(log.calls().last(), Some(Call::Closed(_))),
            "calls after on_close: {:?}",
            log.calls()
        );
    });
}

/// Connects to a server that is made by hand.
pub(super) fn connect(
    config: Config,
    log: &Log,
    react: impl FnMut(&Connection, &Call) -> Result<(), Error> + 'static,
    peer: impl FnOnce(Peer) + Send + 'static,
) -> (Connection, JoinHandle<()>) {
    let host = Host::listen();
    let url = host.url();
    let host = host.run(|host| peer(host.upgrade(b"")));
    let ws = Client::new(&url).unwrap().config(config).connect(log.listener(react)).unwrap();
    (ws, host)
}

/// Does what messages say.
pub(super) fn obey(ws: &Connection, call: &Call) -> Result<(), Error> {
    match call {
        Call::Text(text) if text == "close" => ws.close_with(CloseCode::new(4000), "done"),
        Call::Text(text) if text == "abort" => {
            ws.abort();
            Ok(())
        }
        Call::Text(text) if text == "close later" => {
            let ws = ws.clone();
            EventLoop::current()
                .after(Duration::ZERO, move || ws.close_with(CloseCode::new(4000), "done").unwrap());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Says hello.
fn greet(ws: &Connection, call: &Call) -> Result<(), Error> {
    if *call == Call::Open { ws.send("hello") } else { Ok(()) }
}

/// Closes at once.
fn close_when_open(ws: &Connection, call: &Call) -> Result<(), Error> {
    if *call == Call::Open { ws.close_with(CloseCode::new(4000), "done") } else { Ok(()) }
}

/// A server's peer that has asked for the end, and answers.
fn answer_as_client(mut peer: Peer) {
    assert_eq!(peer.closed(), (4000, "done".to_owned()));
    peer.close(4001, "fine");
    assert!(peer.ended_orderly());
}

/// The same for a client's peer, which ends TCP first.
fn answer_as_server(mut peer: Peer) {
    assert_eq!(peer.closed(), (4000, "done".to_owned()));
    peer.close(4001, "fine");
    peer.end();
    assert!(peer.ended());
}

#[test]
fn closes_once_when_closed_in_a_callback() {
    let end = || End::clean(Initiator::Local, 4001, "fine");
    let ask = |mut peer: Peer| {
        peer.send(TEXT, b"close");
        peer
    };
    server(patient(), obey, move |peer| answer_as_client(ask(peer)), end());
    client(patient(), obey, move |peer| answer_as_server(ask(peer)), end());
}

#[test]
fn closes_once_when_closed_in_on_open() {
    server(patient(), close_when_open, answer_as_client, End::clean(Initiator::Local, 4001, "fine"));
    client(patient(), close_when_open, answer_as_server, End::clean(Initiator::Local, 4001, "fine"));
}

#[test]
fn closes_once_when_closed_by_a_timer() {
    let end = || End::clean(Initiator::Local, 4001, "fine");
    let ask = |mut peer: Peer| {
        peer.send(TEXT, b"close later");
        peer
    };
    server(patient(), obey, move |peer| answer_as_client(ask(peer)), end());
    client(patient(), obey, move |peer| answer_as_server(ask(peer)), end());
}

#[test]
fn closes_once_when_closed_outside_of_callbacks() {
    bounded(|| {
        let log = Log::new();
        let (ws, host) = connect(patient(), &log, ignore, answer_as_server);
        ws.close_with(CloseCode::new(4000), "done").unwrap();
        assert!(!ws.is_open());
        wait_until(None, || log.end().is_some()).unwrap();
        assert_eq!(log.wait_end(), End::clean(Initiator::Local, 4001, "fine"));
        host.join().unwrap();
    });
}

#[test]
fn echoes_the_code_of_the_peer_and_not_its_reason() {
    for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
        let end = || End::clean(Initiator::Peer, code, "bye");
        let leave = move |mut peer: Peer| {
            peer.close(code, "bye");
            assert_eq!(peer.closed(), (code, String::new()));
            peer
        };
        server(patient(), ignore, move |peer| assert!(leave(peer).ended_orderly()), end());
        client(patient(), ignore, move |peer| drop(leave(peer)), end());
    }
}

#[test]
fn answers_a_close_frame_without_a_code_with_one_without_a_code() {
    let leave = |mut peer: Peer| {
        peer.send(CLOSE, b"");
        assert_eq!(peer.closed(), (1005, String::new()));
        peer
    };
    server(
        patient(),
        ignore,
        move |peer| assert!(leave(peer).ended_orderly()),
        End::clean(Initiator::Peer, 1005, ""),
    );
    client(patient(), ignore, move |peer| drop(leave(peer)), End::clean(Initiator::Peer, 1005, ""));
}

#[test]
fn both_sides_may_close_at_once() {
    // The peer's close frame lies behind the message that makes us close: the frames cross.
    let cross = |mut peer: Peer, masked: bool| {
        let close = frame(CLOSE, masked, &farewell(1001, "me too"));
        peer.bytes([frame(TEXT, masked, b"close"), close].concat());
        assert_eq!(peer.closed(), (4000, "done".to_owned()));
        peer
    };
    let end = || End::clean(Initiator::Local, 1001, "me too");
    server(patient(), obey, move |peer| assert!(cross(peer, true).ended_orderly()), end());
    client(patient(), obey, move |peer| drop(cross(peer, false)), end());
}

#[test]
fn what_was_sent_before_closing_arrives_before_the_close_frame() {
    let react = |ws: &Connection, call: &Call| {
        if let Call::Text(_) = call {
            ws.send("small")?;
            ws.send(&vec![7; 1 << 20])?;
            ws.send("last")?;
            ws.close()?;
        }
        Ok(())
    };
    let read = |mut peer: Peer| {
        peer.send(TEXT, b"go");
        assert_eq!(peer.text(), "small");
        assert_eq!(peer.frame(), (BINARY, vec![7; 1 << 20]));
        assert_eq!(peer.text(), "last");
        assert_eq!(peer.code(), 1000);
        peer.close(1000, "");
    };
    server(patient(), react, read, End::clean(Initiator::Local, 1000, ""));
    client(patient(), react, read, End::clean(Initiator::Local, 1000, ""));
}

#[test]
fn an_aborted_connection_ends_without_a_close_frame() {
    let ask = |mut peer: Peer| {
        peer.send(TEXT, b"abort");
        assert!(peer.ended());
    };
    server(patient(), obey, ask, broken(Initiator::Local, None));
    client(patient(), obey, ask, broken(Initiator::Local, None));
}

#[test]
fn a_connection_that_the_peer_drops_is_lost() {
    server(
        patient(),
        greet,
        |mut peer| assert_eq!(peer.text(), "hello"),
        broken(Initiator::Peer, Some(LOST)),
    );
    client(
        patient(),
        greet,
        |mut peer| assert_eq!(peer.text(), "hello"),
        broken(Initiator::Peer, Some(LOST)),
    );
}

#[test]
fn a_connection_that_the_peer_resets_is_broken() {
    let error = Some("connection reset by peer");
    let leave = |mut peer: Peer| {
        assert_eq!(peer.text(), "hello");
        peer.reset();
    };
    server(patient(), greet, leave, broken(Initiator::Peer, error));
    client(patient(), greet, leave, broken(Initiator::Peer, error));
}

#[test]
fn a_peer_that_drops_tcp_instead_of_answering_is_lost() {
    let leave = |mut peer: Peer| {
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 4000);
    };
    server(patient(), obey, leave, unanswered(LOST));
    client(patient(), obey, leave, unanswered(LOST));
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    let config = || patient().close_timeout(SOON);
    let stay = |mut peer: Peer| {
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 4000);
        assert!(peer.ended());
    };
    server(config(), obey, stay, unanswered(TOO_LONG));
    client(config(), obey, stay, unanswered(TOO_LONG));
}

#[test]
fn a_server_that_answers_and_does_not_end_tcp_is_given_up_after_a_clean_close() {
    let stay = |mut peer: Peer| {
        peer.close(1000, "bye");
        assert_eq!(peer.code(), 1000);
        assert!(peer.ended());
    };
    client(patient().close_timeout(SOON), ignore, stay, End::clean(Initiator::Peer, 1000, "bye"));
}

#[test]
fn a_server_that_breaks_the_protocol_is_told() {
    let masks = |mut peer: Peer| {
        peer.bytes(masked(TEXT, b"I am no client"));
        assert_eq!(peer.closed(), (1002, "a server's frame is masked".to_owned()));
        assert!(peer.ended_orderly());
    };
    let error = "the peer broke the protocol: a server's frame is masked (RFC 6455, section 5.1)";
    let end = End::failed(Initiator::Local, 1002, false, error);
    client(patient(), ignore, masks, End { reason: "a server's frame is masked".to_owned(), ..end });
}

#[test]
fn a_panic_in_a_clients_callback_closes_with_1011() {
    let react = |_: &Connection, call: &Call| match call {
        Call::Text(_) => panic!("boom"),
        _ => Ok(()),
    };
    let answer = |mut peer: Peer| {
        peer.send(TEXT, b"now");
        assert_eq!(peer.code(), 1011);
        peer.close(1011, "");
    };
    client(patient(), react, answer, End::failed(Initiator::Local, 1011, true, "a callback panicked: boom"));
}

#[test]
fn writing_to_a_peer_that_is_gone_ends_once() {
    // Sends from a timer again and again, whatever comes of it.
    fn nag(ws: &Connection) {
        if ws.send(&vec![1; 20_000]).is_ok() {
            let ws = ws.clone();
            EventLoop::current().after(Duration::ZERO, move || nag(&ws));
        }
    }
    let react = |ws: &Connection, call: &Call| {
        if *call == Call::Open {
            nag(ws);
        }
        Ok(())
    };
    let leave = |mut peer: Peer| {
        assert_eq!(peer.frame().0, BINARY);
        peer.reset();
    };
    for is_client in [false, true] {
        bounded(move || {
            let log = Log::new();
            if is_client {
                let (_, host) = connect(patient(), &log, react, leave);
                wait_until(None, || log.end().is_some()).unwrap();
                host.join().unwrap();
            } else {
                let serving = Serving::recording(patient(), &log, react);
                leave(serving.peer());
            }
            let end = log.wait_end();
            assert_eq!((end.code, end.clean), (1006, false));
            assert!(end.error.is_some());
            assert_eq!(log.calls().len(), 2);
        });
    }
}

#[test]
fn refuses_codes_that_must_not_be_sent_without_effect() {
    bounded(|| {
        let log = Log::new();
        let echo_once = |mut peer: Peer| {
            assert_eq!(peer.text(), "still here");
            assert_eq!(peer.closed(), (4000, "r".repeat(123)));
            peer.close(4000, "");
        };
        let (ws, host) = connect(patient(), &log, ignore, echo_once);
        for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            let refused = ws.close_with(CloseCode::new(code), "");
            assert!(matches!(refused, Err(Error::Send(_))), "{code}: {refused:?}");
            assert!(ws.is_open());
        }
        ws.send("still here").unwrap();
        ws.close_with(CloseCode::new(4000), &"r".repeat(123)).unwrap();
        wait_until(None, || log.end().is_some()).unwrap();
        host.join().unwrap();
    });
}

#[test]
fn nothing_is_sent_after_closing() {
    bounded(|| {
        let log = Log::new();
        let only_a_close_frame = |mut peer: Peer| {
            assert_eq!(peer.code(), 1000);
            // Pings are not answered any more either.
            peer.send(PING, b"there?");
            peer.send(TEXT, b"there?");
            peer.close(1000, "");
            peer.end();
            assert!(peer.ended());
        };
        let (ws, host) = connect(patient(), &log, ignore, only_a_close_frame);
        let refuses = || {
            assert!(matches!(ws.send("late"), Err(Error::Closed)));
            assert!(matches!(ws.send(&vec![0; 100_000]), Err(Error::Closed)));
            assert!(matches!(ws.ping(b""), Err(Error::Closed)));
            assert!(matches!(ws.pong(b""), Err(Error::Closed)));
            // Closing again is no mistake, and does nothing.
            ws.close().unwrap();
            ws.close_with(CloseCode::new(4000), "again").unwrap();
        };
        ws.close().unwrap();
        refuses();
        wait_until(None, || log.end().is_some()).unwrap();
        refuses();
        ws.flush();
        ws.abort();
        assert_eq!(ws.buffered(), 0);
        assert!(ws.peer_addr().is_err() && ws.local_addr().is_err());
        update().unwrap();
        assert_eq!(log.calls(), [Call::Open, Call::Closed(End::clean(Initiator::Local, 1000, ""))]);
        host.join().unwrap();
    });
}

#[test]
fn on_close_may_call_everything() {
    let react = |ws: &Connection, call: &Call| {
        if let Call::Closed(_) = call {
            assert!(!ws.is_open());
            assert!(matches!(ws.send("late"), Err(Error::Closed)));
            ws.close().unwrap();
            ws.abort();
            ws.flush();
            threadwire::sleep(Duration::from_millis(1)).unwrap();
        }
        Ok(())
    };
    let leave = |mut peer: Peer| {
        peer.close(1000, "");
        assert_eq!(peer.code(), 1000);
    };
    server(patient(), react, leave, End::clean(Initiator::Peer, 1000, ""));
    client(patient(), react, leave, End::clean(Initiator::Peer, 1000, ""));
}

#[test]
fn a_connection_needs_nobody_to_hold_it() {
    bounded(|| {
        let log = Log::new();
        let talk = |mut peer: Peer| {
            peer.send(TEXT, b"hello");
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
        };
        let (ws, host) = connect(patient(), &log, ignore, talk);
        drop(ws);
        wait_until(None, || log.end().is_some()).unwrap();
        let end = Call::Closed(End::clean(Initiator::Peer, 1000, ""));
        assert_eq!(log.calls(), [Call::Open, Call::text("hello"), end]);
        host.join().unwrap();
    });
}

#[test]
fn the_error_of_the_end_has_its_kind() {
    bounded(|| {
        let kinds = Rc::new(RefCell::new(Vec::new()));
        struct Keeper(Rc<RefCell<Vec<Option<Error>>>>);
        impl Listener for Keeper {
            fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
                ws.close()
            }
            fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
                self.0.borrow_mut().push(match &closed.error {
                    Some(Error::Timeout(kind)) => Some(Error::Timeout(kind.clone())),
                    _ => None,
                });
                assert_eq!(
                    closed.to_string(),
                    format!("closed by us with 1006 (no close frame received) ({TOO_LONG})")
                );
            }
        }
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            assert_eq!(peer.code(), 1000);
            assert!(peer.ended());
        });
        let config = patient().close_timeout(SOON);
        Client::new(&url).unwrap().config(config).connect(Keeper(Rc::clone(&kinds))).unwrap();
        wait_until(None, || !kinds.borrow().is_empty()).unwrap();
        assert!(matches!(kinds.borrow()[..], [Some(Error::Timeout(TimeoutKind::Close))]));
        host.join().unwrap();
    });
}

#[test]
fn pings_are_answered_until_the_close_frame_and_not_after_it() {
    let ask = |mut peer: Peer| {
        peer.bytes([masked(PING, b"1"), masked(TEXT, b"close"), masked(PING, b"2")].concat());
        assert_eq!(peer.frame(), (PONG, b"1".to_vec()));
        assert_eq!(peer.code(), 4000);
        peer.close(4000, "");
        assert!(peer.ended_orderly());
    };
    server(patient(), obey, ask, End::clean(Initiator::Local, 4000, "done"));
}

#[test]
fn a_client_whose_server_ends_right_behind_the_101_hears_of_it() {
    for resets in [false, true] {
        bounded(move || {
            let host = Host::listen();
            let url = host.url();
            let (asked, (go, goes)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
            let asks = Arc::clone(&asked);
            let host = host.run(move |host| {
                let mut peer = host.accept();
                let head = peer.head();
                asks.store(true, Ordering::SeqCst);
                goes.recv().unwrap();
                peer.bytes(upgraded(&head));
                if resets { peer.reset() } else { drop(peer) }
            });
            let log = Log::new();
            Client::new(&url).unwrap().config(patient()).start(log.listener(ignore)).unwrap();
            while !asked.load(Ordering::SeqCst) {
                update().unwrap();
            }
            // The loop does not turn until 101 and FIN are both there: one event.
            go.send(()).unwrap();
            host.join().unwrap();
            wait_until(None, || log.calls().len() == 2).unwrap();
            assert_eq!((log.wait_end().code, log.wait_end().initiator), (1006, Initiator::Peer));
        });
    }
}

#[test]
fn a_server_whose_client_ends_right_behind_the_request_hears_of_it() {
    bounded(|| {
        let log = Log::new();
        let server = bind().config(patient());
        let mut peer = Peer::connect(server.local_addr().unwrap());
        peer.bytes([request("/").into_bytes(), masked(TEXT, b"early")].concat());
        peer.end();
        let theirs = log.clone();
        let _serving = Serving::with(server, move |_| Reply::with(theirs.listener(ignore)));
        assert!(peer.head().starts_with("HTTP/1.1 101 "));
        log.wait_for(&Call::text("early"));
        assert_eq!(log.wait_end(), End::failed(Initiator::Peer, 1006, false, LOST));
    });
}

#[test]
fn an_endless_close_timeout_is_no_timeout() {
    bounded(|| {
        let config = patient().close_timeout(Duration::MAX);
        let log = Log::new();
        let serving = Serving::recording(config, &log, |ws, call| match call {
            Call::Text(_) => ws.close(),
            _ => Ok(()),
        });
        let mut peer = serving.peer();
        peer.send(TEXT, b"close");
        assert_eq!(peer.code(), 1000);
        peer.close(1000, "");
        assert!(peer.ended_orderly());
        serving.bystander().noticed_nothing();
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
    });
}

#[test]
fn waiting_for_the_end_returns_when_on_close_was_called() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &Log::new(), ignore);
        let ws = Client::new(&serving.url("/")).unwrap().connect(log.listener(ignore)).unwrap();
        assert!(!ws.has_ended());
        ws.close().unwrap();
        ws.wait_closed().unwrap();
        assert!(ws.has_ended());
        assert_eq!(log.end(), Some(End::clean(Initiator::Local, 1000, "")));
    });
}

#[test]
fn on_close_is_the_only_callback_after_closing() {
    bounded(|| {
        struct Closes(Log);

        impl Listener for Closes {
            fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
                ws.send(&vec![0; 12_000_000])
            }

            fn on_pause_writing(&mut self, ws: &Connection) -> Result<(), Error> {
                self.0.note("pause");
                ws.close()
            }

            fn on_resume_writing(&mut self, _ws: &Connection) -> Result<(), Error> {
                self.0.note("resume");
                Ok(())
            }

            fn on_close(&mut self, _ws: &Connection, _closed: &Closed) {
                self.0.note("close");
            }
        }

        let log = Log::new();
        let notes = log.clone();
        let serving = Serving::with(bind().config(patient()), move |_| Reply::with(Closes(notes.clone())));
        let mut ws = blocking::connect(&serving.url("/")).unwrap();
        log.wait_for(&Call::Note("pause".into()));
        while let Ok(Some(_)) = ws.recv() {}
        log.wait_for(&Call::Note("close".into()));
        assert_eq!(log.calls(), ["pause", "close"].map(|note| Call::Note(note.into())));
    });
}

#[test]
fn nothing_is_buffered_after_the_end() {
    bounded(|| {
        let (ws, _peer) = pair(patient(), &Log::new());
        let handle = ws.handle();
        let mut parts = handle.start_text();
        parts.send("a part").unwrap();
        handle.send("held behind it").unwrap();
        update().unwrap();
        ws.abort();
        ws.wait_closed().unwrap();
        assert_eq!(ws.buffered(), 0);
        std::mem::forget(parts);
    });
}

/// By its handle, which would otherwise wait for what only this thread can do.
#[test]
fn waiting_for_the_end_in_the_connections_own_callback_does_not_hang() {
    bounded(|| {
        let serving = Serving::with(bind().config(patient()), |_| Reply::with(echo));
        let ws = threadwire::connect(&serving.url("/"), |ws: &Connection, _: Message<'_>| {
            ws.close()?;
            // The wait may be refused, but must not hang.
            let _ = ws.handle().wait_closed();
            Ok(())
        })
        .unwrap();
        ws.send("close").unwrap();
        wait_until(None, || ws.closed().is_some()).unwrap();
    });
}
