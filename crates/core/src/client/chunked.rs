//! Chunked transfer coding (RFC 9112, section 7.1), for the body of a refusal.

use httparse::{Status, parse_chunk_size};

/// What is in the chunks that have arrived, and whether that is all. What is not chunked, against what was said, ends there: it
/// can't be known how it goes on. Trailers are not waited for.
pub(super) fn unchunked(mut received: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let size = match parse_chunk_size(received) {
            Ok(Status::Partial) => return (body, false),
            Ok(Status::Complete((_, 0))) | Err(_) => return (body, true),
            Ok(Status::Complete((start, size))) => {
                received = &received[start..];
                usize::try_from(size).unwrap_or(usize::MAX)
            }
        };
        let there = size.min(received.len());
        body.extend_from_slice(&received[..there]);
        received = match &received[there..] {
            [b'\r', b'\n', next @ ..] if there == size => next,
            [] | [b'\r'] => return (body, false),
            _ => return (body, true),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_put_together_wherever_it_is_cut() {
        let whole = b"3\r\nabc\r\n0a;name=\"value\"\r\n0123456789\r\n0\r\n";
        for cut in 0..whole.len() {
            let (body, is_whole) = unchunked(&whole[..cut]);
            assert!(b"abc0123456789".starts_with(&body[..]) && !is_whole, "{cut}: {body:?}");
        }
        for behind in ["", "\r\n", "X-Sum: 1\r\n\r\n", "more"] {
            let whole = [whole, behind.as_bytes()].concat();
            assert_eq!(unchunked(&whole), (b"abc0123456789".to_vec(), true), "{behind:?}");
        }
    }

    #[test]
    fn what_is_not_chunked_ends_where_that_shows() {
        for (received, body) in [
            (&b"plain"[..], &b""[..]),
            (b"3\r\nabcd", b"abc"),
            (b"3\r\nabc\rd", b"abc"),
            (b"3\r\nabc\r\n-1\r\nd", b"abc"),
            (b"ffffffffffffffffff\r\nd", b""),
        ] {
            assert_eq!(unchunked(received), (body.to_vec(), true), "{received:?}");
        }
        assert_eq!(unchunked(b"ffffffffffffffff\r\nabc"), (b"abc".to_vec(), false));
    }
}
