//! Events of connections for other workers: subscriptions, and forwarding.

use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::common::keeping::{Keeper, await_frame, pinging};
use crate::common::peer::{BINARY, CLOSE, Host, PING, PONG, Peer, TEXT, frame};
use crate::common::recorder::{Call, Log};
use crate::common::sharing::{elsewhere, pair, pair_with, serving_handles, there};
use crate::common::{PATIENCE, Serving, bind, bounded, ignore, patient};
use threadwire::events::{Closed, Forward, Opened, Received};
use threadwire::worker::{
    Builder, Event, EventLoop, Overflow, Remote, Worker, listen, wait_event, wait_event_timeout, wait_forever,
};
use threadwire::{Client, CloseCode, Error, Handle, Initiator, OwnedMessage, Reply, sleep, wait_until};

/// One event as a subscriber hears it.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Opened(u64),
    Received(u64, OwnedMessage),
    Closed(u64, u16),
}

/// A worker that writes down what it hears.
struct Subscriber {
    worker: Worker<()>,
    heard: Receiver<Heard>,
}

/// Has the current worker write down what it hears.
fn write_down(hear: Sender<Heard>) {
    let (opened, received, closed) = (hear.clone(), hear.clone(), hear);
    // The test may be over.
    listen(move |event: &Event<Opened>| drop(opened.send(Heard::Opened(event.data.handle.id()))));
    listen(move |event: &Event<Received>| {
        let Received { handle, message, .. } = &event.data;
        drop(received.send(Heard::Received(handle.id(), message.clone())));
    });
    listen(move |event: &Event<Closed>| {
        let Closed { handle, closed: end, .. } = &event.data;
        drop(closed.send(Heard::Closed(handle.id(), end.code.get())));
    });
}

impl Subscriber {
    fn start() -> Subscriber {
        Subscriber::with(Worker::builder(), || {})
    }

    /// One that does something before it hears anything.
    fn with(builder: Builder, before: impl FnOnce() + Send + 'static) -> Subscriber {
        let (hear, heard) = mpsc::channel();
        let worker = builder.spawn(move || {
            write_down(hear);
            before();
            wait_forever()
        });
        Subscriber { worker: worker.unwrap(), heard }
    }

    fn remote(&self) -> Remote {
        self.worker.remote()
    }

    /// The next that it hears. Blocks this thread, so not on what this thread's loop is to bring.
    fn next(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).unwrap()
    }

    /// All that it has heard of what was fired at it before.
    fn rest(&self) -> Vec<Heard> {
        let (give, given) = mpsc::channel();
        self.worker.post(move |_| give.send(()).unwrap()).unwrap();
        given.recv_timeout(PATIENCE).unwrap();
        self.heard.try_iter().collect()
    }
}

fn text(id: u64, text: &str) -> Heard {
    Heard::Received(id, OwnedMessage::from(text))
}

/// A connection of this thread's, its handle, and its peer.
fn open() -> (Handle, Peer) {
    let (ws, peer) = pair(patient(), &Log::new());
    (ws.handle(), peer)
}

/// Ends a connection of this thread's in an orderly way.
fn end(handle: &Handle, peer: &mut Peer) {
    peer.close(1000, "");
    peer.end();
    handle.wait_closed().unwrap();
}

// --- Subscribing ---

#[test]
fn another_worker_hears_everything_once_and_in_order() {
    bounded(|| {
        let subscriber = Subscriber::start();
        let (handle, mut peer) = open();
        handle.subscribe_worker(&subscriber.remote());
        let id = handle.id();
        let mut expected = vec![Heard::Opened(id)];
        for number in 0..200 {
            let message = format!("message {number}");
            peer.send(TEXT, message.as_bytes());
            expected.push(text(id, &message));
        }
        peer.send(BINARY, &[1, 2, 3]);
        expected.push(Heard::Received(id, OwnedMessage::from(vec![1, 2, 3])));
        end(&handle, &mut peer);
        expected.push(Heard::Closed(id, 1000));
        assert_eq!(subscriber.rest(), expected);
    });
}

