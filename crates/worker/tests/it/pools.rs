//! Tests of thread pools: bounds, results, isolation, shutdown.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::bounded;
use threadwire_worker::{
    Async, Defer, EventLoop, Pool, PromiseError, PutError, ShutdownError, Stopped, Worker, block_on, sleep,
    update, wait_forever,
};

/// A task that has begun, and runs until it is released or stopped.
struct Busy {
    release: Defer<()>,
    result: Async<()>,
}

impl Busy {
    fn occupy(pool: &Pool) -> Busy {
        let (release, begun) = (Defer::new(), Defer::new());
        let result = pool
            .submit({
                let (release, begun) = (release.clone(), begun.clone());
                move || {
                    begun.resolve(()).unwrap();
                    release.get().map_err(|_| Stopped)
                }
            })
            .unwrap();
        begun.get().unwrap();
        Busy { release, result }
    }

    fn release(self) {
        self.release.resolve(()).unwrap();
        self.result.get().unwrap();
    }
}

fn pool(threads: usize, capacity: usize) -> Pool {
    Pool::builder().threads(threads).capacity(capacity).build().unwrap()
}

#[test]
fn runs_what_is_submitted_and_gives_the_results() {
    bounded(|| {
        let pool = Pool::new(3);
        let results: Vec<_> = (0..100).map(|number| pool.submit(move || Ok(number * 2)).unwrap()).collect();
        for (number, result) in results.into_iter().enumerate() {
            assert_eq!(result.get().unwrap(), number * 2);
        }
        assert_eq!(pool.threads(), 3);
        pool.shutdown().unwrap();
    });
}

#[test]
fn runs_on_as_many_threads_as_it_says_and_names_them() {
    bounded(|| {
        let pool = Pool::builder().name("crew").threads(3).build().unwrap();
        let meet = Arc::new(std::sync::Barrier::new(3));
        let results: Vec<_> = (0..3)
            .map(|_| {
                let meet = Arc::clone(&meet);
                let task = move || {
                    // Passes only if all three run at once.
                    meet.wait();
                    Ok(thread::current().name().unwrap().to_owned())
                };
                pool.submit(task).unwrap()
            })
            .collect();
        let mut names: Vec<_> = results.iter().map(|result| result.get().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["crew-0", "crew-1", "crew-2"]);
    });
}

#[test]
fn is_bounded_and_gives_the_refused_task_back() {
    bounded(|| {
        let pool = pool(1, 2);
        let busy = Busy::occupy(&pool);
        assert_eq!((pool.running(), pool.waiting()), (1, 0));
        let waiting = [pool.try_submit(|| Ok(1)).unwrap(), pool.try_submit(|| Ok(2)).unwrap()];
        assert_eq!((pool.running(), pool.waiting()), (1, 2));
        let refused = pool.try_submit(|| Ok(3)).unwrap_err();
        assert!(matches!(refused, PutError::Full(_)));
        busy.release();
        assert_eq!(waiting.map(|result| result.get().unwrap()), [1, 2]);
        let again = pool.submit(refused.into_inner()).unwrap();
        assert_eq!(again.get().unwrap(), 3);
    });
}

#[test]
fn a_submit_that_waits_for_room_serves_the_loop() {
    bounded(|| {
        let pool = pool(1, 1);
        let busy = Busy::occupy(&pool);
        let waiting = pool.submit(|| Ok(1)).unwrap();
        EventLoop::current().after(Duration::ZERO, move || busy.release.resolve(()).unwrap());
        let last = pool.submit(|| Ok(2)).unwrap();
        assert_eq!((waiting.get().unwrap(), last.get().unwrap()), (1, 2));
    });
}

#[test]
fn a_stop_ends_a_submit_that_waits_for_room() {
    bounded(|| {
        let pool = Arc::new(pool(1, 1));
        let _busy = Busy::occupy(&pool);
        let _waiting = pool.submit(|| Ok(())).unwrap();
        let submitter = Worker::spawn({
            let pool = Arc::clone(&pool);
            move || Ok(matches!(pool.submit(|| Ok(())), Err(PutError::Stopped(_))))
        });
        submitter.stop();
        assert_eq!(submitter.join().unwrap().done(), Some(true));
    });
}

#[test]
fn a_panic_is_the_error_of_its_task_and_the_thread_goes_on() {
    bounded(|| {
        let pool = Pool::new(1);
        let name = || Ok(thread::current().id());
        let before = pool.submit(name).unwrap().get().unwrap();
        let broken = pool.submit(|| -> Result<(), Stopped> { panic!("task {}", 1) }).unwrap();
        assert_eq!(broken.get().unwrap_err().to_string(), "panicked: task 1");
        assert_eq!(pool.submit(name).unwrap().get().unwrap(), before);
        pool.shutdown().unwrap();
        assert_eq!(pool.running(), 0);
    });
}

