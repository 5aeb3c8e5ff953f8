//! Channel of events to any number of workers: publish and subscribe.
//!
//! Each subscription has a queue of its own, under a lock of its own, and leaves one ticket in the subscriber's inbox for
//! each event in that queue: a ticket that is delivered takes the next event out. So what waits for a slow subscriber is
//! bounded for that one alone, and an event that is dropped for another one passes its ticket on.

use std::any::type_name;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::event_loop::mail::Mail;
use crate::event_loop::worker_state::WorkerState;
use crate::lock::Lock;
use crate::{Event, EventLoop, Overflow, Remote, Stopped};

/// Publishes values as events to the workers that have subscribed. A cheap clone is the same channel, on any thread.
///
/// A worker that has ended is dropped from the list, and must subscribe again in its next run.
///
/// ```
/// use threadwire_worker::{Channel, wait_event};
///
/// let news = Channel::new();
/// news.subscribe();
/// assert_eq!(news.publish("hello"), 1);
/// assert_eq!(wait_event::<&str>()?.data, "hello");
/// # Ok::<(), threadwire_worker::Stopped>(())
/// ```
pub struct Channel<T> {
    /// The list is copied when it changes, so that nothing is delivered under the lock.
    subscriptions: Arc<Lock<Subscribers<T>>>,
}

type Subscribers<T> = Arc<[Arc<Subscriber<T>>]>;

/// A worker's subscription to a [`Channel`]. It stays when this is dropped; see [`unsubscribe`](Subscription::unsubscribe).
pub struct Subscription<T> {
    channel: Channel<T>,
    subscriber: Arc<Subscriber<T>>,
}

struct Subscriber<T> {
    worker: Weak<WorkerState>,
    limit: Option<(usize, Overflow)>,
    state: Lock<SubscriberQueue<T>>,
    /// The number of events that the subscriber has missed.
    missed: AtomicU64,
}

struct SubscriberQueue<T> {
    queue: VecDeque<Event<T>>,
    is_over: bool,
    /// Publishers that wait for room.
    waiting: Vec<Arc<WorkerState>>,
}

/// The outcome of an event for one subscriber.
enum Offered<T> {
    Taken,
    Missed,
    /// There is no room, and the publisher shall wait.
    Later(Event<T>),
    /// The subscriber has ended.
    Over,
}

impl<T: Clone + Send + 'static> Channel<T> {
    /// A channel without subscribers.
    pub fn new() -> Channel<T> {
        Channel::default()
    }

    /// Subscribes the current worker: it gets values that are published from now on as events, without a limit.
    pub fn subscribe(&self) -> Subscription<T> {
        self.add(&EventLoop::current().remote(), None)
    }

    /// As [`subscribe`](Channel::subscribe), with at most `limit` of this channel's events on their way to the worker.
    /// An event too many is missed (`Overflow::Error`), or drops the oldest, which then is missed, or has the publisher wait.
    ///
    /// With [`Overflow::DropOldest`] the newest event takes the place of the one that was dropped: what the same sender
    /// fired at the worker in between comes after it.
    ///
    /// ```
    /// use threadwire_worker::{Channel, Overflow, wait_event};
    ///
    /// let news = Channel::new();
    /// let subscription = news.subscribe_within(1, Overflow::DropOldest);
    /// news.publish("old");
    /// news.publish("new");
    /// assert_eq!(wait_event::<&str>()?.data, "new");
    /// assert_eq!(subscription.missed(), 1);
    /// # Ok::<(), threadwire_worker::Stopped>(())
    /// ```
    pub fn subscribe_within(&self, limit: usize, overflow: Overflow) -> Subscription<T> {
        self.add(&EventLoop::current().remote(), Some((limit, overflow)))
    }

    /// As [`subscribe`](Channel::subscribe) and [`subscribe_within`](Channel::subscribe_within), for another worker.
    pub fn add(&self, worker: &Remote, limit: Option<(usize, Overflow)>) -> Subscription<T> {
        let subscriber = Arc::new(Subscriber {
            worker: Arc::downgrade(&worker.0),
            limit,
            state: Lock::new(SubscriberQueue { queue: VecDeque::new(), is_over: false, waiting: Vec::new() }),
            missed: AtomicU64::new(0),
        });
        self.change(|list| list.push(Arc::clone(&subscriber)));
        Subscription { channel: self.clone(), subscriber }
    }

    /// Fires an event with a copy of `data` at each subscriber. The current worker is its sender. Returns how many took it.
    ///
    /// Where the policy is to wait, that ends with a stop of the current worker, and the subscriber misses the event. A worker
    /// never waits for itself.
    pub fn publish(&self, data: T) -> usize {
        let subscriptions = Arc::clone(&self.subscriptions.lock());
        let (mut taken, mut has_ended) = (0, false);
        for subscriber in subscriptions.iter() {
            let mut event = Event::new(data.clone());
            loop {
                match subscriber.offer(event) {
                    Offered::Taken => taken += 1,
                    Offered::Missed => subscriber.miss(),
                    Offered::Over => has_ended = true,
                    Offered::Later(later) => {
                        if subscriber.wait_for_room().is_ok() {
                            event = later;
                            continue;
                        }
                        subscriber.miss();
                    }
                }
                break;
            }
        }
        if has_ended {
            self.change(|list| list.retain(|subscriber| !subscriber.state.lock().is_over));
        }
        taken
    }

    /// The number of workers that have subscribed, perhaps with some that have ended since something was published last.
    pub fn subscribers(&self) -> usize {
        self.subscriptions.lock().len()
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Subscriber<T>>>)) {
        let before = {
            let mut subscriptions = self.subscriptions.lock();
            let mut list = subscriptions.to_vec();
            change(&mut list);
            std::mem::replace(&mut *subscriptions, list.into())
        };
        // The subscriptions that are dropped with the old list may call back.
        drop(before);
    }
}

