//! Clients that leave before a thread is free: what they said is received all the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::keeping::MOMENT;
use crate::common::peer::{Peer, TEXT};
use crate::common::{PATIENCE, bounded};
use threadwire::blocking::{self, Server};
use threadwire::sleep;

#[test]
fn a_handler_hears_what_a_client_said_that_left_while_it_waited_for_a_thread() {
    bounded(|| {
        let (give, given) = mpsc::channel();
        let serving = Server::bind("127.0.0.1:0").unwrap();
        let serving = serving.serve(1, move |ws| {
            while let Some(message) = ws.recv()? {
                give.send(message.to_string()).unwrap();
            }
            Ok(())
        });
        let serving = serving.unwrap();
        // The first client keeps the only thread busy.
        let mut first = Peer::open(serving.local_addr().unwrap(), "/");
        first.send(TEXT, b"first");
        assert_eq!(given.recv_timeout(Duration::from_secs(3)).unwrap(), "first");
        let mut second = Peer::open(serving.local_addr().unwrap(), "/");
        second.send(TEXT, b"I was here");
        second.close(1000, "");
        assert_eq!(second.code(), 1000);
        first.close(1000, "");
        assert_eq!(first.code(), 1000);
        assert_eq!(given.recv_timeout(Duration::from_secs(3)).unwrap(), "I was here");
    });
}

#[test]
fn handlers_hear_what_clients_said_that_closed_before_a_thread_was_free() {
    const CLIENTS: usize = 6;
    bounded(|| {
        let (give, given) = mpsc::channel();
        let gate = Arc::new(AtomicBool::new(false));
        let opened = Arc::clone(&gate);
        let serving = Server::bind("127.0.0.1:0").unwrap();
        let serving = serving.serve(1, move |ws| {
            while !opened.load(Ordering::SeqCst) {
                sleep(MOMENT)?;
            }
            while let Some(message) = ws.recv()? {
                give.send(message.to_string()).unwrap();
            }
            Ok(())
        });
        let serving = serving.unwrap();
        let url = format!("ws://{}/", serving.local_addr().unwrap());
        let clients = [(); CLIENTS].map(|()| {
            let url = url.clone();
            thread::spawn(move || {
                let mut ws = blocking::connect(&url).unwrap();
                ws.send("job").unwrap();
                assert!(ws.close().unwrap().clean);
            })
        });
        for client in clients {
            client.join().unwrap();
        }
        gate.store(true, Ordering::SeqCst);
        for _ in 0..CLIENTS {
            assert_eq!(given.recv_timeout(PATIENCE).unwrap(), "job");
        }
    });
}
