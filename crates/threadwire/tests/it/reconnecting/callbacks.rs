//! Reconnecting with callbacks: order of events, who is told, and ends.

use crate::common::peer::{CLOSE, Host, TEXT, farewell, frame, upgraded};
use crate::common::recorder::{Call, End, Log, Recorder};
use crate::common::{Serving, bind, bounded, ignore, patient, vacant};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use threadwire::error::TimeoutKind;
use threadwire::reconnect::{Attempt, Backoff, Cause, Change, Reconnect, ReconnectHandle, State};
use threadwire::worker::{EventLoop, Worker};
use threadwire::{
    Client, CloseCode, Connection, Error, Initiator, Keepalive, Message, Reply, Server, sleep, wait_forever,
    wait_until,
};

/// Tries again at once.
pub(super) fn at_once() -> Backoff {
    Backoff::default().first(Duration::ZERO)
}

/// Waits for so long that no test sees the end of it.
pub(super) fn in_a_long_time() -> Backoff {
    let far = Duration::from_secs(1 << 40);
    Backoff::default().first(far).cap(far)
}

/// A state in a few words. How long a wait takes is left to chance.
pub(super) fn brief(change: &Change) -> String {
    match change.state {
        State::Waiting { attempt, .. } => format!("waiting for attempt {attempt}"),
        state => state.to_string(),
    }
}

/// A connection whose changes are written down between the calls of its listener.
pub(super) fn reconnect(url: &str, backoff: Backoff, log: &Log) -> Reconnect {
    let log = log.clone();
    let client = Client::new(url).unwrap().config(patient());
    client.reconnect(backoff).on_change(move |change| log.note(&brief(change)))
}

pub(super) fn note(text: &str) -> Call {
    Call::Note(text.to_owned())
}

/// The notes alone.
pub(super) fn notes(log: &Log) -> Vec<String> {
    let note = |call| if let Call::Note(note) = call { Some(note) } else { None };
    log.calls().into_iter().filter_map(note).collect()
}

pub(super) fn count(log: &Log, call: &Call) -> usize {
    log.calls().iter().filter(|other| *other == call).count()
}

/// An answer to a handshake that is a refusal.
fn refusal(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\nX-Why: quota\r\n\r\nwait")
}

/// Has a handle live on a worker of its own.
pub(super) fn on_worker(
    make: impl FnOnce() -> ReconnectHandle + Send + 'static,
) -> (Worker<()>, ReconnectHandle) {
    let (tell, told) = mpsc::channel();
    let worker = Worker::spawn(move || {
        tell.send(make()).unwrap();
        wait_forever()
    });
    (worker, told.recv().unwrap())
}

#[test]
fn goes_from_state_to_state_and_tells_of_each_in_order() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.accept();
            peer.head();
            peer.bytes(refusal("503 Service Unavailable"));
            for text in ["one", "two"] {
                let mut peer = host.upgrade(b"");
                peer.send(TEXT, text.as_bytes());
                if text == "one" {
                    peer.close(1001, "restart");
                }
                peer.code();
                if text == "two" {
                    peer.close(1000, "");
                }
            }
        });
        let log = Log::new();
        let listener = log.listener(|ws, call| if *call == Call::text("two") { ws.close() } else { Ok(()) });
        let handle = reconnect(&url, at_once(), &log).start(listener);
        assert_eq!(handle.state(), State::Connecting { attempt: 1 });
        let end = handle.wait_ended().unwrap();
        host.join().unwrap();

        let failed = "the server answered the opening handshake with status 503 (Service Unavailable), expected 101 (RFC 6455, \
                      section 4.1)";
        let expected = [
            note("connecting (attempt 1)"),
            Call::Failed(failed.to_owned()),
            note("waiting for attempt 2"),
            note("connecting (attempt 2)"),
            note("open"),
            Call::Open,
            Call::text("one"),
            Call::Closed(End::clean(Initiator::Peer, 1001, "restart")),
            note("closed"),
            note("waiting for attempt 3"),
            note("connecting (attempt 3)"),
            note("open"),
            Call::Open,
            Call::text("two"),
            Call::Closed(End::clean(Initiator::Local, 1000, "")),
            note("closed"),
            note("stopped"),
        ];
        assert_eq!(log.calls(), expected);
        assert_eq!((end.state, end.connections), (State::Stopped, 2));
        assert_eq!(end.cause.unwrap().closed().unwrap().code, CloseCode::NORMAL);
        assert_eq!(EventLoop::current().source_count(), 0);
    });
}

