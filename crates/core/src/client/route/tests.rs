//! Steps of every kind of route: no network, no clock.

use threadwire_proto::handshake::accept_key;

use super::*;
use crate::client::settings::Options;
use crate::client::{CookieJar, Proxy, Timeouts};

const SERVER: &str = "192.0.2.1:80";
const PROXY: &str = "192.0.2.9:1080";

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

/// The answers of the proxy and the server, one after the other.
struct Script<'a> {
    says: std::slice::Iter<'a, String>,
    /// The steps done so far.
    notes: Vec<String>,
}

impl Script<'_> {
    /// Goes the whole way, as a driver would.
    fn drive(&mut self, client: &Settings) -> Result<(), Error> {
        let mut route = Route::new(client)?;
        loop {
            let task = route.task()?;
            let stage = route.stage();
            match task {
                Task::Resolve { host, port } => {
                    self.notes.push(format!("resolve {host}"));
                    let address = if host == "proxy.test" { PROXY } else { SERVER };
                    let mut found = addresses(&[address]);
                    found[0].set_port(port);
                    route.found(Ok(found))?;
                }
                Task::Connect(mut race) => match race.advance(std::time::Instant::now()) {
                    crate::client::race::RaceStep::Start(address) => {
                        self.notes.push(format!("connect {address}"))
                    }
                    other => panic!("{other:?}"),
                },
                Task::ConnectUnix(path) => self.notes.push(format!("connect {}", path.display())),
                Task::Open(_, target) => self.notes.push(format!("open for {target}")),
                Task::Secure(secure) => self.notes.push(format!("TLS with {}", secure.host)),
                Task::Exchange(mut exchange) => {
                    let asked = String::from_utf8_lossy(&exchange.output).into_owned();
                    let asked = match asked.split_once("\r\n") {
                        Some((line, _)) => line.trim_end_matches(" HTTP/1.1").to_owned(),
                        None => format!("SOCKS{}", exchange.output[0]),
                    };
                    self.notes.push(format!("{asked} to {}", stage.at));
                    let key = String::from_utf8_lossy(&exchange.output).into_owned();
                    let key = key.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
                    let accept = accept_key(key.unwrap_or_default());
                    let says = self.says.next().expect("somebody who says something");
                    exchange.received.extend(says.replace("KEY", &accept).chars().map(|byte| byte as u8));
                    let outcome = exchange.look(false)?.expect("all was said");
                    match route.said(outcome)? {
                        Next::GoOn => {}
                        Next::Elsewhere => self.notes.push("elsewhere".to_owned()),
                        Next::Open(_) => return Ok(()),
                    }
                }
            }
        }
    }
}

/// The steps taken with these answers, and the result.
fn way(client: &Settings, says: &[&str]) -> (Vec<String>, Result<(), Error>) {
    let says: Vec<String> = says.iter().map(|says| (*says).to_owned()).collect();
    let mut script = Script { says: says.iter(), notes: Vec::new() };
    let result = script.drive(client);
    (script.notes, result)
}

const OPEN: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Accept: KEY\r\n\r\n";
const TUNNEL: &str = "HTTP/1.1 200 OK\r\n\r\n";
const SOCKS4: &str = "\0\x5a\0\0\0\0\0\0";
const SOCKS5: &str = "\x05\0\x05\0\0\x01\0\0\0\0\0\0";

impl Settings {
    fn with(mut self, change: impl FnOnce(&mut Options)) -> Settings {
        change(&mut self.options);
        self
    }
}

/// A client that asks nobody's environment.
fn client(url: &str) -> Settings {
    Settings::new(url).unwrap().with(|options| options.proxy = Proxy::none())
}

fn proxied(url: &str, proxy: &str) -> Settings {
    client(url).with(|options| options.proxy = Proxy::new(proxy).unwrap())
}

