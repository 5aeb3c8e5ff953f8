//! Flags of a connection on a loop: who has to be told of what, and what is to be done at the loop's next turn.

use super::Connection;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    /// The program reads no more for now.
    pub(super) const READ_PAUSED: Flags = Flags(1);
    /// The listener knows that more waits than the high watermark.
    pub(super) const TOLD_PAUSED: Flags = Flags(1 << 1);
    /// There is a handle, which has to know how much waits.
    pub(super) const SHARED: Flags = Flags(1 << 2);
    /// The connection is in rooms, where something may have been gathered for it.
    pub(super) const IN_ROOMS: Flags = Flags(1 << 3);
    /// The oldest messages are dropped where there is no room.
    pub(super) const DROPS: Flags = Flags(1 << 4);
    /// Handles have left something that is to be done at the loop's next turn.
    pub(super) const LANE_LEFT: Flags = Flags(1 << 5);
    /// Keepalive is to be looked at, at the loop's next turn.
    pub(super) const PULSE_DUE: Flags = Flags(1 << 6);
    /// Somebody who receives is as far behind as may be.
    pub(super) const BEHIND: Flags = Flags(1 << 7);
    /// Messages are looked at before the listener gets them.
    pub(super) const INSPECTS: Flags = Flags(1 << 8);

    /// Nothing is read while one of these is set.
    pub(super) const NOT_READING: Flags = Flags(Flags::READ_PAUSED.0 | Flags::BEHIND.0);
    /// Something has to be looked at after each write while one of these is set.
    pub(super) const WATCHED: Flags = Flags(Flags::TOLD_PAUSED.0 | Flags::SHARED.0);
    /// Others than the connection's own thread have to do with what is sent while one of these is set.
    pub(super) const SENDS_SPECIALLY: Flags = Flags(Flags::SHARED.0 | Flags::IN_ROOMS.0 | Flags::DROPS.0);

    /// Whether one of these is set.
    #[inline]
    pub(super) fn has(self, any: Flags) -> bool {
        self.0 & any.0 != 0
    }

    pub(super) fn with(self, flags: Flags, on: bool) -> Flags {
        if on { Flags(self.0 | flags.0) } else { Flags(self.0 & !flags.0) }
    }
}

impl Connection {
    /// Whether one of these is set.
    #[inline]
    pub(super) fn has(&self, any: Flags) -> bool {
        self.0.flags.get().has(any)
    }

    pub(super) fn set(&self, flags: Flags, on: bool) {
        self.0.flags.set(self.0.flags.get().with(flags, on));
    }

    /// Whether what arrives is read.
    #[inline]
    pub(super) fn reads(&self) -> bool {
        !self.has(Flags::NOT_READING) && !self.0.session.borrow().is_throttled()
    }
}
