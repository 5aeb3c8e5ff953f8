//! Cancellation: futures of the async face may be dropped at any time.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::common::patient;
use crate::common::peer::{BINARY, CLOSE, PING, TEXT, farewell, masked, parse, request};
use crate::common::tasks::{Script, on_runtimes};
use threadwire::aio;

/// Polls once, then drops the future.
fn once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls again and again, each time a future of its own.
async fn by_many<F: Future>(mut make: impl FnMut() -> F) -> F::Output {
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = once(make()) {
            return value;
        }
        // Only a turn of the runtime gives a new budget, and lets other tasks run.
        tokio::task::yield_now().await;
    }
    panic!("it does not come to an end");
}

#[test]
fn a_receive_that_is_dropped_at_any_point_has_lost_nothing() {
    on_runtimes(|| async {
        let script = Script::halting();
        let mut wire = request("/").into_bytes();
        wire.extend(masked(TEXT, "größer als ein Byte".as_bytes()));
        wire.extend(masked(0x01, b"in "));
        wire.extend(masked(PING, b"ping"));
        wire.extend(masked(0x80, b"parts"));
        wire.extend(masked(BINARY, &[9; 300]));
        wire.extend(masked(BINARY, &[8; 9000]));
        wire.extend(masked(TEXT, b""));
        wire.extend(masked(CLOSE, &farewell(1000, "that is all")));
        script.say(&wire);
        script.end();
        let mut ws = aio::accept_over(script.clone(), patient()).await.unwrap();
        let mut received = Vec::new();
        loop {
            // Each await point is a poll that ends with `Pending`: there the future is dropped.
            let message = loop {
                if let Poll::Ready(message) = once(ws.recv()) {
                    break message.unwrap();
                }
                tokio::task::yield_now().await;
            };
            match message {
                Some(message) => received.push(message.into_bytes()),
                None => break,
            }
        }
        let expected: [&[u8]; 5] =
            ["größer als ein Byte".as_bytes(), b"in parts", &[9; 300], &[8; 9000], b""];
        assert_eq!(received, expected);
        assert_eq!(ws.closed().unwrap().reason, "that is all");
        let written = script.take_written();
        let head = written.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(written[head..], *b"\x8a\x04ping\x88\x02\x03\xe8", "the ping was answered once");
    });
}

#[test]
fn a_send_that_is_dropped_while_it_waits_has_sent_nothing() {
    on_runtimes(|| async {
        let script = Script::default();
        script.say(request("/").as_bytes());
        let config = patient().high_watermark(1000).low_watermark(100);
        let ws = aio::accept_over(script.clone(), config).await.unwrap();
        ws.flush().await.unwrap();
        script.take_written();
        script.stick(true);
        // Accepted: all of it will leave.
        assert!(once(ws.send(&vec![1; 2000])).is_ready());
        for _ in 0..10 {
            assert!(once(ws.send("never")).is_pending());
        }
        let mut patient = pin!(ws.send("later"));
        assert!(patient.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(once(ws.send("never")).is_pending());
        script.stick(false);
        by_many(|| ws.flush()).await.unwrap();
        patient.await.unwrap();
        ws.flush().await.unwrap();
        let written = script.take_written();
        let (_, payload, size) = parse(&written, false).unwrap();
        assert_eq!(payload, vec![1; 2000]);
        let (_, payload, rest) = parse(&written[size..], false).unwrap();
        assert_eq!(payload, b"later");
        assert_eq!(size + rest, written.len(), "nothing else was sent");
    });
}

#[test]
fn waiting_sends_leave_nothing_behind_when_they_are_dropped() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    on_runtimes(|| async {
        let script = Script::default();
        script.say(request("/").as_bytes());
        let config = patient().high_watermark(10).low_watermark(0);
        let ws = aio::accept_over(script.clone(), config).await.unwrap();
        ws.flush().await.unwrap();
        script.stick(true);
        assert!(once(ws.send(&vec![1; 100])).is_ready());
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        for _ in 0..100 {
            let mut dropped = pin!(ws.send("never"));
            assert!(dropped.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        {
            let mut closed = pin!(ws.handle().wait_closed());
            assert!(closed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(waker);
        // Only a stream may keep a waker: that of a read ahead.
        assert!(Arc::strong_count(&count) <= 2, "{} are left", Arc::strong_count(&count));
        script.stick(false);
        ws.flush().await.unwrap();
    });
}