#[test]
fn comes_back_to_a_server_that_restarts_twenty_times() {
    bounded(|| {
        const RESTARTS: usize = 20;
        let (_place, addr) = vacant();
        let log = Log::new();
        let seen = log.clone();
        let backoff = Backoff::default().first(Duration::from_millis(1)).cap(Duration::from_millis(1));
        let (worker, handle) = on_worker(move || {
            let hello = |ws: &Connection, call: &Call| match call {
                Call::Open => ws.send("hello"),
                _ => Ok(()),
            };
            reconnect(&format!("ws://{addr}/"), backoff, &log).start(log.listener(hello))
        });
        for restart in 1..=RESTARTS {
            let (tell, told) = mpsc::channel();
            let running = Server::bind(addr)
                .unwrap()
                .serve(move |_| {
                    let tell = tell.clone();
                    Reply::with(move |_: &Connection, message: Message<'_>| {
                        tell.send(message.to_string()).map_err(Error::other)
                    })
                })
                .unwrap();
            assert_eq!(told.recv().unwrap(), "hello");
            assert_eq!(handle.connections(), restart as u64);
            running.stop();
            running.join().unwrap();
        }
        seen.wait(|calls| calls.iter().filter(|call| matches!(call, Call::Closed(_))).count() == RESTARTS);
        handle.close().unwrap();
        assert_eq!(handle.wait_ended().unwrap().state, State::Stopped);
        assert_eq!((count(&seen, &Call::Open), seen.ends()), (RESTARTS, RESTARTS));
        let end = Call::Closed(End::clean(Initiator::Peer, 1001, ""));
        assert_eq!(count(&seen, &end), RESTARTS);
        worker.stop();
        worker.join().unwrap();
    });
}

#[test]
fn gives_up_after_the_most_attempts() {
    bounded(|| {
        let (_place, addr) = vacant();
        let log = Log::new();
        let backoff = at_once().max_attempts(Some(3));
        let handle = reconnect(&format!("ws://{addr}/"), backoff, &log).start(log.listener(ignore));
        let end = handle.wait_ended().unwrap();
        assert_eq!(end.to_string(), format!("gave up: can't connect to {addr}: connection refused"));
        let expected = [
            "connecting (attempt 1)",
            "waiting for attempt 2",
            "connecting (attempt 2)",
            "waiting for attempt 3",
            "connecting (attempt 3)",
            "gave up",
        ];
        assert_eq!(notes(&log), expected);
        assert_eq!(end.connections, 0);
    });
}

#[test]
fn a_connection_that_was_stable_begins_a_new_row() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            for _ in 0..5 {
                let mut peer = host.upgrade(b"");
                peer.close(1012, "");
                peer.code();
            }
            // And then it is gone.
        });
        let log = Log::new();
        // Any connection is stable, and the first failure is the last.
        let backoff = at_once().stable_after(Duration::ZERO).max_attempts(Some(1));
        let handle = reconnect(&url, backoff, &log).start(log.listener(ignore));
        let end = handle.wait_ended().unwrap();
        host.join().unwrap();
        assert_eq!((end.state, end.connections), (State::GaveUp, 5));
        assert!(notes(&log).iter().all(|note| !note.contains("attempt 2")), "{:?}", notes(&log));
    });
}

#[test]
fn one_that_was_not_counts_as_a_failure() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            for _ in 0..3 {
                let mut peer = host.upgrade(b"");
                peer.close(1001, "");
                peer.code();
            }
        });
        let log = Log::new();
        let backoff = at_once().max_attempts(Some(3)).stable_after(Duration::MAX);
        let handle = reconnect(&url, backoff, &log).start(log.listener(ignore));
        let end = handle.wait_ended().unwrap();
        host.join().unwrap();
        assert_eq!((end.state, end.connections), (State::GaveUp, 3));
        assert_eq!(end.cause.unwrap().closed().unwrap().code, CloseCode::GOING_AWAY);
    });
}

