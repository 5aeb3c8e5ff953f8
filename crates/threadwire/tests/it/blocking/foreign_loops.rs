//! Blocking connections in other loops, and in an executor's threads.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll as Progress, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::keeping::MOMENT;
use crate::common::peer::{Host, PING, PONG, Peer, TEXT};
use crate::common::sharing::elsewhere;
use crate::common::{PATIENCE, Serving, bind, bounded, echo, patient};
use threadwire::blocking::{self, Connection};
use threadwire::worker::mio::{Events, Interest, Poll, Token, unix::SourceFd};
use threadwire::worker::{EventLoop, later};
use threadwire::{Client, Config, Error, Keepalive, OwnedMessage, Reply};

fn pair_with(config: Config) -> (Connection, Peer) {
    let host = Host::listen();
    let client = Client::new(&host.url()).unwrap().config(config);
    let host = host.run(|host| host.upgrade(b""));
    let ws = blocking::connect(&client).unwrap();
    (ws, host.join().unwrap())
}

/// Somebody else's loop, which ours is a part of.
struct Foreign {
    poll: Poll,
    events: Events,
    sleeps: usize,
}

impl Foreign {
    fn new() -> Foreign {
        let poll = Poll::new().unwrap();
        let descriptor = EventLoop::current().poll_fd().unwrap();
        poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE).unwrap();
        Foreign { poll, events: Events::with_capacity(8), sleeps: 0 }
    }

    /// Sleeps until there is something to do. Fails the test where nothing wakes it.
    fn sleep(&mut self) {
        let timeout = EventLoop::current().before_sleep().unwrap();
        self.sleeps += usize::from(timeout != Some(Duration::ZERO));
        let begun = Instant::now();
        self.poll.poll(&mut self.events, Some(timeout.unwrap_or(PATIENCE).min(PATIENCE))).unwrap();
        assert!(begun.elapsed() < PATIENCE, "nothing has woken the loop");
    }

    /// Receives as `recv` does, but sleeps here.
    fn recv(&mut self, ws: &mut Connection) -> Result<Option<OwnedMessage>, Error> {
        loop {
            match ws.try_recv() {
                Err(error) if error.is_timeout() => self.sleep(),
                result => return result,
            }
        }
    }
}

#[test]
fn a_message_wakes_a_foreign_loop() {
    bounded(|| {
        let (mut ws, mut peer) = pair_with(patient());
        let mut foreign = Foreign::new();
        let (go, told) = mpsc::channel();
        // Until then there is nothing to do but to sleep.
        later(MOMENT, move || go.send(()).unwrap());
        let answering = thread::spawn(move || {
            told.recv().unwrap();
            for number in 0..20 {
                peer.send(TEXT, number.to_string().as_bytes());
                assert_eq!(peer.text(), format!("{number}!"));
            }
            peer.close(1000, "");
            peer.end();
        });
        for number in 0..20 {
            assert_eq!(foreign.recv(&mut ws).unwrap().unwrap(), number.to_string().as_str());
            ws.send(&format!("{number}!")).unwrap();
        }
        assert!(foreign.recv(&mut ws).unwrap().is_none());
        assert!(foreign.sleeps > 0, "it was turned all the time");
        answering.join().unwrap();
    });
}

#[test]
fn handles_timers_and_keepalive_wake_a_foreign_loop() {
    bounded(|| {
        let keepalive = Keepalive::default().idle_timeout(MOMENT).reply_timeout(PATIENCE);
        let (mut ws, mut peer) = pair_with(patient().keepalive(keepalive));
        let mut foreign = Foreign::new();
        let handle = ws.handle();
        let same = ws.connection().clone();
        later(MOMENT, move || same.send("from a timer").unwrap());
        let other = thread::spawn(move || {
            let mut seen = Vec::new();
            while seen.len() < 2 {
                match peer.frame() {
                    (PING, payload) => peer.send(PONG, &payload),
                    (TEXT, payload) => seen.push(String::from_utf8(payload).unwrap()),
                    other => panic!("{other:?}"),
                }
            }
            // Nothing but silence until it is asked.
            let (first, payload) = peer.frame();
            assert_eq!(first, PING);
            peer.send(PONG, &payload);
            peer.send(TEXT, b"both, and a ping");
            seen
        });
        let sender = thread::spawn(move || handle.send("from a handle").unwrap());
        assert_eq!(foreign.recv(&mut ws).unwrap().unwrap(), "both, and a ping");
        sender.join().unwrap();
        let mut seen = other.join().unwrap();
        seen.sort();
        assert_eq!(seen, ["from a handle", "from a timer"]);
    });
}

