//! Redaction of credentials in URLs, for errors and logs.

/// A URL without user name, password, query and fragment, whether it is well formed or not: what can't be told apart is hidden.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // The text may be a URL without its scheme.
        let shown = &url[url.rfind('@').map_or(0, |at| at + 1)..];
        return shown.split(['?', '#']).next().unwrap_or_default().to_owned();
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, resource) = rest.split_at(end);
    let path = resource.split(['?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{}{path}", &authority[at + 1..]),
        // A password with a slash or a question mark in it ends what is taken for the authority.
        None if resource.contains('@') && has_odd_port(authority) => {
            format!("{scheme}://{}", &rest[rest.rfind('@').map_or(0, |at| at + 1)..])
                .split(['?', '#'])
                .next()
                .unwrap_or_default()
                .to_owned()
        }
        None => format!("{scheme}://{authority}{path}"),
    }
}

/// The URL of a proxy, in the same way. It has nothing but a host behind its user name and password: whatever they break, all up to
/// the last `@` is hidden.
pub(super) fn redacted_proxy(url: &str) -> String {
    let Some(at) = url.rfind('@') else { return redacted(url) };
    let host = redacted(&url[at + 1..]);
    match url.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => format!("{scheme}://{host}"),
        _ => host,
    }
}

/// Whether this is the name of a scheme (RFC 3986, section 3.1), and no part of something else.
pub(super) fn is_scheme(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Whether something stands behind the colon that is no port.
fn has_odd_port(authority: &str) -> bool {
    let behind = authority.rsplit(']').next().unwrap_or_default();
    let port = behind.rsplit_once(':').map(|(_, port)| port);
    port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_nothing_that_may_be_secret() {
        for (url, shown) in [
            ("ws://example.com/a?token=secret", "ws://example.com/a"),
            ("ws://example.com?token=secret", "ws://example.com"),
            ("ws://example.com/a#secret", "ws://example.com/a"),
            ("ws://user:secret@example.com:1/a", "ws://example.com:1/a"),
            ("ws://user:sec@ret@example.com/", "ws://example.com/"),
            ("ws://user:se/cret@example.com/", "ws://example.com/"),
            ("ws://user:se?cret@example.com/", "ws://example.com/"),
            ("ws://user:se#cret@example.com/a?b", "ws://example.com/a"),
            ("user:secret@example.com", "example.com"),
            ("secret@example.com?secret", "example.com"),
            ("ws://example.com/@someone", "ws://example.com/@someone"),
            ("ws://[::1]:80/@someone", "ws://[::1]:80/@someone"),
            ("ws+unix:/run/a.sock:/b?token=secret", "ws+unix:/run/a.sock:/b"),
            ("", ""),
        ] {
            assert_eq!(redacted(url), shown, "{url}");
        }
    }

    #[test]
    fn of_a_proxy_nothing_is_shown_that_stands_before_its_host() {
        for (url, shown) in [
            ("socks5://user:12/34@host", "socks5://host"),
            ("socks5://user:12?34@host:1080", "socks5://host:1080"),
            ("http://user:12#3@4/5@host", "http://host"),
            ("http://user:1/2@3://4@host", "http://host"),
            ("user:12/34@host", "host"),
            ("user:12://34@host", "host"),
            ("user:12/://34@host", "host"),
            ("user@a://34@host", "host"),
            ("http://host/path?query", "http://host/path"),
            ("http://host?secret@", "http://"),
            ("host:3128", "host:3128"),
        ] {
            assert_eq!(redacted_proxy(url), shown, "{url}");
        }
    }
}
