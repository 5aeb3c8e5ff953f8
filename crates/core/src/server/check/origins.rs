//! Origin check: the pages that may connect (RFC 6455, section 10.2).

use std::fmt;
use std::sync::Arc;

use threadwire_proto::handshake::Response;
use url::Url;

use super::{Check, plain};
use crate::error::Error;
use crate::error::shown::Shown;
use crate::server::request::Request;

/// Which pages may connect, by their origin, which browsers send and pages can't forge (RFC 6455, section 10.2). Where browsers send
/// along cookies, every page in the world could otherwise use a connection in the name of its reader. All others are refused with
/// 403.
///
/// An origin is compared exactly, as scheme, host and port: `https://example.com` is neither `https://www.example.com` nor
/// `http://example.com`, but `https://EXAMPLE.com:443`. Where a host begins with `*.`, all hosts below it are meant, however deep, but not
/// that one itself: `https://*.example.com`. `null`, the origin of files and of sandboxed frames, is one only if it is named; so are
/// those of programs that show pages without a host: `file://`, `qrc:`, `about:blank`, `content://com.example`.
///
/// ```
/// use threadwire::server::{Origins, Router};
///
/// let origins = Origins::new(["https://example.com", "http://localhost:8000"])?
///     .or_if(|origin| origin.starts_with("https://") && origin.ends_with(".example.com"))
///     .or_none();
/// let router = Router::new().check(origins);
/// # let _ = router;
/// assert!(Origins::new(["https://example.com/page"]).is_err(), "an origin has no path");
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Origins {
    exact: Vec<String>,
    below: Vec<Below>,
    or_none: bool,
    or_if: Vec<Arc<Allows>>,
}

/// The hosts below one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Below {
    /// The scheme, with what is behind it: `https://`.
    scheme: String,
    /// The host with a dot in front, and perhaps a port: `.example.com:8443`.
    end: String,
}

type Allows = dyn Fn(&str) -> bool + Send + Sync;

impl Origins {
    /// Allows these, and nothing else. Fails with [`Error::Other`] for what is no origin, and for a `*` elsewhere than as the first label of a
    /// host.
    ///
    /// ```
    /// use threadwire::server::Origins;
    ///
    /// let origins = Origins::new(["https://example.com", "https://*.example.com", "file://", "null"])?;
    /// assert!(Origins::new(["https://*"]).is_err() && Origins::new(["https://www.*.com"]).is_err());
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn new<O: AsRef<str>>(origins: impl IntoIterator<Item = O>) -> Result<Origins, Error> {
        let mut known = Origins::default();
        for origin in origins {
            let origin = origin.as_ref();
            match (origin.contains('*'), Below::read(origin), normal(origin)) {
                (true, Some(below), _) => known.below.push(below),
                (true, None, _) => {
                    return Err(Error::other(format!(
                        "{origin:?} has a * elsewhere than as the first label of a host, as https://*.example.com; \
                         Origins::or_if can look for anything"
                    )));
                }
                (false, _, Some(origin)) => known.exact.push(origin),
                (false, _, None) => {
                    return Err(Error::other(format!(
                        "{origin:?} is no origin, expected scheme://host, and perhaps :port"
                    )));
                }
            }
        }
        Ok(known)
    }

    /// Allows requests without an origin too: those of programs, which could send whatever they like. By default they are refused.
    pub fn or_none(mut self) -> Origins {
        self.or_none = true;
        self
    }

    /// Allows also what the closure says. It is given the origin with its scheme and host in lower case, without the port that is
    /// the scheme's own; also one without a host, as `null` or `file://`.
    pub fn or_if(mut self, allows: impl Fn(&str) -> bool + Send + Sync + 'static) -> Origins {
        self.or_if.push(Arc::new(allows));
        self
    }

    fn allows(&self, origin: &str) -> bool {
        normal(origin).is_some_and(|origin| {
            self.exact.contains(&origin)
                || self.below.iter().any(|below| below.has(&origin))
                || self.or_if.iter().any(|allows| allows(&origin))
        })
    }
}

impl Check for Origins {
    fn check(&self, request: &Request) -> Result<(), Response> {
        let mut all = request.headers().get_all_bytes("Origin");
        let is_allowed = match (all.next(), all.next()) {
            (None, _) => self.or_none,
            (Some(origin), None) => str::from_utf8(origin).is_ok_and(|origin| self.allows(origin)),
            (Some(_), Some(_)) => false,
        };
        if is_allowed {
            return Ok(());
        }
        let told = || told(request.headers().get_all_bytes("Origin"));
        tracing::debug!(origin = %told(), "refused a request for its origin");
        Err(plain(403, "this origin is not allowed\n"))
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins")
            .field("exact", &self.exact)
            .field("below", &self.below)
            .field("or_none", &self.or_none)
            .field("closures", &self.or_if.len())
            .finish()
    }
}

