//! Peers that begin messages and do not finish them, and that never take what is sent to them, on each face.

use std::thread;
use std::time::Duration;

use crate::common::doors::{FACES, Plan, Served};
use crate::common::faces::{self, Face as ClientFace};
use crate::common::peer::{Host, Peer, TEXT};
use crate::common::{bounded, patient};
use threadwire::{App, Client, Config, Connection, Message, blocking, wait_until};

fn impatient() -> Config {
    patient().progress_timeout(Duration::from_millis(40))
}

fn assert_serves(served: &Served) {
    let mut good = Peer::open(served.addr(), "/");
    good.send(TEXT, b"still there?");
    assert_eq!(good.text(), "still there?");
}

#[test]
fn a_message_that_is_not_finished_ends_its_connection() {
    bounded(|| {
        for face in FACES {
            let served = face.serve(Plan::new(|_| face.accept()).config(impatient()));
            // In the middle of a header, of a frame, and of a message.
            for part in [&b"\x81"[..], b"\x81\x84\0\0\0\0ha", b"\x01\x84\0\0\0\0half"] {
                let mut peer = Peer::open(served.addr(), "/");
                peer.bytes(part);
                assert_eq!(peer.closed(), (1008, "a message was begun and not finished".to_owned()));
                assert!(peer.ended(), "{face:?}");
            }
            assert_serves(&served);
        }
    });
}

#[test]
fn answers_that_are_never_taken_end_their_connection() {
    bounded(|| {
        for face in FACES {
            let served = face.serve(Plan::new(|_| face.accept()).config(impatient()));
            let mut peer = Peer::connect_narrow(served.addr()).upgrade("/");
            peer.send(TEXT, &vec![b'x'; 8 << 20]);
            // A pong asks for nothing: it only shows whether somebody is there.
            let is_there = |peer: &mut Peer| peer.try_bytes(b"\x8a\x80\0\0\0\0");
            let ends = (0..4000).any(|_| {
                thread::sleep(Duration::from_millis(5));
                !is_there(&mut peer)
            });
            assert!(ends, "{face:?} waits for ever");
            assert_serves(&served);
        }
    });
}

/// Connects, and hears until the end.
fn hear(face: ClientFace, client: &Client) {
    match face {
        ClientFace::Listener => {
            let ws = client.connect(|_: &Connection, _: Message<'_>| Ok(())).unwrap();
            wait_until(None, || ws.has_ended()).unwrap();
        }
        ClientFace::Blocking => drop(blocking::connect(client).unwrap().recv()),
        ClientFace::App => drop(App::new(client).unwrap().on_error(|_, _| {}).run_forever()),
        #[cfg(feature = "aio")]
        ClientFace::Aio => crate::common::tasks::single().block_on(async {
            drop(threadwire::aio::connect(client).await.unwrap().recv().await);
        }),
    }
}

#[test]
fn clients_do_not_wait_for_the_rest_of_a_message_for_ever_either() {
    bounded(|| {
        for face in faces::FACES {
            let host = Host::listen();
            let client = Client::new(&host.url()).unwrap().config(impatient());
            let server = host.run(|host| {
                let mut peer = host.upgrade(b"");
                peer.bytes(b"\x01\x04half");
                assert_eq!(peer.code(), 1008);
            });
            hear(*face, &client);
            server.join().unwrap();
        }
    });
}
