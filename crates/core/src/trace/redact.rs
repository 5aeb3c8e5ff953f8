//! Redaction of secrets in handshake heads, for traces.

use threadwire_proto::handshake::redact::{HIDDEN, header, url};

/// A head as it may be shown.
pub(super) fn head(head: &str) -> String {
    let mut lines = head.trim_end_matches(['\r', '\n']).split('\n').map(|line| line.trim_end_matches('\r'));
    let mut shown = String::new();
    let first = lines.next().unwrap_or_default();
    match first.starts_with("HTTP/") {
        true => push_line(&mut shown, first),
        // The words of a request line: the second is its target.
        false => push_line(&mut shown, &first.split(' ').map(url).collect::<Vec<_>>().join(" ")),
    }
    let mut was_secret = false;
    for line in lines {
        let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])) else {
            // The line continues the one before (RFC 9112, section 5.2), or is no header.
            push_line(&mut shown, if was_secret { HIDDEN } else { line });
            continue;
        };
        let value = header(name, value.trim());
        was_secret = value == HIDDEN;
        push_line(&mut shown, &format!("{name}: {value}"));
    }
    shown
}

/// Adds a line, with what is not printable escaped.
fn push_line(shown: &mut String, line: &str) {
    for character in line.chars() {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_headers_and_what_goes_on_with_them() {
        let whole = "GET ws://me:pw@a/?secret=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer 1234\r\n  5678\r\nPROXY-\
                     authorization:x\r\ncookie: a=b\r\nX-Api-Key: 1\r\nSec-WebSocket-Key: 2\r\nSec-WebSocket-Protocol: \
                     chat, bearer.1234\r\nOrigin: http://me:pw@b\r\nX-Odd: a\x1bb\r\n c\r\n\r\n";
        let shown = "GET ws://***@a/?secret=*** HTTP/1.1\nHost: a\nAuthorization: ***\n***\nPROXY-authorization: \
                     ***\ncookie: ***\nX-Api-Key: ***\nSec-WebSocket-Key: 2\nSec-WebSocket-Protocol: chat, \
                     ***\nOrigin: http://***@b\nX-Odd: a\\u{1b}b\n c\n";
        assert_eq!(head(whole), shown);
        let answer = "HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nLocation: /x?token=1\r\n\r\n";
        assert_eq!(head(answer), "HTTP/1.1 302 Found\nSet-Cookie: ***\nLocation: /x?token=***\n");
    }
}