impl<T: Clone + Send + 'static> Subscription<T> {
    /// Gets no more events. Those that are on their way are dropped.
    pub fn unsubscribe(self) {
        self.channel.change(|list| list.retain(|subscriber| !Arc::ptr_eq(subscriber, &self.subscriber)));
        self.subscriber.end();
    }

    /// The number of events that the worker has missed since it fell behind.
    pub fn missed(&self) -> u64 {
        self.subscriber.missed.load(Ordering::Relaxed)
    }

    /// The number of the channel's events that are on their way to the worker.
    pub fn queued(&self) -> usize {
        self.subscriber.state.lock().queue.len()
    }
}

impl<T: Clone + Send + 'static> Subscriber<T> {
    fn offer(self: &Arc<Subscriber<T>>, event: Event<T>) -> Offered<T> {
        let Some(worker) = self.worker.upgrade() else {
            self.end();
            return Offered::Over;
        };
        let is_own = EventLoop::current_id() == Some(worker.id);
        let mut dropped = None;
        {
            let mut state = self.state.lock();
            if state.is_over {
                return Offered::Over;
            }
            if let Some((most, overflow)) = self.limit
                && state.queue.len() >= most
                && !(is_own && overflow == Overflow::Wait)
            {
                match overflow {
                    Overflow::Error => return Offered::Missed,
                    Overflow::Wait => return Offered::Later(event),
                    Overflow::DropOldest => dropped = state.queue.pop_front(),
                }
                if dropped.is_none() {
                    // Room for none at all.
                    return Offered::Missed;
                }
            }
            state.queue.push_back(event);
        }
        if let Some(dropped) = dropped {
            threadwire_guard::discard(dropped);
            // The ticket of the dropped event is good for the new one.
            self.miss();
            return Offered::Taken;
        }
        if worker.inbox.push(Box::new(Ticket(Arc::clone(self))), true).is_err() {
            self.end();
            return Offered::Over;
        }
        Offered::Taken
    }

    fn miss(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    fn wait_for_room(&self) -> Result<(), Stopped> {
        let event_loop = EventLoop::current();
        let has_room = || {
            let mut state = self.state.lock();
            let is_full = !state.is_over && self.limit.is_some_and(|(most, _)| state.queue.len() >= most);
            if is_full && !state.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, event_loop.worker())) {
                state.waiting.push(Arc::clone(event_loop.worker()));
            }
            !is_full
        };
        event_loop.wait(None, has_room).map(drop)
    }

    /// Takes the next event.
    fn take(&self) -> Option<Event<T>> {
        let (event, waiting) = {
            let mut state = self.state.lock();
            (state.queue.pop_front(), std::mem::take(&mut state.waiting))
        };
        waiting.iter().for_each(|waiting| waiting.inbox.poke());
        event
    }

    fn end(&self) {
        let (queue, waiting) = {
            let mut state = self.state.lock();
            state.is_over = true;
            (std::mem::take(&mut state.queue), std::mem::take(&mut state.waiting))
        };
        waiting.iter().for_each(|waiting| waiting.inbox.poke());
        threadwire_guard::discard_all(queue);
    }
}

/// Mail that has the subscriber take the next event of a subscription.
struct Ticket<T>(Arc<Subscriber<T>>);

impl<T: Clone + Send + 'static> Mail for Ticket<T> {
    fn deliver(self: Box<Self>, event_loop: &EventLoop) {
        if let Some(event) = self.0.take() {
            event_loop.dispatch(event);
        }
    }

    fn is_event(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        type_name::<T>()
    }

    fn discard(self: Box<Self>, _by: &Remote) {
        if self.0.take().is_some() {
            self.0.miss();
        }
    }
}

impl<T> Clone for Channel<T> {
    fn clone(&self) -> Channel<T> {
        Channel { subscriptions: Arc::clone(&self.subscriptions) }
    }
}

impl<T> Default for Channel<T> {
    fn default() -> Channel<T> {
        Channel { subscriptions: Arc::new(Lock::new(Arc::new([]))) }
    }
}

impl<T> fmt::Debug for Channel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subscribers = self.subscriptions.lock().len();
        f.debug_struct("Channel").field("subscribers", &subscribers).finish()
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missed = self.subscriber.missed.load(Ordering::Relaxed);
        f.debug_struct("Subscription").field("missed", &missed).finish_non_exhaustive()
    }
}
