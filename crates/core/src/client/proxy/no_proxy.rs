//! Hosts without a proxy: `NO_PROXY`, by the rules of curl.

use std::net::IpAddr;

use ipnet::IpNet;

/// A list of hosts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NoProxy(Vec<Entry>);

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    hosts: Hosts,
    /// Only at this port.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
enum Hosts {
    All,
    /// This name, and all that end with a dot and this name.
    Domain(String),
    Net(IpNet),
}

impl NoProxy {
    /// Reads a list: names, addresses and networks, with commas or white space in between. What is none of these is no host, either.
    pub(super) fn parse(list: &str) -> NoProxy {
        let words = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        NoProxy(words.map(Entry::parse).collect())
    }

    pub(super) fn contains(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        self.0.iter().any(|entry| {
            entry.port.is_none_or(|only| only == port)
                && match (&entry.hosts, address) {
                    (Hosts::All, _) => true,
                    (Hosts::Net(net), Some(address)) => {
                        net.contains(&address) || net.contains(&address.to_canonical())
                    }
                    (Hosts::Domain(domain), None) => host
                        .strip_suffix(domain.as_str())
                        .is_some_and(|front| front.is_empty() || front.ends_with('.')),
                    _ => false,
                }
        })
    }
}

impl Entry {
    fn parse(word: &str) -> Entry {
        if let Some(net) = net(word) {
            return Entry { hosts: Hosts::Net(net), port: None };
        }
        let (host, port) = match word.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => (host, port.parse().ok()),
            _ => (word, None),
        };
        let hosts = match net(host) {
            Some(net) => Hosts::Net(net),
            None if host == "*" => Hosts::All,
            None => {
                let name = host.strip_prefix("*.").unwrap_or(host).trim_matches('.');
                Hosts::Domain(idna::domain_to_ascii(name).unwrap_or_else(|_| name.to_ascii_lowercase()))
            }
        };
        Entry { hosts, port }
    }
}

/// An address, perhaps in brackets, or a network.
fn net(text: &str) -> Option<IpNet> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_by_name_address_network_and_port() {
        for (list, inside, outside) in [
            ("", &[][..], &["example.com", "127.0.0.1", "::1"][..]),
            ("*", &["example.com", "127.0.0.1", "::1"], &[]),
            (
                "example.com",
                &["example.com", "a.example.com", "EXAMPLE.com."],
                &["notexample.com", "example.org"],
            ),
            (".example.com", &["example.com", "a.b.example.com"], &["notexample.com"]),
            ("*.example.com", &["a.example.com"], &["notexample.com"]),
            ("Example.COM.", &["example.com"], &["com"]),
            ("com", &["example.com"], &["example.org"]),
            ("a.test, b.test c.test,,", &["a.test", "b.test", "c.test"], &["d.test", ""]),
            ("bücher.example", &["xn--bcher-kva.example"], &["bucher.example"]),
            ("192.0.2.7", &["192.0.2.7"], &["192.0.2.70", "7", "a.192.0.2.7"]),
            ("192.0.2.0/24", &["192.0.2.0", "192.0.2.255"], &["192.0.3.1", "example.com"]),
            ("10.0.0.0/8,172.16.0.0/12", &["10.255.1.1", "172.31.0.1"], &["172.32.0.1", "11.0.0.1"]),
            ("192.0.2.0/33", &[], &["192.0.2.0"]),
            ("2001:db8::/32", &["2001:db8::1", "2001:db8:ffff::"], &["2001:db9::1", "192.0.2.1"]),
            ("::1", &["::1", "0:0:0:0:0:0:0:1"], &["::2"]),
            ("[::1]", &["::1"], &["::2"]),
            ("192.0.2.0/24", &["::ffff:192.0.2.1"], &["::ffff:192.0.3.1"]),
            // An address is not matched by the end of its digits.
            ("0.2.7", &[], &["192.0.2.7"]),
        ] {
            let list_of = NoProxy::parse(list);
            for host in inside {
                assert!(list_of.contains(host, 80), "{host} in {list:?}");
            }
            for host in outside {
                assert!(!list_of.contains(host, 80), "{host} not in {list:?}");
            }
        }
        for (list, host) in [
            ("example.com:8080", "a.example.com"),
            ("192.0.2.7:8080", "192.0.2.7"),
            ("[::1]:8080", "::1"),
            ("*:8080", "a"),
        ] {
            assert!(NoProxy::parse(list).contains(host, 8080), "{host} in {list:?}");
            assert!(!NoProxy::parse(list).contains(host, 80), "{host} not in {list:?}");
        }
    }
}
