//! The table of a loop's sources: attaching, detaching, and the queue of those that are ready.

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use mio::Interest;

use super::waker::Poller;
use super::{EventLoop, pop};
use crate::{Ready, Source, Token};

/// A token is an index into the table of sources and, above that, a number that no other source at that index had.
const INDEX_BITS: u32 = usize::BITS / 2;
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;
/// Whether the system stops watching a socket when it is closed (epoll(7), kqueue(2)).
const CLOSING_DEREGISTERS: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
));

/// A source in the table of its loop.
pub(super) struct SourceEntry {
    pub(super) token: Token,
    pub(super) source: Rc<dyn Source>,
    /// The readiness of the source. If there is any, its token is in the queue.
    pub(super) queued: Ready,
    /// Whether the source was told to stop.
    pub(super) told: bool,
}

impl EventLoop {
    /// Runs `work` on the poll, which is made if there is none.
    pub(super) fn with_poll<R>(&self, work: impl FnOnce(&mio::Registry) -> io::Result<R>) -> io::Result<R> {
        let mut poller = self.poller.borrow_mut();
        if poller.is_none() {
            let (made, waker) = Poller::new()?;
            self.worker.inbox.set_waker(waker);
            *poller = Some(made);
        }
        work(poller.as_ref().expect("it was just made").poll.registry())
    }

    /// Has `socket` watched by this loop. `make` gets the socket, and the token by which its source is known.
    ///
    /// # Panics
    ///
    /// If `make` attaches another source itself.
    pub fn attach<S: mio::event::Source>(
        &self,
        mut socket: S,
        interest: Interest,
        make: impl FnOnce(S, Token) -> Rc<dyn Source>,
    ) -> io::Result<Token> {
        let token = self.next_token();
        self.with_poll(|registry| registry.register(&mut socket, token.0, interest))?;
        self.insert(token, make(socket, token));
        Ok(token)
    }

    /// Takes a source in that has no socket (yet): it is called when it is [requeued](EventLoop::requeue), and at the end.
    pub fn attach_idle(&self, make: impl FnOnce(Token) -> Rc<dyn Source>) -> Token {
        let token = self.next_token();
        self.insert(token, make(token));
        token
    }

    fn next_token(&self) -> Token {
        let number = self.attached.get().wrapping_add(1) & (INDEX_MASK >> 1);
        self.attached.set(number);
        Token(mio::Token(number << INDEX_BITS | self.sources.borrow().vacant_key()))
    }

    fn insert(&self, token: Token, source: Rc<dyn Source>) {
        let mut sources = self.sources.borrow_mut();
        if sources.vacant_key() == index(token) {
            sources.insert(SourceEntry { token, source, queued: Ready::default(), told: false });
            self.untold.set(true);
            return;
        }
        drop(sources);
        panic!("what makes a source for an event loop must not attach another one to it");
    }

    /// Puts another source into the place of one, such as a connection into that of its handshake.
    pub fn replace(&self, token: Token, source: Rc<dyn Source>) {
        let old = match self.sources.borrow_mut().get_mut(index(token)) {
            Some(entry) if entry.token == token => {
                entry.told = false;
                self.untold.set(true);
                Some(std::mem::replace(&mut entry.source, source))
            }
            _ => None,
        };
        // The old source is dropped outside of the borrow: its values are the user's, and their drops may call back.
        threadwire_guard::discard(old);
    }

    /// Stops watching `socket`, and forgets its source.
    pub fn detach(&self, token: Token, socket: &mut impl mio::event::Source) {
        if let Err(error) = self.with_poll(|registry| registry.deregister(socket)) {
            tracing::debug!(%error, "can't deregister a socket");
        }
        self.detach_idle(token);
    }

    /// Closes `socket`, and forgets its source. The system stops watching a socket that nobody has open any more by itself, where mio
    /// watches by epoll or kqueue: that saves a system call. Not for a socket of which there is another descriptor.
    pub fn detach_and_close(&self, token: Token, socket: impl mio::event::Source) {
        let mut socket = socket;
        if CLOSING_DEREGISTERS {
            self.detach_idle(token);
        } else {
            self.detach(token, &mut socket);
        }
        drop(socket);
    }

    /// Forgets a source that has no socket.
    pub fn detach_idle(&self, token: Token) {
        let old = {
            let mut sources = self.sources.borrow_mut();
            match sources.get(index(token)) {
                Some(entry) if entry.token == token => Some(sources.remove(index(token))),
                _ => None,
            }
        };
        threadwire_guard::discard(old);
    }

    /// How many sources are attached.
    pub fn source_count(&self) -> usize {
        self.sources.borrow().len()
    }

    /// Has the source called again as if it had become ready, behind those that are ready already: the way to be
    /// fair when there is more to read.
    pub fn requeue(&self, token: Token, ready: Ready) {
        let mut sources = self.sources.borrow_mut();
        let Some(entry) = sources.get_mut(index(token)).filter(|entry| entry.token == token) else { return };
        if entry.queued.is_empty() && !ready.is_empty() {
            self.ready.borrow_mut().push_back(token);
        }
        entry.queued = entry.queued | ready;
    }

    /// Takes the next source that has something to do, and what that is.
    #[inline]
    pub(super) fn next_ready(&self) -> Option<(Token, Ready, Rc<dyn Source>)> {
        loop {
            let token = pop(&self.ready, VecDeque::pop_front)?;
            let mut sources = self.sources.borrow_mut();
            if let Some(entry) = sources.get_mut(index(token)).filter(|entry| entry.token == token) {
                return Some((token, std::mem::take(&mut entry.queued), Rc::clone(&entry.source)));
            }
        }
    }

    /// Has the source flushed before the loop polls next.
    #[inline]
    pub fn flush_later(&self, token: Token) {
        self.dirty.borrow_mut().push(token);
    }

    #[inline]
    pub(super) fn source(&self, token: Token) -> Option<Rc<dyn Source>> {
        let sources = self.sources.borrow();
        let entry = sources.get(index(token))?;
        (entry.token == token).then(|| Rc::clone(&entry.source))
    }
}

fn index(token: Token) -> usize {
    token.0.0 & INDEX_MASK
}

/// The readiness that an event of the system tells.
pub(super) fn translate(event: &mio::event::Event) -> Ready {
    Ready {
        // An error is read (or written) out of the socket, as its own answer.
        readable: event.is_readable() || event.is_error(),
        writable: event.is_writable() || event.is_error(),
        read_closed: event.is_read_closed(),
    }
}
