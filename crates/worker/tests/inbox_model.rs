//! The inbox under a model checker, which tries the orders in which threads can run: the library's own source file, with the
//! checker's locks and atomics under it.

/// What the inbox finds under this name.
pub mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}

#[path = "../src/event_loop/inbox.rs"]
pub mod inbox;

use std::collections::VecDeque;

use inbox::{DISCARD, Inbox, Item, Overflow, PAUSE, Refused, STOP, Wake};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread::{self, Thread};

const RUNS: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Letter {
    sender: usize,
    number: usize,
    counts: bool,
}

impl Item for Letter {
    fn counts(&self) -> bool {
        self.counts
    }
}

#[derive(Clone)]
struct Unpark {
    thread: Thread,
    count: Arc<AtomicUsize>,
}

impl Wake for Unpark {
    fn wake(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

type Shared = Arc<Inbox<Letter, Unpark>>;

fn letter(sender: usize, number: usize) -> Letter {
    Letter { sender, number, counts: true }
}

/// An inbox whose loop is the calling thread, and how often that was woken.
fn open(limit: Option<(usize, Overflow)>) -> (Shared, Arc<AtomicUsize>) {
    let inbox = Arc::new(Inbox::new(limit));
    let count = Arc::new(AtomicUsize::new(0));
    inbox.open();
    inbox.set_waker(Unpark { thread: thread::current(), count: Arc::clone(&count) });
    (inbox, count)
}

/// One turn of a loop: sleeps if there is nothing, without any timeout. A lost wake-up is a deadlock, which the checker
/// reports.
fn turn(inbox: &Shared, into: &mut Vec<Letter>) {
    if inbox.fall_asleep(true) {
        thread::park();
        inbox.wake_up();
    }
    drain(inbox, into);
}

/// The same for a loop that looks some times before it sleeps. As many as it may need, if there is no limit.
fn spinning_turn(inbox: &Shared, looks: Option<usize>, into: &mut Vec<Letter>) {
    for look in 0.. {
        if looks == Some(look) {
            return turn(inbox, into);
        }
        if inbox.look(true) {
            return drain(inbox, into);
        }
        thread::yield_now();
    }
}

fn drain(inbox: &Shared, into: &mut Vec<Letter>) {
    let mut batch = VecDeque::new();
    while inbox.take(&mut batch, false) {
        inbox.set_taken(batch.len());
        into.extend(batch.drain(..));
        inbox.set_taken(0);
    }
}

/// That the letters of each sender came in order, and none twice.
fn assert_in_order(letters: &[Letter], senders: usize) {
    for sender in 0..senders {
        let numbers: Vec<_> = letters.iter().filter(|l| l.sender == sender).map(|l| l.number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }
}

#[test]
fn every_item_comes_once_and_in_order_and_no_wake_up_is_lost() {
    shuttle::check_random(
        || {
            let (inbox, _) = open(None);
            let senders: Vec<_> = (0..2)
                .map(|sender| {
                    let inbox = Arc::clone(&inbox);
                    thread::spawn(move || {
                        for number in 0..3 {
                            assert_eq!(inbox.push(letter(sender, number), false), Ok(None));
                        }
                    })
                })
                .collect();
            let mut came = Vec::new();
            while came.len() < 6 {
                turn(&inbox, &mut came);
            }
            assert_in_order(&came, 2);
            assert_eq!(inbox.len(), 0);
            for sender in senders {
                sender.join().unwrap();
            }
            assert!(inbox.close().is_empty());
        },
        RUNS,
    );
}

#[test]
fn a_loop_that_spins_before_it_sleeps_loses_neither_items_nor_wake_ups() {
    shuttle::check_random(
        || {
            let looks = shuttle::rand::Rng::gen_range(&mut shuttle::rand::thread_rng(), 1..8);
            let (inbox, wakes) = open(None);
            let sender = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    for number in 0..4 {
                        inbox.push(letter(0, number), false).unwrap();
                        thread::yield_now();
                    }
                })
            };
            let mut came = Vec::new();
            while came.len() < 4 {
                spinning_turn(&inbox, Some(looks), &mut came);
            }
            assert_in_order(&came, 1);
            sender.join().unwrap();
            assert!(wakes.load(Ordering::SeqCst) <= 4, "no item wakes it twice");
        },
        RUNS,
    );
}

