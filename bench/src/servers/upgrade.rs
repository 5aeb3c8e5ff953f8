//! Opening handshake of a server (RFC 6455, section 4.2), for servers without a library.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest as _, Sha1};
use std::io::{self, ErrorKind};

/// The longest request.
const LONGEST: usize = 16 * 1024;

/// The response to the request that `input` begins with, and the request's length; `None` if it is incomplete.
pub(crate) fn answer(input: &[u8]) -> io::Result<Option<(usize, String)>> {
    answer_with(input, "")
}

/// The same with more `fields`, lines that end with CR LF.
pub(crate) fn answer_with(input: &[u8], fields: &str) -> io::Result<Option<(usize, String)>> {
    let invalid = || ErrorKind::InvalidData.into();
    let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if input.len() > LONGEST { Err(invalid()) } else { Ok(None) };
    };
    let head = str::from_utf8(&input[..end]).map_err(|_| invalid())?;
    let key = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .map(|(_, value)| value.trim())
        .ok_or_else(invalid)?;
    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{fields}\r\n",
        BASE64_STANDARD.encode(digest),
    );
    Ok(Some((end + 4, response)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_one_of_the_rfc() {
        // Section 1.3.
        let request = b"GET / HTTP/1.1\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nmore";
        let (length, response) = answer(request).unwrap().unwrap();
        assert_eq!(length, request.len() - 4);
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{response}");
    }

    #[test]
    fn an_incomplete_request_has_no_answer_yet() {
        assert!(answer(b"GET / HTTP/1.1\r\n").unwrap().is_none());
        assert!(answer(&[b'a'; LONGEST + 1]).is_err());
        assert!(answer(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n").is_err(), "no key");
    }
}
