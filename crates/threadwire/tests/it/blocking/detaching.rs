//! Detach and attach: blocking connections that change their thread.

use std::thread;
use std::time::Duration;

use crate::common::keeping::MOMENT;
use crate::common::peer::{BINARY, Host, PING, PONG, Peer, TEXT, frame};
use crate::common::process::alone;
use crate::common::sharing::elsewhere;
use crate::common::{PATIENCE, SOON, Serving, bind, bounded, echo, patient};
use threadwire::blocking::{self, Connection, Detached, Server};
use threadwire::messages::Backlog;
use threadwire::{Client, Config, Error, Keepalive, Reply, WhenFull, sleep, update, wait_until};

fn pair_with(config: Config) -> (Connection, Peer) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(config);
    let host = host.run(|host| host.upgrade(b""));
    let ws = blocking::connect(&client).unwrap();
    (ws, host.join().unwrap())
}

fn pair() -> (Connection, Peer) {
    pair_with(patient())
}

fn recv(ws: &mut Connection) -> String {
    ws.recv_timeout(PATIENCE).unwrap().expect("a message").to_string()
}

#[test]
fn queued_messages_and_those_that_come_later_are_received_there() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes((0..3).flat_map(|number| frame(TEXT, false, &[b'0' + number])).collect::<Vec<u8>>());
        assert_eq!(recv(&mut ws), "0");
        let detached = ws.detach().unwrap();
        peer.send(TEXT, b"while it belonged to nobody");
        elsewhere(move || {
            let mut ws = detached.attach().unwrap();
            assert_eq!((recv(&mut ws), recv(&mut ws)), ("1".into(), "2".into()));
            assert_eq!(recv(&mut ws), "while it belonged to nobody");
            ws.send("from here").unwrap();
            assert_eq!(peer.text(), "from here");
            peer.close(1000, "");
            peer.end();
            assert!(ws.recv().unwrap().is_none());
        });
    });
}

#[test]
fn a_message_may_be_in_the_middle_of_its_arrival() {
    bounded(|| {
        for size in [10, 300_000] {
            let (mut ws, mut peer) = pair();
            let bytes = frame(BINARY, false, &vec![9; size]);
            let (first, rest) = bytes.split_at(bytes.len() / 2);
            peer.bytes(first);
            assert!(ws.recv_timeout(SOON).unwrap_err().is_timeout());
            let detached = ws.detach().unwrap();
            peer.bytes(rest);
            elsewhere(move || {
                let mut ws = detached.attach().unwrap();
                assert_eq!(ws.recv().unwrap().unwrap().as_bytes(), vec![9; size]);
            });
        }
    });
}

#[test]
fn a_message_in_fragments_goes_on_there() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.send(0x01, "half a € ".as_bytes());
        assert!(ws.recv_timeout(SOON).unwrap_err().is_timeout());
        let detached = ws.detach().unwrap();
        peer.send(0x80, b"and a half");
        elsewhere(move || {
            let mut ws = detached.attach().unwrap();
            assert_eq!(recv(&mut ws), "half a € and a half");
        });
    });
}

#[test]
fn handles_send_meanwhile_and_stay_valid() {
    bounded(|| {
        let (ws, mut peer) = pair();
        let handle = ws.handle();
        handle.send("before").unwrap();
        let detached = ws.detach().unwrap();
        for number in 0..100 {
            handle.send(&format!("between {number}")).unwrap();
        }
        let there = handle.clone();
        elsewhere(move || {
            let mut ws = detached.attach().unwrap();
            ws.send("after").unwrap();
            there.send("behind").unwrap();
            sleep(Duration::from_millis(1)).unwrap();
            let mut seen = vec![];
            while seen.len() < 103 {
                seen.push(peer.text());
            }
            let before = seen.iter().position(|text| text == "before").unwrap();
            let between: Vec<&String> = seen.iter().filter(|text| text.starts_with("between")).collect();
            assert!(before == 0 && between.len() == 100, "{seen:?}");
            assert!((0..100).all(|number| *between[number] == format!("between {number}")));
            assert!(seen.contains(&"after".to_owned()) && seen.contains(&"behind".to_owned()));
            peer.close(1000, "");
            peer.end();
            assert!(ws.recv().unwrap().is_none());
        });
        assert!(handle.wait_closed().unwrap().is_normal());
    });
}

#[test]
fn unsent_output_goes_along() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        let message = vec![5u8; 256 << 10];
        let mut count = 0;
        while ws.connection().buffered() < 1 << 20 {
            ws.send_with(&message[..], WhenFull::Error).unwrap();
            count += 1;
        }
        let detached = ws.detach().unwrap();
        let other = thread::spawn(move || {
            let mut ws = detached.attach().unwrap();
            assert_eq!(recv(&mut ws), "all of it");
        });
        for _ in 0..count {
            assert_eq!(peer.brief(1), (BINARY, 256 << 10, vec![5]));
        }
        peer.send(TEXT, b"all of it");
        other.join().unwrap();
    });
}

