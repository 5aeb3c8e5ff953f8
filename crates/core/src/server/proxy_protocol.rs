//! The PROXY protocol, versions 1 and 2: the header that a balancer sends in front of everything else.
//!
//! <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>. What is read together with the header, TLS or HTTP, is for others.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ppp::{PartialResult, v2};

use super::trusted::TrustedNetworks;
use crate::error::Error;

/// The longest header, in bytes. Version 2 could have 64 KiB of additions, but proxies send some hundred bytes.
#[doc(hidden)]
const LONGEST: usize = 4096;

/// How version 2 begins.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 before its addresses; the last two are their length.
const FIXED: usize = 16;
/// How version 1 begins.
const WORD: &[u8] = b"PROXY ";
/// The line of version 1 that says nothing.
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;

/// The PROXY protocol, versions 1 and 2: a balancer that passes TCP on says first whose connection it is. For
/// [`Admission::proxy_protocol`](crate::Admission::proxy_protocol). On a server with TLS the header comes before that, in clear.
///
/// Only peers that are named may send it, and they must: a connection of theirs that begins otherwise is dropped, which a line of
/// log says (at debug). So are those of everybody else, unless [`or_direct`](ProxyProtocol::or_direct) is said. Whoever can connect to a
/// Unix socket was allowed to by its permissions, and counts as named.
///
/// Of what a header says, source and destination are taken ([`Request::proxied`](crate::Request::proxied),
/// [`Request::client_ip`](crate::Request::client_ip)); the additions of version 2 are passed over. With `LOCAL` (2) and `UNKNOWN` (1), as
/// proxies use for their own health checks, and for addresses that are not of IP, nothing is said. A header of more than 4096 bytes is
/// refused. Its time counts for [`Config::open_timeout`](crate::Config::open_timeout).
///
/// ```
/// use threadwire::server::{Admission, ProxyProtocol};
/// use threadwire::{Connection, Message, Reply, Server};
///
/// let admission = Admission::default().proxy_protocol(ProxyProtocol::from_peers(["127.0.0.1", "10.0.0.0/8"])?);
/// let server = Server::bind("127.0.0.1:0")?.admission(admission).serve(|request| {
///     println!("{:?} by way of {:?}", request.client_ip(), request.peer_addr());
///     Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message))
/// })?;
/// # server.stop();
/// # server.join()?;
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProxyProtocol {
    networks: TrustedNetworks,
    or_direct: bool,
}

/// The addresses of a connection that a proxy has accepted, as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proxied {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where the proxy accepted it.
    pub destination: SocketAddr,
}

/// How a connection is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub enum Demand {
    /// The connection must begin with a header.
    Header,
    /// The connection is treated as any other.
    Nothing,
    /// The connection is to be dropped.
    Drop,
}

impl ProxyProtocol {
    /// With these peers: addresses, or networks as `10.0.0.0/8`. Fails with [`Error::Other`] for what is neither.
    pub fn from_peers<N: AsRef<str>>(networks: impl IntoIterator<Item = N>) -> Result<ProxyProtocol, Error> {
        Ok(ProxyProtocol { networks: TrustedNetworks::new(networks)?, or_direct: false })
    }

    /// Serves other peers too, as without this protocol. By default they are dropped.
    pub fn or_direct(mut self) -> ProxyProtocol {
        self.or_direct = true;
        self
    }

    #[doc(hidden)]
    pub fn demand(&self, peer: Option<SocketAddr>) -> Demand {
        match self.networks.contains_peer(peer) {
            true => Demand::Header,
            false if self.or_direct => Demand::Nothing,
            false => Demand::Drop,
        }
    }
}

/// Why this is no header.
#[derive(Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct BadHeader(String);

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the peer sent no proper header of the PROXY protocol: {}", self.0)
    }
}

impl std::error::Error for BadHeader {}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct Header {
    /// How long it is, in bytes.
    #[doc(hidden)]
    pub length: usize,
    #[doc(hidden)]
    pub proxied: Option<Proxied>,
}

