//! Slow members of a room: overflow policies, long messages, parts.

use super::{Hall, numbers, on, report, until};
use crate::common::peer::{BINARY, Peer};
use crate::common::{Serving, bind, bounded, patient};
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::thread;
use threadwire::frame::OpCode;
use threadwire::room::Report;
use threadwire::{Connection, Error, Handle, Listener, Reply, Room, WhenFull};

/// Sends until a member can't take any more. The reports, added up.
fn fill(room: &Room, dropped: impl Fn() -> bool) -> Vec<Report> {
    let message = vec![7; 16 << 10];
    let mut reports = Vec::new();
    while !dropped() {
        reports.push(room.send(&message[..]).report().unwrap());
    }
    reports
}

fn slow_member(when_full: WhenFull) -> (Hall, Peer, Handle, thread::JoinHandle<usize>) {
    let hall = Hall::new(1, patient().max_buffered(64 << 10));
    let (slow, handle) = hall.enter_narrow();
    let room = hall.room.clone();
    on(&handle, move |ws| room.join_with(ws, when_full));
    let (mut quick, _) = hall.enter();
    let reader = thread::spawn(move || {
        let mut count = 0;
        while quick.frame().0 == BINARY {
            count += 1;
        }
        count
    });
    (hall, slow, handle, reader)
}

#[test]
fn a_slow_member_misses_what_there_is_no_room_for() {
    for when_full in [WhenFull::Error, WhenFull::Wait, WhenFull::DropNewest] {
        bounded(move || {
            let (hall, mut slow, handle, reader) = slow_member(when_full);
            let is_full = hall.room.clone();
            let reports = fill(&hall.room, move || is_full.totals().dropped == 5);
            // The message fits into the room that is left, or it does not.
            let end = report(&hall.room, "end");
            assert!([(2, 0, 0), (1, 1, 0)].contains(&end), "{end:?}");
            let quick = reader.join().unwrap();
            assert_eq!(quick, reports.len(), "the quick one has missed something");
            assert_eq!(reports.iter().map(|report| report.delivered).sum::<u64>() as usize, 2 * quick - 5);
            assert!(on(&handle, Connection::dropped) >= 5);
            for _ in 0..quick - 5 {
                assert_eq!(slow.frame(), (BINARY, vec![7; 16 << 10]));
            }
        });
    }
}

#[test]
fn a_slow_member_gets_the_newest_if_it_wants_that() {
    bounded(|| {
        let (hall, mut slow, handle, reader) = slow_member(WhenFull::DropOldest);
        let full = handle.clone();
        let reports = fill(&hall.room, move || on(&full, Connection::dropped) >= 5);
        assert!(reports.iter().all(|report| numbers(*report) == (2, 0, 0)));
        assert_eq!(report(&hall.room, "end"), (2, 0, 0));
        assert_eq!(reader.join().unwrap(), reports.len());
        let dropped = on(&handle, Connection::dropped) as usize;
        for _ in 0..reports.len() - dropped {
            assert_eq!(slow.frame(), (BINARY, vec![7; 16 << 10]));
        }
        assert_eq!(slow.text(), "end");
    });
}

#[test]
fn a_slow_member_is_closed_if_that_is_the_policy() {
    bounded(|| {
        let (hall, mut slow, _, reader) = slow_member(WhenFull::Close);
        let is_full = hall.room.clone();
        let reports = fill(&hall.room, move || is_full.totals().dropped == 1);
        assert_eq!(report(&hall.room, "end"), (1, 0, 1));
        assert_eq!(reader.join().unwrap(), reports.len());
        for _ in 0..reports.len() - 1 {
            assert_eq!(slow.frame().0, BINARY);
        }
        assert_eq!(slow.code(), 1008);
        drop(slow);
        until(|| hall.room.len() < 2);
    });
}

