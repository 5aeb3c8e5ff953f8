//! Event sources: sockets and their readiness on an event loop.

use std::any::type_name;
use std::borrow::Cow;
use std::rc::Rc;

/// The place of a source in its loop. It is never given to another source of that loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub(crate) mio::Token);

/// The readiness of a socket, as the system tells it. It is told once (edge triggered): read until the socket has no
/// more (a read that fills less than its buffer shows that, unless [`read_closed`](Ready::read_closed) is set), or
/// ask to be called again with [`EventLoop::requeue`](crate::EventLoop::requeue).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// There is something to read.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The peer will send no more. Bytes that it sent before may still have to be read.
    pub read_closed: bool,
}

impl Ready {
    /// Something to read, and nothing else.
    pub const READABLE: Ready = Ready { readable: true, writable: false, read_closed: false };

    /// Whether the socket is ready for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Ready::default()
    }
}

impl std::ops::BitOr for Ready {
    type Output = Ready;

    fn bitor(self, other: Ready) -> Ready {
        Ready {
            readable: self.readable | other.readable,
            writable: self.writable | other.writable,
            read_closed: self.read_closed | other.read_closed,
        }
    }
}

/// Something with a socket that lives on an event loop, see [`EventLoop::attach`](crate::EventLoop::attach).
///
/// All methods are called on the loop's thread. The calls come by `Rc`, so that a source may remove itself, and any of
/// them may wait: then the loop turns inside of it, and may call the same source again.
pub trait Source: 'static {
    /// The socket is ready.
    fn ready(self: Rc<Self>, ready: Ready);

    /// The loop begins its next turn, and this source asked to be called before
    /// ([`EventLoop::flush_later`](crate::EventLoop::flush_later)): the place to write gathered output.
    fn flush(self: Rc<Self>) {}

    /// The loop is about to end: finish what must be finished, then detach. There is a deadline, which the worker
    /// sets.
    fn stop(self: Rc<Self>);

    /// The loop has ended, and this source was still attached. Nothing is polled any more.
    fn abandon(self: Rc<Self>) {}

    /// The name of the source in reports, such as that of a [stall](crate::EventLoop::set_stall_limit). By default its type.
    /// It is asked for only when there is something to report, when one of the calls above has returned or waits.
    fn name(&self) -> Cow<'static, str> {
        type_name::<Self>().into()
    }
}

/// A source that keeps a place on a loop until [`EventLoop::replace`](crate::EventLoop::replace) puts another one there. It calls
/// the closure if the loop ends before.
///
/// ```
/// use std::rc::Rc;
/// use threadwire_worker::{EventLoop, Placeholder};
///
/// let event_loop = EventLoop::current();
/// let token = event_loop.attach_idle(|token| {
///     Rc::new(Placeholder(move || EventLoop::current().detach_idle(token)))
/// });
/// assert_eq!(event_loop.source_count(), 1);
/// event_loop.detach_idle(token);
/// ```
#[derive(Debug)]
pub struct Placeholder<F>(pub F);

impl<F: Fn() + 'static> Source for Placeholder<F> {
    fn ready(self: Rc<Self>, _ready: Ready) {}

    fn stop(self: Rc<Self>) {
        (self.0)();
    }
}
