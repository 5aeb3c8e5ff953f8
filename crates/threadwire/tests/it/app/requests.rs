//! Requests over an app: replies by id, and the end of unanswered requests.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::peer::{Host, Peer, TEXT};
use crate::common::{PATIENCE, SOON, bounded, patient};
use threadwire::app::{self, AppHandle, PendingReply, RequestId, Running};
use threadwire::error::{RequestRefused, TimeoutKind};
use threadwire::reconnect::Backoff;
use threadwire::worker::{Worker, block_on};
use threadwire::{App, CloseCode, Connection, Error, Initiator, Message};

/// Messages are `ID TEXT` here.
fn id(message: Message<'_>) -> Option<u64> {
    message.as_text()?.split(' ').next()?.parse().ok()
}

/// The messages that `on_message` gets.
type Rest = mpsc::Receiver<String>;

/// An app on a worker of its own, whose server does this. Its connection is open.
fn start(serve: impl FnOnce(Peer) + Send + 'static) -> (Running, Rest) {
    let host = Host::listen();
    let url = host.url();
    host.run(move |host| serve(host.upgrade(b"")));
    let (hear, rest) = mpsc::channel();
    let (tell, opened) = mpsc::channel();
    let running = app::spawn(move || {
        let app = App::new(&url)?.config(patient()).id(id).on_open(move |_ws| tell.send(()));
        Ok(app.on_message(move |_ws, message| hear.send(message.to_string())))
    });
    opened.recv_timeout(PATIENCE).unwrap();
    (running.unwrap(), rest)
}

/// Takes the client's close.
fn until_closed(mut peer: Peer) {
    let code = peer.code();
    peer.close(code, "");
}

fn refusal(error: Error) -> RequestRefused {
    match error {
        Error::Request(refused) => *refused,
        error => panic!("{error:?}"),
    }
}

fn close(running: Running) {
    running.handle().close().unwrap();
    running.join().unwrap();
}

#[test]
fn answers_find_their_requests_in_any_order_and_the_rest_goes_to_on_message() {
    bounded(|| {
        let (running, rest) = start(|mut peer| {
            let mut asked: Vec<String> = (0..3).map(|_| peer.text()).collect();
            asked.reverse();
            peer.send(TEXT, b"9 nobody asked");
            for text in asked {
                peer.send(TEXT, format!("{text}!").as_bytes());
            }
            peer.send(TEXT, b"2 again");
            peer.send(TEXT, b"no id");
            peer.send(TEXT, b"4 last");
            assert_eq!(peer.text(), "5 all has come");
            peer.send(TEXT, b"5 yes");
            until_closed(peer);
        });
        let handle = running.handle();
        let replies: Vec<PendingReply> =
            (1..=3).map(|number| handle.request(number, &format!("{number} what")).unwrap()).collect();
        assert_eq!(replies[0].id(), &RequestId::from("1"));
        for (number, reply) in (1..=3).zip(&replies) {
            assert_eq!(reply.get_timeout(PATIENCE).unwrap(), format!("{number} what!").as_str());
            assert_eq!(reply.get().unwrap(), reply.try_get().unwrap().unwrap(), "it can be had again");
        }
        assert_eq!(handle.request(5, "5 all has come").unwrap().get_timeout(PATIENCE).unwrap(), "5 yes");
        close(running);
        let rest: Vec<_> = rest.iter().collect();
        assert_eq!(rest, ["9 nobody asked", "2 again", "no id", "4 last"]);
    });
}

#[test]
fn two_threads_get_each_their_own_answers() {
    bounded(|| {
        const EACH: u64 = 200;
        let (running, rest) = start(|mut peer| {
            let mut held: Option<String> = None;
            for _ in 0..2 * EACH {
                let text = peer.text();
                // Pairwise the other way round.
                match held.take() {
                    None => held = Some(text),
                    Some(earlier) => {
                        peer.send(TEXT, text.as_bytes());
                        peer.send(TEXT, earlier.as_bytes());
                    }
                }
            }
            until_closed(peer);
        });
        let ask = |handle: AppHandle, numbers: std::ops::Range<u64>| {
            move || {
                let replies: Vec<_> = numbers
                    .map(|number| (number, handle.request(number, &format!("{number} x")).unwrap()))
                    .collect();
                for (number, reply) in replies {
                    assert_eq!(reply.get_timeout(PATIENCE).unwrap(), format!("{number} x").as_str());
                }
            }
        };
        let threads = [0..EACH, EACH..2 * EACH].map(|numbers| thread::spawn(ask(running.handle(), numbers)));
        for thread in threads {
            thread.join().unwrap();
        }
        close(running);
        assert_eq!(rest.iter().count(), 0);
    });
}

