//! Redirects, and the cookies that come with them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

#[cfg(feature = "tls")]
use crate::common::certificates::Authority;
use crate::common::faces::{DRIVERS, FACES};
use crate::common::patient;
use crate::common::peer::{Host, Peer, TEXT, upgraded};
use crate::common::{Serving, bind, bounded, echo};
use threadwire::client::CookieJar;
use threadwire::error::RedirectProblem;
use threadwire::reconnect::Backoff;
use threadwire::{Client, Connection, Error, Message, Reply, Response};

/// A redirect.
fn redirect(status: u16, location: &str) -> Reply {
    let response = Response::new(status).unwrap().with_header("Location", location).unwrap();
    Reply::respond(response)
}

/// A server that answers as a table says, and echoes at `/here`. It writes down what it was asked for.
struct Site {
    serving: Serving,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn start(answer: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static) -> Site {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&asked);
        let serving = Serving::with(bind(), move |request| {
            let mut lines = vec![format!("{} at {}", request.target(), request.header("Host").unwrap())];
            for name in ["Authorization", "Cookie", "X-Feed"] {
                lines.extend(request.header(name).map(|value| format!("{name}: {value}")));
            }
            notes.lock().unwrap().push(lines.join(", "));
            answer(request.path()).unwrap_or_else(|| Reply::with(echo))
        });
        Site { serving, asked }
    }

    fn addr(&self) -> SocketAddr {
        self.serving.addr
    }

    fn take_asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[test]
fn every_status_that_sends_elsewhere_is_followed() {
    bounded(|| {
        let site = Site::start(|path| {
            let status = path.strip_prefix("/from/")?.parse().ok()?;
            Some(redirect(status, "../here?a=b#top"))
        });
        for face in FACES {
            for status in [301, 302, 303, 307, 308] {
                let url = site.serving.url(&format!("/from/{status}"));
                assert_eq!(face.echo(&Client::new(&url).unwrap(), "hello").unwrap(), "hello", "{status}");
                let host = site.addr();
                assert_eq!(
                    site.take_asked(),
                    [format!("/from/{status} at {host}"), format!("/here?a=b at {host}")]
                );
            }
            // Not followed: other statuses, and all of them where the program does not want it.
            for (status, redirects) in [(300, 10), (304, 10), (302, 0)] {
                let client =
                    Client::new(&site.serving.url(&format!("/from/{status}"))).unwrap().redirects(redirects);
                match face.fails(&client) {
                    Error::Status(answer) => {
                        assert_eq!(
                            (answer.status(), answer.header("Location")),
                            (status, Some("../here?a=b#top"))
                        );
                    }
                    other => panic!("{other:?}"),
                }
            }
            site.take_asked();
        }
    });
}

#[test]
fn a_loop_ends_at_the_limit() {
    bounded(|| {
        let site = Site::start(|_| Some(redirect(302, "?token=secret")));
        for face in FACES {
            for (limit, client) in [
                (10, Client::new(&site.serving.url("/")).unwrap()),
                (1, Client::new(&site.serving.url("/")).unwrap().redirects(1)),
            ] {
                let error = face.fails(&client);
                let expected = format!(
                    "ws://{0}/ redirects to ws://{0}/, which is not followed: it is one more than the limit of {limit}",
                    site.addr()
                );
                assert_eq!(error.to_string(), expected);
                assert!(!error.is_transient() && !format!("{error:?}").contains("secret"));
                let Error::Redirect(error) = error else { panic!("{error:?}") };
                assert_eq!(error.problem, RedirectProblem::TooMany { limit });
                assert_eq!(site.take_asked().len(), limit as usize + 1);
            }
        }
    });
}

