//! What happens where more is sent than the peer reads.

/// What happens to a message for which there is no room, because the peer does not read what was sent before
/// ([`Config::max_buffered`](crate::Config::max_buffered)). A connection has one such policy
/// ([`Config::when_full`](crate::Config::when_full)), and each send may have another
/// ([`Connection::send_or`](crate::Connection::send_or)). Pings, pongs and close frames are exempt.
///
/// ```
/// use threadwire::{Config, Connection, Error, WhenFull};
///
/// // Prices: who is slow gets the newest.
/// let config = Config { max_buffered: 64 << 10, when_full: WhenFull::DropOldest, ..Config::default() };
///
/// // Somebody's typing is not worth to wait for.
/// fn typing(ws: &Connection) -> Result<(), Error> {
///     ws.send_or("typing", WhenFull::DropNewest)
/// }
/// # let _ = (config, typing);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// Sending fails with [`Error::Limit`](crate::Error::Limit), and nothing else happens.
    #[default]
    Error,
    /// Sending waits until there is room, while the loop of the sending thread goes on. It fails with
    /// [`Error::Closed`](crate::Error::Closed) if the connection ends meanwhile, and with
    /// [`Error::Stopped`](crate::Error::Stopped) if the thread's worker is stopped.
    Wait,
    /// The oldest messages make room, of those that were sent with this policy and have not begun to leave. They are
    /// counted: see [`Connection::dropped`](crate::Connection::dropped). Fragments are not dropped.
    DropOldest,
    /// The new message is dropped, and counted. A fragment is refused as with `Error`.
    DropNewest,
    /// The connection is closed with 1008 (RFC 6455, section 7.4.1), and sending fails with
    /// [`Error::Limit`](crate::Error::Limit).
    Close,
}

/// Where the flow of a connection stands, and who has to be told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// The program reads no more for now.
    pub(crate) read_paused: bool,
    /// Nothing is read from a peer that does not read either.
    pub(crate) throttled: bool,
    /// More waits than the high watermark.
    pub(crate) write_paused: bool,
    /// What the listener knows of that.
    pub(crate) told_paused: bool,
    /// There is a handle, which has to know how much waits.
    pub(crate) shared: bool,
    /// It is in rooms, where something may have been gathered for it.
    pub(crate) in_rooms: bool,
    /// The oldest messages are dropped where there is no room.
    pub(crate) drops: bool,
    /// Its handles have left something that is to be done at the loop's next turn.
    pub(crate) lane_left: bool,
    /// Keepalive is to be looked at, at the loop's next turn.
    pub(crate) pulse_due: bool,
    /// There is keepalive, which has to know when something arrives.
    pub(crate) timed: bool,
    /// Somebody who receives is as far behind as may be.
    pub(crate) behind: bool,
    /// Messages are looked at before the listener gets them.
    pub(crate) inspects: bool,
}

impl Flow {
    /// Whether something has to be looked at after each write.
    #[inline]
    pub(crate) fn is_watched(self) -> bool {
        self.throttled | self.write_paused | self.told_paused | self.shared
    }

    /// Whether nobody but the connection's own thread has to do with what is sent.
    #[inline]
    pub(crate) fn sends_plainly(self) -> bool {
        !(self.shared | self.in_rooms | self.drops)
    }

    /// Whether what arrives is read.
    #[inline]
    pub(crate) fn reads(self) -> bool {
        !(self.read_paused | self.throttled | self.behind)
    }
}
