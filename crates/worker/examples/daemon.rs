//! Daemons: a worker that ends stops all below it, but waits only for those that are no daemons. Nothing is killed: a daemon
//! too cleans up and ends, and its end is told to those who watch it.

use std::error::Error;
use std::sync::mpsc;

use threadwire_worker::{
    Event, EventLoop, Outcome, Remote, Status, StatusChange, Stopped, Worker, wait_event, wait_for,
    wait_forever,
};

struct Hired {
    child: Remote,
    daemon: Remote,
}

/// Is busy with something that sees no stop, for as long as `busy` is there.
fn background(busy: &mpsc::Receiver<()>) -> Result<(), Stopped> {
    let _ = busy.recv();
    wait_forever()
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let here = EventLoop::current().remote();
    let (work, busy) = mpsc::channel::<()>();
    let parent = Worker::spawn(move || {
        let child = Worker::spawn(wait_forever);
        let daemon = Worker::builder().name("in the background").daemon(true);
        let daemon = daemon.spawn(move || background(&busy)).expect("there is room for a thread");
        let _ = here.fire(Hired { child: child.remote(), daemon: daemon.remote() });
        wait_forever()
    });
    let hired = wait_event::<Hired>()?;
    let Hired { child, daemon } = &hired.data;
    daemon.watch();

    parent.stop();
    assert!(parent.join()?.was_stopped());
    assert_eq!(child.status(), Status::Ended(Outcome::Stopped));
    assert_eq!(daemon.status(), Status::Stopping);
    println!("the parent and the child have ended, and {daemon:?} was asked to");

    drop(work);
    let ended = |change: &Event<StatusChange>| matches!(change.status, Status::Ended(_));
    if let Some(change) = wait_for().matching(ended).wait()? {
        println!("{:?}: {:?}", change.worker, change.status);
    }
    assert_eq!(daemon.status(), Status::Ended(Outcome::Stopped));
    Ok(())
}