#[test]
fn a_value_that_panics_in_its_drop_leaves_the_thread_alive() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }
    bounded(|| {
        let pool = pool(1, 2);
        let busy = Busy::occupy(&pool);
        let cancelled = pool.submit(|| Ok(Bomb)).unwrap();
        let bomb = Bomb;
        let unwanted = pool
            .submit(move || {
                let _bomb = &bomb;
                Ok(())
            })
            .unwrap();
        assert!(cancelled.cancel() && unwanted.cancel());
        busy.release();
        assert_eq!(pool.submit(|| Ok(1)).unwrap().get().unwrap(), 1);
        pool.shutdown().unwrap();
    });
}

#[test]
fn a_task_that_is_cancelled_before_it_begins_never_does() {
    bounded(|| {
        let pool = pool(1, 4);
        let busy = Busy::occupy(&pool);
        let ran = Arc::new(AtomicBool::new(false));
        let cancelled = pool
            .submit({
                let ran = Arc::clone(&ran);
                move || {
                    ran.store(true, Ordering::SeqCst);
                    Ok(())
                }
            })
            .unwrap();
        let behind = pool.submit(|| Ok(2)).unwrap();
        assert!(cancelled.cancel());
        assert!(matches!(cancelled.get(), Err(PromiseError::Cancelled)));
        busy.release();
        assert_eq!(behind.get().unwrap(), 2);
        assert!(!ran.load(Ordering::SeqCst));
    });
}

#[test]
fn a_cancel_stops_the_running_task_and_no_other() {
    bounded(|| {
        let pool = Pool::new(1);
        let busy = Busy::occupy(&pool);
        let (tell, told) = mpsc::channel();
        let next = pool
            .submit(move || {
                // Its waits are its own again.
                sleep(Duration::ZERO)?;
                update()?;
                tell.send(EventLoop::current().is_stopping()).unwrap();
                Ok(1)
            })
            .unwrap();
        assert!(busy.result.cancel());
        assert!(matches!(busy.result.get(), Err(PromiseError::Cancelled)));
        assert_eq!(next.get().unwrap(), 1);
        assert!(!told.recv().unwrap());
    });
}

#[test]
fn a_cancel_that_comes_late_does_not_hit_the_next_task() {
    bounded(|| {
        let pool = Pool::new(1);
        for number in 0..200 {
            let first = pool.submit(|| sleep(Duration::ZERO)).unwrap();
            let second = pool
                .submit(move || {
                    sleep(Duration::ZERO)?;
                    Ok(number)
                })
                .unwrap();
            let cancelled = first.cancel();
            assert_eq!(first.get().is_ok(), !cancelled);
            assert_eq!(second.get().unwrap(), number);
        }
    });
}

#[test]
fn a_task_that_computes_sees_its_cancel_by_update() {
    bounded(|| {
        let pool = Pool::new(1);
        let begun = Defer::new();
        let endless = pool
            .submit({
                let begun = begun.clone();
                move || -> Result<(), Stopped> {
                    begun.resolve(()).unwrap();
                    loop {
                        update()?;
                    }
                }
            })
            .unwrap();
        begun.get().unwrap();
        endless.cancel();
        pool.shutdown().unwrap();
    });
}

#[test]
fn the_loop_of_a_thread_lives_from_task_to_task() {
    bounded(|| {
        let pool = Pool::new(1);
        let (tell, told) = mpsc::channel();
        let task = move || {
            EventLoop::current().after(Duration::ZERO, move || tell.send(1).unwrap());
            Ok(())
        };
        pool.submit(task).unwrap().get().unwrap();
        assert_eq!(told.recv().unwrap(), 1, "a timer rings while the thread waits for tasks");
    });
}

#[test]
fn shutdown_does_all_that_was_submitted() {
    bounded(|| {
        let pool = pool(2, 100);
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..50 {
            let done = Arc::clone(&done);
            let task = move || {
                done.fetch_add(1, Ordering::SeqCst);
                Ok(())
            };
            drop(pool.submit(task).unwrap());
        }
        pool.shutdown().unwrap();
        assert_eq!(done.load(Ordering::SeqCst), 50);
        pool.shutdown().unwrap();
        assert!(matches!(pool.submit(|| Ok(())), Err(PutError::Closed(_))));
        assert!(matches!(pool.try_submit(|| Ok(())), Err(PutError::Closed(_))));
    });
}