#[test]
fn what_came_before_is_not_told() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        peer.send(TEXT, b"before");
        wait_until(None, || log.calls().contains(&Call::text("before"))).unwrap();
        let subscriber = Subscriber::start();
        let handle = ws.handle();
        handle.subscribe_worker(&subscriber.remote());
        peer.send(TEXT, b"after");
        end(&handle, &mut peer);
        let id = handle.id();
        assert_eq!(subscriber.rest(), [Heard::Opened(id), text(id, "after"), Heard::Closed(id, 1000)]);
        // The listener hears all of it, as ever.
        assert_eq!(log.calls()[1..3], [Call::text("before"), Call::text("after")]);
    });
}

#[test]
fn who_subscribes_after_the_end_only_hears_of_that() {
    bounded(|| {
        let (handle, mut peer) = open();
        end(&handle, &mut peer);
        let subscriber = Subscriber::start();
        handle.subscribe_worker(&subscriber.remote());
        assert_eq!(subscriber.rest(), [Heard::Closed(handle.id(), 1000)]);
        // From another thread too.
        let other = Subscriber::start();
        let (far, remote) = (handle.clone(), other.remote());
        elsewhere(move || far.subscribe_worker(&remote));
        assert_eq!(other.rest(), [Heard::Closed(handle.id(), 1000)]);
    });
}

#[test]
fn who_subscribes_while_it_closes_hears_of_both_ends() {
    bounded(|| {
        let (handle, mut peer) = open();
        handle.close().unwrap();
        let subscriber = Subscriber::start();
        handle.subscribe_worker(&subscriber.remote());
        end(&handle, &mut peer);
        let id = handle.id();
        assert_eq!(subscriber.rest(), [Heard::Opened(id), Heard::Closed(id, 1000)]);
    });
}

#[test]
fn who_subscribes_in_on_close_hears_of_the_end() {
    bounded(|| {
        for has_handle in [false, true] {
            let subscriber = Subscriber::start();
            let remote = subscriber.remote();
            let log = Log::new();
            let (ws, mut peer) = pair_with(
                patient(),
                log.listener(move |ws, call| {
                    if matches!(call, Call::Closed(_)) {
                        ws.handle().subscribe_worker(&remote);
                    }
                    Ok(())
                }),
            );
            let _handle = has_handle.then(|| ws.handle());
            peer.close(1000, "");
            peer.end();
            ws.wait_closed().unwrap();
            let id = ws.handle().id();
            let heard: Vec<_> =
                subscriber.rest().into_iter().filter(|heard| *heard != Heard::Opened(id)).collect();
            assert_eq!(heard, [Heard::Closed(id, 1000)], "had a handle before: {has_handle}");
        }
    });
}

#[test]
fn to_subscribe_twice_changes_nothing() {
    bounded(|| {
        let subscriber = Subscriber::start();
        let (handle, mut peer) = open();
        for _ in 0..3 {
            handle.subscribe_worker(&subscriber.remote());
        }
        peer.send(TEXT, b"once");
        sleep(Duration::ZERO).unwrap();
        let (far, remote) = (handle.clone(), subscriber.remote());
        elsewhere(move || far.subscribe_worker(&remote));
        end(&handle, &mut peer);
        let id = handle.id();
        assert_eq!(subscriber.rest(), [Heard::Opened(id), text(id, "once"), Heard::Closed(id, 1000)]);
    });
}

#[test]
fn the_current_worker_subscribes_by_itself() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        handle.subscribe();
        assert_eq!(wait_event::<Opened>().unwrap().data.handle, handle);
        peer.send(TEXT, b"question");
        let event = wait_event::<Received>().unwrap();
        assert_eq!((&event.data.handle, &event.data.message), (&handle, &OwnedMessage::from("question")));
        event.data.handle.send("answer").unwrap();
        assert_eq!(peer.text(), "answer");
        peer.close(4000, "done");
        let event = wait_event::<Closed>().unwrap();
        let closed = &event.data.closed;
        assert_eq!((closed.code.get(), &*closed.reason, closed.initiator), (4000, "done", Initiator::Peer));
        assert_eq!(event.data.handle, handle);
    });
}

