//! Redaction of credentials in URLs, for errors and logs.

/// A URL without user name, password, query and fragment, whether it is well formed or not. All up to the last `@` is hidden: a password
/// that was not encoded may hold any character, and what can't be told apart is not shown.
pub(super) fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => (format!("{scheme}://"), rest),
        // The text may be a URL without its scheme.
        _ => (String::new(), url),
    };
    let (hidden, shown) = rest.split_at(rest.rfind('@').map_or(0, |at| at + 1));
    if hidden.contains(['?', '#']) {
        // What is behind may belong to a query.
        return format!("{scheme}...");
    }
    let path_is_hidden = hidden.contains(['/', '\\']);
    let shown = shown.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}{}{shown}", if path_is_hidden { "...@" } else { "" })
}

/// Whether this is the name of a scheme (RFC 3986, section 3.1), and no part of something else.
pub(super) fn is_scheme(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::client::proxy::Proxy;
    use crate::client::target::Target;

    #[test]
    fn shows_nothing_that_may_be_secret() {
        for (url, shown) in [
            ("ws://example.com/a?token=secret", "ws://example.com/a"),
            ("ws://example.com?token=secret", "ws://example.com"),
            ("ws://example.com/a#secret", "ws://example.com/a"),
            ("ws://user:secret@example.com:1/a", "ws://example.com:1/a"),
            ("ws://user:sec@ret@example.com/", "ws://example.com/"),
            ("ws://user:se/cret@example.com/", "ws://...@example.com/"),
            ("ws://user:12/cret@example.com/", "ws://...@example.com/"),
            ("ws://me@example.com:se/cret@host/", "ws://...@host/"),
            ("ws://user:se\\cret@example.com/", "ws://...@example.com/"),
            ("ws://user:se?cret@example.com/", "ws://..."),
            ("ws://user:12?cret@example.com/", "ws://..."),
            ("ws://user:se#cret@example.com/a?b", "ws://..."),
            ("ws://example.com/a?mail=me@a&token=secret", "ws://..."),
            ("user:secret@example.com", "example.com"),
            ("secret@example.com?secret", "example.com"),
            ("ws://example.com/@someone", "ws://...@someone"),
            ("ws:user:secret@example.com/", "example.com/"),
            ("user:12://34@host", "...@host"),
            ("ws+unix:/run/a.sock:/b?token=secret", "ws+unix:/run/a.sock:/b"),
            ("", ""),
        ] {
            assert_eq!(redacted(url), shown, "{url}");
        }
    }

    #[test]
    fn of_a_proxy_nothing_is_shown_that_stands_before_its_host() {
        for (url, shown) in [
            ("socks5://user:12/34@host", "socks5://...@host"),
            ("socks5://user:12?34@host:1080", "socks5://..."),
            ("http://user:12#3@4/5@host", "http://..."),
            ("http://user:1/2@3://4@host", "http://...@host"),
            ("user:12/34@host", "...@host"),
            ("user@a://34@host", "...@host"),
            ("http://host/path?query", "http://host/path"),
            ("http://host?secret@", "http://..."),
            ("host:3128", "host:3128"),
        ] {
            assert_eq!(redacted(url), shown, "{url}");
        }
    }

    proptest! {
        #[test]
        fn no_error_shows_a_password_however_it_is_written(
            scheme in prop_oneof![
                Just("ws://"), Just("wss://"), Just("ws:"), Just("http://"), Just("socks5://"), Just("socks4a://"), Just("https://"),
                Just("ws+unix:"), Just("ftp://"), Just(""),
            ],
            user in "[a-z@:/?#%\\\\\\[\\] 0-9]{0,6}",
            before in "[a-z@:/?#%\\\\\\[\\] 0-9]{0,6}",
            after in "[a-z@:/?#%\\\\\\[\\] 0-9]{0,6}",
            host in "(example\\.com|[a-z,}]{0,5}|\\[::1\\])(:[0-9x]{0,6})?(/[a-z?#]{0,3})?",
        ) {
            let url = format!("{scheme}{user}:{before}S3CRET{after}@{host}");
            let mut shown = vec![redacted(&url)];
            match Target::parse(&url) {
                Ok(target) => shown.extend([format!("{target}"), format!("{target:?}")]),
                Err(error) => shown.extend([format!("{error:#}"), format!("{error:?}")]),
            }
            match Proxy::new(&url) {
                Ok(proxy) => shown.push(format!("{proxy:?}")),
                Err(error) => shown.extend([format!("{error:#}"), format!("{error:?}")]),
            }
            for shown in shown {
                prop_assert!(!shown.to_ascii_uppercase().contains("S3CRET"), "{} shows {}", url, shown);
            }
        }
    }
}
