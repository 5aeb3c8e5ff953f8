//! Messages on the async face: received, sent, by halves, by streams and sinks, over any stream.

use std::future::poll_fn;
use std::pin::Pin;

use crate::common::patient;
use crate::common::peer::{BINARY, PING, PONG, TEXT, masked};
use crate::common::tasks::{client, echo, join, on_runtimes, pair, pair_over, server};
use futures_core::Stream;
use futures_sink::Sink;
use threadwire::aio::{self, Event};
use threadwire::error::SendError;
use threadwire::frame::OpCode;
use threadwire::{Error, OwnedMessage};

#[test]
fn echoes_text_and_bytes_of_every_length() {
    on_runtimes(|| async {
        let mut server = aio::Server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", server.local_addr().unwrap());
        let serving =
            tokio::spawn(async move { echo(server.accept().await.unwrap().upgrade().await?).await });
        let mut ws = aio::connect(&url).await.unwrap();
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000, 1 << 20] {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let text: String = (0..length).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
            ws.send(&bytes).await.unwrap();
            ws.send(&text).await.unwrap();
            assert_eq!(ws.recv().await.unwrap(), Some(OwnedMessage::Binary(bytes)), "{length}");
            assert_eq!(ws.recv().await.unwrap(), Some(OwnedMessage::Text(text)), "{length}");
        }
        assert!(ws.close().await.unwrap().clean);
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn two_coroutines_talk_in_parallel() {
    on_runtimes(|| async {
        let (client, server) = pair().await;
        let serving = tokio::spawn(echo(server));
        let (sender, mut receiver) = client.split();
        let count = 1000;
        let speak = async move {
            for number in 0..count {
                sender.send(&format!("{number}")).await.unwrap();
            }
            sender
        };
        let listen = async move {
            for number in 0..count {
                assert_eq!(receiver.recv().await.unwrap().unwrap(), number.to_string().as_str());
            }
            receiver
        };
        let (sender, _receiver) = tokio::join!(tokio::spawn(speak), tokio::spawn(listen));
        assert!(sender.unwrap().close().await.unwrap().clean);
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn is_a_stream_and_a_sink() {
    on_runtimes(|| async {
        let (mut client, server) = pair().await;
        let serving = tokio::spawn(echo(server));
        let mut ws = Pin::new(&mut client);
        for number in 0..3 {
            poll_fn(|cx| ws.as_mut().poll_ready(cx)).await.unwrap();
            ws.as_mut().start_send(OwnedMessage::from(format!("{number}"))).unwrap();
        }
        poll_fn(|cx| ws.as_mut().poll_flush(cx)).await.unwrap();
        for number in 0..3 {
            let message = poll_fn(|cx| ws.as_mut().poll_next(cx)).await.unwrap().unwrap();
            assert_eq!(message, number.to_string().as_str());
        }
        poll_fn(|cx| ws.as_mut().poll_close(cx)).await.unwrap();
        assert!(poll_fn(|cx| ws.as_mut().poll_next(cx)).await.is_none());
        serving.await.unwrap().unwrap();
    });
}

#[test]
fn messages_in_fragments_are_received_as_one() {
    on_runtimes(|| async {
        let (mut ws, peer) = server(patient(), |mut peer| {
            peer.bytes(masked(0x01, b"in "));
            peer.bytes(masked(PING, b"between"));
            peer.bytes(masked(0x80, b"two"));
            assert_eq!(peer.frame(), (PONG, b"between".to_vec()));
            assert_eq!(peer.frame(), (0x02, b"and ".to_vec()));
            assert_eq!(peer.frame(), (0x80, b"back".to_vec()));
        })
        .await;
        assert_eq!(ws.recv().await.unwrap().unwrap(), "in two");
        ws.send_frame(OpCode::Binary, false, b"and ").await.unwrap();
        let between = ws.send("between").await;
        assert!(matches!(between, Err(Error::Send(SendError::MessageUnfinished))));
        let between = ws.handle().send("between");
        assert!(matches!(between, Err(Error::Send(SendError::MessageUnfinished))));
        ws.send_frame(OpCode::Continuation, true, b"back").await.unwrap();
        join(peer).await;
    });
}

#[test]
fn hands_out_pings_and_pongs_to_who_asks_for_them() {
    on_runtimes(|| async {
        let config = patient().auto_pong(false);
        let (mut ws, peer) = client(config, |mut peer| {
            assert_eq!(peer.frame(), (PING, b"1".to_vec()));
            peer.send(PONG, b"1");
            peer.send(PING, b"2");
            peer.send(TEXT, b"3");
            assert_eq!(peer.frame(), (PONG, b"2".to_vec()));
            peer.send(PING, b"4");
            peer.send(TEXT, b"5");
        })
        .await;
        ws.ping(b"1").await.unwrap();
        assert_eq!(ws.recv_event().await.unwrap(), Some(Event::Pong(b"1".to_vec())));
        assert_eq!(ws.recv_event().await.unwrap(), Some(Event::Ping(b"2".to_vec())));
        assert_eq!(ws.recv_event().await.unwrap(), Some(Event::Message("3".into())));
        ws.pong(b"2").await.unwrap();
        assert_eq!(ws.recv().await.unwrap().unwrap(), "5", "skips the ping");
        assert!(matches!(ws.ping(&[0; 126]).await, Err(Error::Send(_))));
        join(peer).await;
    });
}

#[test]
fn a_huge_message_arrives_in_the_order_it_was_sent_in() {
    on_runtimes(|| async {
        for room in [200, 1000, 1 << 20] {
            let (client, mut server) = pair_over(room, patient()).await;
            let huge = vec![7; 5 << 20];
            let send = async {
                client.send("before").await.unwrap();
                client.send(&huge).await.unwrap();
                client.send("behind").await.unwrap();
                client.flush().await.unwrap();
            };
            let receive = async {
                assert_eq!(server.recv().await.unwrap().unwrap(), "before");
                assert_eq!(server.recv().await.unwrap().unwrap().as_bytes(), huge);
                assert_eq!(server.recv().await.unwrap().unwrap(), "behind");
            };
            tokio::join!(send, receive);
            let closing = tokio::spawn(async move { client.close().await.unwrap().clean });
            assert!(server.recv().await.unwrap().is_none());
            assert!(closing.await.unwrap());
        }
    });
}

#[test]
fn what_comes_with_the_answer_to_the_handshake_is_received() {
    on_runtimes(|| async {
        let host = crate::common::peer::Host::listen();
        let url = host.url();
        let peer = host.run(|host| {
            let early = [
                crate::common::peer::frame(TEXT, false, b"early"),
                crate::common::peer::frame(BINARY, false, b"bird"),
            ];
            let mut peer = host.upgrade(&early.concat());
            assert_eq!(peer.text(), "good morning");
        });
        let mut ws = aio::connect(&url).await.unwrap();
        assert_eq!(ws.recv().await.unwrap().unwrap(), "early");
        assert_eq!(ws.recv().await.unwrap().unwrap().as_bytes(), b"bird");
        ws.send("good morning").await.unwrap();
        ws.flush().await.unwrap();
        join(peer).await;
    });
}

#[test]
fn many_messages_in_one_read_are_received_one_by_one() {
    on_runtimes(|| async {
        let (mut ws, peer) = server(patient(), |mut peer| {
            let many: Vec<u8> =
                (0..5000).flat_map(|number| masked(TEXT, format!("{number}").as_bytes())).collect();
            peer.bytes(many);
            assert_eq!(peer.text(), "done");
        })
        .await;
        for number in 0..5000 {
            assert_eq!(ws.recv().await.unwrap().unwrap(), number.to_string().as_str());
        }
        ws.send("done").await.unwrap();
        assert!(matches!(ws.recv().await, Err(Error::Ended(_))));
        join(peer).await;
    });
}
