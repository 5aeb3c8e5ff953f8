//! Tests of the tree of workers: parents, children, daemons.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::{PATIENCE, bounded, settle, waiting};
use threadwire_worker::{
    ChildChange, ChildEvent, Event, EventLoop, Outcome, Remote, Restartable, Status, Stopped, Worker,
    broadcast, bubble, listen, update, wait_event, wait_for, wait_forever, wait_until, wait_worker,
};

#[derive(Clone, Debug, PartialEq)]
struct Say(&'static str);

fn here() -> Remote {
    EventLoop::current().remote()
}

/// A worker that waits, with children and grandchildren of the given numbers. Fires `Remote`s of all at `to`.
fn family(widths: &'static [usize], to: Remote) -> Result<(), Stopped> {
    if let Some((&width, below)) = widths.split_first() {
        for _ in 0..width {
            let to = to.clone();
            Worker::spawn(move || family(below, to));
        }
    }
    to.fire(here()).unwrap();
    wait_forever()
}

/// Starts a family, and returns when all of it waits.
fn grown(widths: &'static [usize], size: usize) -> (Worker<()>, Vec<Remote>) {
    let to = here();
    let root = Worker::spawn(move || family(widths, to));
    let members = (0..size).map(|_| wait_event::<Remote>().unwrap().data.clone()).collect();
    (root, members)
}

#[test]
fn the_parent_is_the_worker_that_spawns_unless_another_is_chosen() {
    bounded(|| {
        let child = waiting(wait_forever);
        assert_eq!(child.parent(), Some(here()));
        assert_eq!(here().children(), [child.remote()]);
        let free = Worker::builder().no_parent().spawn(wait_forever).unwrap();
        assert_eq!(free.parent(), None);
        let grandchild = Worker::builder().parent(&child).spawn(wait_forever).unwrap();
        assert_eq!(grandchild.parent(), Some(child.remote()));
        assert_eq!(here().children(), [child.remote()]);
        free.stop();
        child.stop();
        assert!(child.join().unwrap().was_stopped());
        assert!(grandchild.has_ended());
        assert!(here().children().is_empty());
        free.join().unwrap();
    });
}

#[test]
fn a_parent_that_has_ended_takes_no_children() {
    bounded(|| {
        let parent = Worker::spawn(|| Ok(()));
        let gone = parent.remote();
        parent.join().unwrap();
        assert!(Worker::builder().parent(&gone).spawn(|| Ok(())).is_err());
        let worker = Worker::builder().parent(&gone).restartable(|text: &str| Ok(text.len()));
        assert_eq!(worker.start("back").unwrap_err().args, "back");
        assert!(!worker.status().is_alive());
    });
}

#[test]
fn join_returns_after_the_whole_tree_has_ended() {
    bounded(|| {
        let (root, members) = grown(&[3, 2], 10);
        assert_eq!(members.len(), 10);
        root.stop();
        assert!(root.join().unwrap().was_stopped());
        for member in members {
            assert_eq!(member.status(), Status::Ended(Outcome::Stopped));
        }
    });
}

#[test]
fn a_parent_that_is_done_or_panics_stops_its_children_too() {
    bounded(|| {
        for panics in [false, true] {
            let to = here();
            let parent = Worker::spawn(move || {
                to.fire(Worker::spawn(wait_forever).remote()).unwrap();
                if panics {
                    panic!("boom");
                }
                Ok(())
            });
            let child = wait_event::<Remote>().unwrap();
            assert!(!parent.join().unwrap().was_stopped());
            assert_eq!(child.status(), Status::Ended(Outcome::Stopped));
        }
    });
}

#[test]
fn a_child_that_is_born_while_its_parent_ends_is_stopped_and_waited_for() {
    bounded(|| {
        let (tell, told) = mpsc::channel();
        let parent = Worker::spawn(move || {
            let mut left = 3;
            // Each child that ends is followed by another.
            listen(move |event: &Event<ChildEvent>| {
                if event.change == ChildChange::Ended && left > 0 {
                    left -= 1;
                    tell.send(Worker::spawn(wait_forever).remote()).unwrap();
                }
            });
            Worker::spawn(wait_forever);
            Ok(())
        });
        assert!(parent.join().unwrap().done().is_some());
        let late: Vec<_> = told.iter().collect();
        assert_eq!(late.len(), 3);
        assert!(late.iter().all(|late| late.status() == Status::Ended(Outcome::Stopped)));
    });
}

#[test]
fn children_are_events_at_the_parent_in_order() {
    bounded(|| {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let notes = Rc::clone(&seen);
        listen(move |event: &Event<ChildEvent>| {
            notes.borrow_mut().push((event.worker.to_string(), event.change.clone()));
        });
        let run = |name: &str, task: fn() -> Result<(), Stopped>| {
            let worker = Worker::builder().name(name).spawn(task).unwrap();
            worker.stop();
            worker.join().unwrap();
            update().unwrap();
            seen.take().into_iter().map(|(from, change)| (from == name, change)).collect::<Vec<_>>()
        };
        let all = |middle| [(true, ChildChange::Started), (true, middle), (true, ChildChange::Ended)];
        assert_eq!(run("done", || Ok(())), all(ChildChange::Done));
        assert_eq!(run("stopped", wait_forever), all(ChildChange::Stopped));
        assert_eq!(run("failed", || panic!("boom")), all(ChildChange::Failed("boom".into())));
    });
}

#[test]
fn a_parent_that_is_stopped_still_hears_of_its_childrens_end() {
    bounded(|| {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        let parent = waiting(move || {
            listen(move |event: &Event<ChildEvent>| notes.lock().unwrap().push(event.change.clone()));
            Worker::spawn(wait_forever);
            wait_forever()
        });
        parent.stop();
        parent.join().unwrap();
        assert_eq!(*heard.lock().unwrap(), [ChildChange::Started, ChildChange::Stopped, ChildChange::Ended]);
    });
}

#[test]
fn a_parent_does_not_wait_for_a_daemon_whose_end_is_still_known() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let to = here();
        let parent = waiting(move || {
            let task = move || {
                goes.recv().unwrap();
                wait_forever()
            };
            let daemon = Worker::builder().name("daemon").daemon(true).spawn(task).unwrap();
            assert!(daemon.is_daemon());
            to.fire(daemon.remote()).unwrap();
            wait_forever()
        });
        let daemon = wait_event::<Remote>().unwrap().data.clone();
        let ended = Rc::new(RefCell::new(Vec::new()));
        let notes = Rc::clone(&ended);
        listen(move |event: &Event<ChildEvent>| notes.borrow_mut().push(event.worker.to_string()));
        daemon.watch();
        parent.stop();
        assert!(parent.join().unwrap().was_stopped());
        // It was stopped, and belongs to the next one up now.
        assert_eq!(daemon.status(), Status::Stopping);
        assert_eq!(daemon.parent(), Some(here()));
        let stuck = daemon.stop_within(Duration::from_millis(1)).unwrap_err();
        assert_eq!(stuck.workers, ["daemon"]);
        assert_eq!(stuck.to_string(), "still at work: daemon");
        go.send(()).unwrap();
        wait_worker(&daemon).unwrap();
        assert_eq!(daemon.status(), Status::Ended(Outcome::Stopped));
        wait_until(None, || ended.borrow().iter().any(|name| name == "daemon")).unwrap();
        assert!(here().children().is_empty());
    });
}

