//! Tests of stops in every kind of wait.

use std::future;
use std::time::Duration;

use crate::common::{PATIENCE, bounded, settle};
use threadwire_worker::{
    Async, Channel, Defer, Ended, EventLoop, Overflow, Pool, PromiseError, PutError, Queue, Status,
    StopToken, Stopped, Undeliverable, Worker, block_on, checkpoint, join_all, race, sleep, update,
    wait_event, wait_event_from, wait_event_timeout, wait_for, wait_forever, wait_until, wait_worker,
};

struct Never;

/// Something that waits until it is stopped, and says whether it was.
type Wait = Box<dyn FnOnce() -> bool + Send>;

fn is_stopped<T>(result: Result<T, Stopped>) -> bool {
    result.is_err()
}

/// A worker that is not stopped by anything here before the end of the test, and keeps its loop from turning.
fn busy(limit: usize) -> (Worker<()>, std::sync::mpsc::Sender<()>) {
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let worker = Worker::builder().no_parent().inbox(limit, Overflow::Wait);
    let worker = worker.spawn(move || {
        let _ = goes.recv();
        Ok(())
    });
    (worker.unwrap(), go)
}

fn endless() -> Worker<()> {
    Worker::spawn(wait_forever)
}

/// All that a thread can wait for, by name.
fn waits() -> Vec<(&'static str, Wait)> {
    fn wait(name: &'static str, wait: impl FnOnce() -> bool + Send + 'static) -> (&'static str, Wait) {
        (name, Box::new(wait))
    }
    vec![
        wait("sleep", || is_stopped(sleep(PATIENCE))),
        wait("wait_forever", || is_stopped(wait_forever())),
        wait("wait_until", || is_stopped(wait_until(None, || false))),
        wait("wait_event", || is_stopped(wait_event::<Never>())),
        wait("wait_event_timeout", || is_stopped(wait_event_timeout::<Never>(PATIENCE))),
        wait("wait_event_from", || is_stopped(wait_event_from::<Never>(&EventLoop::current().remote()))),
        wait("wait_for", || is_stopped(wait_for::<Never>().timeout(PATIENCE).wait())),
        wait("wait_worker", || is_stopped(wait_worker(&endless()))),
        wait("join", || is_stopped(endless().join())),
        wait("join_timeout", || is_stopped(endless().join_timeout(PATIENCE))),
        wait("join_all", || is_stopped(join_all([endless(), endless()]))),
        wait("race", || is_stopped(race([endless(), endless()]))),
        wait("race of nobody", || is_stopped(race(Vec::<Worker<()>>::new()))),
        wait("stop_within", || {
            let (busy, go) = busy(1);
            let stuck = busy.stop_within(PATIENCE).is_err();
            drop(go);
            stuck
        }),
        wait("update", || is_stopped((0..).try_for_each(|_: u64| update()))),
        wait("checkpoint", || is_stopped((0..).try_for_each(|_: u64| checkpoint()))),
        wait("block_on", || is_stopped(block_on(future::pending::<()>()))),
        wait("Defer::get", || matches!(Defer::<()>::new().get(), Err(PromiseError::Stopped(_)))),
        wait("Defer::get_timeout", || {
            matches!(Defer::<()>::new().get_timeout(PATIENCE), Err(PromiseError::Stopped(_)))
        }),
        wait("Async::get", || {
            let endless = Async::run(wait_forever);
            let stopped = matches!(endless.get(), Err(PromiseError::Stopped(_)));
            endless.cancel() && stopped
        }),
        wait("Queue::get", || is_stopped(Queue::<u8>::new(1).get())),
        wait("Queue::get_timeout", || {
            let got = Queue::<u8>::new(1).get_timeout(PATIENCE);
            matches!(got, Err(threadwire_worker::GetError::Stopped(_)))
        }),
        wait("Queue::put", || {
            let queue = Queue::new(1);
            queue.try_put(1).unwrap();
            matches!(queue.put(2), Err(PutError::Stopped(2)))
        }),
        wait("Queue::put_timeout", || {
            let queue = Queue::new(1);
            queue.try_put(1).unwrap();
            matches!(queue.put_timeout(2, PATIENCE), Err(PutError::Stopped(2)))
        }),
        wait("Queue::join", || {
            let queue = Queue::new(1);
            queue.try_put(1).unwrap();
            is_stopped(queue.join())
        }),
        wait("Queue::iter", || matches!(Queue::<u8>::new(1).iter().next(), Some(Err(Stopped)))),
        wait("Pool::submit", || {
            let pool = Pool::builder().threads(1).capacity(1).build().unwrap();
            let waited = (0..3).map(|_| pool.submit(wait_forever)).filter(Result::is_err).count();
            let _ = pool.shutdown_now();
            waited > 0
        }),
        wait("Pool::shutdown", || {
            let pool = Pool::new(1);
            let running = pool.try_submit(wait_forever).unwrap();
            let stopped = is_stopped(pool.shutdown().map_err(Stopped::from));
            running.cancel();
            stopped
        }),
        wait("Pool::map", || {
            let pool = Pool::new(1);
            let mut mapped = pool.map([()], |()| wait_forever());
            !matches!(mapped.next(), Some(Ok(())))
        }),
        wait("fire", || {
            let (busy, go) = busy(1);
            busy.fire(1).unwrap();
            let refused = busy.fire(2).map_err(|refused| refused.reason);
            drop(go);
            refused == Err(Undeliverable::Stopped)
        }),
        wait("publish", || {
            let (busy, go) = busy(1);
            let channel = Channel::new();
            let subscription = channel.add(&busy, Some((1, Overflow::Wait)));
            let taken = (channel.publish(1), channel.publish(2));
            drop(go);
            taken == (1, 0) && subscription.missed() == 1
        }),
    ]
}

