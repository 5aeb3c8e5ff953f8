//! Taking a connection off its thread, and giving it to another one.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use mio::Interest;
use threadwire_proto::keepalive::Hold;
use threadwire_worker::{EventLoop, Ready, Remote, Source};

use super::leaving;
use super::sharing::Sharing;
use super::{Agreed, Connection, Extras, Inner, Phase, WeakConnection};
use crate::flow::Flow;
use crate::link::{Link, LooseLink};
use crate::messages::inbox::Inbox;
use crate::stream::Stream;
use crate::{Config, Error, Listener};

/// A connection between two threads.
pub(crate) struct Moving {
    link: LooseLink,
    stream: Stream,
    config: Arc<Config>,
    agreed: Option<Box<Agreed>>,
    flow: Flow,
    sharing: Option<Box<Sharing>>,
    watchers: Vec<Remote>,
    receivers: Vec<Arc<Inbox>>,
    dropped: u64,
}

impl Connection {
    /// Takes the connection off its thread's loop; here it has ended, and nobody is told. Fails with [`Error::Closed`] if it is
    /// not open, and in one of its own callbacks; then nothing has happened.
    pub(crate) fn take_off(&self) -> Result<Moving, Error> {
        if !self.is_open() {
            return Err(Error::Closed);
        }
        let taken = self.0.listener.borrow_mut().take();
        let Some(listener) = taken else {
            return Err(Error::other("a connection can't leave its thread in one of its own callbacks"));
        };
        self.end_measuring(|| Error::Closed);
        self.end_keeping();
        self.leave();
        self.leave_rooms();
        self.0.phase.set(Phase::Over);
        self.0.reported.set(true);
        let extras = self.0.extras.borrow_mut().take().map(|extras| *extras).unwrap_or_default();
        if let Some(sharing) = &extras.sharing {
            let place = sharing.handle().leave_thread();
            self.0.link.borrow().local().unshare(place);
        }
        let loosened = self.0.link.borrow_mut().loosen();
        let Some((link, mut stream)) = loosened else { return Err(Error::Closed) };
        EventLoop::current().detach(self.0.token, &mut stream);
        // What it holds may call back.
        drop(listener);
        Ok(Moving {
            link,
            stream,
            config: Arc::clone(&self.0.config),
            agreed: self.0.agreed.clone(),
            flow: self.0.flow.get(),
            sharing: extras.sharing,
            watchers: extras.watchers,
            receivers: Rc::unwrap_or_clone(extras.receivers),
            dropped: extras.dropped,
        })
    }

    /// Gives the connection to the loop of this thread. `on_open` is not called again.
    pub(crate) fn put_on(moving: Moving, listener: Box<dyn Listener>) -> io::Result<Connection> {
        let Moving { link: loose, stream, config, agreed, flow, sharing, watchers, receivers, dropped } =
            moving;
        let (level, name) = (listener.level(), listener.name());
        let event_loop = EventLoop::current();
        let mut made = None;
        event_loop.attach(stream, Interest::READABLE | Interest::WRITABLE, |stream, token| {
            let extras =
                Extras { sharing, watchers, receivers: Rc::new(receivers), dropped, ..Extras::default() };
            let connection = Connection(Rc::new(Inner {
                token,
                link: RefCell::new(Link::fasten(loose, stream)),
                level,
                name,
                listener: RefCell::new(Some(listener)),
                unread: Cell::default(),
                may_have_more: Cell::new(true),
                overdue: Cell::new(None),
                dirty: Cell::new(false),
                agreed,
                phase: Cell::new(Phase::Running),
                place: Cell::new(leaving::NOWHERE),
                config,
                flow: Cell::new(Flow { timed: false, ..flow }),
                reported: Cell::new(false),
                extras: RefCell::new(Some(Box::new(extras))),
            }));
            made = Some(connection.clone());
            connection.0 as Rc<dyn Source>
        })?;
        let connection = made.ok_or(io::ErrorKind::Other)?;
        connection.begin_keeping();
        if !connection.0.flow.get().reads() {
            connection.hold_pulse(Hold::NotReading);
        }
        connection.settle_in();
        event_loop.requeue(connection.0.token, Ready { readable: true, ..Ready::default() });
        Ok(connection)
    }

    /// Its handles find it here from now on. What they have left meanwhile is done.
    fn settle_in(&self) {
        let link = self.0.link.borrow();
        let handle = self.with_sharing(|sharing| sharing.handle().clone());
        if let Some(handle) = handle {
            let weak = WeakConnection(Rc::downgrade(&self.0));
            handle.come_to_thread(link.local().share(handle.id(), weak));
            drop(link);
            // What was received while it was between the threads may have made room.
            self.look_at_receivers();
            self.empty_lane();
        }
        self.mark_dirty();
    }
}
