//! Redirects (RFC 9110, section 15.4): the new target, and whether it may be followed.

use threadwire_proto::handshake::{Answer, Headers};

use super::redact::redacted;
use super::target::Target;
use crate::error::{Error, RedirectError, RedirectProblem};

/// Headers that tell another origin nothing that it may not know. All others may be secret, whatever their names: `X-Api-Key`, say.
const HARMLESS: [&str; 7] =
    ["Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Origin", "Pragma", "User-Agent"];

/// Headers that are for one host only, whatever the program says.
const OF_ONE_HOST: [&str; 2] = ["Host", "Proxy-Authorization"];

/// Whether an answer sends elsewhere. One without a `Location` is an answer as any other.
pub(super) fn is_one(answer: &Answer) -> bool {
    matches!(answer.status(), 301 | 302 | 303 | 307 | 308) && answer.header("Location").is_some()
}

/// Where it leads, seen from where it came.
pub(super) fn follow(from: &Target, answer: &Answer) -> Result<Target, Error> {
    let location = answer.header("Location").unwrap_or_default();
    let fail = |to: String, problem| {
        Err(Error::from(RedirectError { from: from.to_string(), to: redacted(&to), problem }))
    };
    let Some(base) = from.as_http() else {
        return fail(location.to_owned(), RedirectProblem::BadLocation);
    };
    let Ok(mut url) = base.join(location) else {
        return fail(location.to_owned(), RedirectProblem::BadLocation);
    };
    let scheme = match url.scheme() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => return fail(url.into(), RedirectProblem::BadLocation),
    };
    // The server must not choose the scheme or the credentials.
    url.set_fragment(None);
    if url.set_scheme(scheme).is_err() || url.set_username("").is_err() || url.set_password(None).is_err() {
        return fail(url.into(), RedirectProblem::BadLocation);
    }
    match Target::parse(url.as_str()) {
        Ok(target) if from.is_secure() && !target.is_secure() => fail(url.into(), RedirectProblem::Insecure),
        Ok(target) => Ok(target),
        Err(_) => fail(url.into(), RedirectProblem::BadLocation),
    }
}

/// Removes the headers that must not go to another origin: all but those that are harmless, and those that the program allows.
pub(super) fn forget_private(headers: &mut Headers, allowed: &[String]) {
    let is_in = |list: &[&str], name: &str| list.iter().any(|known| known.eq_ignore_ascii_case(name));
    let may_go = |name: &str| {
        let is_allowed = allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(name));
        !is_in(&OF_ONE_HOST, name) && (is_allowed || is_in(&HARMLESS, name))
    };
    let private: Vec<String> =
        headers.iter().map(|(name, _)| name.to_owned()).filter(|name| !may_go(name)).collect();
    for name in private {
        headers.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use threadwire_proto::handshake::Limits;

    use super::*;

    fn answer(status: u16, headers: &str) -> Answer {
        let head = format!("HTTP/1.1 {status} x\r\n{headers}\r\n");
        Answer::parse(head.as_bytes(), &Limits::default()).unwrap().unwrap().0
    }

    #[test]
    fn five_statuses_with_a_location_are_redirects() {
        for status in 200..600 {
            let is_redirect = [301, 302, 303, 307, 308].contains(&status);
            assert_eq!(is_one(&answer(status, "Location: /a\r\n")), is_redirect, "{status}");
            assert!(!is_one(&answer(status, "")), "{status}");
        }
    }

    /// Where it leads to, with its query, and whether that is another origin.
    fn followed(from: &str, location: &str) -> Result<(String, bool), RedirectProblem> {
        let from = Target::parse(from).unwrap();
        match follow(&from, &answer(302, &format!("Location: {location}\r\n"))) {
            Ok(to) => {
                let scheme = if to.is_secure() { "wss" } else { "ws" };
                assert_eq!(to.login(), None);
                let shown = format!("{scheme}://{}{}", to.authority(), to.resource());
                Ok((shown, !from.is_same_origin(&to)))
            }
            Err(Error::Redirect(error)) => {
                assert!(!error.to.contains("secret"), "{error}");
                Err(error.problem)
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn locations_are_seen_from_where_they_came() {
        for (from, location, to, is_other) in [
            ("ws://a.test/x/y?z", "/b", "ws://a.test/b", false),
            ("ws://a.test/x/y?z", "b?c=d", "ws://a.test/x/b?c=d", false),
            ("ws://a.test/x/y?z", "../b", "ws://a.test/b", false),
            ("ws://a.test/x/y?z", "?c", "ws://a.test/x/y?c", false),
            ("ws://a.test:81/x", "/b", "ws://a.test:81/b", false),
            ("ws://a.test/", "ws://a.test:80/b#top", "ws://a.test/b", false),
            ("ws://a.test/", "http://a.test/b", "ws://a.test/b", false),
            ("wss://a.test/", "https://A.TEST:443/b", "wss://a.test/b", false),
            ("wss://a.test/", "/b", "wss://a.test/b", false),
            ("ws://a.test/", "//b.test/c", "ws://b.test/c", true),
            ("wss://a.test/", "//b.test/c", "wss://b.test/c", true),
            ("ws://a.test/", "wss://a.test/", "wss://a.test/", true),
            ("ws://a.test/", "https://a.test/", "wss://a.test/", true),
            ("ws://a.test/", "ws://a.test:81/", "ws://a.test:81/", true),
            ("ws://a.test/", "ws://www.a.test/", "ws://www.a.test/", true),
            ("ws://me:secret@a.test/", "/b", "ws://a.test/b", false),
            ("ws://a.test/", "ws://me:secret@a.test/b", "ws://a.test/b", false),
        ] {
            assert_eq!(followed(from, location), Ok((to.to_owned(), is_other)), "{from} -> {location}");
        }
    }

    #[test]
    fn encryption_is_not_given_up() {
        for location in ["ws://a.test/", "http://a.test/?secret", "ws://b.test/", "http://a.test:443/"] {
            assert_eq!(followed("wss://a.test/", location), Err(RedirectProblem::Insecure), "{location}");
        }
    }

    #[test]
    fn what_can_not_be_connected_to_is_refused() {
        for location in [
            "ftp://a.test/",
            "mailto:me@a.test",
            "ws://",
            "ws://a b/",
            "ws+unix:/run/a.sock",
            "file:///etc/passwd",
        ] {
            assert_eq!(followed("ws://a.test/", location), Err(RedirectProblem::BadLocation), "{location}");
        }
    }

    #[test]
    fn another_origin_is_not_told_what_was_meant_for_this_one() {
        let mut headers = Headers::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("Cookie", "secret"),
            ("Proxy-Authorization", "secret"),
            ("HOST", "a.test"),
            ("Origin", "https://a.test"),
            ("X-Api-Key", "secret"),
            ("user-agent", "me"),
            ("X-Feed", "prices"),
        ] {
            headers.append(name, value).unwrap();
        }
        let left = |allowed: &[&str]| {
            let mut headers = headers.clone();
            forget_private(&mut headers, &allowed.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            headers.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(left(&[]), ["Origin", "user-agent"]);
        assert_eq!(left(&["x-feed", "Host", "Proxy-Authorization"]), ["Origin", "user-agent", "X-Feed"]);
        assert_eq!(left(&["Authorization", "cookie"]), ["authorization", "Cookie", "Origin", "user-agent"]);
    }
}