#[test]
fn what_was_gathered_leaves_before_a_foreign_loop_sleeps() {
    bounded(|| {
        let (mut ws, mut peer) = pair_with(patient());
        peer.bytes(crate::common::peer::frame(TEXT, false, b"?").repeat(2));
        let mut foreign = Foreign::new();
        foreign.recv(&mut ws).unwrap();
        ws.send("answer").unwrap();
        EventLoop::current().before_sleep().unwrap();
        assert!(!peer.is_silent());
        assert_eq!(peer.text(), "answer");
        EventLoop::current().update().unwrap();
        assert_eq!(foreign.recv(&mut ws).unwrap().unwrap(), "?");
    });
}

/// A thread for one blocking call, as executors have it (`run_in_executor`, `spawn_blocking`), and a future for its result.
fn spawn_blocking<R: Send + 'static>(call: impl FnOnce() -> R + Send + 'static) -> impl Future<Output = R> {
    type Place<R> = Arc<Mutex<(Option<R>, Option<Waker>)>>;
    let place: Place<R> = Arc::new(Mutex::new((None, None)));
    let result = Arc::clone(&place);
    thread::spawn(move || {
        let value = call();
        let mut place = place.lock().unwrap();
        place.0 = Some(value);
        if let Some(waker) = place.1.take() {
            waker.wake();
        }
    });
    std::future::poll_fn(move |context: &mut Context<'_>| {
        let mut place = result.lock().unwrap();
        match place.0.take() {
            Some(value) => Progress::Ready(value),
            None => {
                place.1 = Some(context.waker().clone());
                Progress::Pending
            }
        }
    })
}

/// The smallest executor.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Progress::Ready(output) => return output,
            Progress::Pending => thread::park(),
        }
    }
}

#[test]
fn asynchronous_code_receives_by_a_blocking_call_on_another_thread() {
    bounded(|| {
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let url = serving.url("/");
        let heard = block_on(async {
            // A connection goes to a thread for each call, and comes back detached.
            let mut connection = spawn_blocking(move || blocking::connect(&url)?.detach()).await?;
            let mut heard = Vec::new();
            for number in 0..3 {
                let call = move || {
                    let mut ws = connection.attach()?;
                    ws.send(&number.to_string())?;
                    let message = ws.recv()?.expect("a message");
                    Ok::<_, Error>((message.to_string(), ws.detach()?))
                };
                let (message, back) = spawn_blocking(call).await?;
                heard.push(message);
                connection = back;
            }
            Ok::<_, Error>(heard)
        });
        assert_eq!(heard.unwrap(), ["0", "1", "2"]);
    });
}

#[test]
fn a_thread_that_only_receives_feeds_a_channel() {
    bounded(|| {
        let (give, given) = mpsc::channel();
        let serving = Serving::with(bind(), |_| Reply::with(echo));
        let url = serving.url("/");
        let receiving = thread::spawn(move || {
            let mut ws = blocking::connect(&url).unwrap();
            give.send(Err(ws.handle())).unwrap();
            while let Some(message) = ws.recv().unwrap() {
                give.send(Ok(message)).unwrap();
            }
        });
        // On a thread that has no loop, and gets none.
        elsewhere(move || {
            let Ok(Err(handle)) = given.recv() else { panic!("no handle") };
            for number in 0..100 {
                handle.send(&number.to_string()).unwrap();
            }
            for number in 0..100 {
                let Ok(Ok(message)) = given.recv() else { panic!("no message") };
                assert_eq!(message, number.to_string().as_str());
            }
            handle.close().unwrap();
        });
        receiving.join().unwrap();
    });
}
