//! Tests of promises, for threads and for futures.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::common::bounded;
use threadwire_worker::{
    Async, Defer, EventLoop, PromiseError, StopToken, Stopped, Worker, block_on, sleep, wait_forever,
    wait_worker,
};

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn waker() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), count.into())
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// An executor that parks its thread, as any but ours may do.
fn park_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(thread::current())).into();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// Waits until a worker has run what was posted to it, and so sits in a wait.
fn waits<R: Send + 'static>(worker: &Worker<R>) {
    let (tell, told) = mpsc::channel();
    worker.remote().post(move |_| tell.send(()).unwrap()).unwrap();
    told.recv().unwrap();
}

#[test]
fn a_closure_that_would_wait_for_its_own_result_is_told_so_at_once() {
    bounded(|| {
        let (give, given) = mpsc::channel::<Async<bool>>();
        let (tell, told) = mpsc::channel();
        let own = Async::run(move || {
            let mut own = given.recv().unwrap();
            let is_itself = |result: Result<bool, PromiseError>| matches!(result, Err(PromiseError::Itself));
            let timed = own.get_timeout(Duration::from_secs(600));
            let told = [is_itself(own.get()), is_itself(timed), is_itself(block_on(&mut own)?)];
            tell.send(told).unwrap();
            Ok(true)
        });
        let worker = own.worker().unwrap().clone();
        give.send(own).unwrap();
        wait_worker(&worker).unwrap();
        assert_eq!(told.recv().unwrap(), [true; 3]);
    });
}

#[test]
fn every_getter_gets_the_value() {
    bounded(|| {
        let answer = Defer::new();
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let answer = answer.clone();
                Worker::spawn(move || Ok(answer.get().unwrap()))
            })
            .collect();
        workers.iter().for_each(waits);
        answer.resolve("value".to_owned()).unwrap();
        for worker in workers {
            assert_eq!(worker.join().unwrap().done().as_deref(), Some("value"));
        }
        assert_eq!(answer.get().unwrap(), "value", "also one that comes late");
    });
}

#[test]
fn the_first_to_settle_wins_and_the_others_get_their_value_back() {
    bounded(|| {
        let answer = Defer::new();
        assert!(!answer.is_settled());
        answer.resolve(1).unwrap();
        assert_eq!(answer.resolve(2), Err(2));
        assert!(!answer.reject("late"));
        assert!(!answer.cancel());
        assert_eq!(answer.get().unwrap(), 1);

        let rejected = Defer::<u32>::new();
        assert!(rejected.reject(std::io::Error::other("no answer")));
        assert_eq!(rejected.resolve(1), Err(1));
        let error = rejected.get().unwrap_err();
        assert!(matches!(error, PromiseError::Rejected(_)));
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "no answer");
    });
}

#[test]
fn exactly_one_of_many_racing_threads_settles_it() {
    bounded(|| {
        for _ in 0..50 {
            let answer = Defer::new();
            let start = Arc::new(Barrier::new(4));
            let racers: Vec<_> = (0..4)
                .map(|number| {
                    let (answer, start) = (answer.clone(), Arc::clone(&start));
                    thread::spawn(move || {
                        start.wait();
                        let won = if number == 3 { answer.cancel() } else { answer.resolve(number).is_ok() };
                        won.then_some(number)
                    })
                })
                .collect();
            let got = answer.get();
            let winners: Vec<i32> = racers.into_iter().filter_map(|racer| racer.join().unwrap()).collect();
            match got {
                Ok(number) => assert_eq!(winners, [number]),
                Err(PromiseError::Cancelled) => assert_eq!(winners, [3]),
                Err(other) => panic!("{other}"),
            }
        }
    });
}

#[test]
fn a_get_serves_the_loop_of_its_thread() {
    bounded(|| {
        let answer = Defer::new();
        let resolver = answer.clone();
        EventLoop::current().after(Duration::ZERO, move || resolver.resolve(7).unwrap());
        assert_eq!(answer.get().unwrap(), 7);
    });
}

#[test]
fn a_get_that_timed_out_can_be_repeated() {
    bounded(|| {
        let answer = Defer::new();
        assert!(matches!(answer.get_timeout(Duration::ZERO), Err(PromiseError::TimedOut)));
        assert!(answer.try_get().is_none());
        answer.resolve(1).unwrap();
        assert_eq!(answer.get_timeout(Duration::ZERO).unwrap(), 1);
        assert_eq!(answer.get_timeout(Duration::MAX).unwrap(), 1);
        assert_eq!(answer.try_get().unwrap().unwrap(), 1);
    });
}

#[test]
fn a_cancel_ends_the_getters() {
    bounded(|| {
        let answer = Defer::<u32>::new();
        let getter = Worker::spawn({
            let answer = answer.clone();
            move || Ok(answer.get())
        });
        waits(&getter);
        assert!(answer.cancel());
        assert!(matches!(getter.join().unwrap().done(), Some(Err(PromiseError::Cancelled))));
    });
}