#[test]
fn a_refusal_gives_up_and_says_why() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.accept();
            peer.head();
            peer.bytes(refusal("403 Forbidden"));
            peer
        });
        let log = Log::new();
        let handle = reconnect(&url, at_once(), &log).start(log.listener(ignore));
        let end = handle.wait_ended().unwrap();
        drop(host.join().unwrap());
        assert_eq!(end.state, State::GaveUp);
        let cause = end.cause.unwrap();
        let Some(Error::Status(answer)) = cause.error() else {
            panic!("{cause:?}");
        };
        assert_eq!(
            (answer.status(), answer.header("X-Why"), answer.body()),
            (403, Some("quota"), &b"wait"[..])
        );
        assert_eq!(notes(&log), ["connecting (attempt 1)", "gave up"]);
    });
}

#[test]
fn each_attempt_may_have_another_url_and_other_headers() {
    bounded(|| {
        let host = Host::listen();
        let addr = host.addr();
        let host = host.run(|host| {
            let mut heads = Vec::new();
            for attempt in 1..=3 {
                let mut peer = host.accept();
                heads.push(peer.head());
                match attempt {
                    3 => peer.bytes(upgraded(&heads[2])),
                    _ => peer.bytes(refusal("503 Service Unavailable")),
                }
                if attempt == 3 {
                    assert_eq!(peer.code(), 1000);
                    peer.close(1000, "");
                }
            }
            heads
        });
        let client = Client::new("ws://unused.invalid/").unwrap();
        let client = client.header("X-Token", "old").unwrap().header("X-Other", "stays").unwrap();
        let client = client.subprotocols(["chat"]).unwrap();
        let causes = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&causes);
        let handle = client
            .config(patient())
            .reconnect(at_once())
            .before(move |attempt: &mut Attempt| {
                let number = attempt.number();
                noted.borrow_mut().push(attempt.cause().map(Cause::is_transient));
                attempt.header("X-Token", &format!("new{number}"))?;
                attempt.url(&format!("ws://{addr}/path{number}?query"))
            })
            .start(Log::new().listener(|ws, call| if *call == Call::Open { ws.close() } else { Ok(()) }));
        handle.wait_ended().unwrap();
        assert_eq!(*causes.borrow(), [None, Some(true), Some(true)]);
        for (head, number) in host.join().unwrap().iter().zip(1..) {
            assert!(
                head.starts_with(&format!("GET /path{number}?query HTTP/1.1\r\nHost: {addr}\r\n")),
                "{head}"
            );
            for (field, times) in [
                (&*format!("X-Token: new{number}\r\n"), 1),
                ("X-Token:", 1),
                ("X-Other: stays\r\n", 1),
                ("Sec-WebSocket-Protocol: chat\r\n", 1),
            ] {
                assert_eq!(head.matches(field).count(), times, "{field} in {head}");
            }
        }
    });
}

#[test]
fn an_attempt_can_be_forbidden() {
    bounded(|| {
        let (_place, addr) = vacant();
        let log = Log::new();
        let handle = reconnect(&format!("ws://{addr}/"), at_once(), &log)
            .before(|attempt| match attempt.number() {
                3 => Err(Error::other("no token any more")),
                _ => Ok(()),
            })
            .start(log.listener(ignore));
        let end = handle.wait_ended().unwrap();
        assert_eq!(end.to_string(), "gave up: no token any more");
        assert_eq!(notes(&log)[4..], ["connecting (attempt 3)", "gave up"]);
    });
}

#[test]
fn a_hook_that_panics_forbids_the_attempt() {
    bounded(|| {
        let (_place, addr) = vacant();
        let handle = reconnect(&format!("ws://{addr}/"), at_once(), &Log::new())
            .before(|_| panic!("a bug"))
            .start(Log::new().listener(ignore));
        assert_eq!(handle.wait_ended().unwrap().to_string(), "gave up: a callback panicked: a bug");
    });
}

#[test]
fn the_program_decides_what_is_worth_another_attempt() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            for status in ["403 Forbidden", "503 Service Unavailable"] {
                let mut peer = host.accept();
                peer.head();
                peer.bytes(refusal(status));
            }
        });
        let log = Log::new();
        let is_worth_it = |cause: &Cause| match cause.error() {
            Some(Error::Status(answer)) => answer.status() == 403,
            _ => false,
        };
        let handle = reconnect(&url, at_once(), &log).retry_if(is_worth_it).start(log.listener(ignore));
        let end = handle.wait_ended().unwrap();
        host.join().unwrap();
        assert_eq!(end.state, State::GaveUp);
        assert!(end.to_string().contains("503"), "{end}");
    });
}