/// The header at the start of `bytes`, or `None` if it is not all there.
#[doc(hidden)]
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    if begins(bytes, SIGNATURE) {
        parse_binary(bytes)
    } else if begins(bytes, WORD) {
        parse_line(bytes)
    } else {
        let start = &bytes[..bytes.len().min(SIGNATURE.len())];
        Err(BadHeader(format!("it begins with \"{}\"", start.escape_ascii())))
    }
}

/// Whether one is the beginning of the other.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    let common = bytes.len().min(with.len());
    bytes[..common] == with[..common]
}

fn parse_line(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    let visible = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = visible.iter().position(|byte| *byte == b'\n') else {
        let is_too_long = visible.len() == LONGEST_LINE;
        return if is_too_long { Err(BadHeader("its line does not end".to_owned())) } else { Ok(None) };
    };
    let Some(line) = visible[..end].strip_suffix(b"\r").filter(|line| !line.contains(&b'\r')) else {
        return Err(BadHeader("its line does not end with CR LF, or has another CR".to_owned()));
    };
    let length = end + 1;
    if line.strip_prefix(UNKNOWN).is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ")) {
        // Whatever follows is to be passed over (section 2.1).
        return Ok(Some(Header { length, proxied: None }));
    }
    match str::from_utf8(line).ok().and_then(addresses) {
        Some(proxied) => Ok(Some(Header { length, proxied: Some(proxied) })),
        None => Err(BadHeader(format!(
            "its line is \"{}\", expected \"PROXY TCP4 SOURCE DESTINATION PORT PORT\", TCP6, or \"PROXY UNKNOWN\"",
            line.escape_ascii()
        ))),
    }
}

/// The addresses of a line, which has one space between each of its words, and nothing else.
fn addresses(line: &str) -> Option<Proxied> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["PROXY", family, source, destination, source_port, destination_port] = words[..] else {
        return None;
    };
    let ip = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| port.to_string() == text);
    Some(Proxied {
        source: SocketAddr::new(ip(source)?, port(source_port)?),
        destination: SocketAddr::new(ip(destination)?, port(destination_port)?),
    })
}

fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    if let Some([high, low]) = bytes.get(FIXED - 2..FIXED) {
        let length = FIXED + usize::from(u16::from_be_bytes([*high, *low]));
        if length > LONGEST {
            return Err(BadHeader(format!("its length is {length} bytes, over the limit of {LONGEST}")));
        }
    }
    let parsed = v2::Header::try_from(bytes);
    if parsed.is_incomplete() {
        return Ok(None);
    }
    let header = parsed.map_err(|error| BadHeader(error.to_string()))?;
    let proxied = match (header.command, header.protocol, header.addresses) {
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv4(ip)) => Some(Proxied {
            source: (ip.source_address, ip.source_port).into(),
            destination: (ip.destination_address, ip.destination_port).into(),
        }),
        (v2::Command::Proxy, v2::Protocol::Stream, v2::Addresses::IPv6(ip)) => Some(Proxied {
            source: (ip.source_address, ip.source_port).into(),
            destination: (ip.destination_address, ip.destination_port).into(),
        }),
        _ => None,
    };
    Ok(Some(Header { length: header.len(), proxied }))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn binary(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family], &length, addresses].concat()
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0x01, 0xbb];

    fn proxied(source: &str, destination: &str) -> Option<Proxied> {
        Some(Proxied { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
    }

    #[test]
    fn both_versions_say_whose_connection_it_is() {
        let v6 = [[0x20; 16], [0x21; 16]].concat();
        let v6 = [&v6[..], &[0, 1, 0, 2]].concat();
        let v4 = proxied("192.0.2.1:12345", "192.0.2.2:443");
        for (bytes, expected) in [
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\r\n".to_vec(), v4),
            (b"PROXY TCP6 2001:db8::1 ::2 1 65535\r\n".to_vec(), proxied("[2001:db8::1]:1", "[::2]:65535")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN anything at all\r\n".to_vec(), None),
            (b"PROXY UNKNOWN \xff\r\n".to_vec(), None),
            (binary(0x21, 0x11, &V4), v4),
            (binary(0x21, 0x11, &[&V4[..], &[0x04, 0, 1, 7], &[0xea; 300]].concat()), v4),
            (
                binary(0x21, 0x21, &v6),
                proxied(
                    "[2020:2020:2020:2020:2020:2020:2020:2020]:1",
                    "[2121:2121:2121:2121:2121:2121:2121:2121]:2",
                ),
            ),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &V4), None),
            (binary(0x21, 0x00, b"whatever"), None),
            (binary(0x21, 0x31, &[b'/'; 216]), None),
            (binary(0x21, 0x12, &V4), None),
        ] {
            let header = Header { length: bytes.len(), proxied: expected };
            for end in 0..bytes.len() {
                assert_eq!(parse(&bytes[..end]), Ok(None), "{end} bytes of {}", bytes.escape_ascii());
            }
            for behind in [&b""[..], b"G", b"\n", b"\x16\x03\x01", b"\r\n\r\n"] {
                assert_eq!(parse(&[&bytes, behind].concat()), Ok(Some(header)), "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_it_shows() {
        let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 100]].concat();
        for bytes in [
            &b"G"[..],
            b"\x16\x03\x01",
            b"PROXY\t",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 443\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 443 \r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 12345\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 012345 443\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 12345 70000\r\n",
            b"PROXY TCP4 ::1 ::2 12345 443\r\n",
            b"PROXY tcp4 192.0.2.1 192.0.2.2 12345 443\r\n",
            b"PROXY UNKNOWN a\rb\r\n",
            b"PROXY UNKNOWNX\r\n",
            b"PROXY UNKNOWN\tx\r\n",
            b"PROXY unknown\r\n",
            b"PROXY  UNKNOWN\r\n",
            b"PROXY TCP4 192.0.2.1  192.0.2.2 12345 443\r\n",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n",
            b"PROXY TCP4 192.0.2.01 192.0.2.2 1 443\r\n",
            b"PROXY TCP6 192.0.2.1 192.0.2.2 1 443\r\n",
            b"PROXY TCP6 fe80::1%1 ::2 1 443\r\n",
            b"PROXY \r\n",
            b"PROXY \xff\r\n",
            &endless,
            b"\r\n\r\n\0\r\nQUIT\r",
            &binary(0x11, 0x11, &V4),
            &binary(0x22, 0x11, &V4),
            &binary(0x21, 0x41, &V4),
            &binary(0x21, 0x11, &V4[..11]),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        ] {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_or_not_however_they_are_cut(
            prefix in prop_oneof![Just(&b""[..]), Just(WORD), Just(SIGNATURE), Just(&b"PROXY TCP4 "[..])],
            rest in vec(any::<u8>(), 0..200),
            cut in 0..212_usize,
        ) {
            let bytes = [prefix, &rest].concat();
            let cut = cut.min(bytes.len());
            match (parse(&bytes[..cut]), parse(&bytes)) {
                // Early enough is as good as late.
                (Err(_), whole) => prop_assert!(whole.is_err()),
                (Ok(Some(early)), whole) => prop_assert_eq!(whole, Ok(Some(early))),
                (Ok(None), Ok(Some(whole))) => prop_assert!(whole.length > cut),
                (Ok(None), _) => {}
            }
        }

        #[test]
        fn lines_are_read_as_they_were_written(
            source in any::<([u8; 4], u16)>(),
            destination in any::<([u8; 4], u16)>(),
        ) {
            let (source, destination) = (SocketAddr::from(source), SocketAddr::from(destination));
            let line = format!(
                "PROXY TCP4 {} {} {} {}\r\n",
                source.ip(), destination.ip(), source.port(), destination.port(),
            );
            let header = Header { length: line.len(), proxied: Some(Proxied { source, destination }) };
            prop_assert_eq!(parse(line.as_bytes()), Ok(Some(header)));
        }
    }
}
