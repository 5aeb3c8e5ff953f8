//! Select: several blocking connections on one thread.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::Duration;

use crate::common::peer::{Host, PING, PONG, Peer, TEXT, frame};
use crate::common::{PATIENCE, SOON, bounded, patient};
use threadwire::blocking::{self, Connection, Key, Select, Selected, Server};
use threadwire::worker::{Worker, later};
use threadwire::{Client, Error, WhenFull};

fn pair() -> (Connection, Peer) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(patient());
    let host = host.run(|host| host.upgrade(b""));
    let ws = blocking::connect(&client).unwrap();
    (ws, host.join().unwrap())
}

fn message(select: &mut Select) -> (Key, String) {
    match select.recv_timeout(PATIENCE).unwrap() {
        Some((key, Selected::Message(message))) => (key, message.to_string()),
        other => panic!("{other:?}"),
    }
}

fn is_idle(select: &mut Select) -> bool {
    matches!(select.recv_timeout(SOON), Err(error) if error.is_timeout())
}

#[test]
fn without_anything_there_is_nothing_to_wait_for() {
    bounded(|| {
        let mut select = Select::new();
        assert!(select.is_empty() && select.recv().unwrap().is_none());
        assert!(select.recv_timeout(SOON).unwrap().is_none());
    });
}

#[test]
fn tells_what_comes_in_the_order_in_which_it_does() {
    bounded(|| {
        let mut select = Select::new();
        let (mut peers, keys): (Vec<Peer>, Vec<Key>) =
            (0..3).map(|_| pair()).map(|(ws, peer)| (peer, select.add(ws))).unzip();
        assert_eq!(select.len(), 3);
        for at in [2, 0, 1, 1] {
            peers[at].send(TEXT, format!("from {at}").as_bytes());
            assert_eq!(message(&mut select), (keys[at], format!("from {at}")));
            select[keys[at]].send("seen").unwrap();
            assert_eq!(peers[at].text(), "seen");
        }
        assert!(is_idle(&mut select));
        assert_eq!(select.iter_mut().map(|(key, _)| key).collect::<HashSet<_>>(), keys.into_iter().collect());
    });
}

#[test]
fn what_had_arrived_before_comes_too() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(frame(TEXT, false, b"before").repeat(2));
        assert_eq!(ws.recv().unwrap().unwrap(), "before");
        let mut select = Select::new();
        let key = select.add(ws);
        assert_eq!(message(&mut select), (key, "before".into()));
    });
}

#[test]
fn connections_with_much_to_say_take_turns() {
    bounded(|| {
        const COUNT: usize = 200;
        let mut select = Select::new();
        let (mut peers, _keys): (Vec<Peer>, Vec<Key>) =
            (0..3).map(|_| pair()).map(|(ws, peer)| (peer, select.add(ws))).unzip();
        for peer in &mut peers {
            peer.bytes(frame(TEXT, false, b"much").repeat(COUNT));
        }
        // All of it is there.
        threadwire::sleep(SOON).unwrap();
        let mut runs = Vec::<(Key, usize)>::new();
        for _ in 0..3 * COUNT {
            let (key, _) = message(&mut select);
            match runs.last_mut() {
                Some((last, count)) if *last == key => *count += 1,
                _ => runs.push((key, 1)),
            }
        }
        assert!(runs.iter().all(|(_, count)| *count <= 16), "{runs:?}");
        let first_turns: HashSet<Key> = runs[..3].iter().map(|(key, _)| *key).collect();
        assert_eq!(first_turns.len(), 3, "{runs:?}");
        assert!(is_idle(&mut select));
    });
}

