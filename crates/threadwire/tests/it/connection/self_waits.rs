//! Waits that only their own caller could end: each is refused at once, and the error says why.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::peer::{Host, Peer, TEXT, frame};
use crate::common::sharing::pair_with;
use crate::common::{PATIENCE, Serving, bind, bounded, patient};
use threadwire::messages::Backlog;
use threadwire::reconnect::{Backoff, ReconnectHandle};
use threadwire::{
    Client, Closed, Connection, Error, Handle, Listener, Message, Reply, Running, sleep, wait_until,
};

type Results = Rc<RefCell<Vec<(&'static str, Result<(), Error>)>>>;

#[track_caller]
fn assert_refused(results: &Results, count: usize) {
    let results = results.take();
    assert_eq!(results.len(), count, "{results:?}");
    for (what, result) in results {
        let text = result.expect_err(what).to_string();
        assert!(text.contains("can't be waited for"), "{what}: {text}");
    }
}

struct Waiting {
    results: Results,
    handle: Rc<RefCell<Option<Handle>>>,
}

impl Waiting {
    fn note(&self, what: &'static str, result: Result<(), Error>) {
        self.results.borrow_mut().push((what, result));
    }
}

impl Listener for Waiting {
    fn on_message(&mut self, ws: &Connection, _: Message<'_>) -> Result<(), Error> {
        let handle = ws.handle();
        *self.handle.borrow_mut() = Some(handle.clone());
        self.note("wait_closed", ws.wait_closed().map(drop));
        self.note("Handle::wait_closed", handle.wait_closed().map(drop));
        let mut messages = handle.messages(Backlog::default());
        self.note("Messages::recv", messages.recv().map(drop));
        self.note("Messages::recv_timeout", messages.recv_timeout(PATIENCE).map(drop));
        // The connection ends while the callback runs: its end is told after it all the same.
        ws.abort();
        while !ws.has_ended() {
            sleep(Duration::from_millis(1))?;
        }
        self.note("wait_closed behind the end", ws.wait_closed().map(drop));
        self.note("Handle::wait_closed behind the end", handle.wait_closed().map(drop));
        Ok(())
    }

    fn on_close(&mut self, ws: &Connection, _: &Closed) {
        assert!(ws.wait_closed().is_ok(), "it has ended");
        let handle = self.handle.take().unwrap();
        self.note("Handle::wait_closed in on_close", handle.wait_closed().map(drop));
    }
}

#[test]
fn a_connection_and_its_messages_in_its_own_callbacks() {
    bounded(|| {
        let results = Results::default();
        let listener = Waiting { results: Rc::clone(&results), handle: Rc::default() };
        let (ws, mut peer) = pair_with(patient(), listener);
        let handle = ws.handle();
        peer.bytes(frame(TEXT, false, b"hi"));
        handle.wait_closed().unwrap();
        assert_refused(&results, 7);
    });
}

#[test]
fn a_reconnecting_connection_in_its_own_callbacks_and_hooks() {
    struct Calls {
        results: Results,
        handle: Rc<RefCell<Option<ReconnectHandle>>>,
    }

    impl Calls {
        fn wait(&self, what: &'static str) {
            let Some(handle) = self.handle.borrow().clone() else { return };
            let waited = handle.wait_ended().map(drop);
            self.results.borrow_mut().push((what, waited));
        }
    }

    impl Listener for Calls {
        fn on_open(&mut self, _: &Connection) -> Result<(), Error> {
            self.wait("on_open");
            Ok(())
        }

        fn on_message(&mut self, ws: &Connection, _: Message<'_>) -> Result<(), Error> {
            self.wait("on_message");
            ws.close()
        }

        fn on_close(&mut self, _: &Connection, _: &Closed) {
            self.wait("on_close");
        }
    }

    bounded(|| {
        let (results, handle) = (Results::default(), Rc::new(RefCell::new(None)));
        let calls = |results: &Results, handle: &Rc<RefCell<_>>| Calls {
            results: Rc::clone(results),
            handle: Rc::clone(handle),
        };
        let host = Host::listen();
        let client = Client::new(&host.url()).unwrap().config(patient());
        let host = host.run(|host| {
            let mut peer = host.upgrade(&frame(TEXT, false, b"hi"));
            peer.close(1000, "");
            peer.end();
        });
        let (before, changed) = (calls(&results, &handle), calls(&results, &handle));
        let reconnect = client.reconnect(Backoff::default());
        let reconnect = reconnect.before(move |_| {
            before.wait("before");
            Ok(())
        });
        let reconnect = reconnect.on_change(move |change| {
            if !change.state.is_final() {
                changed.wait("on_change");
            }
        });
        let started = reconnect.start(calls(&results, &handle));
        *handle.borrow_mut() = Some(started.clone());
        started.wait_ended().unwrap();
        let told: Vec<_> = results.borrow().iter().map(|(what, _)| *what).collect();
        for what in ["before", "on_change", "on_open", "on_message", "on_close"] {
            assert!(told.contains(&what), "{told:?}");
        }
        assert_refused(&results, told.len());
        drop(host);
    });
}

#[test]
fn a_server_on_its_own_workers() {
    bounded(|| {
        let running: Arc<Mutex<Option<Running>>> = Arc::default();
        let own = Arc::clone(&running);
        let (tell, told) = mpsc::channel();
        let server = Serving::with(bind().config(patient()), move |_| {
            let (own, tell) = (Arc::clone(&own), tell.clone());
            Reply::with(move |_: &Connection, _: Message<'_>| {
                let running = own.lock().unwrap().take().unwrap();
                let stopper = running.stopper();
                tell.send(running.join().unwrap_err().to_string()).unwrap();
                stopper.stop();
                Ok(())
            })
        });
        let mut peer = Peer::open(server.addr, "/");
        *running.lock().unwrap() = Some(server.into_running());
        peer.send(TEXT, b"join yourself");
        let error = told.recv_timeout(PATIENCE).unwrap();
        assert!(error.contains("on one of its own workers"), "{error}");
        wait_until(Some(Duration::ZERO), || true).unwrap();
    });
}

#[cfg(feature = "aio")]
#[test]
fn a_shutdown_in_a_handler_does_not_wait_for_that_handler() {
    use crate::common::tasks::on_runtimes;
    use threadwire::aio;
    use threadwire::server::Shutdown;

    on_runtimes(|| async {
        let server = aio::Server::bind("127.0.0.1:0").await.unwrap().config(patient());
        let url = format!("ws://{}", server.local_addr().unwrap());
        let stopper = server.stopper();
        let (tell, told) = mpsc::channel();
        let serving = tokio::spawn(server.serve(move |_, mut ws| {
            let (stopper, tell) = (stopper.clone(), tell.clone());
            async move {
                ws.recv().await.unwrap().unwrap();
                let report = stopper.shutdown(Shutdown::default().timeout(10 * PATIENCE)).await.unwrap();
                tell.send((report.connections, report.stuck.len())).unwrap();
            }
        }));
        let mut ws = aio::connect(&url).await.unwrap();
        ws.send("shut down").await.unwrap();
        assert!(ws.recv().await.unwrap().is_none());
        serving.await.unwrap().unwrap();
        assert_eq!(told.recv().unwrap(), (0, 0));
    });
}
