//! Rooms: messages reach all members in order, on all workers, without waiting for any.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common::peer::{BINARY, CLOSE, Host, Peer, TEXT, farewell, masked};
use crate::common::recorder::{Call, Log};
use crate::common::{Serving, bind, bounded, ignore, patient};
use threadwire::frame::OpCode;
use threadwire::room::Report;
use threadwire::worker::{Worker, current};
use threadwire::{
    Client, Closed, Config, Connection, Error, Handle, Listener, Message, Reply, Room, WhenFull, update,
};

/// The action of a listener on a message.
type React = Arc<dyn Fn(&Connection, &Room, &str) -> Result<(), Error> + Send + Sync>;

/// A server whose connections are members of a room from the beginning, unless they ask for `/out`.
struct Hall {
    serving: Serving,
    room: Room,
    handles: Receiver<Handle>,
}

struct Guest {
    room: Room,
    joins: bool,
    opened: Sender<Handle>,
    react: React,
}

impl Listener for Guest {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        if self.joins {
            self.room.join(ws);
        }
        self.opened.send(ws.handle()).unwrap();
        Ok(())
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        (self.react)(ws, &self.room, message.as_text().unwrap())
    }
}

impl Hall {
    fn new(workers: usize, config: Config) -> Hall {
        Hall::reacting(workers, config, |_, _, _| Ok(()))
    }

    fn reacting(
        workers: usize,
        config: Config,
        react: impl Fn(&Connection, &Room, &str) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Hall {
        let room = Room::new();
        let (opened, handles) = mpsc::channel();
        let (members, opened, react) = (room.clone(), Mutex::new(opened), Arc::new(react));
        let serving = Serving::with(bind().workers(workers).config(config), move |request| {
            let opened = opened.lock().unwrap().clone();
            let joins = request.path() != "/out";
            Reply::with(Guest { room: members.clone(), joins, opened, react: react.clone() })
        });
        Hall { serving, room, handles }
    }

    fn enter(&self) -> (Peer, Handle) {
        let peer = Peer::open(self.serving.addr, "/");
        (peer, self.handles.recv().unwrap())
    }

    /// Somebody who is no member.
    fn outsider(&self) -> (Peer, Handle) {
        let peer = Peer::open(self.serving.addr, "/out");
        (peer, self.handles.recv().unwrap())
    }

    /// Somebody who is soon full.
    fn enter_narrow(&self) -> (Peer, Handle) {
        let peer = Peer::connect_narrow(self.serving.addr).upgrade("/");
        (peer, self.handles.recv().unwrap())
    }
}

/// Does something on a connection's thread, and returns what comes of it.
fn on<R: Send + 'static>(handle: &Handle, work: impl FnOnce(&Connection) -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    handle.run(move |ws| done.send(work(ws)).unwrap());
    result.recv().unwrap()
}

/// Holds up the worker of a connection, until it is told to go on.
fn hold_up(handle: &Handle) -> Sender<()> {
    let (go, goes) = mpsc::channel();
    let (reached, reaches) = mpsc::channel();
    handle.run(move |_| {
        reached.send(()).unwrap();
        goes.recv().unwrap();
    });
    reaches.recv().unwrap();
    go
}

/// Lets other threads run until it is so.
fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}

fn report(room: &Room, message: &str) -> (u64, u64, u64) {
    numbers(room.send(message).report().unwrap())
}

fn numbers(report: Report) -> (u64, u64, u64) {
    (report.delivered, report.dropped, report.skipped)
}

/// The texts that come next.
fn texts<const N: usize>(peer: &mut Peer) -> [String; N] {
    [(); N].map(|()| peer.text())
}

