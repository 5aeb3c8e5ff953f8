//! A worker with a listener: it prints events, and ends when it is stopped.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use threadwire_worker::{Event, Status, Worker, listen, wait_forever};

struct Print(&'static str);

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let count = Arc::new(AtomicUsize::new(0));
    let printed = Arc::clone(&count);
    let printer = Worker::spawn(move || {
        // On the printer's thread, from within its wait.
        listen(move |event: &Event<Print>| {
            println!("{}", event.0);
            printed.fetch_add(1, Ordering::Relaxed);
        });
        wait_forever()
    });
    printer.fire(Print("foo"))?;
    printer.fire(Print("bar"))?;

    // The stop is on its way: what was fired before is printed first, and only then has the worker ended.
    printer.stop();
    assert_ne!(printer.status(), Status::Running);
    let remote = printer.remote();
    assert!(printer.join()?.was_stopped());
    assert_eq!(count.load(Ordering::Relaxed), 2);
    println!("{}", remote.fire(Print("too late")).unwrap_err());
    Ok(())
}