#[test]
fn a_peer_that_falls_silent_is_connected_to_again() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            // The peer neither sends anything nor answers.
            let silent = host.upgrade(b"");
            // This one is no sooner open than it is closed.
            let mut peer = host.upgrade(&frame(CLOSE, false, &farewell(1003, "enough")));
            assert_eq!(peer.code(), 1003);
            drop(silent);
        });
        let short = Duration::from_millis(20);
        let keepalive = Keepalive::default().idle_timeout(short).reply_timeout(short);
        let config = patient().keepalive(keepalive);
        let log = Log::new();
        let causes = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&causes);
        let handle = Client::new(&url)
            .unwrap()
            .config(config)
            .reconnect(at_once())
            .on_change(move |change| {
                if let (State::Closed, Some(cause)) = (change.state, &change.cause) {
                    noted.borrow_mut().push(Arc::clone(cause));
                }
            })
            .start(log.listener(ignore));
        assert_eq!(handle.wait_ended().unwrap().state, State::GaveUp);
        host.join().unwrap();
        let causes = causes.borrow();
        let [silence, rejection] = &causes[..] else { panic!("{causes:?}") };
        assert!(matches!(silence.error(), Some(Error::Timeout(TimeoutKind::Silence { .. }))), "{silence}");
        assert_eq!(rejection.closed().unwrap().code, CloseCode::UNSUPPORTED_DATA);
        assert_eq!(log.ends(), 2);
    });
}

/// A server that greets each connection, and does nothing else.
pub(super) fn greeter() -> Serving {
    struct Greet;
    impl threadwire::Listener for Greet {
        fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
            ws.send("hello")
        }
    }
    Serving::with(bind().config(patient()), |_| Reply::with(Greet))
}

/// Starts where `greeter` greets; `react` is called for what happens, with the number of the connection.
fn greeted(
    feed_of: Reconnect,
    log: &Log,
    react: impl Fn(u64, &Connection, &Call) -> Result<(), Error> + 'static,
) -> Change {
    let log = log.clone();
    let handle = feed_of.start_with(|handle| {
        let handle = handle.clone();
        log.listener(move |ws, call| react(handle.connections(), ws, call))
    });
    handle.wait_ended().unwrap()
}

#[test]
fn a_listener_that_closes_is_not_connected_again() {
    bounded(|| {
        let server = greeter();
        for code in [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode::INTERNAL_ERROR] {
            let log = Log::new();
            let end = greeted(reconnect(&server.url("/"), at_once(), &log), &log, move |_, ws, call| {
                if matches!(call, Call::Text(_)) { ws.close_with(code, "") } else { Ok(()) }
            });
            assert_eq!((end.state, end.connections, log.ends()), (State::Stopped, 1, 1));
        }
    });
}

#[test]
fn a_listener_that_aborts_is_connected_again() {
    bounded(|| {
        let server = greeter();
        let log = Log::new();
        let end =
            greeted(reconnect(&server.url("/"), at_once(), &log), &log, |number, ws, call| match call {
                Call::Text(_) if number < 4 => {
                    ws.abort();
                    Ok(())
                }
                Call::Text(_) => ws.close(),
                _ => Ok(()),
            });
        assert_eq!((end.state, end.connections, log.ends()), (State::Stopped, 4, 4));
    });
}

#[test]
fn a_callback_that_fails_gives_up_unless_its_error_is_transient() {
    bounded(|| {
        let server = greeter();
        let log = Log::new();
        let end = greeted(reconnect(&server.url("/"), at_once(), &log), &log, |number, _, call| match call {
            Call::Text(_) if number < 3 => Err(Error::Lost),
            Call::Text(_) => Err(Error::other("a bug")),
            _ => Ok(()),
        });
        assert_eq!((end.state, end.connections, log.ends()), (State::GaveUp, 3, 3));
        let cause = end.cause.unwrap();
        assert!(matches!(cause.error(), Some(Error::Other(_))), "{cause}");
    });
}

