//! Round trips that the program asks for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use threadwire_core::session::round_trip::Measurement;
use threadwire_proto::keepalive::Hold;
use threadwire_worker::{Defer, EventLoop, Resolver, TimeKeeper, TimerId};

use super::{Connection, WeakConnection};
use crate::error::TimeoutKind;
use crate::{Error, Handle};

type Done = Box<dyn FnOnce(Result<Vec<Duration>, Error>)>;

/// Measurements that are under way: one after the other.
#[derive(Default)]
pub(super) struct Measuring {
    queue: VecDeque<Job>,
    timer: Option<TimerId>,
    time: Option<TimeKeeper>,
    /// Whether a pong was given more time because nothing was read.
    was_paused: bool,
}

struct Job {
    measurement: Measurement,
    done: Done,
}

impl Job {
    /// Tells the program. Where that panics, it is as with a callback, as long as there is a connection to close.
    fn finish(self, ws: &Connection, measured: Result<(), Error>) {
        let Job { measurement, done } = self;
        let times = measured.map(|()| measurement.into_times());
        let Err(panicked) = threadwire_guard::run(|| done(times)) else { return };
        let error = Error::panicked(panicked);
        if ws.is_open() {
            ws.callback_failed(error);
        } else {
            tracing::error!(%error, "what a measurement was for failed");
        }
    }
}

impl Connection {
    /// Measures how long a ping takes to come back, this many times, one after the other, while this thread's loop goes on.
    ///
    /// Keepalive pings are held back meanwhile. Fails with [`Error::Timeout`] if a pong takes longer than
    /// [`Keepalive::reply_timeout`](crate::Keepalive::reply_timeout) (20 s without keepalive), with [`Error::Closed`] if the
    /// connection closes, and with [`Error::Stopped`]. In a callback of the same connection, whose input waits until the
    /// callback returns, it fails at once: there is [`measure_roundtrip_then`](Connection::measure_roundtrip_then) for that.
    ///
    /// ```
    /// use threadwire::{Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// let times = ws.measure_roundtrip(3)?;
    /// println!("{:?} at best", times.iter().min());
    /// # assert_eq!(times.len(), 3);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn measure_roundtrip(&self, rounds: usize) -> Result<Vec<Duration>, Error> {
        self.await_measurement(Measurement::new(rounds))
    }

    /// Sends a ping, and waits for its pong, while this thread's loop goes on: how long that took. An empty payload stands for one
    /// that no other ping has. At most one is under way, this and [`measure_roundtrip`](Connection::measure_roundtrip) together.
    /// Fails as that does, and with [`Error::Send`] for a payload of more than 125 bytes.
    ///
    /// ```
    /// use threadwire::{Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let ws = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?;
    /// println!("answered after {:?}", ws.roundtrip(b"")?);
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn roundtrip(&self, payload: &[u8]) -> Result<Duration, Error> {
        self.await_measurement(Measurement::of(payload)).map(Measurement::only)
    }

    fn await_measurement(&self, measurement: Measurement) -> Result<Vec<Duration>, Error> {
        if self.0.listener.borrow().is_none() && !self.0.reported.get() {
            return Err(Error::other("round trips can't be waited for in a callback of the same connection"));
        }
        let result = Rc::new(RefCell::new(None));
        let leave = Rc::clone(&result);
        self.measure_then(measurement, Box::new(move |times| *leave.borrow_mut() = Some(times)));
        EventLoop::current().wait(None, || result.borrow().is_some())?;
        let result = result.borrow_mut().take();
        result.unwrap_or(Err(Error::Stopped))
    }

    /// As [`measure_roundtrip`](Connection::measure_roundtrip), but returns at once, and has `done` called with the result.
    pub fn measure_roundtrip_then(
        &self,
        rounds: usize,
        done: impl FnOnce(Result<Vec<Duration>, Error>) + 'static,
    ) {
        self.measure_then(Measurement::new(rounds), Box::new(done));
    }

    /// As [`roundtrip`](Connection::roundtrip), but returns at once, and has `done` called with the result.
    pub fn roundtrip_then(&self, payload: &[u8], done: impl FnOnce(Result<Duration, Error>) + 'static) {
        let done = move |times: Result<_, _>| done(times.map(Measurement::only));
        self.measure_then(Measurement::of(payload), Box::new(done));
    }

    fn measure_then(&self, measurement: Measurement, done: Done) {
        if !self.is_open() {
            return done(Err(Error::Closed));
        }
        if measurement.is_done() {
            return done(Ok(measurement.into_times()));
        }
        let job = Job { measurement, done };
        let is_first = {
            let mut extras = self.0.extras.borrow_mut();
            let measuring = extras.get_or_insert_default().measuring.get_or_insert_default();
            measuring.queue.push_back(job);
            measuring.queue.len() == 1
        };
        if is_first {
            self.hold_pulse(Hold::Measuring);
            self.measure_next();
        }
    }

    /// Sends the ping of the next round.
    fn measure_next(&self) {
        self.set_measuring_timer();
        let payload = self.with_extras(|extras| {
            let measuring = extras.measuring.as_mut()?;
            Some(measuring.queue.front_mut()?.measurement.begin(Instant::now()))
        });
        let Some(payload) = payload else { return };
        if let Err(error) = self.ping(&payload) {
            let mut error = Some(error);
            return self.end_measuring(|| error.take().unwrap_or(Error::Closed));
        }
        // The way to the loop's next turn is none of the network's.
        self.flush();
    }

    /// For the pong that is awaited.
    fn set_measuring_timer(&self) {
        let limit = Measurement::limit(&self.0.site.config);
        let weak = WeakConnection(Rc::downgrade(&self.0));
        let event_loop = EventLoop::current();
        self.with_extras(|extras| {
            let measuring = extras.measuring.as_mut()?;
            if let Some(timer) = measuring.timer.take() {
                event_loop.cancel(timer);
            }
            measuring.time.get_or_insert_with(|| event_loop.keep_time());
            let begun = Instant::now();
            measuring.timer = Some(event_loop.after(limit, move || {
                if let Some(connection) = weak.upgrade() {
                    connection.measuring_takes_long(begun, limit);
                }
            }));
            Some(())
        });
    }

    /// A pong takes too long, unless it lies unread: then it gets the same time again.
    fn measuring_takes_long(&self, begun: Instant, limit: Duration) {
        let is_busy = self.0.listener.borrow().is_none();
        let read_until = EventLoop::current().turned_at();
        let was_read = read_until.saturating_duration_since(begun) >= limit;
        let is_paused = !self.reads();
        // Once: it may be the one who waits for this that is to read on.
        let was_paused = self.with_extras(|extras| {
            let measuring = extras.measuring.as_mut()?;
            Some(std::mem::replace(&mut measuring.was_paused, is_paused))
        });
        if is_busy || !was_read || (is_paused && was_paused == Some(false)) {
            self.set_measuring_timer();
        } else {
            self.end_measuring(|| Error::Timeout(TimeoutKind::Pong));
        }
    }

    /// A pong has come that may be of a measurement.
    pub(super) fn measured(&self, payload: &[u8]) {
        let now = Instant::now();
        let finished = self.with_extras(|extras| {
            let measuring = extras.measuring.as_mut()?;
            let measurement = &mut measuring.queue.front_mut()?.measurement;
            let is_answer = measurement.pong_arrived(payload, now);
            let is_done = measurement.is_done();
            is_answer.then(|| if is_done { measuring.queue.pop_front() } else { None })
        });
        let Some(finished) = finished else { return };
        let goes_on = self.with_extras(|extras| Some(!extras.measuring.as_ref()?.queue.is_empty()));
        if goes_on == Some(true) {
            self.measure_next();
        } else {
            self.stop_measuring();
        }
        if let Some(job) = finished {
            job.finish(self, Ok(()));
        }
    }

    fn stop_measuring(&self) -> VecDeque<Job> {
        let measuring = self.with_extras(|extras| extras.measuring.take());
        let Some(measuring) = measuring else { return VecDeque::new() };
        if let Some(timer) = measuring.timer {
            EventLoop::current().cancel(timer);
        }
        self.release_pulse(Hold::Measuring);
        measuring.queue
    }

    /// Nothing more is measured.
    pub(super) fn end_measuring(&self, mut why: impl FnMut() -> Error) {
        for job in self.stop_measuring() {
            job.finish(self, Err(why()));
        }
    }
}

