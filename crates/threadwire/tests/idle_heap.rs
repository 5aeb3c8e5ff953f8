//! Idle heap: what a connection that does nothing has allocated, on each face. A program of its own, as its allocator counts.
#![cfg(feature = "aio")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use threadwire::blocking::{self, Select, Selected};
use threadwire::{Connection, Message, Reply, Server, aio};

/// Tables that grow by doubling are nearly full with so many; both ends of each are files of this process.
const CONNECTIONS: usize = 400;

/// The most bytes for one, of a listener, of a blocking connection and of an async one.
const LISTENER: i64 = 510;
const BLOCKING: i64 = 768;
const AIO: i64 = 2560;

static LIVE: AtomicI64 = AtomicI64::new(0);

/// The system's allocator, with a count of what is allocated.
struct Counting;

// SAFETY: every method hands its arguments to `System`, which is a correct `GlobalAlloc`, and returns what that returned; the
// counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is the one `System` wants.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: `block` came from `System` with this `layout`: this allocator has no other source.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What each of many connections to this server has allocated, once each has echoed a message.
fn heap_of_one(server: SocketAddr) -> i64 {
    // Room for all of them first, as peers are not counted. So is what the first of all allocates for the others.
    let mut peers = Vec::with_capacity(CONNECTIONS + 1);
    peers.push(connect(server));
    let before = settled();
    peers.extend((0..CONNECTIONS).map(|_| connect(server)));
    let after = settled();
    assert!(peers.iter_mut().all(echoes), "they are still open");
    (after - before) / CONNECTIONS as i64
}

/// Opens a connection, over which a message goes.
fn connect(server: SocketAddr) -> TcpStream {
    let mut peer = TcpStream::connect(server).unwrap();
    peer.write_all(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n",
    )
    .unwrap();
    let mut end = [0; 4];
    while end != *b"\r\n\r\n" {
        end.rotate_left(1);
        peer.read_exact(&mut end[3..]).unwrap();
    }
    assert!(echoes(&mut peer));
    peer
}

fn echoes(peer: &mut TcpStream) -> bool {
    // Masked with zeros.
    peer.write_all(b"\x82\x85\0\0\0\0hello").unwrap();
    let mut answer = [0; 7];
    peer.read_exact(&mut answer).unwrap();
    answer == *b"\x82\x05hello"
}

/// What is allocated when the server rests: the least of several counts, as its threads give back what they were lent a little after
/// the answer.
fn settled() -> i64 {
    let counts = (0..20).map(|_| {
        thread::sleep(Duration::from_millis(5));
        LIVE.load(Ordering::Relaxed)
    });
    counts.min().unwrap()
}

fn listener() -> i64 {
    let echo = |ws: &Connection, message: Message<'_>| ws.send(message);
    let server = Server::bind("127.0.0.1:0").unwrap().serve(move |_| Reply::with(echo)).unwrap();
    let heap = heap_of_one(server.local_addr().unwrap());
    server.stop();
    server.join().unwrap();
    heap
}

fn blocking() -> i64 {
    let (tell, told) = mpsc::channel();
    // It goes on until the end of the process.
    thread::spawn(move || {
        let server = blocking::Server::bind("127.0.0.1:0").unwrap();
        tell.send(server.local_addr().unwrap()).unwrap();
        let mut select = Select::new();
        select.serve(server);
        while let Ok(Some((key, what))) = select.recv() {
            if let Selected::Message(message) = what {
                select[key].send(&message).unwrap();
            }
        }
    });
    heap_of_one(told.recv().unwrap())
}

fn aio() -> i64 {
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = aio::Server::bind("127.0.0.1:0").await.unwrap();
            tell.send(server.local_addr().unwrap()).unwrap();
            let echo = |_, mut ws: aio::Connection| async move {
                while let Ok(Some(message)) = ws.recv().await {
                    ws.send(&message).await.unwrap();
                }
            };
            server.serve_until(stopped, echo).await.unwrap();
        });
    });
    let heap = heap_of_one(told.recv().unwrap());
    drop(stop);
    serving.join().unwrap();
    heap
}

/// One test, as what others allocate at the same time would be counted.
#[test]
fn an_idle_connection_has_little_on_the_heap() {
    let heaps = [("listener", listener(), LISTENER), ("aio", aio(), AIO), ("blocking", blocking(), BLOCKING)];
    eprintln!("{heaps:?}");
    for (face, heap, most) in heaps {
        assert!(heap <= most, "{face}: {heap} bytes, where {most} are enough");
    }
}