#[test]
fn shutdown_now_discards_what_has_not_begun_and_stops_what_runs() {
    bounded(|| {
        let pool = pool(2, 10);
        let running = [Busy::occupy(&pool), Busy::occupy(&pool)];
        let waiting: Vec<_> = (0..5).map(|_| pool.submit(|| Ok(())).unwrap()).collect();
        pool.shutdown_now().unwrap();
        assert_eq!((pool.running(), pool.waiting()), (0, 0));
        for result in running.into_iter().map(|busy| busy.result).chain(waiting) {
            assert!(matches!(result.get(), Err(PromiseError::Cancelled)));
        }
    });
}

#[test]
fn a_stop_ends_the_wait_for_a_shutdown_and_the_pool_goes_on() {
    bounded(|| {
        let pool = Arc::new(Pool::new(1));
        let busy = Busy::occupy(&pool);
        let closer = Worker::spawn({
            let pool = Arc::clone(&pool);
            move || Ok(pool.shutdown()?)
        });
        closer.stop();
        assert!(closer.join().unwrap().was_stopped());
        busy.release();
        pool.shutdown_now().unwrap();
    });
}

#[test]
fn a_dropped_pool_leaves_nothing_behind_and_does_not_wait() {
    bounded(|| {
        let pool = pool(1, 2);
        let busy = Busy::occupy(&pool);
        let waiting = pool.submit(|| Ok(())).unwrap();
        drop(pool);
        assert!(matches!(waiting.get(), Err(PromiseError::Cancelled)));
        assert!(matches!(busy.result.get(), Err(PromiseError::Cancelled)));
    });
}

#[test]
fn a_pool_may_be_dropped_by_its_own_task() {
    bounded(|| {
        let pool = Arc::new(Pool::new(1));
        let go = Defer::new();
        let result = pool
            .submit({
                let (pool, go) = (Arc::clone(&pool), go.clone());
                move || {
                    go.get().unwrap();
                    drop(pool);
                    Ok(wait_forever())
                }
            })
            .unwrap();
        drop(pool);
        go.resolve(()).unwrap();
        // It was stopped, and says so itself: it had come to its end by then.
        assert_eq!(result.get().unwrap(), Err(Stopped));
    });
}

#[test]
fn tasks_may_submit_tasks() {
    bounded(|| {
        let pool = Arc::new(pool(2, 4));
        let inner = Arc::clone(&pool);
        let outer = pool.submit(move || Ok(inner.submit(|| Ok(1)).unwrap().get().unwrap() + 1)).unwrap();
        assert_eq!(outer.get().unwrap(), 2);
    });
}

#[test]
fn map_keeps_the_order_and_takes_inputs_as_there_is_room() {
    bounded(|| {
        let pool = pool(2, 2);
        let taken = Rc::new(Cell::new(0));
        let counter = Rc::clone(&taken);
        let inputs = (0..100).inspect(move |_| counter.set(counter.get() + 1));
        let mut results = pool.map(inputs, |number| Ok(number * number));
        assert_eq!(taken.get(), 0);
        assert_eq!(results.next().unwrap().unwrap(), 0);
        // Those that were submitted, and one that found no room.
        assert!(taken.get() <= 5, "{}", taken.get());
        let rest: Vec<i32> = results.map(Result::unwrap).collect();
        assert_eq!(rest, (1..100).map(|number| number * number).collect::<Vec<_>>());
    });
}

#[test]
fn map_goes_on_after_a_panic() {
    bounded(|| {
        let pool = Pool::new(2);
        let results: Vec<_> = pool
            .map(0..5, |number| if number == 2 { panic!("two") } else { Ok(number) })
            .map(|result| result.map_err(|error| error.to_string()))
            .collect();
        assert_eq!(results, [Ok(0), Ok(1), Err("panicked: two".to_owned()), Ok(3), Ok(4)]);
    });
}

#[test]
fn a_dropped_map_cancels_what_it_has_not_given() {
    bounded(|| {
        let pool = pool(1, 4);
        let mut results = pool.map(0..4, |number| if number == 0 { Ok(()) } else { wait_forever() });
        results.next().unwrap().unwrap();
        drop(results);
        pool.shutdown().unwrap();
    });
}

#[test]
fn map_ends_when_the_pool_or_the_caller_does() {
    bounded(|| {
        let pool = Arc::new(pool(1, 4));
        let mapper = Worker::spawn({
            let pool = Arc::clone(&pool);
            move || Ok(pool.map(0..3, |_| wait_forever()).collect::<Vec<_>>())
        });
        mapper.stop();
        let results = mapper.join().unwrap().done().unwrap();
        assert!(matches!(results.as_slice(), [Err(PromiseError::Stopped(Stopped))]));

        pool.shutdown_now().unwrap();
        let results: Vec<_> = pool.map(0..3, Ok).collect();
        assert!(matches!(results.as_slice(), [Err(PromiseError::Cancelled)]));
    });
}