#[test]
fn an_answer_may_be_awaited_and_waited_for_by_a_worker() {
    bounded(|| {
        let (running, _rest) = start(|mut peer| {
            for _ in 0..2 {
                let text = peer.text();
                peer.send(TEXT, text.as_bytes());
            }
            until_closed(peer);
        });
        let reply = running.handle().request("1", "1 awaited").unwrap();
        assert_eq!(block_on(reply).unwrap().unwrap(), "1 awaited");
        let reply = running.handle().request("2", "2 waited for").unwrap();
        let worker = Worker::spawn(move || Ok(reply.get().unwrap()));
        assert_eq!(worker.join().unwrap().done().unwrap(), "2 waited for");
        close(running);
    });
}

#[test]
fn a_timeout_leaves_the_request_and_a_drop_forgets_it() {
    bounded(|| {
        let (go, wait) = mpsc::channel();
        let (running, rest) = start(move |mut peer| {
            assert_eq!(peer.text(), "1 slow");
            wait.recv().unwrap();
            peer.send(TEXT, b"1 late");
            assert_eq!(peer.text(), "2 dropped");
            assert_eq!(peer.text(), "2 once more");
            peer.send(TEXT, b"2 first");
            peer.send(TEXT, b"2 second");
            until_closed(peer);
        });
        let handle = running.handle();
        let reply = handle.request(1, "1 slow").unwrap();
        assert!(reply.try_get().is_none());
        assert!(matches!(reply.get_timeout(SOON), Err(Error::Timeout(TimeoutKind::Receive))));
        assert_eq!(
            refusal(handle.request("1", "1 again").unwrap_err()),
            RequestRefused::Duplicate { id: 1.into() }
        );
        go.send(()).unwrap();
        assert_eq!(reply.get_timeout(PATIENCE).unwrap(), "1 late");

        drop(handle.request(2, "2 dropped").unwrap());
        let again = handle.request(2, "2 once more").unwrap();
        assert_eq!(again.get_timeout(PATIENCE).unwrap(), "2 first");
        assert_eq!(rest.recv_timeout(PATIENCE).unwrap(), "2 second");
        close(running);
    });
}

#[test]
fn an_old_reply_does_not_forget_the_new_request_of_its_id() {
    bounded(|| {
        let (running, _rest) = start(|mut peer| {
            peer.text();
            peer.send(TEXT, b"1 one");
            peer.text();
            peer.send(TEXT, b"1 two");
            until_closed(peer);
        });
        let handle = running.handle();
        let first = handle.request(1, "1").unwrap();
        assert_eq!(first.get().unwrap(), "1 one");
        let second = handle.request(1, "1").unwrap();
        drop(first);
        assert_eq!(second.get_timeout(PATIENCE).unwrap(), "1 two");
        close(running);
    });
}

#[test]
fn requests_fail_with_the_end_of_their_connection() {
    bounded(|| {
        let (running, _rest) = start(|mut peer| {
            peer.text();
            peer.close(1012, "restart");
            peer.code();
        });
        let handle = running.handle();
        let reply = handle.request(1, "1 never answered").unwrap();
        let Err(Error::Ended(closed)) = reply.get_timeout(PATIENCE) else { panic!("not an end") };
        assert_eq!((closed.code.get(), &*closed.reason), (1012, "restart"));
        assert!(matches!(handle.request(1, "1 too late"), Err(Error::Closed)));
        assert!(matches!(running.join(), Err(Error::Ended(_))));
        assert!(matches!(handle.request(1, "1 too late"), Err(Error::Closed)));
    });
}

#[test]
fn requests_fail_when_this_side_closes_or_stops() {
    bounded(|| {
        for stops in [false, true] {
            let (running, _rest) = start(|mut peer| {
                peer.text();
                until_closed(peer);
            });
            let reply = running.handle().request(1, "1").unwrap();
            if stops {
                running.worker().stop();
            } else {
                running.handle().close().unwrap();
            }
            let Err(Error::Ended(closed)) = reply.get_timeout(PATIENCE) else { panic!("not an end") };
            assert_eq!(closed.initiator, Initiator::Local);
            assert_eq!(running.join().is_err(), stops);
        }
    });
}