#[test]
fn a_worker_hears_of_connections_of_its_own() {
    bounded(|| {
        let (hear, heard) = mpsc::channel();
        write_down(hear);
        let (handle, mut peer) = open();
        handle.subscribe();
        peer.send(TEXT, b"own");
        end(&handle, &mut peer);
        EventLoop::current().update().unwrap();
        let id = handle.id();
        let heard: Vec<_> = heard.try_iter().collect();
        assert_eq!(heard, [Heard::Opened(id), text(id, "own"), Heard::Closed(id, 1000)]);
    });
}

#[test]
fn several_subscribers_hear_the_same() {
    bounded(|| {
        let subscribers: Vec<_> = (0..5).map(|_| Subscriber::start()).collect();
        let (handle, mut peer) = open();
        for subscriber in &subscribers {
            handle.subscribe_worker(&subscriber.remote());
        }
        for _ in 0..3 {
            peer.send(TEXT, b"to all");
        }
        end(&handle, &mut peer);
        let id = handle.id();
        let expected =
            [vec![Heard::Opened(id)], vec![text(id, "to all"); 3], vec![Heard::Closed(id, 1000)]].concat();
        for subscriber in subscribers {
            assert_eq!(subscriber.rest(), expected);
        }
    });
}

#[test]
fn one_subscriber_tells_connections_apart() {
    bounded(|| {
        let subscriber = Subscriber::start();
        let (first, mut first_peer) = open();
        let (second, mut second_peer) = open();
        first.subscribe_worker(&subscriber.remote());
        second.subscribe_worker(&subscriber.remote());
        second_peer.send(TEXT, b"of the second");
        end(&second, &mut second_peer);
        first_peer.send(TEXT, b"of the first");
        end(&first, &mut first_peer);
        let (first, second) = (first.id(), second.id());
        let expected = [
            Heard::Opened(first),
            Heard::Opened(second),
            text(second, "of the second"),
            Heard::Closed(second, 1000),
            text(first, "of the first"),
            Heard::Closed(first, 1000),
        ];
        assert_eq!(subscriber.rest(), expected);
    });
}

// --- Ends of subscriptions ---

#[test]
fn who_unsubscribes_hears_nothing_more() {
    bounded(|| {
        let (serving, handles) = serving_handles(patient(), &Log::new(), |ws, call| match call {
            Call::Text(text) => ws.send(&**text),
            _ => Ok(()),
        });
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        let (hear, heard) = mpsc::channel();
        write_down(hear);
        handle.subscribe();
        peer.send(TEXT, b"first");
        assert_eq!(peer.text(), "first");
        handle.unsubscribe();
        there(&handle, |_| ());
        peer.send(TEXT, b"second");
        assert_eq!(peer.text(), "second");
        handle.subscribe();
        there(&handle, |_| ());
        peer.send(TEXT, b"third");
        assert_eq!(peer.text(), "third");
        handle.unsubscribe();
        handle.unsubscribe();
        there(&handle, |_| ());
        peer.close(1000, "");
        handle.wait_closed().unwrap();
        EventLoop::current().update().unwrap();
        let id = handle.id();
        let heard: Vec<_> = heard.try_iter().filter(|heard| *heard != text(id, "first")).collect();
        // The first may have been on its way before the subscription.
        assert_eq!(heard, [Heard::Opened(id), Heard::Opened(id), text(id, "third")]);
    });
}

