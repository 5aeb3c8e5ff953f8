//! Workers of Threadwire: with posted closures, and with events that they listen to.

use super::arm::Arm;
use super::duty::{Duty, Event};
use crate::fail::Result;
use std::cell::RefCell;
use threadwire_worker::{Event as Fired, Remote, Worker, listen, wait_forever};

thread_local! {
    /// The duty of the worker that this thread is: what is posted to a loop finds its state on the loop's thread.
    static DUTY: RefCell<Option<Duty<Threadwire>>> = const { RefCell::new(None) };
}

/// A worker to which closures are posted.
pub(crate) struct Threadwire(Worker<()>);

impl Arm for Threadwire {
    const NAME: &'static str = "threadwire";

    type Remote = Remote;

    fn spawn(duty: Duty<Threadwire>) -> Result<Threadwire> {
        let worker = Worker::builder().spawn(move || {
            DUTY.set(Some(duty));
            let stopped = wait_forever();
            DUTY.take();
            stopped
        })?;
        Ok(Threadwire(worker))
    }

    fn remote(&self) -> Remote {
        self.0.remote()
    }

    #[inline]
    fn fire(remote: &Remote, event: Event) -> Result<()> {
        remote.post(move |_| {
            DUTY.with_borrow_mut(|duty| {
                // After the stop, events find the duty done.
                if let Some(duty) = duty {
                    duty.on(event);
                }
            });
        })?;
        Ok(())
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn join(self) -> Result<()> {
        self.0.join()?;
        Ok(())
    }
}

/// A worker that listens to events.
pub(crate) struct ThreadwireEvents(Worker<()>);

impl Arm for ThreadwireEvents {
    const NAME: &'static str = "threadwire events";

    type Remote = Remote;

    fn spawn(mut duty: Duty<ThreadwireEvents>) -> Result<ThreadwireEvents> {
        let worker = Worker::builder().spawn(move || {
            listen(move |event: &Fired<Event>| duty.on(event.data));
            wait_forever()
        })?;
        Ok(ThreadwireEvents(worker))
    }

    fn remote(&self) -> Remote {
        self.0.remote()
    }

    #[inline]
    fn fire(remote: &Remote, event: Event) -> Result<()> {
        remote.fire(event).map_err(|error| error.reason)?;
        Ok(())
    }

    fn stop(&self) {
        self.0.stop();
    }

    fn join(self) -> Result<()> {
        self.0.join()?;
        Ok(())
    }
}
