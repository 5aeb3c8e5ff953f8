//! Recording listener, readable from any thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use threadwire::frame::{Frame, Level, OpCode};
use threadwire::{Closed, Connection, Error, Initiator, Listener, Message};

use super::PATIENCE;

/// A call to a listener.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `on_open`.
    Open,
    /// `on_message` with a text.
    Text(String),
    /// `on_message` with bytes.
    Binary(Vec<u8>),
    /// `on_frame`: what it is, whether it ends its message, its payload, whether no other lies behind it.
    Frame(OpCode, bool, Vec<u8>, bool),
    /// `on_ping`.
    Ping(Vec<u8>),
    /// `on_pong`.
    Pong(Vec<u8>),
    /// `on_close`.
    Closed(End),
    /// `on_failed`.
    Failed(String),
    /// Not a call, but something that the test says.
    Note(String),
}

impl Call {
    /// A text message.
    pub fn text(text: &str) -> Call {
        Call::Text(text.to_owned())
    }
}

/// How a connection ended, in a form that can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// The close code.
    pub code: u16,
    /// The reason.
    pub reason: String,
    /// The side that began.
    pub initiator: Initiator,
    /// Whether both sides sent a close frame.
    pub clean: bool,
    /// The text of the error.
    pub error: Option<String>,
}

impl End {
    fn new(closed: &Closed) -> End {
        End {
            code: closed.code.get(),
            reason: closed.reason.clone(),
            initiator: closed.initiator,
            clean: closed.clean,
            error: closed.error.as_ref().map(|error| format!("{error:#}")),
        }
    }

    /// An orderly end: both sides sent a close frame.
    pub fn clean(initiator: Initiator, code: u16, reason: &str) -> End {
        End { code, reason: reason.to_owned(), initiator, clean: true, error: None }
    }

    /// An end for which there is an error, though the closing handshake may have been complete.
    pub fn failed(initiator: Initiator, code: u16, clean: bool, error: &str) -> End {
        End { code, reason: String::new(), initiator, clean, error: Some(error.to_owned()) }
    }
}

/// The calls of listeners, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<(Mutex<Vec<Call>>, Condvar)>);

impl Log {
    /// Nothing yet.
    pub fn new() -> Log {
        Log::default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, call: Call) {
        self.lock().push(call);
        self.0.1.notify_all();
    }

    /// Writes down something else.
    pub fn note(&self, text: &str) {
        self.push(Call::Note(text.to_owned()));
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().clone()
    }

    /// Blocks this thread (so not its loop's) until `found` is true of what was heard, which it returns.
    pub fn wait(&self, found: impl Fn(&[Call]) -> bool) -> Vec<Call> {
        let waited = self.0.1.wait_timeout_while(self.lock(), PATIENCE, |calls| !found(calls));
        let (calls, result) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!result.timed_out(), "it only heard {calls:?}");
        calls.clone()
    }

    /// Blocks this thread until this was heard.
    pub fn wait_for(&self, call: &Call) -> Vec<Call> {
        self.wait(|calls| calls.contains(call))
    }

    /// How the connection ended, if it has.
    pub fn end(&self) -> Option<End> {
        let ends = |call: &Call| match call {
            Call::Closed(end) => Some(end.clone()),
            _ => None,
        };
        self.lock().iter().find_map(ends)
    }

    /// Blocks this thread until the connection has ended. How it did; it must have been the last call.
    pub fn wait_end(&self) -> End {
        let calls = self.wait(|calls| calls.iter().any(|call| matches!(call, Call::Closed(_))));
        let Some(Call::Closed(end)) = calls.last() else { panic!("calls after on_close: {calls:?}") };
        end.clone()
    }

    /// How many times on_close was called.
    pub fn ends(&self) -> usize {
        self.lock().iter().filter(|call| matches!(call, Call::Closed(_))).count()
    }

    /// A listener for messages that writes into this, and then does what `react` says. What that returns for
    /// [`Call::Closed`] and [`Call::Failed`] has no effect.
    pub fn listener(&self, react: impl FnMut(&Connection, &Call) -> Result<(), Error> + 'static) -> Recorder {
        Recorder {
            log: self.clone(),
            level: Level::Messages,
            thread: thread::current().id(),
            react: Box::new(react),
        }
    }

    /// The same for frames.
    pub fn frames(&self, react: impl FnMut(&Connection, &Call) -> Result<(), Error> + 'static) -> Recorder {
        Recorder { level: Level::Frames, ..self.listener(react) }
    }
}

/// The action on a call.
type React = dyn FnMut(&Connection, &Call) -> Result<(), Error>;

/// The listener.
pub struct Recorder {
    log: Log,
    level: Level,
    /// The thread of the listener, which must call it.
    thread: thread::ThreadId,
    react: Box<React>,
}

impl Recorder {
    fn hear(&mut self, ws: &Connection, call: Call) -> Result<(), Error> {
        assert_eq!(thread::current().id(), self.thread, "called on another thread");
        self.log.push(call.clone());
        (self.react)(ws, &call)
    }
}

impl Listener for Recorder {
    fn level(&self) -> Level {
        self.level
    }

    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        self.hear(ws, Call::Open)
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.hear(
            ws,
            match message {
                Message::Text(text) => Call::text(text),
                Message::Binary(bytes) => Call::Binary(bytes.to_vec()),
            },
        )
    }

    fn on_frame(&mut self, ws: &Connection, frame: &Frame<'_>) -> Result<(), Error> {
        let (opcode, fin, payload) = (frame.opcode(), frame.fin(), frame.payload().to_vec());
        self.hear(ws, Call::Frame(opcode, fin, payload, frame.is_last_in_input()))
    }

    fn on_ping(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
        self.hear(ws, Call::Ping(payload.to_vec()))
    }

    fn on_pong(&mut self, ws: &Connection, payload: &[u8]) -> Result<(), Error> {
        self.hear(ws, Call::Pong(payload.to_vec()))
    }

    fn on_close(&mut self, ws: &Connection, closed: &Closed) {
        let _ = self.hear(ws, Call::Closed(End::new(closed)));
    }

    fn on_failed(&mut self, error: &Error) {
        self.log.push(Call::Failed(format!("{error:#}")));
    }
}
