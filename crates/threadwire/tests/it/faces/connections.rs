//! Connection features on each face.

use std::sync::mpsc;
use std::thread;

use super::drive::{aio, blocking, client, frame, text};
use super::scenarios;
use crate::common::peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT};
use crate::common::recorder::{Call, Log};
use crate::common::{PATIENCE, ignore, patient};
use threadwire::error::TimeoutKind;
use threadwire::events::Received;
use threadwire::frame::OpCode;
use threadwire::messages::Backlog;
use threadwire::worker::{block_on, wait_event};
use threadwire::{App, CloseCode, Error, Handle, Initiator, Room, wait_until};

/// The fragments of a message.
const FRAGMENTS: [(u8, &[u8]); 2] = [(0x01, b"two "), (0x80, b"parts")];

fn is_fragments(frames: [(u8, Vec<u8>); 2]) -> bool {
    frames == FRAGMENTS.map(|(first, payload)| (first, payload.to_vec()))
}

/// Waits until the connection's thread has done what the handle asked for before.
fn settle(handle: &Handle) {
    let (tell, told) = mpsc::channel();
    handle.run(move |_| tell.send(()).unwrap());
    told.recv().unwrap();
}

/// The code of a close frame that is answered.
fn farewell(peer: &mut Peer) -> (u16, String) {
    let closed = peer.closed();
    peer.close(closed.0, "");
    peer.end();
    closed
}

