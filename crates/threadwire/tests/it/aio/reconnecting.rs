//! Reconnecting on the async face: order of events, hooks, and ends.

use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::common::peer::{Host, TEXT, upgraded};
use crate::common::tasks::{join, on_runtimes};
use crate::common::{PATIENCE, patient, vacant};
use threadwire::aio::{self, Reconnecting, Update};
use threadwire::error::TimeoutKind;
use threadwire::reconnect::{Attempt, Backoff, Cause, Change, State};
use threadwire::{Client, CloseCode, Error, OwnedMessage};
use tokio::time::timeout;

/// Tries again at once.
fn at_once() -> Backoff {
    Backoff::default().first(Duration::ZERO)
}

/// Waits for so long that no test sees the end of it.
fn in_a_long_time() -> Backoff {
    let far = Duration::from_secs(1 << 40);
    Backoff::default().first(far).cap(far)
}

fn reconnect(url: &str, backoff: Backoff) -> Reconnecting {
    aio::reconnect(&Client::new(url).unwrap().config(patient()), backoff)
}

/// A change in a few words. How long a wait takes is left to chance.
fn brief(change: &Change) -> String {
    match change.state {
        State::Waiting { attempt, .. } => format!("waiting for attempt {attempt}"),
        state => state.to_string(),
    }
}

/// Updates in a few words, up to the next message or the end.
async fn updates(feed: &mut Reconnecting) -> (Vec<String>, Option<OwnedMessage>) {
    let mut changes = Vec::new();
    loop {
        match feed.recv_update().await.unwrap() {
            Some(Update::Change(change)) => changes.push(brief(&change)),
            Some(Update::Message(message)) => return (changes, Some(message)),
            None => return (changes, None),
            _ => {}
        }
    }
}