#[test]
fn who_unsubscribes_without_having_subscribed_disturbs_nobody() {
    bounded(|| {
        let subscriber = Subscriber::start();
        let (handle, mut peer) = open();
        handle.subscribe_worker(&subscriber.remote());
        handle.unsubscribe();
        peer.send(TEXT, b"still");
        end(&handle, &mut peer);
        handle.unsubscribe();
        let id = handle.id();
        assert_eq!(subscriber.rest(), [Heard::Opened(id), text(id, "still"), Heard::Closed(id, 1000)]);
    });
}

#[test]
fn subscribers_that_have_ended_are_forgotten() {
    bounded(|| {
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        let handle = ws.handle();
        let gone = Subscriber::start();
        handle.subscribe_worker(&gone.remote());
        let remote = gone.remote();
        remote.stop();
        gone.worker.join().unwrap();
        let stays = Subscriber::start();
        handle.subscribe_worker(&stays.remote());
        peer.send(TEXT, b"one");
        peer.send(TEXT, b"two");
        // A worker that has ended before it subscribes does no harm.
        handle.subscribe_worker(&remote);
        peer.send(TEXT, b"three");
        end(&handle, &mut peer);
        let id = handle.id();
        let texts = ["one", "two", "three"].map(|message| text(id, message));
        assert_eq!(stays.rest(), [&[Heard::Opened(id)], &texts[..], &[Heard::Closed(id, 1000)]].concat());
        assert_eq!(log.calls().len(), 5, "{:?}", log.calls());
        handle.subscribe_worker(&remote);
    });
}

// --- Full inboxes ---

/// A subscriber whose inbox has room for so many events, and which does nothing until it is let go.
fn full(limit: usize, overflow: Overflow) -> (Subscriber, Sender<()>) {
    let (go, goes) = mpsc::channel::<()>();
    let subscriber = Subscriber::with(Worker::builder().inbox(limit, overflow), move || {
        let _ = goes.recv();
    });
    (subscriber, go)
}

#[test]
fn a_subscriber_that_drops_the_oldest_hears_the_newest_and_the_end() {
    bounded(|| {
        let (subscriber, go) = full(3, Overflow::DropOldest);
        let (handle, mut peer) = open();
        handle.subscribe_worker(&subscriber.remote());
        for number in 0..10 {
            peer.send(TEXT, number.to_string().as_bytes());
        }
        end(&handle, &mut peer);
        drop(go);
        let id = handle.id();
        assert_eq!(subscriber.rest(), [text(id, "8"), text(id, "9"), Heard::Closed(id, 1000)]);
    });
}

#[test]
fn a_subscriber_that_refuses_what_is_too_much_loses_only_that() {
    bounded(|| {
        let log = Log::new();
        let (subscriber, go) = full(3, Overflow::Error);
        let (ws, mut peer) = pair(patient(), &log);
        let handle = ws.handle();
        handle.subscribe_worker(&subscriber.remote());
        for number in 0..10 {
            peer.send(TEXT, number.to_string().as_bytes());
        }
        wait_until(None, || log.calls().len() == 11).unwrap();
        drop(go);
        let id = handle.id();
        assert_eq!(subscriber.rest(), [Heard::Opened(id), text(id, "0"), text(id, "1")]);
        // The worker is a subscriber as before.
        peer.send(TEXT, b"10");
        end(&handle, &mut peer);
        assert_eq!(subscriber.rest(), [text(id, "10"), Heard::Closed(id, 1000)]);
    });
}

#[test]
fn a_subscriber_for_which_is_waited_holds_up_only_the_connection() {
    bounded(|| {
        let (subscriber, go) = full(2, Overflow::Wait);
        let log = Log::new();
        let (serving, handles) = serving_handles(patient(), &log, ignore);
        let bystander = serving.bystander();
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        handle.subscribe_worker(&subscriber.remote());
        there(&handle, |_| ());
        let id = handle.id();
        let mut expected = vec![Heard::Opened(id)];
        for number in 0..10 {
            peer.send(TEXT, number.to_string().as_bytes());
            expected.push(text(id, &number.to_string()));
        }
        log.wait_for(&Call::text("0"));
        peer.close(1000, "");
        expected.push(Heard::Closed(id, 1000));
        bystander.noticed_nothing();
        assert!(!log.calls().contains(&Call::text("9")), "{:?}", log.calls());
        drop(go);
        // Nothing is lost, and all keeps its order.
        let heard: Vec<_> = expected.iter().map(|_| subscriber.next()).collect();
        assert_eq!(heard, expected);
        handle.wait_closed().unwrap();
        assert_eq!(subscriber.rest(), []);
    });
}

