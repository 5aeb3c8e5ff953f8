//! Event listeners: their options, their calls, and their failures.

use std::any::{Any, TypeId, type_name};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use super::topic::{MaybeShared, Topic};
use crate::event_loop::topics::{AnyTopic, KeptListener};
use crate::event_loop::worker_state::{Wanted, WorkerState};
use crate::{Event, EventLoop, ListenerId, Named, Remote, Stopped, WorkerId};

/// The values that a listener may return: nothing, or a `Result` whose error is reported as a
/// [`ListenerFailed`](crate::ListenerFailed). [`Stopped`] is no such error: a listener may pass it on.
pub trait ListenerResult {
    /// The error to report, if there is one.
    fn into_failure(self) -> Option<String>;
}

impl ListenerResult for () {
    fn into_failure(self) -> Option<String> {
        None
    }
}

impl<E: Display + 'static> ListenerResult for Result<(), E> {
    fn into_failure(self) -> Option<String> {
        self.err().filter(|error| !(error as &dyn Any).is::<Stopped>()).map(|error| error.to_string())
    }
}

/// A listener returned an error, or panicked. This is fired at the worker itself, and at its parents; the worker goes on.
/// Where nobody listens for the failure, it is logged.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerFailed {
    /// The worker whose listener it is.
    pub worker: Remote,
    /// The listener.
    pub listener: ListenerId,
    /// The type of the event's value.
    pub event: &'static str,
    /// The error, or the message of the panic.
    pub error: String,
}

/// Calls `listener` for every event of type `T` that reaches this thread, from within its waits. It ends with the worker's
/// run; see [`Remote::listen`] for one that stays.
///
/// It may wait. Events that come for it meanwhile are kept, and it is called for them when it returns. It may also add and
/// remove listeners: that counts from the next event on.
///
/// ```
/// use std::{cell::RefCell, rc::Rc};
/// use threadwire_worker::{Event, EventLoop, listen, update};
///
/// struct Print(&'static str);
/// let printed = Rc::new(RefCell::new(String::new()));
/// let prints = Rc::clone(&printed);
/// listen(move |event: &Event<Print>| prints.borrow_mut().push_str(event.0));
///
/// EventLoop::current().remote().fire(Print("foo"))?;
/// update()?;
/// assert_eq!(*printed.borrow(), "foo");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn listen<T: Send + 'static, R: ListenerResult>(
    listener: impl FnMut(&Event<T>) -> R + 'static,
) -> ListenerId {
    Listen::new().on(listener)
}

/// As [`listen`], for [`Named`] events of this name.
pub fn listen_named<R: ListenerResult>(
    name: &str,
    listener: impl FnMut(&Event<Named>) -> R + 'static,
) -> ListenerId {
    Listen::new().on_named(name, listener)
}

/// Forgets a listener of this thread. Returns whether it was there.
///
/// ```
/// use threadwire_worker::{Event, listen, unlisten};
/// let listener = listen(|_: &Event<u8>| ());
/// assert!(unlisten(listener));
/// assert!(!unlisten(listener));
/// ```
pub fn unlisten(listener: ListenerId) -> bool {
    EventLoop::current().unlisten(listener)
}

/// Options of a listener.
///
/// ```
/// use threadwire_worker::{Event, Listen};
/// Listen::new().priority(10).once().on(|event: &Event<u8>| println!("the first: {}", event.data));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Listen {
    priority: i32,
    from: Option<WorkerId>,
    once: bool,
    for_one_run: bool,
}

impl Listen {
    /// As [`listen`] does it.
    pub fn new() -> Listen {
        Listen::default()
    }

    /// Listeners of higher priority are called first, those of equal priority in the order in which they were added.
    /// 0 by default.
    pub fn priority(mut self, priority: i32) -> Listen {
        self.priority = priority;
        self
    }

    /// Restricts the listener to events that this worker has sent.
    pub fn from(mut self, sender: &Remote) -> Listen {
        self.from = Some(sender.id());
        self
    }

    /// Removes the listener at its first event (that fits), whatever comes of the call.
    pub fn once(mut self) -> Listen {
        self.once = true;
        self
    }

