//! Tests of queues: order, bounds, ends, and no lost wake-ups.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::bounded;
use threadwire_worker::{
    Async, Defer, Ended, EventLoop, GetError, PutError, Queue, Ready, Source, Stopped, Token, Worker,
};

/// Returns when the worker has run what was posted to it: it sits in a wait.
fn waits<R: Send + 'static>(worker: &Worker<R>) {
    let (tell, told) = mpsc::channel();
    worker.remote().post(move |_| tell.send(()).unwrap()).unwrap();
    told.recv().unwrap();
}

/// A worker that waits for an item.
fn getter<T: Send + 'static>(queue: &Queue<T>) -> Worker<Option<T>> {
    let queue = queue.clone();
    let worker = Worker::spawn(move || Ok(queue.get()?.map(|task| task.into_inner())));
    waits(&worker);
    worker
}

/// A worker that waits for room.
fn putter<T: Send + 'static>(queue: &Queue<T>, value: T) -> Worker<Result<(), PutError<T>>> {
    let queue = queue.clone();
    let worker = Worker::spawn(move || Ok(queue.put(value)));
    waits(&worker);
    worker
}

fn done<R: Send + 'static>(worker: Worker<R>) -> R {
    worker.join().unwrap().done().unwrap()
}

#[test]
fn gives_items_in_the_order_in_which_they_were_put() {
    bounded(|| {
        let queue = Queue::new(3);
        for number in 0..3 {
            queue.put(number).unwrap();
        }
        assert_eq!((queue.len(), queue.capacity(), queue.is_empty()), (3, 3, false));
        for number in 0..3 {
            assert_eq!(*queue.get().unwrap().unwrap(), number);
        }
        assert!(queue.is_empty());
    });
}

#[test]
fn refuses_what_there_is_no_room_for_and_gives_it_back() {
    bounded(|| {
        let queue = Queue::new(1);
        queue.try_put("a").unwrap();
        assert!(matches!(queue.try_put("b"), Err(PutError::Full("b"))));
        assert!(matches!(queue.put_timeout("c", Duration::ZERO), Err(PutError::Full("c"))));
        assert!(matches!(queue.put_timeout("d", Duration::from_millis(1)), Err(PutError::Full("d"))));
        assert_eq!(queue.try_get().unwrap().into_inner(), "a");
        queue.put_timeout("e", Duration::MAX).unwrap();
        assert_eq!(queue.len(), 1);
    });
}

#[test]
#[should_panic(expected = "room for at least one")]
fn needs_room_for_one() {
    Queue::<()>::new(0);
}

#[test]
fn says_whether_it_is_empty_or_closed() {
    bounded(|| {
        let queue = Queue::<u32>::new(1);
        assert_eq!(queue.try_get().unwrap_err(), GetError::Empty);
        assert_eq!(queue.get_timeout(Duration::from_millis(1)).unwrap_err(), GetError::Empty);
        assert!(queue.close());
        assert!(!queue.close());
        assert!(queue.is_closed());
        assert_eq!(queue.try_get().unwrap_err(), GetError::Closed);
        assert_eq!(queue.get_timeout(Duration::MAX).unwrap_err(), GetError::Closed);
        assert!(queue.get().unwrap().is_none());
    });
}

#[test]
fn a_waiting_getter_gets_what_is_put() {
    bounded(|| {
        let queue = Queue::new(1);
        let worker = getter(&queue);
        queue.put(1).unwrap();
        assert_eq!(done(worker), Some(1));
    });
}

#[test]
fn a_waiting_putter_goes_on_when_there_is_room() {
    bounded(|| {
        let queue = Queue::new(1);
        queue.put(1).unwrap();
        let worker = putter(&queue, 2);
        assert_eq!(queue.len(), 1);
        assert_eq!(*queue.get().unwrap().unwrap(), 1);
        done(worker).unwrap();
        assert_eq!(*queue.get().unwrap().unwrap(), 2);
    });
}

#[test]
fn wakes_getters_in_the_order_in_which_they_came() {
    bounded(|| {
        let queue = Queue::new(3);
        let getters = [getter(&queue), getter(&queue), getter(&queue)];
        for (number, worker) in getters.into_iter().enumerate() {
            queue.put(number).unwrap();
            assert_eq!(done(worker), Some(number));
        }
    });
}

