//! Tests of panics whose values panic again as they are dropped, and of values that do so without a panic before.

use std::panic::panic_any;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::common::{PATIENCE, bounded, settle, waiting};
use threadwire_worker::{
    Async, Channel, Defer, Ended, Event, EventLoop, Outcome, Overflow, Pool, PromiseError, Ready, Remote,
    Source, Status, Stopped, Worker, later, listen, wait_forever, wait_worker,
};

/// Raises another one as it is dropped.
#[derive(Clone)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

/// Counts its drops, and panics in each.
struct Counts(Arc<AtomicU32>);

impl Drop for Counts {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic_any(Bomb);
    }
}

impl Source for Counts {
    fn ready(self: Rc<Self>, _: Ready) {}
    fn stop(self: Rc<Self>) {}
}

fn panics<R>(result: &Result<R, PromiseError>) -> bool {
    matches!(result, Err(PromiseError::Panicked(message)) if &**message == "(no message)")
}

#[test]
fn a_worker_outlives_them() {
    bounded(|| {
        let worker = waiting(|| {
            listen(|_: &Event<u8>| -> () { panic_any(Bomb) });
            later(Duration::ZERO, || panic_any(Bomb));
            wait_forever()
        });
        let remote: &Remote = &worker;
        remote.post(|_| panic_any(Bomb)).unwrap();
        remote.fire(1u8).unwrap();
        remote.fire(Bomb).unwrap_or_else(std::mem::forget);
        let listener = remote.listen({
            let bomb = Bomb;
            move |_: &Event<u16>| _ = &bomb
        });
        settle(remote);
        remote.unlisten(listener);
        remote
            .post(|event_loop| {
                let bomb = Bomb;
                let timer = event_loop.after(PATIENCE, move || _ = &bomb);
                assert!(event_loop.cancel(timer));
            })
            .unwrap();
        settle(remote);
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
    });
}

#[test]
fn a_task_that_panics_with_one_has_panicked() {
    bounded(|| {
        let pool = Pool::new(1);
        let task = || -> Result<(), Stopped> { panic_any(Bomb) };
        for _ in 0..2 {
            assert!(panics(&pool.submit(task).unwrap().get()));
        }
        assert!(panics(&Async::run(task).get()));
        pool.shutdown().unwrap();

        let worker = Worker::spawn(task);
        wait_worker(&worker).unwrap();
        assert_eq!(worker.status(), Status::Ended(Outcome::Panicked("(no message)".to_owned())));
        let Ended::Panicked(payload) = worker.join().unwrap() else { panic!("it has panicked") };
        std::mem::forget(payload);
    });
}

#[test]
fn a_result_that_nobody_takes_is_dropped_without_harm() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::spawn(move || Ok((goes.recv().is_ok(), Bomb).1));
        let remote = worker.remote();
        drop(worker);
        drop(go);
        wait_worker(&remote).unwrap();
        assert_eq!(remote.status(), Status::Ended(Outcome::Done));

        let pool = Pool::new(1);
        drop(pool.submit(|| Ok(Bomb)).unwrap());
        assert_eq!(pool.submit(|| Ok(1)).unwrap().get().unwrap(), 1);
        pool.shutdown().unwrap();
    });
}

#[test]
fn what_a_loop_has_at_its_end_is_dropped_one_by_one() {
    bounded(|| {
        let count = Arc::new(AtomicU32::new(0));
        let new = || Counts(Arc::clone(&count));
        let ended = Worker::<()>::builder().grace(Duration::ZERO).run(|| {
            let event_loop = EventLoop::current();
            for _ in 0..2 {
                let bomb = new();
                listen(move |_: &Event<u8>| _ = &bomb);
                let bomb = new();
                later(PATIENCE, move || _ = &bomb);
                let bomb = new();
                event_loop.remote().listen(move |_: &Event<u8>| _ = &bomb);
                event_loop.attach_idle(|_| Rc::new(new()));
                event_loop.remote().fire(new()).unwrap_or_else(|_| unreachable!());
            }
            event_loop.remote().stop_now();
            Ok("done")
        });
        assert_eq!((ended.done(), count.load(Ordering::Relaxed)), (Some("done"), 10));
    });
}

#[test]
fn what_is_dropped_for_something_newer_harms_nobody() {
    bounded(|| {
        let count = Arc::new(AtomicU32::new(0));
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::builder()
            .inbox(1, Overflow::DropOldest)
            .spawn(move || {
                let _ = goes.recv();
                wait_forever()
            })
            .unwrap();
        for _ in 0..3 {
            worker.fire(Counts(Arc::clone(&count))).unwrap_or_else(|_| unreachable!());
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
        drop(go);
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
        assert_eq!(count.load(Ordering::Relaxed), 3);

        /// Raises a bomb as it is dropped, which its clone does not cost.
        #[derive(Clone)]
        struct News(Arc<Counts>);
        let news = Channel::new();
        let subscription = news.subscribe_within(2, Overflow::DropOldest);
        for _ in 0..4 {
            news.publish(News(Arc::new(Counts(Arc::clone(&count)))));
        }
        assert_eq!((subscription.missed(), count.load(Ordering::Relaxed)), (2, 5));
        subscription.unsubscribe();
        assert_eq!(count.load(Ordering::Relaxed), 7);
        let _ = |news: News| news.0;
    });
}

#[test]
fn a_waker_that_panics_keeps_nobody_from_being_told() {
    struct Broken;
    impl Wake for Broken {
        fn wake(self: Arc<Self>) {
            panic_any(Bomb);
        }
    }
    bounded(|| {
        let answer = Defer::new();
        let waker = Waker::from(Arc::new(Broken));
        let mut awaits = answer.clone();
        assert!(std::pin::Pin::new(&mut awaits).poll(&mut Context::from_waker(&waker)).is_pending());
        let worker = waiting({
            let answer = answer.clone();
            move || Ok(answer.get().unwrap())
        });
        answer.resolve(7).unwrap();
        assert_eq!(worker.join().unwrap().done(), Some(7));
    });
}
