//! Commands of other threads and tasks to a reconnecting connection.

use threadwire_proto::CloseCode;

/// What is wanted of the driver.
#[derive(Debug, Default)]
pub enum Wish {
    #[default]
    Nothing,
    /// Another connection.
    Renew,
    /// The end, with a closing handshake.
    Close(CloseCode, String),
    /// The end.
    Stop,
}

impl Wish {
    /// What ranks higher goes ahead of the others.
    fn rank(&self) -> u8 {
        match self {
            Wish::Nothing => 0,
            Wish::Renew => 1,
            Wish::Close(..) => 2,
            Wish::Stop => 3,
        }
    }

    /// Wants this, too.
    pub fn raise(&mut self, other: Wish) {
        if other.rank() > self.rank() {
            *self = other;
        }
    }

    /// Whether it is the end that is wanted.
    pub fn is_end(&self) -> bool {
        matches!(self, Wish::Close(..) | Wish::Stop)
    }
}
