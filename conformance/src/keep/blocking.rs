//! Connections of the blocking face that are kept, each on a thread of its own.

use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use threadwire::blocking::{self, Connection, Select, Selected, Server};
use threadwire::worker::EventLoop;
use threadwire::{Client, Config, Error, Reply, Request, sleep};

use super::{Doing, Held, Kept, PAUSE, STAGGER, TEXT, Usage, by_handle, told};

/// How many connections are served at the same time by the server that has threads.
const THREADS: usize = 200;

fn bind(listen: &str, config: Config) -> Result<Server, Error> {
    Ok(Server::bind(listen)?.config(config).on_request(|request: &Request| {
        match Usage::from_str(request.path()) {
            Ok(usage) => {
                request.attach(usage);
                Reply::upgrade()
            }
            Err(_) => Reply::status(404),
        }
    }))
}

fn usage_of(ws: &Connection) -> Usage {
    Usage::clone(&ws.attached::<Usage>().expect("the request has one"))
}

/// Accepts here, and gives each connection to a thread.
pub(super) fn serve(listen: &str, config: Config, stay: Duration) -> Result<(), Error> {
    let mut server = bind(listen, config)?;
    let remote = EventLoop::current().remote();
    ctrlc::set_handler(move || remote.stop()).map_err(Error::other)?;
    println!("listening on ws://{}", server.local_addr()?);
    loop {
        let ws = match server.accept() {
            Ok(ws) => ws,
            Err(Error::Stopped) => return Ok(()),
            Err(error) => return Err(error),
        };
        let kept = Kept::new(usage_of(&ws), stay);
        match ws.detach() {
            Ok(ws) => {
                thread::spawn(move || match ws.attach() {
                    Ok(ws) => keep(ws, kept),
                    Err(error) => kept.failed(&error),
                });
            }
            Err(error) => kept.failed(&error),
        }
    }
}

/// Has the server give each connection to a thread. A handler is lent its connection, and can't split it.
pub(super) fn serve_with_threads(listen: &str, config: Config, stay: Duration) -> Result<(), Error> {
    let server = bind(listen, config)?.serve(THREADS, move |ws| {
        let kept = Kept::new(usage_of(ws), stay);
        keep_lent(ws, kept);
        Ok(())
    })?;
    let (signal, signals) = mpsc::channel();
    let handler = move || {
        // A second signal has no receiver.
        let _ = signal.send(());
    };
    ctrlc::set_handler(handler).map_err(Error::other)?;
    println!("listening on ws://{}", server.local_addr()?);
    signals.recv().map_err(Error::other)?;
    server.stop();
    server.join()
}

pub(super) fn connect(url: &str, config: &Config, stay: Duration, paths: Vec<Usage>) -> Result<(), Error> {
    let count = paths.len();
    for usage in paths {
        let client = Client::new(&format!("{url}{}", usage.path))?.config(config.clone());
        thread::spawn(move || {
            let kept = Kept::new(usage, stay);
            match blocking::connect(&client) {
                Ok(ws) => keep(ws, kept),
                Err(error) => kept.failed(&error),
            }
        });
        thread::sleep(STAGGER);
    }
    while told() < count {
        thread::sleep(PAUSE);
    }
    Ok(())
}

fn keep(mut ws: Connection, kept: Kept) {
    match kept.usage.held {
        Held::Halves => keep_halves(ws, kept),
        Held::Select => keep_in_select(ws, kept),
        _ => keep_lent(&mut ws, kept),
    }
}

fn keep_lent(ws: &mut Connection, kept: Kept) {
    if kept.usage.held == Held::Handle {
        let handle = ws.handle();
        let user = thread::spawn(move || by_handle::keep(&handle, &kept));
        idle(ws);
        // It ends when the connection has.
        let _ = user.join();
        return;
    }
    match kept.usage.doing {
        Doing::Receive => receive(ws, &kept),
        Doing::Send => {
            while kept.goes_on() && ws.send(TEXT).is_ok() {
                kept.count();
                let _ = sleep(PAUSE);
            }
        }
        Doing::SendNative => {
            while kept.goes_on() && ws.send(TEXT).is_ok() {
                kept.count();
                thread::sleep(PAUSE);
            }
        }
        Doing::Nothing => drop(sleep(kept.left())),
    }
    finish(ws, &kept);
}

fn receive(ws: &mut Connection, kept: &Kept) {
    while let Ok(Some(_)) = ws.recv_timeout(kept.left()) {
        kept.count();
    }
}

/// Sleeps until the connection has ended, whoever uses it.
fn idle(ws: &Connection) {
    while ws.closed().is_none() && sleep(PAUSE).is_ok() {}
}

/// Closes, or waits until the peer has, and tells of it.
fn finish(ws: &mut Connection, kept: &Kept) {
    if kept.usage.closes && ws.is_open() {
        kept.begin_to_close();
        let _ = ws.close();
    }
    idle(ws);
    kept.tell(ws.closed().as_deref());
}

/// One thread receives, or does not, and another one sends, or does not.
fn keep_halves(ws: Connection, kept: Kept) {
    let (sender, mut receiver) = ws.split();
    let received = Kept::new(kept.usage.clone(), kept.left() + PAUSE);
    let user = thread::spawn(move || {
        match kept.usage.doing {
            Doing::Send | Doing::SendNative => {
                while kept.goes_on() && sender.send(TEXT).is_ok() {
                    kept.count();
                    thread::sleep(PAUSE);
                }
            }
            Doing::Receive | Doing::Nothing => thread::sleep(kept.left()),
        }
        let closed = if kept.usage.closes && sender.handle().is_open() {
            kept.begin_to_close();
            let closed = sender.close();
            kept.has_closed();
            closed
        } else {
            sender.handle().wait_closed()
        };
        (kept, closed)
    });
    if received.usage.doing == Doing::Receive {
        receive(&mut receiver, &received);
    } else {
        // The thread of this half sleeps all the time, in one call.
        let _ = sleep(received.left());
    }
    idle(&receiver);
    let (kept, closed) = user.join().expect("the thread of the sending half panicked");
    kept.messages.fetch_add(received.messages.into_inner(), Ordering::Relaxed);
    kept.tell(closed.ok().as_deref());
}

fn keep_in_select(ws: Connection, kept: Kept) {
    let mut select = Select::new();
    let key = select.add(ws);
    match kept.usage.doing {
        Doing::Receive => loop {
            match select.recv_timeout(kept.left()) {
                Ok(Some((_, Selected::Message(_)))) => kept.count(),
                Ok(Some((_, Selected::Closed(closed)))) => return kept.tell(Some(&closed)),
                Ok(Some((_, Selected::Connected))) => {}
                Ok(None) | Err(_) => break,
            }
        },
        Doing::Send | Doing::SendNative => {
            while kept.goes_on() && select[key].send(TEXT).is_ok() {
                kept.count();
                let _ = sleep(PAUSE);
            }
        }
        Doing::Nothing => drop(sleep(kept.left())),
    }
    let mut ws = select.remove(key).expect("it has not told of the end");
    finish(&mut ws, &kept);
}