#[test]
fn nobody_wakes_a_loop_that_never_sleeps_and_it_sees_all() {
    shuttle::check_random(
        || {
            let (inbox, wakes) = open(None);
            let done = Arc::new(AtomicUsize::new(0));
            let others: Vec<_> = (0..2)
                .map(|sender| {
                    let (inbox, done) = (Arc::clone(&inbox), Arc::clone(&done));
                    thread::spawn(move || {
                        inbox.push(letter(sender, 0), false).unwrap();
                        done.fetch_add(1, Ordering::SeqCst);
                        inbox.poke();
                    })
                })
                .collect();
            let mut came = Vec::new();
            // Each turn begins with a look, which sees what was done before a poke.
            while done.load(Ordering::SeqCst) < 2 || came.len() < 2 {
                spinning_turn(&inbox, None, &mut came);
            }
            for other in others {
                other.join().unwrap();
            }
            inbox.signal(STOP, 0);
            assert!(inbox.look(false), "a stop is seen by a loop that minds no items");
            assert!(inbox.has(STOP));
            assert!(!inbox.look(true), "it was told once, and there is nothing else");
            assert_eq!(wakes.load(Ordering::SeqCst), 0);
        },
        RUNS,
    );
}

#[test]
fn a_poke_reaches_a_loop_that_stops_spinning() {
    shuttle::check_random(
        || {
            let looks = shuttle::rand::Rng::gen_range(&mut shuttle::rand::thread_rng(), 1..6);
            let (inbox, _) = open(None);
            let done = Arc::new(AtomicUsize::new(0));
            let poker = {
                let (inbox, done) = (Arc::clone(&inbox), Arc::clone(&done));
                thread::spawn(move || {
                    for number in 1..=2 {
                        done.store(number, Ordering::SeqCst);
                        inbox.poke();
                    }
                })
            };
            while done.load(Ordering::SeqCst) < 2 {
                spinning_turn(&inbox, Some(looks), &mut Vec::new());
            }
            poker.join().unwrap();
        },
        RUNS,
    );
}

#[test]
fn a_burst_wakes_a_sleeping_loop_once() {
    shuttle::check_random(
        || {
            let (inbox, wakes) = open(None);
            assert!(inbox.fall_asleep(true));
            let sender = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    for number in 0..5 {
                        inbox.push(letter(0, number), false).unwrap();
                    }
                })
            };
            sender.join().unwrap();
            assert_eq!(wakes.load(Ordering::SeqCst), 1);
            thread::park();
        },
        RUNS / 10,
    );
}

#[test]
fn what_is_pushed_while_it_closes_is_refused_or_comes_out() {
    shuttle::check_random(
        || {
            let (inbox, _) = open(None);
            let sender = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    (0..4).filter(|number| inbox.push(letter(0, *number), false).is_ok()).count()
                })
            };
            let mut came = Vec::new();
            thread::yield_now();
            let mut batch = VecDeque::new();
            inbox.take(&mut batch, false);
            came.extend(batch);
            came.extend(inbox.close());
            assert_eq!(came.len(), sender.join().unwrap());
            assert_in_order(&came, 1);
            let late = letter(0, 9);
            assert_eq!(inbox.push(late, false), Err(Refused::Closed(late)));
            assert_eq!(inbox.len(), 0);
        },
        RUNS,
    );
}

#[test]
fn a_stop_reaches_a_loop_that_falls_asleep_and_goes_ahead_of_items() {
    shuttle::check_random(
        || {
            let (inbox, _) = open(None);
            let stopper = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    inbox.push(letter(0, 0), false).unwrap();
                    assert!(inbox.signal(STOP | DISCARD, PAUSE));
                })
            };
            // It does not mind the item, and no item wakes it twice: only the stop can end this.
            while !inbox.has(STOP) {
                if inbox.fall_asleep(false) {
                    thread::park();
                    inbox.wake_up();
                }
            }
            assert!(inbox.has(DISCARD) && !inbox.has(PAUSE));
            stopper.join().unwrap();
            assert_eq!(inbox.close().len(), 1);
            assert!(!inbox.signal(PAUSE, 0), "a closed inbox takes no signals");
            inbox.open();
            assert!(!inbox.has(STOP | DISCARD | PAUSE), "nothing is left of it");
        },
        RUNS,
    );
}

