//! Stall reports: callbacks that hold the loop, by the names of their connections.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::keeping::{MOMENT, await_frame, await_verdict, giving_up_after};
use crate::common::peer::{Host, PONG, TEXT, frame};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::pair_with;
use crate::common::{PATIENCE, Serving, bind, bounded, echo, patient};
use threadwire::frame::{Frame, Level};
use threadwire::worker::{Event, EventLoop, Stalled, Worker, later, listen};
use threadwire::{Client, Connection, Error, Listener, Message, Reply, sleep, wait_until};

/// For how long a callback may hold the loop.
const LIMIT: Duration = Duration::from_millis(5);

/// For how long some do: longer than the system usually keeps a thread from running.
const HELD: Duration = Duration::from_millis(40);

/// Computes for so long.
fn spin() {
    let begun = Instant::now();
    while begun.elapsed() < HELD {
        std::hint::spin_loop();
    }
}

/// The stalls of this thread's loop. What the system itself takes from a callback is reported too, so tests look for what
/// must be there, and for what must not be.
#[derive(Clone, Default)]
struct Reports(Rc<RefCell<Vec<Stalled>>>);

impl Reports {
    /// From now on.
    fn begin() -> Reports {
        Reports::begin_with(LIMIT)
    }

    fn begin_with(limit: Duration) -> Reports {
        let reports = Reports::default();
        let push = reports.clone();
        listen(move |stall: &Event<Stalled>| push.0.borrow_mut().push(stall.data.clone()));
        EventLoop::current().set_stall_limit(Some(limit));
        reports
    }

    /// How many there were for as long as [`HELD`] of the one with this name.
    fn count(&self, what: &str) -> usize {
        self.0.borrow().iter().filter(|stall| stall.what == what && stall.held >= HELD).count()
    }

    /// Lets the loop turn until there are so many.
    fn wait(&self, what: &str, count: usize) {
        let done = wait_until(Some(PATIENCE / 2), || self.count(what) >= count).unwrap();
        assert!(done, "{count} of {what:?} are not in {:?}", self.0.borrow());
        // If it was reported twice, that is there now.
        EventLoop::current().update().unwrap();
        assert_eq!(self.count(what), count, "{:?}", self.0.borrow());
    }
}

/// A listener that holds the loop with messages.
struct Spinner;

impl Listener for Spinner {
    fn name(&self) -> &'static str {
        "the spinner"
    }

    fn on_message(&mut self, _ws: &Connection, message: Message<'_>) -> Result<(), Error> {
        if message.as_text() == Some("spin") {
            spin();
        }
        Ok(())
    }
}

/// A listener without a name of its own.
struct Nameless;

impl Listener for Nameless {
    fn level(&self) -> Level {
        Level::Frames
    }

    fn on_frame(&mut self, _ws: &Connection, _frame: &Frame<'_>) -> Result<(), Error> {
        spin();
        Ok(())
    }
}

/// Whether a connection has held the loop for as long as it was to, and not the system something else.
fn is_connections(stall: &Stalled) -> bool {
    stall.held >= HELD && stall.what.starts_with("the connection with ")
}

/// The name of a connection of this thread.
fn name(ws: &Connection, listener: &str) -> String {
    format!("the connection with {} ({listener})", ws.peer_addr().unwrap())
}

#[test]
fn a_callback_that_holds_the_loop_is_reported_once_with_who_it_was() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), Spinner);
        let name = name(&ws, "the spinner");
        assert!(name.contains("127.0.0.1:"));
        let reports = Reports::begin();
        peer.send(TEXT, b"spin");
        reports.wait(&name, 1);
        peer.send(TEXT, b"spin");
        reports.wait(&name, 2);
        assert!(EventLoop::current().last_stall().is_some_and(|(_, held)| held >= LIMIT));
    });
}

#[test]
fn what_is_read_together_is_reported_together() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), Spinner);
        let name = name(&ws, "the spinner");
        let reports = Reports::begin();
        let frames = [frame(TEXT, false, b"spin"), frame(TEXT, false, b"spin")];
        peer.bytes(frames.concat());
        reports.wait(&name, 1);
        assert!(reports.0.borrow().iter().any(|stall| stall.what == name && stall.held >= 2 * HELD));
    });
}

#[test]
fn a_listener_is_named_by_its_type_if_it_says_nothing_else() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), Nameless);
        let name = name(&ws, concat!(module_path!(), "::Nameless"));
        let reports = Reports::begin();
        peer.send(PONG, b"");
        reports.wait(&name, 1);
    });
}