#[test]
fn a_listener_is_told_when_a_room_fills_its_connection() {
    struct Told(Room, Sender<&'static str>, Sender<Handle>);
    impl Listener for Told {
        fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
            self.0.join(ws);
            self.2.send(ws.handle()).unwrap();
            Ok(())
        }
        fn on_pause_writing(&mut self, ws: &Connection) -> Result<(), Error> {
            // A callback may use the room.
            self.0.leave(ws);
            self.0.send("nobody");
            self.1.send("pause").unwrap();
            Ok(())
        }
        fn on_resume_writing(&mut self, ws: &Connection) -> Result<(), Error> {
            self.0.join(ws);
            self.1.send("resume").unwrap();
            Ok(())
        }
    }
    bounded(|| {
        let room = Room::new();
        let (tell, told) = mpsc::channel();
        let (opened, handles) = mpsc::channel();
        let (members, senders) = (room.clone(), Mutex::new((tell, opened)));
        let serving = Serving::with(bind().config(patient()), move |_| {
            let (tell, opened) = senders.lock().unwrap().clone();
            Reply::with(Told(members.clone(), tell, opened))
        });
        let mut peer = Peer::connect_narrow(serving.addr).upgrade("/");
        let handle = handles.recv().unwrap();
        let message = vec![7; 4 << 20];
        let sent = room.send(&message[..]);
        assert_eq!(numbers(sent.report().unwrap()), (1, 0, 0));
        assert_eq!(told.recv(), Ok("pause"));
        assert!(handle.buffered() > 64 << 10);
        assert!(peer.frame() == (BINARY, message));
        assert_eq!(told.recv(), Ok("resume"));
        until(|| room.len() == 1);
        assert_eq!(report(&room, "again"), (1, 0, 0));
        assert_eq!(peer.text(), "again");
    });
}

#[test]
fn long_messages_reach_slow_readers_whole() {
    bounded(|| {
        let hall = Hall::new(2, patient());
        let message: Vec<u8> = (0..1 << 20).map(|index| (index % 251) as u8).collect();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (mut peer, _) = hall.enter_narrow();
                let expected = message.clone();
                thread::spawn(move || {
                    for number in 0..3 {
                        assert!(peer.frame() == (BINARY, expected.clone()));
                        assert_eq!(peer.text(), format!("behind {number}"));
                    }
                })
            })
            .collect();
        for number in 0..3 {
            hall.room.send(&message[..]);
            hall.room.send(&*format!("behind {number}"));
        }
        for reader in readers {
            reader.join().unwrap();
        }
        until(|| numbers(hall.room.totals()) == (24, 0, 0));
    });
}

#[test]
fn a_message_waits_for_the_parts_of_another_thread() {
    bounded(|| {
        let hall = Hall::new(1, patient().max_buffered(1 << 10));
        let (mut peer, handle) = hall.enter();
        let mut parts = handle.start_text();
        parts.send("one ").unwrap();
        assert_eq!(peer.frame(), (0x01, b"one ".to_vec()));
        assert_eq!(report(&hall.room, "behind"), (1, 0, 0));
        assert_eq!(report(&hall.room, &"x".repeat(2 << 10)), (0, 1, 0), "it waits without bound");
        parts.send("two").unwrap();
        parts.finish().unwrap();
        assert_eq!(peer.frame(), (0x00, b"two".to_vec()));
        assert_eq!(peer.frame(), (0x80, b"".to_vec()));
        assert_eq!(peer.text(), "behind");
    });
}

#[test]
fn a_member_amid_its_own_fragments_is_skipped() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let (mut peer, handle) = hall.enter();
        on(&handle, |ws| ws.send_frame(OpCode::Text, false, b"one ")).unwrap();
        assert_eq!(report(&hall.room, "between"), (0, 0, 1));
        on(&handle, |ws| ws.send_frame(OpCode::Continuation, true, b"two")).unwrap();
        assert_eq!(report(&hall.room, "behind"), (1, 0, 0));
        assert_eq!(peer.frame(), (0x01, b"one ".to_vec()));
        assert_eq!(peer.frame(), (0x80, b"two".to_vec()));
        assert_eq!(peer.text(), "behind");
    });
}
