//! Membership of rooms: joining, leaving, and ends of connections, workers and rooms.

use super::{Hall, numbers, on, report, texts, until};
use crate::common::peer::{CLOSE, Peer, TEXT, masked};
use crate::common::{Serving, bind, bounded, patient};
use std::collections::HashMap;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use threadwire::{Client, Closed, Connection, Error, Listener, Message, Reply, Room};

#[test]
fn members_get_what_is_sent_between_their_joining_and_their_leaving() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let (mut peer, handle) = hall.outsider();
        let (mut other, _) = hall.enter();
        let room = hall.room.clone();
        on(&handle, move |ws| {
            room.send("before");
            room.join(ws);
            room.join(ws);
            assert_eq!(room.len(), 2);
            room.send("inside");
            room.leave(ws);
            room.leave(ws);
            assert_eq!(room.len(), 1);
            room.send("after");
            ws.send("the end").unwrap();
        });
        assert_eq!(texts(&mut peer), ["inside", "the end"]);
        assert_eq!(texts(&mut other), ["before", "inside", "after"]);
    });
}

#[test]
fn a_thread_that_lets_handles_join_and_leave_sees_it_done_in_order() {
    bounded(|| {
        let hall = Hall::new(3, patient());
        let mut guests: Vec<_> = (0..6).map(|_| hall.outsider()).collect();
        for round in 0..20 {
            hall.room.send("nobody");
            for (_, handle) in &guests {
                hall.room.join_handle(handle);
            }
            let sent = hall.room.send(&*round.to_string());
            for (_, handle) in &guests {
                hall.room.leave_handle(handle);
            }
            let late = hall.room.send("nobody");
            assert_eq!(numbers(sent.report().unwrap()), (6, 0, 0));
            assert_eq!(numbers(late.report().unwrap()), (0, 0, 0));
        }
        assert!(hall.room.is_empty());
        for (peer, _) in &mut guests {
            for round in 0..20 {
                assert_eq!(peer.text(), round.to_string());
            }
            assert!(peer.is_silent());
        }
    });
}

#[test]
fn all_but_one_get_what_is_for_all_but_one() {
    bounded(|| {
        let hall = Hall::new(2, patient());
        let mut guests: Vec<_> = (0..4).map(|_| hall.enter()).collect();
        let handles: Vec<_> = guests.iter().map(|(_, handle)| handle.clone()).collect();
        // From another thread.
        let sent = hall.room.send_except(&handles[1], "not 1");
        assert_eq!(numbers(sent.report().unwrap()), (3, 0, 0));
        // On its own: several in one turn, with others between.
        let (room, all) = (hall.room.clone(), handles.clone());
        on(&handles[0], move |ws| {
            room.send_except(ws, "not 0");
            room.send("all");
            room.send_except(&all[0], "not 0");
            room.send_except(&all[1], "not 1");
            room.send_except(&all[2], "not 2");
            room.send_except(ws, "not 0");
        });
        assert_eq!(report(&hall.room, "end"), (4, 0, 0));
        let sent = ["not 1", "not 0", "all", "not 0", "not 1", "not 2", "not 0", "end"];
        for (index, (peer, _)) in guests.iter_mut().enumerate() {
            let own = format!("not {index}");
            for text in sent.iter().filter(|text| **text != own) {
                assert_eq!(peer.text(), *text, "at {index}");
            }
        }
        // Somebody who is no member is not missing.
        let (_peer, outsider) = hall.outsider();
        assert_eq!(numbers(hall.room.send_except(&outsider, "all").report().unwrap()), (4, 0, 0));
    });
}

#[test]
fn a_connection_that_ends_has_left_before_on_close() {
    struct Leaver(Room, Sender<(usize, bool)>);
    impl Listener for Leaver {
        fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
            self.0.join(ws);
            ws.send("welcome")
        }
        fn on_close(&mut self, ws: &Connection, _closed: &Closed) {
            let length = self.0.len();
            self.0.send("somebody has left");
            self.0.join(ws);
            self.1.send((length, self.0.len() == length)).unwrap();
        }
    }
    bounded(|| {
        let room = Room::new();
        let (tell, told) = mpsc::channel();
        let (members, tell) = (room.clone(), Mutex::new(tell));
        let serving = Serving::with(bind().config(patient()), move |_| {
            Reply::with(Leaver(members.clone(), tell.lock().unwrap().clone()))
        });
        let mut stays = serving.peer();
        assert_eq!(stays.text(), "welcome");
        for _ in 0..2 {
            let mut leaves = serving.peer();
            assert_eq!(leaves.text(), "welcome");
            assert_eq!(room.len(), 2);
            leaves.reset();
            assert_eq!(told.recv(), Ok((1, true)));
            assert_eq!(stays.text(), "somebody has left");
        }
    });
}

#[test]
fn members_outlive_their_room() {
    bounded(|| {
        let hall = Hall::new(2, patient());
        let mut guests: Vec<_> = (0..4).map(|_| hall.outsider()).collect();
        let room = Room::new();
        for (_, handle) in &guests {
            room.join_handle(handle);
        }
        room.send("the last");
        drop(room);
        for (peer, handle) in &mut guests {
            assert_eq!(peer.text(), "the last");
            handle.send("alone").unwrap();
            assert_eq!(peer.text(), "alone");
            hall.room.join_handle(handle);
        }
        assert_eq!(report(&hall.room, "another room"), (4, 0, 0));
    });
}

