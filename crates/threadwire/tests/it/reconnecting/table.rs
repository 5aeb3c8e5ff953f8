//! The table of when connections come back (`docs/reconnecting.md` of the crate), played row by row, on each face that reconnects.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rcgen::CertificateParams;

use crate::common::certificates::{Authority, Files, Identity, expired, not_yet_valid, self_signed};
use crate::common::faces::Face;
use crate::common::peer::{CLOSE, Host, PING, Peer, TEXT, farewell, frame};
use crate::common::secure::Secure;
use crate::common::{SOON, bounded, patient, vacant};
use threadwire::client::{ClientTls, Proxy};
use threadwire::reconnect::{Attempt, Backoff, Cause, State};
use threadwire::server::ServerTls;
use threadwire::tls::{ClientCertificates, Pem};
use threadwire::{App, Client, Connection, Error, Keepalive, Limits, Listener, Message, wait_until};

const DOCUMENT: &str = include_str!("../../../docs/reconnecting.md");

/// The faces that reconnect.
const FACES: &[Face] = &[
    Face::Listener,
    Face::App,
    #[cfg(feature = "aio")]
    Face::Aio,
];

/// What a program does as soon as a connection is open.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Program {
    Waits,
    Fails,
    Aborts,
    Closes,
}

/// One way in which the first attempt, or the first connection, ends.
struct Case {
    name: String,
    client: Client,
    program: Program,
    /// What has to live as long.
    _keep: Box<dyn Any>,
}

impl Case {
    fn new(name: impl Into<String>, client: Client, keep: impl Any) -> Case {
        let client = client.config(patient());
        Case { name: name.into(), client, program: Program::Waits, _keep: Box::new(keep) }
    }

    /// A server that does this with one connection.
    fn served(name: impl Into<String>, serve: impl FnOnce(Host) + Send + 'static) -> Case {
        let host = Host::listen();
        let client = Client::new(&host.url()).unwrap();
        Case::new(name, client, host.run(serve))
    }

    /// A server that answers the request with this, and nothing else.
    fn answered(answer: impl Into<String>) -> Case {
        let answer = answer.into();
        Case::served(answer.clone(), move |host| {
            let mut peer = host.accept();
            peer.head();
            peer.bytes(&answer);
            peer.end();
        })
    }

    /// A server that sends this as soon as a connection is open, and reads until the client ends it.
    fn open(name: impl Into<String>, early: Vec<u8>) -> Case {
        Case::served(name, move |host| host.upgrade(&early).end())
    }

    /// A server that closes with this code.
    fn closed(code: u16) -> Case {
        let payload = if code == 1005 { Vec::new() } else { farewell(code, "so") };
        Case::open(format!("close {code}"), frame(CLOSE, false, &payload))
    }

    /// A proxy that answers with this.
    fn by_proxy(scheme: &str, answer: impl Into<Vec<u8>>) -> Case {
        let (host, answer) = (Host::listen(), answer.into());
        let proxy = Proxy::new(&format!("{scheme}://{}", host.addr())).unwrap();
        let name = format!("{scheme}: {}", answer.escape_ascii());
        let client = Client::new("ws://feed.test/").unwrap().proxy(proxy);
        let host = host.run(move |host| {
            let mut peer = host.accept();
            peer.one_read();
            // SOCKS5 has two answers.
            for part in answer.split(|&byte| byte == b'|') {
                peer.try_bytes(part);
            }
            peer.end();
        });
        Case::new(name, client, host)
    }

    /// A server of TLS that answers a hello with these bytes.
    fn of_tls(name: impl Into<String>, answer: Vec<u8>) -> Case {
        let host = Host::listen();
        let client = client_at(host.addr(), ClientTls::new().danger_accept_any_certificate());
        let host = host.run(move |host| {
            let mut peer = host.accept();
            peer.one_read();
            peer.try_bytes(&answer);
            if !answer.is_empty() {
                peer.end();
            }
        });
        Case::new(name, client, host)
    }

    fn alert(number: u8) -> Case {
        Case::of_tls(format!("alert {number}"), vec![0x15, 3, 3, 0, 2, 2, number])
    }

