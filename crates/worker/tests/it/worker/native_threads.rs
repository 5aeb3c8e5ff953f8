//! Tests of native threads, which do all that workers do.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::{PATIENCE, bounded, waiting};
use threadwire_worker::{
    Async, Channel, Defer, Event, EventLoop, Outcome, Queue, Remote, Restartable, Status, Worker, checkpoint,
    later, listen, sleep, unlisten, update, wait_event, wait_event_timeout, wait_forever, wait_until,
};

struct Say(&'static str);

/// Runs something on a thread that nobody has heard of.
fn natively<R: Send + 'static>(task: impl FnOnce() -> R + Send + 'static) -> R {
    thread::spawn(task).join().unwrap()
}

fn here() -> Remote {
    EventLoop::current().remote()
}

#[test]
fn they_drive_workers() {
    bounded(|| {
        let worker = waiting(|| wait_event::<Say>().map(|event| event.0));
        let remote = worker.remote();
        natively(move || {
            remote.pause();
            assert_eq!(remote.status(), Status::Paused);
            remote.resume();
            let id = remote.listen(|_: &Event<u8>| ());
            remote.unlisten(id);
            remote.fire(Say("hello")).unwrap();
        });
        assert_eq!(worker.join().unwrap().done(), Some("hello"));
        let worker = waiting(wait_forever);
        let remote = worker.remote();
        natively(move || remote.stop());
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn they_start_workers_and_join_them() {
    bounded(|| {
        natively(|| {
            assert_eq!(Worker::spawn(|| Ok(1)).join().unwrap().done(), Some(1));
            assert_eq!(Restartable::new(Ok).start(2).unwrap().join().unwrap().done(), Some(2));
            assert_eq!(Restartable::new(Ok).start_overlay(3).unwrap().done(), Some(3));
            assert_eq!(Async::run(|| Ok(4)).get().unwrap(), 4);
            assert_eq!(Worker::<()>::builder().run(|| Ok(5)).done(), Some(5));
        });
    });
}

#[test]
fn they_are_fired_at_and_listen_and_wait() {
    bounded(|| {
        natively(|| {
            let me = here();
            assert_eq!((me.parent(), me.is_daemon(), me.status()), (None, false, Status::Running));
            let heard = Rc::new(Cell::new(0));
            let hears = Rc::clone(&heard);
            let id = listen(move |_: &Event<Say>| hears.set(hears.get() + 1));
            me.fire(Say("1")).unwrap();
            update().unwrap();
            checkpoint().unwrap();
            assert_eq!(heard.get(), 1);
            let rings = Rc::clone(&heard);
            later(Duration::ZERO, move || rings.set(10));
            wait_until(None, || heard.get() == 10).unwrap();
            assert!(unlisten(id));
            let to = me.clone();
            Worker::spawn(move || Ok(to.fire(Say("2")).is_ok()));
            assert_eq!(wait_event::<Say>().unwrap().0, "2");
            assert!(wait_event_timeout::<Say>(Duration::ZERO).unwrap().is_none());
            sleep(Duration::ZERO).unwrap();
            // They can be stopped too, and go on as threads then.
            me.stop();
            assert!(wait_forever().is_err());
        });
    });
}

#[test]
fn they_publish_subscribe_resolve_and_share_queues() {
    bounded(|| {
        let (news, answer, queue) = (Channel::new(), Defer::new(), Queue::new(1));
        let (ready, goes) = mpsc::channel();
        let reader = thread::spawn({
            let (news, answer, queue) = (news.clone(), answer.clone(), queue.clone());
            move || {
                news.subscribe();
                ready.send(()).unwrap();
                let headline = wait_event::<&str>().unwrap().data;
                answer.resolve(headline).unwrap();
                queue.put(headline).unwrap();
            }
        });
        goes.recv().unwrap();
        let asks = answer.clone();
        let waiter = waiting(move || Ok(asks.get().unwrap()));
        assert_eq!(natively(move || news.publish("extra")), 1);
        assert_eq!(waiter.join().unwrap().done(), Some("extra"));
        assert_eq!(answer.get_timeout(PATIENCE).unwrap(), "extra");
        assert_eq!(natively(move || queue.get().unwrap().unwrap().into_inner()), "extra");
        reader.join().unwrap();
    });
}

#[test]
fn what_one_leaves_behind_at_its_end_is_told_to_those_who_reach_for_it() {
    bounded(|| {
        let gone = natively(here);
        assert_eq!(gone.status(), Status::Ended(Outcome::Done));
        assert!(gone.fire(Say("too late")).is_err());
        assert!(gone.post(|_| ()).is_err());
        gone.stop();
        gone.pause();
        assert_eq!(gone.status(), Status::Ended(Outcome::Done));
    });
}
