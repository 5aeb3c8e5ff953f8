//! Echo through every kind of proxy, on every face, with TLS and without.

use std::net::SocketAddr;

#[cfg(feature = "tls")]
use crate::common::certificates::Authority;
use crate::common::faces::FACES;
use crate::common::proxies::{Kind, Proxying};
use crate::common::{Serving, bind, bounded, echo};
use threadwire::client::Proxy;
use threadwire::{Client, Reply};

/// The server's name, which only proxies can resolve, and those who are told.
const HOST: &str = "feed.test";

/// The kinds of proxies by their schemes, and whether this side has to find the server.
const KINDS: [(&str, Kind, bool); 5] = [
    ("http", Kind::Http, false),
    ("socks4", Kind::Socks4, true),
    ("socks4a", Kind::Socks4, false),
    ("socks5", Kind::Socks5, true),
    ("socks5h", Kind::Socks5, false),
];

/// Has every face connect, through every kind of proxy.
fn through_all(scheme: &str, server: SocketAddr, set_up: impl Fn(Client) -> Client) {
    let url = format!("{scheme}://{HOST}:{}/", server.port());
    let direct = set_up(Client::new(&url).unwrap()).resolve(HOST, [server]);
    for face in FACES {
        assert_eq!(face.echo(&direct, "direct").unwrap(), "direct", "{face:?}");
    }
    for (proxy_scheme, kind, finds_it) in KINDS {
        for login in [None, Some(("us:er", if kind == Kind::Socks4 { "" } else { "s@cret/" }))] {
            // Basic authentication has no colons in names.
            let login = login.map(|(user, password)| {
                (user.replace(':', if kind == Kind::Http { "" } else { ":" }), password)
            });
            let login = login.as_ref().map(|(user, password)| (user.as_str(), *password));
            let proxy = Proxying::with(kind, HOST, server, login);
            let user = match login {
                None => "",
                Some(_) if kind == Kind::Http => "user:s%40cret%2f@",
                Some(_) if kind == Kind::Socks4 => "us%3Aer@",
                Some(_) => "us%3Aer:s%40cret%2f@",
            };
            let proxied = Proxy::new(&format!("{proxy_scheme}://{user}{}", proxy.addr)).unwrap();
            let client = set_up(Client::new(&url).unwrap()).proxy(proxied);
            // Otherwise nobody tells where it is, so that only the proxy can know.
            let client = if finds_it { client.resolve(HOST, [server]) } else { client };
            for face in FACES {
                let got = face.echo(&client, "through").unwrap_or_else(|error| {
                    panic!("{face:?} through {proxy_scheme}: {error:#}");
                });
                assert_eq!(got, "through", "{face:?} through {proxy_scheme}");
            }
            let host = if finds_it { server.ip().to_string() } else { HOST.to_owned() };
            let who = if login.is_some() { "somebody" } else { "nobody" };
            let asked = format!("{host}:{} for {who}", server.port());
            assert_eq!(proxy.asked(), vec![asked; FACES.len()], "{proxy_scheme}");
        }
    }
}

#[test]
fn every_face_connects_through_every_proxy() {
    bounded(|| {
        let server = Serving::with(bind(), |_| Reply::with(echo));
        through_all("ws", server.addr, |client| client);
    });
}

#[cfg(feature = "tls")]
#[test]
fn every_face_connects_in_tls_through_every_proxy() {
    bounded(|| {
        let authority = Authority::new("authority");
        let server = Serving::with(bind().tls(authority.sign(&[HOST]).server()), |_| Reply::with(echo));
        through_all("wss", server.addr, |client| client.tls(authority.trusted()));
    });
}

#[cfg(feature = "tls")]
#[test]
fn every_face_connects_through_a_proxy_in_tls_with_tls_inside_of_it_and_without() {
    bounded(|| {
        let (servers, proxies) = (Authority::new("of servers"), Authority::new("of proxies"));
        let secure = Serving::with(bind().tls(servers.sign(&[HOST]).server()), |_| Reply::with(echo));
        let plain = Serving::with(bind(), |_| Reply::with(echo));
        for (scheme, server) in [("ws", plain.addr), ("wss", secure.addr)] {
            let login = Some(("user", "secret"));
            let proxy = Proxying::secure(HOST, server, login, &proxies.sign(&["proxy.test"]));
            let url = format!("https://user:secret@proxy.test:{}", proxy.addr.port());
            let client = Client::new(&format!("{scheme}://{HOST}:{}/", server.port())).unwrap();
            let client = client
                .tls(servers.trusted())
                .proxy(Proxy::new(&url).unwrap().tls(proxies.trusted()))
                .resolve("proxy.test", [proxy.addr]);
            // Long enough for several records, in one another.
            let text = "through ".repeat(10_000);
            for face in FACES {
                let got = face.echo(&client, &text);
                assert!(got.unwrap_or_else(|error| panic!("{face:?} {scheme}: {error:#}")) == text);
            }
            assert_eq!(proxy.asked(), vec![format!("{HOST}:{} for somebody", server.port()); FACES.len()]);

            // Each is asked for its own certificate.
            let confused = client.clone().proxy(Proxy::new(&url).unwrap().tls(servers.trusted()));
            for face in FACES {
                let error = format!("{:#}", face.fails(&confused));
                assert!(error.contains("proxy.test") && !error.contains("secret"), "{error}");
            }
        }
    });
}