#[test]
fn wakes_putters_in_the_order_in_which_they_came() {
    bounded(|| {
        let queue = Queue::new(1);
        queue.put(0).unwrap();
        let putters = [putter(&queue, 1), putter(&queue, 2), putter(&queue, 3)];
        for (number, worker) in putters.into_iter().enumerate() {
            assert_eq!(*queue.get().unwrap().unwrap(), number);
            done(worker).unwrap();
        }
        assert_eq!(*queue.get().unwrap().unwrap(), 3);
    });
}

#[test]
fn loses_and_doubles_nothing_between_8_producers_and_8_consumers() {
    bounded(|| {
        const EACH: usize = 1000;
        let queue = Queue::<(usize, usize)>::new(4);
        let consumers: Vec<_> = (0..8)
            .map(|_| {
                let queue = queue.clone();
                Worker::spawn(move || {
                    let mut got = Vec::new();
                    for task in &queue {
                        got.push(task?.into_inner());
                    }
                    Ok(got)
                })
            })
            .collect();
        let producers: Vec<_> = (0..8)
            .map(|producer| {
                let queue = queue.clone();
                Worker::spawn(move || {
                    (0..EACH).for_each(|number| queue.put((producer, number)).unwrap());
                    Ok(())
                })
            })
            .collect();
        producers.into_iter().for_each(done);
        queue.join().unwrap();
        queue.close();
        let mut all = Vec::new();
        for consumer in consumers {
            let got = done(consumer);
            for producer in 0..8 {
                let numbers = got.iter().filter(|item| item.0 == producer).map(|item| item.1);
                assert!(numbers.is_sorted(), "each producer's items keep their order");
            }
            all.extend(got);
        }
        all.sort_unstable();
        let expected: Vec<_> = (0..8).flat_map(|producer| (0..EACH).map(move |n| (producer, n))).collect();
        assert!(all == expected);
        assert_eq!(queue.unfinished(), 0);
    });
}

#[test]
fn a_close_ends_all_who_wait_for_an_item() {
    bounded(|| {
        let queue = Queue::<u32>::new(1);
        let getters = [getter(&queue), getter(&queue), getter(&queue)];
        queue.close();
        assert!(getters.into_iter().map(done).all(|got| got.is_none()));
    });
}

#[test]
fn a_close_gives_waiting_putters_their_values_back_and_lets_getters_drain() {
    bounded(|| {
        let queue = Queue::new(1);
        queue.put(0).unwrap();
        let putters = [putter(&queue, 1), putter(&queue, 2)];
        queue.close();
        for (worker, number) in putters.into_iter().zip(1..) {
            assert!(matches!(done(worker), Err(PutError::Closed(back)) if back == number));
        }
        assert!(matches!(queue.try_put(3), Err(PutError::Closed(3))));
        assert!(matches!(queue.put(4), Err(PutError::Closed(4))));
        assert_eq!(*queue.get().unwrap().unwrap(), 0);
        assert!(queue.get().unwrap().is_none());
    });
}

#[test]
fn waits_serve_the_loop() {
    bounded(|| {
        let queue = Queue::new(1);
        let later = |call: fn(&Queue<u32>)| {
            let queue = queue.clone();
            EventLoop::current().after(Duration::ZERO, move || call(&queue));
        };
        later(|queue| queue.try_put(1).unwrap());
        let task = queue.get().unwrap().unwrap();
        let task = Rc::new(RefCell::new(Some(task)));
        let held = Rc::clone(&task);
        EventLoop::current().after(Duration::ZERO, move || drop(held.take()));
        queue.join().unwrap();
        assert!(task.borrow().is_none());
        queue.put(2).unwrap();
        later(|queue| drop(queue.try_get().unwrap()));
        queue.put(3).unwrap();
        assert_eq!(queue.len(), 1);
    });
}

#[test]
fn a_thread_that_never_has_to_wait_still_serves_its_loop() {
    bounded(|| {
        let queue = Queue::new(1000);
        let rang = Rc::new(Cell::new(false));
        let bell = Rc::clone(&rang);
        EventLoop::current().after(Duration::ZERO, move || bell.set(true));
        for number in 0..1000 {
            queue.put(number).unwrap();
        }
        assert!(rang.take());
        let bell = Rc::clone(&rang);
        EventLoop::current().after(Duration::ZERO, move || bell.set(true));
        for _ in 0..1000 {
            queue.get().unwrap().unwrap();
        }
        assert!(rang.get());
    });
}

#[test]
fn a_stop_ends_every_wait_and_gives_the_value_back() {
    bounded(|| {
        let (empty, full) = (Queue::<u32>::new(1), Queue::new(1));
        full.put(0).unwrap();
        let get = getter(&empty);
        let put = putter(&full, 1);
        let join = Worker::spawn({
            let full = full.clone();
            move || full.join()
        });
        waits(&join);
        get.stop();
        put.stop();
        join.stop();
        assert!(get.join().unwrap().was_stopped());
        assert!(matches!(done(put), Err(PutError::Stopped(1))));
        assert!(join.join().unwrap().was_stopped());
    });
}

