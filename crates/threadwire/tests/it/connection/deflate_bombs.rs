//! Deflate bombs: little input that is a lot of work is dealt with over many turns, in between which others have theirs.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use crate::common::peer::{Peer, request_with};
use crate::common::{PATIENCE, Serving, bind, bounded, patient};
use threadwire::proto::{self, Role, Shared};
use threadwire::worker::later;
use threadwire::{Config, Connection, Deflate, Listener, Message, Reply, blocking, wait_until};

/// The length of each message when it is inflated; on the wire it is a few KiB.
const BOMB: usize = 4 << 20;
const BOMBS: usize = 3;

/// No more than this may be inflated in one turn (it is less).
const MOST_PER_TURN: usize = 256 << 10;

fn deflating() -> Config {
    patient().deflate(Deflate::default())
}

/// A peer that sends a short message and bombs in one write, with a short message behind them.
fn bomber(addr: SocketAddr) -> Peer {
    let deflate = Deflate::default().level(9);
    let agreement = deflate.answer(&[deflate.offer()]).unwrap();
    let config = proto::Config::default();
    let mut client = proto::Connection::new(Role::Client, &config).with_deflate(&deflate, agreement);
    let (mut shared, mut wire) = (Shared::new(), Vec::new());
    client.send("begin".into(), &mut shared, &mut wire).unwrap();
    for _ in 0..BOMBS {
        client.send((&vec![0; BOMB][..]).into(), &mut shared, &mut wire).unwrap();
    }
    client.send("end".into(), &mut shared, &mut wire).unwrap();
    assert!(wire.len() <= 64 << 10, "{}", wire.len());
    let mut peer = Peer::connect(addr);
    peer.bytes(request_with("/", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"));
    peer.head();
    peer.bytes(wire);
    peer
}

/// Counts the turns of this thread's loop.
#[derive(Clone, Default)]
struct Turns(Rc<Cell<usize>>);

impl Turns {
    fn begin() -> Turns {
        let turns = Turns::default();
        turns.clone().tick();
        turns
    }

    fn tick(self) {
        self.0.set(self.0.get() + 1);
        later(Duration::ZERO, move || self.tick());
    }
}

/// Turns have gone by in between, for each message.
#[track_caller]
fn assert_turns(heard: &[(usize, usize)]) {
    let lengths: Vec<usize> = heard.iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths, [5, BOMB, BOMB, BOMB, 3]);
    for pair in heard[..heard.len() - 1].windows(2) {
        let turns = pair[1].0 - pair[0].0;
        assert!(turns >= BOMB / MOST_PER_TURN, "{turns} turns");
    }
}

#[test]
fn others_have_their_turns_while_a_server_of_listeners_inflates_a_bomb() {
    struct Counting {
        turns: Turns,
        heard: Vec<(usize, usize)>,
        tell: mpsc::Sender<Vec<(usize, usize)>>,
    }

    impl Listener for Counting {
        fn on_message(&mut self, _: &Connection, message: Message<'_>) -> Result<(), threadwire::Error> {
            self.heard.push((self.turns.0.get(), message.len()));
            if message == Message::Text("end") {
                self.tell.send(std::mem::take(&mut self.heard)).unwrap();
            }
            Ok(())
        }
    }

    bounded(|| {
        let (tell, told) = mpsc::channel();
        let serving = Serving::with(bind().config(deflating()), move |_| {
            let tell = tell.clone();
            Reply::with(Counting { turns: Turns::begin(), heard: Vec::new(), tell })
        });
        let _peer = bomber(serving.addr);
        assert_turns(&told.recv_timeout(PATIENCE).unwrap());
    });
}

#[test]
fn others_have_their_turns_while_a_blocking_connection_inflates_a_bomb() {
    bounded(|| {
        let mut server = blocking::Server::bind("127.0.0.1:0").unwrap().config(deflating());
        let addr = server.local_addr().unwrap();
        let peer = std::thread::spawn(move || bomber(addr));
        let turns = Turns::begin();
        let mut ws = server.accept().unwrap();
        let heard: Vec<_> = (0..BOMBS + 2)
            .map(|_| {
                let message = ws.recv_timeout(PATIENCE).unwrap().unwrap();
                (turns.0.get(), message.len())
            })
            .collect();
        assert_turns(&heard);
        let mut peer = peer.join().unwrap();
        ws.connection().close().unwrap();
        wait_until(None, || ws.connection().buffered() == 0).unwrap();
        assert_eq!(peer.code(), 1000);
    });
}

#[cfg(feature = "aio")]
mod aio {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use threadwire::aio;
    use tokio::runtime::Builder;
    use tokio::time::timeout;

    /// What is received beside a task that counts its turns, all on one thread.
    fn receive_with(is_read_ahead: bool) -> Vec<(usize, usize)> {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut server = aio::Server::bind("127.0.0.1:0").await.unwrap().config(deflating());
            let addr = server.local_addr().unwrap();
            let peer = std::thread::spawn(move || bomber(addr));
            let mut ws = server.accept().await.unwrap().upgrade().await.unwrap();
            let turns = Arc::new(AtomicUsize::new(0));
            let counts = Arc::clone(&turns);
            let counting = tokio::spawn(async move {
                loop {
                    counts.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            });
            let mut heard = Vec::new();
            for count in 0..BOMBS + 2 {
                let message = timeout(PATIENCE, ws.recv()).await.unwrap().unwrap().unwrap();
                heard.push((turns.load(Ordering::Relaxed), message.len()));
                if count == 0 && is_read_ahead {
                    // The attendant reads on, while nobody receives.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            counting.abort();
            drop(ws);
            peer.join().unwrap();
            heard
        })
    }

    #[test]
    fn other_tasks_have_their_turns_while_an_async_connection_inflates_a_bomb() {
        bounded(|| assert_turns(&receive_with(false)));
    }

    #[test]
    fn and_where_nobody_receives() {
        bounded(|| {
            let heard = receive_with(true);
            let lengths: Vec<usize> = heard.iter().map(|(_, length)| *length).collect();
            assert_eq!(lengths, [5, BOMB, BOMB, BOMB, 3]);
            let turns = heard[BOMBS + 1].0 - heard[0].0;
            assert!(turns >= BOMBS * BOMB / (4 * MOST_PER_TURN), "{turns} turns");
        });
    }
}
