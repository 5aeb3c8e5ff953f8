//! Threads, workers and tasks on the same connections, in both directions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::peer::{CLOSE, PING, PONG, Peer, TEXT};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{FILLER, drain, fill_there, serving_handles, there};
use crate::common::tasks::{echo, join, on_runtimes, pair, single};
use crate::common::{PATIENCE, Serving, bind, bounded, ignore, patient};
use futures_core::Stream;
use threadwire::messages::{Backlog, WhenBehind};
use threadwire::worker::{Async, Defer, PromiseError, Worker, block_on, wait_forever};
use threadwire::{CloseCode, Connection, Error, Handle, Message, Reply, WhenFull, aio, connect};
use tokio::time::timeout;

/// A connection that lives on a server's worker, its handle, and its peer.
fn remote_connection(log: &Log) -> (Serving, Handle, Peer) {
    let (serving, handles) = serving_handles(patient(), log, ignore);
    let peer = serving.peer();
    let handle = handles.recv_timeout(PATIENCE).unwrap();
    (serving, handle, peer)
}

#[test]
fn a_callback_a_thread_that_blocks_and_a_task_share_one_connection() {
    on_runtimes(|| async {
        let log = Log::new();
        let (_serving, handle, mut peer) = remote_connection(&log);
        let mut for_thread = handle.messages(Backlog::default());
        let mut for_task = handle.messages(Backlog::default());
        let mut for_stream = handle.messages_where(Backlog::default(), |message| message.len() == 3);
        // All are known before the peer says anything.
        there(&handle, |_| ());
        let blocking = thread::spawn(move || {
            let texts: Vec<_> = for_thread.iter().map(|message| message.unwrap().to_string()).collect();
            for_thread.handle().is_open().then_some(()).ok_or(texts)
        });
        let task = tokio::spawn(async move {
            let mut texts = Vec::new();
            while let Some(message) = for_task.recv_async().await.unwrap() {
                for_task.handle().send(&format!("task: {message}")).unwrap();
                texts.push(message.to_string());
            }
            texts
        });
        let stream = tokio::spawn(async move {
            let mut count = 0;
            while let Some(message) =
                std::future::poll_fn(|cx| std::pin::Pin::new(&mut for_stream).poll_next(cx)).await
            {
                assert_eq!(message.unwrap().len(), 3);
                count += 1;
            }
            count
        });
        let numbers = 0..300;
        let expected: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let peer = thread::spawn({
            let expected = expected.clone();
            move || {
                for text in &expected {
                    peer.send(TEXT, text.as_bytes());
                    assert_eq!(peer.text(), format!("task: {text}"));
                }
                peer.close(1000, "");
                assert_eq!(peer.code(), 1000);
            }
        });
        assert_eq!(task.await.unwrap(), expected);
        assert_eq!(stream.await.unwrap(), 200);
        assert_eq!(join(blocking).await.unwrap_err(), expected);
        join(peer).await;
        let calls = join(thread::spawn({
            let log = log.clone();
            move || {
                log.wait_end();
                log.calls()
            }
        }))
        .await;
        let heard: Vec<_> = calls.into_iter().filter(|call| matches!(call, Call::Text(_))).collect();
        assert_eq!(heard, expected.iter().map(|text| Call::text(text)).collect::<Vec<_>>());
    });
}

