//! Tests of the end of a worker: the order of its steps, and the remains.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::common::{PATIENCE, bounded, settle, waiting};
use threadwire_worker::{
    ChildChange, ChildEvent, Event, EventLoop, ListenerFailed, Outcome, Remote, Restartable, Status,
    StatusChange, Stopped, Worker, listen, wait_event, wait_for, wait_forever,
};

#[derive(Clone, Debug, PartialEq)]
struct Say(&'static str);

fn here() -> Remote {
    EventLoop::current().remote()
}

/// What happened on several threads, in order.
#[derive(Clone, Default)]
struct Story(Arc<Mutex<Vec<String>>>);

impl Story {
    fn tell(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    fn guard(&self, text: &'static str) -> Guard {
        Guard(self.clone(), text)
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Tells when it is dropped.
struct Guard(Story, &'static str);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.tell(self.1);
    }
}

#[test]
fn first_the_task_then_its_events_then_its_children_and_then_who_waits() {
    bounded(|| {
        let story = Story::default();
        let tells = story.clone();
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::spawn(move || {
            let _guard = tells.guard("the task cleans up");
            let (heard, kept) = (tells.clone(), tells.guard("its listeners are dropped"));
            listen(move |event: &Event<Say>| {
                let _kept = &kept;
                heard.tell(event.0);
            });
            let child = tells.clone();
            let child = waiting(move || {
                let _guard = child.guard("the child cleans up");
                wait_forever()
            });
            drop(child);
            goes.recv().unwrap();
            wait_forever()
        });
        worker.fire(Say("an event of before")).unwrap();
        worker.stop();
        go.send(()).unwrap();
        assert!(worker.join().unwrap().was_stopped());
        story.tell("it was joined");
        assert_eq!(
            story.told(),
            [
                "the task cleans up",
                "an event of before",
                "the child cleans up",
                "its listeners are dropped",
                "it was joined"
            ]
        );
    });
}

#[test]
fn a_parent_hears_how_the_task_ended_before_the_grandchildren_have_and_of_the_end_after() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let to = here();
        // Somebody asks for them: only then they are sent.
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        listen(move |event: &Event<ChildEvent>| notes.lock().unwrap().push(event.change.clone()));
        let child = Worker::spawn(move || {
            let grandchild = Worker::spawn(move || Ok(goes.recv().is_ok()));
            to.fire(grandchild.remote()).unwrap();
            Ok(())
        });
        let grandchild = wait_event::<Remote>().unwrap().data.clone();
        let done = |event: &Event<ChildEvent>| event.change == ChildChange::Done;
        if !heard.lock().unwrap().contains(&ChildChange::Done) {
            wait_for().matching(done).timeout(PATIENCE).wait().unwrap().unwrap();
        }
        assert!(child.status().is_alive() && grandchild.status().is_alive());
        go.send(()).unwrap();
        child.join().unwrap();
        assert!(!grandchild.status().is_alive());
        threadwire_worker::update().unwrap();
        assert_eq!(*heard.lock().unwrap(), [ChildChange::Started, ChildChange::Done, ChildChange::Ended]);
    });
}

#[test]
fn a_listener_that_fails_while_its_worker_ends_is_reported_and_a_stop_in_it_is_not() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::spawn(move || {
            listen(|event: &Event<Say>| Err::<(), _>(event.0));
            listen(|_: &Event<Say>| -> Result<(), Stopped> { wait_forever() });
            goes.recv().unwrap();
            Ok("done")
        });
        listen(|_: &Event<ListenerFailed>| ());
        worker.fire(Say("on purpose")).unwrap();
        go.send(()).unwrap();
        let failed = wait_event::<ListenerFailed>().unwrap();
        assert_eq!((failed.error.as_str(), failed.worker.id()), ("on purpose", worker.id()));
        assert_eq!(worker.join().unwrap().done(), Some("done"));
        let more = wait_for::<ListenerFailed>().timeout(std::time::Duration::ZERO).wait().unwrap();
        assert!(more.is_none());
    });
}