#[test]
fn everybody_gets_everything_in_order_whoever_sends() {
    const SENDERS: usize = 4;
    const EACH: usize = 150;
    bounded(|| {
        let hall = Hall::new(3, patient());
        let members: Vec<_> = (0..9).map(|_| hall.enter()).collect();
        assert_eq!(hall.room.len(), 9);
        let workers: Vec<_> = members.iter().map(|(_, handle)| handle.worker().unwrap().id()).collect();
        assert!(workers.iter().any(|id| *id != workers[0]), "they are all on one worker");
        let readers: Vec<_> = members
            .into_iter()
            .map(|(mut peer, handle)| {
                thread::spawn(move || {
                    let mut next = HashMap::new();
                    for _ in 0..SENDERS * EACH {
                        let text = peer.text();
                        let (sender, number) = text.split_once(' ').unwrap();
                        let next = next.entry(sender.to_owned()).or_insert(0);
                        assert_eq!(number.parse(), Ok(*next), "from {sender}");
                        *next += 1;
                    }
                    drop(handle);
                    peer
                })
            })
            .collect();
        let send = |room: Room, name: usize| {
            let deliveries: Vec<_> = (0..EACH).map(|n| room.send(&*format!("{name} {n}"))).collect();
            for delivery in deliveries {
                assert_eq!(numbers(delivery.report().unwrap()), (9, 0, 0));
            }
        };
        let senders: Vec<_> = (0..SENDERS)
            .map(|name| {
                let room = hall.room.clone();
                match name % 2 {
                    0 => Worker::spawn(move || {
                        send(room, name);
                        Ok(())
                    }),
                    _ => Worker::spawn(move || {
                        thread::spawn(move || send(room, name)).join().unwrap();
                        Ok(())
                    }),
                }
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        let peers: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        assert_eq!(numbers(hall.room.totals()), ((9 * SENDERS * EACH) as u64, 0, 0));
        drop(peers);
        until(|| hall.room.is_empty());
    });
}

#[test]
fn what_is_sent_in_one_turn_leaves_in_one_write() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let (mut one, handle) = hall.enter();
        let (mut two, _) = hall.enter();
        let room = hall.room.clone();
        on(&handle, move |_| {
            for text in ["a", "b", "c"] {
                room.send(text);
            }
        });
        let expected = *b"\x81\x01a\x81\x01b\x81\x01c";
        assert_eq!(one.one_read(), expected);
        assert_eq!(two.one_read(), expected);
    });
}

#[test]
fn rooms_can_be_used_by_all_threads() {
    fn shared<T: Clone + Send + Sync>() {}
    fn movable<T: Send + Sync>() {}
    shared::<Room>();
    movable::<threadwire::room::Delivery>();
}

#[test]
fn those_who_do_not_get_all_of_it_get_the_rest_in_one_write_too() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let (mut peer, handle) = hall.enter();
        let room = hall.room.clone();
        on(&handle, move |ws| {
            room.send("a");
            room.send_except(ws, "b");
            room.send("c");
        });
        assert_eq!(peer.one_read(), b"\x81\x01a\x81\x01c");
    });
}

#[test]
fn what_is_gathered_leaves_at_once_if_it_is_asked_for() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let (mut peer, handle) = hall.enter();
        let room = hall.room.clone();
        let peer_here = Arc::new(Mutex::new(peer));
        let seen = Arc::clone(&peer_here);
        on(&handle, move |ws| {
            room.send("gathered");
            assert!(seen.lock().unwrap().is_silent());
            ws.flush();
            assert!(!seen.lock().unwrap().is_silent());
        });
        peer = Arc::into_inner(peer_here).unwrap().into_inner().unwrap();
        assert_eq!(peer.text(), "gathered");
    });
}

#[test]
fn what_one_thread_sends_to_a_member_arrives_in_that_order() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let (mut peer, handle) = hall.enter();
        let (mut other, _) = hall.enter();
        let (room, lobby) = (hall.room.clone(), Room::new());
        on(&handle, move |ws| {
            lobby.join(ws);
            ws.send("1").unwrap();
            room.send("2");
            ws.send("3").unwrap();
            room.send("4");
            lobby.send("5");
            room.send("6");
            lobby.send("7");
            ws.handle().send("8").unwrap();
            room.send("9");
            ws.close().unwrap();
            room.send("too late");
        });
        assert_eq!(texts(&mut peer), ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
        assert_eq!(peer.code(), 1000);
        assert_eq!(texts(&mut other), ["2", "4", "6", "9", "too late"]);
        until(|| hall.room.totals().skipped == 1);
    });
}

#[test]
fn what_was_sent_before_the_peer_closes_comes_before_the_answer() {
    bounded(|| {
        let hall = Hall::reacting(1, patient(), |_, room, text| {
            room.send(text);
            Ok(())
        });
        let (mut peer, _) = hall.enter();
        peer.bytes([masked(TEXT, b"hello"), masked(CLOSE, &farewell(1000, ""))].concat());
        assert_eq!(peer.text(), "hello");
        assert_eq!(peer.code(), 1000);
    });
}

