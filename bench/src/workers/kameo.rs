//! Workers as actors of kameo, with unbounded mailboxes: tasks on a runtime of two threads, as kameo is mostly used, and each on
//! a thread of its own (`spawn_in_thread`).

use super::arm::Arm;
use super::duty::{Duty, Event};
use super::runtime::tokio_runtime;
use crate::fail;
use crate::fail::Result;
use kameo::actor::{ActorRef, PreparedActor};
use kameo::error::{ActorStopReason, Infallible, PanicError};
use kameo::mailbox;
use kameo::message::{Context, Message};
use std::thread;

/// An actor with a thread.
pub(crate) struct Kameo {
    actor: ActorRef<Worker<Kameo>>,
    thread: thread::JoinHandle<Ended<Worker<Kameo>>>,
}

/// An actor that is a task.
pub(crate) struct KameoTask {
    actor: ActorRef<Worker<KameoTask>>,
    task: tokio::task::JoinHandle<Ended<Worker<KameoTask>>>,
}

type Ended<A> = std::result::Result<(A, ActorStopReason), PanicError>;

/// The actor, of both.
pub(crate) struct Worker<A: Arm>(Duty<A>);

impl<A: Arm> kameo::Actor for Worker<A> {
    type Args = Duty<A>;
    type Error = Infallible;

    async fn on_start(duty: Duty<A>, _: ActorRef<Worker<A>>) -> std::result::Result<Worker<A>, Infallible> {
        Ok(Worker(duty))
    }
}

impl<A: Arm> Message<Event> for Worker<A> {
    type Reply = ();

    async fn handle(&mut self, event: Event, _: &mut Context<Worker<A>, ()>) {
        self.0.on(event);
    }
}

#[inline]
fn fire<A: Arm>(actor: &ActorRef<Worker<A>>, event: Event) -> Result<()> {
    Ok(actor.tell(event).try_send()?)
}

fn stop<A: Arm>(actor: &ActorRef<Worker<A>>) {
    if let Ok(runtime) = tokio_runtime() {
        // An ended actor needs no stop.
        let _ = runtime.block_on(actor.stop_gracefully());
    }
}

impl Arm for Kameo {
    const NAME: &'static str = "kameo";

    type Remote = ActorRef<Worker<Kameo>>;

    fn spawn(duty: Duty<Kameo>) -> Result<Kameo> {
        let _runtime = tokio_runtime()?.enter();
        let prepared = PreparedActor::new(mailbox::unbounded());
        let actor = prepared.actor_ref().clone();
        Ok(Kameo { actor, thread: prepared.spawn_in_thread(duty) })
    }

    fn remote(&self) -> ActorRef<Worker<Kameo>> {
        self.actor.clone()
    }

    #[inline]
    fn fire(remote: &ActorRef<Worker<Kameo>>, event: Event) -> Result<()> {
        fire(remote, event)
    }

    fn stop(&self) {
        stop(&self.actor);
    }

    fn join(self) -> Result<()> {
        self.thread.join().map_err(|_| fail!("the actor's thread panicked"))??;
        Ok(())
    }
}

impl Arm for KameoTask {
    const NAME: &'static str = "kameo tasks";
    const THREADS: bool = false;

    type Remote = ActorRef<Worker<KameoTask>>;

    fn spawn(duty: Duty<KameoTask>) -> Result<KameoTask> {
        let _runtime = tokio_runtime()?.enter();
        let prepared = PreparedActor::new(mailbox::unbounded());
        let actor = prepared.actor_ref().clone();
        Ok(KameoTask { actor, task: prepared.spawn(duty) })
    }

    fn remote(&self) -> ActorRef<Worker<KameoTask>> {
        self.actor.clone()
    }

    #[inline]
    fn fire(remote: &ActorRef<Worker<KameoTask>>, event: Event) -> Result<()> {
        fire(remote, event)
    }

    fn stop(&self) {
        stop(&self.actor);
    }

    fn join(self) -> Result<()> {
        tokio_runtime()?.block_on(self.task)??;
        Ok(())
    }
}