#[test]
fn goes_from_state_to_state_and_receives_from_one_connection_after_the_other() {
    on_runtimes(|| async {
        let host = Host::listen();
        let mut feed = reconnect(&host.url(), at_once());
        let peers = host.run(|host| {
            let mut peer = host.accept();
            peer.head();
            peer.bytes("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
            let mut peer = host.upgrade(b"");
            peer.send(TEXT, b"one");
            peer.close(1001, "restart");
            assert_eq!(peer.code(), 1001);
            // The server ends TCP.
            drop(peer);
            let mut peer = host.upgrade(b"");
            peer.send(TEXT, b"two");
            assert_eq!(peer.code(), 1000);
            peer.close(1000, "");
        });
        let handle = feed.handle();
        assert_eq!(handle.state(), State::Connecting { attempt: 1 });
        let (changes, message) = updates(&mut feed).await;
        let expected = ["connecting (attempt 1)", "waiting for attempt 2", "connecting (attempt 2)", "open"];
        assert_eq!((changes, message.unwrap()), (expected.map(str::to_owned).to_vec(), "one".into()));
        let (changes, message) = updates(&mut feed).await;
        let expected = ["closed", "waiting for attempt 3", "connecting (attempt 3)", "open"];
        assert_eq!((changes, message.unwrap()), (expected.map(str::to_owned).to_vec(), "two".into()));
        handle.close().unwrap();
        let (changes, message) = updates(&mut feed).await;
        assert_eq!((changes, message), (vec!["closed".to_owned(), "stopped".to_owned()], None));
        assert!(feed.recv().await.unwrap().is_none(), "the end stays");
        assert_eq!((handle.state(), handle.connections()), (State::Stopped, 2));
        assert_eq!(handle.last_change().cause.unwrap().closed().unwrap().code, CloseCode::NORMAL);
        join(peers).await;
    });
}

#[test]
fn subscribes_on_each_connection_before_anybody_sends() {
    on_runtimes(|| async {
        let host = Host::listen();
        let mut feed = reconnect(&host.url(), at_once()).on_open(|ws| ws.send("subscribe"));
        let peers = host.run(|host| {
            for number in 0..5 {
                let mut peer = host.upgrade(b"");
                assert_eq!(peer.text(), "subscribe");
                peer.send(TEXT, number.to_string().as_bytes());
                assert_eq!(peer.text(), format!("thanks for {number}"));
            }
        });
        for number in 0..5 {
            assert_eq!(feed.recv().await.unwrap().unwrap(), number.to_string().as_str());
            // The other way for every other.
            match number % 2 {
                0 => feed.send(&format!("thanks for {number}")).await.unwrap(),
                _ => feed.handle().send_async(&format!("thanks for {number}")).await.unwrap(),
            }
        }
        join(peers).await;
    });
}

#[test]
fn gives_up_after_as_many_failures_as_there_may_be_and_says_why_once() {
    on_runtimes(|| async {
        let (_taken, nobody) = vacant();
        let mut feed = reconnect(&format!("ws://{nobody}"), at_once().max_attempts(Some(3)));
        let error = feed.recv().await.unwrap_err();
        assert_eq!(error.to_string(), format!("can't connect to {nobody}: connection refused"));
        let Error::Other(source) = &error else { panic!("{error:?}") };
        let cause = source.downcast_ref::<Arc<Cause>>().unwrap();
        assert!(matches!(cause.error(), Some(Error::Connect(_))));
        assert!(feed.recv().await.unwrap().is_none());
        assert_eq!(feed.handle().state(), State::GaveUp);
        assert!(matches!(feed.handle().send("too late"), Err(Error::Closed)));
    });
}

#[test]
fn a_server_that_rejects_what_we_are_is_not_asked_again() {
    on_runtimes(|| async {
        let host = Host::listen();
        let mut feed = reconnect(&host.url(), at_once());
        let peers = host.run(|host| {
            let mut peer = host.upgrade(b"");
            peer.close(1003, "no text");
            assert_eq!(peer.code(), 1003);
        });
        match feed.recv().await {
            Err(Error::Ended(closed)) => assert_eq!(closed.reason, "no text"),
            other => panic!("{other:?}"),
        }
        join(peers).await;
    });
}

#[test]
fn asks_before_each_attempt_which_may_change_it() {
    on_runtimes(|| async {
        let (first, second) = (Host::listen(), Host::listen());
        let urls = [first.url(), second.url()];
        let heads = Arc::new(Mutex::new(Vec::new()));
        let run = |host: Host| {
            let heads = Arc::clone(&heads);
            host.run(move |host| {
                let mut peer = host.accept();
                let head = peer.head();
                peer.bytes(upgraded(&head));
                heads.lock().unwrap().push(head);
            })
        };
        let peers = [run(first), run(second)];
        let client = Client::new(&urls[0]).unwrap().config(patient()).header("X-Token", "none").unwrap();
        let mut feed = aio::reconnect(&client, at_once()).before(move |attempt: &mut Attempt| {
            let number = attempt.number() as usize;
            assert_eq!(attempt.cause().is_some(), number > 1);
            let url = urls.get(number - 1).ok_or_else(|| Error::other("there are no more"))?;
            attempt.url(url)?;
            attempt.header("X-Token", &number.to_string())
        });
        let error = feed.recv().await.unwrap_err();
        assert_eq!(error.to_string(), "there are no more");
        for peer in peers {
            join(peer).await;
        }
        let heads = heads.lock().unwrap();
        assert!(heads[0].contains("X-Token: 1\r\n") && heads[1].contains("X-Token: 2\r\n"), "{heads:?}");
        assert!(!heads[0].contains("none"));
    });
}

#[test]
fn the_program_decides_what_is_worth_another_attempt() {
    on_runtimes(|| async {
        let host = Host::listen();
        let mut feed = reconnect(&host.url(), at_once())
            .retry_if(|cause| matches!(cause.error(), Some(Error::Status(answer)) if answer.status() == 401));
        let peers = host.run(|host| {
            let mut peer = host.accept();
            peer.head();
            peer.bytes("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
            let mut peer = host.upgrade(b"");
            peer.close(1001, "");
            assert_eq!(peer.code(), 1001);
        });
        assert!(matches!(feed.recv().await, Err(Error::Ended(_))));
        assert_eq!((feed.handle().state(), feed.handle().connections()), (State::GaveUp, 1));
        join(peers).await;
    });
}

#[test]
fn a_hook_that_fails_or_panics_closes_with_1011_and_its_error_is_the_cause() {
    on_runtimes(|| async {
        for panics in [false, true] {
            let host = Host::listen();
            let mut feed = reconnect(&host.url(), at_once()).on_open(move |_| match panics {
                true => panic!("no channel"),
                false => Err(Error::other("no channel")),
            });
            let peers = host.run(|host| {
                let mut peer = host.upgrade(b"");
                assert_eq!(peer.code(), 1011);
                peer.close(1011, "");
            });
            let error = feed.recv().await.unwrap_err();
            assert!(error.to_string().ends_with("no channel"), "{error}");
            join(peers).await;
        }
        let mut feed = reconnect("ws://127.0.0.1:9/", at_once()).before(|_| panic!("no token"));
        assert_eq!(feed.recv().await.unwrap_err().to_string(), "a callback panicked: no token");
        let (_taken, nobody) = vacant();
        let mut feed = reconnect(&format!("ws://{nobody}"), at_once()).retry_if(|_| panic!("no idea"));
        assert!(feed.recv().await.is_err());
    });
}

#[test]
fn what_is_no_url_is_given_up_with_that_error() {
    on_runtimes(|| async {
        let mut feed = aio::reconnect("http://example.com/", at_once());
        let error = feed.recv().await.unwrap_err();
        assert!(error.to_string().contains("expected ws"), "{error}");
    });
}

#[test]
fn a_stop_interrupts_a_wait_an_attempt_and_a_connection_at_once() {
    on_runtimes(|| async {
        // The wait.
        let (_taken, nobody) = vacant();
        let mut feed = reconnect(&format!("ws://{nobody}"), in_a_long_time());
        let handle = feed.handle();
        let receiving = tokio::spawn(async move { feed.recv().await });
        while !matches!(handle.state(), State::Waiting { .. }) {
            tokio::task::yield_now().await;
        }
        thread::spawn(move || handle.stop()).join().unwrap();
        assert!(receiving.await.unwrap().unwrap().is_none());

        // The attempt: the server says nothing.
        let silent = Host::listen();
        let mut feed = reconnect(&silent.url(), at_once());
        let handle = feed.handle();
        let peers = silent.run(|host| {
            let mut peer = host.accept();
            peer.head();
            assert!(peer.ended());
        });
        let receiving = tokio::spawn(async move { (feed.recv().await, feed) });
        tokio::task::yield_now().await;
        handle.close().unwrap();
        let (received, feed) = receiving.await.unwrap();
        assert!(received.unwrap().is_none());
        drop(feed);
        drop(peers);

        // The connection: the server does not answer the close.
        let host = Host::listen();
        let mut feed = reconnect(&host.url(), at_once());
        let handle = feed.handle();
        let peers = host.run(|host| {
            let mut peer = host.upgrade(b"");
            peer.send(TEXT, b"hello");
            assert_eq!(peer.code(), 1001);
            assert!(peer.ended());
        });
        assert_eq!(feed.recv().await.unwrap().unwrap(), "hello");
        handle.stop();
        assert!(feed.recv().await.unwrap().is_none());
        assert_eq!(handle.state(), State::Stopped);
        join(peers).await;
    });
}

#[test]
fn dropping_it_lets_go_of_the_connection() {
    on_runtimes(|| async {
        let host = Host::listen();
        let mut feed = reconnect(&host.url(), at_once());
        let handle = feed.handle();
        let peers = host.run(|host| {
            let mut peer = host.upgrade(b"");
            peer.send(TEXT, b"hello");
            assert_eq!(peer.code(), 1001);
            peer.close(1001, "");
        });
        assert!(feed.recv().await.unwrap().is_some());
        assert!(handle.connection().is_some());
        drop(feed);
        assert!(matches!(handle.send("too late"), Err(Error::Closed)));
        assert_eq!((handle.state(), handle.connection().is_none()), (State::Stopped, true));
        join(peers).await;
    });
}

#[test]
fn another_connection_can_be_asked_for() {
    on_runtimes(|| async {
        let host = Host::listen();
        let mut feed = reconnect(&host.url(), in_a_long_time());
        let handle = feed.handle();
        let peers = host.run(|host| {
            for number in 1..=2 {
                let mut peer = host.upgrade(b"");
                peer.send(TEXT, number.to_string().as_bytes());
                assert!(matches!(peer.frame_or_end(), Some((_, payload)) if payload.starts_with(&[3, 0xe9])));
            }
        });
        assert_eq!(feed.recv().await.unwrap().unwrap(), "1");
        handle.reconnect();
        let (changes, message) = updates(&mut feed).await;
        assert_eq!(message.unwrap(), "2");
        assert_eq!(changes.last().map(String::as_str), Some("open"));
        assert!(matches!(handle.last_change().cause.as_deref(), Some(Cause::Requested)));
        handle.stop();
        assert!(feed.recv().await.unwrap().is_none());
        join(peers).await;
    });
}

#[test]
fn in_between_sends_fail_and_messages_of_a_receive_that_was_dropped_are_not_lost() {
    on_runtimes(|| async {
        let (go, goes) = mpsc::channel::<()>();
        let host = Host::listen();
        let mut feed = reconnect(&host.url(), at_once());
        assert!(matches!(feed.send("not yet").await, Err(Error::Closed)));
        let peers = host.run(move |host| {
            goes.recv_timeout(PATIENCE).unwrap();
            let mut peer = host.upgrade(b"");
            peer.send(TEXT, b"hello");
            assert_eq!(peer.text(), "hi");
        });
        // The attempt goes on from one receive to the next.
        assert!(timeout(Duration::ZERO, feed.recv()).await.is_err());
        assert!(matches!(feed.handle().send("not yet"), Err(Error::Closed)));
        go.send(()).unwrap();
        let message = loop {
            match timeout(Duration::from_millis(1), feed.recv()).await {
                Ok(message) => break message,
                Err(_elapsed) => {}
            }
        };
        assert_eq!(message.unwrap().unwrap(), "hello");
        assert_eq!(feed.handle().connections(), 1);
        feed.send("hi").await.unwrap();
        join(peers).await;
    });
}

#[test]
fn an_attempt_that_takes_too_long_is_a_failure() {
    on_runtimes(|| async {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let config = patient().open_timeout(Duration::from_millis(1));
        let client = Client::new(&format!("ws://{}", silent.local_addr().unwrap())).unwrap().config(config);
        let mut feed = aio::reconnect(&client, at_once().max_attempts(Some(2)));
        assert!(feed.recv().await.is_err());
        let cause = feed.handle().last_change().cause.unwrap();
        assert!(matches!(cause.error(), Some(Error::Timeout(TimeoutKind::Open { .. }))));
    });
}

#[test]
fn a_server_that_is_busy_is_left_alone_for_as_long_as_it_asks_for() {
    on_runtimes(|| async {
        let host = Host::listen();
        let url = host.url();
        let host = host.run(|host| {
            let mut peer = host.accept();
            peer.head();
            peer.bytes("HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n");
            peer
        });
        let mut feed = reconnect(&url, at_once());
        let delay = loop {
            if let Some(Update::Change(change)) = feed.recv_update().await.unwrap()
                && let State::Waiting { delay, .. } = change.state
            {
                break delay;
            }
        };
        assert_eq!(delay, Duration::from_secs(3600));
        drop(join(host).await);
    });
}
