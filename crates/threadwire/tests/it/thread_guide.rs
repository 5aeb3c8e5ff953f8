//! Guide to threads of another client library, sentence by sentence: its warnings, its gaps, and its programs. Each test says in
//! our words what is claimed or asked there. Those that are tested elsewhere:
//!
//! - The two programs that close in the callback for messages, on its own thread and on another, of which the first never hears of
//!   the end: `connection::closing_races`, a thousand times each.
//! - Which calls are safe on which thread, as the guide has nothing to offer there: `handle`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::peer::{BINARY, CLOSE, Host, PING, TEXT};
use crate::common::recorder::Log;
use crate::common::sharing::{pair, pair_with};
use crate::common::{Serving, bind, bounded, patient};
use threadwire::messages::Backlog;
use threadwire::{
    Client, Closed, Connection, Error, Initiator, Listener, Message, Reply, blocking, wait_until,
};

fn echo_server() -> Serving {
    Serving::with(bind().config(patient()), |_| Reply::with(crate::common::echo))
}

/// The log of the echo program.
#[derive(Clone, Default)]
struct Seen(Rc<RefCell<Vec<String>>>);

impl Seen {
    fn note(&self, text: impl Into<String>) {
        self.0.borrow_mut().push(text.into());
    }
}

/// The program that illustrates threads: when it is open, a thread of its own sends three messages and closes.
struct Program {
    seen: Seen,
    thread: Option<thread::JoinHandle<Result<(), Error>>>,
}

impl Listener for Program {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        self.seen.note("opened");
        let handle = ws.handle();
        let mut answers = handle.messages(Backlog::default());
        self.thread = Some(thread::spawn(move || {
            for number in 0..3 {
                handle.send(&format!("Hello {number}"))?;
                // The program sleeps for a second here, which leaves the answer the time that it takes. No time is right.
                answers.recv()?;
            }
            handle.close()
        }));
        Ok(())
    }

    fn on_message(&mut self, _ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        self.seen.note(message.to_string());
        Ok(())
    }

    fn on_close(&mut self, _ws: &Connection, closed: &Closed) {
        self.seen.note(format!("closed: {}", closed.code));
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

/// There is an example of a client of an echo server, as an illustration of how to use threads.
#[test]
fn the_echo_client_sends_on_a_thread_of_its_own_and_hears_of_the_end() {
    bounded(|| {
        let serving = echo_server();
        let seen = Seen::default();
        let client = Client::new(&serving.url("/")).unwrap().config(patient());
        let ws = client.connect(Program { seen: seen.clone(), thread: None }).unwrap();
        ws.wait_closed().unwrap();
        let expected = ["opened", "Hello 0", "Hello 1", "Hello 2", "closed: 1000 (normal closure)"];
        assert_eq!(*seen.0.borrow(), expected);
    });
}

/// The library is not compatible with asynchronous code, but to listen in a task one can run its blocking receive on a thread of
/// the executor's, and await that.
#[cfg(feature = "aio")]
#[test]
fn a_blocking_receive_is_awaited_on_a_thread_for_what_blocks() {
    use crate::common::sharing::serving_handles;
    use crate::common::{PATIENCE, ignore};
    use threadwire::OwnedMessage;
    use threadwire::messages::Messages;

    async fn listen(mut messages: Messages) -> (Option<OwnedMessage>, Messages) {
        let receive = move || (messages.recv().unwrap(), messages);
        tokio::task::spawn_blocking(receive).await.unwrap()
    }

    crate::common::tasks::on_runtimes(|| async {
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let mut peer = serving.peer();
        let handle = handles.recv_timeout(PATIENCE).unwrap();
        let mut messages = handle.messages(Backlog::default());
        let mut ticks = 0;
        for number in 0..3 {
            let asked = handle.clone();
            let listening = tokio::spawn(listen(messages));
            // The runtime goes on while somebody listens.
            tokio::task::yield_now().await;
            ticks += 1;
            asked.send("more").unwrap();
            assert_eq!(peer.text(), "more");
            peer.send(TEXT, &[b'0' + number]);
            let (message, again) = listening.await.unwrap();
            assert_eq!(message.unwrap(), number.to_string().as_str());
            messages = again;
        }
        assert_eq!(ticks, 3);
    });
}

/// The same program as it should be: the connection that calls back, and blocks, is also awaited.
#[cfg(feature = "aio")]
#[test]
fn a_receive_is_awaited_on_the_same_client() {
    crate::common::tasks::on_runtimes(|| async {
        let serving = echo_server();
        let url = serving.url("/");
        let client = Client::new(&url).unwrap().config(patient());
        let mut awaits = threadwire::aio::connect(&client).await.unwrap();
        awaits.send("one").await.unwrap();
        assert_eq!(awaits.recv().await.unwrap().unwrap(), "one");
        awaits.close().await.unwrap();

        let blocks = tokio::task::spawn_blocking(move || {
            let mut blocks = blocking::connect(&client).unwrap();
            blocks.send("two").unwrap();
            blocks.recv().unwrap().unwrap().to_string()
        });
        assert_eq!(blocks.await.unwrap(), "two");
    });
}

/// Whether calls are locked depends on a flag, and the flag on whether there is a ping interval: threads that send at once may tear
/// each other's frames. There is no flag here, and nothing is torn, with pings and a close in between.
#[test]
fn threads_that_send_ping_and_close_at_once_tear_nothing() {
    bounded(|| {
        let often = threadwire::Keepalive::default().idle_timeout(Duration::from_millis(1));
        let config = patient().keepalive(often);
        let (ws, mut peer) = pair(config, &Log::new());
        let reading = thread::spawn(move || {
            let mut counts = BTreeMap::new();
            loop {
                // A torn frame has no valid form.
                let (first, payload) = peer.frame();
                match first {
                    BINARY => {
                        let sender = payload[0];
                        assert!(payload.iter().all(|byte| *byte == sender));
                        let count: &mut usize = counts.entry(sender).or_default();
                        *count += 1;
                        assert_eq!(payload.len(), *count);
                    }
                    PING => {}
                    other => break assert_eq!(other, CLOSE),
                }
            }
            peer.close(1000, "");
            counts
        });
        let senders: Vec<_> = (0..4)
            .map(|sender: u8| {
                let handle = ws.handle();
                thread::spawn(move || {
                    for length in 1..=200 {
                        handle.send(&vec![sender; length]).unwrap();
                        if length % 50 == 0 {
                            handle.ping(b"between").unwrap();
                        }
                    }
                })
            })
            .collect();
        let handle = ws.handle();
        let closing = thread::spawn(move || {
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            handle.close().unwrap();
        });
        ws.wait_closed().unwrap();
        closing.join().unwrap();
        let counts = reading.join().unwrap();
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [200; 4]);
    });
}

