//! Questions of users of an async library, and the answers of its guide, which are mostly that it can't be had. Each test says in
//! our words what is asked or claimed there. Those that are tested elsewhere:
//!
//! - A loop of sends gives other tasks their turn, and pings are answered meanwhile: `aio::fairness`.
//! - Who blocks a runtime is named: `aio::blocked_tasks`.
//! - Threads, workers and tasks with one another: `threads_and_tasks`.

use std::sync::mpsc;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::thread;

use crate::common::peer::{PING, PONG, TEXT};
use crate::common::recorder::Log;
use crate::common::sharing::{serving_handles, there};
use crate::common::tasks::{client, echo, join, on_runtimes, pair, single};
use crate::common::{PATIENCE, bounded, ignore, patient};
use threadwire::aio;
use threadwire::messages::Backlog;
use threadwire::worker::{Worker, wait_forever};
use tokio::sync::oneshot;

/// How to run two coroutines in parallel: by starting two tasks.
#[test]
fn two_tasks_share_a_connection() {
    on_runtimes(|| async {
        let (ws, server) = pair().await;
        let serving = tokio::spawn(echo(server));
        let (sender, mut receiver) = ws.split();
        let producer = tokio::spawn(async move {
            for number in 0..100 {
                sender.send(&number.to_string()).await.unwrap();
            }
            sender
        });
        let consumer = tokio::spawn(async move {
            for number in 0..100 {
                assert_eq!(receiver.recv().await.unwrap().unwrap(), number.to_string().as_str());
            }
            receiver
        });
        let (sender, receiver) = (producer.await.unwrap(), consumer.await.unwrap());
        drop((sender, receiver));
        serving.await.unwrap().unwrap();
    });
}

/// One has to keep track of the tasks, and to cancel them when the connection ends.
#[test]
fn the_tasks_of_a_connection_are_cancelled_with_it() {
    on_runtimes(|| async {
        let (mut ws, peer) = client(patient(), |mut peer| {
            assert_eq!(peer.text(), "tick");
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
        })
        .await;
        let scope = ws.scope();
        let drops: Vec<oneshot::Receiver<()>> = (0..3)
            .map(|_| {
                let (alive, dropped) = oneshot::channel();
                scope.spawn(async move {
                    let _alive = alive;
                    std::future::pending::<()>().await;
                });
                dropped
            })
            .collect();
        ws.send("tick").await.unwrap();
        assert!(ws.recv().await.unwrap().is_none());
        for dropped in drops {
            assert!(dropped.await.is_err(), "the task was dropped");
        }
        join(peer).await;
    });
}

/// Why a program never receives: it sends in a loop, and to await a send is no guarantee that others get their turn. One has to
/// sleep for no time in between. (Nobody has to here.)
#[test]
fn a_producer_that_never_yields_starves_no_receiver() {
    bounded(|| {
        // One thread: the receiver runs when the producer lets it.
        single().block_on(async {
            let (ws, server) = pair().await;
            let serving = tokio::spawn(echo(server));
            let (sender, mut receiver) = ws.split();
            let done = Arc::new(AtomicBool::new(false));
            let is_done = Arc::clone(&done);
            let consumer = tokio::spawn(async move {
                for _ in 0..1000 {
                    assert!(receiver.recv().await.unwrap().is_some());
                }
                is_done.store(true, Ordering::Relaxed);
                receiver
            });
            while !done.load(Ordering::Relaxed) {
                sender.send("the next message").await.unwrap();
            }
            drop((sender, consumer.await.unwrap()));
            // The echo may have had something left to send.
            let _ = serving.await.unwrap();
        });
    });
}

/// The same for a thread that does nothing but send: the connection's own thread reads, and answers pings.
#[test]
fn a_thread_that_only_sends_holds_up_no_pong() {
    bounded(|| {
        let config = patient().max_buffered(64 << 10);
        let (serving, handles) = serving_handles(config, &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv_timeout(PATIENCE).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sending = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                handle.send_with("more", threadwire::WhenFull::Wait).unwrap();
            }
        });
        assert_eq!(peer.text(), "more");
        peer.send(PING, b"are you there?");
        loop {
            match peer.frame() {
                (PONG, payload) => break assert_eq!(payload, b"are you there?"),
                (first, _) => assert_eq!(first, TEXT),
            }
        }
        stop.store(true, Ordering::Relaxed);
        drop(thread::spawn(move || while peer.frame_or_end().is_some() {}));
        sending.join().unwrap();
    });
}