#[test]
fn gathered_answers_go_along() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(frame(TEXT, false, b"?").repeat(2));
        ws.recv().unwrap();
        ws.send("answer").unwrap();
        let detached = ws.detach().unwrap();
        elsewhere(move || {
            let mut ws = detached.attach().unwrap();
            assert_eq!(recv(&mut ws), "?");
            sleep(Duration::ZERO).unwrap();
            assert_eq!(peer.text(), "answer");
        });
    });
}

#[test]
fn a_full_queue_goes_along_and_reading_goes_on_when_it_was_received() {
    bounded(|| {
        const COUNT: usize = 60;
        let (ws, mut peer) = pair();
        let writer = thread::spawn(move || {
            (0..COUNT).for_each(|_| peer.send(BINARY, &vec![1; 100 << 10]));
            peer
        });
        while !ws.connection().is_reading_paused() {
            sleep(Duration::from_millis(1)).unwrap();
        }
        let detached = ws.detach().unwrap();
        elsewhere(move || {
            let mut ws = detached.attach().unwrap();
            for _ in 0..COUNT {
                assert_eq!(ws.recv().unwrap().unwrap().len(), 100 << 10);
            }
        });
        writer.join().unwrap();
    });
}

#[test]
fn keepalive_goes_on_there() {
    bounded(|| {
        let keepalive = Keepalive::default().idle_timeout(MOMENT).reply_timeout(PATIENCE);
        let (mut ws, mut peer) = pair_with(patient().keepalive(keepalive));
        assert!(ws.recv_timeout(2 * MOMENT).unwrap_err().is_timeout());
        assert_eq!(peer.frame().0, PING);
        let detached = ws.detach().unwrap();
        let other = thread::spawn(move || {
            let mut ws = detached.attach().unwrap();
            assert_eq!(recv(&mut ws), "enough");
        });
        peer.send(PONG, b"");
        assert_eq!(peer.frame().0, PING);
        peer.send(TEXT, b"enough");
        other.join().unwrap();
    });
}

#[test]
fn a_ping_that_came_between_is_answered() {
    bounded(|| {
        let (ws, mut peer) = pair();
        let detached = ws.detach().unwrap();
        peer.send(PING, b"anybody?");
        peer.send(TEXT, b"well");
        elsewhere(move || {
            let mut ws = detached.attach().unwrap();
            assert_eq!(recv(&mut ws), "well");
            assert!(ws.try_recv().unwrap_err().is_timeout());
            assert_eq!(peer.frame(), (PONG, b"anybody?".to_vec()));
        });
    });
}

#[test]
fn it_moves_from_thread_to_thread_and_back() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let mut ws = blocking::connect(&serving.url("/")).unwrap();
        for hop in 0..10 {
            ws.send(&format!("here {hop}")).unwrap();
            let detached = ws.detach().unwrap();
            let detached = elsewhere(move || {
                let mut ws = detached.attach().unwrap();
                assert_eq!(recv(&mut ws), format!("here {hop}"));
                ws.send(&format!("there {hop}")).unwrap();
                ws.detach().unwrap()
            });
            ws = detached.attach().unwrap();
            assert_eq!(recv(&mut ws), format!("there {hop}"));
        }
        assert!(ws.close().unwrap().is_normal());
    });
}

#[test]
fn a_server_accepts_here_and_a_thread_for_each_connection_serves() {
    bounded(|| {
        let mut server = Server::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let clients: Vec<_> = (0..4)
            .map(|number| {
                let url = url.clone();
                thread::spawn(move || {
                    let mut ws = blocking::connect(&url).unwrap();
                    ws.send(&format!("I am {number}")).unwrap();
                    assert_eq!(recv(&mut ws), format!("I am {number}"));
                    assert!(ws.close().unwrap().is_normal());
                })
            })
            .collect();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let detached: Detached = server.accept().unwrap().detach().unwrap();
                thread::spawn(move || {
                    let mut ws = detached.attach().unwrap();
                    while let Some(message) = ws.recv().unwrap() {
                        ws.send(&message).unwrap();
                    }
                })
            })
            .collect();
        clients.into_iter().chain(threads).for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn dropped_while_it_belongs_to_nobody_it_is_broken_off() {
    bounded(|| {
        let (ws, mut peer) = pair();
        drop(ws.detach().unwrap());
        assert!(peer.ended());
    });
}

#[test]
fn a_connection_that_ended_meanwhile_tells_so_there() {
    bounded(|| {
        let (mut ws, mut peer) = pair();
        peer.bytes(frame(TEXT, false, b"unread").repeat(2));
        recv(&mut ws);
        let detached = ws.detach().unwrap();
        peer.close(1001, "");
        peer.end();
        elsewhere(move || {
            let mut ws = detached.attach().unwrap();
            assert_eq!(recv(&mut ws), "unread");
            assert!(ws.recv().unwrap().is_none());
            assert_eq!(ws.closed().unwrap().code.get(), 1001);
        });
    });
}

#[test]
fn a_closing_connection_stays_where_it_is_and_one_that_has_ended_can_go() {
    bounded(|| {
        let (ws, _peer) = pair();
        ws.connection().close().unwrap();
        assert!(matches!(ws.detach(), Err(Error::Closed)));

        let (mut ws, peer) = pair();
        ws.connection().close().unwrap();
        drop(peer);
        let _ = ws.recv();
        let detached = ws.detach().unwrap();
        elsewhere(move || {
            let mut ws = detached.attach().unwrap();
            assert!(!ws.is_open() && ws.closed().is_some_and(|closed| !closed.clean));
            assert!(matches!(ws.send("late"), Err(Error::Closed)));
            assert!(matches!(ws.recv(), Err(Error::Ended(_))));
            assert!(ws.recv().unwrap().is_none());
        });
    });
}

#[test]
fn what_was_agreed_goes_along() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(echo).subprotocol("chat").unwrap());
        let client = Client::new(&serving.url("/")).unwrap().subprotocols(["chat"]).unwrap();
        let ws = blocking::connect(&client).unwrap();
        let (local, peer) = (ws.local_addr().unwrap(), ws.peer_addr().unwrap());
        let detached = ws.detach().unwrap();
        elsewhere(move || {
            let ws = detached.attach().unwrap();
            assert_eq!(ws.subprotocol(), Some("chat"));
            assert!(ws.response_headers().is_some());
            assert_eq!((ws.local_addr().unwrap(), ws.peer_addr().unwrap()), (local, peer));
        });
    });
}

