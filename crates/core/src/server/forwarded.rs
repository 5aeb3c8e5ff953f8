//! Forwarding headers of proxies: `X-Forwarded-For` and `Forwarded` (RFC 7239).
//!
//! Every proxy adds who came to it at the end; what stands before was there already, and may be the client's invention. So the list is
//! read from its end, and only while the writer of the next entry is trusted.

use std::net::{IpAddr, SocketAddr};

use threadwire_proto::handshake::{Headers, Response};

use super::check::plain;
use super::trusted::TrustedNetworks;
use crate::error::Error;

/// Headers by which proxies say whose request they pass on: `X-Forwarded-For`, or `Forwarded` (RFC 7239). For
/// [`Admission::forwarded`](crate::Admission::forwarded); [`Request::client_ip`](crate::Request::client_ip) has what comes of it.
///
/// Only what trusted proxies have written counts. Which those are can be said in two ways:
///
/// - [`from_peers`](Forwarded::from_peers): by their addresses. From the end of the list, each entry is believed whose writer is one of
///   them; the first that is none of them is the client.
/// - [`hops`](Forwarded::hops): by their number, if all requests come through that many. The server must be reachable by way of them alone:
///   others could write what they like.
///
/// Where a proxy says that it does not know, or that it does not tell (`unknown`, `_hidden`), the client's address is not known. A
/// `Forwarded` that can't be read at all is answered with 400, as a client could hide in it what a proxy added.
///
/// ```
/// use threadwire::server::{Admission, Forwarded};
/// use threadwire::{Connection, Message, Reply, Server};
///
/// let admission =
///     Admission::default().forwarded(Forwarded::from_peers(["127.0.0.1", "10.0.0.0/8"])?);
/// let server = Server::bind("127.0.0.1:0")?.admission(admission).serve(|request| {
///     let ip = format!("{:?}", request.client_ip());
///     Reply::with(move |ws: &Connection, _: Message<'_>| ws.send(&ip))
/// })?;
/// # let client = threadwire::Client::new(&format!("ws://{}", server.local_addr()?))?;
/// # let mut ws = threadwire::blocking::connect(&client.header("X-Forwarded-For", "6.6.6.6, 192.0.2.7, 10.0.0.1")?)?;
/// # ws.send("who am I?")?;
/// # assert_eq!(ws.recv()?.unwrap(), "Some(192.0.2.7)");
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Forwarded {
    trust: Trust,
    is_standard: bool,
}

#[derive(Clone, Debug)]
enum Trust {
    Hops(usize),
    Networks(TrustedNetworks),
}

impl Forwarded {
    /// Trusts proxies at these addresses: single ones, or networks as `10.0.0.0/8`. Whoever can connect to a Unix socket was allowed to by
    /// its permissions, and is trusted too. Reads `X-Forwarded-For`. Fails with [`Error::Other`] for what is neither address nor network.
    pub fn from_peers<N: AsRef<str>>(networks: impl IntoIterator<Item = N>) -> Result<Forwarded, Error> {
        Ok(Forwarded { trust: Trust::Networks(TrustedNetworks::new(networks)?), is_standard: false })
    }

    /// Trusts this many proxies, the nearest ones. With 0, none: then nothing is read. Reads `X-Forwarded-For`.
    pub fn hops(count: usize) -> Forwarded {
        Forwarded { trust: Trust::Hops(count), is_standard: false }
    }

    /// Reads `Forwarded` (RFC 7239), and not `X-Forwarded-For`. Of the two only one is ever read: clients could send the other.
    pub fn standard(mut self) -> Forwarded {
        self.is_standard = true;
        self
    }

    /// The client of a request that came from `peer`, which is `None` on a Unix socket.
    #[doc(hidden)]
    pub fn client(&self, peer: Option<IpAddr>, headers: &Headers) -> Result<Option<IpAddr>, Response> {
        let trusts_peer = match &self.trust {
            Trust::Hops(count) => *count > 0,
            Trust::Networks(networks) => networks.contains_peer(peer.map(|ip| SocketAddr::new(ip, 0))),
        };
        if !trusts_peer {
            return Ok(peer);
        }
        let list = if self.is_standard {
            standard_list(headers)
                .ok_or_else(|| plain(400, "expected a Forwarded header as in RFC 7239, section 4\n"))?
        } else {
            common_list(headers)
        };
        // The proxy that wrote the current entry is trusted.
        let mut client = peer;
        for (trusted, entry) in (1..).zip(list.into_iter().rev()) {
            client = entry;
            let Some(ip) = entry else { break };
            let goes_on = match &self.trust {
                Trust::Hops(count) => trusted < *count,
                Trust::Networks(networks) => networks.contains(ip),
            };
            if !goes_on {
                break;
            }
        }
        Ok(client)
    }
}

/// The entries of `X-Forwarded-For` that are addresses.
fn common_list(headers: &Headers) -> Vec<Option<IpAddr>> {
    let values = headers.get_all_bytes("X-Forwarded-For");
    let entries = values.flat_map(|value| value.split(|byte| *byte == b','));
    entries.map(|entry| str::from_utf8(entry).ok().and_then(|entry| address(entry.trim()))).collect()
}

