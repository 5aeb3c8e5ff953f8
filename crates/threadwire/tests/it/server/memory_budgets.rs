//! Memory of all connections together: floods of peers that hold much each, on each face, beside one that is good.

use std::thread;
use std::time::Duration;

use crate::common::doors::{FACES, Plan, Served};
use crate::common::peer::{BINARY, Peer, TEXT, masked};
use crate::common::{bounded, patient};
use threadwire::Budget;

const LIMIT: usize = 24 << 20;
/// What an attacker sends: with four of them there is more than the limit.
const MESSAGE: usize = 8 << 20;
const ATTACKERS: usize = 6;

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let came = (0..4000).any(|_| {
        thread::sleep(Duration::from_millis(5));
        is_so()
    });
    assert!(came, "{what}");
}

/// Has attackers do their worst while a good peer goes on, and says how many had to go.
fn attacked(served: &Served, budget: &Budget, attack: impl Fn(&mut Peer)) -> u64 {
    let mut good = Peer::open(served.addr(), "/");
    let mut serves = || {
        good.send(TEXT, b"still there?");
        assert_eq!(good.text(), "still there?");
    };
    let mut attackers = Vec::new();
    for _ in 0..ATTACKERS {
        let mut peer = Peer::connect_narrow(served.addr());
        peer.bytes(crate::common::peer::request("/"));
        // Who comes while all is full is answered with 503.
        if peer.head().starts_with("HTTP/1.1 101") {
            attack(&mut peer);
        }
        attackers.push(peer);
        serves();
        // One message more than the limit may be on its way.
        assert!(budget.held() <= LIMIT + 3 * MESSAGE, "{} bytes", budget.held());
    }
    wait_until("it stays full", || budget.held() <= LIMIT);
    serves();
    let (ended, refused) = (budget.ended(), budget.refused());
    drop(attackers);
    wait_until("not all was given back", || budget.held() == 0 && budget.holders() == 0);
    serves();
    ended + refused
}

#[test]
fn messages_that_are_half_sent_do_not_fill_the_memory() {
    bounded(|| {
        let mut message = masked(BINARY, &vec![1; MESSAGE]);
        message.pop();
        for face in FACES {
            let budget = Budget::new(LIMIT);
            let served = face.serve(Plan::new(|_| face.accept()).config(patient().budget(budget.clone())));
            let had_to_go = attacked(&served, &budget, |peer| _ = peer.try_bytes(&message));
            assert!(had_to_go > 0, "{face:?}");
        }
    });
}

#[test]
fn echoes_that_are_not_read_do_not_fill_the_memory() {
    bounded(|| {
        let message = masked(BINARY, &vec![1; MESSAGE]);
        for face in FACES {
            let budget = Budget::new(LIMIT);
            let served = face.serve(Plan::new(|_| face.accept()).config(patient().budget(budget.clone())));
            let had_to_go = attacked(&served, &budget, |peer| _ = peer.try_bytes(&message));
            assert!(had_to_go > 0, "{face:?}");
        }
    });
}
