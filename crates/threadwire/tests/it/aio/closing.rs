//! Close handshake and loss on the async face: one outcome, in bounded time.

use std::sync::Arc;
use std::time::Duration;

use crate::common::peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT, farewell, frame, masked};
use crate::common::tasks::{client, join, on_runtimes, pair, server};
use crate::common::{SOON, patient};
use threadwire::aio::Connection;
use threadwire::error::TimeoutKind;
use threadwire::{CloseCode, Closed, Config, Error, Initiator};

/// The outcome as a test looks at it: code, reason, initiator, whether it was clean, and the error.
type End = (u16, String, Initiator, bool, Option<String>);

fn end(closed: &Closed) -> End {
    let error = closed.error.as_ref().map(ToString::to_string);
    (closed.code.get(), closed.reason.clone(), closed.initiator, closed.clean, error)
}

fn clean(initiator: Initiator, code: u16, reason: &str) -> End {
    (code, reason.to_owned(), initiator, true, None)
}

fn broken(initiator: Initiator, error: &str) -> End {
    (1006, String::new(), initiator, false, Some(error.to_owned()))
}

const LOST: &str = "the peer ended the connection without a close frame";
const TOO_LONG: &str = "the peer's answer to our close frame took too long";

/// Receives to the end, and checks that everybody hears the same of it.
async fn outcome(mut ws: Connection) -> End {
    let handle = ws.handle();
    let result = loop {
        match ws.recv().await {
            Ok(Some(_)) => {}
            other => break other,
        }
    };
    let closed = ws.closed().expect("the end was received");
    let is_normal = matches!(closed.code.get(), 1000 | 1001 | 1005);
    match result {
        Ok(None) => assert!(is_normal, "{closed}"),
        Err(Error::Ended(same)) => assert!(!is_normal && Arc::ptr_eq(&same, &closed)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(ws.recv().await, Ok(None)), "it is told once");
    assert!(matches!(ws.send("too late").await, Err(Error::Closed)));
    assert!(matches!(handle.send("too late"), Err(Error::Closed)));
    assert!(matches!(ws.flush().await, Err(Error::Closed)));
    assert!(ws.peer_addr().is_err() && !ws.is_open() && ws.buffered() == 0);
    assert!(Arc::ptr_eq(&closed, &handle.wait_closed().await));
    assert!(Arc::ptr_eq(&closed, &ws.close().await.unwrap()), "closing again only says how it was");
    end(&closed)
}

/// As a server and as a client.
fn both(config: fn() -> Config, peer: fn(Peer), expected: impl Fn() -> End + Send + Sync + 'static) {
    let expected = Arc::new(expected);
    on_runtimes(move || {
        let expected = Arc::clone(&expected);
        async move {
            let (ws, thread) = server(config(), peer).await;
            assert_eq!(outcome(ws).await, expected(), "a server");
            join(thread).await;
            let (ws, thread) = client(config(), peer).await;
            assert_eq!(outcome(ws).await, expected(), "a client");
            join(thread).await;
        }
    });
}

#[test]
fn the_peers_code_is_answered_and_reported() {
    fn leave<const CODE: u16>(mut peer: Peer) {
        peer.close(CODE, "bye");
        assert_eq!(peer.closed(), (CODE, String::new()));
    }
    both(patient, leave::<1000>, || clean(Initiator::Peer, 1000, "bye"));
    both(patient, leave::<1001>, || clean(Initiator::Peer, 1001, "bye"));
    both(patient, leave::<1011>, || clean(Initiator::Peer, 1011, "bye"));
    both(patient, leave::<4999>, || clean(Initiator::Peer, 4999, "bye"));
}

#[test]
fn a_close_frame_without_a_code_is_answered_with_one_without_a_code() {
    let leave = |mut peer: Peer| {
        peer.send(CLOSE, b"");
        assert_eq!(peer.closed(), (1005, String::new()));
    };
    both(patient, leave, || clean(Initiator::Peer, 1005, ""));
}

#[test]
fn a_server_ends_tcp_in_order_once_it_has_answered() {
    on_runtimes(|| async {
        let (mut ws, peer) = server(patient(), |mut peer| {
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
            assert!(peer.ended_orderly());
        })
        .await;
        assert!(ws.recv().await.unwrap().is_none());
        join(peer).await;
    });
}

#[test]
fn closing_waits_for_the_peers_answer() {
    let answer = |mut peer: Peer| {
        assert_eq!(peer.closed(), (4000, "done".to_owned()));
        peer.close(4001, "fine");
        peer.end();
        assert!(peer.ended());
    };
    on_runtimes(move || async move {
        for is_client in [false, true] {
            let (ws, thread) =
                if is_client { client(patient(), answer).await } else { server(patient(), answer).await };
            let closed = ws.close_with(CloseCode::new(4000), "done").await.unwrap();
            assert_eq!(end(&closed), clean(Initiator::Local, 4001, "fine"));
            join(thread).await;
        }
    });
}

#[test]
fn closing_goes_on_though_nobody_waits_for_it() {
    on_runtimes(|| async {
        let (ws, peer) = client(patient(), |mut peer| {
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
        })
        .await;
        let handle = ws.handle();
        handle.close().unwrap();
        // No task receives.
        assert_eq!(end(&*handle.wait_closed().await), clean(Initiator::Local, 1000, ""));
        join(peer).await;
        drop(ws);
    });
}

#[test]
fn both_sides_may_close_at_once() {
    on_runtimes(|| async {
        let (first, second) = pair().await;
        let (one, other) = tokio::join!(first.close(), second.close());
        assert!(one.unwrap().clean && other.unwrap().clean);
    });
}

#[test]
fn what_arrived_before_the_peers_end_is_received_before_it() {
    on_runtimes(|| async {
        let (mut ws, peer) = server(patient(), |mut peer| {
            let wire = [masked(TEXT, b"one"), masked(TEXT, b"two"), masked(CLOSE, &farewell(1000, ""))];
            peer.bytes(wire.concat());
            assert_eq!(peer.code(), 1000);
        })
        .await;
        assert_eq!(ws.recv().await.unwrap().unwrap(), "one");
        assert_eq!(ws.recv().await.unwrap().unwrap(), "two");
        assert!(ws.recv().await.unwrap().is_none());
        join(peer).await;
    });
}

#[test]
fn what_was_sent_before_closing_arrives_before_the_close_frame() {
    let read = |mut peer: Peer| {
        assert_eq!(peer.text(), "small");
        assert_eq!(peer.frame(), (BINARY, vec![7; 1 << 20]));
        assert_eq!(peer.text(), "last");
        assert_eq!(peer.code(), 1000);
        peer.close(1000, "");
    };
    on_runtimes(move || async move {
        for is_client in [false, true] {
            let (ws, thread) =
                if is_client { client(patient(), read).await } else { server(patient(), read).await };
            ws.send("small").await.unwrap();
            ws.send(&vec![7; 1 << 20]).await.unwrap();
            ws.send("last").await.unwrap();
            assert!(ws.close().await.unwrap().clean);
            join(thread).await;
        }
    });
}

#[test]
fn an_aborted_connection_ends_without_a_close_frame() {
    on_runtimes(|| async {
        let (ws, peer) = server(patient(), |mut peer| assert!(peer.ended())).await;
        ws.abort();
        assert_eq!(outcome(ws).await, (1006, String::new(), Initiator::Local, false, None));
        join(peer).await;
    });
}

#[test]
fn a_reason_of_this_side_is_told_where_the_peer_has_no_other() {
    on_runtimes(|| async {
        for (theirs, expected) in [("", "lunch"), ("so be it", "so be it")] {
            let answer = move |mut peer: Peer| {
                assert_eq!(peer.closed(), (4000, "lunch".to_owned()));
                peer.close(4000, theirs);
                assert!(peer.ended());
            };
            let (ws, thread) = server(patient(), answer).await;
            let closed = ws.close_with(CloseCode::new(4000), "lunch").await.unwrap();
            assert_eq!((&*closed.reason, closed.clean), (expected, true));
            join(thread).await;
        }
    });
}

#[test]
fn a_connection_that_the_peer_drops_is_lost() {
    both(patient, |_peer| {}, || broken(Initiator::Peer, LOST));
}

#[test]
fn a_connection_that_the_peer_resets_is_broken() {
    both(patient, Peer::reset, || broken(Initiator::Peer, "connection reset by peer"));
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    on_runtimes(|| async {
        let config = || patient().close_timeout(SOON);
        let stay = |mut peer: Peer| {
            assert_eq!(peer.code(), 1000);
            assert!(peer.ended());
        };
        for is_client in [false, true] {
            let (ws, thread) =
                if is_client { client(config(), stay).await } else { server(config(), stay).await };
            let closed = ws.close().await.unwrap();
            assert_eq!(end(&closed), broken(Initiator::Local, TOO_LONG));
            assert!(matches!(closed.error, Some(Error::Timeout(TimeoutKind::Close))));
            join(thread).await;
        }
    });
}

#[test]
fn a_server_that_answers_and_does_not_end_tcp_is_given_up_after_a_clean_close() {
    on_runtimes(|| async {
        let (ws, peer) = client(patient().close_timeout(SOON), |mut peer| {
            peer.close(1000, "bye");
            assert_eq!(peer.code(), 1000);
            assert!(peer.ended());
        })
        .await;
        assert_eq!(outcome(ws).await, clean(Initiator::Peer, 1000, "bye"));
        join(peer).await;
    });
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_which_rule() {
    on_runtimes(|| async {
        let (ws, peer) = client(patient(), |mut peer| {
            peer.bytes(masked(TEXT, b"I am no client"));
            assert_eq!(peer.closed(), (1002, "a server's frame is masked".to_owned()));
            assert!(peer.ended_orderly());
        })
        .await;
        let error = "the peer broke the protocol: a server's frame is masked (RFC 6455, section 5.1)";
        let (code, _, initiator, clean, found) = outcome(ws).await;
        assert_eq!((code, initiator, clean, found.as_deref()), (1002, Initiator::Local, false, Some(error)));
        join(peer).await;
        let (ws, peer) = server(patient(), |mut peer| {
            // Much of it lies unread when the first frame is refused.
            peer.try_bytes(&frame(TEXT, false, &vec![b'x'; 1 << 20]));
            assert_eq!(peer.closed(), (1002, "a client's frame is not masked".to_owned()));
        })
        .await;
        assert_eq!(outcome(ws).await.0, 1002);
        join(peer).await;
    });
}

#[test]
fn a_dropped_connection_says_goodbye_with_1001() {
    let read = |mut peer: Peer| {
        assert_eq!(peer.text(), "hello");
        assert_eq!(peer.code(), 1001);
        peer.close(1001, "");
    };
    on_runtimes(move || async move {
        for is_client in [false, true] {
            let (ws, thread) =
                if is_client { client(patient(), read).await } else { server(patient(), read).await };
            let handle = ws.handle();
            ws.send("hello").await.unwrap();
            drop(ws);
            assert!(!handle.is_open());
            assert_eq!(end(&*handle.wait_closed().await), clean(Initiator::Local, 1001, ""));
            join(thread).await;
        }
    });
}

#[test]
fn a_panic_of_the_task_closes_with_1011() {
    on_runtimes(|| async {
        let (mut ws, peer) = client(patient(), |mut peer| {
            peer.send(TEXT, b"boom");
            assert_eq!(peer.code(), 1011);
            peer.close(1011, "");
        })
        .await;
        let task = tokio::spawn(async move {
            ws.recv().await.unwrap();
            panic!("boom");
        });
        assert!(task.await.unwrap_err().is_panic());
        join(peer).await;
    });
}

#[test]
fn a_dropped_connection_ends_though_its_peer_neither_reads_nor_answers() {
    on_runtimes(|| async {
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let (ws, peer) = server(patient().close_timeout(SOON), move |peer| {
            assert!(gone.recv().is_err());
            drop(peer);
        })
        .await;
        let handle = ws.handle();
        ws.send(&vec![0; 16 << 20]).await.unwrap();
        drop(ws);
        assert!(!handle.wait_closed().await.clean);
        drop(go);
        join(peer).await;
    });
}

#[test]
fn a_sender_alone_goes_on_and_its_pings_are_answered() {
    on_runtimes(|| async {
        let (answered, is_answered) = tokio::sync::oneshot::channel();
        let (ws, peer) = client(patient(), move |mut peer| {
            peer.send(PING, b"still there?");
            assert_eq!(peer.frame(), (PONG, b"still there?".to_vec()));
            answered.send(()).unwrap();
            peer.send(TEXT, b"nobody wants it");
            assert_eq!(peer.text(), "still here");
            assert_eq!(peer.code(), 1001);
            peer.close(1001, "");
        })
        .await;
        let (sender, receiver) = ws.split();
        drop(receiver);
        is_answered.await.unwrap();
        sender.send("still here").await.unwrap();
        sender.flush().await.unwrap();
        let handle = sender.handle();
        drop(sender);
        assert!(handle.wait_closed().await.clean);
        join(peer).await;
    });
}

#[test]
fn a_sender_alone_learns_of_the_end() {
    on_runtimes(|| async {
        let (ws, peer) = client(patient(), |mut peer| {
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
        })
        .await;
        let (sender, _) = ws.split();
        assert!(sender.handle().wait_closed().await.clean);
        assert!(matches!(sender.send("?").await, Err(Error::Closed)));
        join(peer).await;
    });
}

#[test]
fn a_receiver_alone_goes_on() {
    on_runtimes(|| async {
        let (ws, peer) = client(patient(), |mut peer| {
            peer.send(TEXT, b"news");
            peer.close(1000, "");
            assert_eq!(peer.code(), 1000);
        })
        .await;
        let (_, mut receiver) = ws.split();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "news");
        assert!(receiver.recv().await.unwrap().is_none());
        join(peer).await;
    });
}

#[test]
fn codes_that_must_not_be_sent_are_refused_without_effect() {
    on_runtimes(|| async {
        let (ws, peer) = client(patient(), |mut peer| {
            assert_eq!(peer.text(), "still here");
            assert_eq!(peer.code(), 4000);
            peer.close(4000, "");
        })
        .await;
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            let refused = ws.close_with(CloseCode::new(code), "").await;
            assert!(matches!(refused, Err(Error::Send(_))), "{code}: {refused:?}");
        }
        assert!(ws.is_open());
        ws.send("still here").await.unwrap();
        ws.close_with(CloseCode::new(4000), "").await.unwrap();
        join(peer).await;
    });
}

