//! Lane of a handle under a model checker, which tries the orders in which threads can run. It is the same source file as the
//! library's, with the checker's locks and atomics under it.

/// The names that the lane imports.
pub mod sync {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use std::sync::PoisonError;
}

#[path = "../src/connection/handle/lane.rs"]
pub mod lane;

use std::sync::Mutex;
use std::task::{Wake, Waker};

use lane::{Batch, Lane, LeftFrame, Pushed};
use shuttle::sync::Arc;
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::sync::mpsc::{self, Receiver, Sender};
use shuttle::thread::{self, Thread};
use threadwire_core::config::WhenFull;
use threadwire_proto::{Compress, OpCode};

const RUNS: usize = 1000;

/// More than is ever left.
const PLENTY: usize = 1 << 20;

/// A call: what it is to tell.
type Call = (u8, u8);

type Shared = Arc<Lane<Call, &'static str>>;

fn new() -> Shared {
    Arc::new(Lane::new())
}

/// Leaves a binary message.
fn push(lane: &Shared, payload: &[u8], when_full: WhenFull, limit: usize) -> Pushed {
    lane.push_frame(LeftFrame::new(OpCode::Binary, true, 0, when_full), payload, limit)
}

/// The contents of the lane: `Ok` with the payload of each frame, `Err` with each call.
fn all(mut batch: Batch<Call>) -> (Vec<Result<Vec<u8>, Call>>, Batch<Call>) {
    let mut ops = Vec::new();
    while !batch.ops.is_empty() {
        if let Some((frame, payload)) = batch.next_frame() {
            assert_eq!((frame.length, frame.compress), (payload.len(), Compress::Auto));
            ops.push(Ok(payload.to_vec()));
        }
        ops.extend(batch.next_call().map(Err));
    }
    assert_eq!(batch.start, batch.bytes.len(), "bytes that belong to nothing");
    (ops, batch.emptied())
}

/// Wakes a thread that is parked.
struct Unpark(Mutex<Thread>);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.lock().unwrap().unpark();
    }
}

/// Tells a thread that waits for nothing else: a park may end for no reason.
struct Tell(Mutex<Sender<()>>);

impl Wake for Tell {
    fn wake(self: Arc<Self>) {
        let tell = self.0.lock().unwrap().clone();
        tell.send(()).unwrap();
    }
}

fn waker() -> Waker {
    Waker::from(Arc::new(Unpark(Mutex::new(thread::current()))))
}

/// Waits as a loop does, but only for this. A lost wake-up is a deadlock, which the checker reports.
fn wait(lane: &Shared, most: Option<usize>) {
    let waker = waker();
    while !lane.is_below(most, &waker) {
        thread::park();
    }
}

/// Someone who tells the owner as handles do: with a message for each `First`.
fn sender(lane: &Shared, owner: &Sender<()>, number: u8, count: u8) -> thread::JoinHandle<()> {
    let (lane, owner) = (Arc::clone(lane), owner.clone());
    thread::spawn(move || {
        for turn in 0..count {
            let pushed = match turn % 3 {
                2 => lane.push_call((number, turn)),
                _ => push(&lane, &vec![number; usize::from(turn) + 1], WhenFull::Error, PLENTY),
            };
            match pushed {
                Pushed::First => owner.send(()).unwrap(),
                other => assert_eq!(other, Pushed::Behind),
            }
        }
    })
}

/// Which turn of its sender this was, and whose.
fn decode(op: &Result<Vec<u8>, Call>) -> (u8, u8) {
    match op {
        Ok(payload) => {
            assert!(payload.iter().all(|byte| *byte == payload[0]), "torn: {payload:?}");
            (payload[0], payload.len() as u8 - 1)
        }
        Err(call) => *call,
    }
}

/// An owner that looks only when it is told to. Returns what came when nobody is left who could tell it.
fn owner(lane: &Shared, told: &Receiver<()>) -> (Vec<(u8, u8)>, usize) {
    let (mut came, mut times, mut spare) = (Vec::new(), 0, Batch::default());
    while told.recv().is_ok() {
        times += 1;
        assert!(lane.has_some(), "told for nothing");
        let (ops, emptied) = all(lane.take(std::mem::take(&mut spare)));
        assert!(!ops.is_empty());
        spare = emptied;
        came.extend(ops.iter().map(decode));
        let taken = lane.taken();
        lane.set_outside(0);
        assert_ne!(lane.taken(), taken, "whoever waits sees that the peer takes something");
    }
    (came, times)
}