#[test]
fn a_poke_is_not_lost() {
    shuttle::check_random(
        || {
            let (inbox, _) = open(None);
            let done = Arc::new(AtomicUsize::new(0));
            let poker = {
                let (inbox, done) = (Arc::clone(&inbox), Arc::clone(&done));
                thread::spawn(move || {
                    done.store(1, Ordering::SeqCst);
                    inbox.poke();
                })
            };
            while done.load(Ordering::SeqCst) == 0 {
                turn(&inbox, &mut Vec::new());
            }
            poker.join().unwrap();
        },
        RUNS,
    );
}

#[test]
fn senders_that_wait_for_room_all_get_it_and_the_limit_holds() {
    shuttle::check_random(
        || {
            let (inbox, _) = open(Some((1, Overflow::Wait)));
            let senders: Vec<_> = (0..2)
                .map(|sender| {
                    let inbox = Arc::clone(&inbox);
                    thread::spawn(move || {
                        for number in 0..2 {
                            let mut item = letter(sender, number);
                            loop {
                                match inbox.push(item, false) {
                                    Ok(dropped) => break assert_eq!(dropped, None),
                                    Err(Refused::Later(back)) => item = back,
                                    Err(other) => panic!("{other:?}"),
                                }
                                let waiting = thread::current();
                                inbox.notify_of_room(Box::new(move || waiting.unpark()));
                                thread::park();
                            }
                        }
                    })
                })
                .collect();
            let mut came = Vec::new();
            while came.len() < 4 {
                assert!(inbox.len() <= 1);
                turn(&inbox, &mut came);
            }
            assert_in_order(&came, 2);
            for sender in senders {
                sender.join().unwrap();
            }
        },
        RUNS,
    );
}

#[test]
fn a_sender_that_waits_for_room_is_told_of_the_end() {
    shuttle::check_random(
        || {
            let (inbox, _) = open(Some((0, Overflow::Wait)));
            let sender = {
                let inbox = Arc::clone(&inbox);
                thread::spawn(move || {
                    while let Err(Refused::Later(_)) = inbox.push(letter(0, 0), false) {
                        let waiting = thread::current();
                        inbox.notify_of_room(Box::new(move || waiting.unpark()));
                        thread::park();
                    }
                })
            };
            assert!(inbox.close().is_empty());
            sender.join().unwrap();
        },
        RUNS,
    );
}

#[test]
fn past_the_limit_an_item_is_refused_or_drops_the_oldest_that_counts() {
    shuttle::check_random(
        || {
            let exempt = Letter { counts: false, ..letter(9, 9) };
            let (inbox, _) = open(Some((2, Overflow::Error)));
            assert_eq!(inbox.push(letter(0, 0), false), Ok(None));
            assert_eq!(inbox.push(letter(0, 1), false), Ok(None));
            assert_eq!(inbox.push(letter(0, 2), false), Err(Refused::Full(letter(0, 2))));
            assert_eq!(inbox.push(exempt, false), Ok(None), "it does not count");
            assert_eq!(inbox.push(letter(0, 3), true), Ok(None), "it is exempt");
            assert!(inbox.has_some());
            assert_eq!(inbox.len(), 4);

            let (inbox, _) = open(Some((2, Overflow::DropOldest)));
            assert_eq!(inbox.push(exempt, false), Ok(None));
            assert_eq!(inbox.push(letter(0, 0), false), Ok(None));
            assert_eq!(inbox.push(letter(0, 1), false), Ok(None));
            assert_eq!(inbox.push(letter(0, 2), false), Ok(Some(letter(0, 0))));
            let mut came = Vec::new();
            turn(&inbox, &mut came);
            assert_eq!(came, [exempt, letter(0, 1), letter(0, 2)]);
            assert_eq!(inbox.push(letter(0, 3), false), Ok(None), "there is room again");
        },
        1,
    );
}