#[test]
fn the_end_can_be_watched_by_who_is_no_relative() {
    bounded(|| {
        let worker = Worker::builder().no_parent().daemon(true).spawn(wait_forever).unwrap();
        let remote = worker.remote();
        let watcher = waiting(move || {
            remote.watch();
            let ended = |change: &Event<StatusChange>| !change.status.is_alive();
            Ok(wait_for().matching(ended).wait()?.unwrap().status.clone())
        });
        worker.stop();
        assert_eq!(watcher.join().unwrap().done(), Some(Status::Ended(Outcome::Stopped)));
        worker.join().unwrap();
    });
}

#[test]
fn a_thread_that_ends_waits_for_its_daemons_which_clean_up() {
    bounded(|| {
        let story = Story::default();
        let tells = story.clone();
        let daemon = thread::spawn(move || {
            let task = move || {
                let _guard = tells.guard("the daemon cleans up");
                wait_forever()
            };
            let daemon = Worker::builder().daemon(true).spawn(task).unwrap();
            settle(&daemon);
            daemon.remote()
        });
        let daemon = daemon.join().unwrap();
        assert_eq!(daemon.status(), Status::Ended(Outcome::Stopped));
        assert_eq!(story.told(), ["the daemon cleans up"]);
    });
}

#[test]
fn nobody_is_a_daemon_unless_told() {
    bounded(|| {
        assert!(!here().is_daemon());
        let worker = Worker::spawn(|| {
            let child = Worker::spawn(|| Ok(()));
            Ok((here().is_daemon(), child.is_daemon()))
        });
        assert_eq!(worker.join().unwrap().done(), Some((false, false)));
        assert!(!Restartable::new(|()| Ok(())).is_daemon());
    });
}

#[test]
fn overlays_pile_up_and_each_gives_back_the_one_below() {
    bounded(|| {
        let root = here();
        let inner = Restartable::new(|()| {
            here().stop();
            wait_forever()
        });
        let outer = Restartable::new(move |()| {
            let me = here();
            assert!(inner.start_overlay(()).unwrap().was_stopped());
            assert_eq!(here(), me, "and the stop was not for it");
            assert_ne!(me, inner.remote());
            me.fire(Say("mine")).unwrap();
            Ok(wait_event::<Say>()?.0)
        });
        assert_eq!(outer.start_overlay(()).unwrap().done(), Some("mine"));
        assert_eq!(here(), root);
        // Also one that panics.
        let broken = Restartable::new(|()| -> Result<(), Stopped> { panic!("boom") });
        broken.start_overlay(()).unwrap();
        assert_eq!((here(), broken.status()), (root, Status::Ended(Outcome::Panicked("boom".into()))));
    });
}

#[test]
fn an_event_may_be_for_the_parent_alone_or_the_children_alone() {
    bounded(|| {
        let root = here();
        let count = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&count);
        let parent = waiting(move || {
            for _ in 0..3 {
                let counts = Arc::clone(&counts);
                let child = Worker::spawn(wait_forever);
                child.listen(move |_: &Event<Say>| {
                    counts.fetch_add(1, Ordering::SeqCst);
                });
                Worker::builder().parent(&child).spawn(wait_forever).unwrap();
            }
            wait_forever()
        });
        for child in parent.children() {
            child.fire(Say("children")).unwrap();
            settle(&child);
        }
        assert_eq!(count.load(Ordering::SeqCst), 3);
        parent.post(|_| here().parent().unwrap().fire(Say("parent")).unwrap()).unwrap();
        assert_eq!(wait_event::<Say>().unwrap().sender, Some(parent.id()));
        assert_eq!(parent.parent(), Some(root));
        parent.stop();
        parent.join().unwrap();
    });
}

#[test]
fn events_and_calls_of_one_thread_keep_their_order_and_a_bubble_is_one_of_them() {
    bounded(|| {
        let story = Story::default();
        let (log, logs, calls) = (story.clone(), story.clone(), story.clone());
        listen(move |event: &Event<Say>| log.tell(event.0));
        listen(move |event: &Event<u8>| logs.tell(event.data.to_string()));
        let me = here();
        let child = Worker::spawn(move || {
            me.fire(Say("a")).unwrap();
            me.post(move |_| calls.tell("b")).unwrap();
            threadwire_worker::bubble(1u8);
            me.fire(Say("c")).unwrap();
            Ok(())
        });
        child.join().unwrap();
        threadwire_worker::update().unwrap();
        assert_eq!(story.told(), ["a", "b", "1", "c"]);
    });
}
