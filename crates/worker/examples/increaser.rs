//! A restartable worker that counts. From the main thread it is started, asked, set, paused, resumed, stopped and started again,
//! all by events: it needs no lock, since its listeners are called on its own thread, while it waits.

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use threadwire_worker::{Event, EventLoop, Remote, Restartable, Stopped, listen, sleep, wait_event};

struct Set(u64);
/// To be answered.
struct Ask(Remote);
struct Answer(u64);

fn increase() -> Result<(), Stopped> {
    let number = Rc::new(Cell::new(0));
    let (sets, tells) = (Rc::clone(&number), Rc::clone(&number));
    listen(move |event: &Event<Set>| sets.set(event.0));
    listen(move |event: &Event<Ask>| event.data.0.fire(Answer(tells.get())));
    loop {
        sleep(Duration::from_millis(1))?;
        number.set(number.get() + 1);
    }
}

fn ask(increaser: &Remote) -> Result<u64, Box<dyn Error>> {
    increaser.fire(Ask(EventLoop::current().remote()))?;
    Ok(wait_event::<Answer>()?.data.0)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let increaser = Restartable::new(|()| increase());
    let run = increaser.start(())?;
    while ask(&increaser)? < 3 {}

    increaser.pause();
    let held = ask(&increaser)?;
    println!("held at {held}");
    assert_eq!(ask(&increaser)?, held, "it is held, and answers all the same");
    increaser.fire(Set(1_000_000))?;
    assert_eq!(ask(&increaser)?, 1_000_000);
    increaser.resume();
    while ask(&increaser)? <= 1_000_000 {}
    println!("it goes on from there");

    increaser.stop();
    assert!(run.join()?.was_stopped());
    println!("started again");
    let run = increaser.start(())?;
    assert!(ask(&increaser)? < 1_000_000);
    increaser.stop();
    assert!(run.join()?.was_stopped());
    Ok(())
}