#[test]
fn without_an_open_connection_or_without_ids_a_request_is_refused() {
    bounded(|| {
        let host = Host::listen();
        let mut app = App::new(&host.url()).unwrap().config(patient());
        let handle = app.handle();
        assert!(matches!(handle.request(1, "1"), Err(Error::Closed)));
        let host = host.run(|host| until_closed(host.upgrade(b"")));
        let refused = Rc::new(RefCell::new(None));
        let note = Rc::clone(&refused);
        app = app.on_open(move |_ws| {
            *note.borrow_mut() = Some(refusal(handle.request(1, "1").unwrap_err()));
            handle.close()
        });
        app.run_forever().unwrap();
        assert_eq!(*refused.borrow(), Some(RequestRefused::NoIds));
        host.join().unwrap();
    });
}

#[test]
fn a_request_of_one_connection_is_not_answered_by_the_next() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            assert_eq!(peer.text(), "1 first");
            drop(peer);
            let mut peer = host.upgrade(b"");
            peer.send(TEXT, b"1 of another time");
            assert_eq!(peer.text(), "1 second");
            peer.send(TEXT, b"1 answer");
            until_closed(peer);
        });
        let backoff = Backoff::default().first(Duration::ZERO);
        let (tell, told) = mpsc::channel();
        let (hear, heard) = mpsc::channel();
        let running = app::spawn(move || {
            let app = App::new(&url)?.config(patient()).reconnect(backoff).id(id);
            Ok(app
                .on_open(move |_ws| tell.send(()))
                .on_message(move |_ws, message| hear.send(message.to_string())))
        })
        .unwrap();
        let handle = running.handle();
        told.recv().unwrap();
        let first = handle.request(1, "1 first").unwrap();
        assert!(matches!(first.get_timeout(PATIENCE), Err(Error::Ended(_))));
        told.recv().unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), "1 of another time");
        let second = handle.request(1, "1 second").unwrap();
        assert_eq!(second.get_timeout(PATIENCE).unwrap(), "1 answer");
        close(running);
        host.join().unwrap();
    });
}

#[test]
fn data_is_told_of_answers_too_and_a_callback_can_not_wait_for_one() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            let text = peer.text();
            peer.send(TEXT, text.as_bytes());
            until_closed(peer);
        });
        let notes = Rc::new(RefCell::new(Vec::new()));
        let [opened, data] = [(); 2].map(|()| Rc::clone(&notes));
        let app = App::new(&url).unwrap().config(patient()).id(id);
        let handle = app.handle();
        let reply = Rc::new(RefCell::new(None));
        let kept = Rc::clone(&reply);
        app.on_open(move |_ws: &Connection| {
            let reply = handle.request(1, "1 hello").unwrap();
            opened.borrow_mut().push(refusal(reply.get().unwrap_err()).to_string());
            opened.borrow_mut().push(refusal(reply.get_timeout(SOON).unwrap_err()).to_string());
            *kept.borrow_mut() = Some(reply);
        })
        .on_data(move |ws, message| {
            data.borrow_mut().push(format!("data {message}"));
            ws.close()
        })
        .on_message(|_, message| assert!(message.is_empty(), "it is an answer"))
        .run_forever()
        .unwrap();
        let refused = RequestRefused::InCallback.to_string();
        assert_eq!(*notes.borrow(), [refused.clone(), refused, "data 1 hello".to_owned()]);
        assert_eq!(reply.borrow().as_ref().unwrap().get().unwrap(), "1 hello");
        host.join().unwrap();
    });
}

#[test]
fn ids_that_panic_are_told_of_and_fail_the_request() {
    bounded(|| {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(b"");
            peer.send(TEXT, b"nobody waits, so nobody asks");
            let text = peer.text();
            peer.send(TEXT, text.as_bytes());
            until_closed(peer);
        });
        let (reply, errors) = (Rc::new(RefCell::new(None)), Rc::new(RefCell::new(Vec::new())));
        let (kept, told) = (Rc::clone(&reply), Rc::clone(&errors));
        let app = App::new(&url).unwrap().config(patient());
        let handle = app.handle();
        let result = app
            .id(|message| if message.is_empty() { Some(1) } else { panic!("no id") })
            .on_message(move |_ws, _message| *kept.borrow_mut() = Some(handle.request(1, "1").unwrap()))
            .on_error(move |_ws, error| told.borrow_mut().push(error.to_string()))
            .run_forever();
        let Err(Error::Ended(closed)) = result else { panic!("not an end") };
        assert_eq!(closed.code, CloseCode::INTERNAL_ERROR);
        assert_eq!(*errors.borrow(), ["a callback panicked: no id"]);
        assert!(matches!(reply.borrow().as_ref().unwrap().get(), Err(Error::Ended(_))));
        host.join().unwrap();
    });
}