impl Below {
    fn read(pattern: &str) -> Option<Below> {
        let (scheme, host) = pattern.split_once("://*.")?;
        let host = normal(&format!("{scheme}://{host}")).filter(|host| !host.contains('*'))?;
        let (scheme, host) = host.split_once("://")?;
        let is_name = Url::parse(&format!("{scheme}://{host}")).is_ok_and(|url| url.domain().is_some());
        is_name.then(|| Below { scheme: format!("{scheme}://"), end: format!(".{host}") })
    }

    /// Whether an origin, in the form in which it is compared, is one of these.
    fn has(&self, origin: &str) -> bool {
        let labels = origin.strip_prefix(&self.scheme).and_then(|host| host.strip_suffix(&self.end));
        labels.is_some_and(|labels| !labels.is_empty())
    }
}

/// What was sent, for the log: it must not forge a line of that.
fn told<'a>(origins: impl Iterator<Item = &'a [u8]>) -> String {
    let origins = origins.map(String::from_utf8_lossy).collect::<Vec<_>>();
    Shown(&origins.join(", ")).to_string()
}

/// An origin in the form in which it is compared (RFC 6454, section 6.2). `None` if it is none.
fn normal(origin: &str) -> Option<String> {
    // Parsers of URLs pass over these.
    if origin.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return None;
    }
    if origin == "null" {
        return Some(origin.to_owned());
    }
    let url = Url::parse(origin).ok()?;
    let (_, rest) = origin.split_once(':')?;
    let authority = rest.strip_prefix("//");
    if authority.unwrap_or(rest).contains(['/', '?', '#', '@', '\\']) {
        return None;
    }
    let parsed = url.origin();
    if parsed.is_tuple() {
        return authority.map(|_| parsed.ascii_serialization());
    }
    // Of a scheme without rules of its own, such as that of a browser's extensions, or without a host.
    origin.bytes().all(|byte| byte.is_ascii_graphic()).then(|| origin.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::{Below, normal, told};

    #[test]
    fn a_star_stands_for_the_labels_in_front_of_a_host() {
        let below = Below::read("HTTPS://*.Example.com:443").unwrap();
        for (origin, is_below) in [
            ("https://www.example.com", true),
            ("https://a.b.example.com", true),
            ("https://example.com", false),
            ("https://.example.com", false),
            ("https://evilexample.com", false),
            ("https://example.com.evil.test", false),
            ("http://www.example.com", false),
            ("https://www.example.com:8443", false),
            ("null", false),
        ] {
            let is_met = normal(origin).is_some_and(|origin| below.has(&origin));
            assert_eq!(is_met, is_below, "{origin}");
        }
        assert!(Below::read("http://*.localhost:8000").unwrap().has("http://app.localhost:8000"));
        for other in [
            "https://*",
            "https://*.",
            "https://*.com/*",
            "https://*.*.com",
            "https://a.*.com",
            "https://*example.com",
            "https://*.127.0.0.1",
            "*.example.com",
            "*",
            "https://me@*.example.com",
        ] {
            assert_eq!(Below::read(other), None, "{other}");
        }
    }

    #[test]
    fn origins_are_compared_by_scheme_host_and_port() {
        for (origin, form) in [
            ("https://example.com", Some("https://example.com")),
            ("HTTPS://Example.COM:443", Some("https://example.com")),
            ("http://example.com:443", Some("http://example.com:443")),
            ("http://[::1]:8000", Some("http://[::1]:8000")),
            ("https://bücher.example", Some("https://xn--bcher-kva.example")),
            ("chrome-extension://AbC", Some("chrome-extension://abc")),
            ("null", Some("null")),
            ("file://", Some("file://")),
            ("FILE://", Some("file://")),
            ("qrc:", Some("qrc:")),
            ("about:blank", Some("about:blank")),
            ("content://com.example", Some("content://com.example")),
            ("capacitor://localhost", Some("capacitor://localhost")),
            ("file:///etc/passwd", None),
            ("http:example.com", None),
            ("blob:https://example.com/1", None),
            ("https://example.com/", None),
            ("https://example.com?x", None),
            ("https://me@example.com", None),
            ("https://", None),
            ("example.com", None),
            ("", None),
            ("https://exa mple.com", None),
            ("https://exa\tmple.com", None),
            ("\u{1}https://example.com", None),
            ("https://example.com\u{85}", None),
        ] {
            assert_eq!(normal(origin).as_deref(), form, "{origin}");
        }
    }

    #[test]
    fn what_is_told_of_an_origin_forges_no_line_of_a_log() {
        for (sent, shown) in [
            (&[&b"https://example.com"[..]][..], "https://example.com"),
            (&[b"https://x\x1b[2J\x7f\xc2\x85", b"null"], "https://x\\u{1b}[2J\\u{7f}\\u{85}, null"),
            (&[b"https://\xff", b"\xe2\x80\xaegnp"], "https://\u{fffd}, \\u{202e}gnp"),
            (&[], ""),
        ] {
            assert_eq!(told(sent.iter().copied()), shown);
        }
    }
}
