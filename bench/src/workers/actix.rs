//! Workers as actors of actix, each alone on an `Arbiter`, which is a thread of its own. (More often many share one.)

use super::arm::Arm;
use super::duty::{Duty, Event};
use crate::fail;
use crate::fail::Result;
use actix::{Actor, Addr, Context, Handler, Message};
use actix_rt::{Arbiter, System};
use std::sync::{OnceLock, mpsc};
use std::thread;

/// An actor and its thread.
pub(crate) struct Actix {
    address: Addr<Worker>,
    arbiter: Arbiter,
}

/// The actor.
pub(crate) struct Worker(Duty<Actix>);

impl Actor for Worker {
    type Context = Context<Worker>;
}

impl Message for Event {
    type Result = ();
}

impl Handler<Event> for Worker {
    type Result = ();

    #[inline]
    fn handle(&mut self, event: Event, _: &mut Context<Worker>) {
        self.0.on(event);
    }
}

/// The system that arbiters belong to, on a thread of its own. It runs until the process ends.
fn system() -> Result<System> {
    static SYSTEM: OnceLock<System> = OnceLock::new();
    if let Some(system) = SYSTEM.get() {
        return Ok(system.clone());
    }
    let (started, start) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let runner = System::new();
        // The thread that started this one waits.
        let _ = started.send(System::current());
        let _ = runner.run();
    })?;
    let system = start.recv().map_err(|_| fail!("the system did not start"))?;
    Ok(SYSTEM.get_or_init(|| system).clone())
}

impl Arm for Actix {
    const NAME: &'static str = "actix";

    type Remote = Addr<Worker>;

    fn spawn(duty: Duty<Actix>) -> Result<Actix> {
        if System::try_current().is_none() {
            System::set_current(system()?);
        }
        let arbiter = Arbiter::try_new()?;
        let address = Worker::start_in_arbiter(&arbiter.handle(), |_| Worker(duty));
        Ok(Actix { address, arbiter })
    }

    fn remote(&self) -> Addr<Worker> {
        self.address.clone()
    }

    #[inline]
    fn fire(remote: &Addr<Worker>, event: Event) -> Result<()> {
        // `do_send` does not report a dead actor.
        remote.do_send(event);
        Ok(())
    }

    fn stop(&self) {
        self.arbiter.stop();
    }

    fn join(self) -> Result<()> {
        self.arbiter.join().map_err(|_| fail!("the arbiter panicked"))
    }
}
