//! Connection features on each face.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use futures_core::Stream;
use futures_sink::Sink;

use super::drive::{aio, blocking, client, deaf, frame, listener, text};
use super::scenarios;
use crate::common::keeping::{MOMENT, await_ping, pinging};
use crate::common::peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT};
use crate::common::recorder::{Call, Log};
use crate::common::secure::Secure;
use crate::common::sharing::{FILLER, MARGIN, drain, fill};
use crate::common::tasks::stream_of;
use crate::common::{PATIENCE, Serving, bind, echo, ignore, patient};
use threadwire::aio::Event;
use threadwire::blocking::Select;
use threadwire::error::TimeoutKind;
use threadwire::events::Received;
use threadwire::frame::{Frame, Level, OpCode};
use threadwire::messages::Backlog;
use threadwire::trace::Trace;
use threadwire::worker::{EventLoop, Stalled, block_on, later, listen, wait_event};
use threadwire::{
    App, Client, CloseCode, Closed, Config, Connection, Deflate, Error, Handle, Initiator, Keepalive,
    Listener, Message, OwnedMessage, Reply, Room, WhenFull, sleep, wait_until,
};

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

/// Answers the ping that must be next.
fn answer(peer: &mut Peer) {
    let (first, payload) = peer.frame();
    assert_eq!(first, PING);
    peer.send(PONG, &payload);
}

/// From this time on it is told that nothing was read.
const SECOND: Duration = Duration::from_secs(1);

fn kept() -> Config {
    patient().keepalive(Keepalive::default())
}

/// The peer leaves without waiting for anything.
fn leave(peer: &mut Peer) {
    peer.close(1001, "no sign of life");
    peer.end();
}

/// How a connection ends that does not read for a while.
fn unread(ws: &Connection, mut peer: Peer) -> Arc<Closed> {
    ws.pause_reading();
    leave(&mut peer);
    sleep(SECOND).unwrap();
    ws.resume_reading();
    ws.handle().wait_closed().unwrap()
}

/// What has held this thread's loop.
struct Stalls(Rc<Cell<bool>>);

impl Stalls {
    fn begin() -> Stalls {
        let stalls = Rc::new(Cell::new(false));
        let note = Rc::clone(&stalls);
        listen(move |_: &threadwire::worker::Event<Stalled>| note.set(true));
        Stalls(stalls)
    }

    fn wait(&self) {
        wait_until(None, || self.0.get()).unwrap();
    }
}

/// A trace, and what was shown to it.
fn shown() -> (Trace, Arc<Mutex<String>>) {
    let shown = Arc::new(Mutex::new(String::new()));
    let lines = Arc::clone(&shown);
    (Trace::to(move |line| lines.lock().unwrap().push_str(&line.to_string())), shown)
}

