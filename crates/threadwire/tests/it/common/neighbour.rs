//! Neighbour: an echoing connection on the test's own loop, beside the connection under test.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, TryRecvError};

use threadwire::worker::EventLoop;
use threadwire::{Client, Closed, Connection, Error, Listener, Message, Reply, wait_until};

use super::{Serving, bind, echo, patient};

/// A client of a healthy server, which exchanges messages with it whenever this thread's loop turns: it must not notice
/// anything.
pub struct Neighbour {
    /// Keeps the server alive.
    _serving: Serving,
    ws: Connection,
    rounds: Rc<Cell<usize>>,
    ends: Rc<RefCell<Vec<String>>>,
}

struct Chat {
    rounds: Rc<Cell<usize>>,
    ends: Rc<RefCell<Vec<String>>>,
}

impl Chat {
    fn text(&self) -> String {
        format!("round {}", self.rounds.get())
    }
}

impl Listener for Chat {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        ws.send(&*self.text())
    }

    fn on_message(&mut self, ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        assert_eq!(message.to_string(), self.text());
        self.rounds.set(self.rounds.get() + 1);
        ws.send(&*self.text())
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        self.ends.borrow_mut().push(closed.to_string());
    }
}

impl Neighbour {
    /// Connects, and begins.
    pub fn start() -> Neighbour {
        let serving = Serving::with(bind().config(patient()), |_| Reply::with(echo));
        let (rounds, ends) = (Rc::default(), Rc::default());
        let chat = Chat { rounds: Rc::clone(&rounds), ends: Rc::clone(&ends) };
        let ws = Client::new(&serving.url("/")).unwrap().config(patient()).connect(chat).unwrap();
        Neighbour { _serving: serving, ws, rounds, ends }
    }

    /// Lets the loop turn until this many more messages have gone there and back. With three, whatever lay ready in a
    /// socket of this thread was read: the first may have lain ready itself, the second was polled for, and the third
    /// comes after all that was found by that poll.
    pub fn go_on(&self, count: usize) {
        let goal = self.rounds.get() + count;
        wait_until(None, || self.rounds.get() >= goal || !self.ws.is_open()).unwrap();
        assert!(self.rounds.get() >= goal, "the neighbour was hurt: {:?}", self.ends.borrow());
    }

    /// Lets the loop turn until another thread has said something.
    pub fn hear<T>(&self, from: &Receiver<T>) -> T {
        let mut said = None;
        let has_come = || match from.try_recv() {
            Ok(value) => {
                said = Some(value);
                true
            }
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Disconnected) => panic!("the other thread is gone"),
        };
        // Messages that go there and back turn the loop all the time.
        wait_until(None, has_come).unwrap();
        said.unwrap()
    }

    /// Lets the loop turn until no other connection, nor an attempt at one, is left on it.
    pub fn wait_alone(&self) {
        wait_until(None, || EventLoop::current().source_count() == 1).unwrap();
    }

    /// Fails if it noticed anything.
    pub fn noticed_nothing(self) {
        self.go_on(4);
        self.ws.close().unwrap();
        self.ws.wait_closed().unwrap();
        assert_eq!(*self.ends.borrow(), ["closed by us with 1000 (normal closure)"]);
    }
}
