//! Cookie jar (RFC 6265), for programs that want one.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cookie_store::{CookieDomain, CookieStore, RawCookie};
use threadwire_proto::handshake::Headers;
use url::Url;

use super::target::Target;
use crate::error::Error;

/// The longest cookie in bytes, name, value and attributes together (RFC 6265, section 6.1).
const MAX_COOKIE: usize = 4096;

/// The most cookies of one domain (RFC 6265, section 6.1), and of all.
const MAX_PER_DOMAIN: usize = 50;
const MAX_COOKIES: usize = 500;

/// Cookies: those that servers set with an answer to an opening handshake (101, or a redirect) are sent with the next request for
/// which they are meant, by the rules of RFC 6265. A `Client` has none unless it is given one (`Client::cookies`);
/// it is shared by all clones, of the jar as of the client, and by all connections of a client that reconnects.
///
/// It lives in memory only. Cookies are ignored that have more than 4096 bytes, or a domain that the server does not belong to or
/// that has no dot (there is no list of public suffixes: `co.uk` counts as a domain like others); and so are new ones when there
/// are 50 of their domain, or 500 in all. Cookies that are `Secure` are taken from `wss` only, and sent with `wss` and to this
/// machine; none that comes by `ws` replaces one of them. Those named `__Secure-` and `__Host-` have to be what that promises
/// (RFC 6265bis, section 4.1.3).
///
/// ```
/// use threadwire::client::CookieJar;
/// use threadwire::Client;
///
/// let jar = CookieJar::new();
/// jar.set("wss://example.com/", "session=1234; Path=/feed")?;
/// assert_eq!(jar.get("wss://example.com/feed/prices")?.as_deref(), Some("session=1234"));
/// assert_eq!(jar.get("wss://example.com/")?, None);
/// let client = Client::new("wss://example.com/feed")?.cookies(&jar);
/// # Ok::<(), threadwire::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct CookieJar(Arc<Mutex<CookieStore>>);

impl CookieJar {
    /// An empty jar.
    pub fn new() -> CookieJar {
        CookieJar::default()
    }

    /// Takes a cookie in, as if the server at this URL had set it: `NAME=VALUE[; ATTRIBUTE...]` (RFC 6265, section 4.1). Returns
    /// whether it was taken. Fails with [`Error::Url`].
    pub fn set(&self, url: &str, cookie: &str) -> Result<bool, Error> {
        Ok(Target::parse(url)?.as_http().is_some_and(|url| self.take_in(cookie, &url)))
    }

    /// What would be sent to this URL: `NAME=VALUE`, or more of them with `; ` in between; `None` if there is none. Fails with
    /// [`Error::Url`].
    pub fn get(&self, url: &str) -> Result<Option<String>, Error> {
        Ok(self.header(&Target::parse(url)?))
    }

