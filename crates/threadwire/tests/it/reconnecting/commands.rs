//! Commands to a reconnecting connection, in each of its states: close, stop, connect anew.

use super::callbacks::{at_once, brief, count, greeter, in_a_long_time, note, notes, on_worker, reconnect};
use crate::common::peer::Host;
use crate::common::recorder::{Call, Log};
use crate::common::{bounded, ignore, patient, vacant};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use threadwire::reconnect::{Cause, ReconnectHandle, State};
use threadwire::worker::{Remote, Worker};
use threadwire::{Client, sleep, wait_forever, wait_until};

/// The state of a reconnecting connection when a handle is used.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// The driver has not had a turn yet.
    Begun,
    /// The hook before the attempt waits.
    Before,
    /// The server does not answer.
    Connecting,
    /// `on_open` waits.
    Opening,
    Open,
    /// The server closes, and does not end TCP; `on_close` has been called.
    Closed,
    Waiting,
}

const ALL: [When; 7] =
    [When::Begun, When::Before, When::Connecting, When::Opening, When::Open, When::Closed, When::Waiting];

/// Brings a handle to such a point, on a worker of its own, and has something happen to it from here.
fn interrupt(when: When, what: impl FnOnce(&ReconnectHandle, &Remote)) -> (ReconnectHandle, Log) {
    let host = Host::listen();
    let url = host.url();
    let (_place, refused) = vacant();
    let url = if when == When::Waiting { format!("ws://{refused}/") } else { url };
    let (release, released) = mpsc::channel::<()>();
    let (reach, reached) = mpsc::channel();
    let served = host.run(move |host| {
        let peer = match when {
            When::Begun | When::Before | When::Waiting => None,
            When::Connecting => Some(host.accept()),
            When::Opening | When::Open => Some(host.upgrade(b"")),
            When::Closed => {
                let mut peer = host.upgrade(b"");
                peer.close(1001, "");
                Some(peer)
            }
        };
        reach.send(()).unwrap();
        // Until the test is over, it does nothing more.
        let _ = released.recv();
        drop(peer);
    });
    let log = Log::new();
    let heard = log.clone();
    let (tell, told) = mpsc::channel();
    let worker = Worker::builder().grace(Duration::from_millis(100)).spawn(move || {
        let opening = heard.clone();
        let listener = heard.listener(move |_, call| {
            if *call == Call::Open && when == When::Opening {
                opening.note("here");
                sleep(Duration::from_millis(20))?;
            }
            Ok(())
        });
        let hook = heard.clone();
        let config = patient().close_timeout(Duration::from_millis(20));
        let noted = heard.clone();
        let handle = Client::new(&url)
            .unwrap()
            .config(config)
            .reconnect(in_a_long_time())
            .on_change(move |change| noted.note(&brief(change)))
            .before(move |_| {
                if when == When::Before {
                    hook.note("here");
                    sleep(Duration::from_millis(20))?;
                }
                Ok(())
            })
            .start(listener);
        tell.send(handle).unwrap();
        if when == When::Begun {
            // The driver has its first turn when everything has happened already.
            heard.note("here");
            heard.wait(|calls| calls.contains(&note("done")));
        }
        wait_forever()
    });
    let worker = worker.unwrap();
    let handle = told.recv().unwrap();
    let point = match when {
        When::Begun | When::Before | When::Opening => note("here"),
        When::Connecting => note("connecting (attempt 1)"),
        When::Open => Call::Open,
        When::Closed => note("waiting for attempt 2"),
        When::Waiting => note("waiting for attempt 2"),
    };
    log.wait_for(&point);
    reached.recv().unwrap();
    what(&handle, &worker.remote());
    log.note("done");
    handle.wait_ended().unwrap();
    drop(release);
    served.join().unwrap();
    worker.stop();
    worker.join().unwrap();
    (handle, log)
}

/// Holds after every end that this side wanted.
fn assert_stopped(when: When, handle: &ReconnectHandle, log: &Log) {
    assert_eq!(handle.state(), State::Stopped, "{when:?}");
    assert!(handle.connection().is_none());
    let calls: Vec<Call> = log.calls().into_iter().filter(|call| *call != note("done")).collect();
    assert_eq!(calls.last(), Some(&note("stopped")), "{when:?}: {calls:?}");
    assert_eq!(count(log, &Call::Open), log.ends(), "{when:?}: {calls:?}");
    assert_eq!(count(log, &note("open")), count(log, &note("closed")), "{when:?}: {calls:?}");
    assert_eq!(count(log, &note("stopped")), 1, "{when:?}: {calls:?}");
    assert!(count(log, &note("connecting (attempt 1)")) <= 1, "{when:?}: {calls:?}");
}

