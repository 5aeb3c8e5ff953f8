//! Floods: clients that flood a server, and many broken ones at once; healthy ones on the same worker get all their echoes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use crate::common::peer::{BINARY, CLOSE, PING, Peer, TEXT, client_hello, farewell, masked, request};
use crate::common::{SOON, Serving, bind, bounded, echo, patient};
use threadwire::{Closed, Config, Connection, Error, Listener, Message, Reply, Request};

/// Counts what became of connections.
#[derive(Default)]
struct Tally {
    opened: AtomicUsize,
    ended: AtomicUsize,
    /// Calls after the end, or second ends.
    wrong: AtomicUsize,
}

impl Tally {
    /// This many connections have opened, and each has ended once.
    fn check(&self, opened: usize) {
        let counted = [&self.opened, &self.ended, &self.wrong].map(|count| count.load(Ordering::SeqCst));
        assert_eq!(counted, [opened, opened, 0]);
    }
}

/// Counts, and does nothing else.
struct Tallied {
    tally: Arc<Tally>,
    has_ended: bool,
}

impl Listener for Tallied {
    fn on_open(&mut self, _ws: &Connection) -> Result<(), Error> {
        self.tally.opened.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn on_message(&mut self, _ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
        self.tally.wrong.fetch_add(usize::from(self.has_ended), Ordering::SeqCst);
        Ok(())
    }

    fn on_close(&mut self, _ws: &Connection, _closed: &Closed) {
        self.tally.ended.fetch_add(1, Ordering::SeqCst);
        self.tally.wrong.fetch_add(usize::from(self.has_ended), Ordering::SeqCst);
        self.has_ended = true;
    }
}

/// A server that echoes at `/echo`, and counts what becomes of other connections.
fn tallying(config: Config, tally: &Arc<Tally>) -> Serving {
    let tally = Arc::clone(tally);
    Serving::with(bind().config(config), move |request: &Request| match request.path() {
        "/echo" => Reply::with(echo),
        _ => Reply::with(Tallied { tally: Arc::clone(&tally), has_ended: false }),
    })
}

/// Somebody else exchanges this many messages with the server, whatever it has to do besides.
fn goes_on(addr: SocketAddr, count: usize) {
    let mut peer = Peer::open(addr, "/echo");
    for number in 0..count {
        let text = format!("message {number}");
        peer.send(TEXT, text.as_bytes());
        assert_eq!(peer.text(), text);
    }
    peer.close(1000, "");
    assert_eq!(peer.code(), 1000);
    assert!(peer.ended());
}

/// A client that writes the same over and over, and reads nothing. It ends with a reset.
fn flood(piece: Vec<u8>) {
    bounded(move || {
        let tally = Arc::new(Tally::default());
        let serving = tallying(patient(), &tally);
        let addr = serving.addr;
        let (begun, begins) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let flooding = thread::spawn(move || {
            let mut peer = Peer::open(addr, "/");
            for number in 0.. {
                peer.bytes(&piece);
                if number == 0 {
                    begun.send(()).unwrap();
                }
                if stopped.load(Ordering::SeqCst) {
                    return peer.reset();
                }
            }
        });
        begins.recv().unwrap();
        goes_on(addr, 5);
        assert_eq!(tally.ended.load(Ordering::SeqCst), 0, "it was not ended for it");
        stop.store(true, Ordering::SeqCst);
        flooding.join().unwrap();
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
        tally.check(1);
    });
}

#[test]
fn a_client_that_never_stops_sending_long_messages_holds_up_nobody() {
    flood(masked(BINARY, &[7; 1 << 20]));
}

#[test]
fn a_client_that_never_stops_sending_tiny_messages_holds_up_nobody() {
    flood(masked(TEXT, b"").repeat(10_000));
}

#[test]
fn a_client_that_never_stops_sending_tiny_fragments_holds_up_nobody() {
    // One message in many fragments, and then the next.
    let fragments = masked(0x00, b"").repeat(10_000);
    flood([masked(0x01, b""), fragments, masked(0x80, b"")].concat());
}

#[test]
fn a_client_that_pings_without_end_and_reads_nothing_holds_up_nobody() {
    flood(masked(PING, &[7; 125]).repeat(500));
}

/// The clients of the last test: what each does to begin with, and whether it counts as a connection that has opened. It
/// stays until all are done.
type Fault = (fn(SocketAddr) -> Option<Peer>, bool);

const FAULTS: [Fault; 10] = [
    // Connects, and says nothing.
    (|addr| Some(Peer::connect(addr)), false),
    // Connects, and leaves.
    (
        |addr| {
            drop(Peer::connect(addr));
            None
        },
        false,
    ),
    // Sends its request byte by byte, and stops before the end.
    (
        |addr| {
            let mut peer = Peer::connect(addr);
            let request = request("/");
            request.as_bytes()[..request.len() - 1].iter().for_each(|byte| peer.bytes([*byte]));
            Some(peer)
        },
        false,
    ),
    // Speaks TLS.
    (
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.bytes(client_hello());
            Some(peer)
        },
        false,
    ),
    // Sends a head that is too long, and does not read the answer.
    (
        |addr| {
            let mut peer = Peer::connect(addr);
            peer.try_bytes(&[b'x'; 100_000]);
            Some(peer)
        },
        false,
    ),
    // Resets when it is open.
    (
        |addr| {
            Peer::open(addr, "/").reset();
            None
        },
        true,
    ),
    // Breaks a rule, and goes on.
    (
        |addr| {
            let mut peer = Peer::open(addr, "/");
            peer.bytes(b"\x81\x01?");
            peer.try_bytes(&[b'x'; 100_000]);
            Some(peer)
        },
        true,
    ),
    // Leaves in the middle of a frame.
    (
        |addr| {
            let mut peer = Peer::open(addr, "/");
            peer.bytes(&masked(BINARY, &[7; 70_000])[..66_000]);
            None
        },
        true,
    ),
    // Pings, reads nothing, and stays: half open.
    (
        |addr| {
            let mut peer = Peer::open(addr, "/");
            peer.bytes(masked(PING, &[7; 125]).repeat(1000));
            Some(peer)
        },
        true,
    ),
    // Sends after its close frame, and stays.
    (
        |addr| {
            let mut peer = Peer::open(addr, "/");
            peer.bytes([masked(CLOSE, &farewell(1000, "")), masked(TEXT, b"late").repeat(1000)].concat());
            Some(peer)
        },
        true,
    ),
];

#[test]
fn many_faulty_clients_at_once_leave_the_healthy_ones_alone() {
    const EACH: usize = 20;
    const HEALTHY: usize = 20;
    bounded(|| {
        let tally = Arc::new(Tally::default());
        let config = patient().close_timeout(SOON);
        let serving = tallying(config, &tally);
        let addr = serving.addr;
        let begin = Arc::new(Barrier::new(FAULTS.len() + HEALTHY));
        let faulty = FAULTS.map(|(fault, _)| {
            let begin = Arc::clone(&begin);
            thread::spawn(move || {
                begin.wait();
                (0..EACH).map(|_| fault(addr)).collect::<Vec<_>>()
            })
        });
        let healthy: Vec<_> = (0..HEALTHY)
            .map(|_| {
                let begin = Arc::clone(&begin);
                thread::spawn(move || {
                    begin.wait();
                    goes_on(addr, 50);
                })
            })
            .collect();
        healthy.into_iter().for_each(|thread| thread.join().unwrap());
        let staying = faulty.map(|thread| thread.join().unwrap());
        // All of them together are no hindrance either.
        goes_on(addr, 50);
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
        drop(staying);
        tally.check(EACH * FAULTS.iter().filter(|(_, opens)| *opens).count());
    });
}
