//! Overflow policies, watermarks, the throttle, and a late pong.

use threadwire_proto::{CloseCode, Deflate, OpCode, SendOptions};

use super::pair::{Pair, seeds};
use crate::config::{Config, WhenFull};
use crate::session::buffers::Buffers;
use crate::session::overflow::Overflow;

fn small() -> Config {
    Config::default().max_buffered(100).high_watermark(50).low_watermark(10)
}

/// Sends until there is no room, to a peer that does not read.
fn fill(pair: &mut Pair, when_full: WhenFull) -> usize {
    let mut sent = 0;
    while pair.server.session.has_room(0, 20, 100) {
        pair.server.send(&format!("{sent:020}"), when_full).unwrap();
        pair.server.write();
        sent += 1;
    }
    sent
}

#[test]
fn a_message_without_room_meets_what_the_policy_says() {
    for (policy, result) in [
        (WhenFull::Error, Err(Overflow::Refuse)),
        (WhenFull::Wait, Err(Overflow::Wait)),
        (WhenFull::DropNewest, Err(Overflow::DropNewest)),
        (WhenFull::DropOldest, Ok(())),
        (WhenFull::Close, Err(Overflow::Close)),
    ] {
        seeds(|seed| {
            let mut pair = Pair::new(seed, 30, small());
            let sent = fill(&mut pair, policy);
            assert_eq!(pair.server.send(&"9".repeat(20), policy), result, "{policy:?}");
            let drops = matches!(policy, WhenFull::DropNewest | WhenFull::DropOldest);
            assert_eq!(pair.server.session.dropped(), u64::from(drops), "{policy:?}");
            assert_eq!(pair.server.session.is_open(), policy != WhenFull::Close);
            pair.settle();
            let got: Vec<String> = pair.client.got.iter().map(ToString::to_string).collect();
            let all: Vec<String> = (0..sent).map(|number| format!("{number:020}")).collect();
            if policy == WhenFull::DropOldest {
                assert_eq!((got.len(), got.last().unwrap()), (sent, &"9".repeat(20)));
                assert!(got[..sent - 1].is_sorted() && got[0] == all[0], "the first had begun to leave");
            } else {
                assert_eq!(got, all, "{policy:?}");
            }
            if policy == WhenFull::Close {
                let closed = pair.client.closed.as_ref().unwrap();
                assert_eq!((closed.code, &*closed.reason), (CloseCode::POLICY, "too slow in reading"));
            }
        });
    }
}

#[test]
fn anything_is_taken_when_nothing_waits() {
    let mut pair = Pair::new(1, 30, small());
    pair.server.send(&"x".repeat(10_000), WhenFull::Error).unwrap();
    assert_eq!(pair.server.send("y", WhenFull::Error), Err(Overflow::Refuse));
    pair.settle();
    assert_eq!(pair.client.got[0].len(), 10_000);
}

#[test]
fn what_waits_is_much_above_the_high_watermark_until_it_is_at_the_low_one() {
    let mut pair = Pair::new(2, 10, small());
    pair.server.send(&"x".repeat(80), WhenFull::Error).unwrap();
    pair.server.turn(pair.now);
    assert!(pair.server.session.is_above_watermark());
    while pair.server.session.buffered() > 10 {
        assert!(pair.server.session.is_above_watermark());
        pair.client.turn(pair.now);
        pair.server.turn(pair.now);
    }
    assert!(!pair.server.session.is_above_watermark());
}

#[test]
fn a_peer_that_does_not_read_its_answers_is_not_read_until_it_does() {
    let mut pair = Pair::new(3, 20, small());
    let before = pair.server.session.sent();
    pair.server.send(&"x".repeat(90), WhenFull::Error).unwrap();
    let answers = pair.server.session.answers_too_much(before, pair.server.env());
    pair.server.write();
    let (config, buffers) = (small(), Buffers::current());
    pair.server
        .session
        .throttle(answers.unwrap(), crate::session::Env { config: &config, buffers: &buffers });
    assert!(pair.server.session.is_throttled());
    pair.client.send("and now?", WhenFull::Error).unwrap();
    pair.client.write();
    pair.server.turn(pair.now);
    assert!(pair.server.got.is_empty());
    pair.settle();
    assert_eq!(pair.server.got.len(), 1);
}

#[test]
fn of_many_pings_that_could_not_be_answered_at_once_the_last_one_is() {
    seeds(|seed| {
        let mut pair = Pair::new(seed, 1000, Config::default());
        pair.server.send(&"x".repeat(100_000), WhenFull::Error).unwrap();
        for number in 0..100_u8 {
            let (io, options, buffers) = (&mut pair.client.end, SendOptions::default(), Buffers::current());
            pair.client.session.send_frame(io, OpCode::Ping, true, &[number], options, &buffers).unwrap();
        }
        // All of them arrive before the client reads.
        while pair.client.session.buffered() > 0 || pair.client.end.sends.borrow().length() > 0 {
            pair.client.write();
            pair.server.turn(pair.now);
        }
        pair.settle();
        let pongs = &pair.client.pongs;
        assert!(pongs.len() <= 2 && pongs.last() == Some(&vec![99]), "{pongs:?}");
        assert_eq!(pair.client.got.len(), 1);
    });
}

#[test]
fn messages_of_all_sizes_arrive_whole_and_in_order_however_they_are_cut() {
    seeds(|seed| {
        let mut pair = Pair::new(seed, 7000, Config::default());
        let texts: Vec<String> =
            (0..30).map(|number| number.to_string().repeat(1 + number * number * 40)).collect();
        for text in &texts {
            pair.client.send(text, WhenFull::Error).unwrap();
            pair.server.send(text, WhenFull::Error).unwrap();
        }
        pair.settle();
        for side in [&pair.client, &pair.server] {
            assert!(side.got.iter().map(ToString::to_string).eq(texts.iter().cloned()));
        }
    });
}

#[test]
fn bombs_are_inflated_over_many_turns_and_all_comes_in_order() {
    const BOMB: usize = 2 << 20;
    seeds(|seed| {
        let mut pair = Pair::new(seed, 64 << 10, Config::default().deflate(Deflate::default()));
        let texts = ["a".repeat(BOMB), "between".to_owned(), "b".repeat(BOMB), "end".to_owned()];
        for text in &texts {
            pair.client.send(text, WhenFull::Error).unwrap();
        }
        pair.client.close(1000);
        while pair.client.session.buffered() > 0 {
            pair.client.write();
        }
        let mut turns = 0;
        while pair.server.got.len() < texts.len() {
            assert!(pair.server.got.is_empty() || turns > 8, "{turns} turns for all of a bomb");
            pair.server.turn(pair.now);
            turns += 1;
        }
        assert!(turns > 2 * 8, "{turns} turns");
        pair.settle();
        assert!(pair.server.got.iter().map(ToString::to_string).eq(texts));
        assert!(pair.client.closed.as_ref().is_some_and(|closed| closed.clean));
    });
}
