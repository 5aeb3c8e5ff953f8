//! Handles of a connection that is dropped between two threads are told of its end.

use crate::common::bounded;
use crate::common::peer::Host;
use threadwire::blocking;

#[test]
fn handles_hear_of_the_end_of_a_connection_that_was_dropped_between_threads() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(b""));
        let ws = blocking::connect(&url).unwrap();
        let mut peer = host.join().unwrap();
        let handle = ws.handle();
        let detached = ws.detach().unwrap();
        handle.send("never").unwrap();
        drop(detached);
        assert!(peer.ended());
        assert!(!handle.wait_closed().unwrap().clean);
    });
}
