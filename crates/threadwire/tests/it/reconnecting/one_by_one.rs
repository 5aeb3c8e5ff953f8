//! Connections that are handed out one after the other, on the blocking face and on tokio.

use std::sync::mpsc;
use std::time::Duration;

use crate::common::peer::{Host, Peer};
use crate::common::tasks::on_runtimes;
use crate::common::{bounded, patient, vacant};
use threadwire::reconnect::{Backoff, Cause, State};
use threadwire::{Client, Error, aio, blocking};

/// A wait that nobody lives to see.
const NEVER: Duration = Duration::from_secs(3600);

/// A server that has `serve` deal with each of its connections, one after the other.
fn host(mut serve: impl FnMut(&mut Peer, u32) + Send + 'static) -> Client {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(patient());
    host.run(move |host| {
        for number in 1.. {
            serve(&mut host.upgrade(b""), number);
        }
    });
    client
}

/// Answers the close frame, and says with what it came.
fn part(peer: &mut Peer) -> u16 {
    let (code, _) = peer.closed();
    peer.close(code, "");
    peer.end();
    code
}

#[test]
fn an_end_of_this_side_leads_to_the_next_connection_at_once() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let client = host(move |peer, _| tell.send(part(peer)).unwrap());
        let mut connections = blocking::connections(&client, Backoff::default().first(NEVER).cap(NEVER));
        let first = connections.next().unwrap().unwrap();
        drop(first);
        let mut second = connections.next().unwrap().unwrap();
        second.close().unwrap();
        let _held = connections.next().unwrap().unwrap();
        let fourth = connections.next().unwrap().unwrap();
        assert!(fourth.is_open());
        // Dropped, closed, and closed because the next one was asked for.
        assert_eq!([told.recv(), told.recv(), told.recv()].map(Result::unwrap), [1001, 1000, 1000]);
    });
    on_runtimes(|| async {
        let (tell, told) = mpsc::channel();
        let client = host(move |peer, _| tell.send(part(peer)).unwrap());
        let mut connections = aio::connections(&client, Backoff::default().first(NEVER).cap(NEVER));
        let first = connections.next().await.unwrap().unwrap();
        drop(first);
        let second = connections.next().await.unwrap().unwrap();
        second.close().await.unwrap();
        let _held = connections.next().await.unwrap().unwrap();
        let fourth = connections.next().await.unwrap().unwrap();
        assert!(fourth.is_open());
        assert_eq!([told.recv(), told.recv(), told.recv()].map(Result::unwrap), [1001, 1000, 1000]);
    });
}

/// The ends of a restart and of one that is no use to repeat.
fn restarting() -> Client {
    host(|peer, number| {
        peer.close(if number == 1 { 1012 } else { 4001 }, "");
        peer.end();
    })
}

#[test]
fn an_end_of_the_peer_is_judged_as_ever() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let mut connections =
            blocking::connections(&restarting(), Backoff::default().first(Duration::from_millis(1)))
                .retry_if(|cause| matches!(cause, Cause::Closed(closed) if closed.code.get() == 1012))
                .on_change(move |change| tell.send(change.state).unwrap());
        for _ in 0..2 {
            assert!(connections.next().unwrap().unwrap().recv().is_err());
        }
        let end = connections.next().unwrap();
        assert!(matches!(end, Err(Error::Ended(closed)) if closed.code.get() == 4001));
        assert!(connections.next().is_none());
        let states: Vec<_> = told.try_iter().collect();
        assert!(states.iter().any(|state| matches!(state, State::Waiting { .. })), "{states:?}");
        assert_eq!(states.iter().filter(|state| **state == State::Open).count(), 2);
        assert_eq!(states.last(), Some(&State::GaveUp));
    });
    on_runtimes(|| async {
        let mut connections =
            aio::connections(&restarting(), Backoff::default().first(Duration::from_millis(1)))
                .retry_if(|cause| matches!(cause, Cause::Closed(closed) if closed.code.get() == 1012));
        for _ in 0..2 {
            assert!(connections.next().await.unwrap().unwrap().recv().await.is_err());
        }
        let end = connections.next().await;
        assert!(matches!(end, Err(Error::Ended(closed)) if closed.code.get() == 4001));
        assert!(connections.next().await.unwrap().is_none());
        assert_eq!(connections.handle().state(), State::GaveUp);
    });
}

#[test]
fn attempts_that_fail_are_repeated_as_often_as_the_backoff_says() {
    let backoff = Backoff::default().first(Duration::from_millis(1)).max_attempts(3);
    let (_place, addr) = vacant();
    let url = format!("ws://{addr}/");
    let (tell, told) = mpsc::channel();
    let mut connections = blocking::connections(&url, backoff).before(move |attempt| {
        tell.send(attempt.number()).unwrap();
        Ok(())
    });
    assert!(connections.next().unwrap().is_err());
    assert!(connections.next().is_none());
    assert_eq!(told.try_iter().count(), 3);
}

#[test]
fn a_handle_ends_them() {
    on_runtimes(|| async {
        let client = host(|peer, _| _ = part(peer));
        let mut connections = aio::connections(&client, Backoff::default());
        let ws = connections.next().await.unwrap().unwrap();
        connections.handle().close().unwrap();
        assert!(connections.next().await.unwrap().is_none());
        assert!(ws.closed().unwrap().clean);
        assert_eq!(connections.handle().state(), State::Stopped);
    });
}
