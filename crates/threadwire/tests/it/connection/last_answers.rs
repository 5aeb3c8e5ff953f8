//! Messages that arrive together with the peer's close frame: on every face their answers leave before ours.

use std::thread;
use std::time::Duration;

use crate::common::doors::{self, Plan};
use crate::common::peer::{CLOSE, Host, Peer, TEXT, farewell, frame, masked, request};
use crate::common::{bounded, echo, patient};
use threadwire::blocking::{self, Select, Selected};
use threadwire::{App, Client, CloseCode, Error, Request, wait_until};

/// Three messages and a close frame, as a client sends them or a server.
fn all_at_once(is_client: bool) -> Vec<u8> {
    let frame = |first, payload: &[u8]| match is_client {
        true => masked(first, payload),
        false => frame(first, false, payload),
    };
    let messages = ["one", "two", "three"].map(|text| frame(TEXT, text.as_bytes()));
    [messages.concat(), frame(CLOSE, &farewell(1000, "bye"))].concat()
}

/// All three are answered, and then the close frame is.
fn is_answered(peer: &mut Peer) {
    for text in ["one", "two", "three"] {
        assert_eq!(peer.text(), text);
    }
    assert_eq!(peer.closed(), (1000, String::new()));
}

/// Ways in which a client comes, sends it all, and perhaps has nothing more to say.
fn visit(addr: std::net::SocketAddr) {
    for ends in [false, true] {
        for is_early in [false, true] {
            let mut peer = Peer::connect(addr);
            if is_early {
                peer.bytes([request("/").into_bytes(), all_at_once(true)].concat());
                peer.head();
            } else {
                peer = peer.upgrade("/");
                peer.bytes(all_at_once(true));
            }
            if ends {
                peer.end();
            }
            is_answered(&mut peer);
        }
    }
}

#[test]
fn a_server_answers_first() {
    for &face in doors::FACES {
        bounded(move || {
            let served = face.serve(Plan::new(move |_: &Request| face.accept()));
            visit(served.addr());
        });
    }
}

#[test]
fn a_server_that_accepts_one_by_one_answers_first() {
    bounded(|| {
        let mut server = blocking::Server::bind("127.0.0.1:0").unwrap().config(patient());
        let addr = server.local_addr().unwrap();
        let visitor = thread::spawn(move || visit(addr));
        for is_iterating in [true, false, true, false] {
            let mut ws = server.accept().unwrap();
            if is_iterating {
                let mut answered = 0;
                let answers = ws.handle();
                for message in &mut ws {
                    answers.send(&message.unwrap()).unwrap();
                    answered += 1;
                }
                assert_eq!(answered, 3);
            } else {
                while let Some(message) = ws.recv().unwrap() {
                    ws.send(&message).unwrap();
                }
            }
            let closed = ws.closed().expect("it has ended");
            assert!(closed.clean && closed.reason == "bye", "{closed}");
        }
        visitor.join().unwrap();
    });
}

#[test]
fn a_select_answers_first() {
    bounded(|| {
        let server = blocking::Server::bind("127.0.0.1:0").unwrap().config(patient());
        let addr = server.local_addr().unwrap();
        let visitor = thread::spawn(move || visit(addr));
        let mut select = Select::new();
        select.serve(server);
        let mut ended = 0;
        while ended < 4 {
            match select.recv().unwrap().expect("a server") {
                (_, Selected::Connected) => {}
                (key, Selected::Message(message)) => select[key].send(&message).unwrap(),
                (_, Selected::Closed(closed)) => {
                    assert!(closed.clean, "{closed}");
                    ended += 1;
                }
            }
        }
        visitor.join().unwrap();
    });
}

/// A server that says all at once, together with its answer to the handshake.
fn hasty() -> (Client, thread::JoinHandle<()>) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(patient());
    let host = host.run(|host| is_answered(&mut host.upgrade(&all_at_once(false))));
    (client, host)
}