/// A server that agrees to a subprotocol and to compression, and a client that asks for both.
fn agreeing() -> (Serving, Client) {
    let config = patient().deflate(Deflate::default());
    let serving = Serving::with(bind().config(config.clone()), |_| Reply::with(echo).subprotocols(["v1"]));
    let client = Client::new(&serving.url("/")).unwrap().config(config).subprotocols(["v1"]).unwrap();
    (serving, client)
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
        aio_handle: peer |handle, peer| {
            block_on(handle.send_parts(stream_of(["two ", "parts"].map(Ok)))).unwrap().unwrap();
            assert_eq!(peer.frame(), (0x01, b"two ".to_vec()));
            assert_eq!(peer.frame(), (0x00, b"parts".to_vec()));
            assert_eq!(peer.frame(), (0x80, Vec::new()));
        };
    }
    "send a message whose parts an iterator or a stream makes" {
        listener app: peer |ws, peer| {
            ws.handle().send_parts(["two ", "parts"].map(Ok)).unwrap();
            assert_eq!(frame(peer), (0x01, b"two ".to_vec()));
            assert_eq!(frame(peer), (0x00, b"parts".to_vec()));
            assert_eq!(frame(peer), (0x80, Vec::new()));
            ws.handle().send_parts([Err::<&str, _>(Error::other("none"))]).unwrap_err();
            assert!(ws.is_open(), "nothing was sent of it");
            let broken = [Ok("half"), Err(Error::other("no more"))];
            assert_eq!(ws.handle().send_parts(broken).unwrap_err().to_string(), "no more");
            assert_eq!(frame(peer), (0x01, b"half".to_vec()));
            assert_eq!(frame(peer).1[..2], 1011_u16.to_be_bytes());
        };
        blocking: peer |ws, peer| {
            ws.send_parts(["two ", "parts"].map(Ok)).unwrap();
            assert_eq!(peer.frame(), (0x01, b"two ".to_vec()));
            assert_eq!(peer.frame(), (0x00, b"parts".to_vec()));
            assert_eq!(peer.frame(), (0x80, Vec::new()));
            let broken = [Ok("half"), Err(Error::other("no more"))];
            assert_eq!(ws.send_parts(broken).unwrap_err().to_string(), "no more");
            assert_eq!(frame(peer), (0x01, b"half".to_vec()));
            assert_eq!(frame(peer).1[..2], 1011_u16.to_be_bytes());
        };
        aio: peer async |ws, peer| {
            ws.send_parts(stream_of(["two ", "parts"].map(Ok))).await.unwrap();
            assert_eq!(peer.frame(), (0x01, b"two ".to_vec()));
            assert_eq!(peer.frame(), (0x00, b"parts".to_vec()));
            assert_eq!(peer.frame(), (0x80, Vec::new()));
            let mixed = [Ok(OwnedMessage::from("half")), Ok(OwnedMessage::from(&b"bytes"[..]))];
            ws.send_parts(stream_of(mixed)).await.unwrap_err();
            assert_eq!(peer.frame(), (0x01, b"half".to_vec()));
            assert_eq!(peer.code(), 1011);
        };
        handle: peer |handle, peer| {
            handle.send_parts(["two ", "parts"].map(Ok)).unwrap();
            assert_eq!(peer.frame(), (0x01, b"two ".to_vec()));
            assert_eq!(peer.frame(), (0x00, b"parts".to_vec()));
            assert_eq!(peer.frame(), (0x80, Vec::new()));
        };
        aio_handle: peer |handle, peer| {
            let broken = [Ok("half"), Err(Error::other("no more"))];
            block_on(handle.send_parts(stream_of(broken))).unwrap().unwrap_err();
            assert_eq!(peer.frame(), (0x01, b"half".to_vec()));
            assert_eq!(peer.code(), 1011);
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
            ws.pong(b"!").unwrap();
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
            assert!(ws.buffered() > 5);
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
            ws.abort();
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
            ws.abort();
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
    "options of one message, and how many were dropped" {
        listener app: peer |ws, _peer| {
            while ws.dropped() == 0 {
                ws.send_with(&[0; FILLER], WhenFull::DropNewest).unwrap();
            }
            assert!(ws.is_open());
        };
        blocking: peer |ws, _peer| {
            while ws.dropped() == 0 {
                ws.send_with(&[0; FILLER], WhenFull::DropNewest).unwrap();
            }
            assert!(ws.is_open());
        };
        aio: peer async |ws, _peer| {
            while ws.dropped() == 0 {
                ws.send_with(&[0; FILLER], WhenFull::DropNewest).await.unwrap();
            }
            assert!(ws.is_open());
        };
        handle aio_handle: peer |handle, _peer| {
            while handle.dropped() == 0 {
                handle.send_with(&[0; FILLER], WhenFull::DropNewest).unwrap();
            }
            assert!(handle.is_open());
        };
    }
    "wait for room" {
        listener: peer |ws, peer| {
            let count = fill(ws);
            let mut reader = peer.writer();
            let reading = thread::spawn(move || {
                drain(&mut reader, count);
                reader.brief(0)
            });
            // Only with what waits is it too much.
            ws.send_with(&vec![0; 16 << 20], WhenFull::Wait).unwrap();
            wait_until(None, || ws.buffered() == 0).unwrap();
            assert_eq!(reading.join().unwrap().1, 16 << 20);
        };
        blocking: peer |ws, peer| {
            let count = fill(ws.connection());
            let mut reader = peer.writer();
            let reading = thread::spawn(move || {
                drain(&mut reader, count);
                reader.brief(0)
            });
            // Only with what waits is it too much.
            ws.send(&vec![0; 16 << 20]).unwrap();
            wait_until(None, || ws.buffered() == 0).unwrap();
            assert_eq!(reading.join().unwrap().1, 16 << 20);
        };
        aio: peer async |ws, peer| {
            let mut reader = peer.writer();
            let reading = thread::spawn(move || drain(&mut reader, 100));
            for _ in 0..100 {
                ws.send(&[0; FILLER]).await.unwrap();
            }
            ws.flush().await.unwrap();
            reading.join().unwrap();
        };
        handle: peer |handle, peer| {
            let mut reader = peer.writer();
            let reading = thread::spawn(move || drain(&mut reader, 101));
            for _ in 0..100 {
                handle.send(&[0; FILLER]).unwrap();
            }
            handle.wait_drained().unwrap();
            block_on(handle.send_async(&[0; FILLER])).unwrap().unwrap();
            reading.join().unwrap();
        };
        aio_handle: peer |handle, peer| {
            let mut reader = peer.writer();
            let reading = thread::spawn(move || drain(&mut reader, 100));
            for _ in 0..100 {
                block_on(handle.send_async(&[0; FILLER])).unwrap().unwrap();
            }
            reading.join().unwrap();
        };
    }
    "receive a message in parts" {
        listener: alone || {
            struct Parts(mpsc::Sender<Vec<u8>>);
            impl Listener for Parts {
                fn level(&self) -> Level {
                    Level::Frames
                }
                fn on_frame(&mut self, _ws: &Connection, frame: &Frame<'_>) -> Result<(), Error> {
                    self.0.send(frame.payload().to_vec()).unwrap();
                    Ok(())
                }
            }
            let (client, peer) = client(patient());
            let (tell, told) = mpsc::channel();
            let _ws = client.connect(Parts(tell)).unwrap();
            let mut peer = peer.join().unwrap();
            FRAGMENTS.iter().for_each(|(first, payload)| peer.send(*first, payload));
            wait_until(None, || told.try_iter().any(|part| part == b"parts")).unwrap();
        };
        blocking: alone || {
            let (client, peer) = client(patient());
            let mut ws = threadwire::blocking::connect_in_parts(&client).unwrap();
            let mut peer = peer.join().unwrap();
            FRAGMENTS.iter().for_each(|(first, payload)| peer.send(*first, payload));
            let mut message = ws.recv().unwrap().unwrap();
            assert_eq!(message.next_part().unwrap().unwrap(), b"two ");
            assert_eq!(message.next_part().unwrap().unwrap(), b"parts");
            assert_eq!(message.next_part().unwrap(), None);
        };
        aio: alone async || {
            let (client, peer) = client(patient());
            let mut ws = threadwire::aio::connect_in_parts(&client).await.unwrap();
            let mut peer = peer.join().unwrap();
            FRAGMENTS.iter().for_each(|(first, payload)| peer.send(*first, payload));
            let mut message = ws.recv().await.unwrap().unwrap();
            assert_eq!(message.next_part().await.unwrap().unwrap(), b"two ");
            assert_eq!(message.next_part().await.unwrap().unwrap(), b"parts");
            assert_eq!(message.next_part().await.unwrap(), None);
        };
    }
    "hear pings and pongs" {
        listener: alone || {
            struct Pings(mpsc::Sender<Vec<u8>>);
            impl Listener for Pings {
                fn on_ping(&mut self, _ws: &Connection, payload: &[u8]) -> Result<(), Error> {
                    self.0.send(payload.to_vec()).unwrap();
                    Ok(())
                }
                fn on_pong(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
                    self.on_ping(ws, payload)
                }
            }
            let (client, peer) = client(patient());
            let (tell, told) = mpsc::channel();
            let _ws = client.connect(Pings(tell)).unwrap();
            let mut peer = peer.join().unwrap();
            for (first, payload) in [(PING, b"?"), (PONG, b"!")] {
                peer.send(first, payload);
                wait_until(None, || told.try_recv().is_ok_and(|heard| heard == payload)).unwrap();
            }
        };
        app: alone || {
            let (client, peer) = client(patient());
            let peer = thread::spawn(|| {
                let mut peer = peer.join().unwrap();
                peer.send(PING, b"?");
                assert_eq!(peer.frame(), (PONG, b"?".to_vec()));
                peer.send(PONG, b"!");
                farewell(&mut peer).1
            });
            let (tell, told) = mpsc::channel();
            let app = App::new(&client).unwrap().on_ping(move |_, payload| tell.send(payload.to_vec()).unwrap());
            app.on_pong(|ws, _| ws.close_with(CloseCode::NORMAL, "heard")).run_forever().unwrap();
            assert_eq!((peer.join().unwrap().as_str(), told.recv().unwrap()), ("heard", b"?".to_vec()));
        };
        aio: peer async |ws, peer| {
            peer.send(PING, b"?");
            assert_eq!(ws.recv_event().await.unwrap(), Some(Event::Ping(b"?".to_vec())));
            peer.send(PONG, b"!");
            assert_eq!(ws.recv_event().await.unwrap(), Some(Event::Pong(b"!".to_vec())));
        };
    }
    "measure a round trip" {
        listener: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let ws = threadwire::connect(&serving.url("/"), deaf).unwrap();
            assert_eq!(ws.measure_roundtrip(2).unwrap().len(), 2);
        };
        blocking: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let mut ws = threadwire::blocking::connect(&serving.url("/")).unwrap();
            assert_eq!(ws.measure_roundtrip(2).unwrap().len(), 2);
        };
        app: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let (tell, told) = mpsc::channel();
            let mut app = App::new(&serving.url("/")).unwrap().on_open(move |ws| {
                let (tell, handle) = (tell.clone(), ws.handle());
                ws.measure_roundtrip_then(2, move |times| {
                    tell.send(times.unwrap().len()).unwrap();
                    handle.close().unwrap();
                });
            });
            app.run_forever().unwrap();
            assert_eq!(told.recv().unwrap(), 2);
        };
        aio: alone async || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let ws = threadwire::aio::connect(&serving.url("/")).await.unwrap();
            assert_eq!(ws.measure_roundtrip(2).await.unwrap().len(), 2);
        };
        handle: peer |handle, peer| {
            let times = handle.measure_roundtrip(1);
            answer(peer);
            assert_eq!(times.get().unwrap().len(), 1);
        };
        aio_handle: peer |handle, peer| {
            let measuring = handle.clone();
            let times = thread::spawn(move || block_on(measuring.measure_roundtrip(1)).unwrap().unwrap());
            answer(peer);
            assert_eq!(times.join().unwrap().len(), 1);
        };
    }
    "ping, and wait for the pong" {
        listener: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let ws = threadwire::connect(&serving.url("/"), deaf).unwrap();
            assert!(ws.roundtrip(b"mine").unwrap() > Duration::ZERO);
            assert!(matches!(ws.roundtrip(&[0; 126]), Err(Error::Send(_))));
            assert!(ws.roundtrip(b"").is_ok());
        };
        blocking: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let mut ws = threadwire::blocking::connect(&serving.url("/")).unwrap();
            assert!(ws.roundtrip(b"mine").unwrap() > Duration::ZERO);
            assert!(matches!(ws.roundtrip(&[0; 126]), Err(Error::Send(_))));
            assert!(ws.roundtrip(b"").is_ok());
        };
        app: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let (tell, told) = mpsc::channel();
            let mut app = App::new(&serving.url("/")).unwrap().on_open(move |ws| {
                let (tell, handle) = (tell.clone(), ws.handle());
                ws.roundtrip_then(b"mine", move |time| {
                    tell.send(time.unwrap()).unwrap();
                    handle.close().unwrap();
                });
            });
            app.run_forever().unwrap();
            assert!(told.recv().unwrap() > Duration::ZERO);
        };
        aio: alone async || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let ws = threadwire::aio::connect(&serving.url("/")).await.unwrap();
            assert!(ws.roundtrip(b"mine").await.unwrap() > Duration::ZERO);
            assert!(matches!(ws.roundtrip(&[0; 126]).await, Err(Error::Send(_))));
            assert!(ws.roundtrip(b"").await.is_ok());
        };
        handle: peer |handle, peer| {
            let time = handle.roundtrip(b"mine");
            assert_eq!(peer.frame(), (PING, b"mine".to_vec()));
            peer.send(PONG, b"another's");
            peer.send(PONG, b"mine");
            assert!(time.get().unwrap() > Duration::ZERO);
        };
        aio_handle: peer |handle, peer| {
            let time = handle.roundtrip(b"mine");
            let time = thread::spawn(move || block_on(time).unwrap().unwrap());
            assert_eq!(peer.frame(), (PING, b"mine".to_vec()));
            peer.send(PONG, b"another's");
            peer.send(PONG, b"mine");
            assert!(time.join().unwrap() > Duration::ZERO);
        };
    }
    "keepalive, and how long its round trips took" {
        listener: alone || {
            let (ws, mut peer) = listener::open(pinging().keep_round_trips(true));
            let ping = await_ping(&mut peer);
            peer.send(PONG, &ping);
            wait_until(None, || ws.round_trips().is_some()).unwrap();
        };
        blocking: alone || {
            let (ws, mut peer) = blocking::open(pinging().keep_round_trips(true));
            let ping = await_ping(&mut peer);
            peer.send(PONG, &ping);
            wait_until(None, || ws.round_trips().is_some()).unwrap();
        };
        app: alone || {
            let (client, peer) = client(patient().keep_round_trips(true));
            let peer = thread::spawn(|| {
                let mut peer = peer.join().unwrap();
                answer(&mut peer);
                while let (PING, _) = peer.frame() {}
            });
            let keepalive = Keepalive::default().idle_timeout(MOMENT);
            let app = App::new(&client).unwrap().ping(keepalive);
            let mut app = app.on_pong(|ws, _| if ws.round_trips().is_some() { ws.abort() }).on_error(|_, _| {});
            let _ended = app.run_forever();
            drop(peer);
        };
        aio: alone async || {
            let (mut ws, mut peer) = aio::open(pinging().keep_round_trips(true)).await;
            let answering = thread::spawn(move || answer(&mut peer));
            while ws.round_trips().is_none() {
                let _pong = ws.recv_event().await.unwrap();
            }
            answering.join().unwrap();
        };
    }
    "pause reading" {
        listener app: peer |ws, _peer| {
            ws.pause_reading();
            assert!(ws.is_reading_paused());
            ws.resume_reading();
            assert!(!ws.is_reading_paused());
        };
        aio: peer async |ws, _peer| {
            ws.pause_reading();
            assert!(ws.is_reading_paused());
            ws.resume_reading();
            assert!(!ws.is_reading_paused());
        };
    }
    "trace" {
        listener: alone || {
            let (trace, shown) = shown();
            let (ws, mut peer) = listener::open(patient().trace(trace));
            ws.send("hello").unwrap();
            assert_eq!(text(&mut peer), "hello");
            assert!(shown.lock().unwrap().contains("hello"));
        };
        blocking: alone || {
            let (trace, shown) = shown();
            let (mut ws, mut peer) = blocking::open(patient().trace(trace));
            ws.send("hello").unwrap();
            assert_eq!(peer.text(), "hello");
            assert!(shown.lock().unwrap().contains("hello"));
        };
        app: alone || {
            let (trace, shown) = shown();
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let app = App::new(&serving.url("/")).unwrap().trace(trace);
            app.on_open(|ws| ws.send("hello")).on_message(|ws, _| ws.close()).run_forever().unwrap();
            assert!(shown.lock().unwrap().contains("hello"));
        };
        aio: alone async || {
            let (trace, shown) = shown();
            let (ws, mut peer) = aio::open(patient().trace(trace)).await;
            ws.send("hello").await.unwrap();
            ws.flush().await.unwrap();
            assert_eq!(peer.text(), "hello");
            assert!(shown.lock().unwrap().contains("hello"));
        };
    }
    "what was agreed: subprotocol, compression" {
        listener: alone || {
            let (_serving, client) = agreeing();
            let ws = client.connect(deaf).unwrap();
            assert!(ws.deflate().is_some() && ws.subprotocol() == Some("v1"));
        };
        blocking: alone || {
            let (_serving, client) = agreeing();
            let ws = threadwire::blocking::connect(&client).unwrap();
            assert!(ws.deflate().is_some() && ws.subprotocol() == Some("v1"));
        };
        app: alone || {
            let (_serving, client) = agreeing();
            let (tell, told) = mpsc::channel();
            let mut app = App::new(&client).unwrap().on_open(move |ws| {
                tell.send(ws.deflate().is_some() && ws.subprotocol() == Some("v1")).unwrap();
                ws.close()
            });
            app.run_forever().unwrap();
            assert!(told.recv().unwrap());
        };
        aio: alone async || {
            let (_serving, client) = agreeing();
            let ws = threadwire::aio::connect(&client).await.unwrap();
            assert!(ws.deflate().is_some() && ws.subprotocol() == Some("v1"));
        };
    }
    "pair a request with its answer" {
        app: alone || {
            let serving = Serving::with(bind(), |_| Reply::with(echo));
            let url = serving.url("/");
            let (tell, opened) = mpsc::channel();
            let running = threadwire::app::spawn(move || {
                let app = App::new(&url)?.id(|message| message.as_text()?.split(' ').next()?.parse::<u64>().ok());
                Ok(app.on_open(move |_| tell.send(()).unwrap()))
            });
            let running = running.unwrap();
            opened.recv().unwrap();
            let reply = running.handle().request(1, "1 hello").unwrap();
            assert_eq!(reply.get().unwrap(), "1 hello");
            running.handle().close().unwrap();
            running.join().unwrap();
        };
    }
    "wait for several connections" {
        blocking: alone || {
            let (one, _quiet) = blocking::open(patient());
            let (two, mut peer) = blocking::open(patient());
            let mut select = Select::new();
            let (_, two) = (select.add(one), select.add(two));
            peer.send(TEXT, b"hello");
            let (key, _message) = select.recv().unwrap().unwrap();
            assert_eq!(key, two);
        };
        aio: alone async || {
            let (mut one, _quiet) = aio::open(patient()).await;
            let (mut two, mut peer) = aio::open(patient()).await;
            peer.send(TEXT, b"hello");
            tokio::select! {
                _ = one.recv() => panic!("nobody has sent it anything"),
                message = two.recv() => assert_eq!(message.unwrap().unwrap(), "hello"),
            }
        };
    }
    "be told to pause writing" {
        listener: alone || {
            struct Told(Rc<Cell<bool>>);

            impl Listener for Told {
                fn on_pause_writing(&mut self, _ws: &Connection) -> Result<(), Error> {
                    assert!(!self.0.replace(true), "it is told once");
                    Ok(())
                }

                fn on_resume_writing(&mut self, _ws: &Connection) -> Result<(), Error> {
                    assert!(self.0.replace(false), "it was told to pause");
                    Ok(())
                }
            }

            let is_paused = Rc::new(Cell::new(false));
            let (client, peer) = client(patient());
            let ws = client.connect(Told(Rc::clone(&is_paused))).unwrap();
            let mut peer = peer.join().unwrap();
            let mut count = 0;
            while ws.buffered() < MARGIN {
                count += fill(&ws);
            }
            wait_until(None, || is_paused.get()).unwrap();
            let draining = thread::spawn(move || drain(&mut peer, count));
            wait_until(None, || !is_paused.get() && ws.buffered() == 0).unwrap();
            draining.join().unwrap();
        };
    }
    "pings of the program's own" {
        listener: alone || {
            struct Own;

            impl Listener for Own {
                fn on_ping_due(&mut self, ws: &Connection) -> Result<(), Error> {
                    ws.send("are you there?")?;
                    ws.probe()
                }
            }

            let (client, peer) = client(pinging());
            let _ws = client.connect(Own).unwrap();
            let mut peer = peer.join().unwrap();
            assert_eq!(text(&mut peer), "are you there?");
            await_ping(&mut peer);
        };
    }
    "why a peer may have left: for how long nothing was read" {
        listener: alone || {
            let (ws, peer) = listener::open(kept());
            assert!(unread(&ws, peer).unread_for.is_some());
        };
        blocking: alone || {
            let (ws, peer) = blocking::open(kept());
            assert!(unread(ws.connection(), peer).unread_for.is_some());
        };
        app: alone || {
            let (client, peer) = client(kept());
            let (tell, told) = mpsc::channel();
            let mut peer = Some(peer);
            let app = App::new(&client).unwrap().on_open(move |ws| {
                ws.pause_reading();
                leave(&mut peer.take().unwrap().join().unwrap());
                let handle = ws.handle();
                later(SECOND, move || handle.run(Connection::resume_reading));
            });
            app.on_close(move |_, closed| tell.send(closed.unread_for).unwrap()).run_forever().unwrap();
            assert!(told.recv().unwrap().is_some());
        };
        aio: alone async || {
            let (mut ws, mut peer) = aio::open(kept()).await;
            peer.send(TEXT, b"hello");
            assert_eq!(ws.recv().await.unwrap().unwrap(), "hello");
            ws.pause_reading();
            leave(&mut peer);
            tokio::time::sleep(SECOND).await;
            ws.resume_reading();
            assert!(ws.recv().await.unwrap().is_none());
            assert!(ws.closed().unwrap().unread_for.is_some());
        };
    }
    "what held its thread for too long" {
        listener: alone || {
            let (client, peer) = client(patient());
            let stalls = Stalls::begin();
            EventLoop::current().set_stall_limit(Some(MOMENT));
            let hold = |_: &Connection, _: Message<'_>| {
                thread::sleep(2 * MOMENT);
                Ok(())
            };
            let _ws = client.connect(hold).unwrap();
            peer.join().unwrap().send(TEXT, b"hold");
            stalls.wait();
        };
        app: alone || {
            let (client, peer) = client(patient());
            let stalls = Stalls::begin();
            EventLoop::current().set_stall_limit(Some(MOMENT));
            let app = App::new(&client).unwrap().on_open(|ws| {
                thread::sleep(2 * MOMENT);
                ws.close()
            });
            let mut app = app;
            let peer = thread::spawn(|| farewell(&mut peer.join().unwrap()));
            app.run_forever().unwrap();
            peer.join().unwrap();
            stalls.wait();
        };
        aio: alone async || {
            let stalls = threadwire::aio::watch("a task", MOMENT, async {
                thread::sleep(2 * MOMENT);
            });
            stalls.await;
        };
    }
    "what was agreed: TLS" {
        listener: alone || {
            let (secure, authority) = Secure::trusted();
            let ws = secure.client(authority.trusted()).connect(deaf).unwrap();
            assert!(ws.tls().is_some());
        };
        blocking: alone || {
            let (secure, authority) = Secure::trusted();
            let ws = threadwire::blocking::connect(&secure.client(authority.trusted())).unwrap();
            assert!(ws.tls().is_some());
        };
        app: alone || {
            let (secure, authority) = Secure::trusted();
            let (tell, told) = mpsc::channel();
            let mut app = App::new(&secure.client(authority.trusted())).unwrap().on_open(move |ws| {
                tell.send(ws.tls().is_some()).unwrap();
                ws.close()
            });
            app.run_forever().unwrap();
            assert!(told.recv().unwrap());
        };
        aio: alone async || {
            let (secure, authority) = Secure::trusted();
            let ws = threadwire::aio::connect(&secure.client(authority.trusted())).await.unwrap();
            assert!(ws.tls().is_some());
        };
    }
    "as a `Stream` and a `Sink`" {
        aio: peer async |ws, peer| {
            let mut ws = std::pin::Pin::new(ws);
            poll_fn(|cx| Sink::poll_ready(ws.as_mut(), cx)).await.unwrap();
            Sink::start_send(ws.as_mut(), "hello".into()).unwrap();
            poll_fn(|cx| Sink::poll_flush(ws.as_mut(), cx)).await.unwrap();
            assert_eq!(peer.text(), "hello");
            peer.send(TEXT, b"hello");
            let next = poll_fn(|cx| Stream::poll_next(ws.as_mut(), cx)).await;
            assert_eq!(next.unwrap().unwrap(), "hello");
        };
    }
    "tasks that end with it" {
        aio: alone async || {
            let (ws, _peer) = aio::open(patient()).await;
            let task = ws.scope().spawn(std::future::pending::<()>());
            ws.abort();
            assert_eq!(task.await.unwrap(), None);
        };
    }
}