#[test]
fn a_room_does_not_hold_up_the_end_of_its_workers() {
    bounded(|| {
        let hall = Hall::new(3, patient());
        let mut guests: Vec<_> = (0..6).map(|_| hall.enter()).collect();
        let (room, busy) = (hall.room.clone(), hall.room.clone());
        let sender = thread::spawn(move || {
            while !busy.is_empty() {
                busy.send("on and on").report().unwrap();
            }
        });
        until(|| hall.room.totals().delivered > 100);
        let running = hall.serving.into_running();
        running.stop();
        for (peer, _) in &mut guests {
            while peer.frame().0 != CLOSE {}
            peer.close(1001, "");
            assert!(peer.ended());
        }
        running.join().unwrap();
        sender.join().unwrap();
        assert_eq!(report(&room, "nobody"), (0, 0, 0));
        room.join_handle(&guests[0].1);
        assert_eq!((room.len(), report(&room, "nobody")), (0, (0, 0, 0)));
    });
}

#[test]
fn a_thread_without_a_worker_may_end_with_something_gathered() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let (mut peer, _) = hall.enter();
        let (room, url) = (hall.room.clone(), hall.serving.url("/out"));
        let delivery = thread::spawn(move || {
            let client = Client::new(&url).unwrap().config(patient());
            let ws = client.connect(|_: &Connection, _: Message<'_>| Ok(())).unwrap();
            room.join(&ws);
            room.send("gathered")
        })
        .join()
        .unwrap();
        assert_eq!(delivery.report().unwrap().delivered, 2);
        assert_eq!(peer.text(), "gathered");
        until(|| hall.room.len() == 1);
    });
}

#[test]
fn a_handle_of_a_connection_that_has_ended_reaches_no_other() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let (peer, gone) = hall.outsider();
        drop(peer);
        until(|| gone.has_ended());
        let (mut peer, here) = hall.outsider();
        let room = hall.room.clone();
        on(&here, move |_| {
            // On their own thread.
            assert!(matches!(gone.send("for the other"), Err(Error::Closed)));
            gone.run(|_| panic!("it was called for another"));
            room.join_handle(&gone);
            assert!(room.is_empty());
        });
        here.send("the end").unwrap();
        assert_eq!(peer.text(), "the end");
    });
}

#[test]
fn members_come_and_go_at_any_time() {
    const MOVERS: usize = 3;
    const SENDERS: usize = 2;
    bounded(|| {
        let hall = Hall::reacting(3, patient(), |ws, room, text| match text {
            "in" => {
                room.join(ws);
                ws.send("you are in")
            }
            "out" => {
                room.leave(ws);
                ws.send("you are out")
            }
            text => {
                room.send_except(ws, text);
                Ok(())
            }
        });
        let (mut stays, _) = hall.enter();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let senders: Vec<_> = (0..SENDERS)
            .map(|name| {
                let (room, stop) = (hall.room.clone(), Arc::clone(&stop));
                thread::spawn(move || {
                    let mut number = 0;
                    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                        let sent = room.send(&*format!("{name} {number}"));
                        number += 1;
                        // Or the test measures how much fits into memory.
                        let report = sent.report().unwrap();
                        assert!(report.delivered >= 1, "one has stayed: {report:?}");
                    }
                    number
                })
            })
            .collect();
        let addr = hall.serving.addr;
        let movers: Vec<_> = (0..MOVERS)
            .map(|mover| {
                thread::spawn(move || {
                    for round in 0..40 {
                        let mut peer = Peer::open(addr, if round % 2 == 0 { "/" } else { "/out" });
                        let mut last = HashMap::new();
                        let mut wait_for = |peer: &mut Peer, wanted: &str| loop {
                            let text = peer.text();
                            if text == wanted {
                                return;
                            }
                            let Some((name, number)) = text.split_once(' ') else { panic!("{text}") };
                            let number: i64 = number.parse().unwrap();
                            let last = last.insert(name.to_owned(), number);
                            // Movers send from several threads: from that of each of their connections.
                            let is_ordered = last.is_none_or(|last| last < number);
                            assert!(is_ordered || name.starts_with("mover"), "{name} is out of order");
                        };
                        for turn in 0..3 {
                            peer.bytes(masked(TEXT, b"in"));
                            wait_for(&mut peer, "you are in");
                            peer.bytes(masked(TEXT, format!("mover{mover} {turn}").as_bytes()));
                            peer.bytes(masked(TEXT, b"out"));
                            wait_for(&mut peer, "you are out");
                        }
                        match round % 3 {
                            0 => peer.reset(),
                            1 => drop(peer),
                            _ => {
                                peer.close(1000, "");
                                assert!(peer.closed().0 == 1000);
                            }
                        }
                    }
                })
            })
            .collect();
        let reader = thread::spawn(move || {
            let mut last = HashMap::new();
            loop {
                let text = stays.text();
                if text == "end" {
                    return last;
                }
                let (name, number) = text.split_once(' ').unwrap();
                let number: i64 = number.parse().unwrap();
                if !name.starts_with("mover") {
                    assert_eq!(last.insert(name.to_owned(), number).map_or(0, |last| last + 1), number);
                }
            }
        });
        for mover in movers {
            mover.join().unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let counts: Vec<i64> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        until(|| hall.room.len() == 1);
        assert_eq!(report(&hall.room, "end"), (1, 0, 0));
        let last = reader.join().unwrap();
        for (name, count) in counts.into_iter().enumerate() {
            assert_eq!(last[&name.to_string()] + 1, count);
        }
    });
}
