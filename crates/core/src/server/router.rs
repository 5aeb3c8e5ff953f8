//! Router of a server: paths, their parameters, and the hook behind each.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use threadwire_proto::handshake::Response;

use super::check::{Check, plain};
use super::request::Request;
use crate::error::{Error, RouteError};

/// Which path leads to what: what answers a request of a server (`threadwire::server::Router`, with `A` for the sort of answer).
pub struct Router<A> {
    routes: matchit::Router<Route<A>>,
    fallback: Option<Route<A>>,
    /// The settings of the routes that will be added.
    checks: Vec<Arc<dyn Check>>,
}

type Hook<A> = dyn Fn(&Request) -> A + Send + Sync;

struct Route<A> {
    checks: Vec<Arc<dyn Check>>,
    hook: Arc<Hook<A>>,
    is_page: bool,
}

impl<A: From<Response> + 'static> Router<A> {
    /// A router that answers everything with 404.
    pub fn new() -> Router<A> {
        Router::default()
    }

    /// A path that leads to connections: `hook` says what becomes of a request for it. One that does not ask for an upgrade as it
    /// must is answered with what is wrong with it, if the hook wants to accept it: 426, or 405 for another method than GET.
    ///
    /// Fails with [`Error::Route`] if the pattern is malformed, or if it can't be told from another one.
    pub fn route<R: Into<A>>(
        self,
        pattern: &str,
        hook: impl Fn(&Request) -> R + Send + Sync + 'static,
    ) -> Result<Router<A>, Error> {
        self.add(pattern, Arc::new(move |request| hook(request).into()), false)
    }

    /// A path that is answered with plain HTTP: a health check, a page. Its `hook` is asked for GET and for HEAD, to which the same
    /// head is sent without the body; other methods are answered with 405.
    ///
    /// Fails as [`route`](Router::route) does.
    ///
    /// ```
    /// use threadwire::server::Router;
    /// use threadwire::{Connection, Message, Reply, Response};
    ///
    /// let page = Response::new(200)?
    ///     .with_header("Content-Type", "text/html; charset=utf-8")?
    ///     .with_body("<script>new WebSocket(`ws://${location.host}/feed`)</script>");
    /// let router = Router::new()
    ///     .page("/", move |_| page.clone())?
    ///     .route("/feed", |_| Reply::with(|ws: &Connection, message: Message<'_>| ws.send(message)))?;
    /// # let _ = router;
    /// # Ok::<(), threadwire::Error>(())
    /// ```
    pub fn page(
        self,
        pattern: &str,
        hook: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> Result<Router<A>, Error> {
        self.add(pattern, Arc::new(move |request| A::from(hook(request))), true)
    }

    /// The hook for requests without a route. Without this, they are answered with 404.
    pub fn fallback<R: Into<A>>(mut self, hook: impl Fn(&Request) -> R + Send + Sync + 'static) -> Router<A> {
        let hook: Arc<Hook<A>> = Arc::new(move |request| hook(request).into());
        self.fallback = Some(Route { checks: self.checks.clone(), hook, is_page: false });
        self
    }

    /// Has the routes that are added from here on ask a check first, behind those that were given before: the
    /// [origin](crate::Origins), the [host](crate::Hosts), who it is ([`BasicAuth`](crate::BasicAuth), [`Bearer`](crate::Bearer)), or a
    /// closure. The first that refuses answers the request. Routes that were added before are not concerned.
    pub fn check(mut self, check: impl Check) -> Router<A> {
        self.checks.push(Arc::new(check));
        self
    }

    fn add(mut self, pattern: &str, hook: Arc<Hook<A>>, is_page: bool) -> Result<Router<A>, Error> {
        let fail = |problem: String| Error::from(RouteError { pattern: pattern.to_owned(), problem });
        if !pattern.starts_with('/') {
            return Err(fail("must begin with \"/\"".to_owned()));
        }
        let route = Route { checks: self.checks.clone(), hook, is_page };
        self.routes.insert(escape(pattern), route).map_err(|error| fail(explain(&error)))?;
        Ok(self)
    }

    /// The answer to a request.
    pub fn answer(&self, request: &Request) -> A {
        let Some(path) = decode(request.path()) else {
            return A::from(plain(400, "the path can't be read\n"));
        };
        let route = match self.routes.at(&path) {
            Ok(found) => {
                request.set_params(found.params.iter().map(|(name, value)| param(name, value)).collect());
                found.value
            }
            Err(matchit::MatchError::NotFound) => match &self.fallback {
                Some(fallback) => fallback,
                None => return A::from(plain(404, "there is nothing here\n")),
            },
        };
        if route.is_page && !matches!(request.method(), "GET" | "HEAD") {
            return plain(405, "expected GET or HEAD\n")
                .with_header("Allow", "GET, HEAD")
                .unwrap_or_else(|_| plain(405, "expected GET or HEAD\n"))
                .into();
        }
        let refused = route.checks.iter().find_map(|check| check.check(request).err());
        refused.map_or_else(|| (route.hook)(request), A::from)
    }

    /// The router as a hook, for `Server::serve` and the like.
    pub fn hook(self) -> impl Fn(&Request) -> A + Clone + Send + Sync + 'static {
        let router = Arc::new(self);
        move |request| router.answer(request)
    }
}

