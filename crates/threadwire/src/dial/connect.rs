//! The second step: a TCP connection to one of the addresses, tried one after the other.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use mio::Interest;
use mio::net::TcpStream;
use threadwire_worker::{EventLoop, Ready, Source, Token};

use super::{Attempt, secure};
use crate::Error;
use crate::stream::Stream;

/// A socket that is being connected.
struct Connecting {
    attempt: Rc<Attempt>,
    token: Token,
    stream: RefCell<Option<Stream>>,
    address: SocketAddr,
    /// What to try if this fails.
    others: RefCell<VecDeque<SocketAddr>>,
}

/// Tries the addresses in order, and goes on to the upgrade with the first that answers.
pub(super) fn start(attempt: &Rc<Attempt>, addresses: Vec<SocketAddr>) {
    next(attempt, addresses.into());
}

fn next(attempt: &Rc<Attempt>, mut addresses: VecDeque<SocketAddr>) {
    while let Some(address) = addresses.pop_front() {
        match begin(attempt, address, &addresses) {
            Ok(()) => return,
            Err(source) if addresses.is_empty() => {
                return attempt.fail(Error::Connect { addr: address, source });
            }
            Err(error) => tracing::debug!(%address, %error, "trying the next address"),
        }
    }
}

fn begin(attempt: &Rc<Attempt>, address: SocketAddr, others: &VecDeque<SocketAddr>) -> io::Result<()> {
    let stream = Stream::tcp(TcpStream::connect(address)?);
    let mut connecting = None;
    EventLoop::current().attach(stream, Interest::READABLE | Interest::WRITABLE, |stream, token| {
        let source = Rc::new(Connecting {
            attempt: Rc::clone(attempt),
            token,
            stream: RefCell::new(Some(stream)),
            address,
            others: RefCell::new(others.clone()),
        });
        connecting = Some(Rc::clone(&source));
        source
    })?;
    let cancelled = connecting.map(|source| Box::new(move || drop(source.detach())) as Box<dyn FnOnce()>);
    *attempt.cancel.borrow_mut() = cancelled;
    Ok(())
}

impl Connecting {
    fn detach(&self) -> Option<Stream> {
        let mut stream = self.stream.borrow_mut().take()?;
        EventLoop::current().detach(self.token, &mut stream);
        Some(stream)
    }

    fn failed(&self, source: io::Error) {
        drop(self.detach());
        let others = self.others.take();
        if others.is_empty() {
            return self.attempt.fail(Error::Connect { addr: self.address, source });
        }
        tracing::debug!(address = %self.address, error = %source, "trying the next address");
        next(&self.attempt, others);
    }
}

impl Source for Connecting {
    fn ready(self: Rc<Self>, ready: Ready) {
        let state = match &*self.stream.borrow() {
            None => return,
            Some(stream) => match stream.take_error() {
                Ok(Some(error)) | Err(error) => Err(error),
                // Connected if it has a peer; otherwise this was a false alarm.
                Ok(None) => match stream.peer_addr() {
                    Ok(_) => Ok(true),
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
                    Err(error) => Err(error),
                },
            },
        };
        match state {
            Ok(true) => {
                let stream = self.stream.borrow_mut().take();
                if let Some(stream) = stream {
                    secure::start(&self.attempt, stream, self.token, ready);
                }
            }
            Ok(false) => {}
            Err(error) => self.failed(error),
        }
    }

    fn stop(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }

    fn abandon(self: Rc<Self>) {
        self.attempt.fail(Error::Stopped);
    }
}