#[test]
fn everything_comes_once_and_in_its_senders_order_and_the_owner_is_told_once_for_each_burst() {
    shuttle::check_random(
        || {
            let lane = new();
            let (tell, told) = mpsc::channel();
            let senders: Vec<_> = (0..3).map(|number| sender(&lane, &tell, number, 4)).collect();
            drop(tell);
            let (came, times) = owner(&lane, &told);
            for number in 0..3 {
                let turns: Vec<_> = came.iter().filter(|(n, _)| *n == number).map(|(_, t)| *t).collect();
                assert_eq!(turns, [0, 1, 2, 3]);
            }
            assert_eq!(came.len(), 12);
            assert!(times <= 12);
            assert!(!lane.has_some());
            assert_eq!(lane.waiting_bytes(usize::MAX), 0);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        },
        RUNS,
    );
}

#[test]
fn a_sender_that_knows_of_another_comes_behind_it() {
    shuttle::check_random(
        || {
            let lane = new();
            let (pass, passed) = mpsc::channel();
            let first = {
                let lane = Arc::clone(&lane);
                thread::spawn(move || {
                    push(&lane, b"1", WhenFull::Error, PLENTY);
                    pass.send(()).unwrap();
                })
            };
            let second = {
                let lane = Arc::clone(&lane);
                thread::spawn(move || {
                    passed.recv().unwrap();
                    push(&lane, b"2", WhenFull::Error, PLENTY);
                })
            };
            // Looks at any time.
            let mut came = Vec::new();
            for _ in 0..2 {
                came.extend(all(lane.take(Batch::default())).0);
                thread::yield_now();
            }
            first.join().unwrap();
            second.join().unwrap();
            came.extend(all(lane.take(Batch::default())).0);
            assert_eq!(came, [Ok(b"1".to_vec()), Ok(b"2".to_vec())]);
        },
        RUNS,
    );
}

#[test]
fn after_the_end_nothing_is_taken_and_what_was_left_is_dropped_once() {
    /// Counts where it is dropped.
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    shuttle::check_random(
        || {
            let lane: Arc<Lane<Counted, &'static str>> = Arc::new(Lane::new());
            let (made, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (lane, made, dropped) = (Arc::clone(&lane), Arc::clone(&made), Arc::clone(&dropped));
                    thread::spawn(move || {
                        // Messages are shut first: a call may still be taken when no message is.
                        let mut over = [false; 2];
                        for _ in 0..3 {
                            made.fetch_add(1, Ordering::SeqCst);
                            let call = lane.push_call(Counted(Arc::clone(&dropped)));
                            let frame = lane.push_frame(
                                LeftFrame::new(OpCode::Text, true, 0, WhenFull::Error),
                                b"x",
                                PLENTY,
                            );
                            assert!(call != Pushed::Ended || frame == Pushed::Ended);
                            for (pushed, over) in [call, frame].into_iter().zip(&mut over) {
                                assert!(!*over || pushed == Pushed::Ended, "{pushed:?} after the end");
                                *over |= pushed == Pushed::Ended;
                            }
                        }
                    })
                })
                .collect();
            lane.end("over");
            assert_eq!(lane.push_call(Counted(Arc::new(AtomicUsize::new(0)))), Pushed::Ended);
            assert_eq!(lane.ended(), Some("over"));
            for sender in senders {
                sender.join().unwrap();
            }
            // Messages left before the end are dropped too, although they were not taken.
            assert_eq!(dropped.load(Ordering::SeqCst), made.load(Ordering::SeqCst));
            assert_eq!(lane.waiting_bytes(usize::MAX), 0);
            assert!(!lane.is_open());
            lane.end("once more");
            assert_eq!(lane.ended(), Some("over"));
        },
        RUNS,
    );
}

#[test]
fn a_lane_that_is_shut_takes_calls_but_no_messages() {
    shuttle::check_random(
        || {
            let lane = new();
            lane.shut();
            assert_eq!(push(&lane, b"x", WhenFull::Error, PLENTY), Pushed::Ended);
            assert_eq!(lane.push_call((0, 0)), Pushed::First);
            assert_eq!(all(lane.take(Batch::default())).0, [Err((0, 0))]);
        },
        1,
    );
}