// --- What is told ---

#[test]
fn fragments_are_told_as_the_message_they_make() {
    bounded(|| {
        let subscriber = Subscriber::start();
        let (handle, mut peer) = open();
        handle.subscribe_worker(&subscriber.remote());
        peer.bytes(
            [frame(0x01, false, b"in "), frame(PING, false, b""), frame(0x80, false, b"parts")].concat(),
        );
        end(&handle, &mut peer);
        let id = handle.id();
        assert_eq!(subscriber.rest(), [Heard::Opened(id), text(id, "in parts"), Heard::Closed(id, 1000)]);
    });
}

#[test]
fn of_frames_only_whole_messages_are_told() {
    bounded(|| {
        let subscriber = Subscriber::start();
        let log = Log::new();
        let (ws, mut peer) = pair_with(patient(), log.frames(ignore));
        let handle = ws.handle();
        handle.subscribe_worker(&subscriber.remote());
        let frames = [
            frame(TEXT, false, b"whole"),
            frame(0x01, false, b"in "),
            frame(PONG, false, b"no message"),
            frame(0x80, false, b"parts"),
            frame(BINARY, false, b""),
        ];
        peer.bytes(frames.concat());
        end(&handle, &mut peer);
        let id = handle.id();
        let empty = Heard::Received(id, OwnedMessage::from(Vec::new()));
        assert_eq!(subscriber.rest(), [Heard::Opened(id), text(id, "whole"), empty, Heard::Closed(id, 1000)]);
        let frames = log.calls().iter().filter(|call| matches!(call, Call::Frame(..))).count();
        assert_eq!(frames, 6, "the five, and the close frame");
    });
}

#[test]
fn long_messages_are_told_whole() {
    bounded(|| {
        const LENGTH: usize = 1 << 20;
        let subscriber = Subscriber::start();
        let (serving, handles) = serving_handles(patient(), &Log::new(), ignore);
        let mut peer = serving.peer();
        let handle = handles.recv().unwrap();
        handle.subscribe_worker(&subscriber.remote());
        there(&handle, |_| ());
        let payload: Vec<_> = (0..LENGTH).map(|at| at as u8).collect();
        peer.send(BINARY, &payload);
        assert_eq!(subscriber.next(), Heard::Opened(handle.id()));
        assert!(subscriber.next() == Heard::Received(handle.id(), OwnedMessage::from(payload)));
    });
}

#[test]
fn what_was_a_pong_is_told_to_nobody() {
    bounded(|| {
        let subscriber = Subscriber::start();
        let (ws, mut peer) = pair_with(pinging(), Keeper::new().is_pong(|_, text| text == "pong"));
        let handle = ws.handle();
        handle.subscribe_worker(&subscriber.remote());
        assert_eq!(await_frame(&mut peer).0, PING);
        peer.bytes(["no", "pong", "pong"].map(|text| frame(TEXT, false, text.as_bytes())).concat());
        end(&handle, &mut peer);
        let id = handle.id();
        let heard = subscriber.rest();
        assert_eq!(heard, [Heard::Opened(id), text(id, "no"), text(id, "pong"), Heard::Closed(id, 1000)]);
    });
}