#[test]
fn a_closure_is_named_after_where_it_was_made() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), |_: &Connection, _: Message<'_>| {
            spin();
            Ok(())
        });
        let name = name(
            &ws,
            concat!(module_path!(), "::a_closure_is_named_after_where_it_was_made::{{closure}}::{{closure}}"),
        );
        let reports = Reports::begin();
        peer.send(TEXT, b"");
        reports.wait(&name, 1);
    });
}

#[test]
fn the_one_that_holds_is_named_and_not_those_beside_it() {
    bounded(|| {
        let (quiet, mut quiet_peer) = pair_with(patient(), Spinner);
        let (loud, mut loud_peer) = pair_with(patient(), Spinner);
        let (quiet, loud) = (name(&quiet, "the spinner"), name(&loud, "the spinner"));
        let reports = Reports::begin();
        quiet_peer.send(TEXT, b"nothing");
        loud_peer.send(TEXT, b"spin");
        quiet_peer.send(TEXT, b"nothing");
        reports.wait(&loud, 1);
        assert_eq!(reports.count(&quiet), 0);
    });
}

#[test]
fn a_callback_that_blocks_is_reported_too() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), |_: &Connection, _: Message<'_>| {
            thread::sleep(HELD);
            Ok(())
        });
        let name = name(
            &ws,
            concat!(module_path!(), "::a_callback_that_blocks_is_reported_too::{{closure}}::{{closure}}"),
        );
        let reports = Reports::begin();
        peer.send(TEXT, b"");
        reports.wait(&name, 1);
    });
}

#[test]
fn a_callback_that_panics_is_reported_too() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), |_: &Connection, _: Message<'_>| {
            spin();
            panic!("after all that")
        });
        let name = name(
            &ws,
            concat!(module_path!(), "::a_callback_that_panics_is_reported_too::{{closure}}::{{closure}}"),
        );
        let reports = Reports::begin();
        peer.send(TEXT, b"");
        reports.wait(&name, 1);
        assert_eq!(await_frame(&mut peer).1, 1011u16.to_be_bytes());
    });
}

#[test]
fn waits_in_callbacks_are_no_stalls() {
    bounded(|| {
        let done = Rc::new(Cell::new(0));
        let counts = Rc::clone(&done);
        let (ws, mut peer) = pair_with(patient(), move |_: &Connection, _: Message<'_>| {
            sleep(2 * HELD)?;
            counts.set(counts.get() + 1);
            Ok(())
        });
        let own = name(
            &ws,
            concat!(module_path!(), "::waits_in_callbacks_are_no_stalls::{{closure}}::{{closure}}"),
        );
        let anybody = name(&ws, "a listener");
        let reports = Reports::begin();
        for round in 1..=2 {
            peer.send(TEXT, b"");
            wait_until(None, || done.get() == round).unwrap();
        }
        assert_eq!((reports.count(&own), reports.count(&anybody)), (0, 0), "{:?}", reports.0.borrow());
    });
}

#[test]
fn what_a_callback_holds_after_a_wait_is_its_own() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), |_: &Connection, _: Message<'_>| {
            sleep(MOMENT)?;
            spin();
            Ok(())
        });
        let name = name(
            &ws,
            concat!(
                module_path!(),
                "::what_a_callback_holds_after_a_wait_is_its_own::{{closure}}::{{closure}}"
            ),
        );
        let reports = Reports::begin();
        peer.send(TEXT, b"");
        reports.wait(&name, 1);
        // The wait is not in it.
        let held = reports.0.borrow().iter().find(|stall| stall.what == name).unwrap().held;
        assert!(held >= HELD, "{held:?}");
    });
}

#[test]
fn who_holds_the_loop_inside_of_anothers_wait_is_the_one_to_blame() {
    bounded(|| {
        let done = Rc::new(Cell::new(false));
        let ends = Rc::clone(&done);
        let (waits, mut waiting_peer) = pair_with(patient(), move |_: &Connection, _: Message<'_>| {
            wait_until(None, || ends.get())?;
            Ok(())
        });
        let (spins, mut spinning_peer) = pair_with(patient(), move |_: &Connection, _: Message<'_>| {
            spin();
            done.set(true);
            Ok(())
        });
        let test =
            concat!(module_path!(), "::who_holds_the_loop_inside_of_anothers_wait_is_the_one_to_blame");
        let spins = name(&spins, &format!("{test}::{{{{closure}}}}::{{{{closure}}}}"));
        let waits = name(&waits, &format!("{test}::{{{{closure}}}}::{{{{closure}}}}"));
        let reports = Reports::begin();
        waiting_peer.send(TEXT, b"");
        later(MOMENT, move || {
            spinning_peer.send(TEXT, b"");
            std::mem::forget(spinning_peer);
        });
        reports.wait(&spins, 1);
        assert_eq!(reports.count(&waits), 0);
    });
}