#[test]
fn children_of_a_daemon_are_daemons_unless_told_otherwise() {
    bounded(|| {
        let daemon = Worker::builder()
            .daemon(true)
            .spawn(|| {
                let child = Worker::spawn(wait_forever);
                let other = Worker::builder().daemon(false).spawn(wait_forever).unwrap();
                Ok((child.is_daemon(), other.is_daemon()))
            })
            .unwrap();
        assert_eq!(daemon.join().unwrap().done(), Some((true, false)));
    });
}

#[test]
fn stop_within_tells_who_is_stuck() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let parent = Worker::builder().name("parent");
        let parent = parent
            .spawn(move || {
                let stuck = Worker::builder().name("stuck").spawn(move || Ok(goes.recv().is_ok())).unwrap();
                Worker::builder().name("good").spawn(wait_forever).unwrap();
                here().post(|_| ()).unwrap();
                drop(stuck);
                wait_forever()
            })
            .unwrap();
        settle(&parent);
        let stuck = parent.stop_within(Duration::from_millis(20)).unwrap_err();
        assert_eq!(stuck.workers.first().map(String::as_str), Some("parent"));
        assert!(stuck.workers.contains(&"stuck".to_owned()));
        go.send(()).unwrap();
        parent.stop_within(PATIENCE).unwrap();
        assert!(parent.join().unwrap().was_stopped());
    });
}