    /// A server with a certificate, and what a client thinks of it.
    fn certified(name: &str, identity: &Identity, trust: ClientTls) -> Case {
        let server = Secure::with(identity.server());
        let client = server.client(trust);
        Case::new(name, client, server)
    }

    fn with(mut self, program: Program) -> Case {
        self.program = program;
        self
    }

    fn change(mut self, change: impl FnOnce(Client) -> Client) -> Case {
        self.client = change(self.client);
        self
    }
}

fn client_at(addr: SocketAddr, tls: ClientTls) -> Client {
    Client::new(&format!("wss://localhost:{}/", addr.port())).unwrap().tls(tls)
}

fn no_content(status: impl std::fmt::Display) -> String {
    format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n")
}

fn html(head: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<p>Log in</p>")
}

fn certificates(change: fn(&mut CertificateParams)) -> Case {
    let authority = Authority::new("authority");
    Case::certified("a date", &authority.sign_with(&["localhost"], change), authority.trusted())
}

/// The ways in which the end of a row may come about.
fn cases(row: &str) -> Vec<Case> {
    match row {
        "the host has no address" => {
            vec![Case::new("a name", Client::new("ws://nowhere.invalid/").unwrap(), ())]
        }
        "nobody listens there, or the network or the host can't be reached" => {
            let (place, addr) = vacant();
            vec![Case::new("a port", Client::new(&format!("ws://{addr}/")).unwrap(), place)]
        }
        "the system does not allow it" => {
            let path = format!("ws+unix:/{}", "x".repeat(200));
            vec![Case::new("a path that is too long", Client::new(&path).unwrap(), ())]
        }
        "a time limit has passed, at whatever step" => {
            let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let client = Client::new(&format!("ws://{}/", silent.local_addr().unwrap())).unwrap();
            let slow = Case::new("no answer", client, silent);
            vec![slow.change(|client| client.config(patient().open_timeout(SOON)))]
        }
        "the server ends the connection before it has answered" => vec![
            Case::served("at once", |host| drop(host.accept())),
            Case::served("in the middle", |host| {
                let mut peer = host.accept();
                peer.head();
                peer.bytes("HTTP/1.1 101 Swi");
            }),
        ],
        "status 408, 418, 425, 429, or 500 to 599" => [408, 418, 425, 429, 500, 502, 503, 511, 599]
            .map(|status| Case::answered(no_content(status)))
            .into(),
        "any other status, with a `Retry-After`" => [301, 400, 403, 404]
            .map(|status| {
                Case::answered(format!("HTTP/1.1 {status} x\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"))
            })
            .into(),
        "what a captive portal answers: status 302, 303 or 307, or 200 with HTML" => vec![
            Case::answered(html("200 OK")),
            Case::answered(html("302 Found")),
            Case::answered(html("302 Found\r\nLocation: http://login.test/"))
                .change(|client| client.redirects(0)),
            Case::answered(no_content(303)),
            Case::served("a redirect to a page, which is followed", |host| {
                let mut peer = host.accept();
                peer.head();
                peer.bytes(html(&format!("302 Found\r\nLocation: http://{}/login", host.addr())));
                peer.end();
                let mut peer = host.accept();
                assert!(peer.head().starts_with("GET /login "));
                peer.bytes(html("200 OK"));
                peer.end();
            }),
            Case::answered(no_content(307)),
        ],
        "any other status, such as 301, 400, 401, 403, 404, 426, or 200 with something else" => {
            let mut cases: Vec<_> = [200, 204, 301, 308, 400, 401, 403, 404, 410, 426]
                .map(|status| Case::answered(no_content(status)))
                .into();
            cases.push(Case::answered(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
            ));
            cases
        }
        "a redirect that must not be followed, or one too many" => vec![
            Case::answered("HTTP/1.1 302 Found\r\nLocation: ftp://feed.test/\r\nContent-Length: 0\r\n\r\n")
                .change(|client| client.redirects(1)),
        ],
        "a 101 that breaks the rules, or something that is not HTTP" => vec![
            Case::answered(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            ),
            Case::answered("SSH-2.0-OpenSSH_9.6\r\n"),
        ],
        "the proxy can't be reached" => {
            let (place, addr) = vacant();
            let client = Client::new("ws://feed.test/").unwrap();
            vec![Case::new("a port", client.proxy(Proxy::new(&format!("http://{addr}")).unwrap()), place)]
        }
        "the proxy answers `CONNECT` with such a status as after which a server is asked again" => {
            let mut cases: Vec<_> = [408, 418, 425, 429, 500, 502, 503, 504, 511]
                .map(|status| Case::by_proxy("http", no_content(status)))
                .into();
            cases.push(Case::by_proxy("http", html("302 Found\r\nLocation: http://login.test/")));
            cases.push(Case::by_proxy("http", html("403 Forbidden\r\nRetry-After: 1")));
            cases
        }
        "the proxy answers `CONNECT` with another status, such as 403 or 407" => {
            [301, 400, 403, 404, 405, 407].map(|status| Case::by_proxy("http", no_content(status))).into()
        }
        "a SOCKS proxy can't reach the server" => vec![
            Case::by_proxy("socks4a", [0, 91, 0, 0, 0, 0, 0, 0]),
            Case::by_proxy("socks5h", [5, 0, b'|', 5, 4, 0, 1, 0, 0, 0, 0, 0, 0]),
        ],
        "a SOCKS proxy does not allow it, or accepts no login" => vec![
            Case::by_proxy("socks4a", [0, 93, 0, 0, 0, 0, 0, 0]),
            Case::by_proxy("socks5h", [5, 0, b'|', 5, 2, 0, 1, 0, 0, 0, 0, 0, 0]),
            Case::by_proxy("socks5h", [5, 255]),
        ],
        "the certificate has expired, or is not valid yet" => {
            vec![certificates(expired), certificates(not_yet_valid)]
        }
        "the certificate is for another name, signed by nobody who is trusted, revoked, or not the one that is pinned" =>
        {
            let (authority, other) = (Authority::new("authority"), Authority::new("another"));
            let ours = authority.sign(&["localhost"]);
            let pinned = authority.trusted().pin(&other.sign(&["localhost"]).pin()).unwrap();
            vec![
                Case::certified("another name", &authority.sign(&["feed.test"]), authority.trusted()),
                Case::certified("another issuer", &ours, other.trusted()),
                Case::certified("self-signed", &self_signed(&["localhost"]), authority.trusted()),
                Case::certified("another key", &ours, pinned),
            ]
        }
        "there is no version or cipher in common: `handshake_failure`, `protocol_version`, `insufficient_security` and others like them" => {
            [40, 60, 70, 71, 86, 109, 110, 120, 121].map(Case::alert).into()
        }
        "the server wants a client certificate, or another one" => {
            let (authority, people) = (Authority::new("authority"), Authority::new("people"));
            let wants = ClientCertificates::Required(people.pem());
            let tls = authority.sign(&["localhost"]).server().client_certificates(wants).unwrap();
            let server = Secure::with(tls);
            let client = server.client(authority.trusted());
            let mut cases: Vec<_> = [41, 42, 43, 44, 45, 46, 48, 49, 116].map(Case::alert).into();
            cases.push(Case::new("none", client, server));
            cases
        }
        "the server has nothing at that name (`unrecognized_name`), or says that this side broke a rule" => {
            [112, 10, 22, 47, 50, 51].map(Case::alert).into()
        }
        "the peer ends the handshake without a word, or with `internal_error` or `user_canceled`" => {
            let mut cases: Vec<_> = [80, 90].map(Case::alert).into();
            cases.push(Case::of_tls("without a word", Vec::new()));
            cases
        }
        "the peer does not speak TLS" => {
            vec![Case::of_tls("HTTP", no_content(400).into_bytes())]
        }
        "the peer closes with 1000, 1001, 1008, 1011 to 1014, a code from 3000 on, or none" => {
            [1000, 1001, 1005, 1008, 1011, 1012, 1013, 1014, 3000, 4004, 4999].map(Case::closed).into()
        }
        "the peer closes with 1002, 1003, 1007, 1009 or 1010: it can't do with what this side is or sends" => {
            [1002, 1003, 1007, 1009, 1010].map(Case::closed).into()
        }
        "the connection is lost without a close frame" => {
            vec![Case::served("TCP ends", |host| drop(host.upgrade(b"")))]
        }
        "the peer is silent, or does not answer pings" => {
            let silent = Case::served("silence", |host| {
                let mut peer = host.upgrade(b"");
                while peer.frame_or_end().is_some() {}
            });
            let keepalive = Keepalive::default().idle_timeout(SOON).reply_timeout(SOON);
            vec![silent.change(|client| client.config(patient().keepalive(keepalive)))]
        }
        "the peer breaks a rule of the protocol, or sends more than is allowed" => {
            let long = Case::open("1009", frame(TEXT, false, &[b'x'; 100]));
            vec![
                Case::open("masked", frame(TEXT, true, b"x")),
                Case::open("a long ping", frame(PING, false, &[b'x'; 126])),
                Case::open("no UTF-8", frame(TEXT, false, &[0xff])),
                long.change(|client| client.config(patient().limits(Limits::default().max_message(10)))),
            ]
        }
        "a callback fails, with an error that is not transient itself" => {
            vec![Case::open("an error", Vec::new()).with(Program::Fails)]
        }
        "this side aborts it" => vec![Case::open("an abort", Vec::new()).with(Program::Aborts)],
        "this side closes it" => {
            let polite = Case::served("a close", |host| {
                let mut peer: Peer = host.upgrade(b"");
                assert_eq!(peer.code(), 1000);
                peer.close(1000, "");
            });
            vec![polite.with(Program::Closes)]
        }
        row => panic!("nobody plays {row:?}"),
    }
}