#[test]
fn who_waits_for_the_end_is_woken_by_it() {
    shuttle::check_random(
        || {
            let lane = new();
            let waiters: Vec<_> = [None, Some(0), None]
                .into_iter()
                .map(|most| {
                    let lane = Arc::clone(&lane);
                    thread::spawn(move || {
                        push(&lane, b"x", WhenFull::Error, PLENTY);
                        wait(&lane, most);
                        assert!(most.is_some() || lane.ended().is_some());
                    })
                })
                .collect();
            let batch = lane.take(Batch::default());
            thread::yield_now();
            lane.set_outside(batch.bytes.len());
            lane.end("over");
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        },
        RUNS,
    );
}

#[test]
fn who_waits_for_room_is_woken_when_it_is_there() {
    shuttle::check_random(
        || {
            let lane = new();
            assert_eq!(push(&lane, &[0; 8], WhenFull::Error, 8), Pushed::First);
            // One for each way the room may come: all of it, half of it, and both at once.
            let waiters: Vec<_> = [0, 4, 7]
                .into_iter()
                .map(|most| {
                    let lane = Arc::clone(&lane);
                    thread::spawn(move || wait(&lane, Some(most)))
                })
                .collect();
            let batch = lane.take(Batch::default());
            drop(batch);
            for left in [6, 4, 0] {
                lane.set_outside(left);
                thread::yield_now();
            }
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        },
        RUNS,
    );
}

#[test]
fn one_who_begins_to_wait_while_the_last_bytes_leave_is_woken() {
    shuttle::check_random(
        || {
            let lane = new();
            push(&lane, b"x", WhenFull::Error, PLENTY);
            drop(lane.take(Batch::default()));
            let waiter = {
                let lane = Arc::clone(&lane);
                thread::spawn(move || wait(&lane, Some(0)))
            };
            lane.set_outside(0);
            waiter.join().unwrap();
        },
        RUNS,
    );
}

#[test]
fn one_who_begins_to_wait_while_the_end_comes_is_woken() {
    shuttle::check_random(
        || {
            let lane = new();
            let waiter = {
                let lane = Arc::clone(&lane);
                thread::spawn(move || wait(&lane, None))
            };
            lane.end("over");
            waiter.join().unwrap();
        },
        RUNS,
    );
}

#[test]
fn futures_that_go_away_take_nobody_with_them_and_the_others_are_woken() {
    shuttle::check_random(
        || {
            let lane = new();
            push(&lane, b"x", WhenFull::Error, PLENTY);
            drop(lane.take(Batch::default()));
            let (tell, told) = mpsc::channel();
            let waker = Waker::from(Arc::new(Tell(Mutex::new(tell))));
            // Both wait for the same; nobody hears of the one that goes away.
            let (mut stays, mut leaves) = (0, 0);
            assert!(!lane.poll_below(Some(0), &mut stays, &waker));
            assert!(!lane.poll_below(Some(0), &mut leaves, Waker::noop()));
            assert_ne!(stays, leaves);
            let owner = {
                let lane = Arc::clone(&lane);
                thread::spawn(move || lane.set_outside(0))
            };
            lane.forget(leaves);
            // To ask again would be to register again: it has to be woken.
            told.recv().unwrap();
            assert!(lane.poll_below(Some(0), &mut stays, &waker));
            owner.join().unwrap();
        },
        RUNS,
    );
}

#[test]
fn senders_that_wait_for_room_all_get_it_and_the_limit_holds() {
    const LIMIT: usize = 4;
    shuttle::check_random(
        || {
            let lane = new();
            let (tell, told) = mpsc::channel();
            let senders: Vec<_> = (0..2)
                .map(|number| {
                    let (lane, tell) = (Arc::clone(&lane), tell.clone());
                    thread::spawn(move || {
                        for _ in 0..3 {
                            loop {
                                match push(&lane, &[number; 3], WhenFull::Error, LIMIT) {
                                    Pushed::Full => wait(&lane, Some(LIMIT - 3)),
                                    Pushed::First => break tell.send(()).unwrap(),
                                    other => break assert_eq!(other, Pushed::Behind),
                                }
                            }
                        }
                    })
                })
                .collect();
            drop(tell);
            let mut count = 0;
            while told.recv().is_ok() {
                let (ops, _) = all(lane.take(Batch::default()));
                count += ops.len();
                assert!(lane.waiting_bytes(usize::MAX) <= LIMIT);
                thread::yield_now();
                lane.set_outside(0);
            }
            assert_eq!(count, 6);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
        },
        RUNS,
    );
}