    /// Removes the listener when the worker's run ends, be it added from outside: that run in which it is added, or the next one if the
    /// worker does not run. Those that a thread adds to itself ([`on`](Listen::on), [`listen`]) end so in any case, while those that are
    /// added to a worker ([`on_worker`](Listen::on_worker), [`Remote::listen`]) stay for its next start without this.
    ///
    /// ```
    /// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
    /// use threadwire_worker::{Event, Listen, Restartable, wait_forever};
    ///
    /// let worker = Restartable::new(|()| wait_forever());
    /// let count = Arc::new(AtomicU32::new(0));
    /// let counts = Arc::clone(&count);
    /// Listen::new().for_one_run().on_worker(&worker, move |_: &Event<u8>| {
    ///     counts.fetch_add(1, Ordering::Relaxed);
    /// });
    /// for _ in 0..2 {
    ///     let run = worker.start(())?;
    ///     worker.fire(1u8)?;
    ///     worker.stop();
    ///     run.join()?;
    /// }
    /// assert_eq!(count.load(Ordering::Relaxed), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn for_one_run(mut self) -> Listen {
        self.for_one_run = true;
        self
    }

    /// Adds the listener to this thread, as [`listen`] does.
    pub fn on<T: Send + 'static, R: ListenerResult>(
        self,
        mut listener: impl FnMut(&Event<T>) -> R + 'static,
    ) -> ListenerId {
        let callback = Callback::Local(Box::new(move |event| listener(event).into_failure()));
        EventLoop::current().add_listener(self.entry(None, callback))
    }

    /// Adds a listener of [`Named`] events to this thread, as [`listen_named`] does.
    pub fn on_named<R: ListenerResult>(
        self,
        name: &str,
        mut listener: impl FnMut(&Event<Named>) -> R + 'static,
    ) -> ListenerId {
        let callback = Callback::Local(Box::new(move |event| listener(event).into_failure()));
        EventLoop::current().add_listener(self.entry(Some(named(name)), callback))
    }

    /// Adds a listener to a worker, as [`Remote::listen`] does.
    pub fn on_worker<T: Send + 'static, R: ListenerResult>(
        self,
        worker: &Remote,
        mut listener: impl FnMut(&Event<T>) -> R + Send + 'static,
    ) -> ListenerId {
        let entry = KeptClosure {
            id: ListenerId::next(),
            how: self,
            callback: Box::new(move |event: &Event<T>| listener(event).into_failure()),
        };
        let id = entry.id;
        worker.0.keep_listener(Box::new(entry));
        id
    }

    fn entry<T>(self, filter: Option<Filter<T>>, callback: Callback<T>) -> Rc<Listener<T>> {
        Rc::new(Listener {
            id: ListenerId::next(),
            how: self,
            filter,
            live: Cell::new(true),
            callback: Cell::new(Some(callback)),
            backlog: RefCell::default(),
        })
    }
}

fn named(name: &str) -> Filter<Named> {
    let name = name.to_owned();
    Box::new(move |event| event.name() == name)
}

/// A predicate over events.
pub(crate) type Filter<T> = Box<dyn Fn(&Event<T>) -> bool>;

enum Callback<T> {
    /// A callback that ends with the run.
    Local(LocalCallback<T>),
    /// A callback that stays for the next run.
    Kept(KeptCallback<T>),
}

/// A callback returns the error to report.
type LocalCallback<T> = Box<dyn FnMut(&Event<T>) -> Option<String>>;
type KeptCallback<T> = Box<dyn FnMut(&Event<T>) -> Option<String> + Send>;

/// A listener that is attached to a loop.
pub(crate) struct Listener<T> {
    pub(crate) id: ListenerId,
    how: Listen,
    filter: Option<Filter<T>>,
    /// Cleared when the listener is removed: an older copy of the list may still name it.
    live: Cell<bool>,
    /// The callback; empty while it is being called.
    callback: Cell<Option<Callback<T>>>,
    /// Events that came while it was being called.
    backlog: RefCell<VecDeque<Rc<Event<T>>>>,
}

