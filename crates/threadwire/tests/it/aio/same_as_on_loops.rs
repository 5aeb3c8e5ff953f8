//! Features of connections on loops, on tokio: throttle, pauses, round trips, send options.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::time::timeout;

use crate::common::peer::{Peer, TEXT};
use crate::common::tasks::{client, join, on_runtimes, pair, pair_over, server};
use crate::common::{Serving, bounded, echo, patient};
use threadwire::{Compress, Error, Initiator, Keepalive, Reply, SendOptions, WhenFull, aio, trace::Trace};

const SECOND: Duration = Duration::from_secs(1);

/// A peer that goes on to write when the server has ended TCP behind both close frames. Whether it is reset.
fn is_reset(mut peer: Peer) -> bool {
    peer.close(1000, "");
    assert_eq!(peer.code(), 1000);
    assert!(peer.ended_orderly());
    (0..100).any(|_| {
        thread::sleep(Duration::from_millis(1));
        !peer.try_bytes(b"x")
    })
}

#[test]
fn a_trace_changes_nothing_about_how_a_connection_ends() {
    for is_traced in [false, true] {
        let lines = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&lines);
        let trace = Trace::to(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let config = if is_traced { patient().trace(trace) } else { patient() };
        let on_tokio = config.clone();
        bounded(move || {
            let serving = Serving::with(crate::common::bind().config(config.clone()), |_| Reply::with(echo));
            assert!(is_reset(serving.peer()), "on a loop");
        });
        on_runtimes(move || {
            let config = on_tokio.clone();
            async move {
                let (mut ws, peer) = server(config, |peer| assert!(is_reset(peer), "on tokio")).await;
                assert_eq!(ws.recv().await.unwrap(), None);
                join(peer).await;
            }
        });
        assert_eq!(lines.load(Ordering::Relaxed) > 0, is_traced);
    }
}

#[test]
fn a_receiver_that_has_paused_is_told_for_how_long_nothing_was_read() {
    on_runtimes(|| async {
        let config = patient().keepalive(Keepalive::default());
        let (mut ws, peer) = client(config, |mut peer| {
            peer.send(TEXT, b"hello");
            thread::sleep(SECOND + SECOND / 10);
            peer.close(1001, "you do not read");
            assert_eq!(peer.code(), 1001);
        })
        .await;
        assert_eq!(ws.recv().await.unwrap().unwrap(), "hello");
        ws.pause_reading();
        tokio::time::sleep(SECOND + SECOND / 5).await;
        ws.resume_reading();
        assert_eq!(ws.recv().await.unwrap(), None);
        let closed = ws.closed().unwrap();
        assert_eq!(closed.initiator, Initiator::Peer);
        assert!(closed.unread_for.is_some_and(|time| time >= SECOND), "{closed}");
        join(peer).await;
    });
}

#[test]
fn a_receiver_that_waits_has_not_been_away() {
    on_runtimes(|| async {
        let (mut ws, peer) = client(patient().keepalive(Keepalive::default()), |mut peer| {
            thread::sleep(SECOND + SECOND / 10);
            peer.close(1001, "");
            assert_eq!(peer.code(), 1001);
        })
        .await;
        assert_eq!(ws.recv().await.unwrap(), None);
        assert_eq!(ws.closed().unwrap().unread_for, None);
        join(peer).await;
    });
}

#[test]
fn what_arrives_in_a_pause_is_received_after_it() {
    on_runtimes(|| async {
        let (mut ws, peer) = pair().await;
        ws.pause_reading();
        assert!(ws.is_reading_paused());
        peer.send("hello").await.unwrap();
        peer.flush().await.unwrap();
        assert!(timeout(Duration::from_millis(20), ws.recv()).await.is_err());
        ws.resume_reading();
        assert_eq!(ws.recv().await.unwrap().unwrap(), "hello");
        ws.pause_reading();
        let mut peer = peer;
        let ending = tokio::spawn(async move { peer.recv().await });
        assert!(ws.close().await.unwrap().clean, "closing ends the pause");
        assert_eq!(ending.await.unwrap().unwrap(), None);
    });
}

#[test]
fn round_trips_are_measured_by_connections_halves_and_handles() {
    on_runtimes(|| async {
        let (ws, mut peer) = pair().await;
        let answering = tokio::spawn(async move { while let Ok(Some(_)) = peer.recv().await {} });
        assert!(ws.measure_roundtrip(0).await.unwrap().is_empty());
        assert_eq!(ws.measure_roundtrip(3).await.unwrap().len(), 3);
        let handle = ws.handle();
        let (sender, mut receiver) = ws.split();
        let receiving = tokio::spawn(async move { receiver.recv().await });
        let (of_half, of_handle) = tokio::join!(sender.measure_roundtrip(2), handle.measure_roundtrip(4));
        assert_eq!((of_half.unwrap().len(), of_handle.unwrap().len()), (2, 4));
        sender.close().await.unwrap();
        assert!(matches!(handle.measure_roundtrip(1).await, Err(Error::Closed)));
        receiving.await.unwrap().unwrap();
        answering.await.unwrap();
    });
}

/// Sends until nothing more is taken at once.
async fn fill(ws: &aio::Connection) {
    while ws.send_with(&"x".repeat(100), WhenFull::Error).await.is_ok() {}
}

#[test]
fn each_send_may_have_a_policy_of_its_own() {
    on_runtimes(|| async {
        let (ws, _peer) = pair_over(64, patient().max_buffered(1000)).await;
        fill(&ws).await;
        let newest = SendOptions::default().when_full(WhenFull::DropNewest).compress(Compress::Never);
        ws.send_with("dropped", newest).await.unwrap();
        assert_eq!(ws.dropped(), 1);
        ws.handle().send_with("dropped", WhenFull::DropNewest).unwrap();
        assert_eq!((ws.dropped(), ws.handle().dropped()), (2, 2));
        assert!(ws.send_with("closes", WhenFull::Close).await.is_err());
        assert!(!ws.is_open());
    });
}

#[test]
fn a_peer_that_does_not_read_its_answers_is_not_read_until_it_does() {
    on_runtimes(|| async {
        let config = patient().max_buffered(10_000).high_watermark(100_000);
        let (peer, mut ws) = pair_over(1000, config).await;
        let handle = ws.handle();
        let answering = tokio::spawn(async move {
            while let Some(message) = ws.recv().await? {
                handle.send_with(&message, WhenFull::Error)?;
            }
            Ok::<(), Error>(())
        });
        let (sender, mut receiver) = peer.split();
        let asking = tokio::spawn(async move {
            for number in 0..200 {
                sender.send(&format!("{number:0500}")).await?;
            }
            Ok::<_, Error>(sender)
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        for number in 0..200 {
            assert_eq!(receiver.recv().await.unwrap().unwrap(), format!("{number:0500}").as_str());
        }
        let sender = asking.await.unwrap().unwrap();
        let closing = tokio::spawn(async move { sender.close().await });
        assert_eq!(receiver.recv().await.unwrap(), None);
        closing.await.unwrap().unwrap();
        answering.await.unwrap().unwrap();
    });
}
