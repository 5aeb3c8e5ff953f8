//! Slow work on other threads (`Async`), and a main thread that waits for it: its events go on meanwhile. The same tasks are
//! futures, for code that would rather await them.

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;

use threadwire_worker::{Async, Defer, Event, EventLoop, Remote, Stopped, block_on, listen, update};

struct Progress(u32);

/// Adds numbers, and tells how far it is.
fn add_up(to: u32, progress: &Remote) -> Result<u32, Stopped> {
    let mut sum = 0;
    for number in 1..=to {
        sum += number;
        if progress.fire(Progress(number)).is_err() {
            break; // nobody is there any more
        }
    }
    Ok(sum)
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let seen = Rc::new(Cell::new(0));
    let sees = Rc::clone(&seen);
    listen(move |event: &Event<Progress>| {
        sees.set(event.0);
        println!("progress: {}", event.0);
    });
    let here = EventLoop::current().remote();
    let task = Async::run(move || add_up(10, &here));
    assert_eq!(task.get()?, 55);
    update()?; // the last events may have come together with the result
    assert_eq!(seen.get(), 10);

    let (one, other) = (Async::run(|| Ok(1)), Async::run(|| Ok(2)));
    let bonus = Defer::new();
    let resolver = bonus.resolver();
    std::thread::spawn(move || resolver.resolve(39));
    let sum = block_on(async {
        let sum = one.await? + other.await?;
        Ok::<_, threadwire_worker::PromiseError>(sum + bonus.await?)
    })??;
    println!("the answer is {sum}");
    assert_eq!(sum, 42);

    // A task that fails says so where it is awaited.
    let broken = Async::<()>::run(|| panic!("out of paper"));
    let error = broken.get().unwrap_err();
    println!("{error}");
    assert!(error.to_string().contains("out of paper"));
    Ok(())
}
