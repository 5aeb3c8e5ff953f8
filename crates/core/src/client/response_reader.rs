//! HTTP response reader: the answer to a request of a client, as it arrives, without I/O.

use threadwire_proto::handshake::{Answer, HandshakeError, HeadReader};

use super::chunked::unchunked;
use crate::config::Config;

/// As much of the body of a refusal as is kept for the error.
const MAX_BODY: usize = 4 << 10;

/// As much of it as is waited for while it comes in chunks, with what is around them.
const MAX_CHUNKED: usize = 2 * MAX_BODY;

/// The most answers that announce another (100, 103) before the one that counts.
const MAX_INTERIM: u32 = 8;

/// Gathers what the other side says, until it is known what that comes to.
pub(super) struct ResponseReader {
    head: HeadReader,
    /// An answer that is no consent, whose body is arriving.
    refusal: Option<Answer>,
    /// How many answers have come that only announce another.
    interim: u32,
}

/// An answer that has arrived.
pub(super) enum Arrived {
    /// The answer that was hoped for, and the length of its head: what follows in the buffer does not belong to it.
    Accepted(Answer, usize),
    /// Another one, with as much of its body as is kept.
    Refusal(Box<Answer>),
}

impl ResponseReader {
    pub(super) fn new(config: &Config) -> ResponseReader {
        ResponseReader { head: HeadReader::new(config.head_limits()), refusal: None, interim: 0 }
    }

    /// Looks at what was `received`, which is to be appended to only. `None` if more has to arrive, which it won't if the stream
    /// has `ended`. The body of an answer that is no consent is only waited for if that `is_wanted`.
    pub(super) fn look(
        &mut self,
        received: &mut Vec<u8>,
        ended: bool,
        is_consent: impl Fn(&Answer) -> bool,
        is_wanted: impl Fn(&Answer) -> bool,
    ) -> Result<Option<Arrived>, HandshakeError> {
        loop {
            if let Some(refusal) = self.refusal.take() {
                let Some(body) = body(&refusal, received, ended || !is_wanted(&refusal)) else {
                    self.refusal = Some(refusal);
                    return Ok(None);
                };
                received.clear();
                return Ok(Some(Arrived::Refusal(Box::new(refusal.with_body(body)))));
            }
            let Some((answer, head)) = self.head.answer(received)? else { return Ok(None) };
            if is_consent(&answer) {
                return Ok(Some(Arrived::Accepted(answer, head)));
            }
            received.drain(..head);
            self.interim += u32::from(answer.is_interim());
            if !answer.is_interim() || self.interim > MAX_INTERIM {
                self.refusal = Some(answer);
            }
        }
    }
}

/// The body of a refusal, as much of it as is kept; `None` if more of it has to arrive, which is not waited for if this is all that
/// there `is_to_be`. Where it ends is said by RFC 9112, section 6.3.
fn body(refusal: &Answer, received: &[u8], is_to_be: bool) -> Option<Vec<u8>> {
    if matches!(refusal.status(), 100..=199 | 204 | 304) {
        return Some(Vec::new());
    }
    let (mut body, is_whole) = if refusal.headers().contains_token("Transfer-Encoding", "chunked") {
        let (body, is_whole) = unchunked(received);
        (body, is_whole || received.len() >= MAX_CHUNKED)
    } else {
        let length = refusal.content_length().unwrap_or(u64::MAX);
        let there = usize::try_from(length).map_or(received.len(), |length| length.min(received.len()));
        (received[..there].to_vec(), there as u64 == length)
    };
    let is_enough = is_whole || is_to_be || body.len() >= MAX_BODY;
    body.truncate(MAX_BODY);
    is_enough.then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds these bytes one by one: the body, and how many bytes it took.
    fn refused(answer: &str) -> Option<(Vec<u8>, usize)> {
        let mut reader = ResponseReader::new(&Config::default());
        let mut received = Vec::new();
        for (count, byte) in (1..).zip(answer.bytes()) {
            received.push(byte);
            match reader.look(&mut received, false, |_| false, |_| true).unwrap() {
                None => {}
                Some(Arrived::Refusal(answer)) => return Some((answer.body().to_vec(), count)),
                Some(Arrived::Accepted(..)) => panic!("it is none"),
            }
        }
        None
    }

    #[test]
    fn the_end_of_a_refusal_is_known_without_the_end_of_the_connection() {
        for (answer, body) in [
            ("HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnone", "none"),
            ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", ""),
            (
                "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnot\r\n4\r\n now\r\n0\r\n",
                "not now",
            ),
            ("HTTP/1.1 503 No\r\ntransfer-encoding: Chunked\r\nContent-Length: 9\r\n\r\n0\r\n", ""),
            ("HTTP/1.1 204 Nothing\r\n\r\n", ""),
            ("HTTP/1.1 304 Same\r\nContent-Length: 10\r\n\r\n", ""),
            ("HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        ] {
            assert_eq!(refused(answer), Some((body.into(), answer.len())), "{answer}");
        }
        assert_eq!(refused("HTTP/1.1 404 No\r\n\r\nuntil the end"), None);
    }

    #[test]
    fn a_body_without_end_is_kept_in_part() {
        let head = "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (body, count) = refused(&format!("{head}100000\r\n{}", "x".repeat(1 << 16))).unwrap();
        assert_eq!((body.len(), count), (MAX_BODY, head.len() + 8 + MAX_BODY));
        let (body, count) = refused(&format!("{head}{}", "1\r\nx\r\n".repeat(1 << 14))).unwrap();
        assert!(body.iter().all(|&byte| byte == b'x') && count == head.len() + MAX_CHUNKED);
        let (body, count) = refused(&format!("{head}1;{}", "x".repeat(1 << 16))).unwrap();
        assert_eq!((body.len(), count), (0, head.len() + MAX_CHUNKED));
        let head = "HTTP/1.1 500 No\r\n\r\n";
        let (body, count) = refused(&format!("{head}{}", "x".repeat(1 << 16))).unwrap();
        assert_eq!((body.len(), count), (MAX_BODY, head.len() + MAX_BODY));
    }

    #[test]
    fn a_refusal_of_which_no_more_comes_has_what_there_is_of_its_body() {
        for (head, sent, body) in [
            ("", "begun", "begun"),
            ("Content-Length: 100\r\n", "begun", "begun"),
            ("Transfer-Encoding: chunked\r\n", "64\r\nbegun", "begun"),
        ] {
            let mut reader = ResponseReader::new(&Config::default());
            let mut received = format!("HTTP/1.1 500 No\r\n{head}\r\n{sent}").into_bytes();
            assert!(reader.look(&mut received, false, |_| false, |_| true).unwrap().is_none());
            match reader.look(&mut received, true, |_| false, |_| true) {
                Ok(Some(Arrived::Refusal(answer))) => assert_eq!(answer.body(), body.as_bytes()),
                _ => panic!("{head}"),
            }
        }
    }
}
