//! A thread as a type: its data, a method that is the thread's work, and one that starts it.

use std::error::Error;
use std::time::Duration;

use threadwire_worker::{Stopped, Worker, sleep};

struct Sleepy {
    name: String,
    time: Duration,
}

impl Sleepy {
    fn new(name: &str, time: Duration) -> Sleepy {
        Sleepy { name: name.to_owned(), time }
    }

    fn start(self) -> Worker<String> {
        Worker::spawn(move || self.run())
    }

    fn run(self) -> Result<String, Stopped> {
        sleep(self.time)?;
        Ok(format!("Hello from {}", self.name))
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let short = Sleepy::new("a short sleep", Duration::from_millis(5)).start();
    let long = Sleepy::new("a long sleep", Duration::from_secs(3600)).start();
    println!("The main program goes on in the foreground.");
    let greeting = short.join()?.done();
    println!("{}", greeting.as_deref().unwrap_or("it was stopped"));
    assert_eq!(greeting.as_deref(), Some("Hello from a short sleep"));
    long.stop(); // it need not wake up to notice
    assert!(long.join()?.was_stopped());
    Ok(())
}
