//! Lingering close: what the peer still sends is read and dropped until its end, since closing a socket with unread input resets
//! the connection, and the peer might never see what was written last.

use std::io;

use crate::transport::Transport;

/// How far a stream that lingers has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linger {
    /// Something was read: there may be more.
    More,
    /// The peer has said nothing more yet.
    Waits,
    /// The peer has ended, or the stream is broken: it can be dropped.
    Over,
}

impl Linger {
    /// Tells the peer that nothing more will come, the first step. False if that has to be tried again.
    pub fn begin(io: &mut impl Transport) -> bool {
        // A stream that can't be shut down can't be read either, which ends it.
        !matches!(io.shutdown_write(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads once, into a buffer that nobody looks into.
    pub fn read(io: &mut impl Transport, buffer: &mut [u8]) -> Linger {
        match io.read_away(buffer) {
            Ok(1..) => Linger::More,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Linger::Waits,
            Ok(0) | Err(_) => Linger::Over,
        }
    }
}
