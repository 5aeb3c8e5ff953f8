//! Nesting of waits: who waits inside of whom, and the error that names them where that gets too deep.
//!
//! Each callback is noted before it is entered, by what can be had for nothing (a token, a place, a type's name). A wait inside of it
//! puts that on a list for as long as it lasts. Names are made of it only for the error.

use std::cell::{Cell, RefCell};
use std::panic::Location;
use std::thread;

use super::EventLoop;
use super::stall::Holder;
use crate::Token;

#[derive(Default)]
pub(super) struct Nesting {
    /// The code that was entered last, by the wait that turns now.
    pub(super) running: Cell<Running>,
    /// The waits in callbacks that are under way, the outermost first: in what code each is, and where.
    waits: RefCell<Vec<(Running, &'static Location<'static>)>>,
    /// Whether it was told that waits are nested too deep, until they are not nested half as deep any more.
    is_told: Cell<bool>,
}

/// Code that may wait.
#[derive(Clone, Copy, Default)]
pub(super) enum Running {
    #[default]
    Task,
    Source(Token),
    Timer(&'static Location<'static>),
    Mail(&'static str),
}

impl EventLoop {
    /// Begins a wait, which is over when the guard is dropped.
    pub(super) fn nest(&self, place: &'static Location<'static>) -> Nested<'_> {
        let (depth, running) = (self.depth.get(), self.nesting.running.take());
        self.depth.set(depth + 1);
        if depth > 0 {
            self.nesting.waits.borrow_mut().push((running, place));
        }
        if depth == EventLoop::MAX_NESTING && !self.nesting.is_told.replace(true) {
            self.tell_of_nesting();
        }
        Nested { event_loop: self, depth, running }
    }

    #[cold]
    fn tell_of_nesting(&self) {
        // A name may come from users, and a panic in there would be the second.
        if thread::panicking() {
            return;
        }
        let waits = self.nesting.waits.borrow().clone();
        let waits =
            waits.into_iter().map(|(running, place)| format!("{} (at {place})", self.name_of(running)));
        let (worker, waits) = (self.worker.label(), waits.collect::<Vec<_>>().join(", and in that "));
        tracing::error!(
            worker,
            waits,
            "waits are nested {} deep: no callback, timer or mail runs until one of them ends",
            EventLoop::MAX_NESTING
        );
    }

    fn name_of(&self, running: Running) -> String {
        let holder = match running {
            Running::Task => Holder::Task,
            Running::Timer(place) => Holder::Timer(place),
            Running::Mail(name) => return format!("the call or event {name}"),
            Running::Source(token) => match self.source(token) {
                Some(source) => Holder::Source(source),
                None => return "a source that has ended".into(),
            },
        };
        holder.name().into_owned()
    }
}

/// A wait that is under way.
pub(super) struct Nested<'a> {
    event_loop: &'a EventLoop,
    depth: usize,
    running: Running,
}

impl Drop for Nested<'_> {
    fn drop(&mut self) {
        let Nested { event_loop, depth, running } = *self;
        let nesting = &event_loop.nesting;
        event_loop.depth.set(depth);
        nesting.running.set(running);
        if depth > 0 {
            nesting.waits.borrow_mut().truncate(depth - 1);
        }
        if depth <= EventLoop::MAX_NESTING / 2 {
            nesting.is_told.set(false);
        }
    }
}
