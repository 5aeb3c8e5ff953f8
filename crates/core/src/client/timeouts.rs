//! Timeouts of the steps of opening a connection.

use std::time::Duration;

/// How long the steps of opening a connection may take. None has a limit of its own by default: all of them together may take
/// [`Config::open_timeout`](crate::Config::open_timeout), 10 s, also where redirects are followed. What has taken too long is told
/// by [`TimeoutKind::Step`](crate::TimeoutKind::Step), or [`TimeoutKind::Open`](crate::TimeoutKind::Open) for the whole; both say
/// which step it was, and with whom.
///
/// ```
/// use std::time::Duration;
/// use threadwire::client::Timeouts;
/// use threadwire::Client;
///
/// // A host that is down is given up sooner; a server that has to think has all the time there is.
/// let timeouts = Timeouts::default().connect(Duration::from_secs(2));
/// let client = Client::new("ws://example.com/")?.timeouts(timeouts);
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Finding the addresses of a host.
    pub resolve: Option<Duration>,
    /// Connecting to one address. Others of the host are tried meanwhile.
    pub connect: Option<Duration>,
    /// The answer of a proxy.
    pub proxy: Option<Duration>,
    /// The handshake of TLS.
    pub tls: Option<Duration>,
    /// The answer of the server to the opening handshake.
    pub upgrade: Option<Duration>,
}

threadwire_proto::setters! {
    Timeouts {} optional { resolve: Duration, connect: Duration, proxy: Duration, tls: Duration, upgrade: Duration }
}
