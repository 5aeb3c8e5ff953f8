//! Dispatch of the events of one type on one loop: to listeners in the order of their priority, then to waits.
//!
//! The list of listeners is copied when it changes, so that a call for an event walks the list as it was when the event
//! came, whatever the listeners do to it. An event is moved into shared memory only if somebody keeps it.

use std::any::{Any, TypeId, type_name};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use super::event_wait::EventWaiter;
use super::listener::{Listener, ListenerFailed};
use crate::event_loop::mail::Mail;
use crate::event_loop::topics::{AnyTopic, KeptListener};
use crate::event_loop::worker_state::Wanted;
use crate::{ChildEvent, Event, EventLoop, ListenerId, Named, Stalled, StatusChange};

/// An event that is being delivered.
pub(crate) enum MaybeShared<T> {
    /// An event that nobody keeps. `None` only while it is moved.
    Own(Option<Event<T>>),
    Shared(Rc<Event<T>>),
}

impl<T> MaybeShared<T> {
    /// Moves the event into shared memory, so that it can be kept.
    pub(crate) fn share(&mut self) -> Rc<Event<T>> {
        if let MaybeShared::Own(event) = self {
            *self = MaybeShared::Shared(Rc::new(event.take().expect("an event is moved once")));
        }
        match self {
            MaybeShared::Shared(event) => Rc::clone(event),
            MaybeShared::Own(_) => unreachable!("it was just made shared"),
        }
    }
}

impl<T> Deref for MaybeShared<T> {
    type Target = Event<T>;

    fn deref(&self) -> &Event<T> {
        match self {
            MaybeShared::Own(event) => event.as_ref().expect("an event is moved once"),
            MaybeShared::Shared(event) => event,
        }
    }
}

/// The listeners and waits for events of one type.
pub(crate) struct Topic<T> {
    listeners: RefCell<Rc<[Rc<Listener<T>>]>>,
    waiters: RefCell<Vec<Rc<EventWaiter<T>>>>,
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
        let mut event = MaybeShared::Own(Some(event));
        let listeners = Rc::clone(&self.listeners.borrow());
        let mut is_heard = false;
        for listener in listeners.iter() {
            is_heard |= listener.offer(&mut event, self, event_loop);
        }
        if !self.waiters.borrow().is_empty() {
            // A wait may ask its caller whether the event is the right one: not while the list is borrowed.
            let waiters = self.waiters.borrow().clone();
            for waiter in waiters {
                if waiter.offer(&mut event) {
                    is_heard = true;
                    event_loop.interrupt();
                }
            }
        }
        if !is_heard {
            event_loop.note_unheard(&event.data);
        }
    }

    pub(crate) fn add_waiter(&self, waiter: Rc<EventWaiter<T>>) {
        self.waiters.borrow_mut().push(waiter);
    }

    pub(crate) fn remove_waiter(&self, waiter: &Rc<EventWaiter<T>>) {
        self.waiters.borrow_mut().retain(|other| !Rc::ptr_eq(other, waiter));
    }

    /// Takes the events that were kept for the next wait.
    pub(crate) fn take_kept(&self) -> VecDeque<Rc<Event<T>>> {
        self.kept.take()
    }

    pub(crate) fn keep(&self, events: VecDeque<Rc<Event<T>>>) {
        self.kept.replace(events);
    }
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
        // The closure is dropped outside of the borrow: its values may call back.
        removed.retire();
        true
    }

    fn kept_listeners(&self) -> Vec<Box<dyn KeptListener>> {
        let listeners = Rc::clone(&self.listeners.borrow());
        listeners.iter().filter_map(|listener| listener.keep()).collect()
    }

    fn end(&self) {
        let listeners = self.listeners.replace(Rc::new([]));
        listeners.iter().for_each(|listener| listener.retire());
        self.forget_kept();
    }

    fn forget_kept(&self) {
        threadwire_guard::discard_all(self.kept.take());
    }
}

impl EventLoop {
    /// Delivers an event.
    #[inline]
    pub(crate) fn dispatch<T: Send + 'static>(&self, event: Event<T>) {
        match self.find_topic::<T>() {
            Some(topic) => topic.dispatch(event, self),
            None => self.note_unheard(&event.data),
        }
    }

    /// Nobody listens or waits for an event.
    #[cold]
    fn note_unheard<T: Send + 'static>(&self, data: &T) {
        let data: &dyn Any = data;
        // What the library tells unasked need not be heard.
        if data.is::<Stalled>()
            || data.is::<StatusChange>()
            || data.is::<ChildEvent>()
            || data.is::<ListenerFailed>()
        {
            return;
        }
        self.worker().unheard.fetch_add(1, Ordering::Relaxed);
        let (worker, event) = (self.worker().label(), type_name::<T>());
        let name = data.downcast_ref().map(Named::name);
        tracing::debug!(worker, event, name, "dropped an event that nobody listens or waits for");
    }

    #[inline]
    fn find_topic<T: Send + 'static>(&self) -> Option<Rc<Topic<T>>> {
        let topic: Rc<dyn Any> = self.topics().find(TypeId::of::<T>())?;
        topic.downcast().ok()
    }

    /// The topic of a type, made at the first interest in it.
    pub(crate) fn topic<T: Send + 'static>(&self) -> Rc<Topic<T>> {
        if let Some(topic) = self.find_topic() {
            return topic;
        }
        let topic = Rc::new(Topic::<T>::new());
        let id = TypeId::of::<T>();
        self.topics().insert(id, topic.clone());
        // Events of these types are not sent to workers that never asked for them.
        if id == TypeId::of::<ChildEvent>() {
            self.worker().want(Wanted::CHILDREN);
        } else if id == TypeId::of::<ListenerFailed>() {
            self.worker().want(Wanted::FAILURES);
        }
        topic
    }

    pub(crate) fn add_listener<T: Send + 'static>(&self, listener: Rc<Listener<T>>) -> ListenerId {
        let id = listener.id;
        self.topic::<T>().add(listener);
        id
    }
}

impl<T: Send + 'static> Mail for Event<T> {
    fn deliver(self: Box<Self>, event_loop: &EventLoop) {
        event_loop.dispatch(*self);
    }

    fn is_event(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        type_name::<T>()
    }
}
