//! Runtimes: a connection belongs to one, not to the process; and keepalive on them.

use std::future::pending;
use std::time::{Duration, Instant};

use crate::common::peer::{PING, PONG, TEXT};
use crate::common::tasks::{client, echo, join, on_runtimes, pair, server, several, single};
use crate::common::{SOON, bounded, patient};
use threadwire::error::TimeoutKind;
use threadwire::{Config, Error, Keepalive};
use tokio::runtime::Runtime;

async fn talk() {
    let (mut ws, server) = pair().await;
    let serving = tokio::spawn(echo(server));
    // Only the attendant can write this message.
    ws.send("hello").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(ws.recv().await.unwrap().unwrap(), "hello");
    let (mut far, peer) = client(patient(), |mut peer| {
        assert_eq!(peer.text(), "unflushed");
        peer.send(TEXT, b"got it");
    })
    .await;
    let sending = far.handle();
    tokio::spawn(async move {
        sending.send("unflushed").unwrap();
        pending::<()>().await;
    });
    assert_eq!(far.recv().await.unwrap().unwrap(), "got it");
    join(peer).await;
    ws.close().await.unwrap();
    serving.await.unwrap().unwrap();
}

#[test]
fn one_runtime_after_the_other_works_on_the_same_thread() {
    bounded(|| {
        for runtime in [single, several, single, several] {
            let runtime: Runtime = runtime();
            runtime.block_on(talk());
            // Connections are still open when it ends.
            runtime.block_on(async {
                let (first, second) = pair().await;
                tokio::spawn(echo(first));
                tokio::spawn(echo(second));
            });
            drop(runtime);
        }
    });
}

#[test]
fn two_runtimes_work_in_turns_on_the_same_thread() {
    bounded(|| {
        let (first, second) = (single(), several());
        for _ in 0..5 {
            first.block_on(talk());
            second.block_on(talk());
        }
    });
}

#[test]
fn a_connection_whose_runtime_ends_has_ended() {
    bounded(|| {
        for runtime in [single, several] {
            let runtime: Runtime = runtime();
            let (handle, task_handle, peer, other) = runtime.block_on(async {
                let wait = |mut peer: crate::common::peer::Peer| while peer.frame_or_end().is_some() {};
                let (ws, peer) = client(patient(), wait).await;
                let (mut owned, other) = client(patient(), wait).await;
                let task_handle = owned.handle();
                tokio::spawn(async move { owned.recv().await });
                let handle = ws.handle();
                handle.close().unwrap();
                (handle, task_handle, peer, other)
            });
            drop(runtime);
            // Connections have ended, whatever they were doing.
            assert!(handle.closed().is_some());
            assert!(task_handle.closed().is_some());
            assert!(matches!(handle.send("?"), Err(Error::Closed)));
            peer.join().unwrap();
            other.join().unwrap();
        }
    });
}

#[test]
fn a_connection_outlives_its_runtime_without_harm() {
    bounded(|| {
        let runtime = single();
        let (mut ws, peer) =
            runtime.block_on(client(patient(), |mut peer| while peer.frame_or_end().is_some() {}));
        drop(runtime);
        assert!(single().block_on(ws.recv()).is_err());
        let _ = ws.handle().send("?");
        drop(ws);
        peer.join().unwrap();
    });
}

fn lively() -> Config {
    let keepalive = Keepalive::default().idle_timeout(SOON / 5).reply_timeout(SOON);
    patient().keepalive(keepalive).keep_round_trips(true).close_timeout(SOON)
}

#[test]
fn an_idle_peer_is_pinged() {
    on_runtimes(|| async {
        let (mut ws, peer) = server(lively(), |mut peer| {
            for _ in 0..3 {
                let (first, payload) = peer.frame();
                assert_eq!(first, PING);
                peer.send(PONG, &payload);
            }
            peer.send(TEXT, b"enough");
        })
        .await;
        assert_eq!(ws.recv().await.unwrap().unwrap(), "enough");
        assert!(ws.round_trips().unwrap().max > Duration::ZERO);
        join(peer).await;
    });
}

#[test]
fn a_silent_peer_is_given_up() {
    on_runtimes(|| async {
        let (mut ws, peer) = client(lively(), |mut peer| {
            assert_eq!(peer.frame().0, PING);
            let (code, reason) = peer.closed();
            assert_eq!(code, 1001);
            assert!(reason.starts_with("no sign of life for "), "{reason}");
            assert!(peer.ended());
        })
        .await;
        let Err(Error::Ended(closed)) = ws.recv().await else { panic!("it ended well") };
        assert!(matches!(closed.error, Some(Error::Timeout(TimeoutKind::Silence { .. }))));
        join(peer).await;
    });
}

#[test]
fn a_peer_is_not_called_silent_while_reading_is_paused() {
    on_runtimes(|| async {
        let (go, gone) = std::sync::mpsc::channel();
        let (mut ws, peer) = client(lively(), move |mut peer| {
            let (_, payload) = peer.frame();
            peer.send(PONG, &payload);
            gone.recv().unwrap();
            peer.send(TEXT, b"here");
            while peer.frame_or_end().is_some() {}
        })
        .await;
        // Until the ping has left.
        assert!(tokio::time::timeout(SOON / 4, ws.recv()).await.is_err());
        ws.pause_reading();
        // The pong arrives, and is not read.
        let begin = Instant::now();
        while begin.elapsed() < SOON * 3 {
            tokio::time::sleep(SOON / 10).await;
        }
        go.send(()).unwrap();
        ws.resume_reading();
        assert_eq!(ws.recv().await.unwrap().unwrap(), "here");
        ws.abort();
        join(peer).await;
    });
}
