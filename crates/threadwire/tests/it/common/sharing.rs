//! Connections with handles: one whose loop turns only when the test says so, and those of a server's worker.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use threadwire::worker::later;
use threadwire::{Client, Config, Connection, Error, Handle, Listener, Reply};

use super::peer::{BINARY, Host, Peer};
use super::recorder::{Call, Log};
use super::{SOON, Serving, bind, echo, ignore};

/// A client on this thread, and its peer, also on this thread: whoever waits for the one does not read as the other.
pub fn pair(config: Config, log: &Log) -> (Connection, Peer) {
    pair_with(config, log.listener(ignore))
}

/// The same with another listener.
pub fn pair_with(config: Config, listener: impl Listener) -> (Connection, Peer) {
    let host = Host::listen();
    let url = host.url();
    let host = host.run(|host| host.upgrade(b""));
    let ws = Client::new(&url).unwrap().config(config).connect(listener).unwrap();
    (ws, host.join().unwrap())
}

/// A server on one worker that writes down what its connections hear, does with it what `react` says, and gives their
/// handles to the test. At `/echo` it echoes.
pub fn serving_handles<F>(config: Config, log: &Log, react: F) -> (Serving, Receiver<Handle>)
where
    F: Fn(&Connection, &Call) -> Result<(), Error> + Clone + Send + Sync + 'static,
{
    let (give, given) = mpsc::channel();
    let log = log.clone();
    let serving = Serving::with(bind().config(config), move |request| {
        if request.path() == "/echo" {
            return Reply::with(echo);
        }
        let (give, react) = (give.clone(), react.clone());
        Reply::with(log.listener(move |ws, call| {
            if *call == Call::Open {
                give.send(ws.handle()).unwrap();
            }
            react(ws, call)
        }))
    });
    (serving, given)
}

/// Does something on another thread, which has no loop before that, and waits for it without turning this thread's loop.
pub fn elsewhere<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match thread::spawn(work).join() {
        Ok(result) => result,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// Does something on the thread of the connection, and waits for it without turning this thread's loop.
pub fn there<R: Send + 'static>(handle: &Handle, work: impl FnOnce(&Connection) -> R + Send + 'static) -> R {
    let (give, given) = mpsc::channel();
    handle.run(move |ws| give.send(work(ws)).unwrap());
    given.recv().unwrap()
}

/// How long the messages of [`fill`] are.
pub const FILLER: usize = 64 << 10;

/// How many bytes wait at least after [`fill_there`].
pub const MARGIN: usize = 4 << 20;

/// Sends until the system takes no more. Returns how many messages of [`FILLER`] bytes that took; of the last one something
/// still waits.
pub fn fill(ws: &Connection) -> usize {
    for count in 1.. {
        ws.send(&[0; FILLER]).unwrap();
        ws.flush();
        if ws.buffered() > 0 {
            return count;
        }
    }
    unreachable!()
}

/// The same on the connection's thread, whose loop goes on: so much is sent that the system can't take all of it a little
/// later either. When it returns, other threads know how much waits.
pub fn fill_there(handle: &Handle) -> usize {
    let count = there(handle, |ws| {
        let mut count = 0;
        while ws.buffered() < MARGIN {
            count += fill(ws);
        }
        count
    });
    // The count of what waits follows each round of calls: by the second, the first was counted.
    there(handle, |_| ());
    count
}

/// Reads what [`fill`] has sent.
pub fn drain(peer: &mut Peer, count: usize) {
    for _ in 0..count {
        assert_eq!(peer.brief(0), (BINARY, FILLER, Vec::new()));
    }
}

/// Calls this soon on this thread, while it waits for something.
pub fn meanwhile(call: impl FnOnce() + 'static) {
    later(SOON, call);
}

/// A place where a thread stops until the test lets it go on.
#[derive(Clone)]
pub struct Halt(Arc<(Sender<()>, Mutex<Receiver<()>>)>);

impl Halt {
    /// The place, what tells that it was reached, and what lets go.
    pub fn new() -> (Halt, Receiver<()>, Sender<()>) {
        let (reached, reaches) = mpsc::channel();
        let (go, goes) = mpsc::channel();
        (Halt(Arc::new((reached, Mutex::new(goes)))), reaches, go)
    }

    /// Stops here.
    pub fn here(&self) {
        self.0.0.send(()).unwrap();
        self.0.1.lock().unwrap().recv().unwrap();
    }
}