#[test]
fn what_is_flushed_before_a_wait_is_not_the_waiting_callbacks() {
    bounded(|| {
        let log = Log::new();
        let (other, _other_peer) = pair_with(
            patient(),
            log.listener(|_, call| {
                if matches!(call, Call::Closed(_)) {
                    spin();
                }
                Ok(())
            }),
        );
        let waits = move |_: &Connection, _: Message<'_>| {
            // The other connection ends when gathered messages are written: as this one waits.
            other.abort();
            sleep(MOMENT)?;
            Ok(())
        };
        let (ws, mut peer) = pair_with(patient(), waits);
        let test = concat!(module_path!(), "::what_is_flushed_before_a_wait_is_not_the_waiting_callbacks");
        let own = name(&ws, &format!("{test}::{{{{closure}}}}::{{{{closure}}}}"));
        let anybody = name(&ws, "a listener");
        let reports = Reports::begin();
        peer.send(TEXT, b"");
        wait_until(None, || reports.0.borrow().iter().any(|stall| stall.held >= HELD)).unwrap();
        sleep(MOMENT).unwrap();
        assert_eq!(log.ends(), 1);
        assert_eq!((reports.count(&own), reports.count(&anybody)), (0, 0), "{:?}", reports.0.borrow());
    });
}

#[test]
fn nothing_is_reported_without_a_limit_or_after_it_is_lifted() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), Spinner);
        let name = name(&ws, "the spinner");
        let reports = Reports::begin();
        peer.send(TEXT, b"spin");
        reports.wait(&name, 1);
        EventLoop::current().set_stall_limit(None);
        assert_eq!(EventLoop::current().last_stall(), None);
        peer.send(TEXT, b"spin");
        sleep(MOMENT).unwrap();
        sleep(MOMENT).unwrap();
        assert_eq!(reports.count(&name), 1);
        assert_eq!(EventLoop::current().last_stall(), None);
    });
}

#[test]
fn shorter_callbacks_are_not_reported() {
    bounded(|| {
        let (ws, mut peer) = pair_with(patient(), Spinner);
        let name = name(&ws, "the spinner");
        let reports = Reports::begin_with(PATIENCE);
        peer.send(TEXT, b"spin");
        sleep(2 * HELD).unwrap();
        assert_eq!(reports.count(&name), 0);
    });
}

#[test]
fn a_servers_worker_tells_which_client_it_was() {
    bounded(|| {
        let (give, reports) = mpsc::channel();
        let serving = Serving::with(bind().config(patient()), move |request| {
            if request.path() == "/echo" {
                return Reply::with(echo);
            }
            let give = give.clone();
            listen(move |stall: &Event<Stalled>| drop(give.send(stall.data.clone())));
            EventLoop::current().set_stall_limit(Some(LIMIT));
            Reply::with(Spinner)
        });
        let bystander = serving.bystander();
        let mut peer = serving.peer();
        peer.send(TEXT, b"spin");
        let stall = reports.iter().find(is_connections).unwrap();
        assert_eq!(stall.what, format!("the connection with {} (the spinner)", peer.local_addr()));
        bystander.noticed_nothing();
    });
}

#[test]
fn a_worker_is_started_with_a_limit() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let worker = Worker::builder().stall_limit(LIMIT).spawn(move || {
            let (give, stalls) = mpsc::channel();
            listen(move |stall: &Event<Stalled>| drop(give.send(stall.data.clone())));
            let ws = Client::new(&url).unwrap().config(patient()).connect(Spinner).unwrap();
            ws.send("ready").unwrap();
            let mut stalled = None;
            wait_until(None, || {
                stalled = stalls.try_iter().find(is_connections);
                stalled.is_some()
            })?;
            Ok((name(&ws, "the spinner"), stalled.unwrap().what))
        });
        let mut peer = host.upgrade(b"");
        assert_eq!(peer.text(), "ready");
        peer.send(TEXT, b"spin");
        // The connection ends with its worker.
        assert_eq!(peer.code(), 1001);
        drop(peer);
        let (name, what) = worker.unwrap().join().unwrap().done().unwrap();
        assert_eq!(what, name);
    });
}

#[test]
fn keepalive_and_stalls_get_along() {
    bounded(|| {
        let reports = Reports::begin();
        let (ws, mut peer) = pair_with(giving_up_after(4 * MOMENT), Spinner);
        let name = name(&ws, "the spinner");
        peer.send(TEXT, b"spin");
        await_verdict(&ws.handle());
        assert_eq!(reports.count(&name), 1);
    });
}
