//! Offline queue: messages that wait for the next connection.

use super::callbacks::{at_once, in_a_long_time, on_worker, reconnect};
use crate::common::peer::Host;
use crate::common::recorder::{Call, Log};
use crate::common::{Serving, bind, bounded, ignore, patient, vacant};
use std::sync::mpsc;
use std::time::Duration;
use threadwire::error::LimitKind;
use threadwire::reconnect::State;
use threadwire::{Client, Error, Reply, sleep, wait_until};

#[test]
fn what_is_held_leaves_in_order_after_what_on_open_sends() {
    bounded(|| {
        let (_place, addr) = vacant();
        let (tell, opened) = mpsc::channel();
        let heard = Log::new();
        let log = heard.clone();
        let (worker, handle) = on_worker(move || {
            let again = at_once().first(Duration::from_millis(1));
            let listener = log.listener(move |ws, call| {
                if *call == Call::Open {
                    ws.send("subscribe")?;
                    // The loop turns, and nothing slips in.
                    sleep(Duration::from_millis(1))?;
                    ws.send("to all")?;
                    let _ = tell.send(());
                }
                Ok(())
            });
            reconnect(&format!("ws://{addr}/"), again, &log).hold(1 << 20).start(listener)
        });
        let mut sent = 0;
        for round in 0..3 {
            for _ in 0..100 {
                handle.send(&sent.to_string()).unwrap();
                sent += 1;
            }
            let host = Host::at(addr);
            let mut peer = host.upgrade(b"");
            opened.recv().unwrap();
            for _ in 0..10 {
                handle.send(&sent.to_string()).unwrap();
                sent += 1;
            }
            assert_eq!((peer.text(), peer.text()), ("subscribe".to_owned(), "to all".to_owned()));
            for number in round * 110..sent {
                assert_eq!(peer.text(), number.to_string());
            }
            drop(host);
            peer.close(1001, "");
            assert_eq!(peer.code(), 1001);
            drop(peer);
            // Messages sent before the end is known are lost with the connection.
            heard.wait(|calls| calls.iter().filter(|call| matches!(call, Call::Closed(_))).count() > round);
        }
        handle.stop();
        handle.wait_ended().unwrap();
        assert!(matches!(handle.send("too late"), Err(Error::Closed)));
        worker.stop();
        worker.join().unwrap();
    });
}

#[test]
fn more_may_be_held_than_a_connection_takes_at_once() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            let numbers: Vec<String> = (0..2000).map(|_| peer.text()).collect();
            peer.close(1000, "");
            peer.code();
            numbers
        });
        let config = patient().max_buffered(100);
        let handle = Client::new(&url)
            .unwrap()
            .config(config)
            .reconnect(at_once())
            .hold(100_000)
            .retry_if(|_| false)
            .start(Log::new().listener(ignore));
        let padding = "x".repeat(40);
        for number in 0..2000 {
            handle.send(&format!("{number}{padding}")).unwrap();
        }
        handle.wait_ended().unwrap();
        for (text, number) in host.join().unwrap().iter().zip(0..) {
            assert_eq!(*text, format!("{number}{padding}"));
        }
    });
}

#[test]
fn without_a_hold_nothing_can_be_sent_while_no_connection_is_open() {
    bounded(|| {
        let server = Serving::with(bind().config(patient()), |_| Reply::with(crate::common::echo));
        let log = Log::new();
        let handle = reconnect(&server.url("/"), at_once(), &log).start(log.listener(ignore));
        assert!(matches!(handle.send("too early"), Err(Error::Closed)));
        wait_until(None, || handle.state() == State::Open).unwrap();
        handle.send("in time").unwrap();
        wait_until(None, || log.calls().contains(&Call::text("in time"))).unwrap();
        handle.close().unwrap();
        assert!(matches!(handle.send("too late"), Err(Error::Closed)));
        handle.wait_ended().unwrap();
    });
}

#[test]
fn what_is_held_has_a_bound() {
    bounded(|| {
        let (_place, addr) = vacant();
        let handle = reconnect(&format!("ws://{addr}/"), in_a_long_time(), &Log::new())
            .hold(10)
            .start(Log::new().listener(ignore));
        handle.send("12345").unwrap();
        assert!(
            matches!(handle.send("123456"), Err(Error::Limit(error)) if (error.kind, error.limit) == (LimitKind::Held, 10))
        );
        handle.send("12345").unwrap();
        assert_eq!(handle.held(), 10);
        handle.stop();
        handle.wait_ended().unwrap();
        assert_eq!(handle.held(), 0);
    });
}
