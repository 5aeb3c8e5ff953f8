//! Producers and consumers around one bounded queue: the producers wait while it is full, the consumers while it is
//! empty. Closing it is the end: what is left is consumed, and then each consumer's loop is over.

use std::error::Error;

use threadwire_worker::{Queue, Worker};

const PRODUCERS: u64 = 3;
const CONSUMERS: u64 = 2;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let queue = Queue::new(20);
    let consumers: Vec<_> = (0..CONSUMERS)
        .map(|_| {
            let queue = queue.clone();
            Worker::spawn(move || {
                let mut sum = 0;
                // The item counts as done at the end of each round, where it is dropped.
                while let Some(number) = queue.get()? {
                    sum += *number;
                }
                Ok(sum)
            })
        })
        .collect();
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let queue = queue.clone();
            Worker::spawn(move || {
                for number in (1..=300).filter(|number| number % PRODUCERS == producer) {
                    if queue.put(number).is_err() {
                        break; // closed, or stopped
                    }
                }
                Ok(())
            })
        })
        .collect();

    for producer in producers {
        producer.join()?;
    }
    queue.join()?; // until everything is consumed
    queue.close();

    let mut total = 0;
    for consumer in consumers {
        total += consumer.join()?.done().ok_or("a consumer was stopped")?;
    }
    println!("{PRODUCERS} producers and {CONSUMERS} consumers: the sum of 1 to 300 is {total}");
    assert_eq!(total, 45_150);
    Ok(())
}
