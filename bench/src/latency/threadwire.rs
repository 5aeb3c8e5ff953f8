//! Round trips with Threadwire's callback face on both sides, as its users write it. The server is that of `echo`. Busy, the
//! loops of both sides never sleep.

use super::arm::payload;
use super::recorder::Recorder;
use crate::fail;
use crate::fail::Result;
use crate::servers::{Outcome, listener};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use threadwire::worker::EventLoop;
use threadwire::{Closed, Connection, Error, Listener, Message, connect};

/// Sends the next message when the last one's echo has come.
struct Asker {
    payload: Vec<u8>,
    progress: Rc<RefCell<Progress>>,
}

/// The result for the caller of `ask`.
struct Progress {
    recorder: Recorder,
    failure: Option<String>,
}

impl Listener for Asker {
    fn on_open(&mut self, ws: &Connection) -> std::result::Result<(), Error> {
        self.progress.borrow_mut().recorder.start();
        ws.send(&self.payload)
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> std::result::Result<(), Error> {
        let mut progress = self.progress.borrow_mut();
        if message.as_bytes() != self.payload {
            progress.failure = Some("the answer is not what was sent".to_owned());
            return ws.close();
        }
        if progress.recorder.lap() { ws.send(&self.payload) } else { ws.close() }
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        if let Some(error) = &closed.error {
            self.progress.borrow_mut().failure = Some(error.to_string());
        }
    }
}

/// Serves 127.0.0.1 at `port`, without ever sleeping.
pub(super) fn serve_busy(port: u16, _bytes: usize) -> Outcome {
    EventLoop::current().set_busy_poll(Some(Duration::MAX));
    listener::run(port)
}

/// As [`ask`], without ever sleeping.
pub(super) fn ask_busy(port: u16, bytes: usize, recorder: Recorder) -> Result<Recorder> {
    EventLoop::current().set_busy_poll(Some(Duration::MAX));
    ask(port, bytes, recorder)
}

/// Asks the server at `port` until the recorder has enough.
pub(super) fn ask(port: u16, bytes: usize, recorder: Recorder) -> Result<Recorder> {
    let progress = Rc::new(RefCell::new(Progress { recorder, failure: None }));
    let asker = Asker { payload: payload(bytes), progress: Rc::clone(&progress) };
    connect(&format!("ws://127.0.0.1:{port}"), asker)?.wait_closed()?;
    let progress = Rc::into_inner(progress).ok_or_else(|| fail!("a listener outlived its connection"))?;
    match progress.into_inner() {
        Progress { failure: Some(failure), .. } => Err(fail!("{failure}")),
        Progress { recorder, failure: None } => Ok(recorder),
    }
}
