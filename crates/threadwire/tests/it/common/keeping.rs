//! Keepalive pair: a connection on this thread's loop, and its scripted peer on the same thread.

use std::sync::Arc;
use std::time::Duration;

use threadwire::error::TimeoutKind;
use threadwire::{
    Closed, Config, Connection, Error, Handle, Initiator, Keepalive, Listener, Message, wait_until,
};

use super::peer::{PING, Peer};
use super::{PATIENCE, patient};

/// A time that passes while a test waits for it.
pub const MOMENT: Duration = Duration::from_millis(5);

/// Pings after a moment of silence, and gives up after this time.
pub fn giving_up_after(reply_timeout: Duration) -> Config {
    let keepalive = Keepalive::default().idle_timeout(MOMENT).reply_timeout(reply_timeout);
    patient().keepalive(keepalive)
}

/// Pings after a moment of silence, and does not give up.
pub fn pinging() -> Config {
    giving_up_after(PATIENCE)
}

/// Lets this thread's loop turn until something lies at the peer (or its stream has ended).
pub fn await_something(peer: &mut Peer) {
    wait_until(None, || !peer.is_silent()).unwrap();
}

/// Lets this thread's loop turn until a frame lies at the peer.
pub fn await_frame(peer: &mut Peer) -> (u8, Vec<u8>) {
    await_something(peer);
    peer.frame()
}

/// The same with a ping, of which it gives the payload.
pub fn await_ping(peer: &mut Peer) -> Vec<u8> {
    let (first, payload) = await_frame(peer);
    assert_eq!(first, PING, "payload {:?}", payload.escape_ascii().to_string());
    payload
}

/// Waits until the connection has ended, which must be because its peer was silent. Returns for how long it was.
pub fn await_verdict(handle: &Handle) -> Duration {
    silence(&handle.wait_closed().unwrap())
}

/// For how long the peer was silent: that must be how it ended.
pub fn silence(closed: &Arc<Closed>) -> Duration {
    assert_eq!(
        (closed.code.get(), closed.initiator, closed.clean),
        (1006, Initiator::Local, false),
        "{closed}"
    );
    match &closed.error {
        Some(Error::Timeout(TimeoutKind::Silence { silent_for })) => *silent_for,
        other => panic!("it ended for another reason: {other:?}"),
    }
}

type React = dyn FnMut(&Connection, &str) -> Result<(), Error>;
type Due = dyn FnMut(&Connection) -> Result<(), Error>;
type IsPong = dyn FnMut(&Connection, &str) -> bool;

/// A listener with pings of its own making.
pub struct Keeper {
    due: Box<Due>,
    is_pong: Box<IsPong>,
    message: Box<React>,
}

impl Keeper {
    /// One that sends the usual pings, and hears nothing.
    pub fn new() -> Keeper {
        Keeper {
            due: Box::new(Connection::probe),
            is_pong: Box::new(|_, _| false),
            message: Box::new(|_, _| Ok(())),
        }
    }

    /// Does this when a ping is due.
    pub fn due(mut self, due: impl FnMut(&Connection) -> Result<(), Error> + 'static) -> Keeper {
        self.due = Box::new(due);
        self
    }

    /// Says what is a pong.
    pub fn is_pong(mut self, is_pong: impl FnMut(&Connection, &str) -> bool + 'static) -> Keeper {
        self.is_pong = Box::new(is_pong);
        self
    }

    /// Does this with messages.
    pub fn message(mut self, react: impl FnMut(&Connection, &str) -> Result<(), Error> + 'static) -> Keeper {
        self.message = Box::new(react);
        self
    }
}

impl Default for Keeper {
    fn default() -> Keeper {
        Keeper::new()
    }
}

impl Listener for Keeper {
    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        (self.message)(ws, message.as_text().expect("the tests send texts"))
    }

    fn on_ping_due(&mut self, ws: &Connection) -> Result<(), Error> {
        (self.due)(ws)
    }

    fn is_pong(&mut self, ws: &Connection, message: Message<'_>) -> bool {
        (self.is_pong)(ws, message.as_text().expect("the tests send texts"))
    }
}