#[test]
fn a_callback_that_fails_takes_nothing_from_subscribers() {
    bounded(|| {
        for panics in [false, true] {
            let subscriber = Subscriber::start();
            let fails = Keeper::new().message(move |_, text| match panics {
                false => Err(Error::other(text.to_owned())),
                true => panic!("{text}"),
            });
            let (ws, mut peer) = pair_with(patient(), fails);
            let handle = ws.handle();
            handle.subscribe_worker(&subscriber.remote());
            peer.send(TEXT, b"too much");
            assert_eq!(await_frame(&mut peer).0, CLOSE);
            peer.close(1011, "");
            peer.end();
            handle.wait_closed().unwrap();
            let id = handle.id();
            assert_eq!(subscriber.rest(), [Heard::Opened(id), text(id, "too much"), Heard::Closed(id, 1011)],);
        }
    });
}

#[test]
fn the_end_says_what_the_listener_was_told() {
    bounded(|| {
        let subscriber = Worker::spawn(|| Ok(wait_event::<Closed>()?.data.closed.to_string()));
        let log = Log::new();
        let (ws, mut peer) = pair(patient(), &log);
        ws.handle().subscribe_worker(&subscriber.remote());
        peer.send(0x83, b"no such opcode");
        peer.end();
        ws.wait_closed().unwrap();
        let told = log.end().unwrap();
        let said = subscriber.join().unwrap().done().unwrap();
        assert_eq!(told.code, 1002);
        assert!(said.contains("1002") && said.contains(&told.error.unwrap()), "{said}");
    });
}

#[test]
fn a_stop_of_the_connections_worker_is_told() {
    bounded(|| {
        let subscriber = Subscriber::start();
        let host = Host::listen();
        let url = host.url();
        let remote = subscriber.remote();
        let worker = Worker::spawn(move || {
            let listener = Log::new().listener(ignore);
            let ws = Client::new(&url).unwrap().config(patient()).connect(listener).unwrap();
            ws.handle().subscribe_worker(&remote);
            wait_forever()
        });
        let mut peer = host.upgrade(b"");
        let Heard::Opened(id) = subscriber.next() else { panic!("it was told something else") };
        worker.remote().stop();
        assert_eq!(peer.code(), 1001);
        peer.close(1001, "");
        drop(peer);
        worker.join().unwrap();
        assert_eq!(subscriber.rest(), [Heard::Closed(id, 1001)]);
    });
}

// --- Forwarding ---

#[test]
fn a_server_forwards_to_a_worker() {
    bounded(|| {
        let echo = Worker::spawn(|| {
            listen(|event: &Event<Received>| event.data.handle.send(&event.data.message).unwrap());
            let ends: Vec<_> = (0..3).map(|_| wait_event::<Closed>()).collect::<Result<_, _>>()?;
            Ok(ends.iter().map(|event| event.data.closed.code.get()).collect::<Vec<_>>())
        });
        let remote = echo.remote();
        let serving = Serving::with(bind().config(patient()), move |_| Reply::with(Forward::to(&remote)));
        for code in 4000..4003 {
            let mut peer = serving.peer();
            for text in ["one", "two"] {
                peer.send(TEXT, text.as_bytes());
                assert_eq!(peer.text(), text);
            }
            peer.close(code, "");
            assert_eq!(peer.code(), code);
        }
        assert_eq!(echo.join().unwrap().done(), Some(vec![4000, 4001, 4002]));
    });
}

#[test]
fn what_comes_with_the_handshake_is_forwarded() {
    bounded(|| {
        let subscriber = Subscriber::start();
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.upgrade(&frame(TEXT, false, b"early"));
            peer.close(1000, "");
            peer.end();
            assert_eq!(peer.code(), 1000);
        });
        let forward = Forward::to(&subscriber.remote());
        let ws = Client::new(&url).unwrap().config(patient()).connect(forward).unwrap();
        let handle = ws.handle();
        handle.wait_closed().unwrap();
        let id = handle.id();
        assert_eq!(subscriber.rest(), [Heard::Opened(id), text(id, "early"), Heard::Closed(id, 1000)]);
        host.join().unwrap();
    });
}