#[test]
fn nothing_is_missing_from_the_sum_while_the_owner_takes_and_writes() {
    shuttle::check_random(
        || {
            let lane = new();
            // The frames surely left, and the frames perhaps written.
            let (left, written) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let done = Arc::new(AtomicBool::new(false));
            let sender = {
                let (lane, left) = (Arc::clone(&lane), Arc::clone(&left));
                thread::spawn(move || {
                    for length in 1..4 {
                        push(&lane, &vec![0; length], WhenFull::Error, PLENTY);
                        left.fetch_add(length, Ordering::SeqCst);
                    }
                })
            };
            let observer = {
                let (lane, left, written) = (Arc::clone(&lane), Arc::clone(&left), Arc::clone(&written));
                let done = Arc::clone(&done);
                thread::spawn(move || {
                    while !done.load(Ordering::SeqCst) {
                        let surely = left.load(Ordering::SeqCst);
                        let waiting = lane.waiting_bytes(usize::MAX);
                        let most = written.load(Ordering::SeqCst);
                        assert!(waiting + most >= surely, "{waiting} wait, {most} written, of {surely}");
                        thread::yield_now();
                    }
                })
            };
            let mut outside = 0;
            for _ in 0..3 {
                outside += lane.take(Batch::default()).bytes.len();
                thread::yield_now();
                let now = outside.min(2);
                written.fetch_add(now, Ordering::SeqCst);
                outside -= now;
                lane.set_outside(outside);
            }
            sender.join().unwrap();
            done.store(true, Ordering::SeqCst);
            observer.join().unwrap();
            let rest = lane.take(Batch::default()).bytes.len();
            assert_eq!(lane.waiting_bytes(usize::MAX), outside + rest);
        },
        RUNS,
    );
}

#[test]
fn past_the_limit_a_message_is_refused_or_dropped_or_taken_as_it_says() {
    shuttle::check_random(
        || {
            let lane = new();
            assert_eq!(push(&lane, &[0; 100], WhenFull::Error, 10), Pushed::First, "nothing waited");
            assert_eq!(push(&lane, b"r", WhenFull::Error, 10), Pushed::Full);
            assert_eq!(push(&lane, b"n", WhenFull::DropNewest, 10), Pushed::Dropped);
            assert_eq!(lane.dropped(), 1);
            assert_eq!(
                lane.push_frame(LeftFrame::new(OpCode::Ping, true, 0, WhenFull::Error), b"p", 10),
                Pushed::Behind
            );
            assert_eq!(
                push(&lane, b"o", WhenFull::DropOldest, 10),
                Pushed::Behind,
                "none may be dropped for it"
            );
            assert_eq!(lane.dropped(), 1);
            let left = [Ok(vec![0; 100]), Ok(b"p".to_vec()), Ok(b"o".to_vec())];
            assert_eq!(all(lane.take(Batch::default())).0, left);
            // Bytes outside of the lane, at its owner, count as well.
            assert_eq!(push(&lane, b"r", WhenFull::Error, 10), Pushed::Full);
            lane.set_outside(9);
            assert_eq!(push(&lane, b"r", WhenFull::Error, 10), Pushed::First);
            assert_eq!(push(&lane, b"r", WhenFull::Error, 10), Pushed::Full);
        },
        1,
    );
}

#[test]
fn the_oldest_that_may_be_dropped_are_and_all_others_stay_in_order() {
    shuttle::check_random(
        || {
            let lane = new();
            let limit = 12;
            let push_as = |opcode, fin, payload: &[u8], part_of, full| {
                lane.push_frame(LeftFrame::new(opcode, fin, part_of, full), payload, limit)
            };
            push_as(OpCode::Text, true, b"aa", 0, WhenFull::Error);
            push_as(OpCode::Text, true, b"bbb", 0, WhenFull::DropOldest);
            push_as(OpCode::Text, false, b"c", 7, WhenFull::DropOldest);
            lane.push_call((9, 9));
            push_as(OpCode::Continuation, true, b"d", 7, WhenFull::DropOldest);
            push_as(OpCode::Text, true, b"ee", 0, WhenFull::DropOldest);
            push_as(OpCode::Ping, true, b"ff", 0, WhenFull::DropOldest);
            assert_eq!((lane.waiting_bytes(usize::MAX), lane.dropped()), (11, 0));
            // Makes room for two: the three of "bbb" are enough.
            push_as(OpCode::Text, true, b"gggg", 0, WhenFull::DropOldest);
            assert_eq!((lane.waiting_bytes(usize::MAX), lane.dropped()), (12, 1));
            push_as(OpCode::Text, true, b"hhhhhhhh", 0, WhenFull::DropOldest);
            // "ee" and "gggg" have gone; "aa", the parts and the ping must stay, though that is too much.
            assert_eq!((lane.waiting_bytes(usize::MAX), lane.dropped()), (14, 3));
            let left = ["aa", "c", "", "d", "ff", "hhhhhhhh"];
            let left =
                left.map(|text| if text.is_empty() { Err((9, 9)) } else { Ok(text.as_bytes().to_vec()) });
            assert_eq!(all(lane.take(Batch::default())).0, left);
            assert_eq!(lane.waiting_bytes(usize::MAX), 14, "they count until they are written");
        },
        1,
    );
}