#[test]
fn a_stop_ends_a_getter_and_leaves_the_result_to_others() {
    bounded(|| {
        let answer = Defer::new();
        let getter = Worker::spawn({
            let answer = answer.clone();
            move || Ok(answer.get())
        });
        waits(&getter);
        getter.stop();
        assert!(matches!(getter.join().unwrap().done(), Some(Err(PromiseError::Stopped(Stopped)))));
        answer.resolve(1).unwrap();
        assert_eq!(answer.get().unwrap(), 1);
    });
}

#[test]
fn it_is_abandoned_with_its_last_resolver() {
    bounded(|| {
        let answer = Defer::<u32>::new();
        let first = answer.resolver();
        let second = first.clone();
        drop(first);
        assert!(!answer.is_settled());
        drop(second);
        assert!(matches!(answer.get(), Err(PromiseError::Abandoned)));

        let answer = Defer::new();
        let (resolver, other) = (answer.resolver(), answer.resolver());
        resolver.resolve(1).unwrap();
        assert!(other.is_settled());
        drop(other);
        assert_eq!(answer.get().unwrap(), 1);
    });
}

#[test]
fn a_task_is_woken_by_the_waker_of_its_last_poll_only() {
    let mut answer = Defer::new();
    let ((old, old_waker), (new, new_waker)) = (Count::waker(), Count::waker());
    assert!(poll(&mut answer, &old_waker).is_pending());
    assert!(poll(&mut answer, &new_waker).is_pending());
    answer.resolve(1).unwrap();
    assert_eq!((old.get(), new.get()), (0, 1));
    assert!(matches!(poll(&mut answer, &new_waker), Poll::Ready(Ok(1))));
    assert!(matches!(poll(&mut answer, &new_waker), Poll::Ready(Ok(1))), "a clone each time");
}

#[test]
fn each_clone_that_is_polled_is_woken_and_a_dropped_one_is_forgotten() {
    let answer = Defer::new();
    let (mut first, mut second, mut gone) = (answer.clone(), answer.clone(), answer.clone());
    let wakers = [Count::waker(), Count::waker(), Count::waker()];
    assert!(poll(&mut first, &wakers[0].1).is_pending());
    assert!(poll(&mut second, &wakers[1].1).is_pending());
    assert!(poll(&mut gone, &wakers[2].1).is_pending());
    drop(gone);
    assert_eq!(Arc::strong_count(&wakers[2].0), 2, "its waker was dropped with it");
    answer.resolve(1).unwrap();
    assert_eq!(wakers.each_ref().map(|(count, _)| count.get()), [1, 1, 0]);
}

#[test]
fn any_executor_can_await_it() {
    bounded(|| {
        for number in 0..100 {
            let answer = Defer::new();
            let resolver = answer.clone();
            let thread = thread::spawn(move || resolver.resolve(number).unwrap());
            assert_eq!(park_on(answer).unwrap(), number);
            thread.join().unwrap();
        }
        assert_eq!(park_on(Async::run(|| Ok(1))).unwrap(), 1);
    });
}

#[test]
fn async_gives_its_value_once() {
    bounded(|| {
        let result = Async::run(|| Ok(Box::new(1)));
        assert_eq!(*result.get().unwrap(), 1);
        assert!(result.is_settled());
        assert!(matches!(result.get(), Err(PromiseError::Taken)));
        assert!(!result.cancel());
    });
}

#[test]
fn async_serves_the_loop_of_its_getter() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let result = Async::run(move || Ok(told.recv().unwrap()));
        EventLoop::current().after(Duration::ZERO, move || tell.send(5).unwrap());
        assert_eq!(result.get().unwrap(), 5);
    });
}

#[test]
fn async_reports_a_panic_with_its_message() {
    bounded(|| {
        let (number, text) = (1, Async::<()>::run(|| panic!("plain")));
        let formatted = Async::<()>::run(move || panic!("number {number}"));
        let neither = Async::<()>::run(|| std::panic::panic_any(1));
        let messages = [text, formatted, neither].map(|result| result.get().unwrap_err().to_string());
        assert_eq!(messages, ["panicked: plain", "panicked: number 1", "panicked: (no message)"]);
    });
}

#[test]
fn a_cancelled_async_ends_at_once_and_stops_its_thread() {
    bounded(|| {
        let (ending, ended) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let result = Async::run(move || {
            tell.send(()).unwrap();
            let waited = wait_forever();
            ending.send(waited).unwrap();
            waited
        });
        told.recv().unwrap();
        assert!(matches!(result.get_timeout(Duration::ZERO), Err(PromiseError::TimedOut)));
        assert!(result.cancel());
        assert!(!result.cancel());
        assert!(matches!(result.get(), Err(PromiseError::Cancelled)));
        assert_eq!(ended.recv().unwrap(), Err(Stopped));
    });
}

