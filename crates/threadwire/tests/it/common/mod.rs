//! Shared parts of the tests: a bound on their time, a recording listener, a scripted peer, and a neighbour that must not notice
//! anything.

#[cfg(feature = "tls")]
pub mod certificates;
pub mod doors;
pub mod faces;
pub mod files;
pub mod keeping;
pub mod neighbour;
pub mod peer;
pub mod process;
pub mod proxies;
pub mod recorder;
#[cfg(feature = "tls")]
pub mod secure;
pub mod sharing;
#[cfg(feature = "aio")]
pub mod tasks;
#[cfg(feature = "tls")]
pub mod tool;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use threadwire::{Config, Connection, Error, Message, Reply, Request, Running, Server};

use peer::{Peer, TEXT};
use recorder::{Call, Log};

/// How long anything may take before the test fails. Nothing here waits for that long unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A timeout that is to pass while a test waits for it.
pub const SOON: Duration = Duration::from_millis(50);

/// Runs a test on a thread of its own, with a loop of its own, and fails it where it would hang.
pub fn bounded(test: impl FnOnce() + Send + 'static) {
    let (running, ended) = mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(test));
        drop(running);
        result
    });
    match ended.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Timeout) => panic!("still running after {PATIENCE:?}"),
        _ => {
            if let Ok(Err(payload)) | Err(payload) = thread.join() {
                resume_unwind(payload);
            }
        }
    }
}

/// A server that stops when the test lets go of it.
pub struct Serving {
    running: Option<Running>,
    /// The listening address.
    pub addr: SocketAddr,
}

impl Serving {
    /// A server with this hook, and on one worker unless `server` says otherwise.
    pub fn with<R: Into<Reply>>(
        server: Server,
        accept: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Serving {
        let running = server.serve(accept).unwrap();
        Serving { addr: running.local_addr().unwrap(), running: Some(running) }
    }

    /// A server on one worker. At `/echo` it echoes; everywhere else it writes down what it hears, and does with it
    /// what `react` says.
    pub fn recording<F>(config: Config, log: &Log, react: F) -> Serving
    where
        F: Fn(&Connection, &Call) -> Result<(), Error> + Clone + Send + Sync + 'static,
    {
        let log = log.clone();
        Serving::with(bind().config(config), move |request| match request.path() {
            "/echo" => Reply::with(echo),
            "/frames" => Reply::with(log.frames(react.clone())),
            _ => Reply::with(log.listener(react.clone())),
        })
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// Opens a connection by hand.
    pub fn peer(&self) -> Peer {
        Peer::open(self.addr, "/")
    }

    /// The server itself, to be stopped and joined by the test.
    pub fn into_running(mut self) -> Running {
        self.running.take().unwrap()
    }

    /// Somebody who exchanges messages with the server until the end of the test.
    pub fn bystander(&self) -> Bystander {
        Bystander::start(self.addr)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.stop();
        }
    }
}

/// A server at a port that the system chooses.
pub fn bind() -> Server {
    Server::bind("127.0.0.1:0").unwrap()
}

/// The settings of most tests: what must not time out has all the time there is.
pub fn patient() -> Config {
    Config::default().open_timeout(PATIENCE).close_timeout(PATIENCE)
}

/// A port where connections are refused. It is taken, so that nothing else can get it as long as the socket lives, nor a
/// connection by mistake connect to itself; but others may listen there.
pub fn vacant() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// A listener that echoes.
pub fn echo(ws: &Connection, message: Message<'_>) -> Result<(), Error> {
    ws.send(message)
}

/// Does nothing about a call.
pub fn ignore(_ws: &Connection, _call: &Call) -> Result<(), Error> {
    Ok(())
}

/// An echo client that goes on all the time, on the same worker as what is tested: it must not notice anything.
pub struct Bystander {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Bystander {
    fn start(addr: SocketAddr) -> Bystander {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut peer = Peer::open(addr, "/echo");
        let thread = thread::spawn(move || {
            let mut count = 0;
            loop {
                // Once more after the end of what is tested: the connection still works.
                let is_last = stopped.load(Ordering::SeqCst);
                let text = format!("message {count}");
                peer.send(TEXT, text.as_bytes());
                assert_eq!(peer.text(), text);
                count += 1;
                if is_last {
                    break;
                }
            }
            peer.close(1000, "");
            assert_eq!(peer.closed(), (1000, String::new()));
            assert!(peer.ended());
            count
        });
        Bystander { stop, thread }
    }

    /// Fails if it noticed anything.
    pub fn noticed_nothing(self) {
        self.stop.store(true, Ordering::SeqCst);
        match self.thread.join() {
            Ok(count) => assert!(count > 0),
            Err(payload) => resume_unwind(payload),
        }
    }
}