/// Messages held behind a message in parts move along with it.
#[test]
fn a_message_in_parts_and_what_it_holds_back_go_on_there() {
    bounded(|| {
        let serving = Serving::with(bind().config(patient()), |_| Reply::with(echo));
        let ws = blocking::connect(&serving.url("/")).unwrap();
        let handle = ws.handle();
        let mut parts = handle.start_text();
        parts.send("in parts").unwrap();
        elsewhere(move || handle.send("held").unwrap());
        update().unwrap();
        let detached = ws.detach().unwrap();
        elsewhere(move || {
            let mut ws = detached.attach().unwrap();
            parts.finish().unwrap();
            assert_eq!((recv(&mut ws), recv(&mut ws)), ("in parts".into(), "held".into()));
            assert_eq!(ws.connection().buffered(), 0);
        });
    });
}

#[test]
fn handles_hear_of_the_end_of_a_connection_that_was_dropped_between_threads() {
    bounded(|| {
        let (ws, mut peer) = pair();
        let handle = ws.handle();
        let detached = ws.detach().unwrap();
        handle.send("never").unwrap();
        drop(detached);
        assert!(peer.ended());
        assert!(!handle.wait_closed().unwrap().clean);
    });
}

#[test]
fn handles_that_send_after_it_was_dropped_between_threads_hear_of_the_end() {
    bounded(|| {
        let (ws, _peer) = pair();
        let handle = ws.handle();
        drop(ws.detach().unwrap());
        let _ = handle.send("for nobody");
        wait_until(None, || handle.has_ended()).unwrap();
    });
}

/// The thread that it comes to can't have a loop, as the process has no descriptor left.
#[test]
fn handles_hear_of_the_end_of_a_connection_that_could_not_be_attached() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    alone(|| {
        bounded(|| {
            let (ws, mut peer) = pair();
            let handle = ws.handle();
            let mut receiver = handle.messages(Backlog::default());
            let detached = ws.detach().unwrap();
            let maximum = getrlimit(Resource::Nofile).maximum;
            setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
            let mut files = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                files.push(file);
            }
            let attached = thread::spawn(move || detached.attach().map(drop)).join().unwrap();
            assert!(matches!(attached, Err(Error::Io(_))), "{attached:?}");
            drop(files);
            assert!(peer.ended());
            assert!(handle.has_ended() && !handle.is_open());
            assert!(matches!(handle.send("for nobody"), Err(Error::Closed)));
            assert!(!handle.wait_closed().unwrap().clean);
            assert!(matches!(receiver.recv(), Err(Error::Ended(_) | Error::Closed)));
        });
    });
}

#[test]
fn a_connection_that_has_left_has_a_handle_that_has_ended() {
    bounded(|| {
        let (ws, _peer) = pair();
        let left = ws.connection().clone();
        let _detached = ws.detach().unwrap();
        assert!(left.handle().has_ended(), "{:?}", left.closed());
    });
}

#[test]
fn a_measurement_whose_callback_aborts_ends_the_connection_instead_of_its_move() {
    bounded(|| {
        let (ws, _peer) = pair();
        let (handle, own) = (ws.handle(), ws.connection().clone());
        ws.connection().measure_roundtrip_then(1000, move |_| {
            own.abort();
            let _ = sleep(MOMENT);
        });
        ws.detach().unwrap_err();
        wait_until(None, || handle.has_ended()).unwrap();
    });
}
