//! Workers as threads that run boxed closures out of a crossbeam channel, whose receivers spin and yield a little before they
//! park.

use super::arm::Arm;
use super::duty::{Duty, Event};
use crate::fail;
use crate::fail::Result;
use crossbeam_channel::Sender;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// A thread that runs closures.
pub(crate) struct Crossbeam {
    calls: Sender<Call>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

type Call = Box<dyn FnOnce(&mut Duty<Crossbeam>) + Send>;

impl Arm for Crossbeam {
    const NAME: &'static str = "crossbeam-channel";

    type Remote = Sender<Call>;

    fn spawn(mut duty: Duty<Crossbeam>) -> Result<Crossbeam> {
        let (calls, inbox) = crossbeam_channel::unbounded::<Call>();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::Builder::new().spawn(move || {
            for call in inbox {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                call(&mut duty);
            }
        })?;
        Ok(Crossbeam { calls, stop, thread })
    }

    fn remote(&self) -> Sender<Call> {
        self.calls.clone()
    }

    #[inline]
    fn fire(remote: &Sender<Call>, event: Event) -> Result<()> {
        remote.send(Box::new(move |duty| duty.on(event))).map_err(|_| fail!("the worker has ended"))
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // The empty call only wakes the thread; an ended one needs no waking.
        let _ = self.calls.send(Box::new(|_| {}));
    }

    fn join(self) -> Result<()> {
        self.thread.join().map_err(|_| fail!("the worker panicked"))
    }
}
