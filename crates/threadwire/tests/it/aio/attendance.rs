//! Attendance: what becomes of a connection that nobody receives on, however it is used.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use crate::common::peer::{CLOSE, PING, PONG, Peer, TEXT, farewell, masked, parse, request};
use crate::common::tasks::{Script, client, join, on_runtimes, server};
use crate::common::{SOON, bounded, patient};
use threadwire::aio::{self, Connection};
use threadwire::error::TimeoutKind;
use threadwire::{Client, Config, Error, Keepalive};

const SECOND: Duration = Duration::from_secs(1);

/// A way in which a program uses a connection, until that has ended.
type Use = fn(Connection) -> Pin<Box<dyn Future<Output = ()>>>;

const WAYS: [(&str, Use); 9] = [
    ("receiving", |mut ws| Box::pin(async move { while let Ok(Some(_)) = ws.recv().await {} })),
    ("only sending", |ws| {
        Box::pin(async move {
            while ws.send("tick").await.is_ok() {
                sleep(SOON / 10).await;
            }
        })
    }),
    ("doing neither", |ws| {
        Box::pin(async move {
            ws.handle().wait_closed().await;
        })
    }),
    ("two halves, of which one sends", |ws| {
        Box::pin(async move {
            let (sender, _receiver) = ws.split();
            while sender.send("tick").await.is_ok() {
                sleep(SOON / 10).await;
            }
        })
    }),
    ("a sender without its receiver", |ws| {
        Box::pin(async move {
            let (sender, receiver) = ws.split();
            drop(receiver);
            while sender.send("tick").await.is_ok() {
                sleep(SOON / 10).await;
            }
        })
    }),
    ("a handle", |ws| {
        Box::pin(async move {
            let handle = ws.handle();
            while handle.send("tick").is_ok() {
                sleep(SOON / 10).await;
            }
        })
    }),
    ("a scope", |ws| {
        Box::pin(async move {
            assert_eq!(ws.scope().spawn(pending::<()>()).await.unwrap(), None);
        })
    }),
    ("a stream that was polled once", |mut ws| {
        Box::pin(async move {
            let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut ws).poll_next(cx).is_ready())).await;
            ws.handle().wait_closed().await;
        })
    }),
    ("a receive that is there and not polled", |mut ws| {
        Box::pin(async move {
            let handle = ws.handle();
            let mut receive = pin!(ws.recv());
            let _ = poll_fn(|cx| Poll::Ready(receive.as_mut().poll(cx).is_ready())).await;
            handle.wait_closed().await;
        })
    }),
];

/// In each way, as a server and as a client.
fn each_way(config: fn() -> Config, peer: fn(Peer), check: fn(&aio::Handle)) {
    on_runtimes(move || async move {
        for (name, way) in WAYS {
            for is_client in [false, true] {
                println!("{name}, as a client: {is_client}");
                let (ws, thread) =
                    if is_client { client(config(), peer).await } else { server(config(), peer).await };
                let handle = ws.handle();
                way(ws).await;
                handle.wait_closed().await;
                check(&handle);
                join(thread).await;
            }
        }
    });
}

/// The payload of the next frame of this kind; what was sent by the program is passed over.
fn next(peer: &mut Peer, kind: u8) -> Vec<u8> {
    loop {
        match peer.frame() {
            (TEXT, _) => {}
            (first, payload) => {
                assert_eq!(first, kind);
                return payload;
            }
        }
    }
}

#[test]
fn pings_and_the_close_frame_are_answered_in_each_way_of_use() {
    each_way(
        patient,
        |mut peer| {
            for round in 0..3 {
                peer.send(PING, &[round]);
                assert_eq!(next(&mut peer, PONG), [round]);
            }
            peer.close(1000, "enough");
            assert_eq!(next(&mut peer, CLOSE), farewell(1000, ""));
        },
        |handle| {
            let closed = handle.closed().unwrap();
            assert_eq!((closed.clean, closed.reason.as_str()), (true, "enough"));
        },
    );
}

#[test]
fn the_loss_of_a_connection_is_noticed_in_each_way_of_use() {
    each_way(patient, drop, |handle| assert!(!handle.closed().unwrap().clean));
}

#[test]
fn a_silent_peer_is_noticed_in_each_way_of_use() {
    each_way(
        || {
            let keepalive = Keepalive::default().idle_timeout(SOON / 10).reply_timeout(SOON / 2);
            patient().keepalive(keepalive).close_timeout(SOON)
        },
        |mut peer| while peer.frame_or_end().is_some() {},
        |handle| {
            let closed = handle.closed().unwrap();
            assert!(matches!(closed.error, Some(Error::Timeout(TimeoutKind::Silence { .. }))), "{closed}");
        },
    );
}

/// Runs a test in virtual time.
fn timeless<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    bounded(|| {
        let runtime: Runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(test());
    });
}

/// A server's connection, whose client is a script.
async fn scripted(config: Config) -> (Connection, Script) {
    let script = Script::default();
    script.say(request("/").as_bytes());
    let ws = aio::accept_over(script.clone(), config).await.unwrap();
    sleep(Duration::from_millis(1)).await;
    script.take_written();
    (ws, script)
}

/// The frames in some bytes.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((first, payload, size)) = parse(bytes, false) {
        bytes = &bytes[size..];
        frames.push((first, payload));
    }
    frames
}