/// How the first attempt or connection went on, and why.
fn outcome(face: Face, case: &Case) -> (State, Option<Arc<Cause>>) {
    // Nothing is tried a second time.
    let hour = Duration::from_secs(3600);
    outcome_with(face, case, Backoff::default().first(hour).cap(hour))
}

fn outcome_with(face: Face, case: &Case, backoff: Backoff) -> (State, Option<Arc<Cause>>) {
    let has_begun_to_wait = |state: State| matches!(state, State::Waiting { .. }) || state.is_final();
    match face {
        Face::Listener => {
            let handle = case.client.clone().reconnect(backoff).start(Acts(case.program));
            wait_until(None, || has_begun_to_wait(handle.state())).unwrap();
            let end = handle.last_change();
            handle.stop();
            handle.wait_ended().unwrap();
            (end.state, end.cause)
        }
        Face::App => {
            let (client, program) = (case.client.clone(), case.program);
            let (tell, told) = std::sync::mpsc::channel();
            let running = thread::spawn(move || {
                let app = App::new(&client).unwrap().reconnect(backoff).on_open(move |ws| act(program, ws));
                tell.send(app.handle()).unwrap();
                { app }.run_forever()
            });
            let handle = told.recv().unwrap();
            while !running.is_finished() && !handle.state().is_some_and(has_begun_to_wait) {
                thread::yield_now();
            }
            let waiting = handle.state().filter(|state| matches!(state, State::Waiting { .. }));
            let _ = handle.close();
            let end = running.join().unwrap();
            match (waiting, end) {
                (Some(waiting), _) => (waiting, None),
                (None, Ok(_)) if case.program == Program::Closes => (State::Stopped, None),
                (None, _) => (State::GaveUp, None),
            }
        }
        #[cfg(feature = "aio")]
        Face::Aio => crate::common::tasks::single().block_on(async {
            use threadwire::aio::{Update, reconnect};
            let program = case.program;
            let mut feed = reconnect(&case.client, backoff).on_open(move |ws| match program {
                Program::Waits => Ok(()),
                Program::Fails => Err(Error::other("a bug")),
                Program::Aborts => {
                    ws.abort();
                    Ok(())
                }
                Program::Closes => ws.close(),
            });
            let handle = feed.handle();
            while let Ok(Some(update)) = feed.recv_update().await {
                if let Update::Change(change) = update
                    && has_begun_to_wait(change.state)
                {
                    break;
                }
            }
            (handle.state(), handle.last_change().cause)
        }),
        face => panic!("{face:?} does not reconnect"),
    }
}

