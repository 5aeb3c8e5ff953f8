//! What happens where more is sent than the peer reads.

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
