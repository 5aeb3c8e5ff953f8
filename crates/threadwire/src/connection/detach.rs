//! Detaching: a connection is taken off its thread's loop, and given to another one.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use mio::Interest;
use threadwire_proto::keepalive::Hold;
use threadwire_proto::{Level, Role};
use threadwire_worker::{EventLoop, Placeholder, Ready, Remote, Source};

use super::bound_session::BoundSession;
use super::callbacks::introduce;
use super::flags::Flags;
use super::handle::Handle;
use super::handle_messages::Sharing;
use super::membership::{self, Site};
use super::{Connection, Extras, Inner, Phase, WeakConnection};
use crate::connection::messages::inbox::Inbox;
use crate::connection::registry::Registry;
use crate::connection::stream::Stream;
use crate::{Closed, Config, Error, Listener};
use threadwire_core::agreed::Agreed;
use threadwire_core::session::Session;

/// What is left of a connection that has ended.
pub(crate) struct Remains {
    closed: Arc<Closed>,
    config: Arc<Config>,
    agreed: Option<Box<Agreed>>,
    role: Role,
    level: Level,
}

/// A connection between two threads. Dropped, it breaks off, and its handles and watchers are told.
pub(crate) struct Moving(Option<Parts>);

struct Parts {
    session: Session,
    stream: Stream,
    config: Arc<Config>,
    agreed: Option<Box<Agreed>>,
    flags: Flags,
    sharing: Option<Box<Sharing>>,
    held_bytes: usize,
    watchers: Vec<Remote>,
    receivers: Vec<Arc<Inbox>>,
}

impl Drop for Moving {
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            Audience::of(&parts).tell_end(Error::Closed);
        }
    }
}

/// Who is told of the end of a connection that breaks off between two threads: its handles, its watchers and its receivers.
struct Audience {
    handle: Option<Handle>,
    watchers: Vec<Remote>,
    receivers: Vec<Arc<Inbox>>,
}

impl Audience {
    fn of(parts: &Parts) -> Audience {
        Audience {
            handle: parts.sharing.as_ref().map(|sharing| sharing.handle().clone()),
            watchers: parts.watchers.clone(),
            receivers: parts.receivers.clone(),
        }
    }

    fn tell_end(self, error: Error) {
        let Some(handle) = self.handle else { return };
        let closed = Arc::new(Closed::new(None, Some(error)));
        handle.lane().end(Arc::clone(&closed));
        for worker in &self.watchers {
            handle.tell_end(worker, Arc::clone(&closed));
        }
        for receiver in &self.receivers {
            receiver.end(&closed);
        }
    }
}

impl Connection {
    /// Takes the connection off its thread's loop; here it has ended, and nobody is told. Fails with [`Error::Closed`] if it is
    /// not open, and in one of its own callbacks; then nothing has happened.
    pub(crate) fn take_off(&self) -> Result<Moving, Error> {
        // Callbacks for failed measurements may do anything.
        self.end_measuring(|| Error::Closed);
        if !self.is_open() {
            return Err(Error::Closed);
        }
        let taken = self.0.listener.borrow_mut().take();
        let Some(listener) = taken else {
            return Err(Error::other("a connection can't leave its thread in one of its own callbacks"));
        };
        self.end_keeping();
        self.leave();
        self.leave_rooms();
        self.0.phase.set(Phase::Over);
        self.0.reported.set(true);
        let over = Box::new(Extras { is_over: true, ..Extras::default() });
        let extras = self.0.extras.borrow_mut().replace(over).map(|extras| *extras).unwrap_or_default();
        let flags = self.0.flags.replace(self.0.flags.get().with(Flags::SHARED, false));
        if let Some(sharing) = &extras.sharing {
            let place = sharing.handle().leave_thread();
            self.0.registry.leave(place);
        }
        let unbound = self.0.session.borrow_mut().unbind();
        let Some((session, mut stream)) = unbound else { return Err(Error::Closed) };
        EventLoop::current().detach(self.0.token, &mut stream);
        // The listener's drop may call back.
        threadwire_guard::discard(listener);
        Ok(Moving(Some(Parts {
            session,
            stream,
            config: Arc::clone(&self.0.site.config),
            agreed: self.0.agreed.clone(),
            flags,
            sharing: extras.sharing,
            held_bytes: extras.held_bytes,
            watchers: extras.watchers,
            receivers: Rc::unwrap_or_clone(extras.receivers),
        })))
    }

