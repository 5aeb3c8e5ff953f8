//! SOCKS5 (RFC 1928), without I/O: a tunnel is asked for, with user name and password (RFC 1929) if there are any.

use std::net::IpAddr;

use crate::error::ProxyProblem;

const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;

/// A request, and what comes before it.
pub(super) struct Socks5 {
    login: Option<Vec<u8>>,
    request: Vec<u8>,
    awaits: Awaits,
}

/// The reply that the proxy owes.
#[derive(Clone, Copy)]
enum Awaits {
    Method,
    Login,
    Reply,
}

impl Socks5 {
    /// A way to this address, or to this name. Fails if it, or the user name, or the password is longer than 255 bytes.
    pub(super) fn new(
        to: Result<IpAddr, &str>,
        port: u16,
        login: Option<(&[u8], &[u8])>,
    ) -> Result<Socks5, ProxyProblem> {
        let mut request = vec![5, 1, 0];
        match to {
            Ok(IpAddr::V4(address)) => {
                request.push(1);
                request.extend(address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                request.push(4);
                request.extend(address.octets());
            }
            Err(name) => {
                request.push(3);
                add_short(&mut request, name.as_bytes(), "the host's name")?;
            }
        }
        request.extend(port.to_be_bytes());
        let login = match login {
            None => None,
            Some((user, password)) => {
                let mut message = vec![1];
                add_short(&mut message, user, "the user name")?;
                add_short(&mut message, password, "the password")?;
                Some(message)
            }
        };
        Ok(Socks5 { login, request, awaits: Awaits::Method })
    }

    pub(super) fn begin(&mut self, output: &mut Vec<u8>) {
        match self.login {
            None => output.extend([5, 1, NO_LOGIN]),
            Some(_) => output.extend([5, 2, NO_LOGIN, PASSWORD]),
        }
    }

    /// Whether the way is there. What is to be said next is appended to `output`.
    pub(super) fn look(
        &mut self,
        received: &mut Vec<u8>,
        output: &mut Vec<u8>,
    ) -> Result<bool, ProxyProblem> {
        loop {
            let expected = if matches!(self.awaits, Awaits::Login) { 1 } else { 5 };
            if let Some(version) = received.first().filter(|version| **version != expected) {
                let what = format!("it begins with 0x{version:02x}, expected 0x{expected:02x}");
                return Err(ProxyProblem::BadReply(what));
            }
            let Some(&code) = received.get(1) else { return Ok(false) };
            match self.awaits {
                Awaits::Method => {
                    received.drain(..2);
                    self.awaits = match (code, self.login.take()) {
                        (NO_LOGIN, _) => {
                            output.append(&mut self.request);
                            Awaits::Reply
                        }
                        (PASSWORD, Some(mut login)) => {
                            output.append(&mut login);
                            Awaits::Login
                        }
                        (0xff, _) => return Err(ProxyProblem::NoLogin),
                        (code, _) => {
                            let what = format!("it chose the way {code} to log in, which was not offered");
                            return Err(ProxyProblem::BadReply(what));
                        }
                    };
                }
                Awaits::Login => {
                    received.drain(..2);
                    if code != 0 {
                        return Err(ProxyProblem::LoginRefused);
                    }
                    output.append(&mut self.request);
                    self.awaits = Awaits::Reply;
                }
                Awaits::Reply => {
                    if code != 0 {
                        return Err(ProxyProblem::Socks5(code));
                    }
                    // An address follows, which means nothing to us.
                    let address = match received.get(3..5) {
                        None => return Ok(false),
                        Some([1, _]) => 4,
                        Some([3, length]) => 1 + usize::from(*length),
                        Some([4, _]) => 16,
                        Some(kind) => {
                            let what =
                                format!("it has an address of the kind {}, expected 1, 3 or 4", kind[0]);
                            return Err(ProxyProblem::BadReply(what));
                        }
                    };
                    let length = 4 + address + 2;
                    if received.len() < length {
                        return Ok(false);
                    }
                    received.drain(..length);
                    return Ok(true);
                }
            }
        }
    }
}

/// Appends something with its length in a byte.
fn add_short(message: &mut Vec<u8>, bytes: &[u8], what: &str) -> Result<(), ProxyProblem> {
    let Ok(length) = u8::try_from(bytes.len()) else {
        let why = format!("{what} has {} bytes, SOCKS5 can carry 255", bytes.len());
        return Err(ProxyProblem::Host(why));
    };
    message.push(length);
    message.extend(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes through a talk: what the proxy says, and what is said after that. However it is cut, it is the same.
    fn talk(mut make: impl FnMut() -> Socks5, steps: &[(&[u8], &[u8])]) -> Result<bool, ProxyProblem> {
        let mut results = Vec::new();
        for piece in [1, 2, 1000] {
            let (mut socks, mut received, mut output) = (make(), Vec::new(), Vec::new());
            socks.begin(&mut output);
            let mut result = Ok(false);
            for (says, answer) in steps {
                for bytes in says.chunks(piece) {
                    received.extend(bytes);
                    if matches!(result, Ok(false)) {
                        result = socks.look(&mut received, &mut output);
                    }
                }
                assert_eq!(output, *answer, "after {says:?}");
                output.clear();
            }
            results.push(result);
        }
        results.pop().unwrap()
    }

    fn plain() -> Socks5 {
        Socks5::new(Err("a.example"), 80, None).unwrap()
    }

    fn known() -> Socks5 {
        Socks5::new(Ok([192, 0, 2, 7].into()), 443, Some((b"me", b"secret"))).unwrap()
    }

    const HELLO: &[u8] = b"\x05\x01\x00";
    const KNOWN_HELLO: &[u8] = b"\x05\x02\x00\x02";
    const REQUEST: &[u8] = b"\x05\x01\x00\x03\x09a.example\x00\x50";
    const KNOWN_REQUEST: &[u8] = b"\x05\x01\x00\x01\xc0\x00\x02\x07\x01\xbb";
    const LOGIN: &[u8] = b"\x01\x02me\x06secret";
    const GRANTED: &[u8] = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00";

    #[test]
    fn a_way_is_asked_for_by_name_or_by_address() {
        let through = talk(plain, &[(b"", HELLO), (b"\x05\x00", REQUEST), (GRANTED, b"")]);
        assert!(matches!(through, Ok(true)), "{through:?}");
        let v6 = || Socks5::new(Ok("2001:db8::1".parse().unwrap()), 1, None).unwrap();
        let request = b"\x05\x01\x00\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x01";
        let granted = b"\x05\x00\x00\x03\x04host\x00\x00";
        let through = talk(v6, &[(b"", HELLO), (b"\x05\x00", request), (granted, b"")]);
        assert!(matches!(through, Ok(true)), "{through:?}");
        let granted = [b"\x05\x00\x00\x04", &[0; 18][..]].concat();
        let through = talk(plain, &[(b"", HELLO), (b"\x05\x00", REQUEST), (&granted, b"")]);
        assert!(matches!(through, Ok(true)), "{through:?}");
    }

    #[test]
    fn the_password_is_told_only_to_who_asks_for_it() {
        let asked =
            [(&b""[..], KNOWN_HELLO), (b"\x05\x02", LOGIN), (b"\x01\x00", KNOWN_REQUEST), (GRANTED, b"")];
        assert!(matches!(talk(known, &asked), Ok(true)));
        let not_asked = [(&b""[..], KNOWN_HELLO), (b"\x05\x00", KNOWN_REQUEST), (GRANTED, b"")];
        assert!(matches!(talk(known, &not_asked), Ok(true)));
        let refused = [(&b""[..], KNOWN_HELLO), (b"\x05\x02", LOGIN), (b"\x01\x01", b"")];
        assert!(matches!(talk(known, &refused), Err(ProxyProblem::LoginRefused)));
        let none = [(&b""[..], HELLO), (b"\x05\xff", b"")];
        assert!(matches!(talk(plain, &none), Err(ProxyProblem::NoLogin)));
    }

    #[test]
    fn refusals_have_their_code() {
        for code in 1..=9 {
            let refused = talk(plain, &[(b"", HELLO), (b"\x05\x00", REQUEST), (&[5, code], b"")]);
            assert!(matches!(refused, Err(ProxyProblem::Socks5(found)) if found == code), "{refused:?}");
        }
    }

    #[test]
    fn garbage_is_told_apart() {
        let odd: [&[(&[u8], &[u8])]; 6] = [
            &[(b"", HELLO), (b"HTTP/1.1 400", b"")],
            &[(b"", HELLO), (b"\x04\x5a", b"")],
            &[(b"", HELLO), (b"\x05\x02", b"")],
            &[(b"", HELLO), (b"\x05\x07", b"")],
            &[(b"", HELLO), (b"\x05\x00", REQUEST), (b"\x04\x00", b"")],
            &[(b"", HELLO), (b"\x05\x00", REQUEST), (b"\x05\x00\x00\x02\x00", b"")],
        ];
        for steps in odd {
            let result = talk(plain, steps);
            assert!(matches!(result, Err(ProxyProblem::BadReply(_))), "{steps:?}: {result:?}");
        }
        let result = talk(known, &[(b"", KNOWN_HELLO), (b"\x05\x02", LOGIN), (b"\x05\x00", b"")]);
        assert!(matches!(result, Err(ProxyProblem::BadReply(_))), "{result:?}");
    }

    #[test]
    fn what_is_too_long_can_not_be_asked_for() {
        let long = "x".repeat(256);
        assert!(Socks5::new(Err(&long[1..]), 80, Some((b"", &long.as_bytes()[1..]))).is_ok());
        for socks in [
            Socks5::new(Err(&long), 80, None),
            Socks5::new(Err("a"), 80, Some((long.as_bytes(), b""))),
            Socks5::new(Err("a"), 80, Some((b"", long.as_bytes()))),
        ] {
            let Err(ProxyProblem::Host(why)) = socks else { panic!("it was taken") };
            assert!(why.contains("256") && !why.contains("xxx"), "{why}");
        }
    }
}
