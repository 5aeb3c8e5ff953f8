//! Workers of a room's members that are slower than its senders: what is on its way to them is bounded, and what is dropped is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{Hall, hold_up, numbers, on, until};
use crate::common::peer::TEXT;
use crate::common::{bounded, patient};
use threadwire::room::{Delivery, Report};
use threadwire::{Room, WhenFull};

const LIMIT: usize = 64 << 10;
const FLOOD: usize = 200;

/// How many messages of the flood are within the limit, with what each costs beside its payload.
const FIT: u64 = LIMIT as u64 / (4096 + 256);

/// Messages of 4 KiB by their numbers.
fn flood(number: usize) -> String {
    format!("{number:4096}")
}

/// Floods a room with two members on a worker that is held up; what each message came to, and the numbers that a member got.
fn flooded(when_full: WhenFull) -> (Vec<Report>, Vec<usize>) {
    let hall = Hall::new(1, patient());
    let room = Room::bounded(LIMIT, when_full);
    let (mut peer, handle) = hall.enter();
    let (_other, other) = hall.enter();
    for handle in [&handle, &other] {
        let room = room.clone();
        on(handle, move |ws| room.join(ws));
    }
    let go = hold_up(&handle);
    let sent = Arc::new(AtomicUsize::new(0));
    let (counts, floods) = (Arc::clone(&sent), room.clone());
    let sender = thread::spawn(move || {
        let send = |number| {
            let delivery = floods.send(&flood(number));
            counts.fetch_add(1, Ordering::SeqCst);
            delivery
        };
        (0..FLOOD).map(send).collect::<Vec<Delivery>>()
    });
    let waits = when_full == WhenFull::Wait;
    until(|| sent.load(Ordering::SeqCst) as u64 >= if waits { FIT } else { FLOOD as u64 });
    if waits {
        assert_eq!(sent.load(Ordering::SeqCst) as u64, FIT, "the next one has to wait");
    }
    go.send(()).unwrap();
    let reports: Vec<Report> =
        sender.join().unwrap().into_iter().map(|delivery| delivery.report().unwrap()).collect();
    room.send("end").report().unwrap();
    let got = std::iter::from_fn(|| {
        let (opcode, payload) = peer.frame();
        assert_eq!(opcode, TEXT);
        String::from_utf8(payload).unwrap().trim().parse().ok()
    });
    let got = got.collect();
    let mut all = Report::default();
    reports.iter().for_each(|report| all += *report);
    let totals = room.totals();
    assert_eq!((totals.delivered, totals.dropped), (all.delivered + 2, all.dropped));
    (reports, got)
}

#[test]
fn past_the_limit_the_newest_messages_are_dropped_and_that_is_told() {
    for when_full in [WhenFull::Error, WhenFull::DropNewest, WhenFull::Close] {
        bounded(move || {
            let (reports, got) = flooded(when_full);
            for (number, report) in reports.iter().enumerate() {
                let is_there = (number as u64) < FIT;
                assert_eq!(numbers(*report), if is_there { (2, 0, 0) } else { (0, 2, 0) }, "{number}");
            }
            assert_eq!(got, (0..FIT as usize).collect::<Vec<_>>());
        });
    }
}

#[test]
fn past_the_limit_the_oldest_messages_are_dropped_if_that_is_the_policy() {
    bounded(|| {
        let (reports, got) = flooded(WhenFull::DropOldest);
        let dropped = reports.iter().filter(|report| report.dropped == 2).count();
        // The places of those that were dropped count as well.
        assert!(dropped >= FLOOD - FIT as usize && got.len() == FLOOD - dropped, "{dropped} {got:?}");
        assert!(got.is_sorted() && !got.is_empty());
        let (first, last) = (reports[0], reports.iter().filter(|report| report.delivered == 2).count());
        assert_eq!((numbers(first), last), ((0, 2, 0), got.len()));
    });
}

#[test]
fn senders_wait_for_a_worker_that_is_far_behind_if_that_is_the_policy() {
    bounded(|| {
        let (reports, got) = flooded(WhenFull::Wait);
        assert!(reports.iter().all(|report| numbers(*report) == (2, 0, 0)));
        assert_eq!(got, (0..FLOOD).collect::<Vec<_>>());
    });
}

#[test]
fn a_message_that_is_longer_than_the_limit_goes_where_nothing_is_on_its_way() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        for when_full in [WhenFull::Error, WhenFull::DropOldest, WhenFull::Wait] {
            let room = Room::bounded(10, when_full);
            let (mut peer, handle) = hall.enter();
            let joins = room.clone();
            on(&handle, move |ws| joins.join(ws));
            let long = "long".repeat(1000);
            assert_eq!(numbers(room.send(&long).report().unwrap()), (1, 0, 0));
            assert_eq!(peer.text(), long);
        }
    });
}

#[test]
fn what_was_on_its_way_to_a_worker_that_ends_is_dealt_with() {
    for when_full in [WhenFull::Error, WhenFull::DropOldest] {
        bounded(move || {
            let hall = Hall::new(1, patient());
            let room = Room::bounded(LIMIT, when_full);
            let (_peer, handle) = hall.enter();
            let joins = room.clone();
            on(&handle, move |ws| joins.join(ws));
            let go = hold_up(&handle);
            let deliveries: Vec<Delivery> = (0..FLOOD).map(|number| room.send(&flood(number))).collect();
            drop(go);
            drop(hall);
            for delivery in deliveries {
                delivery.report().unwrap();
            }
        });
    }
}