#[test]
fn what_was_sent_before_the_peer_ends_its_half_leaves() {
    bounded(|| {
        let hall = Hall::reacting(1, patient(), |_, room, text| {
            room.send(text);
            Ok(())
        });
        let (mut peer, _) = hall.enter();
        let (_other, other) = hall.outsider();
        let halt = hold_up(&other);
        peer.bytes(masked(TEXT, b"hello"));
        peer.end();
        halt.send(()).unwrap();
        assert_eq!(peer.text(), "hello");
    });
}

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

#[test]
fn what_clients_send_to_a_room_is_masked_for_each() {
    bounded(|| {
        let room = Room::new();
        let mut peers = Vec::new();
        for _ in 0..2 {
            let host = Host::listen();
            let url = host.url();
            let host = host.run(|host| host.upgrade(b""));
            let client = Client::new(&url).unwrap().config(patient());
            room.join(&client.connect(Log::new().listener(ignore)).unwrap());
            peers.push(host.join().unwrap());
        }
        room.send("one");
        room.send(b"two");
        let sent = room.send("three");
        assert!(!sent.is_over());
        update().unwrap();
        assert!(sent.is_over());
        assert_eq!(numbers(sent.report().unwrap()), (2, 0, 0));
        for peer in &mut peers {
            // The peer checks that frames are masked.
            assert_eq!(peer.text(), "one");
            assert_eq!(peer.frame(), (BINARY, b"two".to_vec()));
            assert_eq!(peer.text(), "three");
        }
    });
}

#[test]
fn callbacks_on_several_workers_ask_for_reports_at_the_same_time() {
    bounded(|| {
        let hall = Hall::reacting(3, patient(), |ws, room, text| {
            for _ in 0..10 {
                let sent = room.send_except(ws, text);
                assert_eq!(numbers(sent.report()?), (5, 0, 0));
            }
            ws.send("done")
        });
        let mut guests: Vec<_> = (0..6).map(|_| hall.enter()).collect();
        for (index, (peer, _)) in guests.iter_mut().enumerate() {
            peer.send(TEXT, index.to_string().as_bytes());
        }
        for (index, (peer, _)) in guests.iter_mut().enumerate() {
            let all: [String; 51] = texts(peer);
            assert!(!all.contains(&index.to_string()));
            assert_eq!(all.iter().filter(|text| *text == "done").count(), 1);
        }
    });
}

#[test]
fn reports_of_messages_to_nobody_are_there_at_once() {
    bounded(|| {
        let room = Room::new();
        assert_eq!(report(&room, "nobody"), (0, 0, 0));
        let hall = Hall::new(1, patient());
        let (peer, _) = hall.enter();
        drop(peer);
        until(|| hall.room.is_empty());
        assert_eq!(report(&hall.room, "nobody"), (0, 0, 0));
        assert_eq!(numbers(hall.room.totals()), (0, 0, 0));
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

#[test]
fn a_worker_that_is_stopped_hears_no_report_but_the_message_is_sent() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let (mut peer, handle) = hall.enter();
        let halt = hold_up(&handle);
        let room = hall.room.clone();
        let worker = Worker::spawn(move || {
            let sent = room.send("sent");
            current().stop();
            assert!(sent.report().is_err());
            Ok(())
        });
        worker.join().unwrap();
        halt.send(()).unwrap();
        assert_eq!(peer.text(), "sent");
    });
}

#[test]
fn clients_of_this_library_hear_what_a_room_sends() {
    bounded(|| {
        let hall = Hall::new(1, patient());
        let log = Log::new();
        let heard = log.clone();
        let url = hall.serving.url("/");
        let client = Worker::spawn(move || {
            let client = Client::new(&url).unwrap().config(patient());
            let ws = client.connect(heard.listener(ignore)).unwrap();
            ws.wait_closed().unwrap();
            Ok(())
        });
        let handle = hall.handles.recv().unwrap();
        assert_eq!(report(&hall.room, ""), (1, 0, 0));
        assert_eq!(numbers(hall.room.send(&[0; 70_000][..]).report().unwrap()), (1, 0, 0));
        handle.close().unwrap();
        log.wait_end();
        client.join().unwrap();
        let calls = log.calls();
        assert_eq!(calls[1..3], [Call::text(""), Call::Binary(vec![0; 70_000])]);
    });
}