#[test]
fn a_thread_that_is_stopped_takes_nothing_by_waits_but_still_can_without() {
    bounded(|| {
        let queue = Queue::new(2);
        queue.put(1).unwrap();
        let worker = Worker::spawn({
            let queue = queue.clone();
            move || {
                EventLoop::current().remote().stop();
                assert_eq!(queue.get().unwrap_err(), Stopped);
                assert_eq!(queue.get_timeout(Duration::ZERO).unwrap_err(), GetError::Stopped(Stopped));
                assert!(matches!(queue.put(2), Err(PutError::Stopped(2))));
                assert_eq!(queue.join(), Err(Stopped));
                let mut iter = queue.iter();
                assert!(matches!(iter.next(), Some(Err(Stopped))));
                assert!(iter.next().is_none());
                queue.try_put(2).unwrap();
                Ok(queue.try_get().unwrap().into_inner())
            }
        });
        assert_eq!(done(worker), 1);
        assert_eq!(queue.len(), 1);
    });
}

#[test]
fn a_getter_that_is_stopped_leaves_its_item_to_the_next() {
    bounded(|| {
        for _ in 0..50 {
            let queue = Queue::new(4);
            let (stopped, next) = (getter(&queue), getter(&queue));
            // Both at once: whether the first still takes it is open, but somebody must.
            stopped.stop();
            queue.put(1).unwrap();
            match stopped.join().unwrap() {
                Ended::Stopped => assert_eq!(done(next), Some(1)),
                Ended::Done(got) => {
                    assert_eq!(got, Some(1));
                    queue.put(2).unwrap();
                    assert_eq!(done(next), Some(2));
                }
                Ended::Failed(error) => panic!("{error}"),
                Ended::Panicked(payload) => std::panic::resume_unwind(payload),
            }
            assert!(queue.is_empty());
        }
    });
}

#[test]
fn a_getter_whose_time_is_up_leaves_its_item_to_the_next() {
    bounded(|| {
        for _ in 0..50 {
            let queue = Queue::<u32>::new(1);
            let (waiting, wait) = mpsc::channel();
            let short = Worker::spawn({
                let queue = queue.clone();
                move || {
                    waiting.send(()).unwrap();
                    Ok(queue.get_timeout(Duration::from_micros(200)).map(|task| task.into_inner()))
                }
            });
            wait.recv().unwrap();
            let next = getter(&queue);
            queue.put(1).unwrap();
            if done(short) == Ok(1) {
                queue.put(1).unwrap();
            }
            assert_eq!(done(next), Some(1));
        }
    });
}

#[test]
fn a_getter_whose_wait_panics_leaves_its_item_to_the_next() {
    /// Has its thread woken for an item, and keeps it from looking.
    struct Panics(Queue<u32>, Token);
    impl Source for Panics {
        fn ready(self: Rc<Self>, _: Ready) {
            self.0.try_put(1).unwrap();
            panic!("in a source");
        }
        fn stop(self: Rc<Self>) {
            EventLoop::current().detach_idle(self.1);
        }
    }
    bounded(|| {
        let queue = Queue::new(1);
        let broken = getter(&queue);
        let next = getter(&queue);
        let source = queue.clone();
        let attach = |event_loop: &EventLoop| {
            let token = event_loop.attach_idle(|token| Rc::new(Panics(source, token)));
            event_loop.requeue(token, Ready::READABLE);
        };
        broken.remote().post(attach).unwrap();
        assert!(matches!(broken.join().unwrap(), Ended::Panicked(_)));
        assert_eq!(done(next), Some(1));
    });
}

#[test]
fn a_getter_whose_callback_waits_lets_the_next_one_in() {
    bounded(|| {
        let queue = Queue::new(2);
        let held_up = getter(&queue);
        let release = Defer::new();
        let (inside, is_inside) = mpsc::channel();
        held_up
            .remote()
            .post({
                let release = release.clone();
                move |_| {
                    inside.send(()).unwrap();
                    release.get().unwrap();
                }
            })
            .unwrap();
        is_inside.recv().unwrap();
        let next = getter(&queue);
        queue.put(1).unwrap();
        assert_eq!(done(next), Some(1), "woken in the place of the first");
        queue.put(2).unwrap();
        release.resolve(()).unwrap();
        assert_eq!(done(held_up), Some(2), "the first looks for itself when it comes");
    });
}

