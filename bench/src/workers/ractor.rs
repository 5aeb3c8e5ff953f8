//! Workers as actors of ractor: tasks on a runtime of two threads, as ractor is mostly used, and each on a thread of its own, by
//! a `ThreadLocalActorSpawner` for each.

use super::arm::Arm;
use super::duty::{Duty, Event};
use super::runtime::tokio_runtime;
use crate::fail::Result;
use ractor::thread_local::{ThreadLocalActor, ThreadLocalActorSpawner};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinHandle;

/// An actor with a thread.
pub(crate) struct Ractor {
    actor: ActorRef<Event>,
    task: JoinHandle<()>,
}

/// An actor that is a task.
pub(crate) struct RactorTask {
    actor: ActorRef<Event>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Local;

impl ThreadLocalActor for Local {
    type Msg = Event;
    type State = Duty<Ractor>;
    type Arguments = Duty<Ractor>;

    async fn pre_start(
        &self,
        _: ActorRef<Event>,
        duty: Duty<Ractor>,
    ) -> std::result::Result<Duty<Ractor>, ActorProcessingErr> {
        Ok(duty)
    }

    async fn handle(
        &self,
        _: ActorRef<Event>,
        event: Event,
        duty: &mut Duty<Ractor>,
    ) -> std::result::Result<(), ActorProcessingErr> {
        duty.on(event);
        Ok(())
    }
}

struct Task;

impl Actor for Task {
    type Msg = Event;
    type State = Duty<RactorTask>;
    type Arguments = Duty<RactorTask>;

    async fn pre_start(
        &self,
        _: ActorRef<Event>,
        duty: Duty<RactorTask>,
    ) -> std::result::Result<Duty<RactorTask>, ActorProcessingErr> {
        Ok(duty)
    }

    async fn handle(
        &self,
        _: ActorRef<Event>,
        event: Event,
        duty: &mut Duty<RactorTask>,
    ) -> std::result::Result<(), ActorProcessingErr> {
        duty.on(event);
        Ok(())
    }
}

impl Arm for Ractor {
    const NAME: &'static str = "ractor";

    type Remote = ActorRef<Event>;

    fn spawn(duty: Duty<Ractor>) -> Result<Ractor> {
        // The thread ends with its spawner and its actors.
        let spawner = ThreadLocalActorSpawner::new();
        let (actor, task) = tokio_runtime()?.block_on(ractor::spawn_local::<Local>(duty, spawner))?;
        Ok(Ractor { actor, task })
    }

    fn remote(&self) -> ActorRef<Event> {
        self.actor.clone()
    }

    #[inline]
    fn fire(remote: &ActorRef<Event>, event: Event) -> Result<()> {
        Ok(remote.cast(event)?)
    }

    fn stop(&self) {
        self.actor.stop(None);
    }

    fn join(self) -> Result<()> {
        Ok(tokio_runtime()?.block_on(self.task)?)
    }
}

impl Arm for RactorTask {
    const NAME: &'static str = "ractor tasks";
    const THREADS: bool = false;

    type Remote = ActorRef<Event>;

    fn spawn(duty: Duty<RactorTask>) -> Result<RactorTask> {
        let (actor, task) = tokio_runtime()?.block_on(Task::spawn(None, Task, duty))?;
        Ok(RactorTask { actor, task })
    }

    fn remote(&self) -> ActorRef<Event> {
        self.actor.clone()
    }

    #[inline]
    fn fire(remote: &ActorRef<Event>, event: Event) -> Result<()> {
        Ok(remote.cast(event)?)
    }

    fn stop(&self) {
        self.actor.stop(None);
    }

    fn join(self) -> Result<()> {
        Ok(tokio_runtime()?.block_on(self.task)?)
    }
}
