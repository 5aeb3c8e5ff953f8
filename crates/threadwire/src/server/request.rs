//! A request that asks for a connection.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;

use threadwire_proto::handshake;

#[cfg(feature = "tls")]
use crate::tls::{TlsInfo, session::Session};

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
    #[cfg(feature = "tls")]
    tls: Option<TlsInfo>,
}

impl Request {
    pub(crate) fn new(head: handshake::Request, peer_addr: SocketAddr) -> Request {
        Request {
            head,
            peer_addr,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The same, where it came by TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn secured(self, tls: Option<&Session>) -> Request {
        Request { tls: tls.map(Session::info), ..self }
    }

    /// What the TLS handshake came to, with the client's certificates, if the request came by TLS to this server; TLS that ends
    /// at a proxy in front is none.
    ///
    /// ```no_run
    /// use threadwire::{Accept, Connection, Message, Request, Server, ServerTls};
    /// use threadwire::tls::{ClientCertificates, Pem};
    ///
    /// fn accept(request: &Request) -> Accept {
    ///     let shown = request.tls().and_then(|tls| tls.peer_certificates.first());
    ///     match shown.map(|certificate| certificate.as_ref()) {
    ///         Some(der) => Accept::with(|ws: &Connection, message: Message<'_>| ws.send(message)),
    ///         None => Accept::status(403),
    ///     }
    /// }
    ///
    /// let tls = ServerTls::new(Pem::file("example.pem"), Pem::file("example.key"))?
    ///     .client_certificates(ClientCertificates::Optional(Pem::file("our-ca.pem")))?;
    /// Server::bind("0.0.0.0:443")?.tls(tls).run(accept)?;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_ref()
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