struct Acts(Program);

impl Listener for Acts {
    fn on_open(&mut self, ws: &Connection) -> Result<(), Error> {
        act(self.0, ws)
    }

    fn on_message(&mut self, _ws: &Connection, _message: Message<'_>) -> Result<(), Error> {
        Ok(())
    }
}

fn act(program: Program, ws: &Connection) -> Result<(), Error> {
    match program {
        Program::Waits => Ok(()),
        Program::Fails => Err(Error::other("a bug")),
        Program::Aborts => {
            ws.abort();
            Ok(())
        }
        Program::Closes => ws.close(),
    }
}

/// The rows of the document: what happened, and what follows.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = lines.filter_map(|line| line.split_once(" | "));
    rows.filter(|(what, then)| *what != "what happened" && *what != "---" && !then.is_empty())
}

#[test]
fn every_row_is_as_the_document_says_on_every_face_that_reconnects() {
    bounded(|| {
        let mut count = 0;
        for (row, then) in rows() {
            for &face in FACES {
                for case in cases(row) {
                    let (state, cause) = outcome(face, &case);
                    let went = match state {
                        State::Waiting { .. } => "again",
                        State::GaveUp => "for good",
                        State::Stopped => "stopped",
                        state => panic!("{face:?}, {row}: {state}"),
                    };
                    assert_eq!(went, then, "{face:?}, {row}, {}: {cause:?}", case.name);
                }
            }
            count += 1;
        }
        assert_eq!(count, 31, "rows of the document");
    });
}

