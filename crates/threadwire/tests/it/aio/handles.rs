//! Handles of async connections, from any task and any thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common::peer::{BINARY, TEXT};
use crate::common::tasks::{Script, client, echo, join, on_runtimes, pair, pair_over, server};
use crate::common::{SOON, patient, peer::request};
use threadwire::error::LimitKind;
use threadwire::worker::later;
use threadwire::{Compress, Config, Deflate, Error, OwnedMessage, WhenFull, aio, wait_until};

#[test]
fn native_threads_send_while_the_task_only_receives() {
    on_runtimes(|| async {
        let (mut ws, peer) = pair().await;
        let serving = tokio::spawn(echo(peer));
        let handle = ws.handle();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let handle = handle.clone();
                thread::spawn(move || (0..500).for_each(|n| handle.send(&format!("{thread} {n}")).unwrap()))
            })
            .collect();
        let mut next = HashMap::new();
        for _ in 0..2000 {
            let Some(OwnedMessage::Text(text)) = ws.recv().await.unwrap() else { panic!("no text") };
            let (thread, number) = text.split_once(' ').unwrap();
            let next = next.entry(thread.to_owned()).or_insert(0);
            assert_eq!(number.parse(), Ok(*next), "the order of one sender is kept");
            *next += 1;
        }
        for thread in threads {
            join(thread).await;
        }
        ws.close().await.unwrap();
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn a_native_thread_receives_while_the_runtime_does_the_io() {
    on_runtimes(|| async {
        let often = threadwire::Keepalive::default().idle_timeout(SOON);
        let (mut ws, peer) = pair_over(1000, patient().keepalive(often)).await;
        let serving = tokio::spawn(echo(peer));
        let thread = thread::spawn(move || {
            for number in 0..100 {
                threadwire::worker::block_on(ws.send(&format!("{number}"))).unwrap().unwrap();
                let message = threadwire::worker::block_on(ws.recv()).unwrap().unwrap().unwrap();
                assert_eq!(message, number.to_string().as_str());
            }
            assert!(threadwire::worker::block_on(ws.close()).unwrap().unwrap().clean);
        });
        join(thread).await;
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn pings_without_end_to_a_peer_that_does_not_read_are_refused_some_time() {
    on_runtimes(|| async {
        let (ws, _script) = stuck(patient().max_buffered(40)).await;
        ws.send("12345678901234567890").await.unwrap();
        let mut count = 0;
        while ws.ping(&[0; 125]).await.is_ok() {
            count += 1;
        }
        assert!(count > 100 && ws.is_open());
        assert!(ws.buffered() < 2 << 20);
    });
}

#[test]
fn many_tasks_send_at_once_and_no_message_is_torn() {
    on_runtimes(|| async {
        let (client, mut server) = pair().await;
        let tasks: Vec<_> = (0..20u8)
            .map(|task| {
                let handle = client.handle();
                tokio::spawn(async move {
                    for number in 0..50usize {
                        let message = vec![task; 1 + number * 97];
                        handle.send_async(&message).await.unwrap();
                    }
                })
            })
            .collect();
        let mut counts = [0; 20];
        for _ in 0..1000 {
            let message = server.recv().await.unwrap().unwrap().into_bytes();
            assert!(message.iter().all(|byte| *byte == message[0]));
            let count = &mut counts[usize::from(message[0])];
            assert_eq!(message.len(), 1 + *count * 97);
            *count += 1;
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_thread_closes_and_the_receiver_learns_of_it() {
    on_runtimes(|| async {
        let (mut ws, peer) = client(patient(), |mut peer| {
            assert_eq!(peer.text(), "bye");
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
        })
        .await;
        let handle = ws.handle();
        let thread = thread::spawn(move || {
            handle.send("bye").unwrap();
            handle.close().unwrap();
            assert!(!handle.is_open());
            assert!(matches!(handle.send("too late"), Err(Error::Closed)));
            handle
        });
        assert!(ws.recv().await.unwrap().is_none());
        let handle = join(thread).await;
        let (first, second) = (ws.closed().unwrap(), handle.closed().unwrap());
        assert!(Arc::ptr_eq(&first, &second), "there is one outcome");
        assert!(Arc::ptr_eq(&first, &handle.wait_closed().await));
        assert!(first.clean);
        join(peer).await;
    });
}

/// A connection whose stream takes nothing.
async fn stuck(config: Config) -> (aio::Connection, Script) {
    let script = Script::default();
    script.say(request("/").as_bytes());
    let ws = aio::accept_over(script.clone(), config).await.unwrap();
    ws.flush().await.unwrap();
    script.take_written();
    script.stick(true);
    (ws, script)
}

/// The payloads that were written.
fn payloads(script: &Script) -> Vec<Vec<u8>> {
    let written = script.take_written();
    let mut payloads = Vec::new();
    let mut at = 0;
    while let Some((_, payload, size)) = crate::common::peer::parse(&written[at..], false) {
        payloads.push(payload);
        at += size;
    }
    assert_eq!(at, written.len());
    payloads
}

fn limited(when_full: WhenFull) -> Config {
    patient().max_buffered(40).when_full(when_full)
}

#[test]
fn a_message_without_room_is_refused() {
    on_runtimes(|| async {
        let (ws, script) = stuck(limited(WhenFull::Error)).await;
        let handle = ws.handle();
        handle.send("12345678901234567890").unwrap();
        let refused = handle.send("123456789012345678901234567890");
        assert!(
            matches!(refused, Err(Error::Limit(error)) if (error.kind, error.limit) == (LimitKind::Buffered, 40))
        );
        handle.send("fits").unwrap();
        assert_eq!(handle.buffered(), 22 + 6);
        script.stick(false);
        ws.flush().await.unwrap();
        assert_eq!(payloads(&script), [&b"12345678901234567890"[..], b"fits"]);
    });
}

#[test]
fn the_newest_or_the_oldest_messages_are_dropped() {
    for (policy, expected) in [
        (WhenFull::DropNewest, ["0000000000", "1111111111", "2222222222"]),
        (WhenFull::DropOldest, ["3333333333", "4444444444", "5555555555"]),
    ] {
        on_runtimes(move || async move {
            let (ws, script) = stuck(limited(policy)).await;
            let handle = ws.handle();
            for number in 0..6 {
                handle.send(&number.to_string().repeat(10)).unwrap();
            }
            assert_eq!(handle.dropped(), 3);
            script.stick(false);
            ws.flush().await.unwrap();
            assert_eq!(payloads(&script), expected.map(|text| text.as_bytes().to_vec()));
        });
    }
}

#[test]
fn a_peer_that_is_too_slow_is_closed() {
    on_runtimes(|| async {
        let (ws, script) = stuck(limited(WhenFull::Close)).await;
        let handle = ws.handle();
        handle.send("1234567890123456789012345678901234567890").unwrap();
        assert!(matches!(handle.send("x"), Err(Error::Limit(_))));
        assert!(!handle.is_open());
        script.stick(false);
        ws.flush().await.unwrap();
        script.end();
        assert_eq!(handle.wait_closed().await.code.get(), 1006);
        assert_eq!(payloads(&script)[1], [&1008u16.to_be_bytes(), &b"too slow in reading"[..]].concat());
    });
}

#[test]
fn a_native_thread_waits_for_room() {
    on_runtimes(|| async {
        let (ws, script) = stuck(limited(WhenFull::Wait)).await;
        let handle = ws.handle();
        let thread = thread::spawn(move || (0..20).for_each(|_| handle.send("1234567890").unwrap()));
        // In a task, waiting would hold the runtime up.
        while ws.handle().send("1234567890").is_ok() {}
        script.stick(false);
        join(thread).await;
        ws.flush().await.unwrap();
        assert!(payloads(&script).len() >= 20);
    });
}

#[test]
fn a_native_thread_that_waits_for_room_learns_of_the_end() {
    on_runtimes(|| async {
        let (ws, _script) = stuck(limited(WhenFull::Wait)).await;
        let handle = ws.handle();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || {
            handle.send("12345678901234567890123456789012345678901234567890").unwrap();
            begun.send(()).unwrap();
            handle.send("1234567890")
        });
        has_begun.await.unwrap();
        ws.abort();
        assert!(matches!(join(thread).await, Err(Error::Closed)));
    });
}

#[test]
fn a_callback_of_a_worker_does_not_wait_for_room_without_end() {
    on_runtimes(|| async {
        let (ws, _script) = stuck(limited(WhenFull::Wait).wait_timeout(SOON)).await;
        let handle = ws.handle();
        let thread = thread::spawn(move || {
            let refused = Rc::new(RefCell::new(None));
            let refuses = Rc::clone(&refused);
            later(Duration::ZERO, move || {
                let error = (0..20).find_map(|_| handle.send("1234567890").err());
                *refuses.borrow_mut() = error;
            });
            wait_until(None, || refused.borrow().is_some()).unwrap();
            refused.take()
        });
        assert!(matches!(join(thread).await, Some(Error::Limit(_))));
        assert!(!ws.is_open());
    });
}

#[test]
fn one_message_goes_to_all_that_are_open() {
    on_runtimes(|| async {
        let (first, peer) = server(patient(), |mut peer| assert_eq!(peer.text(), "all")).await;
        let (second, other) = client(patient(), |mut peer| {
            assert_eq!(peer.text(), "all");
            peer.send(TEXT, b"fine");
            peer.send(BINARY, b"");
        })
        .await;
        let (gone, last) = server(patient(), |_peer| {}).await;
        gone.abort();
        let (full, _script) = stuck(limited(WhenFull::Error)).await;
        full.handle().send(&[0; 64]).unwrap();
        let room = [first.handle(), second.handle(), gone.handle(), full.handle()];
        let report = aio::broadcast(&room, "all");
        assert_eq!((report.sent, report.closed, report.full), (2, 1, 1));
        assert_eq!(room[0], first.handle());
        assert_ne!(room[0], room[1]);
        for thread in [peer, other, last] {
            join(thread).await;
        }
    });
}

#[test]
fn the_tasks_of_a_scope_end_with_the_connection() {
    on_runtimes(|| async {
        let (mut ws, peer) = client(patient(), |mut peer| {
            assert_eq!(peer.text(), "tick");
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
        })
        .await;
        let ticking = ws.handle();
        let scope = ws.scope();
        let (dropped, is_dropped) = tokio::sync::oneshot::channel::<()>();
        let endless = scope.spawn(async move {
            let _dropped = dropped;
            ticking.send_async("tick").await.unwrap();
            std::future::pending::<()>().await;
        });
        let short = scope.spawn(async { 7 });
        assert_eq!(short.await.unwrap(), Some(7));
        assert!(ws.recv().await.unwrap().is_none());
        assert_eq!(endless.await.unwrap(), None);
        assert!(is_dropped.await.is_err());
        assert_eq!(scope.spawn(async { 7 }).await.unwrap(), None, "too late");
        join(peer).await;
    });
}

#[test]
fn a_broadcast_reaches_members_of_all_kinds_in_order() {
    on_runtimes(|| async {
        let long = "news ".repeat(20_000);
        let deflating = patient().deflate(Deflate::default());
        // A client's messages are masked, so nobody shares them; and little room means that a frame leaves in pieces.
        let (masked, mut first) = pair_over(4096, deflating.clone()).await;
        let (mut second, compressing) = pair_over(4096, deflating).await;
        let (mut third, plain) = pair_over(4096, patient()).await;
        let members = [masked.handle(), compressing.handle(), plain.handle()];
        for text in ["short", &long, "behind it", &long] {
            assert_eq!(aio::broadcast(&members, text).sent, 3);
        }
        assert_eq!(aio::broadcast_with(&members, "as it is", Compress::Never).sent, 3);
        for receiver in [&mut first, &mut second, &mut third] {
            for text in ["short", &long, "behind it", &long, "as it is"] {
                assert!(receiver.recv().await.unwrap().unwrap() == text);
            }
        }
    });
}