impl Handle {
    /// Measures how long a ping takes to come back, this many times, one after the other: as
    /// [`Connection::measure_roundtrip`], from any thread. What this returns can be waited for
    /// ([`Defer::get`], while this thread's loop goes on), or awaited.
    ///
    /// ```
    /// use threadwire::{Connection, Message, connect};
    /// # use threadwire::{Reply, Server};
    /// # let echo = || Reply::with(|ws: &Connection, m: Message<'_>| ws.send(m));
    /// # let server = Server::bind("127.0.0.1:0")?.serve(move |_| echo())?;
    /// # let url = format!("ws://{}", server.local_addr()?);
    ///
    /// let handle = connect(&url, |_ws: &Connection, _message: Message<'_>| Ok(()))?.handle();
    /// let times = handle.measure_roundtrip(3).get()?;
    /// assert_eq!(times.len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn measure_roundtrip(&self, rounds: usize) -> Defer<Vec<Duration>> {
        let promise = Defer::new();
        let answer = Answer(Some(promise.resolver()));
        self.run(move |ws| ws.measure_roundtrip_then(rounds, move |times| answer.give(times)));
        promise
    }

    /// Sends a ping, and learns how long its pong took: as [`Connection::roundtrip`], from any thread. What this returns can be
    /// waited for ([`Defer::get`]), or awaited.
    pub fn roundtrip(&self, payload: &[u8]) -> Defer<Duration> {
        let promise = Defer::new();
        let (answer, payload) = (Answer(Some(promise.resolver())), payload.to_vec());
        self.run(move |ws| ws.roundtrip_then(&payload, move |time| answer.give(time)));
        promise
    }
}

/// What a measurement comes to, for another thread. Dropped, it never came to the connection.
struct Answer<T: Send + 'static>(Option<Resolver<T>>);

impl<T: Send + 'static> Answer<T> {
    fn give(mut self, times: Result<T, Error>) {
        let Some(resolver) = self.0.take() else { return };
        // The promise may have been dropped.
        match times {
            Ok(times) => drop(resolver.resolve(times)),
            Err(error) => drop(resolver.reject(error)),
        }
    }
}

impl<T: Send + 'static> Drop for Answer<T> {
    fn drop(&mut self) {
        if let Some(resolver) = self.0.take() {
            resolver.reject(Error::Closed);
        }
    }
}