#[test]
fn a_task_that_always_finds_a_message_leaves_others_their_turn() {
    bounded(|| {
        let runtime = single();
        let (_serving, handle, mut peer) = remote_connection(&Log::new());
        let newest = Backlog::default().when_behind(WhenBehind::DropOldest);
        let mut messages = handle.messages(newest);
        for _ in 0..1000 {
            peer.send(TEXT, b"more");
        }
        peer.close(1000, "");
        assert_eq!(peer.code(), 1000);
        runtime.block_on(async {
            let turns = Arc::new(AtomicUsize::new(0));
            let other = tokio::spawn({
                let turns = Arc::clone(&turns);
                async move {
                    loop {
                        turns.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                }
            });
            let receiving = tokio::spawn(async move {
                let before = turns.load(Ordering::Relaxed);
                while messages.recv_async().await.unwrap().is_some() {}
                turns.load(Ordering::Relaxed) - before
            });
            assert!(receiving.await.unwrap() >= 5, "the other task had its turns");
            other.abort();
        });
    });
}

#[test]
fn a_receive_under_a_timeout_or_in_select_loses_nothing() {
    on_runtimes(|| async {
        let (_serving, handle, mut peer) = remote_connection(&Log::new());
        let mut messages = handle.messages(Backlog::default());
        there(&handle, |_| ());
        for _ in 0..3 {
            assert!(timeout(std::time::Duration::ZERO, messages.recv_async()).await.is_err());
        }
        peer.send(TEXT, b"1");
        peer.send(TEXT, b"2");
        for expected in ["1", "2"] {
            let received = tokio::select! {
                received = messages.recv_async() => received,
                never = std::future::pending() => never,
            };
            assert_eq!(received.unwrap().unwrap(), expected);
        }
    });
}

#[test]
fn both_kinds_of_handles_are_used_by_threads_and_tasks_alike() {
    on_runtimes(|| async {
        let (_serving, callback, mut peer) = remote_connection(&Log::new());
        let (mut client, server) = pair().await;
        let echoing = tokio::spawn(echo(server));
        let tasks = client.handle();
        let senders: Vec<_> = (0..4)
            .map(|number| {
                let (callback, tasks) = (callback.clone(), tasks.clone());
                let send = move || {
                    callback.send(&number.to_string()).unwrap();
                    tasks.send(&number.to_string()).unwrap();
                };
                match number % 2 {
                    0 => tokio::spawn(async move { send() }),
                    _ => tokio::task::spawn_blocking(send),
                }
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            here.push(client.recv().await.unwrap().unwrap().to_string());
            there.push(peer.text());
        }
        here.sort();
        there.sort();
        assert_eq!((&here, &here), (&there, &(0..4).map(|number| number.to_string()).collect()));
        client.close().await.unwrap();
        echoing.await.unwrap().unwrap();
    });
}

#[test]
fn a_worker_blocks_on_the_async_face_while_its_loop_turns() {
    bounded(|| {
        let runtime = crate::common::tasks::several();
        let server = runtime.block_on(aio::Server::bind("127.0.0.1:0")).unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        runtime.spawn(server.serve(|_request, ws| async move { drop(echo(ws).await) }));
        let tokio = runtime.handle().clone();
        let worker = Worker::spawn(move || {
            let _entered = tokio.enter();
            let turns = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&turns);
            threadwire::worker::later(std::time::Duration::ZERO, move || {
                counts.fetch_add(1, Ordering::Relaxed);
            });
            let text = block_on(async {
                let mut ws = aio::connect(&url).await?;
                ws.send("from a worker").await?;
                let message = ws.recv().await?;
                ws.close().await?;
                Ok::<_, Error>(message.unwrap().to_string())
            })?;
            Ok((text.unwrap(), turns.load(Ordering::Relaxed)))
        });
        assert_eq!(worker.join().unwrap().done(), Some(("from a worker".to_owned(), 1)));
    });
}

#[test]
fn a_worker_that_is_stopped_lets_go_of_the_future_it_blocks_on() {
    bounded(|| {
        let runtime = crate::common::tasks::several();
        let tokio = runtime.handle().clone();
        let (begun, begins) = std::sync::mpsc::channel();
        let (here, there) = tokio::io::duplex(4096);
        let server = runtime.spawn(async move {
            let mut ws = aio::accept_over(there, patient()).await?;
            ws.recv().await.map(drop)
        });
        let worker: Worker<()> = Worker::spawn(move || {
            let _entered = tokio.enter();
            block_on(async {
                let mut ws = aio::connect_over(here, "ws://example.com/").await.unwrap();
                begun.send(()).unwrap();
                ws.recv().await.map(drop).unwrap();
            })
        });
        begins.recv().unwrap();
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
        // The connection was dropped, so it closes with 1001: a normal end.
        runtime.block_on(server).unwrap().unwrap();
    });
}

#[test]
fn a_task_awaits_what_workers_bring() {
    on_runtimes(|| async {
        assert_eq!(Async::run(|| Ok(6 * 7)).await.unwrap(), 42);
        assert!(matches!(Async::<()>::run(|| panic!("no")).await, Err(PromiseError::Panicked(_))));

        let answer = Defer::new();
        let worker = Worker::spawn({
            let resolver = answer.resolver();
            move || {
                resolver.resolve("from a worker").unwrap();
                wait_forever()
            }
        });
        assert_eq!(answer.await.unwrap(), "from a worker");
        worker.stop();
    });
}

#[test]
fn a_task_measures_a_connection_of_callbacks_and_waits_for_its_end() {
    on_runtimes(|| async {
        let (_serving, handle, mut peer) = remote_connection(&Log::new());
        let peer = thread::spawn(move || {
            for _ in 0..3 {
                let (first, payload) = peer.frame();
                assert_eq!(first, PING);
                peer.send(PONG, &payload);
            }
            assert_eq!(peer.text(), "that was all");
            assert_eq!(peer.frame().0, CLOSE);
            peer.close(1000, "");
        });
        assert_eq!(handle.measure_roundtrip(3).await.unwrap().len(), 3);
        let ends: Vec<_> = (0..3).map(|_| tokio::spawn(handle.wait_closed_async())).collect();
        drop(handle.wait_closed_async());
        assert!(timeout(std::time::Duration::ZERO, handle.wait_closed_async()).await.is_err());
        handle.send("that was all").unwrap();
        handle.wait_drained_async().await;
        assert_eq!(handle.buffered(), 0);
        handle.close().unwrap();
        for end in ends {
            assert_eq!(end.await.unwrap().code, CloseCode::NORMAL);
        }
        assert!(handle.wait_closed_async().await.clean, "at once");
        handle.wait_drained_async().await;
        assert!(handle.measure_roundtrip(1).await.is_err());
        join(peer).await;
    });
}

#[test]
fn a_task_that_sends_to_a_peer_which_does_not_read_waits_and_holds_nobody() {
    on_runtimes(|| async {
        let config = patient().max_buffered(4 * FILLER);
        let (serving, handles) = serving_handles(config, &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv_timeout(PATIENCE).unwrap();
        let filler = vec![0; FILLER];
        let mut count = 0;
        while handle.send_with(&filler, WhenFull::Error).is_ok() {
            count += 1;
        }
        let waiting = tokio::spawn({
            let (handle, filler) = (handle.clone(), filler.clone());
            async move { handle.send_async(&filler).await }
        });
        // The runtime goes on.
        tokio::task::yield_now().await;
        let reading = thread::spawn(move || drain(&mut peer, count + 1));
        waiting.await.unwrap().unwrap();
        join(reading).await;
        handle.abort();
        handle.wait_closed_async().await;
        assert!(matches!(handle.send_async("too late").await, Err(Error::Closed)));
    });
}

#[test]
fn a_task_learns_that_what_it_waits_for_will_never_be_read() {
    on_runtimes(|| async {
        let (_serving, handle, _peer) = remote_connection(&Log::new());
        fill_there(&handle);
        let drained = tokio::spawn(handle.wait_drained_async());
        let mut sends = Box::pin(handle.send_async("behind it"));
        let first = std::future::poll_fn(|cx| std::task::Poll::Ready(sends.as_mut().poll(cx))).await;
        assert!(first.is_ready(), "there is still room");
        handle.abort();
        drained.await.unwrap();
    });
}

#[test]
fn a_connection_of_this_thread_is_driven_by_the_wait_for_a_future() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(crate::common::echo));
        let ws = connect(&serving.url("/"), |_: &Connection, _: Message<'_>| Ok(())).unwrap();
        let handle = ws.handle();
        let mut messages = handle.messages(Backlog::default());
        let runtime = single();
        let _entered = runtime.enter();
        let texts = block_on(async {
            let mut texts = Vec::new();
            for number in 0..10 {
                handle.send_async(&number.to_string()).await?;
                texts.push(messages.recv_async().await?.unwrap().to_string());
            }
            handle.close()?;
            handle.wait_closed_async().await;
            Ok::<_, Error>(texts)
        });
        assert_eq!(texts.unwrap().unwrap().len(), 10);
    });
}