    /// Gives the connection to the loop of this thread, where it may be a server's. `on_open` is not called again. If the system can't watch
    /// it there, it breaks off, and its handles are told why.
    pub(crate) fn put_on(
        moving: Moving,
        listener: Box<dyn Listener>,
        site: Option<Rc<Site>>,
    ) -> io::Result<Connection> {
        let mut moving = moving;
        let parts = moving.0.take().ok_or(io::ErrorKind::Other)?;
        let audience = Audience::of(&parts);
        let Parts { session, stream, config, agreed, flags, sharing, held_bytes, .. } = parts;
        let Parts { watchers, receivers, .. } = parts;
        let registry = Registry::current();
        let (level, name) = introduce(&*listener);
        let name = registry.name_for(name);
        let site = site.unwrap_or_else(|| Site::alone(config));
        let event_loop = EventLoop::current();
        let mut made = None;
        let attached = event_loop.attach(stream, Interest::READABLE | Interest::WRITABLE, |stream, token| {
            let receivers = Rc::new(receivers);
            let extras = Extras { sharing, held_bytes, watchers, receivers, ..Extras::default() };
            let connection = Connection(Rc::new(Inner {
                token,
                session: RefCell::new(BoundSession::new(session, Some(stream))),
                registry,
                level,
                name,
                listener: RefCell::new(Some(listener)),
                unread: Cell::default(),
                overdue: Cell::new(None),
                dirty: Cell::new(false),
                agreed,
                phase: Cell::new(Phase::Running),
                place: Cell::new(membership::NOWHERE),
                site,
                flags: Cell::new(flags),
                reported: Cell::new(false),
                extras: RefCell::new(Some(Box::new(extras))),
            }));
            made = Some(connection.clone());
            connection.0 as Rc<dyn Source>
        });
        if let Err(error) = attached {
            audience.tell_end(io::Error::new(error.kind(), error.to_string()).into());
            return Err(error);
        }
        let connection = made.ok_or(io::ErrorKind::Other)?;
        connection.enter();
        connection.begin_keeping();
        if !connection.reads() {
            connection.hold_pulse(Hold::NotReading);
        }
        connection.settle_in();
        connection.follow_order();
        event_loop.requeue(connection.0.token, Ready { readable: true, ..Ready::default() });
        Ok(connection)
    }

    /// What is left of it, if it has ended.
    pub(crate) fn remains(&self) -> Option<Remains> {
        let (config, agreed) = (Arc::clone(&self.0.site.config), self.0.agreed.clone());
        Some(Remains { closed: self.closed()?, config, agreed, role: self.role(), level: self.0.level })
    }

    /// A connection of this thread that has ended as another one has.
    pub(crate) fn of_remains(remains: Remains) -> Connection {
        let Remains { closed, config, agreed, role, level } = remains;
        let extras = Extras { closed: Some(closed), is_over: true, ..Extras::default() };
        // A place that nobody has any more: whatever is asked of the loop for it comes to nothing.
        let event_loop = EventLoop::current();
        let token = event_loop.attach_idle(|_| Rc::new(Placeholder(|| {})));
        event_loop.detach_idle(token);
        Connection(Rc::new(Inner {
            token,
            session: RefCell::new(BoundSession::new(Session::ended(role, &config.protocol(level)), None)),
            registry: Registry::current(),
            level,
            name: Registry::current().name_for("none"),
            listener: RefCell::default(),
            unread: Cell::default(),
            overdue: Cell::new(None),
            dirty: Cell::new(false),
            agreed,
            phase: Cell::new(Phase::Over),
            place: Cell::new(membership::NOWHERE),
            site: Site::alone(config),
            flags: Cell::default(),
            reported: Cell::new(true),
            extras: RefCell::new(Some(Box::new(extras))),
        }))
    }

    /// Its handles find it here from now on. What they have left meanwhile is done.
    fn settle_in(&self) {
        let handle = self.with_sharing(|sharing| sharing.handle().clone());
        if let Some(handle) = handle {
            let weak = WeakConnection(Rc::downgrade(&self.0));
            handle.come_to_thread(self.0.registry.enter(handle.id(), weak));
            // Receivers may have made room while the connection was between the threads.
            self.look_at_receivers();
            self.serve_lane();
        }
        if self.0.session.borrow().leaves_input() {
            self.watch();
        }
        self.mark_dirty();
    }
}