#[test]
fn a_peer_that_answers_is_not_called_silent_though_nobody_receives() {
    timeless(|| async {
        let (ws, script) = scripted(patient().keepalive(Keepalive::default())).await;
        for _ in 0..10 {
            while script.take_written() != [PING, 0] {
                sleep(SECOND).await;
            }
            script.say(&masked(PONG, b""));
        }
        // The next one is not answered.
        sleep(60 * SECOND).await;
        let closed = ws.closed().unwrap();
        assert!(matches!(closed.error, Some(Error::Timeout(TimeoutKind::Silence { .. }))), "{closed}");
    });
}

#[test]
fn what_arrives_while_nobody_receives_waits_in_order() {
    timeless(|| async {
        let (mut ws, script) = scripted(patient()).await;
        let mut wire = Vec::new();
        for number in 0..1000_u32 {
            wire.extend(masked(TEXT, number.to_string().as_bytes()));
        }
        wire.extend(masked(PING, b"read"));
        wire.extend(masked(CLOSE, &farewell(1000, "")));
        // One is received before the others come.
        let first = masked(TEXT, b"first");
        script.say(&first);
        assert_eq!(ws.recv().await.unwrap().unwrap(), "first");
        script.say(&wire);
        sleep(SECOND).await;
        let answers = [(PONG, b"read".to_vec()), (CLOSE, farewell(1000, ""))];
        assert_eq!(frames(&script.take_written()), answers);
        script.end();
        sleep(SECOND).await;
        assert!(ws.closed().unwrap().clean, "the end is known before the messages are received");
        for number in 0..1000_u32 {
            assert_eq!(ws.recv().await.unwrap().unwrap(), number.to_string().as_str());
        }
        assert_eq!(ws.recv().await.unwrap(), None);
    });
}

#[test]
fn a_reader_that_is_late_gets_what_was_read_for_it() {
    timeless(|| async {
        let (mut ws, script) = scripted(patient()).await;
        let mut receive = Box::pin(ws.recv());
        assert!(receive.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        script.say(&[masked(TEXT, b"hello"), masked(PING, b"?")].concat());
        sleep(SECOND).await;
        assert_eq!(frames(&script.take_written()), [(PONG, b"?".to_vec())]);
        // By the same future, which has moved to another task.
        assert_eq!(receive.await.unwrap().unwrap(), "hello");
    });
}

#[test]
fn a_reader_that_waits_is_woken_by_each_message() {
    timeless(|| async {
        let (mut ws, script) = scripted(patient()).await;
        for round in 0..100_u32 {
            // Now before the reader waits, now while it does; now soon after the last, now much later.
            let (told, text) = (script.clone(), round.to_string());
            let saying = tokio::spawn(async move {
                sleep(Duration::from_millis(u64::from(round % 7) * 7)).await;
                told.say(&masked(TEXT, text.as_bytes()));
            });
            sleep(Duration::from_millis(u64::from(round % 5) * 10)).await;
            assert_eq!(ws.recv().await.unwrap().unwrap(), round.to_string().as_str());
            saying.await.unwrap();
        }
    });
}

#[test]
fn where_nobody_receives_reading_stops_when_much_waits_and_goes_on_with_receiving() {
    timeless(|| async {
        let (here, there) = tokio::io::duplex(4096);
        let keeps = patient().keepalive(Keepalive::default());
        // It takes ten minutes for its messages.
        let has_time = patient().progress_timeout(Duration::MAX);
        let client = Client::new("ws://localhost/").unwrap().config(has_time);
        let ends = tokio::join!(aio::connect_over(here, &client), aio::accept_over(there, keeps));
        let (peer, mut ws) = (ends.0.unwrap(), ends.1.unwrap());
        let message = vec![7; 10_000];
        let sending = tokio::spawn(async move {
            for _ in 0..200 {
                peer.send(&message).await.unwrap();
            }
            peer.flush().await.unwrap();
            peer
        });
        sleep(600 * SECOND).await;
        assert!(!sending.is_finished(), "the peer has to wait");
        assert!(ws.is_open(), "a peer that is not read is not called silent");
        for _ in 0..200 {
            assert_eq!(ws.recv().await.unwrap().unwrap(), [7; 10_000][..]);
        }
        // There is room again, also without a receiver.
        let peer = sending.await.unwrap();
        assert_eq!(peer.measure_roundtrip(1).await.unwrap().len(), 1);
    });
}

#[test]
fn a_paused_connection_is_not_read_and_goes_on_without_a_receiver() {
    timeless(|| async {
        let (ws, script) = scripted(patient()).await;
        ws.pause_reading();
        sleep(SECOND).await;
        script.say(&masked(PING, b"?"));
        sleep(SECOND).await;
        assert_eq!(frames(&script.take_written()), []);
        ws.resume_reading();
        sleep(SECOND).await;
        assert_eq!(frames(&script.take_written()), [(PONG, b"?".to_vec())]);
    });
}

#[test]
fn a_send_that_fails_knows_how_the_connection_has_ended() {
    on_runtimes(|| async {
        for is_client in [false, true] {
            let leave = |peer: Peer| peer.reset();
            let (ws, thread) =
                if is_client { client(patient(), leave).await } else { server(patient(), leave).await };
            join(thread).await;
            while ws.send("?").await.is_ok() {}
            assert!(ws.closed().is_some());
        }
    });
}
