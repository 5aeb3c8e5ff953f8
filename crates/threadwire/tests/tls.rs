//! TLS between this library's own ends, on the faces that run on loops.
#![cfg(feature = "tls")]

pub mod common;

use std::cell::RefCell;
use std::rc::Rc;

use common::certificates::Authority;
use common::{bind, bounded, echo};
use threadwire::{Accept, Client, ClientTls, Connection, Message, Server, ServerTls, blocking, wait_until};

/// An echo server in TLS, and what connects to it.
struct Secure {
    running: threadwire::Running,
    tls: ClientTls,
}

impl Secure {
    fn with(server: Server, tls: ServerTls, client: ClientTls) -> Secure {
        let running = server.tls(tls).serve(|_| Accept::with(echo)).unwrap();
        Secure { running, tls: client }
    }

    fn start() -> Secure {
        let authority = Authority::new("authority");
        let identity = authority.sign(&["localhost", "127.0.0.1"]);
        Secure::with(bind(), identity.server(), authority.trusted())
    }

    fn client(&self) -> Client {
        let url = format!("wss://localhost:{}/", self.running.local_addr().port());
        Client::new(&url).unwrap().tls(self.tls.clone())
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.running.stop();
    }
}

/// Opens a connection that gathers what comes.
fn gather(client: &Client) -> (Connection, Rc<RefCell<Vec<Vec<u8>>>>) {
    let got = Rc::new(RefCell::new(Vec::new()));
    let gathered = Rc::clone(&got);
    let ws = client
        .connect(move |_: &Connection, message: Message<'_>| {
            gathered.borrow_mut().push(message.as_bytes().to_vec());
            Ok(())
        })
        .unwrap();
    (ws, got)
}

#[test]
fn messages_of_all_sizes_come_back() {
    bounded(|| {
        let server = Secure::start();
        let (ws, got) = gather(&server.client());
        let sizes =
            [0, 1, 20, 125, 126, 4096, 16_383, 16_384, 16_385, 40_000, 65_536, 70_000, 1_000_000, 5_000_000];
        for size in sizes {
            let payload: Vec<u8> = (0..size).map(|at| (at * 31) as u8).collect();
            ws.send(&payload[..]).unwrap();
            wait_until(None, || !got.borrow().is_empty()).unwrap();
            assert!(got.borrow_mut().remove(0) == payload, "{size}");
        }
        ws.close().unwrap();
        ws.wait_closed().unwrap();
        let closed = ws.closed().unwrap();
        assert!(closed.is_normal() && closed.error.is_none(), "{closed:?}");
    });
}

#[test]
fn many_messages_at_once_come_back_in_order() {
    bounded(|| {
        let server = Secure::start();
        let (ws, got) = gather(&server.client());
        for number in 0..20_000_u32 {
            ws.send(&number.to_be_bytes()[..]).unwrap();
        }
        wait_until(None, || got.borrow().len() == 20_000).unwrap();
        assert!(got.borrow().iter().zip(0..).all(|(got, number): (_, u32)| got[..] == number.to_be_bytes()));
    });
}

#[test]
fn the_blocking_face_speaks_it_on_both_sides() {
    bounded(|| {
        let authority = Authority::new("authority");
        let tls = authority.sign(&["localhost"]).server();
        let mut server = blocking::Server::bind("127.0.0.1:0").unwrap().tls(tls);
        let url = format!("wss://localhost:{}/", server.local_addr().port());
        let trusted = authority.trusted();
        let client = std::thread::spawn(move || {
            let client = Client::new(&url).unwrap().tls(trusted);
            let mut ws = blocking::connect(&client).unwrap();
            assert!(!ws.tls().unwrap().peer_certificates.is_empty());
            ws.send("hello").unwrap();
            let answer = ws.recv().unwrap().unwrap();
            ws.close().unwrap();
            answer
        });
        let mut ws = server.accept().unwrap();
        while let Some(message) = ws.recv().unwrap() {
            ws.send(&message).unwrap();
        }
        assert_eq!(client.join().unwrap(), "hello");
    });
}