#[test]
fn nobody_is_asked_sooner_than_asked_for() {
    bounded(|| {
        let asks = |status: u16, wish: &str| {
            let answer = format!("HTTP/1.1 {status} x\r\nRetry-After: {wish}\r\nContent-Length: 0\r\n\r\n");
            [Case::answered(answer.clone()), Case::by_proxy("http", answer)]
        };
        let date = "Sun, 06 Nov 1994 08:59:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT";
        for &face in FACES {
            for (status, wish, seconds) in
                [(503, "5", 5), (418, "7200", 7200), (403, date, 600), (429, "999999999", 24 * 3600)]
            {
                for case in asks(status, wish) {
                    let delay = first_wait(face, &case);
                    assert_eq!(delay, Duration::from_secs(seconds), "{face:?}, {}", case.name);
                }
            }
        }
    });
}

#[test]
fn a_certificate_that_was_renewed_is_found_by_the_next_attempt() {
    bounded(|| {
        for &face in FACES {
            let authority = Authority::new("authority");
            let (old, new) = (authority.sign_with(&["localhost"], expired), authority.sign(&["localhost"]));
            let files = Files::empty();
            let (chain, key) = (files.write("a.pem", &old.chain), files.write("a.key", &old.key));
            let server = Secure::with(ServerTls::new(Pem::file(&chain), Pem::file(&key)).unwrap());
            let (client, tls) = (server.client(authority.trusted()), server.tls.clone());
            let renew = move |attempt: &mut Attempt| {
                if attempt.cause().is_some() {
                    files.write("a.pem", &new.chain);
                    files.write("a.key", &new.key);
                    tls.reload()?;
                }
                Ok::<(), Error>(())
            };
            let backoff = Backoff::default().first(Duration::from_millis(1));
            let connections = match face {
                Face::Listener => {
                    let handle = client.reconnect(backoff).before(renew).start(Acts(Program::Closes));
                    handle.wait_ended().unwrap().connections
                }
                Face::App => {
                    let app = App::new(&client).unwrap().reconnect(backoff).before(renew);
                    app.on_open(|ws| ws.close()).run_forever().unwrap().connections
                }
                #[cfg(feature = "aio")]
                Face::Aio => crate::common::tasks::single().block_on(async {
                    let feed = threadwire::aio::reconnect(&client, backoff).before(renew);
                    let mut feed = feed.on_open(|ws| ws.close());
                    assert!(feed.recv().await.unwrap().is_none());
                    feed.handle().connections()
                }),
                face => panic!("{face:?} does not reconnect"),
            };
            assert_eq!(connections, 1, "{face:?}");
        }
    });
}

/// How long is waited after the first failure where the backoff by itself would be quick.
fn first_wait(face: Face, case: &Case) -> Duration {
    let quick = Backoff::default().first(Duration::from_millis(1)).cap(Duration::from_millis(1));
    match outcome_with(face, case, quick) {
        (State::Waiting { delay, .. }, _) => delay,
        (state, cause) => panic!("{face:?}, {}: {state}, {cause:?}", case.name),
    }
}
