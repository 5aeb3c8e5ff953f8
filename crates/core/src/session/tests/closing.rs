//! The close handshake, who ends TCP, lingering, and the time for closing.

use std::time::Duration;

use threadwire_proto::{CloseCode, Initiator};

use super::pair::{Pair, seeds};
use crate::config::{Config, WhenFull};
use crate::error::{Error, TimeoutKind};
use crate::session::keepalive::Due;

const PLENTY: usize = 1 << 20;

#[test]
fn either_side_can_close_and_what_was_sent_before_arrives() {
    seeds(|seed| {
        for client_begins in [true, false] {
            let mut pair = Pair::new(seed, 50, Config::default());
            for number in 0..20 {
                pair.client.send(&format!("to the server {number}"), WhenFull::Error).unwrap();
                pair.server.send(&format!("to the client {number}"), WhenFull::Error).unwrap();
            }
            let Pair { client, server, .. } = &mut pair;
            if client_begins {
                client.close(4001)
            } else {
                server.close(4001)
            }
            pair.settle();
            let (first, other) = match client_begins {
                true => (&pair.client, &pair.server),
                false => (&pair.server, &pair.client),
            };
            assert_eq!(other.got.len(), 20);
            for side in [first, other] {
                let closed = side.closed.as_ref().unwrap();
                assert!(side.is_over && closed.clean && closed.code == CloseCode::new(4001), "{closed}");
                assert!(closed.error.is_none(), "{closed}");
            }
            assert_eq!(first.closed.as_ref().unwrap().initiator, Initiator::Local);
            assert_eq!(other.closed.as_ref().unwrap().initiator, Initiator::Peer);
        }
    });
}

#[test]
fn the_server_ends_tcp_first() {
    let mut pair = Pair::new(1, PLENTY, Config::default());
    pair.client.close(1000);
    while !pair.server.is_over {
        assert!(!pair.client.is_over && !pair.client.end.sends.borrow().ended);
        pair.client.turn(pair.now);
        pair.server.turn(pair.now);
    }
    pair.settle();
    assert!(pair.client.is_over);
}

#[test]
fn a_close_whose_answer_can_not_leave_is_not_clean() {
    seeds(|seed| {
        for client_closes in [true, false] {
            let mut pair = Pair::new(seed, 50, Config::default());
            let Pair { client, server, .. } = &mut pair;
            let (closes, other) = if client_closes { (client, server) } else { (server, client) };
            // A long message is under way, of which the peer wants no more.
            other.send(&"x".repeat(1000), WhenFull::Error).unwrap();
            other.write();
            closes.close(1009);
            closes.write();
            other.end.sends.borrow_mut().is_cut = true;
            closes.hang_up();
            pair.settle();
            let other = if client_closes { &pair.server } else { &pair.client };
            let closed = other.closed.as_ref().unwrap();
            assert_eq!((closed.code, closed.initiator), (CloseCode::TOO_BIG, Initiator::Peer), "{closed}");
            assert!(
                matches!(&closed.error, Some(Error::Io(error)) if error.kind() == std::io::ErrorKind::BrokenPipe)
            );
            assert!(!closed.clean && !closed.is_normal(), "{closed}");
        }
    });
}

#[test]
fn after_a_broken_rule_the_rest_is_read_away_and_the_peer_gets_to_know_why() {
    seeds(|seed| {
        let mut pair = Pair::new(seed, PLENTY, Config::default());
        // An opcode that does not exist, and much behind it that nobody wants.
        pair.client.end.sends.borrow_mut().push(b"\x83\x80\0\0\0\0");
        pair.client.end.sends.borrow_mut().push(&[0; 1000]);
        while pair.server.closed.is_none() {
            pair.server.turn(pair.now);
        }
        assert!(matches!(pair.server.error(), Some(Error::Protocol(_))));
        assert!(!pair.server.is_over, "it lingers");
        pair.settle();
        assert!(pair.server.is_over && pair.server.has_lingered);
        let closed = pair.client.closed.as_ref().unwrap();
        assert_eq!((closed.code, closed.initiator), (CloseCode::PROTOCOL_ERROR, Initiator::Peer));
    });
}

#[test]
fn a_peer_that_has_ended_its_half_still_gets_the_farewell() {
    seeds(|seed| {
        let mut pair = Pair::new(seed, 10, Config::default());
        pair.client.end.sends.borrow_mut().capacity = PLENTY;
        pair.server.send("long enough to wait for a while", WhenFull::Error).unwrap();
        pair.client.end.sends.borrow_mut().push(b"\x83\x80\0\0\0\0");
        pair.client.end.sends.borrow_mut().ended = true;
        pair.settle();
        assert!(pair.server.is_over);
        assert_eq!(pair.client.got.len(), 1);
        assert_eq!(pair.client.closed.as_ref().unwrap().code, CloseCode::PROTOCOL_ERROR);
    });
}

#[test]
fn a_peer_that_vanishes_before_its_close_frame_is_lost() {
    let mut pair = Pair::new(3, PLENTY, Config::default());
    pair.client.end.sends.borrow_mut().ended = true;
    pair.server.turn(pair.now);
    assert!(pair.server.is_over && matches!(pair.server.error(), Some(Error::Lost)));
    assert_eq!(pair.server.closed.as_ref().unwrap().code, CloseCode::ABNORMAL);
}

#[test]
fn closing_is_given_up_when_its_time_is_over_and_not_before() {
    let config = Config::default().close_timeout(Duration::from_secs(5));
    let mut pair = Pair::new(4, PLENTY, config);
    pair.client.close(1000);
    pair.client.turn(pair.now);
    let deadline = pair.client.session.deadline(pair.now).unwrap();
    assert_eq!(deadline, pair.now + Duration::from_secs(5));
    pair.pass(Duration::from_secs(4));
    assert_eq!(pair.client.tick(pair.now), Due::Nothing);
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.client.tick(pair.now), Due::Expired);
    assert!(matches!(pair.client.error(), Some(Error::Timeout(TimeoutKind::Close))));
}
