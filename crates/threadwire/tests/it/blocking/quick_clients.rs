//! What a client has said is for a handler, also if it has left before a thread was free.

use std::sync::mpsc;
use std::time::Duration;

use crate::common::bounded;
use crate::common::peer::{Peer, TEXT};
use threadwire::blocking::Server;

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
        // It keeps the only thread busy.
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