#[test]
fn each_kind_of_way_has_its_steps() {
    let ways: Vec<(Settings, &[&str], &[&str])> = vec![
        (
            client("ws://feed.test/a"),
            &[OPEN],
            &["resolve feed.test", "connect 192.0.2.1:80", "GET /a to feed.test"],
        ),
        (client("ws://192.0.2.1:81/"), &[OPEN], &["connect 192.0.2.1:81", "GET / to 192.0.2.1"]),
        (client("ws://[2001:db8::1]/"), &[OPEN], &["connect [2001:db8::1]:80", "GET / to 2001:db8::1"]),
        (
            client("ws://feed.test/")
                .with(|options| options.set_addresses("feed.test", addresses(&["192.0.2.5:0"]))),
            &[OPEN],
            &["connect 192.0.2.5:80", "GET / to feed.test"],
        ),
        (client("ws+unix:/run/a.sock:/b"), &[OPEN], &["connect /run/a.sock", "GET /b to localhost"]),
        (
            client("ws://feed.test/").with(|options| options.unix = Some("/run/a.sock".into())),
            &[OPEN],
            &["connect /run/a.sock", "GET / to feed.test"],
        ),
        (
            client("ws://feed.test/")
                .with(|options| options.open = Some(Arc::new(|_| Err(io::ErrorKind::Other.into())))),
            &[OPEN],
            &["open for ws://feed.test/", "GET / to feed.test"],
        ),
        (
            proxied("ws://feed.test/", "http://proxy.test:1080"),
            &[TUNNEL, OPEN],
            &[
                "resolve proxy.test",
                "connect 192.0.2.9:1080",
                "CONNECT feed.test:80 to http://proxy.test:1080",
                "GET / to feed.test",
            ],
        ),
        (
            proxied("ws://feed.test/", "socks4://192.0.2.9"),
            &[SOCKS4, OPEN],
            &[
                "resolve feed.test",
                "connect 192.0.2.9:1080",
                "SOCKS4 to socks4://192.0.2.9:1080",
                "GET / to feed.test",
            ],
        ),
        (
            proxied("ws://feed.test/", "socks4a://192.0.2.9"),
            &[SOCKS4, OPEN],
            &["connect 192.0.2.9:1080", "SOCKS4 to socks4a://192.0.2.9:1080", "GET / to feed.test"],
        ),
        // Here both answers of the proxy come at once.
        (
            proxied("ws://feed.test/", "socks5://proxy.test"),
            &[SOCKS5, OPEN],
            &[
                "resolve feed.test",
                "resolve proxy.test",
                "connect 192.0.2.9:1080",
                "SOCKS5 to socks5://proxy.test:1080",
                "GET / to feed.test",
            ],
        ),
        (
            proxied("ws://192.0.2.1/", "socks5h://192.0.2.9"),
            &[SOCKS5, OPEN],
            &["connect 192.0.2.9:1080", "SOCKS5 to socks5h://192.0.2.9:1080", "GET / to 192.0.2.1"],
        ),
        // A socket of the program's own leads to the proxy, if the program has named one.
        (
            proxied("ws://feed.test/", "socks5h://proxy.test")
                .with(|options| options.open = Some(Arc::new(|_| Err(io::ErrorKind::Other.into())))),
            &[SOCKS5, OPEN],
            &["open for ws://feed.test/", "SOCKS5 to socks5h://proxy.test:1080", "GET / to feed.test"],
        ),
        (
            client("ws://feed.test/")
                .with(|options| options.proxy = Proxy::from_vars(|_| Some("http://proxy.test".to_owned())))
                .with(|options| options.open = Some(Arc::new(|_| Err(io::ErrorKind::Other.into())))),
            &[OPEN],
            &["open for ws://feed.test/", "GET / to feed.test"],
        ),
        (
            client("ws+unix:/run/a.sock")
                .with(|options| options.proxy = Proxy::from_vars(|_| Some("http://proxy.test".to_owned()))),
            &[OPEN],
            &["connect /run/a.sock", "GET / to localhost"],
        ),
    ];
    for (client, says, steps) in ways {
        let (notes, result) = way(&client, says);
        result.unwrap();
        assert_eq!(notes, steps, "{client:?}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn encryption_is_a_step_with_the_server_and_with_the_proxy() {
    let ways: Vec<(Settings, &[&str], &[&str])> = vec![
        (
            client("wss://feed.test/"),
            &[OPEN],
            &["resolve feed.test", "connect 192.0.2.1:443", "TLS with feed.test", "GET / to feed.test"],
        ),
        (
            client("wss+unix:/run/a.sock"),
            &[OPEN],
            &["connect /run/a.sock", "TLS with localhost", "GET / to localhost"],
        ),
        (
            proxied("wss://feed.test/", "https://proxy.test"),
            &[TUNNEL, OPEN],
            &[
                "resolve proxy.test",
                "connect 192.0.2.9:443",
                "TLS with proxy.test",
                "CONNECT feed.test:443 to https://proxy.test:443",
                "TLS with feed.test",
                "GET / to feed.test",
            ],
        ),
        (
            proxied("wss://feed.test/", "socks5h://192.0.2.9"),
            &[SOCKS5, OPEN],
            &[
                "connect 192.0.2.9:1080",
                "SOCKS5 to socks5h://192.0.2.9:1080",
                "TLS with feed.test",
                "GET / to feed.test",
            ],
        ),
    ];
    for (client, says, steps) in ways {
        let (notes, result) = way(&client, says);
        result.unwrap();
        assert_eq!(notes, steps, "{client:?}");
    }
}

#[test]
fn a_redirect_begins_from_the_start() {
    let elsewhere = "HTTP/1.1 307 There\r\nLocation: ws://other.test:8080/b\r\n\r\n";
    let proxy = Proxy::new("http://proxy.test:1080").unwrap().except("feed.test");
    let (notes, result) =
        way(&client("ws://feed.test/a").with(|options| options.proxy = proxy), &[elsewhere, TUNNEL, OPEN]);
    result.unwrap();
    assert_eq!(
        notes,
        [
            "resolve feed.test",
            "connect 192.0.2.1:80",
            "GET /a to feed.test",
            "elsewhere",
            "resolve proxy.test",
            "connect 192.0.2.9:1080",
            "CONNECT other.test:8080 to http://proxy.test:1080",
            "GET /b to other.test",
        ]
    );
    let (notes, result) =
        way(&client("ws://feed.test/a").with(|options| options.redirects = 2), &[elsewhere; 3]);
    assert_eq!(notes.iter().filter(|note| *note == "elsewhere").count(), 2);
    let Err(Error::Redirect(error)) = result else { panic!("it went on") };
    assert_eq!(error.problem, RedirectProblem::TooMany { limit: 2 });
}

#[test]
fn cookies_of_every_answer_are_taken_and_sent_along() {
    let jar = CookieJar::new();
    let elsewhere = "HTTP/1.1 302 There\r\nLocation: /b\r\nSet-Cookie: first=1\r\n\r\n";
    let open = OPEN.replace("\r\n\r\n", "\r\nSet-Cookie: second=2\r\n\r\n");
    let (_, result) = way(
        &client("ws://feed.test/").with(|options| options.cookies = Some(jar.clone())),
        &[elsewhere, &open],
    );
    result.unwrap();
    assert_eq!(jar.get("ws://feed.test/").unwrap().as_deref(), Some("first=1; second=2"));
}

#[test]
fn each_step_has_a_limit_of_its_own_and_a_name() {
    let seconds = |count| Some(Duration::from_secs(count));
    let timeouts = Timeouts {
        resolve: seconds(1),
        connect: seconds(2),
        proxy: seconds(3),
        tls: seconds(4),
        upgrade: seconds(5),
    };
    let client =
        proxied("ws://feed.test/", "socks5://proxy.test").with(|options| options.timeouts = timeouts);
    let mut route = Route::new(&client).unwrap();
    let mut stages = Vec::new();
    loop {
        let task = route.task().unwrap();
        let limit = route.limit().map(|limit| limit.as_secs());
        stages.push((limit, route.late().to_string()));
        match task {
            Task::Resolve { .. } => route.found(Ok(addresses(&[SERVER]))).unwrap(),
            Task::Connect(_) => {}
            Task::Exchange(exchange) if exchange.is_last() => break,
            Task::Exchange(_) => drop(route.said(Outcome::TunnelOpen).unwrap()),
            _ => panic!("another step"),
        }
    }
    let proxy = "socks5://proxy.test:1080";
    let expected = [
        (Some(1), "finding the address of feed.test took too long".to_owned()),
        (Some(1), format!("finding the address of {proxy} took too long")),
        // Each address has its own time.
        (None, format!("connecting to {proxy} took too long")),
        (Some(3), format!("asking the proxy {proxy} for a way through took too long")),
        (Some(5), "waiting for feed.test to answer the request took too long".to_owned()),
    ];
    assert_eq!(stages, expected);
    let whole = route.too_late().to_string();
    assert_eq!(
        whole,
        "opening the connection took too long; it was waiting for feed.test to answer the request"
    );
}

#[test]
fn a_name_without_addresses_is_told_of_and_whose_it_is() {
    let mut route = Route::new(&client("ws://feed.test/")).unwrap();
    route.task().unwrap();
    let error = route.found(Ok(Vec::new())).unwrap_err();
    assert_eq!(format!("{error:#}"), "can't find the address of feed.test: the name has no address");

    let mut route = Route::new(&proxied("ws://feed.test/", "http://u:secret@proxy.test")).unwrap();
    route.task().unwrap();
    let error = route.found(Err(io::ErrorKind::NotFound.into())).unwrap_err();
    let says = format!("{error:#}");
    assert!(says.starts_with(
        "the proxy http://proxy.test:80 can't be reached: can't find the address of proxy.test"
    ));
}

/// A proxy that can't be understood does not concern a stream that is there already.
#[test]
fn over_a_stream_of_ones_own_no_proxy_is_sought() {
    let broken = Proxy::from_vars(|name| (name == "all_proxy").then(|| "ftp://proxy.test".to_owned()));
    let client = client("ws://server.test/").with(|options| options.proxy = broken);
    assert!(matches!(Route::new(&client), Err(Error::Url(_))));
    let mut route = Route::over_stream(&client).unwrap();
    assert!(matches!(route.task(), Ok(Task::Exchange(_))));
}