#[test]
fn a_client_answers_first() {
    bounded(|| {
        let (client, host) = hasty();
        let ws = client.connect(echo).unwrap();
        ws.wait_closed().unwrap();
        host.join().unwrap();

        let (client, host) = hasty();
        let mut ws = blocking::connect(&client).unwrap();
        while let Some(message) = ws.recv().unwrap() {
            ws.send(&message).unwrap();
        }
        host.join().unwrap();

        let (client, host) = hasty();
        let mut ws = blocking::connect(&client).unwrap();
        let answers = ws.connection().clone();
        for message in ws.iter() {
            answers.send(&message.unwrap()).unwrap();
        }
        host.join().unwrap();

        let (client, host) = hasty();
        App::new(&client).unwrap().on_message(|ws, message| ws.send(message)).run_forever().unwrap();
        host.join().unwrap();
    });
}

#[cfg(feature = "aio")]
#[test]
fn a_task_answers_first() {
    crate::common::tasks::on_runtimes(|| async {
        let (client, host) = hasty();
        let mut ws = threadwire::aio::connect(&client).await.unwrap();
        while let Some(message) = ws.recv().await.unwrap() {
            ws.send(&message).await.unwrap();
        }
        crate::common::tasks::join(host).await;
    });
}

/// A server that says all at once, and hears only a close frame.
fn unanswered(code: u16) -> (Client, thread::JoinHandle<()>) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(patient());
    let host = host.run(move |host| assert_eq!(host.upgrade(&all_at_once(false)).closed().0, code));
    (client, host)
}

#[test]
fn a_peer_does_not_wait_for_ever_for_a_program_that_receives_nothing() {
    bounded(|| {
        let (client, host) = unanswered(1000);
        let mut ws = blocking::connect(&client).unwrap();
        wait_until(None, || !ws.is_open()).unwrap();
        host.join().unwrap();
        assert!(ws.send("too late").is_err());
        for text in ["one", "two", "three"] {
            assert_eq!(ws.recv().unwrap().unwrap(), text, "what has come can be received");
        }
        assert!(ws.recv().unwrap().is_none());

        // One that has received a part of it.
        let (client, host) = unanswered(1000);
        let mut ws = blocking::connect(&client).unwrap();
        assert_eq!(ws.recv().unwrap().unwrap(), "one");
        wait_until(None, || !ws.is_open()).unwrap();
        host.join().unwrap();
    });
}

#[test]
fn a_peer_does_not_wait_for_a_select_that_receives_nothing() {
    bounded(|| {
        let (client, host) = unanswered(1000);
        let mut select = Select::new();
        let key = select.add(blocking::connect(&client).unwrap());
        wait_until(None, || !select[key].is_open()).unwrap();
        host.join().unwrap();
        let mut texts = Vec::new();
        while let Some((_, Selected::Message(message))) = select.recv().unwrap() {
            texts.push(message.to_string());
        }
        assert_eq!(texts, ["one", "two", "three"], "what has come can be received");
    });
}

#[test]
fn a_peer_does_not_wait_for_a_program_that_only_sends() {
    // A close frame, or an opcode that does not exist.
    for (end, code) in [(frame(CLOSE, false, &farewell(1000, "")), 1000), (frame(0x83, false, b""), 1002)] {
        bounded(move || {
            let host = Host::listen();
            let client = Client::new(&host.url()).unwrap().config(patient());
            let host = host.run(|host| host.upgrade(b""));
            let mut ws = blocking::connect(&client).unwrap();
            let mut peer = host.join().unwrap();
            // A program that has not received for that long is not about to.
            thread::sleep(Duration::from_secs(1));
            peer.bytes([frame(TEXT, false, b"one"), end].concat());
            assert!(matches!(ws.send("price"), Err(Error::Closed)));
            assert_eq!(peer.code(), code);
        });
    }
}

#[test]
fn a_close_of_ones_own_does_not_wait_for_one_that_has_come() {
    bounded(|| {
        let (client, host) = unanswered(4000);
        let mut ws = blocking::connect(&client).unwrap();
        assert_eq!(ws.recv().unwrap().unwrap(), "one");
        let closed = ws.close_with(CloseCode::new(4000), "").unwrap();
        assert!(closed.clean, "{closed}");
        host.join().unwrap();

        let (client, host) = unanswered(1001);
        drop(blocking::connect(&client).unwrap());
        host.join().unwrap();
    });
}
