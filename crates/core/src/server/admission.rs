//! Admission to a server: limits for connections and handshakes, and the gate that counts them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use threadwire_proto::handshake::{self, Response};

use super::check::plain;
use super::forwarded::Forwarded;
use super::proxy_protocol::Demand;
use super::proxy_protocol::ProxyProtocol;
use super::request::Request;
use super::request::{Attached, Caller};
use crate::error::{Error, LimitError, LimitKind};

/// Whom a server lets in, and how many of them: limits, each with a default and with what happens past it; and whom to believe, if there is a
/// proxy in front. The limits count for the whole server, over all its workers and all that it listens on.
///
/// How long a handshake may take, and how large its head may be, is in [`Config`](crate::Config).
///
/// ```
/// use threadwire::server::Admission;
/// use threadwire::{Connection, Message, Reply, Server};
///
/// let admission = Admission::default().max_connections(1);
/// let server = Server::bind("127.0.0.1:0")?
///     .admission(admission)
///     .serve(|_| Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)))?;
/// let url = format!("ws://{}", server.local_addr()?);
/// let mut first = threadwire::blocking::connect(&url)?;
/// let second = threadwire::blocking::connect(&url);
/// assert!(second.unwrap_err().is_transient(), "it is answered with 503");
/// # first.close()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Admission {
    /// The most connections that are open at once. None by default: then the system's limit of open files is one. Past it, requests that
    /// would become connections are answered with 503; plain ones are not concerned, so that a health check is answered also by a
    /// server that is full.
    pub max_connections: Option<usize>,
    /// The most connections that one client has open at once, by its [address](crate::Request::client_ip); all addresses of a /64 of IPv6
    /// count as one, as that is the least that a customer is given. None by default, as many people may share an address. Past it,
    /// requests are answered with 429. Clients of whom a proxy in front does not say where they come from are one client together, whose
    /// address is the proxy's, unless [`refuse_unknown`](Admission::refuse_unknown) is said. On a Unix socket without [`forwarded`](Admission::forwarded)
    /// nobody has an address, and nobody is counted.
    pub max_per_address: Option<usize>,
    /// Whether requests that would become connections are answered with 400 where a trusted proxy says nothing readable of where they come
    /// from ([`forwarded`](Admission::forwarded)). False by default: [`Request::client_ip`](crate::Request::client_ip) is `None` then.
    pub refuse_unknown: bool,
    /// The most sockets that are accepted in a second, on average; as many more may come at once after a second of rest. None by default;
    /// 0 counts as 1. Past it, they are left to wait in the system's queue, and nobody is refused, unless that is full (4096, or
    /// what the system allows).
    pub max_per_second: Option<u32>,
    /// The most opening handshakes that are under way at once, requests that are being answered included, and peers that were answered
    /// otherwise and have not ended. 4096 by default; 0 counts as 1. Past it, and when the system can't give another socket, the one that
    /// has been under way for longest is dropped: those that never end are many in an attack, and old. (On a server of several workers, the oldest of the worker that gets the new one.)
    pub max_handshakes: usize,
    /// Whether balancers say by the [PROXY protocol](ProxyProtocol) whose connections they pass on. Off by default.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Whether proxies say [by headers](Forwarded) whose requests they pass on. Off by default. With both, it begins where the
    /// PROXY protocol ends.
    pub forwarded: Option<Forwarded>,
}

threadwire_proto::setters! {
    Admission { refuse_unknown: bool, max_handshakes: usize } optional {
        max_connections: usize,
        max_per_address: usize,
        max_per_second: u32,
        proxy_protocol: ProxyProtocol,
        forwarded: Forwarded,
    }
}

impl Default for Admission {
    fn default() -> Admission {
        Admission {
            max_connections: None,
            max_per_address: None,
            refuse_unknown: false,
            max_per_second: None,
            max_handshakes: 4096,
            proxy_protocol: None,
            forwarded: None,
        }
    }
}