/// With some servers the callback for the end is never called: those that end TCP and say nothing, or break off.
#[test]
fn the_end_is_told_whatever_the_server_does() {
    bounded(|| {
        for resets in [false, true] {
            let log = Log::new();
            let (ws, mut peer) = pair(patient(), &log);
            ws.send("hi").unwrap();
            ws.flush();
            assert_eq!(peer.text(), "hi");
            if resets {
                peer.reset()
            } else {
                drop(peer)
            }
            ws.wait_closed().unwrap();
            let end = log.end().unwrap();
            assert_eq!((end.code, end.clean, end.initiator, log.ends()), (1006, false, Initiator::Peer, 1));
        }
    });
}

/// Receiving without waiting, for a program that has other things to do.
#[test]
fn receives_without_blocking() {
    bounded(|| {
        let (ws, mut peer) = pair(patient(), &Log::new());
        let mut messages = ws.handle().messages(Backlog::default());
        let mut others = 0;
        let received = loop {
            match messages.try_recv() {
                Ok(message) => break message.unwrap(),
                Err(error) => assert!(error.is_timeout()),
            }
            others += 1;
            if others == 3 {
                peer.send(TEXT, b"at last");
            }
        };
        assert_eq!(received, "at last");
        assert!(others >= 3 && messages.recv_timeout(Duration::ZERO).unwrap_err().is_timeout());
    });
}

/// The same on the blocking face. (In another loop, with a descriptor to wait for: `EventLoop::before_sleep`.)
#[test]
fn a_blocking_connection_receives_without_blocking() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| host.upgrade(b""));
        let mut ws = blocking::connect(&url).unwrap();
        let mut peer = host.join().unwrap();
        assert!(ws.try_recv().unwrap_err().is_timeout());
        peer.send(TEXT, b"at last");
        let received = loop {
            match ws.try_recv() {
                Ok(message) => break message.unwrap(),
                Err(error) => assert!(error.is_timeout()),
            }
        };
        assert_eq!(received, "at last");
    });
}

/// A question of users: a thread waits for the answer to its question, while the connection's own dispatcher takes all messages.
/// There the thread waited forever.
#[test]
fn a_thread_gets_its_answer_beside_the_dispatcher() {
    bounded(|| {
        let dispatched = Rc::new(Cell::new(0));
        let count = Rc::clone(&dispatched);
        let (ws, mut peer) = pair_with(patient(), move |_: &Connection, _: Message<'_>| {
            count.set(count.get() + 1);
            Ok(())
        });
        let handle = ws.handle();
        let (tell, told) = mpsc::channel();
        let asking = thread::spawn(move || {
            let is_answer =
                |message: &Message<'_>| message.as_text().is_some_and(|text| text.starts_with("answer"));
            for number in 0..10 {
                let mut answers = handle.messages_where(Backlog::default(), is_answer);
                handle.send(&format!("question {number}")).unwrap();
                tell.send(answers.recv().unwrap().unwrap().to_string()).unwrap();
            }
        });
        let answering = thread::spawn(move || {
            for number in 0..10 {
                assert_eq!(peer.text(), format!("question {number}"));
                peer.send(TEXT, b"news");
                peer.send(TEXT, format!("answer {number}").as_bytes());
            }
            peer
        });
        wait_until(None, || dispatched.get() == 20).unwrap();
        asking.join().unwrap();
        drop(answering.join().unwrap());
        let answers: Vec<_> = told.iter().collect();
        assert_eq!(answers, (0..10).map(|number| format!("answer {number}")).collect::<Vec<_>>());
    });
}
