//! Keepalive: pings, a silent peer, and for how long nothing was read.

use std::time::Duration;

use threadwire_proto::CloseCode;
use threadwire_proto::keepalive::{Hold, Keepalive};

use super::pair::{Pair, seeds};
use crate::config::Config;
use crate::error::{Error, TimeoutKind};
use crate::session::keepalive::Due;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> Config {
    Config::default().keepalive(Keepalive::default()).keep_round_trips(true)
}

#[test]
fn a_peer_that_answers_is_pinged_and_lives() {
    seeds(|seed| {
        let mut pair = Pair::new(seed, 1000, config());
        for _ in 0..5 {
            assert_eq!(pair.client.session.deadline(pair.now), Some(pair.now + 20 * SECOND));
            pair.pass(20 * SECOND);
            assert_eq!(pair.client.tick(pair.now), Due::Ping);
            pair.settle();
        }
        assert_eq!(pair.client.pongs.len(), 5);
        assert!(pair.client.session.is_open());
    });
}

#[test]
fn a_silent_peer_is_told_why_and_given_up() {
    let mut pair = Pair::new(1, 1000, config());
    pair.pass(20 * SECOND);
    assert_eq!(pair.client.tick(pair.now), Due::Ping);
    pair.client.turn(pair.now);
    pair.pass(20 * SECOND);
    assert_eq!(pair.client.tick(pair.now), Due::Silent { for_: 40 * SECOND });
    pair.client.turn(pair.now);
    assert!(pair.client.is_over);
    let silence = Some(&Error::Timeout(TimeoutKind::Silence { silent_for: 40 * SECOND }));
    assert_eq!(pair.client.error().map(ToString::to_string), silence.map(ToString::to_string));
    pair.settle();
    let closed = pair.server.closed.as_ref().unwrap();
    assert_eq!((closed.code, &*closed.reason), (CloseCode::GOING_AWAY, "no sign of life for 40.0 s"));
}

#[test]
fn nobody_is_called_silent_while_nothing_is_read() {
    let mut pair = Pair::new(2, 1000, config());
    pair.client.session.hold_keepalive(Hold::NotReading, pair.now);
    pair.pass(100 * SECOND);
    assert_eq!((pair.client.session.deadline(pair.now), pair.client.tick(pair.now)), (None, Due::Nothing));
    assert!(pair.client.session.release_keepalive(Hold::NotReading, pair.now));
    assert_eq!(pair.client.session.deadline(pair.now), Some(pair.now + 20 * SECOND));
    assert_eq!(pair.client.session.unread_for(None, pair.now), Some(100 * SECOND));
}

#[test]
fn what_turns_out_to_have_been_unread_for_long_is_told_and_short_times_are_not() {
    let mut pair = Pair::new(3, 1000, config());
    let session = &mut pair.client.session;
    let mut now = pair.now;
    session.leaves_unread(|| now);
    now += SECOND / 2;
    session.reads_again(|| now);
    assert_eq!(session.unread_for(None, now), None);
    session.leaves_unread(|| now);
    now += 3 * SECOND;
    session.reads_again(|| now);
    assert_eq!(session.unread_for(None, now), Some(3 * SECOND));
    assert_eq!(session.unread_for(None, now + 4 * SECOND), None, "that is long ago");
    let stall = Some((now, 5 * SECOND));
    assert_eq!(session.unread_for(stall, now + 4 * SECOND), Some(5 * SECOND));
}
