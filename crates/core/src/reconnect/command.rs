//! Commands to a reconnecting connection, from other threads and tasks.

use threadwire_proto::CloseCode;

/// A command to the driver.
#[derive(Debug, Default)]
pub enum Command {
    #[default]
    Nothing,
    /// Another connection.
    Renew,
    /// The end, with a closing handshake.
    Close(CloseCode, String),
    /// The end.
    Stop,
}

impl Command {
    /// The rank: a higher command goes ahead of the others.
    fn rank(&self) -> u8 {
        match self {
            Command::Nothing => 0,
            Command::Renew => 1,
            Command::Close(..) => 2,
            Command::Stop => 3,
        }
    }

    /// Wants this, too.
    pub fn raise(&mut self, other: Command) {
        if other.rank() > self.rank() {
            *self = other;
        }
    }

    /// Whether it is the end that is wanted.
    pub fn is_end(&self) -> bool {
        matches!(self, Command::Close(..) | Command::Stop)
    }
}
