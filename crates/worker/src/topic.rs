//! All that waits for the events of one type on one loop, and how an event reaches it: listeners in the order of their
//! priority, then the waits.
//!
//! The list of listeners is copied when it changes, so that a call for an event walks the list as it was when the event
//! came, whatever the listeners do to it. An event is moved into shared memory only if somebody keeps it.

use std::any::{Any, TypeId, type_name};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Deref;
use std::rc::Rc;

use crate::event::{Event, ListenerFailed};
use crate::listener::{Kept, Listener};
use crate::node::Interest;
use crate::tree::ChildEvent;
use crate::wait::Waiter;
use crate::{EventLoop, ListenerId};

/// An event that is being delivered.
pub(crate) enum Held<T> {
    /// Nobody keeps it. `None` only while it is moved.
    Own(Option<Event<T>>),
    Shared(Rc<Event<T>>),
}

impl<T> Held<T> {
    /// Makes it one that can be kept.
    pub(crate) fn share(&mut self) -> Rc<Event<T>> {
        if let Held::Own(event) = self {
            *self = Held::Shared(Rc::new(event.take().expect("an event is moved once")));
        }
        match self {
            Held::Shared(event) => Rc::clone(event),
            Held::Own(_) => unreachable!("it was just made shared"),
        }
    }
}

impl<T> Deref for Held<T> {
    type Target = Event<T>;

    fn deref(&self) -> &Event<T> {
        match self {
            Held::Own(event) => event.as_ref().expect("an event is moved once"),
            Held::Shared(event) => event,
        }
    }
}

/// The listeners and waits of one type.
pub(crate) struct Topic<T> {
    listeners: RefCell<Rc<[Rc<Listener<T>>]>>,
    waiters: RefCell<Vec<Rc<Waiter<T>>>>,
    /// Events that came for the task when its wait already had one, and could not return: its next waits find them here.
    kept: RefCell<VecDeque<Rc<Event<T>>>>,
}

impl<T: Send + 'static> Topic<T> {
    fn new() -> Topic<T> {
        Topic { listeners: RefCell::new(Rc::new([])), waiters: RefCell::default(), kept: RefCell::default() }
    }

    fn add(&self, listener: Rc<Listener<T>>) {
        let mut listeners = self.listeners.borrow_mut();
        let place = listeners.partition_point(|other| other.priority() >= listener.priority());
        let mut changed = listeners.to_vec();
        changed.insert(place, listener);
        *listeners = changed.into();
    }

    fn dispatch(&self, event: Event<T>, event_loop: &EventLoop) {
        let mut event = Held::Own(Some(event));
        let listeners = Rc::clone(&self.listeners.borrow());
        for listener in listeners.iter() {
            listener.offer(&mut event, self, event_loop);
        }
        if self.waiters.borrow().is_empty() {
            return;
        }
        // A wait may ask its caller whether the event is the right one: not while the list is borrowed.
        let waiters = self.waiters.borrow().clone();
        for waiter in waiters {
            if waiter.offer(&mut event) {
                event_loop.interrupt();
            }
        }
    }

    pub(crate) fn add_waiter(&self, waiter: Rc<Waiter<T>>) {
        self.waiters.borrow_mut().push(waiter);
    }

    pub(crate) fn remove_waiter(&self, waiter: &Rc<Waiter<T>>) {
        self.waiters.borrow_mut().retain(|other| !Rc::ptr_eq(other, waiter));
    }

    /// Takes what was kept for the next wait.
    pub(crate) fn take_kept(&self) -> VecDeque<Rc<Event<T>>> {
        self.kept.take()
    }

    pub(crate) fn keep(&self, events: VecDeque<Rc<Event<T>>>) {
        self.kept.replace(events);
    }
}

/// A [`Topic`] whatever its type.
pub(crate) trait AnyTopic: Any {
    /// Removes a listener. Returns whether it was there.
    fn remove(&self, id: ListenerId) -> bool;
    /// The listeners that stay for the next run.
    fn kept_listeners(&self) -> Vec<Box<dyn Kept>>;
    /// Drops what was kept for the next wait, since that is for something else.
    fn forget_kept(&self);
}