#[test]
fn writing_to_a_peer_that_is_gone_ends_once() {
    on_runtimes(|| async {
        for is_client in [false, true] {
            let (ws, peer) = if is_client {
                client(patient(), Peer::reset).await
            } else {
                server(patient(), Peer::reset).await
            };
            join(peer).await;
            while ws.send(&vec![1; 20_000]).await.is_ok() {}
            let (code, _, _, clean, error) = outcome(ws).await;
            assert_eq!((code, clean), (1006, false));
            assert!(error.is_some());
        }
    });
}

#[test]
fn an_endless_close_timeout_is_no_timeout() {
    on_runtimes(|| async {
        let (ws, peer) = client(patient().close_timeout(Duration::MAX), |mut peer| {
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
        })
        .await;
        assert!(ws.close().await.unwrap().clean);
        join(peer).await;
    });
}

#[test]
fn an_answer_to_a_close_frame_behind_much_that_waits_arrives_though_the_peer_has_ended_its_half() {
    on_runtimes(|| async {
        let (go, gone) = std::sync::mpsc::channel();
        let (ws, peer) = server(patient(), move |mut peer| {
            gone.recv().unwrap();
            peer.close(1000, "");
            peer.end();
            assert_eq!(peer.frame(), (BINARY, vec![3; 8 << 20]));
            assert_eq!(peer.code(), 1000);
            assert!(peer.ended_orderly());
        })
        .await;
        ws.send(&vec![3; 8 << 20]).await.unwrap();
        go.send(()).unwrap();
        assert_eq!(outcome(ws).await, clean(Initiator::Peer, 1000, ""));
        join(peer).await;
    });
}
