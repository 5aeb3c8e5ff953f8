//! Fairness on the async face: other tasks get their turn, and slow readers are waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::common::peer::{BINARY, CLOSE, PING, PONG, TEXT};
use crate::common::tasks::{client, join, on_runtimes, pair, server, single};
use crate::common::{SOON, bounded, patient};
use threadwire::Config;
use tokio::task::yield_now;

#[test]
fn a_loop_of_sends_starves_neither_other_tasks_nor_pings() {
    bounded(|| {
        single().block_on(async {
            let (ws, peer) = client(patient(), |mut peer| {
                peer.send(PING, b"are you there?");
                let mut sent = 0;
                loop {
                    match peer.frame() {
                        (PONG, payload) => break assert_eq!(payload, b"are you there?"),
                        (first, _) => assert_eq!(first, TEXT),
                    }
                    sent += 1;
                }
                println!("{sent} messages before the pong");
            })
            .await;
            let others = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&others);
            let other = tokio::spawn(async move {
                loop {
                    count.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                }
            });
            let mut peer = Some(join(peer));
            let seen = tokio::spawn(async move { peer.take().unwrap().await });
            let mut sent = 0;
            while !seen.is_finished() {
                if ws.send("nothing but sends").await.is_err() {
                    break;
                }
                sent += 1;
            }
            seen.await.unwrap();
            assert!(others.load(Ordering::Relaxed) > sent / 200, "the other task had its turns");
            other.abort();
        });
    });
}

#[test]
fn a_loop_of_sends_does_not_starve_the_receiver_of_the_same_connection() {
    on_runtimes(|| async {
        let (client, mut server) = pair().await;
        let (sender, mut receiver) = client.split();
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let sending = tokio::spawn(async move {
            while !is_done.load(Ordering::Relaxed) {
                sender.send("more").await.unwrap();
            }
            sender
        });
        let serving = tokio::spawn(async move {
            server.send("one").await.unwrap();
            while let Ok(Some(_)) = server.recv().await {}
        });
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "one");
        done.store(true, Ordering::Relaxed);
        drop((sending.await.unwrap(), receiver));
        serving.await.unwrap();
    });
}

#[test]
fn a_loop_of_receives_leaves_others_their_turn() {
    bounded(|| {
        single().block_on(async {
            let (client, mut server) = pair().await;
            let turns = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&turns);
            for _ in 0..1000 {
                client.send("x").await.unwrap();
            }
            client.flush().await.unwrap();
            let other = tokio::spawn(async move {
                loop {
                    count.fetch_add(1, Ordering::Relaxed);
                    yield_now().await;
                }
            });
            let receiving = tokio::spawn(async move {
                for _ in 0..1000 {
                    server.recv().await.unwrap().unwrap();
                }
            });
            receiving.await.unwrap();
            assert!(turns.load(Ordering::Relaxed) >= 5);
            other.abort();
        });
    });
}

#[test]
fn what_arrives_during_a_loop_of_sends_is_received_afterwards() {
    on_runtimes(|| async {
        let (mut ws, peer) = client(patient(), |mut peer| {
            for number in 0..100 {
                peer.send(TEXT, format!("{number}").as_bytes());
            }
            while peer.frame().1 != b"last" {}
            peer.send(TEXT, b"end");
        })
        .await;
        for _ in 0..10_000 {
            ws.send("and more").await.unwrap();
        }
        ws.send("last").await.unwrap();
        for number in 0..100 {
            assert_eq!(ws.recv().await.unwrap().unwrap(), number.to_string().as_str());
        }
        assert_eq!(ws.recv().await.unwrap().unwrap(), "end");
        join(peer).await;
    });
}

#[test]
fn a_slow_reader_is_waited_for() {
    on_runtimes(|| async {
        let (go, gone) = std::sync::mpsc::channel();
        let (ws, peer) = server(patient(), move |mut peer| {
            gone.recv().unwrap();
            for _ in 0..500 {
                assert_eq!(peer.frame(), (BINARY, vec![1; 64 << 10]));
            }
        })
        .await;
        let message = vec![1; 64 << 10];
        let most = Config::default().high_watermark + (65 << 10);
        let mut go = Some(go);
        for _ in 0..500 {
            if tokio::time::timeout(SOON, ws.send(&message)).await.is_err() {
                // The send waits, and has sent nothing.
                assert!(ws.buffered() <= most, "{}", ws.buffered());
                go.take().into_iter().for_each(|go| go.send(()).unwrap());
                ws.send(&message).await.unwrap();
            }
            assert!(ws.buffered() <= most, "{}", ws.buffered());
        }
        assert!(go.is_none(), "the peer never was too slow");
        ws.flush().await.unwrap();
        join(peer).await;
    });
}

#[test]
fn a_ping_is_answered_while_a_send_waits() {
    on_runtimes(|| async {
        let (ws, peer) = server(patient(), |mut peer| {
            // The peer reads nothing yet, and pings.
            peer.send(PING, b"slow");
            let mut pongs = 0;
            loop {
                match peer.frame().0 {
                    CLOSE => break,
                    first => pongs += usize::from(first == PONG),
                }
            }
            assert_eq!(pongs, 1);
        })
        .await;
        for _ in 0..300 {
            ws.send(&vec![1; 64 << 10]).await.unwrap();
        }
        drop(ws);
        join(peer).await;
    });
}

#[test]
fn two_that_only_send_to_each_other_do_not_lock_each_other_out_of_the_end() {
    on_runtimes(|| async {
        let (ws, peer) = server(patient(), |mut peer| {
            peer.close(1000, "");
            while peer.frame().0 != CLOSE {}
        })
        .await;
        // No task receives, and the loop ends all the same.
        while ws.send("hello?").await.is_ok() {}
        assert_eq!(ws.handle().wait_closed().await.code.get(), 1000);
        join(peer).await;
    });
}