#[test]
fn is_closed_from_another_thread_whatever_it_is_at() {
    bounded(|| {
        for when in ALL {
            let (handle, log) = interrupt(when, |handle, _| handle.close().unwrap());
            assert_stopped(when, &handle, &log);
        }
    });
}

#[test]
fn is_stopped_from_another_thread_whatever_it_is_at() {
    bounded(|| {
        for when in ALL {
            let (handle, log) = interrupt(when, |handle, _| handle.stop());
            assert_stopped(when, &handle, &log);
        }
    });
}

#[test]
fn ends_with_its_worker_whatever_it_is_at() {
    bounded(|| {
        for when in ALL {
            let (handle, log) = interrupt(when, |_, worker| worker.stop());
            assert_stopped(when, &handle, &log);
        }
    });
}

#[test]
fn ends_with_a_thread_that_is_no_worker() {
    bounded(|| {
        let server = greeter();
        let url = server.url("/");
        for ends_open in [true, false] {
            let log = Log::new();
            let heard = log.clone();
            let url = url.clone();
            let thread = thread::spawn(move || {
                let handle = reconnect(&url, at_once(), &heard).start(heard.listener(ignore));
                if ends_open {
                    wait_until(None, || handle.state() == State::Open).unwrap();
                }
                handle
            });
            let handle = thread.join().unwrap();
            assert_eq!(handle.wait_ended().unwrap().state, State::Stopped);
            assert_eq!(log.ends(), usize::from(ends_open));
            assert_eq!(log.calls().last(), Some(&note("stopped")));
        }
    });
}

/// Starts a handle on a worker that waits for good when its first connection or attempt has ended.
fn patient_handle(url: String, log: &Log) -> (Worker<()>, ReconnectHandle) {
    let log = log.clone();
    on_worker(move || reconnect(&url, in_a_long_time(), &log).start(log.listener(ignore)))
}

#[test]
fn can_be_told_to_connect_anew_while_it_is_open() {
    bounded(|| {
        let host = Host::listen();
        let log = Log::new();
        let (worker, handle) = patient_handle(host.url(), &log);
        let mut first = host.upgrade(b"");
        log.wait_for(&Call::Open);
        handle.reconnect();
        let mut second = host.upgrade(b"");
        // The old connection is dropped without waiting for an answer.
        assert_eq!((first.code(), first.ended()), (1001, true));
        log.wait(|calls| calls.iter().filter(|call| **call == Call::Open).count() == 2);
        assert!(matches!(handle.last_change().cause.as_deref(), Some(Cause::Requested)));
        handle.close().unwrap();
        assert_eq!(second.code(), 1000);
        second.close(1000, "");
        drop(second);
        handle.wait_ended().unwrap();
        let expected = [
            "connecting (attempt 1)",
            "open",
            "closed",
            "connecting (attempt 1)",
            "open",
            "closed",
            "stopped",
        ];
        assert_eq!((notes(&log), log.ends()), (expected.map(str::to_owned).to_vec(), 2));
        worker.stop();
        worker.join().unwrap();
    });
}

#[test]
fn can_be_told_to_connect_anew_while_it_connects() {
    bounded(|| {
        let host = Host::listen();
        let log = Log::new();
        let (worker, handle) = patient_handle(host.url(), &log);
        let mut first = host.accept();
        first.head();
        handle.reconnect();
        let mut second = host.accept();
        second.head();
        assert!(first.ended(), "the first attempt was dropped");
        handle.stop();
        handle.wait_ended().unwrap();
        assert_eq!(notes(&log), ["connecting (attempt 1)", "connecting (attempt 1)", "stopped"]);
        worker.stop();
        worker.join().unwrap();
    });
}

#[test]
fn can_be_told_to_connect_anew_while_it_waits() {
    bounded(|| {
        let (_place, addr) = vacant();
        let log = Log::new();
        let (worker, handle) = patient_handle(format!("ws://{addr}/"), &log);
        let round = ["connecting (attempt 1)", "waiting for attempt 2"];
        for rounds in 1..=3 {
            log.wait(|calls| calls.iter().filter(|call| **call == note(round[1])).count() == rounds);
            if rounds < 3 {
                handle.reconnect();
            }
        }
        handle.stop();
        handle.wait_ended().unwrap();
        assert_eq!(notes(&log), [&round[..], &round, &round, &["stopped"]].concat());
        worker.stop();
        worker.join().unwrap();
    });
}
