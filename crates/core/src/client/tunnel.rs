//! HTTP proxy tunnel: `CONNECT` (RFC 9110, section 9.3.6), without I/O.

use threadwire_proto::handshake::{Answer, Headers};

use super::response_reader::{Arrived, ResponseReader};
use crate::config::Config;
use crate::error::ProxyProblem;

/// A `CONNECT`, and its answer.
pub(super) struct Tunnel {
    request: Vec<u8>,
    answer: ResponseReader,
}

impl Tunnel {
    /// A tunnel to this authority, which has a port, with more headers.
    pub(super) fn new(authority: &str, login: Option<&str>, headers: &Headers, config: &Config) -> Tunnel {
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        let login = login.filter(|_| !headers.contains("Proxy-Authorization"));
        let login = login.map(|login| ("Proxy-Authorization", login.as_bytes()));
        let user_agent = ("User-Agent", concat!("threadwire/", env!("CARGO_PKG_VERSION")).as_bytes());
        let user_agent = (!headers.contains("User-Agent")).then_some(user_agent);
        for (name, value) in login.into_iter().chain(user_agent).chain(headers.iter()) {
            request.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        request.extend(b"\r\n");
        Tunnel { request, answer: ResponseReader::new(config) }
    }

    pub(super) fn begin(&mut self, output: &mut Vec<u8>) {
        output.append(&mut self.request);
    }

    /// Whether the tunnel is there.
    pub(super) fn look(&mut self, received: &mut Vec<u8>, ended: bool) -> Result<bool, ProxyProblem> {
        // A successful answer to CONNECT has no body, whatever its headers say (RFC 9110, section 9.3.6).
        let is_consent = |answer: &Answer| matches!(answer.status(), 200..=299);
        match self.answer.look(received, ended, is_consent, |_| true) {
            Ok(None) => Ok(false),
            Ok(Some(Arrived::Accepted(_, head))) => {
                received.drain(..head);
                Ok(true)
            }
            Ok(Some(Arrived::Refusal(answer))) => Err(ProxyProblem::Refused(answer)),
            Err(error) => Err(ProxyProblem::BadAnswer(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(tunnel: &mut Tunnel) -> String {
        let mut output = Vec::new();
        tunnel.begin(&mut output);
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn the_request_names_the_server_twice_and_whoever_asks() {
        let mut headers = Headers::new();
        headers.append("X-Team", "blue").unwrap();
        let mut tunnel = Tunnel::new("[::1]:443", Some("Basic dTpw"), &headers, &Config::default());
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            asked(&mut tunnel),
            format!(
                "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Authorization: Basic dTpw\r\n\
                 User-Agent: threadwire/{version}\r\nX-Team: blue\r\n\r\n"
            )
        );
        headers.append("User-Agent", "mine").unwrap();
        headers.append("Proxy-Authorization", "Bearer 1").unwrap();
        let mut tunnel = Tunnel::new("a:80", Some("Basic dTpw"), &headers, &Config::default());
        let asked = asked(&mut tunnel);
        assert!(!asked.contains("Basic") && asked.contains("Bearer 1"), "{asked}");
        assert_eq!(asked.matches("User-Agent").count(), 1, "{asked}");
    }

    fn look(answer: &str, ended: bool) -> (Result<bool, ProxyProblem>, Vec<u8>) {
        let mut tunnel = Tunnel::new("a:80", None, &Headers::new(), &Config::default());
        let mut received = answer.as_bytes().to_vec();
        (tunnel.look(&mut received, ended), received)
    }

    #[test]
    fn every_success_is_a_consent_and_nothing_behind_it_is_taken() {
        for answer in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.0 200 Connection established\r\n\r\n",
            "HTTP/1.1 204 \r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            let (result, rest) = look(answer, false);
            assert!(matches!(result, Ok(true)) && rest.is_empty(), "{answer}: {result:?}");
            let (result, rest) = look(&format!("{answer}rest"), false);
            assert!(matches!(result, Ok(true)) && rest == b"rest", "{answer}: {result:?}");
            let (result, _) = look(&answer[..answer.len() - 1], false);
            assert!(matches!(result, Ok(false)), "{answer}: {result:?}");
        }
    }

    #[test]
    fn a_refusal_is_kept_with_its_body() {
        for (answer, ended, status, body) in [
            (
                "HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nno",
                false,
                407,
                "no",
            ),
            ("HTTP/1.1 403 Forbidden\r\n\r\nnever", true, 403, "never"),
            ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", false, 302, ""),
            ("HTTP/1.1 101 Switching\r\nContent-Length: 0\r\n\r\n", false, 101, ""),
        ] {
            match look(answer, ended).0 {
                Err(ProxyProblem::Refused(refusal)) => {
                    assert_eq!((refusal.status(), refusal.body()), (status, body.as_bytes()));
                }
                other => panic!("{answer}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_told_apart() {
        for answer in ["SSH-2.0-OpenSSH_9\r\n", "\x05\x00", "HTTP/2 200\r\n", "HTTP/1.1 OK\r\n"] {
            let (result, _) = look(answer, false);
            assert!(matches!(result, Err(ProxyProblem::BadAnswer(_))), "{answer}: {result:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20));
        let (result, _) = look(&endless, false);
        assert!(matches!(result, Err(ProxyProblem::BadAnswer(_))), "{result:?}");
    }
}