#[test]
fn what_the_owner_is_to_drop_makes_room_before_what_lies_here() {
    shuttle::check_random(
        || {
            let (lane, limit) = (new(), 12);
            lane.set_droppable(10);
            lane.set_outside(12);
            // The two bytes that the owner can't drop count, and what is too much makes room here.
            for _ in 0..12 {
                assert_ne!(push(&lane, b"x", WhenFull::DropOldest, limit), Pushed::Full);
                assert!(lane.waiting_bytes(limit) <= limit);
            }
            assert_eq!(lane.dropped(), 2);
            assert_eq!(lane.take(Batch::default()).waiting(), 10);
        },
        1,
    );
}

#[test]
fn senders_that_drop_the_oldest_lose_only_the_oldest_of_each() {
    shuttle::check_random(
        || {
            let lane = new();
            let senders: Vec<_> = (0..2u8)
                .map(|number| {
                    let lane = Arc::clone(&lane);
                    thread::spawn(move || {
                        for turn in 0..4 {
                            push(&lane, &[number, turn], WhenFull::DropOldest, 6);
                        }
                    })
                })
                .collect();
            let mut came = all(lane.take(Batch::default())).0;
            lane.set_outside(0);
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            let last = all(lane.take(Batch::default())).0;
            assert!(last.len() <= 3, "more than the limit: {last:?}");
            came.extend(last);
            assert_eq!(came.len() as u64 + lane.dropped(), 8);
            for number in 0..2 {
                let mine = came.iter().flatten().filter(|payload| payload[0] == number);
                let turns: Vec<_> = mine.map(|payload| payload[1]).collect();
                assert!(turns.is_sorted_by(|a, b| a < b), "{turns:?}");
            }
            let newest = came.last().unwrap().as_ref().unwrap()[1];
            assert_eq!(newest, 3, "the newest of all is never dropped");
        },
        RUNS,
    );
}

#[test]
fn parts_of_two_threads_keep_their_numbers_and_their_order() {
    shuttle::check_random(
        || {
            let lane = new();
            let senders: Vec<_> = (1..3u64)
                .map(|number| {
                    let lane = Arc::clone(&lane);
                    thread::spawn(move || {
                        for (part, fin) in [(b"1", false), (b"2", false), (b"3", true)] {
                            lane.push_frame(
                                LeftFrame::new(OpCode::Text, fin, number, WhenFull::Error),
                                part,
                                PLENTY,
                            );
                        }
                    })
                })
                .collect();
            let mut came = Vec::new();
            let mut look = || {
                let mut batch = lane.take(Batch::default());
                while let Some((frame, payload)) = batch.next_frame() {
                    assert_eq!((frame.opcode, frame.when_full), (OpCode::Text, WhenFull::Error));
                    came.push((frame.part_of, payload[0], frame.fin));
                }
                assert!(batch.ops.is_empty(), "{batch:?}");
            };
            look();
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            look();
            for number in 1..3 {
                let parts: Vec<_> = came.iter().filter(|(of, ..)| *of == number).collect();
                assert_eq!(parts, [&(number, b'1', false), &(number, b'2', false), &(number, b'3', true)]);
            }
        },
        RUNS,
    );
}

#[test]
fn memory_is_kept_for_the_next_batch_unless_it_is_too_much() {
    shuttle::check_random(
        || {
            let lane = new();
            push(&lane, &[0; 1000], WhenFull::Error, PLENTY);
            let (_, spare) = all(lane.take(Batch::default()));
            assert!(spare.bytes.capacity() >= 1000 && spare.bytes.is_empty() && spare.ops.is_empty());
            push(&lane, &[0; 100_000], WhenFull::Error, PLENTY);
            let (_, spare) = all(lane.take(spare));
            assert_eq!(spare.bytes.capacity(), 0);
        },
        1,
    );
}