#[test]
fn one_that_talks_without_end_does_not_keep_another_waiting() {
    bounded(|| {
        let mut select = Select::new();
        let (ws, mut loud) = pair();
        let loud_key = select.add(ws);
        let (ws, mut quiet) = pair();
        let quiet_key = select.add(ws);
        let talker = thread::spawn(move || while loud.try_bytes(&frame(TEXT, false, b"bla").repeat(1000)) {});
        for _ in 0..1000 {
            assert_eq!(message(&mut select).0, loud_key);
        }
        quiet.send(TEXT, b"may I?");
        let mut others = 0;
        while message(&mut select).0 != quiet_key {
            others += 1;
        }
        assert!(others < 100_000, "{others} messages came first");
        select.remove(loud_key).unwrap().connection().abort();
        drop(select);
        threadwire::sleep(Duration::from_millis(1)).unwrap();
        talker.join().unwrap();
    });
}

#[test]
fn a_connection_that_was_taken_out_goes_on_by_itself() {
    bounded(|| {
        let mut select = Select::new();
        let (ws, mut peer) = pair();
        let key = select.add(ws);
        let (ws, mut other) = pair();
        let other_key = select.add(ws);
        peer.bytes(frame(TEXT, false, b"mine").repeat(3));
        assert_eq!(message(&mut select), (key, "mine".into()));
        let mut ws = select.remove(key).unwrap();
        assert!(select.remove(key).is_none() && select.get_mut(key).is_none());
        assert_eq!(ws.recv().unwrap().unwrap(), "mine");
        other.send(TEXT, b"others go on");
        assert_eq!(message(&mut select), (other_key, "others go on".into()));
        assert_eq!(ws.recv().unwrap().unwrap(), "mine");
        // And in again.
        let again = select.add(ws);
        peer.send(TEXT, b"back");
        assert_eq!(message(&mut select), (again, "back".into()));
    });
}

#[test]
fn the_key_of_one_that_has_ended_may_be_given_to_another() {
    bounded(|| {
        let mut select = Select::new();
        let (ws, mut peer) = pair();
        let key = select.add(ws);
        peer.bytes([frame(TEXT, false, b"last"), frame(0x88, false, &1000u16.to_be_bytes())].concat());
        peer.end();
        assert_eq!(message(&mut select), (key, "last".into()));
        match select.recv().unwrap() {
            Some((ended, Selected::Closed(closed))) => assert!(ended == key && closed.is_normal()),
            other => panic!("{other:?}"),
        }
        assert!(select.is_empty() && select.recv().unwrap().is_none());
        let (ws, mut peer) = pair();
        let again = select.add(ws);
        peer.send(TEXT, b"new");
        assert_eq!(message(&mut select), (again, "new".into()));
    });
}

#[test]
fn every_end_is_told_as_one_and_does_not_disturb_the_others() {
    bounded(|| {
        let mut select = Select::new();
        let (ws, mut peer) = pair();
        let key = select.add(ws);
        let mut codes = Vec::new();
        let ends: [fn(Peer); 4] = [
            |mut peer| {
                peer.close(4000, "");
                peer.end();
            },
            drop,
            |peer| peer.reset(),
            |mut peer| peer.send(TEXT, &[0xff]),
        ];
        for end in ends {
            let (ws, peer) = pair();
            let ending = select.add(ws);
            end(peer);
            match select.recv_timeout(PATIENCE).unwrap() {
                Some((key, Selected::Closed(closed))) if key == ending => codes.push(closed.code.get()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(codes, [4000, 1006, 1006, 1007]);
        peer.send(TEXT, b"undisturbed");
        assert_eq!(message(&mut select), (key, "undisturbed".into()));
    });
}

#[test]
fn one_that_had_ended_before_it_came_in_is_told_at_once() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.close(1000, "");
        peer.end();
        assert!(ws.recv().unwrap().is_none());
        let mut select = Select::new();
        select.add(ws);
        assert!(matches!(select.recv().unwrap(), Some((_, Selected::Closed(_)))));
    });
}

#[test]
fn one_may_be_received_from_by_itself_meanwhile() {
    bounded(|| {
        let mut select = Select::new();
        let (ws, mut peer) = pair();
        let key = select.add(ws);
        peer.bytes(frame(TEXT, false, b"question").repeat(3));
        assert_eq!(message(&mut select).1, "question");
        // A dialogue with one of them, while the others wait.
        assert_eq!(select[key].recv().unwrap().unwrap(), "question");
        assert_eq!(select[key].recv().unwrap().unwrap(), "question");
        assert!(is_idle(&mut select));
        peer.send(TEXT, b"later");
        assert_eq!(message(&mut select), (key, "later".into()));
    });
}