impl<T: Send + 'static> AnyTopic for Topic<T> {
    fn remove(&self, id: ListenerId) -> bool {
        let removed = {
            let mut listeners = self.listeners.borrow_mut();
            let Some(place) = listeners.iter().position(|listener| listener.id == id) else { return false };
            let mut changed = listeners.to_vec();
            let removed = changed.remove(place);
            *listeners = changed.into();
            removed
        };
        // What it holds may call back when it is dropped: not while the list is borrowed.
        removed.retire();
        true
    }

    fn kept_listeners(&self) -> Vec<Box<dyn Kept>> {
        let listeners = Rc::clone(&self.listeners.borrow());
        listeners.iter().filter_map(|listener| listener.keep()).collect()
    }

    fn forget_kept(&self) {
        drop(self.kept.take());
    }
}

/// The topics of a loop.
#[derive(Default)]
pub(crate) struct Topics(RefCell<HashMap<TypeId, Rc<dyn AnyTopic>, BuildHasherDefault<TypeHasher>>>);

impl Topics {
    /// The topic of a type, if there has been any interest in it.
    #[inline]
    fn find<T: Send + 'static>(&self) -> Option<Rc<Topic<T>>> {
        let topic = Rc::clone(self.0.borrow().get(&TypeId::of::<T>())?);
        let topic: Rc<dyn Any> = topic;
        topic.downcast().ok()
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
    /// Delivers an event.
    #[inline]
    pub(crate) fn dispatch<T: Send + 'static>(&self, event: Event<T>) {
        if let Some(topic) = self.topics().find::<T>() {
            topic.dispatch(event, self);
        }
    }

    /// The topic of a type, in which somebody is interested now.
    pub(crate) fn topic<T: Send + 'static>(&self) -> Rc<Topic<T>> {
        if let Some(topic) = self.topics().find() {
            return topic;
        }
        let topic = Rc::new(Topic::<T>::new());
        let id = TypeId::of::<T>();
        self.topics().0.borrow_mut().insert(id, topic.clone());
        // These are not sent to who never asked.
        if id == TypeId::of::<ChildEvent>() {
            self.node().show_interest(Interest::CHILDREN);
        } else if id == TypeId::of::<ListenerFailed>() {
            self.node().show_interest(Interest::FAILURES);
        }
        topic
    }

    pub(crate) fn add_listener<T: Send + 'static>(&self, listener: Rc<Listener<T>>) -> ListenerId {
        let id = listener.id;
        self.topic::<T>().add(listener);
        id
    }

    pub(crate) fn unlisten(&self, id: ListenerId) -> bool {
        self.topics().all().iter().any(|topic| topic.remove(id))
    }

    /// Takes out the listeners that stay for the next run.
    pub(crate) fn kept_listeners(&self) -> Vec<Box<dyn Kept>> {
        let mut kept: Vec<_> = self.topics().all().iter().flat_map(|topic| topic.kept_listeners()).collect();
        // In the order in which they were added, as they will be again.
        kept.sort_by_key(|listener| listener.id());
        kept
    }

    /// Lets go of all listeners.
    pub(crate) fn forget_topics(&self) {
        let topics = self.topics().0.take();
        drop(topics);
    }

    /// Reports that a listener of `T` failed.
    pub(crate) fn listener_failed<T: 'static>(&self, listener: ListenerId, error: String) {
        let (worker, event) = (self.remote(), type_name::<T>());
        // Not by another event, if it was about one of these: that would have no end.
        let is_about_failure = TypeId::of::<T>() == TypeId::of::<ListenerFailed>();
        let failure = ListenerFailed { worker, listener, event, error };
        if is_about_failure || !self.node().report(&failure) {
            let worker = self.node().label();
            tracing::error!(worker, event, error = failure.error, "a listener failed");
        }
    }
}
