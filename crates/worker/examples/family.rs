//! A tree of workers: events bubble up to all above, or are broadcast to all below, and a stop at the top ends the whole tree.

use std::error::Error;

use threadwire_worker::{
    Event, EventLoop, Remote, Stopped, Worker, broadcast, bubble, listen, wait_event, wait_event_from,
    wait_forever,
};

/// A worker of the firm waits for what is to come.
struct Hired(Remote);
#[derive(Clone)]
struct Problem(&'static str);
#[derive(Clone)]
struct Holiday;
struct Cheers;

/// A worker that has `staff[0]` workers below it, each of which has `staff[1]` below it, and so on.
fn work(staff: &'static [usize], street: Remote) -> Result<(), Stopped> {
    if let Some((&count, below)) = staff.split_first() {
        for _ in 0..count {
            let street = street.clone();
            Worker::spawn(move || work(below, street));
        }
        listen(|event: &Event<Problem>| println!("{} hears: {}", EventLoop::current().remote(), event.0));
    }
    let (me, cheers) = (EventLoop::current().remote(), street.clone());
    listen(move |_: &Event<Holiday>| cheers.fire(Cheers));
    let _ = street.fire(Hired(me));
    wait_forever()
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let street = EventLoop::current().remote();
    let boss = Worker::spawn(move || work(&[2, 2], street));
    let mut firm = Vec::new();
    while firm.len() < 7 {
        firm.push(wait_event::<Hired>()?.data.0.clone());
    }

    let clerk = firm.iter().find(|worker| worker.children().is_empty()).ok_or("nobody works")?;
    clerk.post(|_| {
        let heard = bubble(Problem("no coffee"));
        println!("{heard} have heard of it");
    })?;
    // The boss has started on this thread, so it is above the boss.
    let problem = wait_event_from::<Problem>(clerk)?;
    println!("{} is known in the street", problem.data.0);

    boss.post(|_| println!("a holiday for {}", broadcast(Holiday)))?;
    for _ in 0..6 {
        wait_event::<Cheers>()?;
    }
    boss.stop();
    assert!(boss.join()?.was_stopped());
    assert!(firm.iter().all(|worker| !worker.status().is_alive()), "they have all gone home");
    Ok(())
}