#[test]
fn all_answer_pings_while_the_select_waits() {
    bounded(|| {
        let mut select = Select::new();
        let (mut peers, _): (Vec<Peer>, Vec<Key>) =
            (0..3).map(|_| pair()).map(|(ws, peer)| (peer, select.add(ws))).unzip();
        let peers = thread::spawn(move || {
            for peer in &mut peers {
                peer.send(PING, b"?");
                assert_eq!(peer.frame().0, PONG);
            }
            peers[0].send(TEXT, b"all did");
            peers
        });
        assert_eq!(message(&mut select).1, "all did");
        peers.join().unwrap();
    });
}

#[test]
fn a_stop_ends_the_wait() {
    bounded(|| {
        let (told, tells) = std::sync::mpsc::channel();
        let worker = Worker::spawn(move || -> Result<bool, threadwire::Stopped> {
            let mut select = Select::new();
            select.serve(Server::bind("127.0.0.1:0").unwrap());
            later(Duration::ZERO, move || told.send(()).unwrap());
            Ok(matches!(select.recv(), Err(Error::Stopped)))
        });
        tells.recv().unwrap();
        worker.stop();
        assert_eq!(worker.join().unwrap().done(), Some(true));
    });
}

#[test]
fn servers_and_connections_share_a_thread() {
    bounded(|| {
        let servers = [(), ()].map(|()| Server::bind("127.0.0.1:0").unwrap().config(patient()));
        let urls = servers.each_ref().map(|server| format!("ws://{}", server.local_addr().unwrap()));
        let mut select = Select::new();
        servers.into_iter().for_each(|server| select.serve(server));
        let (ws, mut peer) = pair();
        let own = select.add(ws);
        let clients: Vec<_> = (0..10)
            .map(|number| {
                let url = urls[number % 2].clone();
                thread::spawn(move || {
                    let mut ws = blocking::connect(&url).unwrap();
                    for round in 0..20 {
                        ws.send(&format!("{number}/{round}")).unwrap();
                        let answer = ws.recv().unwrap().unwrap();
                        assert_eq!(answer, format!("{number}/{round}").as_str());
                    }
                    assert!(ws.close().unwrap().is_normal());
                })
            })
            .collect();
        let (mut connected, mut closed) = (0, 0);
        let mut messages = HashMap::<Key, usize>::new();
        while closed < 10 {
            let (key, what) = select.recv().unwrap().unwrap();
            match what {
                Selected::Connected => {
                    connected += 1;
                    assert!(select[key].is_open() && select[key].peer_addr().is_ok());
                }
                Selected::Message(message) => {
                    *messages.entry(key).or_default() += 1;
                    select[key].send_with(&message, WhenFull::Close).unwrap();
                }
                Selected::Closed(how) => {
                    assert!(how.is_normal(), "{how}");
                    closed += 1;
                }
            }
        }
        assert_eq!((connected, messages.values().sum::<usize>(), select.len()), (10, 200, 1));
        clients.into_iter().for_each(|client| client.join().unwrap());
        peer.send(TEXT, b"still here");
        assert_eq!(message(&mut select), (own, "still here".into()));
    });
}

#[test]
fn a_dropped_select_closes_its_connections_and_its_servers() {
    bounded(|| {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let addr = server.local_addr().unwrap();
        let mut select = Select::new();
        select.serve(server);
        let (ws, mut peer) = pair();
        select.add(ws);
        assert!(is_idle(&mut select));
        drop(select);
        assert_eq!(peer.code(), 1001);
        let client = Client::new(&format!("ws://{addr}")).unwrap().config(patient());
        assert!(blocking::connect(&client).is_err());
    });
}
