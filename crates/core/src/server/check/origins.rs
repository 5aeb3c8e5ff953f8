//! Origin check: the pages that may connect (RFC 6455, section 10.2).

use std::fmt;
use std::sync::Arc;

use threadwire_proto::handshake::Response;
use url::Url;

use super::{Check, plain};
use crate::error::Error;
use crate::server::request::Request;

/// Which pages may connect, by their origin, which browsers send and pages can't forge (RFC 6455, section 10.2). Where browsers send
/// along cookies, every page in the world could otherwise use a connection in the name of its reader. All others are refused with
/// 403.
///
/// An origin is compared exactly, as scheme, host and port: `https://example.com` is neither `https://www.example.com` nor
/// `http://example.com`, but `https://EXAMPLE.com:443`. `null`, the origin of files and of sandboxed frames, is one only if it is
/// named.
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
    or_none: bool,
    or_if: Vec<Arc<Allows>>,
}

type Allows = dyn Fn(&str) -> bool + Send + Sync;

impl Origins {
    /// Allows these, and nothing else. Fails with [`Error::Other`] for what is no origin.
    pub fn new<O: AsRef<str>>(origins: impl IntoIterator<Item = O>) -> Result<Origins, Error> {
        let known = |origin: O| {
            let origin = origin.as_ref();
            normal(origin).ok_or_else(|| {
                Error::other(format!("{origin:?} is no origin, expected scheme://host, and perhaps :port"))
            })
        };
        let exact = origins.into_iter().map(known).collect::<Result<_, Error>>()?;
        Ok(Origins { exact, ..Origins::default() })
    }

    /// Allows requests without an origin too: those of programs, which could send whatever they like. By default they are refused.
    pub fn or_none(mut self) -> Origins {
        self.or_none = true;
        self
    }

    /// Allows also what the closure says. It is given the origin with its scheme and host in lower case, without the port that is
    /// the scheme's own.
    pub fn or_if(mut self, allows: impl Fn(&str) -> bool + Send + Sync + 'static) -> Origins {
        self.or_if.push(Arc::new(allows));
        self
    }

    fn allows(&self, origin: &str) -> bool {
        normal(origin).is_some_and(|origin| {
            self.exact.contains(&origin) || self.or_if.iter().any(|allows| allows(&origin))
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
        tracing::debug!(origin = request.origin(), "refused a request for its origin");
        Err(plain(403, "this origin is not allowed\n"))
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins")
            .field("exact", &self.exact)
            .field("or_none", &self.or_none)
            .field("closures", &self.or_if.len())
            .finish()
    }
}

/// An origin in the form in which it is compared (RFC 6454, section 6.2). `None` if it is none.
fn normal(origin: &str) -> Option<String> {
    if origin == "null" {
        return Some(origin.to_owned());
    }
    let (scheme, authority) = origin.split_once("://")?;
    if authority.contains(['/', '?', '#', '@', '\\']) || authority.is_empty() {
        return None;
    }
    let url = Url::parse(origin).ok()?;
    let parsed = url.origin();
    if parsed.is_tuple() {
        return Some(parsed.ascii_serialization());
    }
    // Of a scheme without rules of its own, such as that of a browser's extensions.
    let is_plain = scheme.bytes().chain(authority.bytes()).all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| origin.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::normal;

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
            ("https://example.com/", None),
            ("https://example.com?x", None),
            ("https://me@example.com", None),
            ("https://", None),
            ("example.com", None),
            ("", None),
            ("https://exa mple.com", None),
        ] {
            assert_eq!(normal(origin).as_deref(), form, "{origin}");
        }
    }
}
