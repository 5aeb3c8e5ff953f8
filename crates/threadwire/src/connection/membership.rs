//! What a server does with its connections when it shuts down.

use std::rc::Rc;
use std::time::Instant;

use threadwire_proto::CloseCode;
use threadwire_worker::EventLoop;

use super::{Connection, Phase, WeakConnection};
use crate::on_loop::server::Station;
use crate::server::Standing;

/// The place of a connection that is no server's, or has ended.
pub(super) const NOWHERE: u32 = Station::NOWHERE;

impl Connection {
    /// Joins the connections of its server on this thread.
    pub(super) fn enter(&self) {
        if let Some(station) = Station::of(&self.0.config) {
            self.0.place.set(station.enter(WeakConnection(Rc::downgrade(&self.0))));
        }
    }

    /// Leaves them: TCP is over.
    pub(super) fn leave(&self) {
        let place = self.0.place.replace(NOWHERE);
        if place == NOWHERE {
            return;
        }
        let standing = if self.is_clean() { None } else { self.standing() };
        if let Some(station) = Station::of(&self.0.config) {
            station.leave(place, standing);
        }
    }

    pub(crate) fn place(&self) -> u32 {
        self.0.place.get()
    }

    pub(crate) fn set_place(&self, place: u32) {
        self.0.place.set(place);
    }

    fn is_clean(&self) -> bool {
        self.0.session.borrow().closing().is_some_and(|closing| closing.is_clean())
    }

    /// Whether its server shuts down, and sets the deadline.
    pub(super) fn is_shutting_down(&self) -> bool {
        let place = self.place();
        place != NOWHERE && Station::of(&self.0.config).is_some_and(|station| station.decides_on(place))
    }

    /// Whether a callback is running, and waits: it is not only that there is no listener any more.
    pub(crate) fn is_in_callback(&self) -> bool {
        self.0.phase.get() == Phase::Running && self.0.listener.borrow().is_none()
    }

    /// Closes, at the loop's next turn. How long that may take is up to the server from now on.
    pub(crate) fn shut_down(&self, code: CloseCode, reason: &str) {
        if let Some(timer) = self.with_extras(|extras| extras.timer.take()) {
            EventLoop::current().cancel(timer);
        }
        self.0.overdue.set(None);
        if self.close_with(code, reason).is_err() {
            debug_assert!(false, "code and reason were checked");
        }
    }

    /// What there is to say of it when the time has passed; `None` if nothing is wrong.
    pub(crate) fn standing(&self) -> Option<Standing> {
        let bytes = self.buffered();
        if self.is_broken() {
            Some(Standing::Broken)
        } else if self.is_in_callback() {
            Some(Standing::InCallback)
        } else if bytes > 0 {
            Some(Standing::Unwritten { bytes })
        } else {
            (!self.is_clean()).then_some(Standing::Silent)
        }
    }

    fn is_broken(&self) -> bool {
        let session = self.0.session.borrow();
        session.closing().is_some_and(|closing| closing.lost || closing.violation.is_some())
    }

    /// Gives it up, at the loop's next turn.
    pub(crate) fn give_up(&self) {
        let mut session = self.0.session.borrow_mut();
        if let Some(deadline) = session.deadline(Instant::now()) {
            session.expire(deadline);
        }
        drop(session);
        self.mark_dirty();
    }
}