#[test]
fn a_token_ends_every_wait_there_is() {
    bounded(|| {
        let stop = StopToken::new();
        let workers: Vec<_> = waits()
            .into_iter()
            .map(|(name, wait)| {
                let stop = stop.clone();
                let task = move || {
                    let _bound = stop.bind_current();
                    Ok(wait())
                };
                (name, Worker::builder().name(name).spawn(task).unwrap())
            })
            .collect();
        // They are at work when they have answered: from within what they wait for.
        for (_, worker) in &workers {
            settle(worker);
            assert_eq!(worker.status(), Status::Running, "{} does not wait", worker.remote());
        }
        stop.stop();
        for (name, worker) in workers {
            let ended = worker.join().unwrap();
            assert!(matches!(ended, Ended::Done(true)), "{name}: {ended:?}");
        }
    });
}

#[test]
fn a_wait_that_begins_after_the_stop_does_not_wait() {
    bounded(|| {
        for (name, wait) in waits() {
            let task = move || {
                EventLoop::current().remote().stop();
                Ok(wait())
            };
            let ended = Worker::builder().name(name).spawn(task).unwrap().join().unwrap();
            assert!(matches!(ended, Ended::Done(true)), "{name}: {ended:?}");
        }
    });
}

#[test]
fn stopping_joining_and_both_with_a_limit_are_three_things() {
    bounded(|| {
        let worker = endless();
        let Err(worker) = worker.try_join() else { panic!("a join is no stop") };
        let Err(worker) = worker.join_timeout(Duration::ZERO).unwrap() else { panic!("nor is this") };
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
        let worker = endless();
        assert_eq!(worker.stop_within(PATIENCE), Ok(()));
        assert!(worker.has_ended());
    });
}

#[test]
fn a_task_may_end_as_stopped_by_itself() {
    bounded(|| {
        let worker = Worker::spawn(|| Err::<(), _>(Stopped));
        let remote = worker.remote();
        assert!(worker.join().unwrap().was_stopped());
        assert_eq!(remote.status(), Status::Ended(threadwire_worker::Outcome::Stopped));
    });
}
