//! Outcome of a connection: what went wrong first, and how receiving ends.

use std::sync::Arc;

use super::Session;
use crate::error::{Closed, Error};

impl Session {
    /// Remembers what went wrong, unless something did before. An error that comes late is given back, to be dropped where no
    /// session is borrowed: it may be the program's, with a drop of its own.
    pub fn note(&mut self, error: Error) -> Option<Error> {
        let first = &mut self.extras().error;
        if first.is_some() {
            return Some(error);
        }
        *first = Some(error);
        None
    }

    /// How the connection has ended. Asked once.
    pub fn outcome(&mut self) -> Closed {
        let error = self.extras.as_mut().and_then(|extras| extras.error.take());
        let mut closed = Closed::new(self.closing(), error);
        // Our close frame can't have left.
        closed.clean &= !self.is_broken();
        closed
    }
}

/// The end of what is received: nothing more after a normal close, and an error once after any other.
#[derive(Debug, Default)]
pub struct EndOfReceiving {
    was_told: bool,
}

impl EndOfReceiving {
    /// The result of a receive that finds nothing more.
    pub fn tell(&mut self, closed: &Arc<Closed>) -> Result<(), Error> {
        match self.tell_once() && !closed.is_normal() {
            true => Err(Error::Ended(Arc::clone(closed))),
            false => Ok(()),
        }
    }

    /// Notes that the end is told. Whether it was not before.
    pub fn tell_once(&mut self) -> bool {
        !std::mem::replace(&mut self.was_told, true)
    }

    pub fn was_told(&self) -> bool {
        self.was_told
    }
}
