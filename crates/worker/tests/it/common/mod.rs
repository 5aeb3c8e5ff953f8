//! Helpers of the worker crate's tests: a bound on their time, and a source on one end of a pair of sockets.

pub mod process;

use std::cell::{Cell, RefCell};
use std::io::{ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use mio::Interest;
use mio::net::{TcpListener, TcpStream};
use threadwire_worker::{EventLoop, Ready, Remote, Source, Stopped, Token, Worker};

/// How long anything may take before the test fails. Nothing here waits for that long unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

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

/// A worker that has begun to wait: what its task does before that is done.
pub fn waiting<R: Send + 'static>(task: impl FnOnce() -> Result<R, Stopped> + Send + 'static) -> Worker<R> {
    let worker = Worker::spawn(task);
    settle(&worker);
    worker
}

/// Returns when a worker has dealt with all that this thread has sent it before.
pub fn settle(worker: &Remote) {
    let (tell, told) = mpsc::channel();
    worker.post(move |_| tell.send(()).unwrap()).unwrap();
    told.recv().unwrap();
}

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    /// Nothing yet.
    pub fn new() -> Log {
        Log::default()
    }

    /// Writes something down.
    pub fn say(&self, text: impl Into<String>) {
        self.0.borrow_mut().push(text.into());
    }

    /// What was written, which is then forgotten.
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }

    /// How much was written.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Two connected sockets: one for a loop, and one to be used by hand.
pub fn sockets() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    ours.set_nodelay(true).unwrap();
    let theirs = loop {
        match listener.accept() {
            Ok((theirs, _)) => break theirs,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    };
    (theirs, ours)
}

/// What a [`Probe`] does when it is called.
type Act = dyn Fn(&Rc<Probe>);

/// A source that writes down how it is called.
pub struct Probe {
    name: String,
    log: Log,
    /// The place it was given.
    pub token: Cell<Option<Token>>,
    socket: RefCell<Option<TcpStream>>,
    act: Box<Act>,
    /// Whether it detaches when it is told to stop.
    finishes: bool,
}

impl Probe {
    /// Attaches a probe to this thread's loop.
    pub fn attach(
        name: &str,
        log: &Log,
        act: impl Fn(&Rc<Probe>) + 'static,
    ) -> (Rc<Probe>, std::net::TcpStream) {
        Probe::attach_with(name, log, true, act)
    }

    /// The same for one that never finishes.
    pub fn attach_stubborn(name: &str, log: &Log) -> (Rc<Probe>, std::net::TcpStream) {
        Probe::attach_with(name, log, false, |_| {})
    }

    fn attach_with(
        name: &str,
        log: &Log,
        finishes: bool,
        act: impl Fn(&Rc<Probe>) + 'static,
    ) -> (Rc<Probe>, std::net::TcpStream) {
        let (theirs, ours) = sockets();
        let mut attached = None;
        let token = EventLoop::current().attach(theirs, Interest::READABLE, |socket, token| {
            let probe = Rc::new(Probe {
                name: name.to_owned(),
                log: log.clone(),
                token: Cell::new(Some(token)),
                socket: RefCell::new(Some(socket)),
                act: Box::new(act),
                finishes,
            });
            attached = Some(Rc::clone(&probe));
            probe
        });
        let probe = attached.unwrap();
        assert_eq!(probe.token.get(), Some(token.unwrap()));
        (probe, ours)
    }

    /// A probe without a socket, to be put into the place of another.
    pub fn detached(name: &str, log: &Log) -> Rc<Probe> {
        Rc::new(Probe {
            name: name.to_owned(),
            log: log.clone(),
            token: Cell::new(None),
            socket: RefCell::new(None),
            act: Box::new(|_| {}),
            finishes: true,
        })
    }

    /// Writes something down under its name.
    pub fn say(&self, what: &str) {
        self.log.say(format!("{}: {what}", self.name));
    }

    /// Reads once, and returns how much came; 0 if nothing did.
    pub fn read(&self, most: usize) -> usize {
        match self.socket.borrow_mut().as_mut().unwrap().read(&mut vec![0; most]) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        }
    }

    /// Leaves the loop.
    pub fn detach(&self) {
        if let Some(mut socket) = self.socket.take() {
            EventLoop::current().detach(self.token.get().unwrap(), &mut socket);
        }
    }
}

impl Source for Probe {
    fn ready(self: Rc<Self>, ready: Ready) {
        self.say(match (ready.readable, ready.read_closed) {
            (true, false) => "readable",
            (_, true) => "ended",
            (false, false) => "ready",
        });
        (self.act)(&self);
    }

    fn flush(self: Rc<Self>) {
        self.say("flush");
    }

    fn stop(self: Rc<Self>) {
        self.say("stop");
        if self.finishes {
            self.detach();
        }
    }

    fn abandon(self: Rc<Self>) {
        self.say("abandon");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.say("dropped");
    }
}
