//! Registry of a thread's connections: those that have handles, their listeners' names, and their buffers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use slab::Slab;

use super::{Connection, WeakConnection};
use threadwire_core::session::buffers::Buffers;

thread_local! {
    static REGISTRY: Rc<Registry> = Rc::new(Registry {
        buffers: Buffers::current(),
        names: RefCell::default(),
        with_handles: RefCell::default(),
        waiting_sends: Cell::new(0),
    });
}

/// What the connections of one loop share.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) buffers: Rc<Buffers>,
    /// The names of listeners: few, and the same for many connections.
    names: RefCell<Vec<&'static str>>,
    with_handles: RefCell<Slab<(u64, WeakConnection)>>,
    /// How many sends wait for room inside of callbacks.
    pub(super) waiting_sends: Cell<usize>,
}

impl Registry {
    /// This thread's.
    pub(crate) fn current() -> Rc<Registry> {
        REGISTRY.try_with(Rc::clone).unwrap_or_default()
    }

    /// Takes in a connection that has a handle of this number, which finds it by the place that this returns.
    pub(crate) fn enter(&self, number: u64, connection: WeakConnection) -> usize {
        self.with_handles.borrow_mut().insert((number, connection))
    }

    /// Forgets the connection at a place.
    pub(crate) fn leave(&self, place: usize) {
        self.with_handles.borrow_mut().try_remove(place);
    }

    /// The connection at that place, if its handle has that number.
    #[inline]
    pub(crate) fn connection(&self, place: usize, number: u64) -> Option<Connection> {
        let with_handles = self.with_handles.borrow();
        let (_, connection) = with_handles.get(place).filter(|(known, _)| *known == number)?;
        connection.upgrade()
    }

    /// A number that stands for a name.
    pub(crate) fn name_for(&self, name: &'static str) -> u16 {
        let mut names = self.names.borrow_mut();
        let known = names.iter().position(|known| *known == name);
        let place = known.unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        });
        // With that many names, those that are left have none.
        place.try_into().unwrap_or(u16::MAX)
    }

    /// The name that a number stands for.
    pub(crate) fn name(&self, number: u16) -> &'static str {
        self.names.borrow().get(usize::from(number)).copied().unwrap_or("a listener")
    }
}
