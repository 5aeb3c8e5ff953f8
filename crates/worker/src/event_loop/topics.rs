//! The topics of an event loop, whatever the types of their events: what a loop knows of its listeners.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::EventLoop;

/// Names a listener, to [`unlisten`](crate::unlisten) with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(u64);

impl ListenerId {
    pub(crate) fn next() -> ListenerId {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        ListenerId(COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A listener that outlives its worker's runs, between two of them.
pub(crate) trait KeptListener: Send {
    fn id(&self) -> ListenerId;
    /// Whether it stays after the run that it is added for.
    fn is_permanent(&self) -> bool;
    /// Goes to work.
    fn attach(self: Box<Self>, event_loop: &EventLoop);
}

/// A topic, whatever the type of its events.
pub(crate) trait AnyTopic: Any {
    /// Removes a listener. Returns whether it was there.
    fn remove(&self, id: ListenerId) -> bool;
    /// The listeners that stay for the next run.
    fn kept_listeners(&self) -> Vec<Box<dyn KeptListener>>;
    /// Drops the events that were kept for the next wait, since that wait is for other events.
    fn forget_kept(&self);
    /// Drops listeners and events, each behind the guard.
    fn end(&self);
}

/// The topics of a loop.
#[derive(Default)]
pub(crate) struct Topics(RefCell<HashMap<TypeId, Rc<dyn AnyTopic>, BuildHasherDefault<TypeHasher>>>);

impl Topics {
    /// The topic of events of a type, if there has been any interest in them.
    #[inline]
    pub(crate) fn find(&self, of: TypeId) -> Option<Rc<dyn AnyTopic>> {
        self.0.borrow().get(&of).cloned()
    }

    pub(crate) fn insert(&self, of: TypeId, topic: Rc<dyn AnyTopic>) {
        self.0.borrow_mut().insert(of, topic);
    }

    fn all(&self) -> Vec<Rc<dyn AnyTopic>> {
        self.0.borrow().values().cloned().collect()
    }
}

/// The number in a type's id is a hash already.
#[derive(Default)]
pub(crate) struct TypeHasher(u64);

impl Hasher for TypeHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl EventLoop {
    pub(crate) fn unlisten(&self, id: ListenerId) -> bool {
        self.topics().all().iter().any(|topic| topic.remove(id))
    }

    /// Takes out the listeners that stay for the next run.
    pub(crate) fn kept_listeners(&self) -> Vec<Box<dyn KeptListener>> {
        let mut kept: Vec<_> = self.topics().all().iter().flat_map(|topic| topic.kept_listeners()).collect();
        // In the order in which they were added, as they will be again.
        kept.sort_by_key(|listener| listener.id());
        kept
    }

    /// Lets go of all listeners.
    pub(crate) fn forget_topics(&self) {
        for topic in self.topics().0.take().into_values() {
            topic.end();
        }
    }
}