#[test]
fn another_origin_is_not_told_what_was_meant_for_the_first() {
    bounded(|| {
        let second = Site::start(|_| None);
        let port = second.addr().port();
        let first = Site::start(move |path| match path {
            "/same" => Some(redirect(302, "/here")),
            "/other" => Some(redirect(302, &format!("http://second.test:{port}/here"))),
            _ => None,
        });
        let from = first.addr().port();
        for face in FACES {
            let client = |url: &str| {
                let client = Client::new(url).unwrap().config(patient()).header("X-Feed", "prices").unwrap();
                client
                    .header("Cookie", "own=1")
                    .unwrap()
                    .resolve("first.test", [first.addr()])
                    .resolve("second.test", [second.addr()])
            };
            let url = |path| format!("ws://user:secret@first.test:{from}{path}");
            let known = "Authorization: Basic dXNlcjpzZWNyZXQ=, Cookie: own=1, X-Feed: prices";
            face.echo(&client(&url("/same")), "hello").unwrap();
            let asked = first.take_asked();
            assert_eq!(asked, ["/same", "/here"].map(|path| format!("{path} at first.test:{from}, {known}")));

            face.echo(&client(&url("/other")), "hello").unwrap();
            assert_eq!(first.take_asked(), [format!("/other at first.test:{from}, {known}")]);
            assert_eq!(second.take_asked(), [format!("/here at second.test:{port}")]);
            let allowed = client(&url("/other")).redirected_headers(["x-feed"]);
            face.echo(&allowed, "hello").unwrap();
            assert_eq!(first.take_asked(), [format!("/other at first.test:{from}, {known}")]);
            assert_eq!(second.take_asked(), [format!("/here at second.test:{port}, X-Feed: prices")]);

            // Nor a name that was put in place of the host's, nor a token that is made for each attempt.
            let named = client(&url("/other")).host("name.test").unwrap();
            let named = named.headers(|| [("authorization", "Bearer secret")]);
            face.echo(&named, "hello").unwrap();
            let known = "Authorization: Bearer secret, Cookie: own=1, X-Feed: prices";
            assert_eq!(first.take_asked(), [format!("/other at name.test, {known}")]);
            assert_eq!(second.take_asked(), [format!("/here at second.test:{port}")]);
        }
    });
}