#[test]
fn an_async_that_was_stopped_is_cancelled_and_not_empty() {
    bounded(|| {
        let result = Async::run(|| {
            EventLoop::current().remote().stop();
            wait_forever()
        });
        assert!(matches!(result.get(), Err(PromiseError::Cancelled)));
    });
}

#[test]
fn a_cancel_that_races_with_the_end_loses_or_wins_but_never_hangs() {
    bounded(|| {
        for _ in 0..50 {
            let result = Async::run(|| Ok(1));
            let cancelled = result.cancel();
            match result.get() {
                Ok(1) => assert!(!cancelled),
                Err(PromiseError::Cancelled) => assert!(cancelled),
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_dropped_async_runs_on() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        drop(Async::run(move || {
            tell.send(1).unwrap();
            Ok(())
        }));
        assert_eq!(told.recv().unwrap(), 1);
    });
}

#[test]
fn block_on_serves_the_loop_and_needs_no_send_future() {
    bounded(|| {
        let answer = Defer::new();
        let resolver = answer.clone();
        let seen = Rc::new(Cell::new(0));
        let counter = Rc::clone(&seen);
        EventLoop::current().after(Duration::ZERO, move || {
            counter.set(1);
            resolver.resolve(2).unwrap();
        });
        let sum = block_on(async { answer.await.unwrap() + seen.get() });
        assert_eq!(sum, Ok(3));
    });
}

#[test]
fn block_on_polls_once_for_many_wakeups() {
    bounded(|| {
        let done = Rc::new(Cell::new(false));
        let mut polls = 0;
        let answer = block_on(std::future::poll_fn(|context| {
            polls += 1;
            if done.get() {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            if polls == 1 {
                // All of them before the loop gets to it.
                thread::spawn(move || (0..1000).for_each(|_| waker.wake_by_ref())).join().unwrap();
            } else {
                let done = Rc::clone(&done);
                EventLoop::current().after(Duration::ZERO, move || {
                    done.set(true);
                    waker.wake();
                });
            }
            Poll::Pending
        }));
        assert_eq!(answer, Ok(()));
        assert_eq!(polls, 3);
    });
}

#[test]
fn block_on_turns_the_loop_for_a_future_that_wakes_itself() {
    bounded(|| {
        let rang = Rc::new(Cell::new(false));
        let bell = Rc::clone(&rang);
        EventLoop::current().after(Duration::ZERO, move || bell.set(true));
        let turned = block_on(std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            if rang.get() { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert_eq!(turned, Ok(()));
    });
}

#[test]
fn a_stop_ends_block_on_and_drops_the_future() {
    bounded(|| {
        struct Told(mpsc::Sender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (tell, told) = mpsc::channel();
        let worker = Worker::spawn(move || {
            let guard = Told(tell);
            block_on(async move {
                let _guard = guard;
                std::future::pending::<()>().await
            })
        });
        waits(&worker);
        assert!(told.try_recv().is_err());
        worker.stop();
        assert!(worker.join().unwrap().was_stopped());
        told.recv().unwrap();
    });
}

#[test]
fn workers_hand_results_round_by_futures() {
    bounded(|| {
        const WORKERS: usize = 4;
        let ring: Vec<Defer<usize>> = (0..=WORKERS).map(|_| Defer::new()).collect();
        let workers: Vec<_> = ring
            .windows(2)
            .map(|pair| {
                let (from, to) = (pair[0].clone(), pair[1].clone());
                Worker::spawn(move || {
                    let number = block_on(from)?.unwrap();
                    to.resolve(number + 1).unwrap();
                    Ok(())
                })
            })
            .collect();
        ring[0].resolve(0).unwrap();
        assert_eq!(ring[WORKERS].get().unwrap(), WORKERS);
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn a_token_stops_those_who_are_bound_and_nobody_else() {
    bounded(|| {
        let stop = StopToken::new();
        let bind = |token: &StopToken| {
            let token = token.clone();
            Worker::spawn(move || {
                let _bound = token.bind_current();
                wait_forever()
            })
        };
        let early = bind(&stop);
        waits(&early);
        let go = Defer::new();
        let released = Worker::spawn({
            let (stop, go) = (stop.clone(), go.clone());
            move || {
                drop(stop.bind_current());
                go.get().map_err(|_| Stopped)?;
                sleep(Duration::ZERO)
            }
        });
        waits(&released);
        assert_eq!(stop.checkpoint(), Ok(()));
        assert!(stop.stop());
        assert!(!stop.stop());
        assert_eq!(stop.checkpoint(), Err(Stopped));
        assert!(early.join().unwrap().was_stopped());
        assert!(bind(&stop).join().unwrap().was_stopped(), "one that comes late");
        go.resolve(()).unwrap();
        assert!(released.join().unwrap().done().is_some());
    });
}