/// Admission at work: one for each server.
#[derive(Debug, Default)]
#[doc(hidden)]
pub struct Gate {
    admission: Admission,
    open: AtomicUsize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    pace: Mutex<Pace>,
    handshakes: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gate {
    #[doc(hidden)]
    pub fn new(admission: Admission) -> Arc<Gate> {
        Arc::new(Gate { admission, ..Gate::default() })
    }

    /// Whether a socket may be accepted now; if not, how long to wait. One that was not there is given [back](Gate::give_back).
    #[doc(hidden)]
    pub fn take_turn(&self, now: Instant) -> Result<(), Duration> {
        match self.admission.max_per_second {
            Some(rate) => lock(&self.pace).take(rate, now),
            None => Ok(()),
        }
    }

    #[doc(hidden)]
    pub fn give_back(&self) {
        if let Some(rate) = self.admission.max_per_second {
            lock(&self.pace).give_back(rate);
        }
    }

    /// How a connection has to begin.
    #[doc(hidden)]
    pub fn demand(&self, peer: Option<SocketAddr>) -> Demand {
        self.admission.proxy_protocol.as_ref().map_or(Demand::Nothing, |protocol| protocol.demand(peer))
    }

    /// Whether there are more handshakes under way than there may be.
    #[doc(hidden)]
    pub fn has_too_many_handshakes(&self) -> bool {
        self.handshakes.load(Ordering::Relaxed) > self.admission.max_handshakes.max(1)
    }

    /// A handshake is under way, until what this returns is dropped.
    #[doc(hidden)]
    pub fn begin_handshake(self: &Arc<Gate>) -> UnderWay {
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// A request that was read, with whose it is. An error is what it is answered.
    #[doc(hidden)]
    pub fn request(&self, head: handshake::Request, caller: Caller) -> Result<Request, Response> {
        let ip = caller.ip();
        let client_ip = match &self.admission.forwarded {
            Some(forwarded) => forwarded.client(ip, head.headers())?,
            None => ip,
        };
        Ok(Request::new(head, caller, client_ip))
    }

    /// Whether a client is refused because its address is not known.
    pub(super) fn refuses(&self, client: Option<IpAddr>) -> bool {
        self.admission.refuse_unknown && self.admission.forwarded.is_some() && client.is_none()
    }

    /// Lets a client in, if there is room for it: as long as the permit is there. None is needed where nothing is limited. `hop` is the
    /// address of the other end, which counts where that of the client is not known.
    #[doc(hidden)]
    pub fn admit(
        self: &Arc<Gate>,
        client: Option<IpAddr>,
        hop: Option<IpAddr>,
    ) -> Result<Option<Arc<Permit>>, TooMany> {
        let Admission { max_connections, max_per_address, .. } = self.admission;
        if max_connections.is_none() && max_per_address.is_none() {
            return Ok(None);
        }
        let most = max_connections.unwrap_or(usize::MAX);
        let one_more = |open: usize| (open < most).then_some(open + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return Err(TooMany { kind: LimitKind::Connections, limit: most });
        }
        // From here on the permit counts for one.
        let mut permit = Permit { gate: Arc::clone(self), network: None, is_over: AtomicBool::new(false) };
        // Behind a proxy on a Unix socket those who are not known are one together as well.
        let unknown = || self.admission.forwarded.is_some().then_some(Ipv6Addr::UNSPECIFIED.into());
        if let (Some(limit), Some(network)) = (max_per_address, client.or(hop).or_else(unknown).map(network))
        {
            let mut addresses = lock(&self.addresses);
            let count = addresses.entry(network).or_default();
            if *count >= limit {
                if *count == 0 {
                    addresses.remove(&network);
                }
                drop(addresses);
                return Err(TooMany { kind: LimitKind::PerAddress, limit });
            }
            *count += 1;
            permit.network = Some(network);
        }
        Ok(Some(Arc::new(permit)))
    }
}

/// The key by which clients are counted.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

/// A handshake under way.
#[derive(Debug)]
#[doc(hidden)]
pub struct UnderWay(Arc<Gate>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct TooMany {
    kind: LimitKind,
    limit: usize,
}

impl TooMany {
    #[doc(hidden)]
    pub fn response(self) -> Response {
        match self.kind {
            LimitKind::PerAddress => plain(429, "too many connections from this address\n"),
            _ => plain(503, "too many connections\n"),
        }
    }
}

impl From<TooMany> for Error {
    fn from(TooMany { kind, limit }: TooMany) -> Error {
        Error::Limit(LimitError { kind, limit })
    }
}

/// A connection that counts.
#[derive(Debug)]
#[doc(hidden)]
pub struct Permit {
    gate: Arc<Gate>,
    network: Option<IpAddr>,
    is_over: AtomicBool,
}

impl Permit {
    /// The connection has ended; what is left of it may live on.
    #[doc(hidden)]
    pub fn give_back(&self) {
        if self.is_over.swap(true, Ordering::Relaxed) {
            return;
        }
        self.gate.open.fetch_sub(1, Ordering::Relaxed);
        let Some(network) = self.network else { return };
        if let Entry::Occupied(mut entry) = lock(&self.gate.addresses).entry(network) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The permit and attached values of a server's connection, if there are any.
#[derive(Clone)]
#[doc(hidden)]
pub struct Guest {
    #[doc(hidden)]
    pub attached: Attached,
    #[doc(hidden)]
    pub permit: Option<Arc<Permit>>,
}

impl Guest {
    #[doc(hidden)]
    pub fn new(request: &Request, permit: Option<Arc<Permit>>) -> Option<Guest> {
        let attached = request.all_attached();
        (!attached.is_empty() || permit.is_some()).then_some(Guest { attached, permit })
    }
}

/// So many a second. It keeps the time up to which turns are given away; that may lie a second ahead.
#[derive(Debug, Default)]
struct Pace(Option<Instant>);

impl Pace {
    const BURST: Duration = Duration::from_secs(1);

    fn interval(rate: u32) -> Duration {
        Pace::BURST / rate.max(1)
    }

    fn take(&mut self, rate: u32, now: Instant) -> Result<(), Duration> {
        let next = self.0.map_or(now, |given| given.max(now)) + Pace::interval(rate);
        let too_early = next.saturating_duration_since(now).saturating_sub(Pace::BURST);
        if !too_early.is_zero() {
            return Err(too_early);
        }
        self.0 = Some(next);
        Ok(())
    }

    fn give_back(&mut self, rate: u32) {
        self.0 = self.0.and_then(|given| given.checked_sub(Pace::interval(rate)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_lets_as_many_at_once_as_in_a_second_and_then_one_after_the_other() {
        let mut pace = Pace::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for _ in 0..10 {
            assert_eq!(pace.take(10, at(0)), Ok(()));
        }
        assert_eq!(pace.take(10, at(0)), Err(Duration::from_millis(100)));
        assert_eq!(pace.take(10, at(60)), Err(Duration::from_millis(40)));
        assert_eq!(pace.take(10, at(100)), Ok(()));
        assert!(pace.take(10, at(100)).is_err());
        pace.give_back(10);
        assert_eq!(pace.take(10, at(100)), Ok(()));
        // After a long rest there are no more than those of a second.
        let given = (0..100).filter(|_| pace.take(10, at(60_000)).is_ok()).count();
        assert_eq!(given, 10);
        let mut slow = Pace::default();
        assert_eq!((slow.take(0, at(0)), slow.take(0, at(1)).is_ok()), (Ok(()), false));
    }

    #[test]
    fn permits_count_for_all_and_for_each_address() {
        let gate = Gate::new(Admission {
            max_connections: Some(3),
            max_per_address: Some(2),
            ..Admission::default()
        });
        let admit = |ip: &str| gate.admit(Some(ip.parse().unwrap()), None).map_err(|error| error.kind);
        let first = admit("2001:db8::1").unwrap().unwrap();
        let second = admit("2001:db8::2:3").unwrap();
        assert_eq!(admit("2001:db8::4").unwrap_err(), LimitKind::PerAddress);
        let other = admit("2001:db8:0:1::1").unwrap();
        assert_eq!(admit("192.0.2.1").unwrap_err(), LimitKind::Connections);
        assert_eq!(gate.admit(None, None).map_err(|error| error.kind).unwrap_err(), LimitKind::Connections);
        first.give_back();
        first.give_back();
        let fourth = admit("::ffff:192.0.2.1").unwrap();
        assert!(admit("2001:db8::4").is_err());
        drop((first, second, other, fourth));
        assert_eq!(gate.open.load(Ordering::Relaxed), 0);
        assert!(lock(&gate.addresses).is_empty());
    }

    #[test]
    fn clients_whom_a_proxy_does_not_name_count_as_the_proxy() {
        let behind =
            |forwarded| Gate::new(Admission { max_per_address: Some(1), forwarded, ..Admission::default() });
        let (proxy, other) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        let gate = behind(Some(Forwarded::hops(1)));
        let first = gate.admit(None, proxy).unwrap();
        assert!(first.is_some() && gate.admit(None, proxy).is_err());
        assert!(gate.admit(None, other).is_ok() && gate.admit(Some([192, 0, 2, 1].into()), proxy).is_ok());
        let on_a_socket = gate.admit(None, None).unwrap();
        assert!(on_a_socket.is_some() && gate.admit(None, None).is_err());
        // Nobody has an address on a Unix socket to which clients come directly.
        let gate = behind(None);
        assert!(gate.admit(None, None).is_ok() && gate.admit(None, None).is_ok());
    }

    #[test]
    fn nothing_is_counted_where_nothing_is_limited() {
        let gate = Gate::new(Admission::default());
        assert!(gate.admit(Some([192, 0, 2, 1].into()), None).unwrap().is_none());
    }
}
