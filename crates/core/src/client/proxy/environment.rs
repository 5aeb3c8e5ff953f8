//! Proxy variables of the environment (`HTTP_PROXY` and others), by the rules of curl.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::ProxyServer;
use super::no_proxy::NoProxy;
use crate::client::target::Target;
use crate::error::Error;

/// The variables for `ws`, the first that is there decides. Not `HTTP_PROXY`, which others can set for a CGI program.
const PLAIN: [&str; 5] = ["ws_proxy", "WS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"];

/// The same for `wss`.
const SECURE: [&str; 6] = ["wss_proxy", "WSS_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// The proxy variables of an environment.
pub(super) struct Environment {
    plain: Option<Variable>,
    secure: Option<Variable>,
    no_proxy: NoProxy,
}

/// The name of a variable, and its value.
type Variable = (&'static str, String);

impl Environment {
    pub(super) fn read(mut lookup: impl FnMut(&str) -> Option<String>) -> Environment {
        let mut first =
            |names: &[&'static str]| names.iter().find_map(|name| lookup(name).map(|value| (*name, value)));
        let no_proxy = first(&["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
        Environment { plain: first(&PLAIN), secure: first(&SECURE), no_proxy: NoProxy::parse(&no_proxy) }
    }

    pub(super) fn proxy_for(&self, target: &Target) -> Result<Option<Arc<ProxyServer>>, Error> {
        let variable = if target.is_secure() { &self.secure } else { &self.plain };
        let Some((name, value)) = variable else { return Ok(None) };
        let url = value.trim();
        if url.is_empty() || is_here(target) || self.no_proxy.contains(target.host(), target.port()) {
            return Ok(None);
        }
        match ProxyServer::parse(url) {
            Ok(server) => Ok(Some(Arc::new(server))),
            // The error names the variable, as no code of the program mentions this URL.
            Err(Error::Url(mut error)) => {
                error.url = format!("{name}={}", error.url);
                Err(Error::Url(error))
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether it is this machine, which a proxy would take for its own.
fn is_here(target: &Target) -> bool {
    let host = target.host().trim_end_matches('.');
    match host.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// The URLs may have passwords in them.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("no_proxy", &self.no_proxy).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxy for a URL, where these variables are set.
    fn proxy(url: &str, variables: &[(&str, &str)]) -> Option<String> {
        let environment = Environment::read(|name| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        });
        let found = environment.proxy_for(&Target::parse(url).unwrap()).unwrap();
        found.map(|server| server.host.clone())
    }

    #[test]
    fn the_first_variable_that_is_there_decides() {
        let all = [
            ("ALL_PROXY", "all.upper"),
            ("all_proxy", "all"),
            ("HTTP_PROXY", "never"),
            ("http_proxy", "http"),
            ("WS_PROXY", "ws.upper"),
            ("ws_proxy", "ws"),
        ];
        let expected =
            [Some("all.upper"), Some("all"), Some("all"), Some("http"), Some("ws.upper"), Some("ws")];
        for (count, expected) in (1..).zip(expected) {
            assert_eq!(proxy("ws://example.com/", &all[..count]).as_deref(), expected, "{count}");
        }
        let all = [
            ("ALL_PROXY", "all.upper"),
            ("all_proxy", "all"),
            ("http_proxy", "never"),
            ("ws_proxy", "never"),
            ("HTTPS_PROXY", "https.upper"),
            ("https_proxy", "https"),
            ("WSS_PROXY", "wss.upper"),
            ("wss_proxy", "wss"),
        ];
        let expected = ["all.upper", "all", "all", "all", "https.upper", "https", "wss.upper", "wss"];
        for (count, expected) in (1..).zip(expected) {
            assert_eq!(proxy("wss://example.com/", &all[..count]).as_deref(), Some(expected), "{count}");
        }
        assert_eq!(proxy("ws://example.com/", &[]), None);
        assert_eq!(proxy("ws://example.com/", &[("HTTP_PROXY", "never")]), None);
        assert_eq!(proxy("ws://example.com/", &[("http_proxy", ""), ("all_proxy", "all")]), None);
        // As GNOME writes it.
        let desktop = [("ALL_PROXY", "socks://proxy.example:1080/")];
        assert_eq!(proxy("wss://example.com/", &desktop).as_deref(), Some("proxy.example"));
    }

    #[test]
    fn some_hosts_are_left_out() {
        let set = [
            ("all_proxy", "http://p"),
            ("NO_PROXY", "never.example"),
            ("no_proxy", "example.com,10.0.0.0/8"),
        ];
        for (url, is_proxied) in [
            ("ws://example.org/", true),
            ("ws://never.example/", true),
            ("ws://a.example.com/", false),
            ("wss://10.1.2.3/", false),
            ("ws://localhost/", false),
            ("ws://a.localhost:9/", false),
            ("ws://127.9.9.9/", false),
            ("ws://[::1]/", false),
            ("ws://[::ffff:127.0.0.1]/", false),
            ("ws://notlocalhost/", true),
        ] {
            assert_eq!(proxy(url, &set).is_some(), is_proxied, "{url}");
        }
    }

    #[test]
    fn a_bad_url_is_an_error_without_its_password() {
        let environment =
            Environment::read(|name| (name == "all_proxy").then(|| "ftp://user:secret@proxy".to_owned()));
        let error = environment.proxy_for(&Target::parse("ws://example.com/").unwrap()).unwrap_err();
        assert!(matches!(error, Error::Url(_)) && !format!("{error:?}").contains("secret"), "{error:?}");
        assert!(error.to_string().contains("\"all_proxy=ftp://proxy\": its scheme is"), "{error}");
        assert!(!format!("{environment:?}").contains("secret"));
    }
}