impl<A> Clone for Router<A> {
    fn clone(&self) -> Router<A> {
        let Router { routes, fallback, checks } = self;
        Router { routes: routes.clone(), fallback: fallback.clone(), checks: checks.clone() }
    }
}

impl<A> Default for Router<A> {
    fn default() -> Router<A> {
        Router { routes: matchit::Router::default(), fallback: None, checks: Vec::new() }
    }
}

impl<A> Clone for Route<A> {
    fn clone(&self) -> Route<A> {
        Route { checks: self.checks.clone(), hook: Arc::clone(&self.hook), is_page: self.is_page }
    }
}

impl<A> fmt::Debug for Router<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

fn explain(error: &matchit::InsertError) -> String {
    use matchit::InsertError as Kind;
    match error {
        Kind::Conflict { with } => format!("can't be told from {with:?}"),
        Kind::InvalidParamSegment => "has more than one parameter between two slashes".to_owned(),
        Kind::InvalidCatchAll => "has something behind a parameter that takes all the rest".to_owned(),
        Kind::InvalidParam => "has a parameter without a name, or a single brace".to_owned(),
        other => other.to_string(),
    }
}

/// How an encoded slash stays in a path that is compared.
const SLASH: &str = "%2F";

/// A path as it is compared: all decoded but slashes, and percent signs, without which those could not be told from it. `None` if it
/// can't be, or is no proper path.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    if !path.starts_with('/') {
        return None;
    }
    let decoded = if path.contains('%') { Cow::Owned(decode_all(path)?) } else { Cow::Borrowed(path) };
    // A parameter has its slashes decoded later, and some systems take a backslash for one.
    let mut segments = decoded.split(['/', '\\']).flat_map(|part| part.split(SLASH));
    let is_proper = !segments.any(|segment| matches!(segment, "." | "..")) && !decoded.contains('\0');
    is_proper.then_some(decoded)
}

fn decode_all(path: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digits = str::from_utf8(rest.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
        rest = &rest[2..];
        match u8::from_str_radix(digits, 16).ok()? {
            b'/' => decoded.extend_from_slice(SLASH.as_bytes()),
            b'%' => decoded.extend_from_slice(b"%25"),
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).ok()
}

/// A pattern, to be compared with paths that are decoded so.
fn escape(pattern: &str) -> String {
    pattern.replace('%', "%25")
}

/// A parameter: what is left of its encoding goes too.
fn param(name: &str, value: &str) -> (Box<str>, Box<str>) {
    (name.into(), percent_decode_str(value).decode_utf8_lossy().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_but_for_what_would_change_their_segments() {
        for (path, decoded) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/%61/caf%C3%A9", Some("/a/café")),
            ("/a%2Fb%2fc", Some("/a%2Fb%2Fc")),
            ("/100%25", Some("/100%25")),
            ("/%252F", Some("/%252F")),
            ("/a//b", Some("/a//b")),
            ("/...", Some("/...")),
            ("/..a", Some("/..a")),
            ("/a/../b", None),
            ("/a/%2e%2E/b", None),
            ("/.", None),
            ("/a/.", None),
            ("/a/..%2F..%2Fb", None),
            ("/a/b%2f..", None),
            ("/a/%2e%2e%2fb", None),
            ("/a/b%2F.%2Fc", None),
            ("/a/..\\b", None),
            ("/a/b%5C..", None),
            ("/a%2F..%5Cb", None),
            ("/a/..%252Fb", Some("/a/..%252Fb")),
            ("/a%2F...%2Fb", Some("/a%2F...%2Fb")),
            ("/a%5Cb", Some("/a\\b")),
            ("/a%00b", None),
            ("/%00", None),
            ("/%", None),
            ("/%4", None),
            ("/%zz", None),
            ("/%+1", None),
            ("/%ff", None),
            ("*", None),
            ("", None),
        ] {
            assert_eq!(decode(path).as_deref(), decoded, "{path}");
        }
        for (value, whole) in [("a%2Fb", "a/b"), ("100%25", "100%"), ("%252F", "%2F"), ("é", "é")] {
            assert_eq!(&*param("x", value).1, whole);
        }
    }
}
