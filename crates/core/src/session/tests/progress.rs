//! Time without progress: half-sent messages and output that nobody takes, in virtual time, in both roles.

use std::time::Duration;

use threadwire_proto::{CloseCode, OpCode, SendOptions};

use super::pair::{Pair, Side, seeds};
use crate::config::{Config, WhenFull};
use crate::error::{Error, TimeoutKind};
use crate::session::Env;
use crate::session::buffers::Buffers;
use crate::session::keepalive::Due;
use crate::session::progress::Stall;

const SECOND: Duration = Duration::from_secs(1);

/// Looks at both sides as often as their timers ring, for so long. What has come is read before. The first verdict, and whose it is.
fn wait(pair: &mut Pair, time: Duration) -> Option<(bool, Stall)> {
    let end = pair.now + time;
    loop {
        pair.settle();
        let now = pair.now;
        let deadlines = [&mut pair.client, &mut pair.server].map(|side| side.session.deadline(now));
        let Some(next) = deadlines.into_iter().flatten().min().filter(|next| *next <= end) else { break };
        pair.now = next.max(now);
        let (client, server) = (pair.client.tick(pair.now), pair.server.tick(pair.now));
        for (is_server, due) in [(false, client), (true, server)] {
            if let Due::Stalled(stall) = due {
                pair.settle();
                return Some((is_server, stall));
            }
        }
    }
    pair.now = end;
    None
}

/// Sends something that is no whole message.
fn send_part(side: &mut Side, opcode: OpCode, fin: bool, payload: &[u8]) {
    let (io, options, buffers) = (&mut side.end, SendOptions::default(), Buffers::current());
    side.session.send_frame(io, opcode, fin, payload, options, &buffers).unwrap();
    side.write();
}

fn closed_by(pair: &Pair, is_server: bool) -> (Option<TimeoutKind>, (CloseCode, String)) {
    let (judge, judged) = if is_server { (&pair.server, &pair.client) } else { (&pair.client, &pair.server) };
    let kind = match judge.error() {
        Some(Error::Timeout(kind)) => Some(kind.clone()),
        _ => None,
    };
    let told = judged.closed.as_ref().map(|closed| (closed.code, closed.reason.to_string()));
    (kind, told.unwrap_or((CloseCode::ABNORMAL, String::new())))
}

#[test]
fn a_message_that_does_not_go_on_ends_its_connection_on_either_side() {
    for is_server in [true, false] {
        seeds(|seed| {
            let mut pair = Pair::new(seed, 1000, Config::default());
            let sender = if is_server { &mut pair.client } else { &mut pair.server };
            send_part(sender, OpCode::Text, false, b"half");
            assert_eq!(wait(&mut pair, 59 * SECOND), None);
            assert_eq!(wait(&mut pair, 20 * SECOND), Some((is_server, Stall::Input)));
            let reason = "a message was begun and not finished".to_owned();
            assert_eq!(
                closed_by(&pair, is_server),
                (Some(TimeoutKind::Message), (CloseCode::POLICY, reason))
            );
        });
    }
}

#[test]
fn a_frame_that_does_not_go_on_is_no_better_whatever_of_it_has_come() {
    // The first byte, all of the header, and half of the payload; and the same of a ping.
    let frame = b"\x82\x84\0\0\0\0half";
    let ping = b"\x89\x84\0\0\0\0half";
    for bytes in [&frame[..1], &frame[..6], &frame[..8], &ping[..1], &ping[..8]] {
        let mut pair = Pair::new(1, 1000, Config::default());
        pair.client.end.sends.borrow_mut().push(bytes);
        assert_eq!(wait(&mut pair, 80 * SECOND), Some((true, Stall::Input)), "{bytes:?}");
    }
}

#[test]
fn a_byte_now_and_then_is_enough() {
    let mut pair = Pair::new(2, 1000, Config::default());
    for number in 0..10 {
        send_part(
            &mut pair.client,
            if number == 0 { OpCode::Text } else { OpCode::Continuation },
            false,
            b"x",
        );
        assert_eq!(wait(&mut pair, 50 * SECOND), None);
    }
    send_part(&mut pair.client, OpCode::Continuation, true, b"");
    assert_eq!(wait(&mut pair, 500 * SECOND), None);
    assert_eq!(pair.server.got.len(), 1);
    assert_eq!(pair.server.session.deadline(pair.now), None, "nothing is looked at any more");
}