#[test]
fn a_client_forwards_to_its_own_worker() {
    bounded(|| {
        let serving = Serving::recording(patient(), &Log::new(), ignore);
        Client::new(&serving.url("/echo")).unwrap().config(patient()).start(Forward::to_current()).unwrap();
        let handle = wait_event::<Opened>().unwrap().data.handle.clone();
        for number in 0..3 {
            handle.send(&*number.to_string()).unwrap();
            assert_eq!(wait_event::<Received>().unwrap().data.message, *number.to_string());
        }
        handle.close().unwrap();
        let event = wait_event::<Closed>().unwrap();
        assert_eq!((event.data.closed.code, event.data.closed.clean), (CloseCode::NORMAL, true));
        assert!(wait_event_timeout::<Closed>(Duration::from_millis(5)).unwrap().is_none());
    });
}

#[test]
fn what_is_forwarded_to_nobody_goes_on() {
    bounded(|| {
        let gone = Worker::spawn(|| Ok(()));
        let remote = gone.remote();
        gone.join().unwrap();
        let serving = Serving::with(bind().config(patient()), move |_| Reply::with(Forward::to(&remote)));
        let mut peer = serving.peer();
        peer.send(TEXT, b"is anybody there?");
        peer.send(PING, b"?");
        assert_eq!(peer.frame(), (PONG, b"?".to_vec()));
        peer.close(1000, "");
        assert_eq!(peer.code(), 1000);
    });
}

// --- Many ---

#[test]
fn a_thousand_connections_end_once_each() {
    bounded(|| {
        const ROUNDS: usize = 5;
        const AT_ONCE: usize = 200;
        let subscriber = Subscriber::start();
        let remote = subscriber.remote();
        let serving = Serving::with(bind().workers(2).config(patient()), move |_| {
            let (give, remote) = (remote.clone(), remote.clone());
            // Subscribed twice, by the listener and from outside.
            Reply::with(Log::new().listener(move |ws, call| match call {
                Call::Open => {
                    ws.handle().subscribe_worker(&remote);
                    let (handle, remote) = (ws.handle(), give.clone());
                    ws.handle().run(move |_| handle.subscribe_worker(&remote));
                    Ok(())
                }
                Call::Text(text) if text == "close" => ws.close(),
                Call::Text(text) if text == "abort" => {
                    ws.abort();
                    Ok(())
                }
                Call::Text(text) if text == "fail" => Err(Error::other("as it was told")),
                _ => Ok(()),
            }))
        });
        for _ in 0..ROUNDS {
            let mut peers: Vec<_> = (0..AT_ONCE).map(|_| serving.peer()).collect();
            for (number, mut peer) in peers.drain(..).enumerate() {
                match number % 6 {
                    0 => peer.close(1000, ""),
                    1 => drop(peer),
                    2 => peer.reset(),
                    3 => {
                        peer.send(TEXT, b"close");
                        assert_eq!(peer.code(), 1000);
                        peer.close(1000, "");
                    }
                    4 => {
                        peer.send(TEXT, b"abort");
                        assert!(peer.ended());
                    }
                    _ => {
                        peer.send(TEXT, b"fail");
                        assert_eq!(peer.code(), 1011);
                    }
                }
            }
        }
        let mut opened = HashMap::new();
        let mut closed = HashMap::new();
        while closed.len() < ROUNDS * AT_ONCE {
            match subscriber.next() {
                Heard::Opened(id) => {
                    assert!(!closed.contains_key(&id));
                    *opened.entry(id).or_insert(0) += 1;
                }
                Heard::Received(id, _) => assert!(opened.contains_key(&id) && !closed.contains_key(&id)),
                Heard::Closed(id, _) => *closed.entry(id).or_insert(0) += 1,
            }
        }
        serving.into_running().stop();
        assert_eq!(subscriber.rest(), []);
        assert!(closed.values().all(|count| *count == 1));
        assert!(opened.len() == closed.len() && opened.values().all(|count| *count == 1));
    });
}