impl<T: Send + 'static> Listener<T> {
    pub(crate) fn priority(&self) -> i32 {
        self.how.priority
    }

    /// Takes the listener out of service. Its closure is dropped here, unless it is being called.
    pub(crate) fn retire(&self) {
        self.live.set(false);
        let (callback, backlog) = (self.callback.take(), self.backlog.take());
        threadwire_guard::discard(callback);
        threadwire_guard::discard_all(backlog);
    }

    /// Calls the listener for an event that fits, or keeps the event if the listener is being called (re-entrancy). Returns whether
    /// it fits.
    pub(crate) fn offer(&self, event: &mut MaybeShared<T>, topic: &Topic<T>, event_loop: &EventLoop) -> bool {
        if !self.live.get() || self.how.from.is_some_and(|from| event.sender != Some(from)) {
            return false;
        }
        if self.filter.as_ref().is_some_and(|fits| !fits(event)) {
            return false;
        }
        let Some(mut callback) = self.callback.take() else {
            self.backlog.borrow_mut().push_back(event.share());
            return true;
        };
        if self.how.once {
            topic.remove(self.id);
        }
        self.call(&mut callback, event, event_loop);
        while self.live.get() {
            let kept = self.backlog.borrow_mut().pop_front();
            let Some(kept) = kept else { break };
            self.call(&mut callback, &kept, event_loop);
        }
        if self.live.get() {
            self.callback.set(Some(callback));
        } else {
            // It was removed meanwhile.
            threadwire_guard::discard(callback);
        }
        true
    }

    fn call(&self, callback: &mut Callback<T>, event: &Event<T>, event_loop: &EventLoop) {
        let called = threadwire_guard::run(|| match callback {
            Callback::Local(callback) => callback(event),
            Callback::Kept(callback) => callback(event),
        });
        match called {
            Ok(None) => {}
            Ok(Some(error)) => event_loop.listener_failed::<T>(self.id, error),
            Err(panicked) => event_loop.listener_failed::<T>(self.id, panicked.message().to_owned()),
        }
    }

    /// Takes the callback out, if it stays for the next run of the worker.
    pub(crate) fn keep(&self) -> Option<Box<dyn KeptListener>> {
        match self.callback.take() {
            Some(Callback::Kept(callback)) if self.live.get() && !self.how.for_one_run => {
                Some(Box::new(KeptClosure { id: self.id, how: self.how, callback }))
            }
            other => {
                threadwire_guard::discard(other);
                None
            }
        }
    }
}

struct KeptClosure<T> {
    id: ListenerId,
    how: Listen,
    callback: KeptCallback<T>,
}

impl<T: Send + 'static> KeptListener for KeptClosure<T> {
    fn id(&self) -> ListenerId {
        self.id
    }

    fn is_permanent(&self) -> bool {
        !self.how.for_one_run
    }

    fn attach(self: Box<Self>, event_loop: &EventLoop) {
        event_loop.add_listener(Rc::new(Listener {
            id: self.id,
            how: self.how,
            filter: None,
            live: Cell::new(true),
            callback: Cell::new(Some(Callback::Kept(self.callback))),
            backlog: RefCell::default(),
        }));
    }
}

impl Remote {
    /// Adds a listener to the worker, from any thread. Other than those of [`listen`](crate::listen), it stays when the
    /// worker ends, for its next start. [`Listen::on_worker`] has options, such as to [end with the run](Listen::for_one_run).
    pub fn listen<T: Send + 'static, R: ListenerResult>(
        &self,
        listener: impl FnMut(&Event<T>) -> R + Send + 'static,
    ) -> ListenerId {
        Listen::new().on_worker(self, listener)
    }
}

impl EventLoop {
    /// Reports that a listener of `T` failed.
    pub(crate) fn listener_failed<T: 'static>(&self, listener: ListenerId, error: String) {
        let (worker, event) = (self.remote(), type_name::<T>());
        // The failure of a listener of failures is not told by another event: that would have no end.
        let is_about_failure = TypeId::of::<T>() == TypeId::of::<ListenerFailed>();
        let failure = ListenerFailed { worker, listener, event, error };
        if is_about_failure || !self.worker().report(&failure) {
            let worker = self.worker().label();
            tracing::error!(worker, event, error = failure.error, "a listener failed");
        }
    }
}

impl WorkerState {
    /// Fires a listener's failure at it and at those above it, where it is wanted. Returns whether anybody wanted it.
    pub(crate) fn report(self: &Arc<WorkerState>, failure: &ListenerFailed) -> bool {
        let mut next = Some(Arc::clone(self));
        let mut told = false;
        while let Some(worker) = next {
            told |= worker.wants(Wanted::FAILURES) && worker.inform(failure.clone());
            next = worker.life().parent.clone();
        }
        told
    }
}
