//! Redaction of credentials in handshakes, for errors, `Debug` output, logs and traces.
//!
//! Better one parameter too many that can't be read than one secret that can: names are looked at for words
//! that they may contain, and what is hidden becomes [`HIDDEN`].
//!
//! ```
//! use threadwire_proto::handshake::redact;
//!
//! assert_eq!(redact::url("ws://me:1234@a.example/b?c=5&token=1234"), "ws://***@a.example/b?c=5&token=***");
//! assert_eq!(redact::header("X-Api-Key", "1234"), "***");
//! assert_eq!(redact::header("Origin", "https://example.com"), "https://example.com");
//! assert_eq!(redact::subprotocol("bearer.1234"), "***");
//! ```

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The text that stands in the place of a credential.
pub const HIDDEN: &str = "***";

/// Parts of the names of secrets.
const WORDS: [&str; 15] = [
    "auth", "bearer", "cookie", "cred", "jwt", "key", "login", "pass", "pwd", "secret", "session", "sig",
    "ticket", "token", "user",
];

/// Whole names of secrets that are too short to be looked for inside of others.
const NAMES: [&str; 4] = ["code", "otp", "pin", "sid"];

/// A subprotocol of this length is no name, but something that was to be smuggled through a browser.
const LONG_SUBPROTOCOL: usize = 40;

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str()) || WORDS.iter().any(|word| name.contains(word))
}

/// The value of a header, as it may be shown.
pub fn header<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    if name.eq_ignore_ascii_case("Sec-WebSocket-Protocol") {
        return subprotocols(value.split(',').map(str::trim)).into();
    }
    let is_of_the_handshake = name.to_ascii_lowercase().starts_with("sec-websocket-")
        || ["user-agent", "www-authenticate"].contains(&name.to_ascii_lowercase().as_str());
    if is_secret(name) && !is_of_the_handshake { HIDDEN.into() } else { url(value).into() }
}

/// The name of a subprotocol, as it may be shown: browsers, which can't send headers of their own, send
/// tokens there.
pub fn subprotocol(name: &str) -> &str {
    if is_secret(name) || name.len() >= LONG_SUBPROTOCOL { HIDDEN } else { name }
}

/// A list of them.
pub(super) fn subprotocols<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(subprotocol).collect::<Vec<_>>().join(", ")
}

/// A URL, or a part of one, as it may be shown.
pub fn url(url: &str) -> String {
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
            Some((name, _)) if is_secret(&percent_decode_str(name).decode_utf8_lossy()) => {
                shown.push_str(&format!("{name}={HIDDEN}"));
            }
            _ => shown.push_str(parameter),
        }
        shown.push_str(separator);
    }
    // A fragment is for the client alone, and may hold a token (RFC 6749, section 4.2.2).
    match fragment.len() {
        0 | 1 => shown.push_str(fragment),
        _ => shown.push_str(&format!("#{HIDDEN}")),
    }
    shown
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
            ("/?a=1&Api_Key=2&b=3;x-signature=4#end", "/?a=1&Api_Key=***&b=3;x-signature=***#***"),
            ("/#access_token=1234", "/#***"),
            ("http://a/b#1234?c=d#e", "http://a/b#***"),
            ("/#", "/#"),
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
    fn hides_what_may_be_a_secret_in_a_header() {
        let long = "a".repeat(LONG_SUBPROTOCOL);
        for (name, value, shown) in [
            ("Authorization", "Bearer 1", HIDDEN),
            ("x-amz-security-token", "1", HIDDEN),
            ("X-Api-Key", "1", HIDDEN),
            ("X-Session", "1", HIDDEN),
            ("Sec-WebSocket-Key", "1", "1"),
            ("User-Agent", "1", "1"),
            ("Location", "/a?token=1#2", "/a?token=***#***"),
            ("sec-websocket-protocol", &format!("a,{long},b"), "a, ***, b"),
        ] {
            assert_eq!(header(name, value), shown, "{name}");
        }
    }
}
