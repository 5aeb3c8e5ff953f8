//! Stall reports: tasks and runtimes that are held by blocking code.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::tasks::{on_runtimes, several, single};
use crate::common::{SOON, bounded};
use threadwire::aio;
use threadwire::worker::Stalled;

const MOMENT: Duration = Duration::from_millis(1);
const FOREVER: Duration = Duration::from_secs(1 << 40);

/// The reports of stalls.
fn heard() -> (impl FnMut(&Stalled) + Send + 'static, mpsc::Receiver<Stalled>) {
    let (tell, told) = mpsc::channel();
    // The test may be over.
    (move |stall: &Stalled| drop(tell.send(stall.clone())), told)
}

#[test]
fn a_task_that_sleeps_without_waiting_is_named_with_its_place_and_its_time() {
    on_runtimes(|| async {
        let (tell, told) = heard();
        let line = line!() + 1;
        let task = aio::watch("the importer", MOMENT, async {
            tokio::task::yield_now().await;
            thread::sleep(MOMENT * 3);
            7
        });
        assert_eq!(tokio::spawn(task.on_stall(tell)).await.unwrap(), 7);
        // The system may have kept it from running before, too.
        let stall = told.iter().last().unwrap();
        assert_eq!(stall.what, format!("the importer (watched at {}:{line}:20)", file!()));
        assert!(stall.held >= MOMENT * 3);
    });
}

#[test]
fn time_that_a_task_waits_is_not_held() {
    bounded(|| {
        single().block_on(async {
            let (tell, told) = heard();
            let task = aio::watch("patient", SOON * 4, std::future::pending::<()>()).on_stall(tell);
            let mut task = std::pin::pin!(task);
            for _ in 0..2 {
                std::future::poll_fn(|cx| {
                    assert!(task.as_mut().poll(cx).is_pending());
                    std::task::Poll::Ready(())
                })
                .await;
                // Between two polls the time is others'.
                thread::sleep(SOON * 5);
            }
            assert!(told.try_recv().is_err());
        });
    });
}

#[test]
fn a_runtime_that_is_held_is_reported_while_it_is_and_by_whom() {
    bounded(|| {
        single().block_on(async {
            let (mut tell, told) = heard();
            let (release, released) = mpsc::channel();
            let watch = aio::watch_runtime(MOMENT).on_stall(move |stall| {
                if stall.what.contains("the culprit") {
                    tell(stall);
                    let _ = release.send(());
                }
            });
            // Blocks until it was found out.
            let culprit = aio::watch("the culprit", FOREVER, async move { released.recv().unwrap() });
            let bystander = aio::watch("a bystander", FOREVER, std::future::pending::<()>());
            let bystander = tokio::spawn(bystander);
            tokio::spawn(culprit).await.unwrap();
            bystander.abort();
            let stall = told.recv().unwrap();
            assert!(stall.what.starts_with("the runtime, by the culprit (watched at "), "{}", stall.what);
            assert!(!stall.what.contains("bystander"));
            assert!(stall.held >= MOMENT && watch.stalls() >= 1);
        });
    });
}

#[test]
fn a_task_that_is_not_watched_is_noticed_but_not_named() {
    bounded(|| {
        single().block_on(async {
            let (release, released) = mpsc::channel();
            let _watch =
                aio::watch_runtime(MOMENT).on_stall(move |stall| drop(release.send(stall.what.clone())));
            let what = tokio::spawn(async move { released.recv().unwrap() }).await.unwrap();
            assert_eq!(what, "the runtime, by a task that is not watched");
        });
    });
}

#[test]
fn a_runtime_of_several_threads_is_held_when_all_of_them_are() {
    bounded(|| {
        let runtime = several();
        runtime.block_on(async {
            let (release, released) = mpsc::channel::<()>();
            let released = std::sync::Arc::new(std::sync::Mutex::new(released));
            let _watch = aio::watch_runtime(MOMENT).on_stall(move |_| {
                for _ in 0..3 {
                    let _ = release.send(());
                }
            });
            let tasks: Vec<_> = (0..3)
                .map(|_| {
                    let released = std::sync::Arc::clone(&released);
                    tokio::spawn(async move { released.lock().unwrap().recv().unwrap() })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
}

#[test]
fn a_watch_ends_with_its_runtime_and_when_it_is_dropped() {
    bounded(|| {
        struct Tell(mpsc::Sender<()>);
        impl Drop for Tell {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (tell, told) = mpsc::channel();
        let watch = |tell: &mpsc::Sender<()>| {
            let lives = Tell(tell.clone());
            aio::watch_runtime(MOMENT).on_stall(move |_| {
                let _ = &lives;
            })
        };
        let runtime = single();
        let first = runtime.block_on(async { watch(&tell) });
        drop(first);
        told.recv().unwrap();
        let second = runtime.block_on(async { watch(&tell) });
        drop(runtime);
        told.recv().unwrap();
        drop(second);
    });
}
