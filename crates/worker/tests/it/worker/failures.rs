//! Tests of tasks that return errors of their own.

use std::error::Error;
use std::fmt;
use std::sync::mpsc;

use threadwire_worker::{
    Async, ChildChange, ChildEvent, Ended, Event, Outcome, Pool, PromiseError, Restartable, Status, Stopped,
    TaskError, Worker, wait_for, wait_forever,
};

use crate::common::bounded;

/// An error that some wait has made of a stop.
#[derive(Debug)]
struct Wrapped(Stopped);

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer")
    }
}

impl Error for Wrapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn number(text: &str) -> Fallible<u32> {
    Ok(text.parse()?)
}

#[test]
fn whoever_joins_gets_the_error_of_the_task() {
    bounded(|| {
        let worker = Worker::spawn_fallible(|| number("x"));
        let remote = worker.remote();
        let Ended::Failed(error) = worker.join().unwrap() else { panic!("x is no number") };
        assert!(error.is::<std::num::ParseIntError>());
        assert_eq!(remote.status(), Status::Ended(Outcome::Failed(error.to_string())));
        let done = Worker::spawn_fallible(|| number("7")).join().unwrap();
        assert_eq!(done.into_result().unwrap(), 7);
        assert!(matches!(Worker::<()>::builder().run_fallible(|| number("x")), Ended::Failed(_)));
    });
}

#[test]
fn the_error_goes_on_with_a_question_mark() {
    bounded(|| {
        fn join() -> Fallible<u32> {
            Ok(Worker::spawn_fallible(|| number("x")).join()?.into_result()?)
        }
        assert_eq!(join().unwrap_err().to_string(), "invalid digit found in string");
        let outer = Worker::spawn_fallible(join).join().unwrap();
        assert!(matches!(outer.into_result(), Err(TaskError::Failed(error)) if error.is::<TaskError>()));
        let panicked = Worker::<()>::spawn(|| panic!("boom")).join().unwrap();
        assert_eq!(panicked.into_result().unwrap_err().to_string(), "the task panicked: boom");
    });
}

#[test]
fn a_stop_is_a_stop_under_whichever_error_it_lies() {
    bounded(|| {
        let tasks: [fn() -> Fallible<()>; 2] =
            [|| Ok(wait_forever()?), || Ok(wait_forever().map_err(Wrapped)?)];
        for task in tasks {
            let worker = Worker::spawn_fallible(task);
            worker.stop();
            assert!(worker.join().unwrap().was_stopped());
            let promise = Async::run_fallible(task);
            promise.worker().unwrap().stop();
            assert!(matches!(promise.get(), Err(PromiseError::Cancelled)));
        }
    });
}

#[test]
fn the_parent_hears_of_the_error() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let worker = Worker::spawn_fallible(move || {
            goes.recv()?;
            number("x")
        });
        // From now on it wants to know.
        let _ = wait_for::<ChildEvent>().timeout(std::time::Duration::ZERO).wait().unwrap();
        go.send(()).unwrap();
        let fails = |event: &Event<ChildEvent>| event.change != ChildChange::Started;
        let failed = wait_for().matching(fails).wait().unwrap().unwrap();
        assert_eq!(failed.change, ChildChange::Failed("invalid digit found in string".to_owned()));
        assert_eq!(failed.data.worker, worker.remote());
    });
}

#[test]
fn errors_of_promises_and_pools_reject_the_result() {
    bounded(|| {
        let pool = Pool::new(1);
        for promise in [Async::run_fallible(|| number("x")), pool.submit_fallible(|| number("x")).unwrap()] {
            let Err(PromiseError::Rejected(error)) = promise.get() else { panic!("x is no number") };
            assert!(error.is::<std::num::ParseIntError>());
        }
        assert_eq!(pool.submit_fallible(|| number("7")).unwrap().get().unwrap(), 7);
    });
}

#[test]
fn a_worker_that_failed_can_be_started_again() {
    bounded(|| {
        let parse = Restartable::fallible(number);
        assert!(matches!(parse.start("x").unwrap().join().unwrap(), Ended::Failed(_)));
        assert_eq!(parse.start("7").unwrap().join().unwrap().done(), Some(7));
        assert!(matches!(parse.start_overlay("x").unwrap(), Ended::Failed(_)));
    });
}