    /// How many there are that have not expired.
    pub fn len(&self) -> usize {
        self.lock().iter_unexpired().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// The value of a `Cookie` header for this request.
    pub(super) fn header(&self, target: &Target) -> Option<String> {
        let url = target.as_http()?;
        let store = self.lock();
        let mut matching = store.matches(&url);
        // The order of a map is another each time; servers that look at it expect the longest path first (section 5.4).
        matching.sort_by(|one, other| {
            let key = |cookie: &cookie_store::Cookie<'_>| {
                (usize::MAX - cookie.path.len(), cookie.name().to_owned())
            };
            key(one).cmp(&key(other))
        });
        let pairs: Vec<String> =
            matching.iter().map(|cookie| format!("{}={}", cookie.name(), cookie.value())).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    /// Takes in what an answer sets.
    pub(super) fn take_in_all(&self, target: &Target, headers: &Headers) {
        if let Some(url) = target.as_http() {
            for cookie in headers.get_all("Set-Cookie") {
                self.take_in(cookie, &url);
            }
        }
    }

    fn take_in(&self, cookie: &str, url: &Url) -> bool {
        if cookie.len() > MAX_COOKIE || cookie.bytes().any(|byte| byte.is_ascii_control()) {
            return false;
        }
        let Ok(raw) = RawCookie::parse(cookie.to_owned()) else { return false };
        if raw.secure() == Some(true) && url.scheme() != "https" {
            return false;
        }
        let Ok(cookie) = cookie_store::Cookie::try_from_raw_cookie(&raw, url) else { return false };
        if let CookieDomain::Suffix(domain) = &cookie.domain
            && !domain.contains('.')
            && url.host_str() != Some(domain)
        {
            return false;
        }
        if !keeps_its_prefix(&cookie) {
            return false;
        }
        let mut store = self.lock();
        remove_expired(&mut store);
        if url.scheme() != "https" && store.iter_unexpired().any(|known| hides_a_secure_one(&cookie, known)) {
            return false;
        }
        let is_known = domain_name(&cookie.domain)
            .is_some_and(|domain| store.contains(domain, &cookie.path, cookie.name()));
        if !is_known {
            let of_domain = store
                .iter_unexpired()
                .filter(|other| domain_name(&other.domain) == domain_name(&cookie.domain))
                .count();
            if of_domain >= MAX_PER_DOMAIN || store.iter_unexpired().count() >= MAX_COOKIES {
                return false;
            }
        }
        store.insert(cookie.into_owned(), url).is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, CookieStore> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what its name promises is true (RFC 6265bis, section 4.1.3): `__Secure-` of cookies that are `Secure`, `__Host-` of those that
/// besides are for one host and all of its paths. Letters of either case promise it.
fn keeps_its_prefix(cookie: &cookie_store::Cookie<'_>) -> bool {
    let has = |prefix: &str| {
        cookie.name().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let is_secure = cookie.secure() == Some(true);
    let is_for_one_host = matches!(cookie.domain, CookieDomain::HostOnly(_))
        && cookie.path() == Some("/")
        && String::from(&cookie.path) == "/";
    (is_secure || !has("__Secure-")) && ((is_secure && is_for_one_host) || !has("__Host-"))
}

/// Whether one that came without encryption would take the place of one that needs it, or go out beside it (RFC 6265bis, section 5.7, step 9).
fn hides_a_secure_one(new: &cookie_store::Cookie<'_>, known: &cookie_store::Cookie<'_>) -> bool {
    let (Some(new_domain), Some(known_domain)) = (domain_name(&new.domain), domain_name(&known.domain))
    else {
        return false;
    };
    let is_within = |inner: &str, outer: &str| {
        inner.strip_suffix(outer).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    known.secure() == Some(true)
        && known.name() == new.name()
        && (is_within(new_domain, known_domain) || is_within(known_domain, new_domain))
        && path_matches(&String::from(&new.path), &String::from(&known.path))
}

/// Whether a path lies within another (RFC 6265, section 5.1.4).
fn path_matches(path: &str, outer: &str) -> bool {
    let rest = path.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || outer.ends_with('/'))
}

/// The store itself keeps them, and they would have no number.
fn remove_expired(store: &mut CookieStore) {
    let expired: Vec<_> = store
        .iter_any()
        .filter(|cookie| cookie.is_expired())
        .filter_map(|cookie| {
            let domain = domain_name(&cookie.domain)?;
            Some((domain.to_owned(), String::from(&cookie.path), cookie.name().to_owned()))
        })
        .collect();
    for (domain, path, name) in expired {
        store.remove(&domain, &path, &name);
    }
}

fn domain_name(domain: &CookieDomain) -> Option<&str> {
    match domain {
        CookieDomain::HostOnly(name) | CookieDomain::Suffix(name) => Some(name),
        CookieDomain::NotPresent | CookieDomain::Empty => None,
    }
}

/// How many there are: they may be secret.
impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_go_where_they_are_meant_for() {
        for (from, cookie, sent_to, not_to) in [
            // Without a domain, to the host alone.
            (
                "ws://a.test/",
                "n=v",
                &["ws://a.test/", "ws://a.test:81/b", "wss://a.test/"][..],
                &["ws://b.a.test/", "ws://test/", "ws://nota.test/"][..],
            ),
            (
                "ws://b.a.test/",
                "n=v; Domain=a.test",
                &["ws://a.test/", "ws://b.a.test/", "ws://c.a.test/"],
                &["ws://nota.test/"],
            ),
            ("ws://a.test/", "n=v; Domain=.a.test", &["ws://b.a.test/"], &["ws://nota.test/"]),
            // A domain that the server does not belong to.
            ("ws://a.test/", "n=v; Domain=b.test", &[], &["ws://a.test/", "ws://b.test/"]),
            ("ws://a.test/", "n=v; Domain=b.a.test", &[], &["ws://a.test/", "ws://b.a.test/"]),
            ("ws://a.test/", "n=v; Domain=test", &[], &["ws://a.test/", "ws://b.test/"]),
            ("ws://192.0.2.1/", "n=v; Domain=0.2.1", &[], &["ws://192.0.2.1/", "ws://9.0.2.1/"]),
            // Paths.
            (
                "ws://a.test/x/y",
                "n=v",
                &["ws://a.test/x", "ws://a.test/x/", "ws://a.test/x/z"],
                &["ws://a.test/", "ws://a.test/xy"],
            ),
            (
                "ws://a.test/",
                "n=v; Path=/p",
                &["ws://a.test/p", "ws://a.test/p/q"],
                &["ws://a.test/", "ws://a.test/pq"],
            ),
            // Encryption.
            ("wss://a.test/", "n=v; Secure", &["wss://a.test/"], &["ws://a.test/"]),
            ("ws://a.test/", "n=v; Secure", &[], &["wss://a.test/", "ws://a.test/"]),
            ("ws://a.test/", "n=v; HttpOnly", &["ws://a.test/"], &[]),
            // Expiry.
            ("ws://a.test/", "n=v; Max-Age=100", &["ws://a.test/"], &[]),
            ("ws://a.test/", "n=v; Max-Age=0", &[], &["ws://a.test/"]),
            ("ws://a.test/", "n=v; Max-Age=-1", &[], &["ws://a.test/"]),
            ("ws://a.test/", "n=v; Expires=Thu, 01 Jan 1970 00:00:00 GMT", &[], &["ws://a.test/"]),
            ("ws://a.test/", "n=v; Expires=Fri, 01 Jan 2100 00:00:00 GMT", &["ws://a.test/"], &[]),
            (
                "ws://a.test/",
                "n=v; Max-Age=100; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
                &["ws://a.test/"],
                &[],
            ),
        ] {
            let jar = CookieJar::new();
            jar.set(from, cookie).unwrap();
            for url in sent_to {
                assert_eq!(jar.get(url).unwrap().as_deref(), Some("n=v"), "{cookie} of {from} to {url}");
            }
            for url in not_to {
                assert_eq!(jar.get(url).unwrap(), None, "{cookie} of {from} to {url}");
            }
        }
    }

    #[test]
    fn what_came_without_encryption_replaces_nothing_that_needs_it() {
        for (secure, plain, taken) in [
            ("n=1; Secure", "n=2", false),
            ("n=1; Secure; Path=/", "n=2; Path=/login", false),
            ("n=1; Secure; Path=/login", "n=2; Path=/login", false),
            ("n=1; Secure; Path=/login", "n=2; Path=/login/x", false),
            ("n=1; Secure; Domain=a.test", "n=2", false),
            ("n=1; Secure", "n=2; Domain=a.test", false),
            ("n=1; Secure", "n=; Max-Age=0", false),
            ("n=1; Secure; Path=/login", "n=2; Path=/other", true),
            ("n=1; Secure", "m=2", true),
            ("n=1", "n=2", true),
        ] {
            let jar = CookieJar::new();
            assert!(jar.set("wss://a.test/", secure).unwrap());
            assert_eq!(jar.set("ws://a.test/", plain).unwrap(), taken, "{secure} {plain}");
            assert!(jar.set("wss://a.test/", "n=3; Secure").unwrap(), "what is encrypted replaces it");
        }
    }

    #[test]
    fn names_that_promise_something_keep_it() {
        for (url, cookie, taken) in [
            ("wss://a.test/", "__Secure-n=v; Secure", true),
            ("wss://a.test/", "__Secure-n=v", false),
            ("wss://a.test/", "__secure-n=v", false),
            ("ws://a.test/", "__Secure-n=v", false),
            ("wss://a.test/", "__Host-n=v; Secure; Path=/", true),
            ("wss://a.test/x/y", "__Host-n=v; Secure", false),
            ("wss://a.test/", "__Host-n=v; Secure; Path=/x", false),
            ("wss://a.test/", "__Host-n=v; Secure; Path=/; Domain=a.test", false),
            ("wss://a.test/", "__Host-n=v; Path=/", false),
            ("ws://a.test/", "__Host-n=v; Path=/", false),
        ] {
            assert_eq!(CookieJar::new().set(url, cookie).unwrap(), taken, "{cookie} from {url}");
        }
    }

    #[test]
    fn a_newer_one_replaces_an_older_and_an_expired_one_removes_it() {
        let jar = CookieJar::new();
        assert!(jar.set("ws://a.test/", "n=1").unwrap());
        assert!(jar.set("ws://a.test/", "n=2").unwrap());
        assert!(jar.set("ws://a.test/", "m=3; Path=/long").unwrap());
        assert_eq!(jar.get("ws://a.test/long").unwrap().as_deref(), Some("m=3; n=2"));
        jar.set("ws://a.test/", "n=2; Max-Age=0").unwrap();
        assert_eq!(jar.get("ws://a.test/").unwrap(), None);
        assert_eq!((jar.len(), jar.is_empty()), (1, false));
        jar.clone().clear();
        assert!(jar.is_empty());
    }

    #[test]
    fn a_server_can_not_fill_the_jar() {
        let jar = CookieJar::new();
        assert!(!jar.set("ws://a.test/", &format!("n={}", "v".repeat(5000))).unwrap());
        assert!(!jar.set("ws://a.test/", "n=a\r\nb").unwrap());
        assert!(!jar.set("ws://a.test/", "nothing").unwrap());
        for number in 0..60 {
            assert_eq!(jar.set("ws://a.test/", &format!("n{number}=v")).unwrap(), number < 50);
        }
        assert!(jar.set("ws://a.test/", "n7=new").unwrap(), "it is known");
        assert!(jar.set("ws://b.test/", "n=v").unwrap());
        assert_eq!(jar.len(), 51);
        for number in 0..600 {
            jar.set(&format!("ws://h{number}.test/"), "n=v").unwrap();
        }
        assert_eq!(jar.len(), 500);
    }

    #[test]
    fn expired_ones_take_no_room() {
        let jar = CookieJar::new();
        for number in 0..2000 {
            let url = format!("ws://h{number}.test/");
            assert!(jar.set(&url, &format!("n{number}=v")).unwrap(), "{number}");
            jar.set(&url, &format!("n{number}=; Max-Age=0")).unwrap();
        }
        assert_eq!(jar.len(), 0);
        let kept = jar.lock().iter_any().count();
        assert!(kept <= 1, "{kept} are kept");
    }

    #[test]
    fn a_server_can_not_pass_the_limits_with_expired_ones() {
        let jar = CookieJar::new();
        let set = |name: &str, number: u32| jar.set("ws://a.test/", &format!("{name}{number}=v")).unwrap();
        for number in 0..50 {
            assert!(set("a", number));
            jar.set("ws://a.test/", &format!("a{number}=v; Max-Age=0")).unwrap();
        }
        for number in 0..50 {
            assert!(set("b", number), "{number}");
        }
        for number in 0..50 {
            assert!(!set("a", number), "{number} was known once, and is no more");
        }
        assert_eq!(jar.len(), 50);
    }

    #[test]
    fn debug_output_shows_no_cookie() {
        let jar = CookieJar::new();
        jar.set("ws://a.test/", "session=secret").unwrap();
        assert_eq!(format!("{jar:?}"), "CookieJar { len: 1, .. }");
    }
}
