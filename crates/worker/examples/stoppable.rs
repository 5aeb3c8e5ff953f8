//! A thread with a loop that can be stopped: whatever it waits for, the stop ends the wait at once. Stopping and joining
//! are apart, and one token stops several threads.

use std::error::Error;
use std::time::{Duration, Instant};

use threadwire_worker::{StopToken, Stopped, Worker, sleep};

/// Reports how it ended, whatever ended it.
struct Goodbye(&'static str);

impl Drop for Goodbye {
    fn drop(&mut self) {
        println!("{} stopped", self.0);
    }
}

fn run(name: &'static str) -> Result<(), Stopped> {
    let _goodbye = Goodbye(name);
    loop {
        println!("{name} still running");
        sleep(Duration::from_secs(2))?;
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let stop = StopToken::new();
    let workers = ["one", "two"].map(|name| {
        let stop = stop.clone();
        Worker::spawn(move || {
            let _bound = stop.bind_current();
            run(name)
        })
    });
    let asked = Instant::now();
    stop.stop();
    for worker in workers {
        assert!(worker.join()?.was_stopped());
    }
    println!("both stopped within {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(2));
    Ok(())
}