/// Threads and asynchronous code exclude each other: what needs a thread of its own has to become a task. Here the connection is in
/// a thread, and the logic in a task.
#[test]
fn the_connection_is_in_a_thread_and_the_logic_in_a_task() {
    on_runtimes(|| async {
        let server = aio::Server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        tokio::spawn(server.serve(|_request, ws| async move { drop(echo(ws).await) }));
        let (give, given) = oneshot::channel();
        let worker = Worker::spawn(move || {
            let quiet = |_: &threadwire::Connection, _: threadwire::Message<'_>| Ok(());
            let ws = threadwire::connect(&url, quiet).unwrap();
            assert!(give.send(ws.handle()).is_ok());
            wait_forever()
        });
        let handle = given.await.unwrap();
        let mut messages = handle.messages(Backlog::default());
        for number in 0..10 {
            handle.send_async(&number.to_string()).await.unwrap();
            assert_eq!(messages.recv_async().await.unwrap().unwrap(), number.to_string().as_str());
        }
        worker.stop();
        assert!(messages.recv_async().await.unwrap().is_none());
        assert_eq!(handle.wait_closed_async().await.code.get(), 1001);
    });
}

/// And the other way: the connection is in a task, and the logic, which blocks, in a thread.
#[test]
fn the_connection_is_in_a_task_and_the_logic_in_a_thread() {
    on_runtimes(|| async {
        let (mut ws, server) = pair().await;
        let serving = tokio::spawn(echo(server));
        let handle = ws.handle();
        let (give, given) = mpsc::channel();
        let logic = thread::spawn(move || {
            for number in 0..10 {
                handle.send(&number.to_string()).unwrap();
                let answer: threadwire::OwnedMessage = given.recv_timeout(PATIENCE).unwrap();
                assert_eq!(answer, number.to_string().as_str());
            }
            handle.close().unwrap();
        });
        while let Some(message) = ws.recv().await.unwrap() {
            give.send(message).unwrap();
        }
        join(logic).await;
        serving.await.unwrap().unwrap();
    });
}

/// Blocking work belongs on a thread of the executor: meanwhile the connection goes on.
#[test]
fn what_blocks_runs_elsewhere_and_the_connection_goes_on() {
    on_runtimes(|| async {
        let (release, released) = mpsc::channel::<()>();
        let (mut ws, peer) = client(patient(), move |mut peer| {
            peer.send(PING, b"meanwhile");
            assert_eq!(peer.frame(), (PONG, b"meanwhile".to_vec()));
            // The blocking work ends only now.
            release.send(()).unwrap();
            assert_eq!(peer.text(), "done");
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
        })
        .await;
        let mut blocks = tokio::task::spawn_blocking(move || released.recv_timeout(PATIENCE).unwrap());
        tokio::select! {
            ended = &mut blocks => ended.unwrap(),
            message = ws.recv() => panic!("{message:?}"),
        }
        ws.send("done").await.unwrap();
        assert!(ws.recv().await.unwrap().is_none());
        join(peer).await;
    });
}

/// A program misbehaves mysteriously as it sleeps without an await, so that nothing else gets its turn. On a connection that lives on
/// a thread of its own, a task may block as long as it likes: pings are answered, messages are taken, and what was sent has left.
#[test]
fn a_task_that_blocks_does_no_harm_to_a_connection_on_another_thread() {
    bounded(|| {
        single().block_on(async {
            let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
            let mut peer = serving.peer();
            let handle = handles.recv_timeout(PATIENCE).unwrap();
            let mut messages = handle.messages(Backlog::default());
            there(&handle, |_| ());
            handle.send("sent before the sleep").unwrap();
            // This is the sleep: it ends when the peer has had all that it waits for.
            let peer = thread::spawn(move || {
                assert_eq!(peer.text(), "sent before the sleep");
                peer.send(TEXT, b"received during the sleep");
                peer.send(PING, b"are you there?");
                assert_eq!(peer.frame(), (PONG, b"are you there?".to_vec()));
                peer
            });
            let _peer = peer.join().unwrap();
            assert_eq!(messages.recv_async().await.unwrap().unwrap(), "received during the sleep");
        });
    });
}

/// Such programs send, and nothing arrives, until another send that has no sense makes them work. What was sent before a task blocks
/// leaves with a flush, and no sense is lost.
#[test]
fn what_was_flushed_has_left_when_the_task_blocks() {
    bounded(|| {
        single().block_on(async {
            let (ws, peer) = client(patient(), |mut peer| assert_eq!(peer.text(), "before the sleep")).await;
            ws.send("before the sleep").await.unwrap();
            ws.flush().await.unwrap();
            // This is the sleep: the runtime does nothing until the peer has it.
            peer.join().unwrap();
        });
    });
}

/// It may lead to connections that time out: others believe that this side is gone. Who sleeps so is found out, by name.
#[test]
fn who_sleeps_without_waiting_is_named() {
    bounded(|| {
        single().block_on(async {
            let (tell, told) = mpsc::channel();
            let limit = std::time::Duration::from_millis(1);
            let task = aio::watch("the task that sleeps", limit, async move { thread::sleep(limit * 2) });
            task.on_stall(move |stall| tell.send(stall.what.clone()).unwrap()).await;
            assert!(told.recv().unwrap().starts_with("the task that sleeps"));
        });
    });
}