#[test]
fn what_can_not_be_followed_is_told_of() {
    bounded(|| {
        for (location, to) in [
            ("ftp://user:secret@127.0.0.1/a?secret", "ftp://127.0.0.1/a"),
            ("ws+unix:/run/secret.sock", "ws+unix:/run/secret.sock"),
            ("ws://exa mple/", "ws://exa mple/"),
        ] {
            let site = Site::start(move |_| Some(redirect(307, location)));
            for face in FACES {
                let error = face.fails(&Client::new(&site.serving.url("/")).unwrap());
                assert!(!format!("{error:?}").contains("secret@"), "{error:?}");
                match error {
                    Error::Redirect(error) => {
                        assert_eq!((error.problem, &*error.to), (RedirectProblem::BadLocation, to));
                        assert_eq!(error.from, site.serving.url("/"));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

#[cfg(feature = "tls")]
#[test]
fn encryption_is_gained_by_a_redirect_but_not_given_up() {
    bounded(|| {
        let authority = Authority::new("authority");
        let plain = Site::start(|_| None);
        let back = plain.serving.url("/here");
        let secure =
            Serving::with(bind().tls(authority.sign(&["127.0.0.1"]).server()), move |request| match request
                .path()
            {
                "/back" => redirect(302, &back),
                _ => Reply::with(echo),
            });
        let secure_url = format!("https://{}/here", secure.addr);
        let gate = Site::start(move |_| Some(redirect(301, &secure_url)));
        for face in FACES {
            let client = Client::new(&gate.serving.url("/")).unwrap().tls(authority.trusted());
            assert_eq!(face.echo(&client, "hello").unwrap(), "hello");
            let client =
                Client::new(&format!("wss://{}/back", secure.addr)).unwrap().tls(authority.trusted());
            let error = face.fails(&client);
            let Error::Redirect(error) = error else { panic!("{error:?}") };
            assert_eq!(error.problem, RedirectProblem::Insecure);
        }
        assert_eq!(plain.take_asked(), [""; 0]);
    });
}

/// A server in TLS that asks for certificates, and writes down how many it was shown with each request.
#[cfg(feature = "tls")]
fn asks_for_certificates(
    server: threadwire::server::ServerTls,
    people: &Authority,
    answer: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static,
) -> (Serving, Arc<Mutex<Vec<usize>>>) {
    let optional = threadwire::tls::ClientCertificates::Optional(people.pem());
    let shown = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&shown);
    let serving = Serving::with(bind().tls(server.client_certificates(optional).unwrap()), move |request| {
        notes.lock().unwrap().push(request.tls().unwrap().peer_certificates.len());
        answer(request.path()).unwrap_or_else(|| Reply::with(echo))
    });
    (serving, shown)
}

#[cfg(feature = "tls")]
#[test]
fn another_origin_is_shown_no_certificate_and_has_to_have_one_for_its_own_name() {
    bounded(|| {
        use threadwire::client::ClientTls;
        use threadwire::tls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
        use threadwire::tls::rustls::{ClientConfig, RootCertStore, crypto::ring};
        let (authority, people) = (Authority::new("authority"), Authority::new("people"));
        let second = authority.sign(&["second.test"]).server();
        let (second, shown_second) = asks_for_certificates(second, &people, |_| None);
        let port = second.addr.port();
        let first = authority.sign(&["inner.test"]).server();
        let (first, shown_first) = asks_for_certificates(first, &people, move |path| match path {
            "/same" => Some(redirect(302, "/here")),
            "/other" => Some(redirect(302, &format!("https://second.test:{port}/here"))),
            _ => None,
        });
        let someone = people.sign(&["someone"]);
        let ours = authority.trusted().identity(someone.chain(), someone.key()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.text().as_bytes()).unwrap()).unwrap();
        let rustls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(someone.chain.as_bytes()).unwrap()],
                PrivateKeyDer::from_pem_slice(someone.key.as_bytes()).unwrap(),
            )
            .unwrap();
        for tls in [ours, ClientTls::from_config(Arc::new(rustls))] {
            for face in FACES {
                for (path, first_expected, second_expected) in
                    [("/same", &[1, 1][..], &[][..]), ("/other", &[1], &[0])]
                {
                    let client =
                        Client::new(&format!("wss://first.test:{}{path}", first.addr.port())).unwrap();
                    let client = client
                        .config(patient())
                        .tls(tls.clone().server_name("inner.test").unwrap())
                        .resolve("first.test", [first.addr])
                        .resolve("second.test", [second.addr]);
                    assert_eq!(face.echo(&client, "hello").unwrap(), "hello");
                    assert_eq!(std::mem::take(&mut *shown_first.lock().unwrap()), first_expected);
                    assert_eq!(std::mem::take(&mut *shown_second.lock().unwrap()), second_expected);
                }
            }
        }
    });
}

/// A server made by hand that answers two requests: what comes of them is their `Cookie`.
fn sets_cookies(host: Host, first: &'static str) -> JoinHandle<Vec<Option<String>>> {
    host.run(move |host| {
        let cookie = |head: &str| {
            let cookie = head.lines().find_map(|line| line.strip_prefix("Cookie: "));
            assert!(head.matches("Cookie: ").count() <= 1);
            cookie.map(str::to_owned)
        };
        let mut cookies = Vec::new();
        let open = |mut peer: Peer, set: &str| {
            let head = peer.head();
            let answer = upgraded(&head);
            peer.bytes(answer.replace("Upgrade: websocket\r\n", &format!("Upgrade: websocket\r\n{set}")));
            let text = peer.text();
            peer.send(TEXT, text.as_bytes());
            peer.closed();
            peer.close(1000, "");
            cookie(&head)
        };
        let mut peer = host.accept();
        if first.starts_with("HTTP/1.1") {
            let head = peer.head();
            cookies.push(cookie(&head));
            peer.bytes(first);
            drop(peer);
            cookies.push(open(host.accept(), ""));
        } else {
            cookies.push(open(peer, first));
            cookies.push(open(host.accept(), ""));
        }
        cookies
    })
}

#[test]
fn a_jar_is_filled_by_a_101_and_by_a_redirect_and_nothing_is_kept_without_one() {
    bounded(|| {
        let set = "Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; Path=/elsewhere\r\n";
        for face in FACES {
            for (has_jar, expected) in [(true, "a=1"), (false, "")] {
                let host = Host::listen();
                let jar = CookieJar::new();
                let client = Client::new(&host.url()).unwrap().config(patient());
                let client = if has_jar { client.cookies(&jar) } else { client };
                let server = sets_cookies(host, set);
                for client in [&client, &client.clone()] {
                    face.echo(client, "hello").unwrap();
                }
                let expected = (!expected.is_empty()).then(|| expected.to_owned());
                assert_eq!(server.join().unwrap(), [None, expected]);
                assert_eq!(jar.len(), if has_jar { 2 } else { 0 });
            }

            let host = Host::listen();
            let jar = CookieJar::new();
            let client = Client::new(&host.url()).unwrap().config(patient()).cookies(&jar);
            // A cookie of the program's own goes in front.
            let client = client.header("Cookie", "own=0").unwrap();
            let answer =
                "HTTP/1.1 302 Found\r\nLocation: /\r\nSet-Cookie: session=3\r\nContent-Length: 0\r\n\r\n";
            let server = sets_cookies(host, answer);
            face.echo(&client, "hello").unwrap();
            let expected = ["own=0", "own=0; session=3"].map(|cookie| Some(cookie.to_owned()));
            assert_eq!(server.join().unwrap(), expected);
        }
    });
}

#[test]
fn cookies_of_a_jar_go_to_no_other_host() {
    bounded(|| {
        let second = Site::start(|_| None);
        let to = format!("ws://second.test:{}/", second.addr().port());
        let first = Site::start(move |_| Some(redirect(302, &to)));
        let from = format!("ws://first.test:{}/", first.addr().port());
        for face in DRIVERS {
            let jar = CookieJar::new();
            assert!(jar.set(&from, "first=1").unwrap());
            assert!(jar.set("ws://second.test/", "second=2").unwrap());
            let client = Client::new(&from).unwrap().cookies(&jar);
            let client = client.resolve("first.test", [first.addr()]).resolve("second.test", [second.addr()]);
            face.echo(&client, "hello").unwrap();
            assert!(first.take_asked()[0].ends_with(", Cookie: first=1"));
            assert!(second.take_asked()[0].ends_with(", Cookie: second=2"));
        }
    });
}

/// Has a client connect three times to a server that sets another cookie each time: what it is sent.
fn reconnects(run: impl FnOnce(Client, Backoff)) {
    let host = Host::listen();
    let jar = CookieJar::new();
    let url = format!("ws://feed.test:{}/", host.addr().port());
    let client =
        Client::new(&url).unwrap().config(patient()).cookies(&jar).resolve("feed.test", [host.addr()]);
    let server = host.run(|host| {
        let mut heads = Vec::new();
        for number in 0..3 {
            let mut peer = host.accept();
            let head = peer.head();
            let answer = upgraded(&head);
            peer.bytes(answer.replace("\r\n\r\n", &format!("\r\nSet-Cookie: visit={number}\r\n\r\n")));
            heads.push(head.lines().find(|line| line.starts_with("Cookie: ")).map(str::to_owned));
            if number < 2 {
                peer.close(1012, "again");
                peer.closed();
            } else {
                peer.send(TEXT, b"done");
                peer.closed();
                peer.close(1000, "");
            }
        }
        heads
    });
    let backoff = Backoff::default().first(std::time::Duration::ZERO);
    run(client, backoff);
    let heads = server.join().unwrap();
    assert_eq!(heads, [None, Some("Cookie: visit=0".to_owned()), Some("Cookie: visit=1".to_owned())]);
}

#[test]
fn a_client_that_reconnects_keeps_its_way_and_its_cookies() {
    bounded(|| {
        reconnects(|client, backoff| {
            let handle = client.reconnect(backoff).start(|ws: &Connection, _: Message<'_>| ws.close());
            handle.wait_ended().unwrap();
        });
        reconnects(|client, backoff| {
            let app = threadwire::App::new(&client).unwrap().reconnect(backoff);
            app.on_message(|ws, _| ws.close()).run_forever().unwrap();
        });
        #[cfg(feature = "aio")]
        reconnects(|client, backoff| {
            crate::common::tasks::single().block_on(async {
                let mut feed = threadwire::aio::reconnect(&client, backoff);
                assert_eq!(feed.recv().await.unwrap().unwrap(), "done");
                feed.handle().close().unwrap();
                assert!(feed.recv().await.unwrap().is_none());
            });
        });
    });
}

#[test]
fn a_redirect_goes_through_the_proxy_that_belongs_to_its_host() {
    use crate::common::proxies::{Kind, Proxying};
    use threadwire::client::Proxy;
    bounded(|| {
        let second = Site::start(|_| None);
        let to = format!("ws://second.test:{}/here", second.addr().port());
        let first = Site::start(move |_| Some(redirect(302, &to)));
        for face in DRIVERS {
            let proxy = Proxying::start(Kind::Http, "second.test", second.addr());
            let through = Proxy::new(&format!("http://{}", proxy.addr)).unwrap().except("first.test");
            let url = format!("ws://first.test:{}/", first.addr().port());
            let client = Client::new(&url).unwrap().proxy(through).resolve("first.test", [first.addr()]);
            assert_eq!(face.echo(&client, "hello").unwrap(), "hello");
            assert_eq!(proxy.asked(), [format!("second.test:{} for nobody", second.addr().port())]);
        }
    });
}

#[test]
fn an_answer_of_200_is_a_refusal() {
    bounded(|| {
        let site = Site::start(|_| Some(Reply::respond(Response::new(200).unwrap().with_body("a page"))));
        for face in FACES {
            match face.fails(&Client::new(&site.serving.url("/")).unwrap()) {
                Error::Status(answer) => {
                    assert_eq!((answer.status(), answer.body()), (200, &b"a page"[..]));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}