#[test]
fn waits_for_the_same_queue_may_nest() {
    bounded(|| {
        let queue = Queue::new(2);
        let inner = Rc::new(Cell::new(0));
        EventLoop::current().after(Duration::ZERO, {
            let (queue, inner) = (queue.clone(), Rc::clone(&inner));
            move || {
                let other = queue.clone();
                let producer = thread::spawn(move || {
                    other.put(1).unwrap();
                    other.put(2).unwrap();
                });
                inner.set(*queue.get().unwrap().unwrap());
                producer.join().unwrap();
            }
        });
        let outer = *queue.get().unwrap().unwrap();
        assert_eq!((inner.get(), outer), (1, 2));
    });
}

#[test]
fn stops_at_random_moments_lose_nothing() {
    bounded(|| {
        let queue = Queue::new(2);
        let got = Arc::new(AtomicUsize::new(0));
        let consume = || {
            let (queue, got) = (queue.clone(), Arc::clone(&got));
            Worker::spawn(move || {
                for task in &queue {
                    drop(task?);
                    got.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let steady = consume();
        let producer = Async::run({
            let queue = queue.clone();
            move || {
                (0..2000).for_each(|number| queue.put(number).unwrap());
                Ok(())
            }
        });
        while !producer.is_settled() {
            let short = consume();
            short.stop();
            short.join().unwrap();
        }
        producer.get().unwrap();
        queue.join().unwrap();
        queue.close();
        done(steady);
        assert_eq!(got.load(Ordering::Relaxed), 2000);
    });
}

#[test]
fn join_waits_until_each_task_is_dropped() {
    bounded(|| {
        let queue = Queue::new(2);
        queue.join().unwrap();
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        assert_eq!(queue.join_timeout(Duration::ZERO), Ok(false));
        let first = queue.get().unwrap().unwrap();
        let second = queue.get().unwrap().unwrap();
        assert_eq!(queue.unfinished(), 2);
        let joiner = Worker::spawn({
            let queue = queue.clone();
            move || queue.join()
        });
        waits(&joiner);
        drop(first);
        assert_eq!(queue.join_timeout(Duration::from_millis(1)), Ok(false));
        assert!(!joiner.has_ended());
        assert_eq!(second.into_inner(), 2);
        done(joiner);
        assert_eq!(queue.join_timeout(Duration::ZERO), Ok(true));
    });
}

#[test]
fn a_task_is_done_also_if_its_consumer_or_its_drop_panics() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    bounded(|| {
        let queue = Queue::new(1);
        queue.put(()).unwrap();
        let consumer = Worker::<()>::spawn({
            let queue = queue.clone();
            move || {
                let _task = queue.get()?;
                panic!("in a consumer")
            }
        });
        queue.join().unwrap();
        consumer.join().unwrap();

        let bombs = Queue::new(1);
        bombs.put(Bomb).unwrap();
        let task = bombs.get().unwrap().unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err());
        assert_eq!(bombs.unfinished(), 0);
    });
}

#[test]
fn what_is_discarded_is_done_and_makes_room() {
    bounded(|| {
        let queue = Queue::new(2);
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        let putters = [putter(&queue, 3), putter(&queue, 4)];
        assert_eq!(queue.discard(), [1, 2]);
        for worker in putters {
            done(worker).unwrap();
        }
        assert_eq!(queue.unfinished(), 2);
        queue.discard();
        queue.join().unwrap();
    });
}

#[test]
fn items_may_use_their_own_queue_when_they_are_dropped() {
    struct Noisy(Queue<Noisy>);
    impl Drop for Noisy {
        fn drop(&mut self) {
            assert!(self.0.len() <= 1);
        }
    }
    bounded(|| {
        let queue = Queue::new(1);
        queue.put(Noisy(queue.clone())).unwrap();
        drop(queue.put_timeout(Noisy(queue.clone()), Duration::ZERO));
        drop(queue.get().unwrap());
        queue.put(Noisy(queue.clone())).unwrap();
        queue.close();
        drop(queue.discard());
    });
}

#[test]
fn native_threads_may_use_it() {
    bounded(|| {
        let queue = Queue::new(1);
        let consumer = thread::spawn({
            let queue = queue.clone();
            move || queue.iter().map(|task| *task.unwrap()).sum::<u32>()
        });
        (1..=100).for_each(|number| queue.put(number).unwrap());
        queue.close();
        assert_eq!(consumer.join().unwrap(), 5050);
    });
}
