//! SOCKS4 and SOCKS4a, without I/O: a tunnel is asked for; a SOCKS4a proxy finds the address itself.

use std::net::Ipv4Addr;

use crate::error::ProxyProblem;

/// A request, and its answer of eight bytes.
pub(super) struct Socks4 {
    request: Vec<u8>,
}

impl Socks4 {
    /// A way to this address, or (4a) to this name.
    pub(super) fn new(to: Result<Ipv4Addr, &str>, port: u16, user: &[u8]) -> Result<Socks4, ProxyProblem> {
        let mut request = vec![4, 1];
        request.extend(port.to_be_bytes());
        // An address that can't be: a name follows.
        request.extend(to.unwrap_or(Ipv4Addr::new(0, 0, 0, 1)).octets());
        for text in [Some(user), to.err().map(str::as_bytes)].into_iter().flatten() {
            if text.contains(&0) {
                return Err(ProxyProblem::Host(
                    "the user name has a NUL, which SOCKS4 can't carry".to_owned(),
                ));
            }
            request.extend(text);
            request.push(0);
        }
        Ok(Socks4 { request })
    }

    pub(super) fn begin(&mut self, output: &mut Vec<u8>) {
        output.append(&mut self.request);
    }

    /// Whether the way is there.
    pub(super) fn look(&mut self, received: &mut Vec<u8>) -> Result<bool, ProxyProblem> {
        match received.first() {
            None | Some(0) => {}
            Some(version) => {
                let what = format!("it begins with 0x{version:02x}, expected 0x00");
                return Err(ProxyProblem::BadReply(what));
            }
        }
        match received.get(1) {
            Some(90) if received.len() >= 8 => {
                received.drain(..8);
                Ok(true)
            }
            None | Some(90) => Ok(false),
            Some(code) => Err(ProxyProblem::Socks4(*code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(to: Result<[u8; 4], &str>, port: u16, user: &str) -> Vec<u8> {
        let mut output = Vec::new();
        Socks4::new(to.map(Ipv4Addr::from), port, user.as_bytes()).unwrap().begin(&mut output);
        output
    }

    #[test]
    fn an_address_or_a_name_is_asked_for() {
        assert_eq!(asked(Ok([192, 0, 2, 7]), 80, ""), b"\x04\x01\x00\x50\xc0\x00\x02\x07\x00");
        assert_eq!(asked(Ok([192, 0, 2, 7]), 443, "me"), b"\x04\x01\x01\xbb\xc0\x00\x02\x07me\x00");
        assert_eq!(
            asked(Err("example.com"), 80, "me"),
            b"\x04\x01\x00\x50\x00\x00\x00\x01me\x00example.com\x00"
        );
        assert!(Socks4::new(Err("a"), 80, b"a\0b").is_err());
    }

    #[test]
    fn answers_are_eight_bytes() {
        let look = |bytes: &[u8]| {
            let mut received = bytes.to_vec();
            let mut socks = Socks4::new(Err("a"), 80, b"").unwrap();
            (socks.look(&mut received), received.len())
        };
        let granted = b"\x00\x5a\x00\x50\x7f\x00\x00\x01";
        for end in 0..8 {
            assert!(matches!(look(&granted[..end]), (Ok(false), _)), "{end}");
        }
        assert!(matches!(look(granted), (Ok(true), 0)));
        assert!(matches!(look(&[&granted[..], b"xy"].concat()), (Ok(true), 2)));
        for code in [91, 92, 93, 0, 255] {
            assert!(matches!(look(&[0, code]), (Err(ProxyProblem::Socks4(found)), _) if found == code));
        }
        for garbage in [&b"HTTP/1.1 400"[..], b"\x04\x5a\x00", b"\x05\x00"] {
            assert!(matches!(look(garbage), (Err(ProxyProblem::BadReply(_)), _)), "{garbage:?}");
        }
    }
}