/// The entries of `Forwarded` that are addresses. `None` if the header can't be parsed.
fn standard_list(headers: &Headers) -> Option<Vec<Option<IpAddr>>> {
    let mut list = Vec::new();
    for value in headers.get_all_bytes("Forwarded") {
        let value = str::from_utf8(value).ok()?;
        for entry in split(value, ',')? {
            let mut found = None;
            for pair in split(entry, ';')? {
                if let Some((name, value)) = pair.split_once('=')
                    && name.trim().eq_ignore_ascii_case("for")
                {
                    found = address(&unquoted(value.trim()));
                }
            }
            // An empty entry of a list is none (RFC 9110, section 5.6.1).
            if !entry.trim().is_empty() {
                list.push(found);
            }
        }
    }
    Some(list)
}

/// The parts between separators that are not in quotes. `None` if a quote is not closed.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if character == separator && !is_quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!is_quoted).then_some(parts)
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut unquoted = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        unquoted.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    unquoted
}

/// An address, with or without a port; one of IPv6 may be in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let ip = bracketed.unwrap_or(text).parse().ok();
    // An obfuscated port (RFC 7239, section 6.3) is no number.
    let with_port = || match text.rsplit_once(':')? {
        (host, _) if host.starts_with('[') => address(host),
        (host, _) => host.parse::<std::net::Ipv4Addr>().ok().map(IpAddr::from),
    };
    ip.or_else(with_port).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(forwarded: &Forwarded, peer: &str, values: &[&str]) -> Option<String> {
        let name = if forwarded.is_standard { "Forwarded" } else { "X-Forwarded-For" };
        let mut headers = Headers::new();
        for value in values {
            headers.append(name, value).unwrap();
        }
        let peer = (peer != "unix").then(|| peer.parse().unwrap());
        let client = forwarded.client(peer, &headers);
        client.map(|ip| ip.map_or("unknown".to_owned(), |ip| ip.to_string())).ok()
    }

    #[test]
    fn only_what_trusted_proxies_wrote_counts() {
        let peers = || Forwarded::from_peers(["10.0.0.0/8", "fd00::/8"]).unwrap();
        for (forwarded, peer, values, expected) in [
            (peers(), "192.0.2.1", &["6.6.6.6"][..], "192.0.2.1"),
            (peers(), "10.0.0.1", &[], "10.0.0.1"),
            (peers(), "10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            (peers(), "unix", &["192.0.2.1"], "192.0.2.1"),
            (peers(), "unix", &[], "unknown"),
            (peers(), "::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            (peers(), "10.0.0.1", &["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
            (peers(), "10.0.0.1", &["6.6.6.6", "192.0.2.1 ,10.0.0.2"], "192.0.2.1"),
            (peers(), "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (peers(), "10.0.0.1", &["192.0.2.1:1234"], "192.0.2.1"),
            (peers(), "10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            (peers(), "10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
            (peers(), "10.0.0.1", &["6.6.6.6, unknown"], "unknown"),
            (peers(), "10.0.0.1", &["6.6.6.6, "], "unknown"),
            (peers(), "10.0.0.1", &["<script>, 192.0.2.1"], "192.0.2.1"),
            (Forwarded::hops(0), "192.0.2.1", &["6.6.6.6"], "192.0.2.1"),
            (Forwarded::hops(1), "10.0.0.1", &["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
            (Forwarded::hops(2), "10.0.0.1", &["6.6.6.6, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            (Forwarded::hops(2), "10.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            (Forwarded::hops(1), "10.0.0.1", &[], "10.0.0.1"),
            (peers().standard(), "10.0.0.1", &["for=192.0.2.1"], "192.0.2.1"),
            (
                peers().standard(),
                "10.0.0.1",
                &["for=6.6.6.6, proto=https; FOR=192.0.2.1;by=10.0.0.1"],
                "192.0.2.1",
            ),
            (peers().standard(), "10.0.0.1", &["for=\"[2001:db8::1]:4711\""], "2001:db8::1"),
            (peers().standard(), "10.0.0.1", &["for=\"192.0.2.1:_port\""], "192.0.2.1"),
            (peers().standard(), "10.0.0.1", &["for=\"a, for=6.6.6.6\", for=192.0.2.1"], "192.0.2.1"),
            (peers().standard(), "10.0.0.1", &["for=\"a\\\", for=6.6.6.6\", for=192.0.2.1,"], "192.0.2.1"),
            (peers().standard(), "10.0.0.1", &["for=6.6.6.6, for=_hidden"], "unknown"),
            (peers().standard(), "10.0.0.1", &["for=6.6.6.6, proto=http"], "unknown"),
        ] {
            assert_eq!(
                client(&forwarded, peer, values).unwrap(),
                expected,
                "{forwarded:?} {peer} {values:?}"
            );
        }
        // Else a quote that a client opens would hide what a proxy has added.
        assert_eq!(client(&peers().standard(), "10.0.0.1", &["for=\"a, for=192.0.2.1"]), None);
    }
}
