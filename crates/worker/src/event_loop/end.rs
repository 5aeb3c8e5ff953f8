//! The end of an event loop: with its worker's run, or with a thread that is no worker.

use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tracing::dispatcher::{self, Dispatch};

use super::inbox::STOP;
use super::mail::Mail;
use super::source_table::SourceEntry;
use super::stall::Holder;
use super::timer;
use super::worker_state::WorkerState;
use super::{EventLoop, contain};
use crate::Outcome;

impl EventLoop {
    /// The end of a run: mail that was left for the worker before is still delivered (for at most `grace`); then the children
    /// are stopped and waited for, and every source is told to stop, and has until `grace` has passed to detach. Waits return
    /// [`Stopped`] at once from here on. Returns how many sources had to be abandoned.
    pub(crate) fn finish(&self, grace: Duration) -> usize {
        self.worker.stop(STOP);
        self.finished.set(true);
        let mut deadline = timer::after(Instant::now(), grace);
        let turn = |until| contain(|| self.turn(until));
        loop {
            turn(Some(Instant::now()));
            if self.worker.inbox.len() == 0 || Instant::now() >= deadline {
                break;
            }
        }
        deadline = timer::after(Instant::now(), grace);
        self.worker.stop_children();
        let mut abandoned = 0;
        loop {
            // Sources that have come meanwhile are told too.
            self.tell_to_stop();
            let now = Instant::now();
            if now >= deadline {
                abandoned += self.abandon_sources();
            }
            let has_sources = self.source_count() > 0;
            // Children are looked at before the inbox: the last thing that a child does is to send mail, and then it is gone.
            let has_children = self.worker.must_wait_for_children();
            let has_mail = self.worker.inbox.len() > 0 && now < deadline;
            if !has_sources && !has_children && !has_mail {
                break;
            }
            turn(if has_mail { Some(now) } else { has_sources.then_some(deadline) });
        }
        let is_late = Instant::now() >= deadline;
        self.close(|mail| if is_late { mail.discard(&self.remote()) } else { self.deliver(mail) });
        self.worker.store_kept(self.kept_listeners());
        abandoned += self.let_go();
        // Children may have been started by the last mail, or by the drop of a value.
        self.worker.await_children_that_count();
        abandoned
    }

    /// The end of a thread that is no worker. The loop turns no more: sources are let go of at once.
    pub(super) fn end_of_thread(&self) {
        if self.finished.replace(true) {
            return;
        }
        self.leaves.set(true);
        self.abandon_sources();
        self.close(|mail| mail.discard(&self.remote()));
        self.worker.stop_children();
        let left = self.worker.await_children(self.grace.get());
        if !left.is_empty() {
            report_elsewhere(left, self.worker.label());
        }
        self.let_go();
        self.worker.end(Outcome::Done);
    }

    /// Closes the inbox, and deals with the mail that is left.
    fn close(&self, deal_with: impl Fn(Box<dyn Mail>)) {
        let late = self.worker.inbox.close();
        let taken = self.mail.take();
        self.worker.inbox.set_taken(0);
        taken.into_iter().chain(late).for_each(|mail| contain(|| deal_with(mail)));
    }

    /// Tells each source, once, that the loop is about to end.
    fn tell_to_stop(&self) {
        if !self.untold.replace(false) {
            return;
        }
        let mut untold = Vec::new();
        for (_, entry) in self.sources.borrow_mut().iter_mut().filter(|(_, entry)| !entry.told) {
            entry.told = true;
            untold.push(entry.token);
        }
        for token in untold {
            if let Some(source) = self.source(token) {
                let _held = self.hold(|| Holder::Source(Rc::clone(&source)));
                contain(|| source.stop());
            }
        }
    }

    /// Lets go of the sources that are left. Returns how many there were.
    fn abandon_sources(&self) -> usize {
        let left: Vec<SourceEntry> = self.sources.borrow_mut().drain().collect();
        for entry in &left {
            contain(|| Rc::clone(&entry.source).abandon());
        }
        let count = left.len();
        threadwire_guard::discard_all(left);
        count
    }

    /// Lets go of everything.
    fn let_go(&self) -> usize {
        let count = self.abandon_sources();
        let timers = self.timers.borrow_mut().take_all();
        threadwire_guard::discard_all(timers);
        self.keeping.take();
        self.forget_topics();
        count
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        if self.finished.get() {
            self.let_go();
        } else {
            // Such a loop was made while its thread was ending.
            quietly(|| self.end_of_thread());
        }
    }
}

/// Runs code in a destructor of a thread-local, where a panic would end the process, and where a logger must not be called: it may keep
/// something in a thread-local of its own that is gone by now. So nothing is logged meanwhile on this thread, by nobody.
pub(super) fn quietly(code: impl FnOnce()) {
    dispatcher::with_default(&Dispatch::none(), || drop(threadwire_guard::run(code)));
}

/// Reports the workers that a thread has left at work: from another thread, as this one may log no more.
fn report_elsewhere(left: Vec<Arc<WorkerState>>, parent: String) {
    /// How long a logger may take.
    const PATIENCE: Duration = Duration::from_secs(1);
    let (done, is_done) = mpsc::channel::<()>();
    let report = move || {
        for worker in left {
            let (worker, parent) = (worker.label(), &parent);
            tracing::warn!(
                worker,
                parent,
                "a worker is still at work at the end of the thread that started it"
            );
        }
        drop(done);
    };
    // Not joined, but waited for: some systems start and end no thread while a destructor of a thread-local runs.
    if thread::Builder::new().spawn(report).is_ok() {
        let _ = is_done.recv_timeout(PATIENCE);
    }
}
