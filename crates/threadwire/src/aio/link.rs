//! Link of a connection: what the system's wake-ups and the attendant know of it, beside its lock.
//!
//! A connection's stream has two wakers, whoever polls it: one for output, the link itself, which has the attendant write; and the
//! [`Ear`] for input. So no task that comes and goes can displace them, and somebody hears of input also where no task receives.
//!
//! Nothing here locks the connection: a stream may wake while it is being polled.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use threadwire_worker::Lock;

use super::attendant::Attendant;
use super::core::Core;

/// Who is to hear of the stream's next input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Awaited {
    /// Nobody: the stream was not found empty since something was read, or the reader was woken.
    ByNobody,
    /// The task that receives.
    ByReader,
    ByAttendant,
    /// There is input, and the attendant has not looked at it yet.
    Arrived,
}

pub(super) struct Link {
    pub(super) core: Weak<Core>,
    pub(super) attendant: Arc<Attendant>,
    /// Whether the attendant is to come.
    pub(super) is_queued: AtomicBool,
    /// Whether the attendant makes sure that the reader comes.
    pub(super) is_watched: AtomicBool,
    /// An [`Awaited`].
    input: AtomicU8,
    reader: Lock<Option<Waker>>,
}

impl Link {
    pub(super) fn new(core: Weak<Core>, attendant: Arc<Attendant>) -> Link {
        Link {
            core,
            attendant,
            is_queued: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            input: AtomicU8::new(Awaited::ByNobody as u8),
            reader: Lock::default(),
        }
    }

    /// The stream is polled for input, on behalf of this one. To be said before: the stream may wake at once.
    #[inline]
    pub(super) fn await_input(&self, by: Awaited) {
        self.input.store(by as u8, Ordering::Release);
    }

    #[inline]
    fn is(&self, awaited: Awaited) -> bool {
        self.input.load(Ordering::Acquire) == awaited as u8
    }

    /// Whether somebody hears of the next input.
    #[inline]
    pub(super) fn is_awaited(&self) -> bool {
        self.is(Awaited::ByReader) || self.is(Awaited::ByAttendant)
    }

    /// Whether there is input for the attendant.
    #[inline]
    pub(super) fn has_arrived(&self) -> bool {
        self.is(Awaited::Arrived)
    }

    /// The attendant need not come: there is nothing to do, which is said under the connection's lock.
    #[inline]
    pub(super) fn dismiss(&self) {
        self.is_queued.store(false, Ordering::Release);
    }

    /// Whether the attendant will come.
    #[inline]
    pub(super) fn is_queued(&self) -> bool {
        self.is_queued.load(Ordering::Relaxed)
    }

    /// Whether that is so: to be asked under the connection's lock, which the attendant takes to look.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Notes who receives.
    #[inline]
    pub(super) fn note_reader(&self, waker: &Waker) {
        let mut reader = self.reader.lock();
        match &mut *reader {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// The one who receives, to be woken.
    #[inline]
    pub(super) fn take_reader(&self) -> Option<Waker> {
        self.reader.lock().take()
    }

    /// Has the attendant make sure that the reader comes.
    #[inline]
    pub(super) fn watch(self: &Arc<Link>) {
        if !self.is_watched.swap(true, Ordering::AcqRel) {
            self.attendant.watch(Arc::clone(self));
        }
    }
}

/// The stream takes more, or something was sent: the attendant is to come.
impl Wake for Link {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.attendant.push(Arc::clone(self));
        }
    }
}

/// Woken by the stream's input.
pub(super) struct Ear(pub(super) Arc<Link>);

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let link = &self.0;
        let heard = |input| match input {
            _ if input == Awaited::ByReader as u8 => Some(Awaited::ByNobody as u8),
            _ if input == Awaited::ByAttendant as u8 => Some(Awaited::Arrived as u8),
            _ => None,
        };
        // Otherwise somebody has read since the stream was told to wake, and sees to it.
        let Ok(before) = link.input.fetch_update(Ordering::AcqRel, Ordering::Acquire, heard) else { return };
        if before == Awaited::ByAttendant as u8 {
            return link.wake_by_ref();
        }
        // First of all: the attendant only looks whether it has come.
        link.take_reader().into_iter().for_each(Waker::wake);
        match link.attendant.runs_in_turn {
            true => link.wake_by_ref(),
            false => link.watch(),
        }
    }
}
