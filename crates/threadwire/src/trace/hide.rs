//! What must not be seen in the head of a handshake.
//!
//! Better one parameter too many that can't be read than one secret that can: names are looked at for words that they may
//! contain.

use std::borrow::Cow;

use url::form_urlencoded;

const HIDDEN: &str = "***";

/// What the names of secrets contain.
const WORDS: [&str; 15] = [
    "auth", "bearer", "cookie", "cred", "jwt", "key", "login", "pass", "pwd", "secret", "session", "sig",
    "ticket", "token", "user",
];

/// What they are, where that is too short to be looked for.
const NAMES: [&str; 4] = ["code", "otp", "pin", "sid"];

/// A subprotocol of this length is no name, but something that was to be smuggled through a browser.
const LONG_SUBPROTOCOL: usize = 40;

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || WORDS.iter().any(|word| name.contains(word))
}

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
            // It goes on with the line before (RFC 9112, section 5.2), or is no header.
            push_line(&mut shown, if was_secret { HIDDEN } else { line });
            continue;
        };
        let value = header(name, value.trim());
        was_secret = matches!(value, Cow::Borrowed(HIDDEN));
        push_line(&mut shown, &format!("{name}: {value}"));
    }
    shown
}

fn header<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if name.eq_ignore_ascii_case("Sec-WebSocket-Protocol") {
        let hide =
            |name: &'a str| if is_secret(name) || name.len() >= LONG_SUBPROTOCOL { HIDDEN } else { name };
        return value.split(',').map(|name| hide(name.trim())).collect::<Vec<_>>().join(", ").into();
    }
    let is_of_the_handshake = name.to_ascii_lowercase().starts_with("sec-websocket-")
        || ["user-agent", "www-authenticate"].contains(&name.to_ascii_lowercase().as_str());
    if is_secret(name) && !is_of_the_handshake { HIDDEN.into() } else { url(value).into() }
}

/// A URL, or a part of one, as it may be shown.
fn url(url: &str) -> String {
    let (rest, fragment) = url.split_at(url.find('#').unwrap_or(url.len()));
    let (rest, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let mut shown = String::new();
    match rest.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map(|(_, host)| format!("{HIDDEN}@{host}"));
            shown.push_str(&format!("{scheme}://{}{path}", host.as_deref().unwrap_or(authority)));
        }
        None => shown.push_str(rest),
    }
    for part in query.split_inclusive(['?', '&', ';']) {
        let end = part.trim_end_matches(['?', '&', ';']).len();
        let (parameter, separator) = part.split_at(end);
        match parameter.split_once('=') {
            Some((name, _)) if is_secret(&decoded(name)) => shown.push_str(&format!("{name}={HIDDEN}")),
            _ => shown.push_str(parameter),
        }
        shown.push_str(separator);
    }
    shown + fragment
}

fn decoded(name: &str) -> Cow<'_, str> {
    form_urlencoded::parse(name.as_bytes()).next().map_or(Cow::Borrowed(""), |(name, _)| name)
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
    fn hides_what_may_be_a_secret_in_a_url() {
        for (whole, shown) in [
            ("/", "/"),
            ("/feed?symbols=all&depth=5", "/feed?symbols=all&depth=5"),
            ("/feed?token=1234", "/feed?token=***"),
            ("/?a=1&Api_Key=2&b=3;x-signature=4#end", "/?a=1&Api_Key=***&b=3;x-signature=***#end"),
            ("/?%74oken=1", "/?%74oken=***"),
            ("/?token=a?b=c", "/?token=***?b=c"),
            ("/?password=", "/?password=***"),
            ("/?token", "/?token"),
            ("/?code=1&encode=2", "/?code=***&encode=2"),
            ("ws://me:1234@host:1/a@b?c=d@e", "ws://***@host:1/a@b?c=d@e"),
            ("http://me@there", "http://***@there"),
            ("*", "*"),
        ] {
            assert_eq!(url(whole), shown);
        }
    }

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
        let long = "a".repeat(LONG_SUBPROTOCOL);
        assert_eq!(header("sec-websocket-protocol", &format!("a,{long}")), "a, ***");
    }
}