#[test]
fn a_thread_that_ends_stops_its_children_and_waits_for_them() {
    bounded(|| {
        let child = thread::spawn(|| waiting(wait_forever).remote()).join().unwrap();
        assert_eq!(child.status(), Status::Ended(Outcome::Stopped));
    });
}

#[test]
fn a_thread_that_ends_waits_for_its_children_no_longer_than_its_grace() {
    bounded(|| {
        let (go, goes) = mpsc::channel::<()>();
        let child = thread::spawn(move || {
            EventLoop::current().set_grace(Duration::from_millis(5));
            Worker::spawn(move || Ok(goes.recv().is_ok())).remote()
        });
        let child = child.join().unwrap();
        assert_eq!(child.status(), Status::Stopping);
        go.send(()).unwrap();
        wait_worker(&child).unwrap();
    });
}

#[test]
fn bubbling_goes_up_and_broadcasting_goes_down_and_both_skip_the_worker() {
    bounded(|| {
        let (root, members) = grown(&[2, 2], 7);
        let got = Arc::new(Mutex::new(Vec::new()));
        for member in &members {
            let (notes, id) = (Arc::clone(&got), member.id());
            member.listen(move |event: &Event<Say>| notes.lock().unwrap().push((id, event.sender)));
        }
        let heard = |sender: &Remote| {
            members.iter().for_each(settle);
            let mut ids: Vec<_> = got
                .lock()
                .unwrap()
                .drain(..)
                .map(|(id, from)| {
                    assert_eq!(from, Some(sender.id()));
                    id
                })
                .collect();
            ids.sort();
            ids
        };
        let mut below: Vec<_> = members.iter().map(Remote::id).filter(|id| *id != root.id()).collect();
        below.sort();

        // Whoever calls it, from without or within.
        assert_eq!(root.broadcast(Say("down")), 6);
        assert_eq!(heard(&root), below);
        root.post(|_| assert_eq!(broadcast(Say("down")), 6)).unwrap();
        settle(&root);
        assert_eq!(heard(&root), below);

        let leaf = members.iter().find(|member| member.children().is_empty()).unwrap();
        let middle = leaf.parent().unwrap();
        leaf.post(|_| assert_eq!(bubble(Say("up")), 3)).unwrap();
        let at_root = wait_for::<Say>().timeout(PATIENCE).wait().unwrap().unwrap();
        assert_eq!(at_root.sender, Some(leaf.id()));
        let mut above = [root.id(), middle.id()];
        above.sort();
        assert_eq!(heard(leaf), above);
        root.stop();
        root.join().unwrap();
    });
}

#[test]
fn an_overlay_has_the_worker_below_as_its_parent() {
    bounded(|| {
        let below = here();
        let overlay = Restartable::new(|()| Ok((here().parent(), Worker::spawn(wait_forever).remote())));
        let (parent, child) = overlay.start_overlay(()).unwrap().done().unwrap();
        assert_eq!(parent, Some(below));
        assert_eq!(child.status(), Status::Ended(Outcome::Stopped));
    });
}

#[test]
fn many_start_and_end_at_once_and_none_is_left() {
    bounded(|| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(|| {
                    for _ in 0..25 {
                        let (root, members) = grown(&[2, 2], 7);
                        root.stop();
                        root.join().unwrap();
                        assert!(members.iter().all(|member| !member.status().is_alive()));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