#[test]
fn pings_between_the_parts_of_a_message_do_not_help_it_on() {
    let mut pair = Pair::new(3, 1000, Config::default());
    send_part(&mut pair.client, OpCode::Text, false, b"half");
    let mut verdict = None;
    for _ in 0..10 {
        verdict = verdict.or(wait(&mut pair, 10 * SECOND));
        if verdict.is_none() {
            send_part(&mut pair.client, OpCode::Ping, true, b"still here");
        }
    }
    assert_eq!(verdict, Some((true, Stall::Input)));
}

#[test]
fn messages_that_end_where_others_begin_are_progress() {
    let mut pair = Pair::new(4, 1000, Config::default());
    pair.client.end.sends.borrow_mut().push(b"\x82\x84\0\0\0\0ha");
    for _ in 0..20 {
        assert_eq!(wait(&mut pair, 20 * SECOND), None);
        pair.client.end.sends.borrow_mut().push(b"lf\x82\x84\0\0\0\0ha");
    }
    pair.settle();
    assert_eq!(pair.server.got.len(), 20);
}

#[test]
fn a_peer_that_takes_nothing_of_what_waits_is_given_up_by_either_side() {
    for is_server in [true, false] {
        let mut pair = Pair::new(5, 100, Config::default());
        let (judge, judged) = match is_server {
            true => (&mut pair.server, &mut pair.client),
            false => (&mut pair.client, &mut pair.server),
        };
        judge.send(&"x".repeat(10_000), WhenFull::Error).unwrap();
        let mut now = pair.now;
        judge.turn(now);
        // As long as it takes a little, it has time.
        for _ in 0..10 {
            now += 50 * SECOND;
            judged.turn(now);
            judge.turn(now);
            assert_eq!(judge.tick(now), Due::Nothing);
        }
        for _ in 0..4 {
            now += 15 * SECOND;
            judge.turn(now);
            let due = judge.tick(now);
            if due != Due::Nothing {
                assert_eq!(due, Due::Stalled(Stall::Output));
            }
        }
        judge.turn(now);
        assert!(judge.is_over);
        assert!(matches!(judge.error(), Some(Error::Timeout(TimeoutKind::Unread))), "{:?}", judge.error());
    }
}

#[test]
fn a_peer_that_has_just_taken_something_is_not_given_up_though_nobody_was_told() {
    let mut pair = Pair::new(6, 100, Config::default());
    pair.server.send(&"x".repeat(1000), WhenFull::Error).unwrap();
    pair.server.turn(pair.now);
    for _ in 0..3 {
        pair.pass(15 * SECOND);
        assert_eq!(pair.server.tick(pair.now), Due::Nothing);
    }
    pair.client.turn(pair.now);
    pair.pass(15 * SECOND);
    assert_eq!(pair.server.tick(pair.now), Due::Stalled(Stall::Output));
    assert!(pair.server.session.is_open(), "a last try has found that it takes something");
    pair.settle();
    assert_eq!(pair.client.got.len(), 1);
}

#[test]
fn a_time_in_which_this_side_does_not_read_does_not_count() {
    let mut pair = Pair::new(7, 1000, Config::default());
    send_part(&mut pair.client, OpCode::Text, false, b"half");
    pair.settle();
    let (config, buffers) = (Config::default(), Buffers::current());
    for _ in 0..20 {
        pair.pass(15 * SECOND);
        let env = Env { config: &config, buffers: &buffers };
        assert_eq!(pair.server.session.tick(pair.now, false, env), Due::Nothing);
    }
    assert_eq!(wait(&mut pair, 50 * SECOND), None, "the time begins when it reads again");
    assert_eq!(wait(&mut pair, 30 * SECOND), Some((true, Stall::Input)));
}

#[test]
fn whole_messages_are_not_looked_at_and_no_time_is_any_time() {
    let mut pair = Pair::new(8, 1000, Config::default());
    pair.client.end.sends.borrow_mut().push(b"\x82\x85\0\0\0\0whole");
    wait(&mut pair, 500 * SECOND);
    assert_eq!((pair.server.got.len(), pair.server.session.deadline(pair.now)), (1, None));
    let mut pair = Pair::new(9, 1000, Config::default().progress_timeout(Duration::MAX));
    send_part(&mut pair.client, OpCode::Text, false, b"half");
    assert_eq!(wait(&mut pair, 10_000 * SECOND), None);
    assert_eq!(pair.server.session.deadline(pair.now), None);
}
