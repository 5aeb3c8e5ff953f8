//! The first step: the addresses of a host. The system's resolver blocks, so it is asked on a thread of its own, and the
//! loop goes on meanwhile.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::thread;

use threadwire_worker::EventLoop;

use super::{Attempt, connect};
use crate::Error;

thread_local! {
    /// The attempts of this thread that wait for an answer, by number: an attempt can't go to another thread and back.
    static WAITING: RefCell<Vec<(u64, Rc<Attempt>)>> = const { RefCell::new(Vec::new()) };
}

/// Finds the addresses, and goes on to connecting.
pub(super) fn start(attempt: &Rc<Attempt>) {
    let target = &attempt.target;
    if target.is_ip()
        && let Ok(ip) = target.host().parse::<IpAddr>()
    {
        return connect::start(attempt, vec![SocketAddr::new(ip, target.port())]);
    }
    let number = WAITING.with_borrow_mut(|waiting| {
        let number = waiting.last().map_or(0, |(last, _)| last + 1);
        waiting.push((number, Rc::clone(attempt)));
        number
    });
    let remote = EventLoop::current().remote();
    let (host, port) = (target.host().to_owned(), target.port());
    let asked = thread::Builder::new().name(format!("resolve {host}")).spawn(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Vec::from_iter);
        // A loop that has ended wants no answer.
        let _ = remote.post(move |_| resume(number, found));
    });
    if let Err(error) = asked {
        resume(number, Err(error));
    }
}

/// The answer has come.
fn resume(number: u64, found: io::Result<Vec<SocketAddr>>) {
    let attempt = WAITING.with_borrow_mut(|waiting| {
        let index = waiting.iter().position(|(waiting, _)| *waiting == number)?;
        Some(waiting.remove(index).1)
    });
    let Some(attempt) = attempt.filter(|attempt| attempt.is_pending()) else { return };
    match found {
        Ok(addresses) if !addresses.is_empty() => connect::start(&attempt, addresses),
        Ok(_) => fail(&attempt, io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
        Err(error) => fail(&attempt, error),
    }
}

fn fail(attempt: &Attempt, source: io::Error) {
    attempt.fail(Error::Resolve { host: attempt.target.host().to_owned(), source });
}