#[test]
fn a_panic_in_a_callback_gives_up_and_the_listener_is_dropped() {
    bounded(|| {
        let server = greeter();
        let alive = Rc::new(());
        let held = Rc::clone(&alive);
        let handle = reconnect(&server.url("/"), at_once(), &Log::new())
            .start(move |_: &Connection, _: Message<'_>| panic!("{held:?}"));
        assert_eq!(handle.wait_ended().unwrap().state, State::GaveUp);
        assert_eq!(Rc::strong_count(&alive), 1);
    });
}

#[test]
fn dropping_the_handle_does_not_stop_it() {
    bounded(|| {
        let server = greeter();
        let log = Log::new();
        drop(reconnect(&server.url("/"), at_once(), &log).start(log.listener(|ws, call| match call {
            Call::Text(_) => ws.close(),
            _ => Ok(()),
        })));
        wait_until(None, || log.calls().contains(&note("stopped"))).unwrap();
    });
}

#[test]
fn a_hook_that_waits_is_not_called_again_meanwhile() {
    bounded(|| {
        let (_place, addr) = vacant();
        let is_inside = Rc::new(Cell::new(false));
        let changes = Rc::new(Cell::new(0));
        let (inside, counted) = (Rc::clone(&is_inside), Rc::clone(&changes));
        let backoff = at_once().max_attempts(Some(4));
        let handle = Client::new(&format!("ws://{addr}/"))
            .unwrap()
            .reconnect(backoff)
            .on_change(move |_| {
                assert!(!inside.replace(true));
                sleep(Duration::from_millis(1)).unwrap();
                counted.set(counted.get() + 1);
                inside.set(false);
            })
            .start(Log::new().listener(ignore));
        handle.wait_ended().unwrap();
        assert_eq!(changes.get(), 4 + 3 + 1);
        assert!(!is_inside.get());
    });
}

#[test]
fn one_listener_lives_over_all_connections() {
    bounded(|| {
        let server = greeter();
        let log = Log::new();
        let greetings = Cell::new(0);
        let end = greeted(reconnect(&server.url("/"), at_once(), &log), &log, move |_, ws, call| {
            if let Call::Text(_) = call {
                greetings.set(greetings.get() + 1);
                if greetings.get() == 10 {
                    return ws.close();
                }
                ws.abort();
            }
            Ok(())
        });
        assert_eq!(end.connections, 10);
    });
}

/// A recorder is a listener like any other: it may be made before its handle is.
#[test]
fn a_handle_is_known_to_the_listener_from_the_start() {
    bounded(|| {
        let server = greeter();
        let log = Log::new();
        let handle = reconnect(&server.url("/"), at_once(), &log).start_with(|handle| -> Recorder {
            let handle = handle.clone();
            log.listener(move |_, call| match call {
                Call::Open => {
                    assert_eq!((handle.state(), handle.connections()), (State::Open, 1));
                    handle.close()
                }
                _ => Ok(()),
            })
        });
        assert_eq!(handle.wait_ended().unwrap().state, State::Stopped);
        assert_eq!(log.ends(), 1);
    });
}

#[test]
fn a_server_that_is_busy_is_left_alone_for_as_long_as_it_asks_for() {
    bounded(|| {
        for (status, cap, expected) in
            [("503 Busy", 100_000, 3600), ("429 Too Many Requests", 100_000, 3600), ("503 Busy", 60, 60)]
        {
            let host = Host::listen();
            let backoff = at_once().retry_after_cap(Duration::from_secs(cap));
            let client = Client::new(&host.url()).unwrap().config(patient());
            let host = host.run(move |host| {
                let mut peer = host.accept();
                peer.head();
                peer.bytes(format!("HTTP/1.1 {status}\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n"));
                peer
            });
            let delay = Rc::new(Cell::new(None));
            let note = Rc::clone(&delay);
            let log = Log::new();
            let handle = client
                .reconnect(backoff)
                .on_change(move |change| {
                    if let State::Waiting { delay, .. } = change.state {
                        note.set(Some(delay));
                    }
                })
                .start(log.listener(ignore));
            wait_until(None, || delay.get().is_some()).unwrap();
            assert_eq!(delay.get(), Some(Duration::from_secs(expected)), "{status}");
            handle.stop();
            handle.wait_ended().unwrap();
            drop(host.join().unwrap());
        }
    });
}
