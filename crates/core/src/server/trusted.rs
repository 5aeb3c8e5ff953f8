//! Trusted networks: the proxies and balancers whose word a server takes for the client's address.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::error::Error;

/// Networks whose word counts.
#[derive(Clone, Debug)]
pub(super) struct TrustedNetworks(Vec<IpNet>);

impl TrustedNetworks {
    /// Fails with [`Error::Other`] for what is neither an address nor a network.
    pub(super) fn new<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<TrustedNetworks, Error> {
        let known = |network: N| {
            let network = network.as_ref();
            let address = network.parse::<IpAddr>().map(IpNet::from);
            address.or_else(|_| network.parse()).map_err(|_| {
                Error::other(format!("{network:?} is no network, expected an address, or one as 10.0.0.0/8"))
            })
        };
        networks.into_iter().map(known).collect::<Result<_, Error>>().map(TrustedNetworks)
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// A peer of a Unix socket is trusted: the socket's permissions let it in.
    pub(super) fn contains_peer(&self, peer: Option<SocketAddr>) -> bool {
        peer.is_none_or(|peer| self.contains(peer.ip()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_addresses_however_those_are_written() {
        let networks = TrustedNetworks::new(["10.0.0.0/8", "::1", "192.168.1.7"]).unwrap();
        for (ip, is_in) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("11.0.0.0", false),
            ("::1", true),
            ("::2", false),
            ("192.168.1.7", true),
            ("192.168.1.8", false),
        ] {
            assert_eq!(networks.contains(ip.parse().unwrap()), is_in, "{ip}");
        }
        assert!(networks.contains_peer(None), "a Unix socket");
        for wrong in ["10.0.0.0/33", "example.com", ""] {
            assert!(TrustedNetworks::new([wrong]).unwrap_err().to_string().contains(wrong));
        }
    }
}
