//! A request that asks for a connection.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;

use threadwire_proto::handshake;

/// A request, as it was received: everything that [`proto::handshake::Request`](handshake::Request) knows, to which this
/// dereferences, and where it came from.
///
/// ```
/// use threadwire::{Accept, Connection, Message, Request};
///
/// fn accept(request: &Request) -> Accept {
///     if !request.peer_addr().ip().is_loopback() || request.path() != "/admin" {
///         return Accept::status(403);
///     }
///     Accept::with(|ws: &Connection, message: Message<'_>| ws.send(message))
/// }
/// ```
pub struct Request {
    head: handshake::Request,
    peer_addr: SocketAddr,
}

impl Request {
    pub(crate) fn new(head: handshake::Request, peer_addr: SocketAddr) -> Request {
        Request { head, peer_addr }
    }

    /// The address that the connection comes from: that of a proxy, if there is one in between.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }
}

impl Deref for Request {
    type Target = handshake::Request;

    fn deref(&self) -> &handshake::Request {
        &self.head
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("head", &self.head).field("peer_addr", &self.peer_addr).finish()
    }
}