#[test]
fn results_can_be_awaited() {
    bounded(|| {
        let pool = Pool::new(2);
        let (one, two) = (pool.submit(|| Ok(1)).unwrap(), pool.submit(|| Ok(2)).unwrap());
        let sum = block_on(async { Ok::<_, PromiseError>(one.await? + two.await?) });
        assert_eq!(sum.unwrap().unwrap(), 3);
    });
}

#[test]
fn many_submitters_get_each_their_own_results() {
    bounded(|| {
        let pool = Arc::new(pool(4, 4));
        let submitters: Vec<_> = (0..4)
            .map(|number| {
                let pool = Arc::clone(&pool);
                Worker::spawn(move || {
                    for index in 0..200 {
                        let result = pool.submit(move || Ok((number, index))).unwrap();
                        assert_eq!(result.get().unwrap(), (number, index));
                    }
                    Ok(())
                })
            })
            .collect();
        for submitter in submitters {
            assert!(submitter.join().unwrap().done().is_some());
        }
    });
}

#[test]
#[should_panic(expected = "at least one thread")]
fn needs_a_thread() {
    Pool::new(0);
}

#[test]
fn a_cancel_reaches_a_task_that_has_run_a_worker_on_its_thread() {
    let pool = Pool::new(1);
    let (tell, told) = mpsc::channel();
    let first = pool
        .submit(move || {
            let _ = Worker::<()>::builder().run(|| Ok(1));
            let here = EventLoop::current().remote();
            tell.send(here).unwrap();
            wait_forever()
        })
        .unwrap();
    let remote = told.recv().unwrap();
    first.cancel();
    let second = pool.submit(|| Ok(2)).unwrap();
    let got = second.get_timeout(Duration::from_secs(2));
    remote.stop(); // so that the test ends
    assert_eq!(got.unwrap(), 2);
}

#[test]
fn a_task_that_shuts_its_own_pool_down_is_told_that_it_would_wait_for_itself() {
    bounded(|| {
        for now in [false, true] {
            let pool = Arc::new(pool(2, 2));
            let own = Arc::clone(&pool);
            let task = move || Ok(if now { own.shutdown_now() } else { own.shutdown() });
            let told = pool.submit(task).unwrap().get();
            // The order to stop reaches the task that gave it, too.
            assert!(
                matches!(told, Ok(Err(ShutdownError::OwnTask)) | Err(PromiseError::Cancelled)),
                "{told:?}"
            );
            assert!(matches!(pool.submit(|| Ok(())), Err(PutError::Closed(_))), "it takes no more");
            // Another pool's task may wait for it, and so may this thread.
            let (other, waited) = (Pool::new(1), Arc::clone(&pool));
            assert_eq!(other.submit(move || Ok(waited.shutdown())).unwrap().get().unwrap(), Ok(()));
            pool.shutdown().unwrap();
        }
    });
}

#[test]
fn tasks_that_all_wait_for_room_in_their_own_pool_do_not_hang() {
    bounded(|| {
        for threads in [1, 3] {
            let pool = Arc::new(pool(threads, 1));
            let gate = Arc::new(std::sync::Barrier::new(threads));
            let spawn = |gate: Option<Arc<std::sync::Barrier>>| {
                let own = Arc::clone(&pool);
                move || {
                    if let Some(gate) = gate {
                        gate.wait();
                    }
                    // One of these takes the place that there is, and one finds all others waiting.
                    for _ in 0..2 {
                        match own.submit(|| Ok(())) {
                            Err(PutError::Deadlock(task)) => return Ok(task().is_ok()),
                            other => drop(other.map_err(|_| Stopped)?),
                        }
                    }
                    Ok(false)
                }
            };
            let tasks: Vec<_> =
                (0..threads).map(|_| pool.submit(spawn(Some(Arc::clone(&gate)))).unwrap()).collect();
            let told = tasks.iter().filter(|task| task.get().unwrap()).count();
            assert!(told >= 1, "somebody was told");
            // What follows has room again.
            assert!(pool.submit(|| Ok(())).unwrap().get().is_ok());
            pool.shutdown().unwrap();
        }
    });
}

#[test]
fn a_map_in_a_task_of_its_own_full_pool_ends_with_an_error() {
    bounded(|| {
        let pool = Arc::new(pool(1, 1));
        let own = Arc::clone(&pool);
        let mapped = pool.submit(move || {
            let waiting = own.submit(|| Ok(())).unwrap();
            let first = own.map([1, 2], Ok).next();
            drop(waiting);
            Ok(matches!(first, Some(Err(PromiseError::Deadlock))))
        });
        assert!(mapped.unwrap().get().unwrap());
        pool.shutdown().unwrap();
    });
}
