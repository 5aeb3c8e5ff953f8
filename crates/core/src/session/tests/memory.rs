//! Memory budgets: who is held back, who goes, and that all is given back, in both roles.

use std::time::Duration;

use threadwire_proto::CloseCode;

use super::pair::Pair;
use crate::config::{Budget, Config, WhenFull};
use crate::error::{Error, LimitKind};
use crate::session::keepalive::Due;
use crate::session::progress::Stall;

const SECOND: Duration = Duration::from_secs(1);

/// The front of a message of a client, of so many bytes, of which one is missing.
fn unfinished(length: usize) -> Vec<u8> {
    let mut frame = vec![0x82, 0xff];
    frame.extend_from_slice(&(length as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.resize(frame.len() + length - 1, 1);
    frame
}

/// A pair of which the server counts there.
fn pair(budget: &Budget) -> Pair {
    let mut pair = Pair::new(1, 64 << 20, Config::default());
    pair.server.config = Config::default().budget(budget.clone());
    pair
}

/// A pair whose client has sent the most of a message.
fn half_sent(budget: &Budget, length: usize) -> Pair {
    let mut pair = pair(budget);
    pair.client.end.sends.borrow_mut().push(&unfinished(length));
    pair.settle();
    pair
}

fn is_out_of_memory(error: Option<&Error>) -> bool {
    matches!(error, Some(Error::Limit(error)) if error.kind == LimitKind::Memory)
}

#[test]
fn small_messages_are_not_counted_and_what_is_counted_is_given_back() {
    let budget = Budget::new(1 << 30);
    let mut small = pair(&budget);
    for _ in 0..100 {
        small.client.send("small", WhenFull::Error).unwrap();
        small.server.send("small", WhenFull::Error).unwrap();
        small.settle();
    }
    assert_eq!((budget.held(), budget.holders()), (0, 0));

    small.server.end.sends.borrow_mut().capacity = 0;
    small.server.send(&"x".repeat(5000), WhenFull::Error).unwrap();
    small.server.turn(small.now);
    small.pass(16 * SECOND);
    assert_eq!(small.server.tick(small.now), Due::Nothing);
    assert_eq!((budget.held(), budget.holders()), (0, 0));

    let mut large = half_sent(&budget, 1 << 20);
    assert!((1 << 20..3 << 20).contains(&budget.held()), "{}", budget.held());
    assert_eq!(budget.holders(), 1);
    large.client.end.sends.borrow_mut().push(b"x");
    large.settle();
    assert_eq!((large.server.got.len(), budget.held(), budget.holders()), (1, 0, 0));

    for end in 0..4 {
        let mut pair = half_sent(&budget, 1 << 20);
        assert_eq!(budget.holders(), 1);
        match end {
            0 => pair.server.hang_up(),
            1 => {
                pair.server.session.abort();
                pair.settle();
            }
            2 => drop(pair.server.session.take()),
            _ => {
                pair.client.end.sends.borrow_mut().ended = true;
                pair.settle();
            }
        }
        assert_eq!((budget.held(), budget.holders()), (0, 0), "{end}");
    }
}

#[test]
fn of_many_half_sent_messages_no_more_stay_than_the_budget_has_room_for() {
    let budget = Budget::new(4 << 20);
    let mut pairs = Vec::new();
    for _ in 0..60 {
        let mut good = pair(&budget);
        good.client.send("hello", WhenFull::Error).unwrap();
        good.settle();
        assert_eq!(good.server.got.len(), 1, "small messages are served all the time");
        pairs.push(half_sent(&budget, 300 << 10));
        assert!(budget.held() <= (4 << 20) + (1 << 20), "{}", budget.held());
    }
    let ended: Vec<&Pair> = pairs.iter().filter(|pair| !pair.server.session.is_open()).collect();
    assert_eq!(ended.len() as u64, budget.ended());
    assert!(!ended.is_empty());
    for pair in ended {
        assert!(is_out_of_memory(pair.server.error()), "{:?}", pair.server.error());
        let told = pair.client.closed.as_ref().unwrap();
        assert_eq!((told.code, &*told.reason), (CloseCode::POLICY, "too much is held for this connection"));
    }
}

#[test]
fn what_nobody_takes_goes_when_others_need_the_room_though_nothing_happens_on_its_connection() {
    let budget = Budget::new(1 << 20);
    let mut idle = pair(&budget);
    idle.server.end.sends.borrow_mut().capacity = 0;
    idle.server.send(&"x".repeat(700 << 10), WhenFull::Error).unwrap();
    idle.server.turn(idle.now);
    assert_eq!(budget.holders(), 1);
    idle.pass(SECOND);
    assert_eq!(idle.server.tick(idle.now), Due::Nothing, "there is room");
    let other = half_sent(&budget, 600 << 10);
    assert!(other.server.session.is_open() || budget.ended() == 1);
    let over = budget.held() > budget.limit();
    idle.pass(SECOND);
    let due = idle.server.tick(idle.now);
    assert_eq!(due == Due::Stalled(Stall::Memory), over);
    assert!(budget.held() <= budget.limit());
}

#[test]
fn a_server_reads_no_more_of_one_that_holds_more_than_its_share_until_there_is_room() {
    let budget = Budget::new(10 << 20);
    // It holds as much as this.
    let mut other = pair(&budget);
    other.server.end.sends.borrow_mut().capacity = 0;
    other.server.send(&"x".repeat(5 << 20), WhenFull::Error).unwrap();
    other.server.turn(other.now);
    let mut greedy = pair(&budget);
    greedy.server.end.sends.borrow_mut().capacity = 0;
    greedy.server.send(&"x".repeat(4 << 20), WhenFull::Error).unwrap();
    greedy.server.turn(greedy.now);
    assert!(greedy.server.session.is_throttled());
    assert!(greedy.server.session.is_open() && budget.held() < budget.limit());
    other.server.hang_up();
    greedy.pass(SECOND);
    assert_eq!(greedy.server.tick(greedy.now), Due::Nothing);
    assert!(!greedy.server.session.is_throttled());
}

#[test]
fn a_client_reads_on_and_ends_when_the_budget_is_overdrawn() {
    let budget = Budget::new(1 << 20);
    let mut pair = Pair::new(2, 64 << 20, Config::default());
    pair.client.config = Config::default().budget(budget.clone());
    let mut frame = vec![0x82, 0x7f];
    frame.extend_from_slice(&(2_u64 << 20).to_be_bytes());
    frame.resize(frame.len() + (1 << 20), 1);
    pair.server.end.sends.borrow_mut().push(&frame);
    pair.settle();
    assert!(!pair.client.session.is_throttled());
    assert!(is_out_of_memory(pair.client.error()), "{:?}", pair.client.error());
    assert_eq!((budget.held(), budget.ended()), (0, 1));
}

#[test]
fn what_this_side_has_not_received_is_told_as_a_matter_of_time() {
    let budget = Budget::new(1 << 20);
    let mut pair = pair(&budget);
    pair.server.session.hold_beside(2 << 20);
    pair.server.turn(pair.now);
    pair.settle();
    assert!(is_out_of_memory(pair.server.error()));
    assert_eq!(pair.client.closed.as_ref().unwrap().code, CloseCode::TRY_AGAIN_LATER);
    assert_eq!(budget.held(), 0);
}