scenarios! {
    "send a message" {
        listener app: peer |ws, peer| {
            ws.send("text").unwrap();
            assert_eq!(frame(peer), (TEXT, b"text".to_vec()));
            ws.send(b"binary").unwrap();
            assert_eq!(frame(peer), (BINARY, b"binary".to_vec()));
        };
        blocking: peer |ws, peer| {
            ws.send("text").unwrap();
            assert_eq!(peer.frame(), (TEXT, b"text".to_vec()));
            ws.send(b"binary").unwrap();
            assert_eq!(peer.frame(), (BINARY, b"binary".to_vec()));
        };
        aio: peer async |ws, peer| {
            ws.send("text").await.unwrap();
            assert_eq!(peer.frame(), (TEXT, b"text".to_vec()));
            ws.send(b"binary").await.unwrap();
            assert_eq!(peer.frame(), (BINARY, b"binary".to_vec()));
        };
        handle aio_handle: peer |handle, peer| {
            handle.send("text").unwrap();
            assert_eq!(peer.frame(), (TEXT, b"text".to_vec()));
            handle.send(b"binary").unwrap();
            assert_eq!(peer.frame(), (BINARY, b"binary".to_vec()));
        };
    }
    "send a message in parts" {
        listener app: peer |ws, peer| {
            ws.send_frame(OpCode::Text, false, b"two ").unwrap();
            ws.send_frame(OpCode::Continuation, true, b"parts").unwrap();
            assert!(is_fragments([frame(peer), frame(peer)]));
        };
        blocking: peer |ws, peer| {
            ws.connection().send_frame(OpCode::Text, false, b"two ").unwrap();
            ws.connection().send_frame(OpCode::Continuation, true, b"parts").unwrap();
            ws.flush();
            assert!(is_fragments([peer.frame(), peer.frame()]));
        };
        aio: peer async |ws, peer| {
            ws.send_frame(OpCode::Text, false, b"two ").await.unwrap();
            ws.send_frame(OpCode::Continuation, true, b"parts").await.unwrap();
            assert!(is_fragments([peer.frame(), peer.frame()]));
        };
        handle: peer |handle, peer| {
            let mut parts = handle.start_text();
            parts.send("two ").unwrap();
            assert_eq!(peer.frame(), (0x01, b"two ".to_vec()));
            parts.finish().unwrap();
            assert_eq!(peer.frame(), (0x80, Vec::new()));
        };
    }
    "ping" {
        listener app: peer |ws, peer| {
            ws.ping(b"?").unwrap();
            assert_eq!(frame(peer), (PING, b"?".to_vec()));
        };
        blocking: peer |ws, peer| {
            ws.ping(b"?").unwrap();
            assert_eq!(peer.frame(), (PING, b"?".to_vec()));
        };
        aio: peer async |ws, peer| {
            ws.ping(b"?").await.unwrap();
            assert_eq!(peer.frame(), (PING, b"?".to_vec()));
        };
        handle aio_handle: peer |handle, peer| {
            handle.ping(b"?").unwrap();
            assert_eq!(peer.frame(), (PING, b"?".to_vec()));
        };
    }
    "pong" {
        listener app: peer |ws, peer| {
            ws.pong(b"!").unwrap();
            assert_eq!(frame(peer), (PONG, b"!".to_vec()));
        };
        blocking: peer |ws, peer| {
            ws.connection().pong(b"!").unwrap();
            ws.flush();
            assert_eq!(peer.frame(), (PONG, b"!".to_vec()));
        };
        aio: peer async |ws, peer| {
            ws.pong(b"!").await.unwrap();
            assert_eq!(peer.frame(), (PONG, b"!".to_vec()));
        };
        handle aio_handle: peer |handle, peer| {
            handle.pong(b"!").unwrap();
            assert_eq!(peer.frame(), (PONG, b"!".to_vec()));
        };
    }
    "write at once what was sent" {
        listener app: peer |ws, peer| {
            ws.send("now").unwrap();
            ws.flush();
            assert_eq!(peer.text(), "now");
        };
        blocking: peer |ws, peer| {
            ws.connection().send("now").unwrap();
            ws.flush();
            assert_eq!(peer.text(), "now");
        };
        aio: peer async |ws, peer| {
            ws.send("now").await.unwrap();
            ws.flush().await.unwrap();
            assert_eq!(peer.text(), "now");
        };
    }
    "receive a message" {
        listener: alone || {
            let log = Log::new();
            let (client, peer) = client(patient());
            // `Listener::on_message` of this one writes it down.
            let _ws = client.connect(log.listener(ignore)).unwrap();
            peer.join().unwrap().send(TEXT, b"hello");
            let on_message = Call::text("hello");
            wait_until(None, || log.calls().contains(&on_message)).unwrap();
        };
        blocking: peer |ws, peer| {
            peer.send(TEXT, b"hello");
            assert_eq!(ws.recv().unwrap().unwrap(), "hello");
            peer.send(TEXT, b"again");
            assert_eq!(ws.recv_timeout(PATIENCE).unwrap().unwrap(), "again");
            assert!(matches!(ws.try_recv(), Err(Error::Timeout(TimeoutKind::Receive))));
        };
        app: alone || {
            let (client, peer) = client(patient());
            let peer = thread::spawn(|| {
                let mut peer = peer.join().unwrap();
                peer.send(TEXT, b"hello");
                peer.code()
            });
            let app = App::new(&client).unwrap().on_message(|ws, message| {
                assert_eq!(message.as_text(), Some("hello"));
                ws.close_with(CloseCode::from(3000), "")
            });
            let _ended = app.on_error(|_, _| {}).run_forever();
            assert_eq!(peer.join().unwrap(), 3000);
        };
        aio: peer async |ws, peer| {
            peer.send(TEXT, b"hello");
            assert_eq!(ws.recv().await.unwrap().unwrap(), "hello");
        };
        handle: peer |handle, peer| {
            let mut messages = handle.messages(Backlog::default());
            settle(handle);
            peer.send(TEXT, b"hello");
            assert_eq!(messages.recv().unwrap().unwrap(), "hello");
        };
    }
    "close, with a reason" {
        listener app: peer |ws, peer| {
            ws.close_with(CloseCode::from(3000), "why").unwrap();
            assert_eq!(frame(peer), (CLOSE, b"\x0b\xb8why".to_vec()));
        };
        blocking: alone || {
            let (mut ws, mut peer) = blocking::open(patient());
            let peer = thread::spawn(move || farewell(&mut peer));
            assert!(ws.close_with(CloseCode::from(3000), "why").unwrap().clean);
            assert_eq!(peer.join().unwrap(), (3000, "why".to_owned()));
        };
        aio: alone async || {
            let (ws, mut peer) = aio::open(patient()).await;
            let peer = thread::spawn(move || farewell(&mut peer));
            assert!(ws.close_with(CloseCode::from(3000), "why").await.unwrap().clean);
            assert_eq!(peer.join().unwrap(), (3000, "why".to_owned()));
        };
        handle aio_handle: peer |handle, peer| {
            handle.close_with(CloseCode::from(3000), "why").unwrap();
            assert_eq!(peer.closed(), (3000, "why".to_owned()));
        };
    }
    "how much waits to be written" {
        listener app: peer |ws, _peer| {
            ws.send("12345").unwrap();
            assert!(ws.buffered() > 5);
            ws.flush();
            assert_eq!(ws.buffered(), 0);
        };
        blocking: peer |ws, _peer| {
            ws.connection().send("12345").unwrap();
            assert!(ws.connection().buffered() > 5);
        };
        aio: peer async |ws, _peer| {
            ws.send("12345").await.unwrap();
            ws.flush().await.unwrap();
            assert_eq!(ws.buffered(), 0);
        };
        handle aio_handle: peer |handle, peer| {
            handle.send("12345").unwrap();
            assert_eq!(peer.text(), "12345");
            assert!(handle.buffered() < 100);
        };
    }
    "wait for the end" {
        listener: peer |ws, peer| {
            peer.close(1000, "bye");
            peer.end();
            ws.wait_closed().unwrap();
            assert_eq!(ws.closed().unwrap().reason, "bye");
        };
        app: alone || {
            let (client, peer) = client(patient());
            let peer = thread::spawn(|| farewell(&mut peer.join().unwrap()));
            let ended = App::new(&client).unwrap().on_open(|ws| ws.close()).run_forever().unwrap();
            assert!(ended.closed.unwrap().is_normal());
            assert_eq!(peer.join().unwrap().0, 1000);
        };
        blocking: peer |ws, peer| {
            peer.close(1000, "bye");
            peer.end();
            assert!(ws.recv().unwrap().is_none());
            assert_eq!(ws.closed().unwrap().reason, "bye");
        };
        aio: peer async |ws, peer| {
            peer.close(1000, "bye");
            peer.end();
            assert!(ws.recv().await.unwrap().is_none());
            assert_eq!(ws.closed().unwrap().reason, "bye");
        };
        handle: peer |handle, peer| {
            peer.close(1000, "bye");
            peer.end();
            assert_eq!(handle.wait_closed().unwrap().reason, "bye");
        };
        aio_handle: peer |handle, peer| {
            peer.close(1000, "bye");
            peer.end();
            assert_eq!(block_on(handle.wait_closed()).unwrap().reason, "bye");
        };
    }
    "break off" {
        listener: peer |ws, peer| {
            ws.abort();
            ws.wait_closed().unwrap();
            assert!(peer.ended());
        };
        blocking: peer |ws, peer| {
            ws.connection().abort();
            ws.recv().unwrap_err();
            assert!(peer.ended());
        };
        app: alone || {
            let (client, peer) = client(patient());
            let _ended = App::new(&client).unwrap().on_open(|ws| ws.abort()).on_error(|_, _| {}).run_forever();
            assert!(peer.join().unwrap().ended());
        };
        aio: peer async |ws, peer| {
            ws.abort();
            assert!(peer.ended());
        };
        handle aio_handle: peer |handle, peer| {
            handle.abort();
            assert!(peer.ended());
        };
    }
    "how it ended" {
        listener: peer |ws, _peer| {
            assert!(ws.closed().is_none());
            ws.abort();
            ws.wait_closed().unwrap();
            assert_eq!(ws.closed().unwrap().initiator, Initiator::Local);
        };
        app: alone || {
            let (client, _peer) = client(patient());
            let (tell, told) = mpsc::channel();
            let app = App::new(&client).unwrap().on_open(|ws| ws.abort()).on_error(|_, _| {});
            let _ended = app.on_close(move |_, closed| tell.send(closed.initiator).unwrap()).run_forever();
            assert_eq!(told.recv().unwrap(), Initiator::Local);
        };
        blocking: peer |ws, _peer| {
            assert!(ws.closed().is_none());
            ws.connection().abort();
            ws.recv().unwrap_err();
            assert_eq!(ws.closed().unwrap().initiator, Initiator::Local);
        };
        aio: peer async |ws, _peer| {
            assert!(ws.closed().is_none());
            ws.abort();
            assert!(ws.recv().await.is_err());
            assert_eq!(ws.closed().unwrap().initiator, Initiator::Local);
        };
        handle: peer |handle, _peer| {
            assert!(handle.closed().is_none());
            handle.abort();
            let _ended = handle.wait_closed().unwrap();
            assert_eq!(handle.closed().unwrap().initiator, Initiator::Local);
        };
        aio_handle: peer |handle, _peer| {
            assert!(handle.closed().is_none());
            handle.abort();
            let _ended = block_on(handle.wait_closed()).unwrap();
            assert_eq!(handle.closed().unwrap().initiator, Initiator::Local);
        };
    }
    "a handle for other threads" {
        listener app: peer |ws, peer| {
            let handle = ws.handle();
            thread::spawn(move || handle.send("from elsewhere").unwrap()).join().unwrap();
            assert_eq!(text(peer), "from elsewhere");
        };
        blocking: peer |ws, peer| {
            let handle = ws.handle();
            thread::spawn(move || handle.send("from elsewhere").unwrap()).join().unwrap();
            assert_eq!(text(peer), "from elsewhere");
        };
        aio: peer async |ws, peer| {
            let handle = ws.handle();
            thread::spawn(move || handle.send("from elsewhere").unwrap()).join().unwrap();
            assert_eq!(peer.text(), "from elsewhere");
        };
    }
    "halves for two threads" {
        blocking: peer |ws, peer| {
            let owned = std::mem::replace(ws, blocking::open(patient()).0);
            let (sender, mut receiver) = owned.split();
            thread::spawn(move || sender.send("from elsewhere").unwrap()).join().unwrap();
            assert_eq!(text(peer), "from elsewhere");
            peer.send(TEXT, b"hello");
            assert_eq!(receiver.recv().unwrap().unwrap(), "hello");
        };
        aio: alone async || {
            let (ws, mut peer) = aio::open(patient()).await;
            let (sender, mut receiver) = ws.split();
            sender.send("hello").await.unwrap();
            assert_eq!(peer.text(), "hello");
            peer.send(TEXT, b"hello");
            assert_eq!(receiver.recv().await.unwrap().unwrap(), "hello");
        };
    }
    "move to another thread" {
        blocking: alone || {
            let (ws, mut peer) = blocking::open(patient());
            let detached = ws.detach().unwrap();
            peer.send(TEXT, b"hello");
            let got = thread::spawn(move || detached.attach().unwrap().recv().unwrap().unwrap());
            assert_eq!(got.join().unwrap(), "hello");
        };
        aio: alone async || {
            let (mut ws, mut peer) = aio::open(patient()).await;
            peer.send(TEXT, b"hello");
            let got = tokio::spawn(async move { ws.recv().await.unwrap().unwrap() });
            assert_eq!(got.await.unwrap(), "hello");
        };
    }
    "a call on the connection's own thread" {
        handle: peer |handle, _peer| {
            let (tell, told) = mpsc::channel();
            handle.run(move |ws| tell.send(ws.is_open()).unwrap());
            assert!(told.recv().unwrap());
        };
    }
    "events for workers" {
        handle: peer |handle, peer| {
            handle.subscribe();
            settle(handle);
            peer.send(TEXT, b"hello");
            let event = wait_event::<Received>().unwrap();
            assert_eq!(event.data.message, "hello");
        };
    }
    "addresses" {
        listener app: peer |ws, peer| {
            assert_eq!(ws.local_addr().unwrap(), peer.peer_addr());
            assert_eq!(ws.peer_addr().unwrap(), peer.local_addr());
        };
        blocking: peer |ws, peer| {
            assert_eq!(ws.local_addr().unwrap(), peer.peer_addr());
            assert_eq!(ws.peer_addr().unwrap(), peer.local_addr());
        };
        aio: peer async |ws, peer| {
            assert_eq!(ws.local_addr().unwrap(), peer.peer_addr());
            assert_eq!(ws.peer_addr().unwrap(), peer.local_addr());
        };
    }
    "headers of the answer" {
        listener app: peer |ws, _peer| {
            assert_eq!(ws.response_headers().unwrap().get("Upgrade"), Some("websocket"));
        };
        blocking: peer |ws, _peer| {
            assert_eq!(ws.response_headers().unwrap().get("Upgrade"), Some("websocket"));
        };
        aio: peer async |ws, _peer| {
            assert_eq!(ws.response_headers().unwrap().get("Upgrade"), Some("websocket"));
        };
    }
    "rooms" {
        listener app: peer |ws, peer| {
            let room = Room::new();
            room.join(ws);
            room.send("to all");
            assert_eq!(text(peer), "to all");
        };
        blocking: peer |ws, peer| {
            let room = Room::new();
            room.join(ws.connection());
            room.send("to all");
            assert_eq!(text(peer), "to all");
        };
        handle: peer |handle, peer| {
            let room = Room::new();
            room.join_handle(handle);
            settle(handle);
            room.send("to all");
            assert_eq!(peer.text(), "to all");
        };
        aio_handle: peer |handle, peer| {
            assert_eq!(threadwire::aio::broadcast([handle], "to all").sent, 1);
            assert_eq!(peer.text(), "to all");
        };
    }
}
