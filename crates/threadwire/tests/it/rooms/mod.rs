//! Rooms: messages reach all members in order, on all workers, without waiting for any.

mod membership;
mod slow_members;
mod slow_workers;

use crate::common::peer::{BINARY, CLOSE, Host, Peer, TEXT, farewell, masked};
use crate::common::recorder::{Call, Log};
use crate::common::{Serving, bind, bounded, ignore, patient};
use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use threadwire::room::Report;
use threadwire::worker::{Worker, current};
use threadwire::{Client, Config, Connection, Error, Handle, Listener, Message, Reply, Room, update};

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
