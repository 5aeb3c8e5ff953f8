//! Half-closed TCP: a peer ends its half behind its close frame (RFC 6455, section 7.1.1) and reads on. Messages sent before
//! arrive, and the answer to the close frame behind them.

use crate::common::peer::{BINARY, CLOSE, Host, Peer, TEXT, farewell, frame};
use crate::common::recorder::{Call, End, Log};
use crate::common::{Serving, bounded, patient};
use threadwire::{Client, Connection, Error, Initiator, wait_until};

/// More than the system takes at once, unless the peer is very quick.
const LENGTH: usize = 32 << 20;

fn send_much(ws: &Connection, call: &Call) -> Result<(), Error> {
    if !matches!(call, Call::Text(_)) {
        return Ok(());
    }
    ws.send(&vec![7; LENGTH])
}

fn leave_and_read(mut peer: Peer, is_client: bool) {
    let close = frame(CLOSE, is_client, &farewell(1000, "enough"));
    peer.bytes([frame(TEXT, is_client, b"go"), close].concat());
    peer.end();
    assert_eq!(peer.frame(), (BINARY, vec![7; LENGTH]));
    assert_eq!(peer.code(), 1000);
    assert!(peer.ended_orderly());
}

#[test]
fn a_client_that_ends_its_half_behind_its_close_frame_gets_all_that_was_sent() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, send_much);
        leave_and_read(Peer::connect_narrow(serving.addr).upgrade("/"), true);
        assert_eq!(log.wait_end(), End::clean(Initiator::Peer, 1000, "enough"));
    });
}

#[test]
fn a_server_that_ends_its_half_behind_its_close_frame_gets_all_that_was_sent() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| leave_and_read(host.upgrade(b""), false));
        let log = Log::new();
        let ws = Client::new(&url).unwrap().config(patient()).connect(log.listener(send_much)).unwrap();
        wait_until(None, || log.end().is_some()).unwrap();
        assert_eq!(log.wait_end(), End::clean(Initiator::Peer, 1000, "enough"));
        drop(ws);
        host.join().unwrap();
    });
}

#[test]
fn a_client_that_reads_on_behind_its_close_frame_gets_all_that_was_sent() {
    bounded(|| {
        let log = Log::new();
        let serving = Serving::recording(patient(), &log, send_much);
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        peer.send(TEXT, b"go");
        peer.close(1000, "enough");
        assert_eq!(peer.frame(), (BINARY, vec![7; LENGTH]));
        assert_eq!(peer.code(), 1000);
        assert!(peer.ended_orderly());
        assert_eq!(log.wait_end(), End::clean(Initiator::Peer, 1000, "enough"));
    });
}
