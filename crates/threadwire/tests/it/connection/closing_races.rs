//! Close races: a connection that is closed from within its callback for messages, and one that is closed by another thread.
//! `on_close` is called once, each of a thousand times.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::common::{Serving, bind, bounded, patient};
use threadwire::worker::EventLoop;
use threadwire::{
    Client, CloseCode, Closed, Connection, Error, Initiator, Listener, Message, Reply, wait_until,
};

const TIMES: usize = 1000;

/// How many are open at a time.
const BATCH: usize = 50;

/// How often something was called.
#[derive(Clone, Default)]
struct Counts {
    opened: Rc<Cell<usize>>,
    heard: Rc<Cell<usize>>,
    closed: Rc<Cell<usize>>,
}

fn add(count: &Cell<usize>) {
    count.set(count.get() + 1);
}

/// The program: says hi, and closes in its own way when it is answered.
struct Program {
    counts: Counts,
    close: fn(&Connection) -> Result<(), Error>,
}

impl Listener for Program {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        add(&self.counts.opened);
        ws.send("hi")
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        assert_eq!(message, Message::Text("hi"));
        add(&self.counts.heard);
        (self.close)(ws)
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        // A panic would not fail the test, but then it is not counted.
        assert_eq!((closed.code, closed.initiator), (CloseCode::NORMAL, Initiator::Local));
        assert!(closed.clean && closed.error.is_none(), "{closed}");
        add(&self.counts.closed);
    }
}

/// The server's side of it: echoes, and counts.
struct Echo(Arc<AtomicUsize>);

impl Listener for Echo {
    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        ws.send(message)
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        assert!(closed.clean, "{closed}");
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn a_thousand_times(close: fn(&Connection) -> Result<(), Error>) {
    bounded(move || {
        let ended = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&ended);
        let serving = Serving::with(bind().config(patient()), move |_| Reply::with(Echo(Arc::clone(&count))));
        let client = Client::new(&serving.url("/")).unwrap().config(patient());
        for _ in 0..TIMES / BATCH {
            // Each connection counts for itself.
            let batch: [Counts; BATCH] = std::array::from_fn(|_| Counts::default());
            for counts in &batch {
                client.start(Program { counts: counts.clone(), close }).unwrap();
            }
            wait_until(None, || EventLoop::current().source_count() == 0).unwrap();
            for Counts { opened, heard, closed } in &batch {
                assert_eq!((opened.get(), heard.get(), closed.get()), (1, 1, 1));
            }
        }
        let running = serving.into_running();
        running.stop();
        running.join().unwrap();
        assert_eq!(ended.load(Ordering::SeqCst), TIMES);
    });
}

#[test]
fn a_connection_closed_in_its_callback_hears_of_it_once_each_of_a_thousand_times() {
    a_thousand_times(|ws| ws.close());
}

#[test]
fn a_connection_closed_by_another_thread_hears_of_it_once_each_of_a_thousand_times() {
    a_thousand_times(|ws| {
        let ws = ws.handle();
        thread::spawn(move || ws.close().unwrap());
        Ok(())
    });
}

#[test]
fn a_connection_closed_by_its_callback_and_another_thread_hears_of_it_once_each_of_a_thousand_times() {
    a_thousand_times(|ws| {
        let handle = ws.handle();
        thread::spawn(move || handle.close().unwrap());
        ws.close()
    });
}
