//! Messages in parts on tokio.

use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;

use crate::common::patient;
use crate::common::peer::{CLOSE, Host, Peer, TEXT, farewell, frame};
use crate::common::tasks::on_runtimes;
use threadwire::aio::{self, PartialReceiver};
use threadwire::frame::OpCode;
use threadwire::{Client, Config, Error, Limits};

const BEGIN: u8 = 0x01;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;

async fn pair() -> (PartialReceiver, Peer) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(patient());
    let host = host.run(|host| host.upgrade(b""));
    let ws = aio::connect_in_parts(&client).await.unwrap();
    (ws, host.join().unwrap())
}

#[test]
fn what_was_not_taken_of_a_message_is_skipped() {
    on_runtimes(|| async {
        let (mut ws, mut peer) = pair().await;
        peer.bytes([frame(BEGIN, false, b"1"), frame(MORE, false, b"2"), frame(LAST, false, b"3")].concat());
        peer.bytes([frame(TEXT, false, b"not looked at"), frame(BEGIN, false, b"a")].concat());
        let mut message = ws.recv().await.unwrap().unwrap();
        assert!(message.is_text());
        assert_eq!(message.next_part().await.unwrap().unwrap(), b"1");
        let _ = ws.recv().await.unwrap().unwrap();
        let mut message = ws.recv().await.unwrap().unwrap();
        // It is received before the message has come to its end.
        assert_eq!(message.next_part().await.unwrap().unwrap(), b"a");
        peer.bytes([frame(LAST, false, b"c"), frame(0x82, false, b"next")].concat());
        let mut message = ws.recv().await.unwrap().unwrap();
        assert!(!message.is_text());
        assert_eq!(message.next_part().await.unwrap().unwrap(), b"next");
        assert!(message.next_part().await.unwrap().is_none());
    });
}

#[test]
fn a_receive_that_is_dropped_while_it_skips_has_lost_nothing() {
    on_runtimes(|| async {
        let (mut ws, mut peer) = pair().await;
        peer.send(BEGIN, b"once");
        let _ = ws.recv().await.unwrap().unwrap();
        for _ in 0..2 {
            assert!(pin!(ws.recv()).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        peer.bytes([frame(LAST, false, b"more"), frame(TEXT, false, b"next")].concat());
        let mut message = ws.recv().await.unwrap().unwrap();
        assert_eq!(message.next_part().await.unwrap().unwrap(), b"next");
    });
}

#[test]
fn a_message_that_breaks_off_is_no_whole_one() {
    on_runtimes(|| async {
        let (mut ws, mut peer) = pair().await;
        peer.send(BEGIN, b"once upon a");
        peer.close(1000, "");
        peer.end();
        let mut message = ws.recv().await.unwrap().unwrap();
        assert_eq!(message.next_part().await.unwrap().unwrap(), b"once upon a");
        assert!(matches!(message.next_part().await, Err(Error::Lost)));
        assert!(ws.recv().await.unwrap().is_none());

        let (mut ws, mut peer) = pair().await;
        let end = frame(CLOSE, false, &farewell(4000, ""));
        peer.bytes([frame(BEGIN, false, b"a"), end].concat());
        peer.end();
        let mut message = ws.recv().await.unwrap().unwrap();
        assert_eq!(message.next_part().await.unwrap().unwrap(), b"a");
        assert!(matches!(message.next_part().await, Err(Error::Ended(closed)) if closed.code.get() == 4000));
        assert!(ws.recv().await.unwrap().is_none());
    });
}

#[test]
fn a_message_may_be_longer_than_what_is_held_and_the_peer_is_slowed_down() {
    on_runtimes(|| async {
        const PARTS: usize = 300;
        let (mut ws, mut peer) = pair().await;
        assert!(PARTS * (100 << 10) > Limits::default().max_message);
        let writer = thread::spawn(move || {
            for number in 0..PARTS {
                peer.send(if number == 0 { 0x02 } else { MORE }, &vec![number as u8; 100 << 10]);
            }
            peer.send(LAST, b"end");
            peer
        });
        let mut message = ws.recv().await.unwrap().unwrap();
        let mut total = 0;
        while let Some(part) = message.next_part().await.unwrap() {
            total += part.len();
        }
        assert_eq!(total, PARTS * (100 << 10) + 3);
        writer.join().unwrap();
    });
}

#[test]
fn a_server_bounds_parts_by_its_limit_of_messages_too() {
    on_runtimes(|| async {
        let config = patient().limits(Limits::default().max_message(10));
        let mut server = aio::Server::bind("127.0.0.1:0").await.unwrap().config(config);
        let url = format!("ws://{}/", server.local_addr().unwrap());
        let client = tokio::spawn(async move {
            let ws = aio::connect(&Client::new(&url).unwrap().config(Config::default())).await.unwrap();
            ws.send_frame(OpCode::Text, false, b"ten bytes.").await.unwrap();
            ws.send_frame(OpCode::Continuation, false, b"ten bytes.").await.unwrap();
            ws.send_frame(OpCode::Continuation, true, b"eleven bytes").await.unwrap();
            ws.handle().wait_closed().await.code.get()
        });
        let mut ws = server.accept().await.unwrap().upgrade_in_parts().await.unwrap();
        let mut message = ws.recv().await.unwrap().unwrap();
        assert_eq!(message.next_part().await.unwrap().unwrap(), b"ten bytes.");
        assert_eq!(message.next_part().await.unwrap().unwrap(), b"ten bytes.");
        assert!(message.next_part().await.is_err());
        assert_eq!(client.await.unwrap(), 1009);
    });
}
